"""Whether the address of the exchange works, for all accounts of a process together. Pure.

A failure of the connection, or a page of a gateway in place of a reply of OKX's, is a failure of the
address, not of one account. While the address fails, one request at a time probes it and the others wait
for its result, so a hundred accounts do not each connect. A reply of OKX's own, even a refusal of one
account's key, proves that the address works, and all accounts continue at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.retry import MAX_RETRY_AFTER_S

PROBE_EVERY_S = 2.0
"""While the address fails, requests begin at least this far apart. It is also how long a probe without a
result delays the others: one connection that hangs must not delay every account."""

GATEWAY_STATUSES = frozenset({403, 429, *range(500, 600)})
"""The HTTP statuses with which gateways refuse or fail; in a reply of OKX's own they mean nothing here."""

OUTAGE_FAILURES = 2
"""After at least so many failures in a row, the first reply also ends the back-off of accounts. A single
failure may be about one account's request only, whose back-off must stay."""


@dataclass(frozen=True, slots=True)
class Proceed:
    """The request may connect now."""


@dataclass(frozen=True, slots=True)
class WaitForProbe:
    """Another request probes the address: wait for its result, and ask again at ``until`` at the latest."""

    until: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request must not connect now: ``reply`` is used as its result, nothing was sent."""

    reply: Reply


Admission = Proceed | WaitForProbe | Refuse


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """What is known of the address. ``failure`` is the newest one; None: the address works.

    ``failures`` counts those in a row. ``probed_at`` is when the newest request began that was
    allowed since; ``closed_until`` is the end of the wait that the gateway asked for with Retry-After. It
    applies to all from ``OUTAGE_FAILURES`` on: a single 403 or 429 may be about one account's request.
    """

    failure: Reply | None = None
    failures: int = 0
    probed_at: float = float("-inf")
    closed_until: float = float("-inf")

    @property
    def is_outage(self) -> bool:
        """Whether the failures are about more than one request."""
        return self.failures >= OUTAGE_FAILURES

    def admission(self, now: float) -> Admission:
        """Return whether a request may connect at the instant ``now``."""
        if self.failure is None:
            return Proceed()
        if self.is_outage and now < self.closed_until:
            return Refuse(replace(not_tried(self.failure), retry_after_s=self.closed_until - now))
        next_probe_at = self.probed_at + PROBE_EVERY_S
        return Proceed() if now >= next_probe_at else WaitForProbe(next_probe_at)

    def begun(self, now: float) -> CircuitBreaker:
        """Return the health after a request was allowed at the instant ``now``."""
        return self if self.failure is None else replace(self, probed_at=now)

    def failed(self, failure: Reply, now: float) -> CircuitBreaker:
        """Return the health after a request found the address failing.

        After the first failure the next request probes at once: the failure may have been a single one.
        """
        asked_s = min(failure.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        closed_until = max(self.closed_until, now + asked_s) if asked_s else self.closed_until
        return replace(self, failure=failure, failures=self.failures + 1, closed_until=closed_until)


WORKS = CircuitBreaker()
"""The address works, as far as is known."""


def not_tried(failure: Reply) -> Reply:
    """Return the result of a request that was not sent: it is the ``failure`` of another request."""
    message = f"not tried, because the address failed for another request: {failure.message}"
    return Reply(ReplyClass.NOT_SENT, failure.code, message)
