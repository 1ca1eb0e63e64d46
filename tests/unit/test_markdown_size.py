"""However much changes, the comment fits, its counts are whole, and what is left out is counted."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reconciler.core.file_diff import compare, removed_account_plan
from reconciler.core.model import Desired, Family
from reconciler.core.policy import Loosening
from reconciler.render.plan_markdown import plans_markdown
from tests.unit.builders import BTC, desired, setting
from tests.unit.markdown_checks import BETWEEN, LIMIT_BYTES, OLD, POLICY, hold_to_the_form

pytestmark = pytest.mark.unmeasured

LAX = replace(POLICY, loosening=Loosening(), disable_allowed=True)


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
    message = plans_markdown([(plan, BETWEEN)])
    tokens = hold_to_the_form(message)
    assert len(message.encode()) > LIMIT_BYTES * 0.95
    assert (
        "**Less protection: 225 disabled, 225 looser, 225 looser in one field and tighter in another.**"
        " **Worst: `FAMILY10-USD_UM` of `main` (live), off.** **Refused: nothing would be sent.**"
        " More protection: 225 tighter. 675 held." in message
    )
    assert plan.digest in message
    left = [int(number) for number in re.findall(r"^… and ([0-9]+) families more", message, re.MULTILINE)]
    rows = re.findall(r"^\| `(FAMILY[^`]+)` .*\| (\S) (\w+) \|", message, re.MULTILINE)
    held = set(re.findall(r"^- `(FAMILY[^`]+)`", message, re.MULTILINE))
    assert len(left) == 3, "of the changes, of what is held, and of the diff"
    assert [left[0] + len(rows), left[1] + len(held), left[2]] == [900, 675, 900]
    assert sum(token.type == "tr_open" for token in tokens) == len(rows) + 1
    # What is shown is refused and switched off, each with its way out; what is left out is not worse.
    assert {word for _, _, word in rows} == {"disable"}
    assert len(rows) < 225
    assert held <= {family for family, _, _ in rows}
    assert len(rows) - len(held) <= 1


def test_cutting_for_size_leaves_out_what_is_least_bad_over_all_accounts() -> None:
    """One row of ×100000 stands among, and after, hundreds of ×1.001, in the last of three accounts."""
    many = {Family(f"F{number}-USD"): setting("5000/2000/1000") for number in range(400)}
    few = {family: setting("5000/2000/1001") for family in many}
    bad = Family("Z-USD")
    pages = [(compare(desired(many, account=name), desired(few, account=name)), BETWEEN) for name in "ab"]
    was = desired({**many, bad: setting("5000/2000/1")}, account="c")
    now = desired({**few, bad: setting("5000/2000/100000")}, account="c")
    message = plans_markdown([*pages, (compare(was, now, [LAX]), BETWEEN)])
    hold_to_the_form(message)
    assert "**Worst: `Z-USD` of `c` (live), ×100000.**" in message.splitlines()[1]
    top, *accounts = message.split("### `")
    first = re.findall(r"^\| `([a-z])` \(live\) \| `([^`]+)` \| [^|]+ \| (\S+) \|", top, re.MULTILINE)
    assert first[0] == ("c", bad, "×100000")
    assert {row[2] for row in first[1:]} == {"×1.001"}
    assert [row[0] for row in first[1:]] == ["a"] * 9
    assert len(accounts) == 3
    rows = [re.findall(r"^\| `([^`]+)` \| qtyLimit", one, re.MULTILINE) for one in accounts]
    assert rows[2] == [bad], "what is left of the room is given to the worst of all, then by account"
    assert 0 < len(rows[0]) < 400
    assert rows[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 120, 180, 300, 2_000, 10_000])
def test_the_structure_is_valid_for_any_number_of_families(count: int) -> None:
    plan = compare(*crowd(count))
    hold_to_the_form(plans_markdown([(plan, BETWEEN)]))
    hold_to_the_form(plans_markdown([(removed_account_plan(crowd(count)[0]), BETWEEN)]))
    hold_to_the_form(plans_markdown([(compare(None, crowd(count)[1]), BETWEEN)]))


@pytest.mark.slow
@pytest.mark.parametrize(("accounts", "families"), [(2, 900), (12, 40), (40, 3), (300, 2), (2_000, 1)])
def test_whatever_the_number_of_accounts_the_counts_at_the_top_are_of_all(
    accounts: int, families: int
) -> None:
    pages = [(compare(*crowd(families, f"desk-{n}")), BETWEEN) for n in range(accounts)]
    message = plans_markdown(pages)
    hold_to_the_form(message)
    assert f"Changes in {accounts} of {accounts} accounts." in message
    shown = re.findall(r"^### `desk-[0-9]+` \(live\)$", message, re.MULTILINE)
    left = re.search(r"^… and ([0-9]+) more accounts, left out", message, re.MULTILINE)
    assert len(shown) + (int(left[1]) if left else 0) == accounts


def test_the_accounts_left_out_are_those_of_least_concern() -> None:
    quiet = desired({BTC: setting("1/1/1")}, account="quiet")
    looser = (compare(*crowd(1, "looser")), BETWEEN)
    same = replace(BETWEEN, old=replace(OLD, account="quiet", policy_change=None))
    pages = [(compare(quiet, quiet), same)] * 300
    assert "### `looser` (live)" in plans_markdown([*pages, looser])
    called_otherwise = (compare(quiet, replace(quiet, account="other")), same)
    assert "account renamed `quiet` → `other`" in plans_markdown([*pages, called_otherwise])


def test_a_path_as_long_as_the_system_allows_does_not_push_the_summary_out() -> None:
    long = replace(BETWEEN, path="`|" * 2_048, old=replace(OLD, path="x" * 4_096))
    message = plans_markdown([(compare(*crowd(900)), long)])
    hold_to_the_form(message)
    assert "…" in message
