"""Labels of the page: signs that never depend on colour alone, times of day, and bounded text.

Every table here covers its enumeration: a new state needs its sign and its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reconciler.core.change_direction import Direction
from reconciler.core.model import PausedBy
from reconciler.core.monitoring.protection import Protection
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import HoldReason, Reason
from reconciler.core.problems import escape_unprintable
from reconciler.core.reply import AttemptStatus
from reconciler.render.values import format_duration

MAX_LABEL_TEXT = 300
"""Characters shown of one text from outside; the log and the file have the complete text."""

DAY_S = 86_400


class ColorRole(StrEnum):
    """The meaning of a sign; the style sheet has a colour for each in both schemes."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"
    FROZEN = "frozen"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class StatusLabel:
    """A symbol and a word with one meaning, and a colour that only repeats it."""

    symbol: str
    word: str
    color: ColorRole


PROTECTIONS: dict[Protection, StatusLabel] = {
    Protection.EXPOSED: StatusLabel("✗", "Not protected", ColorRole.BAD),
    Protection.UNKNOWN: StatusLabel("?", "Not known", ColorRole.UNKNOWN),
    Protection.FROZEN: StatusLabel("■", "Frozen", ColorRole.FROZEN),
    Protection.TIGHTER: StatusLabel("▲", "Protected, tighter", ColorRole.GOOD),
    Protection.PROTECTED: StatusLabel("✓", "Protected", ColorRole.GOOD),
}

STATES: dict[FamilyState, StatusLabel] = {
    FamilyState.UNCERTAIN: StatusLabel("?", "not known", ColorRole.UNKNOWN),
    FamilyState.FROZEN: StatusLabel("■", "frozen", ColorRole.FROZEN),
    FamilyState.DRIFTED: StatusLabel("≠", "drifted", ColorRole.BAD),
    FamilyState.PENDING: StatusLabel("▸", "pending", ColorRole.WARN),
    FamilyState.HELD: StatusLabel("!", "held", ColorRole.WARN),
    FamilyState.IN_SYNC: StatusLabel("✓", "in sync", ColorRole.GOOD),
}

NO_PROTECTION = StatusLabel("✗", "no protection", ColorRole.BAD)
NOT_KNOWN_LABEL = StatusLabel("?", "not known", ColorRole.UNKNOWN)
AS_DESIRED = StatusLabel("✓", "as the file says", ColorRole.GOOD)
SAME_STRENGTH = StatusLabel("≠", "differs, not in force", ColorRole.QUIET)

STRENGTHS: dict[Direction, StatusLabel] = {
    Direction.DISABLE: StatusLabel("✗", "switched off", ColorRole.BAD),
    Direction.LOOSEN: StatusLabel("▼", "less protection", ColorRole.BAD),
    Direction.MIXED: StatusLabel("◆", "partly less protection", ColorRole.BAD),
    Direction.TIGHTEN: StatusLabel("▲", "more protection", ColorRole.WARN),
    Direction.ENABLE: StatusLabel("▲", "on, but should be off", ColorRole.WARN),
}
"""The setting in force compared with the file: the direction from desired to in force."""

ATTEMPTS: dict[AttemptStatus, StatusLabel] = {
    AttemptStatus.PENDING: StatusLabel("○", "waiting for its reply", ColorRole.WARN),
    AttemptStatus.APPLIED: StatusLabel("●", "applied", ColorRole.GOOD),
    AttemptStatus.REJECTED: StatusLabel("✗", "rejected", ColorRole.BAD),
    AttemptStatus.UNKNOWN: StatusLabel("?", "outcome unknown", ColorRole.UNKNOWN),
    AttemptStatus.NOT_SENT: StatusLabel("–", "not sent", ColorRole.QUIET),
}

HOLDS: dict[HoldReason, str] = {
    HoldReason.FROZEN: "Frozen by the exchange: written after the freeze ends.",
    HoldReason.PAUSED: "Paused: not written, not even restored.",
    HoldReason.POLICY: "The policy refuses the change.",
    HoldReason.GUARD: "The change would switch protection off.",
    HoldReason.DRIFT_POLICY: "Tighter than the file says, changed outside mmp: reported, not changed back.",
    HoldReason.REJECTED: "The exchange rejected these settings.",
    HoldReason.UNREADABLE: "Its live setting could not be read reliably: not written.",
    HoldReason.STALE: "Not as reviewed any more: skipped.",
}
"""Why a family is held."""

REASONS: dict[Reason, str] = {
    Reason.NEW: "Not set yet.",
    Reason.CHANGED: "The file was changed.",
    Reason.DRIFTED: "It was changed outside mmp: it is being restored.",
    Reason.UNCERTAIN: "A request has no definite answer: what is in force is not known.",
}
"""Why a family differs that is not held."""

NEAR_OFF = "The change would be as good as switching protection off."
"""The guard's reason for a change that does not disable the family."""

PAUSED: dict[PausedBy, str] = {PausedBy.MANUAL: "Paused by hand", PausedBy.BREAKER: "Paused by mmp"}
"""Who paused a family: only a manual pause is intended."""


def truncated(text: str) -> str:
    """Return ``text`` as one short line: unprintable characters are escaped, and the end is cut."""
    clean = escape_unprintable(text)
    return clean if len(clean) <= MAX_LABEL_TEXT else clean[: MAX_LABEL_TEXT - 1] + "…"


def clock(moment: datetime, wall: datetime) -> str:
    """Write a time of day in UTC, with the date unless it is today: ``03:00:05 UTC``."""
    same_day = moment.date() == wall.date()
    return f"{moment:%H:%M:%S} UTC" if same_day else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def moment_words(moment: datetime, wall: datetime) -> str:
    """Write a time of day and its distance: ``03:00:05 UTC (in 5 s)``, ``02:10:33 UTC (50 min ago)``."""
    return f"{clock(moment, wall)} ({relative_time((moment - wall).total_seconds())})"


def relative_time(seconds: float) -> str:
    """Write the distance of an instant: ``in 5 s``, ``now``; negative seconds give ``50 min ago``."""
    duration = long_duration(abs(seconds))
    if duration == "now":
        return duration
    return f"in {duration}" if seconds > 0 else f"{duration} ago"


def long_duration(seconds: float) -> str:
    """Write a duration; from two days on in full days."""
    return format_duration(seconds) if seconds < 2 * DAY_S else f"{int(seconds // DAY_S)} days"


def anchor(*parts: str) -> str:
    """Return an id for use within the page: different texts give different ids, and none needs escaping."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]", lambda each: f"_{ord(each[0]):x}_", part) for part in parts)


def names(families: Sequence[str], most: int = 12) -> str:
    """Write a list of families; those beyond ``most`` are counted."""
    text = ", ".join(families[:most])
    more = len(families) - most
    return f"{text} and {more} more" if more > 0 else text
