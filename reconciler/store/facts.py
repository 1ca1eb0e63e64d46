"""What the rows of the state mean: rows to core values, and which doubts a proof ends.

A family is in doubt while an attempt of it is *open*: pending, unanswered, or acknowledged in an order
nobody can know. An open attempt is *quiet* while it cannot matter: it carries the confirmed value and
was on record when that was proven, so wherever it lands it changes nothing. It is kept all the same,
because once another value is written its late arrival would undo that. Only time ends an open attempt
for good: a write reserved after its L, or a read that shows all of it. Pure, and the same for every
engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.model import (
    Budget,
    Confirmed,
    Environment,
    Family,
    Known,
    Pause,
    Uncertain,
    Unresolved,
)
from reconciler.core.pacing import BURST, CALM_SENDS, Ledger, Sent, still_counts
from reconciler.core.records import AppliedRecord, AttemptRecord, How, LiveRecord, OverrideRecord
from reconciler.core.strips import Turn, Watch
from reconciler.core.verdict import AttemptStatus
from reconciler.store.ageing import Ages
from reconciler.store.rows import (
    ANY_FAMILY,
    LOST,
    AppliedRow,
    AttemptRow,
    FightRow,
    LiveDocument,
    OverrideRow,
    PauseRow,
    PresenceRow,
    TurnRow,
    clean,
    live_rows,
    setting_of,
    wall_text,
)


@dataclass(frozen=True, slots=True)
class RateHistory:
    """The attempts of one budget that bear on its next slot.

    ``counting``: sent or maybe sent, not yet retired. ``limited`` is the newest one refused for its
    rate, None without one, and ``sends_since`` the sends after it (beyond CALM_SENDS they need not
    be counted). ``empty``: nothing that was or may have been sent is on record.
    """

    budget: Budget
    counting: tuple[AttemptRow, ...]
    limited: AttemptRow | None
    sends_since: int
    empty: bool


def known_from_rows(
    applied: Iterable[AppliedRow], open_attempts: Iterable[AttemptRow], ages: Ages
) -> dict[Family, Known]:
    """Return what is known of every family that either kind of row names (never Never).

    ``open_attempts`` are the unresolved ones of the same account, in the order of their ids.
    """
    proofs = {Family(row.family): row for row in applied}
    doubts: dict[Family, list[AttemptRow]] = {}
    for attempt in open_attempts:
        doubts.setdefault(Family(attempt.family), []).append(attempt)
    return {
        family: _known(proofs.get(family), doubts.get(family, []), ages)
        for family in sorted(proofs.keys() | doubts.keys())
    }


def ledger_from_rows(history: RateHistory, ages: Ages) -> Ledger:
    """Return the pacing ledger: what still counts, as instants of this process."""
    aged = ((row.id, ages.hi(row)) for row in history.counting)
    sent = tuple(Sent(number, hi) for number, hi in aged if still_counts(hi, ages.now))
    empty_since = ages.sights.empty_since(history.budget, ages.now) if history.empty else None
    limited = history.limited
    if limited is None or history.sends_since >= CALM_SENDS:
        return Ledger(sent, empty_since=empty_since)
    limited_hi = None if limited.retired else ages.hi(limited)
    return Ledger(sent, history.sends_since, limited_hi, empty_since)


def no_longer_counting(history: RateHistory, ages: Ages) -> list[AttemptRow]:
    """Return the rows that bear on no slot at ``ages.now`` or later, marked so."""
    return [row._replace(retired=1) for row in history.counting if not still_counts(ages.hi(row), ages.now)]


def same_attempt(row: AttemptRow, reserved: AttemptRow) -> bool:
    """Tell whether a row is of the attempt reserved so; after a loss its id may be another's."""
    return (row.boot, row.reserved_at, row.account, row.family, row.signed_at) == (
        reserved.boot,
        reserved.reserved_at,
        reserved.account,
        reserved.family,
        reserved.signed_at,
    )


def proves(attempt: AttemptRow, prior: AppliedRow | None) -> bool:
    """Tell whether the acknowledgement of ``attempt`` proves what is in force now.

    It does not when later proof already ended the attempt, nor when another value was proven while
    it was in flight: which of the two the exchange took last nobody knows.
    """
    if attempt.resolved:
        return False
    return prior is None or prior.attempt < attempt.id or setting_of(prior) == setting_of(attempt)


def ended_by(open_attempts: Iterable[AttemptRow], since: float, ages: Ages) -> list[AttemptRow]:
    """Return the open attempts that a proof of what was in force ``since`` then ends, marked resolved.

    For a write that is its reservation, for a read the instant until which it shows all that took
    effect. An attempt whose L was over by then was overtaken by the proof, wherever it landed; any
    other may land yet, or has, and the proof does not show it.
    """
    return [row._replace(resolved=1) for row in open_attempts if ages.effect_until(row) <= since]


def lost_attempts(
    budget: Budget, on_record: Sequence[tuple[str, str]], account: str, ages: Ages, wall: datetime
) -> list[AttemptRow]:
    """Return the attempts of ``budget`` that may have been and are not on record, ids still to be given.

    The newest commits of a server can be lost in a failover. Whatever was reserved in them was so by
    now, so two requests, the most that can have been, count as reserved now; and each family that
    ``on_record`` names (account, family) may have been written, with any value, until their L is over.
    """
    pacing = (account, ANY_FAMILY, 0, 1)
    doubts = ((of, family, 1, 0) for of, family in on_record)
    return [
        AttemptRow(
            checksum="",
            id=0,
            kind=budget.kind.value,
            environment=budget.environment.value,
            uid=budget.uid,
            account=of,
            family=family,
            time_interval_ms=0,
            frozen_interval_ms=0,
            qty_limit="",
            signed_at="",
            boot=ages.sights.boot,
            reserved_at=ages.now,
            reserved_wall=wall_text(wall),
            status=LOST,
            definite=0,
            code="",
            message="",
            answered_boot=None,
            answered_at=None,
            settled_wall=None,
            limited=0,
            retired=retired,
            resolved=resolved,
        )
        for of, family, retired, resolved in (*[pacing] * BURST, *doubts)
    ]


def doubt_of_newcomer(
    lost: Iterable[AttemptRow], account: str, family: str, since: float, ages: Ages
) -> AttemptRow | None:
    """Return the lost attempt of a family that nothing is on record of; None if its L was over ``since``.

    ``lost`` are those that count against the rate: what they lost may have been the family's record.
    ``since`` is as in :func:`ended_by`.
    """
    landing = [row for row in lost if ages.effect_until(row) > since]
    if not landing:
        return None
    # The stamp of the loss, not of now; aged anew under its own id it only seems younger.
    newest = max(landing, key=lambda row: row.id)
    return newest._replace(account=account, family=family, retired=1, resolved=0)


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
    return AppliedRecord(setting_of(row), How(row.how), row.attempt, datetime.fromisoformat(row.at_wall))


def pause_of(row: PauseRow | FightRow) -> Pause:
    """Return the pause a row keeps; inverse of :func:`pause_row`."""
    until = datetime.fromisoformat(row.until_wall) if row.until_wall else None
    fought = setting_of(row) if isinstance(row, FightRow) else None
    return Pause(Family(row.family), row.reason, datetime.fromisoformat(row.since_wall), until, fought)


def pause_row(pause: Pause, account: str, environment: Environment) -> PauseRow | FightRow:
    """Return the row that keeps a pause; its kind says in which table."""
    owner = account, environment.value, pause.family
    rest = (
        clean(pause.reason),
        wall_text(pause.since),
        None if pause.until is None else wall_text(pause.until),
    )
    fought = pause.fought
    if fought is None:
        return PauseRow("", *owner, *rest)
    setting = fought.time_interval_ms, fought.frozen_interval_ms, fought.qty_limit.text
    return FightRow("", *owner, *setting, *rest)


def watch_of(row: PresenceRow) -> Watch:
    """Return the watch a row keeps."""
    return Watch(datetime.fromisoformat(row.from_wall), datetime.fromisoformat(row.until_wall))


def turn_of(row: TurnRow) -> Turn:
    """Return the turn a row keeps."""
    return Turn(Family(row.family), row.state, datetime.fromisoformat(row.at_wall))


def override_record(row: OverrideRow) -> OverrideRecord:
    """Return an override row as a record for people."""
    return OverrideRecord(Family(row.family), row.refusal, row.reason, datetime.fromisoformat(row.at_wall))


def live_record(row: LiveDocument) -> LiveRecord:
    """Return the stored live read as a record for people."""
    rows, unreadable = live_rows(row.document)
    return LiveRecord(rows, unreadable, datetime.fromisoformat(row.read_wall))


def _known(proof: AppliedRow | None, doubts: list[AttemptRow], ages: Ages) -> Known:
    last = None if proof is None else _confirmed(proof, ages)
    # Aged even when quiet: a first sight taken only once it matters would start its L anew.
    unresolved = tuple(_unresolved(attempt, ages) for attempt in doubts)
    if last is not None and all(_quiet(attempt, last) for attempt in unresolved):
        landing = max((attempt.effect_until for attempt in unresolved), default=last.lands_until)
        return replace(last, lands_until=landing)
    return Uncertain(last, unresolved)


def _confirmed(row: AppliedRow, ages: Ages) -> Confirmed:
    return Confirmed(setting_of(row), ages.proven_at(row), row.attempt)


def _quiet(doubt: Unresolved, proof: Confirmed) -> bool:
    return doubt.attempt <= proof.attempt and doubt.setting == proof.setting


def _unresolved(row: AttemptRow, ages: Ages) -> Unresolved:
    setting = None if row.status == LOST else setting_of(row)
    return Unresolved(row.id, setting, ages.reserved_at(row), ages.effect_until(row))
