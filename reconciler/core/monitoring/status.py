"""What is on record of an account, compared with what is desired: the value behind ``mmp status``.

Decided from the state alone, without a request to the exchange; every live value has the age of the
read it comes from. Instants are of the process that asks; wall times are for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from reconciler.core.accepted_settings import History, accepted
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import NotRead, OrderUnknown, Reads, evidence_of, last_proof
from reconciler.core.model import (
    Desired,
    Family,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    Pause,
    Setting,
    Uncertain,
)
from reconciler.core.monitoring.state_timeline import FAILED
from reconciler.core.pacing import Ledger, earliest_slot, still_counts
from reconciler.core.pauses import active_pauses, paused
from reconciler.core.plan import Action, Change, HoldReason, Plan, PlanConstraints, Reason, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.policy import Policy
from reconciler.core.replica_assignment import Replica


class FamilyState(StrEnum):
    """The state of a family in one word: the most urgent one that applies."""

    UNCERTAIN = "uncertain"
    FROZEN = "frozen"
    DRIFTED = "drifted"
    PENDING = "pending"
    HELD = "held"
    IN_SYNC = "in-sync"


@dataclass(frozen=True, slots=True)
class FamilyStatus:
    """One desired family: desired, applied (None: never), live (None: no row, or not read since).

    ``accepted`` is the setting that passed the guard last, None: none is on record.
    ``change`` is what a plan made from the record alone would do; None when nothing. ``doubtful``:
    every request was answered, but one read differs from the result, or began before another process's
    record was first seen; a second read must decide.
    """

    family: Family
    state: FamilyState
    desired: Setting
    applied: Setting | None
    live: LiveRow | None
    change: Change | None
    doubtful: bool = False
    accepted: Setting | None = None


@dataclass(frozen=True, slots=True)
class PacingStatus:
    """The pacing window: requests that still count, seconds to the next slot, even spacing or not."""

    counting: int
    next_slot_s: float
    spaced: bool


@dataclass(frozen=True, slots=True)
class Status:
    """One account's status. ``live_at`` None: live was never read; ``uid`` None: never identified.

    ``pauses`` are those in force, by family, also of families that the file no longer names. ``owner`` is
    the replica that runs the account; None: no replica does, or the state has no leases. ``controller`` is
    the process that controls it on a state file; None: no process does, or this process does. ``damaged``
    counts the records of the account that are left out.
    """

    desired: Desired
    uid: str | None
    host: str | None
    simulator: bool
    families: tuple[FamilyStatus, ...]
    unmanaged: Mapping[Family, LiveRow]
    live_at: datetime | None
    asked_at: datetime
    pacing: PacingStatus | None
    eta_s: float
    pauses: tuple[Pause, ...] = ()
    owner: Replica | None = None
    controller: LockHolder | None = None
    damaged: int = 0

    @property
    def in_sync(self) -> bool:
        """Whether every family is as desired according to the record; a frozen one may be, too."""
        return all(family.change is None for family in self.families)


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the state has of one account; ``live_rows`` and ``live_at`` of the last live read."""

    uid: str | None
    host: str | None
    known: Mapping[Family, Known]
    ledger: Ledger | None
    live_rows: Mapping[Family, LiveRow]
    live_at: datetime | None
    pauses: tuple[Pause, ...] = ()
    owner: Replica | None = None
    controller: LockHolder | None = None
    accepted: Mapping[Family, History] = field(default_factory=dict)
    damaged: int = 0


def recorded_status(
    desired: Desired,
    record: StatusInputs,
    *,
    simulator: bool,
    now: float,
    wall: datetime,
    policy: Policy | None = None,
    policy_unreadable: bool = False,
) -> Status:
    """Compare the record with the desired settings, as of ``now`` and ``wall``, under ``policy``.

    Its file may be unreadable or missing.
    """
    reads = _reads(record, now, wall)
    rules = PlanConstraints(
        paused=paused((pause for pause in record.pauses if pause.is_active(wall)), desired),
        policy=policy,
        policy_unreadable=policy_unreadable,
        accepted=record.accepted,
        wall=wall,
        reads_live=True,
    )
    plan = make_plan(desired, record.known, reads, rules, now)
    return make_status(desired, record, plan, reads, simulator=simulator, now=now, wall=wall)


def make_status(
    desired: Desired,
    record: StatusInputs,
    plan: Plan,
    reads: Reads,
    *,
    simulator: bool,
    now: float,
    wall: datetime,
) -> Status:
    """Return the status of which ``plan`` was made, with ages and times as of ``now`` and ``wall``.

    ``reads`` are what the plan was made from.
    """
    if record.ledger is not None:
        plan = with_schedule(plan, record.ledger, now, assume_idle=False)
    changes = {change.family: change for change in plan.changes}

    def status_of(family: Family) -> FamilyStatus:
        known, change = record.known.get(family, NeverApplied()), changes.get(family)
        live = record.live_rows.get(family) if _counts(family, known, reads) else None
        doubtful, proof = family in plan.doubtful, last_proof(known)
        return FamilyStatus(
            family=family,
            state=_state(known, live, change, doubtful),
            desired=desired.families[family].setting,
            applied=proof.setting if proof else None,
            live=live,
            change=change,
            doubtful=doubtful and not isinstance(known, Uncertain),
            accepted=accepted(record.accepted.get(family, ()), known),
        )

    return Status(
        desired=desired,
        uid=record.uid,
        host=record.host,
        simulator=simulator,
        families=tuple(map(status_of, sorted(desired.families))),
        unmanaged={
            family: row
            for family, row in sorted(record.live_rows.items())
            if family not in desired.families
        },
        live_at=record.live_at,
        asked_at=wall,
        pacing=None if record.ledger is None else _pacing(record.ledger, now),
        eta_s=plan.eta_s,
        pauses=active_pauses((pause for pause in record.pauses if pause.is_active(wall)), desired),
        owner=record.owner,
        controller=record.controller,
        damaged=record.damaged,
    )


def _reads(record: StatusInputs, now: float, wall: datetime) -> Reads:
    """Return the recorded read as one begun that long ago; the wall clock is good enough for display.

    It is for display only, so a family that it leaves out counts as gone, and is never shown as in sync.
    Nothing is written because of it.
    """
    if record.live_at is None:
        return Reads()
    read = LiveRead(now - (wall - record.live_at).total_seconds(), record.live_rows)
    return Reads(latest=read, display=True)


def _state(known: Known, live: LiveRow | None, change: Change | None, doubtful: bool) -> FamilyState:
    if isinstance(known, Uncertain) or doubtful:
        return FamilyState.UNCERTAIN
    if (live is not None and live.frozen) or (change and change.because is HoldReason.FROZEN):
        return FamilyState.FROZEN
    if change is None:
        return FamilyState.IN_SYNC
    if change.reason is Reason.DRIFTED:
        return FamilyState.DRIFTED
    return FamilyState.HELD if change.action is Action.HOLD else FamilyState.PENDING


def family_states(
    desired: Desired, known: Mapping[Family, Known], reads: Reads, plan: Plan | None, *, refused: bool
) -> dict[Family, str]:
    """Return the state of each desired family after a pass, for the timeline.

    ``plan`` None: nothing could be read. ``refused``: the exchange refuses key or account, so nothing can
    be written.
    """
    if plan is None:
        return dict.fromkeys(sorted(desired.families), FAILED)
    changes = {change.family: change for change in plan.changes}
    rows = reads.latest.rows if reads.latest else {}
    states: dict[Family, str] = {}
    for family in sorted(desired.families):
        each, change = known.get(family, NeverApplied()), changes.get(family)
        live = rows.get(family) if _counts(family, each, reads) else None
        stuck = change is not None and (
            change.because is HoldReason.REJECTED or (refused and change.action is Action.SET)
        )
        states[family] = FAILED if stuck else _state(each, live, change, family in plan.doubtful).value
    return states


def _counts(family: Family, known: Known, reads: Reads) -> bool:
    return not isinstance(evidence_of(family, known, reads), NotRead | OrderUnknown)


def _pacing(ledger: Ledger, now: float) -> PacingStatus:
    return PacingStatus(
        counting=sum(still_counts(sent.latest_arrival, now) for sent in ledger.sent),
        next_slot_s=earliest_slot(ledger, now) - now,
        spaced=ledger.throttled,
    )
