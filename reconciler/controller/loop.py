"""The long-running loop: passes, one after another, until it is stopped.

A pass starts when the file changed, when the interval is over, when a slot or a retry is due, or when the
loop is woken. Everything that the loop remembers may be lost safely. A failing exchange or an unreachable
state never ends the loop. The loop never spins, and never holds the lock while it waits.

One process controls an account on a state file. Another one is a standby: it reads and compares, and writes
nothing. It takes over within two seconds after the first one ends, and starts with an empty memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

from reconciler.controller.account_preflight import identify
from reconciler.controller.pass_values import (
    Completed,
    InMemoryState,
    Interrupted,
    NotApproved,
    PassOptions,
    PassResult,
    RequeueAt,
    Stopped,
    TimedOut,
)
from reconciler.controller.reconcile import reconcile
from reconciler.controller.standby import read_and_compare
from reconciler.core import events
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import MAX_SURVEY_READS, SECOND_READ_AFTER_S, Reads
from reconciler.core.model import Desired, Family
from reconciler.core.monitoring.state_timeline import FAILED
from reconciler.core.reply import Reply, ReplyClass, terminal_action
from reconciler.core.retry import back_off_s, retry_after_s
from reconciler.errors import STATE_FAILURES, AccountProblem, MmpError, StateAccountMismatch, StateLocked
from reconciler.ports import Clock, Store, TradingExchange

DEFAULT_INTERVAL_S = 30.0
"""The time between two live reads when nothing else happens."""

STOPPED_RETRY_S = 60.0
"""The wait after the account or key was refused. Then the loop asks again whether it was repaired."""

READING_ACCOUNT = "reading the account of the key"

LOCKED_RETRY_S = 1.0
"""The wait after the lock could not be taken within the lock timeout."""


KEY_RETRY_S = 5.0
"""The wait after the key could not be read, or changed while the account was read: it is being replaced."""

BURST_PASSES = 3
BURST_S = 2.0
"""At most BURST_PASSES passes start within BURST_S, however often the file changes. Each pass reads once or
twice, and OKX allows 5 reads in 2 s."""

CONTROL_RETRY_S = 1.0
"""The time between two tries of a standby to take over. A try costs microseconds; takeover within 2 s."""

OWNED_RETRY_S = 1.0
"""The wait while another replica may have the account: until the lease is valid or released."""

UNANSWERED = frozenset({ReplyClass.NO_ANSWER, ReplyClass.NOT_SENT})
"""Failures that end when the exchange's address works again: OKX itself refused nothing."""

ClaimFamilies = Callable[[str], AccountProblem | None]
"""Returns why this process may not write this file's families to this User ID, or None. It does not ask the
exchange."""


async def nothing_to_prepare(_writing: bool) -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class _Identified:
    """The key's account was checked against this ``expect.uid``; a new value is checked again."""

    uid: str
    expected_uid: str | None


@dataclass(slots=True)
class _Standby:
    """The state of a standby while ``holder`` controls the account (None: its name is unknown).

    ``reads`` are the reads of the comparison in progress, ``reads_done`` is their number. ``read_at`` is
    the time of the next live read.
    """

    holder: LockHolder | None
    read_at: float
    reads: Reads = field(default_factory=Reads)
    reads_done: int = 0


@dataclass(slots=True)
class Loop:
    """The loop of one account. It identifies the account again after a new key or a refusal."""

    desired: Callable[[], Desired]
    store: Store
    exchange: TradingExchange
    clock: Clock
    observe: events.Observe
    host: str
    options: PassOptions
    interval_s: float = DEFAULT_INTERVAL_S
    stopping: Callable[[], bool] = lambda: False
    claim_families: ClaimFamilies = lambda _: None
    may_start: Callable[[], bool] = lambda: True
    """Whether a pass may start: False while another replica may have the account."""
    pass_permit: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """The permit that a pass holds: it limits how many accounts of a process run a pass at once."""
    prepare: Callable[[bool], Awaitable[None]] = nothing_to_prepare
    """Called before each pass or comparison: reads what else it needs; writes only if given True."""
    max_start_delay_s: float = 60.0
    """How long a pass may wait for its permit and for the lock. A monitor does not count the loop as dead
    before that."""
    _memory: InMemoryState = field(default_factory=InMemoryState)
    _identified: _Identified | None = None
    _reported_problem: AccountProblem | StateAccountMismatch | None = None
    _pass_starts: deque[float] = field(default_factory=lambda: deque(maxlen=BURST_PASSES))
    _failure: Reply | None = None
    """The newest failure of a read or request; None: the last pass had none."""
    _recovered: bool = False
    """OKX answers again: skip the back-off once."""
    _last_states: Mapping[Family, str] | None = None
    """The state word of each family as last seen; None: this process did not read it."""
    _standby: _Standby | None = None
    """None while this process controls the account."""
    _woken: bool = False

    async def run(self) -> None:
        """Reconcile until asked to stop. Raises StateUnusable when the state cannot be relied on."""
        self.options = replace(self.options, wait_in_pass=False)
        try:
            await self._run()
        finally:
            await self.store.release_control()

    async def _run(self) -> None:
        while not self.stopping():
            try:
                if not await self.store.try_control(self.options.purpose):
                    wait_until: float | None = await self._stand_by()
                else:
                    if self._standby is not None:
                        self._take_over()
                    wait_until = await self._once()
                self._memory.state_failures = 0
            except STATE_FAILURES as problem:
                wait_until = self._await_state(problem)
            if wait_until is not None and not self.stopping():
                self.observe(events.LoopIdle(wait_until))
                await self._record(wait_until)
                await self.clock.sleep_until(wait_until)
                self._woken = self.clock.now() < wait_until
                self.observe(events.LoopResumed(self.clock.now()))

    def address_recovered(self) -> bool:
        """End a back-off that is due to missing answers; returns whether there was one."""
        self._recovered = self._failure is not None and self._failure.reply_class in UNANSWERED
        return self._recovered

    async def _stand_by(self) -> float:
        """Read the account that another process controls, if a read is due; returns when to call again."""
        holder, now = await self.store.controller(), self.clock.now()
        if self._standby is None or holder not in (None, self._standby.holder):
            self._standby = _Standby(holder, now)
            self.observe(events.ControlledElsewhere(holder))
        if now >= self._standby.read_at or self._woken:
            self._standby.read_at = await self._read_as_standby(self._standby)
        return min(self._standby.read_at, self.clock.now() + CONTROL_RETRY_S)

    def _take_over(self) -> None:
        """Take control of the account, as a process that has just started."""
        self._standby = self._identified = self._reported_problem = None
        self._memory = InMemoryState()
        self.observe(events.ControlTaken())

    async def _read_as_standby(self, standby: _Standby) -> float:
        """Read live once and compare, writing nothing; returns when to read again."""
        if not self._is_identified():
            again_at = await self._identify(writing=False)
            if again_at is not None:
                return again_at
        await self._prepare(writing=False)
        async with self.pass_permit():
            compared = await read_and_compare(
                self.desired(),
                standby.reads,
                store=self.store,
                exchange=self.exchange,
                clock=self.clock,
                observe=self.observe,
                options=self.options,
            )
        if isinstance(compared, Reply):
            standby.reads, standby.reads_done = standby.reads.forgotten(), 0
            return self._no_answer(compared, events.READING_LIVE)
        self._memory.failures = 0
        standby.reads, standby.reads_done = compared.reads, standby.reads_done + 1
        if (
            compared.plan.doubtful
            and compared.reads.latest is not None
            and standby.reads_done < MAX_SURVEY_READS
        ):
            return compared.reads.latest.ended_at + SECOND_READ_AFTER_S
        standby.reads, standby.reads_done = compared.reads.forgotten(), 0
        return self.clock.now() + self.interval_s

    async def _once(self) -> float | None:
        """Do the next thing: identify the account, report why nothing may be written, or run a pass."""
        if self._recovered:
            self._recovered, self._memory.not_before = False, float("-inf")
        if not self.may_start():
            self._last_states = None
            return self.clock.now() + OWNED_RETRY_S
        if not self._is_identified():
            return await self._identify(writing=True)
        if (problem := self._claim_problem()) is not None:
            return self._report_problem(problem, STOPPED_RETRY_S)
        self._reported_problem = None
        await self._prepare(writing=True)
        await self._accept_file_change()
        async with self.pass_permit():
            return await self._one_pass()

    def _is_identified(self) -> bool:
        """Tell whether the account of the present key was checked against the present file."""
        if self._identified is not None and self.exchange.key_changed():
            self.observe(events.KeyReplaced())
            self._identified = None
        expected = self.desired().expected_uid
        return self._identified is not None and self._identified.expected_uid == expected

    async def _prepare(self, *, writing: bool) -> None:
        """Wait until a pass or comparison may begin, and read what else it needs."""
        # The heartbeat is dated ahead, because the waits below are normal.
        self.observe(events.LoopResumed(self.clock.now() + BURST_S + self.max_start_delay_s))
        await self._space_out()
        await self.prepare(writing)

    def _claim_problem(self) -> AccountProblem | None:
        assert self._identified is not None
        return self.claim_families(self._identified.uid)

    async def _identify(self, *, writing: bool) -> float | None:
        """Ask for the account of the key; returns None if it may be used, else when to ask again."""
        desired = self.desired()
        try:
            answer = await identify(
                desired,
                store=self.store,
                exchange=self.exchange,
                host=self.host if writing else None,
                observe=self.observe,
            )
        except (AccountProblem, StateAccountMismatch) as problem:
            return self._report_problem(problem, self._stopped_retry_s())
        if isinstance(answer, Reply):
            return self._no_answer(answer, READING_ACCOUNT)
        self._memory.failures, self._reported_problem, self._failure = 0, None, None
        self._identified = _Identified(answer.uid, desired.expected_uid)
        return None

    def _stopped_retry_s(self) -> float:
        """Return when a refused account is asked for again: soon if its key is being replaced."""
        return KEY_RETRY_S if self.exchange.key_changed() else STOPPED_RETRY_S

    def _no_answer(self, answer: Reply, doing: str) -> float:
        self._failure = answer
        wait_s = retry_after_s(answer, self._memory.failures)
        if terminal_action(answer) is not None:
            wait_s = self._stopped_retry_s()
        self._memory.failures += 1
        retry_at = self.clock.now() + wait_s
        self.observe(events.ExchangeFailed(doing, answer, retry_at))
        self._last_states = dict.fromkeys(self.desired().families, FAILED)
        return retry_at

    def _report_problem(self, problem: AccountProblem | StateAccountMismatch, wait_s: float) -> float:
        """Report why nothing is written, once while the reason is the same; returns when to ask again.

        The event has no time of the next try: later tries are not reported, so it would soon be outdated.
        """
        self._last_states = dict.fromkeys(self.desired().families, FAILED)
        if self._reported_problem is None or problem.args != self._reported_problem.args:
            text = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
            reply = Reply(ReplyClass.ACCOUNT, problem.code, text)
            self.observe(events.ExchangeFailed(READING_ACCOUNT, reply, retry_at=None))
            self._reported_problem = problem
        known_s = problem.wait_s if isinstance(problem, AccountProblem) else None
        return self.clock.now() + (wait_s if known_s is None else min(wait_s, known_s))

    async def _record(self, wait_until: float) -> None:
        """Record the family states for the 24-hour timeline, and report if the state cannot be used.

        The next pass reports any other failure of the state. Only the controller records.
        """
        if self._last_states is not None and self._standby is None:
            with suppress(MmpError):
                try:
                    await self.store.record_states(self._last_states)
                except STATE_FAILURES as problem:
                    self.observe(events.StateFailed(problem.code, problem.message, wait_until))

    async def _accept_file_change(self) -> None:
        """Put a change of the settings file on record before waiting for a permit or the lock.

        Another process's file must not become the newest in the meantime.
        """
        sha256, memory = self.desired().sha256, self._memory
        if memory.file is not None and memory.file.sha256 != sha256:
            memory.file = await self.store.accept_file(sha256, changed=True)

    async def _one_pass(self) -> float | None:
        """Run one pass. Returns when the next is due, None: at once."""
        began_at = self.clock.now()
        try:
            result = await reconcile(
                self.desired,
                store=self.store,
                exchange=self.exchange,
                clock=self.clock,
                observe=self.observe,
                options=self.options,
                memory=self._memory,
                stopping=lambda: (
                    self.stopping() or not self.may_start() or self._claim_problem() is not None
                ),
            )
        except StateLocked as locked:
            self._last_states = None
            self.observe(events.StateLockTimedOut(locked.message))
            return self.clock.now() + LOCKED_RETRY_S
        except AccountProblem as problem:
            self._identified = None
            return self._report_problem(problem, STOPPED_RETRY_S)
        self._last_states, self._failure = result.states, result.failing
        self.observe(events.PassEnded(self.clock.now() - began_at, isinstance(result.end, Completed)))
        if isinstance(result.end, Stopped):
            self._identified = None
        return self._next_due(result)

    async def _space_out(self) -> None:
        """Wait while BURST_PASSES passes started within BURST_S; a wake-up does not shorten the wait."""
        if len(self._pass_starts) == BURST_PASSES:
            earliest = self._pass_starts[0] + BURST_S
            while self.clock.now() < earliest and not self.stopping():
                await self.clock.sleep_until(earliest)
        self._pass_starts.append(self.clock.now())

    def _await_state(self, problem: MmpError) -> float:
        """Report that the state cannot be used now; returns when to try again."""
        retry_at = self.clock.now() + back_off_s(self._memory.state_failures)
        self._memory.state_failures += 1
        self._last_states = None
        self.observe(events.StateFailed(problem.code, problem.message, retry_at))
        return retry_at

    def _next_due(self, result: PassResult) -> float | None:
        interval_end = self.clock.now() + self.interval_s
        match result.end:
            case RequeueAt(until=until):
                return min(until, interval_end)
            case Stopped():
                return self.clock.now() + STOPPED_RETRY_S
            case Completed():
                return interval_end
            case Interrupted() | TimedOut() | NotApproved():
                return None
