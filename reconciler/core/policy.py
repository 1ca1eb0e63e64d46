"""The policy as a value: bounds, limits, overrides by name, and the refusals of a plan.

A policy file says what a change of settings may not do without an override. This file also chooses the
bounds that apply to a family. Which changes are refused is decided in ``policy_rules``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from reconciler.core.change_direction import Direction, direction, is_no_looser
from reconciler.core.exposure import UNLIMITED, Amount, Figure, amount_text
from reconciler.core.model import Family, Field, Setting


class RefusalKind(StrEnum):
    """The kinds of refusal, as ``--allow KIND:FAMILY`` names them."""

    LOOSEN = "loosen"
    MIXED = "mixed"
    DISABLE = "disable"
    BOUNDS = "bounds"
    PROTECTED = "protected"


@dataclass(frozen=True, slots=True)
class Override:
    """One override: a refusal of this kind does not block this family. Written ``KIND:FAMILY``."""

    kind: RefusalKind
    family: Family

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.family}"


@dataclass(frozen=True, slots=True)
class Bound:
    """What one field may be: inclusive limits (ms or contracts), and its zero word.

    ``zero_allowed`` is about ``disabled`` (timeInterval) and ``until-reset`` (frozenInterval), to
    which the limits do not apply. None: no limit, so a less specific bound decides, or none.
    """

    minimum: Decimal | None = None
    maximum: Decimal | None = None
    zero_allowed: bool | None = None


NO_BOUND = Bound()

Bounds = Mapping[Field, Bound]

Exposures = Mapping[Figure, Decimal]
"""The most each figure of an exposure may be, inclusive. They do not apply to a disabled setting."""

M = TypeVar("M", Bounds, Exposures)


@dataclass(frozen=True, slots=True)
class Floor:
    """From where a change counts as good as disabling: it takes the guard of disabling as well.

    ``time_interval_ms``: a shorter window. ``factor``: a change with this factor or a larger one.
    """

    time_interval_ms: int = 100
    factor: Decimal = Decimal(1000)


@dataclass(frozen=True, slots=True)
class Loosening:
    """How far one plan may loosen: each family, and how many families at once.

    ``max_factor``: the most that the factor of a change may be. ``max_families``: families made
    looser or disabled in one plan. ``max_share``: of the managed families that were in force for the last
    24 hours, the share (0 to 1) made looser or disabled. None: no limit. ``per``: the factor is
    limited from the setting accepted at the beginning of this time, too; None: of each step alone.
    ``unknown_allowed``: where neither a read nor the record tells what is in force, changes may loosen it.
    """

    max_factor: Decimal | None = None
    max_families: int | None = None
    max_share: Decimal | None = None
    per: timedelta | None = None
    unknown_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """The content of a valid policy file.

    ``families`` and ``family_exposures`` are by family name or pattern (``ETH-*``).
    """

    path: str
    sha256: str
    default: Bounds = field(default_factory=dict)
    families: Mapping[str, Bounds] = field(default_factory=dict)
    loosening: Loosening = field(default_factory=Loosening)
    disable_allowed: bool = False
    protected: frozenset[Family] = frozenset()
    default_exposure: Exposures = field(default_factory=dict)
    family_exposures: Mapping[str, Exposures] = field(default_factory=dict)
    floor: Floor = Floor()


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """Which policy applies at this moment.

    ``policy`` is the last one that was valid; None: there never was one, and only the guard applies.
    ``unreadable``: a policy file exists, or existed, and it cannot be read or is not valid now.
    ``missing``: there is no file, and ``policy`` has the rules that the state remembers of the last one.
    """

    policy: Policy | None = None
    unreadable: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class ProposedChange:
    """One change as a policy judges it, from ``before`` to ``after``.

    ``before`` is the accepted setting, or the tighter of live and accepted if the change undoes what live
    has tighter; None: nothing was in force that is known of. ``may_be_enabled`` tells that the family is,
    or may be, enabled now. ``may_be`` are settings that may be in force instead of ``before``, by requests
    without a definite answer. ``unknown``: nothing is known of the family, neither by a read nor by the
    record. ``measured_from`` is the setting from which the factor is measured where that is not ``before``:
    of an enable, the last enabled setting that was accepted. ``at_start`` is the setting that was accepted
    at the beginning of the time that ``loosening.per`` names; None: there is no such limit, or no such
    setting. ``is_loosening_of_live``: live is tighter than accepted, and the change loosens it again up to
    the target, whose steps are judged from accepted. ``is_first``: a read showed no row and nothing was
    ever accepted, so there is no protection that the guard of disabling could preserve; ``before`` is the
    last row seen, if there was one.
    """

    family: Family
    before: Setting | None
    after: Setting
    may_be_enabled: bool
    may_be: tuple[Setting, ...] = ()
    unknown: bool = False
    measured_from: Setting | None = None
    at_start: Setting | None = None
    is_loosening_of_live: bool = False
    is_first: bool = False

    @property
    def direction(self) -> Direction | None:
        """Which way the change goes."""
        return direction(self.before, self.after)

    @property
    def ends_emergency(self) -> bool:
        """Whether it is no looser than what was accepted at the beginning of the policy's time."""
        start = self.at_start
        return start is not None and not start.disabled and is_no_looser(start, self.after)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that refuses the change of a family.

    ``rule`` names it as the policy file does (``loosening.maxFactor``); ``measured`` and ``limit``
    are what was compared, as people write it. ``field`` is None where the rule is not about one.
    """

    kind: RefusalKind
    family: Family
    rule: str
    measured: str
    limit: str
    field: Field | None = None

    @property
    def override(self) -> Override:
        """The override that would let it pass."""
        return Override(self.kind, self.family)

    @property
    def overridable(self) -> bool:
        """Whether there is an override. There is none while the policy cannot be read."""
        return self.rule != UNREADABLE_RULE

    @property
    def allow(self) -> str:
        """The override as the command line takes it."""
        return f"--allow {self.override}"

    @property
    def sentence(self) -> str:
        """One sentence: rule, measured value, limit."""
        subject = f"{self.field.value} " if self.field else ""
        return f"{self.rule}: {subject}{self.measured}, limit {self.limit}"


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """What a policy refuses of a plan, and what it would refuse without the overrides.

    An override that was not needed leaves no trace in ``overridden``. Both are sorted by family.
    """

    refusals: tuple[Refusal, ...]
    overridden: tuple[Refusal, ...]


GUARD_RULE = "guard"
"""The rule's name where there is no policy file."""

UNREADABLE_RULE = "policy"
"""The rule's name for what is refused because the policy file cannot be read."""

ZERO_WORDS = {Field.TIME_INTERVAL: "disabled", Field.FROZEN_INTERVAL: "until-reset"}
"""What a bound of an interval calls the zero of its field; the two mean opposite things."""


def effective_bounds(family: Family, policy: Policy) -> dict[Field, Bound]:
    """Return the bounds of one family, limit by limit: its own, else the patterns', else the default.

    Where several patterns match, the strictest counts, so that their order means nothing.
    """
    own = policy.families.get(family, {})
    matching = _matching(family, policy.families)
    return {
        name: _over(
            own.get(name, NO_BOUND),
            _over(
                _strictest([bounds.get(name, NO_BOUND) for bounds in matching]),
                policy.default.get(name, NO_BOUND),
            ),
        )
        for name in Field
    }


def effective_exposure(family: Family, policy: Policy) -> dict[Figure, Decimal]:
    """Return the most each figure of one family may be, chosen as in :func:`effective_bounds`."""
    own = policy.family_exposures.get(family, {})
    matching = _matching(family, policy.family_exposures)
    patterns = {
        name: min(limits[name] for limits in matching if name in limits)
        for name in Figure
        if any(name in limits for limits in matching)
    }
    return {**policy.default_exposure, **patterns, **own}


def bounded(policy: Policy) -> tuple[str, ...]:
    """Return the names and patterns that have bounds of their own, in the file's order."""
    return tuple(dict.fromkeys((*policy.families, *policy.family_exposures)))


def unmatched_entries(policy: Policy, families: Iterable[Family]) -> tuple[str, ...]:
    """Return the names and patterns of bounds that match none of ``families``, in the file's order."""
    listed = frozenset(families)
    return tuple(name for name in bounded(policy) if not _fits_any(name, listed))


def is_pattern(name: str) -> bool:
    """Tell whether a key of the families' bounds is a pattern: a ``*`` stands for any characters."""
    return "*" in name


def _matching(family: Family, named: Mapping[str, M]) -> list[M]:
    """Return the values of the patterns that match ``family``."""
    return [limits for pattern, limits in named.items() if is_pattern(pattern) and _fits(pattern, family)]


def _fits_any(name: str, families: Collection[Family]) -> bool:
    """Tell whether a name or pattern matches one of ``families``; a name is looked up, not compared."""
    if is_pattern(name):
        return any(_fits(name, family) for family in families)
    return name in families


def _fits(pattern: str, family: Family) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), family) is not None


def _over(first: Bound, then: Bound) -> Bound:
    return Bound(
        then.minimum if first.minimum is None else first.minimum,
        then.maximum if first.maximum is None else first.maximum,
        then.zero_allowed if first.zero_allowed is None else first.zero_allowed,
    )


def _strictest(bounds: list[Bound]) -> Bound:
    return Bound(
        max((bound.minimum for bound in bounds if bound.minimum is not None), default=None),
        min((bound.maximum for bound in bounds if bound.maximum is not None), default=None),
        min((bound.zero_allowed for bound in bounds if bound.zero_allowed is not None), default=None),
    )


def factor_words(amount: Amount) -> str:
    """Write a factor for people: ``×4``, ``unlimited``."""
    return amount_text(amount) if amount is UNLIMITED else f"×{amount_text(amount)}"


def format_decimal(value: Decimal) -> str:
    """Write a decimal in full without needless zeros: ``4``, ``2.5``."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
