"""Ordinary trouble that stops no protection, and what must not be sent: the real loop in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from reconciler.controller.pass_values import Approval, Completed, InMemoryState, PassResult
from reconciler.core.apply_result import Outcome
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import (
    AttemptsEnded,
    Event,
    ExchangeFailed,
    OddRowsSeen,
    Planned,
    ReadFailed,
    RequestReserved,
    RequestTooLate,
)
from reconciler.core.model import Desired, Family, LiveRead, LiveRow, Setting
from reconciler.core.plan import HoldReason, Plan
from reconciler.core.policy import Loosening, Policy, PolicyInForce
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.core.saved_plan import reviewed as reviewed_of
from reconciler.ports import Connection
from tests.unit.builders import BTC, ETH, SOL, desired, setting
from tests.unit.test_loop import INFO, A, B, Exchange, World
from tests.unit.test_review import at_once

TIGHTER, TIGHTEST = setting("5000/2000/50"), setting("5000/2000/7")
BUSY = Reply(ReplyClass.BUSY, "50013", "Systems are busy")


@dataclass
class Odd(Exchange):
    """An exchange that is slow, leaves families out of its list, or is edited while a connection opens."""

    reads_take_s: float = 0.0
    left_out: set[Family] = field(default_factory=set)
    own_read: Reply | None = None
    spoil: Callable[[LiveRead], LiveRead] = lambda read: read
    while_opening: list[Callable[[], object]] = field(default_factory=list)

    async def read_live(self) -> LiveRead | Reply:
        self.clock.pass_by(self.reads_take_s)
        read = await super().read_live()
        if isinstance(read, Reply):
            return read
        rows = {family: row for family, row in read.rows.items() if family not in self.left_out}
        took_s = read.took_s + self.reads_take_s
        return self.spoil(
            replace(read, begun_at=read.begun_at - self.reads_take_s, took_s=took_s, rows=rows)
        )

    async def read_family(self, family: Family) -> LiveRead | Reply:
        read = await super().read_family(family)
        return self.own_read or read

    async def open(self) -> Connection | Reply:
        opened = await super().open()
        if self.while_opening:
            self.while_opening.pop(0)()
        return opened


def world(wanted: dict[Family, Setting], **options: object) -> tuple[World, Odd]:
    here = World(desired(wanted))
    here.options = replace(here.options, controller=True, **options)  # type: ignore[arg-type]  # by name
    here.exchange = odd = Odd(here.clock)
    return here, odd


def go(here: World, seconds: float) -> None:
    """Run the loop for so long, as a restarted process."""
    here.stopped = False
    here.run(seconds)


def held(here: World) -> dict[Family, HoldReason | None]:
    """Return why each family of the last plan is held."""
    plans = [event.plan for _, event in here.events if isinstance(event, Planned)]
    return {change.family: change.because for change in plans[-1].changes}


# -- slow replies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow_s", [2.0, 2.5, 5.0, 9.9])
@pytest.mark.parametrize("writes", [False, True])
def test_a_slow_exchange_stops_nothing(slow_s: float, writes: bool) -> None:
    here, odd = world(dict.fromkeys((BTC, ETH, SOL), A))
    odd.reads_take_s, odd.latency_s = slow_s, slow_s if writes else 0.05
    go(here, 150.0)
    assert {odd.live[family].setting for family in (BTC, ETH, SOL)} == {A}
    reads = odd.moments("live")
    assert len(reads) < 20, "it does not read without end"


def test_between_its_reads_another_process_gets_in() -> None:
    here, odd = world({BTC: A})
    odd.reads_take_s = 5.0
    go(here, 60.0)
    taken = []

    async def once() -> None:
        async with here.process().locked("apply"):
            taken.append(here.clock.now())

    asyncio.run(once())
    assert taken


# -- decided at the last moment ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "pause", "policy"])
def test_what_changes_while_the_connection_opens_is_seen(what: str) -> None:
    policy = PolicyInForce()
    here, odd = world({BTC: B}, policy=lambda: policy)
    odd.live[BTC] = LiveRow(A)
    other = here.process()
    at_once(other.identify(INFO.uid, "openapi.okx.com"))

    def forbids() -> None:
        nonlocal policy
        policy = PolicyInForce(Policy("p", "0" * 64, loosening=Loosening(max_families=0)))

    odd.while_opening = [
        {
            "file": lambda: here.want({BTC: A}),
            "pause": lambda: at_once(other.pause([BTC], until=None, reason="by hand")),
            "policy": forbids,
        }[what]
    ]
    go(here, 60.0)
    assert odd.sent == []
    assert odd.live[BTC].setting == A


def test_a_request_that_is_given_up_as_too_late_is_reported() -> None:
    here, odd = world({BTC: B})
    odd.live[BTC] = LiveRow(A)
    odd.while_opening = [lambda: here.clock.pass_by(11.0)]
    go(here, 60.0)
    late = [event for _, event in here.events if isinstance(event, RequestTooLate)]
    assert [event.family for event in late] == [BTC]
    assert late[0].late_s >= 11.0
    assert [family for _, family, _ in odd.sent] == [BTC], "it is sent after another read"


def test_a_request_is_given_up_and_reported_also_where_the_state_took_long() -> None:
    here, odd = world({BTC: B})
    odd.live[BTC] = LiveRow(A)
    signed = odd.sign

    def sign_slowly(family: Family, wanted: Setting) -> SignedRequest:
        if not odd.signed:
            here.clock.pass_by(11.0)
        return signed(family, wanted)

    odd.sign = sign_slowly  # type: ignore[method-assign]  # the last step before the state is asked
    go(here, 60.0)
    assert len([event for _, event in here.events if isinstance(event, RequestTooLate)]) == 1
    assert [family for _, family, _ in odd.sent] == [BTC]


def test_after_a_suspension_it_reads_anew() -> None:
    here, odd = world({BTC: A, ETH: A})
    asleep = 0.0
    here.clock.suspended_s = lambda: asleep  # type: ignore[method-assign]  # the clock of a machine that sleeps

    def sleeps() -> None:
        nonlocal asleep
        asleep = 3600.0
        odd.live[BTC] = LiveRow(B, frozen=True)
        odd.live[ETH] = LiveRow(B, frozen=True)

    odd.while_opening = [sleeps]
    go(here, 20.0)
    assert odd.sent == []


def test_after_a_refused_timestamp_it_reads_anew() -> None:
    here, odd = world({BTC: A})
    odd.writing = Reply(ReplyClass.CLOCK, "50102", "Timestamp request expired")

    def frozen_meanwhile(event: Event) -> None:
        if isinstance(event, RequestReserved):
            odd.live[BTC] = LiveRow(B, frozen=True)
            here.clock.at(here.clock.now() + 0.01, lambda: setattr(odd, "writing", None))

    here.listeners.append(frozen_meanwhile)
    go(here, 20.0)
    assert len(odd.sent) == 1


# -- what was not reviewed ---------------------------------------------------------------------------------


def applied(
    here: World, *, reviewed: bool, after_review: Callable[[], object]
) -> tuple[PassResult, InMemoryState]:
    memory = InMemoryState()

    def review(plan: Plan) -> Approval:
        after_review()
        return Approval(here.clock.now() + 100.0, reviewed_of(plan) if reviewed else None)

    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    return here.one_pass(memory, review=review), memory


@pytest.mark.parametrize("reviewed", [True, False])
def test_drift_that_appears_after_a_review_is_not_put_back(reviewed: bool) -> None:
    three = (BTC, SOL, Family("XAU-USD_UM"))
    here, odd = world(dict.fromkeys((*three, ETH), A))
    odd.live = {**dict.fromkeys(three, LiveRow(B)), ETH: LiveRow(A)}

    def drifts() -> None:
        here.clock.at(here.clock.now() + 0.01, lambda: odd.live.update({ETH: LiveRow(TIGHTEST)}))

    result, _ = applied(here, reviewed=reviewed, after_review=drifts)
    assert isinstance(result.end, Completed)
    assert {family for _, family, _ in odd.sent} == {*three, *(() if reviewed else (ETH,))}
    if reviewed:
        assert result.plan is not None
        assert {change.family: change.because for change in result.plan.changes} == {ETH: HoldReason.STALE}


def test_a_review_waits_ten_seconds_for_a_doubtful_family_and_names_it_as_held() -> None:
    here, odd = world({BTC: A, ETH: A})
    odd.live = {BTC: LiveRow(A), ETH: LiveRow(B)}
    go(here, 1.0)
    odd.left_out, odd.own_read = {BTC}, BUSY
    shown: list[tuple[float, Plan]] = []
    began_at = here.clock.now()

    def sees(event: Event) -> None:
        if isinstance(event, Planned):
            shown.append((here.clock.now() - began_at, event.plan))

    here.listeners.append(sees)
    applied(here, reviewed=True, after_review=lambda: None)
    waited_s, plan = shown[0]
    assert waited_s <= 11.5
    assert plan.unchanged == (ETH,)


# -- rows that are missing or odd --------------------------------------------------------------------------


def tightened_by_hand(**options: object) -> tuple[World, Odd]:
    """Return a world where the desk has tightened what the file wants looser."""
    here, odd = world({BTC: A, ETH: A}, drift=DriftPolicy.HEAL_LOOSENED, **options)
    go(here, 5.0)
    odd.live[BTC] = LiveRow(TIGHTER)
    go(here, 65.0)
    assert odd.live[BTC].setting == TIGHTER
    return here, odd


@pytest.mark.parametrize("own_read", [None, BUSY], ids=["shown alone", "own read fails"])
def test_a_partial_list_does_not_undo_what_the_desk_tightened(own_read: Reply | None) -> None:
    here, odd = tightened_by_hand()
    odd.left_out, odd.own_read = {BTC}, own_read
    sent = len(odd.sent)
    go(here, 200.0)
    go(here, 200.0)  # a restart, whose own reads never showed the row
    assert len(odd.sent) == sent
    if own_read is not None:
        assert held(here)[BTC] is HoldReason.UNREADABLE
        assert here.times_of(ReadFailed) != []


def test_a_row_that_is_really_gone_is_put_back_at_once() -> None:
    here, odd = tightened_by_hand()
    here.clock.at(here.clock.now() + 30.0, lambda: odd.live.pop(BTC))
    go(here, 95.0)
    assert odd.live[BTC].setting == A


def test_while_its_own_read_fails_a_missing_family_may_only_be_tightened() -> None:
    here, odd = world({BTC: A})
    go(here, 5.0)
    odd.left_out, odd.own_read = {BTC}, BUSY
    go(here, 60.0)
    here.want({BTC: TIGHTER})
    go(here, 60.0)
    assert odd.live[BTC].setting == TIGHTER


def test_odd_rows_are_reported_once_and_hold_no_other_family() -> None:
    here, odd = world({BTC: A, ETH: A})
    odd.spoil = lambda read: replace(read, odd_names={"N/A": "n/a"}, nameless=1)
    go(here, 200.0)
    assert {odd.live[family].setting for family in (BTC, ETH)} == {A}
    assert len(here.times_of(OddRowsSeen)) == 1


# -- refused once ------------------------------------------------------------------------------------------


def test_a_refused_value_is_forgotten_once_live_shows_it() -> None:
    here, odd = world({BTC: A})
    odd.live[BTC] = LiveRow(TIGHTER)
    odd.writing = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter error")
    go(here, 10.0)
    odd.writing, odd.live[BTC] = None, LiveRow(A)
    go(here, 60.0)
    odd.live[BTC] = LiveRow(setting("0/2000/100"))
    go(here, 60.0)
    assert odd.live[BTC].setting == A, "protection that is switched off is switched on again"


@pytest.mark.slow
@pytest.mark.parametrize(("live", "again"), [(B, True), (TIGHTER, False)])
def test_a_refused_value_is_tried_again_every_ten_minutes_while_live_is_looser(
    live: Setting, again: bool
) -> None:
    here, odd = world({BTC: A})
    odd.live[BTC] = LiveRow(live)
    odd.writing = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter error")
    go(here, 3.5 * 3600)
    tries = [at for at, _, _ in odd.sent]
    assert len(tries) == (1 + 6 + 2 if again else 1)


# -- two files, one state ----------------------------------------------------------------------------------


def file_of(wanted: dict[Family, Setting], sha256: str) -> Desired:
    return replace(desired(wanted), sha256=sha256 * 64)


def by_apply(here: World, file: Desired) -> None:
    """Apply a file as another process does."""
    before, here.desired = here.desired, file
    applied(here, reviewed=False, after_review=lambda: None)
    here.desired = before


def test_a_file_that_lags_loosens_nothing_until_it_changes() -> None:
    here, odd = world({BTC: A})
    here.desired = file_of({BTC: A}, "1")
    go(here, 5.0)
    newer = file_of({BTC: TIGHTER}, "2")
    by_apply(here, newer)
    go(here, 120.0)
    assert odd.live[BTC].setting == TIGHTER
    assert held(here)[BTC] is HoldReason.DRIFT_POLICY
    odd.live[BTC] = LiveRow(B)
    go(here, 40.0)
    assert odd.live[BTC].setting == TIGHTER, "what became looser is healed to what the newer file says"


def test_a_revert_that_comes_with_a_restart_waits_for_apply() -> None:
    here, odd = world({BTC: A})
    here.desired = file_of({BTC: A}, "1")
    go(here, 5.0)
    here.clock.at(here.clock.now() + 10.0, lambda: setattr(here, "desired", file_of({BTC: TIGHTER}, "2")))
    go(here, 60.0)
    assert odd.live[BTC].setting == TIGHTER
    here.desired = file_of({BTC: A}, "1")
    go(here, 60.0)  # another loop: a restart
    assert odd.live[BTC].setting == TIGHTER
    by_apply(here, here.desired)
    assert odd.live[BTC].setting == A


def test_a_file_that_changes_back_under_a_running_controller_is_applied() -> None:
    here, odd = world({BTC: A})
    here.desired = file_of({BTC: A}, "1")
    at = here.clock.now()
    here.clock.at(at + 20.0, lambda: setattr(here, "desired", file_of({BTC: TIGHTER}, "2")))
    here.clock.at(at + 80.0, lambda: setattr(here, "desired", file_of({BTC: A}, "1")))
    go(here, 150.0)
    assert [wanted for _, _, wanted in odd.sent] == [A, TIGHTER, A]


# -- renamed, busy, uncertain ------------------------------------------------------------------------------


def test_a_renamed_account_keeps_its_doubts_and_its_pauses() -> None:
    here, odd = world({BTC: B})
    odd.live[BTC] = LiveRow(A)
    odd.writing = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
    go(here, 1.0)
    assert len(odd.sent) == 1
    at_once(here.store.pause([ETH], until=here.clock.wall() + timedelta(hours=1), reason="by hand"))
    here.store = here.process(account="renamed")
    here.desired = desired({BTC: A, ETH: A}, account="renamed")
    odd.writing = None
    go(here, 3.0)
    assert held(here) == {BTC: None, ETH: HoldReason.PAUSED}, "it may land yet, so it is not in sync"


def test_without_live_reads_a_busy_reply_is_no_proof() -> None:
    here, odd = world({BTC: A}, live=False)
    go(here, 5.0)
    odd.writing = BUSY
    here.want({BTC: B})
    go(here, 2.0)
    here.want({BTC: A})
    odd.writing = None
    go(here, 60.0)
    assert [wanted for _, _, wanted in odd.sent] == [A, B, A]


def test_what_is_adopted_after_a_lost_reply_is_not_called_applied() -> None:
    here, odd = world({BTC: A})
    odd.live[BTC] = LiveRow(B)
    odd.writing = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")

    def takes_effect(event: Event) -> None:
        if isinstance(event, RequestReserved):
            here.clock.at(here.clock.now() + 0.04, lambda: odd.live.update({BTC: LiveRow(A)}))

    here.listeners.append(takes_effect)
    _, memory = applied(here, reviewed=False, after_review=lambda: None)
    assert memory.done == {BTC: Outcome.ADOPTED}


def test_an_uncertain_family_minds_the_drift_policy() -> None:
    here, odd = world({BTC: A}, drift=DriftPolicy.HEAL_LOOSENED)
    go(here, 5.0)
    odd.writing = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
    here.want({BTC: B})
    go(here, 2.0)
    odd.writing = None
    odd.live[BTC] = LiveRow(TIGHTER)
    here.want({BTC: A})
    go(here, 100.0)
    assert odd.live[BTC].setting == TIGHTER
    assert here.times_of(AttemptsEnded) != []
    odd.live[BTC] = LiveRow(setting("5000/2000/900"))
    go(here, 40.0)
    assert odd.live[BTC].setting == A


def test_no_failure_of_a_slow_read_is_reported() -> None:
    here, odd = world({BTC: A})
    odd.reads_take_s = 5.0
    go(here, 100.0)
    assert here.times_of(ExchangeFailed) == []
