"""Only the approved changes are sent: anything else sends nothing, and never reports success."""

from __future__ import annotations

import pytest

from tests.e2e.processes import Desk, Exchange

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle")
BTC, ETH = {"BTC-USD": "5s/2s/100"}, {"ETH-USD": "5s/2s/100"}
BOTH_FILES = ("-c", "mmp.yaml", "-c", "other.yaml")


@pytest.mark.parametrize(
    ("flags", "status", "code"),
    [
        ((), 64, "not-approved"),
        (("--expect", "sha256:" + "0" * 64), 64, "not-approved"),
        (("--yes",), 3, "guard-disable"),
        (("--yes", "--expect", "sha256:" + "0" * 64), 5, "unexpected-plan"),
        (("--yes", "--allow", "disable:BTC-USD"), 64, "allow-unseen"),
        (("--yes", "--allow", "disable:BTC-USD", "--expect", "sha256:" + "0" * 64), 64, "no-reason"),
    ],
)
def test_of_several_terminal_errors_the_first_by_precedence_is_reported(
    desk: Desk, exchange: Exchange, flags: tuple[str, ...], status: int, code: str
) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "disabled/2s/100", **ETH})
    ended = desk.mmp("apply", "--assume-idle", *flags)
    assert (ended.status, ended.error_code) == (status, code), ended.stderr
    assert "SIMULATOR" in ended.stderr
    assert exchange.written() == []


@pytest.mark.slow
def test_an_exchange_that_was_never_read_is_never_called_as_desired(desk: Desk, exchange: Exchange) -> None:
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants(BTC)
    assert desk.mmp(*APPLY).status == 0
    exchange.control("fault", fault="get/50013:99")
    ended = desk.mmp(*APPLY, "--timeout", "2s")
    assert (ended.status, ended.error_code) == (1, "timed-out")
    assert "as desired" not in ended.stdout
    assert "BTC-USD  live settings were not read" in ended.stdout
    assert "Nothing done: 1 unknown." in ended.stdout
    as_json = desk.mmp(*APPLY, "--timeout", "2s", "--output", "json")
    assert (as_json.status, as_json.document["format"]) == (1, "mmp/problems/1")


def test_two_files_that_want_one_family_of_one_account_are_refused(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    desk.wants({**BTC, **ETH}, name="other.yaml", account="second")
    ended = desk.mmp(*APPLY, *BOTH_FILES)
    assert (ended.status, ended.error_code) == (8, "claimed-twice"), ended.stderr
    assert "mmp.yaml and other.yaml belong to one User ID" in ended.stderr
    assert "both have BTC-USD" in ended.stderr
    assert exchange.written() == []


def test_with_several_accounts_a_block_of_results_says_whose_it_is(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    desk.wants(ETH, name="other.yaml", account="second")
    ended = desk.mmp(*APPLY, *BOTH_FILES)
    assert ended.status == 0
    assert "SIMULATOR main (live)\n✓ applied    BTC-USD" in ended.stdout
    assert "SIMULATOR second (live)\n✓ applied    ETH-USD" in ended.stdout
