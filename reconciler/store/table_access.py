"""Typed reads and writes of the state's tables in one transaction, for every engine.

The SQL is SQLite's; an engine with another dialect translates it. The only differences are the
placeholders and the hints which index to use. Every row gets its checksum when it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from reconciler.core.model import RateBudget
from reconciler.store import queries
from reconciler.store.rows import (
    KEYS,
    TABLES,
    AccountKey,
    AttemptRow,
    LossRow,
    Numbered,
    ObservedPeriodRow,
    Row,
    RowDamaged,
    RowKind,
    budget_key,
    check_checksum,
    fields,
    is_numbered,
    with_checksum,
)
from reconciler.store.select_query import (
    NOTHING,
    OF_ACCOUNT,
    OF_USER,
    Result,
    SelectQuery,
    SqlValue,
    Statement,
    select_unchecked,
)

CHANGING: Mapping[RowKind, tuple[str, ...]] = {
    AttemptRow: (
        *("status", "definite", "code", "message", "answered_boot", "answered_at", "settled_wall"),
        *("limited", "retired", "resolved", "tries"),
    ),
    ObservedPeriodRow: ("until_wall",),
}
"""The columns that can change after a row was written, of the kinds that are updated."""

CHUNK = 10_000
"""Rows that are read at once when a table is verified: a fraction of a server's time limit."""


class Transaction(Protocol):
    """One open transaction of an engine: a consistent view of all rows, or the only writer."""

    async def fetch(self, statement: Statement) -> Sequence[tuple[Any, ...]]:
        """Return the rows of one SELECT."""

    async def run(self, query: str, values: Sequence[SqlValue]) -> None:
        """Run a statement that returns no rows."""

    async def run_each(self, query: str, many: Sequence[Sequence[SqlValue]]) -> None:
        """Run a statement that returns no rows once for each of ``many`` values."""

    async def next_ids(self, table: str, count: int) -> Sequence[int]:
        """Return the ids of the table's next rows: a row's checksum covers its id."""


@dataclass(frozen=True, slots=True)
class WriteScope:
    """What a writing transaction is the only writer of: an account, and a budget where one is named.

    ``held`` names a lock: if this process took it, it must still have it. ``ahead`` is the first query,
    and ``numbers`` the kinds of rows that need a new id: a remote engine runs both when it claims. Other or
    later queries are correct too, and slower.
    """

    key: AccountKey
    budget: RateBudget | None = None
    held: str | None = None
    ahead: SelectQuery[Any] = NOTHING
    numbers: tuple[type[Numbered], ...] = ()


class Tables:
    """Typed reads and writes of one transaction.

    ``lost``: the newest records of the budget may have been lost, and no process recorded that yet. The
    next process that writes about the budget must record it in the same transaction.
    """

    def __init__(self, transaction: Transaction, *, lost: bool = False) -> None:
        self.lost = lost
        self._transaction = transaction

    async def select(self, query: SelectQuery[Result]) -> Result:
        """Return the result of a query. Raises RowDamaged."""
        return query.parse([await self._transaction.fetch(one) for one in query.statements])

    async def damaged(self, kind: type[Row]) -> tuple[int, list[str]]:
        """Return how many rows of a kind there are, and a message for each damaged one."""
        number, damaged = 0, []
        for query in await self._chunks(kind):
            for row in await self.select(query):
                number += 1
                try:
                    check_checksum(row)
                except RowDamaged as error:
                    damaged.append(str(error))
        return number, damaged

    async def _chunks(self, kind: type[Row]) -> list[SelectQuery[list[Row]]]:
        """Return the queries for all rows of a kind; a table that grows is read in chunks."""
        if not is_numbered(kind):
            return [select_unchecked(kind)]
        newest = await self.select(queries.newest_id(kind))
        return [
            queries.in_id_range(kind, first, first + CHUNK - 1) for first in range(1, newest + 1, CHUNK)
        ]

    # -- any row -------------------------------------------------------------------------------

    async def next_id(self, kind: type[Numbered]) -> int:
        """Return the id of the next row of ``kind``."""
        [number] = await self.next_ids(kind, 1)
        return number

    async def next_ids(self, kind: RowKind, count: int) -> Sequence[int]:
        """Return the ids of the next rows of ``kind``, rising."""
        return await self._transaction.next_ids(TABLES[kind], count)

    async def insert(self, row: Row) -> None:
        """Write a new row."""
        await self._transaction.run(_INSERTS[type(row)], with_checksum(row))

    async def insert_losses(self, rows: Sequence[LossRow]) -> None:
        """Write new losses, with the next ids in this order."""
        numbers = await self.next_ids(LossRow, len(rows))
        await self.insert_all([row._replace(id=number) for row, number in zip(rows, numbers, strict=True)])

    async def insert_all(self, rows: Sequence[Row]) -> None:
        """Write new rows of one kind."""
        if rows:
            await self._transaction.run_each(_INSERTS[type(rows[0])], [with_checksum(row) for row in rows])

    async def upsert(self, row: Row) -> None:
        """Write a row in place of the one with the same key, if there is one."""
        await self._transaction.run(_UPSERTS[type(row)], with_checksum(row))

    async def update(self, rows: Sequence[AttemptRow | ObservedPeriodRow]) -> None:
        """Write back everything of rows of one kind that can change."""
        if rows:
            names = ("checksum", *CHANGING[type(rows[0])])
            query = (
                f"UPDATE {TABLES[type(rows[0])]} SET {', '.join(f'{name}=?' for name in names)} WHERE id=?"
            )
            written = [attrgetter(*names, "id")(with_checksum(row)) for row in rows]
            await self._transaction.run_each(query, written)

    # -- one User ID ---------------------------------------------------------------------------

    async def delete(self, kind: type[Numbered], numbers: Sequence[int]) -> None:
        """Delete rows by their ids."""
        if numbers:
            query = f"DELETE FROM {TABLES[kind]} WHERE id=?"
            await self._transaction.run_each(query, [(one,) for one in numbers])

    async def prune_plan_changes(self, budget: RateBudget, before: str) -> None:
        """Delete changes of saved plans that were applied before a time of day."""
        await self._transaction.run(
            f"DELETE FROM plan_changes WHERE {OF_USER} AND at_wall < ?", (*budget_key(budget), before)
        )

    async def prune_policies(self, budget: RateBudget, keep: int) -> None:
        """Delete policies, except the newest ``keep`` of the User ID."""
        await self._prune_beyond("policies", budget, keep)

    async def prune_files(self, budget: RateBudget, up_to: int) -> None:
        """Delete content of settings files that was accepted as number ``up_to`` or before."""
        await self._transaction.run(
            f"DELETE FROM files WHERE {OF_USER} AND number <= ?", (*budget_key(budget), up_to)
        )

    async def prune_attempts(self, budget: RateBudget, keep: int) -> None:
        """Delete attempts that nothing depends on, except the newest ``keep`` of the budget."""
        await self._prune_beyond("attempts", budget, keep, " AND retired=1 AND resolved=1 AND tries=0")

    async def _prune_beyond(self, table: str, budget: RateBudget, keep: int, which: str = "") -> None:
        key = budget_key(budget)
        await self._transaction.run(
            f"DELETE FROM {table} WHERE {OF_USER}{which}"
            f" AND id <= (SELECT id FROM {table} WHERE {OF_USER} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*key, *key, keep),
        )

    async def delete_pause(self, budget: RateBudget, family: str) -> None:
        """End the pause of a family; harmless without one."""
        key = (*budget_key(budget), family)
        await self._transaction.run(f"DELETE FROM pauses WHERE {OF_USER} AND family=?", key)

    # -- timeline ------------------------------------------------------------------------------

    async def delete_after(self, key: AccountKey, at: str) -> None:
        """Delete the observed periods that began, and the state changes recorded, later than ``at``."""
        for table, column in (("observed_periods", "from_wall"), ("state_changes", "at_wall")):
            query = f"DELETE FROM {table} WHERE {OF_ACCOUNT} AND {column} > ?"
            await self._transaction.run(query, (*key, at))

    async def prune_timeline(self, key: AccountKey, before: str, gone: str, keep: int) -> None:
        """Delete what no timeline from ``before`` on shows any more, and state changes beyond ``keep``.

        The state of each family at that time remains, unless it is ``gone`` and the family's last.
        """
        old, run = (*key, before), self._transaction.run
        delete = f"DELETE FROM state_changes WHERE {OF_ACCOUNT}"
        last = f"SELECT max(id) FROM state_changes WHERE {OF_ACCOUNT}"
        await run(f"DELETE FROM observed_periods WHERE {OF_ACCOUNT} AND until_wall < ?", old)
        await run(
            f"{delete} AND at_wall < ? AND id NOT IN ({last} AND at_wall < ? GROUP BY family)", (*old, *old)
        )
        await run(
            f"{delete} AND at_wall < ? AND state=? AND id IN ({last} GROUP BY family)", (*old, gone, *key)
        )
        await run(
            f"{delete} AND id <= (SELECT id FROM state_changes WHERE {OF_ACCOUNT}"
            f" ORDER BY id DESC LIMIT 1 OFFSET ?) AND id NOT IN ({last} GROUP BY family)",
            (*key, *key, keep, *key),
        )


def _insert(kind: RowKind) -> str:
    names = fields(kind)
    return f"INSERT INTO {TABLES[kind]} ({', '.join(names)}) VALUES ({','.join('?' * len(names))})"


def _upsert(kind: RowKind, key: Sequence[str]) -> str:
    changed = ", ".join(f"{name}=excluded.{name}" for name in fields(kind) if name not in key)
    return f"{_insert(kind)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"


_INSERTS = {kind: _insert(kind) for kind in TABLES}

_UPSERTS = {kind: _upsert(kind, key) for kind, key in KEYS.items() if not is_numbered(kind)}
"""Rows with an id are only inserted, updated and deleted."""
