"""The values between a plan and the exchange: what a plan rests on, a signed request, a reserved slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.accepted_settings import History
from reconciler.core.model import NO_FILE, Accepting, Family, FileVersion, Known, Pause, Setting
from reconciler.core.pacing import Ledger
from reconciler.core.reply import AttemptStatus
from reconciler.core.retry import NO_TRIES, RetryRecord
from reconciler.core.saved_plan import AppliedChanges


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """One Set MMP request, signed: exactly these bytes may be sent, once.

    ``timestamp`` is the signature's, in OKX's form; 30 s after it the exchange refuses the request.
    """

    family: Family
    setting: Setting
    timestamp: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReserveOptions:
    """What a reservation depends on besides its request.

    ``assume_idle``: a User ID without a history counts as one without requests. ``by``: the last instant
    for the reservation. If the state took longer, including locks of others, nothing is reserved, since the
    decision is too old. ``file``: where the setting comes from. ``keep_free``: how many slots of the window
    must be left after this one. ``accepting``: the desired setting that this request makes the accepted
    one, None: it does not change the accepted setting.
    """

    assume_idle: bool
    by: float = float("inf")
    file: FileVersion = NO_FILE
    keep_free: int = 0
    accepting: Accepting | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot was reserved, durably: exactly one transmission may follow."""

    attempt: int
    reserved_at: float


@dataclass(frozen=True, slots=True)
class NoSlotUntil:
    """No slot at this moment; the earliest one is at ``until`` as far as is known now."""

    until: float


@dataclass(frozen=True, slots=True)
class PausedMeanwhile:
    """The family was paused since the plan was made: nothing was reserved."""


@dataclass(frozen=True, slots=True)
class AppliedMeanwhile:
    """The change of the saved plan is on record as applied by now: nothing was reserved."""


ReserveResult = Reservation | NoSlotUntil | PausedMeanwhile | AppliedMeanwhile
"""A reserved slot, or why nothing was reserved."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt.

    ``definite`` bounds the attempt's arrival by this moment. ``limited``: the exchange rejected it for its
    rate, which makes pacing more careful. ``tried``: it counts as a try of its family
    (:class:`~reconciler.core.retry.Tries`) unless it was applied.
    """

    status: AttemptStatus
    definite: bool
    limited: bool
    code: str
    message: str
    tried: bool = True


@dataclass(frozen=True, slots=True)
class RecordedInputs:
    """What a plan rests on besides the file and live, as the state has it at one moment.

    ``pauses``: those in force by their time, by family; they end by themselves. Which of them hold for what
    is desired is ``core.pauses``'s. ``accepted`` are the settings of each family that passed the guard,
    oldest first. ``applied``: the changes of the saved plan that were applied, none without such a plan.
    """

    known: Mapping[Family, Known]
    pauses: tuple[Pause, ...]
    ledger: Ledger
    retries: RetryRecord = NO_TRIES
    accepted: Mapping[Family, History] = field(default_factory=dict)
    applied: AppliedChanges = field(default_factory=dict)
