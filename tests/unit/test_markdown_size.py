"""However much changes, the comment fits, its counts are whole, and what is left out is counted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reconciler.core.diff import compare, gone
from reconciler.core.model import Desired, Family
from reconciler.report.markdown import plans_markdown
from tests.unit.core_builders import BTC, desired, setting
from tests.unit.markdown_form import BETWEEN, LIMIT_BYTES, OLD, POLICY, hold_to_the_form

pytestmark = pytest.mark.unmeasured


def crowd(count: int, account: str = "main", start: str = "5000/2000/100") -> tuple[Desired, Desired]:
    """Return two files of ``count`` families, of which each differs; some are removed, some are new."""
    before = {Family(f"FAMILY{n}-USD_UM"): setting(start) for n in range(count)}
    after = {
        family: setting(("5000/2000/400", "5000/2000/50", "0/2000/100", "9000/0/400")[n % 4])
        for n, family in enumerate(before)
    }
    return desired(before, account=account), desired(after, account=account)


def test_nine_hundred_changed_families_fit_and_the_rest_is_counted() -> None:
    plan = compare(*crowd(900), [POLICY])
    told = plans_markdown([(plan, BETWEEN)])
    tokens = hold_to_the_form(told)
    assert len(told.encode()) > LIMIT_BYTES * 0.95
    assert (
        "**Less protection: 225 disabled, 225 looser, 225 looser in one field and tighter in another.**"
        " **Refused: nothing would be sent.** More protection: 225 tighter. 675 held." in told
    )
    assert plan.digest in told
    left = [int(number) for number in re.findall(r"^… and ([0-9]+) families more", told, re.MULTILINE)]
    rows = [token for token in tokens if token.type == "tr_open"]
    families = {token.content for token in tokens if token.type == "code_inline"} & {
        c.family for c in plan.changes
    }
    assert len(left) == 4
    assert left[0] + len(families) == 675
    assert len(rows) < 900


@pytest.mark.parametrize("count", [1, 120, 180, 300, 2_000, 10_000])
def test_whatever_the_number_of_families_the_form_holds(count: int) -> None:
    plan = compare(*crowd(count))
    hold_to_the_form(plans_markdown([(plan, BETWEEN)]))
    hold_to_the_form(plans_markdown([(gone(crowd(count)[0]), BETWEEN)]))
    hold_to_the_form(plans_markdown([(compare(None, crowd(count)[1]), BETWEEN)]))


@pytest.mark.parametrize(("accounts", "families"), [(2, 900), (12, 40), (40, 3), (300, 2), (2_000, 1)])
def test_whatever_the_number_of_accounts_the_counts_at_the_top_are_of_all(
    accounts: int, families: int
) -> None:
    pages = [(compare(*crowd(families, f"desk-{n}")), BETWEEN) for n in range(accounts)]
    told = plans_markdown(pages)
    hold_to_the_form(told)
    assert f"Changes in {accounts} of {accounts} accounts." in told
    shown = re.findall(r"^### `desk-[0-9]+` \(live\)$", told, re.MULTILINE)
    left = re.search(r"^… and ([0-9]+) more accounts, left out", told, re.MULTILINE)
    assert len(shown) + (int(left[1]) if left else 0) == accounts


def test_the_accounts_left_out_are_those_with_the_least_to_say() -> None:
    quiet = desired({BTC: setting("1/1/1")}, account="quiet")
    looser = (compare(*crowd(1, "looser")), BETWEEN)
    same = replace(BETWEEN, old=replace(OLD, account="quiet", policy_change=None))
    pages = [(compare(quiet, quiet), same)] * 300
    assert "### `looser` (live)" in plans_markdown([*pages, looser])
    called_otherwise = (compare(quiet, replace(quiet, account="other")), same)
    assert "account renamed `quiet` → `other`" in plans_markdown([*pages, called_otherwise])


def test_a_path_as_long_as_the_system_allows_does_not_push_the_summary_out() -> None:
    long = replace(BETWEEN, path="`|" * 2_048, old=replace(OLD, path="x" * 4_096))
    told = plans_markdown([(compare(*crowd(900)), long)])
    hold_to_the_form(told)
    assert "…" in told
