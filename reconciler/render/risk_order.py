"""The order in which people see changes, worst first, and the words for the risk of each change.

This file decides which rows come first in text and Markdown, so that rows that are cut for size or scrolled
past matter least. Documents for machines list changes in the order in which requests are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from reconciler.core.change_direction import Direction
from reconciler.core.exposure import UNLIMITED, Amount, Figure, amount_text, exposure, factor, worst
from reconciler.core.model import Family, Setting, format_setting
from reconciler.core.plan import Basis, Change, HoldReason, Plan
from reconciler.core.policy import factor_words

Rank = tuple[bool, int, Fraction, str, str, str]
"""Smaller is worse. The parts are: not refused, kind, minus the factor, account, environment, family."""

Ranked = tuple[Plan, Change]

MOST_SHOWN = 10
"""Rows of the table that precedes the sections of several accounts."""

REMEMBERED = 20_000
"""Size of the result caches: ordering and showing use the results of one change many times."""

NOT_KNOWN = "not known"

_REFUSED = frozenset({HoldReason.POLICY, HoldReason.GUARD})

_OFF, _UNKNOWN, _NUMBER = range(3)

_UNITS = {Figure.PER_TRIP: "per trip", Figure.PER_SECOND: "per second", Figure.PER_MINUTE: "per minute"}


def rank(plan: Plan, family: Family, change: Change | None) -> Rank:
    """Return the rank of a change: refused, off or unlimited, unknown, then by factor; then by name.

    ``change`` None: the family is no longer in the file.
    """
    refused = change is None or change.because in _REFUSED
    kind, number = _OFF, Fraction(0)
    if change is not None and change.direction is not Direction.DISABLE:
        found = _factor(change)
        if found is None:
            kind = _UNKNOWN
        elif found is not UNLIMITED:
            kind, number = _NUMBER, found
    return not refused, kind, -number, plan.account, plan.environment.value, family


def worst_first(plans: Sequence[Plan]) -> list[Ranked]:
    """Return all changes of ``plans`` with their plans, the worst first."""
    found = [(rank(plan, change.family, change), plan, change) for plan in plans for change in plan.changes]
    return [(plan, change) for _, plan, change in sorted(found, key=lambda each: each[0])]


def shown_first(plans: Sequence[Plan]) -> list[Ranked]:
    """Return the rows that precede the sections of several accounts: the worst of those with a risk."""
    risky = [each for each in worst_first(plans) if _is_risky(*each)]
    return risky[:MOST_SHOWN]


def worst_words(plans: Sequence[Plan], quote: Callable[[str], str]) -> str:
    """Name the worst change that is known to raise the risk; empty if there is none."""
    raising = (each for each in worst_first(plans) if raises(each[1]))
    first = next(raising, None)
    if first is None:
        return ""
    plan, change = first
    account = f"{quote(plan.account)} ({plan.environment.value})"
    return f"Worst: {quote(change.family)} of {account}, {factor_of(change)}."


def raises(change: Change) -> bool:
    """Tell whether a change is known to raise the risk: it disables, or its factor is above 1."""
    if change.direction is Direction.DISABLE:
        return True
    found = _factor(change)
    return found is UNLIMITED or (found is not None and found > 1)


def is_uncompared(plan: Plan, change: Change) -> bool:
    """Tell whether the setting in force is unknown, so the risk of the change is unknown."""
    return change.before is None and plan.basis is not Basis.LIVE


def factor_of(change: Change) -> str:
    """Write the factor of a change; empty if nothing rises."""
    if change.direction is Direction.DISABLE:
        return "off"
    found = _factor(change)
    if found is None:
        return NOT_KNOWN
    if not raises(change):
        return ""
    measured = [base for base in change.bases if _factor_between(base, change.after) == found]
    base = next((one for one in measured if one is not None and one != change.before), None)
    base = None if change.before in measured else base
    return factor_words(found) + (f" (measured from {format_setting(base)})" if base else "")


def figure_moves(change: Change) -> dict[Figure, str]:
    """Write each figure as before → after; only once if it does not change or there is no before."""
    after = _figures(change.after)
    if change.before is None:
        return dict(after)
    before = _figures(change.before)
    return {
        name: text if before[name] == text else f"{before[name]} → {text}" for name, text in after.items()
    }


def risk_words(change: Change) -> str:
    """Write factor and figures of a change for one line of text."""
    moves = figure_moves(change)
    figures = ", ".join(f"{text} {_UNITS[name]}" for name, text in moves.items())
    words = factor_of(change)
    words = f"factor {words}" if words == NOT_KNOWN else words
    return f"{words}: {figures}" if words else figures


def _is_risky(plan: Plan, change: Change) -> bool:
    passes, kind, *_ = rank(plan, change.family, change)
    return not passes or kind < _NUMBER or raises(change)


def _factor(change: Change) -> Amount | None:
    found = [
        one for one in (_factor_between(base, change.after) for base in change.bases) if one is not None
    ]
    return worst(*found) if found else None


@lru_cache(maxsize=REMEMBERED)
def _factor_between(before: Setting | None, after: Setting) -> Amount | None:
    return factor(before, after)


@lru_cache(maxsize=REMEMBERED)
def _figures(setting: Setting) -> Mapping[Figure, str]:
    return {name: amount_text(amount) for name, amount in exposure(setting).items()}
