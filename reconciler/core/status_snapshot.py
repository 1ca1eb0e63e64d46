"""A published status, used in place of a live read: a plan without keys, as good as its age.

This file decides what a snapshot proves of each family, and when it is too old to prove anything. It
rests on what :mod:`reconciler.core.monitoring.status` publishes: ``live`` is only there when its read began
after the family's last proof or attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler.core.accepted_settings import History
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Acceptance,
    Confirmed,
    Desired,
    Environment,
    Family,
    Known,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Pause,
    Setting,
    Uncertain,
)
from reconciler.core.pacing import Ledger
from reconciler.core.pauses import paused
from reconciler.core.saved_plan import CLOCK_TOLERANCE, format_utc

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Earlier than every time that a policy looks back to."""


@dataclass(frozen=True, slots=True)
class PublishedFamily:
    """One family of a snapshot: ``applied`` None: never; ``live`` None: no row, or none that counts.

    ``wanted`` is what was desired when the snapshot was made, ``accepted`` the setting that passed the
    guard last, None: none is on record.
    """

    wanted: Setting
    applied: Setting | None
    live: LiveRow | None
    uncertain: bool
    accepted: Setting | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One account's published status. ``live_at`` None: live was never read.

    ``pauses`` were in force when it was made. ``paced`` tells whether the pacing window is known at
    all, ``spaced`` whether requests go evenly spaced.
    """

    source: str
    account: str
    environment: Environment
    uid: str | None
    host: str | None
    simulator: bool
    live_at: datetime | None
    families: Mapping[Family, PublishedFamily]
    unmanaged: Mapping[Family, LiveRow]
    pauses: tuple[Pause, ...]
    paced: bool
    spaced: bool


def too_old(snapshot: Snapshot, wall: datetime, max_age: timedelta) -> str | None:
    """Return why the snapshot cannot be used now; None when it can."""
    if snapshot.live_at is None or snapshot.host is None:
        return "it has no live read"
    if snapshot.live_at > wall + CLOCK_TOLERANCE:
        return f"its live read was at {format_utc(snapshot.live_at)}, in the future by this machine's clock"
    if wall - snapshot.live_at > max_age:
        return f"its live read was at {format_utc(snapshot.live_at)}"
    return None


def known_from(snapshot: Snapshot, now: float) -> dict[Family, Known]:
    """Return what the snapshot's record has of each desired family."""
    known = {family: _known(seen, now) for family, seen in snapshot.families.items()}
    return {family: each for family, each in known.items() if each is not None}


def accepted_from(snapshot: Snapshot) -> dict[Family, History]:
    """Return the accepted setting of each family, taken as accepted long ago.

    Neither earlier ones nor times are published: a share counts every family that is accepted as enabled.
    """
    found = ((family, seen.accepted) for family, seen in snapshot.families.items())
    return {family: (Acceptance(setting, at=LONG_AGO),) for family, setting in found if setting is not None}


def reads_from(snapshot: Snapshot, now: float) -> Reads:
    """Return the snapshot's live read, taken as begun just now: its age is judged by :func:`too_old`."""
    rows = {family: seen.live for family, seen in snapshot.families.items() if seen.live is not None}
    return Reads(LiveRead(now, {**rows, **snapshot.unmanaged}))


def paused_from(snapshot: Snapshot, desired: Desired, wall: datetime) -> frozenset[Family]:
    """Return the families whose pause is still in force for what is desired."""
    return paused((pause for pause in snapshot.pauses if pause.is_active(wall)), desired)


def ledger_from(snapshot: Snapshot, now: float) -> Ledger:
    """Return a pacing ledger for times as they will be once this is applied: a window later, at least."""
    if not snapshot.paced:
        return Ledger(empty_since=now)
    return Ledger(sends_since_limited=0 if snapshot.spaced else None)


def _known(seen: PublishedFamily, now: float) -> Known | None:
    """Return what is known of a family.

    A read counts if it began after the last proof or attempt. A missing live value may mean either
    that there is no row or that no read counts; both mean that what was applied last is in force, as
    far as is known. A proof of just now has the same meaning.
    """
    at = float("-inf") if seen.live is not None else now
    proof = Confirmed(seen.applied, at) if seen.applied is not None else None
    if not seen.uncertain:
        return proof
    # The attempted value is not published. It is nearly always the value desired then.
    attempt = OpenAttempt(1, seen.wanted, reserved_at=at, effect_until=float("inf"))
    return Uncertain(proof, (attempt,))
