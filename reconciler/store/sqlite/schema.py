"""The tables of the SQLite state, and their migrations in order.

``user_version`` counts the migrations of a file. A migration is never edited once released: a file is valid
only if the SQL of its tables is exactly that of the migrations of its version. Columns are in the order of
the row types in ``rows``; later ones are appended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from functools import lru_cache

from reconciler.store.rows import KEYS, TABLES, LiveReadRow, RowKind, is_numbered, new_state
from reconciler.store.table_layout import column_lines, create_indexes

APPLICATION_ID = 0x4D4D5053
"""The four bytes ``MMPS`` in the file's header: they mark a state of this program."""

DECIDING: Mapping[str, str] = {
    "identity": "true",
    # Attempts that count for the rate, have no definite answer, were tries without success or were limited.
    "attempts": "{row}retired = 0 OR {row}resolved = 0 OR {row}tries > 0 OR {row}limited = 1",
    "losses": "true",
    "applied": "true",
    "accepted": "true",
    "plan_changes": "true",
    "policies": "true",
    "files": "true",
    "pauses": "true",
    "overrides": "true",
}
"""The tables whose rows decide what is written, and which of their rows do; ``{row}`` is "" or "NEW." and
the like. All of them name a User ID (kind, environment, uid) and have a checksum."""

COMBINE = "mmp_combine"
"""The SQL function that adds the checksum of a row to a sum, or removes it again. Only connections of this
program have it, so SQLite refuses writes of another program to a deciding table."""

Migration = tuple[str, ...]


def _sum_triggers(table: str, decides: str) -> Iterator[str]:
    """Yield the triggers that update the count and sum of a table's deciding rows at every write."""
    add = (
        "INSERT INTO row_sums (kind, environment, uid, number, sum)"
        " SELECT NEW.kind, NEW.environment, NEW.uid, 1, NEW.checksum"
        f" WHERE {decides.format(row='NEW.')} ON CONFLICT (kind, environment, uid)"
        f" DO UPDATE SET number = number + 1, sum = {COMBINE}(sum, excluded.sum);"
    )
    remove = (
        f"UPDATE row_sums SET number = number - 1, sum = {COMBINE}(sum, OLD.checksum)"
        " WHERE kind = OLD.kind AND environment = OLD.environment AND uid = OLD.uid"
        f" AND ({decides.format(row='OLD.')});"
    )
    for event, body in (("INSERT", add), ("DELETE", remove), ("UPDATE", f"{remove} {add}")):
        name = f"{table}_summed_at_{event.lower()}"
        yield f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {body} END"


_TYPES: Mapping[type, str] = {str: "TEXT", int: "INTEGER", float: "REAL"}


def _create_table(kind: RowKind) -> str:
    """Return the statement that creates the table of a row kind."""
    lines = column_lines(kind, _TYPES)
    if is_numbered(kind):
        lines[lines.index("id INTEGER NOT NULL")] = "id INTEGER PRIMARY KEY AUTOINCREMENT"
    else:
        lines.append(f"PRIMARY KEY ({', '.join(KEYS[kind])})")
    # A live read is one large document, which does not fit into the pages of an index.
    options = "STRICT" if is_numbered(kind) or kind is LiveReadRow else "STRICT, WITHOUT ROWID"
    body = ",\n    ".join(lines)
    return f"CREATE TABLE {TABLES[kind]} (\n    {body}\n) {options}"


_FIRST: Migration = (
    *map(_create_table, TABLES),
    # The number of deciding rows of a User ID, and their combined checksums. They show, when the file is
    # opened, that a row is missing, or that no query finds it because its key is damaged.
    """CREATE TABLE row_sums (
        kind TEXT NOT NULL,
        environment TEXT NOT NULL,
        uid TEXT NOT NULL,
        number INTEGER NOT NULL,
        sum TEXT NOT NULL,
        PRIMARY KEY (kind, environment, uid)
    ) STRICT, WITHOUT ROWID""",
    *(trigger for table, decides in DECIDING.items() for trigger in _sum_triggers(table, decides)),
    *create_indexes(),
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST,)
"""All migrations in order; their number is the newest version this program knows."""


def version_of(db: sqlite3.Connection) -> int:
    """Return how many migrations the open database has had."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(db: sqlite3.Connection) -> None:
    """Migrate the open database to the newest version, in one transaction; nothing if it is up to date."""
    if version_of(db) == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in (s for migration in MIGRATIONS[version_of(db) :] for s in migration):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        db.rollback()
        raise


@lru_cache(maxsize=1)
def expected_schema(version: int) -> dict[str, str]:
    """Return the tables, indexes and triggers, name to SQL, after the first ``version`` migrations."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (s for migration in MIGRATIONS[:version] for s in migration):
        db.execute(statement)
    made = actual_schema(db)
    db.close()
    return made


def actual_schema(db: sqlite3.Connection) -> dict[str, str]:
    """Return the tables, indexes and triggers, name to SQL, of the open database; SQLite's own left out."""
    found = db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return dict(found.fetchall())


def new_image(state_id: str) -> bytes:
    """Return the bytes of a new state file: all tables, the row of the state, write-ahead logging."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(_tables_image())
    db.execute("INSERT INTO state VALUES (?, ?, ?, ?, ?, ?)", new_state(state_id))
    image = db.serialize()
    db.close()
    return with_wal(image, on=True)


@lru_cache(maxsize=1)
def _tables_image() -> bytes:
    """Return the bytes of a database with all tables and no row."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrate(db)
    image = db.serialize()
    db.close()
    return image


def with_wal(image: bytes, *, on: bool) -> bytes:
    """Return a database image marked for write-ahead logging or for a rollback journal.

    Bytes 18 and 19 of the header are the write and read versions, 2 for WAL and 1 for a rollback
    journal (https://www.sqlite.org/fileformat.html, 1.3.3). Marked in the image, a file is in WAL mode from
    its first moment; unmarked, an image can be opened in memory, where there is no WAL.
    """
    mark = b"\x02\x02" if on else b"\x01\x01"
    return image[:18] + mark + image[20:]
