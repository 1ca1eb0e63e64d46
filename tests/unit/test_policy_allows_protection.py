"""No policy stands in the way of protection, and none lets a risk pass by a detour: over small worlds.

Every accepted, live and desired setting of a small world is planned for under many policies, by a
controller and by an explicit act. What must be true is checked on the requests, with a measure of risk of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest

from reconciler.core.change_direction import Direction
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.exposure import Figure
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Acceptance,
    Confirmed,
    Family,
    Field,
    Known,
    OpenAttempt,
    Setting,
    Uncertain,
)
from reconciler.core.plan import Action, Change, HoldReason, Plan, PlanConstraints
from reconciler.core.policy import Bound, Loosening, Override, Policy, RefusalKind
from tests.unit.builders import BTC, ETH, confirmed, plan_of, read, row, setting, unresolved

WORLD = [
    *(f"{one}/{two}/{three}" for one, two, three in product((1000, 3000), (0, 1000), ("2", "6"))),
    "0/1000/2",
    "0/0/6",
]
SETTINGS = [setting(text) for text in WORLD]
ENABLED = [one for one in SETTINGS if not one.disabled]

INFINITE = Fraction(10**12)
"""Stands for what has no limit."""


NO_BOUNDS: dict[Field, Bound] = {}


def policy(
    factor: str | None = None,
    per: timedelta | None = None,
    *,
    default: dict[Field, Bound] = NO_BOUNDS,
    disable_allowed: bool = False,
) -> Policy:
    limit = Loosening(None if factor is None else Decimal(factor), per=per)
    return Policy(
        "mmp-policy.yaml", "1" * 64, default=default, loosening=limit, disable_allowed=disable_allowed
    )


def at_least(value: str) -> Bound:
    return Bound(minimum=Decimal(value))


def at_most(value: str) -> Bound:
    return Bound(maximum=Decimal(value))


POLICIES: dict[str, PlanConstraints] = {
    "guard alone": PlanConstraints(),
    "factor 1": PlanConstraints(policy=policy("1")),
    "factor 3": PlanConstraints(policy=policy("3")),
    "factor 3 a day": PlanConstraints(policy=policy("3", timedelta(days=1))),
    "quantity bounds": PlanConstraints(
        policy=policy(default={Field.QTY_LIMIT: Bound(Decimal(3), Decimal(5))})
    ),
    "window bounds": PlanConstraints(policy=policy("1", default={Field.TIME_INTERVAL: at_most("2000")})),
    "freeze bounds": PlanConstraints(
        policy=policy(default={Field.FROZEN_INTERVAL: Bound(Decimal(1500), None, zero_allowed=False)})
    ),
    "exposure": PlanConstraints(
        policy=replace(policy(), default_exposure={Figure.PER_TRIP: Decimal("0.1")})
    ),
    "no family may get looser": PlanConstraints(
        policy=replace(policy(), loosening=Loosening(max_families=0, max_share=Decimal(0)))
    ),
    "unreadable": PlanConstraints(policy_unreadable=True),
    "unreadable, with a last good one": PlanConstraints(policy_unreadable=True, policy=policy("1")),
}


def tightness(one: Setting) -> tuple[int, float, int]:
    freeze = float("inf") if one.frozen_interval_ms == 0 else one.frozen_interval_ms
    return one.time_interval_ms, freeze, -int(one.qty_limit.value)


def no_looser(one: Setting, than: Setting) -> bool:
    """Tell whether no field of ``one`` is looser."""
    return all(mine >= other for mine, other in zip(tightness(one), tightness(than), strict=True))


def times(before: Setting, after: Setting) -> Fraction:
    """Return the factor of a change between enabled settings, by formulas of this file."""

    def freeze(one: Setting) -> Fraction:
        return Fraction(one.frozen_interval_ms) if one.frozen_interval_ms else INFINITE

    def minute(one: Setting) -> Fraction:
        again = min(Fraction(one.time_interval_ms), freeze(one))
        return Fraction(one.qty_limit.value) * (1 + Fraction(60_000) / again)

    return max(
        Fraction(after.qty_limit.value) / Fraction(before.qty_limit.value),
        Fraction(after.qty_limit.value)
        / after.time_interval_ms
        / (Fraction(before.qty_limit.value) / before.time_interval_ms),
        minute(after) / minute(before),
        freeze(before) / freeze(after),
    )


@dataclass(frozen=True)
class World:
    """One family: what is accepted, live and desired, and the plan that follows."""

    accepted: Setting
    live: Setting
    desired: Setting
    plan: Plan

    @property
    def change(self) -> Change | None:
        return self.plan.changes[0] if self.plan.changes else None

    @property
    def sent(self) -> Setting | None:
        """What a request carries; None: nothing is sent."""
        return self.change.after if self.change and self.change.action is Action.SET else None

    @property
    def accepts(self) -> Setting | None:
        """What becomes accepted by this plan."""
        change = self.change
        if change is None or change.action is Action.HOLD or change.known_at is not None:
            return None
        return change.accepts


def worlds(rules: PlanConstraints, *, of: list[Setting] = SETTINGS) -> Iterator[World]:
    """Yield every accepted, live and desired setting; the accepted one was proven before."""
    for accepted, live, desired in product(of, repeat=3):
        known: dict[Family, Known] = {BTC: Confirmed(accepted, 900.0, 1)}
        history = {BTC: (Acceptance(accepted, 1),)}
        reads = Reads(read(950.0, {BTC: row(text_of(live))}))
        plan = plan_of({BTC: desired}, known, reads, replace(rules, accepted=history))
        yield World(accepted, live, desired, plan)


def text_of(one: Setting) -> str:
    return f"{one.time_interval_ms}/{one.frozen_interval_ms}/{one.qty_limit.text}"


under_each = pytest.mark.parametrize("under", POLICIES)


@pytest.mark.slow
@pytest.mark.unmeasured
@under_each
@pytest.mark.parametrize("drift", DriftPolicy)
def test_a_controller_restores_what_was_accepted_and_never_more(under: str, drift: DriftPolicy) -> None:
    """Whatever the policy refuses: bounds, floor, disabling, exposure, counts, or that it is unreadable.

    No field stays looser than accepted unless the file may loosen it. Nothing gets looser than live unless
    live was accepted there. Only what the file says becomes accepted, and only if nothing refuses it.
    """
    for one in worlds(replace(POLICIES[under], controller=True, drift=drift)):
        refused = bool(one.plan.refusals)
        goal = one.accepted if refused else one.desired
        left = one.live if one.sent is None else one.sent
        if drift is not DriftPolicy.WARN and not goal.disabled:
            assert no_looser(left, goal), one
        is_off = one.live.disabled or (one.sent is not None and one.sent.disabled)
        if drift is not DriftPolicy.HEAL and one.sent is not None and not is_off:
            fields = zip(*map(tightness, (one.sent, one.live, one.accepted)), strict=True)
            assert all(sent >= live or live == accepted for sent, live, accepted in fields), one
        assert one.accepts in (None, one.desired), one
        if refused:
            assert one.accepts is None, one
        elif one.live == one.desired != one.accepted:
            assert one.accepts == one.desired, one


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("limit", ["1", "3"])
@pytest.mark.parametrize("drift", DriftPolicy)
def test_accepted_moves_by_no_more_than_the_limit_whatever_live_is(limit: str, drift: DriftPolicy) -> None:
    for controller in (True, False):
        rules = PlanConstraints(policy=policy(limit), drift=drift, controller=controller)
        for one in worlds(rules):
            if one.accepts is None or one.accepted.disabled:
                continue
            assert not one.accepts.disabled, one
            if not one.plan.refusals:
                assert times(one.accepted, one.accepts) <= Fraction(limit), one


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("limit", ["1", "3"])
def test_what_an_explicit_act_sends_is_within_the_limit_from_accepted_and_from_what_live_has_tighter(
    limit: str,
) -> None:
    for one in worlds(PlanConstraints(policy=policy(limit)), of=ENABLED):
        change = one.change
        if one.plan.refusals or change is None or one.sent is None or no_looser(one.sent, one.live):
            continue
        tighter = [max(pair) for pair in zip(tightness(one.live), tightness(one.accepted), strict=True)]
        (nearest,) = (each for each in ENABLED if list(tightness(each)) == tighter)
        assert times(nearest, one.sent) <= Fraction(limit), one
        assert times(one.accepted, one.sent) <= Fraction(limit), one
        assert isinstance(change.factor, Fraction)
        assert change.factor <= Fraction(limit), "what the review shows is what is judged"


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("limit", ["1", "3"])
def test_what_an_explicit_act_may_not_undo_stays_and_everything_else_is_sent(limit: str) -> None:
    """The field stays as live has it; the fields that live has looser are restored; nothing is refused."""
    reached = set()
    for one in worlds(PlanConstraints(policy=policy(limit)), of=ENABLED):
        if not one.plan.left_tighter or one.plan.refusals:
            continue
        result = one.live if one.sent is None else one.sent
        fields = list(zip(*map(tightness, (result, one.live, one.accepted, one.desired)), strict=True))
        assert all(found in (live, desired) for found, live, _, desired in fields), one
        assert all(found >= desired for found, _, _, desired in fields), one
        assert any(found == live > desired for found, live, _, desired in fields), one
        assert {one.override for one in one.plan.left_tighter} <= {
            Override(RefusalKind.LOOSEN, BTC),
            Override(RefusalKind.MIXED, BTC),
            Override(RefusalKind.DISABLE, BTC),
        }
        if one.sent is None:
            assert one.change is not None
            assert one.change.because is HoldReason.POLICY
            reached.add("held")
        elif any(found == desired < live == accepted for found, live, accepted, desired in fields):
            reached.add("what the file changes elsewhere is sent")
        else:
            reached.add("the rest is restored")
    assert "held" in reached
    assert "the rest is restored" in reached
    assert limit == "1" or "what the file changes elsewhere is sent" in reached


def test_with_the_override_that_a_return_names_it_is_undone() -> None:
    rules = PlanConstraints(policy=policy("2"))
    known: dict[Family, Known] = {BTC: confirmed("3000/1000/6")}
    reads = Reads(read(950.0, {BTC: row("3000/500/1")}))
    plan = plan_of({BTC: setting("3000/1000/6")}, known, reads, rules)
    (refusal,) = plan.left_tighter
    assert plan.refusals == ()
    assert [one.after for one in plan.requests] == [setting("3000/1000/1")]
    allowed = replace(rules, allowed=frozenset({refusal.override}))
    again = plan_of({BTC: setting("3000/1000/6")}, known, reads, allowed)
    assert [one.after for one in again.requests] == [setting("3000/1000/6")]
    assert (again.left_tighter, again.overridden) == ((), (refusal,))
    assert again.digest == plan.digest


@pytest.mark.parametrize("drift", DriftPolicy)
@pytest.mark.parametrize("controller", [True, False])
def test_what_was_enabled_by_hand_is_switched_off_by_name_only(
    drift: DriftPolicy, controller: bool
) -> None:
    off, known = setting("0/2000/100"), {BTC: confirmed("0/2000/100")}
    reads = Reads(read(950.0, {BTC: row("5000/2000/100")}))
    rules = PlanConstraints(drift=drift, controller=controller)
    plan = plan_of({BTC: off}, known, reads, rules)
    assert plan.requests == ()
    assert plan.refusals == (), "the file changes nothing"
    if drift is DriftPolicy.HEAL:
        assert [str(one.override) for one in plan.left_tighter] == ["disable:BTC-USD"]
        named = replace(rules, allowed=frozenset({Override(RefusalKind.DISABLE, BTC)}))
        assert [one.direction for one in plan_of({BTC: off}, known, reads, named).requests] == [
            Direction.DISABLE
        ]


# ---- adoptions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", DriftPolicy)
def test_a_refused_adoption_is_not_made_under_any_drift_mode(drift: DriftPolicy) -> None:
    """Live was made looser by hand, then the file says so: 10 times as much as was accepted."""
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    reads = Reads(read(950.0, {BTC: row("5000/2000/1000")}))
    history = {BTC: (Acceptance(setting("5000/2000/100"), 1),)}
    apply = PlanConstraints(policy=policy("2"), accepted=history)
    for rules in (replace(apply, drift=drift, controller=True), apply):
        plan = plan_of({BTC: setting("5000/2000/1000")}, known, reads, rules)
        (change,) = plan.changes
        assert [one.rule for one in plan.refusals] == ["loosening.maxFactor"]
        assert change.accepts is None
        heals = rules.controller and drift is not DriftPolicy.WARN
        assert (change.action, change.after) == (
            (Action.SET, setting("5000/2000/100")) if heals else (Action.HOLD, setting("5000/2000/1000"))
        )
        assert heals or (change.before, change.is_live) == (setting("5000/2000/100"), True)


@pytest.mark.parametrize("drift", DriftPolicy)
def test_a_refused_tightening_is_not_adopted_where_live_is_as_desired(drift: DriftPolicy) -> None:
    bounds = policy(default={Field.QTY_LIMIT: at_least("60")})
    reads = Reads(read(950.0, {BTC: row("5000/2000/50")}))
    rules = PlanConstraints(policy=bounds, drift=drift, controller=True)
    for proof in ("5000/2000/100", "5000/2000/50"):
        history = {BTC: (Acceptance(setting("5000/2000/100"), 1),)}
        of = replace(rules, accepted=history)
        plan = plan_of({BTC: setting("5000/2000/50")}, {BTC: confirmed(proof)}, reads, of)
        (change,) = plan.changes
        assert [one.rule for one in plan.refusals] == ["bounds.qtyLimit.min"]
        assert change.accepts is None
        assert change.action is (Action.SET if drift is DriftPolicy.HEAL else Action.HOLD)


def test_an_adoption_is_judged_from_accepted_and_carries_what_it_is_measured_from() -> None:
    """An enable that is adopted is measured from the last enabled setting, and the digest covers that."""
    reads = Reads(read(950.0, {BTC: row("5000/2000/150")}))
    digests = set()
    for enabled, refused in (("5000/2000/100", False), ("5000/2000/10", True)):
        history = {BTC: (Acceptance(setting(enabled), 1), Acceptance(setting("0/2000/100"), 2))}
        rules = PlanConstraints(policy=policy("2"), accepted=history)
        known: dict[Family, Known] = {BTC: confirmed("0/2000/100", attempt=2)}
        plan = plan_of({BTC: setting("5000/2000/150")}, known, reads, rules)
        (change,) = plan.changes
        assert [one.rule for one in plan.refusals] == ["loosening.maxFactor"] * refused
        assert change.measured_from == setting(enabled)
        assert change.before == setting("0/2000/100")
        assert change.action is (Action.HOLD if refused else Action.ADOPT)
        digests.add(plan.digest)
    assert len(digests) == 2


def test_with_nothing_on_record_live_is_recorded_and_not_judged() -> None:
    strict = policy("1", default={Field.QTY_LIMIT: at_most("1")})
    reads = Reads(read(950.0, {BTC: row("5000/2000/100")}))
    plan = plan_of({BTC: setting("5000/2000/100")}, {}, reads, PlanConstraints(policy=strict))
    (change,) = plan.changes
    assert (change.action, change.accepts, plan.refusals) == (Action.ADOPT, setting("5000/2000/100"), ())


# ---- what was accepted before is a change again -----------------------------------------------------

LOOSE, TIGHT = setting("5000/2000/300"), setting("5000/2000/100")


@pytest.mark.parametrize("shown", ["5000/2000/300", "5000/2000/100", None])
@pytest.mark.parametrize("tight_open", [True, False])
@pytest.mark.parametrize("loose_open", [True, False])
@pytest.mark.parametrize("spent", [True, False])
def test_an_older_accepted_setting_is_a_change_once_a_newer_one_was_reserved(
    shown: str | None, tight_open: bool, loose_open: bool, spent: bool
) -> None:
    """300 was accepted, then 100, and the file says 300 again: answered or not, and whatever live shows."""
    until = 902.0 if spent else 2000.0
    numbered = [(5, LOOSE, loose_open), (6, TIGHT, tight_open)]
    attempts = tuple(OpenAttempt(number, one, 900.0, until) for number, one, is_open in numbered if is_open)
    proof = confirmed("5000/2000/300", at=899.0, attempt=4)
    if not tight_open:
        proof = confirmed("5000/2000/100", at=899.0, attempt=6)
    known: Known = Uncertain(proof, attempts) if attempts else proof
    history = (Acceptance(LOOSE, 4 if not loose_open else 5), Acceptance(TIGHT, 6))
    rules = PlanConstraints(policy=policy("2"), accepted={BTC: history})
    reads = Reads() if shown is None else Reads(read(950.0, {BTC: row(shown)}))
    plan = plan_of({BTC: LOOSE}, {BTC: known}, reads, rules)
    assert [one.rule for one in plan.refusals] == ["loosening.maxFactor"]
    run = plan_of({BTC: LOOSE}, {BTC: known}, reads, replace(rules, controller=True))
    assert all(one.after == TIGHT for one in run.requests)
    assert all(one.accepts is None for one in run.changes)


def test_a_late_effect_of_a_request_newer_than_accepted_is_recorded_without_being_judged_again() -> None:
    """A later request of 300 was rejected, so 100 is accepted again; then the earlier one took effect."""
    known = Uncertain(confirmed("5000/2000/100", at=899.0), (OpenAttempt(5, LOOSE, 900.0, 902.0),))
    rules = PlanConstraints(policy=policy("2"), accepted={BTC: (Acceptance(TIGHT, 1),)})
    reads = Reads(read(950.0, {BTC: row("5000/2000/300")}))
    (change,) = plan_of({BTC: LOOSE}, {BTC: known}, reads, rules).changes
    assert (change.action, change.accepts) == (Action.ADOPT, LOOSE)
    for elsewhere in (Reads(), Reads(read(950.0, {BTC: row("5000/2000/100")}))):
        plan = plan_of({BTC: LOOSE}, {BTC: known}, elsewhere, rules)
        assert [one.rule for one in plan.refusals] == ["loosening.maxFactor"], "a new request is a change"


# ---- a target stays until a newer read ----------------------------------------------------------------


@pytest.mark.parametrize("drift", [DriftPolicy.HEAL_LOOSENED, DriftPolicy.HEAL])
def test_an_unanswered_target_is_sent_again_and_not_what_it_left_tighter(drift: DriftPolicy) -> None:
    """Live was 1 by hand, and the freeze was put back; the reply is lost and no read counts since."""
    known = Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/1"),))
    of = {BTC: (Acceptance(setting("5000/2000/100"), 1),)}
    for wanted in ("5000/2000/100", "5000/4000/200"):
        rules = PlanConstraints(policy=policy("2"), accepted=of, drift=drift, controller=True)
        plan = plan_of({BTC: setting(wanted)}, {BTC: known}, Reads(), rules)
        assert [one.after.qty_limit.text for one in plan.requests] == ["1"]
        assert plan.refusals == (), "what the file changes is not measured from what was set by hand"


@pytest.mark.parametrize("controller", [True, False])
def test_a_heal_while_a_change_is_refused_accepts_nothing_new(controller: bool) -> None:
    """Also where only the proof says what was accepted."""
    rules = PlanConstraints(policy=policy("2"), policy_unreadable=not controller, controller=controller)
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    reads = Reads(read(950.0, {BTC: row("5000/2000/9999")}))
    (change,) = plan_of({BTC: setting("5000/2000/1000")}, known, reads, rules).requests
    assert change.after == setting("5000/2000/100")
    assert change.accepts == setting("5000/2000/100")


@pytest.mark.parametrize("shown", ["5000/2000/9999", "5000/2000/1", None])
def test_where_differences_are_only_reported_an_open_request_never_sends_what_was_set_by_hand(
    shown: str | None,
) -> None:
    known = Uncertain(confirmed("5000/2000/50"), (unresolved("5000/2000/100"),))
    of = {BTC: (Acceptance(setting("5000/2000/50"), 1), Acceptance(setting("5000/2000/100"), 5))}
    reads = Reads() if shown is None else Reads(read(950.0, {BTC: row(shown)}))
    rules = PlanConstraints(accepted=of, drift=DriftPolicy.WARN, controller=True)
    plan = plan_of({BTC: setting("5000/2000/100")}, {BTC: known}, reads, rules)
    by_hand = shown == "5000/2000/1"  # tighter than desired: it stays; what is looser is overwritten
    assert [one.after for one in plan.requests] == ([] if by_hand else [setting("5000/2000/100")])


# ---- unknown is not safe ------------------------------------------------------------------------------

LOST = Uncertain(None, (OpenAttempt(7, None, 901.0, 936.0),))
"""Nothing is known but that a request may exist, of any setting: the state lost its newest records."""

UNKNOWN: dict[str, dict[Family, Known]] = {"no record": {}, "a record that was lost": {BTC: LOST}}


@pytest.mark.parametrize("known", UNKNOWN)
@pytest.mark.parametrize("controller", [True, False])
@pytest.mark.parametrize(
    ("under", "after", "refused"),
    [
        (PlanConstraints(), "0/2000/100", ["guard disable"]),
        (PlanConstraints(), "5000/2000/100", []),
        (PlanConstraints(), "50/2000/100", ["guard disable"]),
        (PlanConstraints(policy=policy()), "0/2000/100", ["disable disable"]),
        (PlanConstraints(policy=policy()), "5000/2000/100", []),
        (PlanConstraints(policy=policy(disable_allowed=True)), "0/2000/100", []),
        (PlanConstraints(policy=policy("2")), "0/2000/100", ["disable disable"]),
        (PlanConstraints(policy=policy("2")), "5000/2000/100", ["loosening.unknown loosen"]),
        (
            PlanConstraints(policy=policy("2")),
            "50/2000/100",
            ["floor.timeInterval disable", "loosening.unknown loosen"],
        ),
        (
            PlanConstraints(
                policy=replace(policy(), loosening=Loosening(Decimal(2), unknown_allowed=True))
            ),
            "5000/2000/100",
            [],
        ),
        (PlanConstraints(policy_unreadable=True), "5000/2000/100", ["policy loosen"]),
        (PlanConstraints(policy_unreadable=True), "0/2000/100", ["guard disable", "policy disable"]),
    ],
)
def test_without_a_read_and_a_record_only_what_no_rule_measures_is_sent(
    known: str, controller: bool, under: PlanConstraints, after: str, refused: list[str]
) -> None:
    plan = plan_of({BTC: setting(after)}, UNKNOWN[known], rules=replace(under, controller=controller))
    assert [f"{one.rule} {one.kind.value}" for one in plan.refusals] == refused
    assert bool(plan.requests) == (not refused)
    shown = plan_of(
        {BTC: setting(after)}, {}, Reads(read(950.0, {})), replace(under, policy_unreadable=False)
    )
    assert shown.refusals == (), "a read that shows no row is knowledge: nothing protects"


# ---- steps in a row -----------------------------------------------------------------------------------

WALL = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def passes(history: list[tuple[str, datetime | None]], after: str, wall: datetime) -> bool:
    """Tell whether a file that says ``after`` passes a limit of 2 a day, for live as accepted."""
    entries = tuple(Acceptance(setting(text), number, at) for number, (text, at) in enumerate(history, 1))
    last = entries[-1].setting
    rules = PlanConstraints(policy=policy("2", DAY), accepted={BTC: entries}, wall=wall, controller=True)
    known = {BTC: Confirmed(last, 900.0, len(entries))}
    plan = plan_of({BTC: setting(after)}, known, Reads(read(950.0, {BTC: row(text_of(last))})), rules)
    assert bool(plan.refusals) != bool(plan.requests), after
    return not plan.refusals


def test_no_sequence_of_steps_doubles_more_than_once_a_day() -> None:
    """Each hour the file tries to double the quantity, and every 5 hours a tenth more than the half."""
    history: list[tuple[str, datetime | None]] = [("5000/2000/100", WALL - DAY)]
    for hour in range(96):
        wall, last = WALL + timedelta(hours=hour), Decimal(history[-1][0].split("/")[2])
        after = f"5000/2000/{last * (2 if hour % 5 else Decimal('1.6'))}"
        if passes(history, after, wall):
            history.append((after, wall))
        start = next(text for text, at in reversed(history) if at is not None and at <= wall - DAY)
        assert Decimal(history[-1][0].split("/")[2]) <= 2 * Decimal(start.split("/")[2])
    assert len(history) == 5, "once a day"


@pytest.mark.parametrize(
    ("history", "after", "passing"),
    [
        # An emergency can be ended: a return that is no looser than a day ago passes, in one step.
        ([("5000/2000/100", 30), ("5000/2000/1", 2)], "5000/2000/100", True),
        ([("5000/2000/100", 30), ("5000/2000/1", 2)], "5000/2000/101", False),
        ([("5000/2000/100", 30), ("5000/0/1", 2)], "5000/2000/100", True),
        ([("5000/2000/100", 30), ("5000/2000/1", 26)], "5000/2000/100", False),
        # Off in an emergency, and enabled again.
        ([("5000/2000/100", 30), ("0/2000/100", 2)], "5000/2000/100", True),
        ([("5000/2000/100", 30), ("0/2000/100", 2)], "5000/2000/200", True),
        ([("5000/2000/100", 30), ("0/2000/100", 2)], "5000/2000/201", False),
        ([("5000/2000/100", 30), ("0/2000/100", 26), ("5000/2000/200", 2)], "5000/2000/201", False),
        # Of unknown or future age: within the day.
        ([("5000/2000/100", 30), ("5000/2000/150", None)], "5000/2000/201", False),
        ([("5000/2000/100", 30), ("5000/2000/150", -2)], "5000/2000/201", False),
        ([("5000/2000/100", 30), ("5000/2000/150", 25)], "5000/2000/201", True),
        # On record for less than a day: from its first entry.
        ([("5000/2000/100", 3), ("5000/2000/150", 2)], "5000/2000/201", False),
        ([("5000/2000/100", 3), ("5000/2000/150", 2)], "5000/2000/200", True),
    ],
)
def test_a_limit_for_a_time(history: list[tuple[str, float | None]], after: str, passing: bool) -> None:
    aged = [(text, None if age is None else WALL - timedelta(hours=age)) for text, age in history]
    assert passes(aged, after, WALL) == passing


def test_a_return_from_a_hand_set_emergency_is_no_second_step() -> None:
    """1 was set by hand. What was accepted within the day was judged, and it is what comes back."""
    entries = (
        Acceptance(setting("5000/2000/100"), 1, WALL - 2 * DAY),
        Acceptance(setting("5000/2000/200"), 2, WALL - timedelta(hours=1)),
    )
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/200", attempt=2)}
    rules = PlanConstraints(policy=policy("2", DAY), accepted={BTC: entries}, wall=WALL)
    for live, sent in (("5000/2000/150", True), ("5000/2000/1", False)):
        reads = Reads(read(950.0, {BTC: row(live)}))
        plan = plan_of({BTC: setting("5000/2000/200")}, known, reads, rules)
        assert bool(plan.requests) == sent
        assert bool(plan.left_tighter) != sent


# ---- one refusal does not hold up protection ------------------------------------------------------------


def test_a_refused_family_holds_up_no_other_family_of_a_controller() -> None:
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100"), ETH: confirmed("5000/2000/100")}
    reads = Reads(read(950.0, {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}))
    wanted = {BTC: setting("5000/2000/1000"), ETH: setting("5000/2000/50")}
    rules = PlanConstraints(policy=policy("2"), controller=True)
    plan = plan_of(wanted, known, reads, rules)
    assert [one.family for one in plan.requests] == [ETH]
    assert [one.family for one in plan.refusals] == [BTC]
    assert plan.protection == plan.requests
