"""A published ``mmp/status/1`` document, read back as the value it was written from.

The documents were already checked against the published schema.
"""

from __future__ import annotations

from typing import Any

from reconciler.core.model import Environment, Family, LiveRow, Pause
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.status_snapshot import PublishedFamily, Snapshot
from reconciler.documents.plan import Document
from reconciler.documents.saved_plan import parse_moment, parse_setting


def read_snapshots(document: Document, source: str) -> tuple[Snapshot, ...]:
    """Return every account's status in ``document``, one or several. Raises InvalidInput."""
    documents = document.get("statuses", [document])
    return tuple(_snapshot(one, source) for one in documents)


def _snapshot(document: Document, source: str) -> Snapshot:
    live_at, pacing = document["live_at"], document["pacing"]
    return Snapshot(
        source=source,
        account=document["account"],
        environment=Environment(document["environment"]),
        uid=document["uid"],
        host=document["host"],
        simulator=document["simulator"],
        live_at=None if live_at is None else parse_moment(live_at, source),
        families={Family(one["family"]): _seen(one) for one in document["families"]},
        unmanaged={Family(one["family"]): _row(one["live"]) for one in document["unmanaged"]},
        pauses=tuple(_pause(one, source) for one in document["pauses"]),
        paced=pacing is not None,
        spaced=pacing is not None and pacing["spaced"],
    )


def _seen(row: dict[str, Any]) -> PublishedFamily:
    return PublishedFamily(
        wanted=parse_setting(row["desired"]),
        applied=parse_setting(row["applied"]) if row["applied"] else None,
        live=_row(row["live"]) if row["live"] else None,
        uncertain=row["state"] == FamilyState.UNCERTAIN,
        accepted=parse_setting(row["accepted"]) if row["accepted"] else None,
    )


def _pause(row: dict[str, Any], source: str) -> Pause:
    return Pause(
        family=Family(row["family"]),
        reason=row["reason"],
        since=parse_moment(row["since"], source),
        until=None if row["until"] is None else parse_moment(row["until"], source),
        contested=None if row["contested"] is None else parse_setting(row["contested"]),
    )


def _row(row: dict[str, Any]) -> LiveRow:
    return LiveRow(parse_setting(row), frozen=row["mmpFrozen"], frozen_until=row["mmpFrozenUntil"])
