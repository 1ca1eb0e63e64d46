"""The instants of rows on this process's own clock. Unknown ages only make a row seem younger.

A row of this boot, not in the future, has its own instant. A row of another boot, another host or an
impossible clock value ages from this process's first sight of it: what it records had happened by then.
Wall clocks, also the database's, never count. It is always safe to forget a first sight, because the row
only seems younger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from reconciler.core.model import RateBudget
from reconciler.core.pacing import latest_arrival, still_counts
from reconciler.store.rows import TABLES, AppliedRow, AttemptRow, LossRow

MAX_FIRST_SEEN = 100_000
"""Maximum number of first sights: ten times the families of the largest file; the oldest are dropped."""


class BootInstant(NamedTuple):
    """An instant in a row: seconds on the monotonic clock of one boot."""

    boot: str
    instant: float


class FirstSeen:
    """When one process first saw rows that are not of its own boot.

    Also its own reservations whose COMMIT failed or whose record was lost, as long as they count: they may
    be on record or not.
    """

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.uncommitted: tuple[AttemptRow, ...] = ()
        self._seen: dict[object, float] = {}
        self._sent: set[RateBudget] = set()

    def local(self, what: object, stamp: BootInstant, now: float) -> float:
        """Return ``stamp`` as an instant of this process; ``what`` names the fact it belongs to.

        ``now`` must have been read after the row was: a first sight may not precede the fact.
        """
        if stamp.boot == self.boot and stamp.instant <= now:
            return stamp.instant
        return self.first((what, stamp), now)

    def empty_since(self, budget: RateBudget, now: float) -> float:
        """Return the instant since which this process knows that ``budget`` has no request on record."""
        return self.first(budget, now)

    def not_empty(self, budget: RateBudget, *, sent: bool) -> None:
        """Note that ``budget`` has a request on record: if it has none later, a new ``empty_since`` begins.

        ``sent``: at least one was sent, so it can only be missing later if the record was lost.
        """
        self._seen.pop(budget, None)
        if sent:
            self._sent.add(budget)

    def saw_requests(self, budget: RateBudget) -> bool:
        """Tell whether this process saw a request of ``budget`` on record that was sent."""
        return budget in self._sent

    def first(self, what: object, now: float) -> float:
        """Return the instant of the first call for ``what``; ``now`` if this is it."""
        if what not in self._seen and len(self._seen) >= MAX_FIRST_SEEN:
            del self._seen[next(iter(self._seen))]
        return self._seen.setdefault(what, now)

    def remember_uncommitted(self, row: AttemptRow, now: float) -> None:
        """Remember a reservation that may not be on record, and forget those that no longer count."""
        row_clock, same = RowClock(self, now), (row.id, row.boot, row.reserved_at)
        others = (one for one in self.uncommitted if (one.id, one.boot, one.reserved_at) != same)
        counting = (one for one in others if still_counts(row_clock.hi(one), now))
        self.uncommitted = (*counting, row)


@dataclass(frozen=True, slots=True)
class RowClock:
    """The instants of rows as this process sees them at ``now``, read after the rows were."""

    first_seen: FirstSeen
    now: float

    def reserved_at(self, row: AttemptRow | LossRow) -> float:
        """Return when the attempt, or the newest lost one, was reserved, or a later instant."""
        return self.first_seen.local(
            (TABLES[type(row)], row.id), BootInstant(row.boot, row.reserved_at), self.now
        )

    def hi(self, row: AttemptRow | LossRow) -> float:
        """Return the latest moment the attempt can have reached the exchange.

        The definite answer ages from its own first sight: that of the reservation was too early.
        """
        return latest_arrival(self.reserved_at(row), self._answered_at(row))

    def effect_until(self, row: AttemptRow | LossRow) -> float:
        """Return until when the attempt may still take effect: its L, or its acknowledgement."""
        return self.hi(row)

    def proven_at(self, row: AppliedRow) -> float:
        """Return when the setting was proven in force, or a later instant."""
        what = ("applied", row.kind, row.environment, row.uid, row.family, row.attempt)
        return self.first_seen.local(what, BootInstant(row.boot, row.at), self.now)

    def _answered_at(self, row: AttemptRow | LossRow) -> float | None:
        if isinstance(row, LossRow) or row.answered_boot is None or row.answered_at is None:
            return None
        return self.first_seen.local(
            ("answered", row.id), BootInstant(row.answered_boot, row.answered_at), self.now
        )
