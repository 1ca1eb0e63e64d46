"""What happened, as values named in the past tense.

A pass tells what it does through these and nothing else: log lines, progress bars and metrics are
translations of them. No event carries a secret. Instants are on the process's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.model import Family, LiveRead, Setting
from reconciler.core.plan import Plan
from reconciler.core.verdict import AttemptStatus, Reply


class Cause(StrEnum):
    """What a pass waits for."""

    SLOT = "slot"
    BACK_OFF = "back-off"
    SECOND_READ = "second-read"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Identified:
    """The key's User ID was learned and agrees with the state; ``previous_host`` if it moved."""

    uid: str
    previous_host: str | None


@dataclass(frozen=True, slots=True)
class LiveReadDone:
    """Live settings were read."""

    read: LiveRead


@dataclass(frozen=True, slots=True)
class ExchangeFailed:
    """Something other than a Set MMP request failed; ``doing`` says what; tried again at ``retry_at``.

    ``retry_at`` is None when it will not be tried again.
    """

    doing: str
    reply: Reply
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan was made that differs from the one before."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Waiting:
    """The pass waits until ``until``; ``family`` is next (None when none is), ``done_at`` the end.

    ``remaining`` counts the requests still to be sent.
    """

    until: float
    cause: Cause
    family: Family | None
    remaining: int
    done_at: float


@dataclass(frozen=True, slots=True)
class Adopted:
    """A read proved settings in force that were not on record; no request was sent."""

    settings: dict[Family, Setting]


@dataclass(frozen=True, slots=True)
class RequestReserved:
    """A slot was reserved and the attempt is on record; the request is about to be sent."""

    attempt: int
    family: Family
    setting: Setting


@dataclass(frozen=True, slots=True)
class RequestSettled:
    """What came of a request is on record. ``round_trip_s`` is from reservation to reply."""

    attempt: int
    family: Family
    setting: Setting
    status: AttemptStatus
    reply: Reply
    round_trip_s: float


@dataclass(frozen=True, slots=True)
class Parked:
    """The exchange refused this family's setting; the others proceed.

    ``retry_at`` is None when only another desired value will be tried.
    """

    family: Family
    setting: Setting
    reply: Reply
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class ClockSynced:
    """The offset to the exchange's clock was measured again after it refused our timestamp."""


@dataclass(frozen=True, slots=True)
class LockAwaited:
    """Another process holds the account's state; ``message`` names it."""

    message: str


@dataclass(frozen=True, slots=True)
class StateAwaited:
    """The state could not be used; tried again at ``retry_at``. Nothing was sent without a record."""

    code: str
    message: str
    retry_at: float


Event = (
    Identified
    | LiveReadDone
    | ExchangeFailed
    | Planned
    | Waiting
    | Adopted
    | RequestReserved
    | RequestSettled
    | Parked
    | ClockSynced
    | LockAwaited
    | StateAwaited
)

Observe = Callable[[Event], None]
