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
from reconciler.config.schema_check import KeyPath, SchemaError, error_position, node_at, schema_errors
from reconciler.config.values import ValueProblem
from reconciler.config.yaml_ambiguity import AmbiguousScalar, resolve_scalar
from reconciler.config.yaml_nodes import (
    Mark,
    Node,
    Position,
    Scalar,
    Sequence,
    Table,
    position_of,
    problem_at,
)
from reconciler.core.problems import Code, Collected

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
    value_readers: Callable[[KeyPath], ValueReaders]
    name: Callable[[KeyPath], str]
    ambiguity: Callable[[KeyPath, str, AmbiguousScalar], ValueProblem]
    not_single: Callable[[KeyPath], ValueProblem | None]
    schema_message: Callable[[SchemaError, Node | None], ValueProblem]
    null_at_key: bool


class TooManyProblems(Exception):
    """More errors were found than are listed. The rest of the file is not read."""


class NodeReader:
    """Reads the nodes of one file: fills ``values``, by path and key, and adds to the file's problems."""

    def __init__(self, root: Node, form: Format, file: str, problems: Collected) -> None:
        self.values: dict[KeyPath, dict[str | int, Any]] = {}
        self._root = root
        self._format = form
        self._value_readers = form.value_readers
        self._file = file
        self._problems = problems
        self._explained: set[KeyPath] = set()
        self._ambiguous: list[tuple[Position, ValueProblem]] = []
        self._known: dict[tuple[ValueReader, str, bool], tuple[Any, Any]] = {}

    def read(self, node: Node, path: KeyPath) -> Any:
        """Return what ``node`` is in the document, ABSENT if it is invalid. Raises TooManyProblems."""
        if isinstance(node, Table):
            document, values = self.read_table(node, path)
            if values:
                self.values[path] = values
            return document
        if isinstance(node, Sequence):
            return self._sequence(node, path)
        return self._resolve(node, path) if isinstance(node, Scalar) else ABSENT

    def read_no_more_values(self) -> None:
        """From now on only make the document: values have no readers any more."""
        self._value_readers = lambda _: NO_READERS

    def add(self, position: Position, found: ValueProblem, path: KeyPath | None = None) -> None:
        """Add a problem, that of the value at ``path`` or of a key. Raises TooManyProblems."""
        if path is not None:
            self._explained.add(path)
        self._problems.add(problem_at(position, found.code, self._file, found.message, found.hint))
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

    def read_table(self, table: Table, path: KeyPath) -> tuple[dict[str, Any], dict[str | int, Any]]:
        """Return what ``table`` is in the document, and its valid single values. Raises TooManyProblems."""
        readers, known_texts = self._value_readers(path), self._known
        document: dict[str, Any] = {}
        values: dict[str | int, Any] = {}
        for key, node in table.values.items():
            reader = readers.get(key)
            if reader is None:
                read = self.read(node, (*path, key))
            else:
                known = known_texts.get((reader, node.text, node.plain)) if type(node) is Scalar else None
                read, value = known or self._value(node, reader, path, key, table.key_marks[key])
                if value is not None:
                    values[key] = value
            if read is not ABSENT:
                document[key] = read
        return document, values

    def _sequence(self, sequence: Sequence, path: KeyPath) -> list[Any]:
        reader, document = self._value_readers(path).get(None), []
        values: dict[str | int, Any] = {}
        for index, node in enumerate(sequence.items):
            if reader is None:
                read = self.read(node, (*path, index))
            else:
                read, value = self._value(node, reader, path, index, node.mark)
                if value is not None:
                    values[index] = value
            document.append(None if read is ABSENT else read)
        if values:
            self.values[path] = values
        return document

    def _resolve(self, node: Scalar, path: KeyPath) -> Any:
        """Return the value of a scalar without a reader; of an ambiguous one, add the problem later."""
        value = resolve_scalar(node.text) if node.plain else node.text
        if isinstance(value, AmbiguousScalar):
            self._ambiguous.append((node.position, ambiguity_message(path, node.text, value)))
            return ABSENT
        return value

    def _value(
        self, node: Node, reader: ValueReader, table: KeyPath, key: str | int, key_mark: Mark
    ) -> tuple[Any, Any]:
        """Return what a value with a reader is in the document, and the value, None if it is unusable."""
        if not isinstance(node, Scalar):
            path = (*table, key)
            if isinstance(node, Table | Sequence) and (found := self._format.not_single(path)):
                self.add(node.position, found, path)
            return self.read(node, path), None
        resolved: Any = resolve_scalar(node.text) if node.plain else node.text
        value = None
        if resolved is None:
            found = null_value(self._format.name((*table, key)))
        elif isinstance(resolved, AmbiguousScalar):
            found, resolved = self._format.ambiguity((*table, key), node.text, resolved), ABSENT
        else:
            value, found = reader(node)
        if found is None:
            self._known[reader, node.text, node.plain] = resolved, value
        else:
            at_key = found.code is Code.NULL_VALUE and (self._format.null_at_key or not node.text)
            self.add(position_of(key_mark if at_key else node.mark), found, (*table, key))
        return resolved, value


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
