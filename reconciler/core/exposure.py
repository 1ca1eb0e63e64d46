"""The measure of risk: how many contracts a setting lets trade, and by what factor a change raises that.

This file decides the exposure of a setting (three figures) and the factor of a change (one number). It
does not decide what is too much: the policy does. All values are exact fractions. Rounding is for people
and documents only, and always up.

===========================  ===========================================  ======================
before -> after              exposure after ÷ before                      factor
===========================  ===========================================  ======================
10s 60s 100 -> 5s 30s 200    per trip 2, per second 4, per minute 26/7    4
5s 2s 100 -> 5s 2s 400       4, 4, 4                                      4
5s 2s 100 -> 5s 1s 100       1, 1, 61/31; the freeze by itself 2          2
5s until-reset -> 5s 2s      1, 1, 31/13; the freeze by itself unlimited  unlimited
5s 2s 100 -> 10s 4s 50       1/2, 1/4, 8/31; the freeze 1/2               1/2
5s 2s 100 -> disabled        unlimited                                    unlimited
disabled 100 -> disabled 50  1/2 and the freeze, nothing else             1
disabled -> 5s 2s 100        -                                            None, not known
===========================  ===========================================  ======================
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from typing import Final

from reconciler.core.model import Setting

MINUTE_MS = 60_000
SECOND_MS = 1_000

DECIMALS = 3
"""Decimal places of a figure or factor as text."""


class Unlimited(Enum):
    """The type of :data:`UNLIMITED`."""

    UNLIMITED = "unlimited"


UNLIMITED: Final = Unlimited.UNLIMITED
"""More than any number."""

Amount = Fraction | Unlimited
"""Contracts, milliseconds or a ratio of them; at least 0."""


class Figure(StrEnum):
    """The three figures of an exposure, named as in the policy file."""

    PER_TRIP = "perTrip"
    PER_SECOND = "perSecond"
    PER_MINUTE = "perMinute"


def exposure(setting: Setting) -> dict[Figure, Amount]:
    """Return how many contracts ``setting`` lets trade, apart from the order that trips it.

    Per trip: before it trips. Per second: within the window. Per minute: at worst, when it trips again
    after each freeze. They bound every pattern of fills, but whether the window slides or begins with the
    first fill is [unknown]: if it slides the true figures may be lower, and ratios of two settings are the
    same. All three are UNLIMITED if the setting is disabled.
    """
    if setting.disabled:
        return dict.fromkeys(Figure, UNLIMITED)
    quantity, window = Fraction(setting.qty_limit.value), setting.time_interval_ms
    # After a freeze until reset a person decides: only the window can begin again by itself.
    again_ms = window if setting.until_reset else min(window, setting.frozen_interval_ms)
    return {
        Figure.PER_TRIP: quantity,
        Figure.PER_SECOND: quantity * SECOND_MS / window,
        Figure.PER_MINUTE: quantity * (1 + Fraction(MINUTE_MS, again_ms)),
    }


def factor(before: Setting | None, after: Setting) -> Amount | None:
    """Return by what factor a change raises the risk; None: not known.

    It is the worst ratio (after ÷ before) of the three figures, and of the freeze by itself (before ÷
    after). At most 1: no figure is raised and the freeze is not shortened. An enable has none: the caller
    measures it from the last enabled setting that is known. Between two disabled settings qtyLimit and
    frozenInterval are compared.
    """
    if before is None or (before.disabled and not after.disabled):
        return None
    freeze = ratio(_freeze(after), _freeze(before))
    if before.disabled:
        quantity = ratio(Fraction(before.qty_limit.value), Fraction(after.qty_limit.value))
        return worst(quantity, freeze)
    was, now = exposure(before), exposure(after)
    return worst(*(ratio(was[name], now[name]) for name in Figure), freeze)


def ratio(before: Amount, after: Amount) -> Amount:
    """Return ``after`` ÷ ``before``; 1 if both are 0 or both are unlimited."""
    if after == before:
        return Fraction(1)
    if after is UNLIMITED or before == 0:
        return UNLIMITED
    return Fraction(0) if before is UNLIMITED else after / before


def worst(*amounts: Amount) -> Amount:
    """Return the largest of ``amounts``, at least one."""
    numbers = [amount for amount in amounts if amount is not UNLIMITED]
    return max(numbers) if len(numbers) == len(amounts) else UNLIMITED


def is_above(amount: Amount, limit: Decimal) -> bool:
    """Tell whether ``amount`` is more than ``limit``, compared exactly."""
    return amount is UNLIMITED or amount > Fraction(limit)


def amount_text(amount: Amount) -> str:
    """Write an amount as decimal text, rounded up: a factor above a limit is never written as the limit."""
    if amount is UNLIMITED:
        return UNLIMITED.value
    scale = 10**DECIMALS
    integer, rest = divmod(-(-amount.numerator * scale // amount.denominator), scale)
    return f"{integer}.{rest:0{DECIMALS}}".rstrip("0").rstrip(".")


def _freeze(setting: Setting) -> Amount:
    return UNLIMITED if setting.until_reset else Fraction(setting.frozen_interval_ms)
