"""Parses YAML strictly: from bytes to a tree of nodes with positions.

This file decides which features of YAML a reviewed file may use: text that looks the same to a person and
to a program, one document, unique text keys, and no anchors, aliases, tags, merge keys or block texts. It
reads the events of the parser, so YAML never constructs an object from the file. A node that has a
problem becomes an :class:`InvalidNode`, so that it gets no second problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import yaml
from yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from reconciler.config.yaml_ambiguity import resolve_scalar
from reconciler.core.problems import MAX_PROBLEMS, Code, Problem, escape_unprintable, problem, quoted

MAX_FILE_BYTES = 1024 * 1024
"""The largest file that is read: 1 MiB."""

MAX_YAML_DEPTH = 16
"""Levels of nesting. The formats have at most five, and reading them is recursive."""

MAX_NODES = 120_000
"""Events of the parser in one file. 10,000 families with all of their fields have 90,000."""

RIGHT_FILE_HINT = "check that the right file was named"

MAX_BAD_CHARACTERS = 20
"""Bad characters that are reported for one file. A binary file may have a million."""

_BAD_CHARACTER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters; U+0085 is a YAML 1.1 line break
    "\u2028\u2029"  # line breaks to YAML 1.1 only: they can end a comment unseen
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they reorder what is shown
    "\ufeff\ufffe\uffff]"  # a byte order mark in the middle, and no characters at all
    "|\r(?!\n)"  # a lone CR is a line break to YAML, but not to every editor
)
_ORDINARY = bytes(range(0x20, 0x7F)) + b"\t\n"
"""A file that consists of these bytes only has no bad characters. Most files do."""

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""Only its parser is used. The one of libyaml is about twenty times faster, but not built everywhere."""


class Mark(Protocol):
    """What the parser knows of a position: 0-based line and column."""

    line: int
    column: int


class Position(NamedTuple):
    """A position in a text: 1-based line and column, columns counted in characters."""

    line: int
    column: int


START = Position(1, 1)

# The nodes are not frozen, because a frozen dataclass takes three times as long to make and a file has
# up to 120,000 of them. Nothing changes a node once it is read.


class _Node:
    """What all nodes have in common: the parser's mark, from which the position is computed when needed."""

    __slots__ = ()
    mark: Mark

    @property
    def position(self) -> Position:
        """Where the node begins."""
        return position_of(self.mark)


@dataclass(slots=True)
class Scalar(_Node):
    """A single value as it was written. ``plain`` means without quotes."""

    text: str
    plain: bool
    mark: Mark


@dataclass(slots=True)
class Sequence(_Node):
    """A list."""

    items: tuple[Node, ...]
    mark: Mark


@dataclass(slots=True)
class Table(_Node):
    """A mapping: values, and the marks of their keys, by the key's text in the order of the file.

    If it is not ``complete``, some of its keys are invalid: what seems to be missing may be behind one of
    them.
    """

    values: dict[str, Node]
    key_marks: dict[str, Mark]
    mark: Mark
    complete: bool = True

    def key_position(self, key: str) -> Position:
        """Return where ``key`` is written; the table has it."""
        return position_of(self.key_marks[key])


@dataclass(slots=True)
class InvalidNode(_Node):
    """A value that has a problem already; its meaning is unknown."""

    mark: Mark


Node = Scalar | Sequence | Table | InvalidNode


@dataclass(frozen=True, slots=True)
class Tree:
    """A file as read. ``root`` is None if reading ended before the file did.

    ``text`` is the file's content for excerpts, without a byte order mark. ``decoded`` is what YAML
    makes of its quoted values and tags, in which escapes may stand for other characters.
    """

    text: str
    root: Node | None
    problems: tuple[Problem, ...]
    decoded: str = ""


def read_nodes(content: bytes, path: str) -> Tree:
    """Read the one YAML document of ``content``; ``path`` only names the file in problems.

    Never raises for anything the content may be. A UTF-8 byte order mark at the start is accepted.
    """
    if len(content) > MAX_FILE_BYTES:
        message = f"the file is larger than 1 MiB ({MAX_FILE_BYTES} bytes)"
        return Tree("", None, (problem(Code.TOO_LARGE, path, message, RIGHT_FILE_HINT),))
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return _not_utf8(content, path, error.start)
    if content.translate(None, _ORDINARY) and (bad := tuple(_bad_characters(text, path))):
        return Tree(text, None, bad)
    builder = _TreeBuilder(text, path)
    try:
        root = builder.build()
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text, path))
        root = None
    except _ReadingEnded:
        root = None
    return Tree(text, root, tuple(builder.problems), "\n".join(builder.decoded))


class _ReadingEnded(Exception):
    """A limit was exceeded. The rest of the file is not read."""


YamlEvent = Any
"""An event of the parser. By its published types it may have no mark; the parser always sets one."""


class _TreeBuilder:
    """Builds the tree from the parser's events and collects the problems."""

    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.decoded: list[str] = []
        self._loader: Any = _LOADER(text)
        events = iter(self._loader.get_event, None)
        self._events: Iterator[YamlEvent] = chain(islice(events, MAX_NODES), self._after_last())

    def build(self) -> Node | None:
        """Return the root of the first document, or None if it has no content.

        Raises _ReadingEnded beyond a limit, and what the parser raises.
        """
        root: Node | None = None
        starts: Iterator[YamlEvent] = (
            event for event in self._events if isinstance(event, yaml.DocumentStartEvent)
        )
        if (start := next(starts, None)) is not None:
            if start.tags:
                self._add_problem(Code.YAML_TAG, START, "a %TAG directive is not allowed", "remove it")
            root = self._node(next(self._events), 0)
        if (second := next(starts, None)) is not None:
            message = "a second document begins here"
            hint = "a file has one account: move the second document to its own file"
            self._add_problem(Code.MULTIPLE_DOCUMENTS, position_of(second.start_mark), message, hint)
        if root is not None and not (isinstance(root, Scalar) and root.plain and not root.text):
            return root
        if not self.problems:
            hint = "an empty file never means “nothing desired”; restore it"
            self._add_problem(Code.EMPTY_FILE, START, "the file has no content", hint)
        return None

    def _after_last(self) -> Iterator[YamlEvent]:
        """End the reading where the file has more events than are read."""
        event = self._loader.get_event()
        if event is not None:
            message = f"more than {MAX_NODES:,} keys and values"
            self._add_problem(Code.TOO_LARGE, position_of(event.start_mark), message, RIGHT_FILE_HINT)
            raise _ReadingEnded
        yield from ()

    def _node(self, event: YamlEvent, depth: int) -> Node:
        """Return the node that begins with ``event``, ``depth`` levels below the document."""
        kind = type(event)
        if kind is ScalarEvent:
            # The parser gives no anchor and no tag as empty text, only as None.
            if event.style or event.anchor or event.tag:
                return self._decorated_scalar(event)
            return Scalar(event.value, True, event.start_mark)
        if kind is AliasEvent:
            return self._alias(event)
        if depth == MAX_YAML_DEPTH:
            message = f"more than {MAX_YAML_DEPTH} levels of nesting"
            self._add_problem(Code.TOO_DEEP, position_of(event.start_mark), message)
            raise _ReadingEnded
        is_invalid = (event.anchor or event.tag) and self._reject_anchor_and_tag(event)
        read = self._table if kind is MappingStartEvent else self._sequence
        node = read(event.start_mark, depth + 1)
        return InvalidNode(node.mark) if is_invalid else node

    def _table(self, mark: Mark, depth: int) -> Table:
        values, key_marks, complete = dict[str, Node](), dict[str, Mark](), True
        for event in self._events:
            if type(event) is MappingEndEvent:
                return Table(values, key_marks, mark, complete)
            if type(event) is ScalarEvent and not (event.style or event.anchor or event.tag):
                # Nearly every key is plain, and there are many: no node is made for them.
                key, text = None, event.value
                is_name = text != "<<" and type(resolve_scalar(text)) is str
            else:
                key = self._node(event, depth)
                text, is_name = (key.text, True) if isinstance(key, Scalar) else ("", False)
            value = self._node(next(self._events), depth)
            if is_name and text not in values:
                values[text] = value
                key_marks[text] = event.start_mark
            else:
                self._add_key_problem(key, text, event.start_mark, key_marks)
                complete &= is_name
        raise AssertionError("the parser ends every mapping")

    def _sequence(self, mark: Mark, depth: int) -> Sequence:
        items: list[Node] = []
        for event in self._events:
            if type(event) is SequenceEndEvent:
                return Sequence(tuple(items), mark)
            items.append(self._node(event, depth))
        raise AssertionError("the parser ends every list")

    def _add_key_problem(
        self, key: Node | None, text: str, mark: Mark, key_marks: Mapping[str, Mark]
    ) -> None:
        """Add the problem of a key that is not entered; ``key`` is None if it is plain."""
        if isinstance(key, InvalidNode):
            return
        if isinstance(key, Table | Sequence):
            code, message, hint = Code.NON_STRING_KEY, "a list or mapping cannot be a key", ""
        elif key is None and text == "<<":
            code, message = Code.YAML_MERGE, "the merge key << is not allowed"
            hint = "put what families have in common under defaults"
        elif text in key_marks:
            line = position_of(key_marks[text]).line
            code, message = Code.DUPLICATE_KEY, f"the key {quoted(text)} is already on line {line}"
            hint = "delete the wrong one"
        else:
            code, message = Code.NON_STRING_KEY, f"the key {quoted(text)} is not text to YAML"
            hint = "keys are names such as BTC-USD or qtyLimit"
        self._add_problem(code, position_of(mark), message, hint)

    def _decorated_scalar(self, event: YamlEvent) -> Node:
        """Return a scalar that is not just plain text: it has quotes, a block style, an anchor or a tag."""
        mark = event.start_mark
        if event.style:
            self.decoded.append(event.value)
        if self._reject_anchor_and_tag(event):
            return InvalidNode(mark)
        if event.style not in ("|", ">"):
            return Scalar(event.value, not event.style, mark)
        message, hint = "block text (| or >) is not allowed here", "write the value on the line of its key"
        self._add_problem(Code.YAML_BLOCK, position_of(mark), message, hint)
        return InvalidNode(mark)

    def _alias(self, event: YamlEvent) -> Node:
        hint = "write the value out, or use defaults for what families have in common"
        message = f"the alias {_named('*', event.anchor)} is not allowed"
        self._add_problem(Code.YAML_ANCHOR, position_of(event.start_mark), message, hint)
        return InvalidNode(event.start_mark)

    def _reject_anchor_and_tag(self, event: YamlEvent) -> bool:
        """Add a problem for an anchor and for a tag of a node; return whether there was one."""
        position = position_of(event.start_mark)
        if event.anchor is not None:
            hint = "remove it; what families have in common goes under defaults"
            message = f"the anchor {_named('&', event.anchor)} is not allowed"
            self._add_problem(Code.YAML_ANCHOR, position, message, hint)
        if event.tag is not None:
            self.decoded.append(event.tag)
            message = f"the tag {quoted(event.tag)} is not allowed"
            self._add_problem(Code.YAML_TAG, position, message, "remove it")
        return event.anchor is not None or event.tag is not None

    def _add_problem(self, code: Code, position: Position, message: str, hint: str = "") -> None:
        self.problems.append(problem_at(position, code, self.path, message, hint))
        if len(self.problems) > MAX_PROBLEMS:
            raise _ReadingEnded


def _named(sign: str, name: str | None) -> str:
    """Return an anchor or alias as it was written, cut like any value."""
    return sign + quoted(name or "")[1:-1]


def position_of(mark: Mark) -> Position:
    """Return the position of a mark of the parser."""
    return Position(mark.line + 1, mark.column + 1)


def problem_at(position: Position, code: Code, path: str, message: str, hint: str = "") -> Problem:
    """Return the problem of a file at a position."""
    return problem(code, path, message, hint, line=position.line, column=position.column)


def _position_of_offset(text: str, offset: int) -> Position:
    return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _not_utf8(content: bytes, path: str, offset: int) -> Tree:
    before = content[:offset].decode("utf-8").removeprefix("\ufeff")
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    message = "this is UTF-16, not UTF-8" if wide else f"byte 0x{content[offset]:02x} is not UTF-8"
    at = _position_of_offset(before, len(before))
    found = problem_at(at, Code.NOT_UTF8, path, message, "save the file as UTF-8")
    return Tree(content.decode("utf-8", "replace").removeprefix("\ufeff"), None, (found,))


def _bad_characters(text: str, path: str) -> Iterator[Problem]:
    hint = "delete it and type the line again"
    for match in islice(_BAD_CHARACTER.finditer(text), MAX_BAD_CHARACTERS):
        message = f"the character U+{ord(match.group()):04X} hides or moves text and is not allowed"
        yield problem_at(_position_of_offset(text, match.start()), Code.BAD_CHARACTER, path, message, hint)


_SYNTAX_HINTS = (
    ("mapping values are not allowed", "check the line above, the indentation, and quotes around a colon"),
    ("tab character", "indent with spaces; YAML does not allow tabs"),
    ("escape character", "write the text without the backslash, or in single quotes"),
    ("quoted scalar", "a quote is opened and not closed"),
    ("flow mapping", "a brace { is opened and not closed, or a comma is missing"),
    ("flow sequence", "a bracket [ is opened and not closed, or a comma is missing"),
    ("block mapping", "check the indentation: keys of one level begin in the same column"),
    ("block collection", "check the indentation: items of one list begin in the same column"),
    ("could not find expected ':'", "a colon and a space are missing after a key"),
    ("simple key", "a colon and a space are missing after a key"),
    ("alias", "a value that begins with * has to be in quotes"),
    ("anchor", "a value that begins with & has to be in quotes"),
)
"""The usual causes of the parsers' messages (context and problem), of libyaml and the pure one."""


def _syntax_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    at = _syntax_position(error, text.split("\n"))
    reason = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or 'unreadable'}"
    message = f"this is not valid YAML: {escape_unprintable(' '.join(reason.split()))}"
    return problem_at(at, Code.YAML_SYNTAX, path, message, _syntax_hint(reason, text, at))


def _syntax_position(error: yaml.YAMLError, lines: list[str]) -> Position:
    """Return where the parser stopped, or where it began if it stopped at the end of the text.

    For an unclosed bracket the bracket is shown, not the end of the file; for a key without a colon the
    key, not what comes after it.
    """
    marks = [getattr(error, "problem_mark", None), getattr(error, "context_mark", None)]
    if "expected ':'" in str(getattr(error, "problem", "")):
        marks.reverse()
    places = [position_of(mark) for mark in marks if mark is not None]
    return next((at for at in places if at.line <= len(lines) and lines[at.line - 1].strip()), START)


def _syntax_hint(reason: str, text: str, at: Position) -> str:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("<<<<<<< "):
            return f"line {number} begins a merge conflict that has not been resolved"
    character = lines[at.line - 1][at.column - 1 : at.column] if at.line <= len(lines) else ""
    if character == "\t":
        return "indent with spaces; YAML does not allow tabs"
    if "cannot start any token" in reason:
        return f"put quotes around a value that begins with {escape_unprintable(character)}"
    return next((hint for words, hint in _SYNTAX_HINTS if words in reason), "compare with mmp schema mmp")
