"""The values of a pass: its options, its memory, how it ends, and its context while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from reconciler.core.accepted_settings import History
from reconciler.core.apply_result import Outcome
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Observe, OddRowsSeen, WaitReason
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Accepting, Desired, Family, Field, FileVersion, Known, Pause, Setting
from reconciler.core.pauses import Heals
from reconciler.core.plan import Change, Plan
from reconciler.core.policy import Override, PolicyInForce
from reconciler.core.reply import Reply, ReplyHandling
from reconciler.core.retry import NO_TRIES, Rejection, RetryRecord
from reconciler.core.saved_plan import AppliedChanges, Reviewed
from reconciler.ports import Clock, Store, TradingExchange

SUSPENSION_S = 0.1
"""From this difference on a machine counts as suspended. Without a suspension it is far smaller."""


async def unwatched() -> bool:
    """Look at neither file nor policy again before a request."""
    return True


@dataclass(frozen=True, slots=True)
class PassOptions:
    """The options of a pass.

    ``wait_in_pass``: continue after every wait (``apply``), without the lock while only retries are left;
    else end the pass with ``RequeueAt`` (``run``). ``live`` False compares only with the last applied.
    ``policy`` is called before every plan, since its file may change. ``files_settled`` reads
    the file and policy again right before a request. False: one of them has content that is not in force,
    or could not be read in time, so this request must not loosen anything.
    ``reason``: why the ``allowed`` overrides are given, for the history.
    ``timeout_s``: how long a pass that waits may take until its review sets a deadline.
    ``from_saved_plan``: ``reviewed`` are the changes of a saved plan, each of which is applied once.
    ``review_binds``: only what the review shows may be sent, so the plan shown waits for doubtful families.
    ``heal_breaker``: drift is not reverted without end; a family that another writer keeps changing is
    paused (``run``; an ``apply`` is an explicit act). ``controller``: the file may be older than what
    another process applied, so nothing that a newer file set is loosened (``run``).
    """

    purpose: str = "apply"
    live: bool = True
    assume_idle: bool = False
    wait_in_pass: bool = True
    drift: DriftPolicy = DriftPolicy.HEAL
    policy: Callable[[], PolicyInForce] = PolicyInForce
    files_settled: Callable[[], Awaitable[bool]] = unwatched
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
    could not be sent, and ``state_failures`` those of the state. ``files_unsettled`` counts the reads right
    before a request, in a row, that found file or policy content not in force yet.
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
    files_unsettled: int = 0
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
    """When drift of each family was reverted, as far as that counts for the heal breaker."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Everything that could be settled is settled."""


@dataclass(frozen=True, slots=True)
class RequeueAt:
    """The pass ended early; the next one is due at ``until``."""

    until: float
    cause: WaitReason


@dataclass(frozen=True, slots=True)
class Stopped:
    """Writing must stop, because of the account, the environment or a bug of mmp. Nothing is retried."""

    next: ReplyHandling
    reply: Reply


@dataclass(frozen=True, slots=True)
class NotApproved:
    """The review declined the first plan; nothing was sent."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline passed."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A stop was requested; the request in flight, if any, was settled."""


End = Completed | RequeueAt | Stopped | NotApproved | TimedOut | Interrupted


@dataclass(frozen=True, slots=True)
class PassResult:
    """How a pass ended, and the plan that remained (None when none could be made)."""

    end: End
    plan: Plan | None
    uncertain: frozenset[Family] = frozenset()
    failing: Reply | None = None
    """The last failure that did not end the pass, for the message of a timeout."""
    states: Mapping[Family, str] = field(default_factory=dict)
    """The state word of each desired family, as this pass last saw it."""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a review of the first complete plan allows, and until when. ``reviewed`` None: every change."""

    deadline: float
    reviewed: Reviewed | None = None


Review = Callable[[Plan], Approval | None]
"""Called with the first complete plan. Returns None to decline it."""


@dataclass
class PassContext:
    """One pass while it runs. All its state may be lost at any moment.

    ``desired`` and ``stopping`` are called before every step. ``wanted`` is the newest file, ``plan`` the
    newest plan, and ``known``, ``accepted``, ``retries`` and ``pauses`` are the state's records for it.
    ``obsolete_pauses`` are the heal breaker's, for a setting that the file no longer has.
    ``reviewed`` are the changes that a review allows, ``digest`` is that of the reviewed plan.
    ``released``: the lock was released in this pass, so others may have written. ``applied_here`` has what
    this pass sent last, as acknowledged; ``failed_here`` the families that failed in it, except by the rate
    limit; ``proved`` the proving attempts acknowledged since the latest read; ``family_reads`` the number
    of reads of one family alone. ``failing`` is the last failure that did not end the pass.
    """

    desired: Callable[[], Desired]
    store: Store
    exchange: TradingExchange
    clock: Clock
    observe: Observe
    options: PassOptions
    memory: InMemoryState
    review: Review | None
    stopping: Callable[[], bool]
    plan: Plan | None = None
    known: Mapping[Family, Known] = field(default_factory=dict)
    accepted: Mapping[Family, History] = field(default_factory=dict)
    retries: RetryRecord = NO_TRIES
    pauses: tuple[Pause, ...] = ()
    obsolete_pauses: Mapping[Family, Setting] = field(default_factory=dict)
    digest: str = ""
    released: bool = False
    applied_here: dict[Family, Setting] = field(default_factory=dict)
    failed_here: set[Family] = field(default_factory=set)
    proved: dict[Family, int] = field(default_factory=dict)
    family_reads: int = 0
    failing: Reply | None = None

    def __post_init__(self) -> None:
        self.wanted = self.desired()
        self.reads = self.memory.reads.forgotten()
        self.reviewed = self.options.reviewed
        self.began_at = self.clock.now()
        self.deadline = self.began_at + self.options.timeout_s
        self.suspended_s = self.clock.suspended_s()

    def is_complete(self, plan: Plan) -> bool:
        """Tell whether a plan leaves no family in doubt and compares with live settings."""
        return not plan.doubtful and (self.reads.latest is not None or not self.options.live)

    def take_reads(self, reads: Reads) -> None:
        """Use these reads from now on, also in the next pass."""
        self.reads = self.memory.reads = reads

    def forget_reads(self) -> None:
        """Forget the reads: only a new one shows live settings."""
        self.take_reads(self.reads.forgotten())

    def notice_suspension(self) -> bool:
        """Forget the reads from before a suspension of the machine; returns whether there was one."""
        before, self.suspended_s = self.suspended_s, self.clock.suspended_s()
        if self.suspended_s - before <= SUSPENSION_S:
            return False
        self.forget_reads()
        return True

    async def file_to_record(self) -> FileVersion:
        """Return the version of the file to record; an explicit act makes it the newest."""
        if self.memory.file is None:
            self.memory.file = await self.store.accept_file(self.wanted.sha256, changed=True)
        return self.memory.file

    def accepting(self, change: Change) -> Accepting | None:
        """Return what this request or record makes the accepted setting; None: nothing."""
        if change.accepts is None or self.plan is None:
            return None
        named = (str(one.override) for one in self.plan.overridden if one.family == change.family)
        digest = self.digest or self.plan.digest
        return Accepting(change.accepts, digest, ", ".join(dict.fromkeys(named)))
