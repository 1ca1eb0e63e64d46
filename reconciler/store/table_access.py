"""The rows of the state as typed values, for every engine: the one place where SQL reads and writes them.

The SQL is SQLite's; an engine that speaks another dialect translates it (the few differences are
placeholders and the hints which index to use). Every row is sealed when it is written and checked
when it is read. Nothing is decided here: meaning is ``facts``', order of steps ``account``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, cast

from reconciler.core.model import RateBudget
from reconciler.store import queries
from reconciler.store.queries import AccountKey, SelectQuery, Value, budget_key
from reconciler.store.row_mapping import RateHistory
from reconciler.store.rows import (
    KEYS,
    TABLES,
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    FileRow,
    IdentityRow,
    LiveReadRow,
    ObservedPeriodRow,
    OverrideRow,
    PauseRow,
    PlanChangeRow,
    PolicyRow,
    Row,
    RowDamaged,
    RowKind,
    StateChangeRow,
    StateRow,
    check_checksum,
    fields,
    is_numbered,
    with_checksum,
)

Numbered = AttemptRow | AcceptedRow | PolicyRow | OverrideRow | ObservedPeriodRow | StateChangeRow
"""Rows with an id."""


PIECE = 10_000
"""Ids that are read at once when a whole table is verified: far from what a server calls slow."""


class Transaction(Protocol):
    """One open transaction of an engine. It sees one state of all rows, or is the only writer of its."""

    async def fetch(self, question: SelectQuery) -> Sequence[tuple[Any, ...]]:
        """Return the rows that answer a question."""
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


class Readable(NamedTuple, Generic[Row]):
    """The rows that are as they were written, and how many are not and were left out."""

    rows: list[Row]
    damaged: int


def readable(rows: Iterable[Row]) -> Readable[Row]:
    """Leave out the rows that do not fit their checksums: of records that nothing is decided by."""
    good, damaged = [], 0
    for row in rows:
        try:
            good.append(check_checksum(row))
        except RowDamaged:
            damaged += 1
    return Readable(good, damaged)


class Tables:
    """Typed reads and writes of one transaction.

    ``lost``: the newest records of the budget it is about may have been lost, and nobody said so yet.
    Who writes then has to, with the same transaction.
    """

    def __init__(self, transaction: Transaction, *, lost: bool = False) -> None:
        self.lost = lost
        self._transaction = transaction

    # -- any row -------------------------------------------------------------------------------

    async def next_id(self, kind: type[Numbered]) -> int:
        """Return the id of the next row of ``kind``."""
        [number] = await self._transaction.next_ids(TABLES[kind], 1)
        return number

    async def insert(self, row: Row) -> None:
        """Write a new row."""
        await self._transaction.run(_INSERTS[type(row)], with_checksum(row))

    async def insert_attempts(self, rows: Sequence[AttemptRow]) -> None:
        """Write new attempts, giving them their ids in this order."""
        numbers = await self.next_ids(AttemptRow, len(rows))
        await self.insert_all([row._replace(id=number) for row, number in zip(rows, numbers, strict=True)])

    async def insert_all(self, rows: Sequence[Row]) -> None:
        """Write new rows of one kind."""
        if rows:
            await self._transaction.run_each(_INSERTS[type(rows[0])], [with_checksum(row) for row in rows])

    async def every(self, kind: type[Row]) -> list[Row]:
        """Return all rows of a kind, of all accounts; those with an id in its order."""
        rows = await self._all(kind, queries.every(kind))
        return sorted(rows, key=lambda row: row[1:]) if is_numbered(kind) else rows

    async def between(self, kind: type[Row], first: int, last: int) -> list[Row]:
        """Return the rows of a kind that has ids, of all accounts, from one id to another, in any order."""
        return await self._all(kind, queries.between(kind, first, last))

    async def damaged(self, kind: type[Row]) -> tuple[int, list[str]]:
        """Return how many rows of a kind there are, and what is wrong with those that are damaged."""
        number, damaged = 0, []
        for question in await self._pieces(kind):
            for row in await self._unverified(kind, question):
                number += 1
                try:
                    check_checksum(row)
                except RowDamaged as error:
                    damaged.append(str(error))
        return number, damaged

    async def readable(self, kind: type[Row]) -> list[Row]:
        """Return the rows of a kind that are not damaged, of all accounts."""
        return (await self._readable(kind, queries.every(kind))).rows

    async def _pieces(self, kind: RowKind) -> list[SelectQuery]:
        """Return what asks for all rows of a kind, some at a time if the table grows."""
        if not is_numbered(kind):
            return [queries.every(kind)]
        [(newest,)] = await self._transaction.fetch(queries.newest_id(kind))
        return [queries.between(kind, first, first + PIECE - 1) for first in range(1, newest + 1, PIECE)]

    async def next_ids(self, kind: RowKind, count: int) -> Sequence[int]:
        """Return the ids of the next rows of ``kind``, rising."""
        return await self._transaction.next_ids(TABLES[kind], count)

    async def upsert(self, row: Row) -> None:
        """Write a row in place of the one with the same key, if there is one."""
        await self._transaction.run(_PUTS[type(row)], with_checksum(row))

    async def _all(self, kind: type[Row], question: SelectQuery) -> list[Row]:
        return [check_checksum(row) for row in await self._unverified(kind, question)]

    async def _readable(self, kind: type[Row], question: SelectQuery) -> Readable[Row]:
        return readable(await self._unverified(kind, question))

    async def _unverified(self, kind: type[Row], question: SelectQuery) -> list[Row]:
        make = cast("Callable[[tuple[Any, ...]], Row]", kind._make)
        return [make(found) for found in await self._transaction.fetch(question)]

    async def _one(self, kind: type[Row], question: SelectQuery) -> Row | None:
        found = await self._all(kind, question)
        return found[0] if found else None

    # -- the state itself ----------------------------------------------------------------------

    async def state(self) -> StateRow:
        """Return the row of the state itself. Raises RowDamaged where it is missing, or not alone."""
        rows = await self._all(StateRow, queries.state())
        if len(rows) != 1:
            raise RowDamaged("the row with the id of the state is missing, or there is another")
        return rows[0]

    # -- one account ---------------------------------------------------------------------------

    async def identity(self, account: str, environment: str) -> IdentityRow | None:
        """Return whose account it is; None while nobody said."""
        return await self._one(IdentityRow, queries.identity(account, environment))

    async def identities(self, environment: str) -> list[IdentityRow]:
        """Return all accounts of one environment, by name."""
        return await self._all(IdentityRow, queries.identities(environment))

    async def live(self, key: AccountKey) -> Readable[LiveReadRow]:
        """Return the last live read on record, if there is one."""
        return await self._readable(LiveReadRow, queries.live(key))

    # -- one User ID ---------------------------------------------------------------------------

    async def live_reads(self, budget: RateBudget) -> list[LiveReadRow]:
        """Return the last live read of every account name of the User ID, the newest one last."""
        return (await self._readable(LiveReadRow, queries.live_reads(budget))).rows

    async def all_applied(self, budget: RateBudget) -> list[AppliedRow]:
        """Return the last proofs, by family."""
        rows = await self._all(AppliedRow, queries.all_applied(budget))
        return sorted(rows, key=lambda row: row.family)

    async def applied(self, budget: RateBudget, family: str) -> AppliedRow | None:
        """Return the last proof of one family."""
        return await self._one(AppliedRow, queries.applied(budget, family))

    async def all_accepted(self, budget: RateBudget) -> list[AcceptedRow]:
        """Return the settings that passed the guard, of all families, in the order they did."""
        return await self._all(AcceptedRow, queries.all_accepted(budget))

    async def accepted_of(self, budget: RateBudget, family: str) -> list[AcceptedRow]:
        """Return those of one family, in the order they passed the guard."""
        return await self._all(AcceptedRow, queries.accepted_of(budget, family))

    async def drop_accepted(self, numbers: Sequence[int]) -> None:
        """Forget settings that passed the guard, by the ids of their rows."""
        await self._transaction.run_each("DELETE FROM accepted WHERE id=?", [(one,) for one in numbers])

    async def plan_changes(self, budget: RateBudget, plan: str) -> list[PlanChangeRow]:
        """Return the changes of a saved plan that were applied."""
        return await self._all(PlanChangeRow, queries.plan_changes(budget, plan))

    async def plan_change(self, budget: RateBudget, plan: str, family: str) -> PlanChangeRow | None:
        """Return that of one family; None while it was not applied."""
        return await self._one(PlanChangeRow, queries.plan_change(budget, plan, family))

    async def prune_plan_changes(self, budget: RateBudget, before: str) -> None:
        """Forget changes of saved plans that were applied before a time of day."""
        await self._transaction.run(
            f"DELETE FROM plan_changes WHERE {_OF_USER} AND at_wall < ?", (*budget_key(budget), before)
        )

    async def newest_policy(self, budget: RateBudget) -> PolicyRow | None:
        """Return the policy that was recorded last."""
        return await self._one(PolicyRow, queries.newest_policy(budget))

    async def policies(self, budget: RateBudget) -> list[PolicyRow]:
        """Return all policies on record, newest first."""
        return await self._all(PolicyRow, queries.policies(budget))

    async def prune_policies(self, budget: RateBudget, keep: int) -> None:
        """Drop policies on record, except the newest ``keep`` of the User ID."""
        key = budget_key(budget)
        await self._transaction.run(
            f"DELETE FROM policies WHERE {_OF_USER}"
            f" AND id <= (SELECT id FROM policies WHERE {_OF_USER} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*key, *key, keep),
        )

    async def all_open(self, budget: RateBudget) -> list[AttemptRow]:
        """Return the open attempts, in the order of their ids."""
        return await self._all(AttemptRow, queries.all_open(budget))

    async def open_of(self, budget: RateBudget, family: str) -> list[AttemptRow]:
        """Return the open attempts of one family, in the order of their ids."""
        return await self._all(AttemptRow, queries.open_of(budget, family))

    async def all_tries(self, budget: RateBudget) -> list[AttemptRow]:
        """Return the attempts that count as tries without success, in the order of their ids."""
        return await self._all(AttemptRow, queries.all_tries(budget))

    async def tries_of(self, budget: RateBudget, family: str) -> list[AttemptRow]:
        """Return those of one family, in the order of their ids."""
        return await self._all(AttemptRow, queries.tries_of(budget, family))

    async def newest_acknowledged(self, budget: RateBudget) -> AttemptRow | None:
        """Return the newest acknowledged attempt of the User ID."""
        return await self._one(AttemptRow, queries.newest_acknowledged(budget))

    async def attempt(self, budget: RateBudget, number: int) -> AttemptRow | None:
        """Return one attempt of the User ID."""
        return await self._one(AttemptRow, queries.attempt(budget, number))

    async def newest_attempt(self, budget: RateBudget, family: str) -> int:
        """Return the id of the family's newest attempt, 0 without one."""
        [(number,)] = await self._transaction.fetch(queries.newest_attempt(budget, family))
        return number or 0

    async def newest_attempts(self, budget: RateBudget) -> dict[str, int]:
        """Return the id of the newest attempt of each family that has one."""
        return dict(await self._transaction.fetch(queries.newest_attempts(budget)))

    async def history(self, budget: RateBudget) -> Readable[AttemptRow]:
        """Return all attempts on record, newest first."""
        return await self._readable(AttemptRow, queries.history(budget))

    async def overrides(self, budget: RateBudget) -> list[OverrideRow]:
        """Return all overrides on record, newest first."""
        return await self._all(OverrideRow, queries.overrides(budget))

    async def file(self, budget: RateBudget, sha256: str) -> FileRow | None:
        """Return when content of a settings file was accepted; None: never."""
        return await self._one(FileRow, queries.file(budget, sha256))

    async def newest_file(self, budget: RateBudget) -> FileRow | None:
        """Return the content of a settings file that was accepted last."""
        return await self._one(FileRow, queries.newest_file(budget))

    async def newest_number(self, budget: RateBudget) -> int:
        """Return the highest number of a settings file that anything on record has, 0 without one."""
        [(number,)] = await self._transaction.fetch(queries.newest_number(budget))
        return number or 0

    async def prune_files(self, budget: RateBudget, up_to: int) -> None:
        """Forget content of settings files that was accepted as number ``up_to`` or before."""
        await self._transaction.run(
            f"DELETE FROM files WHERE {_OF_USER} AND number <= ?", (*budget_key(budget), up_to)
        )

    async def update_attempt(self, row: AttemptRow) -> None:
        """Write back everything of an attempt that can change after its reservation."""
        await self._transaction.run(
            "UPDATE attempts SET checksum=?, status=?, definite=?, code=?, message=?, answered_boot=?,"
            " answered_at=?, settled_wall=?, limited=?, retired=?, resolved=?, tries=? WHERE id=?",
            (
                with_checksum(row).checksum,
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
                row.tries,
                row.id,
            ),
        )

    async def rate_history(self, budget: RateBudget) -> RateHistory:
        """Return the attempts of a budget that bear on its next slot."""
        counts, last_limited, sends = queries.rate(budget)
        counting = await self._all(AttemptRow, counts)
        limited = await self._one(AttemptRow, last_limited)
        [(since, at_all)] = await self._transaction.fetch(sends)
        return RateHistory(
            budget=budget,
            counting=tuple(counting),
            limited=limited,
            sends_since=since if limited else 0,
            empty=not counting and not at_all,
        )

    async def lost_attempts(self, budget: RateBudget) -> list[AttemptRow]:
        """Return the lost attempts that still count against the budget."""
        return await self._all(AttemptRow, queries.lost_attempts(budget))

    async def on_record(self, budget: RateBudget) -> list[str]:
        """Return the families of which there is an attempt or a proof, in order."""
        return sorted(family for (family,) in await self._transaction.fetch(queries.on_record(budget)))

    async def reserved_then(self, budget: RateBudget, boot: str, at: float) -> bool:
        """Tell whether a request is on record that was reserved at this instant of a boot."""
        [(number,)] = await self._transaction.fetch(queries.reserved_then(budget, boot, at))
        return bool(number)

    async def prune(self, budget: RateBudget, keep: int) -> None:
        """Drop attempts that nothing depends on, except the newest ``keep`` of the budget."""
        key = budget_key(budget)
        await self._transaction.run(
            f"DELETE FROM attempts WHERE {_OF_USER} AND retired=1 AND resolved=1 AND tries=0"
            f" AND id <= (SELECT id FROM attempts WHERE {_OF_USER} ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*key, *key, keep),
        )

    # -- pauses --------------------------------------------------------------------------------

    async def pauses(self, budget: RateBudget) -> list[PauseRow]:
        """Return the pauses on record, whether or not their time is over."""
        return await self._all(PauseRow, queries.pauses(budget))

    async def pause(self, budget: RateBudget, family: str) -> PauseRow | None:
        """Return the pause of one family, whether or not its time is over."""
        return await self._one(PauseRow, queries.pause(budget, family))

    async def drop_pause(self, budget: RateBudget, family: str) -> None:
        """End the pause of a family; harmless without one."""
        key = (*budget_key(budget), family)
        await self._transaction.run(f"DELETE FROM pauses WHERE {_OF_USER} AND family=?", key)

    # -- strips --------------------------------------------------------------------------------

    async def presence(self, key: AccountKey) -> Readable[ObservedPeriodRow]:
        """Return all watches, in the order they were recorded in."""
        return await self._readable(ObservedPeriodRow, queries.presence(key))

    async def newest_presence(self, key: AccountKey) -> ObservedPeriodRow | None:
        """Return the newest watch; None if there is none, or it is damaged."""
        found = await self._readable(ObservedPeriodRow, queries.newest_presence(key))
        return found.rows[0] if found.rows else None

    async def watched_until(self, row: ObservedPeriodRow, until: str) -> ObservedPeriodRow:
        """Let a watch last until another time; returns it so."""
        changed = with_checksum(row._replace(until_wall=until))
        query = "UPDATE presence SET checksum=?, until_wall=? WHERE id=?"
        await self._transaction.run(query, (changed.checksum, until, changed.id))
        return changed

    async def unverified_turns(self, asked: queries.SelectQuery) -> list[StateChangeRow]:
        """Return the turns that were asked for; the caller has to verify them."""
        return await self._unverified(StateChangeRow, asked)

    async def last_turns(self, key: AccountKey) -> list[StateChangeRow]:
        """Return the newest turn of each family, if it is not damaged."""
        return (await self._readable(StateChangeRow, queries.last_turns(key))).rows

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


_OF_USER = "kind=? AND environment=? AND uid=?"


def _insert(kind: RowKind) -> str:
    names = fields(kind)
    return f"INSERT INTO {TABLES[kind]} ({', '.join(names)}) VALUES ({','.join('?' * len(names))})"


def _put(kind: RowKind, key: Sequence[str]) -> str:
    changed = ", ".join(f"{name}=excluded.{name}" for name in fields(kind) if name not in key)
    return f"{_insert(kind)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"


_INSERTS = {kind: _insert(kind) for kind in TABLES}

_PUTS = {kind: _put(kind, key) for kind, key in KEYS.items() if not is_numbered(kind)}
"""Rows with an id are only inserted, updated and deleted."""
