"""The plan of a dry run: reads state and live settings until nothing is in doubt, and cannot send."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from reconciler import factories, logs
from reconciler.controller.account_policy import refuse_other, remembered
from reconciler.controller.account_preflight import verify_key_owner, warn_of_clock
from reconciler.controller.family_globs import matching_families
from reconciler.core.events import Observe, OddRowsSeen
from reconciler.core.history_records import PolicyRecord
from reconciler.core.live_evidence import Reads, SeenRow
from reconciler.core.missing_policy import GivenUp
from reconciler.core.model import Desired, Family, Known, LiveRead
from reconciler.core.pacing import Ledger
from reconciler.core.pass_step import Done, ReadFamily, ReadLive, Slots, Wait, next_step
from reconciler.core.pauses import paused
from reconciler.core.plan import Doubts, Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.policy import Policy
from reconciler.core.reply import Reply
from reconciler.core.reservation import RecordedInputs
from reconciler.okx.client import OkxClient
from reconciler.okx.hints import exchange_error
from reconciler.okx.wire import BaseUrl
from reconciler.ports import Clock, Exchange, StateBackend

REVIEW_WAIT_S = 10.0
"""How long the plan shown for a review waits for doubtful families; then they are named as held. A read
lags by 5 s at most, so a family that is doubtful after that will not be known soon."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """The plan of an account, with times as if an apply started now.

    ``uid`` None: neither the exchange nor the state has it. ``missing`` is the recorded policy if its file
    is missing.
    """

    plan: Plan
    uid: str | None
    missing: PolicyRecord | None


async def plan_account(
    desired: Desired,
    policy: Policy | None,
    *,
    state: AbstractAsyncContextManager[StateBackend | None],
    client: OkxClient | None,
    base: BaseUrl,
    clock: Clock,
    globs: tuple[str, ...],
    given_up: GivenUp | None,
) -> DryRun:
    """Return what an apply would do; reads ``state``, which is closed before live is read.

    ``client`` None compares only with last applied; else the key's account is checked against file and
    state. Raises MmpError.
    """
    reads = None if client is None else factories.retrying_reads(client, clock)
    uid, missing = None, None
    last_rows: Mapping[Family, SeenRow] = {}
    recorded = RecordedInputs({}, (), Ledger(empty_since=clock.now()))
    async with state as opened:
        store = opened.account(desired.account, desired.environment, base.kind) if opened else None
        if reads is not None:
            uid = (await verify_key_owner(desired, base, reads, store, writing=False)).uid
        if store is not None:
            snapshot = await store.snapshot()
            uid, ledger = uid or snapshot.uid, snapshot.ledger or recorded.ledger
            pauses, last_rows = await store.pauses(), await store.last_rows()
            recorded = RecordedInputs(await store.known(), pauses, ledger, accepted=snapshot.accepted)
            missing = await store.policy_on_record() if policy is None else None
    refuse_other(missing, given_up)
    missing = missing if given_up is None else None
    constraints = PlanConstraints(
        policy=policy or remembered(missing),
        policy_unreadable=missing is not None,
        only=matching_families(desired, globs),
    )
    observe = logs.observer(desired.account, desired.environment.value, simulator=base.is_simulator)
    try:
        plan = await plan_dry_run(
            desired, recorded, last_rows, constraints, exchange=reads, clock=clock, observe=observe
        )
    finally:
        if client is not None:
            warn_of_clock(client)  # also when the families cannot be read
    now = clock.now()
    return DryRun(with_schedule(plan, _as_of(recorded.ledger, now), now, assume_idle=False), uid, missing)


def _as_of(ledger: Ledger, now: float) -> Ledger:
    """Return the ledger with which an apply started at ``now`` begins.

    That apply waits out an unknown history: the time that this plan took does not count.
    """
    return ledger if ledger.empty_since is None else replace(ledger, empty_since=now)


async def plan_dry_run(
    desired: Desired,
    recorded: RecordedInputs,
    last_rows: Mapping[Family, SeenRow],
    rules: PlanConstraints,
    *,
    exchange: Exchange | None,
    clock: Clock,
    assume_idle: bool = False,
    observe: Observe = lambda _: None,
) -> Plan:
    """Return the plan under ``rules`` and what is recorded, after reading until nothing is doubtful.

    ``exchange`` None compares only with last applied. ``observe`` is called with the rows that the plan
    leaves out. Raises MmpError if live cannot be read.
    """
    reads, began_at, known = Reads(rows=last_rows), clock.now(), recorded.known
    rules = replace(
        rules,
        paused=paused(recorded.pauses, desired),
        applied_before=frozenset(recorded.applied),
        retries=recorded.retries,
        accepted=recorded.accepted,
        wall=clock.wall(),
        reads_live=exchange is not None,
    )
    while True:
        now = clock.now()
        doubting = exchange is not None and now < began_at + REVIEW_WAIT_S
        rules = replace(rules, doubts=Doubts.LEAVE_OUT if doubting else Doubts.HOLD)
        plan = make_plan(desired, known, reads, rules, now)
        step = _reading_step(plan, known, reads, now) if doubting else Done()
        match step:
            case Wait(until):
                await _pause_fully(clock, until)
            case ReadLive() | ReadFamily():
                assert exchange is not None
                answer = await read_for(step, exchange)
                if isinstance(answer, Reply) and isinstance(step, ReadLive):
                    raise exchange_error("live settings could not be read", answer)
                reads = with_answer(reads, step, answer, clock.now())
            case _:
                if reads.latest is not None and (odd := odd_rows(reads.latest)).any:
                    observe(odd)
                return with_schedule(plan, recorded.ledger, now, assume_idle=assume_idle)


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
