"""The SQL of the released migrations: the tables derive from the row types, which may change unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.store.postgres import schema as postgres_schema
from reconciler.store.sqlite import schema

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("engine", "migration"), [("sqlite", schema.MIGRATIONS[0]), ("postgres", postgres_schema.MIGRATIONS[0])]
)
def test_the_first_migration_never_changes(engine: str, migration: tuple[str, ...]) -> None:
    """States with these tables exist: a row type that changes needs a further migration."""
    assert ";\n\n".join(migration) + ";\n" == (GOLDEN / f"migration-1-{engine}.sql").read_text("utf-8")
