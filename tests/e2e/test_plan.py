"""``mmp plan``: when things will be done, what of several accounts, and one document whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange

pytestmark = pytest.mark.e2e

WANTED = {"BTC-USD": "5s/2s/100"}


@pytest.mark.parametrize("fault", [None, "get/slow@3"], ids=["quick", "slow"])
def test_with_unknown_history_the_first_request_is_one_window_after_the_plan(
    desk: Desk, exchange: Exchange, fault: str | None
) -> None:
    """The apply will wait, and it has not started: how slow the plan was does not count."""
    if fault:
        exchange.control("fault", fault=fault)
    desk.wants(WANTED)
    (change,) = desk.mmp("plan", "--output", "json").document["changes"]
    assert change["eta_seconds"] == 10.1


def test_a_plan_that_is_refused_is_one_document_and_the_reason_is_on_stderr(desk: Desk) -> None:
    desk.wants(WANTED)
    policy = "version: 1\nbounds: {default: {qtyLimit: {max: 10}}}\n"
    (desk.folder / "mmp-policy.yaml").write_text(policy)
    refused = desk.mmp("plan", "--output", "json", "--fail-on", "policy")
    assert (refused.status, refused.error_code) == (3, "fail-on")
    assert refused.document["format"] == "mmp/plan/1"


# ---- several accounts ----------------------------------------------------------------------------


@pytest.fixture
def three(desk: Desk) -> Desk:
    """Three accounts: one that can be planned, one without keys, one for another User ID."""
    (desk.folder / "all").mkdir()
    desk.wants(WANTED, name="all/a.yaml", account="nokeys", credentials="{prefix: OTHER_}")
    desk.wants(WANTED, name="all/b.yaml", account="fine")
    desk.wants(WANTED, name="all/c.yaml", account="foreign", expect='{uid: "1"}')
    return desk


@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_every_account_that_cannot_be_planned_is_reported_and_the_others_are_shown(
    three: Desk, output: str
) -> None:
    ended = three.mmp("plan", "-c", "all", "--output", output)
    assert ended.status == 8
    assert [line.split(": ")[1] for line in ended.stderr.splitlines() if line.startswith("error[")] == [
        "SIMULATOR all/a.yaml",
        "SIMULATOR all/c.yaml",
    ]
    assert "error[wrong-account]" in ended.stderr
    if output == "json":
        assert ended.document["account"] == "fine"
    else:
        assert "fine" in ended.stdout
        assert "foreign" not in ended.stdout


def test_with_no_plan_at_all_the_document_holds_every_failure(three: Desk) -> None:
    Path(three.folder / "all" / "b.yaml").unlink()
    ended = three.mmp("plan", "-c", "all", "--output", "json")
    assert ended.status == 8
    assert len(ended.document["problems"]) == 2
    assert ended.document["problems"][1]["code"] == "wrong-account"


def test_the_worst_of_all_failures_is_the_status(three: Desk) -> None:
    refused = three.mmp("plan", "-c", "all/b.yaml", "--fail-on", "loosen,disable", "--detailed-exitcode")
    assert refused.status == 2
    both = three.mmp("plan", "-c", "all", "--detailed-exitcode")
    assert both.status == 8


def test_each_account_that_a_published_status_lacks_is_reported(three: Desk) -> None:
    status = three.mmp("status", "-c", "all/b.yaml", "--output", "json")
    (three.folder / "status.json").write_text(status.stdout)
    ended = three.mmp("plan", "-c", "all", "--against", "status.json")
    message = [line for line in ended.stderr.splitlines() if line.startswith("error[")]
    assert [line.split(": ")[1] for line in message][:1] == ["SIMULATOR all/a.yaml"]
    assert len(message) >= 2
