"""Whether a state file has all rows that decide, each as it was written.

Every row has a checksum, which is verified when the row is read. That does not show a row that no query
finds any more: one whose key was damaged, or that is missing. So the number of deciding rows of each User
ID and their combined checksum are recorded too (``sqlite.schema.DECIDING``; triggers update both), and both
are compared when a file is opened. History and timeline are verified when they are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from reconciler.core.history_records import StateCheck
from reconciler.store import queries
from reconciler.store.row_mapping import pause_of
from reconciler.store.rows import (
    NO_ROWS_SUM,
    TABLES,
    AnyRow,
    AttemptRow,
    PauseRow,
    RowDamaged,
    RowKind,
    StateRow,
    check_checksum,
    combined,
    fields,
    is_numbered,
)
from reconciler.store.select_query import SqlValue
from reconciler.store.sqlite import schema
from reconciler.store.table_access import Tables


async def check_rows(tables: Tables) -> StateCheck:
    """Verify every row of all tables, in one transaction of either engine."""
    rows: dict[str, int] = {}
    damaged: list[str] = []
    for kind, table in TABLES.items():
        rows[table], those = await tables.damaged(cast("type[AnyRow]", kind))
        damaged += those
    paused = [
        (row.account, row.environment, pause_of(row))
        for row in await tables.select(queries.all_readable(PauseRow))
    ]
    return StateCheck(
        rows, tuple(damaged), tuple(sorted(paused, key=lambda one: (*one[:2], one[2].family)))
    )


UserId = tuple[str, str, str]
"""Kind of exchange, environment and User ID."""

_SINCE_ACKNOWLEDGED = """
id >= (SELECT max(id) FROM attempts newest WHERE newest.status = 'applied' AND newest.kind = attempts.kind
  AND newest.environment = attempts.environment AND newest.uid = attempts.uid)
"""
"""The newest acknowledged attempt ends back-offs. If its status is damaged, an older one seems to be the
newest, and this one is among the later attempts, which are verified."""


def fetch_all(db: sqlite3.Connection, query: str, values: Sequence[SqlValue] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a query; damaged UTF-8 text is returned in a form that fits no checksum."""
    try:
        return db.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if hasattr(error, "sqlite_errorcode"):
            raise
        # The library raises this for text that it cannot decode, and returns no row at all.
        db.text_factory = _decoded
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.text_factory = str


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def verify_deciding_rows(db: sqlite3.Connection) -> None:
    """Read every row that decides. Raises RowDamaged for one that is damaged or missing.

    ``db`` is in a transaction and has the tables of the newest version.
    """
    if len(list(_rows(db, StateRow, "true"))) != 1:
        raise RowDamaged("the row with the id of the state is missing, or there is another")
    found: dict[UserId, tuple[int, str]] = {}
    kinds: Mapping[str, Any] = {table: kind for kind, table in TABLES.items()}
    for table, decides in schema.DECIDING.items():
        for row in _rows(db, kinds[table], decides.format(row="")):
            user = (row.kind, row.environment, row.uid)
            number, total = found.get(user, (0, NO_ROWS_SUM))
            found[user] = (number + 1, combined(total, row[0]))
    list(_rows(db, AttemptRow, _SINCE_ACKNOWLEDGED))
    _compare(found, _recorded(db))
    _verify_ids(db)


def _rows(db: sqlite3.Connection, kind: RowKind, condition: str) -> Iterator[Any]:
    query = f"SELECT {', '.join(fields(kind))} FROM {TABLES[kind]} WHERE {condition}"
    for values in fetch_all(db, query):
        yield check_checksum(cast("AnyRow", kind(*values)))


def _recorded(db: sqlite3.Connection) -> dict[UserId, tuple[int, str]]:
    rows: Sequence[Any] = db.execute("SELECT kind, environment, uid, number, sum FROM row_sums").fetchall()
    return {tuple(user): (number, total) for *user, number, total in rows}


def _compare(found: dict[UserId, tuple[int, str]], recorded: dict[UserId, tuple[int, str]]) -> None:
    """Raise RowDamaged if a User ID has other rows than are on record."""
    nothing = (0, NO_ROWS_SUM)
    for user in sorted(found.keys() | recorded.keys()):
        rows, expected = found.get(user, nothing), recorded.get(user, nothing)
        if rows != expected:
            kind, environment, uid = user
            whose = f"User ID {uid} ({kind}, {environment})"
            counts = f"{rows[0]} found, {expected[0]} on record"
            raise RowDamaged(f"records of {whose} are missing or were replaced ({counts})")


def _verify_ids(db: sqlite3.Connection) -> None:
    """Raise RowDamaged if the next row of a table would get an id that was already used."""
    given = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    for kind, table in TABLES.items():
        if is_numbered(kind):
            (newest,) = db.execute(f"SELECT max(id) FROM {table}").fetchone()
            if newest is not None and not newest <= given.get(table, 0):
                raise RowDamaged(f"the newest id of {table} is not on record")
