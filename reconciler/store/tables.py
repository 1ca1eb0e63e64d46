"""The rows of the state as typed values, for every engine: the one place where SQL reads and writes them.

The SQL is SQLite's; an engine that speaks another dialect translates it (the few differences are
placeholders and the hints which index to use). Every row is sealed when it is written and checked
when it is read. Nothing is decided here: meaning is ``facts``', order of steps ``account``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from reconciler.core.model import Budget
from reconciler.core.pacing import CALM_SENDS
from reconciler.store.facts import RateHistory
from reconciler.store.rows import (
    TABLES,
    AppliedRow,
    AttemptRow,
    FightRow,
    IdentityRow,
    LiveDocument,
    OverrideRow,
    PauseRow,
    PresenceRow,
    Row,
    TurnRow,
    fields,
    sealed,
    verified,
)

Value = str | int | float | None

AccountKey = tuple[str, str, str]
"""Account, environment and kind of exchange."""


class Transaction(Protocol):
    """One open transaction of an engine. It sees one state of all rows, or is the only writer of its."""

    async def fetch(self, query: str, values: Sequence[Value]) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a statement."""
        ...

    async def run(self, query: str, values: Sequence[Value]) -> None:
        """Run a statement that returns no rows."""
        ...

    async def run_each(self, query: str, many: Sequence[Sequence[Value]]) -> None:
        """Run a statement that returns no rows once for each of ``many`` values."""
        ...

    async def next_ids(self, table: str, count: int) -> Sequence[int]:
        """Return the ids the table's next rows get; they have to be known before: the check covers them."""
        ...


class Tables:
    """Typed reads and writes of one transaction.

    ``lost``: the newest records of the budget it is about may have been lost, and nobody said so yet.
    Who writes then has to, with the same transaction.
    """

    def __init__(self, transaction: Transaction, *, lost: bool = False) -> None:
        self.lost = lost
        self._transaction = transaction

    # -- any row -------------------------------------------------------------------------------

    async def next_id(self, kind: type[tuple[object, ...]]) -> int:
        """Return the id of the next row of ``kind``."""
        [number] = await self._transaction.next_ids(TABLES[kind], 1)
        return number

    async def insert(self, row: Row) -> None:
        """Write a new row."""
        await self._transaction.run(_INSERTS[type(row)], sealed(row))

    async def insert_attempts(self, rows: Sequence[AttemptRow]) -> None:
        """Write new attempts, giving them their ids in this order."""
        numbers = await self.next_ids(AttemptRow, len(rows))
        await self.insert_all([row._replace(id=number) for row, number in zip(rows, numbers, strict=True)])

    async def insert_all(self, rows: Sequence[Row]) -> None:
        """Write new rows of one kind."""
        if rows:
            await self._transaction.run_each(_INSERTS[type(rows[0])], [sealed(row) for row in rows])

    async def every(self, kind: type[Row]) -> list[Row]:
        """Return all rows of a kind, of all accounts; those with an id in its order."""
        rows = await self._all(kind, _EVERY[kind], ())
        return sorted(rows, key=lambda row: row[1:]) if "id" in fields(kind) else rows

    async def next_ids(self, kind: type[tuple[object, ...]], count: int) -> Sequence[int]:
        """Return the ids of the next rows of ``kind``, rising."""
        return await self._transaction.next_ids(TABLES[kind], count)

    async def put(self, row: Row) -> None:
        """Write a row in place of the one with the same key, if there is one."""
        await self._transaction.run(_PUTS[type(row)], sealed(row))

    async def _all(self, kind: type[Row], query: str, values: Sequence[Value]) -> list[Row]:
        make = kind._make
        return [verified(make(found)) for found in await self._transaction.fetch(query, values)]

    async def _one(self, kind: type[Row], query: str, values: Sequence[Value]) -> Row | None:
        found = await self._all(kind, query, values)
        return found[0] if found else None

    async def _number(self, query: str, values: Sequence[Value]) -> int:
        [(number,)] = await self._transaction.fetch(query, values)
        return number or 0

    # -- one account ---------------------------------------------------------------------------

    async def identity(self, account: str, environment: str) -> IdentityRow | None:
        """Return whose account it is; None while nobody said."""
        query = "SELECT * FROM identity WHERE account=? AND environment=?"
        return await self._one(IdentityRow, query, (account, environment))

    async def live(self, key: AccountKey) -> LiveDocument | None:
        """Return the last live read on record."""
        query = "SELECT * FROM live WHERE account=? AND environment=? AND kind=?"
        return await self._one(LiveDocument, query, key)

    async def all_applied(self, key: AccountKey) -> list[AppliedRow]:
        """Return the last proofs, by family."""
        query = "SELECT * FROM applied WHERE account=? AND environment=? AND kind=?"
        return sorted(await self._all(AppliedRow, query, key), key=lambda row: row.family)

    async def applied(self, key: AccountKey, family: str) -> AppliedRow | None:
        """Return the last proof of one family."""
        query = "SELECT * FROM applied WHERE account=? AND environment=? AND kind=? AND family=?"
        return await self._one(AppliedRow, query, (*key, family))

    async def all_open(self, key: AccountKey) -> list[AttemptRow]:
        """Return the open attempts, in the order of their ids."""
        query = (
            "SELECT * FROM attempts INDEXED BY attempts_open"
            " WHERE account=? AND environment=? AND kind=? AND resolved=0 ORDER BY id"
        )
        return await self._all(AttemptRow, query, key)

    async def open_of(self, key: AccountKey, family: str) -> list[AttemptRow]:
        """Return the open attempts of one family, in the order of their ids."""
        query = (
            "SELECT * FROM attempts INDEXED BY attempts_open"
            " WHERE account=? AND environment=? AND kind=? AND family=? AND resolved=0 ORDER BY id"
        )
        return await self._all(AttemptRow, query, (*key, family))

    async def attempt(self, key: AccountKey, number: int) -> AttemptRow | None:
        """Return one attempt of the account."""
        query = "SELECT * FROM attempts WHERE id=? AND account=? AND environment=? AND kind=?"
        return await self._one(AttemptRow, query, (number, *key))

    async def newest_attempt(self, key: AccountKey, family: str) -> int:
        """Return the id of the family's newest attempt, 0 without one."""
        query = "SELECT max(id) FROM attempts WHERE account=? AND environment=? AND kind=? AND family=?"
        return await self._number(query, (*key, family))

    async def history(self, key: AccountKey) -> list[AttemptRow]:
        """Return all attempts on record, newest first."""
        query = "SELECT * FROM attempts WHERE account=? AND environment=? AND kind=? ORDER BY id DESC"
        return await self._all(AttemptRow, query, key)

    async def overrides(self, account: str, environment: str) -> list[OverrideRow]:
        """Return all overrides on record, newest first."""
        query = "SELECT * FROM overrides WHERE account=? AND environment=? ORDER BY id DESC"
        return await self._all(OverrideRow, query, (account, environment))

    async def update_attempt(self, row: AttemptRow) -> None:
        """Write back everything of an attempt that can change after its reservation."""
        await self._transaction.run(
            "UPDATE attempts SET checksum=?, status=?, definite=?, code=?, message=?, answered_boot=?,"
            " answered_at=?, settled_wall=?, limited=?, retired=?, resolved=? WHERE id=?",
            (
                sealed(row).checksum,
                row.status,
                row.definite,
                row.code,
                row.message,
                row.answered_boot,
                row.answered_at,
                row.settled_wall,
                row.limited,
                row.retired,
                row.resolved,
                row.id,
            ),
        )

    # -- one budget ----------------------------------------------------------------------------

    async def rate_history(self, budget: Budget) -> RateHistory:
        """Return the attempts of a budget that bear on its next slot."""
        key = budget_key(budget)
        counting = await self._all(
            AttemptRow,
            "SELECT * FROM attempts INDEXED BY attempts_counting"
            " WHERE kind=? AND environment=? AND uid=? AND retired=0",
            key,
        )
        limited = await self._one(
            AttemptRow,
            "SELECT * FROM attempts INDEXED BY attempts_limited"
            " WHERE kind=? AND environment=? AND uid=? AND limited=1"
            " ORDER BY id DESC LIMIT 1",
            key,
        )
        return RateHistory(
            budget=budget,
            counting=tuple(counting),
            limited=limited,
            sends_since=await self._sends_after(key, limited.id) if limited else 0,
            empty=not counting and not await self._sends_after(key, 0),
        )

    async def lost_attempts(self, budget: Budget) -> list[AttemptRow]:
        """Return the lost attempts that still count against the budget."""
        query = (
            "SELECT * FROM attempts INDEXED BY attempts_counting"
            " WHERE kind=? AND environment=? AND uid=? AND retired=0 AND status='lost'"
        )
        return await self._all(AttemptRow, query, budget_key(budget))

    async def on_record(self, budget: Budget) -> list[tuple[str, str]]:
        """Return account and family of whatever is on record of a budget, in order."""
        kind, environment, uid = key = budget_key(budget)
        found = await self._transaction.fetch(
            "SELECT account, family FROM attempts"
            " WHERE kind=? AND environment=? AND uid=? AND family <> '*'"
            " UNION SELECT applied.account, applied.family FROM applied JOIN identity"
            " ON identity.account = applied.account AND identity.environment = applied.environment"
            " WHERE applied.kind=? AND applied.environment=? AND identity.uid=?",
            (*key, kind, environment, uid),
        )
        return sorted((account, family) for account, family in found)

    async def prune(self, budget: Budget, keep: int) -> None:
        """Drop attempts that nothing depends on, except the newest ``keep`` of the budget."""
        key = budget_key(budget)
        await self._transaction.run(
            "DELETE FROM attempts WHERE kind=? AND environment=? AND uid=? AND retired=1 AND resolved=1"
            " AND id <= (SELECT id FROM attempts WHERE kind=? AND environment=? AND uid=?"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*key, *key, keep),
        )

    async def _sends_after(self, key: tuple[str, str, str], attempt: int) -> int:
        """Return how many requests after ``attempt`` were or may have been sent, up to CALM_SENDS."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent"
            " WHERE kind=? AND environment=? AND uid=? AND status <> 'not-sent' AND status <> 'lost'"
            " AND id > ? LIMIT ?) sends"
        )
        return await self._number(query, (*key, attempt, CALM_SENDS))

    # -- pauses --------------------------------------------------------------------------------

    async def pauses(self, account: str, environment: str) -> list[PauseRow | FightRow]:
        """Return the pauses on record, whether or not their time is over."""
        key = (account, environment)
        by_hand = "SELECT * FROM pauses WHERE account=? AND environment=?"
        fights = "SELECT * FROM fights WHERE account=? AND environment=?"
        return [*await self._all(PauseRow, by_hand, key), *await self._all(FightRow, fights, key)]

    async def drop_pause(self, account: str, environment: str, family: str) -> None:
        """End the pause of a family, of either kind; harmless without one."""
        key = (account, environment, family)
        await self._transaction.run(
            "DELETE FROM pauses WHERE account=? AND environment=? AND family=?", key
        )
        await self._transaction.run(
            "DELETE FROM fights WHERE account=? AND environment=? AND family=?", key
        )

    # -- strips --------------------------------------------------------------------------------

    async def presence(self, key: AccountKey) -> list[PresenceRow]:
        """Return all watches, in the order they were recorded in."""
        query = "SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id"
        return await self._all(PresenceRow, query, key)

    async def newest_presence(self, key: AccountKey) -> PresenceRow | None:
        """Return the newest watch."""
        query = (
            "SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id DESC LIMIT 1"
        )
        return await self._one(PresenceRow, query, key)

    async def watched_until(self, row: PresenceRow, until: str) -> PresenceRow:
        """Let a watch last until another time; returns it so."""
        changed = sealed(row._replace(until_wall=until))
        query = "UPDATE presence SET checksum=?, until_wall=? WHERE id=?"
        await self._transaction.run(query, (changed.checksum, until, changed.id))
        return changed

    async def turns(self, key: AccountKey) -> list[TurnRow]:
        """Return all turns, in the order they were recorded in."""
        query = "SELECT * FROM turns WHERE account=? AND environment=? AND kind=? ORDER BY id"
        return await self._all(TurnRow, query, key)

    async def last_turns(self, key: AccountKey) -> list[TurnRow]:
        """Return the newest turn of each family."""
        query = (
            "SELECT * FROM turns WHERE id IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)"
        )
        return await self._all(TurnRow, query, key)

    async def forget_after(self, key: AccountKey, at: str) -> None:
        """Forget the watches that began, and the turns that were seen, later than ``at``."""
        later = (*key, at)
        await self._transaction.run(
            "DELETE FROM presence WHERE account=? AND environment=? AND kind=? AND from_wall > ?", later
        )
        await self._transaction.run(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall > ?", later
        )

    async def prune_strips(self, key: AccountKey, before: str, gone: str, keep: int) -> None:
        """Drop what no strip that begins at ``before`` shows any more, and turns beyond ``keep``.

        Each family's state at that time stays, unless it is ``gone`` and was its last.
        """
        old = (*key, before)
        run = self._transaction.run
        await run(
            "DELETE FROM presence WHERE account=? AND environment=? AND kind=? AND until_wall < ?", old
        )
        await run(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall < ?"
            " AND id NOT IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? AND at_wall < ? GROUP BY family)",
            (*old, *old),
        )
        await run(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall < ? AND state=?"
            " AND id IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)",
            (*old, gone, *key),
        )
        await run(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=?"
            " AND id <= (SELECT id FROM turns WHERE account=? AND environment=? AND kind=?"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)"
            " AND id NOT IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)",
            (*key, *key, keep, *key),
        )


def budget_key(budget: Budget) -> tuple[str, str, str]:
    """Return what names a budget in a row."""
    return budget.kind.value, budget.environment.value, budget.uid


def _insert(kind: type[tuple[object, ...]]) -> str:
    holders = ",".join("?" * len(fields(kind)))
    return " ".join(("INSERT INTO", TABLES[kind], "VALUES", f"({holders})"))


def _put(kind: type[tuple[object, ...]], key: Sequence[str]) -> str:
    changed = ", ".join(f"{name}=excluded.{name}" for name in fields(kind) if name not in key)
    return f"{_insert(kind)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"


_INSERTS = {kind: _insert(kind) for kind in TABLES}

_EVERY = {kind: " ".join(("SELECT * FROM", table)) for kind, table in TABLES.items()}

_PUTS = {
    IdentityRow: _put(IdentityRow, ("account", "environment")),
    AppliedRow: _put(AppliedRow, ("account", "environment", "kind", "family")),
    LiveDocument: _put(LiveDocument, ("account", "environment", "kind")),
}
"""Of the rows that are written again in place; the others are only added, updated and dropped."""
