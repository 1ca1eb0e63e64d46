"""Which accounts may be read and written with, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.core.account_preflight import claim_conflict, why_unusable
from reconciler.core.model import AccountInfo, Environment, Family
from reconciler.errors import Exit
from tests.unit.builders import BTC, ETH, SOL, desired, setting

READ, TRADE = frozenset({"read_only"}), frozenset({"read_only", "trade"})


@pytest.mark.parametrize(
    ("uid", "level", "permissions", "expected_uid", "to_read", "to_write"),
    [
        ("7", "4", TRADE, None, None, None),
        ("7", "4", TRADE, "7", None, None),
        ("7", "4", TRADE, "8", "wrong-account", "wrong-account"),
        ("7", "4", READ, None, None, "no-trade-permission"),
        ("7", "3", TRADE, None, None, "not-portfolio-margin"),
        ("7", "", TRADE, "7", None, "not-portfolio-margin"),
        ("7", "1", READ, None, None, "not-portfolio-margin"),
        ("7", "1", READ, "8", "wrong-account", "wrong-account"),
    ],
)
def test_an_account_is_refused_for_one_named_reason(
    uid: str,
    level: str,
    permissions: frozenset[str],
    expected_uid: str | None,
    to_read: str | None,
    to_write: str | None,
) -> None:
    info = AccountInfo(uid, uid, level, permissions)
    wanted = desired({BTC: setting("1/1/1")}, expected_uid=expected_uid)
    for writing, code in ((False, to_read), (True, to_write)):
        problem = why_unusable(info, wanted, writing=writing)
        assert (problem.code if problem else None) == code
        assert problem is None or (problem.hint and problem.exit_status is Exit.ACCOUNT)


@pytest.mark.parametrize(
    ("uids", "first", "second", "environment", "text"),
    [
        (("7", "7"), (BTC, ETH), (BTC, SOL), Environment.LIVE, "both have BTC-USD"),
        (("7", "7"), (BTC, ETH), (ETH, BTC), Environment.LIVE, "both have BTC-USD and 1 more"),
        (("7", "7"), (BTC, ETH), (SOL,), Environment.LIVE, None),  # two names for one account are fine
        (("7", "8"), (BTC, ETH), (BTC, ETH), Environment.LIVE, None),
        (("7", "7"), (BTC, ETH), (BTC, ETH), Environment.DEMO, None),
    ],
)
def test_two_files_may_not_want_the_same_family_of_one_account(
    uids: tuple[str, str],
    first: tuple[Family, ...],
    second: tuple[Family, ...],
    environment: Environment,
    text: str | None,
) -> None:
    a, b = (desired(dict.fromkeys(families, setting("1/1/1"))) for families in (first, second))
    another_account = ("9", replace(a, path="c.yaml"))
    owned = [
        (uids[0], replace(a, path="a.yaml")),
        another_account,
        (uids[1], replace(b, path="b.yaml", environment=environment)),
    ]
    problem = claim_conflict(owned)
    assert (problem is None) is (text is None)
    if problem is not None:
        assert problem.message == f"a.yaml and b.yaml belong to one User ID, 7, and {text}"
        assert problem.exit_status is Exit.ACCOUNT
        assert problem.hint
