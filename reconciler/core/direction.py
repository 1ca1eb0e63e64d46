"""Which way a change goes: tighter, looser, both at once, on or off.

This file decides the direction of a change and the order in which requests of different directions
go out. Settings form a partial order per field; there is no score and no distance.
"""

from __future__ import annotations

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
"""Directions that leave the desk less protected in at least one respect."""

REQUEST_ORDER = (
    Direction.ENABLE,
    Direction.TIGHTEN,
    Direction.MIXED,
    Direction.LOOSEN,
    Direction.DISABLE,
)
"""Protection first: the order in which requests go out, after uncertain families."""


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
