"""Coverage is measured where it shows something, and nowhere else: it is what costs most."""

from __future__ import annotations

import coverage
import pytest


@pytest.mark.unmeasured
def test_nothing_measures_what_is_unmeasured() -> None:
    """A worker starts two, one beneath the other, and only one of them is ever read."""
    assert coverage.Coverage.current() is None
