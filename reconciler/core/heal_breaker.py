"""When healing a family is given up because another writer sets it again and again.

Two programs that undo each other's work look like progress, and use up the slots of every other family.
So a family that was healed three times within ten minutes and differs again is reported and left,
until the file sets another value or a person resumes it. This file decides when that is. The pause that
follows is on record. The count is not: losing it only means a few more requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler.core.model import Family, Setting
from reconciler.core.plan import Action, Plan, Reason

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
