"""Copies a SQLite state into a PostgreSQL state that has none of its rows yet.

One transaction of the target writes all rows or none. The source is retired first: the transaction that
reads its rows sets a mark in it, and every writing transaction reads that mark. So there is one record of
requests at each moment, whatever is running. The mark is removed when the copy fails before its commit;
after the commit it says that the copy is complete. A kill, or a commit without an answer, does not change
the mark. The transaction that writes the rows also records the source's id in the target, which proves
whether the copy arrived. The same copy, started again, completes it or finds that it is complete.
:func:`undo` removes the mark of a copy that did not arrive.

Rows do not change their instants, so the rate counts them as before. Ids are assigned again in the same
order, because other accounts may have rows there. The rows are read back, with their checksums, before the
commit. Growing tables are copied in chunks, so that no answer is large and the server is never idle for
long.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.errors import MmpError, StateUnusable
from reconciler.store import queries
from reconciler.store.postgres.state import PostgresState
from reconciler.store.retired_state import MoveTarget, move_target, state_moved
from reconciler.store.rows import (
    TABLES,
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    IdentityRow,
    LossRow,
    RowKind,
    StateRow,
    fields,
    is_numbered,
    wall_text,
    with_checksum,
)
from reconciler.store.sqlite.state import SqliteState
from reconciler.store.table_access import Tables, WriteScope

PURPOSE = "state copy"
"""The purpose of the locks of the source."""

PIECE = 1_000
"""Rows that are numbered, written or read back at once: this takes either side a fraction of a second."""

COPIED: Mapping[RowKind, str] = {kind: name for kind, name in TABLES.items() if kind is not StateRow}
"""The tables whose rows are copied: all but the state's own row."""

Rows = Mapping[type[Any], Sequence[Any]]
"""All rows of a state, by kind, in the order of COPIED."""


async def copy_state(source: SqliteState, target: PostgresState) -> Mapping[str, int]:
    """Copy all rows and retire the source; returns the number of rows of each table.

    Raises StateLocked while a process works on the source, StateUnusable where the target already has rows
    of these accounts or User IDs, StateUnavailable where the source was moved before.
    """
    async with _locked(source):
        into = MoveTarget(target.place, await _id_of(target))
        rows, source_id, is_first = await _retire(source, into)
        is_certain, arrived, committing = is_first, False, False
        try:
            async with target.bulk_write(_claims(rows)) as tables:
                there = await tables.select(queries.select_state())
                arrived = not is_first and _has_copied(there, source_id)
                is_certain = not arrived  # or nothing of an earlier copy is there, or will be
                if not arrived:
                    await _refuse_taken(tables, rows, target.place)
                    renumbered = await _renumbered(tables, rows)
                    await _write(tables, renumbered)
                    await _check(tables, renumbered, target.place)
                    await tables.upsert(
                        there._replace(copied_from=f"{there.copied_from} {source_id}".strip())
                    )
                committing = True
            moved = await _complete(source)
        except BaseException as error:
            if is_certain and not committing:
                await _put_back(source)
            if committing:
                raise _without_answer(error) from None
            raise
        await _hand_over(target, into, source_id, rows)
    if arrived:
        raise state_moved(source.place, moved)  # by an earlier copy
    return {TABLES[kind]: len(some) for kind, some in rows.items()}


async def undo(source: SqliteState, target: PostgresState) -> None:
    """Make a source usable again whose copy was never completed; harmless where it was not retired.

    A database that was created again has another id and the same address. Raises StateUnavailable where the
    copy is complete, or the source was moved to another state. Raises StateUnusable where a copy was
    complete and the database has other records of its accounts or User IDs now.
    """
    async with _locked(source):
        into = MoveTarget(target.place, await _id_of(target))
        async with source.moving() as tables:
            row, rows = await tables.select(queries.select_state()), await _all_rows(tables)
        moved = move_target(row)
        if moved is None:
            return
        if into.id != moved.id and into.place != moved.place:
            raise state_moved(source.place, moved)
        async with target.bulk_write(_claims(rows)) as tables:
            if _has_copied(await tables.select(queries.select_state()), row.state_id):
                raise state_moved(source.place, await _complete(source))
            if moved.at is not None:
                await _refuse_taken(tables, rows, target.place)
            await _put_back(source)


@asynccontextmanager
async def _locked(source: SqliteState) -> AsyncIterator[None]:
    """Take the locks of all accounts of the source, and release them at the end."""
    async with AsyncExitStack() as locks:
        async with source.reading(None) as tables:
            identities = await tables.select(queries.all_rows(IdentityRow))
        for one in identities:
            account = source.account(one.account, Environment(one.environment), ExchangeKind(one.kind))
            await locks.enter_async_context(account.locked(PURPOSE))
        yield


async def _id_of(target: PostgresState) -> str:
    async with target.reading(None, queries.select_state()) as tables:
        return (await tables.select(queries.select_state())).state_id


async def _all_rows(tables: Tables) -> Rows:
    return {kind: await tables.select(queries.all_rows(kind)) for kind in COPIED}


async def _retire(source: SqliteState, into: MoveTarget) -> tuple[Rows, str, bool]:
    """Mark the source; returns its rows and id, and whether there was no mark of an earlier copy."""
    async with source.moving() as tables:
        row = await tables.select(queries.select_state())
        before = move_target(row)
        if before is not None and (before.id != into.id or before.at is not None):
            raise state_moved(source.place, before)
        if before is None:
            await tables.upsert(row._replace(moved_to=into.place, moved_to_id=into.id))
        return await _all_rows(tables), row.state_id, before is None


async def _complete(source: SqliteState) -> MoveTarget:
    """Record in the source that its copy is complete."""
    async with source.moving() as tables:
        row = await tables.select(queries.select_state())
        moved = MoveTarget(row.moved_to, row.moved_to_id, source.clock.wall())
        await tables.upsert(row._replace(moved_wall=wall_text(source.clock.wall())))
    return moved


def _has_copied(there: StateRow, source_id: str) -> bool:
    """Tell whether the rows of the state with this id arrived."""
    return source_id in there.copied_from.split()


async def _put_back(source: SqliteState) -> None:
    """Remove the mark, so that the source can be used again."""
    async with source.moving() as tables:
        row = await tables.select(queries.select_state())
        await tables.upsert(row._replace(moved_to="", moved_to_id="", moved_wall=""))


def _without_answer(error: BaseException) -> BaseException:
    """Return the error for a commit without an answer: it is unknown whether the copy is complete."""
    if isinstance(error, MmpError):
        error.hint = "run the same command again: it completes the copy, or reports that it is complete"
    return error


async def _hand_over(target: PostgresState, into: MoveTarget, source_id: str, rows: Rows) -> None:
    """Register the copy on this machine where the source was registered."""
    if target.options.registry is None:
        return
    for budget in _budgets(rows):
        await target.options.registry.hand_over(budget, source_id, into.id, target.place)


def _claims(rows: Rows) -> list[WriteScope]:
    """Return claims of all budgets, of all accounts (for all kinds of exchange), and of the state."""
    the_state = WriteScope((PURPOSE, "", ""))
    budgets = [WriteScope(the_state.key, budget) for budget in _budgets(rows)]
    return [
        *budgets,
        the_state,
        *(WriteScope((account, environment, "")) for account, environment in _accounts(rows)),
    ]


def _accounts(rows: Rows) -> list[tuple[str, str]]:
    """Return the accounts and environments that rows name, in order."""
    return sorted({(row.account, row.environment) for some in rows.values() for row in some})


def _budgets(rows: Rows) -> list[RateBudget]:
    """Return the budgets that rows name, in order."""
    named = {
        (row.kind, row.environment, row.uid)
        for kind, some in rows.items()
        for row in some
        if "uid" in fields(kind)
    }
    return [RateBudget(ExchangeKind(kind), Environment(where), uid) for kind, where, uid in sorted(named)]


async def _refuse_taken(tables: Tables, rows: Rows, place: str) -> None:
    """Raise StateUnusable if the target has any row of these accounts, or of their User IDs."""
    hint = "copy it into another database"
    for account, environment in _accounts(rows):
        if await tables.select(queries.identity(account, environment)):
            message = f"the state {place} has the account {account} ({environment}) already"
            raise StateUnusable("state-not-empty", message, hint)
    by_user = [kind for kind in COPIED if "uid" in fields(kind)]
    for budget in _budgets(rows):
        for kind in by_user:
            if await tables.select(queries.has_rows(kind, budget)):
                message = f"the state {place} has records of User ID {budget.uid} already"
                raise StateUnusable("state-not-empty", message, hint)


async def _renumbered(tables: Tables, rows: Rows) -> Rows:
    """Return the rows with new ids of the target, in the same order."""
    renumbered = {kind: await _numbered(tables, kind, some) for kind, some in rows.items()}
    old, new = ([row.id for row in some[AttemptRow]] for some in (rows, renumbered))
    proofs = [row._replace(attempt=_as_of(row.attempt, old, new)) for row in rows[AppliedRow]]
    accepted = [row._replace(attempt=_from(row.attempt, old, new)) for row in renumbered[AcceptedRow]]
    losses = [row._replace(attempt=_as_of(row.attempt, old, new)) for row in renumbered[LossRow]]
    return {**renumbered, AppliedRow: proofs, AcceptedRow: accepted, LossRow: losses}


async def _numbered(tables: Tables, kind: type[Any], rows: Sequence[Any]) -> Sequence[Any]:
    """Return rows with new ids, if they have any."""
    if not is_numbered(kind):
        return rows
    numbered: list[Any] = []
    for piece in _pieces(rows):
        numbers = await tables.next_ids(kind, len(piece))
        numbered += [row._replace(id=number) for row, number in zip(piece, numbers, strict=True)]
    return numbered


def _as_of(attempt: int, old: Sequence[int], new: Sequence[int]) -> int:
    """Return the new id of the newest attempt that is not after ``attempt``; 0 where there is none.

    The attempt itself may have been deleted long ago; only the order is ever used.
    """
    place = bisect_right(old, attempt)
    return new[place - 1] if place else 0


def _from(attempt: int, old: Sequence[int], new: Sequence[int]) -> int:
    """Return the new id of the oldest attempt that is not before ``attempt``; else as :func:`_as_of`."""
    place = bisect_left(old, attempt)
    return new[place] if attempt > 0 and place < len(new) else _as_of(attempt, old, new)


async def _write(tables: Tables, rows: Rows) -> None:
    for some in rows.values():
        for piece in _pieces(some):
            await tables.insert_all(piece)


async def _check(tables: Tables, rows: Rows, place: str) -> None:
    """Raise StateUnusable unless the target has all rows as they were written."""
    for kind, some in rows.items():
        if missing := await _missing(tables, kind, some):
            message = f"{missing} rows of {TABLES[kind]} are missing or differ in the state {place}"
            raise StateUnusable("state-copy-failed", message, "nothing was copied; see the server's log")


async def _missing(tables: Tables, kind: type[Any], rows: Sequence[Any]) -> int:
    """Return how many rows are missing; a growing table is read back in chunks."""
    if not is_numbered(kind):
        return len({with_checksum(row) for row in rows} - set(await tables.select(queries.all_rows(kind))))
    missing = 0
    for piece in _pieces(rows):
        found = await tables.select(queries.in_id_range(kind, piece[0].id, piece[-1].id))
        missing += len({with_checksum(row) for row in piece} - set(found))
    return missing


def _pieces(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(rows), PIECE):
        yield rows[begin : begin + PIECE]
