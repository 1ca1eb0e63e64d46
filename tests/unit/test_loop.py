"""The loop: what it does when things change, fail, are refused or locked, and that it never spins.

Time is virtual: a pause moves it, and a test's script runs when its moment has come. The store is the
real one in memory; the exchange is a small one that behaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from reconciler.controller.loop import (
    BURST_PASSES,
    BURST_S,
    KEY_RETRY_S,
    LOCKED_RETRY_S,
    OWNED_RETRY_S,
    STOPPED_RETRY_S,
    ClaimFamilies,
    Loop,
    nothing_to_prepare,
)
from reconciler.controller.pass_values import InMemoryState, PassOptions, PassResult, Review
from reconciler.controller.reconcile import reconcile
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import (
    Compared,
    Event,
    ExchangeFailed,
    Identified,
    KeyReplaced,
    LiveReadDone,
    RequestSettled,
    StateFailed,
    StateLockTimedOut,
)
from reconciler.core.model import (
    AccountInfo,
    Desired,
    Environment,
    ExchangeKind,
    Family,
    LiveRead,
    LiveRow,
    RateBudget,
    Setting,
)
from reconciler.core.pacing import earliest_slot
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.core.retry import MAX_BACK_OFF_S
from reconciler.errors import AccountProblem, StateUnavailable, StateUnusable
from reconciler.ports import Connection
from reconciler.store.account_session import AccountSession
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from tests.support.memory_state import MemoryDisk
from tests.unit.builders import BTC, ETH, desired, setting

A, B, C = setting("5000/2000/100"), setting("5000/2000/400"), setting("5000/2000/7")
INFO = AccountInfo("446556540", "446556540", "4", frozenset({"read_only", "trade"}))
DOWN = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
BAD_KEY = Reply(ReplyClass.ACCOUNT, "50119", "API key doesn't exist")
WRONG_WORLD = Reply(ReplyClass.ENVIRONMENT, "50101", "APIKey does not match current environment.")
AS_APPLY = PassOptions(assume_idle=True)
LATENCY_S = 0.05
MOST_STEPS_A_SECOND = 5.0
"""More than this many questions and pauses per second, over a minute, would be spinning."""


@dataclass
class Clock:
    """Virtual time; ``script`` are things that happen at their moment, while somebody waits."""

    time: float = 1000.0
    pauses: list[tuple[float, float]] = field(default_factory=list)
    script: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    woken: bool = False

    def now(self) -> float:
        return self.time

    def wall(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.time)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        await asyncio.sleep(0)
        begun_at = self.time
        self.woken = False
        while self.time < until and not self.woken:
            due = min([until, *(at for at, _ in self.script)])
            self.time = max(self.time, due)
            self._happen()
            await asyncio.sleep(0)  # lets a task that was just begun take its first step
        self.pauses.append((begun_at, self.time))

    def pass_by(self, seconds: float) -> None:
        end = self.time + seconds
        for at in sorted(at for at, _ in self.script if at < end):
            self.time = max(self.time, at)
            self._happen()
        self.time = end
        self._happen()

    def at(self, time: float, happens: Callable[[], object]) -> None:
        self.script.append((time, happens))

    def wake(self) -> None:
        self.woken = True

    def _happen(self) -> None:
        due = [one for one in self.script if one[0] <= self.time]
        self.script = [one for one in self.script if one[0] > self.time]
        for _, happens in sorted(due, key=lambda one: one[0]):
            happens()


@dataclass
class Exchange:
    """A well-behaved exchange. ``asked`` and ``sent`` are what reached it, with the time.

    ``kept`` is the key as it is kept, None: it cannot be read; ``key`` the one in use. Whose another
    key is say the ``owners``. ``signed`` are the keys that requests were signed with.
    """

    clock: Clock
    live: dict[Family, LiveRow] = field(default_factory=dict)
    identity: AccountInfo | Reply = INFO
    reading: Reply | None = None
    writing: Reply | None = None
    asked: list[tuple[float, str]] = field(default_factory=list)
    sent: list[tuple[float, Family, Setting]] = field(default_factory=list)
    key: str = "first"
    kept: str | None = "first"
    owners: dict[str, AccountInfo | Reply] = field(default_factory=dict)
    signed: list[str] = field(default_factory=list)
    latency_s: float = LATENCY_S
    opening: Reply | None = None

    async def account(self) -> AccountInfo | Reply:
        if self.kept is None:
            raise AccountProblem("credentials-file", "the key cannot be read", "put it back")
        self.key = self.kept
        self._ask("account")
        return self.owners.get(self.key, self.identity)

    async def read_live(self) -> LiveRead | Reply:
        begun_at = self.clock.now()
        self._ask("live")
        return self.reading or LiveRead(begun_at, dict(self.live), took_s=self.clock.now() - begun_at)

    async def read_family(self, family: Family) -> LiveRead | Reply:
        begun_at = self.clock.now()
        self._ask("family")
        rows = {family: self.live[family]} if family in self.live else {}
        return self.reading or LiveRead(begun_at, rows, took_s=self.clock.now() - begun_at, asked=family)

    async def sync_clock(self) -> Reply | None:
        self._ask("time")
        return None

    async def open(self) -> Connection | Reply:
        self._ask("connect")
        return self.opening or Wire(self)

    def key_changed(self) -> bool:
        return self.kept != self.key

    def sign(self, family: Family, wanted: Setting) -> SignedRequest:
        self.signed.append(self.key)
        return SignedRequest(family, wanted, "2026-03-01T03:00:00.000Z", b"{}", {})

    def moments(self, what: str) -> list[float]:
        return [time for time, asked in self.asked if asked == what]

    def _ask(self, what: str) -> None:
        self.asked.append((self.clock.now(), what))
        self.clock.pass_by(self.latency_s)


@dataclass
class Wire:
    """One connection to the exchange."""

    exchange: Exchange

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        exchange = self.exchange
        assert exchange.clock.now() <= deadline
        exchange.sent.append((exchange.clock.now(), request.family, request.setting))
        exchange.clock.pass_by(exchange.latency_s)
        if exchange.writing is not None:
            return exchange.writing
        exchange.live[request.family] = LiveRow(request.setting)
        return Reply(ReplyClass.ACCEPTED, "0", "", ((request.family, request.setting),))

    async def close(self) -> None:
        pass


@dataclass
class World:
    """One loop and everything around it; ``run`` lets virtual time pass."""

    desired: Desired
    clock: Clock = field(default_factory=Clock)
    options: PassOptions = field(default_factory=lambda: PassOptions(purpose="run", assume_idle=True))
    interval_s: float = 30.0
    events: list[tuple[float, Event]] = field(default_factory=list)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    stopped: bool = False
    claim: ClaimFamilies = lambda _: None
    owned: Callable[[], bool] = lambda: True
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    prepare: Callable[[bool], Awaitable[None]] = nothing_to_prepare
    lock_timeout_s: float = 0.2

    def __post_init__(self) -> None:
        self.exchange = Exchange(self.clock)
        self.disk = MemoryDisk()
        self.store = self.process()

    def process(self, account: str = "main") -> SqlAccountStore:
        """Return the store as one more process on the same state sees it."""
        state = self.disk.open(StateOptions(self.clock, "boot-1", lock_timeout_s=self.lock_timeout_s))
        return state.account(account, Environment.LIVE, ExchangeKind.OKX)

    def want(self, families: Mapping[Family, Setting], expected_uid: str | None = None) -> None:
        """Replace the file's content, as the watcher does."""
        self.desired = desired(families, expected_uid=expected_uid)
        self.clock.wake()

    def address_recovers(self) -> None:
        """Notify the loop that the exchange's address works again."""
        if self.loop.address_recovered():
            self.clock.wake()

    def stop(self) -> None:
        self.stopped = True
        self.clock.wake()

    def run(self, seconds: float) -> None:
        """Run the loop until ``seconds`` from now, when it is asked to stop."""
        begun_at = self.clock.now()
        self.clock.at(begun_at + seconds, self.stop)
        self.loop = loop = Loop(
            desired=lambda: self.desired,
            store=self.store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            host="openapi.okx.com",
            options=self.options,
            interval_s=self.interval_s,
            stopping=lambda: self.stopped,
            claim_families=self.claim,
            may_start=self.owned,
            pass_permit=self.turn,
            prepare=self.prepare,
            max_start_delay_s=self.lock_timeout_s,
        )
        asyncio.run(loop.run())
        steps = len(self.exchange.asked) + len(self.clock.pauses)
        assert steps <= MOST_STEPS_A_SECOND * max(seconds, 60.0), "the loop spins"

    def one_pass(
        self,
        memory: InMemoryState,
        options: PassOptions = AS_APPLY,
        *,
        review: Review | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> PassResult:
        """Run one pass, as ``apply`` does; the account has to be identified."""
        return asyncio.run(
            reconcile(
                lambda: self.desired,
                store=self.store,
                exchange=self.exchange,
                clock=self.clock,
                observe=self.observe,
                options=options,
                memory=memory,
                review=review,
                stopping=stopping,
            )
        )

    def observe(self, event: Event) -> None:
        self.events.append((self.clock.now(), event))
        for listen in self.listeners:
            listen(event)

    def times_of(self, kind: type[Event]) -> list[float]:
        return [time for time, event in self.events if isinstance(event, kind)]

    def failures(self) -> list[tuple[float, ExchangeFailed]]:
        return [(time, event) for time, event in self.events if isinstance(event, ExchangeFailed)]


def world(*, interval_s: float = 30.0, drift: DriftPolicy = DriftPolicy.HEAL_LOOSENED) -> World:
    options = PassOptions(purpose="run", assume_idle=True, drift=drift)
    return World(desired({BTC: A}), options=options, interval_s=interval_s)


def gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


# ---- settling, and looking again -----------------------------------------------------------------


def test_it_applies_what_differs_and_then_only_looks() -> None:
    here = world()
    here.run(100.0)
    assert [(family, wanted) for _, family, wanted in here.exchange.sent] == [(BTC, A)]
    assert here.times_of(Identified) == pytest.approx([1000.05])
    assert here.exchange.moments("live") == pytest.approx([1000, 1030, 1060, 1090], abs=0.5)


@pytest.mark.parametrize("interval_s", [2.0, 30.0, 300.0])
def test_the_interval_is_honoured(interval_s: float) -> None:
    here = world(interval_s=interval_s)
    here.exchange.live[BTC] = LiveRow(A)
    here.run(10 * interval_s)
    reads = here.exchange.moments("live")
    assert len(reads) in (10, 11)
    assert gaps(reads) == pytest.approx([interval_s] * (len(reads) - 1), abs=0.2)


def test_drift_is_put_back_within_the_interval() -> None:
    here = world()
    here.clock.at(1050.0, lambda: here.exchange.live.update({BTC: LiveRow(B)}))
    here.run(120.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A, A]
    assert 1050.0 < here.exchange.sent[1][0] < 1081.0
    assert here.exchange.live[BTC].setting == A


def test_a_pause_by_the_breaker_lasts_until_the_file_has_another_value() -> None:
    here = world(drift=DriftPolicy.HEAL)
    here.exchange.live[BTC] = LiveRow(B)
    asyncio.run(here.store.identify(INFO.uid, "openapi.okx.com"))
    asyncio.run(here.store.pause([BTC], until=None, reason="put back", contested_setting={BTC: A}))
    here.clock.at(1100.0, lambda: here.want({BTC: C}))
    here.run(200.0)
    ((time, _, wanted),) = here.exchange.sent
    assert (wanted, 1100.0 < time < 1103.0) == (C, True)


def test_a_pause_by_hand_holds_whatever_the_file_wants() -> None:
    here = world(drift=DriftPolicy.HEAL)
    asyncio.run(here.store.identify(INFO.uid, "openapi.okx.com"))
    asyncio.run(here.store.pause([BTC], until=None, reason="by hand"))
    here.clock.at(1100.0, lambda: here.want({BTC: C}))
    here.run(200.0)
    assert here.exchange.sent == []


def test_drift_that_is_tighter_is_left_alone() -> None:
    here = world()
    tighter = LiveRow(setting("5000/2000/50"))
    here.clock.at(1050.0, lambda: here.exchange.live.update({BTC: tighter}))
    here.run(300.0)
    assert len(here.exchange.sent) == 1
    assert here.exchange.live[BTC] == tighter


def test_a_changed_file_is_applied_at_once() -> None:
    here = world()
    here.clock.at(1040.0, lambda: here.want({BTC: B}))
    here.run(60.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A, B]
    assert here.exchange.sent[1][0] == pytest.approx(1040.0, abs=1.0)


def test_a_newer_file_replaces_what_was_queued() -> None:
    families = [Family(f"F{number}-USD") for number in range(4)]
    here = World(desired(dict.fromkeys(families, A)))
    here.clock.at(1003.0, lambda: here.want(dict.fromkeys(families, B)))
    here.run(60.0)
    last = {family: wanted for _, family, wanted in here.exchange.sent}
    assert set(last.values()) == {B}
    assert len(here.exchange.sent) == 6, "two of A, and then B for all four"


def test_a_frozen_family_is_not_written_until_that_is_over() -> None:
    here = world()
    here.exchange.live[BTC] = LiveRow(B, frozen=True)
    here.clock.at(1100.0, lambda: here.exchange.live.update({BTC: LiveRow(B)}))
    here.run(140.0)
    assert [time > 1100.0 for time, _, _ in here.exchange.sent] == [True]


# ---- outages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["reading", "identity"])
def test_an_outage_is_backed_off_from_and_survived(what: str) -> None:
    here = world()
    setattr(here.exchange, what, DOWN)
    here.clock.at(1600.0, lambda: setattr(here.exchange, what, INFO if what == "identity" else None))
    here.run(700.0)
    waits = [event.retry_at - time for time, event in here.failures() if event.retry_at is not None]
    assert waits[:6] == pytest.approx([1, 2, 4, 8, 16, MAX_BACK_OFF_S])
    assert waits[5:] == pytest.approx([MAX_BACK_OFF_S] * len(waits[5:]))
    assert len(waits) < 30
    (sent_at,) = (time for time, _, _ in here.exchange.sent)
    assert 1600.0 < sent_at < 1600.0 + MAX_BACK_OFF_S + 2.0


@pytest.mark.parametrize("what", ["reading", "identity"])
@pytest.mark.parametrize("reply_class", [ReplyClass.NO_ANSWER, ReplyClass.NOT_SENT])
def test_an_account_goes_on_at_once_when_the_address_answers_again(
    what: str, reply_class: ReplyClass
) -> None:
    here = world()
    setattr(here.exchange, what, Reply(reply_class, "connect", "could not connect"))
    here.clock.at(1600.0, lambda: setattr(here.exchange, what, INFO if what == "identity" else None))
    here.clock.at(1600.5, here.address_recovers)
    here.run(700.0)
    (sent_at,) = (time for time, _, _ in here.exchange.sent)
    assert 1600.5 < sent_at < 1602.0


@pytest.mark.parametrize("what", ["reading", "identity"])
@pytest.mark.parametrize("reply", [BAD_KEY, Reply(ReplyClass.BUSY, "50013"), None])
def test_what_okx_itself_refused_is_not_asked_again_because_the_address_recovers(
    what: str, reply: Reply | None
) -> None:
    asked = []
    for recovers in (True, False):
        here = world()
        if reply is not None:
            setattr(here.exchange, what, reply)
        for second in range(1030, 1200, 7) if recovers else ():
            here.clock.at(second + 0.25, here.address_recovers)
        here.run(200.0)
        asked.append(here.exchange.moments("live") + here.exchange.moments("account"))
    assert asked[0] == pytest.approx(asked[1])


def test_after_an_outage_the_next_one_is_tried_quickly_again() -> None:
    here = world()
    for begin, end in ((1100.0, 1200.0), (1400.0, 1440.0)):
        here.clock.at(begin, lambda: setattr(here.exchange, "reading", DOWN))
        here.clock.at(end, lambda: setattr(here.exchange, "reading", None))
    here.run(600.0)
    waits = [event.retry_at - time for time, event in here.failures() if event.retry_at is not None]
    assert sum(wait == pytest.approx(1.0) for wait in waits) == 2


def test_maintenance_is_waited_out_for_longer() -> None:
    here = world()
    here.exchange.writing = Reply(ReplyClass.UNAVAILABLE, "50005", "inactive")
    here.run(600.0)
    waits = gaps([time for time, _, _ in here.exchange.sent])
    assert [round(wait) for wait in waits] == [10, 45, 90, 120, 120, 120]


def test_a_lost_reply_is_not_reported_as_applied() -> None:
    here = world()
    here.exchange.writing = DOWN
    here.clock.at(1001.0, lambda: setattr(here.exchange, "writing", None))
    here.run(100.0)
    statuses = [event.status for _, event in here.events if isinstance(event, RequestSettled)]
    assert statuses[0] is AttemptStatus.UNKNOWN
    assert statuses[-1] is AttemptStatus.APPLIED


def test_a_refused_setting_is_rejected_and_the_others_proceed() -> None:
    here = World(desired({BTC: A, ETH: A}))
    here.exchange.writing = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter error")
    here.clock.at(1000.3, lambda: setattr(here.exchange, "writing", None))
    here.run(200.0)
    assert [family for _, family, _ in here.exchange.sent] == [BTC, ETH]


# ---- the account, the key, the state -------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [BAD_KEY, WRONG_WORLD, replace(INFO, level="2"), replace(INFO, permissions=frozenset({"read_only"}))],
)
def test_a_key_that_may_not_write_is_asked_about_again_each_minute(refusal: AccountInfo | Reply) -> None:
    here = world()
    here.exchange.identity = refusal
    here.clock.at(1300.0, lambda: setattr(here.exchange, "identity", INFO))
    here.run(400.0)
    assert gaps(here.exchange.moments("account"))[:4] == pytest.approx([STOPPED_RETRY_S + LATENCY_S] * 4)
    assert [time > 1300.0 for time, _, _ in here.exchange.sent] == [True]


def test_after_a_stop_whose_key_it_is_is_asked_before_anything_else() -> None:
    here = world()
    here.exchange.writing = BAD_KEY
    here.clock.at(1030.0, lambda: setattr(here.exchange, "writing", None))
    here.run(200.0)
    first, second = (time for time, _, _ in here.exchange.sent)
    assert second - first >= STOPPED_RETRY_S
    asked = [what for time, what in here.exchange.asked if first < time < second]
    assert asked[0] == "account"
    assert here.times_of(Identified)[1] < second


def test_another_expected_uid_is_checked_before_anything_is_written() -> None:
    here = world()
    here.clock.at(1040.0, lambda: here.want({BTC: B}, expected_uid="7"))
    here.run(200.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]
    assert [event.reply.code for _, event in here.failures()][:1] == ["wrong-account"]


def test_a_state_of_another_account_is_never_written_with_this_key() -> None:
    here = world()
    asyncio.run(here.process().identify("7", "openapi.okx.com"))
    here.run(200.0)
    assert here.exchange.sent == []
    assert {event.reply.code for _, event in here.failures()} == {"state-foreign-uid"}


def test_a_locked_state_is_waited_for() -> None:
    here = world()

    async def hold() -> None:
        async with here.process().locked("apply"):
            while here.clock.now() < 1050.0:
                await asyncio.sleep(0)

    here.clock.at(1010.0, lambda: asyncio.get_running_loop().create_task(hold()))
    here.clock.at(1020.0, lambda: here.want({BTC: B}))
    here.run(80.0)
    waits = here.times_of(StateLockTimedOut)
    assert len(waits) > 10
    assert min(gaps(waits)) >= LOCKED_RETRY_S
    assert [(time >= 1050.0, wanted) for time, _, wanted in here.exchange.sent] == [(False, A), (True, B)]


def test_an_idle_loop_does_not_hold_the_lock() -> None:
    here = world()
    held: list[str] = []

    async def take() -> None:
        async with here.process().locked("apply"):
            held.append("taken")

    here.clock.at(1050.0, lambda: asyncio.get_running_loop().create_task(take()))
    here.run(100.0)
    assert held == ["taken"]
    assert here.times_of(StateLockTimedOut) == []


def test_a_state_that_cannot_be_relied_on_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    here = world()

    async def damaged() -> None:
        raise StateUnusable("state-damaged", "the state is damaged")

    monkeypatch.setattr(here.store, "recorded_inputs", damaged)
    with pytest.raises(StateUnusable):
        here.run(100.0)
    assert here.exchange.sent == []


# ---- a key that is replaced ----------------------------------------------------------------------


@pytest.mark.parametrize("replaced_at", [1000.02, 1000.08, 1000.12, 1000.17, 1000.22, 1040.0])
def test_after_a_key_was_replaced_whose_it_is_is_asked_before_anything_is_sent(replaced_at: float) -> None:
    """Replaced between any two steps: each request after it is signed with a key that was asked about."""
    families = [BTC, ETH]
    here = World(desired(dict.fromkeys(families, A)))
    here.clock.at(replaced_at, lambda: setattr(here.exchange, "kept", "second"))
    here.clock.at(replaced_at + 1.0, lambda: here.want(dict.fromkeys(families, B)))
    here.run(80.0)
    asked = here.exchange.moments("account")
    assert here.exchange.live[ETH].setting == B
    assert here.exchange.signed[-2:] == ["second"] * 2
    late = [time for time, _, _ in here.exchange.sent if time > max(asked)]
    assert here.exchange.signed[-len(late) :] == ["second"] * len(late)
    assert here.times_of(KeyReplaced) == [] or here.times_of(KeyReplaced)[0] <= asked[1]


def test_a_key_replaced_while_the_slot_is_waited_for_is_not_used_unasked() -> None:
    """Opening a connection takes time, and the key changes just then: the old one signs nothing more."""
    here = world()
    here.exchange.owners["second"] = replace(INFO, uid="7")
    here.clock.at(1000.12, lambda: setattr(here.exchange, "kept", "second"))
    here.run(30.0)
    assert [what for _, what in here.exchange.asked][:4] == ["account", "live", "connect", "account"]
    assert here.exchange.sent == []


def test_a_key_of_another_account_writes_nothing_and_is_reported_once() -> None:
    here = world()
    here.exchange.owners["second"] = replace(INFO, uid="7")
    here.clock.at(1010.0, lambda: setattr(here.exchange, "kept", "second"))
    here.clock.at(1020.0, lambda: here.want({BTC: B}))
    here.run(300.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]
    (message,) = (event for _, event in here.failures())
    assert (message.reply.code, message.retry_at) == ("state-foreign-uid", None)  # it is asked on, untold
    assert "live" not in {what for time, what in here.exchange.asked if time > 1021.0}


def test_another_state_in_use_on_this_machine_is_reported_once_and_asked_about_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took this one's place after this loop had been identified."""
    asked, until = [], 1200.0

    async def register(_: AccountSession, __: RateBudget) -> None:
        asked.append(here.clock.now())
        if len(asked) > 1 and asked[-1] < until:
            raise AccountProblem("state-second", "another state is in use", "use that one")

    monkeypatch.setattr(AccountSession, "register", register)
    here = world()
    here.run(300.0)
    [(_, message)] = here.failures()
    assert (message.reply.code, message.retry_at) == ("state-second", None)
    assert [time >= until for time, _, _ in here.exchange.sent] == [True]


def test_a_state_without_the_newest_request_is_asked_about_again_once_that_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    until = 1017.0

    async def register(_: AccountSession, __: RateBudget) -> None:
        if here.clock.now() < until:
            problem = AccountProblem("state-behind", "a request is not on record", "wait")
            problem.wait_s = until - here.clock.now()
            raise problem

    monkeypatch.setattr(AccountSession, "register", register)
    here = world()
    here.run(60.0)
    [(_, message)] = here.failures()
    assert message.reply.code == "state-behind"
    assert [until <= time < until + 5.0 for time, _, _ in here.exchange.sent] == [True]


def test_a_key_that_cannot_be_read_is_reported_once_and_used_soon_after_it_can() -> None:
    here = world()
    here.clock.at(1010.0, lambda: setattr(here.exchange, "kept", None))
    here.clock.at(1020.0, lambda: here.want({BTC: B}))
    here.clock.at(1100.0, lambda: setattr(here.exchange, "kept", "second"))
    here.run(200.0)
    assert [event.reply.code for _, event in here.failures()] == ["credentials-file"]
    assert here.exchange.signed == ["first", "second"]
    assert 1100.0 < here.exchange.sent[-1][0] < 1100.0 + KEY_RETRY_S + 1.0


def test_a_key_refused_while_it_was_being_replaced_is_asked_about_again_soon() -> None:
    here = world()
    here.exchange.owners["half"] = BAD_KEY
    here.exchange.kept = "half"
    here.clock.at(1000.04, lambda: setattr(here.exchange, "kept", "second"))
    here.run(30.0)
    assert gaps(here.exchange.moments("account"))[:1] == pytest.approx([KEY_RETRY_S + LATENCY_S])
    assert here.exchange.signed == ["second"]


# ---- two files for one account -------------------------------------------------------------------


CLAIMED = AccountProblem("claimed-twice", "a.yaml and b.yaml both want BTC-USD", "keep it in one")


def test_families_claimed_by_another_account_are_not_written_until_they_are_free() -> None:
    here = world()
    taken = True
    here.claim = lambda _: CLAIMED if taken else None

    def free() -> None:
        nonlocal taken
        taken = False
        here.clock.wake()

    here.clock.at(1200.0, free)
    here.run(300.0)
    assert [(event.reply.code, event.retry_at) for _, event in here.failures()] == [("claimed-twice", None)]
    assert here.exchange.sent[0][0] == pytest.approx(1200.0, abs=1.0)


def test_a_claim_refused_in_the_middle_of_a_pass_sends_nothing_more() -> None:
    here = world()
    here.claim = lambda _: CLAIMED if here.clock.now() > 1000.11 else None
    here.run(100.0)
    assert "connect" in {what for _, what in here.exchange.asked}
    assert here.exchange.sent == []


def test_a_claim_is_made_for_the_user_id_of_the_key() -> None:
    here = world()
    here.claim = lambda uid: None if uid == INFO.uid else CLAIMED
    here.run(60.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]


# ---- what is told of the pace ----------------------------------------------------------------------


@pytest.mark.parametrize("assume_idle", [True, False])
def test_the_pace_that_is_reported_is_the_one_in_use(assume_idle: bool) -> None:
    here = World(desired({BTC: A}), options=PassOptions(purpose="run", assume_idle=assume_idle))
    here.run(30.0)
    first = next(event for _, event in here.events if isinstance(event, Compared))
    ((sent_at, _, _),) = here.exchange.sent
    assert earliest_slot(first.ledger, 1000.0) == pytest.approx(sent_at, abs=0.3)


# ---- an account that may be another replica's ------------------------------------------------------


def test_nothing_is_asked_or_sent_while_the_account_may_be_another_replica_s() -> None:
    here = world()
    here.owned = lambda: here.clock.now() > 1100.0
    here.run(200.0)
    assert min(time for time, _ in here.exchange.asked) == pytest.approx(1100.0, abs=OWNED_RETRY_S)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]


@pytest.mark.parametrize("lost_at", [1000.02, 1000.07, 1000.12, 1000.149])
def test_an_account_lost_in_the_middle_of_a_pass_is_not_written_to_any_more(lost_at: float) -> None:
    """Lost between any two steps: while identifying, reading, connecting, waiting for the slot."""
    here = world()
    here.owned = lambda: here.clock.now() < lost_at
    here.run(100.0)
    assert here.exchange.sent == []
    assert max(time for time, _ in here.exchange.asked) < lost_at + LATENCY_S


# ---- turns ---------------------------------------------------------------------------------------


def test_a_turn_is_held_for_a_pass_and_not_while_nothing_is_to_be_done() -> None:
    here = world()
    held: list[tuple[float, float]] = []

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        await here.clock.sleep_until(here.clock.now() + 3.0)
        begun_at = here.clock.now()
        yield
        held.append((begun_at, here.clock.now()))

    here.turn = turn
    here.run(100.0)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]
    assert all(any(begun <= at <= ended for begun, ended in held) for at in here.exchange.moments("live"))
    assert sum(ended - begun for begun, ended in held) < 10.0


# ---- a file that changes often -------------------------------------------------------------------


def test_however_often_the_file_changes_passes_stay_within_what_may_be_read() -> None:
    here = world()
    for number in range(200):
        wanted = B if number % 2 else A
        here.clock.at(1020.0 + number / 20, lambda wanted=wanted: here.want({BTC: wanted}))  # type: ignore[misc] # a default binds this round's value
    here.run(60.0)
    reads = here.exchange.moments("live")
    assert all(late - early > BURST_S for early, late in zip(reads, reads[5:], strict=False))
    assert len(reads) < 60
    assert here.exchange.live[BTC].setting == B


def test_the_first_changes_after_a_quiet_time_are_applied_at_once() -> None:
    here = world()
    here.clock.at(1020.0, lambda: here.want({BTC: B}))
    here.clock.at(1020.5, lambda: here.want({BTC: A}))
    here.run(60.0)
    assert [time for time, _, _ in here.exchange.sent][1:] == pytest.approx([1020.2, 1020.7], abs=0.15)
    assert BURST_PASSES >= 2


@pytest.mark.parametrize("step", ["identify", "recorded_inputs", "reserve", "settle"])
def test_a_state_that_is_away_is_waited_for_with_back_off(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    here = world()
    real = getattr(here.store, step)

    async def away(*args: Any, **named: Any) -> Any:
        if here.clock.now() < 1100.0:
            raise StateUnavailable("state-unavailable", "the connection was lost")
        return await real(*args, **named)

    monkeypatch.setattr(here.store, step, away)
    here.run(300.0)
    waits = here.times_of(StateFailed)
    assert len(waits) == (1 if step == "settle" else 8)
    assert sorted(gaps(waits)) == gaps(waits)
    assert max(gaps(waits), default=0.0) <= MAX_BACK_OFF_S + 1.0
    assert [wanted for _, _, wanted in here.exchange.sent] == [A], "one request, before or after"


# ---- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.01, 0.07, 0.12, 0.2, 5.0, 29.0, 31.0, 100.0])
def test_it_stops_when_asked_wherever_it_is(after_s: float) -> None:
    here = World(desired({BTC: A, ETH: A}))
    here.run(after_s)
    assert here.clock.now() - 1000.0 < after_s + 1.0
    settled = here.times_of(RequestSettled)
    assert len(settled) == len(here.exchange.sent), "a request in flight is settled first"


def test_asked_before_it_began_it_does_nothing() -> None:
    here = world()
    here.stopped = True
    here.run(10.0)
    assert here.exchange.asked == []


def test_reads_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    here = world()
    here.exchange.live[BTC] = LiveRow(A)
    here.run(40.0)
    assert len(here.times_of(LiveReadDone)) == 2
    assert capsys.readouterr() == ("", "")


def test_while_an_old_attempt_may_still_land_live_is_read_at_the_interval() -> None:
    """B is sent and its reply lost, the file goes back to A: what is in force is known after 40 s."""
    here = world(interval_s=5.0)
    here.desired = desired({BTC: B})
    here.exchange.writing = DOWN
    here.clock.at(1001.0, lambda: setattr(here.exchange, "writing", None))
    here.clock.at(1001.0, lambda: here.want({BTC: A}))
    here.run(60.0)
    assert [wanted for _, _, wanted in here.exchange.sent][-1] == A
    reads = [time for time in here.exchange.moments("live") if 1002.0 < time < 1034.0]
    assert len(reads) >= 6
    assert max(gaps(reads)) < 6.0
