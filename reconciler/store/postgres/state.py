"""The state in PostgreSQL: opening it, and its transactions. ``account_store`` defines what they do.

A writing transaction first locks what it claims and only then reads, so it reads what the last writer
wrote. The row of a budget also names the history of the server it was last seen on. If that has changed, a
failover or a restore may have lost requests. The first process that sees the change records it in the same
transaction. A write may be in force although it failed, because an answer to COMMIT can be lost.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from reconciler.core.failover_loss import SeenTable, SeenTimeline, may_have_lost
from reconciler.core.model import RateBudget
from reconciler.core.replica_assignment import Replica
from reconciler.ports import Clock
from reconciler.store import select_query
from reconciler.store.engine import Engine, StateOptions
from reconciler.store.postgres import schema
from reconciler.store.postgres.connections import (
    Connections,
    DatabaseRow,
    Mode,
    PostgresStatement,
    PostgresTransaction,
)
from reconciler.store.postgres.conninfo import parse_address
from reconciler.store.postgres.leases import Leases, lease_owner
from reconciler.store.postgres.locks import LeaseLocks
from reconciler.store.rows import TABLES, budget_key
from reconciler.store.select_query import SelectQuery, SqlValue
from reconciler.store.table_access import Tables, WriteScope

_HISTORY = " ".join(
    (
        f"SELECT history, {schema.HISTORY}, budgets.tableoid::bigint, {schema.USABLE}",
        "FROM budgets, pg_control_system() WHERE kind=%s AND environment=%s AND uid=%s",
    )
)
_LOCKED_HISTORY = f"{_HISTORY} FOR UPDATE OF budgets"
"""The transaction that has read this row is the only one that reserves for the budget until it ends."""

_ACCOUNT = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
"""The transaction that has read this is the only one that writes about the account until it ends."""

_NEW_BUDGET = " ".join(
    (
        "INSERT INTO budgets (kind, environment, uid, history) SELECT %s, %s, %s, history",
        "FROM version ON CONFLICT DO NOTHING",
    )
)
"""Recorded with the history that the state was created in: in a later one the first requests of the User
ID, and the budget's row with them, may have been lost."""

FILLING_SILENCE_TIMEOUT_MS = 60_000
"""For a transaction that copies rows from another state. It works long between two statements, and no other
process waits for it, because what it claims is not in use here yet."""

_PATIENTLY = f"SET LOCAL idle_in_transaction_session_timeout = {FILLING_SILENCE_TIMEOUT_MS}"

_SAW_HISTORY = " ".join(
    (
        "UPDATE budgets SET history =",
        schema.HISTORY,
        "FROM pg_control_system() WHERE kind=%s AND environment=%s AND uid=%s",
    )
)
"""From then on it is the recorded history, so the same transaction must record a possible loss."""


async def open_state(text: str, options: StateOptions) -> PostgresState:
    """Open the state for writing; its schema is created or migrated if necessary.

    Raises UsageError for an invalid address, StateAccessDenied, StateUnusable and StateUnavailable.
    """
    address = parse_address(text)
    connections = Connections(address)
    try:
        table = await _make_ready(connections)
    except BaseException:
        await connections.close()
        raise
    return PostgresState(connections, options, table=table)


async def open_existing(text: str, *, clock: Clock, boot: str) -> PostgresState | None:
    """Return the state for reading only; None where there is none. Nothing is created or written.

    Raises UsageError for an invalid address, StateAccessDenied, StateUnusable and StateUnavailable.
    """
    address = parse_address(text)
    connections = Connections(address)
    try:
        async with connections.transaction(Mode.READ) as transaction:
            version = await schema.version_of(transaction, address.shown)
            if version is not None:
                await schema.check_usable(transaction, address.shown, version)
    except BaseException:
        await connections.close()
        raise
    if version is None:
        await connections.close()
        return None
    return PostgresState(connections, StateOptions(clock, boot, lock_timeout_s=0.0, read_only=True))


class PostgresState(Engine):
    """``ports.StateBackend``, as one process sees them; all accounts share it."""

    has_leases = True
    locks: LeaseLocks

    def __init__(
        self, connections: Connections, options: StateOptions, *, table: int | None = None
    ) -> None:
        """Use an open state. ``table``: the object id of its table ``budgets``, None if it was not read."""
        super().__init__(connections.address.shown, LeaseLocks(connections), options)
        self._connections = connections
        self._seen: dict[RateBudget, SeenTimeline] = {}
        """The history of each budget with a row. An old primary that comes back agrees with its own rows,
        so the rows alone do not show a change."""
        self._table = None if table is None else SeenTable(table)
        """For all budgets: a table that was created again or restored may lack requests of any of them."""

    async def moved(self) -> None:
        """Return None: rows are never copied from a database to another state."""

    def sharing(self, replica: Replica) -> Leases:
        """Return the leases as ``replica`` sees them, on a separate connection."""
        return Leases(Connections(self._connections.address), replica)

    async def owner(self, name: str, /) -> Replica | None:
        """Return the live replica that owns the account with this lock; None when none does."""
        async with self._connections.transaction(Mode.READ) as transaction:
            return await lease_owner(transaction, name)

    async def close(self) -> None:
        """Release all locks and close; harmless when done before."""
        await self.locks.close()
        self._close_registry()
        await self._connections.close()

    @asynccontextmanager
    async def reading(
        self, budget: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AsyncIterator[Tables]:
        """Yield one consistent view of all rows."""
        histories = () if budget is None else ((_HISTORY, budget_key(budget)),)
        async with self._connections.transaction(Mode.READ) as transaction:
            statements = () if query is None else query.statements
            run = transaction.query_batch if query is None else transaction.commit_batch
            found = await run(*histories, *map(_statement, statements))
            answers = dict(zip(statements, found[len(histories) :], strict=True))
            lost = budget is not None and self._is_other(budget, found[0])
            if budget is not None and not lost:
                self._saw(budget, found[0])
            yield Tables(_Statements(transaction, answers), lost=lost)

    @asynccontextmanager
    async def _write(self, claim: WriteScope) -> AsyncIterator[Tables]:
        """Yield the view of the only writer of the account, and of the budget where one is claimed."""
        async with self._connections.transaction() as transaction:
            statements, found, missing = await self._claim(transaction, claim)
            lost = (claim.budget is not None and self._is_other(claim.budget, found)) or missing
            if lost and claim.budget is not None:
                await transaction.run(_SAW_HISTORY, budget_key(claim.budget))
            yield Tables(statements, lost=lost)
        if claim.budget is not None:
            self._saw(claim.budget, found)

    @asynccontextmanager
    async def bulk_write(self, claims: Sequence[WriteScope]) -> AsyncIterator[Tables]:
        """Yield the view of the only writer of several accounts and budgets, to copy rows into this state.

        The next writing transaction of a budget records what it may have lost.
        """
        async with self._connections.transaction() as transaction:
            await transaction.run(_PATIENTLY)
            for claim in claims:
                await self._claim(transaction, claim)
            yield Tables(_Statements(transaction, {}))

    def _is_other(self, budget: RateBudget, found: Sequence[DatabaseRow]) -> bool:
        """Tell whether a change of the server's history may have lost what is not recorded as lost yet.

        A budget without any write has nothing that could be lost.
        """
        seen = self._seen.get(budget)
        if not found:
            return seen is not None
        [(recorded, current, table, usable_from)] = found
        schema.refuse_newer(self.place, usable_from)
        now = self.clock.now()
        self._table = SeenTable(table) if self._table is None else self._table.then(table, now)
        if self._table.may_lack_requests(now, None if seen is None else seen.at):
            return True
        return may_have_lost(recorded, SeenTimeline(current, now, table), seen)

    def _saw(self, budget: RateBudget, found: Sequence[DatabaseRow]) -> None:
        now = self.clock.now()
        self._seen.update((budget, SeenTimeline(current, now, table)) for _, current, table, _ in found)

    async def _claim(
        self, transaction: PostgresTransaction, claim: WriteScope, *, again: bool = False
    ) -> tuple[_Statements, list[DatabaseRow], bool]:
        """Become the only writer of what is claimed.

        Returns besides the view the histories of a budget: its row's, and now; and whether that row, which
        this process saw before, was missing, and the requests with it.

        The server works in this order: lock the budget's row, then the account, then the row of the lock
        that was taken, and only then run the queries of ``ahead``. That is one round trip.
        """
        budget, held = claim.budget, claim.held
        rows = () if budget is None else await self._row_of(transaction, budget, make=again)
        # An account has one kind of exchange, which its identity names: its lock covers all kinds.
        account: PostgresStatement = (_ACCOUNT, (".".join(claim.key[:2]),))
        lock_query = () if held is None else self.locks.lock_query(held)
        numbers = (_ids(TABLES[kind], 1) for kind in claim.numbers)
        claims, ahead = (*rows, account, *lock_query), (*claim.ahead.statements, *numbers)
        if claims == (account,) and not ahead:
            await transaction.run(*account)
            return _Statements(transaction, {}), [], False
        found = await transaction.query_batch(*claims, *map(_statement, ahead))
        if budget is not None and not found[0]:
            if again:
                raise schema.incomplete(self.place, "version")
            # The row was created on another server than this one, or in earlier tables. Here the account
            # is locked before the row. If that deadlocks with the usual order, the server aborts one of
            # the two transactions.
            return await self._claim(transaction, claim, again=True)
        if held is not None and lock_query:
            self.locks.assert_held(held, found[len(claims) - 1])
        answers = dict(zip(ahead, found[len(claims) :], strict=True))
        histories = [] if budget is None else found[0]
        return _Statements(transaction, answers), histories, again and budget in self._seen

    async def _row_of(
        self, transaction: PostgresTransaction, budget: RateBudget, *, make: bool
    ) -> tuple[PostgresStatement, ...]:
        """Return what locks the row of a budget; it is created unless this process has seen it."""
        key = budget_key(budget)
        if make or budget not in self._seen:
            await transaction.run(_NEW_BUDGET, key)
        return ((_LOCKED_HISTORY, key),)


class _Statements:
    """``table_access.Transaction`` on an open transaction, in PostgreSQL's dialect.

    The results of queries that ran ahead are used until something is written.
    """

    def __init__(
        self, transaction: PostgresTransaction, answers: dict[select_query.Statement, list[DatabaseRow]]
    ) -> None:
        self._transaction = transaction
        self._answers = answers

    async def fetch(self, statement: select_query.Statement) -> Sequence[DatabaseRow]:
        """Return the rows of one SELECT."""
        if statement in self._answers:
            return self._answers[statement]
        return await self._transaction.rows(*_statement(statement))

    async def run(self, query: str, values: Sequence[SqlValue]) -> None:
        """Run a statement that returns no rows."""
        self._answers.clear()
        await self._transaction.run(translated(query), values)

    async def run_each(self, query: str, many: Sequence[Sequence[SqlValue]]) -> None:
        """Run a statement that returns no rows once for each of ``many`` values."""
        self._answers.clear()
        await self._transaction.run_each(translated(query), many)

    async def next_ids(self, table: str, count: int) -> Sequence[int]:
        """Return the ids of the table's next rows; an id that is not used then is never used."""
        statement = _ids(table, count)
        found = await self.fetch(statement)
        self._answers.pop(statement, None)  # an id is used once
        return [int(number) for (number,) in found]


def _ids(table: str, count: int) -> select_query.Statement:
    return select_query.Statement(
        "SELECT nextval(?::regclass) FROM generate_series(1, ?)", (f"mmp.{table}_id", count)
    )


def _statement(statement: select_query.Statement) -> PostgresStatement:
    return translated(statement.text), statement.values


@lru_cache(maxsize=256)
def translated(query: str) -> str:
    """Return a statement in PostgreSQL's dialect: its placeholders, and no index hints."""
    return re.sub(r" INDEXED BY \w+", "", query).replace("?", "%s")


async def _make_ready(connections: Connections) -> int:
    """Make sure that the schema exists and is complete; migrate it only if it is older than this version.

    Returns the object id of the table ``budgets``, 0 if there is none.
    """
    place = connections.address.shown
    async with connections.transaction(Mode.READ) as transaction:
        version = await schema.version_of(transaction, place)
    if version is None or version < len(schema.MIGRATIONS):
        version = len(schema.MIGRATIONS)
        async with connections.transaction() as transaction:
            await schema.migrate(transaction, place)
    async with connections.transaction(Mode.READ) as transaction:
        await schema.check_usable(transaction, place, version)
        return await schema.table_of_budgets(transaction)
