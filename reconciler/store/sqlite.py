"""The state in SQLite: opening it, and its transactions; what is done in them is ``account``'s.

A write is one BEGIN IMMEDIATE … COMMIT with ``synchronous=FULL``, so it is on disk when the transaction
is over, and those of all processes are in one order. A file that another process keeps busy is waited for
without blocking the event loop. After any other failure the connection is closed, and the file is opened
anew, with every check, before anything else is read or written. SQLite's own errors never leave this file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    suppress,
)
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.monitoring.state_timeline import MAX_GAP_S
from reconciler.core.replica_assignment import Replica
from reconciler.core.state_records import LockHolder, StateCheck
from reconciler.errors import MmpError, StateUnavailable
from reconciler.ports import Clock
from reconciler.store import mounts, queries, sqlite_file, sqlite_schema
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import KEEP_ATTEMPTS, KEEP_STATE_CHANGES, WriteScope
from reconciler.store.file_locks import FileLocks, MemoryLocks, ProcessLocks, StoreMisuse
from reconciler.store.registry import StateRegistry
from reconciler.store.row_clock import FirstSeen
from reconciler.store.rows import RowDamaged, new_state_id
from reconciler.store.select_query import SelectQuery, SqlValue, Statement
from reconciler.store.sqlite_connection import (
    IN_MEMORY,
    in_memory,
    open_checked,
    read_image,
    refuse_damaged_log,
    validate_file,
)
from reconciler.store.sqlite_errors import (
    BUSY,
    BUSY_CODES,
    BUSY_WAIT_S,
    newer,
    primary_code,
    sqlite_error,
    state_error,
    translated_errors,
)
from reconciler.store.state_move import move_target, state_moved
from reconciler.store.table_access import Tables
from reconciler.store.verification import check_rows, fetch_all, verify_deciding_rows

BUSY_POLLS_S = (0.001, 0.005, 0.02, 0.05)
"""Between two tries to begin a transaction; the last repeats. Nothing blocks meanwhile: other accounts
and probes continue."""

REOPEN_AFTER_S = 1.0
"""Between two tries to open a file that failed more than once in a row: each checks it as a whole, and
all accounts of a process ask for it."""

OPEN_POLL_S = 0.5
"""Between two tries to open a file, each of which checks it as a whole."""


SIMULATED_ID = "0" * 32
"""The id of a state without a file: simulations have no chance of their own."""

_WRITE = ("BEGIN IMMEDIATE",)
_READ = ("BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1")
"""What begins a transaction. SQLite takes the view of a reading one with the first question only, and that
is where a busy file shows."""


def open_state(
    path: str,
    *,
    clock: Clock,
    boot: str,
    lock_timeout_s: float,
    keep_attempts: int = KEEP_ATTEMPTS,
    keep_state_changes: int = KEEP_STATE_CHANGES,
    max_gap_s: float = MAX_GAP_S,
    allow_filesystems: Collection[str] = (),
    busy_wait_s: float = BUSY_WAIT_S,
    registry: StateRegistry | None = None,
) -> SqliteState:
    """Open the state file for writing, making it if there is none.

    ``boot`` names this boot of this host, and must differ wherever the clock does. ``allow_filesystems``
    are types of file systems that are accepted beside the usual local ones. Symbolic links are followed,
    so that the lock files of all names of one state are the same. ``busy_wait_s``: how long to block while
    another process keeps the file busy. Raises StateUnusable, StateUnavailable.
    """
    real = os.path.realpath(path)
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    _make_if_missing(real)
    db = open_checked(real, busy_wait_s)
    still_there = sqlite_file.watch(real)

    def reopen() -> sqlite3.Connection:
        still_there()
        mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
        return open_checked(real, busy_wait_s=0.0)

    return SqliteState(
        db,
        place=real,
        clock=clock,
        first_seen=FirstSeen(boot),
        locks=FileLocks(real),
        lock_timeout_s=lock_timeout_s,
        keep_attempts=keep_attempts,
        keep_state_changes=keep_state_changes,
        max_gap_s=max_gap_s,
        registry=registry,
        still_there=still_there,
        reopen=reopen,
    )


async def open_waiting(
    path: str,
    *,
    clock: Clock,
    boot: str,
    lock_timeout_s: float,
    max_gap_s: float = MAX_GAP_S,
    allow_filesystems: Collection[str] = (),
    registry: StateRegistry | None = None,
) -> SqliteState:
    """Open the state as ``open_state`` does, waiting for one that is busy up to the lock timeout.

    It waits at least as long as a transaction does, and nothing is blocked meanwhile. Raises StateUnusable,
    StateUnavailable.
    """
    deadline = clock.now() + max(lock_timeout_s, BUSY_WAIT_S)
    while True:
        try:
            return open_state(
                path,
                clock=clock,
                boot=boot,
                lock_timeout_s=lock_timeout_s,
                max_gap_s=max_gap_s,
                allow_filesystems=allow_filesystems,
                registry=registry,
                busy_wait_s=0.0,
            )
        except StateUnavailable as problem:
            if problem.code != BUSY or clock.now() >= deadline:
                raise
        await clock.sleep_until(min(deadline, clock.now() + OPEN_POLL_S))


def open_existing(
    path: str,
    *,
    clock: Clock,
    boot: str,
    allow_filesystems: Collection[str] = (),
    verify_rows: bool = True,
) -> SqliteState | None:
    """Return the state as it is at this moment, for reading; None when there is no file.

    The rows are copied into memory: the file, its directory and whoever is writing are left alone.
    Whatever reserves or records is refused as misuse; ``identify`` checks but stamps the copy only.
    ``verify_rows=False`` is for ``SqliteState.check``, which reports damaged rows instead of refusing them.
    Raises StateUnusable, StateUnavailable.
    """
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        return None
    mounts.refuse_unfit(real, mounts.read_mountinfo(), allow_filesystems)
    sqlite_file.inspect(real)
    with translated_errors(real):
        refuse_damaged_log(real)
        db = in_memory()
        try:
            db.deserialize(sqlite_schema.with_wal(read_image(real), on=False))
            validate_file(db, real, verify_rows=verify_rows)
        except BaseException:
            db.close()
            raise
    return SqliteState(
        db,
        place=real,
        clock=clock,
        first_seen=FirstSeen(boot),
        locks=FileLocks(real),
        lock_timeout_s=0.0,
        read_only=True,
    )


class MemoryDisk:
    """A state without a file, for simulations: it outlives the simulated processes that open it."""

    def __init__(self, db: sqlite3.Connection | None = None) -> None:
        self._db = db or in_memory()
        self._db.deserialize(sqlite_schema.with_wal(sqlite_schema.new_image(SIMULATED_ID), on=False))
        self._locks: dict[str, tuple[object, LockHolder]] = {}

    def open(
        self,
        *,
        clock: Clock,
        boot: str,
        lock_timeout_s: float = 30.0,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_state_changes: int = KEEP_STATE_CHANGES,
        max_gap_s: float = MAX_GAP_S,
    ) -> SqliteState:
        """Open the state as one more process; closing it gives back its locks, as a death does."""
        return SqliteState(
            self._db,
            place=IN_MEMORY,
            clock=clock,
            first_seen=FirstSeen(boot),
            locks=MemoryLocks(self._locks),
            lock_timeout_s=lock_timeout_s,
            keep_attempts=keep_attempts,
            keep_state_changes=keep_state_changes,
            max_gap_s=max_gap_s,
            is_shared=True,
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
        first_seen: FirstSeen,
        locks: ProcessLocks,
        lock_timeout_s: float,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_state_changes: int = KEEP_STATE_CHANGES,
        max_gap_s: float = MAX_GAP_S,
        read_only: bool = False,
        registry: StateRegistry | None = None,
        still_there: Callable[[], None] = lambda: None,
        reopen: Callable[[], sqlite3.Connection] | None = None,
        is_shared: bool = False,
    ) -> None:
        """Take an open connection. ``reopen``: returns a new one after a failure; None: this one stays.

        ``is_shared``: the connection is used by others, too, and is not closed here.
        """
        self.place = place
        self.clock = clock
        self.first_seen = first_seen
        self.locks = locks
        self.lock_timeout_s = lock_timeout_s
        self.keep_attempts = keep_attempts
        self.keep_state_changes = keep_state_changes
        self.max_gap_s = max_gap_s
        self.read_only = read_only
        self.registry = registry
        self._failures = 0  # in a row, since something was last written
        self._failed_at = float("-inf")
        self._use(db)
        self._still_there = still_there
        self._reopen = reopen
        self._is_shared = is_shared

    def _use(self, db: sqlite3.Connection) -> None:
        self._db, self._tables = db, Tables(_Statements(db))
        self._failed: MmpError | None = None
        """Why the connection is closed and has to be opened again; None: it is open."""

    def account(self, account: str, environment: Environment, kind: ExchangeKind) -> SqlAccountStore:
        """Return the store of one account; those of one state share connection and first sights."""
        return SqlAccountStore(self, account, environment, kind)

    async def moved(self) -> MmpError | None:
        """Return that the state was moved, so that nothing is written to it; None: it was not."""
        async with self.reading(None) as tables:
            moved = move_target(await tables.select(queries.select_state()))
        return None if moved is None else state_moved(self.place, moved)

    def sharing(self, replica: Replica) -> None:
        """Return None: a file is of one host, and every process keeps all its accounts."""

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
        """Return None: nobody owns an account."""

    async def close(self) -> None:
        """Give back all locks and close; harmless when done before."""
        self.close_now()

    def close_now(self) -> None:
        """Close at once, as a death does; closing a file never waits for anybody."""
        self.locks.close()
        if self.registry is not None:
            self.registry.close()
        if not self._is_shared:
            self._db.close()

    def reading(
        self, _: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AbstractAsyncContextManager[Tables]:
        """Give one consistent view of all rows. Raises StateUnusable, StateUnavailable."""
        del query  # nothing here is far away
        return self._transaction(_READ)

    def writing(self, _: WriteScope, /) -> AbstractAsyncContextManager[Tables]:
        """Give the view of the only writer of the whole file; durable at the end.

        A lock that was taken is held until it is given back, so there is none to be lost. Raises
        StateUnusable and StateUnavailable: what was written may be on record all the same then. Nothing is
        written to a state that was moved, or brought up to date by a newer version.
        """
        if self.read_only:
            raise StoreMisuse(f"the state {self.place} was opened for reading")
        return self._writing()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Tables]:
        async with self._transaction(_WRITE) as tables:
            if sqlite_schema.version_of(self._db) > len(sqlite_schema.MIGRATIONS):
                raise newer(self.place)
            moved = move_target(await tables.select(queries.select_state()))
            if moved is not None:
                if self.registry is not None:
                    self.registry.close()  # it is no record of requests any more
                raise state_moved(self.place, moved)
            yield tables

    def moving(self) -> AbstractAsyncContextManager[Tables]:
        """Give the view of the only writer, also of a state that was moved: to move it, or to undo that."""
        return self._transaction(_WRITE)

    @asynccontextmanager
    async def _transaction(self, begin: tuple[str, ...]) -> AsyncIterator[Tables]:
        await self._begin(begin)
        # Nothing waits inside: one connection serves all, so another transaction must not begin here.
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
        """Begin a transaction; waits while other processes keep the file busy."""
        deadline: float | None = None
        polls_s = chain(BUSY_POLLS_S, repeat(BUSY_POLLS_S[-1]))
        while (busy := self._try_to_begin(begin)) is not None:
            now = self.clock.now()
            deadline = now + BUSY_WAIT_S if deadline is None else deadline
            if now >= deadline:
                raise sqlite_error(self.place, busy)
            await self.clock.sleep_until(min(deadline, now + next(polls_s)))

    def _try_to_begin(self, begin: tuple[str, ...]) -> sqlite3.DatabaseError | None:
        """Begin a transaction; returns what SQLite says where another process has the file."""
        if self._failed is not None:
            self._open_again(self._failed)
        try:
            for statement in begin:
                self._db.execute(statement)
        except sqlite3.DatabaseError as error:
            if primary_code(error) not in BUSY_CODES:
                self._undo(error)
            with suppress(sqlite3.DatabaseError):  # what is left of it is found by the next try
                self._db.rollback()
            return error
        return None

    def _undo(self, error: BaseException) -> None:
        """Leave a transaction that failed, and raise what it means; returns where the state did not fail.

        After a failed write, sync or COMMIT nothing that the connection knows of the file can be relied on,
        so it is closed.
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
        """Open the file again after a failure; while one follows another, a second after the last."""
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
        """Return the ids the table's next rows get."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name=?", (table,)).fetchone()
        first = 1 if found is None else int(found[0]) + 1
        return range(first, first + count)


def _make_if_missing(path: str) -> None:
    try:
        if os.path.lexists(path):
            sqlite_file.remove_leftovers(path)
        else:
            sqlite_file.create_state(path, sqlite_schema.new_image(new_state_id()))
    except OSError as error:
        raise sqlite_file.unwritable(path, error) from None
