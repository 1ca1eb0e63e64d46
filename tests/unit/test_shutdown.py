"""What is in flight, as a stop counts it: a request until its verdict, or until its pass ended without."""

from __future__ import annotations

import pytest

from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.events import (
    Event,
    LoopFailed,
    LoopIdle,
    PassEnded,
    RequestReserved,
    RequestSettled,
    StateFailed,
)
from reconciler.core.plan import Reason
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from tests.unit.builders import BTC, NOW, setting

A = setting("5000/2000/100")
ACCEPTED = Reply(ReplyClass.ACCEPTED, "0")


def settled(attempt: int) -> RequestSettled:
    return RequestSettled(attempt, BTC, A, AttemptStatus.APPLIED, ACCEPTED, 0.1, Reason.CHANGED)


@pytest.mark.parametrize(
    ("event", "in_flight"),
    [
        (settled(1), False),
        (settled(2), True),
        (StateFailed("state-unavailable", "away", NOW), False),
        (LoopFailed("state-damaged", "damaged", "", NOW), False),
        (LoopIdle(NOW), False),
        (PassEnded(0.1, finished=False), True),
    ],
)
def test_a_request_is_in_flight_until_its_pass_is_done_with_it(event: Event, in_flight: bool) -> None:
    stop = GracefulShutdown()
    for whose in ("main/live", "main/demo"):
        stop.track(whose, RequestReserved(1, BTC, A, NOW))
    stop.track("main/live", event)
    assert (stop.in_flight("main/live"), stop.in_flight("main/demo")) == (in_flight, True)
