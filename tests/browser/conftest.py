"""A Chromium for the tests of this folder; without one they are left out, and ``make test`` says so.

In a pipeline (CI is set) they are never left out: a missing Chromium fails each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, browser
from tests.support.requirements import tried

collect_ignore_glob = [] if tried("Chromium") else ["test_*.py"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One Chromium for all tests of this worker."""
    with browser() as running:
        yield running
