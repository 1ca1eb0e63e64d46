"""One condition says whether a renewed row has expired, and every statement that asks uses it."""

from __future__ import annotations

import re

import pytest

from reconciler.store.postgres import leases, locks
from reconciler.store.postgres.expiry import FURTHEST, unexpired

LEASE_S = 8.0


@pytest.mark.parametrize("module", [leases, locks])
def test_no_statement_compares_an_expiry_on_its_own(module: object) -> None:
    condition = leases.ALIVE if module is leases else locks._UNEXPIRED
    texts = [text for name, text in vars(module).items() if name.startswith("_") and isinstance(text, str)]
    statements = [text for text in texts if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH) ", text)]
    assert sum(condition in text for text in statements) >= 2
    for text in statements:
        rest = text.replace(condition, "")
        assert not re.search(r"expires_at\s*(<|>|BETWEEN)", rest, re.IGNORECASE), text


def test_the_condition_has_a_bound_on_both_sides() -> None:
    until = f"clock_timestamp() + make_interval(secs => {FURTHEST * LEASE_S})"
    assert unexpired(LEASE_S) == f"(expires_at > clock_timestamp() AND expires_at <= {until})"
