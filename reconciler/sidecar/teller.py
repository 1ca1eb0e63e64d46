"""Tells of one account: looks at its vitals when something may have turned, and hands over what did.

Nothing is decided here. A look costs a walk over what differs and what is frozen, so it is not taken at
every event of a pass, only at those after which something else may hold.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from reconciler.core.conditions import conditions
from reconciler.core.events import (
    ConfigAccepted,
    ConfigRejected,
    Event,
    LoopFailed,
    Planned,
    PolicyAccepted,
    PolicyRejected,
    WentIdle,
)
from reconciler.core.notices import Stories, tell
from reconciler.core.standing import judge_standing
from reconciler.core.vitals import Vitals, status_of
from reconciler.report.documents import Document
from reconciler.report.notices import Advice, notice_document

TURNING = (
    Planned,
    WentIdle,
    LoopFailed,
    ConfigAccepted,
    ConfigRejected,
    PolicyAccepted,
    PolicyRejected,
)
"""Events at which one looks: a plan that says something new, the end of whatever was done, a file."""


class Teller:
    """One account's stories so far. ``post`` takes a document and must neither wait nor fail."""

    def __init__(self, post: Callable[[Document], None], advice: Advice, *, interval_s: float) -> None:
        self._post = post
        self._advice = advice
        self._interval_s = interval_s
        self._stories: Stories = {}

    def hear(self, event: Event, vitals: Vitals, *, now: float, wall: datetime) -> None:
        """Take an event, and the vitals after it; tells what began or is over, if anything."""
        if not isinstance(event, TURNING):
            return
        self._stories, notices = tell(self._stories, conditions(vitals), now=now, wall=wall)
        if not notices:
            return
        status = status_of(vitals, now=now, wall=wall)
        judged = judge_standing(status, live=vitals.live, interval_s=self._interval_s)
        for notice in notices:
            self._post(notice_document(notice, vitals, judged, at=wall, advice=self._advice))
