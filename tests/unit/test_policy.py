"""What a policy refuses: rules as tables, and a small world judged by an oracle that shares no code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import chain, combinations, combinations_with_replacement, product

import pytest

from reconciler.core.accepted_settings import History
from reconciler.core.apply_result import hold_words
from reconciler.core.change_direction import Direction
from reconciler.core.exposure import Figure
from reconciler.core.live_evidence import MissingRow, Reads, SeenRow
from reconciler.core.model import Acceptance, Family, Field, Known, Uncertain, interval_text
from reconciler.core.plan import Action, HoldReason, Plan, PlanConstraints
from reconciler.core.policy import (
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
    format_decimal,
)
from reconciler.core.policy_rules import check_file, evaluate
from tests.unit.builders import (
    BTC,
    ETH,
    NOW,
    SOL,
    confirmed,
    desired,
    plan_of,
    read,
    row,
    setting,
    unresolved,
)

TIME, FREEZE, QTY = Field.TIME_INTERVAL, Field.FROZEN_INTERVAL, Field.QTY_LIMIT
NO_OVERRIDES: frozenset[Override] = frozenset()
WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)


def policy(
    *,
    default: Mapping[Field, Bound] | None = None,
    families: Mapping[str, Mapping[Field, Bound]] | None = None,
    factor: str | None = None,
    count: int | None = None,
    share: str | None = None,
    disable_allowed: bool = False,
    protected: tuple[Family, ...] = (),
    exposure: Exposures | None = None,
    family_exposures: Mapping[str, Exposures] | None = None,
    floor: Floor | None = None,
) -> Policy:
    return Policy(
        path="mmp-policy.yaml",
        sha256="1" * 64,
        default=default or {},
        families=families or {},
        loosening=Loosening(Decimal(factor) if factor else None, count, Decimal(share) if share else None),
        disable_allowed=disable_allowed,
        protected=frozenset(protected),
        default_exposure=exposure or {},
        family_exposures=family_exposures or {},
        floor=floor or Floor(),
    )


def bound(minimum: str | None = None, maximum: str | None = None, zero: bool | None = None) -> Bound:
    return Bound(Decimal(minimum) if minimum else None, Decimal(maximum) if maximum else None, zero)


def proposal(family: Family, before: str | None, after: str) -> ProposedChange:
    """Return a change between settings as ``window/freeze/quantity``; what is in force is known."""
    was, now = setting(before) if before else None, setting(after)
    enabled = was is not None and not was.disabled
    return ProposedChange(family, was, now, may_be_enabled=enabled)


def judged(
    changes: Mapping[Family, tuple[str | None, str]],
    under: Policy | None,
    allowed: frozenset[Override] = NO_OVERRIDES,
    *,
    unchanged: int = 0,
) -> PolicyResult:
    """Return the judgement on ``changes`` in a file of these families and ``unchanged`` others."""
    others = {Family(f"U{number}-USD"): setting("5000/2000/100") for number in range(unchanged)}
    wanted = desired({**{family: setting(after) for family, (_, after) in changes.items()}, **others})
    proposals = [proposal(family, *values) for family, values in changes.items()]
    enabled = unchanged + sum(each.may_be_enabled for each in proposals)
    return evaluate(proposals, wanted, under, allowed, in_force=enabled)


def rules_broken(judgement: PolicyResult) -> list[tuple[str, str]]:
    return [(refusal.family, refusal.rule) for refusal in judgement.refusals]


def looser(count: int) -> dict[Family, tuple[str | None, str]]:
    return {Family(f"L{number}-USD"): ("5000/2000/100", "5000/2000/101") for number in range(count)}


# ---- the guard -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("5000/2000/100", "0/2000/100", True),
        ("0/2000/100", "0/2000/200", False),
        (None, "0/2000/100", False),
        ("5000/2000/100", "100/101/999", False),
        ("0/2000/100", "5000/2000/100", False),
        (None, "1/1/999999", False),
    ],
)
def test_without_a_policy_disabling_what_is_enabled_is_refused(
    before: str | None, after: str, refused: bool
) -> None:
    assert rules_broken(judged({BTC: (before, after)}, None)) == [(BTC, "guard")] * refused


def test_what_may_be_enabled_by_an_unanswered_attempt_counts_as_enabled() -> None:
    known: dict[Family, Known] = {BTC: Uncertain(confirmed("0/2000/100"), (unresolved("5000/2000/100"),))}
    plan = plan_of({BTC: setting("0/2000/100")}, known)
    assert [refusal.rule for refusal in plan.refusals] == ["guard"]


def test_a_policy_may_allow_disabling_and_then_nothing_else_refuses_it() -> None:
    change = {BTC: ("5000/2000/100", "0/2000/100")}
    assert rules_broken(judged(change, policy())) == [(BTC, "disable")]
    assert rules_broken(judged(change, policy(disable_allowed=True))) == []


# ---- the floor: as good as off -------------------------------------------------------------------

NEAR_OFF = [
    # A window below 100 ms: from at or above it, or to a lower value below it.
    ("100/2000/100", "99/2000/100", ["timeInterval"]),
    ("5000/2000/100", "100/2000/100", []),
    ("50/2000/100", "49/2000/100", ["timeInterval"]),
    ("50/2000/100", "50/2000/200", []),
    ("50/2000/100", "51/2000/200", []),
    ("50/2000/100", "99/2000/100", []),
    ("0/2000/100", "1/2000/100", []),
    (None, "1/2000/100", []),
    # A tighter quantity does not outweigh it.
    ("5000/2000/100", "1/2000/0.001", ["timeInterval"]),
    # A factor of 1000 or more, whichever figure it is of.
    ("5000/2000/1", "5000/2000/999.99", []),
    ("5000/2000/1", "5000/2000/1000", ["factor"]),
    ("5000/2000/1", "50/2000/10", ["timeInterval", "factor"]),
    ("5000/2000/1", "500/2000/100", ["factor"]),
    ("5000/2000/1", "9000/2000/1000", ["factor"]),
    ("5000/2000000/1", "5000/2000/1", ["factor"]),
    ("5000/0/1", "5000/3600000/1", ["factor"]),
    ("1/1/1", "1/1/100000000000000000000", ["factor"]),
    # Between disabled settings there is no protection to lose.
    ("0/2000/1", "0/2000/1000", []),
    # Disabling is judged by its own rule.
    ("5000/2000/1", "0/2000/1000", ["off"]),
]


@pytest.mark.parametrize(("before", "after", "message"), NEAR_OFF)
def test_what_is_as_good_as_off_takes_the_guard_of_disabling(
    before: str | None, after: str, message: list[str]
) -> None:
    change = {BTC: (before, after)}
    bare, ruled = judged(change, None).refusals, judged(change, policy()).refusals
    names = {"timeInterval": "floor.timeInterval", "factor": "floor.factor", "off": "disable"}
    assert [one.rule for one in bare] == ["guard"] * len(message)
    assert sorted(one.rule for one in ruled) == sorted(names[each] for each in message)
    assert {one.kind for one in (*bare, *ruled)} <= {RefusalKind.DISABLE}
    assert [one.measured for one in sorted(bare, key=lambda one: one.measured)] == [
        one.measured for one in sorted(ruled, key=lambda one: one.measured)
    ]
    assert judged(change, None, frozenset({Override(RefusalKind.DISABLE, BTC)})).refusals == ()
    assert judged(change, policy(disable_allowed=True)).refusals == ()


def test_the_floor_is_what_the_policy_says_and_tells_both_numbers() -> None:
    under = policy(floor=Floor(2000, Decimal("2.5")))
    message = judged({BTC: ("5000/2000/100", "1999/2000/100")}, under).refusals
    assert [one.sentence for one in message] == [
        "floor.factor: ×2.502, limit less than ×2.5",
        "floor.timeInterval: timeInterval 1999ms, limit 2s",
    ]
    assert judged({BTC: ("5000/2000/100", "2000/2000/100")}, under).refusals[0].measured == "×2.5"
    assert judged({BTC: ("5000/2000/100", "2001/2000/100")}, under).refusals == ()


def test_a_change_beyond_both_limits_takes_the_override_of_its_direction_as_well() -> None:
    change = {BTC: ("5000/2000/1", "5000/2000/1000")}
    message = judged(change, policy(factor="2")).refusals
    assert [str(one.override) for one in message] == ["disable:BTC-USD", "loosen:BTC-USD"]
    one = frozenset({Override(RefusalKind.DISABLE, BTC)})
    assert [each.rule for each in judged(change, policy(factor="2"), one).refusals] == [
        "loosening.maxFactor"
    ]


def test_restoring_the_accepted_setting_after_drift_is_not_judged_by_the_floor() -> None:
    """Live was changed by hand to 50 ms, 1 ms and 0.01 contracts; a file of 60 ms was accepted once."""
    accepted = setting("60/2000/100")
    plan = plan_of(
        {BTC: accepted}, {BTC: confirmed("60/2000/100")}, Reads(read(990, {BTC: row("50/1/0.01")}))
    )
    (change,) = plan.changes
    assert (change.action, change.direction) == (Action.SET, Direction.TIGHTEN)
    assert (change.after, change.desired) == (setting("60/2000/0.01"), accepted)
    assert [one.sentence for one in plan.left_tighter] == ["guard: ×10000, limit less than ×1000"]
    loosening = plan_of(
        {BTC: accepted}, {BTC: confirmed("60/2000/100")}, Reads(read(990, {BTC: row("60/2000/0.01")}))
    )
    assert held(loosening) == {BTC: HoldReason.GUARD}
    assert {hold_words(one) for one in loosening.changes} == {
        "would be as good as switching protection off"
    }


@pytest.mark.parametrize(
    ("may_be", "refused"), [("50/2000/100", True), ("90/2000/1", False), ("0/2000/100", False)]
)
def test_the_floor_counts_from_whatever_an_open_request_may_have_set(may_be: str, refused: bool) -> None:
    one = replace(proposal(BTC, "20/2000/100", "40/2000/101"), may_be=(setting(may_be),))
    found = evaluate([one], desired({BTC: one.after}), None, frozenset(), in_force=1).refusals
    assert bool(found) == (refused or may_be.startswith("90"))
    tightens = replace(one, after=setting("40/2000/100"))
    assert evaluate([tightens], desired({BTC: one.after}), None, frozenset(), in_force=1).refusals == ()


# ---- how far: factors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "before", "after", "measured"),
    [
        # Each field is twice as loose, and the exposure per second rises by four.
        ("2", "10000/60000/100", "5000/30000/200", "×4"),
        ("4", "10000/60000/100", "5000/30000/200", None),
        # A shorter window with fewer contracts lets no more be traded.
        ("1", "10000/2000/100", "5000/2000/50", None),
        # Of the freeze alone: per minute it is 61/31, by itself 2.
        ("1.999", "5000/2000/100", "5000/1000/100", "×2"),
        ("2", "5000/2000/100", "5000/1000/100", None),
        ("2", "5000/2000/100", "5000/2000/200", None),
        ("2", "5000/2000/100", "5000/2000/200.00000000001", "×2.001"),
        ("2", "5000/2000/100", "5000/2000/400", "×4"),
        ("1", "5000/2000/100", "5000/2000/100.1", "×1.001"),
        ("1.5", "5000/2000/1", "5000/2000/1.5", None),
        ("1.5", "5000/2000/1", "5000/2000/1.6", "×1.6"),
        ("3", "5000/2000/1", "5000/2000/3", None),
        ("0.3", "5000/2000/1", "5000/2000/1.1", "×1.1"),
        # A third has no decimal: nothing may be rounded on the way to the comparison.
        ("3", "3000/2000/100", "1000/2000/100", None),
        ("3", "3001/2000/100", "1000/2000/100", "×3.001"),
        ("2.999", "3000/2000/100", "1000/2000/100", "×3"),
        ("99999999999999999999", "5000/2000/1", "5000/2000/99999999999999999999", None),
        (
            "10000000000000000000",
            "5000/2000/1",
            "5000/2000/10000000000000000000.1",
            "×10000000000000000000.1",
        ),
        ("99999999999999999999", "5000/0/100", "5000/2000/100", "unlimited"),
        ("99999999999999999999", "5000/2000/0", "5000/2000/1", "unlimited"),
    ],
)
def test_a_factor_is_compared_exactly_and_shown_as_beyond_its_limit(
    limit: str, before: str, after: str, measured: str | None
) -> None:
    refusals = judged({BTC: (before, after)}, policy(factor=limit, disable_allowed=True)).refusals
    assert {(one.field, one.kind) for one in refusals} <= {
        (None, RefusalKind.LOOSEN),
        (None, RefusalKind.MIXED),
    }
    assert [(one.rule, one.measured, one.limit) for one in refusals] == [
        ("loosening.maxFactor", measured, f"×{limit}")
    ] * (measured is not None)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("5000/2000/100", "5000/2000/400", RefusalKind.LOOSEN),
        ("5000/2000/100", "9000/2000/400", RefusalKind.MIXED),
        # Disabling is judged by the rule of disabling alone.
        ("5000/2000/100", "0/2000/400", None),
        ("0/2000/100", "0/2000/400", RefusalKind.LOOSEN),
        ("0/2000/100", "0/3000/400", RefusalKind.MIXED),
        ("0/2000/100", "5000/2000/400", None),
        (None, "5000/2000/400", None),
        ("5000/2000/400", "5000/2000/100", None),
    ],
)
def test_the_direction_of_the_change_says_which_override_it_takes(
    before: str | None, after: str, kind: RefusalKind | None
) -> None:
    refusals = judged({BTC: (before, after)}, policy(factor="2", disable_allowed=True)).refusals
    assert [refusal.kind for refusal in refusals] == ([] if kind is None else [kind])


# ---- how many: counts and shares -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "changed", "refused"),
    [(0, 1, True), (1, 1, False), (1, 2, True), (3, 3, False), (3, 4, True)],
)
def test_too_many_families_at_once_are_all_refused(limit: int, changed: int, refused: bool) -> None:
    judgement = judged(looser(changed), policy(count=limit), unchanged=10)
    assert len(judgement.refusals) == (changed if refused else 0)
    assert all(
        (one.rule, one.measured, one.limit) == ("loosening.maxFamilies", f"{changed} at once", str(limit))
        for one in judgement.refusals
    )


@pytest.mark.parametrize(
    ("share", "of", "passing"),
    [
        ("0", 6, 0),
        ("0.5", 1, 0),
        ("0.5", 2, 1),
        ("0.5", 3, 1),
        ("0.5", 6, 3),
        ("0.34", 3, 1),
        ("0.33", 3, 0),
        ("0.1", 2, 0),
        ("0.1", 6, 0),
        ("0.1", 10, 1),
        ("0.999999", 6, 5),
        ("1", 2, 2),
    ],
)
def test_a_share_bites_in_a_small_file_as_in_a_large_one(share: str, of: int, passing: int) -> None:
    for changed in range(1, of + 1):
        judgement = judged(looser(changed), policy(share=share), unchanged=of - changed)
        assert bool(judgement.refusals) == (changed > passing)
        assert {one.measured for one in judgement.refusals} <= {f"{changed} of {of} at once"}


def test_a_limit_in_percent_is_reported_in_percent() -> None:
    judgement = judged(looser(2), policy(share="0.125"))
    assert judgement.refusals[0].limit == "12.5%"


def test_disabling_counts_as_loosening_and_tightening_does_not() -> None:
    changes = {
        BTC: ("5000/2000/100", "0/2000/100"),
        ETH: ("5000/2000/100", "9000/2000/400"),
        SOL: ("5000/2000/100", "5000/2000/50"),
        Family("ADA-USD"): ("0/2000/100", "0/2000/400"),
        Family("XRP-USD"): (None, "0/2000/400"),
    }
    assert rules_broken(judged(changes, policy(count=2, disable_allowed=True))) == [
        # Of a disabled family the quantity still gets looser, and it counts.
        ("ADA-USD", "loosening.maxFamilies"),
        (BTC, "loosening.maxFamilies"),
        (ETH, "loosening.maxFamilies"),
    ]


def test_an_overridden_family_is_not_counted() -> None:
    changes = looser(3)
    first, *others = changes
    judgement = judged(changes, policy(count=2), frozenset({Override(RefusalKind.LOOSEN, first)}))
    assert judgement.refusals == ()
    assert [one.family for one in judgement.overridden] == [first]
    judgement = judged(changes, policy(count=1), frozenset({Override(RefusalKind.LOOSEN, first)}))
    assert [one.family for one in judgement.refusals] == others
    assert {one.measured for one in judgement.refusals} == {"2 at once"}


# ---- bounds --------------------------------------------------------------------------------------

LIMITS = {
    TIME: bound("500", "60000", False),
    FREEZE: bound("1000", "3600000", False),
    QTY: bound("1", "1000"),
}


@pytest.mark.parametrize(
    ("after", "broken"),
    [
        ("500/1000/1", {}),
        ("60000/3600000/1000", {}),
        ("499/2000/100", {"bounds.timeInterval.min": ("499ms", "500ms")}),
        ("60001/2000/100", {"bounds.timeInterval.max": ("60001ms", "1m")}),
        ("0/2000/100", {"bounds.timeInterval.disabled": ("disabled", "deny")}),
        ("5000/999/100", {"bounds.frozenInterval.min": ("999ms", "1s")}),
        ("5000/3600001/100", {"bounds.frozenInterval.max": ("3600001ms", "1h")}),
        ("5000/0/100", {"bounds.frozenInterval.until-reset": ("until-reset", "deny")}),
        ("5000/2000/0.999", {"bounds.qtyLimit.min": ("0.999", "1")}),
        ("5000/2000/1000.50", {"bounds.qtyLimit.max": ("1000.5", "1000")}),
    ],
)
def test_a_field_outside_its_bound_is_refused_with_both_numbers(
    after: str, broken: dict[str, tuple[str, str]]
) -> None:
    under = policy(default=LIMITS, disable_allowed=True)
    written = check_file(desired({BTC: setting(after)}), under)
    assert {one.rule: (one.measured, one.limit) for one in written} == broken
    assert judged({BTC: (None, after)}, under).refusals == written
    assert {one.kind for one in written} <= {RefusalKind.BOUNDS}
    assert all(one.rule.startswith(f"bounds.{one.field}.") for one in written)


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("5000/2000/5000", "5000/2000/2000", False),
        ("5000/2000/2000", "9000/2000/2000", False),
        ("5000/2000/2000", "5000/2000/2001", True),
        ("5000/2000/100", "5000/2000/2000", True),
        ("5000/2000/0.5", "5000/2000/2000", True),
        ("5000/2000/0.1", "5000/2000/0.2", False),
        ("5000/2000/0.2", "5000/2000/0.1", True),
        ("100/2000/100", "200/2000/100", False),
        ("200/2000/100", "100/2000/100", True),
        ("0/2000/100", "200/2000/100", True),
        ("0/2000/100", "0/2000/50", False),
        ("5000/2000/100", "0/2000/50", True),
        ("5000/0/100", "5000/0/50", False),
        ("5000/2000/100", "5000/0/50", True),
        ("90000/2000/100", "80000/2000/100", False),
        ("80000/2000/100", "90000/2000/100", True),
    ],
)
def test_a_change_back_towards_the_bounds_is_never_refused_for_them(
    before: str, after: str, refused: bool
) -> None:
    found = judged({BTC: (before, after)}, policy(default=LIMITS, disable_allowed=True)).refusals
    assert bool(found) == refused


def test_only_families_that_change_are_refused_for_their_bounds() -> None:
    wanted = desired({BTC: setting("5000/2000/5000"), ETH: setting("5000/2000/5000")})
    under = policy(default=LIMITS)
    assert [one.family for one in check_file(wanted, under)] == [BTC, ETH]
    change = proposal(BTC, "5000/2000/100", "5000/2000/5000")
    assert [one.family for one in evaluate([change], wanted, under, NO_OVERRIDES, in_force=2).refusals] == [
        BTC
    ]


@pytest.mark.parametrize(
    ("family", "limits"),
    [
        ("BTC-USD", bound("5", "200", None)),
        ("BTC-USD_UM", bound("7", "300", None)),
        ("ETH-USD", bound("7", "1000", None)),
        ("ETH-USDT", bound("1", "1000", None)),
        ("XBTC-USD", bound("7", "1000", None)),
        ("SOL-USD_UM", bound("1", "2000", None)),
    ],
)
def test_the_most_specific_limit_counts_and_of_several_patterns_the_strictest(
    family: str, limits: Bound
) -> None:
    families = {
        "BTC-*": {QTY: bound("7", "400")},
        "BTC-USD": {QTY: bound("5", "200")},
        "*-USD_*M": {QTY: bound("1", "2000")},
        "*-USD": {QTY: bound("7", None)},
        "BTC-USD*": {QTY: bound(None, "300")},
    }
    for order in (families, dict(reversed(families.items()))):
        under = policy(default={QTY: bound("1", "1000")}, families=order)
        found = effective_bounds(Family(family), under)
        assert found == {TIME: Bound(), FREEZE: Bound(), QTY: limits}


@pytest.mark.parametrize(
    ("own", "pattern", "default", "allowed"),
    [
        (own, pattern, default, next((said for said in (own, pattern, default) if said is not None), None))
        for own, pattern, default in product((True, False, None), repeat=3)
    ],
)
def test_a_word_is_allowed_by_the_most_specific_that_says_so(
    own: bool | None, pattern: bool | None, default: bool | None, allowed: bool | None
) -> None:
    under = policy(
        default={TIME: bound(zero=default)},
        families={"BTC-USD": {TIME: bound(zero=own)}, "BTC-*": {TIME: bound(zero=pattern)}},
    )
    assert effective_bounds(BTC, under)[TIME].zero_allowed == allowed


def test_of_two_patterns_the_one_that_denies_a_word_wins() -> None:
    families = {"*-USD": {FREEZE: bound(zero=True)}, "BTC-*": {FREEZE: bound(zero=False)}}
    assert effective_bounds(BTC, policy(families=families))[FREEZE].zero_allowed is False
    assert effective_bounds(ETH, policy(families=families))[FREEZE].zero_allowed is True


@pytest.mark.parametrize(
    ("pattern", "family", "fits"),
    [
        ("*", "BTC-USD", True),
        ("BTC-*", "BTC-USD_UM", True),
        ("BTC-*", "XBTC-USD", False),
        ("*USD", "BTC-USD_UM", False),
        ("B*-U*D", "BTC-USD", True),
        ("BTC-USD*", "BTC-USD", True),
        ("BTC*USD*", "BTC-USD_UM", True),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, family: str, fits: bool) -> None:
    found = effective_bounds(Family(family), policy(families={pattern: {QTY: bound("5")}}))
    assert (found[QTY].minimum is not None) == fits


@pytest.mark.parametrize(
    ("family", "limits"),
    [
        ("BTC-USD", {"perTrip": "200", "perSecond": "9", "perMinute": "5000"}),
        ("BTC-USD_UM", {"perTrip": "300", "perSecond": "9", "perMinute": "5000"}),
        ("ETH-USD", {"perTrip": "400", "perMinute": "5000"}),
        ("SOL-USD", {"perMinute": "5000"}),
    ],
)
def test_the_most_specific_limit_of_each_figure_counts(family: str, limits: dict[str, str]) -> None:
    under = policy(
        exposure={Figure.PER_MINUTE: Decimal(5000)},
        family_exposures={
            "BTC-USD": {Figure.PER_TRIP: Decimal(200)},
            "BTC-*": {Figure.PER_TRIP: Decimal(300), Figure.PER_SECOND: Decimal(9)},
            "*T*": {Figure.PER_TRIP: Decimal(400)},
        },
    )
    found = effective_exposure(Family(family), under)
    assert {name.value: format_decimal(most) for name, most in found.items()} == limits


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        (None, "5000/2000/100", False),
        (None, "5000/2000/100.1", True),
        (None, "4999/2000/100", True),
        ("1000/2000/100", "2000/2000/100", False),
        ("2000/2000/100", "1000/2000/100", True),
        ("1000/2000/100", "1000/9000/100", False),
        # What is disabled excuses nothing, though no figure is larger than its own.
        ("0/2000/100", "1000/2000/100", True),
        ("5000/2000/100", "0/2000/900", False),
        ("0/2000/100", "0/2000/900", False),
    ],
)
def test_a_figure_above_its_limit_is_refused_unless_it_was_so_before(
    before: str | None, after: str, refused: bool
) -> None:
    under = policy(exposure={Figure.PER_SECOND: Decimal(20)}, disable_allowed=True)
    message = judged({BTC: (before, after)}, under).refusals
    assert [one.rule for one in message] == ["bounds.exposure.perSecond.max"] * refused
    assert {(one.kind, one.field, one.limit) for one in message} <= {(RefusalKind.BOUNDS, None, "20")}


def test_a_figure_above_its_limit_is_reported_with_both_numbers() -> None:
    under = policy(exposure={Figure.PER_MINUTE: Decimal("3099.9")})
    (message,) = judged({BTC: (None, "5000/2000/100")}, under).refusals
    assert message.sentence == "bounds.exposure.perMinute.max: 3100, limit 3099.9"
    assert message.allow == "--allow bounds:BTC-USD"


# ---- protected families --------------------------------------------------------------------------


def test_a_protected_family_has_to_be_in_the_file_whether_or_not_anything_changes() -> None:
    under = policy(protected=(BTC, SOL))
    wanted = desired({BTC: setting("5000/2000/100")})
    (refusal,) = check_file(wanted, under)
    assert (refusal.family, refusal.kind, refusal.measured) == (
        SOL,
        RefusalKind.PROTECTED,
        "not in the file",
    )
    assert evaluate([], wanted, under, NO_OVERRIDES, in_force=1).refusals == (refusal,)


@pytest.mark.parametrize("before", ["5000/2000/100", "0/2000/50", None])
def test_a_protected_family_is_not_disabled_even_where_disabling_is_allowed(before: str | None) -> None:
    under = policy(protected=(BTC,), disable_allowed=True)
    change = {BTC: (before, "0/2000/100")}
    assert rules_broken(judged(change, under)) == [(BTC, "protected")]
    assert rules_broken(judged({BTC: (before, "5000/2000/60")}, under)) == []


# ---- overrides, words, plans ---------------------------------------------------------------------


def test_an_override_allows_its_own_kind_and_family_and_is_reported_only_if_it_was_needed() -> None:
    under = policy(default=LIMITS, factor="2")
    change = {BTC: ("5000/2000/100", "5000/2000/5000"), ETH: ("5000/2000/100", "5000/2000/100")}
    both = {Override(RefusalKind.BOUNDS, BTC), Override(RefusalKind.LOOSEN, BTC)}
    needless = {
        Override(RefusalKind.DISABLE, BTC),
        Override(RefusalKind.LOOSEN, ETH),
        Override(RefusalKind.MIXED, BTC),
    }
    for allowed in chain.from_iterable(combinations(both | needless, size) for size in range(6)):
        judgement = judged(change, under, frozenset(allowed))
        assert {one.override for one in judgement.refusals} == both - set(allowed)
        assert {one.override for one in judgement.overridden} == both & set(allowed)


def test_a_refusal_says_rule_value_limit_and_the_override_that_would_do() -> None:
    (refusal,) = judged({BTC: ("5000/2000/100", "5000/2000/400")}, policy(factor="2")).refusals
    assert refusal.sentence == "loosening.maxFactor: ×4, limit ×2"
    assert refusal.allow == "--allow loosen:BTC-USD"
    (refusal,) = judged(looser(1), policy(count=0)).refusals
    assert refusal.sentence == "loosening.maxFamilies: 1 at once, limit 0"


def test_refusals_are_sorted_by_family_rule_and_field() -> None:
    changes = {ETH: ("9000/4000/100", "3000/1000/900"), BTC: ("9000/4000/100", "3000/1000/900")}
    limits = {QTY: bound(None, "800"), TIME: bound("4000", None)}
    under = policy(default=limits, factor="2", count=1)
    rules = [
        ("bounds.qtyLimit.max", QTY),
        ("bounds.timeInterval.min", TIME),
        ("loosening.maxFactor", None),
        ("loosening.maxFamilies", None),
    ]
    assert [(one.family, one.rule, one.field) for one in judged(changes, under).refusals] == [
        (family, *rule) for family in (BTC, ETH) for rule in rules
    ]


@pytest.mark.parametrize(
    ("value", "text"), [("4", "4"), ("2.50", "2.5"), ("100", "100"), ("1E+3", "1000"), ("0.10", "0.1")]
)
def test_a_decimal_is_written_plainly(value: str, text: str) -> None:
    assert format_decimal(Decimal(value)) == text


def test_no_interval_at_all_is_written_as_a_zero() -> None:
    assert interval_text(0) == "0"


def held(plan: Plan) -> dict[str, HoldReason | None]:
    return {change.family: change.because for change in plan.changes if change.action is Action.HOLD}


def test_a_plan_holds_what_is_refused_and_nothing_else() -> None:
    wanted = {BTC: setting("5000/2000/400"), ETH: setting("5000/2000/150"), SOL: setting("0/2000/100")}
    known: dict[Family, Known] = {family: confirmed("5000/2000/100") for family in wanted}
    under = PlanConstraints(policy=policy(factor="2", disable_allowed=True, protected=(Family("XAU-USD"),)))
    plan = plan_of(wanted, known, rules=under)
    assert held(plan) == {BTC: HoldReason.POLICY}
    assert [change.family for change in plan.requests] == [ETH, SOL]
    assert [(one.family, one.kind) for one in plan.refusals] == [
        (BTC, RefusalKind.LOOSEN),
        ("XAU-USD", RefusalKind.PROTECTED),
    ]
    assert held(plan_of(wanted, known)) == {SOL: HoldReason.GUARD}


# ---- an enable is measured from the last enabled setting on record --------------------------------


@pytest.mark.parametrize(
    ("known", "live", "after", "message"),
    [
        # Switched off by hand, and a file of another setting comes: from the last proof.
        ("5000/2000/100", "0/2000/100", "5000/2000/400", ["loosening.maxFactor ×4"]),
        (
            "5000/2000/100",
            "0/2000/100",
            "5000/2000/100000",
            ["floor.factor ×1000", "loosening.maxFactor ×1000"],
        ),
        ("5000/2000/100", "0/2000/100", "5000/2000/200", []),
        ("5000/2000/100", "0/2000/100", "5000/2000/100", []),
        ("5000/2000/100", "0/2000/100", "1000/2000/20", []),
        ("5000/2000/100", "0/2000/100", "50/2000/1", ["floor.timeInterval 50ms"]),
        # A row that is gone lifts no limit either.
        ("5000/2000/100", None, "5000/2000/400", ["loosening.maxFactor ×4"]),
        # The last enabled setting is not on record: the factor is not known.
        ("0/2000/100", "0/2000/100", "5000/2000/99999", []),
    ],
)
def test_an_enable_is_measured_from_the_last_enabled_setting_on_record(
    known: str, live: str | None, after: str, message: list[str]
) -> None:
    missing = MissingRow(950.0, 1, gone_at=950.5, single_read_at=950.5)
    gone = Reads(read(950, {}), missing={BTC: missing})
    reads = gone if live is None else Reads(read(NOW, {BTC: row(live)}))
    record: dict[Family, Known] = {BTC: confirmed(known)}
    plan = plan_of({BTC: setting(after)}, record, reads, PlanConstraints(policy=policy(factor="2")))
    (change,) = plan.changes
    assert [f"{one.rule} {one.measured}" for one in plan.refusals] == message
    assert change.direction is Direction.ENABLE
    off = known.startswith("0")
    assert change.measured_from == (None if off else setting(known))
    assert (change.factor is None) == off


def test_the_first_setting_of_a_family_is_not_held_for_what_a_row_once_showed() -> None:
    """Somebody else's row, until-reset, is gone: nothing was ever accepted, and nothing protects now."""
    missing = MissingRow(950.0, 1, gone_at=950.5, single_read_at=950.5)
    rows = {BTC: SeenRow(row("5000/0/100"), 940.0)}
    reads = Reads(read(950, {}), missing={BTC: missing}, rows=rows)
    plan = plan_of({BTC: setting("5000/2000/100")}, {}, reads)
    assert [(one.action, one.factor, one.measured_from) for one in plan.changes] == [
        (Action.SET, None, None)
    ]
    under = PlanConstraints(policy=policy(factor="2"))
    refusals = plan_of({BTC: setting("5000/2000/100")}, {}, reads, under).refusals
    assert [one.rule for one in refusals] == ["loosening.maxFactor"]
    record: dict[Family, Known] = {BTC: Uncertain(None, (unresolved("5000/0/100"),))}
    refusals = plan_of({BTC: setting("5000/2000/100")}, record, reads).refusals
    assert [one.measured for one in refusals] == ["unlimited"]


def test_the_digest_covers_what_the_factor_is_measured_from_where_that_is_not_before() -> None:
    reads = Reads(read(NOW, {BTC: row("0/2000/100")}))
    digests = {
        plan_of({BTC: setting("5000/2000/100")}, {BTC: confirmed(known)}, reads).digest
        for known in ("0/2000/100", "5000/2000/50", "5000/2000/60", "5000/2000/60.0")
    }
    assert len(digests) == 3


def test_a_plan_tells_which_refusals_were_overridden() -> None:
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    under = PlanConstraints(
        policy=policy(factor="2"), allowed=frozenset({Override(RefusalKind.LOOSEN, BTC)})
    )
    plan = plan_of({BTC: setting("5000/2000/400")}, known, rules=under)
    assert plan.requests
    assert plan.refusals == ()
    assert [one.sentence for one in plan.overridden] == ["loosening.maxFactor: ×4, limit ×2"]


# ---- slices: a plan that is narrowed or put off is judged as the whole file is -------------------

THREE = {BTC: setting("5000/2000/101"), ETH: setting("5000/2000/101"), SOL: setting("5000/2000/101")}
"""Each of them a little looser than the 100 that is in force."""

IN_FORCE: dict[Family, Known] = {family: confirmed("5000/2000/100") for family in THREE}


def named(families: frozenset[Family]) -> str:
    return ",".join(sorted(families))


def slices(families: Iterable[Family]) -> list[frozenset[Family]]:
    listed = list(families)
    sizes = range(1, len(listed) + 1)
    return [frozenset(few) for size in sizes for few in combinations(listed, size)]


@pytest.mark.parametrize("under", [policy(count=2), policy(share="0.7")], ids=["count", "share"])
@pytest.mark.parametrize("only", slices(THREE), ids=named)
def test_what_is_too_much_at_once_does_not_pass_in_slices(only: frozenset[Family], under: Policy) -> None:
    plan = plan_of(THREE, IN_FORCE, rules=PlanConstraints(policy=under, only=only))
    assert plan.requests == ()
    assert held(plan) == dict.fromkeys(only, HoldReason.POLICY)
    assert {refusal.family for refusal in plan.refusals} == only
    assert all(refusal.measured.startswith("3 ") for refusal in plan.refusals)


@pytest.mark.parametrize("only", slices(THREE), ids=named)
def test_nor_do_the_slices_of_a_plan_file_pass(only: frozenset[Family]) -> None:
    """The file covers a few families; the others are not stale in it, they were never looked at."""
    promised = {family: (setting("5000/2000/100"), THREE[family]) for family in only}
    rules = PlanConstraints(policy=policy(count=2), only=only, reviewed=promised)
    plan = plan_of(THREE, IN_FORCE, rules=rules)
    assert held(plan) == dict.fromkeys(only, HoldReason.POLICY)


def test_a_family_of_the_plan_file_that_has_moved_is_skipped_and_does_not_count() -> None:
    promised = {family: (setting("5000/2000/100"), THREE[family]) for family in (BTC, ETH)}
    plan = plan_of(THREE, IN_FORCE, rules=PlanConstraints(policy=policy(count=2), reviewed=promised))
    assert held(plan) == {SOL: HoldReason.STALE}


@pytest.mark.parametrize("paused", slices(THREE), ids=named)
def test_nor_does_it_pass_while_some_of_it_is_paused(paused: frozenset[Family]) -> None:
    plan = plan_of(THREE, IN_FORCE, rules=PlanConstraints(policy=policy(count=2), paused=paused))
    assert held(plan) == {
        family: HoldReason.PAUSED if family in paused else HoldReason.POLICY for family in THREE
    }
    assert {refusal.family for refusal in plan.refusals} == THREE.keys() - paused


def test_a_drift_that_is_paused_does_not_count() -> None:
    drifted: dict[Family, Known] = {**IN_FORCE, BTC: confirmed("5000/2000/101")}
    rows = {BTC: row("5000/2000/1"), ETH: row("5000/2000/100"), SOL: row("5000/2000/100")}
    reads = Reads(read(NOW, rows))
    under = PlanConstraints(policy=policy(count=2), paused=frozenset({BTC}))
    assert held(plan_of(THREE, drifted, reads, under)) == {BTC: HoldReason.PAUSED}
    assert held(plan_of(THREE, drifted, reads, PlanConstraints(policy=policy(count=3)))) == {}
    assert held(plan_of(THREE, drifted, reads, PlanConstraints(policy=policy(count=2)))) == {
        BTC: HoldReason.POLICY
    }
    assert set(held(plan_of(THREE, drifted, reads, PlanConstraints(policy=policy(count=1))))) == {ETH, SOL}
    assert set(held(plan_of(THREE, drifted, reads, PlanConstraints(policy=policy(count=0))))) == {
        BTC,
        ETH,
        SOL,
    }


def test_what_is_left_out_refuses_nothing_else_but_what_is_gone_does() -> None:
    wanted = {BTC: setting("5000/2000/50"), ETH: setting("0/2000/100"), SOL: setting("5000/2000/9999")}
    under = policy(default={QTY: bound(None, "200")}, factor="2", protected=(Family("XAU-USD"),))
    looser = {**wanted, BTC: setting("5000/2000/150")}
    plan = plan_of(looser, IN_FORCE, rules=PlanConstraints(policy=under, only=frozenset({BTC})))
    assert [change.family for change in plan.requests] == [BTC]
    assert [(one.family, one.rule) for one in plan.refusals] == [("XAU-USD", "protected")]
    tighter = plan_of(wanted, IN_FORCE, rules=PlanConstraints(policy=under, only=frozenset({BTC})))
    assert (len(tighter.requests), tighter.refusals) == (1, ()), "what is gone does not hold up protection"
    nothing = plan_of(
        {BTC: setting("5000/2000/100")},
        IN_FORCE,
        rules=PlanConstraints(policy=under, only=frozenset({BTC})),
    )
    assert [one.family for one in nothing.refusals] == ["XAU-USD"]
    alone = plan_of(wanted, IN_FORCE, rules=PlanConstraints(only=frozenset({BTC})))
    assert (len(alone.requests), alone.refusals) == (1, ())


def test_an_override_applies_only_where_its_family_is_about_to_be_changed() -> None:
    """Else naming a family that stays out would make room for others and leave no trace."""
    rules = PlanConstraints(policy=policy(count=2), only=frozenset({BTC}))
    other = replace(rules, allowed=frozenset({Override(RefusalKind.LOOSEN, ETH)}))
    plan = plan_of(THREE, IN_FORCE, rules=other)
    assert (held(plan), plan.overridden) == ({BTC: HoldReason.POLICY}, ())
    own = replace(rules, allowed=frozenset({Override(RefusalKind.LOOSEN, BTC)}))
    plan = plan_of(THREE, IN_FORCE, rules=own)
    assert (len(plan.requests), [one.family for one in plan.overridden]) == (1, [BTC])
    gone = PlanConstraints(policy=policy(protected=(Family("XAU-USD"),)))
    allowed = replace(gone, allowed=frozenset({Override(RefusalKind.PROTECTED, Family("XAU-USD"))}))
    assert plan_of(THREE, IN_FORCE, rules=gone).refusals
    assert plan_of(THREE, IN_FORCE, rules=allowed).refusals == ()


# ---- what a share is of ----------------------------------------------------------------------------

PADDING = Family("PAD1-USD"), Family("PAD2-USD"), Family("PAD3-USD")


def accepted_since(*entries: tuple[str, timedelta | None]) -> History:
    """Return accepted settings and their ages; None: it is not known when."""
    return tuple(
        Acceptance(setting(text), number, None if age is None else WALL - age)
        for number, (text, age) in enumerate(entries, 1)
    )


A_DAY, AN_HOUR = timedelta(hours=24), timedelta(hours=1)
OLD = accepted_since(("5000/2000/100", A_DAY))


@pytest.mark.parametrize(
    ("padding", "of"),
    [
        (OLD, 5),
        (accepted_since(("5000/2000/100", timedelta(days=400)), ("5000/2000/50", AN_HOUR)), 5),
        ((), 2),
        (accepted_since(("5000/2000/100", A_DAY - timedelta(seconds=1))), 2),
        (accepted_since(("5000/2000/100", None)), 2),
        (accepted_since(("5000/2000/100", -AN_HOUR)), 2),
        (accepted_since(("0/2000/100", A_DAY)), 2),
        # Switched off for a moment within the 24 hours, or until within them.
        (accepted_since(("5000/2000/100", 2 * A_DAY), ("0/2000/9", AN_HOUR), ("5000/2000/1", AN_HOUR)), 2),
        (accepted_since(("0/2000/100", 2 * A_DAY), ("5000/2000/100", AN_HOUR)), 2),
    ],
)
@pytest.mark.parametrize("live", [None, "5000/2000/100", "0/2000/100"])
def test_a_share_is_of_what_was_accepted_as_enabled_for_24_hours_so_padding_does_not_enlarge_it(
    padding: History, of: int, live: str | None
) -> None:
    wanted = {BTC: setting("5000/2000/101"), ETH: setting("5000/2000/100")}
    wanted |= {family: padding[-1].setting if padding else setting("5000/2000/100") for family in PADDING}
    rows = {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}
    rows |= {family: row(live) for family in PADDING if live}
    history = {BTC: OLD, ETH: OLD, **dict.fromkeys(PADDING, padding)}
    for share, refused in (("0.4", of == 2), ("0.1", True)):
        rules = PlanConstraints(policy=policy(share=share), accepted=history, wall=WALL, controller=True)
        message = [
            one.measured for one in plan_of(wanted, IN_FORCE, Reads(read(NOW, rows)), rules).refusals
        ]
        assert message == [f"1 of {of} at once"] * refused
    unknown = PlanConstraints(policy=policy(share="1"), accepted=history)
    (refusal,) = plan_of(wanted, IN_FORCE, Reads(read(NOW, rows)), unknown).refusals
    assert refusal.measured == "1 of 0 at once", "without the time of day nothing is proven"


def test_a_disabled_family_neither_uses_up_a_share_nor_enlarges_it() -> None:
    changes = {BTC: ("0/2000/100", "0/2000/400"), ETH: ("5000/2000/100", "5000/2000/101")}
    assert rules_broken(judged(changes, policy(share="0.5"))) == [(ETH, "loosening.maxShare")]
    assert rules_broken(judged(changes, policy(share="1"))) == []
    assert rules_broken(judged({BTC: changes[BTC]}, policy(share="0"))) == []
    assert rules_broken(judged({BTC: changes[BTC]}, policy(count=0))) == [(BTC, "loosening.maxFamilies")]


# ---- the digest ------------------------------------------------------------------------------------


def test_a_plan_has_the_digest_it_has_without_overrides() -> None:
    """So what was printed, and reviewed, can be expected and let pass at once."""
    under = PlanConstraints(policy=policy(factor="2", count=1))
    wanted = {**THREE, BTC: setting("5000/2000/400")}
    reviewed = plan_of(wanted, IN_FORCE, rules=under)
    names = [Override(RefusalKind.LOOSEN, family) for family in THREE]
    for allowed in chain.from_iterable(combinations(names, size) for size in range(4)):
        plan = plan_of(wanted, IN_FORCE, rules=replace(under, allowed=frozenset(allowed)))
        assert plan.digest == reviewed.digest
        assert {one.family for one in plan.overridden} >= {one.family for one in allowed}
        assert {change.family for change in plan.requests} == {one.family for one in reviewed.refusals} - {
            one.family for one in plan.refusals
        }
        assert plan.digest_of({BTC}) == reviewed.digest_of({BTC})
    assert reviewed.digest != plan_of(wanted, IN_FORCE).digest


# ---- the small world -----------------------------------------------------------------------------

WINDOWS, FREEZES, QUANTITIES = (0, 1000, 3000), (0, 1000, 3000), ("1", "2.5", "6")
SETTINGS = [f"{window}/{freeze}/{qty}" for window, freeze, qty in product(WINDOWS, FREEZES, QUANTITIES)]
BOUNDS: dict[str, Mapping[Field, Bound]] = {
    "none": {},
    "windows": {TIME: bound("2000", None, False)},
    "freezes": {FREEZE: bound(None, "2000", False), QTY: bound("2", "5")},
}
EXPOSURES: dict[str, Exposures] = {
    "none": {},
    "windows": {Figure.PER_SECOND: Decimal(2)},
    "freezes": {Figure.PER_TRIP: Decimal(5), Figure.PER_MINUTE: Decimal("52.5")},
}
LOW, HIGH = Floor(), Floor(2000, Decimal(6))
POLICIES = [
    policy(
        default=BOUNDS[name],
        exposure=EXPOSURES[name],
        factor=factor,
        disable_allowed=disable,
        floor=floor,
        protected=protected,
    )
    for name, factor, (disable, floor), protected in product(
        BOUNDS, (None, "1", "2.5", "6"), ((True, HIGH), (False, LOW), (False, HIGH)), ((), (BTC,))
    )
]


def oracle(before: str | None, after: str, under: Policy) -> set[tuple[str, str]]:
    """Return (kind, rule) of every refusal of one change of BTC-USD, from texts and fractions alone."""
    found: set[tuple[str, str]] = set()
    was = None if before is None else [Fraction(part) for part in before.split("/")]
    now = [Fraction(part) for part in after.split("/")]
    enabled = was is not None and was[0] != 0
    if now[0] == 0 and enabled and not under.disable_allowed:
        found.add(("disable", "disable"))
    if now[0] == 0 and under.protected:
        found.add(("protected", "protected"))
    for place, name in enumerate(("timeInterval", "frozenInterval", "qtyLimit")):
        excuses = was is not None and (enabled or now[0] == 0)
        found |= oracle_of_bounds(place, name, was[place] if was and excuses else None, now[place], under)
    found |= oracle_of_exposure(was if enabled else None, now, under)
    kind, limit = oracle_of_kind(was, now), under.loosening.max_factor
    most = (
        None
        if was is None or (now[0] and not was[0]) or (enabled and not now[0])
        else oracle_factor(was, now)
    )
    if kind and limit is not None and most is not None and most > Fraction(limit):
        found.add((kind, "loosening.maxFactor"))
    if enabled and was is not None and now[0] and not under.disable_allowed:
        if now[0] < under.floor.time_interval_ms and now[0] < was[0]:
            found.add(("disable", "floor.timeInterval"))
        if most is not None and most >= Fraction(under.floor.factor):
            found.add(("disable", "floor.factor"))
    return found


ENDLESS = Fraction(10**9)
"""A freeze until reset, in ms: longer than any window, and than any factor of these worlds."""


def oracle_figures(setting: list[Fraction]) -> list[Fraction]:
    """Return contracts per trip, per second and per minute of window, freeze and quantity in ms."""
    window, freeze, quantity = setting[0], setting[1] or ENDLESS, setting[2]
    trips = 60_000 / min(window, freeze)
    return [quantity, quantity / (window / 1000), quantity + quantity * trips]


def oracle_factor(was: list[Fraction], now: list[Fraction]) -> Fraction:
    freeze = (was[1] or ENDLESS) / (now[1] or ENDLESS)
    if now[0] == 0:
        return max(freeze, now[2] / was[2])
    return max(freeze, *(a / b for a, b in zip(oracle_figures(now), oracle_figures(was), strict=True)))


def oracle_of_exposure(
    was: list[Fraction] | None, now: list[Fraction], under: Policy
) -> set[tuple[str, str]]:
    """Return what is above its limit, and was less far above it; ``was``: an enabled setting, or None."""
    found = set()
    for place, name in enumerate(("perTrip", "perSecond", "perMinute")):
        most = next((Fraction(most) for key, most in under.default_exposure.items() if key == name), None)
        if most is None or now[0] == 0 or oracle_figures(now)[place] <= most:
            continue
        if was is None or oracle_figures(was)[place] < oracle_figures(now)[place]:
            found.add(("bounds", f"bounds.exposure.{name}.max"))
    return found


def oracle_of_kind(was: list[Fraction] | None, now: list[Fraction]) -> str | None:
    if was is None or (was[0] == 0) > (now[0] == 0):
        return None
    if was[0] > now[0] == 0:
        return "disable"
    freeze = [side[1] or ENDLESS for side in (was, now)]
    looser = now[0] < was[0] or freeze[1] < freeze[0] or now[2] > was[2]
    tighter = now[0] > was[0] or freeze[1] > freeze[0] or now[2] < was[2]
    return {(True, True): "mixed", (True, False): "loosen"}.get((looser, tighter))


def oracle_of_bounds(
    place: int, name: str, was: Fraction | None, now: Fraction, under: Policy
) -> set[tuple[str, str]]:
    said = under.default.get(Field(name))
    if said is None:
        return set()
    if now == 0 and place < 2:
        word = ("disabled", "until-reset")[place]
        return {("bounds", f"bounds.{name}.{word}")} if said.zero_allowed is False and was != 0 else set()
    if said.minimum is not None and now < Fraction(said.minimum):
        return set() if was and was <= now else {("bounds", f"bounds.{name}.min")}
    if said.maximum is not None and now > Fraction(said.maximum):
        return set() if was is not None and was >= now else {("bounds", f"bounds.{name}.max")}
    return set()


def pairs() -> Iterator[tuple[str | None, str]]:
    yield from product((None, *SETTINGS), SETTINGS)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_every_change_of_a_small_world_is_judged_as_the_oracle_does() -> None:
    count = 0
    for before, after in pairs():
        wanted = desired({BTC: setting(after)})
        change = proposal(BTC, before, after)
        for under in POLICIES:
            judgement = evaluate([change], wanted, under, NO_OVERRIDES, in_force=1)
            message = {(one.kind.value, one.rule) for one in judgement.refusals}
            assert message == oracle(before, after, under), (before, after, under)
            count += 1
    assert count == 28 * 27 * 72


def test_a_refused_file_is_refused_as_a_change_from_nothing_is() -> None:
    for after, under in product(SETTINGS, POLICIES):
        wanted = desired({BTC: setting(after)})
        message = {(one.kind.value, one.rule) for one in check_file(wanted, under)}
        assert message == oracle(None, after, under)


COUNTING = {
    "loosen": ("3000/3000/1", "3000/3000/2.5"),
    "mixed": ("3000/3000/1", "9000/3000/2.5"),
    "disable": ("3000/3000/1", "0/3000/1"),
    "tighten": ("3000/3000/2.5", "3000/3000/1"),
    "unchanged": ("3000/3000/1", "3000/3000/1"),
}


@cache
def counting_policies(of: int) -> list[tuple[int, Fraction, Policy]]:
    """Return every count and every share in sixths that can matter to so many families, as policies."""
    return [
        (most, Fraction(share), policy(count=most, share=str(share), disable_allowed=True))
        for most, share in product(range(of + 1), [Decimal(sixths) / 6 for sixths in range(7)])
    ]


def mixtures(of: int) -> Iterator[tuple[str, ...]]:
    """Yield every mixture of ways; of four families the three that nothing sets apart in one order only.

    The first may be overridden. That the others may stand in any order is shown by three families.
    """
    if of < 4:
        yield from product(COUNTING, repeat=of)
    else:
        others = combinations_with_replacement(COUNTING, of - 1)
        yield from ((first, *rest) for first, rest in product(COUNTING, others))


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("of", [1, 2, 3, 4])
def test_counts_and_shares_over_every_mixture_of_a_few_families(of: int) -> None:
    """Every mixture, every count, every share in sixths, and every set of overrides of one family."""
    names = [Family(f"F{number}-USD") for number in range(of)]
    for ways in mixtures(of):
        wanted = desired({name: setting(COUNTING[way][1]) for name, way in zip(names, ways, strict=True)})
        changes = [
            proposal(name, *COUNTING[way])
            for name, way in zip(names, ways, strict=True)
            if way != "unchanged"
        ]
        counting = [name for name, way in zip(names, ways, strict=True) if way in KINDS]
        for overridden in (False, True) if ways[0] in KINDS else (False,):
            allowed = frozenset({Override(RefusalKind(ways[0]), names[0])} if overridden else ())
            counted = counting[overridden:]
            for most, share, under in counting_policies(of):
                message = {
                    one.family for one in evaluate(changes, wanted, under, allowed, in_force=of).refusals
                }
                refused = len(counted) > most or Fraction(len(counted), of) > share
                assert message == (set(counted) if refused else set())


KINDS = frozenset({"loosen", "mixed", "disable"})


def test_every_kind_is_named_after_what_it_overrides() -> None:
    assert {kind.value for kind in RefusalKind} == KINDS | {"bounds", "protected"}
    assert str(Override(RefusalKind.BOUNDS, BTC)) == "bounds:BTC-USD"
    assert Refusal(RefusalKind.BOUNDS, BTC, "rule", "1", "2").override == Override(RefusalKind.BOUNDS, BTC)
    assert {Direction.LOOSEN, Direction.MIXED, Direction.DISABLE} == {Direction(kind) for kind in KINDS}


# ---- a policy that cannot be read ----------------------------------------------------------------


EVERY_WAY: dict[Direction, tuple[str | None, str]] = {
    Direction.ENABLE: ("0/2000/100", "5000/2000/100"),
    Direction.TIGHTEN: ("5000/2000/100", "5000/2000/50"),
    Direction.MIXED: ("5000/2000/100", "9000/2000/400"),
    Direction.LOOSEN: ("5000/2000/100", "5000/2000/101"),
    Direction.DISABLE: ("5000/2000/100", "0/2000/100"),
}


@pytest.mark.parametrize("last_good", [None, policy(disable_allowed=True), policy(factor="1")])
@pytest.mark.parametrize("way", Direction)
def test_under_a_policy_that_cannot_be_read_nothing_becomes_less_safe(
    way: Direction, last_good: Policy | None
) -> None:
    before, after = EVERY_WAY[way]
    known: dict[Family, Known] = {BTC: confirmed(before or "")}
    every_allow = frozenset(Override(kind, BTC) for kind in RefusalKind)
    rules = PlanConstraints(policy=last_good, policy_unreadable=True, allowed=every_allow)
    plan = plan_of({BTC: setting(after)}, known, rules=rules)
    (change,) = plan.changes
    less_safe = way in (Direction.MIXED, Direction.LOOSEN, Direction.DISABLE)
    assert change.direction is way
    assert (change.action, change.because) == (
        (Action.HOLD, HoldReason.POLICY) if less_safe else (Action.SET, None)
    )
    assert [one.sentence for one in plan.refusals] == (
        [f"policy: {way.value} while the policy file cannot be read, limit enable and tighten"] * less_safe
    )
    assert not any(one.overridable for one in plan.refusals)


@pytest.mark.parametrize("last_good", [None, policy(factor="4", default={QTY: bound("10")})])
def test_under_a_policy_that_cannot_be_read_the_last_good_one_judges_the_rest(
    last_good: Policy | None,
) -> None:
    rules = PlanConstraints(policy=last_good, policy_unreadable=True)
    plan = plan_of({BTC: setting("5000/2000/5")}, {BTC: confirmed("5000/2000/100")}, rules=rules)
    assert [one.rule for one in plan.refusals] == ["bounds.qtyLimit.min"] * (last_good is not None)
    assert all(one.overridable for one in plan.refusals)


def test_drift_that_became_looser_is_put_back_under_a_policy_that_cannot_be_read() -> None:
    plan = plan_of(
        {BTC: setting("5000/2000/100")},
        {BTC: confirmed("5000/2000/100")},
        Reads(read(990, {BTC: row("5000/2000/400")})),
        rules=PlanConstraints(policy_unreadable=True),
    )
    assert [(one.action, one.direction) for one in plan.changes] == [(Action.SET, Direction.TIGHTEN)]


@pytest.mark.parametrize(("earlier", "refused"), [("5000/2000/50", True), ("5000/2000/100", False)])
def test_an_unreadable_policy_holds_what_may_loosen_an_earlier_request_that_is_still_open(
    earlier: str, refused: bool
) -> None:
    """An emergency of 50 was sent, then 400 by name: a file of 100 tightens that, and may loosen the 50."""
    open_one = unresolved(earlier, attempt=5)
    known = {BTC: Uncertain(confirmed("5000/2000/400", attempt=6), (open_one,))}
    history = (Acceptance(setting(earlier), 5), Acceptance(setting("5000/2000/400"), 6))
    rules = PlanConstraints(policy_unreadable=True, accepted={BTC: history})
    reads = Reads(read(990, {BTC: row("5000/2000/400")}))
    plan = plan_of({BTC: setting("5000/2000/100")}, known, reads, rules)
    message = "policy: may loosen what an earlier request set while the policy file cannot be read, limit "
    assert [one.sentence for one in plan.refusals] == [f"{message}enable and tighten"] * refused


def test_an_unreadable_policy_holds_what_nothing_is_known_of() -> None:
    now = setting("5000/2000/100")
    unknown = ProposedChange(BTC, None, now, may_be_enabled=True, unknown=True)
    wanted = desired({BTC: now})
    (refusal,) = evaluate([unknown], wanted, None, frozenset(), in_force=1, unreadable=True).refusals
    assert (refusal.family, refusal.kind) == (BTC, RefusalKind.LOOSEN)
    known = replace(unknown, unknown=False)
    assert evaluate([known], wanted, None, frozenset(), in_force=1, unreadable=True).refusals == ()


@pytest.mark.parametrize(("may_be", "refused"), [("5000/2000/50", False), ("5000/2000/10", True)])
def test_a_factor_is_judged_against_whatever_an_open_request_may_have_set(
    may_be: str, refused: bool
) -> None:
    policy = Policy("mmp-policy.yaml", "", loosening=Loosening(Decimal(2), None, None))
    one = replace(proposal(BTC, "5000/2000/99", "5000/2000/100"), may_be=(setting(may_be),))
    tighter = replace(one, may_be=(setting("5000/2000/150"), setting(may_be)))
    for each in (one, tighter):
        found = evaluate([each], desired({BTC: each.after}), policy, frozenset(), in_force=1).refusals
        assert bool(found) == refused
    tightens = replace(one, before=setting("5000/2000/200"))
    assert evaluate([tightens], desired({BTC: one.after}), policy, frozenset(), in_force=1).refusals == ()


def test_what_was_only_ever_off_has_no_setting_that_an_emergency_returns_to() -> None:
    under = replace(policy(factor="2"), loosening=Loosening(Decimal(2), per=timedelta(hours=24)))
    one = replace(proposal(BTC, "5000/2000/1", "5000/2000/100000"), at_start=setting("0/2000/1"))
    found = evaluate([one], desired({BTC: one.after}), under, frozenset(), in_force=1).refusals
    assert [refusal.rule for refusal in found] == ["floor.factor", "loosening.maxFactor"]


def test_without_live_reads_a_change_is_measured_from_all_that_may_be_in_force() -> None:
    """A request of 200 got no answer, so 100 may still be in force."""
    known = {BTC: Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/200"),))}
    rules = PlanConstraints(policy=policy(factor="2"), controller=True)
    plan = plan_of({BTC: setting("5000/2000/400")}, known, rules=rules)
    assert [(one.rule, one.measured) for one in plan.refusals] == [("loosening.maxFactor", "×4")]
    read_first = plan_of({BTC: setting("5000/2000/400")}, known, rules=replace(rules, reads_live=True))
    assert read_first.refusals == (), "then live tells"
