"""From rows to the pacing ledger: which recorded attempts affect the next slot of a User ID."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.core.model import RateBudget
from reconciler.core.pacing import (
    BURST,
    BURST_AGAIN_AFTER,
    CountedRequest,
    Ledger,
    latest_arrival,
    still_counts,
)
from reconciler.core.reply import AttemptStatus
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import AttemptRow, LossRow, budget_key


@dataclass(frozen=True, slots=True)
class RateHistory:
    """The attempts of one budget that affect its next slot.

    ``counting``: sent or maybe sent, not yet retired. ``losses``: those that count for the rate.
    ``limited``: the newest attempt that was rejected for its rate, None without one; ``sends_since``: the
    sends after it, up to BURST_AGAIN_AFTER. ``empty``: nothing that was or may have been sent is on record.
    """

    budget: RateBudget
    counting: tuple[AttemptRow, ...]
    losses: tuple[LossRow, ...]
    limited: AttemptRow | None
    sends_since: int
    empty: bool


def with_uncommitted(history: RateHistory, uncommitted: Iterable[AttemptRow]) -> RateHistory:
    """Return the history with the reservations of this process added whose COMMIT failed.

    Each may be on record or not, and a later read may show one that this read does not: it counts.
    """
    key = budget_key(history.budget)
    missing = tuple(
        row
        for row in uncommitted
        if (row.kind, row.environment, row.uid) == key
        and not any(same_attempt(one, row) for one in history.counting)
    )
    return replace(history, counting=(*history.counting, *missing)) if missing else history


def ledger_from_rows(history: RateHistory, row_clock: RowClock) -> Ledger:
    """Return the pacing ledger: what still counts, as instants of this process."""
    empty_since = _empty_since(history, row_clock)
    aged = [(row.id, row_clock.hi(row)) for row in history.counting]
    # The slots admit a burst at most, so no loss can be of more requests that still count.
    aged += [(loss.attempt, row_clock.hi(loss)) for loss in history.losses for _ in range(BURST)]
    aged += _gone(history, empty_since, row_clock)
    sent = tuple(CountedRequest(number, hi) for number, hi in aged if still_counts(hi, row_clock.now))
    limited = history.limited
    if limited is None or history.sends_since >= BURST_AGAIN_AFTER:
        return Ledger(sent, empty_since=empty_since)
    limited_hi = None if limited.retired else row_clock.hi(limited)
    return Ledger(sent, history.sends_since, limited_hi, empty_since)


def _empty_since(history: RateHistory, row_clock: RowClock) -> float | None:
    if history.empty:
        return row_clock.first_seen.empty_since(history.budget, row_clock.now)
    was_sent = [row.status != AttemptStatus.PENDING.value for row in history.counting]
    was_sent += [False] * len(history.losses)  # a lost request was perhaps never sent
    row_clock.first_seen.not_empty(history.budget, sent=not was_sent or any(was_sent))
    return None


def _gone(history: RateHistory, empty_since: float | None, row_clock: RowClock) -> list[tuple[int, float]]:
    """Return what counts for requests that this process saw on record, where none is on record now.

    Such a history is not unknown: two requests may have been reserved just before they were lost.
    """
    if empty_since is None or not row_clock.first_seen.saw_requests(history.budget):
        return []
    return [(0, latest_arrival(empty_since, None))] * BURST


def retired(history: RateHistory, row_clock: RowClock) -> list[AttemptRow]:
    """Return the rows that affect no slot at ``row_clock.now`` or later, marked so."""
    return [
        row._replace(retired=1)
        for row in history.counting
        if not still_counts(row_clock.hi(row), row_clock.now)
    ]


def same_attempt(row: AttemptRow, reserved: AttemptRow) -> bool:
    """Tell whether a row is the ``reserved`` attempt; after a loss another attempt may have its id."""
    return (row.boot, row.reserved_at, row.account, row.family, row.signed_at) == (
        reserved.boot,
        reserved.reserved_at,
        reserved.account,
        reserved.family,
        reserved.signed_at,
    )


def losses_not_counting(history: RateHistory, row_clock: RowClock) -> list[int]:
    """Return the ids of the losses that no longer affect a slot."""
    return [loss.id for loss in history.losses if not still_counts(row_clock.hi(loss), row_clock.now)]
