"""The plan of a dry run: reads live settings until nothing is in doubt, and cannot send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.events import Observe, OddRowsSeen
from reconciler.core.evidence import Reads, SeenRow
from reconciler.core.model import Desired, Family, Known, LiveRead
from reconciler.core.pacing import Ledger
from reconciler.core.pass_step import Done, ReadFamily, ReadLive, Slots, Wait, next_step
from reconciler.core.plan import Doubts, Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.reply import Reply
from reconciler.ports import Clock, Exchange

REVIEW_WAIT_S = 10.0
"""How long the plan shown for a review waits for doubtful families; then they are named as held. A read
lags by 5 s at most, so a family that is doubtful after that will not be known soon."""


async def plan_dry_run(
    desired: Desired,
    *,
    known: Mapping[Family, Known],
    last_rows: Mapping[Family, SeenRow],
    ledger: Ledger,
    exchange: Exchange | None,
    clock: Clock,
    rules: PlanConstraints,
    assume_idle: bool = False,
    observe: Observe = lambda _: None,
) -> Plan | Reply:
    """Return the plan of a dry run: it reads until nothing is doubtful, and has no client that can send.

    ``exchange`` None compares only with last applied. A Reply means live could not be read. ``observe`` is
    called with the rows that the plan leaves out.
    """
    reads, began_at = Reads(rows=last_rows), clock.now()
    while True:
        now = clock.now()
        doubting = exchange is not None and now < began_at + REVIEW_WAIT_S
        doubts = Doubts.LEAVE_OUT if doubting else Doubts.HOLD
        rules = replace(rules, doubts=doubts, reads_live=exchange is not None)
        plan = make_plan(desired, known, reads, rules, now)
        step = _reading_step(plan, known, reads, now) if doubting else Done()
        match step:
            case Wait(until):
                await _pause_fully(clock, until)
            case ReadLive() | ReadFamily():
                assert exchange is not None
                answer = await read_for(step, exchange)
                if isinstance(answer, Reply) and isinstance(step, ReadLive):
                    return answer
                reads = with_answer(reads, step, answer, clock.now())
            case _:
                if reads.latest is not None and (odd := odd_rows(reads.latest)).any:
                    observe(odd)
                return with_schedule(plan, ledger, now, assume_idle=assume_idle)


def _reading_step(
    plan: Plan, known: Mapping[Family, Known], reads: Reads, now: float
) -> ReadLive | ReadFamily | Wait | Done:
    """Return the read that the plan needs before it may be shown; ``Done`` when it needs none."""
    if reads.latest is not None and not plan.doubtful:
        return Done()
    step = next_step(
        plan,
        known,
        reads,
        now=now,
        slots=Slots(now, now),
        not_before=float("-inf"),
        live=True,
        reviewing=True,
    )
    assert isinstance(step, ReadLive | ReadFamily | Wait | Done)
    return step


async def _pause_fully(clock: Clock, until: float) -> None:
    while clock.now() < until:
        await clock.sleep_until(until)


async def read_for(step: ReadLive | ReadFamily, exchange: Exchange) -> LiveRead | Reply:
    """Return the exchange's answer to the read that ``step`` asks for."""
    if isinstance(step, ReadFamily):
        return await exchange.read_family(step.family)
    return await exchange.read_live()


def with_answer(reads: Reads, step: ReadLive | ReadFamily, answer: LiveRead | Reply, now: float) -> Reads:
    """Return the reads with one more answer, or with the failure of one family's read."""
    match step, answer:
        case ReadFamily(family), LiveRead():
            return reads.with_family(family, answer)
        case ReadFamily(family), _:
            return reads.without_answer(family, now)
        case ReadLive(repeated), LiveRead():
            return reads.push(answer, repeated=repeated)
        case _:
            return reads


def odd_rows(read: LiveRead) -> OddRowsSeen:
    """Return the rows of a read that the plan leaves out."""
    return OddRowsSeen(tuple(sorted(read.odd_names.values())), read.nameless)
