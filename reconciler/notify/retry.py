"""Whether and when a message to a webhook is sent again: bounded, and never after a definite rejection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_TRIES = 5
"""With the waits between tries, a webhook may be down for a quarter of a minute, or longer if tries time
out. The log and the metrics cover longer outages."""

FIRST_WAIT_S = 1.0
MAX_WAIT_S = 60.0
"""Waits double from the first. No wait is longer than this, even with a Retry-After."""

RETRIED = frozenset({408, 425, 429})
"""Client errors that allow a retry; any other client error is definite."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one try: ``status`` of the reply (None if none), and ``why`` it failed, in words.

    ``retry_after`` is the header of that name, "" if absent.
    """

    status: int | None
    why: str = ""
    retry_after: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the webhook accepted the message."""
        return self.status is not None and 200 <= self.status < 300


def retry_delay_s(tries: int, answer: DeliveryResult, wall: datetime) -> float | None:
    """Return how long to wait after the ``tries``-th try failed with ``answer``; None: do not retry."""
    if tries >= MAX_TRIES or not _is_worth_it(answer.status):
        return None
    usual = FIRST_WAIT_S * 2.0 ** (tries - 1)
    return min(MAX_WAIT_S, max(usual, _asked_for_s(answer.retry_after, wall)))


def _is_worth_it(status: int | None) -> bool:
    """Tell whether the webhook may accept the same message later; a redirect is never followed."""
    return status is None or status >= 500 or status in RETRIED


def _asked_for_s(retry_after: str, wall: datetime) -> float:
    """Return the seconds of a Retry-After; 0 if it is invalid."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one out of range
        return 0.0
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - wall).total_seconds())
