"""A read that somebody else's record overtakes is repeated; what is in sync rests on one that counts.

Time is virtual; pass, loop and store are the real ones. The other process has a lock no longer, but what
came of its request is recorded whoever has it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from reconciler.controller.pass_values import Completed, InMemoryState, Interrupted, PassResult
from reconciler.core.apply_result import Outcome
from reconciler.core.events import Compared, Event, Planned, RequestSettled, Waiting, WaitReason
from reconciler.core.model import Environment, ExchangeKind, LiveRow
from reconciler.core.monitoring.state_timeline import FAILED
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, SignedRequest
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from tests.unit.builders import BTC, ETH, SOL, desired
from tests.unit.test_loop import INFO, A, B, World
from tests.unit.test_review import at_once

BOOTS = pytest.mark.parametrize("boot", ["boot-1", "boot-2"], ids=["the same host", "another host"])
WHILE_READING = 1000.02
"""The pass reads from 1000.0 to 1000.05."""


def other(here: World, boot: str) -> SqlAccountStore:
    """Return the state as one more process sees it, on the host of that boot."""
    state = here.disk.open(StateOptions(here.clock, boot, lock_timeout_s=0.2))
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    at_once(store.identify(INFO.uid, "openapi.okx.com"))
    return store


def late_verdict(boot: str) -> World:
    """Return a world whose BTC-USD another process set to A and somebody then loosened, still unsettled."""
    here = World(desired({BTC: A}))
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    theirs = other(here, boot)
    slot = at_once(theirs.reserve(SignedRequest(BTC, A, "", b"{}", {}), ReserveOptions(assume_idle=True)))
    assert isinstance(slot, Reservation)
    here.exchange.live[BTC] = LiveRow(B)
    here.clock.at(WHILE_READING, lambda: acknowledged(theirs, slot))
    return here


def acknowledged(store: SqlAccountStore, slot: Reservation) -> None:
    text = AttemptStatus.APPLIED
    at_once(
        store.settle(slot.attempt, AttemptResult(text, definite=True, limited=False, code="0", message=""))
    )


def one_pass(here: World, stopping: Callable[[], bool] = lambda: False) -> tuple[PassResult, InMemoryState]:
    memory = InMemoryState()
    return here.one_pass(memory, stopping=stopping), memory


@BOOTS
def test_a_second_read_comes_before_any_report(boot: str) -> None:
    here = late_verdict(boot)
    result, memory = one_pass(here)
    text = [(at, event.plan.unchanged) for at, event in here.events if isinstance(event, Planned)]
    assert [unchanged for _, unchanged in text] == [(), (BTC,)], (
        "drifted first, and in sync once it was set"
    )
    assert [wanted for _, _, wanted in here.exchange.sent] == [A]
    assert (result.end, memory.done) == (Completed(), {BTC: Outcome.APPLIED})


@BOOTS
def test_stopped_before_that_it_is_not_known(boot: str) -> None:
    here = late_verdict(boot)
    result, _ = one_pass(here, stopping=lambda: here.clock.now() > WHILE_READING)
    assert result.end == Interrupted()
    assert result.states == {BTC: FAILED}, "nobody could see"
    assert result.plan is not None
    assert result.plan.doubtful == (BTC,)
    assert here.times_of(Planned) == []


def test_what_the_pass_itself_proved_takes_no_further_read() -> None:
    here = World(desired({BTC: A}))
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    one_pass(here)
    compared = [event for _, event in here.events if isinstance(event, Compared)]
    assert compared[-1].plan.unchanged == (BTC,)
    assert not any(event.reads.overtaken for event in compared)
    (sent_at, _, _), reads = here.exchange.sent[-1], here.exchange.moments("live")
    assert reads[-1] < sent_at


def test_what_it_proved_before_its_latest_read_is_overtaken_like_anything_else() -> None:
    here = World(desired({BTC: A, ETH: A, SOL: A}))
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    theirs = other(here, "boot-2")

    def proves_and_loosens() -> None:
        at_once(theirs.adopt({BTC: A}, read_begun_at=here.clock.now()))
        here.exchange.live[BTC] = LiveRow(B)

    def comes_between(event: Event) -> None:
        if isinstance(event, Waiting) and event.cause is WaitReason.SLOT and event.family == SOL:
            here.clock.at(event.until + 0.02, proves_and_loosens)  # while it reads

    here.listeners.append(comes_between)
    one_pass(here)
    assert [family for _, family, _ in here.exchange.sent] == [BTC, ETH, SOL, BTC]
    assert {
        family
        for _, event in here.events
        if isinstance(event, Compared)
        for family in event.reads.overtaken
    } == {BTC}


def test_what_the_pass_itself_adopted_takes_no_further_read() -> None:
    here = World(desired({BTC: A}))
    here.exchange.live[BTC] = LiveRow(A)
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    result, memory = one_pass(here)
    assert (result.end, memory.done) == (Completed(), {BTC: Outcome.ADOPTED})
    assert len(here.exchange.moments("live")) == 1


def test_an_own_acknowledgement_that_comes_after_its_l_proves_nothing_new() -> None:
    """By then another may have read, or written, and ended what was in doubt."""
    here = World(desired({BTC: A}))
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    theirs = other(here, "boot-2")
    read_at = here.clock.now() + 38.0

    def adopts() -> None:
        here.exchange.latency_s = 0.05
        at_once(theirs.adopt({BTC: A}, read_begun_at=read_at))

    def loosens(event: Event) -> None:
        here.clock.pass_by(0.001)  # nothing happens at the same instant
        if isinstance(event, RequestSettled) and len(here.exchange.sent) == 1:
            here.exchange.live[BTC] = LiveRow(B)

    here.listeners.append(loosens)
    here.clock.at(here.clock.now() + 0.06, lambda: setattr(here.exchange, "latency_s", 40.0))
    here.clock.at(read_at + 1.0, adopts)
    one_pass(here)
    assert [wanted for _, _, wanted in here.exchange.sent] == [A, A]


def test_records_that_keep_coming_make_no_spin_and_no_claim() -> None:
    here = World(desired({BTC: A}))
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    theirs = other(here, "boot-2")
    here.exchange.live[BTC] = LiveRow(A)
    until = here.clock.now() + 20.0

    def proves() -> None:
        at_once(theirs.adopt({BTC: A}, read_begun_at=here.clock.now()))
        if here.clock.now() < until:
            here.clock.at(here.clock.now() + 0.04, proves)

    here.clock.at(here.clock.now(), proves)
    result, _ = one_pass(here)
    reads = here.exchange.moments("live")
    assert min(after - before for before, after in pairwise(reads)) >= 0.99
    assert len(reads) <= 23
    assert [at >= until for at in here.times_of(Planned)] == [True]
    assert result.end == Completed()
