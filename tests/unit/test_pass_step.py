"""What a pass does next, over a small world: never a hasty request, never a standstill, never a spin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import pytest

from reconciler.core.events import WaitReason
from reconciler.core.live_evidence import Reads, SeenRow
from reconciler.core.model import Family, Known, Setting, Uncertain
from reconciler.core.pass_step import (
    Adopt,
    Done,
    EndAttempts,
    ReadFamily,
    ReadLive,
    Send,
    Slots,
    Step,
    Wait,
    next_request,
    next_step,
)
from reconciler.core.plan import Action, Plan, PlanConstraints
from reconciler.core.retry import RetryRecord, Tries
from tests.unit.builders import BTC, ETH, confirmed, plan_of, read, row, setting, unresolved
from tests.unit.one_family_world import SETTINGS, Record, known_of, last_act, reads_of, records, sights

NEVER_BACKED_OFF = float("-inf")
CLOSE_S = 1.0
"""How near its slot a request may be decided on."""

FRESH_S = 2.0
BETWEEN_READS_S = 1.0


@dataclass(frozen=True)
class Moment:
    """One plan at one instant, with everything the next step depends on."""

    record: Record
    plan: Plan
    reads: Reads
    now: float
    slot: float
    not_before: float
    live: bool

    @property
    def adoptable(self) -> bool:
        adopts = (change for change in self.plan.changes if change.action is Action.ADOPT)
        return any(change.known_at is None for change in adopts)

    @property
    def awaited(self) -> bool:
        return any(change.known_at is not None for change in self.plan.changes)

    @property
    def fresh(self) -> bool:
        latest = self.reads.latest
        if latest is None:
            return False
        return latest.ended_at > self.now - FRESH_S and (
            self.record == Record(None) or latest.begun_at > last_act(self.record)
        )

    @property
    def slot_of_first(self) -> float:
        """Return when the first request may go: the second slot where it leaves the first one free."""
        return self.slot + 10.0 * self.plan.requests[0].slots_left(others=False, unanswered=False)

    def step(self) -> Step:
        known = {} if self.record == Record(None) else {BTC: known_of(self.record)}
        return next_step(
            self.plan,
            known,
            self.reads,
            now=self.now,
            slots=Slots(self.slot, self.slot + 10.0),
            not_before=self.not_before,
            live=self.live,
        )


def moments() -> Iterator[Moment]:
    """Yield every record of at most one attempt, however read, at instants around every boundary."""
    for record, paused in product(records(), (False, True)):
        if len(record.attempts) > (0 if paused else 1):
            continue
        for sight, after_s in product(sights(record), (0.05, 1.0, 2.0, 60.0)):
            reads = reads_of(record, sight)
            now = (reads.latest.begun_at if reads.latest else 950.0) + after_s
            rules = PlanConstraints(paused=frozenset({BTC} if paused else ()))
            plan = plan_of({BTC: SETTINGS["A"]}, {BTC: known_of(record)}, reads, rules, now=now)
            for to_slot_s, back_off_s in product((-5.0, 0.99, 1.0, 1.01), (NEVER_BACKED_OFF, 0.0, 0.01)):
                yield Moment(
                    record, plan, reads, now, now + to_slot_s, now + back_off_s, reads.latest is not None
                )


def check(moment: Moment) -> type[Step]:
    """Hold the step of one moment against everything that must be true of it."""
    step = moment.step()
    now, plan = moment.now, moment.plan
    match step:
        case Send(change, at):
            assert change == plan.requests[0]
            assert max(now, moment.slot_of_first) == at <= now + CLOSE_S
            assert now >= moment.not_before
            assert not plan.doubtful
            assert not moment.adoptable
            assert moment.fresh or not moment.live
        case Wait(until, WaitReason.SLOT):
            assert plan.requests
            assert now < until == moment.slot_of_first - CLOSE_S
        case Wait(until, WaitReason.BACK_OFF):
            assert now < until == moment.not_before
        case Wait(until, WaitReason.SECOND_READ):
            assert now < until <= now + BETWEEN_READS_S
            assert moment.live
        case Wait(until, WaitReason.UNCONFIRMED):
            assert now < until
            assert not plan.requests
            assert moment.awaited
        case ReadLive():
            assert moment.live
            assert now >= moment.not_before
            latest = moment.reads.latest
            assert latest is None or now - latest.ended_at >= BETWEEN_READS_S or not moment.fresh
        case ReadFamily(family):
            assert plan.missing == (family,)
            assert now >= moment.not_before
        case EndAttempts(families):
            assert families == plan.superseded == (BTC,)
        case Adopt(settings):
            assert settings == {BTC: SETTINGS["A"]}
            assert moment.reads.latest is not None
            assert not plan.requests
        case Done():
            assert not plan.requests
            assert not plan.doubtful
            assert not moment.adoptable
            assert not moment.awaited
        case _:
            raise AssertionError(step)
    return type(step)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_every_step_of_the_world_is_safe_and_moves_on() -> None:
    reached = set()
    for moment in moments():
        try:
            reached.add(check(moment))
        except AssertionError as broken:
            raise AssertionError(moment) from broken
    assert reached == {Adopt, EndAttempts, ReadLive, ReadFamily, Wait, Send, Done}


def step_of(
    plan: Plan,
    known: Mapping[Family, Known],
    reads: Reads,
    *,
    now: float = 1000.0,
    slot: float = 0.0,
    not_before: float = NEVER_BACKED_OFF,
    live: bool = True,
    reviewing: bool = False,
) -> Step:
    slots = Slots(slot, slot)
    return next_step(
        plan, known, reads, now=now, slots=slots, not_before=not_before, live=live, reviewing=reviewing
    )


A, LOOSER, TIGHTER = SETTINGS["A"], setting("5000/2000/400"), setting("5000/2000/50")


@pytest.mark.parametrize("not_before", [NEVER_BACKED_OFF, 1000.0, 1000.5])
def test_a_pass_that_reads_live_begins_with_a_read_whatever_the_plan(not_before: float) -> None:
    step = step_of(plan_of({BTC: A}), {}, Reads(), not_before=not_before)
    assert step == (ReadLive() if not_before <= 1000.0 else Wait(not_before, WaitReason.BACK_OFF))


@pytest.mark.parametrize("took_s", [0.0, 2.5, 5.0, 10.0])
@pytest.mark.parametrize(
    ("ended_at", "expected"), [(998.0, ReadLive()), (998.001, "send"), (1000.0, "send")]
)
def test_the_read_before_a_request_ended_less_than_two_seconds_ago_however_long_it_took(
    ended_at: float, took_s: float, expected: object
) -> None:
    live = replace(read(ended_at - took_s, {BTC: row("5000/2000/400")}), took_s=took_s)
    plan = plan_of({BTC: A}, {}, Reads(live))
    step = step_of(plan, {}, Reads(live), slot=1000.0)
    assert step == expected or (expected == "send" and step == Send(plan.requests[0], 1000.0))


@pytest.mark.parametrize(
    ("repeated", "wait_s"), [(0, 1.0), (6, 1.0), (7, 1.0), (8, 2.0), (9, 4.0), (40, 30.0)]
)
def test_a_read_that_directly_follows_a_read_is_spaced_out(repeated: int, wait_s: float) -> None:
    known = {BTC: confirmed("5000/2000/400", at=999.6)}
    reads = Reads(read(999.5, {BTC: row("5000/2000/400")}), frozenset({BTC}), repeated)
    plan = plan_of({BTC: A}, known, reads)
    assert step_of(plan, known, reads) == Wait(999.5 + wait_s, WaitReason.SECOND_READ)
    if wait_s < 2.0:
        assert step_of(plan, known, reads, now=999.5 + wait_s) == ReadLive(repeated=True)


@pytest.mark.parametrize(("slot", "reads_live"), [(0.0, False), (1010.0, False), (0.0, True)])
def test_after_a_failure_nothing_is_sent_before_its_pause_is_over(slot: float, reads_live: bool) -> None:
    reads = Reads(read(999.5, {BTC: row("5000/2000/400")})) if reads_live else Reads()
    plan = plan_of({BTC: A}, {}, reads)
    step = step_of(plan, {}, reads, slot=slot, not_before=1000.5, live=reads_live)
    assert step == Wait(1010.0 - 1.0 if slot else 1000.5, WaitReason.SLOT if slot else WaitReason.BACK_OFF)


def test_a_doubtful_family_holds_up_nothing_but_a_review() -> None:
    rows = {BTC: row("5000/2000/400"), ETH: row("5000/2000/50")}
    known: dict[Family, Known] = {ETH: confirmed("5000/2000/100", at=999.0)}
    reads = Reads(read(999.5, rows))
    plan = plan_of({BTC: A, ETH: A}, known, reads)
    assert plan.doubtful == (ETH,)
    assert step_of(plan, known, reads) == Send(plan.requests[0], 1000.0)
    assert step_of(plan, known, reads, slot=1005.0) == Wait(1000.5, WaitReason.SECOND_READ)
    assert step_of(plan, known, reads, slot=1005.0, now=1000.5) == ReadLive(repeated=True)
    assert step_of(plan, known, reads, reviewing=True) == Wait(1000.5, WaitReason.SECOND_READ)
    adopting = Reads(read(999.5, rows | {BTC: row("5000/2000/100")}))
    plan = plan_of({BTC: A, ETH: A}, known, adopting)
    assert step_of(plan, known, adopting) == Adopt({BTC: A})


def test_a_missing_family_is_read_alone_once_per_list_and_at_most_once_a_second() -> None:
    wanted = {BTC: A, ETH: A}
    known: dict[Family, Known] = {family: confirmed("5000/2000/100") for family in wanted}
    reads = Reads(read(999.5, {}))

    def step_at(now: float) -> Step:
        return step_of(plan_of(wanted, known, reads, now=now), known, reads, now=now)

    assert step_at(999.6) == ReadFamily(BTC)
    reads = reads.without_answer(BTC, 999.7)
    assert step_at(999.8) == Wait(1000.7, WaitReason.SECOND_READ)
    assert step_at(1000.7) == ReadFamily(ETH)
    reads = reads.without_answer(ETH, 1000.8)
    assert step_at(1000.9) == ReadLive(repeated=True)
    reads = reads.push(read(1001.0, {}), repeated=True)
    assert step_at(1001.1) == Wait(1001.8, WaitReason.SECOND_READ)
    assert step_at(1001.8) == ReadFamily(BTC)


def test_open_attempts_that_are_over_are_ended_on_record_first() -> None:
    known: dict[Family, Known] = {
        BTC: Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/400", effect_until=940.0),))
    }
    reads = Reads(read(999.5, {BTC: row("5000/2000/50")}))
    plan = plan_of({BTC: A}, known, reads)
    assert step_of(plan, known, reads) == EndAttempts((BTC,))


def tried(count: int, wanted: Setting) -> Tries:
    return Tries(wanted, count, last_at=1000.0 - 10.0)  # its back-off has just ended


@pytest.mark.parametrize(
    ("families", "tries", "sent", "keep_free"),
    [
        ({BTC: A}, {}, BTC, 0),
        ({BTC: A}, {BTC: 1}, BTC, 0),  # a tightening alone may take the last slot
        ({BTC: A, ETH: A}, {BTC: 1}, ETH, 0),  # beside another one a retry may not
        ({BTC: A, ETH: TIGHTER}, {BTC: 1, ETH: 1}, BTC, 1),
        ({BTC: LOOSER}, {}, BTC, 0),
        ({BTC: LOOSER}, {BTC: 1}, BTC, 1),  # the retry of a loosening never takes the last one
        ({BTC: LOOSER, ETH: TIGHTER}, {BTC: 1}, ETH, 0),
    ],
    # what waited 30 s past its back-off may take the last slot: see below
)
def test_retries_leave_a_slot_for_what_waits(
    families: dict[Family, Setting], tries: dict[Family, int], sent: Family, keep_free: int
) -> None:
    live = {family: row("5000/2000/200") for family in families}
    rules = PlanConstraints(
        retries=RetryRecord({one: tried(count, families[one]) for one, count in tries.items()})
    )
    plan = plan_of(families, {}, Reads(read(999.5, live)), rules)
    following = next_request(plan, now=1000.0, slots=Slots(1000.0, 1035.0))
    assert following is not None
    assert (following.change.family, following.keep_free) == (sent, keep_free)
    assert following.at == (1035.0 if keep_free else 1000.0)


@pytest.mark.parametrize(("wanted", "keep_free"), [(A, 0), (LOOSER, 1)])
def test_what_loosens_leaves_the_last_slot_while_any_request_is_unanswered(
    wanted: Setting, keep_free: int
) -> None:
    """Else two loosenings without an answer would take both slots of the next urgent change for 45 s."""
    plan = plan_of({BTC: wanted}, {}, Reads(read(999.5, {BTC: row("5000/2000/200")})))
    following = next_request(plan, now=1000.0, slots=Slots(1000.0, 1035.0, unanswered=True))
    assert following is not None
    assert (following.keep_free, following.at) == (keep_free, 1035.0 if keep_free else 1000.0)


@pytest.mark.parametrize("answer", ["a row", "no row", "a failure"])
def test_reads_of_one_family_alone_are_a_second_apart_whatever_the_last_one_showed(answer: str) -> None:
    families = {BTC: A, ETH: A}
    rows = {family: SeenRow(row("5000/2000/400"), 900.0) for family in families}
    reads = Reads(rows=rows).push(read(998.0, {}))
    found = read(998.5, {BTC: row("5000/2000/400")} if answer == "a row" else {})
    reads = reads.without_answer(BTC, 998.5) if answer == "a failure" else reads.with_family(BTC, found)
    known: dict[Family, Known] = {family: confirmed("5000/2000/400") for family in families}

    def step_at(now: float) -> Step:
        plan = plan_of(families, known, reads, now=now)
        return step_of(plan, known, reads, now=now, slot=2000.0)

    assert step_at(999.0) == Wait(999.5, WaitReason.SECOND_READ)
    assert step_at(999.5) == ReadFamily(ETH)


@pytest.mark.parametrize(
    ("wanted", "count", "wait_s"),
    [
        *((A, count, wait_s) for count, wait_s in ((1, 10), (2, 45), (3, 90), (4, 120), (9, 120))),
        *((LOOSER, count, wait_s) for count, wait_s in ((1, 10), (4, 120), (5, 240), (6, 480), (8, 600))),
    ],
)
@pytest.mark.parametrize("success_since", [False, True])
def test_each_family_has_its_own_back_off_and_any_success_ends_all(
    wanted: Setting, count: int, wait_s: float, success_since: bool
) -> None:
    record = RetryRecord({BTC: Tries(wanted, count, 990.0, ended_at=990.5 if success_since else None)})
    reads = Reads(read(999.5, {BTC: row("5000/2000/200")}))
    plan = plan_of({BTC: wanted}, {}, reads, PlanConstraints(retries=record))
    ready_at = 1000.0 if success_since else 990.0 + wait_s
    step = step_of(plan, {}, reads)
    assert step == (
        Send(plan.requests[0], 1000.0, int(wanted is LOOSER))
        if ready_at <= 1000.0
        else Wait(ready_at, WaitReason.BACK_OFF)
    )


def test_of_several_unknowns_the_earliest_is_waited_for_and_then_read() -> None:
    acked = confirmed("5000/2000/100", at=990.0, attempt=9)
    known: dict[Family, Known] = {
        family: Uncertain(acked, (unresolved("5000/2000/400", reserved_at=985.0, effect_until=until),))
        for family, until in ((BTC, 1020.0), (ETH, 1025.0))
    }
    rows = {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}
    reads = Reads(read(999.0, rows))

    def step_at(now: float) -> Step:
        return step_of(plan_of({BTC: A, ETH: A}, known, reads, now=now), known, reads, now=now)

    assert step_at(1000.0) == Wait(1026.0, WaitReason.UNCONFIRMED)
    assert step_at(1025.0) == Wait(1026.0, WaitReason.UNCONFIRMED)
    assert step_at(1026.0) == ReadLive(repeated=True)


def test_what_has_no_definite_answer_is_read_back_at_once_and_then_waits_for_its_back_off() -> None:
    known: dict[Family, Known] = {
        BTC: Uncertain(None, (unresolved("5000/2000/100", reserved_at=999.0, effect_until=1034.0),))
    }
    rules = PlanConstraints(retries=RetryRecord({BTC: Tries(A, 1, 999.0)}))

    def step_after(reads: Reads) -> Step:
        return step_of(plan_of({BTC: A}, known, reads, rules), known, reads)

    assert step_after(Reads(read(998.9, {}))) == ReadLive()
    assert step_after(Reads(read(999.9, {}))) == Wait(1009.0, WaitReason.BACK_OFF)
    assert step_after(Reads(read(999.9, {BTC: row("5000/2000/100")}))) == Adopt({BTC: A})
