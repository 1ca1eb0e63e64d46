"""SQLite in memory that looks up the same rows once, until a statement writes to their table.

One connection serves the entire world, so rows once read stay true until one of its own statements
writes, or rolls back. A transaction begins at its first write: before that nothing needs isolation.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from reconciler.store.sqlite.connection import with_functions

READ_AT_ONCE = {"sqlite_sequence"}
"""What other tables' writes change too."""


class Found:
    """The rows of a statement that ran before. They are never changed."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows."""
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the first row."""
        return self._rows[0] if self._rows else None


NOTHING = Found([])


class Does(Enum):
    """What a statement does to the rows."""

    READ = "read"
    WRITE = "write"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    OTHER = "other"


class Rows(sqlite3.Connection):
    """A connection to an in-memory database of its own."""

    def __init__(self, *message: Any, **more: Any) -> None:
        super().__init__(*message, **more)
        self._writes: Counter[str] = Counter()
        self._forgotten = 0
        self._begun: str | None = None
        self._read: dict[str, dict[tuple[Any, ...], Found]] = {}
        self._written: set[str] = set()

    @classmethod
    def in_memory(cls) -> Rows:
        """Return rows of their own."""
        made = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256, factory=cls)
        with_functions(made)
        assert isinstance(made, Rows)
        return made

    def execute(self, query: str, values: Sequence[Any] = ()) -> Any:  # type: ignore[override]  # what is used of it
        """Run a statement."""
        does, table = meaning(query)
        if does is Does.READ:
            return self._looked_up(table, query, values)
        if does is Does.WRITE:
            self._before_writing(table)
            return super().execute(query, values)
        match does:
            case Does.BEGIN:
                self._begin(query)
            case Does.COMMIT:
                self._commit()
            case Does.ROLLBACK:
                self.rollback()
            case _:
                return super().execute(query, values)
        return NOTHING

    def executemany(self, query: str, many: Iterable[Any]) -> sqlite3.Cursor:
        """Run a writing statement for each of ``many`` values."""
        _, table = meaning(query)
        self._before_writing(table)
        return super().executemany(query, many)

    def rollback(self) -> None:
        """Undo what was written in this transaction."""
        self._begun = None
        super().rollback()
        for table in self._written:
            self._read.pop(table, None)
        self._writes.update(self._written)
        self._written.clear()

    def forget(self) -> None:
        """Look everything up again: the rows are others."""
        self._read.clear()
        self._forgotten += 1

    def writes(self, *tables: str) -> int:
        """Return what has grown since the last look if rows of ``tables`` may be others since."""
        return self._forgotten + sum(self._writes[table] for table in tables)

    def _looked_up(self, table: str, query: str, values: Sequence[Any]) -> Found:
        read = self._read.setdefault(table, {})
        key = (query, *values)
        found = read.get(key)
        if found is None:
            found = read[key] = Found(super().execute(query, values).fetchall())
        return found

    def _begin(self, how: str) -> None:
        if self._begun is not None or self.in_transaction:
            raise sqlite3.OperationalError("cannot start a transaction within a transaction")
        self._begun = how

    def _before_writing(self, table: str) -> None:
        if self._begun is not None:
            super().execute(self._begun)
            self._begun = None
        self._read.pop(table, None)
        self._written.add(table)
        self._writes[table] += 1

    def _commit(self) -> None:
        if self._begun is None:
            super().execute("COMMIT")
        self._begun = None
        self._written.clear()


@lru_cache(maxsize=512)
def meaning(query: str) -> tuple[Does, str]:
    """Return what a statement does, and to which table; reads of several tables are OTHER."""
    verb = query.split(maxsplit=1)[0]
    match verb:
        case "BEGIN" | "COMMIT" | "ROLLBACK":
            return Does[verb], ""
        case "INSERT" | "UPDATE" | "DELETE":
            named = re.match(r"(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)", query)
            assert named is not None, query
            return Does.WRITE, named[1]
        case "SELECT":
            tables = set(re.findall(r"\b(?:FROM|JOIN) (\w+,?)", query))
            only = tables.pop() if len(tables) == 1 else ","
            is_one = only.isidentifier() and only not in READ_AT_ONCE
            return (Does.READ, only) if is_one else (Does.OTHER, "")
        case _:
            return Does.OTHER, ""
