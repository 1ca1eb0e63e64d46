"""What a pass does next, over a small world: never a hasty request, never a standstill, never a spin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from reconciler.core.events import Cause
from reconciler.core.evidence import Reads
from reconciler.core.model import Family, Known, Uncertain
from reconciler.core.plan import Action, Plan, Rules
from reconciler.core.step import Adopt, Read, Send, Settled, Step, Wait, next_step
from tests.unit.core_builders import BTC, ETH, confirmed, plan_of, read, row, unresolved
from tests.unit.core_world import SETTINGS, Record, known_of, last_act, reads_of, records, sights

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
        return latest.begun_at > self.now - FRESH_S and (
            self.record == Record(None) or latest.begun_at > last_act(self.record)
        )

    def step(self) -> Step:
        known = None if self.record == Record(None) else known_of(self.record)
        return next_step(
            self.plan,
            known,
            self.reads,
            now=self.now,
            slot=self.slot,
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
            rules = Rules(paused=frozenset({BTC} if paused else ()))
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
            assert max(now, moment.slot) == at <= now + CLOSE_S
            assert now >= moment.not_before
            assert not plan.doubtful
            assert not moment.adoptable
            assert moment.fresh or not moment.live
        case Wait(until, Cause.SLOT):
            assert now < until == moment.slot - CLOSE_S
            assert plan.requests
        case Wait(until, Cause.BACK_OFF):
            assert now < until == moment.not_before
        case Wait(until, Cause.SECOND_READ):
            assert now < until <= now + BETWEEN_READS_S
            assert moment.live
        case Wait(until, Cause.UNCONFIRMED):
            assert now < until
            assert not plan.requests
            assert moment.awaited
        case Read():
            assert moment.live
            assert now >= moment.not_before
            latest = moment.reads.latest
            assert latest is None or now - latest.begun_at >= BETWEEN_READS_S or not moment.fresh
        case Adopt(settings):
            assert settings == {BTC: SETTINGS["A"]}
            assert moment.reads.latest is not None
            assert not plan.requests
        case Settled():
            assert not plan.requests
            assert not plan.doubtful
            assert not moment.adoptable
            assert not moment.awaited
        case _:
            raise AssertionError(step)
    return type(step)


@pytest.mark.unmeasured
def test_every_step_of_the_world_is_safe_and_moves_on() -> None:
    reached = set()
    for moment in moments():
        try:
            reached.add(check(moment))
        except AssertionError as broken:
            raise AssertionError(moment) from broken
    assert reached == {Adopt, Read, Wait, Send, Settled}


@pytest.mark.parametrize("not_before", [NEVER_BACKED_OFF, 1000.0, 1000.5])
def test_a_pass_that_reads_live_begins_with_a_read_whatever_the_plan(not_before: float) -> None:
    plan = plan_of({BTC: SETTINGS["A"]})
    step = next_step(plan, None, Reads(), now=1000.0, slot=0.0, not_before=not_before, live=True)
    assert step == (Read() if not_before <= 1000.0 else Wait(not_before, Cause.BACK_OFF))


@pytest.mark.parametrize(
    ("begun_at", "expected"),
    [(998.0, Read()), (998.001, "send"), (1000.0, "send")],
    ids=["two seconds old", "just younger", "now"],
)
def test_the_read_before_a_request_is_younger_than_two_seconds(begun_at: float, expected: object) -> None:
    reads = Reads(read(begun_at, {BTC: row("5000/2000/400")}))
    plan = plan_of({BTC: SETTINGS["A"]}, {}, reads)
    step = next_step(plan, None, reads, now=1000.0, slot=1000.0, not_before=NEVER_BACKED_OFF, live=True)
    assert step == expected or (expected == "send" and step == Send(plan.requests[0], 1000.0))


@pytest.mark.parametrize(("slot", "reads_live"), [(0.0, False), (1010.0, False), (0.0, True)])
def test_after_a_failure_nothing_is_sent_before_its_pause_is_over(slot: float, reads_live: bool) -> None:
    reads = Reads(read(999.5, {BTC: row("5000/2000/400")})) if reads_live else Reads()
    plan = plan_of({BTC: SETTINGS["A"]}, {}, reads)
    step = next_step(plan, None, reads, now=1000.0, slot=slot, not_before=1000.5, live=reads_live)
    assert step == Wait(1000.5, Cause.BACK_OFF)


def test_adopting_comes_before_sending_and_after_a_second_read() -> None:
    rows = {BTC: row("5000/2000/100"), ETH: row("5000/2000/400")}
    known: Known = confirmed("5000/2000/100", at=999.0)
    reads = Reads(read(999.5, rows))
    doubtful = plan_of({BTC: SETTINGS["A"], ETH: SETTINGS["A"]}, {ETH: known}, reads)
    sure = plan_of({BTC: SETTINGS["A"], ETH: SETTINGS["A"]}, {}, reads)
    assert doubtful.doubtful
    assert sure.requests
    for plan, then in ((doubtful, Wait(1000.5, Cause.SECOND_READ)), (sure, Adopt({BTC: SETTINGS["A"]}))):
        step = next_step(plan, known, reads, now=1000.0, slot=0.0, not_before=NEVER_BACKED_OFF, live=True)
        assert step == then


def test_of_several_unknowns_the_earliest_is_waited_for_and_then_read() -> None:
    acked = confirmed("5000/2000/100", at=990.0, attempt=9)
    known: dict[Family, Known] = {
        family: Uncertain(acked, (unresolved("5000/2000/400", reserved_at=985.0, effect_until=until),))
        for family, until in ((BTC, 1020.0), (ETH, 1025.0))
    }
    rows = {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}
    reads = Reads(read(999.0, rows))

    def step_at(now: float) -> Step:
        plan = plan_of({BTC: SETTINGS["A"], ETH: SETTINGS["A"]}, known, reads, now=now)
        return next_step(plan, None, reads, now=now, slot=0.0, not_before=NEVER_BACKED_OFF, live=True)

    assert step_at(1000.0) == Wait(1026.0, Cause.UNCONFIRMED)
    assert step_at(1025.0) == Wait(1026.0, Cause.UNCONFIRMED)
    assert step_at(1026.0) == Read()
