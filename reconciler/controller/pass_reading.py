"""The part of a pass that reads live settings, records what a read proves, and waits."""

from __future__ import annotations

from reconciler.controller.dry_run import odd_rows, read_for, with_answer
from reconciler.controller.pass_values import End, PassContext, RequeueAt, Stopped
from reconciler.core import events
from reconciler.core.apply_result import Outcome
from reconciler.core.model import Family, LiveRead, Setting
from reconciler.core.pass_step import ReadFamily, ReadLive
from reconciler.core.plan import Change, Plan, first_records
from reconciler.core.policy_rules import unfit
from reconciler.core.reply import Reply, terminal_action
from reconciler.core.retry import retry_after_s

MAX_REPEATED_READS = 8
"""After so many reads in a row without a request ``run`` releases the lock, so others can take it."""

KEEPS_LOCK_S = 1.5
"""With ``wait_in_pass`` a pass keeps the lock for waits up to this length, as for a second read."""


async def adopt(ctx: PassContext, plan: Plan, settings: dict[Family, Setting]) -> None:
    """Record the settings that the latest read shows in force already."""
    assert ctx.reads.latest is not None
    file, begun_at = await ctx.file_to_record(), ctx.reads.latest.begun_at
    changes = [change for change in plan.changes if change.family in settings]
    accepting = {change.family: one for change in changes if (one := ctx.accepting(change))}
    recorded = await ctx.store.adopt(settings, read_begun_at=begun_at, file=file, accepting=accepting)
    adopted = {family: one for family, one in settings.items() if family in recorded}
    for family in adopted:
        ctx.memory.done.setdefault(family, Outcome.ADOPTED)
    if adopted:
        first = first_records(one for one in changes if one.family in adopted)
        ctx.observe(events.Adopted(adopted, unfit(first, ctx.options.policy().policy)))
    if len(adopted) < len(settings):
        ctx.forget_reads()  # another process wrote since: only a new read shows live


async def end_attempts(ctx: PassContext, families: tuple[Family, ...]) -> None:
    """End the unanswered requests of families, which the latest read shows to be over."""
    assert ctx.reads.latest is not None
    await ctx.store.end_attempts(families, read_begun_at=ctx.reads.latest.begun_at)
    ctx.observe(events.AttemptsEnded(families))


async def read(ctx: PassContext, step: ReadLive | ReadFamily) -> End | None:
    """Read live. A failed list backs off; a failed read of one family is reported and retried later."""
    # Later reads start after the suspension. A read of one family needs the list that it adds to.
    if ctx.notice_suspension() and isinstance(step, ReadFamily):
        return None
    answer = await read_for(step, ctx.exchange)
    ctx.family_reads += isinstance(step, ReadFamily)
    if isinstance(answer, Reply) and isinstance(step, ReadLive):
        return back_off(ctx, events.READING_LIVE, answer)
    if isinstance(answer, Reply):
        ctx.observe(events.ReadFailed(events.READING_FAMILY, answer))
    ctx.take_reads(with_answer(ctx.reads, step, answer, ctx.clock.now()))
    if isinstance(step, ReadLive) and isinstance(answer, LiveRead):
        ctx.memory.failures, ctx.proved = 0, {}
        await ctx.store.record_live(answer, last_seen=ctx.reads.last_seen_of_missing())
        ctx.observe(events.LiveReadDone(answer))
        _report_odd_rows(ctx, answer)
    ctx.notice_suspension()
    return None


def _report_odd_rows(ctx: PassContext, read: LiveRead) -> None:
    """Report rows that are left out, once while they stay the same."""
    odd = odd_rows(read)
    if odd != ctx.memory.odd_rows and odd.any:
        ctx.observe(odd)
    ctx.memory.odd_rows = odd


async def wait(ctx: PassContext, plan: Plan, until: float, cause: events.WaitReason) -> End | None:
    """Wait, or end the pass where the wait must not keep the lock."""
    first = plan.requests[0].family if plan.requests else None
    done_at = max(until, ctx.clock.now() + plan.eta_s)
    ctx.observe(events.Waiting(until, cause, first, len(plan.requests), done_at))
    if not _keeps_lock(ctx, plan, until, cause):
        if ctx.options.wait_in_pass and ctx.review is None:
            await ctx.file_to_record()  # only a file that changes after this is newer
        return RequeueAt(until, cause)
    await ctx.clock.sleep_until(min(until, ctx.deadline))
    ctx.notice_suspension()
    return None


def _keeps_lock(ctx: PassContext, plan: Plan, until: float, cause: events.WaitReason) -> bool:
    """Tell whether a wait keeps the lock.

    In ``run`` only a short wait for a second read does. In ``apply`` every wait does, unless all
    remaining families failed before: they may fail for long, and ``run`` must be able to send an urgent
    change.
    """
    if ctx.options.wait_in_pass:
        left = plan.requests
        retries = ctx.review is None and bool(left) and all(_has_failed(ctx, one) for one in left)
        return not retries or min(until, ctx.deadline) <= ctx.clock.now() + KEEPS_LOCK_S
    reads = ctx.reads.repeated + ctx.family_reads
    return cause is events.WaitReason.SECOND_READ and reads < MAX_REPEATED_READS


def _has_failed(ctx: PassContext, change: Change) -> bool:
    """Tell whether a request failed before, in this pass or on record.

    A refusal by the rate limit does not count: then only the pacing delays the next try.
    """
    tries = ctx.retries.tries.get(change.family)
    recorded = tries is not None and tries.setting == change.after and not tries.limited
    return recorded or change.family in ctx.failed_here


def back_off(ctx: PassContext, doing: str, reply: Reply) -> End | None:
    """Back off after a failure, or stop if the failure concerns the account or the key."""
    stop = terminal_action(reply)
    if stop is not None:
        ctx.observe(events.ExchangeFailed(doing, reply, None))
        return Stopped(stop, reply)
    ctx.failing = reply
    retry_at = ctx.clock.now() + retry_after_s(reply, ctx.memory.failures)
    ctx.memory.failures += 1
    ctx.memory.not_before = retry_at
    ctx.observe(events.ExchangeFailed(doing, reply, retry_at))
    return None if ctx.options.wait_in_pass else RequeueAt(retry_at, events.WaitReason.BACK_OFF)
