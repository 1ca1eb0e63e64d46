"""Copying a SQLite state that nobody uses any more into a PostgreSQL state that has none of it yet.

All of it or nothing, in one transaction. Rows keep their stamps, so that what counts against the rate
counts as it did; ids are given anew in the same order, for other accounts may be there already. What was
written is read back, with its checks, before it is committed. Tables that grow go piece by piece, so that
no answer is large and the server is never without a word for long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from reconciler.core.model import Budget, Environment, Kind
from reconciler.errors import StateUnusable
from reconciler.store.engine import Claim
from reconciler.store.postgres.state import PostgresState
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
    sealed,
)
from reconciler.store.sqlite import SqliteState
from reconciler.store.tables import Tables

PURPOSE = "state copy"
"""What the locks of the source are held for."""

PIECE = 1_000
"""Rows that are numbered, written or read back at once: a fraction of a second's work for either side."""

Numbered = TypeVar("Numbered", AttemptRow, OverrideRow, PresenceRow, TurnRow)
"""A kind of row that has an id."""

AnyRow = (
    IdentityRow
    | AttemptRow
    | AppliedRow
    | LiveDocument
    | PauseRow
    | FightRow
    | OverrideRow
    | PresenceRow
    | TurnRow
)


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a state, by kind."""

    identity: Sequence[IdentityRow]
    attempts: Sequence[AttemptRow]
    applied: Sequence[AppliedRow]
    live: Sequence[LiveDocument]
    pauses: Sequence[PauseRow]
    fights: Sequence[FightRow]
    overrides: Sequence[OverrideRow]
    presence: Sequence[PresenceRow]
    turns: Sequence[TurnRow]

    def counts(self) -> dict[str, int]:
        """Return how many rows there are of each table."""
        return {table: len(getattr(self, table)) for table in TABLES.values()}

    def accounts(self) -> list[tuple[str, str]]:
        """Return account and environment of whatever a row is of, in order."""
        return sorted({(row.account, row.environment) for row in self._all()})

    def budgets(self) -> list[Budget]:
        """Return the budgets that identities and attempts name."""
        named = {(row.kind, row.environment, row.uid) for row in self.identity}
        named |= {(row.kind, row.environment, row.uid) for row in self.attempts}
        return [Budget(Kind(kind), Environment(where), uid) for kind, where, uid in sorted(named)]

    def _all(self) -> Iterator[AnyRow]:
        for table in TABLES.values():
            yield from getattr(self, table)


async def copy(source: SqliteState, target: PostgresState) -> Mapping[str, int]:
    """Copy all rows; returns how many of each table.

    Raises StateLocked while somebody works on the source, StateUnusable where the target has
    something of these accounts or User IDs already.
    """
    async with AsyncExitStack() as locks:
        async with source.reading(None) as tables:
            identities = await tables.every(IdentityRow)
        for one in identities:
            account = source.account(one.account, Environment(one.environment), Kind(one.kind))
            await locks.enter_async_context(account.locked(PURPOSE))
        async with source.reading(None) as tables:
            rows = await _read(tables)
        async with target.filling(_claims(rows)) as tables:
            await _refuse_taken(tables, rows, target.place)
            renumbered = await _renumbered(tables, rows)
            await _write(tables, renumbered)
            await _check(tables, renumbered, target.place)
    return rows.counts()


def _claims(rows: Rows) -> list[Claim]:
    """Return claims of all budgets, and of all accounts (whose kind of exchange is no part of a claim)."""
    budgets = [Claim((PURPOSE, "", ""), budget) for budget in rows.budgets()]
    return [*budgets, *(Claim((account, environment, "")) for account, environment in rows.accounts())]


async def _read(tables: Tables) -> Rows:
    return Rows(
        await tables.every(IdentityRow),
        await tables.every(AttemptRow),
        await tables.every(AppliedRow),
        await tables.every(LiveDocument),
        await tables.every(PauseRow),
        await tables.every(FightRow),
        await tables.every(OverrideRow),
        await tables.every(PresenceRow),
        await tables.every(TurnRow),
    )


async def _write(tables: Tables, rows: Rows) -> None:
    await _insert(tables, rows.identity)
    await _insert(tables, rows.attempts)
    await _insert(tables, rows.applied)
    await _insert(tables, rows.live)
    await _insert(tables, rows.pauses)
    await _insert(tables, rows.fights)
    await _insert(tables, rows.overrides)
    await _insert(tables, rows.presence)
    await _insert(tables, rows.turns)


async def _insert(tables: Tables, rows: Sequence[Row]) -> None:
    for piece in _pieces(rows):
        await tables.insert_all(piece)


def _pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for begin in range(0, len(rows), PIECE):
        yield rows[begin : begin + PIECE]


async def _refuse_taken(tables: Tables, rows: Rows, place: str) -> None:
    """Raise StateUnusable if the target has anything of these accounts, or of their User IDs."""
    hint = "give each state that is copied accounts and User IDs of its own, or a database of its own"
    for account, environment in rows.accounts():
        if (
            await tables.identity(account, environment)
            or await tables.pauses(account, environment)
            or await tables.overrides(account, environment)
        ):
            message = f"the state {place} has the account {account} ({environment}) already"
            raise StateUnusable("state-not-empty", message, hint)
    for budget in rows.budgets():
        if await tables.on_record(budget):
            message = f"the state {place} has requests of User ID {budget.uid} already"
            raise StateUnusable("state-not-empty", message, hint)


async def _renumbered(tables: Tables, rows: Rows) -> Rows:
    """Return the rows with ids that the target gives, in the order they had."""
    attempts = await _numbered(tables, AttemptRow, rows.attempts)
    old, new = ([row.id for row in some] for some in (rows.attempts, attempts))
    return replace(
        rows,
        attempts=attempts,
        applied=[row._replace(attempt=_as_of(row.attempt, old, new)) for row in rows.applied],
        overrides=await _numbered(tables, OverrideRow, rows.overrides),
        presence=await _numbered(tables, PresenceRow, rows.presence),
        turns=await _numbered(tables, TurnRow, rows.turns),
    )


async def _numbered(tables: Tables, kind: type[Numbered], rows: Sequence[Numbered]) -> list[Numbered]:
    numbered: list[Numbered] = []
    for piece in _pieces(rows):
        numbers = await tables.next_ids(kind, len(piece))
        numbered += [row._replace(id=number) for row, number in zip(piece, numbers, strict=True)]
    return numbered


def _as_of(attempt: int, old: Sequence[int], new: Sequence[int]) -> int:
    """Return the new id of the newest attempt that is not after ``attempt``; 0 where there is none.

    The attempt itself may have been dropped long ago; only the order is ever asked for.
    """
    place = bisect_right(old, attempt)
    return new[place - 1] if place else 0


async def _check(tables: Tables, rows: Rows, place: str) -> None:
    """Raise StateUnusable unless all rows are there as they were meant."""
    missing = {
        "identity": await _missing(tables, IdentityRow, rows.identity),
        "attempts": await _missing_numbered(tables, AttemptRow, rows.attempts),
        "applied": await _missing(tables, AppliedRow, rows.applied),
        "live": await _missing(tables, LiveDocument, rows.live),
        "pauses": await _missing(tables, PauseRow, rows.pauses),
        "fights": await _missing(tables, FightRow, rows.fights),
        "overrides": await _missing_numbered(tables, OverrideRow, rows.overrides),
        "presence": await _missing_numbered(tables, PresenceRow, rows.presence),
        "turns": await _missing_numbered(tables, TurnRow, rows.turns),
    }
    for table, number in missing.items():
        if number:
            message = f"{number} rows of {table} did not arrive in the state {place} as they were"
            raise StateUnusable("state-copy-failed", message, "nothing was copied; see the server's log")


async def _missing(tables: Tables, kind: type[Row], rows: Sequence[Row]) -> int:
    """Return how many rows are not there, of a table with a few rows of each account."""
    return len({sealed(row) for row in rows} - set(await tables.every(kind)))


async def _missing_numbered(tables: Tables, kind: type[Numbered], rows: Sequence[Numbered]) -> int:
    """Return how many rows are not there, of a table that grows."""
    missing = 0
    for piece in _pieces(rows):
        found = await tables.between(kind, piece[0].id, piece[-1].id)
        missing += len({sealed(row) for row in piece} - set(found))
    return missing
