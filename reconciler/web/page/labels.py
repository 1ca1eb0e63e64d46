"""How the page says things: signs that never rest on colour alone, times of day, and bounded text.

Every table here is closed over its enumeration: a new state has to be given its sign and its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reconciler.core.change_direction import Direction
from reconciler.core.model import PausedBy
from reconciler.core.monitoring.protection import Standing
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import Because
from reconciler.core.problems import printable
from reconciler.core.reply import AttemptStatus
from reconciler.render.values import duration

MAX_TEXT = 300
"""Characters shown of one text from outside; the log and the file itself hold the whole of it."""

DAY_S = 86_400


class Hue(StrEnum):
    """What a sign is about; the style sheet gives each a colour in both schemes."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"
    FROZEN = "frozen"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Sign:
    """A symbol and a word that mean the same, and a hue that only repeats it."""

    symbol: str
    word: str
    hue: Hue


STANDINGS: dict[Standing, Sign] = {
    Standing.EXPOSED: Sign("✗", "Not protected", Hue.BAD),
    Standing.UNKNOWN: Sign("?", "Not known", Hue.UNKNOWN),
    Standing.FROZEN: Sign("■", "Frozen", Hue.FROZEN),
    Standing.TIGHTER: Sign("▲", "Protected, tighter", Hue.GOOD),
    Standing.PROTECTED: Sign("✓", "Protected", Hue.GOOD),
}

STATES: dict[FamilyState, Sign] = {
    FamilyState.UNCERTAIN: Sign("?", "not known", Hue.UNKNOWN),
    FamilyState.FROZEN: Sign("■", "frozen", Hue.FROZEN),
    FamilyState.DRIFTED: Sign("≠", "drifted", Hue.BAD),
    FamilyState.PENDING: Sign("▸", "pending", Hue.WARN),
    FamilyState.HELD: Sign("!", "held", Hue.WARN),
    FamilyState.IN_SYNC: Sign("✓", "in sync", Hue.GOOD),
}

NO_PROTECTION = Sign("✗", "no protection", Hue.BAD)
NOT_KNOWN = Sign("?", "not known", Hue.UNKNOWN)
AS_DESIRED = Sign("✓", "as the file says", Hue.GOOD)
SAME_STRENGTH = Sign("≠", "differs, not in force", Hue.QUIET)

STRENGTHS: dict[Direction, Sign] = {
    Direction.DISABLE: Sign("✗", "switched off", Hue.BAD),
    Direction.LOOSEN: Sign("▼", "less protection", Hue.BAD),
    Direction.MIXED: Sign("◆", "partly less protection", Hue.BAD),
    Direction.TIGHTEN: Sign("▲", "more protection", Hue.WARN),
    Direction.ENABLE: Sign("▲", "on, though to be off", Hue.WARN),
}
"""What is in force, as seen from the file: the direction from desired to what is in force."""

ATTEMPTS: dict[AttemptStatus, Sign] = {
    AttemptStatus.PENDING: Sign("○", "waiting for its reply", Hue.WARN),
    AttemptStatus.APPLIED: Sign("●", "applied", Hue.GOOD),
    AttemptStatus.REJECTED: Sign("✗", "refused", Hue.BAD),
    AttemptStatus.UNKNOWN: Sign("?", "outcome unknown", Hue.UNKNOWN),
    AttemptStatus.NOT_SENT: Sign("–", "not sent", Hue.QUIET),
}

HOLDS: dict[Because, str] = {
    Because.FROZEN: "Frozen by the exchange: written once that is over.",
    Because.PAUSED: "Paused: not written, not even put back.",
    Because.POLICY: "The policy does not let it pass.",
    Because.GUARD: "It would switch protection off.",
    Because.DRIFT_POLICY: "Tighter than the file says, by a change outside mmp: reported, not touched.",
    Because.REJECTED: "The exchange refused these settings.",
    Because.UNREADABLE: "Its live setting could not be read for certain: not written.",
    Because.STALE: "Not as reviewed any more: skipped.",
}
"""Why a family is left as it is."""

NEAR_OFF = "It would be as good as switching protection off."
"""What the guard says of a change that does not disable the family."""

PAUSED: dict[PausedBy, str] = {
    PausedBy.HAND: "Paused by hand",
    PausedBy.FIGHT: "Given up in a fight over it",
}
"""Who paused a family: only one of the two is something that somebody wanted."""


def shown(text: str) -> str:
    """Return ``text`` as one short line: what cannot be printed is escaped, the rest is cut."""
    clean = printable(text)
    return clean if len(clean) <= MAX_TEXT else clean[: MAX_TEXT - 1] + "…"


def clock(moment: datetime, wall: datetime) -> str:
    """Write a time of day in UTC, with its date unless that is today's: ``03:00:05 UTC``."""
    same_day = moment.date() == wall.date()
    return f"{moment:%H:%M:%S} UTC" if same_day else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def moment_words(moment: datetime, wall: datetime) -> str:
    """Write a time of day and how far it is: ``03:00:05 UTC (in 5 s)``, ``02:10:33 UTC (50 min ago)``."""
    return f"{clock(moment, wall)} ({distance((moment - wall).total_seconds())})"


def distance(seconds: float) -> str:
    """Write how far ahead an instant is: ``in 5 s``, ``now``; negative seconds give ``50 min ago``."""
    told = long_duration(abs(seconds))
    if told == "now":
        return told
    return f"in {told}" if seconds > 0 else f"{told} ago"


def long_duration(seconds: float) -> str:
    """Write a duration; from two days on in whole days."""
    return duration(seconds) if seconds < 2 * DAY_S else f"{int(seconds // DAY_S)} days"


def anchor(*parts: str) -> str:
    """Return an id for use within the page: other texts give other ids, and nothing needs escaping."""
    return "-".join(re.sub(r"[^A-Za-z0-9.]", lambda each: f"_{ord(each[0]):x}_", part) for part in parts)


def names(families: Sequence[str], most: int = 12) -> str:
    """Write a list of families; those beyond ``most`` are counted."""
    told = ", ".join(families[:most])
    more = len(families) - most
    return f"{told} and {more} more" if more > 0 else told
