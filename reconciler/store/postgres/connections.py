"""A few connections to PostgreSQL, and transactions that do not trust anybody's defaults.

Each transaction says in its first words all that safety rests on: one snapshot per statement, so that
what is read after a row was locked is what the last holder wrote; a commit that waits for the disk;
limits on how long a statement, a lock or a silence may take. Nothing is kept in a session (PgBouncer
in transaction mode gives each transaction another one): no prepared statement, no session lock, no
SET without LOCAL. Whatever the library raises is remade here and leaves no connection behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.abc import Params

from reconciler.store.postgres.address import Address
from reconciler.store.postgres.failures import NotCommitted, remade

MAX_CONNECTIONS = 4
"""Per process. A transaction takes a few milliseconds, so four serve hundreds of accounts."""

STATEMENT_TIMEOUT_MS = 5_000
"""A statement takes milliseconds; longer, and something is wrong with the server."""

LOCK_TIMEOUT_MS = 4_000
"""Waiting for others' transactions of a few milliseconds. Less than a statement's, so that it is told."""

SILENCE_TIMEOUT_MS = 5_000
"""A process that stops within a transaction loses it, so that nobody waits for the stopped."""

WATCHDOG_S = 10.0
"""When the server does not even say that it gave up: longer than all the limits it was given."""


class Mode(StrEnum):
    """What a transaction is for, as it begins."""

    WRITE = "ISOLATION LEVEL READ COMMITTED READ WRITE"
    """Each statement sees what was committed before it: what the last holder of a locked row wrote."""

    READ = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
    """All statements see one state of the rows."""


_LIMITS = (
    " SET LOCAL synchronous_commit = on;"
    f" SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"
    f" SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {SILENCE_TIMEOUT_MS};"
    # Numbers come back as they were written, and names mean what they say.
    " SET LOCAL extra_float_digits = 3;"
    " SET LOCAL search_path = pg_catalog, mmp, pg_temp"
)

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Row = tuple[Any, ...]


class Transaction:
    """One open transaction: statements in, rows out. Ends with its ``async with``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def rows(self, query: str, values: Params = ()) -> list[Row]:
        """Return the rows of one statement."""
        cursor = await self._execute(query, values)
        return await cursor.fetchall()

    async def row(self, query: str, values: Params = ()) -> Row | None:
        """Return the only row of one statement, None when there is none."""
        found = await self.rows(query, values)
        return found[0] if found else None

    async def run(self, query: str, values: Params = ()) -> int:
        """Run one statement without rows; returns how many it touched."""
        return (await self._execute(query, values)).rowcount

    async def run_each(self, query: str, many: Sequence[Params]) -> None:
        """Run one statement for each of ``many`` values, in one round trip."""
        async with asyncio.timeout(WATCHDOG_S), self._connection.cursor() as cursor:
            await cursor.executemany(query.encode(), many)

    async def _execute(self, query: str, values: Params) -> psycopg.AsyncCursor[Row]:
        async with asyncio.timeout(WATCHDOG_S):
            # Bytes: the statements are this program's own text, never anybody's values.
            return await self._connection.execute(query.encode(), values or None)


class Connections:
    """A few connections of one process, opened when needed, given back when a transaction is over."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._closed = False

    @asynccontextmanager
    async def transaction(self, mode: Mode = Mode.WRITE) -> AsyncIterator[Transaction]:
        """Give one transaction, durably committed at the end; nothing of it holds when it raises.

        Except that an answer to COMMIT can be lost: then it raises, and may hold. Raises
        StateUnavailable for what may pass, StateUnusable for what will not.
        """
        async with self._free:
            with remade(self.address):
                connection = await self._begun(mode)
                try:
                    yield Transaction(connection)
                    await _commit(connection)
                except BaseException:
                    await _drop(connection)
                    raise
                await self._give_back(connection)

    async def close(self) -> None:
        """Close all connections; harmless when done before."""
        self._closed = True
        while self._idle:
            await _drop(self._idle.pop())

    async def _begun(self, mode: Mode) -> Connection:
        """Return a connection in a fresh transaction. One that lay idle may have died: then the next."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(psycopg.OperationalError, TimeoutError):
                return await _begin(connection, mode)
        return await _begin(await self._connect(), mode)

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self.address.conninfo,
            autocommit=True,  # BEGIN and COMMIT are our own words
            prepare_threshold=None,
        )

    async def _give_back(self, connection: Connection) -> None:
        if self._closed:
            await _drop(connection)
        else:
            self._idle.append(connection)


async def _begin(connection: Connection, mode: Mode) -> Connection:
    try:
        async with asyncio.timeout(WATCHDOG_S):
            await connection.execute(f"BEGIN {mode};{_LIMITS}".encode())
    except BaseException:
        await _drop(connection)
        raise
    return connection


async def _commit(connection: Connection) -> None:
    """Commit, and believe it only if the server says so without reserve.

    A failed transaction answers COMMIT with ROLLBACK and no error. A commit whose wait for the
    synchronous standby was cut short is answered with COMMIT and a warning.
    """
    said: list[tuple[str | None, str | None]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # Read at once: the library forgets it after the call.
        said.append((notice.severity_nonlocalized, notice.message_primary))

    connection.add_notice_handler(note)
    try:
        async with asyncio.timeout(WATCHDOG_S):
            done = await connection.execute(b"COMMIT")
    finally:
        connection.remove_notice_handler(note)
    warnings = [message or "" for severity, message in said if severity == "WARNING"]
    if done.statusmessage != "COMMIT" or warnings:
        raise NotCommitted("; ".join(warnings) or f"the server answered COMMIT with {done.statusmessage}")


async def _drop(connection: Connection) -> None:
    """Close a connection whatever state it is in; the server undoes what was not committed."""
    with suppress(psycopg.Error, OSError):
        await connection.close()
