"""Which changes a policy refuses, by which rule, by how much, and which ``--allow`` would override it.

A refusal never stops planning: it only holds its family. A change that moves a field back
towards its bounds is never refused for them: a guard must not prevent more protection. Without a policy
there is one guard: an enabled family is not disabled, nor changed so that it is as good as disabled. While
the policy file cannot be read, nothing is loosened or disabled, and no override changes that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import assert_never

from reconciler.core.change_direction import LESS_SAFE, Direction, direction, is_no_looser
from reconciler.core.exposure import (
    UNLIMITED,
    Amount,
    amount_text,
    exposure,
    factor,
    is_above,
    ratio,
    worst,
)
from reconciler.core.model import Desired, Family, Field, Setting, interval_text, window_text
from reconciler.core.policy import (
    GUARD_RULE,
    UNREADABLE_RULE,
    ZERO_WORDS,
    Bound,
    Exposures,
    Floor,
    Loosening,
    Override,
    Policy,
    PolicyResult,
    ProposedChange,
    Refusal,
    RefusalKind,
    effective_bounds,
    effective_exposure,
    factor_words,
    format_decimal,
)

Factors = tuple[tuple[Setting, Amount | None], ...]
"""What one change is measured from, and its factor from there; None: not known."""


def evaluate(
    proposals: Iterable[ProposedChange],
    desired: Desired,
    policy: Policy | None,
    allowed: frozenset[Override],
    *,
    in_force: int,
    unreadable: bool = False,
    besides: Iterable[ProposedChange] = (),
) -> PolicyResult:
    """Return what is refused of these changes, and what only the overrides let pass.

    ``policy`` None is the guard alone. A protected family that the file does not manage is refused
    whether or not anything changes. ``in_force``: how many of the file's families a share is of; families
    that come into force only now do not enlarge it. ``unreadable``: the policy file cannot be read now, and
    ``policy`` is the last valid one. ``besides`` are changes that passed already: those that loosen count
    towards the limits of families.
    """
    passed = tuple(besides)
    listed = tuple(proposals)
    unjudged = tuple(_less_safe(listed)) if unreadable else ()
    without = _refusals(listed, desired, policy, frozenset(), in_force, passed)
    refused = _refusals(listed, desired, policy, allowed, in_force, passed) if allowed else without
    return PolicyResult(
        refusals=_sorted([*(one for one in refused if one.override not in allowed), *unjudged]),
        overridden=tuple(refusal for refusal in without if refusal.override in allowed),
    )


def check_file(desired: Desired, policy: Policy) -> tuple[Refusal, ...]:
    """Return what the policy refuses of the file itself, whatever is in force now; needs no plan."""
    settings = {family: wanted.setting for family, wanted in desired.families.items()}
    return _sorted([*unfit(settings, policy), *_removed(desired, policy)])


def unfit(settings: Mapping[Family, Setting], policy: Policy | None) -> tuple[Refusal, ...]:
    """Return what is wrong with settings by themselves, whatever was in force before them."""
    if policy is None:
        return ()
    return _sorted([one for family in settings for one in _unfit(family, None, settings[family], policy)])


_LOOSER: dict[Direction | None, RefusalKind] = {
    Direction.LOOSEN: RefusalKind.LOOSEN,
    Direction.MIXED: RefusalKind.MIXED,
    Direction.DISABLE: RefusalKind.DISABLE,
}
"""Directions a loosening limit is about, and the kind of override each takes."""

_BY_DEGREE: dict[Direction | None, RefusalKind] = {
    way: kind for way, kind in _LOOSER.items() if way is not Direction.DISABLE
}
"""Directions that are judged by the factor: disabling is judged by the rule of disabling alone."""


def _refusals(
    proposals: tuple[ProposedChange, ...],
    desired: Desired,
    policy: Policy | None,
    allowed: frozenset[Override],
    in_force: int,
    passed: tuple[ProposedChange, ...],
) -> tuple[Refusal, ...]:
    """Return all refusals; the overridden ones are among them, but are not counted as loosened."""
    factors = {each.family: _factors(each) for each in proposals}
    if policy is None:
        guarded = _disabling(proposals, GUARD_RULE)
        return _sorted([*guarded, *_near_off(proposals, factors, Floor(), GUARD_RULE, GUARD_RULE)])
    found = [*_removed(desired, policy)]
    if not policy.disable_allowed:
        found += _disabling(proposals, "disable")
        found += _near_off(proposals, factors, policy.floor, "floor.timeInterval", "floor.factor")
    for each in proposals:
        found += _unfit(each.family, each.before, each.after, policy)
        found += _too_far(each, factors[each.family], policy.loosening)
        found += _unknown(each, policy.loosening)
    looser = [each for each in proposals if _is_looser(each) and _looser_allow(each) not in allowed]
    others = [each for each in passed if _is_looser(each) and _looser_allow(each) not in allowed]
    found += _too_many(looser, others, in_force, policy.loosening)
    return _sorted(found)


def _less_safe(proposals: Iterable[ProposedChange]) -> Iterator[Refusal]:
    """Refuse changes that loosen or disable, fully or in part: their policy cannot be read."""
    for each in proposals:
        if each.direction in LESS_SAFE:
            kind, what = _looser_allow(each).kind, each.direction.value
        elif any(direction(one, each.after) in LESS_SAFE for one in each.may_be):
            kind, what = RefusalKind.LOOSEN, "may loosen what an earlier request set"
        elif each.unknown:
            kind, what = RefusalKind.LOOSEN, "may loosen what is not known"
        else:
            continue
        measured = f"{what} while the policy file cannot be read"
        yield Refusal(kind, each.family, UNREADABLE_RULE, measured, "enable and tighten")


def _disabling(proposals: tuple[ProposedChange, ...], rule: str) -> Iterator[Refusal]:
    for each in proposals:
        if each.after.disabled and (each.may_be_enabled or each.unknown):
            what = "would" if each.may_be_enabled else "may"
            yield Refusal(RefusalKind.DISABLE, each.family, rule, f"{what} switch protection off", "deny")


def _near_off(
    proposals: tuple[ProposedChange, ...],
    factors: Mapping[Family, Factors],
    floor: Floor,
    window_rule: str,
    factor_rule: str,
) -> Iterator[Refusal]:
    """Refuse changes of enabled families that are as good as disabling: they take the same override."""
    for each in proposals:
        if each.after.disabled or each.is_first:
            continue
        window, measured = each.after.time_interval_ms, factors[each.family]
        is_unknown = each.unknown and window < floor.time_interval_ms
        if is_unknown or any(
            window < min(floor.time_interval_ms, before.time_interval_ms) for before, _ in measured
        ):
            message = interval_text(window), interval_text(floor.time_interval_ms)
            yield Refusal(RefusalKind.DISABLE, each.family, window_rule, *message, Field.TIME_INTERVAL)
        most = worst(*(found for _, found in measured if found is not None), Fraction(0))
        if not each.ends_emergency and (most is UNLIMITED or most >= Fraction(floor.factor)):
            limit = f"less than ×{format_decimal(floor.factor)}"
            yield Refusal(RefusalKind.DISABLE, each.family, factor_rule, factor_words(most), limit)


def _factors(proposal: ProposedChange) -> Factors:
    """Return every setting from which the change is measured: it has to pass from each of them."""
    first = proposal.measured_from or proposal.before
    # What only tightens the accepted setting is not measured from older requests that may land yet.
    tightens = first is not None and not first.disabled and is_no_looser(first, proposal.after)
    bases = (*([first] if first else []), *(() if tightens else proposal.may_be))
    return tuple((before, factor(before, proposal.after)) for before in bases)


def _removed(desired: Desired, policy: Policy) -> Iterator[Refusal]:
    return (_protected(family, "not in the file") for family in policy.protected - desired.families.keys())


def _unfit(family: Family, before: Setting | None, after: Setting, policy: Policy) -> Iterator[Refusal]:
    """Yield what is wrong with a family's setting itself; ``before`` None: nothing is in force.

    A disabled ``before`` excuses no enabled setting: nothing was traded under it.
    """
    if before is not None and before.disabled and not after.disabled:
        before = None
    if family in policy.protected and after.disabled:
        yield _protected(family, "disabled")
    for name, bound in effective_bounds(family, policy).items():
        yield from _out_of_bounds(family, before, after, name, bound)
    limits = effective_exposure(family, policy)
    if limits and not after.disabled:
        yield from _too_exposed(family, before, after, limits)


def _too_exposed(
    family: Family, before: Setting | None, after: Setting, limits: Exposures
) -> Iterator[Refusal]:
    """Refuse each figure above its limit, unless an enabled ``before`` was as far above it already."""
    now = exposure(after)
    was = exposure(before) if before is not None and not before.disabled else {}
    for name, most in limits.items():
        as_before = name in was and not is_above(ratio(was[name], now[name]), Decimal(1))
        if is_above(now[name], most) and not as_before:
            rule = f"bounds.exposure.{name.value}.max"
            yield Refusal(RefusalKind.BOUNDS, family, rule, amount_text(now[name]), format_decimal(most))


def _out_of_bounds(
    family: Family, before: Setting | None, after: Setting, name: Field, bound: Bound
) -> Iterator[Refusal]:
    """Refuse a field outside of a limit, unless it was at least as far outside of it before.

    A zero has a rule of its own.
    """
    was, now = None if before is None else _value(before, name), _value(after, name)
    rule, words = f"bounds.{name.value}", _message(name, now)
    if now == 0 and name in ZERO_WORDS:
        word = ZERO_WORDS[name]
        if bound.zero_allowed is False and was != 0:
            yield Refusal(RefusalKind.BOUNDS, family, f"{rule}.{word}", word, "deny", name)
    elif bound.minimum is not None and now < bound.minimum:
        if was is None or not 0 < was <= now:
            limit = _message(name, bound.minimum)
            yield Refusal(RefusalKind.BOUNDS, family, f"{rule}.min", words, limit, name)
    elif bound.maximum is not None and now > bound.maximum and (was is None or was < now):
        limit = _message(name, bound.maximum)
        yield Refusal(RefusalKind.BOUNDS, family, f"{rule}.max", words, limit, name)


def _too_far(proposal: ProposedChange, factors: Factors, loosening: Loosening) -> Iterator[Refusal]:
    """Refuse a change whose factor is above the limit, measured from each setting that may be in force.

    With ``per`` it is measured from the beginning of that time, too. What is no looser than that passes.
    """
    limit = loosening.max_factor
    if limit is None or proposal.ends_emergency:
        return
    most = f"×{format_decimal(limit)}"
    refusal = _beyond(proposal, factors, limit, "loosening.maxFactor", most)
    if (
        refusal is None
        and loosening.per is not None
        and proposal.at_start
        and not proposal.is_loosening_of_live
    ):
        start = proposal.at_start
        within = f"{most} within {window_text(loosening.per)}"
        measured = ((start, factor(start, proposal.after)),)
        refusal = _beyond(proposal, measured, limit, "loosening.per", within)
    if refusal is not None:
        yield refusal


def _beyond(
    proposal: ProposedChange, factors: Factors, limit: Decimal, rule: str, limit_words: str
) -> Refusal | None:
    beyond = [
        (found, kind)
        for before, found in factors
        if found is not None
        and is_above(found, limit)
        and (kind := _BY_DEGREE.get(direction(before, proposal.after)))
    ]
    if not beyond:
        return None
    most = worst(*(found for found, _ in beyond))
    kind = next(kind for found, kind in beyond if found == most)
    return Refusal(kind, proposal.family, rule, factor_words(most), limit_words)


def _unknown(proposal: ProposedChange, loosening: Loosening) -> Iterator[Refusal]:
    """Refuse what cannot be measured because nothing is known; disabling has a rule of its own."""
    limited = loosening.max_factor is not None and not loosening.unknown_allowed
    if proposal.unknown and limited and not proposal.after.disabled:
        measured, limit = "what is in force is not known", "known, or loosening.unknown: allow"
        yield Refusal(RefusalKind.LOOSEN, proposal.family, "loosening.unknown", measured, limit)


def _too_many(
    looser: list[ProposedChange], passed: list[ProposedChange], in_force: int, limit: Loosening
) -> Iterator[Refusal]:
    """Refuse all loosenings when there are too many at once, together with those that ``passed`` before.

    A share is of what was in force, above and below the line: a family that is disabled protects
    nothing, so it neither uses up a share nor enlarges it.
    """
    counted = {each.family for each in (*looser, *passed)}
    if looser and limit.max_families is not None and len(counted) > limit.max_families:
        message = f"{len(counted)} at once"
        yield from _each(looser, "loosening.maxFamilies", message, str(limit.max_families))
    enabled = [each for each in looser if each.may_be_enabled]
    of_all = {each.family for each in (*looser, *passed) if each.may_be_enabled}
    if enabled and limit.max_share is not None and len(of_all) > Fraction(limit.max_share) * in_force:
        message, most = f"{len(of_all)} of {in_force} at once", f"{format_decimal(limit.max_share * 100)}%"
        yield from _each(enabled, "loosening.maxShare", message, most)


def _each(looser: list[ProposedChange], rule: str, measured: str, limit: str) -> Iterator[Refusal]:
    return (Refusal(_looser_allow(each).kind, each.family, rule, measured, limit) for each in looser)


def _is_looser(proposal: ProposedChange) -> bool:
    """Tell whether a change takes protection away; disabling what is disabled does not."""
    if proposal.direction is Direction.DISABLE:
        return proposal.may_be_enabled
    return proposal.direction in _LOOSER


def _looser_allow(proposal: ProposedChange) -> Override:
    return Override(_LOOSER[proposal.direction], proposal.family)


def _protected(family: Family, measured: str) -> Refusal:
    return Refusal(RefusalKind.PROTECTED, family, "protected", measured, "managed and enabled")


def _value(setting: Setting, name: Field) -> Decimal:
    match name:
        case Field.TIME_INTERVAL:
            return Decimal(setting.time_interval_ms)
        case Field.FROZEN_INTERVAL:
            return Decimal(setting.frozen_interval_ms)
        case Field.QTY_LIMIT:
            return setting.qty_limit.value
        case _:
            assert_never(name)


def _message(name: Field, value: Decimal) -> str:
    return format_decimal(value) if name is Field.QTY_LIMIT else interval_text(int(value))


def _sorted(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(
        sorted(refusals, key=lambda one: (one.family, one.rule, one.field.value if one.field else ""))
    )
