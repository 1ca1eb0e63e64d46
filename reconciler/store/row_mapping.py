"""Converts rows to values of the core, and pauses and losses to rows.

An open attempt is *quiet* while it cannot matter: it carries the confirmed value and was on record when
that was proven, so its arrival changes nothing. It stays on record, because its late arrival would undo
another value that is written later. ``attempt_resolution`` decides when it ends. Pure, and the same for
every engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.core.accepted_settings import History, needed
from reconciler.core.history_records import ProofKind
from reconciler.core.model import (
    NO_FILE,
    Acceptance,
    Confirmed,
    Family,
    Known,
    OpenAttempt,
    Pause,
    Quantity,
    RateBudget,
    Setting,
    Uncertain,
)
from reconciler.core.retry import RetryRecord, Tries
from reconciler.core.saved_plan import AppliedChange
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import (
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    LossRow,
    PauseRow,
    PlanChangeRow,
    budget_key,
    file_of,
    sanitized,
    setting_columns,
    setting_of,
    wall_text,
)


def known_from_rows(
    applied: Iterable[AppliedRow],
    open_attempts: Iterable[AttemptRow],
    losses: Iterable[LossRow],
    row_clock: RowClock,
) -> dict[Family, Known]:
    """Return what is known of every family that a row names (a family without a record is left out).

    ``open_attempts`` are the unresolved ones of the same User ID, in the order of their ids.
    """
    proofs = {Family(row.family): row for row in applied}
    unresolved: dict[Family, list[OpenAttempt]] = {}
    # Aged even when quiet: a first sight that is taken only when it matters would restart its L.
    for row in open_attempts:
        unresolved.setdefault(Family(row.family), []).append(_open_attempt(row, row_clock))
    for loss in losses:
        if loss.family is not None:
            unresolved.setdefault(Family(loss.family), []).append(_lost_attempt(loss, row_clock))
    return {
        family: _known(proofs.get(family), unresolved.get(family, []), row_clock)
        for family in sorted(proofs.keys() | unresolved.keys())
    }


def accepted_from_rows(rows: Iterable[AcceptedRow]) -> dict[Family, History]:
    """Return the accepted settings of each family, oldest first; ``rows`` are in the order of their ids."""
    found: dict[Family, list[Acceptance]] = {}
    for row in rows:
        found.setdefault(Family(row.family), []).append(_acceptance(row))
    return {family: tuple(history) for family, history in found.items()}


def needless(rows: Sequence[AcceptedRow], wall: datetime) -> list[int]:
    """Return the ids of accepted settings of one family that nothing depends on; ``rows`` oldest first."""
    retained = needed(tuple(map(_acceptance, rows)), wall)
    return [row.id for number, row in enumerate(rows) if number not in retained]


def retries_from_rows(
    tries: Iterable[AttemptRow], acknowledged: AttemptRow | None, row_clock: RowClock
) -> RetryRecord:
    """Return the recorded failed attempts.

    ``tries``: the attempts that count as such, in the order of their ids; a family's newest has the count.
    ``acknowledged``: the newest acknowledged attempt of the same User ID, None without one. Ids are in the
    order of the reservations, so no clock is needed to find which was later.
    """
    number, at = (
        (0, None) if acknowledged is None else (acknowledged.id, row_clock.reserved_at(acknowledged))
    )
    return RetryRecord(
        {
            Family(row.family): Tries(
                setting_of(row),
                row.tries,
                row_clock.reserved_at(row),
                limited=bool(row.limited),
                ended_at=at if row.id < number else None,
            )
            for row in tries
        }
    )


def tries_after(earlier: Sequence[AttemptRow], setting: Setting) -> int:
    """Return the count of one more attempt at ``setting`` after those ``earlier`` of its family."""
    if not earlier or setting_of(earlier[-1]) != setting:
        return 1
    return earlier[-1].tries + 1


def loss_rows(
    budget: RateBudget,
    families: Sequence[str],
    newest: int,
    account: str,
    row_clock: RowClock,
    wall: datetime,
) -> list[LossRow]:
    """Return the rows that record a loss of the newest commits of a server; they get their ids later.

    All lost reservations are older than now. One row is about the rate, and one about each of the recorded
    ``families``. ``newest``: the newest recorded attempt of the User ID.
    """
    found = (newest, row_clock.first_seen.boot, row_clock.now, wall_text(wall))
    return [LossRow(*("", 0, *budget_key(budget), account, of, *found)) for of in (None, *families)]


def plan_changes_of(
    attempts: Iterable[AttemptRow], in_force: Mapping[Family, Setting]
) -> dict[Family, set[str]]:
    """Return, by family, the saved plans whose attempts caused the setting that is proven in force.

    An attempt without an answer counts when its setting is proven by any process: the request, or another
    one of the same setting, took effect.
    """
    plans: dict[Family, set[str]] = {}
    for row in attempts:
        family = Family(row.family)
        if row.plan and in_force.get(family) == setting_of(row):
            plans.setdefault(family, set()).add(row.plan)
    return plans


def applied_changes(rows: Iterable[PlanChangeRow]) -> dict[Family, AppliedChange]:
    """Return the changes of one saved plan that were applied, by family."""
    return {
        Family(row.family): AppliedChange(ProofKind(row.how), datetime.fromisoformat(row.at_wall))
        for row in rows
    }


def pause_of(row: PauseRow) -> Pause:
    """Return the pause that a row records; inverse of :func:`pause_row`."""
    until = datetime.fromisoformat(row.until_wall) if row.until_wall else None
    return Pause(
        Family(row.family),
        row.reason,
        datetime.fromisoformat(row.since_wall),
        until,
        _contested_setting(row),
    )


def pause_row(pause: Pause, budget: RateBudget, account: str) -> PauseRow:
    """Return the row that records a pause."""
    whose = (*budget_key(budget), pause.family, account)
    contested = (None, None, None) if pause.contested is None else setting_columns(pause.contested)
    until = None if pause.until is None else wall_text(pause.until)
    return PauseRow(*("", *whose, *contested, sanitized(pause.reason), wall_text(pause.since), until))


def pauses_request(row: PauseRow | None, setting: Setting, wall: datetime) -> bool:
    """Tell whether a family's pause, if it has one, forbids a request of ``setting`` at ``wall``.

    A breaker's pause forbids only the setting that it is about.
    """
    if row is None or not pause_of(row).is_active(wall):
        return False
    return pause_of(row).contested in (None, setting)


def _contested_setting(row: PauseRow) -> Setting | None:
    if row.time_interval_ms is None or row.frozen_interval_ms is None or row.qty_limit is None:
        return None
    return Setting(row.time_interval_ms, row.frozen_interval_ms, Quantity(row.qty_limit))


def _acceptance(row: AcceptedRow) -> Acceptance:
    at, requested = datetime.fromisoformat(row.at_wall), row.how == ProofKind.APPLIED.value
    return Acceptance(setting_of(row), row.attempt, at, file_of(row), requested)


def _known(proof: AppliedRow | None, unresolved: list[OpenAttempt], row_clock: RowClock) -> Known:
    last = None if proof is None else _confirmed(proof, row_clock)
    if last is not None and all(_quiet(attempt, last) for attempt in unresolved):
        landing = max((attempt.effect_until for attempt in unresolved), default=last.lands_until)
        return replace(last, lands_until=landing)
    return Uncertain(last, tuple(sorted(unresolved, key=lambda one: one.attempt)))


def _confirmed(row: AppliedRow, row_clock: RowClock) -> Confirmed:
    return Confirmed(
        setting_of(row),
        row_clock.proven_at(row),
        row.attempt,
        file=file_of(row),
        acknowledged=row.how == ProofKind.APPLIED.value,
        recorded_at=datetime.fromisoformat(row.at_wall),
    )


def _quiet(doubt: OpenAttempt, proof: Confirmed) -> bool:
    return doubt.attempt <= proof.attempt and doubt.setting == proof.setting


def _open_attempt(row: AttemptRow, row_clock: RowClock) -> OpenAttempt:
    at, until = row_clock.reserved_at(row), row_clock.effect_until(row)
    return OpenAttempt(row.id, setting_of(row), at, until, file_of(row))


def _lost_attempt(row: LossRow, row_clock: RowClock) -> OpenAttempt:
    return OpenAttempt(row.attempt, None, row_clock.reserved_at(row), row_clock.effect_until(row), NO_FILE)
