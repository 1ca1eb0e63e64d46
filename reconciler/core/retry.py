"""When something that failed is tried again: an account, one read, or one family on its own.

An account backs off after failures in a row, and waits longer where the exchange asks for it. A read of a
command that runs once is tried again for a short while only: a person or a pipeline waits for it.

A family whose last requests had no definite success is tried again at growing intervals of its own, so
that one broken family never takes the slots of the others. The intervals count from what is on record,
so a restart changes nothing. As soon as any family has a definite success, every family may be tried
again, so the end of an outage is noticed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.model import Family, Setting
from reconciler.core.reply import STOPPING, Reply, ReplyClass

FIRST_BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 30.0
"""Back-off of an account doubles from the first to the longest: an outage's end is seen within 30 s."""

LONG_BACK_OFF_S = 60.0
"""Back-off after the exchange replied that the account or the service is down for longer."""

MAX_RETRY_AFTER_S = 60.0
"""The longest wait that a Retry-After header can ask for: without reads, drift and freezes are not seen."""

READ_RETRIES_S = 30.0
"""How long a read of a command that runs once is tried again, unless --timeout says less."""

PROTECTIVE_RETRY_S = (10.0, 45.0, 90.0, 120.0)
"""Seconds after the first, second, … try without a definite success; the last one repeats. The first is
one window, the second the time for which an unanswered request counts against the rate."""

LOOSENING_RETRY_S = (10.0, 45.0, 90.0, 120.0, 240.0, 480.0, 600.0)
"""The same for changes that loosen: they can wait, and their retries must not crowd out protection."""

REJECTED_RETRY_S = 600.0
REJECTED_RETRIES = 6
REJECTED_SLOW_RETRY_S = 3600.0
"""A setting that the exchange refused is tried again every 10 minutes for an hour, then every hour: the
cause may have passed, and each try costs a slot."""


def back_off_s(failures: int) -> float:
    """Return how long to back off after ``failures`` earlier failures in a row: 1, 2, 4 … 30 s."""
    return float(min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** min(failures, 10)))


def retry_after_s(reply: Reply, failures: int) -> float:
    """Return how long an account waits after ``reply``, in seconds.

    The usual back-off, or longer: where the exchange is down for longer, and where it asks for it.
    """
    least = LONG_BACK_OFF_S if reply.reply_class is ReplyClass.UNAVAILABLE else 0.0
    return max(back_off_s(failures), least, _requested_s(reply))


def next_read_at(
    reply: Reply, failures: int, *, begun_at: float, now: float, deadline: float = float("inf")
) -> float | None:
    """Return when a command that runs once repeats a read that failed with ``reply``; None: not at all.

    ``begun_at`` is when the first try began, ``failures`` counts the failures before this one. Tries begin
    for READ_RETRIES_S, the last one at its end; none after ``deadline``, the end of --timeout. The first
    Retry-After is honoured even if it is longer. Errors that a person has to correct are not retried.
    """
    if reply.reply_class in STOPPING:
        return None
    soonest = now + max(FIRST_BACK_OFF_S, _requested_s(reply))
    retries_end = begun_at + READ_RETRIES_S
    if failures == 0:
        retries_end = max(retries_end, soonest)
    retries_end = min(retries_end, deadline)
    if soonest > retries_end:
        return None
    return min(max(soonest, now + back_off_s(failures)), retries_end)


def _requested_s(reply: Reply) -> float:
    return min(reply.retry_after_s or 0.0, MAX_RETRY_AFTER_S)


RETRY_PATIENCE_S = 30.0
"""How long a retry that only adds protection leaves the last slot to others; then it may take it."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The consecutive attempts of a family at one ``setting`` without a definite success, on record.

    ``count`` is at least 1; ``last_at`` is the reservation of the newest one on this process's clock, and
    ``limited`` tells that this one was refused for its rate: pacing decides when to try again then.
    ``ended_at`` is when a request of any family was reserved that was acknowledged since: that ends the
    back-off. None without one.
    Attempts that were not sent, and those refused for key, account or clock, do not count.
    """

    setting: Setting
    count: int
    last_at: float
    limited: bool = False
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class RetryRecord:
    """What the state has on record of failed attempts of one User ID."""

    tries: Mapping[Family, Tries] = field(default_factory=dict)
    wait_until: Mapping[tuple[Family, Setting], float] = field(default_factory=dict)
    """Until when a setting of a family waits in this process: because the exchange asked for it
    (Retry-After), or because its request could not be sent."""

    def count(self, family: Family, setting: Setting) -> int:
        """Return how often ``setting`` was tried without success; 0 for a setting not tried yet."""
        tries = self.tries.get(family)
        return tries.count if tries is not None and tries.setting == setting else 0

    def not_before(self, family: Family, setting: Setting, *, protective: bool) -> float:
        """Return the instant from which ``setting`` may be tried again; -inf where it was not tried yet."""
        tries, wait_until = self.tries.get(family), self.wait_until.get((family, setting), float("-inf"))
        if tries is None or tries.setting != setting:
            return wait_until
        if tries.limited or tries.ended_at is not None:
            return max(tries.last_at if tries.ended_at is None else tries.ended_at, wait_until)
        waits = PROTECTIVE_RETRY_S if protective else LOOSENING_RETRY_S
        return max(tries.last_at + waits[min(tries.count, len(waits)) - 1], wait_until)


NO_TRIES = RetryRecord()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A setting the exchange refused for one family; another value is tried at once.

    The same value is tried again from ``retry_at`` on; ``only_if_looser``: only while live is looser.
    """

    setting: Setting
    retry_at: float
    only_if_looser: bool = True


def rejected_again_after_s(times: int) -> float:
    """Return how long after the ``times``-th refusal in a row (1, 2, …) a setting may be tried again."""
    return REJECTED_RETRY_S if times <= REJECTED_RETRIES else REJECTED_SLOW_RETRY_S
