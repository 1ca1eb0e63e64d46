"""Tests of the PostgreSQL engine alone; collected where there is a PostgreSQL, or must be one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres.many_accounts import BTC, Fleet, fleet
from tests.support.postgres import Server, server
from tests.support.requirements import tried

collect_ignore_glob = [] if tried("PostgreSQL") else ["test_*.py"]
if not tried("PgBouncer"):
    collect_ignore_glob.append("test_pgbouncer.py")


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A server of the test's own, which it may harm."""
    with server() as own:
        yield own


@pytest.fixture
def two(postgres: Server, tmp_path: Path) -> Iterator[Fleet]:
    """Two accounts of one family each."""
    with fleet(postgres, tmp_path / "desk", 2, families=(BTC,)) as made:
        yield made
