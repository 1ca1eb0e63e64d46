"""Which open attempts a proof of what is in force resolves, and what a lost record leaves in doubt.

A family is uncertain while one of its attempts is *open*: pending, unanswered, or acknowledged in an
unknown order. Only time resolves an open attempt: a write reserved after its L, or a read that shows all
its effect. Pure, in terms of rows, and the same for every engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.core.history_records import ProofKind
from reconciler.core.model import Family, Setting
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import AcceptedRow, AppliedRow, AttemptRow, LossRow, setting_of


def is_only_request_of(
    attempt: AttemptRow, accepted: AcceptedRow, proof: AppliedRow | None, others: Iterable[int]
) -> bool:
    """Tell whether no other request than ``attempt`` can have put the ``accepted`` setting in force.

    ``others`` are the numbers of the family's other open attempts, and of its losses.
    """
    if attempt.id < accepted.attempt or accepted.how != ProofKind.APPLIED.value:
        return False
    proven = proof is not None and proof.attempt >= accepted.attempt
    return not proven and not any(number >= accepted.attempt for number in others)


def tries_resolved_by(tries: Iterable[AttemptRow], adopted: Mapping[Family, Setting]) -> list[AttemptRow]:
    """Return the attempts that count as tries of a setting now known to be in force, marked as ended."""
    return [row._replace(tries=0) for row in tries if adopted.get(Family(row.family)) == setting_of(row)]


def merged(changed: Iterable[AttemptRow]) -> list[AttemptRow]:
    """Return one row of each attempt: an attempt has ended if either of its copies has."""
    rows: dict[int, AttemptRow] = {}
    for row in changed:
        other = rows.setdefault(row.id, row)
        rows[row.id] = row._replace(
            tries=min(row.tries, other.tries), resolved=max(row.resolved, other.resolved)
        )
    return list(rows.values())


def changed_since(
    open_attempts: Iterable[AttemptRow | LossRow],
    applied: Iterable[AppliedRow],
    begun_at: float,
    row_clock: RowClock,
) -> frozenset[str]:
    """Return the families attempted or proven after ``begun_at``: a read begun then does not show that."""
    attempted = {row.family or "" for row in open_attempts if row_clock.reserved_at(row) > begun_at}
    return frozenset(attempted | {row.family for row in applied if row_clock.proven_at(row) > begun_at})


def proves_in_force(attempt: AttemptRow, prior: AppliedRow | None) -> bool:
    """Tell whether the acknowledgement of ``attempt`` proves what is in force now.

    It does not if a later proof already resolved the attempt, or if another value was proven while it was
    in flight: then it is unknown which of the two the exchange applied last.
    """
    if attempt.resolved:
        return False
    return prior is None or prior.attempt < attempt.id or setting_of(prior) == setting_of(attempt)


def resolved_by(open_attempts: Iterable[AttemptRow], since: float, row_clock: RowClock) -> list[AttemptRow]:
    """Return the open attempts that a proof of what was in force at ``since`` resolves, marked so.

    For a write, ``since`` is its reservation; for a read, the instant until which it shows all that took
    effect. If the L of an attempt ended before ``since``, the proof supersedes it. Any other attempt may
    still take effect, or did so without the proof showing it.
    """
    return [row._replace(resolved=1) for row in open_attempts if row_clock.effect_until(row) <= since]


def losses_resolved_by(losses: Iterable[LossRow], since: float, row_clock: RowClock) -> list[int]:
    """Return the ids of the losses that such a proof resolves: see :func:`resolved_by`."""
    return [row.id for row in losses if row_clock.effect_until(row) <= since]


def loss_for(
    losses: Iterable[LossRow], account: str, family: str, since: float, row_clock: RowClock
) -> LossRow | None:
    """Return the loss of a family without a record; None if the L of every lost request was over ``since``.

    Only losses about the rate are considered: the lost records may have been the family's.
    """
    landing = [row for row in losses if row.family is None and row_clock.effect_until(row) > since]
    if not landing:
        return None
    # The instant of the loss, not of now. It gets its own id and first sight, so it only seems younger.
    return max(landing, key=lambda row: row.id)._replace(account=account, family=family)
