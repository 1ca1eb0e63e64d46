"""The target: the setting that is sent for a family, field by field.

This file decides how ``run`` handles a difference of live and desired. A field that live shows as it
was accepted becomes as desired; one that was changed outside of this program becomes the tighter of live
and desired. So no field gets looser than live unless live was accepted there, and that step was reviewed
with the file. It does not decide whether the target may be sent.

=====================  ============  =============  ==================================================
accepted -> desired    live          target         why
=====================  ============  =============  ==================================================
5s 2s 100 -> the same  5s 1s 1       5s 2s 1        the freeze is restored, the quantity stays tighter
5s 2s 100 -> 5s 1s 100 5s 2s 1       5s 1s 1        the file changes the freeze only
5s 2s 100 -> 5s 2s 300 5s 2s 99999   5s 2s 300      the quantity was opened by hand
5s 2s 100 -> the same  disabled      5s 2s 100      what is off protects in no field
=====================  ============  =============  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from enum import StrEnum

from reconciler.core.change_direction import tightness
from reconciler.core.model import Field, Setting


class DriftPolicy(StrEnum):
    """What is done about a live setting that was changed outside of this program."""

    HEAL_LOOSENED = "heal-loosened"
    HEAL = "heal"
    WARN = "warn"


def target(
    wanted: Setting,
    live: Setting | None,
    accepted: Collection[Setting],
    drift: DriftPolicy,
    *,
    is_change: bool,
) -> Setting | None:
    """Return what is to be in force; None: nothing is sent, and the difference is only reported.

    ``wanted`` is the desired setting, or the accepted one while the change is not made. ``accepted`` are
    the accepted settings that may be live although no other writer set them. ``is_change``: the file
    changes the family now; without that, ``WARN`` leaves a difference as it is. The fields of a disabled
    setting are not compared with those of an enabled one: they protected nothing. Where live is enabled and
    that is not to be undone, it stays as it is.
    """
    if drift is DriftPolicy.HEAL or live == wanted:
        return wanted
    leaves = drift is DriftPolicy.WARN and not is_change
    if live is None or (live.disabled and live not in accepted):
        return None if leaves else wanted
    alike = [one for one in accepted if one.disabled == live.disabled]
    as_accepted = {field for field in Field if any(same(field, live, one) for one in alike)}
    if leaves and all(same(field, live, wanted) for field in as_accepted):
        return None
    if wanted.disabled and not live.disabled:
        return wanted if Field.TIME_INTERVAL in as_accepted else live
    return composed(
        lambda field: live if field not in as_accepted and is_tighter(field, live, wanted) else wanted
    )


def left_tighter(wanted: Setting, live: Setting, accepted: Setting | None = None) -> Setting:
    """Return ``wanted``, with each field that live has tighter as live has it.

    ``accepted``: only fields that live has tighter than that, too; None: all. If ``wanted`` is disabled and
    live is not, live stays completely: the other fields of a disabled setting were never meant to protect.
    """
    if wanted.disabled and not live.disabled:
        return live

    def of(field: Field) -> Setting:
        is_left = is_tighter(field, live, wanted) and (
            accepted is None or is_tighter(field, live, accepted)
        )
        return live if is_left else wanted

    return composed(of)


def composed(of: Callable[[Field], Setting]) -> Setting:
    """Return the setting that takes each field from the setting that ``of`` names for it."""
    return Setting(
        of(Field.TIME_INTERVAL).time_interval_ms,
        of(Field.FROZEN_INTERVAL).frozen_interval_ms,
        of(Field.QTY_LIMIT).qty_limit,
    )


def same(field: Field, one: Setting, other: Setting) -> bool:
    """Tell whether two settings agree in a field."""
    return _rank(field, one) == _rank(field, other)


def is_tighter(field: Field, one: Setting, other: Setting) -> bool:
    """Tell whether ``one`` is tighter than ``other`` in a field."""
    return _rank(field, one) > _rank(field, other)


def _rank(field: Field, setting: Setting) -> Decimal:
    return tightness(setting)[_PLACES[field]]


_PLACES = {field: place for place, field in enumerate(Field)}
