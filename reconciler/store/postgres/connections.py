"""A small connection pool for PostgreSQL, and transactions that do not depend on server defaults.

Each transaction begins by setting everything that safety depends on: one snapshot per statement, so that a
read after a row lock returns what the last lock holder wrote; a commit that waits for the disk; limits on
the duration of a statement, a lock wait and an idle transaction. No state stays in a session, because
PgBouncer in transaction mode gives each transaction another one: no prepared statement, no session lock,
no SET without LOCAL. Errors of the library are translated here, and their connection is closed.

Statements without a result are not sent at once. BEGIN and writes are sent with the next query, or with
COMMIT, as one message of the simple protocol, which every pooler supports. The server runs its statements
in order, and each sees what was committed before it, as if they had been sent one by one.
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

from reconciler.store.postgres.conninfo import Address
from reconciler.store.postgres.errors import NotCommitted, translated_postgres_errors
from reconciler.store.sqlite.file_locks import StoreMisuse

MAX_POSTGRES_CONNECTIONS = 4
"""Per process. A transaction takes a few milliseconds, so four serve hundreds of accounts."""

STATEMENT_TIMEOUT_MS = 5_000
"""A statement takes milliseconds. If it takes longer, something is wrong with the server."""

LOCK_TIMEOUT_MS = 4_000
"""Other transactions take milliseconds. Below the statement timeout, so that the error names the lock."""

SILENCE_TIMEOUT_MS = 5_000
"""The server aborts the transaction of a process that stops, so that no other process waits for it."""

MAX_PENDING = 1_000
"""Maximum number of statements that wait to be sent together. A copy of a large state has more."""

WATCHDOG_S = 10.0
"""For a server that does not even report a timeout: longer than each of the limits above. Those count per
statement. Where several statements of one message wait, as those of a claim may, this can end first. After
it, the request to cancel takes up to 10 s more if the server does not react."""


class Mode(StrEnum):
    """What a transaction is for: the clause after its BEGIN."""

    WRITE = "ISOLATION LEVEL READ COMMITTED READ WRITE"
    """Each statement sees what was committed before it: also what the last holder of a row lock wrote."""

    READ = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
    """All statements see one state of the rows."""


_LIMITS = (
    " SET LOCAL synchronous_commit = on;"
    # A COMMIT that may not be durable comes with a warning: the server must send it.
    " SET LOCAL client_min_messages = warning;"
    f" SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS};"
    f" SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {SILENCE_TIMEOUT_MS};"
    # Numbers are read as they were written, and names resolve to the expected schemas.
    " SET LOCAL extra_float_digits = 3;"
    " SET LOCAL search_path = pg_catalog, mmp, pg_temp"
)

PostgresConnection = psycopg.AsyncConnection[tuple[Any, ...]]
DatabaseRow = tuple[Any, ...]
PostgresStatement = tuple[str, Params]
"""The text of one statement, and its values."""


class PostgresTransaction:
    """One transaction: statements in, rows out. Its ``async with`` or ``commit_batch`` ends it."""

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
        found = await self._flush([self._bound(*one) for one in questions]) if questions else []
        return found[len(found) - len(questions) :]

    async def commit_batch(self, *questions: PostgresStatement) -> list[list[DatabaseRow]]:
        """Return the rows of the last statements of the transaction, and commit in the same round trip."""
        words = [*(self._bound(*question) for question in questions), "COMMIT"]
        with _refusing_warnings(self._connection):
            found = await self._flush(words)
        self._over = True
        if self._status != "COMMIT":
            # The server answers COMMIT of a failed transaction with ROLLBACK, and no error.
            raise NotCommitted(f"the server answered COMMIT with {self._status}")
        return found[len(found) - len(words) : -1]

    async def run(self, query: str, values: Params = ()) -> None:
        """Run one statement without rows, no later than the next query or the end."""
        self._pending.append(self._bound(query, values))
        if len(self._pending) > MAX_PENDING:
            await self._flush([])

    async def run_each(self, query: str, many: Sequence[Params]) -> None:
        """Run one statement for each of ``many`` values."""
        for values in many:
            await self.run(query, values)

    async def end(self) -> None:
        """Commit, if there is anything to commit; harmless after ``commit_batch``."""
        if not self._over and self._pending != [self._beginning]:
            await self.commit_batch()

    def _bound(self, query: str, values: Params) -> str:
        # The simple protocol has no parameters: the library writes values as literals.
        return self._binding.mogrify(query.encode(), values or None)

    async def _flush(self, words: list[str]) -> list[list[DatabaseRow]]:
        """Send the pending statements and then ``words``; returns the rows of each statement."""
        if self._over:
            raise StoreMisuse("the transaction is over")
        words, self._pending = [*self._pending, *words], []
        async with asyncio.timeout(WATCHDOG_S):
            # Bytes: the library's types accept only a literal as a str. No other text is in a statement.
            cursor = await self._connection.execute("; ".join(words).encode())
            found = [await cursor.fetchall() if _has_rows(one) else [] async for one in cursor.results()]
        self._status = cursor.statusmessage
        return found


class Connections:
    """The connection pool of one process. Connections are opened when needed."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._idle: list[PostgresConnection] = []
        self._free = asyncio.Semaphore(MAX_POSTGRES_CONNECTIONS)
        self._closed = False

    @asynccontextmanager
    async def transaction(self, mode: Mode = Mode.WRITE) -> AsyncIterator[PostgresTransaction]:
        """Yield one transaction. It is durably committed at the end, and rolled back when this raises.

        If the answer to COMMIT is lost, this raises although the transaction may be committed. Raises
        StateUnavailable for temporary errors, StateAccessDenied and StateUnusable for lasting ones.
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
        """Return a connection with no transaction. Idle connections that have failed are dropped."""
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection):
                return connection
            await _drop(connection)
        return await psycopg.AsyncConnection.connect(
            self.address.conninfo,
            autocommit=True,  # this module sends BEGIN and COMMIT itself
            prepare_threshold=None,
        )

    async def _give_back(self, connection: PostgresConnection) -> None:
        if self._closed:
            await _drop(connection)
        else:
            self._idle.append(connection)


def _has_rows(cursor: psycopg.AsyncCursor[DatabaseRow]) -> bool:
    """Tell whether a result has rows. ``description`` is slower, because it describes each column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _is_quiet(connection: PostgresConnection) -> bool:
    """Tell whether nothing arrived on an idle connection: no message, no end of stream, no error.

    Checked before a transaction, because nothing can be retried once COMMIT may have been sent.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


@contextmanager
def _refusing_warnings(connection: PostgresConnection) -> Iterator[None]:
    """Raise NotCommitted if the server warns about the COMMIT sent inside.

    If the wait for the synchronous standby was cancelled, the server answers COMMIT with a warning.
    """
    notices: list[tuple[str | None, str | None]] = []

    def note(notice: psycopg.errors.Diagnostic) -> None:
        # Read at once: the library frees the notice after the call.
        notices.append((notice.severity_nonlocalized, notice.message_primary))

    connection.add_notice_handler(note)
    try:
        yield
    finally:
        connection.remove_notice_handler(note)
    warnings = [message or "" for severity, message in notices if severity == "WARNING"]
    if warnings:
        raise NotCommitted("; ".join(warnings))


async def _drop(connection: PostgresConnection) -> None:
    """Close a connection in any state; the server rolls back what was not committed."""
    with suppress(psycopg.Error, OSError):
        await connection.close()
