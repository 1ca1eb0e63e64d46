"""Which pauses hold a family back, and which of two pauses of a family stays.

A pause by hand holds until its time or until someone ends it. One set by the fight breaker is about
one desired setting that somebody else keeps undoing: as soon as the file wants another one, it is over. A
file that does not name the family leaves the pause as it is: an older checkout must not end it. People go
first: the breaker never takes their word away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from reconciler.core.model import Desired, Family, Pause, PausedBy, Setting


def in_force(pauses: Iterable[Pause], desired: Desired) -> tuple[Pause, ...]:
    """Return those of ``pauses``, all in force by their time, that are so for what is desired."""
    return tuple(pause for pause in pauses if not _wants_another(pause, desired))


def paused(pauses: Iterable[Pause], desired: Desired) -> frozenset[Family]:
    """Return the families that ``pauses``, all in force by their time, hold back now."""
    return frozenset(pause.family for pause in in_force(pauses, desired))


def fought_no_more(pauses: Sequence[Pause], desired: Desired) -> dict[Family, Setting]:
    """Return the families whose fight's pause is over, because the file wants another value of them.

    It is over for good: going back to what was fought over is a change like any other.
    """
    return {
        pause.family: pause.fought
        for pause in pauses
        if pause.fought is not None and _wants_another(pause, desired)
    }


def replaces(pause: Pause, before: Pause | None, wall: datetime) -> bool:
    """Tell whether a new pause takes the place of the one its family had, None: it had none.

    A fight's does not where a pause by hand is in force at ``wall``; everything else does.
    """
    if before is None or pause.by is PausedBy.HAND:
        return True
    return before.by is PausedBy.FIGHT or not before.holds(wall)


def _wants_another(pause: Pause, desired: Desired) -> bool:
    """Tell whether the file wants another value than the one a fight's pause is about."""
    wanted = desired.families.get(pause.family)
    return pause.fought is not None and wanted is not None and wanted.setting != pause.fought
