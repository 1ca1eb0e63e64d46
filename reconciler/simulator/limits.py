"""Rate limits, counted at the exchange: by arrival time and User ID (public endpoints: by address).

The limits are OKX's [doc]; how they are counted is [unknown], so Set MMP can be counted three ways.
The other endpoints always use a sliding window, the strictest reading of "n per w" that allows bursts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from reconciler.simulator.behaviour_options import RateMode
from reconciler.simulator.request_parsing import Endpoint


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` requests in any ``window_s`` seconds."""

    count: int
    window_s: float


LIMITS: dict[Endpoint, Limit] = {
    Endpoint.SET: Limit(2, 10.0),
    Endpoint.GET: Limit(5, 2.0),
    Endpoint.RESET: Limit(5, 2.0),
    Endpoint.ACCOUNT: Limit(5, 2.0),
    Endpoint.TIME: Limit(10, 2.0),
    Endpoint.UNDERLYING: Limit(20, 2.0),
    Endpoint.INSTRUMENTS: Limit(20, 2.0),
}


def over_limit(mode: RateMode, limit: Limit, counted: Sequence[float], at: float) -> bool:
    """Return whether one more arrival at ``at`` exceeds the limit, given the ``counted`` ones.

    Arrivals exactly a window (no-burst: a spacing) apart do not affect each other. Arrivals may be
    checked slightly out of order, hence the absolute differences.
    """
    match mode:
        case RateMode.SLIDING:
            return sum(abs(at - one) < limit.window_s for one in counted) >= limit.count
        case RateMode.FIXED:
            window = at // limit.window_s
            return sum(one // limit.window_s == window for one in counted) >= limit.count
        case RateMode.NO_BURST:
            return any(abs(at - one) < limit.window_s / limit.count for one in counted)
        case _ as never:
            assert_never(never)


class Rates:
    """The state behind the limits: which arrivals still count, by endpoint and budget."""

    def __init__(self) -> None:
        self._counted: dict[tuple[Endpoint, str], list[float]] = {}

    def arrive(
        self, endpoint: Endpoint, budget: str, at: float, *, mode: RateMode, count_refused: bool
    ) -> bool:
        """Count one arrival and return whether it is over the limit.

        ``count_refused``: whether arrivals over the limit count against later ones [unknown].
        """
        limit = LIMITS[endpoint]
        counted = self._counted.setdefault((endpoint, budget), [])
        applied_mode = mode if endpoint is Endpoint.SET else RateMode.SLIDING
        over = over_limit(applied_mode, limit, counted, at)
        if count_refused or not over:
            insort(counted, at)
            del counted[: bisect_left(counted, counted[-1] - 2 * limit.window_s)]
        return over
