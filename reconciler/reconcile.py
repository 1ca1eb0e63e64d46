"""One pass: read both sides, decide, act one durable step at a time, and plan again after each.

This file holds no rule. What to do next is :func:`reconciler.core.step.next_step`; when a request may
go is the store's ledger under ``core.pacing``; what a reply means is ``core.verdict``. It never sends
without a reservation on record, never sends twice on one, and never reports a success that is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from reconciler.core import account as accounts
from reconciler.core.events import (
    READING_LIVE,
    Adopted,
    Cause,
    ClockSynced,
    Compared,
    ExchangeFailed,
    FightBroken,
    Identified,
    LiveReadDone,
    Observe,
    Parked,
    Planned,
    RequestReserved,
    RequestSettled,
    Waiting,
)
from reconciler.core.evidence import (
    SECOND_READ_AFTER_S,
    SURVEY_READS,
    Reads,
    unreadable_managed,
)
from reconciler.core.fight import Fight, Heals, fights, healed, without
from reconciler.core.model import AccountInfo, Desired, Family, Known, LiveRead, Pause, Setting, Uncertain
from reconciler.core.outcome import Outcome
from reconciler.core.pacing import LATEST_ARRIVAL_S, SEND_DEADLINE_S, Ledger, earliest_slot
from reconciler.core.pauses import fought_no_more, in_force
from reconciler.core.plan import (
    Change,
    DriftPolicy,
    Plan,
    Reason,
    Rules,
    make_plan,
    with_schedule,
)
from reconciler.core.policy import Allow, PolicyInForce
from reconciler.core.status import states_seen
from reconciler.core.step import Adopt, Read, Send, Settled, Wait, next_step
from reconciler.core.verdict import AttemptStatus, Next, Reply, ReplyClass, Verdict, judge
from reconciler.ports import Clock, Exchange, NotYet, Reserved, Store, TradingExchange

FIRST_BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 30.0
"""Backing off doubles from the first to the longest: an outage is noticed to be over within 30 s."""

LONG_BACK_OFF_S = 60.0
"""After the exchange said that the account or the service is down for longer."""

NOT_OPEN_RETRY_S = 600.0
"""When a family whose instrument is not open is tried again, by ``run``."""

FOUGHT = "put back 3 times within 10 minutes, and changed again by somebody else"
"""Why the breaker of fights paused a family, for people."""

TOO_LATE_S = 10.0
"""How late after it was due a request may still be reserved: a connection may take that long to open.
Later (a suspended process, a state busy with others) it is decided on again, because its read says little
by then. The reservation itself looks once more, when it has waited for all it has to wait for."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a pass is to be run.

    ``patient``: wait inside the pass, holding the lock (``apply``); else end it with ``Later``
    (``run``), so that others get in. ``live`` False compares with last applied alone.
    ``policy`` is asked before every plan, since its file may change under ``run``.
    ``reason``: why ``allowed`` may pass, for the history.
    ``patience_s``: how long a patient pass tries until its review sets a deadline.
    ``breaks_fights``: drift is not put back for ever; what somebody else sets again and again is left
    (``run``; an ``apply`` is an explicit act).
    """

    purpose: str = "apply"
    live: bool = True
    assume_idle: bool = False
    patient: bool = True
    drift: DriftPolicy = DriftPolicy.HEAL
    policy: Callable[[], PolicyInForce] = PolicyInForce
    allowed: frozenset[Allow] = frozenset()
    reason: str = ""
    reviewed: Mapping[Family, tuple[Setting | None, Setting]] | None = None
    only: frozenset[Family] | None = None
    patience_s: float = float("inf")
    breaks_fights: bool = False


@dataclass(frozen=True, slots=True)
class ParkedSetting:
    """A setting the exchange refused; ``retry_at`` None: only another value is tried."""

    setting: Setting
    reply: Reply
    retry_at: float | None


@dataclass(slots=True)
class Memory:
    """What one process remembers from pass to pass; losing it is always safe.

    ``failures`` counts failures in a row, for the back-off, ``state_failures`` those of the state.
    ``clock_synced`` tells that the clock was already measured again since the last request whose
    timestamp was accepted. ``done`` are the families settled by this process; one adopted after a
    request of ours was unanswered counts as applied by that request.
    """

    parked: dict[Family, ParkedSetting] = field(default_factory=dict)
    failures: int = 0
    state_failures: int = 0
    not_before: float = float("-inf")
    clock_synced: bool = False
    planned: Plan | None = None
    attempts: dict[Family, int] = field(default_factory=dict)
    unanswered: set[Family] = field(default_factory=set)
    done: dict[Family, Outcome] = field(default_factory=dict)
    overridden: set[tuple[Allow, str]] = field(default_factory=set)
    """Overrides on record already, each with the rule it was needed for."""
    heals: Heals = field(default_factory=dict)
    """When each family was put back, as far as that counts for the breaker of fights."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything that could be settled is."""


@dataclass(frozen=True, slots=True)
class Later:
    """The pass ended early, to be continued at ``until``."""

    until: float
    cause: Cause


@dataclass(frozen=True, slots=True)
class Stopped:
    """Account, environment or a bug of ours: writing must stop. Nothing is retried by itself."""

    next: Next
    reply: Reply


@dataclass(frozen=True, slots=True)
class Vetoed:
    """The review of the first plan said no; nothing was sent."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline passed."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Someone asked to stop; the request in flight, if any, was settled."""


End = Finished | Later | Stopped | Vetoed | TimedOut | Interrupted


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


Review = Callable[[Plan], float | None]
"""Shown the first whole plan. Returns the deadline's instant, or None to veto."""


async def reconcile(
    desired: Callable[[], Desired],
    *,
    store: Store,
    exchange: TradingExchange,
    clock: Clock,
    observe: Observe,
    options: Options,
    memory: Memory | None = None,
    review: Review | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> PassResult:
    """Make live as desired, as far as it can be done now, holding the account's lock.

    ``desired`` is asked before every step, so a newer file replaces what is queued. The store must
    know the account's User ID (see :func:`identify`). Raises StateLocked and StateUnusable.
    """
    async with store.locked(options.purpose):
        running = _Pass(
            desired, store, exchange, clock, observe, options, memory or Memory(), review, stopping
        )
        return await running.run()


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
    problem = accounts.refusal(info, desired, writing=True, reviewed_uid=reviewed_uid)
    if problem is not None:
        raise problem
    previous = await store.identify(info.uid, host)
    observe(Identified(info.uid, previous))
    return info


async def survey(
    desired: Desired,
    *,
    known: Mapping[Family, Known],
    ledger: Ledger,
    exchange: Exchange | None,
    clock: Clock,
    rules: Rules,
    assume_idle: bool = False,
) -> Plan | Reply:
    """Return the plan as a dry run sees it: reads until nothing is doubtful, holds no sending client.

    ``exchange`` None compares with last applied alone. A Reply means live could not be read.
    """
    reads = Reads()
    for _ in range(SURVEY_READS if exchange is not None else 0):
        assert exchange is not None
        read = await _read_live(exchange, desired)
        if isinstance(read, Reply):
            return read
        reads = reads.then(read)
        if not make_plan(desired, known, reads, rules, clock.now()).doubtful:
            break
        await _pause_fully(clock, read.begun_at + SECOND_READ_AFTER_S)
    plan = make_plan(desired, known, reads, rules, clock.now())
    return with_schedule(plan, ledger, clock.now(), assume_idle=assume_idle)


class _Pass:
    """The state of one pass. Everything in it may be lost at any moment."""

    def __init__(
        self,
        desired: Callable[[], Desired],
        store: Store,
        exchange: TradingExchange,
        clock: Clock,
        observe: Observe,
        options: Options,
        memory: Memory,
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
        self.reads = Reads()
        self.proved: set[Family] = set()  # acknowledged to this pass since its latest read
        self.deadline = clock.now() + options.patience_s
        self.plan: Plan | None = None
        self.wanted = desired()
        self.known: Mapping[Family, Known] = {}
        self.pauses: tuple[Pause, ...] = ()
        self.ended_fights: Mapping[Family, Setting] = {}
        self.trouble: Reply | None = None

    async def run(self) -> PassResult:
        """Step until the pass ends."""
        while True:
            end = self._called_off()
            if end is not None and self.plan is not None:
                await self._plan_again()  # the last request may have changed what is left
            end = end or await self._step()
            if end is not None:
                return self._result(end)

    def _called_off(self) -> End | None:
        if self.stopping():
            return Interrupted()
        if self.exchange.rekeyed():
            return Later(self.clock.now(), Cause.KEY)
        return TimedOut() if self.clock.now() >= self.deadline else None

    async def _step(self) -> End | None:
        """Plan again and take the one step that comes next."""
        plan, slot = await self._plan_again()
        if await self._minds_fights(plan):
            return None
        first = plan.requests[0].family if plan.requests else None
        step = next_step(
            plan,
            self.known.get(first) if first else None,
            self.reads,
            now=self.clock.now(),
            slot=slot,
            not_before=self.memory.not_before,
            live=self.options.live,
        )
        if self._has_whole_picture(plan) and self.review is not None:
            deadline, self.review = self.review(plan), None
            if deadline is None:
                return Vetoed()
            self.deadline = deadline
            return None
        match step:
            case Adopt(settings):
                await self._adopt(settings)
                return None
            case Read():
                return await self._read()
            case Wait(until, cause):
                return await self._wait(until, cause)
            case Send(change, at):
                return await self._send(change, at)
            case Settled():
                return Finished()
            case _:
                assert_never(step)

    async def _plan_again(self) -> tuple[Plan, float]:
        grounds = await self.store.grounds()
        self.known, pauses, ledger = grounds.known, grounds.pauses, self._trusted(grounds.ledger)
        self.reads = self.reads.beside(self.known, self.proved)
        now, self.wanted = self.clock.now(), self.desired()
        desired = self.wanted
        self.pauses = in_force(pauses, desired)
        self.ended_fights = fought_no_more(pauses, desired)
        rules = self._rules(now)
        plan = make_plan(desired, self.known, self.reads, rules, now)
        plan = with_schedule(plan, ledger, now, assume_idle=False)
        whole = self._has_whole_picture(plan)
        overtaken = self.reads.overtaken
        self.observe(Compared(desired, self.known, ledger, self.pauses, rules, plan, whole, overtaken))
        self._tell(plan)
        self.plan = plan
        return plan, earliest_slot(ledger, now)

    def _trusted(self, ledger: Ledger) -> Ledger:
        """Return the pacing ledger; where idleness may be assumed, nothing unknown is waited for."""
        return replace(ledger, empty_since=None) if self.options.assume_idle else ledger

    async def _minds_fights(self, plan: Plan) -> bool:
        """End what the file has ended, break off what goes on too long; True: plan again."""
        if not self.options.breaks_fights:
            return False
        if self.ended_fights:
            await self.store.end_fights(self.ended_fights)
        whole = self._has_whole_picture(plan)
        fought = fights(self.memory.heals, plan, self.clock.now()) if whole else ()
        if fought:
            await self._break_off(fought)
        return bool(fought)

    async def _break_off(self, fought: tuple[Fight, ...]) -> None:
        """Pause what is fought over, on record; the next plan then leaves it."""
        settings = {fight.family: fight.setting for fight in fought}
        await self.store.pause(settings, until=None, reason=FOUGHT, fought=settings)
        self.memory.heals = without(self.memory.heals, settings)
        for fight in fought:
            self.observe(FightBroken(fight.family, fight.setting, fight.heals))

    def _tell(self, plan: Plan) -> None:
        """Tell about a plan that says something new, once there is something to compare with."""
        if self._has_whole_picture(plan) and not _same(plan, self.memory.planned):
            self.observe(Planned(plan))
            self.memory.planned = plan

    def _rules(self, now: float) -> Rules:
        parked = {
            family: refused.setting
            for family, refused in self.memory.parked.items()
            if refused.retry_at is None or refused.retry_at > now
        }
        in_force = self.options.policy()
        return Rules(
            drift=self.options.drift,
            parked=parked,
            paused=frozenset(pause.family for pause in self.pauses),
            policy=in_force.policy,
            policy_unreadable=in_force.unreadable,
            allowed=self.options.allowed,
            only=self.options.only,
            reviewed=self.options.reviewed,
        )

    def _has_whole_picture(self, plan: Plan) -> bool:
        return not plan.doubtful and (self.reads.latest is not None or not self.options.live)

    async def _adopt(self, settings: dict[Family, Setting]) -> None:
        assert self.reads.latest is not None
        await self.store.adopt(settings, read_begun_at=self.reads.latest.begun_at)
        for family in settings:
            ours = family in self.memory.unanswered
            self.memory.done.setdefault(family, Outcome.APPLIED if ours else Outcome.ADOPTED)
        self.observe(Adopted(settings))

    async def _read(self) -> End | None:
        read = await _read_live(self.exchange, self.desired())
        if isinstance(read, Reply):
            return self._failed(READING_LIVE, read)
        self.memory.failures = 0
        self.reads, self.proved = self.reads.then(read), set()
        await self.store.record_live(read)
        self.observe(LiveReadDone(read))
        return None

    async def _wait(self, until: float, cause: Cause) -> End | None:
        assert self.plan is not None
        first = self.plan.requests[0] if self.plan.requests else None
        done_at = max(until, self.clock.now() + self.plan.eta_s)
        self.observe(
            Waiting(until, cause, first.family if first else None, len(self.plan.requests), done_at)
        )
        if not self.options.patient and cause is not Cause.SECOND_READ:
            return Later(until, cause)
        await self.clock.pause(min(until, self.deadline))
        return None

    async def _send(self, change: Change, at: float) -> End | None:
        """Open, wait for the slot, reserve, send once, settle; any doubt on the way plans again."""
        connection = await self.exchange.open()
        if isinstance(connection, Reply):
            return self._failed("connecting", connection)
        try:
            await self.clock.pause(at)
            if self._not_the_time(at):
                return None
            if await self._record_overrides() and self._not_the_time(at):
                return None  # the state took long over it
            request = self.exchange.sign(change.family, change.after)
            slot = await self.store.reserve(
                request, assume_idle=self.options.assume_idle, by=at + TOO_LATE_S
            )
            if isinstance(slot, NotYet):
                return None
            self.observe(RequestReserved(slot.attempt, change.family, change.after, slot.reserved_at))
            reply = await connection.send(request, deadline=slot.reserved_at + SEND_DEADLINE_S)
        finally:
            await connection.close()
        return await self._settle(change, slot, reply)

    def _not_the_time(self, at: float) -> bool:
        """Tell whether to decide again instead of sending: too early, too late, stopped, another key."""
        late = not at <= self.clock.now() <= at + TOO_LATE_S
        return late or self.stopping() or self.exchange.rekeyed()

    async def _record_overrides(self) -> bool:
        """Put on record, before anything is sent on their strength, the overrides this plan needed.

        Tells whether there was something to be recorded.
        """
        assert self.plan is not None
        before = len(self.memory.overridden)
        for refusal in self.plan.overridden:
            key = refusal.override, refusal.rule
            if key not in self.memory.overridden:
                told = f"{refusal.kind.value}: {refusal.sentence}"
                await self.store.record_override(refusal.family, refusal=told, reason=self.options.reason)
                self.memory.overridden.add(key)
        return len(self.memory.overridden) > before

    async def _settle(self, change: Change, slot: Reserved, reply: Reply) -> End | None:
        verdict = judge(change.family, change.after, reply)
        await self.store.settle(
            slot.attempt,
            verdict.status,
            definite=verdict.definite,
            limited=reply.reply_class is ReplyClass.RATE_LIMITED,
            code=reply.code,
            message=reply.message,
        )
        self.memory.attempts[change.family] = self.memory.attempts.get(change.family, 0) + 1
        if verdict.status is AttemptStatus.UNKNOWN:
            self.memory.unanswered.add(change.family)
        if verdict.definite and reply.reply_class is not ReplyClass.CLOCK:
            self.memory.clock_synced = False
        took = self.clock.now() - slot.reserved_at
        if verdict.status is AttemptStatus.APPLIED and took < LATEST_ARRIVAL_S:
            self.proved.add(change.family)  # later, what is on record may be a newer proof, not of ours
        self.observe(
            RequestSettled(
                slot.attempt, change.family, change.after, verdict.status, reply, took, change.reason
            )
        )
        return await self._follow(change, verdict, reply)

    async def _follow(self, change: Change, verdict: Verdict, reply: Reply) -> End | None:
        match verdict.next:
            case Next.PROCEED:
                self._proceed(change, verdict)
            case Next.BACK_OFF:
                return self._failed(f"setting {change.family}", reply)
            case Next.PARK:
                self._park(change, reply, None)
            case Next.PARK_AND_RETRY:
                self._park(change, reply, self.clock.now() + NOT_OPEN_RETRY_S)
            case Next.SYNC_CLOCK:
                return await self._sync_clock(reply)
            case Next.STOP_ACCOUNT | Next.STOP_ENVIRONMENT | Next.STOP_BUG:
                return Stopped(verdict.next, reply)
            case _:
                assert_never(verdict.next)
        return None

    def _proceed(self, change: Change, verdict: Verdict) -> None:
        if verdict.status is AttemptStatus.APPLIED:
            self.memory.failures = 0
            self.memory.parked.pop(change.family, None)
            self.memory.done[change.family] = Outcome.APPLIED
            if change.reason is Reason.DRIFTED:
                now = self.clock.now()
                self.memory.heals = healed(self.memory.heals, change.family, change.after, now)

    def _park(self, change: Change, reply: Reply, retry_at: float | None) -> None:
        self.memory.parked[change.family] = ParkedSetting(change.after, reply, retry_at)
        self.observe(Parked(change.family, change.after, reply, retry_at))

    async def _sync_clock(self, reply: Reply) -> End | None:
        """Measure the clock again, once; a second refusal of our timestamp stops the writing."""
        if self.memory.clock_synced:
            return Stopped(Next.STOP_ACCOUNT, reply)
        failed = await self.exchange.sync_clock()
        if failed is not None:
            return self._failed("measuring the exchange's clock", failed)
        self.memory.clock_synced = True
        self.observe(ClockSynced())
        return None

    def _failed(self, doing: str, reply: Reply) -> End | None:
        """Back off after a failure, or stop when the failure is about the account or the key."""
        stop = stop_for(reply)
        if stop is not None:
            self.observe(ExchangeFailed(doing, reply, None))
            return Stopped(stop, reply)
        self.trouble = reply
        retry_at = self.clock.now() + retry_after_s(reply, self.memory.failures)
        self.memory.failures += 1
        self.memory.not_before = retry_at
        self.observe(ExchangeFailed(doing, reply, retry_at))
        return None if self.options.patient else Later(retry_at, Cause.BACK_OFF)

    def _result(self, end: End) -> PassResult:
        uncertain = {family for family, known in self.known.items() if isinstance(known, Uncertain)}
        return PassResult(end, self.plan, frozenset(uncertain), self.trouble, self._states(end))

    def _states(self, end: End) -> Mapping[Family, str]:
        whole = self.plan is not None and self._has_whole_picture(self.plan)
        plan, refused = self.plan if whole else None, isinstance(end, Stopped)
        return states_seen(self.wanted, self.known, self.reads, plan, refused=refused)


def back_off_s(failures: int) -> float:
    """Return how long to back off after ``failures`` earlier failures in a row: 1, 2, 4 … 30 s."""
    return float(min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** min(failures, 10)))


def retry_after_s(reply: Reply, failures: int) -> float:
    """Return how long to wait after ``reply``: longer when the exchange said it is down for longer."""
    usual = back_off_s(failures)
    return max(usual, LONG_BACK_OFF_S) if reply.reply_class is ReplyClass.UNAVAILABLE else usual


def stop_for(reply: Reply) -> Next | None:
    """Return how a failed question to the exchange stops the writing; None when it is retried."""
    match reply.reply_class:
        case ReplyClass.ACCOUNT | ReplyClass.CLOCK:
            return Next.STOP_ACCOUNT
        case ReplyClass.ENVIRONMENT:
            return Next.STOP_ENVIRONMENT
        case ReplyClass.OUR_BUG:
            return Next.STOP_BUG
        case _:
            return None


def blames_account(reply: Reply) -> bool:
    """Tell whether a reply is about the account, the key or the environment."""
    return stop_for(reply) in (Next.STOP_ACCOUNT, Next.STOP_ENVIRONMENT)


async def _read_live(exchange: Exchange, desired: Desired) -> LiveRead | Reply:
    """Read live; a desired family whose row makes no sense makes the whole read unusable."""
    read = await exchange.read_live()
    if isinstance(read, LiveRead) and (bad := unreadable_managed(read, desired)):
        family, why = bad
        return Reply(ReplyClass.NO_ANSWER, "bad-row", f"the live row of {family} makes no sense: {why}")
    return read


async def _pause_fully(clock: Clock, until: float) -> None:
    while clock.now() < until:
        await clock.pause(until)


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
