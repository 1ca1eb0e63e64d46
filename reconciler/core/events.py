"""What happened, as values named in the past tense.

A pass reports what it does only through these events: log lines, progress bars and metrics are made
from them. No event contains a secret. Instants are on the process's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import NO_READS, Reads
from reconciler.core.model import Desired, Family, Known, LiveRead, Pause, Setting
from reconciler.core.pacing import Ledger
from reconciler.core.plan import Plan, PlanConstraints, Reason
from reconciler.core.policy import Refusal
from reconciler.core.problems import Problem
from reconciler.core.replica_assignment import LeaseName, ReplicaStatus
from reconciler.core.reply import AttemptStatus, Reply

READING_LIVE = "reading live settings"
"""What fails when live settings cannot be read: the one failure that is counted separately."""

READING_FAMILY = "reading one family that the list of live settings leaves out"
"""What fails when it cannot be confirmed that a missing family is gone."""


class WaitReason(StrEnum):
    """What a pass waits for."""

    SLOT = "slot"
    BACK_OFF = "back-off"
    SECOND_READ = "second-read"
    UNCONFIRMED = "unconfirmed"
    KEY = "key"
    """Which account the key is of that replaced the one in use."""


@dataclass(frozen=True, slots=True)
class Identified:
    """The key's User ID was learned and agrees with the state; ``previous_host`` if it moved."""

    uid: str
    previous_host: str | None


@dataclass(frozen=True, slots=True)
class KeyMayWithdraw:
    """The key of the account may withdraw funds, which this program never needs."""

    uid: str


@dataclass(frozen=True, slots=True)
class LiveReadDone:
    """Live settings were read."""

    read: LiveRead


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """Something other than a Set MMP request failed; ``doing`` says what; tried again at ``retry_at``.

    ``retry_at`` is None if no pass tries it again, or if not every result is reported: the account worker
    asks again within a minute.
    """

    doing: str
    reply: Reply
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A read that only one family waits for failed; ``doing`` says what. Other families do not wait."""

    doing: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class OddRowsSeen:
    """The list of live settings has rows that are left out; emitted once while they stay the same.

    ``names`` are those that are no family's name, ``nameless`` counts rows without a usable one.
    """

    names: tuple[str, ...]
    nameless: int

    @property
    def any(self) -> bool:
        """Whether there is a row that is left out."""
        return bool(self.names or self.nameless)


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    """The open attempts of these families ended: live shows a value that none of them carries."""

    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was made that differs from the one before."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Compared:
    """Desired, recorded and live settings were compared: everything that a plan was made from.

    Emitted before every step: observers see what the pass sees. ``complete``: live was read in this pass,
    or is never read, and no family is in doubt; only such a plan is shown as fact.
    ``pauses`` are those in force for the desired settings. ``reads`` are the live reads.
    """

    desired: Desired
    known: Mapping[Family, Known]
    ledger: Ledger
    pauses: tuple[Pause, ...]
    rules: PlanConstraints
    plan: Plan
    complete: bool
    reads: Reads = NO_READS


@dataclass(frozen=True, slots=True)
class PassEnded:
    """One pass is over, after ``took_s`` seconds; ``finished``: everything that could be settled is."""

    took_s: float
    finished: bool


@dataclass(frozen=True, slots=True)
class LoopIdle:
    """The loop has nothing to do until ``until``, or until something changes."""

    until: float


@dataclass(frozen=True, slots=True)
class LoopResumed:
    """The loop continues after a wait; until ``until`` it may wait for a pass permit and for the lock."""

    until: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """The pass waits until ``until``; ``family`` is next (None when none is), ``done_at`` the end.

    ``remaining`` counts the requests still to be sent.
    """

    until: float
    cause: WaitReason
    family: Family | None
    remaining: int
    done_at: float


@dataclass(frozen=True, slots=True)
class Adopted:
    """A read proved settings in force that were not on record; no request was sent.

    ``unfit``: what the policy reports of those that had no record; it is only a report.
    """

    settings: dict[Family, Setting]
    unfit: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestReserved:
    """A slot was reserved, at ``at``, and the attempt is on record; the request is about to be sent."""

    attempt: int
    family: Family
    setting: Setting
    at: float


@dataclass(frozen=True, slots=True)
class FilesStillWritten:
    """A change that loosens waits ``wait_s``: the settings file or policy has content not in force yet."""

    family: Family
    wait_s: float


@dataclass(frozen=True, slots=True)
class RequestTooLate:
    """A request was not reserved in time: it is decided again with a new read.

    Opening its connection, or the state, was slow: ``late_s`` seconds after the request was due.
    """

    family: Family
    late_s: float


@dataclass(frozen=True, slots=True)
class RequestSettled:
    """The result of a request is on record. ``round_trip_s`` is from reservation to reply.

    ``reason`` is why it was sent, for example because a live setting had drifted.
    """

    attempt: int
    family: Family
    setting: Setting
    status: AttemptStatus
    reply: Reply
    round_trip_s: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class SettingRejected:
    """The exchange refused this family's setting; other families are not affected.

    Another value is tried at once, this one from ``retry_at`` on, while live is looser.
    """

    family: Family
    setting: Setting
    reply: Reply
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class HealBreakerTripped:
    """Another writer sets this family again and again, away from ``setting``: it is paused, on record.

    It was healed ``heals`` times before, within the breaker's window.
    """

    family: Family
    setting: Setting
    heals: int


@dataclass(frozen=True, slots=True)
class ClockSynced:
    """The offset to the exchange's clock was measured again after it refused our timestamp."""


@dataclass(frozen=True, slots=True)
class ClockUnmeasured:
    """The exchange's clock cannot be measured again; emitted once until it can. The last offset is used.

    ``reply`` is the first failure. The event is about no account in particular.
    """

    reply: Reply


@dataclass(frozen=True, slots=True)
class ClockMeasured:
    """The exchange's clock was measured again after :class:`ClockUnmeasured`."""


@dataclass(frozen=True, slots=True)
class StateLockTimedOut:
    """Another process has locked the account's state; ``message`` names it."""

    message: str


@dataclass(frozen=True, slots=True)
class ControlledElsewhere:
    """Another process on this state controls the account: this one is a standby and writes nothing.

    ``holder`` None: the other process is not known.
    """

    holder: LockHolder | None

    @property
    def who(self) -> str:
        """The other process, for people."""
        return "another process" if self.holder is None else str(self.holder)


@dataclass(frozen=True, slots=True)
class ControlTaken:
    """The process that controlled the account has ended, and this one controls it now."""


@dataclass(frozen=True, slots=True)
class KeyReplaced:
    """Another key replaced the one in use; nothing is sent before its account is known."""


@dataclass(frozen=True, slots=True)
class LoopFailed:
    """An account's loop failed; it restarts at ``retry_at``. The other accounts continue."""

    code: str
    message: str
    hint: str
    retry_at: float

    @property
    def text(self) -> str:
        """What failed, and what to do."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class ConfigMissing:
    """There is no file of desired settings at ``paths`` yet; the program waits for one."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigAccepted:
    """This content of the file is in force: at the start, after a change, and again after a rejection."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ConfigRejected:
    """The file's content is invalid; the last valid version stays in use, if there is one.

    ``in_force`` False: there is none, so no account runs from this file.
    """

    path: str
    problems: tuple[Problem, ...]
    in_force: bool = True


@dataclass(frozen=True, slots=True)
class RejectedConfigRemoved:
    """A settings file that was never valid was removed."""

    path: str


@dataclass(frozen=True, slots=True)
class PolicyAccepted:
    """This content of the policy is in force, as for a config; ``sha256`` None: there is no policy."""

    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class PolicyRejected:
    """The policy cannot be read or is not valid: until it is, changes that loosen or disable are held.

    The last valid one checks other changes; ``in_force`` False: there is none, so only the guard applies.
    """

    path: str
    problems: tuple[Problem, ...]
    in_force: bool = True


@dataclass(frozen=True, slots=True)
class WatchDegraded:
    """File changes are not reported, for this ``reason``: the files are read every second."""

    reason: str


@dataclass(frozen=True, slots=True)
class LeaseTaken:
    """This replica runs the account now; ``before``: the dead replica that had the lease ("": none)."""

    before: str


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """This replica runs the account no longer; ``lost``: another replica has taken the lease already.

    ``unable``: this replica could not serve it, and another one may.
    """

    lost: bool
    unable: bool = False


@dataclass(frozen=True, slots=True)
class StateFailed:
    """The state could not be used; tried again at ``retry_at``. Nothing was sent without a record."""

    code: str
    message: str
    retry_at: float


@dataclass(frozen=True, slots=True)
class ReplicaStatusChanged:
    """This replica read the lease table, or joined the other replicas."""

    status: ReplicaStatus


@dataclass(frozen=True, slots=True)
class AccountsConfigured:
    """The accounts that this replica has settings for have changed; ``accounts`` are all of them."""

    accounts: frozenset[LeaseName]


AccountEvent = (
    Identified
    | KeyMayWithdraw
    | KeyReplaced
    | StateLockTimedOut
    | ControlledElsewhere
    | ControlTaken
    | LoopFailed
    | PassEnded
    | LeaseTaken
    | LeaseEnded
    | StateFailed
)
ReadEvent = (
    LiveReadDone
    | ExchangeFailed
    | ReadFailed
    | OddRowsSeen
    | AttemptsEnded
    | ClockSynced
    | ClockUnmeasured
    | ClockMeasured
)
RequestEvent = (
    Planned
    | Waiting
    | Adopted
    | RequestReserved
    | FilesStillWritten
    | RequestTooLate
    | RequestSettled
    | SettingRejected
    | HealBreakerTripped
)
LoggedFileEvent = (
    ConfigMissing
    | ConfigAccepted
    | PolicyAccepted
    | ConfigRejected
    | RejectedConfigRemoved
    | PolicyRejected
    | WatchDegraded
)
SilentEvent = Compared | LoopIdle | LoopResumed | ReplicaStatusChanged | AccountsConfigured
"""Events that only observers need."""

Event = AccountEvent | ReadEvent | RequestEvent | LoggedFileEvent | SilentEvent

Observe = Callable[[Event], None]
