"""Whether and when a message to a webhook is sent once more: bounded, and never against its will."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_TRIES = 5
"""With the waits between them a webhook may be away for a quarter of a minute, and for longer where its
tries time out; whoever needs more reads the log or the metrics."""

FIRST_WAIT_S = 1.0
MAX_WAIT_S = 60.0
"""Waits double from the first, and none is longer than this, whatever Retry-After says."""

RETRIED = frozenset({408, 425, 429})
"""Client errors that ask for patience; any other one says that the message will never be taken."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """How one try went: ``status`` of the reply, None when there was none; ``why`` it failed, in words.

    ``retry_after`` is the header of that name, "" without one.
    """

    status: int | None
    why: str = ""
    retry_after: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the message was taken."""
        return self.status is not None and 200 <= self.status < 300


def retry_delay_s(tries: int, answer: DeliveryResult, wall: datetime) -> float | None:
    """Return how long to wait after the ``tries``-th try failed so; None: it is given up."""
    if tries >= MAX_TRIES or not _is_worth_it(answer.status):
        return None
    usual = FIRST_WAIT_S * 2.0 ** (tries - 1)
    return min(MAX_WAIT_S, max(usual, _asked_for_s(answer.retry_after, wall)))


def _is_worth_it(status: int | None) -> bool:
    """Tell whether the same message may be taken later; a redirect is never followed."""
    return status is None or status >= 500 or status in RETRIED


def _asked_for_s(retry_after: str, wall: datetime) -> float:
    """Return the seconds a Retry-After asks for; 0 where it makes no sense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one no calendar holds
        return 0.0
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - wall).total_seconds())
