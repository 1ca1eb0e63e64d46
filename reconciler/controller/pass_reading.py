"""The part of a pass that reads live settings, records what a read proves, and waits."""

from __future__ import annotations

from reconciler.controller.live_reads import odd_rows, read_for, with_answer
from reconciler.controller.pass_planning import PlanningPass
from reconciler.controller.pass_values import End, RequeueAt, Stopped
from reconciler.core.events import (
    READING_FAMILY,
    READING_LIVE,
    Adopted,
    AttemptsEnded,
    ExchangeFailed,
    LiveReadDone,
    ReadFailed,
    Waiting,
    WaitReason,
)
from reconciler.core.model import Family, LiveRead, Setting
from reconciler.core.outcome import Outcome
from reconciler.core.pass_step import ReadFamily, ReadLive
from reconciler.core.plan import Change, first_records
from reconciler.core.policy_rules import unfit
from reconciler.core.reply import Reply, terminal_action
from reconciler.core.retry import retry_after_s

MAX_REPEATED_READS = 8
"""After so many reads in a row without a request ``run`` releases the lock, so others can take it."""

KEEPS_LOCK_S = 1.5
"""With ``wait_in_pass`` a pass keeps the lock for waits up to this length, as for a second read."""


class ReadingPass(PlanningPass):
    """Reads, adopts and waits; a failed read backs off."""

    async def _adopt(self, settings: dict[Family, Setting]) -> None:
        assert self.reads.latest is not None
        file, begun_at = await self._file_to_record(), self.reads.latest.begun_at
        assert self.plan is not None
        accepting = {
            change.family: one
            for change in self.plan.changes
            if change.family in settings and (one := self._accepting(change))
        }
        recorded = await self.store.adopt(settings, read_begun_at=begun_at, file=file, accepting=accepting)
        adopted = {family: one for family, one in settings.items() if family in recorded}
        for family in adopted:
            self.memory.done.setdefault(family, Outcome.ADOPTED)
        if adopted:
            first = first_records(one for one in self.plan.changes if one.family in adopted)
            self.observe(Adopted(adopted, unfit(first, self.options.policy().policy)))
        if len(adopted) < len(settings):
            self._forget_reads()  # another process wrote since: only a new read shows live

    async def _end_attempts(self, families: tuple[Family, ...]) -> None:
        assert self.reads.latest is not None
        await self.store.end_attempts(families, read_begun_at=self.reads.latest.begun_at)
        self.observe(AttemptsEnded(families))

    async def _read(self, step: ReadLive | ReadFamily) -> End | None:
        """Read live. A failed list backs off; a failed read of one family is reported and retried later."""
        # Later reads start after the suspension. A read of one family needs the list that it adds to.
        if self._notice_suspension() and isinstance(step, ReadFamily):
            return None
        answer = await read_for(step, self.exchange)
        self.family_reads += isinstance(step, ReadFamily)
        if isinstance(answer, Reply) and isinstance(step, ReadLive):
            return self._failed(READING_LIVE, answer)
        if isinstance(answer, Reply):
            self.observe(ReadFailed(READING_FAMILY, answer))
        self._take_reads(with_answer(self.reads, step, answer, self.clock.now()))
        if isinstance(step, ReadLive) and isinstance(answer, LiveRead):
            self.memory.failures, self.proved = 0, {}
            await self.store.record_live(answer, last_seen=self.reads.last_seen_of_missing())
            self.observe(LiveReadDone(answer))
            self._report_odd_rows(answer)
        self._notice_suspension()
        return None

    def _report_odd_rows(self, read: LiveRead) -> None:
        """Report rows that are left out, once while they stay the same."""
        odd = odd_rows(read)
        if odd != self.memory.odd_rows and odd.any:
            self.observe(odd)
        self.memory.odd_rows = odd

    async def _wait(self, until: float, cause: WaitReason) -> End | None:
        assert self.plan is not None
        first = self.plan.requests[0] if self.plan.requests else None
        done_at = max(until, self.clock.now() + self.plan.eta_s)
        self.observe(
            Waiting(until, cause, first.family if first else None, len(self.plan.requests), done_at)
        )
        if not self._keeps_lock(until, cause):
            if self.options.wait_in_pass and self.review is None:
                await self._file_to_record()  # only a file that changes after this is newer
            return RequeueAt(until, cause)
        await self.clock.sleep_until(min(until, self.deadline))
        self._notice_suspension()
        return None

    def _keeps_lock(self, until: float, cause: WaitReason) -> bool:
        """Tell whether a wait keeps the lock.

        In ``run`` only a short wait for a second read does. In ``apply`` every wait does, unless all
        remaining families failed before: they may fail for long, and ``run`` must be able to send an urgent
        change.
        """
        if self.options.wait_in_pass:
            assert self.plan is not None
            left = self.plan.requests
            retries = self.review is None and bool(left) and all(self._has_failed(one) for one in left)
            return not retries or min(until, self.deadline) <= self.clock.now() + KEEPS_LOCK_S
        reads = self.reads.repeated + self.family_reads
        return cause is WaitReason.SECOND_READ and reads < MAX_REPEATED_READS

    def _has_failed(self, change: Change) -> bool:
        """Tell whether a request failed before, in this pass or on record.

        A refusal by the rate limit does not count: then only the pacing delays the next try.
        """
        tries = self.retries.tries.get(change.family)
        recorded = tries is not None and tries.setting == change.after and not tries.limited
        return recorded or change.family in self.failed_here

    def _failed(self, doing: str, reply: Reply) -> End | None:
        """Back off after a failure, or stop if the failure concerns the account or the key."""
        stop = terminal_action(reply)
        if stop is not None:
            self.observe(ExchangeFailed(doing, reply, None))
            return Stopped(stop, reply)
        self.failing = reply
        retry_at = self.clock.now() + retry_after_s(reply, self.memory.failures)
        self.memory.failures += 1
        self.memory.not_before = retry_at
        self.observe(ExchangeFailed(doing, reply, retry_at))
        return None if self.options.wait_in_pass else RequeueAt(retry_at, WaitReason.BACK_OFF)
