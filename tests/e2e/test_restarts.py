"""A sidecar killed repeatedly while its file keeps changing: nothing is lost, the rate is respected."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from reconciler.clock import SystemClock, boot_identity
from reconciler.core.model import Environment, ExchangeKind, Family
from reconciler.core.monitoring.state_timeline import Segment
from reconciler.store.sqlite.state import open_existing
from tests.e2e.processes import Desk, Exchange, configured, eventually, gaps, simulator
from tests.e2e.web_client import Sidecar, ends_well, started
from tests.support.webhook import Webhook, webhook

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = 6
STREAM_S = 30.0
FEWEST_STARTS = 6
"""The stream lasts longer where a slow machine had fewer starts by then."""
EVERY_S = 0.7
KILLS_BETWEEN_S = (1.0, 6.0)
SETTLED_WITHIN_S = 60.0
"""A kill between a write and its reply takes a slot for 45 s, certainty for 40 s; two kills take both."""

BTC = Family("BTC-USD")


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange with BTC-USD configured and long latency, so that kills can meet requests in flight."""
    with simulator(families=configured("BTC-USD"), latency="150ms") as running:
        yield running


class Life:
    """One sidecar after another on the same state, and every value its file ever had."""

    def __init__(self, desk: Desk, hook: Webhook) -> None:
        self.desk = desk
        self.values = [100]
        self.starts = 0
        self._hook = hook
        self.sidecar = self._start()

    def change(self) -> None:
        """Put the next value into the file: one more than the last."""
        self.values.append(self.values[-1] + 1)
        self.desk.wants({BTC: f"5s/2s/{self.values[-1]}"})

    def kill_and_start_again(self) -> None:
        """Send SIGKILL wherever it is, and start the next one at once."""
        self.sidecar.process.kill()
        self.sidecar = self._start()

    def _start(self) -> Sidecar:
        self.starts += 1
        self.desk.environment["MMP_NOTIFY"] = self._hook.url()
        return started(self.desk, "--interval", "1s")


def stream(life: Life) -> None:
    """Change the file all the while, and kill at random moments, at least FEWEST_STARTS - 1 times."""
    chance = random.Random(SEED)
    over_at = time.monotonic() + STREAM_S
    kill_at = time.monotonic() + chance.uniform(*KILLS_BETWEEN_S)
    while time.monotonic() < over_at or life.starts < FEWEST_STARTS:
        life.change()
        pause_s = EVERY_S * chance.uniform(0.5, 1.5)
        if time.monotonic() + pause_s >= kill_at:
            time.sleep(max(0.0, kill_at - time.monotonic()))
            life.kill_and_start_again()
            kill_at = time.monotonic() + chance.uniform(*KILLS_BETWEEN_S)
        else:
            time.sleep(pause_s)
    life.change()


def timeline(desk: Desk) -> tuple[Segment, ...]:
    """Return the recorded timeline of BTC-USD of the last hour; empty before the first look."""
    clock = SystemClock()
    state = open_existing(str(desk.state), clock=clock, boot=boot_identity())
    assert state is not None
    store = state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR)
    try:
        return asyncio.run(store.read_timeline(clock.wall() - timedelta(hours=1)))().spans.get(BTC, ())
    finally:
        state.close_now()


def test_killed_under_a_stream_of_changes_it_loses_nothing_and_keeps_its_pace(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({BTC: "5s/2s/100"})
    with webhook() as hook:
        life = Life(desk, hook)
        life.sidecar.wait_for("/startupz", 15.0)
        began = eventually(lambda: timeline(desk), 15.0, "the first look to be on record")[1]
        stream(life)
        last = f"5000/2000/{life.values[-1]}"
        eventually(lambda: exchange.live()[BTC] == last, SETTLED_WITHIN_S, f"{last} to be in force")
        eventually(lambda: life.sidecar.status()["in_sync"], SETTLED_WITHIN_S, "it to be known")
        eventually(lambda: timeline(desk)[-2].state == "in-sync", 15.0, "it to be on record")
        ends_well(life.sidecar)
    assert life.starts >= FEWEST_STARTS
    sent = [int(one["setting"]["qtyLimit"]) for one in exchange.arrivals()]
    assert set(sent) <= set(life.values)
    assert sent == sorted(sent), "never an older value after a newer one"
    assert all(gap > 10.0 for gap in gaps(exchange.arrivals()))
    message = Counter((one["kind"], one["status"]) for one in hook.documents())
    assert max(message.values()) <= life.starts, "each start may send again what it cannot know was sent"
    assert ("protected", "firing") in message
    check_consistent(timeline(desk), began, life.starts)


def check_consistent(spans: tuple[Segment, ...], began: Segment, starts: int) -> None:
    """The timeline shows what was observed from the first look on, and short gaps between runs."""
    before, *between, after = [span for span in spans if span.state is None]
    assert before == spans[0], "before the first start"
    assert spans[1].since == began.since
    assert after == spans[-1], "since the last one ended"
    assert spans[-2].state == "in-sync"
    assert 0 < len(between) < starts, "one between a process and the next that had a look"
    assert all(span.until - span.since < timedelta(seconds=20) for span in between)
