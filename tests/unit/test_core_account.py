"""Which accounts may be read and written with, row by row."""

from __future__ import annotations

import pytest

from reconciler.core.account import refusal
from reconciler.core.model import AccountInfo
from reconciler.errors import Exit
from tests.unit.core_builders import BTC, desired, setting

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
        problem = refusal(info, wanted, writing=writing)
        assert (problem.code if problem else None) == code
        assert problem is None or (problem.hint and problem.exit_status is Exit.ACCOUNT)
