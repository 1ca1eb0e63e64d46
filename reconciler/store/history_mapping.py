"""Converts rows to records for people: attempts, proofs, overrides, policies, live reads.

A live read is recorded as one JSON document, written and read back here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from reconciler.core.history_records import (
    AcceptedRecord,
    AppliedRecord,
    AttemptRecord,
    LiveRecord,
    OverrideRecord,
    PolicyRecord,
    ProofKind,
)
from reconciler.core.live_evidence import SeenRow
from reconciler.core.model import Family, LiveRead, LiveRow, Quantity, Setting
from reconciler.core.monitoring.state_timeline import ObservedPeriod, StateChange
from reconciler.core.reply import AttemptStatus
from reconciler.ports import NO_ROWS
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import (
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    LiveReadRow,
    ObservedPeriodRow,
    OverrideRow,
    PolicyRow,
    StateChangeRow,
    setting_of,
)


def attempt_record(row: AttemptRow) -> AttemptRecord:
    """Return an attempt row as a record for people."""
    return AttemptRecord(
        id=row.id,
        family=Family(row.family),
        setting=setting_of(row),
        status=AttemptStatus(row.status),
        limited=bool(row.limited),
        is_open=not row.resolved,
        code=row.code,
        message=row.message,
        reserved_wall=datetime.fromisoformat(row.reserved_wall),
        settled_wall=datetime.fromisoformat(row.settled_wall) if row.settled_wall else None,
    )


def applied_record(row: AppliedRow) -> AppliedRecord:
    """Return an applied row as a record for people."""
    return AppliedRecord(
        setting_of(row), ProofKind(row.how), row.attempt, datetime.fromisoformat(row.at_wall)
    )


def override_record(row: OverrideRow) -> OverrideRecord:
    """Return an override row as a record for people."""
    return OverrideRecord(Family(row.family), row.refusal, row.reason, datetime.fromisoformat(row.at_wall))


def policy_record(row: PolicyRow) -> PolicyRecord:
    """Return a policy row as a record."""
    at = datetime.fromisoformat(row.at_wall)
    return PolicyRecord(row.sha256, row.path, row.document, row.given_up, at)


def accepted_log(rows: Iterable[AcceptedRow]) -> list[AcceptedRecord]:
    """Return accepted settings as records for people, newest first; ``rows`` are oldest first."""
    before: dict[str, Setting] = {}
    found: list[AcceptedRecord] = []
    for row in rows:
        setting = setting_of(row)
        found.append(
            AcceptedRecord(
                Family(row.family),
                before.get(row.family),
                setting,
                ProofKind(row.how),
                row.digest,
                row.override,
                row.file_sha256,
                datetime.fromisoformat(row.at_wall),
            )
        )
        before[row.family] = setting
    return found[::-1]


def live_document(read: LiveRead, last_seen: Mapping[Family, LiveRow] = NO_ROWS) -> str:
    """Return a live read as one JSON document."""
    rows, missing = (
        {family: _wire(row) for family, row in sorted(of.items())} for of in (read.rows, last_seen)
    )
    unreadable = dict(sorted(read.unreadable.items()))
    return json.dumps({"rows": rows, "unreadable": unreadable, "lastSeen": missing})


def seen_rows(
    reads: Iterable[LiveReadRow], applied: Iterable[AppliedRow], row_clock: RowClock
) -> dict[Family, SeenRow]:
    """Return the rows of recorded reads, the newest last: as seen now, or long ago if proven later.

    Times of day are enough for that: a wrong one only affects whether a family is held.
    """
    proven = {row.family: row.at_wall for row in applied}
    found: dict[Family, SeenRow] = {}
    for read in reads:
        rows, _, last_seen = _read_document(read.document)
        for family, row in (rows | last_seen).items():
            is_old = proven.get(family, "") > read.read_wall
            found[family] = SeenRow(row, float("-inf") if is_old else row_clock.now)
    return found


def live_record(row: LiveReadRow) -> LiveRecord:
    """Return the stored live read as a record for people."""
    rows, unreadable, _ = _read_document(row.document)
    return LiveRecord(rows, unreadable, datetime.fromisoformat(row.read_wall))


def observed_period_of(row: ObservedPeriodRow) -> ObservedPeriod:
    """Return the observed period of a row."""
    return ObservedPeriod(datetime.fromisoformat(row.from_wall), datetime.fromisoformat(row.until_wall))


def state_change_of(row: StateChangeRow) -> StateChange:
    """Return the state change of a row."""
    return StateChange(Family(row.family), row.state, datetime.fromisoformat(row.at_wall))


def _read_document(document: str) -> tuple[dict[Family, LiveRow], dict[Family, str], dict[Family, LiveRow]]:
    """Return the readable rows, the unreadable ones (family to reason) and the last rows of the others."""
    content = json.loads(document)
    rows, last_seen = (
        {Family(family): _live_row(wire) for family, wire in content[name].items()}
        for name in ("rows", "lastSeen")
    )
    return rows, {Family(family): why for family, why in content["unreadable"].items()}, last_seen


def _wire(row: LiveRow) -> dict[str, object]:
    return {**row.setting.wire(), "frozen": row.frozen, "frozenUntil": row.frozen_until}


def _live_row(wire: Mapping[str, str]) -> LiveRow:
    return LiveRow(_setting(wire), frozen=bool(wire["frozen"]), frozen_until=wire["frozenUntil"])


def _setting(wire: Mapping[str, str]) -> Setting:
    return Setting(int(wire["timeInterval"]), int(wire["frozenInterval"]), Quantity(wire["qtyLimit"]))
