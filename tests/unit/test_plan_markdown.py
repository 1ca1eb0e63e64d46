"""The comment on a merge request says the verdict first, and of each change what a reviewer weighs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler import __version__
from reconciler.cli.output import Output
from reconciler.core.change_direction import LESS_SAFE, Direction
from reconciler.core.exposure import UNLIMITED
from reconciler.core.file_diff import compare, removed_account_plan
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Environment, Family
from reconciler.core.plan import Action, HoldReason, PlanConstraints
from reconciler.documents.plan import PlanContext, StatusSource
from reconciler.render.plan_gitlab import plans_gitlab
from reconciler.render.plan_markdown import Page, plans_markdown
from tests.unit.builders import BTC, ETH, SOL, confirmed, desired, plan_of, read, row, setting
from tests.unit.markdown_checks import BEFORE, BETWEEN, OLD, POLICY, between, hold_to_the_form, sections
from tests.unit.report_samples import large_plans, small_plans

pytestmark = pytest.mark.unmeasured

GOLDEN = Path(__file__).parents[1] / "golden"
CONTEXT = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)


def since(account: str | None, environment: str | None) -> PlanContext:
    """Return the context of two revisions, in the older of which the account is called so."""
    old = replace(OLD, account=account, environment=environment, policy_change=None)
    return replace(BETWEEN, old=old)


# ---- what it says ------------------------------------------------------------------------------


def test_it_is_as_the_golden_file() -> None:
    message = plans_markdown([(between(), BETWEEN)]).replace(f"mmp {__version__}", "mmp VERSION")
    assert message == (GOLDEN / "markdown.md").read_text(encoding="utf-8")


def several_pages() -> list[Page]:
    """Return pages of accounts that stayed, went, came and are called otherwise."""
    desk = desired({BTC: setting("1/1/1")}, account="desk-2", environment=Environment.DEMO)
    return [
        (between(), BETWEEN),
        (compare(desk, desk), since("desk-2", "demo")),
        (removed_account_plan(desired({ETH: setting("1/1/1")}, account="old")), since("old", "live")),
        (compare(desk, replace(desk, account="desk-3")), since("desk-2", "live")),
        (compare(None, desk), since(None, None)),
    ]


def test_several_accounts_are_as_the_golden_file() -> None:
    message = plans_markdown(several_pages()).replace(f"mmp {__version__}", "mmp VERSION")
    hold_to_the_form(message)
    assert message == (GOLDEN / "markdown-several.md").read_text(encoding="utf-8")


def test_the_worst_comes_first() -> None:
    """Refused; off or unlimited; not known; then by factor."""
    message = sections(plans_markdown([(between(), BETWEEN)]))
    assert list(message) == [
        "Policy",
        "Changes, the worst first",
        "Held: not sent",
        "No longer managed: left as it is",
    ]
    rows = re.findall(r"^\| `([^`]+)`", message["Changes, the worst first"], re.MULTILINE)
    assert rows == [ETH, SOL, BTC, "ADA-USD", "NEW-USD", "BNB-USD", "XAU-USD_UM"]
    held = re.findall(r"^- `([^`]+)`", message["Held: not sent"], re.MULTILINE)
    assert list(dict.fromkeys(held)) == [ETH, SOL, BTC]


@pytest.mark.parametrize(
    ("before", "after", "row"),
    [
        (
            "5000/2000/100",
            "5000/2000/400",
            "qtyLimit 100 → 400 | ×4 | 100 → 400 | 20 → 80 | 3100 → 12400 | ▼ loosen",
        ),
        (
            "5000/2000/400",
            "5000/2000/1",
            "qtyLimit 400 → 1 |  | 400 → 1 | 80 → 0.2 | 12400 → 31 | ▲ tighten",
        ),
        (
            "5000/2000/3",
            "1500/2000/3",
            "timeInterval 5s → 1500ms | ×3.334 | 3 | 0.6 → 2 | 93 → 123 | ▼ loosen",
        ),
        # The freeze alone: its effect is seen per minute, where it is shorter than the window.
        ("5000/4000/3", "5000/2000/3", "frozenInterval 4s → 2s | ×2 | 3 | 0.6 | 48 → 93 | ▼ loosen"),
        ("5000/2000/3", "5000/4000/3", "frozenInterval 2s → 4s |  | 3 | 0.6 | 93 → 48 | ▲ tighten"),
        ("5000/90000/3", "5000/45000/3", "frozenInterval 90s → 45s | ×2 | 3 | 0.6 | 39 | ▼ loosen"),
        (
            "5000/0/3",
            "5000/4000/3",
            "frozenInterval until-reset → 4s | unlimited | 3 | 0.6 | 39 → 48 | ▼ loosen",
        ),
        ("5000/4000/3", "5000/0/3", "frozenInterval 4s → until-reset |  | 3 | 0.6 | 48 → 39 | ▲ tighten"),
        (
            "5000/1000/3",
            "0/1000/3",
            "timeInterval 5s → disabled | off | 3 → unlimited | 0.6 → unlimited | 183 → unlimited | ✗ dis",
        ),
        (
            "0/60000/3",
            "120000/60000/3",
            "timeInterval disabled → 2m | not known | unlimited → 3 | unlimited → 0.025 | unlimited → 6 |",
        ),
        ("0/1/3", "0/1/6", "qtyLimit 3 → 6 | ×2 | unlimited | unlimited | unlimited | ▼ loosen"),
        (
            "1/1/0.00000000000000000001",
            "1/1/10000000000000000000",
            "| ×1000000000000000000000000000000000000000 | 0.001 → 1",
        ),
        ("1/1/10000", "1/1/10001", "qtyLimit 10000 → 10001 | ×1.001 | 10000 → 10001 |"),
        (
            "10000/60000/100",
            "5000/30000/200",
            "timeInterval 10s → 5s, frozenInterval 1m → 30s, qtyLimit 100 → 200 | ×4 | 100 → 200 | 10 → 40 "
            "| 700 → 2600 | ▼ loosen",
        ),
    ],
)
def test_a_row_has_the_fields_the_factor_and_the_three_figures(before: str, after: str, row: str) -> None:
    assert row in plans_markdown([(between({BTC: setting(before)}, {BTC: setting(after)}), BETWEEN)])


def test_exactly_the_changed_fields_are_named() -> None:
    message = sections(plans_markdown([(between(), BETWEEN)]))["Changes, the worst first"]
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", message, re.MULTILINE))
    expected = {change.family: [name.value for name in change.fields] for change in between().changes}
    assert {family: re.findall(r"[a-z]+[IL]\w+", cell) for family, cell in rows.items()} == expected


def test_an_enable_names_the_setting_it_is_measured_from() -> None:
    reads = Reads(read(990, {BTC: row("0/2000/100")}))
    plan = plan_of({BTC: setting("5000/2000/300")}, {BTC: confirmed("5000/2000/100")}, reads)
    message = plans_markdown([(plan, CONTEXT)])
    assert (
        "×3 (measured from timeInterval 5s, frozenInterval 2s, qtyLimit 100) | unlimited → 300" in message
    )
    assert "**Enabled with more exposure than when last enabled: 1 family.** **Worst: `BTC-USD`" in message
    assert "Nothing gets looser" not in message
    same = plan_of({BTC: setting("5000/2000/100")}, {BTC: confirmed("5000/2000/100")}, reads)
    assert "**Nothing gets looser.** More protection: 1 enabled." in plans_markdown([(same, CONTEXT)])


def test_a_refusal_is_reported_with_rule_numbers_and_the_very_override() -> None:
    held = sections(plans_markdown([(between(), BETWEEN)]))["Held: not sent"]
    assert "- `BTC-USD` `loosening.maxFactor: ×4, limit ×2`; if this is intended: " in held
    command = 'mmp apply --family BTC-USD --expect DIGEST --allow loosen:BTC-USD --reason "…"'
    assert f"; if this is intended: `{command}`" in held
    assert "--allow disable:SOL-USD_UM " in held
    assert held.startswith("DIGEST is what mmp plan prints with the same --family.\n\n")


@pytest.mark.parametrize(
    "hold", [each for each in HoldReason if each not in (HoldReason.POLICY, HoldReason.GUARD)]
)
def test_a_family_held_for_now_is_reported_with_the_reason(hold: HoldReason) -> None:
    (change,) = plan_of({BTC: setting("1/1/1")}).changes
    plan = plan_of({BTC: setting("1/1/1")})
    held = replace(plan, changes=(replace(change, action=Action.HOLD, because=hold, order=None),))
    assert sections(plans_markdown([(held, CONTEXT)]))["Held: not sent"].startswith(f"- `{BTC}` ")


def test_a_removed_protected_family_is_refused_though_nothing_changes() -> None:
    guard = replace(POLICY, protected=frozenset({ETH}))
    plan = compare(
        desired({BTC: setting("1/1/1"), ETH: setting("1/1/1")}), desired({BTC: setting("1/1/1")}), [guard]
    )
    message = plans_markdown([(plan, BETWEEN)])
    assert "**1 family will no longer be managed.** **Refused: nothing would be sent.**" in message
    assert "No changes" not in message
    assert "--allow protected:ETH-USD" in message
    assert plans_gitlab([plan]) == {"create": 0, "update": 0, "delete": 1}


def test_a_plan_with_only_a_refusal_does_not_say_no_changes() -> None:
    guard = replace(POLICY, protected=frozenset({ETH}))
    plan = plan_of({BTC: setting("1/1/1")}, {BTC: confirmed("1/1/1")}, rules=PlanConstraints(policy=guard))
    message = plans_markdown([(plan, CONTEXT)])
    hold_to_the_form(message)
    assert "**Refused: nothing would be sent.** 1 unchanged." in message
    assert "No changes" not in message
    assert plans_gitlab([plan]) == {"create": 0, "update": 0, "delete": 1}


def test_unchanged_families_are_counted_and_not_named() -> None:
    names = {Family(f"QUIET{n}-USD"): setting("1/1/1") for n in range(9)}
    message = plans_markdown(
        [(between({**names, BTC: setting("1/1/1")}, {**names, BTC: setting("1/1/2")}), BETWEEN)]
    )
    assert "9 unchanged" in message
    assert "QUIET" not in message


def test_the_simulator_is_always_named() -> None:
    page = (plan_of({BTC: setting("1/1/1")}), CONTEXT)
    for pages in ([page], [page, page]):
        assert "**SIMULATOR**" in plans_markdown(pages, simulator=True)
        assert "SIMULATOR" not in plans_markdown(pages)


def test_a_published_status_is_named_with_its_age() -> None:
    read_at = datetime(2026, 3, 1, tzinfo=UTC)
    context = replace(CONTEXT, against=StatusSource("status.json", read_at, 75.0))
    message = plans_markdown([(plan_of({BTC: setting("1/1/1")}), context)])
    assert "compared with what `status.json` says is live, 1 min 15 s old" in message


def test_a_changed_policy_is_flagged_and_an_unchanged_one_is_not() -> None:
    quiet = replace(BETWEEN, old=replace(OLD, policy_change=None))
    flagged = plans_markdown([(between(), BETWEEN)])
    assert "Policy file `mmp-policy.yaml` changes." in flagged
    assert "What the policy of either side refuses is held." in flagged
    assert "olicy file `" not in plans_markdown([(between(), quiet)])


# ---- every plan there is ------------------------------------------------------------------------


def every_page() -> Iterator[Page]:
    for plan in (*small_plans(), *large_plans()):
        yield plan, CONTEXT


@pytest.mark.slow
def test_every_plan_the_program_can_make_is_well_formed() -> None:
    for page in every_page():
        plan = page[0]
        message = plans_markdown([page])
        hold_to_the_form(message)
        assert message == plans_markdown([page])
        named = {change.family for change in plan.changes} | {*plan.unmanaged}
        assert [family for family in named if f"`{family}`" not in message] == []
        loosening = any(change.direction in LESS_SAFE for change in plan.changes)
        assert ("**Less protection: " in message) == loosening
        rising = any(change.factor is UNLIMITED or (change.factor or 0) > 1 for change in plan.changes)
        assert ("**Worst: `" in message) == (
            rising or any(one.after.disabled for one in plan.changes if one.direction is Direction.DISABLE)
        )
        assert not ("Nothing gets looser" in message and rising)


def test_gitlab_counts_requests_by_what_they_do() -> None:
    plans = [
        between(),
        removed_account_plan(desired(BEFORE)),
        compare(None, desired({BTC: setting("0/1/1")})),
    ]
    assert plans_gitlab(plans) == {"create": 2, "update": 2, "delete": 1}
    assert list(plans_gitlab([])) == ["create", "update", "delete"]


def test_gitlab_counts_every_request_once() -> None:
    for plan, _ in every_page():
        refused = {one.family for one in plan.refusals} - {change.family for change in plan.changes}
        adopted = sum(bool(change.fields) for change in plan.of(Action.ADOPT))
        assert sum(plans_gitlab([plan]).values()) == len(plan.requests) + adopted + len(refused)


def test_the_gitlab_report_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Output("gitlab").document(plans_gitlab([between()]))
    assert json.loads(capsys.readouterr().out) == {"create": 2, "update": 2, "delete": 0}
