"""What a change of the policy file changes: the rules of each family, before and after.

This file decides which rules differ in effect and whether each got looser, that is, allows more. The
rules are compared as they apply, family by family, so that a pattern or a default counts where it counts,
and also for a family that no rule names. It judges no settings.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from reconciler.core.exposure import Figure
from reconciler.core.model import Family, Field, interval_text, window_text
from reconciler.core.policy import (
    ZERO_WORDS,
    Floor,
    Policy,
    bounded,
    effective_bounds,
    effective_exposure,
    format_decimal,
    is_pattern,
)

NO_POLICY = Policy("", "")
"""What applies without a policy file: no rule but that an enabled family is not disabled."""

UNKNOWN_RULE = "loosening.unknown"
"""The rule of what is known neither by a read nor by the record."""

SHOWN_FAMILIES = 5
"""Names on the line of one rule; documents have them all."""

ANY_OTHER = Family("")
"""Represents a family that neither a file nor the policy names."""


class FileChange(StrEnum):
    """How the policy file itself changed."""

    ADDED = "added"
    DELETED = "deleted"
    RENAMED = "renamed"
    EDITED = "edited"
    COMMENTS = "comments"
    """Its bytes differ, and no rule that it states does: comments, order or layout."""


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One rule that differs in effect: ``before`` and ``after`` as people write them.

    ``families`` are those it differs for, names and patterns; None: every family. ``others``: also for
    families that no rule names. ``looser``: more passes than before.
    """

    rule: str
    before: str
    after: str
    looser: bool
    families: tuple[Family, ...] | None = None
    others: bool = True

    @property
    def words(self) -> str:
        """One line: ``loosening.maxFactor 2 → none: looser``; many families are counted."""
        way = "looser" if self.looser else "tighter"
        return f"{self.rule} {self.before} → {self.after}: {way}{self._for_whom}"

    @property
    def _for_whom(self) -> str:
        if self.families is None:
            return ""
        more = len(self.families) - SHOWN_FAMILIES
        named = [
            *self.families[:SHOWN_FAMILIES],
            *([f"{more} more"] if more > 0 else []),
            *(["every family that no rule names"] if self.others else []),
        ]
        return f" for {', '.join(named)}"


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """How the policy of one side differs from that of the other.

    ``old_name`` and ``new_name`` are the names of the files, None where there is none. Of a file that was
    deleted, ``new_name`` is the one that has its content now: no command reads it by itself.
    """

    file: FileChange
    old_name: str | None
    new_name: str | None
    rules: tuple[RuleChange, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether a reviewer has to see it: all but comments."""
        return self.file is not FileChange.COMMENTS

    @property
    def looser(self) -> int:
        """How many rules allow more."""
        return sum(rule.looser for rule in self.rules)


@dataclass(frozen=True, slots=True)
class _Limit:
    """One rule as it applies: ``passes`` is larger where more passes."""

    text: str
    passes: Decimal


_NO_LIMIT = _Limit("none", Decimal("Infinity"))
"""What a rule without a limit is."""


def policy_change(
    old: Policy | None,
    new: Policy | None,
    families: Collection[Family],
    *,
    old_name: str | None,
    new_name: str | None,
) -> PolicyChange | None:
    """Return what differs between two policies for ``families``, and for any other; None: nothing.

    The names are as in PolicyChange.
    """
    if old is None and new is None:
        return None
    if old is None or new is None:
        file = FileChange.ADDED if old is None else FileChange.DELETED
    elif old_name != new_name:
        file = FileChange.RENAMED
    elif old.sha256 == new.sha256:
        return None
    else:
        file = FileChange.COMMENTS if _as_stated(old) == _as_stated(new) else FileChange.EDITED
    return PolicyChange(
        file, old_name, new_name, _rule_changes(old or NO_POLICY, new or NO_POLICY, families)
    )


def _as_stated(policy: Policy) -> Policy:
    return replace(policy, path="", sha256="")


def _rule_changes(old: Policy, new: Policy, families: Collection[Family]) -> tuple[RuleChange, ...]:
    named = {
        *families,
        *(Family(name) for name in (*bounded(old), *bounded(new))),
        *old.protected,
        *new.protected,
    }
    silent = _silent(old, new)
    found: dict[tuple[str, str, str, bool], list[Family]] = {}
    for family in (*sorted(named, key=lambda name: (is_pattern(name), name)), ANY_OTHER):
        before, after = _rules(family, old), _rules(family, new)
        for rule, limit in before.items():
            now = after[rule]
            if now.passes != limit.passes and rule not in silent:
                key = rule, limit.text, now.text, now.passes > limit.passes
                found.setdefault(key, []).append(family)
    everyone = len(named) + 1
    return tuple(
        RuleChange(*key)
        if len(whose) == everyone
        else RuleChange(*key, tuple(one for one in whose if one != ANY_OTHER), ANY_OTHER in whose)
        for key, whose in sorted(found.items(), key=lambda one: (not one[0][3], one[0]))
    )


def _silent(old: Policy, new: Policy) -> frozenset[str]:
    """Return the rules that refuse nothing on one side, so that another rule shows the complete change.

    The floor says what counts as disabling, and where disabling is allowed it refuses nothing. What is
    unknown is refused only where the factor of a change is limited.
    """
    floor = _floor_rules(new.floor) if old.disable_allowed or new.disable_allowed else ()
    unlimited = None in (old.loosening.max_factor, new.loosening.max_factor)
    return frozenset([*floor, *([UNKNOWN_RULE] if unlimited else ())])


def _rules(family: Family, policy: Policy) -> dict[str, _Limit]:
    """Return every rule as it applies to ``family``, by its name in the policy file."""
    loosening, exposures = policy.loosening, effective_exposure(family, policy)
    families, share, per = loosening.max_families, loosening.max_share, loosening.per
    rules = {f"bounds.exposure.{name.value}.max": _at_most(exposures.get(name)) for name in Figure}
    for name, bound in effective_bounds(family, policy).items():
        rules[f"bounds.{name.value}.min"] = _at_least(bound.minimum, name)
        rules[f"bounds.{name.value}.max"] = _at_most(bound.maximum, name)
        if name in ZERO_WORDS:
            rules[f"bounds.{name.value}.{ZERO_WORDS[name]}"] = _allowed(bound.zero_allowed is not False)
    return rules | {
        "loosening.maxFactor": _at_most(loosening.max_factor),
        "loosening.maxFamilies": _at_most(None if families is None else Decimal(families)),
        "loosening.maxShare": _NO_LIMIT
        if share is None
        else _Limit(f"{format_decimal(share * 100)}%", share),
        # Within a longer time more steps in a row count together.
        "loosening.per": _NO_LIMIT
        if per is None
        else _Limit(window_text(per), Decimal(-(per // timedelta(seconds=1)))),
        UNKNOWN_RULE: _allowed(loosening.unknown_allowed),
        "disable": _allowed(policy.disable_allowed),
        "protected": _Limit("yes", Decimal(0)) if family in policy.protected else _Limit("no", Decimal(1)),
        **_floor_rules(policy.floor),
    }


def _floor_rules(floor: Floor) -> dict[str, _Limit]:
    window = Decimal(floor.time_interval_ms)
    return {
        "floor.timeInterval": _at_least(window, Field.TIME_INTERVAL),
        "floor.factor": _at_most(floor.factor),
    }


def _at_least(limit: Decimal | None, name: Field) -> _Limit:
    return _NO_LIMIT if limit is None else _Limit(_text(limit, name), limit.copy_negate())


def _at_most(limit: Decimal | None, name: Field = Field.QTY_LIMIT) -> _Limit:
    return _NO_LIMIT if limit is None else _Limit(_text(limit, name), limit)


def _allowed(allowed: bool) -> _Limit:
    return _Limit("allow", Decimal(1)) if allowed else _Limit("deny", Decimal(0))


def _text(value: Decimal, name: Field) -> str:
    return format_decimal(value) if name is Field.QTY_LIMIT else interval_text(int(value))
