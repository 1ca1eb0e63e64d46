"""A state in memory for tests and simulations: its processes share a connection and a table of locks."""

from __future__ import annotations

import sqlite3

from reconciler.core.history_records import LockHolder
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite import schema
from reconciler.store.sqlite.connection import IN_MEMORY, in_memory
from reconciler.store.sqlite.file_locks import LOCK_POLL_S, StoreMisuse
from reconciler.store.sqlite.state import SqliteState

SIMULATED_ID = "0" * 32
"""The id of a state without a file: simulations are deterministic."""


class MemoryDisk:
    """A state without a file, for simulations: it outlives the simulated processes that open it."""

    def __init__(self, db: sqlite3.Connection | None = None) -> None:
        self._db = db or in_memory()
        self._db.deserialize(schema.with_wal(schema.new_image(SIMULATED_ID), on=False))
        self._locks: dict[str, tuple[object, LockHolder]] = {}

    def open(self, options: StateOptions) -> SqliteState:
        """Open the state as one more process; closing it releases its locks, as a process exit does."""
        return _SharedState(self._db, IN_MEMORY, MemoryLocks(self._locks), options)

    def close(self) -> None:
        """Delete all rows."""
        self._db.close()


class _SharedState(SqliteState):
    """A state whose connection other processes use too, so that closing the state does not close it."""

    def close_now(self) -> None:
        self.locks.close()
        self._close_registry()


class MemoryLocks:
    """Locks of simulated processes, which share one table; each process is one owner."""

    poll_s = LOCK_POLL_S

    def __init__(self, table: dict[str, tuple[object, LockHolder]]) -> None:
        self._table = table

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock if it is free."""
        held = self._table.get(name)
        if held is None:
            self._table[name] = (self, holder)
        elif held[0] is self:
            raise StoreMisuse(f"the lock {name} is already held by this process")
        return held is None

    async def release(self, name: str) -> None:
        """Release the lock, if it is this process's."""
        self._release(name)

    def _release(self, name: str) -> None:
        if name in self._table and self._table[name][0] is self:
            del self._table[name]

    async def holder(self, name: str) -> LockHolder | None:
        """Return the holder of the lock."""
        return self._table[name][1] if name in self._table else None

    def close(self) -> None:
        """Release every lock of this process."""
        for name in tuple(self._table):
            self._release(name)
