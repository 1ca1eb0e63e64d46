"""Rows and seeds of which ``make test`` tries some, and ``make check`` all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def mostly_slow(values: Iterable[object], first: int) -> list[object]:
    """Make the values of a parameter of which only the first few are tried where slow tests are left out.

    Args:
        values: All values, in the order in which they are tried.
        first: How many of them are not slow.
    """
    return [
        value if place < first else pytest.param(value, marks=pytest.mark.slow)
        for place, value in enumerate(values)
    ]
