"""One pass: read live and recorded settings, decide, take one durable step, and plan again.

This file has no rules. :func:`reconciler.core.pass_step.next_step` decides what to do next, the store's
ledger with ``core.pacing`` decides when a request may be sent, and ``core.reply`` interprets replies.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import assert_never

from reconciler.controller.pass_planning import pause_contested_families, plan_again
from reconciler.controller.pass_reading import adopt, end_attempts, read, wait
from reconciler.controller.pass_sending import send
from reconciler.controller.pass_values import (
    Completed,
    End,
    InMemoryState,
    Interrupted,
    NotApproved,
    PassContext,
    PassOptions,
    PassResult,
    RequeueAt,
    Review,
    Stopped,
    TimedOut,
)
from reconciler.core.apply_result import Outcome
from reconciler.core.events import Observe, StateLockTimedOut, WaitReason
from reconciler.core.model import Desired, Uncertain
from reconciler.core.monitoring.status import family_states
from reconciler.core.pass_step import Adopt, Done, EndAttempts, ReadFamily, ReadLive, Send, Wait, next_step
from reconciler.core.plan import Plan
from reconciler.core.saved_plan import in_force_already
from reconciler.errors import StateLocked
from reconciler.ports import Clock, Store, TradingExchange

LOCK_TRY_S = 1.0
"""How long one try to take the lock again lasts. Between tries the stop and the deadline are checked."""


async def reconcile(
    desired: Callable[[], Desired],
    *,
    store: Store,
    exchange: TradingExchange,
    clock: Clock,
    observe: Observe,
    options: PassOptions,
    memory: InMemoryState | None = None,
    review: Review | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> PassResult:
    """Make live as desired, as far as possible now, under the account's lock.

    ``desired`` is called before every step, so a newer file replaces queued changes. With ``wait_in_pass``,
    a pass that has only retries left releases the lock while it waits, takes it again and plans again from
    the state. The store must know the account's User ID (see
    :func:`reconciler.controller.account_preflight.identify`). Raises StateUnusable, and StateLocked if the
    lock could not be taken at the start or was lost.
    """
    async with store.locked(options.purpose):
        ctx = PassContext(
            desired, store, exchange, clock, observe, options, memory or InMemoryState(), review, stopping
        )
        result = await _run(ctx)
    while (
        options.wait_in_pass
        and isinstance(result.end, RequeueAt)
        and result.end.cause is not WaitReason.KEY
    ):
        result = await _resume(ctx, result.end)
    return result


async def _run(ctx: PassContext) -> PassResult:
    """Step until the pass ends."""
    if ctx.options.live and not ctx.memory.reads.rows:
        ctx.take_reads(replace(ctx.reads, rows=await ctx.store.last_rows()))
    while True:
        end = _called_off(ctx)
        if end is not None and ctx.plan is not None:
            await plan_again(ctx)  # the last request may have changed what is left
        end = end or await _step(ctx)
        if end is not None:
            return _result(ctx, end)


async def _resume(ctx: PassContext, later: RequeueAt) -> PassResult:
    """Wait without the lock, take it again, and continue until the pass ends or has to wait again.

    If another process holds the lock, wait until the deadline: the results so far have to be reported.
    """
    ctx.released, ctx.proved = True, {}
    await ctx.clock.sleep_until(min(later.until, ctx.deadline))
    async with AsyncExitStack() as stack:
        end = await _retake_lock(ctx, stack)
        ctx.notice_suspension()
        if end is None:
            return await _run(ctx)
    await plan_again(ctx)
    return _result(ctx, end)


async def _retake_lock(ctx: PassContext, stack: AsyncExitStack) -> End | None:
    """Take the lock again; returns why the pass ends instead."""
    reported = False
    while (end := _called_off(ctx)) is None:
        timeout_s = min(LOCK_TRY_S, ctx.deadline - ctx.clock.now())
        try:
            await stack.enter_async_context(ctx.store.locked(ctx.options.purpose, timeout_s=timeout_s))
        except StateLocked as locked:
            if not reported:
                ctx.observe(StateLockTimedOut(locked.message))
            reported = True
        else:
            return None
    return end


def _called_off(ctx: PassContext) -> End | None:
    if ctx.stopping():
        return Interrupted()
    if ctx.exchange.key_changed():
        return RequeueAt(ctx.clock.now(), WaitReason.KEY)
    return TimedOut() if ctx.clock.now() >= ctx.deadline else None


async def _step(ctx: PassContext) -> End | None:
    """Plan again and take the one step that comes next."""
    plan, slots = await plan_again(ctx)
    if await pause_contested_families(ctx, plan):
        return None
    if ctx.review is not None and ctx.is_complete(plan):
        return _ask_for_review(ctx, plan)
    if await _records_in_force(ctx, plan):
        return None
    step = next_step(
        plan,
        ctx.known,
        ctx.reads,
        now=ctx.clock.now(),
        slots=slots,
        not_before=ctx.memory.not_before,
        live=ctx.options.live,
        reviewing=ctx.review is not None,
    )
    match step:
        case Adopt(settings):
            await adopt(ctx, plan, settings)
            return None
        case EndAttempts(families):
            await end_attempts(ctx, families)
            return None
        case ReadLive() | ReadFamily():
            return await read(ctx, step)
        case Wait(until, cause):
            return await wait(ctx, plan, until, cause)
        case Send():
            return await send(ctx, step)
        case Done():
            return Completed()
        case _:
            assert_never(step)


async def _records_in_force(ctx: PassContext, plan: Plan) -> bool:
    """Record the changes of the saved plan that are in force already; True: plan again.

    A later apply of the same plan sends none of them.
    """
    if not ctx.options.from_saved_plan or not ctx.is_complete(plan):
        return False
    families = in_force_already(plan, ctx.options.reviewed or {}, ctx.memory.applied)
    if families:
        await ctx.store.record_in_force(families)
    for family in families:
        ctx.memory.done.setdefault(family, Outcome.ADOPTED)
    return bool(families)


def _ask_for_review(ctx: PassContext, plan: Plan) -> End | None:
    """Show the first complete plan; after a review only the reviewed changes may be sent."""
    assert ctx.review is not None
    approval, ctx.review, ctx.digest = ctx.review(plan), None, plan.digest
    if approval is None:
        return NotApproved()
    ctx.deadline = approval.deadline
    if approval.reviewed is not None:
        ctx.reviewed = approval.reviewed
    return None


def _result(ctx: PassContext, end: End) -> PassResult:
    uncertain = frozenset(family for family, known in ctx.known.items() if isinstance(known, Uncertain))
    plan = ctx.plan if ctx.plan is not None and ctx.is_complete(ctx.plan) else None
    refused = isinstance(end, Stopped)
    states = family_states(ctx.wanted, ctx.known, ctx.reads, plan, refused=refused)
    return PassResult(end, ctx.plan, uncertain, ctx.failing, states)
