"""A query as a value: the text of its SELECTs, and the function that makes the typed result of their rows.

A query is a value, so that a step can name it before its transaction begins: a remote engine then answers
it in the same round trip. The query also creates the result, so a caller names it once. Every row is
checked against its checksum here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast, overload

from reconciler.store.rows import TABLES, Row, RowDamaged, check_checksum, fields

SqlValue = str | int | float | None

RawRows = Sequence[tuple[Any, ...]]
"""The rows of one SELECT as the engine returns them."""

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


class Statement(NamedTuple):
    """One SELECT and its values."""

    text: str
    values: tuple[SqlValue, ...]


@dataclass(frozen=True, slots=True)
class SelectQuery(Generic[Result_co]):
    """One SELECT or several of them, and the function that makes the typed result of their rows.

    ``parse`` gets the rows of each statement, in their order. It raises RowDamaged.
    """

    statements: tuple[Statement, ...]
    parse: Callable[[Sequence[RawRows]], Result_co]


class Readable(NamedTuple, Generic[Row]):
    """The rows that fit their checksums, and how many do not and were left out."""

    rows: list[Row]
    damaged: int


NOTHING: SelectQuery[None] = SelectQuery((), lambda _: None)
"""The query of a step that reads nothing."""


@overload
def together(a: SelectQuery[T1], b: SelectQuery[T2], /) -> SelectQuery[tuple[T1, T2]]: ...
@overload
def together(
    a: SelectQuery[T1], b: SelectQuery[T2], c: SelectQuery[T3], /
) -> SelectQuery[tuple[T1, T2, T3]]: ...
@overload
def together(
    a: SelectQuery[T1], b: SelectQuery[T2], c: SelectQuery[T3], d: SelectQuery[T4], /
) -> SelectQuery[tuple[T1, T2, T3, T4]]: ...
def together(*queries: SelectQuery[Any]) -> SelectQuery[Any]:
    """Return one query with the statements of several; its result is the tuple of theirs."""

    def parse(found: Sequence[RawRows]) -> tuple[Any, ...]:
        rest = iter(found)
        return tuple(query.parse([next(rest) for _ in query.statements]) for query in queries)

    return SelectQuery(tuple(one for query in queries for one in query.statements), parse)


OF_ACCOUNT = "account=? AND environment=? AND kind=?"
"""The condition for rows of an AccountKey."""

OF_USER = "kind=? AND environment=? AND uid=?"
"""The condition for rows of a User ID, whose values ``rows.budget_key`` returns."""

SELECTS = {kind: f"SELECT {', '.join(fields(kind))} FROM {name}" for kind, name in TABLES.items()}


def select_unchecked(
    kind: type[Row], rest: str = "", values: tuple[SqlValue, ...] = ()
) -> SelectQuery[list[Row]]:
    """Select rows of a kind, without checking them."""
    make = cast("Callable[[tuple[Any, ...]], Row]", kind._make)
    statement = Statement(SELECTS[kind] + rest, values)
    return SelectQuery((statement,), lambda found: [make(row) for row in found[0]])


def select_rows(
    kind: type[Row], rest: str = "", values: tuple[SqlValue, ...] = ()
) -> SelectQuery[list[Row]]:
    """Select rows of a kind, each checked against its checksum."""

    query = select_unchecked(kind, rest, values)
    return then(query, lambda rows: [check_checksum(row) for row in rows])


def first(query: SelectQuery[list[Row]]) -> SelectQuery[Row | None]:
    """Return a query whose result is the first row, None if there is none."""
    return then(query, lambda rows: rows[0] if rows else None)


def select_row(kind: type[Row], rest: str, values: tuple[SqlValue, ...]) -> SelectQuery[Row | None]:
    """Select the first row of a kind, None if there is none."""
    return first(select_rows(kind, rest, values))


def select_readable(
    kind: type[Row], rest: str = "", values: tuple[SqlValue, ...] = ()
) -> SelectQuery[Readable[Row]]:
    """Select rows of a kind; damaged ones are left out and counted."""
    return then(select_unchecked(kind, rest, values), readable)


def select_number(text: str, values: tuple[SqlValue, ...]) -> SelectQuery[int]:
    """Select one number; 0 for NULL."""
    return SelectQuery((Statement(text, values),), lambda found: found[0][0][0] or 0)


def then(query: SelectQuery[Result], change: Callable[[Result], T1]) -> SelectQuery[T1]:
    """Return a query whose result is changed."""
    return SelectQuery(query.statements, lambda found: change(query.parse(found)))


def readable(rows: Iterable[Row]) -> Readable[Row]:
    """Leave out the rows that do not fit their checksums. Only for records that decide nothing."""
    good, damaged = [], 0
    for row in rows:
        try:
            good.append(check_checksum(row))
        except RowDamaged:
            damaged += 1
    return Readable(good, damaged)
