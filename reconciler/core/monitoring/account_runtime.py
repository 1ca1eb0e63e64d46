"""Runtime state of one account: everything that a probe, a metric or the status page needs.

The runtime is immutable: each event makes a new one. Nothing here decides what is written. It has the
comparison that the pass made, so an observer sees what the pass sees. Instants are on the process's
monotonic clock; wall times are UTC and for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from reconciler.core import events
from reconciler.core.live_evidence import InDoubt, evidence_of
from reconciler.core.model import Desired, Family, LiveRead, NeverApplied, Pause
from reconciler.core.monitoring.status import Status, StatusInputs, make_status
from reconciler.core.pacing import EPS_S, WINDOW_S
from reconciler.core.plan import Action, Change, Reason
from reconciler.core.planning import make_plan
from reconciler.core.problems import Problem
from reconciler.core.reply import STOPPING, AttemptStatus, Reply, ReplyClass
from reconciler.core.unservable_accounts import REFUSED, SAME_EVERYWHERE, ReadState

SHOWN_S = 60.0
"""How long a request is shown in the chart of the pacing window."""

MAX_REQUESTS = 32
"""Requests remembered for that chart: more than two in 10 s can be; a bound in case of a bug."""

MAX_ERRORS = 20
"""Last problems remembered, newest first: for people to read, not an archive (the log is)."""

MAX_PROBLEMS_REMEMBERED = 20
"""Problems of a rejected file remembered: enough to see what is wrong; ``mmp validate`` prints all."""

SILENCE_S = 90.0
"""How long a loop may be silent after its promised next step before it counts as dead. Between two steps
it makes a few requests to state and exchange, each of at most 10 s. Waiting for a pass permit and for the
lock is promised separately, since ``--lock-timeout`` says how long that may take."""


FROM_OUTSIDE = (
    events.ConfigMissing,
    events.ConfigAccepted,
    events.ConfigRejected,
    events.RejectedConfigRemoved,
    events.PolicyAccepted,
    events.PolicyRejected,
    events.WatchDegraded,
    events.LeaseTaken,
    events.LeaseEnded,
    events.ReplicaStatusChanged,
    events.AccountsConfigured,
)
"""Events of an account that are no step of its loop: of files and of leases."""


@dataclass(frozen=True, slots=True)
class RecentError:
    """One thing that went wrong; ``family`` None: it is about the account.

    ``asked``: it was a read of the exchange; nothing was to change.
    """

    at: datetime
    code: str
    message: str
    family: Family | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """One request of the last minute; PENDING until its reply is on record."""

    attempt: int
    family: Family
    at: float
    status: AttemptStatus


@dataclass(frozen=True, slots=True)
class Outage:
    """Requests to the exchange fail: since when, how often, what failed last and when it is tried again."""

    since: float
    since_wall: datetime
    failed: events.ExchangeFailed
    failures: int


@dataclass(frozen=True, slots=True)
class TerminalError:
    """The exchange rejects key, account, environment or clock: nothing is written until a person acts.

    ``writing``: a write was rejected, so a read that succeeds does not end it.
    """

    reply: Reply
    writing: bool


@dataclass(frozen=True, slots=True)
class FileInForce:
    """The content of a file that is in force; ``accepted_at`` None: since before it was watched."""

    path: str
    sha256: str
    accepted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewerRejected:
    """A file with newer content that was rejected; an earlier valid version stays in force.

    ``in_force`` None: it was in force before this process read the file, for example a policy that the
    state remembers.
    """

    path: str
    in_force: FileInForce | None
    rejected_at: datetime
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class NeverValid:
    """A file that was never valid. No account runs from such a settings file.

    With such a policy only the guard applies.
    """

    path: str
    rejected_at: datetime
    problems: tuple[Problem, ...]


RejectedFile = NewerRejected | NeverValid

FileState = FileInForce | RejectedFile
"""A file that may change while it is in force: what is in force, and what is wrong with a newer one."""


@dataclass(frozen=True, slots=True)
class AccountRuntime:
    """The runtime state of one account's loop.

    ``config`` is None until its content was accepted by the watcher, ``policy`` None without one.
    ``live`` False: the exchange is never read. ``last_step_at`` is the loop's last step. It promised the
    next one by ``next_step_by``; until then silence means nothing.
    ``compared`` is the newest comparison of any kind, made at ``compared_at``, ``last_complete`` the newest
    complete one. ``controller`` is the other process that controls the account while this one is a standby.
    ``read`` is the newest live read of this process, reported at ``read_at``. ``state_locked``,
    ``state_failed`` and ``loop_failed`` are why the loop makes no progress. Each ends by evidence of its
    own, so none hides another. ``started`` is latched once every desired family was seen in sync or tighter
    and none was uncertain. ``in_sync_at`` is the last instant at which every family was proven in sync.
    """

    desired: Desired
    host: str
    simulator: bool
    live: bool
    last_step_at: float
    next_step_by: float
    uid: str | None = None
    compared: events.Compared | None = None
    compared_at: float | None = None
    last_complete: events.Compared | None = None
    read: LiveRead | None = None
    read_at: float | None = None
    outage: Outage | None = None
    terminal_error: TerminalError | None = None
    controller: events.ControlledElsewhere | None = None
    state_locked: events.StateLockTimedOut | None = None
    state_failed: events.StateFailed | None = None
    loop_failed: events.LoopFailed | None = None
    started: bool = False
    in_sync_at: float | None = None
    pauses: tuple[Pause, ...] = ()
    rejected: Mapping[Family, events.SettingRejected] = field(default_factory=dict)
    requests: tuple[RecentRequest, ...] = ()
    errors: tuple[RecentError, ...] = ()
    config: FileState | None = None
    policy: FileState | None = None


def initial(
    desired: Desired,
    *,
    host: str,
    simulator: bool,
    live: bool,
    now: float,
    policy: FileInForce | None = None,
) -> AccountRuntime:
    """Return the runtime of a loop that has just started, under ``policy`` (None: there is none)."""
    return AccountRuntime(desired, host, simulator, live, last_step_at=now, next_step_by=now, policy=policy)


def apply_event(
    runtime: AccountRuntime, event: events.Event, *, now: float, wall: datetime
) -> AccountRuntime:
    """Return the runtime once ``event`` has happened, at ``now`` and ``wall``."""
    after = runtime if isinstance(event, FROM_OUTSIDE) else _after_step(runtime, event, now)
    match event:
        case events.Identified(uid=uid):
            return _exchange_answered(replace(after, uid=uid, state_failed=None))
        case events.LiveReadDone(read=read):
            return _exchange_answered(replace(after, read=read, read_at=now, state_locked=None))
        case events.Compared():
            return _compared(replace(after, state_failed=None), event, now)
        case events.ExchangeFailed():
            return _failed(after, event, now, wall)
        case events.RequestReserved():
            request = RecentRequest(event.attempt, event.family, event.at, AttemptStatus.PENDING)
            return replace(after, requests=_shown((*after.requests, request), now))
        case events.RequestSettled():
            return _settled(after, event, wall)
        case events.SettingRejected():
            return _setting_rejected(after, event, wall)
        case events.HealBreakerTripped():
            text = f"restored {event.heals} times and changed again by another writer: no longer written"
            return _with_error(after, RecentError(wall, "contested", text, event.family))
        case events.StateLockTimedOut():
            return replace(after, state_locked=event, state_failed=None)
        case events.ControlledElsewhere():
            return replace(after, controller=event, state_locked=None, state_failed=None)
        case events.ControlTaken():
            return replace(after, controller=None)
        case events.PassEnded():
            return _ended(after, event)
        case events.LoopIdle(until=until) | events.LoopResumed(until=until):
            return replace(after, next_step_by=until)
        case events.StateFailed():
            waiting = replace(after, next_step_by=event.retry_at, state_failed=event)
            return _with_error(waiting, RecentError(wall, event.code, event.message))
        case events.LoopFailed():
            return _loop_failed(after, event, wall)
        case events.ConfigAccepted(path=path, sha256=sha256):
            return replace(after, config=FileInForce(path, sha256, wall))
        case events.ConfigRejected():
            return replace(after, config=rejected_file(runtime.config, event, wall))
        case events.PolicyAccepted(path=path, sha256=sha256):
            return replace(after, policy=None if sha256 is None else FileInForce(path, sha256, wall))
        case events.PolicyRejected():
            return replace(after, policy=rejected_file(runtime.policy, event, wall))
        case _:
            return after


def alive(runtime: AccountRuntime, now: float) -> bool:
    """Tell whether the loop makes its steps as promised; a hang is detected SILENCE_S after a promise."""
    return now <= max(runtime.last_step_at, runtime.next_step_by) + SILENCE_S


def is_current(runtime: AccountRuntime) -> bool:
    """Tell whether the file in force is the one that was compared last; a newly accepted one is not."""
    file = content_in_force(runtime.config)
    return file is None or file.sha256 == runtime.desired.sha256


def runtime_status(runtime: AccountRuntime, *, now: float, wall: datetime) -> Status | None:
    """Return the account's status as the loop knows it; None before the first comparison.

    It has the plan that the pass made; only ages and times are of ``now``. A pass makes its first plan
    before it reads live settings, so that plan does not show drift. Until the pass has read, what is
    desired and on record is compared with the last read of this process instead. The age of the live read
    is measured on the monotonic clock: the time of day may be set meanwhile.
    """
    compared = runtime.compared
    if compared is None:
        return None
    plan, reads = compared.plan, compared.reads
    if reads.latest is None and runtime.read is not None:
        reads = replace(reads, latest=runtime.read)
        plan = make_plan(compared.desired, compared.known, reads, compared.rules, now)
    record = StatusInputs(
        uid=runtime.uid,
        host=runtime.host,
        known=compared.known,
        ledger=compared.ledger,
        live_rows=runtime.read.rows if runtime.read else {},
        live_at=None if runtime.read_at is None else wall - timedelta(seconds=now - runtime.read_at),
        pauses=runtime.pauses,
        controller=runtime.controller.holder if runtime.controller else None,
    )
    return make_status(
        runtime.desired, record, plan, reads, simulator=runtime.simulator, now=now, wall=wall
    )


def reading_of(runtime: AccountRuntime) -> ReadState:
    """Return whether the live reads of an account succeed, from its runtime."""
    outage, terminal_error = runtime.outage, runtime.terminal_error
    refused = (
        terminal_error is not None
        and terminal_error.reply.reply_class in REFUSED
        and not terminal_error.reply.code.startswith(SAME_EVERYWHERE)
    )
    return ReadState(None if outage is None else outage.since, runtime.read_at, refused)


def content_in_force(file: FileState | None) -> FileInForce | None:
    """Return the content of a file that is in force, as far as this process has read it; None: none is."""
    return (
        file.in_force
        if isinstance(file, NewerRejected)
        else file
        if isinstance(file, FileInForce)
        else None
    )


def rejection(file: FileState | None) -> RejectedFile | None:
    """Return a file if its newest content was rejected; None if it was not."""
    return file if isinstance(file, RejectedFile) else None


def rejected_file(
    file: FileState | None, event: events.ConfigRejected | events.PolicyRejected, wall: datetime
) -> RejectedFile:
    """Return a file whose newer content was rejected; ``file`` is what was known of it, None: nothing."""
    problems = event.problems[:MAX_PROBLEMS_REMEMBERED]
    if not event.in_force:
        return NeverValid(event.path, wall, problems)
    return NewerRejected(event.path, content_in_force(file), wall, problems)


def all_protected(changes: tuple[Change, ...]) -> bool:
    """Tell whether every family that a plan changes is at least as tight as desired.

    An uncertain family is not known to be.
    """
    return not any(change.reason is Reason.UNCERTAIN or change.is_exposed for change in changes)


def _compared(runtime: AccountRuntime, event: events.Compared, now: float) -> AccountRuntime:
    """Take the comparison; only a complete one can show that everything is in sync, or protected."""
    runtime = replace(runtime, compared=event, compared_at=now, desired=event.desired, pauses=event.pauses)
    if not event.complete:
        return runtime
    changes = event.plan.changes
    started = runtime.started or (all_protected(changes) and not _in_doubt(event))
    in_sync = all(change.action is Action.ADOPT and change.known_at is None for change in changes)
    return replace(
        runtime, last_complete=event, started=started, in_sync_at=now if in_sync else runtime.in_sync_at
    )


def _in_doubt(event: events.Compared) -> bool:
    """Tell whether the read of some family is in doubt: it differs, or another process's proof is newer.

    If the file has changed as well, the plan does not wait for a second read and compares with what was
    applied; but what the read shows may be less protection than that, or none.
    """
    return any(
        isinstance(evidence_of(each, event.known.get(each, NeverApplied()), event.reads), InDoubt)
        for each in event.desired.families
    )


def _exchange_answered(runtime: AccountRuntime) -> AccountRuntime:
    """Record that the exchange answers; the terminal error of a write stays."""
    terminal_error = runtime.terminal_error
    return replace(
        runtime,
        outage=None,
        terminal_error=terminal_error if terminal_error and terminal_error.writing else None,
    )


def _ended(runtime: AccountRuntime, event: events.PassEnded) -> AccountRuntime:
    """Take the end of a pass; if nothing is left to write, the terminal error of a write is over.

    What is only held, by a freeze or a pause, is left to write. Without live reads, an exchange that
    nothing is left to write to is not asked again.
    """
    ended = replace(runtime, state_locked=None, state_failed=None)
    if not event.finished or (runtime.last_complete is not None and runtime.last_complete.plan.changes):
        return ended
    return replace(ended, terminal_error=None, outage=runtime.outage if runtime.live else None)


def _failed(
    runtime: AccountRuntime, event: events.ExchangeFailed, now: float, wall: datetime
) -> AccountRuntime:
    before = runtime.outage
    since, since_wall = (before.since, before.since_wall) if before else (now, wall)
    outage = Outage(since, since_wall, event, before.failures + 1 if before else 1)
    text = f"failed: {event.doing}: {event.reply.text}"
    stopped = event.reply.reply_class in STOPPING and not (
        runtime.terminal_error and runtime.terminal_error.writing
    )
    terminal_error = TerminalError(event.reply, writing=False) if stopped else runtime.terminal_error
    return _with_error(
        replace(runtime, outage=outage, terminal_error=terminal_error),
        RecentError(wall, event.reply.code, text, asked=True),
    )


def _settled(runtime: AccountRuntime, event: events.RequestSettled, wall: datetime) -> AccountRuntime:
    requests = tuple(
        replace(request, status=event.status) if request.attempt == event.attempt else request
        for request in runtime.requests
    )
    runtime = replace(runtime, requests=requests, terminal_error=_terminal_error(runtime, event))
    if event.status is AttemptStatus.APPLIED:
        rejected = {family: one for family, one in runtime.rejected.items() if family != event.family}
        return replace(runtime, rejected=rejected, outage=None)
    text = f"request {event.status.value}: {event.reply.text}"
    return _with_error(runtime, RecentError(wall, event.reply.code, text, event.family))


def _terminal_error(runtime: AccountRuntime, event: events.RequestSettled) -> TerminalError | None:
    """Return the terminal error after a request; if the exchange judges the setting, the key is accepted.

    One rejected timestamp is no terminal error: the clock is measured again.
    """
    if event.reply.reply_class in STOPPING - {ReplyClass.CLOCK}:
        return TerminalError(event.reply, writing=True)
    judged = event.reply.reply_class in (
        ReplyClass.ACCEPTED,
        ReplyClass.WRONG_SETTINGS,
        ReplyClass.NOT_OPEN,
    )
    return None if judged else runtime.terminal_error


def _setting_rejected(
    runtime: AccountRuntime, event: events.SettingRejected, wall: datetime
) -> AccountRuntime:
    text = f"rejected by the exchange: {event.reply.text}"
    rejected = {**runtime.rejected, event.family: event}
    return _with_error(
        replace(runtime, rejected=rejected), RecentError(wall, event.reply.code, text, event.family)
    )


def _after_step(runtime: AccountRuntime, event: events.Event, now: float) -> AccountRuntime:
    """Take a step of the loop: it fulfils the promised one, and a failed loop has recovered.

    Waiting is no sign of recovery.
    """
    stepped = replace(runtime, last_step_at=now, next_step_by=now)
    if runtime.loop_failed is None or isinstance(event, events.LoopIdle):
        return stepped
    return replace(stepped, loop_failed=None, terminal_error=None)


def _loop_failed(runtime: AccountRuntime, event: events.LoopFailed, wall: datetime) -> AccountRuntime:
    """Take the failure of a loop: in practice a key that is missing or cannot be read."""
    terminal_error = TerminalError(Reply(ReplyClass.ACCOUNT, event.code, event.text), writing=False)
    runtime = replace(
        runtime,
        next_step_by=event.retry_at,
        loop_failed=event,
        terminal_error=terminal_error,
        controller=None,
    )
    return _with_error(runtime, RecentError(wall, event.code, event.message))


def _with_error(runtime: AccountRuntime, error: RecentError) -> AccountRuntime:
    """Put a problem first; it replaces an older report of the same problem, however worded."""
    others = (old for old in runtime.errors if _what(old) != _what(error))
    return replace(runtime, errors=(error, *others)[:MAX_ERRORS])


def _what(error: RecentError) -> tuple[str, ...]:
    """Return the identity of a problem; a rejected request and its rejected family have the same."""
    return (error.code, error.family or "", "" if error.family else error.message)


def _shown(requests: tuple[RecentRequest, ...], now: float) -> tuple[RecentRequest, ...]:
    recent = (request for request in requests if request.at > now - SHOWN_S - WINDOW_S - EPS_S)
    return tuple(recent)[-MAX_REQUESTS:]
