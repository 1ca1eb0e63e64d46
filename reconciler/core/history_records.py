"""What the state has on record of an account, for people and for the commands that show it.

Nothing is decided from these values: a pass uses ``Known`` and ``Ledger``. Times of day are of the
process that recorded them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.core.accepted_settings import History
from reconciler.core.model import ExchangeKind, Family, Known, LiveRow, Pause, Setting
from reconciler.core.pacing import Ledger
from reconciler.core.reply import AttemptStatus


class ProofKind(StrEnum):
    """What proved an applied setting: an acknowledged write of ours, or a live read."""

    APPLIED = "applied"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt. ``is_open``: it still leaves its family in doubt, or may again."""

    id: int
    family: Family
    setting: Setting
    status: AttemptStatus
    limited: bool
    is_open: bool
    code: str
    message: str
    reserved_wall: datetime
    settled_wall: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """Attempts, newest first; ``damaged`` more records of attempts are damaged and left out."""

    attempts: list[AttemptRecord] = field(default_factory=list)
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class AppliedRecord:
    """The last proven setting of a family."""

    setting: Setting
    how: ProofKind
    attempt: int
    wall: datetime


@dataclass(frozen=True, slots=True)
class NameRecord:
    """An account name on record, and which User ID of which kind of exchange it was used with."""

    account: str
    kind: ExchangeKind
    uid: str


@dataclass(frozen=True, slots=True)
class OverrideRecord:
    """A refusal that a person overrode by name."""

    family: Family
    refusal: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A policy on record: its file was valid and in force since ``at``, or a person gave it up then.

    ``document`` is the text of the file. ``given_up`` is the reason of that person, None while the policy
    counts.
    """

    sha256: str
    path: str
    document: str
    given_up: str | None
    at: datetime

    @property
    def counts(self) -> bool:
        """Whether the policy still applies: only a person can give it up."""
        return self.given_up is None


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """A setting that passed the guard, by a request (``APPLIED``) or an adoption (``ADOPTED``).

    ``before`` is the setting that was accepted until then; None: none is on record. ``digest`` is the
    plan's, ``override`` names the refusals that were overridden, ``file_sha256`` is of the settings file;
    each "" where there is none.
    """

    family: Family
    before: Setting | None
    setting: Setting
    how: ProofKind
    digest: str
    override: str
    file_sha256: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """The last live read on record."""

    rows: Mapping[Family, LiveRow]
    unreadable: Mapping[Family, str]
    wall: datetime


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """All that is on record of one account, at one moment.

    ``kind``, ``uid`` and ``host`` are None until the account is identified, ``ledger`` likewise;
    ``live`` is None while live was never read, and if its record is damaged: then ``damaged`` is 1.
    The identity is given whatever exchange kind was asked for.
    """

    kind: ExchangeKind | None
    uid: str | None
    host: str | None
    known: Mapping[Family, Known]
    applied: Mapping[Family, AppliedRecord]
    open_attempts: tuple[AttemptRecord, ...]
    ledger: Ledger | None
    live: LiveRecord | None
    accepted: Mapping[Family, History] = field(default_factory=dict)
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class StateCheck:
    """How many rows each table of a state has, and what is damaged, one sentence each.

    ``paused`` are the pauses on record that can be read, by the account's name and environment.
    """

    rows: Mapping[str, int]
    damaged: tuple[str, ...]
    paused: tuple[tuple[str, str, Pause], ...] = ()


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The holder of a lock: process id, host name, what for, and since when (ISO 8601 UTC)."""

    pid: int
    host: str
    purpose: str
    since: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} ({self.purpose}, since {self.since})"
