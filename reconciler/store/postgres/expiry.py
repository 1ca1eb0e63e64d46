"""Whether a row that its owner renews has not expired: one condition for every statement that checks it.

The database's clock may be set back, or another server whose clock is behind may take over. A row that
expires later than any renewal can set is then from before that change. It counts as expired, so that a dead
owner does not count as live for as long as the clock step was. A live owner renews its row by the current
clock.
"""

from __future__ import annotations

FURTHEST = 2
"""How many lease times ahead a row may expire: tolerates small steps of the clock."""


def unexpired(lease_s: float, column: str = "expires_at") -> str:
    """Return the SQL condition for a row that is renewed for ``lease_s`` seconds at a time."""
    furthest = f"clock_timestamp() + make_interval(secs => {FURTHEST * lease_s})"
    return f"({column} > clock_timestamp() AND {column} <= {furthest})"
