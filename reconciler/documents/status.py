"""The status of an account and its pauses as documents, ``mmp/status/1`` and ``mmp/pause/1``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from reconciler.core.history_records import AttemptRecord, LockHolder
from reconciler.core.model import LiveRow, Pause
from reconciler.core.monitoring.status import FamilyStatus, Status
from reconciler.core.replica_assignment import Replica
from reconciler.documents.plan import ETA_DIGITS, Document, format_utc_ms, optional_wire


def status_document(status: Status) -> Document:
    """Return the ``mmp/status/1`` document."""
    return {
        "format": "mmp/status/1",
        "account": status.desired.account,
        "environment": status.desired.environment.value,
        "uid": status.uid,
        "host": status.host,
        "simulator": status.simulator,
        "owner": owner_document(status.owner),
        "controller": controller_document(status.controller),
        "config": {"path": status.desired.path, "sha256": status.desired.sha256},
        "asked_at": format_utc_ms(status.asked_at),
        "live_at": format_utc_ms(status.live_at),
        "in_sync": status.in_sync,
        "eta_seconds": round(status.eta_s, ETA_DIGITS),
        "families": [_family_document(family, status.asked_at) for family in status.families],
        "unmanaged": [{"family": family, "live": _live(row)} for family, row in status.unmanaged.items()],
        "pauses": [_pause_document(pause) for pause in status.pauses],
        "pacing": None
        if status.pacing is None
        else {
            "counting": status.pacing.counting,
            "next_slot_seconds": round(status.pacing.next_slot_s, ETA_DIGITS),
            "spaced": status.pacing.spaced,
        },
    }


def pauses_document(
    account: str, environment: str, pauses: Sequence[Pause], in_flight: Sequence[AttemptRecord] = ()
) -> Document:
    """Return the ``mmp/pause/1`` document: the pauses in force, by family, and requests in flight."""
    return {
        "format": "mmp/pause/1",
        "account": account,
        "environment": environment,
        "pauses": [_pause_document(pause) for pause in pauses],
        "in_flight": [
            {
                "family": attempt.family,
                "setting": attempt.setting.wire(),
                "reserved_at": format_utc_ms(attempt.reserved_wall),
            }
            for attempt in in_flight
        ],
    }


def paused_document(account: str, environment: str, pause: Pause) -> Document:
    """Return a pause with its account."""
    return {"account": account, "environment": environment, **_pause_document(pause)}


def owner_document(owner: Replica | None) -> Document | None:
    """Return the replica that runs an account; None if none does, or if accounts are not shared."""
    return None if owner is None else {"host": owner.host, "pid": owner.pid, "replica": owner.id}


def controller_document(holder: LockHolder | None) -> Document | None:
    """Return the process that controls an account; None if there is none or it is not known."""
    if holder is None:
        return None
    return {"host": holder.host, "pid": holder.pid, "purpose": holder.purpose, "since": holder.since}


def _family_document(family: FamilyStatus, asked_at: datetime) -> Document:
    change = family.change
    eta_s = None if change is None else change.eta_s
    due_at = None if eta_s is None else asked_at + timedelta(seconds=eta_s)
    return {
        "family": family.family,
        "state": family.state.value,
        "desired": family.desired.wire(),
        "accepted": optional_wire(family.accepted),
        "applied": optional_wire(family.applied),
        "live": _live(family.live),
        "pending": None
        if change is None
        else {
            "action": change.action.value,
            "reason": change.reason.value,
            "direction": change.direction.value if change.direction else None,
            "because": change.because.value if change.because else None,
            "due_at": format_utc_ms(due_at),
        },
    }


def _live(row: LiveRow | None) -> Document | None:
    if row is None:
        return None
    return {**row.setting.wire(), "mmpFrozen": row.frozen, "mmpFrozenUntil": row.frozen_until}


def _pause_document(pause: Pause) -> Document:
    return {
        "family": pause.family,
        "since": format_utc_ms(pause.since),
        "until": format_utc_ms(pause.until),
        "by": pause.by.value,
        "contested": optional_wire(pause.contested),
        "reason": pause.reason,
    }
