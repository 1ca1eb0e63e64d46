"""The part of a pass that plans: reads the state, accepts the file, and makes the plan."""

from __future__ import annotations

from dataclasses import replace

from reconciler.controller.dry_run import REVIEW_WAIT_S
from reconciler.controller.pass_values import PassContext
from reconciler.core.apply_result import Outcome
from reconciler.core.events import Compared, HealBreakerTripped, Planned
from reconciler.core.live_evidence import evidence_of, last_proof, open_attempts
from reconciler.core.model import Family, LiveRow, NeverApplied
from reconciler.core.pacing import earliest_slot
from reconciler.core.pass_step import Slots
from reconciler.core.pauses import active_pauses, forget, obsolete_breaker_pauses, tripped
from reconciler.core.plan import Doubts, Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan

CONTESTED_SETTING = "restored 3 times within 10 minutes, and changed again by another writer"
"""Why the heal breaker paused a family, for people."""


async def plan_again(ctx: PassContext) -> tuple[Plan, Slots]:
    """Plan from the newest file and the state; returns the plan, and when requests may be sent."""
    ctx.wanted = wanted = ctx.desired()
    await _accept_file(ctx)
    recorded = await ctx.store.recorded_inputs()
    # With ``assume_idle`` no unknown request is waited for.
    ledger = replace(recorded.ledger, empty_since=None) if ctx.options.assume_idle else recorded.ledger
    ctx.known, ctx.accepted, ctx.memory.applied = recorded.known, recorded.accepted, recorded.applied
    ctx.retries = replace(recorded.retries, wait_until=ctx.memory.wait_until)
    ctx.reads = ctx.reads.with_record(ctx.known, ctx.proved)
    ctx.pauses = active_pauses(recorded.pauses, wanted)
    ctx.obsolete_pauses = obsolete_breaker_pauses(recorded.pauses, wanted)
    now = ctx.clock.now()
    _forget_rejections(ctx)
    rules = _rules(ctx, now)
    plan = make_plan(wanted, ctx.known, ctx.reads, rules, now)
    ctx.plan = plan = with_schedule(plan, ledger, now, assume_idle=False)
    complete = ctx.is_complete(plan)
    ctx.observe(Compared(wanted, ctx.known, ledger, ctx.pauses, rules, plan, complete, ctx.reads))
    if complete:  # only a read shows that a request is not needed any more
        _report_news(ctx, plan)
        left = {change.family for change in plan.requests}
        ctx.memory.unsent = {one: count for one, count in ctx.memory.unsent.items() if one in left}
    first = earliest_slot(ledger, now, keep_free=1)
    return plan, Slots(earliest_slot(ledger, now), first, unanswered=ledger.unanswered(now))


async def _accept_file(ctx: PassContext) -> None:
    """Record the version of the settings file, if the files of other processes may be newer."""
    file = ctx.memory.file
    if ctx.options.controller and (file is None or file.sha256 != ctx.wanted.sha256):
        changed = file is not None
        ctx.memory.file = await ctx.store.accept_file(ctx.wanted.sha256, changed=changed)


def _forget_rejections(ctx: PassContext) -> None:
    """Forget a setting that the exchange rejected, once live shows it in force."""
    for family, one in tuple(ctx.memory.rejected.items()):
        seen = evidence_of(family, ctx.known.get(family, NeverApplied()), ctx.reads)
        if isinstance(seen, LiveRow) and seen.setting == one.rejection.setting:
            del ctx.memory.rejected[family]


async def pause_contested_families(ctx: PassContext, plan: Plan) -> bool:
    """End obsolete breaker pauses, and pause families that trip the heal breaker; True: plan again."""
    if not ctx.options.heal_breaker:
        return False
    if ctx.obsolete_pauses:
        await ctx.store.clear_heal_breakers(ctx.obsolete_pauses)
    contested = tripped(ctx.memory.heals, plan, ctx.clock.now())
    if contested:
        # The pause ends when the file wants another value, which need not be the one that was restored.
        wanted = {one.family: ctx.wanted.families[one.family].setting for one in contested}
        await ctx.store.pause(wanted, until=None, reason=CONTESTED_SETTING, contested_setting=wanted)
        ctx.memory.heals = forget(ctx.memory.heals, wanted)
    for one in contested:
        ctx.observe(HealBreakerTripped(one.family, one.setting, one.heals))
    return bool(contested)


def _report_news(ctx: PassContext, plan: Plan) -> None:
    """Report a plan that differs from the last reported one; etas change with time and do not count."""
    before, ctx.memory.planned = ctx.memory.planned, plan
    if before is None or _content(plan) != _content(before):
        ctx.observe(Planned(plan))


def _content(plan: Plan) -> tuple[object, ...]:
    changes = ((one.family, one.action, one.because, one.before, one.after) for one in plan.changes)
    return plan.unchanged, *changes


def _rules(ctx: PassContext, now: float) -> PlanConstraints:
    in_force = ctx.options.policy()
    return PlanConstraints(
        drift=ctx.options.drift,
        rejected={family: one.rejection for family, one in ctx.memory.rejected.items()},
        paused=frozenset(pause.family for pause in ctx.pauses),
        policy=in_force.policy,
        policy_unreadable=in_force.unreadable,
        allowed=ctx.options.allowed,
        only=_included(ctx),
        reviewed=ctx.reviewed,
        applied_before=frozenset(ctx.memory.applied),
        retries=ctx.retries,
        file=ctx.memory.file if ctx.options.controller or ctx.released else None,
        controller=ctx.options.controller,
        doubts=_doubts(ctx, now),
        accepted=ctx.accepted,
        wall=ctx.clock.wall(),
        reads_live=ctx.options.live,
    )


def _included(ctx: PassContext) -> frozenset[Family] | None:
    """Return the families that the plan includes; None for all desired families.

    A family that this pass applied, and that another process then wrote, is left to that process:
    otherwise the two would write it in turns.
    """
    applied = [family for family, one in ctx.memory.done.items() if one is Outcome.APPLIED]
    others = {family for family in applied if ctx.released and _is_written_by_other(ctx, family)}
    if not others:
        return ctx.options.only
    only = ctx.options.only
    return (frozenset(ctx.wanted.families) if only is None else only) - others


def _is_written_by_other(ctx: PassContext, family: Family) -> bool:
    """Tell whether the newest proof or attempt of a family applied by this pass has another value."""
    known = ctx.known.get(family, NeverApplied())
    wanted = ctx.applied_here.get(family, ctx.wanted.families[family].setting)
    proof = last_proof(known)
    if proof is None or proof.setting != wanted:
        return proof is not None
    return any(one.setting != wanted and one.attempt > proof.attempt for one in open_attempts(known))


def _doubts(ctx: PassContext, now: float) -> Doubts:
    if ctx.review is not None and now >= ctx.began_at + REVIEW_WAIT_S:
        return Doubts.HOLD
    binds = ctx.review is not None and ctx.options.review_binds
    return Doubts.LEAVE_OUT if binds else Doubts.SEND_PROTECTION
