"""Histories are played unmeasured: coverage makes them take two and a half times as long, and what
decides in them is measured by tests of its own.
"""

from __future__ import annotations

from collections.abc import Generator

import coverage
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Stop measuring for the time of one test; nothing happens where nothing is measured."""
    measured = coverage.Coverage.current()
    if measured is None:
        return (yield)
    measured.stop()
    try:
        return (yield)
    finally:
        measured.start()
