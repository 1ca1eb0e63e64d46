"""Which pauses hold a family back, which of two stays, and when the heal breaker pauses a family.

A pause by hand lasts until its time is over or a person ends it. A pause by the heal breaker is about
one desired setting that another writer keeps changing. It ends as soon as the file sets another value. A
file that does not name the family leaves the pause as it is: an older checkout must not end it. A pause by
hand has priority: the breaker never replaces it.

Two programs that undo each other's work look like progress, and use up the slots of every other family.
So a family that was healed three times within ten minutes and differs again is reported and paused, until
the file sets another value or a person resumes it. The pause is on record. The count of heals is not:
losing it only means a few more requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.model import Desired, Family, Pause, PausedBy, Setting
from reconciler.core.plan import Action, Plan, Reason


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
    return before.by is PausedBy.BREAKER or not before.is_active(wall)


def _wants_another(pause: Pause, desired: Desired) -> bool:
    """Return whether the file sets another value than the one that a breaker's pause is about."""
    wanted = desired.families.get(pause.family)
    return pause.contested is not None and wanted is not None and wanted.setting != pause.contested


HEAL_WINDOW_S = 600.0
"""Heals count for ten minutes: a person who changes a setting twice by mistake is no contesting writer."""

MOST_HEALS = 3
"""After so many heals within the window, the next drift is left. Also bounds what is remembered."""


@dataclass(frozen=True, slots=True)
class Heal:
    """A drifted family was healed to ``setting``, acknowledged ``at`` that instant."""

    setting: Setting
    at: float


Heals = Mapping[Family, tuple[Heal, ...]]
"""The heals of each family that may still count, oldest first; at most MOST_HEALS a family."""


@dataclass(frozen=True, slots=True)
class ContestedFamily:
    """A family that another writer sets again and again, away from ``setting``; healed ``heals`` times."""

    family: Family
    setting: Setting
    heals: int


def record_heal(heals: Heals, family: Family, setting: Setting, at: float) -> Heals:
    """Return ``heals`` with one more; heals of the family to another setting are dropped."""
    counting = (*_counting(heals.get(family, ()), setting, at), Heal(setting, at))
    return {**heals, family: counting[-MOST_HEALS:]}


def tripped(heals: Heals, plan: Plan, now: float) -> tuple[ContestedFamily, ...]:
    """Return the contested families that ``plan`` would heal once more, in its order."""
    return tuple(
        ContestedFamily(change.family, change.after, MOST_HEALS)
        for change in plan.changes
        if change.action is Action.SET
        and change.reason is Reason.DRIFTED
        and len(_counting(heals.get(change.family, ()), change.after, now)) >= MOST_HEALS
    )


def forget(heals: Heals, families: Iterable[Family]) -> Heals:
    """Return ``heals`` without those of ``families``: after a resume the count starts again."""
    gone = frozenset(families)
    return {family: some for family, some in heals.items() if family not in gone}


def _counting(some: tuple[Heal, ...], setting: Setting, now: float) -> tuple[Heal, ...]:
    return tuple(heal for heal in some if heal.setting == setting and heal.at > now - HEAL_WINDOW_S)
