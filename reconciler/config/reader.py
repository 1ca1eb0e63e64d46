"""The nodes of a file → its values by path, and its problems: the one reader of settings and policies.

Each node is visited once. A single value is read by the value reader of its path. All of them together make
the document that the published schema checks. A value that has a problem already gets no second one from
the schema. What a kind of file consists of, and how its problems are worded, is its :class:`Format`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reconciler.config.messages import ambiguity_message, null_value
from reconciler.config.schema_check import Path, SchemaError, error_position, node_at, schema_errors
from reconciler.config.values import ValueProblem
from reconciler.config.yaml_ambiguity import AmbiguousScalar, resolve
from reconciler.config.yaml_nodes import Mark, Node, Position, Scalar, Sequence, Table, position_of
from reconciler.core.problems import Code, Collected, problem

ValueReader = Callable[[Scalar], tuple[Any, ValueProblem | None]]
"""Reads one single value: returns it, perhaps with a warning; or None with what is wrong."""

ValueReaders = Mapping[str | None, ValueReader]
"""The value readers of a table by key; those of a list's items have None as key."""

NO_READERS: ValueReaders = {}

ABSENT = object()
"""What an invalid node is in the document: left out."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a kind of file consists of, and how its problems are worded.

    ``value_readers`` returns the readers for the table or list at a path. ``not_single`` is the problem of
    a list or mapping in place of a single value; None leaves it to the schema. A null is reported at its
    key if ``null_at_key``, else at the key only if nothing is written.
    """

    schema: str
    value_readers: Callable[[Path], ValueReaders]
    name: Callable[[Path], str]
    ambiguity: Callable[[Path, str, AmbiguousScalar], ValueProblem]
    not_single: Callable[[Path], ValueProblem | None]
    schema_message: Callable[[SchemaError, Node | None], ValueProblem]
    null_at_key: bool


class TooManyProblems(Exception):
    """More errors were found than are listed. The rest of the file is not read."""


class NodeReader:
    """Reads the nodes of one file: fills ``values``, by path and key, and adds to the file's problems."""

    def __init__(self, root: Node, form: Format, file: str, problems: Collected) -> None:
        self.values: dict[Path, dict[str | int, Any]] = {}
        self._root = root
        self._format = form
        self._value_readers = form.value_readers
        self._file = file
        self._problems = problems
        self._explained: set[Path] = set()
        self._ambiguous: list[tuple[Position, ValueProblem]] = []
        self._known: dict[tuple[ValueReader, str, bool], tuple[Any, Any]] = {}

    def read(self, node: Node, path: Path) -> Any:
        """Return what ``node`` is in the document, ABSENT if it is invalid. Raises TooManyProblems."""
        if isinstance(node, Table):
            return self._table(node, path)
        if isinstance(node, Sequence):
            return self._sequence(node, path)
        return self._resolve(node, path) if isinstance(node, Scalar) else ABSENT

    def read_no_more_values(self) -> None:
        """From now on only make the document: values have no readers any more."""
        self._value_readers = lambda _: NO_READERS

    def add(self, position: Position, found: ValueProblem, path: Path | None = None) -> None:
        """Add a problem, that of the value at ``path`` or of a key. Raises TooManyProblems."""
        if path is not None:
            self._explained.add(path)
        line, column = position
        self._problems.add(
            problem(found.code, self._file, found.message, found.hint, line=line, column=column)
        )
        if self._problems.is_full():
            raise TooManyProblems

    def check_schema(self, document: Any) -> None:
        """Add ambiguous values, and what the schema finds in values without a problem.

        Raises TooManyProblems.
        """
        for position, found in sorted(self._ambiguous, key=lambda each: each[0]):
            self.add(position, found)
        document = None if document is ABSENT else document
        for error in schema_errors(self._root, document, self._format.schema):
            if error.key is not None or error.path not in self._explained:
                node = node_at(self._root, error.path)
                self.add(error_position(self._root, error), self._format.schema_message(error, node))

    def _table(self, table: Table, path: Path) -> dict[str, Any]:
        readers, marks, document = self._value_readers(path), table.key_marks, {}
        for key, node in table.values.items():
            reader = readers.get(key)
            value = (
                self.read(node, (*path, key))
                if reader is None
                else self._value(node, reader, path, key, marks[key])
            )
            if value is not ABSENT:
                document[key] = value
        return document

    def _sequence(self, sequence: Sequence, path: Path) -> list[Any]:
        reader, document = self._value_readers(path).get(None), []
        for index, node in enumerate(sequence.items):
            value = (
                self.read(node, (*path, index))
                if reader is None
                else self._value(node, reader, path, index, node.mark)
            )
            document.append(None if value is ABSENT else value)
        return document

    def _resolve(self, node: Scalar, path: Path) -> Any:
        """Return the value of a scalar without a reader; of an ambiguous one, add the problem later."""
        value = resolve(node.text) if node.plain else node.text
        if isinstance(value, AmbiguousScalar):
            self._ambiguous.append((node.position, ambiguity_message(path, node.text, value)))
            return ABSENT
        return value

    def _value(self, node: Node, reader: ValueReader, path: Path, key: str | int, mark: Mark) -> Any:
        """Read a value that has a reader; return what it is in the document. ``mark`` is its key's."""
        if not isinstance(node, Scalar):
            if isinstance(node, Table | Sequence) and (found := self._format.not_single((*path, key))):
                self.add(node.position, found, (*path, key))
            return self.read(node, (*path, key))
        text_key = (reader, node.text, node.plain)
        known = self._known.get(text_key)
        if known is None:
            known, found = self._read_text(node, reader, (*path, key))
            if found is None:
                self._known[text_key] = known
            else:
                at_key = found.code is Code.NULL_VALUE and (self._format.null_at_key or not node.text)
                self.add(position_of(mark if at_key else node.mark), found, (*path, key))
        document, value = known
        if value is not None:
            self.values.setdefault(path, {})[key] = value
        return document

    def _read_text(
        self, node: Scalar, reader: ValueReader, path: Path
    ) -> tuple[tuple[Any, Any], ValueProblem | None]:
        """Return what a scalar is in the document, its value (None if unusable), and its problem."""
        resolved = resolve(node.text) if node.plain else node.text
        if resolved is None:
            return (None, None), null_value(self._format.name(path))
        if isinstance(resolved, AmbiguousScalar):
            return (ABSENT, None), self._format.ambiguity(path, node.text, resolved)
        value, found = reader(node)
        return (resolved, value), found


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector while a file is read: its nodes are many, and none is in a cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
