"""The policy: what a change of settings may not do without someone saying so by name.

This file decides which changes a policy refuses, by which rule, by how much, and which ``--allow``
would override it. A refusal never stops planning: it is a value that holds the family. Without a
policy file there is one guard: an enabled family is not disabled unless that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase

from reconciler.core.direction import Direction
from reconciler.core.model import Desired, Family, Field, Setting


class Kind(StrEnum):
    """The kinds of refusal, as ``--allow KIND:FAMILY`` names them."""

    LOOSEN = "loosen"
    MIXED = "mixed"
    DISABLE = "disable"
    BOUNDS = "bounds"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class Allow:
    """One override: this kind of refusal does not hold this family."""

    kind: Kind
    family: Family


@dataclass(frozen=True, slots=True)
class Bound:
    """What one field may be: inclusive limits (ms or contracts, None: no limit), and the zero word.

    ``zero_allowed`` is about ``disabled`` (timeInterval) or ``until-reset`` (frozenInterval).
    """

    minimum: Decimal | None = None
    maximum: Decimal | None = None
    zero_allowed: bool = True


Bounds = Mapping[Field, Bound]


@dataclass(frozen=True, slots=True)
class Loosening:
    """How far one plan may loosen: per field, and in how many families at once.

    ``max_factor``: qtyLimit after/before, interval before/after. ``max_families``: families made
    looser in one plan. ``max_share``: the same as a share (0 to 1) of the desired families. None: no limit.
    """

    max_factor: Decimal | None = None
    max_families: int | None = None
    max_share: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file, accepted whole. ``bounds`` are (glob, bounds), the most specific first."""

    path: str
    sha256: str
    bounds: tuple[tuple[str, Bounds], ...] = ()
    loosening: Loosening = field(default_factory=Loosening)
    disable_allowed: bool = False
    protected: tuple[Family, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change as a policy sees it; ``before`` None: nothing was in force that is known of.

    ``may_be_enabled`` tells that the family is, or may be, enabled now.
    """

    family: Family
    before: Setting | None
    after: Setting
    direction: Direction | None
    may_be_enabled: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that does not let a family pass.

    ``rule`` names it as the policy file does (``loosening.maxFactor``), ``measured`` and ``limit``
    are what was compared, as people write it. ``field`` is None where the rule is not about one.
    """

    kind: Kind
    family: Family
    rule: str
    measured: str
    limit: str
    field: Field | None = None

    @property
    def allow(self) -> str:
        """The override that would let it pass, as the command line takes it."""
        return f"--allow {self.kind.value}:{self.family}"

    @property
    def sentence(self) -> str:
        """One sentence: rule, measured value, limit."""
        subject = f"{self.field.value} " if self.field else ""
        return f"{self.rule}: {subject}{self.measured}, limit {self.limit}"


GUARD_RULE = "guard"
"""The rule's name where there is no policy file."""


def judge(
    proposals: Iterable[Proposal], desired: Desired, policy: Policy | None, allowed: frozenset[Allow]
) -> tuple[Refusal, ...]:
    """Return every refusal of these changes that is not overridden, by family.

    ``policy`` None is the guard alone: an enabled family is not disabled. Protected families the
    file does not manage are refused whether or not they change.
    """
    listed = tuple(proposals)
    refusals = list(_disabling(listed, policy))
    if policy is not None:
        refusals += _too_far(listed, policy.loosening)
        refusals += _too_many(listed, desired, policy.loosening, allowed)
        refusals += [*_unprotected(listed, policy), *removed(desired, policy)]
        changed = {proposal.family for proposal in listed}
        refusals += [refusal for refusal in out_of_bounds(desired, policy) if refusal.family in changed]
    passing = [refusal for refusal in refusals if Allow(refusal.kind, refusal.family) not in allowed]
    return tuple(sorted(passing, key=_by_family))


def out_of_bounds(desired: Desired, policy: Policy) -> tuple[Refusal, ...]:
    """Return every desired value outside the policy's bounds; needs no plan."""
    return tuple(
        refusal
        for family in sorted(desired.families)
        for refusal in _bounds_of(family, desired.families[family].setting, policy)
    )


def removed(desired: Desired, policy: Policy) -> tuple[Refusal, ...]:
    """Return a refusal for every protected family the file does not manage; needs no plan."""
    return tuple(
        Refusal(Kind.PROTECTED, family, "protected", "is not in the file", "must be managed")
        for family in policy.protected
        if family not in desired.families
    )


def effective_bounds(family: Family, policy: Policy) -> dict[Field, Bound]:
    """Return the bounds of one family: per field, the first whose glob matches."""
    found: dict[Field, Bound] = {}
    for glob, bounds in policy.bounds:
        if fnmatchcase(family, glob):
            for name, bound in bounds.items():
                found.setdefault(name, bound)
    return found


def loosening_factors(before: Setting, after: Setting) -> dict[Field, Decimal | None]:
    """Return by what factor each field gets looser; None where there is no finite factor.

    Only fields that do get looser are in it. From until-reset to any freeze has no finite factor,
    nor has a quantity from 0.
    """
    found: dict[Field, Decimal | None] = {}
    if after.qty_limit.value > before.qty_limit.value:
        found[Field.QTY_LIMIT] = _ratio(after.qty_limit.value, before.qty_limit.value)
    if 0 < after.time_interval_ms < before.time_interval_ms:
        found[Field.TIME_INTERVAL] = _ratio(
            Decimal(before.time_interval_ms), Decimal(after.time_interval_ms)
        )
    if before.until_reset and not after.until_reset:
        found[Field.FROZEN_INTERVAL] = None
    elif 0 < after.frozen_interval_ms < before.frozen_interval_ms:
        found[Field.FROZEN_INTERVAL] = _ratio(
            Decimal(before.frozen_interval_ms), Decimal(after.frozen_interval_ms)
        )
    return found


_LOOSER = {Direction.LOOSEN: Kind.LOOSEN, Direction.MIXED: Kind.MIXED}
"""Directions a loosening limit is about, and the kind of override each takes."""


def _disabling(proposals: tuple[Proposal, ...], policy: Policy | None) -> Iterator[Refusal]:
    if policy is not None and policy.disable_allowed:
        return
    rule = GUARD_RULE if policy is None else "disable"
    for proposal in proposals:
        if proposal.after.disabled and proposal.may_be_enabled:
            yield Refusal(Kind.DISABLE, proposal.family, rule, "would switch protection off", "deny")


def _too_far(proposals: tuple[Proposal, ...], limit: Loosening) -> Iterator[Refusal]:
    if limit.max_factor is None:
        return
    for proposal in proposals:
        kind = _LOOSER.get(proposal.direction) if proposal.direction else None
        if kind is None or proposal.before is None:
            continue
        for name, factor in loosening_factors(proposal.before, proposal.after).items():
            if factor is None or factor > limit.max_factor:
                told = "without a finite factor" if factor is None else f"×{shown(factor)}"
                yield Refusal(
                    kind, proposal.family, "loosening.maxFactor", told, f"×{shown(limit.max_factor)}", name
                )


def _too_many(
    proposals: tuple[Proposal, ...], desired: Desired, limit: Loosening, allowed: frozenset[Allow]
) -> Iterator[Refusal]:
    """Refuse all loosenings when there are too many at once; overridden ones do not count."""
    looser = [
        (proposal.family, kind)
        for proposal in proposals
        if proposal.direction
        and (kind := _LOOSER.get(proposal.direction))
        and Allow(kind, proposal.family) not in allowed
    ]
    count, managed = len(looser), len(desired.families)
    broken: list[tuple[str, str, str]] = []
    if limit.max_families is not None and count > limit.max_families:
        broken.append(("loosening.maxFamilies", f"{count} families at once", str(limit.max_families)))
    if limit.max_share is not None and Decimal(count) / managed > limit.max_share:
        told = f"{count} of {managed} families at once"
        broken.append(("loosening.maxShare", told, f"{shown(limit.max_share * 100)}%"))
    for rule, measured, most in broken:
        for family, kind in looser:
            yield Refusal(kind, family, rule, measured, most)


def _unprotected(proposals: tuple[Proposal, ...], policy: Policy) -> Iterator[Refusal]:
    for proposal in proposals:
        if proposal.family in policy.protected and proposal.after.disabled and proposal.may_be_enabled:
            yield Refusal(Kind.PROTECTED, proposal.family, "protected", "would be disabled", "never")


def _bounds_of(family: Family, setting: Setting, policy: Policy) -> Iterator[Refusal]:
    for name, bound in effective_bounds(family, policy).items():
        told = _outside(setting, name, bound)
        if told is not None:
            measured, limit = told
            yield Refusal(Kind.BOUNDS, family, f"bounds.{name.value}", measured, limit, name)


def _outside(setting: Setting, name: Field, bound: Bound) -> tuple[str, str] | None:
    """Return (measured, limit) when the field is outside its bound; a zero has its own rule."""
    match name:
        case Field.TIME_INTERVAL if setting.disabled:
            return None if bound.zero_allowed else ("is disabled", "disabled: deny")
        case Field.FROZEN_INTERVAL if setting.until_reset:
            return None if bound.zero_allowed else ("is until-reset", "until-reset: deny")
        case Field.TIME_INTERVAL:
            return _beyond(Decimal(setting.time_interval_ms), bound, " ms")
        case Field.FROZEN_INTERVAL:
            return _beyond(Decimal(setting.frozen_interval_ms), bound, " ms")
        case Field.QTY_LIMIT:
            return _beyond(setting.qty_limit.value, bound, " contracts")


def _beyond(value: Decimal, bound: Bound, unit: str) -> tuple[str, str] | None:
    if bound.minimum is not None and value < bound.minimum:
        return f"is {shown(value)}{unit}", f"at least {shown(bound.minimum)}{unit}"
    if bound.maximum is not None and value > bound.maximum:
        return f"is {shown(value)}{unit}", f"at most {shown(bound.maximum)}{unit}"
    return None


def _ratio(larger: Decimal, smaller: Decimal) -> Decimal | None:
    return larger / smaller if smaller else None


def shown(value: Decimal) -> str:
    """Write a decimal plainly, to at most three places: ``4``, ``2.5``, ``1.333``."""
    rounded = value.quantize(Decimal("0.001")) if value == value.to_integral() or value < 10**9 else value
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _by_family(refusal: Refusal) -> tuple[str, str, str]:
    return refusal.family, refusal.rule, refusal.field.value if refusal.field else ""
