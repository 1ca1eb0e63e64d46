"""When the next Set MMP request may be reserved.

The promise: the exchange never sees more than two requests of one User ID in any 10 s. A request may
be reserved at ``t`` only if at most one earlier request ``k`` has ``hi_k + W + EPS > t``, where
``hi_k`` is the latest moment ``k`` can have reached the exchange. Suppose three arrivals fell within
W and the last of them, n, was reserved at ``t <= a_n``: the two others arrived after ``t - W``, so
both have ``hi + W > t``, the count is two, and n was not admitted. Counting from the moment of
sending is wrong (jitter squeezes three into a window), a leaky bucket is wrong (three at 0, 0, 5 s).

All instants are seconds on this process's monotonic clock; the store turns rows of other boots and
hosts into instants of first sight. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WINDOW_S = 10.0
"""OKX's window: 2 requests per 10 s per User ID [doc]."""

BURST = 2
"""Requests allowed in one window [doc]."""

EPS_S = 0.055
"""Slack on the window: 50 ms, and 500 ppm of the window for two clocks that run at different speeds."""

GUARD_S = WINDOW_S + EPS_S
"""For how long after its latest possible arrival a request counts."""

LATEST_ARRIVAL_S = 35.0
"""L: how long after its reservation an unanswered request may still reach the exchange.

30 s of signature validity [doc], 3 s of clock error, 2 s from reservation to the write.
"""

SEND_DEADLINE_S = 2.0
"""How old a reservation may be when its first byte is written; checked right before the write."""

SPACING_S = 5.0
"""The even spacing after the exchange replied 50011: others share the budget, or bursts are refused."""

BURST_AGAIN_AFTER = 20
"""Sends in a row without a 50011 after which bursts of two are tried again."""


@dataclass(frozen=True, slots=True)
class CountedRequest:
    """One request of the ledger that may still count, and its latest possible arrival."""

    attempt: int
    latest_arrival: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """What pacing knows of one budget.

    ``sent``: requests that may still count (older ones may be left out), any order.
    ``sends_since_limited``: sends after the newest 50011, None if there was none that matters.
    ``limited_latest_arrival``: latest arrival of that 50011's request, None likewise.
    ``empty_since``: None as soon as any request of this budget is on record, else the instant this
    process first saw that there was none: history is unknown and one window is waited out.
    """

    sent: tuple[CountedRequest, ...] = ()
    sends_since_limited: int | None = None
    limited_latest_arrival: float | None = None
    empty_since: float | None = None

    def unanswered(self, now: float) -> bool:
        """Tell whether a request may still reach the exchange after ``now``: it had no definite answer."""
        return any(request.latest_arrival > now for request in self.sent)

    @property
    def throttled(self) -> bool:
        """Whether even spacing is in force because of a recent 50011."""
        return self.sends_since_limited is not None and self.sends_since_limited < BURST_AGAIN_AFTER


def earliest_slot(ledger: Ledger, now: float, *, assume_idle: bool = False, keep_free: int = 0) -> float:
    """Return the earliest instant, at least ``now``, at which one more request may be reserved.

    ``keep_free``: so many of the window's slots must be free after that (0 or 1).
    """
    return max(now, *_bounds(ledger, assume_idle=assume_idle, keep_free=keep_free))


def schedule(
    ledger: Ledger,
    now: float,
    count: int,
    *,
    round_trip_s: float = 0.0,
    assume_idle: bool = False,
    keep_free: Sequence[int] = (),
) -> tuple[float, ...]:
    """Return the instants at which ``count`` further requests are expected to be reserved.

    Each is taken to be answered after ``round_trip_s``, and to leave its ``keep_free`` slots of the window
    (none where that is shorter than ``count``). Length ``count``, never decreasing.
    """
    slots: list[float] = []
    for number in range(count):
        left = keep_free[number] if number < len(keep_free) else 0
        slot = earliest_slot(ledger, now, assume_idle=assume_idle, keep_free=left)
        slots.append(slot)
        now = slot + round_trip_s
        ledger = _after(ledger, CountedRequest(attempt=0, latest_arrival=now), now)
    return tuple(slots)


def still_counts(hi: float, now: float) -> bool:
    """Tell whether a request with latest arrival ``hi`` can still affect a slot at ``now`` or later."""
    return hi + GUARD_S > now


def latest_arrival(reserved_at: float, answered_at: float | None) -> float:
    """Return the latest arrival of a request: the definite answer's instant, else reservation + L."""
    return reserved_at + LATEST_ARRIVAL_S if answered_at is None else answered_at


def _bounds(ledger: Ledger, *, assume_idle: bool, keep_free: int = 0) -> Sequence[float]:
    counted = sorted((sent.latest_arrival for sent in ledger.sent), reverse=True)
    allowed = BURST - keep_free
    bounds = [counted[allowed - 1] + GUARD_S] if len(counted) >= allowed else [float("-inf")]
    if ledger.throttled:
        if ledger.limited_latest_arrival is not None:
            bounds.append(ledger.limited_latest_arrival + GUARD_S)
        if counted:
            bounds.append(counted[0] + SPACING_S + EPS_S)
    if ledger.empty_since is not None and not assume_idle:
        bounds.append(ledger.empty_since + GUARD_S)
    return bounds


def _after(ledger: Ledger, sent: CountedRequest, now: float) -> Ledger:
    counting = tuple(old for old in ledger.sent if still_counts(old.latest_arrival, now))
    since = ledger.sends_since_limited
    return replace(
        ledger,
        sent=(*counting, sent),
        sends_since_limited=None if since is None else since + 1,
        empty_since=None,
    )
