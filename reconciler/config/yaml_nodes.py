"""Bytes → a tree of nodes with places, strictly: the part of reading that is the same for every file.

This file decides what YAML is allowed to do in a file that is reviewed by people: text that looks
the same to a person and to a program, one document, unique text keys, no anchors, aliases, tags,
merge keys and block texts. It works on the parser's events, so nothing is ever constructed from
what the file says, no value is resolved, and nesting does not recurse. What has been complained
about becomes :class:`Opaque`, so that nobody complains about it twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from reconciler.config.yaml_ambiguity import is_text
from reconciler.core.problems import MAX_PROBLEMS, Code, Problem, escape_unprintable, problem, quoted

MAX_BYTES = 1024 * 1024
"""Contract: at most 1 MiB."""

MAX_DEPTH = 16
"""Levels of nesting; the formats have at most five, and walking them recurses."""

MAX_NODES = 120_000
"""Keys, values, lists and mappings of a file; 10,000 families with all of their fields have 80,000."""

MAX_BAD_CHARACTERS = 20
"""Bad characters reported of one file: a binary file has a million of them."""

_BAD_CHARACTER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters; U+0085 is a YAML 1.1 line break
    "\u2028\u2029"  # line breaks to YAML 1.1 only: they can end a comment unseen
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they reorder what is shown
    "\ufeff\ufffe\uffff]"  # a byte order mark in the middle, and no characters at all
    "|\r(?!\n)"  # a lone CR is a line break to YAML, but not to every editor
)
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""Only its parser is used; libyaml's is some twenty times faster and not built everywhere."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in a text: 1-based line and column, columns counted in characters."""

    line: int
    column: int


START = Place(1, 1)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as it was written. ``plain`` means without quotes."""

    text: str
    plain: bool
    at: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a table with its value."""

    key: Scalar
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping: entries by their key's text, in the order of the file.

    Not ``whole`` means that keys were refused: what seems to be missing may be behind one of them.
    """

    entries: dict[str, Entry]
    at: Place
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something that has already been complained about; what it would say is unknown."""

    at: Place


Node = Scalar | Sequence | Table | Opaque


@dataclass(frozen=True, slots=True)
class Tree:
    """A file as read. ``root`` is None when reading had to end before the file did.

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
    if len(content) > MAX_BYTES:
        return Tree("", None, (_too_large(path),))
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        return _not_utf8(content, path, error.start)
    if bad := _bad_characters(text, path):
        return Tree(text, None, bad)
    builder = _Builder(path)
    try:
        root = builder.build(text)
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text, path))
        root = None
    except _Enough:
        root = None
    return Tree(text, root, tuple(builder.problems), "\n".join(builder.decoded))


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not been seen; ``key`` waits for its value in a mapping."""

    at: Place
    entries: dict[str, Entry] | None
    items: list[Node] = field(default_factory=list)
    key: Node | None = None
    whole: bool = True

    def closed(self) -> Node:
        return (
            Sequence(tuple(self.items), self.at)
            if self.entries is None
            else Table(self.entries, self.at, self.whole)
        )


class _Enough(Exception):
    """More problems were found than are listed: the rest of the file is not looked at."""


class _Builder:
    """Builds the tree from events, collecting problems as they are met."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.decoded: list[str] = []
        self._open: list[_Open] = []
        self._tainted: list[bool] = []
        self._nodes = 0
        self._root: Node | None = None

    def build(self, text: str) -> Node | None:
        """Return the first document's root, or None when there is none or reading had to end.

        Raises _Enough after more problems than are listed.
        """
        documents = 0
        for event in yaml.parse(text, Loader=_LOADER):
            self._nodes += 1
            if self._nodes > MAX_NODES:
                hint = "check that the right file was named"
                self._complain(
                    Code.TOO_LARGE, _place(event), f"more than {MAX_NODES:,} keys and values", hint
                )
                return None
            if isinstance(event, yaml.ScalarEvent):
                self._add(self._scalar(event))
            elif isinstance(event, yaml.CollectionStartEvent):
                if len(self._open) == MAX_DEPTH:
                    self._complain(Code.TOO_DEEP, _place(event), f"more than {MAX_DEPTH} levels of nesting")
                    return None
                self._start(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._alias(event))
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._second_document(event)
                    break
                self._directives(event)
        return self._root_unless_empty()

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        at = _place(event)
        if event.style:
            self.decoded.append(event.value)
        if self._decorated(event, at):
            return Opaque(at)
        if event.style in ("|", ">"):
            hint = "write the value on the line of its key"
            self._complain(Code.YAML_BLOCK, at, "block text (| or >) is not allowed here", hint)
            return Opaque(at)
        return Scalar(event.value, not event.style, at)

    def _alias(self, event: yaml.AliasEvent) -> Node:
        at = _place(event)
        hint = "write the value out, or use defaults for what families have in common"
        self._complain(Code.YAML_ANCHOR, at, f"the alias {_named('*', event.anchor)} is not allowed", hint)
        return Opaque(at)

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        at = _place(event)
        self._tainted.append(self._decorated(event, at))
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append(_Open(at, {} if is_mapping else None))

    def _end(self) -> None:
        node = self._open.pop().closed()
        self._add(Opaque(node.at) if self._tainted.pop() else node)

    def _add(self, node: Node) -> None:
        """Put a finished node where it belongs: the root, a list's item, a key, or a key's value."""
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if parent.entries is None:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            parent.whole &= self._enter(parent.entries, parent.key, node)
            parent.key = None

    def _enter(self, entries: dict[str, Entry], key: Node, value: Node) -> bool:
        """Enter a key with its value; tell whether the table then has what the key stands for."""
        if isinstance(key, Opaque):
            return False
        if not isinstance(key, Scalar):
            self._complain(Code.NON_STRING_KEY, key.at, "a list or mapping cannot be a key")
        elif key.plain and key.text == "<<":
            hint = "put what families have in common under defaults"
            self._complain(Code.YAML_MERGE, key.at, "the merge key << is not allowed", hint)
        elif key.plain and not is_text(key.text):
            message = f"the key {quoted(key.text)} is not text to YAML"
            self._complain(
                Code.NON_STRING_KEY, key.at, message, "keys are names such as BTC-USD or qtyLimit"
            )
        elif first := entries.get(key.text):
            self._duplicate(key, first.key)
            return True
        else:
            entries[key.text] = Entry(key, value)
            return True
        return False

    def _duplicate(self, key: Scalar, first: Scalar) -> None:
        message = f"the key {quoted(key.text)} is already on line {first.at.line}"
        self._complain(Code.DUPLICATE_KEY, key.at, message, "keep the one that is meant, delete the other")

    def _decorated(self, event: yaml.NodeEvent, at: Place) -> bool:
        """Complain of an anchor or tag on a node; tell whether there was one."""
        if event.anchor is not None:
            hint = "remove it; what families have in common goes under defaults"
            self._complain(
                Code.YAML_ANCHOR, at, f"the anchor {_named('&', event.anchor)} is not allowed", hint
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.decoded.append(tag)
            self._complain(Code.YAML_TAG, at, f"the tag {quoted(tag)} is not allowed", "remove it")
        return event.anchor is not None or tag is not None

    def _directives(self, event: yaml.DocumentStartEvent) -> None:
        if event.tags:
            self._complain(Code.YAML_TAG, START, "a %TAG directive is not allowed", "remove it")

    def _second_document(self, event: yaml.DocumentStartEvent) -> None:
        hint = "keep one account in a file: move what follows to a file of its own"
        self._complain(Code.MULTIPLE_DOCUMENTS, _place(event), "a second document begins here", hint)

    def _root_unless_empty(self) -> Node | None:
        root = self._root
        if root is None or (isinstance(root, Scalar) and root.plain and not root.text):
            if not self.problems:
                hint = "an empty file never means “nothing desired”; restore it"
                self._complain(Code.EMPTY_FILE, START, "the file has no content", hint)
            return None
        return root

    def _complain(self, code: Code, at: Place, message: str, hint: str = "") -> None:
        self.problems.append(problem(code, self.path, message, hint, line=at.line, column=at.column))
        if len(self.problems) > MAX_PROBLEMS:
            raise _Enough


def _named(sign: str, name: str | None) -> str:
    """Return an anchor or alias as it was written, cut as any value is."""
    return sign + quoted(name or "")[1:-1]


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None  # the parser marks every event; only hand-made ones lack it
    return Place(mark.line + 1, mark.column + 1)


def _place_of_offset(text: str, offset: int) -> Place:
    return Place(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _too_large(path: str) -> Problem:
    message = f"the file is larger than 1 MiB ({MAX_BYTES} bytes)"
    return problem(Code.TOO_LARGE, path, message, "check that the right file was named")


def _not_utf8(content: bytes, path: str, offset: int) -> Tree:
    before = content[:offset].decode("utf-8").removeprefix("\ufeff")
    at = _place_of_offset(before, len(before))
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    message = "this is UTF-16, not UTF-8" if wide else f"byte 0x{content[offset]:02x} is not UTF-8"
    found = problem(Code.NOT_UTF8, path, message, "save the file as UTF-8", line=at.line, column=at.column)
    return Tree(content.decode("utf-8", "replace").removeprefix("\ufeff"), None, (found,))


def _bad_characters(text: str, path: str) -> tuple[Problem, ...]:
    return tuple(_bad_character_problems(text, path))


def _bad_character_problems(text: str, path: str) -> Iterator[Problem]:
    for count, match in enumerate(_BAD_CHARACTER.finditer(text)):
        if count == MAX_BAD_CHARACTERS:
            return
        at = _place_of_offset(text, match.start())
        message = f"the character U+{ord(match.group()):04X} hides or moves text and is not allowed"
        hint = "delete it and type the line again"
        yield problem(Code.BAD_CHARACTER, path, message, hint, line=at.line, column=at.column)


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
"""What libyaml's and the pure parser's complaints (context and problem) usually come from."""


def _syntax_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    at = _syntax_place(error, text.split("\n"))
    said = f"{getattr(error, 'context', None) or ''} {getattr(error, 'problem', None) or 'unreadable'}"
    message = f"this is not YAML: {escape_unprintable(' '.join(said.split()))}"
    hint = _syntax_hint(said, text, at)
    return problem(Code.YAML_SYNTAX, path, message, hint, line=at.line, column=at.column)


def _syntax_place(error: yaml.YAMLError, lines: list[str]) -> Place:
    """Return where the parser stopped, or where it began when it only stopped at nothing.

    Of a bracket that is never closed the bracket is worth showing, not the end of the file; of a
    key without a colon the key, not what comes after it.
    """
    marks: list[yaml.Mark | None] = [
        getattr(error, "problem_mark", None),
        getattr(error, "context_mark", None),
    ]
    if "expected ':'" in str(getattr(error, "problem", "")):
        marks.reverse()
    places = [Place(mark.line + 1, mark.column + 1) for mark in marks if mark is not None]
    at_something = (at for at in places if at.line <= len(lines) and lines[at.line - 1].strip())
    return next(at_something, START)


def _syntax_hint(said: str, text: str, at: Place) -> str:
    lines = text.split("\n")
    if conflict := next(
        (number for number, line in enumerate(lines, 1) if line.startswith("<<<<<<< ")), None
    ):
        return f"line {conflict} begins a merge conflict that has not been resolved"
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    character = line[at.column - 1 : at.column]
    if character == "\t":
        return "indent with spaces; YAML does not allow tabs"
    if "cannot start any token" in said:
        return f"put quotes around a value that begins with {escape_unprintable(character)}"
    return next((hint for words, hint in _SYNTAX_HINTS if words in said), "compare with mmp schema mmp")
