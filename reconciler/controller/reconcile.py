"""One pass: read both sides, decide, act one durable step at a time, and plan again after each.

This file holds no rule. What to do next is :func:`reconciler.core.pass_step.next_step`; when a request may
go is the store's ledger under ``core.pacing``; what a reply means is ``core.verdict``. It never sends
without a reservation on record, never sends twice on one, and never reports a success that is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import assert_never

from reconciler.core import account_check as accounts
from reconciler.core.accepted_settings import History
from reconciler.core.events import (
    READING_FAMILY,
    READING_LIVE,
    Adopted,
    AttemptsEnded,
    ClockSynced,
    Compared,
    ExchangeFailed,
    FilesStillWritten,
    HealBreakerTripped,
    Identified,
    KeyMayWithdraw,
    LiveReadDone,
    Observe,
    OddRowsSeen,
    Planned,
    ReadFailed,
    RequestReserved,
    RequestSettled,
    RequestTooLate,
    SettingRejected,
    StateLockTimedOut,
    Waiting,
    WaitReason,
)
from reconciler.core.evidence import Reads, SeenRow, evidence_of, last_proof, newest_file, open_attempts
from reconciler.core.heal_breaker import ContestedFamily, Heals, forget, record_heal, tripped
from reconciler.core.model import (
    Accepting,
    AccountInfo,
    Desired,
    Family,
    Field,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    Pause,
    Setting,
    Uncertain,
)
from reconciler.core.monitoring.status import family_states
from reconciler.core.outcome import Outcome
from reconciler.core.pacing import LATEST_ARRIVAL_S, SEND_DEADLINE_S, Ledger, earliest_slot
from reconciler.core.pass_step import (
    Adopt,
    Done,
    EndAttempts,
    Read,
    ReadFamily,
    Send,
    Slots,
    Wait,
    next_request,
    next_step,
)
from reconciler.core.pauses import in_force, obsolete_breaker_pauses
from reconciler.core.plan import Change, Doubts, Plan, PlanConstraints, Reason, first_records, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.policy import Override, PolicyInForce
from reconciler.core.policy_rules import unfit
from reconciler.core.reply import (
    STOPPING,
    AttemptStatus,
    Reply,
    ReplyClass,
    ReplyHandling,
    ReplyVerdict,
    interpret_reply,
    terminal_action,
)
from reconciler.core.retry import (
    NO_TRIES,
    Rejection,
    RetryRecord,
    back_off_s,
    rejected_again_after_s,
    retry_after_s,
)
from reconciler.core.saved_plan import (
    AppliedChanges,
    Reviewed,
    in_force_already,
)
from reconciler.core.target import DriftPolicy
from reconciler.errors import StateLocked
from reconciler.ports import Clock, Exchange, Reservation, SignedRequest, Store, TradingExchange

REVIEW_WAIT_S = 10.0
"""How long the plan shown for a review waits for doubtful families; then they are named as held. A read
lags by 5 s at the most, so what is still in doubt then will not be known soon."""

SUSPENSION_S = 0.1
"""A machine counts as suspended from here on: the two clocks that are compared differ by far less."""

MAX_REPEATED_READS = 8
"""After so many reads in a row without a request ``run`` releases the lock, so others can take it."""

KEEPS_LOCK_S = 1.5
"""A patient pass keeps the lock for waits up to this length, such as the one for a second read."""

LOCK_TRY_S = 1.0
"""How long one try to take the lock again lasts; between tries a stop and the deadline are noticed."""

FOUGHT = "put back 3 times within 10 minutes, and changed again by somebody else"
"""Why the breaker of fights paused a family, for people."""

TOO_LATE_S = 10.0
"""How late after it was due a request may still be reserved: a connection may take that long to open.
Later (a suspended process, a state busy with others) it is decided on again, because its read says little
by then. The reservation itself looks once more, when it has waited for all it has to wait for."""


RECHECK_S = 1.0
"""How long a change that loosens waits where file or policy has content that is not in force: two equal
looks a second apart decide on it."""


MAX_RECHECK_S = 15.0
"""The longest of these waits, which double each time: the file may be written to for long."""


async def unwatched() -> bool:
    """Look at neither file nor policy again before a request."""
    return True


@dataclass(frozen=True, slots=True)
class PassOptions:
    """How a pass is to be run.

    ``patient``: go on after every wait (``apply``), without the lock while only retries are left; else end
    the pass with ``Later`` (``run``). ``live`` False compares with last applied alone.
    ``policy`` is asked before every plan, since its file may change. ``recheck`` looks at file and policy
    right before a request. False: one of them has content that is not in force, so this request must not
    loosen anything.
    ``reason``: why ``allowed`` may pass, for the history.
    ``patience_s``: how long a patient pass tries until its review sets a deadline.
    ``from_saved_plan``: ``reviewed`` are the changes of a saved plan, each of which is applied once.
    ``review_binds``: only what the review shows may be sent, so the plan shown waits for doubtful families.
    ``breaks_fights``: drift is not reverted without end; a family that another writer keeps changing is
    left alone (``run``; an ``apply`` is an explicit act). ``controller``: the file may be older than what
    another process applied, so nothing that a newer file set is loosened (``run``).
    """

    purpose: str = "apply"
    live: bool = True
    assume_idle: bool = False
    wait_in_pass: bool = True
    drift: DriftPolicy = DriftPolicy.HEAL
    policy: Callable[[], PolicyInForce] = PolicyInForce
    recheck: Callable[[], Awaitable[bool]] = unwatched
    allowed: frozenset[Override] = frozenset()
    reason: str = ""
    reviewed: Reviewed | None = None
    from_saved_plan: bool = False
    only: frozenset[Family] | None = None
    timeout_s: float = float("inf")
    heal_breaker: bool = False
    controller: bool = False
    review_binds: bool = False


@dataclass(frozen=True, slots=True)
class RejectedSetting:
    """A setting the exchange refused ``times`` in a row, and when it may be tried again."""

    rejection: Rejection
    reply: Reply
    times: int = 1


@dataclass(slots=True)
class InMemoryState:
    """What one process remembers from pass to pass; losing it is always safe.

    ``failures`` counts failures in a row, for the back-off, ``unsent`` those of each family's requests that
    could not be sent, ``unsure`` the looks in a row that found content of a file not in force yet, and
    ``state_failures`` those of the state.
    ``clock_synced`` tells that the clock was already measured again since the last request whose
    timestamp was accepted. ``done`` are the families settled by this process. ``failed_family`` is the
    one whose request failed last, with no success since. ``reads`` remembers rows,
    ``file`` the version of the settings file that this process last accepted. ``applied`` are the changes
    of the saved plan that are on record as applied.
    """

    rejected: dict[Family, RejectedSetting] = field(default_factory=dict)
    reads: Reads = field(default_factory=Reads)
    file: FileVersion | None = None
    failed_family: Family | None = None
    wait_until: dict[tuple[Family, Setting], float] = field(default_factory=dict)
    odd_rows: OddRowsSeen | None = None
    failures: int = 0
    unsent: dict[Family, int] = field(default_factory=dict)
    unsure: int = 0
    state_failures: int = 0
    not_before: float = float("-inf")
    clock_synced: bool = False
    planned: Plan | None = None
    attempts: dict[Family, int] = field(default_factory=dict)
    done: dict[Family, Outcome] = field(default_factory=dict)
    applied: AppliedChanges = field(default_factory=dict)
    overridden: set[tuple[Override, str, Field | None, str]] = field(default_factory=set)
    """Overrides on record already, each with the rule it was needed for, the field and the values."""
    heals: Heals = field(default_factory=dict)
    """When each family was put back, as far as that counts for the breaker of fights."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Everything that could be settled is."""


@dataclass(frozen=True, slots=True)
class RequeueAt:
    """The pass ended early, to be continued at ``until``."""

    until: float
    cause: WaitReason


@dataclass(frozen=True, slots=True)
class Stopped:
    """Account, environment or a bug of ours: writing must stop. Nothing is retried by itself."""

    next: ReplyHandling
    reply: Reply


@dataclass(frozen=True, slots=True)
class NotApproved:
    """The review of the first plan said no; nothing was sent."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline passed."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Someone asked to stop; the request in flight, if any, was settled."""


End = Completed | RequeueAt | Stopped | NotApproved | TimedOut | Interrupted


@dataclass(frozen=True, slots=True)
class PassResult:
    """How a pass ended, and the plan that was left then (None when none could be made)."""

    end: End
    plan: Plan | None
    uncertain: frozenset[Family] = frozenset()
    trouble: Reply | None = None
    """The last thing that failed without ending the pass, for the message of a timeout."""
    states: Mapping[Family, str] = field(default_factory=dict)
    """The one word for each desired family, as this pass last saw it."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a review of the first complete plan allows: until when, and what; None: every planned change."""

    deadline: float
    reviewed: Reviewed | None = None


Review = Callable[[Plan], Approval | None]
"""Called with the first complete plan. Returns None to veto."""


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
    """Make live as desired, as far as it can be done now, holding the account's lock.

    ``desired`` is asked before every step, so a newer file replaces what is queued. A patient pass that has
    only retries left releases the lock while it waits, takes it again and plans anew from the state. The
    store must know the account's User ID (see :func:`identify`). Raises StateUnusable, and StateLocked if
    the lock was not had at the beginning or was lost.
    """
    async with store.locked(options.purpose):
        running = _Pass(
            desired, store, exchange, clock, observe, options, memory or InMemoryState(), review, stopping
        )
        result = await running.run()
    while (
        options.wait_in_pass
        and isinstance(result.end, RequeueAt)
        and result.end.cause is not WaitReason.KEY
    ):
        result = await running.resume(result.end)
    return result


async def identify(
    desired: Desired,
    *,
    store: Store,
    exchange: Exchange,
    host: str,
    observe: Observe,
    reviewed_uid: str | None = None,
) -> AccountInfo | Reply:
    """Ask whose key this is and stamp or check the state with it, before any writing.

    ``reviewed_uid`` is whom an applied plan file was made for, None when there is none.
    Raises AccountProblem when the account must not be written to, StateForeign when the state
    belongs to another. A Reply means that the exchange did not tell.
    """
    info = await exchange.account()
    if isinstance(info, Reply):
        return info
    problem = accounts.why_unusable(info, desired, writing=True, reviewed_uid=reviewed_uid)
    if problem is not None:
        raise problem
    previous = await store.identify(info.uid, host)
    observe(Identified(info.uid, previous))
    if accounts.may_withdraw(info):
        observe(KeyMayWithdraw(info.uid))
    return info


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
    """Return the plan as a dry run sees it: reads until nothing is doubtful, holds no sending client.

    ``exchange`` None compares with last applied alone. A Reply means live could not be read. ``observe`` is
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
            case Read() | ReadFamily():
                assert exchange is not None
                answer = await _answer_to(step, exchange)
                if isinstance(answer, Reply) and isinstance(step, Read):
                    return answer
                reads = _with_answer(reads, step, answer, clock.now())
            case _:
                if reads.latest is not None and (odd := _odd_rows(reads.latest)).any:
                    observe(odd)
                return with_schedule(plan, ledger, now, assume_idle=assume_idle)


def _reading_step(
    plan: Plan, known: Mapping[Family, Known], reads: Reads, now: float
) -> Read | ReadFamily | Wait | Done:
    """Return the read that the plan still needs before it may be shown; Settled when it needs none."""
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
    assert isinstance(step, Read | ReadFamily | Wait | Done)
    return step


async def _answer_to(step: Read | ReadFamily, exchange: Exchange) -> LiveRead | Reply:
    if isinstance(step, ReadFamily):
        return await exchange.read_family(step.family)
    return await exchange.read_live()


def _with_answer(reads: Reads, step: Read | ReadFamily, answer: LiveRead | Reply, now: float) -> Reads:
    """Return the reads with one more answer, or with the failure of one family's read."""
    match step, answer:
        case ReadFamily(family), LiveRead():
            return reads.with_family(family, answer)
        case ReadFamily(family), _:
            return reads.without_answer(family, now)
        case Read(repeated), LiveRead():
            return reads.push(answer, repeated=repeated)
        case _:
            return reads


class _Pass:
    """The state of one pass. Everything in it may be lost at any moment."""

    def __init__(
        self,
        desired: Callable[[], Desired],
        store: Store,
        exchange: TradingExchange,
        clock: Clock,
        observe: Observe,
        options: PassOptions,
        memory: InMemoryState,
        review: Review | None,
        stopping: Callable[[], bool],
    ) -> None:
        self.desired = desired
        self.store = store
        self.exchange = exchange
        self.clock = clock
        self.observe = observe
        self.options = options
        self.memory = memory
        self.review = review
        self.stopping = stopping
        self.reads = memory.reads.forgotten()
        self.suspended_s = clock.suspended_s()
        self.began_at = clock.now()
        self.reviewed = options.reviewed
        self.retries: RetryRecord = NO_TRIES
        self.family_reads = 0  # of one family alone, in this pass
        self.released = False  # the lock, since the pass began: others may have written
        self.applied_here: dict[Family, Setting] = {}  # what this pass sent last, as acknowledged
        self.failed_here: set[Family] = set()  # tried by this pass without success, but for the rate
        self.proved: dict[Family, int] = {}  # by which attempts, acknowledged since the latest read
        self.deadline = clock.now() + options.timeout_s
        self.plan: Plan | None = None
        self.wanted = desired()
        self.known: Mapping[Family, Known] = {}
        self.accepted: Mapping[Family, History] = {}
        self.digest = ""  # of the plan that was reviewed
        self.pauses: tuple[Pause, ...] = ()
        self.ended_fights: Mapping[Family, Setting] = {}
        self.trouble: Reply | None = None

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
        """Wait without the lock, take it again, and continue until the pass ends or has to wait once more.

        A lock that another process holds is waited for until the deadline: what was done so far has to be
        reported.
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
        if await self._minds_fights(plan):
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
            case Read() | ReadFamily():
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
        """Record which changes of the saved plan are in force already; True: plan again.

        None of them is sent by a later apply of the same plan.
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

    async def _plan_again(self) -> tuple[Plan, Slots]:
        self.wanted = self.desired()
        await self._accept_file()
        grounds = await self.store.recorded_inputs()
        self.known, self.accepted = grounds.known, grounds.accepted
        self.memory.applied = grounds.applied
        pauses, ledger = grounds.pauses, self._trusted(grounds.ledger)
        self.retries = replace(grounds.retries, wait_until=self.memory.wait_until)
        self.reads = self.reads.with_record(self.known, self.proved)
        now, desired = self.clock.now(), self.wanted
        self._forget_rejections()
        self.pauses = in_force(pauses, desired)
        self.ended_fights = obsolete_breaker_pauses(pauses, desired)
        rules = self._rules(now)
        plan = make_plan(desired, self.known, self.reads, rules, now)
        plan = with_schedule(plan, ledger, now, assume_idle=False)
        whole = self._has_whole_picture(plan)
        self.observe(Compared(desired, self.known, ledger, self.pauses, rules, plan, whole, self.reads))
        self._tell(plan)
        self.plan = plan
        if whole:  # without a read nothing says that a request is not needed any more
            left = {change.family for change in plan.requests}
            self.memory.unsent = {one: count for one, count in self.memory.unsent.items() if one in left}
        first = earliest_slot(ledger, now, keep_free=1)
        return plan, Slots(earliest_slot(ledger, now), first, unanswered=ledger.unanswered(now))

    async def _accept_file(self) -> None:
        """Record the version of the settings file, if it may be older than the files of others."""
        file = self.memory.file
        if self.options.controller and (file is None or file.sha256 != self.wanted.sha256):
            changed = file is not None
            self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=changed)

    async def _file_to_record(self) -> FileVersion:
        """Return the version of the file that a record comes from; an explicit act makes it the newest."""
        if self.memory.file is None:
            self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=True)
        return self.memory.file

    def _forget_rejections(self) -> None:
        """Forget a setting that the exchange refused once live shows it in force."""
        for family, one in tuple(self.memory.rejected.items()):
            seen = evidence_of(family, self.known.get(family, NeverApplied()), self.reads)
            if isinstance(seen, LiveRow) and seen.setting == one.rejection.setting:
                del self.memory.rejected[family]

    def _trusted(self, ledger: Ledger) -> Ledger:
        """Return the pacing ledger; where idleness may be assumed, nothing unknown is waited for."""
        return replace(ledger, empty_since=None) if self.options.assume_idle else ledger

    async def _minds_fights(self, plan: Plan) -> bool:
        """End what the file has ended, break off what goes on too long; True: plan again."""
        if not self.options.heal_breaker:
            return False
        if self.ended_fights:
            await self.store.clear_heal_breakers(self.ended_fights)
        fought = tripped(self.memory.heals, plan, self.clock.now())
        if fought:
            await self._break_off(fought)
        return bool(fought)

    async def _break_off(self, fought: tuple[ContestedFamily, ...]) -> None:
        """Pause what is fought over, on record; the next plan then leaves it."""
        # The pause ends when the file wants another value, which need not be the one that was restored.
        settings = {fight.family: self.wanted.families[fight.family].setting for fight in fought}
        await self.store.pause(settings, until=None, reason=FOUGHT, fought=settings)
        self.memory.heals = forget(self.memory.heals, settings)
        for fight in fought:
            self.observe(HealBreakerTripped(fight.family, fight.setting, fight.heals))

    def _tell(self, plan: Plan) -> None:
        """Tell about a plan that says something new, once there is something to compare with."""
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
        """Return the families this plan is about; None for all that are desired.

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

    async def _read(self, step: Read | ReadFamily) -> End | None:
        """Read live; a list that fails is tried again after a back-off, one family's read at leisure."""
        # Reads from here on began after the suspension. A read of one family needs the list it adds to.
        if self._notice_suspension() and isinstance(step, ReadFamily):
            return None
        answer = await _answer_to(step, self.exchange)
        self.family_reads += isinstance(step, ReadFamily)
        if isinstance(answer, Reply) and isinstance(step, Read):
            return self._failed(READING_LIVE, answer)
        if isinstance(answer, Reply):
            self.observe(ReadFailed(READING_FAMILY, answer))
        self._take_reads(_with_answer(self.reads, step, answer, self.clock.now()))
        if isinstance(step, Read) and isinstance(answer, LiveRead):
            self.memory.failures, self.proved = 0, {}
            await self.store.record_live(answer, last_seen=self.reads.last_seen_of_missing())
            self.observe(LiveReadDone(answer))
            self._warn_of_odd_rows(answer)
        self._notice_suspension()
        return None

    def _warn_of_odd_rows(self, read: LiveRead) -> None:
        """Report rows that are left out, once while they stay the same."""
        odd = _odd_rows(read)
        if odd != self.memory.odd_rows and odd.any:
            self.observe(odd)
        self.memory.odd_rows = odd

    def _take_reads(self, reads: Reads) -> None:
        self.reads = self.memory.reads = reads

    def _forget_reads(self) -> None:
        self._take_reads(self.reads.forgotten())

    def _notice_suspension(self) -> bool:
        """Forget what was read before the machine was suspended; tells whether it was."""
        before, self.suspended_s = self.suspended_s, self.clock.suspended_s()
        if self.suspended_s - before <= SUSPENSION_S:
            return False
        self._forget_reads()
        return True

    async def _wait(self, until: float, cause: WaitReason) -> End | None:
        assert self.plan is not None
        first = self.plan.requests[0] if self.plan.requests else None
        done_at = max(until, self.clock.now() + self.plan.eta_s)
        self.observe(
            Waiting(until, cause, first.family if first else None, len(self.plan.requests), done_at)
        )
        if not self._keeps_lock(until, cause):
            if self.options.wait_in_pass and self.review is None:
                await self._file_to_record()  # only a file that changes from here on is newer
            return RequeueAt(until, cause)
        await self.clock.sleep_until(min(until, self.deadline))
        self._notice_suspension()
        return None

    def _keeps_lock(self, until: float, cause: WaitReason) -> bool:
        """Tell whether a wait is spent with the lock.

        In ``run`` only a brief one for another read; in ``apply`` every one, unless only families are left
        that were tried without success: those may fail for long, and ``run`` must be able to send an urgent
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
        """Tell whether a request was tried without success, by this pass or by what is on record.

        A refusal for the rate does not count: only the pace delays the next try then.
        """
        tries = self.retries.tries.get(change.family)
        recorded = tries is not None and tries.setting == change.after and not tries.limited
        return recorded or change.family in self.failed_here

    async def _send(self, step: Send) -> End | None:
        """Open, wait for the slot, decide once more, reserve, send once, settle; any doubt plans again."""
        connection = await self.exchange.open()
        if isinstance(connection, Reply):
            # Whatever reads come to meanwhile, this back-off grows.
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
        """Wait for the slot, decide once more, and reserve; None: plan again."""
        await self.clock.sleep_until(step.at)
        sure = await self.options.recheck()
        if self._notice_suspension() or self._not_the_time(step):
            return None
        file = await self._file_to_record()
        if await self._record_overrides() and self._not_the_time(step):
            return None  # the state took long over it
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
            await self._take_back(slot)  # it may have waited long for the state
            return None
        return request, slot

    def _accepting(self, change: Change) -> Accepting | None:
        """Return what becomes the accepted setting with this request or record; None: nothing does."""
        if change.accepts is None or self.plan is None:
            return None
        named = (str(one.override) for one in self.plan.overridden if one.family == change.family)
        digest = self.digest or self.plan.digest
        return Accepting(change.accepts, digest, ", ".join(dict.fromkeys(named)))

    def _wait_for_files(self, change: Change) -> None:
        """Let a change that loosens wait, longer each time: file or policy has content not in force yet."""
        wait_s = min(MAX_RECHECK_S, RECHECK_S * 2**self.memory.unsure)
        self.memory.unsure = min(self.memory.unsure + 1, 10)
        self.memory.wait_until[change.family, change.after] = self.clock.now() + wait_s
        self.observe(FilesStillWritten(change.family, wait_s))

    async def _take_back(self, slot: Reservation) -> None:
        """Put on record that nothing was sent on a reservation."""
        why = "file or policy changed, or the machine was suspended, before it was sent"
        status = AttemptStatus.NOT_SENT
        await self.store.settle(
            slot.attempt, status, definite=False, limited=False, code="changed", message=why, tried=False
        )

    async def _still_next(self, change: Change) -> Change | None:
        """Return the request if file, policy and state still ask for it first; no read is asked for."""
        plan, slots = await self._plan_again()
        following = next_request(plan, now=self.clock.now(), slots=slots)
        if following is None:
            return None
        now = following.change
        same = (now.family, now.before, now.after) == (change.family, change.before, change.after)
        return now if same else None

    def _not_the_time(self, step: Send) -> bool:
        """Tell whether to decide again instead of sending: too early, too late, stopped, another key."""
        early = self.clock.now() < step.at
        return early or self._is_late(step) or self.stopping() or self.exchange.key_changed()

    def _is_late(self, step: Send) -> bool:
        """Tell whether it is too late for a request, and report it."""
        late_s = self.clock.now() - step.at
        if late_s > TOO_LATE_S:
            self.observe(RequestTooLate(step.change.family, late_s))
        return late_s > TOO_LATE_S

    async def _record_overrides(self) -> bool:
        """Put on record, before anything is sent on their strength, the overrides this plan needed.

        Each field and value is recorded. Tells whether there was something to be recorded.
        """
        assert self.plan is not None
        changes = {change.family: change.field_words for change in self.plan.changes}
        before = len(self.memory.overridden)
        for refusal in self.plan.overridden:
            values = changes.get(refusal.family, "")
            key = refusal.override, refusal.rule, refusal.field, values
            if key not in self.memory.overridden:
                of = f" ({values})" if values else ""
                told = f"{refusal.kind.value}: {refusal.sentence}{of}"
                await self.store.record_override(refusal.family, refusal=told, reason=self.options.reason)
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
            self.proved[change.family] = slot.attempt  # a later one may prove what was long overtaken
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
        """Back off the failing family; only when two families fail in a row, the account backs off.

        What could not be sent is no attempt on record, so how long it waits is counted here.
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
        self.trouble = reply
        return None

    def _count_unsent(self, family: Family) -> int:
        """Count one more request of a family that could not be sent; return how many there were before."""
        before = self.memory.unsent.get(family, 0)
        self.memory.unsent[family] = before + 1
        return before

    def _reject(self, change: Change, reply: Reply, *, only_if_looser: bool) -> None:
        """Remember that the exchange refused a setting, and when it may be tried again."""
        before = self.memory.rejected.get(change.family)
        again = before is not None and before.rejection.setting == change.after
        times = before.times + 1 if before is not None and again else 1
        retry_at = self.clock.now() + rejected_again_after_s(times)
        rejection = Rejection(change.after, retry_at, only_if_looser)
        self.memory.rejected[change.family] = RejectedSetting(rejection, reply, times)
        self.observe(SettingRejected(change.family, change.after, reply, retry_at))

    async def _sync_clock(self, reply: Reply) -> End | None:
        """Measure the clock again, once; a second refusal of our timestamp stops the writing."""
        if self.memory.clock_synced:
            return Stopped(ReplyHandling.STOP_ACCOUNT, reply)
        failed = await self.exchange.sync_clock()
        if failed is not None:
            return self._failed("measuring the exchange's clock", failed)
        self.memory.clock_synced = True
        self._forget_reads()  # measuring may have taken long
        self.observe(ClockSynced())
        return None

    def _failed(self, doing: str, reply: Reply) -> End | None:
        """Back off after a failure, or stop when the failure is about the account or the key."""
        stop = terminal_action(reply)
        if stop is not None:
            self.observe(ExchangeFailed(doing, reply, None))
            return Stopped(stop, reply)
        self.trouble = reply
        retry_at = self.clock.now() + retry_after_s(reply, self.memory.failures)
        self.memory.failures += 1
        self.memory.not_before = retry_at
        self.observe(ExchangeFailed(doing, reply, retry_at))
        return None if self.options.wait_in_pass else RequeueAt(retry_at, WaitReason.BACK_OFF)

    def _result(self, end: End) -> PassResult:
        uncertain = {family for family, known in self.known.items() if isinstance(known, Uncertain)}
        return PassResult(end, self.plan, frozenset(uncertain), self.trouble, self._states(end))

    def _states(self, end: End) -> Mapping[Family, str]:
        whole = self.plan is not None and self._has_whole_picture(self.plan)
        plan, refused = self.plan if whole else None, isinstance(end, Stopped)
        return family_states(self.wanted, self.known, self.reads, plan, refused=refused)


def _odd_rows(read: LiveRead) -> OddRowsSeen:
    return OddRowsSeen(tuple(sorted(read.odd_names.values())), read.nameless)


async def _pause_fully(clock: Clock, until: float) -> None:
    while clock.now() < until:
        await clock.sleep_until(until)


def _same(plan: Plan, before: Plan | None) -> bool:
    """Tell whether two plans say the same; etas pass with time and do not count."""
    if before is None:
        return False
    return plan.unchanged == before.unchanged and _said(plan) == _said(before)


def _said(plan: Plan) -> list[tuple[object, ...]]:
    return [
        (change.family, change.action, change.because, change.before, change.after)
        for change in plan.changes
    ]
