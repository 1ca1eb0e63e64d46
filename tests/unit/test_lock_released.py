"""An apply with only retries left blocks no other process: it releases the lock while it waits.

Several processes share one state, one exchange and one virtual time, which passes when all of them wait.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from reconciler.controller.account_preflight import identify
from reconciler.controller.loop import Loop
from reconciler.controller.pass_values import (
    InMemoryState,
    Interrupted,
    PassOptions,
    PassResult,
    Review,
    TimedOut,
)
from reconciler.controller.reconcile import LOCK_TRY_S, reconcile
from reconciler.core.apply_result import Outcome
from reconciler.core.events import Event, RequestSettled, StateLockTimedOut
from reconciler.core.model import Desired, Environment, ExchangeKind, Family, LiveRow, Setting
from reconciler.core.plan import Action, HoldReason
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.errors import StateLocked
from reconciler.ports import Connection
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from tests.support.memory_state import MemoryDisk
from tests.unit.builders import desired
from tests.unit.test_loop import A, B, C, Clock, Exchange, Wire

HOST = "openapi.okx.com"
FAILING, OTHER, THIRD = Family("AAA-USD"), Family("BBB-USD"), Family("CCC-USD")
BUSY = Reply(ReplyClass.BUSY, "50013", "system busy")


class Time(Clock):
    """One virtual time for several tasks: it passes when all of them wait."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    async def wait(self, until: float, woken: asyncio.Event) -> None:
        self._count += 1
        heapq.heappush(self._waiters, (until, self._count, woken))
        await woken.wait()

    async def drive(self, main: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(main)
        while not task.done():
            for _ in range(50):
                await asyncio.sleep(0)
            script = min((at for at, _ in self.script), default=float("inf"))
            if self._waiters and self._waiters[0][0] <= script:
                until, _, woken = heapq.heappop(self._waiters)
                self.time = max(self.time, until)
                woken.set()
            elif self.script:
                self.time = max(self.time, script)
                self._happen()
        await task


@dataclass
class ProcessClock:
    """The clock of one process: its pauses end early when this process is nudged."""

    time: Time
    wakers: list[asyncio.Event] = field(default_factory=list)

    def now(self) -> float:
        return self.time.now()

    def wall(self) -> datetime:
        return self.time.wall()

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        await asyncio.sleep(0)
        if until > self.now():
            woken = asyncio.Event()
            self.wakers = [*(one for one in self.wakers if not one.is_set()), woken]
            await self.time.wait(until, woken)

    def wake(self) -> None:
        for woken in self.wakers:
            woken.set()


class SharedExchange(Exchange):
    """An exchange that is always busy for the families in ``busy``."""

    busy: frozenset[Family] = frozenset()

    async def open(self) -> Connection | Reply:
        self._ask("connect")
        return SharedWire(self, self.busy)


@dataclass
class SharedWire(Wire):
    """A connection on which some families are always busy."""

    busy: frozenset[Family] = frozenset()

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        if request.family not in self.busy:
            return await super().send(request, deadline=deadline)
        self.exchange.sent.append((self.exchange.clock.now(), request.family, request.setting))
        self.exchange.clock.pass_by(self.exchange.latency_s)
        return BUSY


class Process:
    """One process on the shared state: a file, a store, a clock, and what it was told."""

    def __init__(self, here: Here, families: Mapping[Family, Setting], sha256: str) -> None:
        self.here = here
        self.clock = ProcessClock(here.time)
        self.desired: Desired = replace(desired(families), sha256=sha256)
        self.store: SqlAccountStore = here.disk.open(
            StateOptions(self.clock, "boot-1", lock_timeout_s=5.0)
        ).account("main", Environment.LIVE, ExchangeKind.OKX)
        self.events: list[tuple[float, Event]] = []
        self.stopped = False
        self.memory = InMemoryState()

    def want(self, families: Mapping[Family, Setting], sha256: str) -> None:
        self.desired = replace(desired(families), sha256=sha256)
        self.clock.wake()

    def stop(self) -> None:
        self.stopped = True
        self.clock.wake()

    def observe(self, event: Event) -> None:
        self.events.append((self.clock.now(), event))

    def sent(self, family: Family) -> list[float]:
        return [
            at for at, event in self.events if isinstance(event, RequestSettled) and event.family == family
        ]

    async def identified(self) -> None:
        await identify(
            self.desired, store=self.store, exchange=self.here.exchange, host=HOST, observe=self.observe
        )

    async def apply(
        self, *, timeout_s: float = 300.0, review: Review | None = None, options: PassOptions | None = None
    ) -> PassResult:
        await self.identified()
        return await reconcile(
            lambda: self.desired,
            store=self.store,
            exchange=self.here.exchange,
            clock=self.clock,
            observe=self.observe,
            options=options or PassOptions(assume_idle=True, timeout_s=timeout_s),
            memory=self.memory,
            review=review,
            stopping=lambda: self.stopped,
        )

    async def run(self) -> None:
        await Loop(
            desired=lambda: self.desired,
            store=self.store,
            exchange=self.here.exchange,
            clock=self.clock,
            observe=self.observe,
            host=HOST,
            options=PassOptions(purpose="run", assume_idle=True, controller=True, heal_breaker=True),
            stopping=lambda: self.stopped,
        ).run()


class Here:
    """The world of these tests."""

    def __init__(self, live: Mapping[Family, Setting]) -> None:
        self.time = Time()
        self.disk = MemoryDisk()
        self.exchange = SharedExchange(self.time, {family: LiveRow(one) for family, one in live.items()})
        self.begun_at = self.time.now()

    def process(self, families: Mapping[Family, Setting], sha256: str = "first") -> Process:
        return Process(self, families, sha256)

    def at(self, seconds: float, happens: Callable[[], object]) -> None:
        self.time.at(self.begun_at + seconds, happens)

    async def until(self, seconds: float) -> None:
        await ProcessClock(self.time).sleep_until(self.begun_at + seconds)

    def play(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run(self.time.drive(scenario()))

    def sent(self, family: Family) -> list[tuple[float, Setting]]:
        return [(at - self.begun_at, one) for at, name, one in self.exchange.sent if name == family]


ALL = {FAILING: A, OTHER: A, THIRD: A}
MANAGED_BY_RUN = {OTHER: A, THIRD: A}
EMERGENCY = {OTHER: A, THIRD: C}


def failing(here: Here) -> None:
    here.exchange.busy = frozenset({FAILING})


def test_run_sends_an_emergency_tightening_beside_an_apply_whose_request_fails_for_ever() -> None:
    here = Here(ALL)
    failing(here)
    run, apply = here.process(MANAGED_BY_RUN), here.process({**ALL, FAILING: B}, "second")
    ends: list[PassResult] = []

    async def scenario() -> None:
        loop = asyncio.ensure_future(run.run())
        await here.until(3.0)
        applying = asyncio.ensure_future(apply.apply())
        here.at(7.0, lambda: run.want(EMERGENCY, "third"))
        ends.append(await applying)
        run.stop()
        await loop

    here.play(scenario)
    [(sent_at, value)] = here.sent(THIRD)
    assert value == C
    assert 7.0 < sent_at < 7.0 + 11.0
    assert isinstance(ends[0].end, TimedOut)
    assert here.exchange.live[THIRD].setting == C


def test_a_newer_file_of_run_is_not_loosened_again_by_the_apply_that_still_waits() -> None:
    here = Here(ALL)
    failing(here)
    run, apply = here.process(MANAGED_BY_RUN), here.process({FAILING: B, OTHER: A, THIRD: A}, "second")
    ends: list[PassResult] = []

    async def scenario() -> None:
        loop = asyncio.ensure_future(run.run())
        await here.until(3.0)
        here.at(12.0, lambda: run.want(EMERGENCY, "third"))
        ends.append(await apply.apply(timeout_s=200.0))
        run.stop()
        await loop

    here.play(scenario)
    assert [value for _, value in here.sent(THIRD)] == [C]
    assert ends[0].plan is not None
    [left] = [change for change in ends[0].plan.changes if change.family == THIRD]
    assert (left.action, left.because, left.other_file) == (Action.HOLD, HoldReason.DRIFT_POLICY, True)


def test_a_family_that_was_applied_and_then_written_by_run_is_left_to_run() -> None:
    here = Here(ALL)
    failing(here)
    run, apply = here.process(MANAGED_BY_RUN), here.process({FAILING: B, OTHER: B, THIRD: A}, "second")

    async def scenario() -> None:
        loop = asyncio.ensure_future(run.run())
        await here.until(3.0)
        await apply.apply(timeout_s=200.0)
        run.stop()
        await loop

    here.play(scenario)
    assert [value for _, value in here.sent(OTHER)] == [B, A]
    assert apply.memory.done[OTHER] is Outcome.APPLIED


def test_an_apply_keeps_the_lock_while_it_has_something_to_send_for_the_first_time() -> None:
    here = Here(ALL)
    apply, other = here.process({OTHER: B, THIRD: B, FAILING: B}), here.process(ALL)
    refused: list[StateLocked] = []

    async def scenario() -> None:
        applying = asyncio.ensure_future(apply.apply())
        await here.until(4.0)
        with pytest.raises(StateLocked) as late:
            async with other.store.locked("import", timeout_s=0.5):
                raise AssertionError("both got in")
        refused.append(late.value)
        await applying

    here.play(scenario)
    assert "apply" in refused[0].message
    assert {family: here.exchange.live[family].setting for family in (OTHER, THIRD, FAILING)} == {
        OTHER: B,
        THIRD: B,
        FAILING: B,
    }


def test_an_apply_waits_for_the_lock_until_its_deadline_and_reports_what_it_did() -> None:
    here = Here(ALL)
    failing(here)
    apply, other = here.process({FAILING: B, OTHER: B}), here.process(ALL)
    ends: list[PassResult] = []

    async def scenario() -> None:
        applying = asyncio.ensure_future(apply.apply(timeout_s=60.0))
        await here.until(4.0)
        async with other.store.locked("import"):
            ends.append(await applying)

    here.play(scenario)
    assert isinstance(ends[0].end, TimedOut)
    assert apply.memory.done == {OTHER: Outcome.APPLIED}
    assert apply.clock.now() - here.begun_at == pytest.approx(60.0, abs=0.2)
    text = [event.message for _, event in apply.events if isinstance(event, StateLockTimedOut)]
    assert len(text) == 1
    assert "import" in text[0]


def test_a_stop_is_noticed_while_the_lock_is_waited_for() -> None:
    here = Here(ALL)
    failing(here)
    apply, other = here.process({FAILING: B, OTHER: A, THIRD: A}), here.process(ALL)
    ends: list[PassResult] = []
    ended_at: list[float] = []

    async def scenario() -> None:
        applying = asyncio.ensure_future(apply.apply())
        here.at(40.0, apply.stop)
        await here.until(4.0)
        async with other.store.locked("import"):
            ends.append(await applying)
        ended_at.append(apply.clock.now() - here.begun_at)

    here.play(scenario)
    assert isinstance(ends[0].end, Interrupted)
    assert 40.0 <= ended_at[0] < 40.0 + LOCK_TRY_S + 0.1


def test_a_lock_that_is_not_had_at_the_beginning_is_an_error_as_before() -> None:
    here = Here(ALL)
    apply, other = here.process(ALL), here.process(ALL)

    async def scenario() -> None:
        async with other.store.locked("import"):
            with pytest.raises(StateLocked):
                await apply.apply()

    here.play(scenario)
