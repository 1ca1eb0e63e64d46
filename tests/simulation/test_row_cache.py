"""Cached rows equal those of SQLite, whatever is written, rolled back or begun in between."""

from __future__ import annotations

import sqlite3
from random import Random

import pytest

from tests.simulation.row_cache import Does, Rows, meaning

TABLES = (
    "CREATE TABLE budgets (id INTEGER PRIMARY KEY, held)",
    "CREATE TABLE locks (id INTEGER PRIMARY KEY, held)",
)
LOOKS = (
    "SELECT * FROM budgets WHERE id > ? ORDER BY id",
    "SELECT * FROM locks WHERE id > ? ORDER BY id",
    "SELECT count(*) FROM (SELECT 1 FROM locks WHERE id > ?)",
    "SELECT budgets.id FROM budgets JOIN locks ON locks.id = budgets.id WHERE locks.id > ? ORDER BY 1",
)
WRITES = (
    "INSERT INTO budgets VALUES (?, 0) ON CONFLICT DO NOTHING",
    "INSERT INTO locks AS held VALUES (?, 0) ON CONFLICT (id) DO UPDATE SET held = held.held + 1",
    "UPDATE budgets SET held = held + 1 WHERE id = ?",
    "DELETE FROM locks WHERE id = ?",
)


@pytest.mark.parametrize("seed", range(20))
def test_rows_say_what_sqlite_says(seed: int) -> None:
    rng = Random(seed)
    rows, plain = Rows.in_memory(), sqlite3.connect(":memory:", isolation_level=None)
    for made in TABLES:
        rows.execute(made)
        plain.execute(made)

    for _ in range(300):
        _do_the_same(rng, rows, plain)

        look, above = rng.choice(LOOKS), (rng.randrange(4),)
        assert rows.execute(look, above).fetchall() == plain.execute(look, above).fetchall(), look


def _do_the_same(rng: Random, rows: Rows, plain: sqlite3.Connection) -> None:
    write, number = rng.choice(WRITES), rng.randrange(6)
    match rng.randrange(6):
        case 0 if not plain.in_transaction:
            statement = rng.choice(("BEGIN", "BEGIN IMMEDIATE"))
            rows.execute(statement)
            plain.execute(statement)
        case 1 if plain.in_transaction:
            statement = rng.choice(("COMMIT", "ROLLBACK"))
            rows.execute(statement)
            plain.execute(statement)
        case 2:
            rows.rollback()
            plain.rollback()
        case 3:
            rows.executemany(write, [(number,), (number + 1,)])
            plain.executemany(write, [(number,), (number + 1,)])
        case _:
            rows.execute(write, (number,))
            plain.execute(write, (number,))


def test_what_was_read_is_read_again_only_after_a_write_to_its_table() -> None:
    rows = Rows.in_memory()
    for made in TABLES:
        rows.execute(made)

    before = rows.execute(LOOKS[0], (0,))
    rows.execute(WRITES[1], (1,))
    assert rows.execute(LOOKS[0], (0,)) is before

    written = rows.writes("budgets")
    rows.execute(WRITES[0], (1,))
    assert rows.execute(LOOKS[0], (0,)) is not before
    assert rows.writes("budgets") > written


def test_rows_that_are_others_are_read_again() -> None:
    rows, others = Rows.in_memory(), sqlite3.connect(":memory:", isolation_level=None)
    for made in TABLES:
        rows.execute(made)
        others.execute(made)
    others.execute(WRITES[0], (3,))
    assert rows.execute(LOOKS[0], (0,)).fetchone() is None

    others.backup(rows)
    rows.forget()

    assert rows.execute(LOOKS[0], (0,)).fetchone() == (3, 0)


def test_a_transaction_is_begun_once() -> None:
    rows = Rows.in_memory()
    rows.execute("BEGIN")

    with pytest.raises(sqlite3.OperationalError):
        rows.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize(
    ("query", "does", "table"),
    [
        ("SELECT * FROM attempts INDEXED BY attempts_open WHERE id = ?", Does.READ, "attempts"),
        (
            "SELECT * FROM state_changes WHERE id IN (SELECT max(id) FROM state_changes)",
            Does.READ,
            "state_changes",
        ),
        ("SELECT seq FROM sqlite_sequence WHERE name=?", Does.OTHER, ""),
        ("SELECT 1 FROM applied JOIN identity ON true", Does.OTHER, ""),
        ("SELECT 1 FROM applied, identity", Does.OTHER, ""),
        ("INSERT INTO budgets SELECT ?, history FROM version", Does.WRITE, "budgets"),
        ("UPDATE locks SET holder = ''", Does.WRITE, "locks"),
        ("DELETE FROM pauses WHERE family=?", Does.WRITE, "pauses"),
        ("BEGIN IMMEDIATE", Does.BEGIN, ""),
    ],
)
def test_statements_are_understood(query: str, does: Does, table: str) -> None:
    assert meaning(query) == (does, table)
