"""A minute without the exchange, half a minute of 50011, then recovery: in real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.processes import FAMILIES, Desk, Exchange, configured, eventually, gaps, simulator
from tests.e2e.web_client import Sidecar, ends_well, started

pytestmark = [pytest.mark.e2e, pytest.mark.proof]

DOWN_S, LIMITED_S = 60.0, 30.0
LOOK_EVERY_S = 0.5
LATER_S = 15.0
"""How much later than predicted everything may be in sync."""


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where all six families are configured."""
    with simulator(families=configured(*FAMILIES)) as running:
        yield running


@contextmanager
def probed(sidecar: Sidecar) -> Iterator[list[int]]:
    """Ask for /livez twice a second meanwhile; gives the answers."""
    answers: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(LOOK_EVERY_S):
            answers.append(sidecar.ask("/livez")[0])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def due_in_s(document: dict[str, Any]) -> float:
    """Return when all is in sync by the document: the next try, if one is waited for, and the ETA then."""
    outage = document["watch"]["outage"]
    wait_s = 0.0
    if outage is not None and outage["retry_at"] is not None:
        asked_at = datetime.fromisoformat(document["asked_at"])
        wait_s = (datetime.fromisoformat(outage["retry_at"]) - asked_at).total_seconds()
    return max(0.0, wait_s) + float(document["eta_seconds"])


def is_right(sidecar: Sidecar, exchange: Exchange, wanted: str) -> bool:
    return set(exchange.live().values()) == {wanted} and bool(sidecar.status()["in_sync"])


@pytest.mark.parametrize("kind", ["outage", "unplug"])
def test_down_for_a_minute_then_refused_for_its_rate_then_right_within_the_time_shown(
    kind: str, desk: Desk, exchange: Exchange
) -> None:
    desk.wants(dict.fromkeys(FAMILIES, "5s/2s/100"))
    sidecar = started(desk, "--interval", "5s")
    sidecar.wait_for("/startupz", 15.0)
    with probed(sidecar) as answers:
        exchange.control(kind, seconds=DOWN_S)
        down_at = time.monotonic()
        time.sleep(10.0)
        desk.wants(dict.fromkeys(FAMILIES, "5s/2s/90"))
        time.sleep(max(0.0, down_at + DOWN_S - 0.2 - time.monotonic()))
        exchange.control("fault", fault="set/50011:1000")
        time.sleep(max(0.0, down_at + DOWN_S + LIMITED_S - time.monotonic()))
        exchange.control("fault", clear=True)
        within_s = due_in_s(sidecar.status()) + LATER_S
        eventually(lambda: is_right(sidecar, exchange, "5000/2000/90"), within_s, "all to be right")
        time.sleep(1.0)
    assert set(answers) == {200}
    assert len(answers) > (DOWN_S + LIMITED_S) / LOOK_EVERY_S * 0.8
    assert {one["verdict"] for one in exchange.arrivals()} >= {"50011", "0"}
    assert all(gap > 10.0 for gap in gaps(exchange.arrivals()))
    ends_well(sidecar)
