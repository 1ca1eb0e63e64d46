"""Whether a row that its owner renews has not expired: one condition for every statement that asks.

The database's clock may be set back, or another server whose clock is behind may take over. A row that
ends further ahead than any renewal reaches is then left over from before, and says nothing about its
owner: it counts as expired, so that a dead owner is not believed alive for as long as the step was. An
owner that lives renews its row by the clock as it is now.
"""

from __future__ import annotations

FURTHEST = 2
"""How many lease times ahead a row may expire: room for small steps of the clock."""


def unexpired(lease_s: float, column: str = "expires_at") -> str:
    """Return the SQL condition for a row that is renewed for ``lease_s`` seconds at a time."""
    furthest = f"clock_timestamp() + make_interval(secs => {FURTHEST * lease_s})"
    return f"({column} > clock_timestamp() AND {column} <= {furthest})"
