"""An exchange that goes away, then refuses for its rate, then is back: what is shown meanwhile holds.

For 60 s the exchange is down, for 30 s it answers 50011, then it is up. Time is virtual; loop, store,
runtime, probes and the status document are the real ones. Twice a second they are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import product
from typing import Any

import pytest

from reconciler.core.events import Event
from reconciler.core.model import Family, LiveRow
from reconciler.core.monitoring.account_runtime import apply_event, initial
from reconciler.core.pacing import WINDOW_S
from reconciler.core.reply import Reply, ReplyClass
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.probes import live_checks, probe_response, ready_checks
from reconciler.web.status_api import status_response
from tests.unit.builders import desired
from tests.unit.test_loop import DOWN, LATENCY_S, A, B, World

pytestmark = pytest.mark.unmeasured

SIX = tuple(Family(f"F{number}-USD") for number in range(6))
DOWN_AT, LIMITED_AT, UP_AT = 1030.0, 1090.0, 1120.0
ENOUGH_S = 120.0
LOOK_EVERY_S = 0.5
LATER_S = 15.0
"""How much later than it showed everything may be in sync."""

REFUSED = Reply(ReplyClass.NOT_SENT, "connect", "connection refused")
LIMITED = Reply(ReplyClass.RATE_LIMITED, "50011", "Rate limit reached.")
PATIENCE_S = 10.0
"""How long a question waits for its answer where the exchange is silent."""


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody saw at one moment: the probes, and in how many seconds all is said to be right."""

    at: float
    livez: int
    readyz: int
    in_sync: bool = True
    due_in_s: float = 0.0


@dataclass
class Observer:
    """Whoever looks at a world twice a second, as over HTTP."""

    here: World
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = self.here.clock
        self._latest = LatestState("test", clock.wall())
        self._runtime = initial(
            self.here.desired, host="openapi.okx.com", simulator=False, live=True, now=clock.now()
        )
        self.here.listeners.append(self._on_event)
        for number in range(round((UP_AT + ENOUGH_S - clock.now()) / LOOK_EVERY_S)):
            clock.at(clock.now() + number * LOOK_EVERY_S, self._look)

    def _on_event(self, event: Event) -> None:
        clock = self.here.clock
        self._runtime = apply_event(self._runtime, event, now=clock.now(), wall=clock.wall())
        self._latest.put("main/live", AccountSnapshot(self._runtime, self.here.interval_s))

    def _look(self) -> None:
        now, wall = self.here.clock.now(), self.here.clock.wall()
        if not self._latest.accounts():
            return  # it has not begun yet
        probes = (live_checks, ready_checks)
        checks = (probe(self._latest, answers=True, now=now) for probe in probes)
        livez, readyz = (probe_response(found, verbose=False).status for found in checks)
        look = Look(now, livez, readyz)
        if now >= UP_AT:
            document = json.loads(status_response(self._latest, now=now, wall=wall).body)
            settled = all(family["pending"] is None for family in document["families"])
            look = replace(look, in_sync=settled, due_in_s=_due_in_s(document, wall))
        self.looks.append(look)


def _due_in_s(document: dict[str, Any], wall: datetime) -> float:
    """Return in how long all is right by the document: the next try, if there is one, and the ETA then."""
    outage = document["watch"]["outage"]
    if outage is None or outage["retry_at"] is None:
        return float(document["eta_seconds"])
    wait_s = (datetime.fromisoformat(outage["retry_at"]) - wall).total_seconds()
    return max(0.0, wait_s) + float(document["eta_seconds"])


def goes_down(here: World, *, silent: bool) -> None:
    """Have the exchange refuse connections, or (``silent``) take every question and answer none."""
    exchange = here.exchange
    exchange.identity = exchange.reading = exchange.writing = DOWN
    exchange.opening = None if silent else REFUSED
    exchange.latency_s = PATIENCE_S if silent else LATENCY_S


def limits(here: World, *, reads_too: bool) -> None:
    """Have the exchange answer 50011 to every write, and to reads as well or not."""
    exchange = here.exchange
    exchange.latency_s, exchange.opening, exchange.writing = LATENCY_S, None, LIMITED
    exchange.reading = LIMITED if reads_too else None


def comes_up(here: World) -> None:
    here.exchange.reading = here.exchange.writing = None


def drifts(here: World) -> None:
    here.exchange.live |= dict.fromkeys(SIX[:3], LiveRow(B))


MEANWHILE = {
    "nothing": lambda here: None,
    "the file changes": lambda here: here.want(dict.fromkeys(SIX, B)),
    "drift": drifts,
}
WHEN = {"just before": DOWN_AT - 0.12, "while down": DOWN_AT + 20.0, "while limited": LIMITED_AT + 12.0}


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(("silent", "reads_too"), list(product((False, True), repeat=2)))
def test_an_exchange_down_then_limiting_then_up_is_outlived_and_caught_up_with_in_the_time_shown(
    what: str, when: str, silent: bool, reads_too: bool
) -> None:
    here = World(desired(dict.fromkeys(SIX, A)))
    here.exchange.live = dict.fromkeys(SIX, LiveRow(A))
    clock, observer = here.clock, Observer(here)
    clock.at(DOWN_AT, lambda: goes_down(here, silent=silent))
    clock.at(LIMITED_AT, lambda: limits(here, reads_too=reads_too))
    clock.at(UP_AT, lambda: comes_up(here))
    clock.at(WHEN[when], lambda: MEANWHILE[what](here))
    here.run(UP_AT + ENOUGH_S - clock.now())

    assert {(look.livez, look.readyz) for look in observer.looks} == {(200, 200)}
    assert observer.looks[-1].at > UP_AT + ENOUGH_S - 1.0, "it stayed to the end"
    sent = [at for at, _, _ in here.exchange.sent]
    assert all(later - early > WINDOW_S for early, later in zip(sent, sent[2:], strict=False))
    wanted = B if what == "the file changes" else A
    assert here.exchange.live == dict.fromkeys(SIX, LiveRow(wanted))
    waiting = [look for look in observer.looks if not look.in_sync]
    assert bool(waiting) == (what != "nothing")
    in_sync_at = waiting[-1].at + LOOK_EVERY_S if waiting else UP_AT
    assert [look for look in waiting if in_sync_at > look.at + look.due_in_s + LATER_S] == []
