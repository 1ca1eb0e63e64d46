"""What a change of the policy changes: the rules as they apply to each family, and to any other."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from reconciler.core.exposure import Figure
from reconciler.core.model import Family
from reconciler.core.policy import Bound, Floor, Loosening, Policy
from reconciler.core.policy_change import SHOWN_FAMILIES, FileChange, PolicyChange, policy_change
from tests.unit.builders import BTC, ETH
from tests.unit.test_policy import FREEZE, QTY, TIME, bound, policy

NAME = "mmp-policy.yaml"
EMPTY = policy()


def loosening(factor: str | None, hours: float | None = None, *, unknown_allowed: bool = False) -> Policy:
    """Return a policy of these limits of a factor; ``hours`` is their window."""
    per = None if hours is None else timedelta(hours=hours)
    limits = Loosening(Decimal(factor) if factor else None, per=per, unknown_allowed=unknown_allowed)
    return replace(policy(), loosening=limits)


def changed(old: Policy | None, new: Policy | None, *families: Family) -> PolicyChange | None:
    """Return the change between two policies whose bytes differ, for BTC-USD, ETH-USD and ``families``."""
    after = None if new is None else replace(new, sha256="2" * 64)
    names = NAME if old else None, NAME if new else None
    return policy_change(old, after, {BTC, ETH, *families}, old_name=names[0], new_name=names[1])


def lines(old: Policy | None, new: Policy | None) -> list[str]:
    change = changed(old, new)
    assert change is not None
    return [rule.words for rule in change.rules]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (policy(factor="2"), EMPTY, "loosening.maxFactor 2 → none: looser"),
        (EMPTY, policy(factor="2.5"), "loosening.maxFactor none → 2.5: tighter"),
        (policy(count=3), policy(count=4), "loosening.maxFamilies 3 → 4: looser"),
        (policy(share="0.5"), policy(share="0.1"), "loosening.maxShare 50% → 10%: tighter"),
        (policy(share="0.5"), EMPTY, "loosening.maxShare 50% → none: looser"),
        (loosening("2", 24), loosening("2"), "loosening.per 24h → none: looser"),
        (loosening("2"), loosening("2", 24), "loosening.per none → 24h: tighter"),
        # The longer the window is, the more steps in a row count together.
        (loosening("2", 24), loosening("2", 7 * 24), "loosening.per 24h → 7d: tighter"),
        (loosening("2", 36), loosening("2", 1.5), "loosening.per 36h → 90m: looser"),
        (loosening("2"), loosening("2", unknown_allowed=True), "loosening.unknown deny → allow: looser"),
        (loosening("2", unknown_allowed=True), loosening("2"), "loosening.unknown allow → deny: tighter"),
        # Without a factor the unknown is not refused: the rule of the factor says what changes.
        (EMPTY, loosening("2", unknown_allowed=True), "loosening.maxFactor none → 2: tighter"),
        (loosening("2", unknown_allowed=True), None, "loosening.maxFactor 2 → none: looser"),
        (loosening("2"), loosening(None, unknown_allowed=True), "loosening.maxFactor 2 → none: looser"),
        (EMPTY, policy(disable_allowed=True), "disable deny → allow: looser"),
        (policy(disable_allowed=True), None, "disable allow → deny: tighter"),
        (policy(protected=(BTC,)), EMPTY, "protected yes → no: looser for BTC-USD"),
        (EMPTY, policy(default={QTY: bound(None, "200")}), "bounds.qtyLimit.max none → 200: tighter"),
        (
            policy(default={TIME: bound("5000")}),
            policy(default={TIME: bound("1000")}),
            "bounds.timeInterval.min 5s → 1s: looser",
        ),
        (
            policy(default={FREEZE: bound(zero=False)}),
            policy(default={FREEZE: bound(zero=True)}),
            "bounds.frozenInterval.until-reset deny → allow: looser",
        ),
        (
            policy(families={"BTC-USD": {QTY: bound(None, "1")}}),
            policy(families={"BTC-USD": {QTY: bound(None, "2")}}),
            "bounds.qtyLimit.max 1 → 2: looser for BTC-USD",
        ),
        (
            policy(families={"ETH-*": {QTY: bound(None, "1")}}),
            EMPTY,
            "bounds.qtyLimit.max 1 → none: looser for ETH-USD, ETH-*",
        ),
        (
            policy(families={"XAU-*": {QTY: bound(None, "1")}}),
            EMPTY,
            "bounds.qtyLimit.max 1 → none: looser for XAU-*",
        ),
        (
            policy(default={QTY: bound(None, "5")}, families={"BTC-USD": {QTY: bound(None, "1")}}),
            policy(default={QTY: bound(None, "6")}, families={"BTC-USD": {QTY: bound(None, "1")}}),
            "bounds.qtyLimit.max 5 → 6: looser for ETH-USD, every family that no rule names",
        ),
        (
            replace(EMPTY, default_exposure={Figure.PER_MINUTE: Decimal(500)}),
            replace(EMPTY, default_exposure={Figure.PER_MINUTE: Decimal(600)}),
            "bounds.exposure.perMinute.max 500 → 600: looser",
        ),
        (
            EMPTY,
            replace(EMPTY, family_exposures={"ETH-*": {Figure.PER_TRIP: Decimal("1.5")}}),
            "bounds.exposure.perTrip.max none → 1.5: tighter for ETH-USD, ETH-*",
        ),
        (EMPTY, replace(EMPTY, floor=Floor(time_interval_ms=1)), "floor.timeInterval 100ms → 1ms: looser"),
        # Without a policy the guard has the floor that a policy has which names none.
        (replace(EMPTY, floor=Floor(1000)), None, "floor.timeInterval 1s → 100ms: looser"),
        (replace(EMPTY, floor=Floor(factor=Decimal(50))), EMPTY, "floor.factor 50 → 1000: looser"),
        # Where disabling is allowed, the floor holds nothing: the rule of disabling says what changes.
        (replace(EMPTY, floor=Floor(1)), policy(disable_allowed=True), "disable deny → allow: looser"),
        (policy(disable_allowed=True), replace(EMPTY, floor=Floor(1)), "disable allow → deny: tighter"),
    ],
)
def test_a_rule_is_compared_as_it_applies(old: Policy | None, new: Policy | None, message: str) -> None:
    assert lines(old, new) == [message]


def test_only_what_no_file_names_may_be_what_a_rule_differs_for() -> None:
    own = {family: {QTY: bound(None, "1")} for family in ("BTC-USD", "ETH-USD")}
    default = policy(default={QTY: bound(None, "5")}, families=own)
    assert lines(policy(families=own), default) == [
        "bounds.qtyLimit.max none → 5: tighter for every family that no rule names"
    ]


def test_looser_rules_come_first_and_many_families_are_counted() -> None:
    many = tuple(Family(f"F{number}-USD") for number in range(SHOWN_FAMILIES + 2))
    old, new = policy(factor="4", protected=many), policy(factor="2")
    message = lines(old, new)
    assert message[0].startswith("protected yes → no: looser for F0-USD, F1-USD, ")
    assert message[0].endswith(", 2 more")
    assert message[1] == "loosening.maxFactor 4 → 2: tighter"


@pytest.mark.parametrize(
    ("old", "new", "file", "counts"),
    [
        (None, EMPTY, FileChange.ADDED, True),
        (EMPTY, None, FileChange.DELETED, True),
        (policy(factor="2"), policy(factor="3"), FileChange.EDITED, True),
        (policy(factor="2"), policy(factor="2"), FileChange.COMMENTS, False),
        # What is stated twice is stated otherwise, though no rule moves.
        (
            policy(default={QTY: bound(None, "5")}),
            policy(default={QTY: bound(None, "5")}, families={"BTC-USD": {QTY: bound(None, "5")}}),
            FileChange.EDITED,
            True,
        ),
    ],
)
def test_what_became_of_the_file(
    old: Policy | None, new: Policy | None, file: FileChange, counts: bool
) -> None:
    change = changed(old, new)
    assert change is not None
    assert (change.file, change.counts) == (file, counts)


def test_a_rule_that_refuses_nothing_is_no_rule_that_changes() -> None:
    assert lines(EMPTY, loosening(None, unknown_allowed=True)) == []
    assert lines(None, loosening(None, unknown_allowed=True)) == []


def test_a_window_and_its_factor_are_two_rules() -> None:
    assert lines(loosening("2", 24), None) == [
        "loosening.maxFactor 2 → none: looser",
        "loosening.per 24h → none: looser",
    ]


def test_nothing_is_no_change_and_another_name_is_one() -> None:
    assert policy_change(None, None, {BTC}, old_name=None, new_name=None) is None
    assert policy_change(EMPTY, EMPTY, {BTC}, old_name=NAME, new_name=NAME) is None
    renamed = policy_change(EMPTY, EMPTY, {BTC}, old_name=NAME, new_name="mmp-policy.yml")
    assert renamed is not None
    assert (renamed.file, renamed.rules, renamed.looser) == (FileChange.RENAMED, (), 0)


DIFFERENT: dict[str, Any] = {
    "default": {QTY: bound(None, "1")},
    "families": {"BTC-USD": {QTY: bound(None, "1")}},
    "loosening": Loosening(Decimal(2)),
    "disable_allowed": True,
    "protected": frozenset({BTC}),
    "default_exposure": {Figure.PER_TRIP: Decimal(1)},
    "family_exposures": {"BTC-USD": {Figure.PER_TRIP: Decimal(1)}},
    "floor": Floor(1),
}


def test_every_part_of_a_policy_is_compared() -> None:
    """A rule that is added to the policy and forgotten here would change unseen."""
    assert {each.name for each in fields(Policy)} - {"path", "sha256"} == DIFFERENT.keys()
    for name, value in DIFFERENT.items():
        assert lines(EMPTY, replace(EMPTY, **{name: value})), name
    limits: dict[str, Any] = {
        "max_factor": Decimal(2),
        "max_families": 1,
        "max_share": Decimal("0.5"),
        "per": timedelta(hours=1),
        "unknown_allowed": True,
    }
    assert {each.name for each in fields(Loosening)} == limits.keys()
    limited = loosening("3")
    for name, limit in limits.items():
        other = replace(limited, loosening=replace(limited.loosening, **{name: limit}))
        assert lines(limited, other), name
    floors: dict[str, Any] = {"time_interval_ms": 50, "factor": Decimal(500)}
    assert {each.name for each in fields(Floor)} == floors.keys()
    for name, limit in floors.items():
        assert lines(EMPTY, replace(EMPTY, floor=replace(Floor(), **{name: limit}))), name
    for figure in Figure:
        assert lines(EMPTY, replace(EMPTY, default_exposure={figure: Decimal(1)})), figure
    assert {each.name for each in fields(Bound)} == {"minimum", "maximum", "zero_allowed"}
