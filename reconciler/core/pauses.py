"""Which pauses hold a family back, and which of two pauses of a family stays.

A pause by hand lasts until its time is over or a person ends it. A pause by the heal breaker is about
one desired setting that another writer keeps changing. It ends as soon as the file sets another value. A
file that does not name the family leaves the pause as it is: an older checkout must not end it. A pause by
hand has priority: the breaker never replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from reconciler.core.model import Desired, Family, Pause, PausedBy, Setting


def active_pauses(pauses: Iterable[Pause], desired: Desired) -> tuple[Pause, ...]:
    """Return those of ``pauses``, all in force by their time, that apply to what is desired."""
    return tuple(pause for pause in pauses if not _wants_another(pause, desired))


def paused(pauses: Iterable[Pause], desired: Desired) -> frozenset[Family]:
    """Return the families that ``pauses``, all in force by their time, hold back now."""
    return frozenset(pause.family for pause in active_pauses(pauses, desired))


def obsolete_breaker_pauses(pauses: Sequence[Pause], desired: Desired) -> dict[Family, Setting]:
    """Return the families whose pause by the breaker is over, because the file sets another value.

    The pause does not return: setting the old value again is a change like any other.
    """
    return {
        pause.family: pause.contested
        for pause in pauses
        if pause.contested is not None and _wants_another(pause, desired)
    }


def replaces(pause: Pause, before: Pause | None, wall: datetime) -> bool:
    """Tell whether a new pause replaces the one its family had, None: it had none.

    A breaker's pause does not replace a pause by hand that is in force at ``wall``; every other pause does.
    """
    if before is None or pause.by is PausedBy.MANUAL:
        return True
    return before.by is PausedBy.BREAKER or not before.holds(wall)


def _wants_another(pause: Pause, desired: Desired) -> bool:
    """Return whether the file sets another value than the one that a breaker's pause is about."""
    wanted = desired.families.get(pause.family)
    return pause.contested is not None and wanted is not None and wanted.setting != pause.contested
