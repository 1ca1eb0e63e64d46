"""Two loops on one state: one controls the account, the standby reads live, and takes over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from reconciler.controller.loop import CONTROL_RETRY_S, STOPPED_RETRY_S
from reconciler.core.events import (
    Adopted,
    Compared,
    ControlledElsewhere,
    ControlTaken,
    Event,
    ExchangeFailed,
    Identified,
    LiveReadDone,
    LoopIdle,
    Planned,
    RequestReserved,
)
from reconciler.core.live_evidence import MAX_SURVEY_READS
from reconciler.core.model import Family, LiveRead, LiveRow, Setting
from reconciler.core.monitoring.account_runtime import alive, initial
from reconciler.core.monitoring.account_runtime import apply_event as runtime_after
from reconciler.core.plan import HoldReason
from reconciler.core.policy import PolicyInForce
from reconciler.core.reply import Reply
from reconciler.store.account_store import SqlAccountStore
from tests.unit.builders import BTC, ETH
from tests.unit.test_loop import BAD_KEY, DOWN, A, B, C, Exchange, World, gaps, world

TAKEOVER_S = 2.0


def standing_by(families: dict[Family, Setting] | None = None) -> tuple[World, SqlAccountStore]:
    """Return a world whose loop stands by, and the store of the process that controls the account."""
    here = world()
    here.want(families or {BTC: A})
    controller = here.process()
    assert asyncio.run(controller.try_control("run"))
    return here, controller


def ends(here: World, controller: SqlAccountStore, at: float) -> None:
    """Let the controlling process end then."""

    here.clock.at(at, lambda: _now(controller.release_control()))


def dump(here: World) -> bytes:
    """Return all that is on record."""
    return here.disk._db.serialize()


def kinds(here: World) -> set[type[Event]]:
    return {type(event) for _, event in here.events}


def test_a_standby_reads_and_reports_and_writes_nothing() -> None:
    here, _ = standing_by({BTC: A, ETH: B})
    here.exchange.live[BTC] = LiveRow(B)
    before = dump(here)
    here.run(100.0)
    assert here.exchange.sent == []
    assert {what for _, what in here.exchange.asked} == {"account", "live"}
    assert dump(here) == before
    assert here.exchange.moments("live") == pytest.approx([1000, 1030, 1060, 1090], abs=0.5)
    assert len(here.times_of(Identified)) == 1
    assert kinds(here).isdisjoint({Adopted, Planned, RequestReserved})
    compared = [event for _, event in here.events if isinstance(event, Compared)]
    assert all(event.complete for event in compared)
    assert [change.family for change in compared[-1].plan.changes] == [BTC, ETH]


def test_a_standby_reports_the_controller_once() -> None:
    here, _ = standing_by()
    here.run(100.0)
    ((at, event),) = [(at, event) for at, event in here.events if isinstance(event, ControlledElsewhere)]
    assert event.holder is not None
    assert (at, event.holder.pid, event.holder.purpose) == (1000.0, os.getpid(), "run")


def test_the_next_controller_is_reported_too() -> None:
    here, first = standing_by()
    second = here.process()
    ends(here, first, 1020.3)
    here.clock.at(1020.4, lambda: _now(second.try_control("run")))
    before = asyncio.run(first.controller())
    here.run(60.0)
    named = [event.holder for _, event in here.events if isinstance(event, ControlledElsewhere)]
    assert (named[0], len(named)) == (before, 2)
    assert here.exchange.sent == []


def _now(coroutine: Coroutine[None, None, object]) -> None:
    """Run a coroutine that waits for nothing, while a loop runs."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def test_a_standby_takes_over_within_two_seconds_and_starts_with_an_empty_memory() -> None:
    here, controller = standing_by()
    ends(here, controller, 1050.5)
    here.run(100.0)
    ((_, wanted),) = [(at, wanted) for at, _, wanted in here.exchange.sent]
    (taken,) = here.times_of(ControlTaken)
    assert 1050.5 <= taken <= 1050.5 + CONTROL_RETRY_S
    assert here.exchange.sent[0][0] < 1050.5 + TAKEOVER_S
    assert wanted == A
    assert len(here.times_of(Identified)) == 2, "only the process that writes records the identity"


def test_control_is_released_at_the_end_of_the_loop() -> None:
    here = world()
    here.run(5.0)
    assert asyncio.run(here.process().try_control("run"))


def test_control_is_released_when_the_loop_fails() -> None:
    here = world()

    def fail() -> bool:
        raise RuntimeError("a bug")

    here.owned = fail
    with pytest.raises(RuntimeError, match="a bug"):
        here.run(5.0)
    assert asyncio.run(here.process().try_control("run"))


def test_a_changed_file_is_compared_at_once() -> None:
    here, _ = standing_by()
    here.clock.at(1010.0, lambda: here.want({BTC: C}))
    here.run(25.0)
    assert here.exchange.moments("live") == pytest.approx([1000, 1010], abs=0.5)
    (newest,) = [event for _, event in here.events if isinstance(event, Compared)][-1:]
    assert newest.desired.families[BTC].setting == C


def test_what_the_controller_applies_between_two_reads_is_no_drift() -> None:
    here, controller = standing_by({BTC: B})
    asyncio.run(controller.identify("446556540", "openapi.okx.com"))
    here.exchange.live[BTC] = LiveRow(A)
    asyncio.run(controller.adopt({BTC: A}, read_begun_at=here.clock.now()))

    def apply() -> None:
        here.exchange.live[BTC] = LiveRow(B)
        _now(controller.adopt({BTC: B}, read_begun_at=here.clock.now()))

    here.clock.at(1030.02, apply)
    here.run(45.0)
    believed = [event for _, event in here.events if isinstance(event, Compared) and event.complete]
    assert [change.family for change in believed[0].plan.changes] == [BTC]
    assert believed[-1].plan.changes == ()


def test_a_missing_row_is_read_again_a_bounded_number_of_times() -> None:
    here, controller = standing_by()
    asyncio.run(controller.identify("446556540", "openapi.okx.com"))
    asyncio.run(controller.adopt({BTC: A}, read_begun_at=here.clock.now()))
    here.run(25.0)
    reads = here.exchange.moments("live")
    assert 2 <= len(reads) <= MAX_SURVEY_READS
    assert min(gaps(reads)) >= 1.0
    believed = [event for _, event in here.events if isinstance(event, Compared)][-1]
    assert believed.complete
    assert [change.before for change in believed.plan.changes] == [None]


def test_without_live_reads_a_standby_uses_the_record_alone() -> None:
    here, controller = standing_by()
    asyncio.run(controller.identify("446556540", "openapi.okx.com"))
    asyncio.run(controller.adopt({BTC: A}, read_begun_at=here.clock.now()))
    here.options = replace(here.options, live=False)
    here.run(65.0)
    compared = [event for _, event in here.events if isinstance(event, Compared)]
    assert (len(compared), all(event.complete and not event.plan.changes for event in compared)) == (
        3,
        True,
    )
    assert here.exchange.moments("live") == []


def test_an_unreadable_policy_holds_changes_in_the_comparison_too() -> None:
    here, _ = standing_by({BTC: B})
    here.exchange.live[BTC] = LiveRow(A)
    here.options = replace(here.options, policy=lambda: PolicyInForce(unreadable=True))
    here.run(5.0)
    (compared,) = [event for _, event in here.events if isinstance(event, Compared)]
    assert [change.because for change in compared.plan.changes] == [HoldReason.POLICY]


@pytest.mark.parametrize(
    ("failing", "asked"),
    [
        (lambda here: setattr(here.exchange, "reading", DOWN), "live"),
        (lambda here: setattr(here.exchange, "identity", DOWN), "account"),
    ],
    ids=["reads fail", "the key is not answered"],
)
def test_an_outage_is_backed_off_from_and_reported(failing: Callable[[World], None], asked: str) -> None:
    here, controller = standing_by()
    failing(here)
    ends(here, controller, 1200.0)
    here.clock.at(1150.0, lambda: setattr(here.exchange, "reading", None))
    here.clock.at(1150.0, lambda: setattr(here.exchange, "identity", world().exchange.identity))
    here.run(140.0)
    assert gaps(here.exchange.moments(asked)) == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.5)
    assert here.times_of(ExchangeFailed)
    assert here.exchange.sent == []


def test_a_refused_key_is_reported_and_asked_about_again_each_minute() -> None:
    here, _ = standing_by()
    here.exchange.identity = BAD_KEY
    here.run(3 * STOPPED_RETRY_S - 5)
    assert gaps(here.exchange.moments("account")) == pytest.approx([STOPPED_RETRY_S] * 2, abs=1.0)
    assert here.exchange.moments("live") == []


def test_a_key_of_another_account_than_expected_is_reported_once_and_nothing_is_read() -> None:
    here, _ = standing_by()
    here.want({BTC: A}, expected_uid="1")
    here.run(3 * STOPPED_RETRY_S - 5)
    assert len(here.times_of(ExchangeFailed)) == 1
    assert here.exchange.moments("live") == []
    assert asyncio.run(here.store.snapshot()).uid is None


def test_a_replaced_key_is_identified_before_the_next_read() -> None:
    here, _ = standing_by()
    here.clock.at(1010.0, lambda: setattr(here.exchange, "kept", "second"))
    here.run(45.0)
    assert here.exchange.moments("account") == pytest.approx([1000, 1030], abs=0.5)
    assert len(here.times_of(LiveReadDone)) == 2


class OddExchange(Exchange):
    """An exchange whose row of BTC-USD makes no sense."""

    async def read_live(self) -> LiveRead | Reply:
        read = await super().read_live()
        assert isinstance(read, LiveRead)
        return replace(read, unreadable={BTC: "qtyLimit is odd"})


def test_a_row_that_cannot_be_read_holds_its_family_alone() -> None:
    here, _ = standing_by({BTC: A, ETH: B})
    here.exchange = OddExchange(here.clock)
    here.run(0.5)
    *_, compared = (event for _, event in here.events if isinstance(event, Compared))
    held = {change.family: change.because for change in compared.plan.changes}
    assert held == {BTC: HoldReason.UNREADABLE, ETH: None}


def test_a_standby_counts_as_alive() -> None:
    here, _ = standing_by()
    runtime = initial(here.desired, host="h", simulator=False, live=True, now=here.clock.now())
    looks: list[bool] = []

    def on_event(event: Event) -> None:
        nonlocal runtime
        runtime = runtime_after(runtime, event, now=here.clock.now(), wall=here.clock.wall())
        looks.append(alive(runtime, here.clock.now()))

    here.listeners.append(on_event)
    here.exchange.live[BTC] = LiveRow(A)
    here.run(300.0)
    assert all(looks)
    assert runtime.started, "/startupz answers from what it read"
    assert runtime.controller is not None
    assert max(gaps(here.times_of(LoopIdle))) <= CONTROL_RETRY_S + 0.5


def test_a_standby_prepares_without_writing_until_it_takes_over() -> None:
    here, controller = standing_by()
    asked: list[tuple[float, bool]] = []

    async def prepare(writing: bool) -> None:
        asked.append((here.clock.now(), writing))

    here.prepare = prepare
    ends(here, controller, 1050.5)
    here.run(70.0)
    assert {writing for at, writing in asked if at < 1050.0} == {False}
    assert {writing for at, writing in asked if at > 1050.5} == {True}
