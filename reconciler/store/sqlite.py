"""The state in SQLite: opening it, and its transactions; what is done in them is ``account``'s.

A write is one BEGIN IMMEDIATE … COMMIT with ``synchronous=FULL``, so it is on disk when the transaction
is over, and those of all processes are in one order. SQLite's own errors never leave this file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from reconciler.core.model import Budget, Environment, Kind
from reconciler.core.records import Holder
from reconciler.core.sharing import Replica
from reconciler.core.strips import MAX_GAP_S
from reconciler.errors import StateUnusable
from reconciler.ports import Clock
from reconciler.store import files, mounts, schema
from reconciler.store.account import KeptAccount
from reconciler.store.ageing import FirstSights
from reconciler.store.engine import KEEP_ATTEMPTS, KEEP_TURNS, Claim
from reconciler.store.locks import FileLocks, MemoryLocks, OwnLocks, StoreMisuse
from reconciler.store.questions import Question, Value
from reconciler.store.rows import RowDamaged
from reconciler.store.tables import Tables

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's transaction, which take milliseconds."""

IN_MEMORY = ":memory:"


def open_state(
    path: str,
    *,
    clock: Clock,
    boot: str,
    lock_timeout_s: float,
    keep_attempts: int = KEEP_ATTEMPTS,
    keep_turns: int = KEEP_TURNS,
    max_gap_s: float = MAX_GAP_S,
    allow_filesystems: Collection[str] = (),
) -> SqliteState:
    """Open the state file for writing, making it if there is none.

    ``boot`` names this boot of this host, and must differ wherever the clock does. ``allow_filesystems``
    are types of file systems that are accepted beside the usual local ones. Symbolic links are followed,
    so that the lock files of all names of one state are the same. Raises StateUnusable.
    """
    real = os.path.realpath(path)
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    _make_if_missing(real)
    files.inspect(real)
    files.refuse_foreign(real)
    with _remade(real):
        db = _connect(real, "rw")
        try:
            _believe(db, real)
            _prepare(db)
        except BaseException:
            db.close()
            raise
    return SqliteState(
        db,
        place=real,
        clock=clock,
        sights=FirstSights(boot),
        locks=FileLocks(real),
        lock_timeout_s=lock_timeout_s,
        keep_attempts=keep_attempts,
        keep_turns=keep_turns,
        max_gap_s=max_gap_s,
        still_there=files.watch(real),
        close=db.close,
    )


def open_existing(
    path: str, *, clock: Clock, boot: str, allow_filesystems: Collection[str] = ()
) -> SqliteState | None:
    """Return the state as it is at this moment, for reading; None when there is no file.

    The rows are copied into memory: the file, its directory and whoever is writing are left alone.
    Whatever reserves or records is refused as misuse; ``identify`` checks but stamps the copy only.
    Raises StateUnusable.
    """
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        return None
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    files.inspect(real)
    with _remade(real):
        db = sqlite3.connect(IN_MEMORY, isolation_level=None)
        try:
            db.deserialize(schema.with_wal(_image(real), on=False))
            _believe(db, real)
        except BaseException:
            db.close()
            raise
    return SqliteState(
        db,
        place=real,
        clock=clock,
        sights=FirstSights(boot),
        locks=FileLocks(real),
        lock_timeout_s=0.0,
        frozen=True,
        close=db.close,
    )


class MemoryDisk:
    """A state without a file, for simulations: it outlives the simulated processes that open it."""

    def __init__(self, db: sqlite3.Connection | None = None) -> None:
        self._db = db or sqlite3.connect(IN_MEMORY, isolation_level=None, cached_statements=256)
        self._db.deserialize(schema.with_wal(schema.empty_image(), on=False))
        self._locks: dict[str, tuple[object, Holder]] = {}

    def open(
        self,
        *,
        clock: Clock,
        boot: str,
        lock_timeout_s: float = 30.0,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_turns: int = KEEP_TURNS,
        max_gap_s: float = MAX_GAP_S,
    ) -> SqliteState:
        """Open the state as one more process; closing it gives back its locks, as a death does."""
        return SqliteState(
            self._db,
            place=IN_MEMORY,
            clock=clock,
            sights=FirstSights(boot),
            locks=MemoryLocks(self._locks),
            lock_timeout_s=lock_timeout_s,
            keep_attempts=keep_attempts,
            keep_turns=keep_turns,
            max_gap_s=max_gap_s,
        )

    def close(self) -> None:
        """Forget everything."""
        self._db.close()


class SqliteState:
    """``ports.State``, seen by one process; all accounts share it. Made by ``open_state`` and its kin."""

    has_leases = False

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        place: str,
        clock: Clock,
        sights: FirstSights,
        locks: OwnLocks,
        lock_timeout_s: float,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_turns: int = KEEP_TURNS,
        max_gap_s: float = MAX_GAP_S,
        frozen: bool = False,
        still_there: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.place = place
        self.clock = clock
        self.sights = sights
        self.locks = locks
        self.lock_timeout_s = lock_timeout_s
        self.keep_attempts = keep_attempts
        self.keep_turns = keep_turns
        self.max_gap_s = max_gap_s
        self._db = db
        self._tables = Tables(_Statements(db))
        self.frozen = frozen
        self._still_there = still_there
        self._close = close

    def account(self, account: str, environment: Environment, kind: Kind) -> KeptAccount:
        """Return the store of one account; those of one state share connection and first sights."""
        return KeptAccount(self, account, environment, kind)

    def sharing(self, replica: Replica) -> None:
        """Return None: a file is of one host, and every process keeps all its accounts."""

    async def owner(self, name: str, /) -> None:
        """Return None: nobody owns an account."""

    async def close(self) -> None:
        """Give back all locks and close; harmless when done before."""
        self.close_now()

    def close_now(self) -> None:
        """Close at once, as a death does; closing a file never waits for anybody."""
        self.locks.close()
        self._close()

    def telling_damage(self) -> AbstractContextManager[None]:
        """Turn what a row's check says into StateUnusable."""
        return _remade(self.place)

    def reading(self, _: Budget | None, /, *only: Question) -> AbstractAsyncContextManager[Tables]:
        """Give one consistent view of all rows. Raises StateUnusable."""
        del only  # nothing here is far away
        return self._transaction("BEGIN")

    def writing(self, _: Claim, /) -> AbstractAsyncContextManager[Tables]:
        """Give the view of the only writer of the whole file; durable at the end. Raises StateUnusable.

        A lock that was taken is held until it is given back, so there is none to be lost.
        """
        if self.frozen:
            raise StoreMisuse(f"the state {self.place} was opened for reading")
        return self._transaction("BEGIN IMMEDIATE")

    @asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Tables]:
        # Nothing waits inside: one connection serves all, so another transaction must not begin here.
        try:
            self._db.execute(begin)
            self._still_there()
            yield self._tables
            self._db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):  # the failure that brought us here is the one to tell
                self._db.rollback()
            _raise_remade(self.place, error)


class _Statements:
    """``Transaction`` on a SQLite connection. Never waits for anything."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    async def fetch(self, question: Question) -> list[tuple[Any, ...]]:
        """Return the rows that answer a question."""
        return self._db.execute(*question).fetchall()

    async def run(self, query: str, values: Sequence[Value]) -> None:
        """Run a statement that returns no rows."""
        self._db.execute(query, values)

    async def run_each(self, query: str, many: Sequence[Sequence[Value]]) -> None:
        """Run a statement that returns no rows once for each of ``many`` values."""
        self._db.executemany(query, many)

    async def next_ids(self, table: str, count: int) -> Sequence[int]:
        """Return the ids the table's next rows get."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name=?", (table,)).fetchone()
        first = 1 if found is None else int(found[0]) + 1
        return range(first, first + count)


def _make_if_missing(path: str) -> None:
    try:
        if os.path.lexists(path):
            files.remove_leftovers(path)
        else:
            files.create_state(path, schema.empty_image())
    except OSError as error:
        raise files.unwritable(path, error) from None


def _connect(path: str, mode: str) -> sqlite3.Connection:
    """Open an existing file; SQLite must never make one."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )


def _prepare(db: sqlite3.Connection) -> None:
    """Make every commit durable, and find out now rather than later if there can be none."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


def _believe(db: sqlite3.Connection, path: str) -> None:
    """Raise StateUnusable unless the database is whole, known and as this program makes it.

    One read transaction, so that another process's migration is seen whole or not at all. The whole
    check, not the quick one: that does not hold indexes against rows, and a request that an index has
    lost would not be paced by (13 ms for 10,000 attempts).
    """
    db.execute("BEGIN")
    version = schema.version_of(db)
    if version > len(schema.MIGRATIONS):
        hint = "use that newer version"
        raise StateUnusable("state-newer", f"the state {path} was written by a newer mmp", hint)
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise files.broken(path, verdict)
    if schema.as_found(db) != schema.as_made(version):
        message = f"the state {path} does not have the tables of its version {version}"
        raise StateUnusable("state-incomplete", message, files.START_ANEW)
    db.execute("COMMIT")
    schema.migrate(db)


def _image(path: str) -> bytes:
    """Return the bytes of the database at one moment, without leaving anything beside it.

    Without a write-ahead log nobody has the file open and it says everything; if it changed under
    our eyes all the same, or there is a log, SQLite puts the two together.
    """
    before = _mark(path)
    if before is not None:
        image = Path(path).read_bytes()
        if _mark(path) == before:
            return image
    db = _connect(path, "ro")
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return db.serialize()
    finally:
        db.close()


def _mark(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None when it has a write-ahead log."""
    if os.path.exists(path + "-wal"):
        return None
    info = os.stat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns


@contextmanager
def _remade(path: str) -> Iterator[None]:
    """Turn what SQLite or a row's check says inside into StateUnusable."""
    try:
        yield
    except (sqlite3.DatabaseError, RowDamaged) as error:
        _raise_remade(path, error)


def _raise_remade(path: str, error: BaseException) -> NoReturn:
    """Raise ``error``, as StateUnusable if SQLite or a row's check says so."""
    match error:
        case RowDamaged():
            raise files.damaged(path, f"{error.place} does not fit its check") from None
        case sqlite3.DatabaseError():
            raise _told(path, error) from None
        case _:
            raise error


def _told(path: str, error: sqlite3.DatabaseError) -> StateUnusable:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return files.broken(path, str(error))
        case sqlite3.SQLITE_FULL:
            hint = "free some space; what was recorded before is safe"
            return StateUnusable("state-disk-full", f"no space left for the state {path}", hint)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            message = f"the state {path} was kept busy for {BUSY_TIMEOUT_S:g} s by another process"
            return StateUnusable("state-busy", message, "see what has it open (fuser, lsof) and try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            hint = files.WRITE_THERE
            return StateUnusable("state-unwritable", f"cannot write the state {path}: {error}", hint)
        case _:
            hint = "see whether the disk is in order; nothing that failed was recorded"
            return StateUnusable("state-failed", f"the state {path} cannot be used: {error}", hint)
