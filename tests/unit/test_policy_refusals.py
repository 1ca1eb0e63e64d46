"""The command beside a refusal is about the families and the plan that were seen, and about no other."""

from __future__ import annotations

from reconciler.core.model import Family
from reconciler.core.plan import PlanConstraints
from reconciler.render.policy_refusals import override_command, protection_command, refused_families
from tests.unit.builders import BTC, ETH, SOL, confirmed, plan_of, setting
from tests.unit.markdown_checks import between
from tests.unit.report_samples import large_plans, refused_plan, small_plans
from tests.unit.test_policy import policy

GONE = Family("XRP-USD")
PLAN = plan_of(
    {BTC: setting("5000/2000/400"), ETH: setting("5000/2000/50"), SOL: setting("5000/2000/900")},
    {family: confirmed("5000/2000/100") for family in (BTC, ETH, SOL)},
    rules=PlanConstraints(policy=policy(factor="2", protected=(GONE,))),
)


def test_an_override_names_the_family_the_digest_and_what_blocks_every_loosening() -> None:
    digest = PLAN.digest_of(frozenset({BTC}))
    assert override_command(PLAN, (BTC,), "mmp.yaml") == (
        f"mmp apply --family BTC-USD --expect {digest} --allow loosen:BTC-USD --allow protected:XRP-USD"
        ' --reason "…"'
    )


def test_a_family_that_is_not_in_the_file_is_not_named_in_the_command() -> None:
    assert override_command(PLAN, (GONE,), "mmp.yaml") == (
        f'mmp apply --expect {PLAN.digest} --allow protected:XRP-USD --reason "…"'
    )


def test_a_config_at_another_path_is_named() -> None:
    digest = PLAN.digest_of(frozenset({ETH}))
    assert protection_command(PLAN, "my desk/a.yaml") == (
        f"mmp apply -c 'my desk/a.yaml' --family ETH-USD --expect {digest}"
    )


def test_without_added_protection_there_is_no_command() -> None:
    looser = plan_of({BTC: setting("5000/2000/400")}, {BTC: confirmed("5000/2000/100")})
    assert protection_command(looser, "mmp.yaml") == ""


def test_the_commands_of_all_families_are_those_of_each_alone() -> None:
    plans = [PLAN, between(), *small_plans(), *large_plans(40), refused_plan()]
    assert sum(bool(plan.refusals) for plan in plans) > 3
    for plan in plans:
        refused = {one.family for one in plan.refusals}
        alone = {family: override_command(plan, (family,), "mmp.yaml") for family in refused}
        commands = {family: one.command for family, one in refused_families(plan, "mmp.yaml").items()}
        assert commands == alone
