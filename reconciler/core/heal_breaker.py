"""When putting a family back is given up: someone else sets it, again and again.

Two programs that undo each other's work look like progress, and use up the slots of every other family.
So a family that was put back three times within ten minutes and differs again is reported and left,
until the file wants something else of it or a person resumes it. This file decides when that is; the
pause it leads to is on record, the count is not: forgetting it only means a few more requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.model import Family, Setting
from reconciler.core.plan import Action, Plan, Reason

HEAL_WINDOW_S = 600.0
"""Heals count for ten minutes: a person who changes a setting twice by mistake is no fighter."""

MOST_HEALS = 3
"""So many heals within the window, and the next drift is left. Also bounds what is remembered."""


@dataclass(frozen=True, slots=True)
class Heal:
    """A drifted family was put back to ``setting``, acknowledged ``at`` that instant."""

    setting: Setting
    at: float


Heals = Mapping[Family, tuple[Heal, ...]]
"""The heals of each family that may still count, oldest first; at most MOST_HEALS a family."""


@dataclass(frozen=True, slots=True)
class ContestedFamily:
    """A family that someone else sets again and again, away from ``setting``; healed ``heals`` times."""

    family: Family
    setting: Setting
    heals: int


def record_heal(heals: Heals, family: Family, setting: Setting, at: float) -> Heals:
    """Return ``heals`` with one more; those of another setting are of another story and forgotten."""
    counting = (*_counting(heals.get(family, ()), setting, at), Heal(setting, at))
    return {**heals, family: counting[-MOST_HEALS:]}


def tripped(heals: Heals, plan: Plan, now: float) -> tuple[ContestedFamily, ...]:
    """Return the fights ``plan`` would go on with, in its order: drift about to be put back once more."""
    return tuple(
        ContestedFamily(change.family, change.after, MOST_HEALS)
        for change in plan.changes
        if change.action is Action.SET
        and change.reason is Reason.DRIFTED
        and len(_counting(heals.get(change.family, ()), change.after, now)) >= MOST_HEALS
    )


def forget(heals: Heals, families: Iterable[Family]) -> Heals:
    """Return ``heals`` without those of ``families``: whoever resumes one lets it begin anew."""
    gone = frozenset(families)
    return {family: some for family, some in heals.items() if family not in gone}


def _counting(some: tuple[Heal, ...], setting: Setting, now: float) -> tuple[Heal, ...]:
    return tuple(heal for heal in some if heal.setting == setting and heal.at > now - HEAL_WINDOW_S)
