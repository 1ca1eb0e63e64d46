"""The state in SQLite: opening it, and its transactions. ``account_store`` defines what they do.

A write is one BEGIN IMMEDIATE … COMMIT with ``synchronous=FULL``, so it is on disk when the transaction
ends, and the writes of all processes are in one order. While another process uses the file, a transaction
waits without blocking the event loop. After any other failure the connection is closed, and the file is
opened again, with every check, before the next read or write. SQLite's own errors never leave this file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

from reconciler.core.history_records import StateCheck
from reconciler.core.model import RateBudget
from reconciler.core.replica_assignment import Replica
from reconciler.errors import MmpError, StateUnavailable
from reconciler.ports import Clock
from reconciler.store import queries
from reconciler.store.engine import Engine, StateOptions
from reconciler.store.integrity_check import check_rows, fetch_all, verify_deciding_rows
from reconciler.store.retired_state import move_target, state_moved
from reconciler.store.rows import RowDamaged, new_state_id
from reconciler.store.select_query import SelectQuery, SqlValue, Statement
from reconciler.store.sqlite import file, mounts, schema
from reconciler.store.sqlite.connection import (
    in_memory,
    open_checked,
    read_image,
    refuse_damaged_log,
    validate_file,
)
from reconciler.store.sqlite.errors import (
    BUSY,
    BUSY_CODES,
    BUSY_WAIT_S,
    newer,
    primary_code,
    sqlite_error,
    state_error,
    translated_errors,
)
from reconciler.store.sqlite.file_locks import FileLocks, ProcessLocks
from reconciler.store.table_access import Tables, WriteScope

BUSY_POLLS_S = (0.001, 0.005, 0.02, 0.05)
"""Seconds between two tries to begin a transaction; the last repeats. Nothing blocks meanwhile: other
accounts and probes continue."""

REOPEN_AFTER_S = 1.0
"""Seconds between two tries to open a file that failed more than once in a row: each try checks all of the
file, and all accounts of a process request it."""

OPEN_POLL_S = 0.5
"""Seconds between two tries to open a file: each try checks all of the file."""


_WRITE = ("BEGIN IMMEDIATE",)
_READ = ("BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1")
"""The statements that begin a transaction. SQLite takes the snapshot of a reading one at the first query
only, so a busy file shows there."""


def open_state(
    path: str,
    options: StateOptions,
    *,
    allow_filesystems: Collection[str] = (),
    busy_wait_s: float = BUSY_WAIT_S,
) -> SqliteState:
    """Open the state file for writing; it is created if there is none.

    ``allow_filesystems`` are types of file systems that are accepted besides the usual local ones. Symbolic
    links are followed, so that the lock files of all names of one state are the same. ``busy_wait_s``: how
    long to block while another process keeps the file busy. Raises StateUnusable, StateUnavailable.
    """
    real = os.path.realpath(path)
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    _make_if_missing(real)
    db = open_checked(real, busy_wait_s)
    still_there = file.watch(real)

    def reopen() -> sqlite3.Connection:
        still_there()
        mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
        return open_checked(real, busy_wait_s=0.0)

    return SqliteState(db, real, FileLocks(real), options, still_there=still_there, reopen=reopen)


async def open_waiting(
    path: str, options: StateOptions, *, allow_filesystems: Collection[str] = ()
) -> SqliteState:
    """Open the state as ``open_state`` does, but wait up to the lock timeout while it is busy.

    It waits at least as long as a transaction does, and blocks nothing meanwhile. Raises StateUnusable,
    StateUnavailable.
    """
    clock = options.clock
    deadline = clock.now() + max(options.lock_timeout_s, BUSY_WAIT_S)
    while True:
        try:
            return open_state(path, options, allow_filesystems=allow_filesystems, busy_wait_s=0.0)
        except StateUnavailable as problem:
            if problem.code != BUSY or clock.now() >= deadline:
                raise
        await clock.sleep_until(min(deadline, clock.now() + OPEN_POLL_S))


def open_existing(
    path: str, *, clock: Clock, boot: str, allow_filesystems: Collection[str] = (), verify_rows: bool = True
) -> SqliteState | None:
    """Return the state as it is at this moment, for reading; None when there is no file.

    The rows are copied into memory, which does not affect the file, its directory or a writing process.
    Reservations and records raise StoreMisuse; ``identify`` checks and writes nothing to the file.
    ``verify_rows=False`` is for ``SqliteState.check``, which reports damaged rows and does not refuse them.
    Raises StateUnusable, StateUnavailable.
    """
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        return None
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    file.inspect(real)
    with translated_errors(real):
        refuse_damaged_log(real)
        db = in_memory()
        try:
            db.deserialize(schema.with_wal(read_image(real), on=False))
            validate_file(db, real, verify_rows=verify_rows)
        except BaseException:
            db.close()
            raise
    options = StateOptions(clock, boot, lock_timeout_s=0.0, read_only=True)
    return SqliteState(db, real, FileLocks(real), options)


class SqliteState(Engine):
    """``ports.StateBackend``, as one process sees it; all accounts share it. ``open_state`` makes one."""

    has_leases = False
    locks: ProcessLocks

    def __init__(
        self,
        db: sqlite3.Connection,
        place: str,
        locks: ProcessLocks,
        options: StateOptions,
        *,
        still_there: Callable[[], None] = lambda: None,
        reopen: Callable[[], sqlite3.Connection] | None = None,
    ) -> None:
        """Use an open connection. ``reopen``: returns a new one after a failure; None: this one stays."""
        super().__init__(place, locks, options)
        self._failures = 0  # in a row, since something was last written
        self._failed_at = float("-inf")
        self._use(db)
        self._still_there = still_there
        self._reopen = reopen

    def _use(self, db: sqlite3.Connection) -> None:
        self._db, self._tables = db, Tables(_Statements(db))
        self._failed: MmpError | None = None
        """Why the connection is closed and has to be opened again; None: it is open."""

    async def moved(self) -> MmpError | None:
        """Return that the state was moved, so that nothing is written to it; None: it was not."""
        async with self.reading(None) as tables:
            moved = move_target(await tables.select(queries.select_state()))
        return None if moved is None else state_moved(self.place, moved)

    def sharing(self, replica: Replica) -> None:
        """Return None: a file belongs to one host, and each process runs all its configured accounts."""

    async def check(self) -> StateCheck:
        """Verify every row, and that none is missing."""
        async with self.reading(None) as tables:
            found = await check_rows(tables)
            try:
                verify_deciding_rows(self._db)
            except RowDamaged as error:
                return replace(found, damaged=tuple(dict.fromkeys((*found.damaged, str(error)))))
        return found

    async def owner(self, name: str, /) -> None:
        """Return None: there are no leases."""

    async def close(self) -> None:
        """Release all locks and close; harmless when done before."""
        self.close_now()

    def close_now(self) -> None:
        """Close at once, as the end of a process does; closing a file never waits."""
        self.locks.close()
        self._close_registry()
        self._db.close()

    def reading(
        self, _: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AbstractAsyncContextManager[Tables]:
        """Yield one consistent view of all rows. Raises StateUnusable, StateUnavailable."""
        del query  # only a remote engine needs it
        return self._transaction(_READ)

    @asynccontextmanager
    async def _write(self, _: WriteScope) -> AsyncIterator[Tables]:
        """Yield the view of the only writer of the file.

        A file lock cannot be lost before it is released. After StateUnusable and StateUnavailable the
        writes may be on record. Nothing is written to a state that was moved, or that a newer version has
        migrated.
        """
        async with self._transaction(_WRITE) as tables:
            if schema.version_of(self._db) > len(schema.MIGRATIONS):
                raise newer(self.place)
            moved = move_target(await tables.select(queries.select_state()))
            if moved is not None:
                self._close_registry()  # it no longer records requests
                raise state_moved(self.place, moved)
            yield tables

    def moving(self) -> AbstractAsyncContextManager[Tables]:
        """Yield the view of the only writer, also of a moved state: to move it, or to undo that."""
        return self._transaction(_WRITE)

    @asynccontextmanager
    async def _transaction(self, begin: tuple[str, ...]) -> AsyncIterator[Tables]:
        await self._begin(begin)
        # Nothing inside suspends the task: all tasks share one connection, and another transaction must not
        # begin on it meanwhile.
        try:
            self._still_there()
            yield self._tables
            self._db.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            raise
        if begin is _WRITE:
            self._failures = 0

    async def _begin(self, begin: tuple[str, ...]) -> None:
        """Begin a transaction; waits while other processes use the file."""
        deadline: float | None = None
        polls_s = chain(BUSY_POLLS_S, repeat(BUSY_POLLS_S[-1]))
        while (busy := self._try_to_begin(begin)) is not None:
            now = self.clock.now()
            deadline = now + BUSY_WAIT_S if deadline is None else deadline
            if now >= deadline:
                raise sqlite_error(self.place, busy)
            await self.clock.sleep_until(min(deadline, now + next(polls_s)))

    def _try_to_begin(self, begin: tuple[str, ...]) -> sqlite3.DatabaseError | None:
        """Begin a transaction; returns SQLite's error if another process uses the file."""
        if self._failed is not None:
            self._open_again(self._failed)
        try:
            for statement in begin:
                self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in BUSY_CODES:
                self._undo(error)
            with suppress(sqlite3.DatabaseError):  # the next try finds a transaction that is left open
                self._db.rollback()
            return error
        return None

    def _undo(self, error: BaseException) -> None:
        """Leave a failed transaction and raise the translated error; returns if the state did not fail.

        After a failed write, sync or COMMIT the connection's view of the file is unreliable, so the
        connection is closed.
        """
        failed = error if isinstance(error, sqlite3.DatabaseError) else None
        try:
            self._db.rollback()
        except sqlite3.DatabaseError as another:
            failed = failed or another
        problem = state_error(self.place, error)
        if failed is not None and self._reopen is not None:
            self._note_failure(problem or sqlite_error(self.place, failed))
            self._db.close()
        if problem is not None:
            raise problem from None

    def _open_again(self, before: MmpError) -> None:
        """Open the file again after a failure; after repeated failures, at most once per second."""
        assert self._reopen is not None, "else the connection is never closed"
        if self._failures > 1 and self.clock.now() < self._failed_at + REOPEN_AFTER_S:
            raise before.with_traceback(None)
        try:
            self._use(self._reopen())
        except MmpError as problem:
            self._note_failure(problem)
            raise

    def _note_failure(self, problem: MmpError) -> None:
        self._failed, self._failures, self._failed_at = problem, self._failures + 1, self.clock.now()


class _Statements:
    """``Transaction`` on a SQLite connection. Never waits for anything."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    async def fetch(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Return the rows of one SELECT."""
        return fetch_all(self._db, *statement)

    async def run(self, query: str, values: Sequence[SqlValue]) -> None:
        """Run a statement that returns no rows."""
        self._db.execute(query, values)

    async def run_each(self, query: str, many: Sequence[Sequence[SqlValue]]) -> None:
        """Run a statement that returns no rows once for each of ``many`` values."""
        self._db.executemany(query, many)

    async def next_ids(self, table: str, count: int) -> Sequence[int]:
        """Return the ids of the table's next rows."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name=?", (table,)).fetchone()
        first = 1 if found is None else int(found[0]) + 1
        return range(first, first + count)


def _make_if_missing(path: str) -> None:
    try:
        if os.path.lexists(path):
            file.remove_leftovers(path)
        else:
            file.create_state(path, schema.new_image(new_state_id()))
    except OSError as error:
        raise file.unwritable(path, error) from None
