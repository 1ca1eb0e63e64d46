"""Connections to a state file: opened with every check, and set up so that each commit is durable."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from reconciler.errors import StateUnusable
from reconciler.store.integrity_check import verify_deciding_rows
from reconciler.store.rows import combined
from reconciler.store.sqlite import file, schema, wal_check
from reconciler.store.sqlite.errors import BUSY_WAIT_S, newer, not_intact, translated_errors

IN_MEMORY = ":memory:"


def open_checked(path: str, busy_wait_s: float) -> sqlite3.Connection:
    """Open an existing file with every check; afterwards no statement blocks on a busy file."""
    file.inspect(path)
    file.refuse_foreign_file(path)
    with translated_errors(path):
        refuse_damaged_log(path)
        db = connect(path, "rw", busy_wait_s)
        try:
            validate_file(db, path, verify_rows=True)
            _prepare(db)
        except BaseException:
            db.close()
            raise
    return db


def refuse_damaged_log(path: str) -> None:
    """Raise StateUnusable if SQLite would drop complete transactions of the write-ahead log."""
    if wal_check.is_damaged(path):
        raise file.damaged(path, "its write-ahead log (-wal) is damaged, and SQLite would drop the rest")


def connect(path: str, mode: str, busy_wait_s: float) -> sqlite3.Connection:
    """Open an existing file; SQLite must never create one. ``busy_wait_s``: how long a statement blocks."""
    db = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}", uri=True, timeout=busy_wait_s, isolation_level=None
    )
    return with_functions(db)


def in_memory() -> sqlite3.Connection:
    """Return a connection to a new database in memory."""
    return with_functions(sqlite3.connect(IN_MEMORY, isolation_level=None, cached_statements=256))


def with_functions(db: sqlite3.Connection) -> sqlite3.Connection:
    """Give a connection the function that the triggers of the tables call."""
    db.create_function(schema.COMBINE, 2, combined, deterministic=True)
    db.execute("PRAGMA trusted_schema = ON")  # else no trigger may call it in a hardened SQLite
    return db


def _prepare(db: sqlite3.Connection) -> None:
    """Make every commit durable, and fail now if no commit is possible."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")
    db.execute("PRAGMA busy_timeout = 0")


def validate_file(db: sqlite3.Connection, path: str, *, verify_rows: bool) -> None:
    """Raise StateUnusable unless the database is intact, of a known version, and complete.

    One read transaction, so that it reads another process's migration completely or not at all. It uses
    ``integrity_check``: ``quick_check`` does not compare indexes with rows, and pacing would ignore a
    request that is missing in an index (13 ms for 10,000 attempts).
    """
    db.execute("BEGIN")
    version = schema.version_of(db)
    if version > len(schema.MIGRATIONS):
        raise newer(path)
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise not_intact(path, verdict)
    if schema.actual_schema(db) != schema.expected_schema(version):
        message = f"the state {path} does not have the tables of its version {version}"
        raise StateUnusable("state-incomplete", message, file.START_ANEW)
    if verify_rows:
        verify_deciding_rows(db)
    db.execute("COMMIT")
    schema.migrate(db)


def read_image(path: str) -> bytes:
    """Return the bytes of the database at one moment, without leaving a file beside it.

    Without a write-ahead log no process has the file open, and it is complete. If it changed during the
    read all the same, or there is a log, SQLite combines the two.
    """
    before = _mark(path)
    if before is not None:
        image = Path(path).read_bytes()
        if _mark(path) == before:
            return image
    db = connect(path, "ro", BUSY_WAIT_S)
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return db.serialize()
    finally:
        db.close()


def _mark(path: str) -> tuple[int, int, int] | None:
    """Return values that change when the file does; None when it has a write-ahead log."""
    if os.path.exists(path + "-wal"):
        return None
    info = os.stat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns
