"""The part of a pass that plans: reads the state, accepts the file, and makes the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reconciler.controller.dry_run import REVIEW_WAIT_S
from reconciler.controller.pass_values import InMemoryState, PassOptions, Review
from reconciler.core.accepted_settings import History
from reconciler.core.events import Compared, HealBreakerTripped, Observe, Planned
from reconciler.core.evidence import Reads, evidence_of, last_proof, open_attempts
from reconciler.core.heal_breaker import ContestedFamily, forget, tripped
from reconciler.core.model import (
    Accepting,
    Desired,
    Family,
    FileVersion,
    Known,
    LiveRow,
    NeverApplied,
    Pause,
    Setting,
)
from reconciler.core.outcome import Outcome
from reconciler.core.pacing import Ledger, earliest_slot
from reconciler.core.pass_step import Slots
from reconciler.core.pauses import active_pauses, obsolete_breaker_pauses
from reconciler.core.plan import Change, Doubts, Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.reply import Reply
from reconciler.core.retry import NO_TRIES, RetryRecord
from reconciler.ports import Clock, Store, TradingExchange

SUSPENSION_S = 0.1
"""From this difference on a machine counts as suspended. Without a suspension it is far smaller."""

CONTESTED_SETTING = "restored 3 times within 10 minutes, and changed again by another writer"
"""Why the heal breaker paused a family, for people."""


@dataclass(frozen=True, slots=True)
class PassInputs:
    """The inputs of a pass. ``desired`` and ``stopping`` are called before every step."""

    desired: Callable[[], Desired]
    store: Store
    exchange: TradingExchange
    clock: Clock
    observe: Observe
    options: PassOptions
    memory: InMemoryState
    review: Review | None
    stopping: Callable[[], bool]


class PlanningPass:
    """Plans repeatedly. All its state may be lost at any moment."""

    def __init__(self, inputs: PassInputs) -> None:
        self.desired = inputs.desired
        self.store = inputs.store
        self.exchange = inputs.exchange
        self.clock = clock = inputs.clock
        self.observe = inputs.observe
        self.options = options = inputs.options
        self.memory = memory = inputs.memory
        self.review = inputs.review
        self.stopping = inputs.stopping
        self.reads = memory.reads.forgotten()
        self.suspended_s = clock.suspended_s()
        self.began_at = clock.now()
        self.reviewed = options.reviewed
        self.retries: RetryRecord = NO_TRIES
        self.family_reads = 0  # reads of one family alone, in this pass
        self.released = False  # the lock was released in this pass: others may have written
        self.applied_here: dict[Family, Setting] = {}  # what this pass sent last, as acknowledged
        self.failed_here: set[Family] = set()  # failed in this pass, except by the rate limit
        self.proved: dict[Family, int] = {}  # the proving attempts, acknowledged since the latest read
        self.deadline = clock.now() + options.timeout_s
        self.plan: Plan | None = None
        self.wanted = inputs.desired()
        self.known: Mapping[Family, Known] = {}
        self.accepted: Mapping[Family, History] = {}
        self.digest = ""  # the digest of the reviewed plan
        self.pauses: tuple[Pause, ...] = ()
        self.ended_contested_families: Mapping[Family, Setting] = {}
        self.failing: Reply | None = None

    async def _plan_again(self) -> tuple[Plan, Slots]:
        self.wanted = self.desired()
        await self._accept_file()
        read_inputs = await self.store.recorded_inputs()
        self.known, self.accepted = read_inputs.known, read_inputs.accepted
        self.memory.applied = read_inputs.applied
        pauses, ledger = read_inputs.pauses, self._trusted(read_inputs.ledger)
        self.retries = replace(read_inputs.retries, wait_until=self.memory.wait_until)
        self.reads = self.reads.with_record(self.known, self.proved)
        now, desired = self.clock.now(), self.wanted
        self._forget_rejections()
        self.pauses = active_pauses(pauses, desired)
        self.ended_contested_families = obsolete_breaker_pauses(pauses, desired)
        rules = self._rules(now)
        plan = make_plan(desired, self.known, self.reads, rules, now)
        plan = with_schedule(plan, ledger, now, assume_idle=False)
        whole = self._has_whole_picture(plan)
        self.observe(Compared(desired, self.known, ledger, self.pauses, rules, plan, whole, self.reads))
        self._tell(plan)
        self.plan = plan
        if whole:  # only a read shows that a request is not needed any more
            left = {change.family for change in plan.requests}
            self.memory.unsent = {one: count for one, count in self.memory.unsent.items() if one in left}
        first = earliest_slot(ledger, now, keep_free=1)
        return plan, Slots(earliest_slot(ledger, now), first, unanswered=ledger.unanswered(now))

    async def _accept_file(self) -> None:
        """Record the version of the settings file, if the files of other processes may be newer."""
        file = self.memory.file
        if self.options.controller and (file is None or file.sha256 != self.wanted.sha256):
            changed = file is not None
            self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=changed)

    async def _file_to_record(self) -> FileVersion:
        """Return the version of the file to record; an explicit act makes it the newest."""
        if self.memory.file is None:
            self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=True)
        return self.memory.file

    def _forget_rejections(self) -> None:
        """Forget a setting that the exchange rejected, once live shows it in force."""
        for family, one in tuple(self.memory.rejected.items()):
            seen = evidence_of(family, self.known.get(family, NeverApplied()), self.reads)
            if isinstance(seen, LiveRow) and seen.setting == one.rejection.setting:
                del self.memory.rejected[family]

    def _trusted(self, ledger: Ledger) -> Ledger:
        """Return the pacing ledger; with ``assume_idle`` no unknown request is waited for."""
        return replace(ledger, empty_since=None) if self.options.assume_idle else ledger

    async def _minds_contested_families(self, plan: Plan) -> bool:
        """End obsolete breaker pauses, and pause families that trip the heal breaker; True: plan again."""
        if not self.options.heal_breaker:
            return False
        if self.ended_contested_families:
            await self.store.clear_heal_breakers(self.ended_contested_families)
        contested_setting = tripped(self.memory.heals, plan, self.clock.now())
        if contested_setting:
            await self._break_off(contested_setting)
        return bool(contested_setting)

    async def _break_off(self, contested_setting: tuple[ContestedFamily, ...]) -> None:
        """Pause contested families, on record; the next plan then leaves them out."""
        # The pause ends when the file wants another value, which need not be the one that was restored.
        settings = {
            contested_family.family: self.wanted.families[contested_family.family].setting
            for contested_family in contested_setting
        }
        await self.store.pause(settings, until=None, reason=CONTESTED_SETTING, contested_setting=settings)
        self.memory.heals = forget(self.memory.heals, settings)
        for contested_family in contested_setting:
            self.observe(
                HealBreakerTripped(
                    contested_family.family, contested_family.setting, contested_family.heals
                )
            )

    def _tell(self, plan: Plan) -> None:
        """Report a plan that differs from the last reported one, once a complete comparison exists."""
        if self._has_whole_picture(plan) and not _same(plan, self.memory.planned):
            self.observe(Planned(plan))
            self.memory.planned = plan

    def _rules(self, now: float) -> PlanConstraints:
        in_force = self.options.policy()
        return PlanConstraints(
            drift=self.options.drift,
            rejected={family: one.rejection for family, one in self.memory.rejected.items()},
            paused=frozenset(pause.family for pause in self.pauses),
            policy=in_force.policy,
            policy_unreadable=in_force.unreadable,
            allowed=self.options.allowed,
            only=self._included(),
            reviewed=self.reviewed,
            applied_before=frozenset(self.memory.applied),
            retries=self.retries,
            file=self.memory.file if self.options.controller or self.released else None,
            controller=self.options.controller,
            doubts=self._doubts(now),
            accepted=self.accepted,
            wall=self.clock.wall(),
            reads_live=self.options.live,
        )

    def _included(self) -> frozenset[Family] | None:
        """Return the families that the plan includes; None for all desired families.

        A family that this pass applied, and that another process then wrote, is left to that process:
        otherwise the two would write it in turns.
        """
        applied = [family for family, one in self.memory.done.items() if one is Outcome.APPLIED]
        others = {family for family in applied if self.released and self._is_written_by_other(family)}
        if not others:
            return self.options.only
        only = self.options.only
        return (frozenset(self.wanted.families) if only is None else only) - others

    def _is_written_by_other(self, family: Family) -> bool:
        """Tell whether the newest proof or attempt of a family applied by this pass has another value."""
        known = self.known.get(family, NeverApplied())
        wanted = self.applied_here.get(family, self.wanted.families[family].setting)
        proof = last_proof(known)
        if proof is None or proof.setting != wanted:
            return proof is not None
        return any(one.setting != wanted and one.attempt > proof.attempt for one in open_attempts(known))

    def _doubts(self, now: float) -> Doubts:
        if self.review is not None and now >= self.began_at + REVIEW_WAIT_S:
            return Doubts.HOLD
        binds = self.review is not None and self.options.review_binds
        return Doubts.LEAVE_OUT if binds else Doubts.SEND_PROTECTION

    def _has_whole_picture(self, plan: Plan) -> bool:
        return not plan.doubtful and (self.reads.latest is not None or not self.options.live)

    def _accepting(self, change: Change) -> Accepting | None:
        """Return what this request or record makes the accepted setting; None: nothing."""
        if change.accepts is None or self.plan is None:
            return None
        named = (str(one.override) for one in self.plan.overridden if one.family == change.family)
        digest = self.digest or self.plan.digest
        return Accepting(change.accepts, digest, ", ".join(dict.fromkeys(named)))

    def _take_reads(self, reads: Reads) -> None:
        self.reads = self.memory.reads = reads

    def _forget_reads(self) -> None:
        self._take_reads(self.reads.forgotten())

    def _notice_suspension(self) -> bool:
        """Forget the reads from before a suspension of the machine; returns whether there was one."""
        before, self.suspended_s = self.suspended_s, self.clock.suspended_s()
        if self.suspended_s - before <= SUSPENSION_S:
            return False
        self._forget_reads()
        return True


def _same(plan: Plan, before: Plan | None) -> bool:
    """Tell whether two plans are the same; etas change with time and do not count."""
    if before is None:
        return False
    return plan.unchanged == before.unchanged and _said(plan) == _said(before)


def _said(plan: Plan) -> list[tuple[object, ...]]:
    return [
        (change.family, change.action, change.because, change.before, change.after)
        for change in plan.changes
    ]
