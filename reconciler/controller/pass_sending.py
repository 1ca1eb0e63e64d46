"""The part of a pass that sends one request: decide again, reserve, send once, settle."""

from __future__ import annotations

from typing import assert_never

from reconciler.controller.pass_reading import ReadingPass
from reconciler.controller.pass_values import End, RejectedSetting, Stopped
from reconciler.core.events import (
    ClockSynced,
    FilesStillWritten,
    RequestReserved,
    RequestSettled,
    RequestTooLate,
    SettingRejected,
)
from reconciler.core.evidence import newest_file
from reconciler.core.heal_breaker import record_heal
from reconciler.core.model import Family, NeverApplied
from reconciler.core.outcome import Outcome
from reconciler.core.pacing import LATEST_ARRIVAL_S, SEND_DEADLINE_S
from reconciler.core.pass_step import Send, next_request
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
from reconciler.core.requests import Reservation, SignedRequest
from reconciler.core.retry import Rejection, back_off_s, rejected_again_after_s

TOO_LATE_S = 10.0
"""How late a request may still be reserved: a connection may take that long to open. Later (a suspended
process, a busy state) the pass decides again, because its read is outdated. The reservation itself checks
the time again, after all its waits."""

RECHECK_S = 1.0
"""How long a change that loosens waits while file or policy has content that is not in force: two equal
reads one second apart decide on that content."""

MAX_RECHECK_S = 15.0
"""The longest of these waits, which double each time: writing the file may take long."""


class SendingPass(ReadingPass):
    """Sends the first request of the plan: never without a reservation on record, never twice on one."""

    async def _send(self, step: Send) -> End | None:
        """Open, wait for the slot, decide again, reserve, send once, settle; in any doubt plan again."""
        connection = await self.exchange.open()
        if isinstance(connection, Reply):
            # This back-off grows, whether reads succeed meanwhile or not.
            self.memory.failures = max(self.memory.failures, self._count_unsent(step.change.family))
            return self._failed("connecting", connection)
        try:
            slot = await self._reserved(step)
            if slot is None:
                return None
            request, reserved = slot
            self.observe(
                RequestReserved(reserved.attempt, request.family, request.setting, reserved.reserved_at)
            )
            reply = await connection.send(request, deadline=reserved.reserved_at + SEND_DEADLINE_S)
        finally:
            await connection.close()
        return await self._settle(step.change, reserved, reply)

    async def _reserved(self, step: Send) -> tuple[SignedRequest, Reservation] | None:
        """Wait for the slot, decide again, and reserve; None: plan again."""
        await self.clock.sleep_until(step.at)
        sure = await self.options.recheck()
        if self._notice_suspension() or self._not_the_time(step):
            return None
        file = await self._file_to_record()
        if await self._record_overrides() and self._not_the_time(step):
            return None  # recording took long
        change = await self._still_next(step.change)
        if change is None or self._notice_suspension():
            return None
        if not sure and not change.protective:
            self._wait_for_files(change)
            return None
        self.memory.unsure = 0
        request, policy = self.exchange.sign(change.family, change.after), self.options.policy()
        file = self.memory.file or file  # the last plan may have accepted another one
        if change.other_file:
            file = newest_file(
                self.known.get(change.family, NeverApplied())
            )  # the newest one stays recorded
        slot = await self.store.reserve(
            request,
            assume_idle=self.options.assume_idle,
            by=step.at + TOO_LATE_S,
            file=file,
            keep_free=step.keep_free,
            accepting=self._accepting(change),
        )
        if not isinstance(slot, Reservation):
            self._is_late(step)
            return None
        changed = self.desired() != self.wanted or self.options.policy() != policy
        if changed or self._notice_suspension():
            await self._take_back(slot)  # the reservation may have waited long for the state
            return None
        return request, slot

    def _wait_for_files(self, change: Change) -> None:
        """Delay a change that loosens, longer each time: file or policy has content not in force yet."""
        wait_s = min(MAX_RECHECK_S, RECHECK_S * 2**self.memory.unsure)
        self.memory.unsure = min(self.memory.unsure + 1, 10)
        self.memory.wait_until[change.family, change.after] = self.clock.now() + wait_s
        self.observe(FilesStillWritten(change.family, wait_s))

    async def _take_back(self, slot: Reservation) -> None:
        """Record that nothing was sent for a reservation."""
        why = "file or policy changed, or the machine was suspended, before it was sent"
        status = AttemptStatus.NOT_SENT
        await self.store.settle(
            slot.attempt, status, definite=False, limited=False, code="changed", message=why, tried=False
        )

    async def _still_next(self, change: Change) -> Change | None:
        """Return the request if it is still first by file, policy and state, else None; no live read."""
        plan, slots = await self._plan_again()
        following = next_request(plan, now=self.clock.now(), slots=slots)
        if following is None:
            return None
        now = following.change
        same = (now.family, now.before, now.after) == (change.family, change.before, change.after)
        return now if same else None

    def _not_the_time(self, step: Send) -> bool:
        """Tell whether to decide again instead of sending: too early, too late, stopped, or a new key."""
        early = self.clock.now() < step.at
        return early or self._is_late(step) or self.stopping() or self.exchange.key_changed()

    def _is_late(self, step: Send) -> bool:
        """Tell whether it is too late for a request, and report it."""
        late_s = self.clock.now() - step.at
        if late_s > TOO_LATE_S:
            self.observe(RequestTooLate(step.change.family, late_s))
        return late_s > TOO_LATE_S

    async def _record_overrides(self) -> bool:
        """Record the overrides that this plan needed, before a request that depends on them is sent.

        Each field and value is recorded. Returns whether anything was recorded.
        """
        assert self.plan is not None
        changes = {change.family: change.field_words for change in self.plan.changes}
        before = len(self.memory.overridden)
        for refusal in self.plan.overridden:
            values = changes.get(refusal.family, "")
            key = refusal.override, refusal.rule, refusal.field, values
            if key not in self.memory.overridden:
                of = f" ({values})" if values else ""
                text = f"{refusal.kind.value}: {refusal.sentence}{of}"
                await self.store.record_override(refusal.family, refusal=text, reason=self.options.reason)
                self.memory.overridden.add(key)
        return len(self.memory.overridden) > before

    async def _settle(self, change: Change, slot: Reservation, reply: Reply) -> End | None:
        verdict = interpret_reply(change.family, change.after, reply)
        await self.store.settle(
            slot.attempt,
            verdict.status,
            definite=verdict.proves_arrival,
            limited=reply.reply_class is ReplyClass.RATE_LIMITED,
            code=reply.code,
            message=reply.message,
            tried=reply.reply_class not in STOPPING | {ReplyClass.NOT_SENT},
        )
        self.memory.attempts[change.family] = self.memory.attempts.get(change.family, 0) + 1
        if reply.reply_class is not ReplyClass.NOT_SENT:
            self.memory.unsent.pop(change.family, None)
        if verdict.proves_arrival and reply.reply_class is not ReplyClass.CLOCK:
            self.memory.clock_synced = False
        took = self.clock.now() - slot.reserved_at
        if verdict.status is AttemptStatus.APPLIED and took < LATEST_ARRIVAL_S:
            self.proved[change.family] = slot.attempt  # a later reply may prove an outdated setting
        self.observe(
            RequestSettled(
                slot.attempt, change.family, change.after, verdict.status, reply, took, change.reason
            )
        )
        return await self._follow(change, verdict, reply)

    async def _follow(self, change: Change, verdict: ReplyVerdict, reply: Reply) -> End | None:
        match verdict.next:
            case ReplyHandling.PROCEED:
                return self._proceed(change, verdict, reply)
            case ReplyHandling.BACK_OFF:
                return self._family_failed(change, reply)
            case ReplyHandling.REJECT:
                self._reject(change, reply, only_if_looser=True)
            case ReplyHandling.REJECT_AND_RETRY:
                self._reject(change, reply, only_if_looser=False)
            case ReplyHandling.SYNC_CLOCK:
                return await self._sync_clock(reply)
            case ReplyHandling.STOP_ACCOUNT | ReplyHandling.STOP_ENVIRONMENT | ReplyHandling.STOP_BUG:
                return Stopped(verdict.next, reply)
            case _:
                assert_never(verdict.next)
        return None

    def _proceed(self, change: Change, verdict: ReplyVerdict, reply: Reply) -> End | None:
        if verdict.status is not AttemptStatus.APPLIED:
            return self._family_failed(change, reply)
        self.memory.failures, self.memory.failed_family = 0, None
        self.memory.wait_until.clear()  # the exchange answers again: every family may be tried
        self.memory.rejected.pop(change.family, None)
        self.memory.done[change.family] = Outcome.APPLIED
        self.applied_here[change.family] = change.after
        if change.reason is Reason.DRIFTED:
            now = self.clock.now()
            self.memory.heals = record_heal(self.memory.heals, change.family, change.after, now)
        return None

    def _family_failed(self, change: Change, reply: Reply) -> End | None:
        """Back off the failing family; when two families fail in a row, the account backs off.

        A request that could not be sent is no attempt on record, so its back-off is counted here.
        """
        before, self.memory.failed_family = self.memory.failed_family, change.family
        if reply.reply_class is not ReplyClass.RATE_LIMITED:
            self.failed_here.add(change.family)
        wait_s = reply.retry_after_s
        if reply.reply_class is ReplyClass.NOT_SENT:
            wait_s = max(wait_s or 0.0, back_off_s(self._count_unsent(change.family)))
        if wait_s is not None:
            self.memory.wait_until[change.family, change.after] = self.clock.now() + wait_s
        if before not in (None, change.family):
            return self._failed(f"setting {change.family}", reply)
        self.failing = reply
        return None

    def _count_unsent(self, family: Family) -> int:
        """Count one more request of a family that could not be sent; return the count before."""
        before = self.memory.unsent.get(family, 0)
        self.memory.unsent[family] = before + 1
        return before

    def _reject(self, change: Change, reply: Reply, *, only_if_looser: bool) -> None:
        """Remember that the exchange rejected a setting, and when it may be tried again."""
        before = self.memory.rejected.get(change.family)
        again = before is not None and before.rejection.setting == change.after
        times = before.times + 1 if before is not None and again else 1
        retry_at = self.clock.now() + rejected_again_after_s(times)
        rejection = Rejection(change.after, retry_at, only_if_looser)
        self.memory.rejected[change.family] = RejectedSetting(rejection, reply, times)
        self.observe(SettingRejected(change.family, change.after, reply, retry_at))

    async def _sync_clock(self, reply: Reply) -> End | None:
        """Measure the clock again, once; a second refusal of the timestamp stops the account."""
        if self.memory.clock_synced:
            return Stopped(ReplyHandling.STOP_ACCOUNT, reply)
        failed = await self.exchange.sync_clock()
        if failed is not None:
            return self._failed("measuring the exchange's clock", failed)
        self.memory.clock_synced = True
        self._forget_reads()  # measuring may have taken long
        self.observe(ClockSynced())
        return None
