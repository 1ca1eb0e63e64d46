"""The part of a pass that sends one request: decide again, reserve, send once, settle."""

from __future__ import annotations

from typing import assert_never

from reconciler.controller.pass_planning import plan_again
from reconciler.controller.pass_reading import back_off
from reconciler.controller.pass_values import End, PassContext, RejectedSetting, Stopped
from reconciler.core import events
from reconciler.core.apply_result import Outcome
from reconciler.core.live_evidence import newest_file
from reconciler.core.model import Family, NeverApplied
from reconciler.core.pacing import LATEST_ARRIVAL_S, SEND_DEADLINE_S
from reconciler.core.pass_step import Send, next_request
from reconciler.core.pauses import record_heal
from reconciler.core.plan import Change, Reason
from reconciler.core.reply import (
    STOPPING,
    AttemptStatus,
    Reply,
    ReplyClass,
    ReplyHandling,
    ReplyVerdict,
    interpret_reply,
)
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, SignedRequest
from reconciler.core.retry import Rejection, back_off_s, rejected_again_after_s

TOO_LATE_S = 10.0
"""How late a request may still be reserved: a connection may take that long to open. Later (a suspended
process, a busy state) the pass decides again, because its read is outdated. The reservation itself checks
the time again, after all its waits."""

RECHECK_S = 1.0
"""How long a change that loosens waits while the file or policy has new content that is not decided on
yet. Two equal reads, 1 s apart, decide: it is accepted, or invalid."""

MAX_RECHECK_S = 15.0
"""The longest of these waits, which double each time: writing the file may take long."""


async def send(ctx: PassContext, step: Send) -> End | None:
    """Open, wait for the slot, decide again, reserve, send once, settle; in any doubt plan again."""
    connection = await ctx.exchange.open()
    if isinstance(connection, Reply):
        # Successful reads reset `failures`; the count of unsent requests keeps this back-off growing.
        ctx.memory.failures = max(ctx.memory.failures, _count_unsent(ctx, step.change.family))
        return back_off(ctx, "connecting", connection)
    try:
        slot = await _reserve_slot(ctx, step)
        if slot is None:
            return None
        request, reserved = slot
        ctx.observe(
            events.RequestReserved(reserved.attempt, request.family, request.setting, reserved.reserved_at)
        )
        reply = await connection.send(request, deadline=reserved.reserved_at + SEND_DEADLINE_S)
    finally:
        await connection.close()
    return await _settle(ctx, step.change, reserved, reply)


async def _reserve_slot(ctx: PassContext, step: Send) -> tuple[SignedRequest, Reservation] | None:
    """Wait for the slot, decide again, and reserve; None: plan again."""
    await ctx.clock.sleep_until(step.at)
    files_settled = await ctx.options.files_settled()
    if ctx.notice_suspension() or _must_plan_again(ctx, step):
        return None
    file = await ctx.file_to_record()
    if await _record_overrides(ctx) and _must_plan_again(ctx, step):
        return None  # recording took long
    change = await _replanned_request(ctx, step.change)
    if change is None or ctx.notice_suspension():
        return None
    if not files_settled and not change.protective:
        _wait_for_files(ctx, change)
        return None
    ctx.memory.files_unsettled = 0
    request, policy = ctx.exchange.sign(change.family, change.after), ctx.options.policy()
    file = ctx.memory.file or file  # the last plan may have accepted another file version
    if change.other_file:
        # The newest file version stays on record.
        file = newest_file(ctx.known.get(change.family, NeverApplied()))
    slot = await ctx.store.reserve(
        request,
        ReserveOptions(
            assume_idle=ctx.options.assume_idle,
            by=step.at + TOO_LATE_S,
            file=file,
            keep_free=step.keep_free,
            accepting=ctx.accepting(change),
        ),
    )
    if not isinstance(slot, Reservation):
        _report_if_late(ctx, step)
        return None
    changed = ctx.desired() != ctx.wanted or ctx.options.policy() != policy
    if changed or ctx.notice_suspension():
        await _take_back(ctx, slot)  # the reservation may have waited long for the state
        return None
    return request, slot


def _wait_for_files(ctx: PassContext, change: Change) -> None:
    """Delay a change that loosens, longer each time: file or policy has content not accepted yet."""
    wait_s = min(MAX_RECHECK_S, RECHECK_S * 2**ctx.memory.files_unsettled)
    ctx.memory.files_unsettled = min(ctx.memory.files_unsettled + 1, 10)
    ctx.memory.wait_until[change.family, change.after] = ctx.clock.now() + wait_s
    ctx.observe(events.FilesStillWritten(change.family, wait_s))


async def _take_back(ctx: PassContext, slot: Reservation) -> None:
    """Record that nothing was sent for a reservation."""
    why = "file or policy changed, or the machine was suspended, before it was sent"
    status = AttemptStatus.NOT_SENT
    await ctx.store.settle(
        slot.attempt,
        AttemptResult(status, definite=False, limited=False, code="changed", message=why, tried=False),
    )


async def _replanned_request(ctx: PassContext, change: Change) -> Change | None:
    """Return the request if it is still first by file, policy and state, else None; no live read."""
    plan, slots = await plan_again(ctx)
    following = next_request(plan, now=ctx.clock.now(), slots=slots)
    if following is None:
        return None
    now = following.change
    same = (now.family, now.before, now.after) == (change.family, change.before, change.after)
    return now if same else None


def _must_plan_again(ctx: PassContext, step: Send) -> bool:
    """Tell whether to decide again instead of sending: too early, too late, stopped, or a new key."""
    early = ctx.clock.now() < step.at
    return early or _report_if_late(ctx, step) or ctx.stopping() or ctx.exchange.key_changed()


def _report_if_late(ctx: PassContext, step: Send) -> bool:
    """Report a request that is too late; return whether it is."""
    late_s = ctx.clock.now() - step.at
    if late_s > TOO_LATE_S:
        ctx.observe(events.RequestTooLate(step.change.family, late_s))
    return late_s > TOO_LATE_S


async def _record_overrides(ctx: PassContext) -> bool:
    """Record the overrides that this plan needed, before a request that depends on them is sent.

    Each field and value is recorded. Returns whether anything was recorded.
    """
    assert ctx.plan is not None
    changes = {change.family: change.field_words for change in ctx.plan.changes}
    before = len(ctx.memory.overridden)
    for refusal in ctx.plan.overridden:
        values = changes.get(refusal.family, "")
        key = refusal.override, refusal.rule, refusal.field, values
        if key not in ctx.memory.overridden:
            of = f" ({values})" if values else ""
            text = f"{refusal.kind.value}: {refusal.sentence}{of}"
            await ctx.store.record_override(refusal.family, refusal=text, reason=ctx.options.reason)
            ctx.memory.overridden.add(key)
    return len(ctx.memory.overridden) > before


async def _settle(ctx: PassContext, change: Change, slot: Reservation, reply: Reply) -> End | None:
    verdict = interpret_reply(change.family, change.after, reply)
    await ctx.store.settle(
        slot.attempt,
        AttemptResult(
            verdict.status,
            definite=verdict.proves_arrival,
            limited=reply.reply_class is ReplyClass.RATE_LIMITED,
            code=reply.code,
            message=reply.message,
            tried=reply.reply_class not in STOPPING | {ReplyClass.NOT_SENT},
        ),
    )
    ctx.memory.attempts[change.family] = ctx.memory.attempts.get(change.family, 0) + 1
    if reply.reply_class is not ReplyClass.NOT_SENT:
        ctx.memory.unsent.pop(change.family, None)
    if verdict.proves_arrival and reply.reply_class is not ReplyClass.CLOCK:
        ctx.memory.clock_synced = False
    took = ctx.clock.now() - slot.reserved_at
    if verdict.status is AttemptStatus.APPLIED and took < LATEST_ARRIVAL_S:
        # A reply that took longer may be about a setting no longer in force.
        ctx.proved[change.family] = slot.attempt
    ctx.observe(
        events.RequestSettled(
            slot.attempt, change.family, change.after, verdict.status, reply, took, change.reason
        )
    )
    return await _follow(ctx, change, verdict, reply)


async def _follow(ctx: PassContext, change: Change, verdict: ReplyVerdict, reply: Reply) -> End | None:
    match verdict.next:
        case ReplyHandling.PROCEED:
            return _proceed(ctx, change, verdict, reply)
        case ReplyHandling.BACK_OFF:
            return _family_failed(ctx, change, reply)
        case ReplyHandling.REJECT:
            _reject(ctx, change, reply, only_if_looser=True)
        case ReplyHandling.REJECT_AND_RETRY:
            _reject(ctx, change, reply, only_if_looser=False)
        case ReplyHandling.SYNC_CLOCK:
            return await _sync_clock(ctx, reply)
        case ReplyHandling.STOP_ACCOUNT | ReplyHandling.STOP_ENVIRONMENT | ReplyHandling.STOP_BUG:
            return Stopped(verdict.next, reply)
        case _:
            assert_never(verdict.next)
    return None


def _proceed(ctx: PassContext, change: Change, verdict: ReplyVerdict, reply: Reply) -> End | None:
    if verdict.status is not AttemptStatus.APPLIED:
        return _family_failed(ctx, change, reply)
    ctx.memory.failures, ctx.memory.failed_family = 0, None
    ctx.memory.wait_until.clear()  # the exchange answers again: every family may be tried
    ctx.memory.rejected.pop(change.family, None)
    ctx.memory.done[change.family] = Outcome.APPLIED
    ctx.applied_here[change.family] = change.after
    if change.reason is Reason.DRIFTED:
        now = ctx.clock.now()
        ctx.memory.heals = record_heal(ctx.memory.heals, change.family, change.after, now)
    return None


def _family_failed(ctx: PassContext, change: Change, reply: Reply) -> End | None:
    """Back off the failing family; when two families fail in a row, the account backs off.

    A request that could not be sent is no attempt on record, so its back-off is counted here.
    """
    before, ctx.memory.failed_family = ctx.memory.failed_family, change.family
    if reply.reply_class is not ReplyClass.RATE_LIMITED:
        ctx.failed_here.add(change.family)
    wait_s = reply.retry_after_s
    if reply.reply_class is ReplyClass.NOT_SENT:
        wait_s = max(wait_s or 0.0, back_off_s(_count_unsent(ctx, change.family)))
    if wait_s is not None:
        ctx.memory.wait_until[change.family, change.after] = ctx.clock.now() + wait_s
    if before not in (None, change.family):
        return back_off(ctx, f"setting {change.family}", reply)
    ctx.failing = reply
    return None


def _count_unsent(ctx: PassContext, family: Family) -> int:
    """Count one more request of a family that could not be sent; return the count before."""
    before = ctx.memory.unsent.get(family, 0)
    ctx.memory.unsent[family] = before + 1
    return before


def _reject(ctx: PassContext, change: Change, reply: Reply, *, only_if_looser: bool) -> None:
    """Remember that the exchange rejected a setting, and when it may be tried again."""
    before = ctx.memory.rejected.get(change.family)
    again = before is not None and before.rejection.setting == change.after
    times = before.times + 1 if before is not None and again else 1
    retry_at = ctx.clock.now() + rejected_again_after_s(times)
    rejection = Rejection(change.after, retry_at, only_if_looser)
    ctx.memory.rejected[change.family] = RejectedSetting(rejection, reply, times)
    ctx.observe(events.SettingRejected(change.family, change.after, reply, retry_at))


async def _sync_clock(ctx: PassContext, reply: Reply) -> End | None:
    """Measure the clock again, once; a second refusal of the timestamp stops the account."""
    if ctx.memory.clock_synced:
        return Stopped(ReplyHandling.STOP_ACCOUNT, reply)
    failed = await ctx.exchange.sync_clock()
    if failed is not None:
        return back_off(ctx, "measuring the exchange's clock", failed)
    ctx.memory.clock_synced = True
    ctx.forget_reads()  # measuring may have taken long
    ctx.observe(events.ClockSynced())
    return None
