"""The fight breaker: three heals within ten minutes, and the next drift is left; held to an oracle."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, product

import pytest

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, Setting, Uncertain
from reconciler.core.pauses import MOST_HEALS, ContestedFamily, Heals, forget, record_heal, tripped
from reconciler.core.plan import Plan, PlanConstraints
from tests.unit.builders import BTC, ETH, NOW, confirmed, plan_of, read, row, setting, unresolved

A, B = setting("5000/2000/100"), setting("5000/2000/400")
TEN_MINUTES = 600.0


def drifted(family: Family = BTC, wanted: Setting = A, rules: PlanConstraints | None = None) -> Plan:
    """Return a plan that finds ``family`` looser than it was applied."""
    shown = Reads(read(NOW - 1, {family: row("5000/2000/9999")}))
    known: dict[Family, Known] = {family: confirmed(f"5000/2000/{wanted.qty_limit}", at=NOW - 60)}
    return plan_of({family: wanted}, known, shown, rules)


def heals(moments: Iterable[tuple[Setting, float]], family: Family = BTC) -> Heals:
    made: Heals = {}
    for wanted, at in moments:
        made = record_heal(made, family, wanted, at)
    return made


AGES = (1.0, 200.0, 599.9, 600.0, 900.0)
"""Seconds before now at which a heal may have been; the two in the middle are the window's edge."""


def test_it_bites_after_three_heals_of_this_setting_within_ten_minutes_and_never_before() -> None:
    """Every choice of up to five heals, each of one of two settings, against plain counting."""
    bitten = 0
    for number in range(len(AGES) + 1):
        for ages in combinations(sorted(AGES, reverse=True), number):
            for settings in product((A, B), repeat=number):
                moments = list(zip(settings, (NOW - age for age in ages), strict=True))
                # A heal of another setting means that the file changed: what was before is another story.
                other = max((at for wanted, at in moments if wanted != A), default=0.0)
                counting = sum(wanted == A and at > max(other, NOW - TEN_MINUTES) for wanted, at in moments)
                found = tripped(heals(moments), drifted(), NOW)
                assert found == ((ContestedFamily(BTC, A, 3),) if counting >= 3 else ()), moments
                bitten += bool(found)
    assert bitten == 9, "three young ones, with each choice of older ones before"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(
            drifted(rules=PlanConstraints(drift=DriftPolicy.WARN)), id="drift that is only reported"
        ),
        pytest.param(drifted(rules=PlanConstraints(paused=frozenset({BTC}))), id="paused"),
        pytest.param(plan_of({BTC: A}, {BTC: confirmed("5000/2000/400")}), id="a changed file"),
        pytest.param(plan_of({BTC: A}), id="never applied"),
        pytest.param(plan_of({BTC: A}, {BTC: confirmed("5000/2000/100")}), id="in sync"),
        pytest.param(drifted(ETH), id="another family"),
    ],
)
def test_only_drift_about_to_be_healed_counts_as_contested(plan: Plan) -> None:
    assert tripped(heals([(A, NOW - 1)] * 3), plan, NOW) == ()


def test_an_unanswered_request_is_uncertain_and_not_contested() -> None:
    doubtful = Uncertain(confirmed("5000/2000/100", at=NOW - 60), (unresolved("5000/2000/100"),))
    plan = plan_of({BTC: A}, {BTC: doubtful}, Reads(read(NOW - 1, {BTC: row("5000/2000/9999")})))
    assert tripped(heals([(A, NOW - 1)] * 3), plan, NOW) == ()


def test_every_contested_family_of_a_plan_is_reported_in_its_order() -> None:
    rows = {BTC: row("5000/2000/9999"), ETH: row("5000/2000/9999")}
    known: dict[Family, Known] = dict.fromkeys((BTC, ETH), confirmed("5000/2000/100", at=NOW - 60))
    plan = plan_of({BTC: A, ETH: A}, known, Reads(read(NOW - 1, rows)))
    both = {**heals([(A, NOW)] * 3, ETH), **heals([(A, NOW)] * 3)}
    assert [contested_family.family for contested_family in tripped(both, plan, NOW)] == [BTC, ETH]


def test_what_is_remembered_is_bounded() -> None:
    many = heals((A, NOW + second) for second in range(100))
    assert len(many[BTC]) == MOST_HEALS


def test_a_family_that_is_resumed_begins_anew() -> None:
    both = {**heals([(A, NOW)] * 3, ETH), **heals([(A, NOW)] * 3)}
    assert forget(both, {BTC}) == {ETH: both[ETH]}
    assert tripped(forget(both, {BTC}), drifted(), NOW) == ()
