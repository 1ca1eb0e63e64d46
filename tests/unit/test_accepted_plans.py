"""Plans of families of which accepted, live and desired differ: what is judged, sent and recorded."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from reconciler.cli.output import Output
from reconciler.cli.plan_output import FAIL_ON, plans_exit_status
from reconciler.core.drift_resolution import left_tighter
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Acceptance, Family, Field, Setting
from reconciler.core.plan import Action, HoldReason, Plan, PlanConstraints, first_records
from reconciler.core.planning import make_plan
from reconciler.core.policy import Bound, Loosening, Override, Policy, RefusalKind
from reconciler.core.policy_rules import unfit
from reconciler.core.saved_plan import reviewed
from reconciler.documents.plan import PlanContext
from reconciler.errors import Exit
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, read, row, setting

AT_MOST_2 = Policy("mmp-policy.yaml", "2" * 64, loosening=Loosening(max_factor=Decimal(2)))
CONTEXT = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)


def plan_of(cases: Mapping[Family, tuple[str | None, str, str]], **rules: object) -> Plan:
    """Return the plan of families given as accepted, live and desired."""
    known = {family: confirmed(texts[0]) for family, texts in cases.items() if texts[0]}
    accepted = {family: (Acceptance(setting(texts[0])),) for family, texts in cases.items() if texts[0]}
    reads = Reads(read(990, {family: row(texts[1]) for family, texts in cases.items()}))
    wanted = {family: setting(texts[2]) for family, texts in cases.items()}
    values = {"policy": AT_MOST_2, "accepted": accepted, **rules}
    return make_plan(desired(wanted), known, reads, PlanConstraints(**values), NOW)  # type: ignore[arg-type] # a builder


ADOPTED = ("5000/2000/100", "5000/2000/200", "5000/2000/200")
REFUSED = ("5000/2000/100", "5000/2000/300", "5000/2000/300")
PARTLY = ("5000/2000/100", "5000/2000/10", "5000/1500/100")
TIGHTER = ("5000/2000/100", "5000/2000/10", "5000/2000/100")
OPENED = ("5000/2000/100", "5000/2000/9999", "5000/2000/150")


def only(plan: Plan) -> tuple[Action, HoldReason | None]:
    (change,) = plan.changes
    return change.action, change.because


@pytest.mark.parametrize("paused", [frozenset(), frozenset({BTC})])
def test_a_pause_stops_no_adoption_so_it_is_judged(paused: frozenset[Family]) -> None:
    assert [one.family for one in plan_of({BTC: REFUSED}, paused=paused).refusals] == [BTC]
    assert only(plan_of({BTC: ADOPTED}, paused=paused)) == (Action.ADOPT, None)
    waits = plan_of({BTC: (*REFUSED[:1], "5000/2000/90", REFUSED[2])}, paused=paused)
    assert bool(waits.refusals) == (not paused), "what a pause keeps from being sent stops nothing"


Review = dict[Family, tuple[Setting | None, Setting]]


def test_an_adoption_that_was_not_reviewed_stops_nothing_and_is_made_only_if_it_passes() -> None:
    nothing: Review = {}
    refused = plan_of({BTC: REFUSED}, reviewed=nothing)
    assert (only(refused), refused.refusals) == ((Action.HOLD, HoldReason.STALE), ())
    assert only(plan_of({BTC: ADOPTED}, reviewed=nothing)) == (Action.ADOPT, None)


def test_a_reviewed_adoption_is_judged_again() -> None:
    lax = plan_of({BTC: REFUSED}, policy=None)
    assert only(lax) == (Action.ADOPT, None)
    again = plan_of({BTC: REFUSED}, reviewed=reviewed(lax))
    assert only(again) == (Action.HOLD, HoldReason.POLICY)
    assert [one.family for one in again.refusals] == [BTC]


def test_a_reviewed_request_may_leave_fields_tighter_and_nothing_else() -> None:
    plan = plan_of({BTC: PARTLY})
    assert plan_of({BTC: PARTLY}, reviewed=reviewed(plan)).changes == plan.changes
    for other in ("5000/1500/1000", "0/1500/100"):
        promised: Review = {BTC: (setting(PARTLY[1]), setting(other))}
        assert only(plan_of({BTC: PARTLY}, reviewed=promised)) == (Action.HOLD, HoldReason.STALE)


def test_a_field_stays_tighter_only_if_live_has_it_tighter_than_accepted() -> None:
    (change,) = plan_of({BTC: PARTLY}).changes
    assert (change.action, change.after) == (Action.SET, setting("5000/1500/10"))
    assert change.desired == setting("5000/1500/100")
    wanted, live, accepted = (setting(text) for text in ("5000/1500/100", "5000/2000/10", "5000/2000/100"))
    assert left_tighter(wanted, live, accepted) == setting("5000/1500/10")
    assert left_tighter(wanted, setting("5000/3000/10"), accepted) == setting("5000/3000/10")
    assert left_tighter(wanted, setting("5000/1000/200"), accepted) == wanted


def test_an_override_undoes_what_stays_tighter_under_the_same_digest() -> None:
    plan = plan_of({BTC: TIGHTER})
    assert only(plan) == (Action.HOLD, HoldReason.POLICY)
    assert plan.stays_tighter == {BTC}
    assert not plan.refusals
    allowed = plan_of({BTC: TIGHTER}, allowed=frozenset({Override(RefusalKind.LOOSEN, BTC)}))
    assert only(allowed) == (Action.SET, None)
    assert allowed.digest == plan.digest
    assert [one.family for one in allowed.overridden] == [BTC]


def test_what_is_recorded_with_nothing_on_record_is_reported_by_the_bounds_it_breaks() -> None:
    bounds = {Field.QTY_LIMIT: Bound(maximum=Decimal(50))}
    policy = Policy("mmp-policy.yaml", "3" * 64, default=bounds)
    plan = plan_of({BTC: (None, "5000/2000/100", "5000/2000/100"), ETH: ADOPTED}, policy=policy)
    assert plan.refusals, "the adoption of another setting is judged"
    first = first_records(plan.changes)
    assert first == {BTC: setting("5000/2000/100")}
    (found,) = unfit(first, policy)
    assert found.sentence == "bounds.qtyLimit.max: qtyLimit 100, limit 50"
    assert unfit(first, None) == ()


@pytest.mark.parametrize(
    ("case", "kinds"),
    [
        (ADOPTED, {"loosen"}),
        (REFUSED, {"loosen", "policy"}),
        (TIGHTER, {"loosen", "drift", "policy"}),
        (PARTLY, {"loosen", "policy"}),
        (OPENED, {"loosen"}),
        (("5000/2000/100", "5000/2000/50", "5000/2000/50"), set()),
        (("5000/2000/100", "0/2000/100", "0/2000/100"), {"disable", "policy"}),
        (("5000/2000/100", "4000/2000/90", "4000/2000/90"), {"mixed"}),
    ],
)
def test_fail_on_counts_adoptions_and_the_direction_from_what_was_accepted(
    case: tuple[str, str, str], kinds: set[str]
) -> None:
    plan, out = plan_of({BTC: case}), Output("text", "never")

    def status(kind: str) -> Exit:
        return plans_exit_status([(plan, CONTEXT)], out, fail_on=frozenset({kind}), changes_count=False)

    assert {kind for kind in FAIL_ON if status(kind) is Exit.REFUSED} == kinds
    assert (
        plans_exit_status([(plan, CONTEXT)], out, fail_on=frozenset(), changes_count=True) is Exit.CHANGES
    )


def test_what_was_accepted_and_is_only_recorded_is_no_change() -> None:
    same = "5000/2000/100"
    plan, out = plan_of({BTC: (None, same, same)}), Output("text", "never")
    assert only(plan) == (Action.ADOPT, None)
    assert (
        plans_exit_status([(plan, CONTEXT)], out, fail_on=frozenset(FAIL_ON), changes_count=True)
        is Exit.DONE
    )
