"""Tests that need the superuser of a machine: mounts, and files of several users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, simulator
from tests.support.requirements import tried

collect_ignore_glob = [] if tried("root") else ["test_*.py"]
if not tried("mount namespaces"):
    collect_ignore_glob += [
        "test_mounts.py",
        "test_full_disk.py",
        "test_log_disk.py",
        "test_unwritable_folders.py",
        "test_process_one.py",
    ]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """A simulated exchange with six families, none of them configured."""
    with simulator() as running:
        yield running


@pytest.fixture
def desk(exchange: Exchange, tmp_path: Path) -> Iterator[Desk]:
    """A folder with settings of one family, and the keys of ``exchange``."""
    here = Desk(tmp_path / "desk", exchange.variables)
    here.wants({"BTC-USD": "5s/2s/100"})
    yield here
    here.close()
