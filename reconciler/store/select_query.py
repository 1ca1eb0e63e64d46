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
Result2 = TypeVar("Result2")
Result3 = TypeVar("Result3")
Result4 = TypeVar("Result4")
Result5 = TypeVar("Result5")


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
def together(
    first: SelectQuery[Result], second: SelectQuery[Result2], /
) -> SelectQuery[tuple[Result, Result2]]: ...
@overload
def together(
    first: SelectQuery[Result], second: SelectQuery[Result2], third: SelectQuery[Result3], /
) -> SelectQuery[tuple[Result, Result2, Result3]]: ...
@overload
def together(
    first: SelectQuery[Result],
    second: SelectQuery[Result2],
    third: SelectQuery[Result3],
    fourth: SelectQuery[Result4],
    /,
) -> SelectQuery[tuple[Result, Result2, Result3, Result4]]: ...
@overload
def together(
    first: SelectQuery[Result],
    second: SelectQuery[Result2],
    third: SelectQuery[Result3],
    fourth: SelectQuery[Result4],
    fifth: SelectQuery[Result5],
    /,
) -> SelectQuery[tuple[Result, Result2, Result3, Result4, Result5]]: ...
def together(*queries: SelectQuery[Any]) -> SelectQuery[Any]:
    """Return one query with the statements of several; its result is the tuple of theirs."""

    def parse(found: Sequence[RawRows]) -> tuple[Any, ...]:
        rest = iter(found)
        return tuple(query.parse([next(rest) for _ in query.statements]) for query in queries)

    return SelectQuery(tuple(one for query in queries for one in query.statements), parse)


SELECTS = {kind: f"SELECT {', '.join(fields(kind))} FROM {name}" for kind, name in TABLES.items()}


def select_rows(
    kind: type[Row], rest: str = "", values: tuple[SqlValue, ...] = ()
) -> SelectQuery[list[Row]]:
    """Select rows of a kind, each checked against its checksum."""

    def parse(found: Sequence[RawRows]) -> list[Row]:
        return [check_checksum(row) for row in unchecked(kind, found[0])]

    return SelectQuery((Statement(SELECTS[kind] + rest, values),), parse)


def select_row(kind: type[Row], rest: str, values: tuple[SqlValue, ...]) -> SelectQuery[Row | None]:
    """Select the first row of a kind, None if there is none."""

    def parse(found: Sequence[RawRows]) -> Row | None:
        rows = [check_checksum(row) for row in unchecked(kind, found[0])]
        return rows[0] if rows else None

    return SelectQuery((Statement(SELECTS[kind] + rest, values),), parse)


def select_readable(
    kind: type[Row], rest: str = "", values: tuple[SqlValue, ...] = ()
) -> SelectQuery[Readable[Row]]:
    """Select rows of a kind; damaged ones are left out and counted."""
    statement = Statement(SELECTS[kind] + rest, values)
    return SelectQuery((statement,), lambda found: readable(unchecked(kind, found[0])))


def select_number(text: str, values: tuple[SqlValue, ...]) -> SelectQuery[int]:
    """Select one number; 0 for NULL."""
    return SelectQuery((Statement(text, values),), lambda found: found[0][0][0] or 0)


def then(query: SelectQuery[Result], change: Callable[[Result], Result2]) -> SelectQuery[Result2]:
    """Return a query whose result is changed."""
    return SelectQuery(query.statements, lambda found: change(query.parse(found)))


def unchecked(kind: type[Row], found: RawRows) -> list[Row]:
    """Return rows as values of their type, without checking them."""
    make = cast("Callable[[tuple[Any, ...]], Row]", kind._make)
    return [make(values) for values in found]


def readable(rows: Iterable[Row]) -> Readable[Row]:
    """Leave out the rows that do not fit their checksums. Only for records that decide nothing."""
    good, damaged = [], 0
    for row in rows:
        try:
            good.append(check_checksum(row))
        except RowDamaged:
            damaged += 1
    return Readable(good, damaged)
