"""Coverage is measured where it shows something, and nowhere else: it is what costs most."""

from __future__ import annotations

import coverage
import pytest


@pytest.mark.parametrize(
    "_mark", [pytest.param(mark, marks=getattr(pytest.mark, mark)) for mark in ("unmeasured", "slow")]
)
def test_nothing_measures_an_unmeasured_or_slow_test(_mark: str) -> None:
    """A worker starts two, one beneath the other, and only one of them is ever read."""
    assert coverage.Coverage.current() is None
