"""Which way a change goes: tighter, looser, both at once, on or off.

This file decides the direction of a change, and which directions only add protection: those go first.
Settings form a partial order per field; there is no score and no distance.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

from reconciler.core.model import Field, Setting


class Direction(StrEnum):
    """The direction of one change, as seen from the protection's side."""

    ENABLE = "enable"
    TIGHTEN = "tighten"
    MIXED = "mixed"
    LOOSEN = "loosen"
    DISABLE = "disable"


LESS_SAFE = frozenset({Direction.LOOSEN, Direction.MIXED, Direction.DISABLE})
"""Directions that leave the account less protected in at least one respect."""


def direction(before: Setting | None, after: Setting) -> Direction | None:
    """Return which way ``before`` to ``after`` goes; None when they are equal.

    ``before`` None means nothing was in force: enable, or disable when ``after`` is disabled.
    From disabled to disabled with other fields changed, the other fields decide.
    """
    if before is None:
        return Direction.DISABLE if after.disabled else Direction.ENABLE
    if before == after:
        return None
    if before.disabled != after.disabled:
        return Direction.DISABLE if after.disabled else Direction.ENABLE
    moves = {_move(was, now) for was, now in zip(tightness(before), tightness(after), strict=True)}
    if {1, -1} <= moves:
        return Direction.MIXED
    return Direction.TIGHTEN if 1 in moves else Direction.LOOSEN


PROTECTIVE = frozenset({Direction.ENABLE, Direction.TIGHTEN})
"""Directions that only add protection; their requests go first."""


def is_protective(before: Setting | None, after: Setting) -> bool:
    """Tell whether the change only adds protection; one between equal settings adds none."""
    return direction(before, after) in PROTECTIVE


def is_no_looser(before: Setting | None, after: Setting) -> bool:
    """Tell whether ``after`` is in no respect looser than ``before``; None: nothing is in force."""
    return direction(before, after) not in LESS_SAFE


def is_less_protected(desired: Setting, in_force: Setting | None) -> bool:
    """Tell whether ``in_force`` protects less than ``desired`` in some respect; None: nothing is in force.

    Without any setting in force, only a family that is desired as disabled has what it needs.
    """
    if in_force is None:
        return not desired.disabled
    return not is_no_looser(desired, in_force)


def loosest(settings: Iterable[Setting | None]) -> Setting | None:
    """Return, field by field, the loosest of settings; None if one is None or disabled.

    The result need not be one of the settings: it is unknown which of them is in force, and which field
    protects least.
    """
    every = tuple(settings)
    known = [one for one in every if one is not None and not one.disabled]
    if len(known) < len(every) or not known:
        return None
    freezes = [one.frozen_interval_ms for one in known if not one.until_reset]
    return Setting(
        min(one.time_interval_ms for one in known),
        min(freezes, default=0),
        max(one.qty_limit for one in known),
    )


def tightest(one: Setting, other: Setting) -> Setting:
    """Return, field by field, the tighter of two settings; a disabled one does not count."""
    if one.disabled or other.disabled:
        return other if one.disabled else one
    until_reset = one.until_reset or other.until_reset
    return Setting(
        max(one.time_interval_ms, other.time_interval_ms),
        0 if until_reset else max(one.frozen_interval_ms, other.frozen_interval_ms),
        min(one.qty_limit, other.qty_limit),
    )


def changed_fields(before: Setting | None, after: Setting) -> tuple[Field, ...]:
    """Return the fields that differ by value, in the order of the API; all three from None."""
    if before is None:
        return tuple(Field)
    old, new = before.canonical(), after.canonical()
    return tuple(name for name in Field if old[name] != new[name])


def tightness(setting: Setting) -> tuple[Decimal, Decimal, Decimal]:
    """Return exact (window, freeze, quantity) ranks, larger is tighter, comparable within one field.

    Disabled is the shortest window, until-reset the longest freeze, and fewer contracts are tighter.
    """
    freeze = Decimal("Infinity") if setting.until_reset else Decimal(setting.frozen_interval_ms)
    # copy_negate, because unary minus would round to 28 digits.
    return Decimal(setting.time_interval_ms), freeze, setting.qty_limit.value.copy_negate()


def _move(was: Decimal, now: Decimal) -> int:
    return (now > was) - (now < was)
