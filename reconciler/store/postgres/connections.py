"""A few connections to PostgreSQL, and transactions that do not trust anybody's defaults.

Each transaction says in its first words all that safety rests on: one snapshot per statement, so that
what is read after a row was locked is what the last holder wrote; a commit that waits for the disk;
limits on how long a statement, a lock or a silence may take. Nothing is kept in a session (PgBouncer
in transaction mode gives each transaction another one): no prepared statement, no session lock, no
SET without LOCAL. Whatever the library raises is remade here and leaves no connection behind.

What needs no answer is not said at once: a beginning and writes go out with the next question, or with
COMMIT, as one message of the simple protocol, which every pooler passes on. The server runs its statements
one after another, each with what was committed before it, as if they had come one by one.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.abc import Params

from reconciler.store.file_locks import StoreMisuse
from reconciler.store.postgres.address import Address
from reconciler.store.postgres.errors import NotCommitted, translated_postgres_errors

MAX_POSTGRES_CONNECTIONS = 4
"""Per process. A transaction takes a few milliseconds, so four serve hundreds of accounts."""

STATEMENT_TIMEOUT_MS = 5_000
"""A statement takes milliseconds; longer, and something is wrong with the server."""

LOCK_TIMEOUT_MS = 4_000
"""Waiting for others' transactions of a few milliseconds. Less than a statement's, so that it is told."""

SILENCE_TIMEOUT_MS = 5_000
"""A process that stops within a transaction loses it, so that nobody waits for the stopped."""

MAX_PENDING = 1_000
"""Statements that wait to be said together; a copy of a large state has more."""

WATCHDOG_S = 10.0
"""When the server does not even say that it gave up: longer than each of the limits it was given. Those
count per statement: where several of one message wait, as those of a claim may, this can come first.
After it, up to 10 s more pass in asking a server to cancel that does not even hear that."""


class Mode(StrEnum):
    """What a transaction is for, as it begins."""

    WRITE = "ISOLATION LEVEL READ COMMITTED READ WRITE"
    """Each statement sees what was committed before it: what the last holder of a locked row wrote."""

    READ = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
    """All statements see one state of the rows."""


_LIMITS = (
    " SET LOCAL synchronous_commit = on;"
    # A COMMIT with a reserve comes with a warning: it must not be kept from us.
    " SET LOCAL client_min_messages = warning;"
    f" SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"
    f" SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {SILENCE_TIMEOUT_MS};"
    # Numbers come back as they were written, and names mean what they say.
    " SET LOCAL extra_float_digits = 3;"
    " SET LOCAL search_path = pg_catalog, mmp, pg_temp"
)

PostgresConnection = psycopg.AsyncConnection[tuple[Any, ...]]
DatabaseRow = tuple[Any, ...]
PostgresStatement = tuple[str, Params]
"""The text of one statement, and its values."""


class PostgresTransaction:
    """One transaction: statements in, rows out. Ends with its ``async with``, or with its last answers."""

    def __init__(self, connection: PostgresConnection, mode: Mode) -> None:
        self._connection = connection
        self._binding = psycopg.AsyncClientCursor(connection)
        self._beginning = f"BEGIN {mode};{_LIMITS}"
        self._pending: list[str] = [self._beginning]
        self._status: str | None = None
        self._over = False

    async def rows(self, query: str, values: Params = ()) -> list[DatabaseRow]:
        """Return the rows of one statement."""
        [found] = await self.query_batch((query, values))
        return found

    async def row(self, query: str, values: Params = ()) -> DatabaseRow | None:
        """Return the only row of one statement, None when there is none."""
        found = await self.rows(query, values)
        return found[0] if found else None

    async def query_batch(self, *questions: PostgresStatement) -> list[list[DatabaseRow]]:
        """Return the rows of each of several statements, run in this order, in one round trip."""
        said = await self._flush([self._bound(*one) for one in questions]) if questions else []
        return said[len(said) - len(questions) :]

    async def commit_batch(self, *questions: PostgresStatement) -> list[list[DatabaseRow]]:
        """Return the rows of the last statements of the transaction, committed in the same round trip."""
        words = [*(self._bound(*question) for question in questions), "COMMIT"]
        with _believing(self._connection):
            said = await self._flush(words)
        self._over = True
        if self._status != "COMMIT":
            # A transaction that failed unnoticed answers COMMIT with ROLLBACK, and no error.
            raise NotCommitted(f"the server answered COMMIT with {self._status}")
        return said[len(said) - len(words) : -1]

    async def run(self, query: str, values: Params = ()) -> None:
        """Run one statement without rows, no later than the next answer or the end."""
        self._pending.append(self._bound(query, values))
        if len(self._pending) > MAX_PENDING:
            await self._flush([])

    async def run_each(self, query: str, many: Sequence[Params]) -> None:
        """Run one statement for each of ``many`` values."""
        for values in many:
            await self.run(query, values)

    async def end(self) -> None:
        """Commit, if there is anything to commit; harmless when the last answers did."""
        if not self._over and self._pending != [self._beginning]:
            await self.commit_batch()

    def _bound(self, query: str, values: Params) -> str:
        # The simple protocol knows no parameters: the library writes values as literals.
        return self._binding.mogrify(query.encode(), values or None)

    async def _flush(self, words: list[str]) -> list[list[DatabaseRow]]:
        """Say what was not said yet and then ``words``; returns the rows of each statement."""
        if self._over:
            raise StoreMisuse("the transaction is over")
        words, self._pending = [*self._pending, *words], []
        async with asyncio.timeout(WATCHDOG_S):
            # Bytes: the statements are this program's own text, never anybody's values.
            cursor = await self._connection.execute("; ".join(words).encode())
            found = [await cursor.fetchall() if _has_rows(one) else [] async for one in cursor.results()]
        self._status = cursor.statusmessage
        return found


class Connections:
    """A few connections of one process, opened when needed, given back when a transaction is over."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[PostgresConnection] = []
        self._free = asyncio.Semaphore(MAX_POSTGRES_CONNECTIONS)
        self._closed = False

    @asynccontextmanager
    async def transaction(self, mode: Mode = Mode.WRITE) -> AsyncIterator[PostgresTransaction]:
        """Give one transaction, durably committed at the end; nothing of it holds when it raises.

        Except that an answer to COMMIT can be lost: then it raises, and may hold. Raises
        StateUnavailable for what may pass, StateUnusable for what will not.
        """
        async with self._free:
            with translated_postgres_errors(self.address):
                connection = await self._connection()
                try:
                    transaction = PostgresTransaction(connection, mode)
                    yield transaction
                    await transaction.end()
                except BaseException:
                    await _drop(connection)
                    raise
                await self._give_back(connection)

    async def close(self) -> None:
        """Close all connections; harmless when done before."""
        self._closed = True
        while self._idle:
            await _drop(self._idle.pop())

    async def _connection(self) -> PostgresConnection:
        """Return a connection with no transaction. One that lay idle may have died: then the next."""
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection):
                return connection
            await _drop(connection)
        return await psycopg.AsyncConnection.connect(
            self.address.conninfo,
            autocommit=True,  # BEGIN and COMMIT are our own words
            prepare_threshold=None,
        )

    async def _give_back(self, connection: PostgresConnection) -> None:
        if self._closed:
            await _drop(connection)
        else:
            self._idle.append(connection)


def _has_rows(cursor: psycopg.AsyncCursor[DatabaseRow]) -> bool:
    """Tell whether a result is of a question. Its ``description`` tells too, and describes each column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _is_quiet(connection: PostgresConnection) -> bool:
    """Tell whether nothing came over an idle connection: the server's last word, its end, an error.

    Asked before a transaction, because once COMMIT may have been said nothing can be tried again.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


@contextmanager
def _believing(connection: PostgresConnection) -> Iterator[None]:
    """Raise NotCommitted if the server has a reserve about the COMMIT said inside.

    One whose wait for the synchronous standby was cut short is answered with COMMIT and a warning.
    """
    said: list[tuple[str | None, str | None]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # Read at once: the library forgets it after the call.
        said.append((notice.severity_nonlocalized, notice.message_primary))

    connection.add_notice_handler(note)
    try:
        yield
    finally:
        connection.remove_notice_handler(note)
    warnings = [message or "" for severity, message in said if severity == "WARNING"]
    if warnings:
        raise NotCommitted("; ".join(warnings))


async def _drop(connection: PostgresConnection) -> None:
    """Close a connection whatever state it is in; the server undoes what was not committed."""
    with suppress(psycopg.Error, OSError):
        await connection.close()
