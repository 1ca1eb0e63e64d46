"""One pass: read live and recorded settings, decide, take one durable step, and plan again.

This file has no rules. :func:`reconciler.core.pass_step.next_step` decides what to do next, the store's
ledger with ``core.pacing`` decides when a request may be sent, and ``core.reply`` interprets replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import assert_never

from reconciler.controller.pass_planning import PassInputs
from reconciler.controller.pass_sending import SendingPass
from reconciler.controller.pass_values import (
    Completed,
    End,
    InMemoryState,
    Interrupted,
    NotApproved,
    PassOptions,
    PassResult,
    RequeueAt,
    Review,
    Stopped,
    TimedOut,
)
from reconciler.core.events import Observe, StateLockTimedOut, WaitReason
from reconciler.core.model import Desired, Family, Uncertain
from reconciler.core.monitoring.status import family_states
from reconciler.core.outcome import Outcome
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
    :func:`reconciler.controller.identify.identify`). Raises StateUnusable, and StateLocked if the lock
    could not be taken at the start or was lost.
    """
    async with store.locked(options.purpose):
        running = _Pass(
            PassInputs(
                desired,
                store=store,
                exchange=exchange,
                clock=clock,
                observe=observe,
                options=options,
                memory=memory or InMemoryState(),
                review=review,
                stopping=stopping,
            )
        )
        result = await running.run()
    while (
        options.wait_in_pass
        and isinstance(result.end, RequeueAt)
        and result.end.cause is not WaitReason.KEY
    ):
        result = await running.resume(result.end)
    return result


class _Pass(SendingPass):
    """The steps of one pass, from its start to its end."""

    async def run(self) -> PassResult:
        """Step until the pass ends."""
        if self.options.live and not self.memory.reads.rows:
            self._take_reads(replace(self.reads, rows=await self.store.last_rows()))
        while True:
            end = self._called_off()
            if end is not None and self.plan is not None:
                await self._plan_again()  # the last request may have changed what is left
            end = end or await self._step()
            if end is not None:
                return self._result(end)

    async def resume(self, later: RequeueAt) -> PassResult:
        """Wait without the lock, take it again, and continue until the pass ends or has to wait again.

        If another process holds the lock, wait until the deadline: the results so far have to be reported.
        """
        self.released, self.proved = True, {}
        await self.clock.sleep_until(min(later.until, self.deadline))
        async with AsyncExitStack() as stack:
            end = await self._retake_lock(stack)
            self._notice_suspension()
            if end is None:
                return await self.run()
        await self._plan_again()
        return self._result(end)

    async def _retake_lock(self, stack: AsyncExitStack) -> End | None:
        """Take the lock again; returns why the pass ends instead."""
        reported = False
        while (end := self._called_off()) is None:
            timeout_s = min(LOCK_TRY_S, self.deadline - self.clock.now())
            try:
                await stack.enter_async_context(
                    self.store.locked(self.options.purpose, timeout_s=timeout_s)
                )
            except StateLocked as locked:
                if not reported:
                    self.observe(StateLockTimedOut(locked.message))
                reported = True
            else:
                return None
        return end

    def _called_off(self) -> End | None:
        if self.stopping():
            return Interrupted()
        if self.exchange.key_changed():
            return RequeueAt(self.clock.now(), WaitReason.KEY)
        return TimedOut() if self.clock.now() >= self.deadline else None

    async def _step(self) -> End | None:
        """Plan again and take the one step that comes next."""
        plan, slots = await self._plan_again()
        if await self._minds_contested_families(plan):
            return None
        if self.review is not None and self._has_whole_picture(plan):
            return self._ask_for_review(plan)
        if await self._records_in_force(plan):
            return None
        step = next_step(
            plan,
            self.known,
            self.reads,
            now=self.clock.now(),
            slots=slots,
            not_before=self.memory.not_before,
            live=self.options.live,
            reviewing=self.review is not None,
        )
        match step:
            case Adopt(settings):
                await self._adopt(settings)
                return None
            case EndAttempts(families):
                await self._end_attempts(families)
                return None
            case ReadLive() | ReadFamily():
                return await self._read(step)
            case Wait(until, cause):
                return await self._wait(until, cause)
            case Send():
                return await self._send(step)
            case Done():
                return Completed()
            case _:
                assert_never(step)

    async def _records_in_force(self, plan: Plan) -> bool:
        """Record the changes of the saved plan that are in force already; True: plan again.

        A later apply of the same plan sends none of them.
        """
        if not self.options.from_saved_plan or not self._has_whole_picture(plan):
            return False
        families = in_force_already(plan, self.options.reviewed or {}, self.memory.applied)
        if families:
            await self.store.record_in_force(families)
        for family in families:
            self.memory.done.setdefault(family, Outcome.ADOPTED)
        return bool(families)

    def _ask_for_review(self, plan: Plan) -> End | None:
        """Show the first complete plan; after a review only the reviewed changes may be sent."""
        assert self.review is not None
        approval, self.review, self.digest = self.review(plan), None, plan.digest
        if approval is None:
            return NotApproved()
        self.deadline = approval.deadline
        if approval.reviewed is not None:
            self.reviewed = approval.reviewed
        return None

    def _result(self, end: End) -> PassResult:
        uncertain = {family for family, known in self.known.items() if isinstance(known, Uncertain)}
        return PassResult(end, self.plan, frozenset(uncertain), self.failing, self._states(end))

    def _states(self, end: End) -> Mapping[Family, str]:
        whole = self.plan is not None and self._has_whole_picture(self.plan)
        plan, refused = self.plan if whole else None, isinstance(end, Stopped)
        return family_states(self.wanted, self.known, self.reads, plan, refused=refused)
