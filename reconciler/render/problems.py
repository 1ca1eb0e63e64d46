"""Problems for people and pipelines: text with excerpts, JSON, GitHub annotations.

This file decides only how a problem looks. Text from the user's file or its name is shown with control
characters escaped: an escape sequence in a file must never reach the terminal. Order and bytes depend only
on the arguments.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from reconciler.core.problems import MAX_PROBLEMS, Code, Problem, Severity, escape_unprintable
from reconciler.render.color import Paint, Tone, plain

EXCERPT_CELLS = 100
"""Maximum terminal cells of an excerpt; a longer line is cut around its caret."""

BEFORE_CARET_CELLS = 60
"""How much of a cut line is shown before the caret: context reads from the left."""

MAX_LOOKED_AT = EXCERPT_CELLS
"""Characters read on either side of a caret: one line can be 1 MiB long."""

MAX_EXCERPT_CHARS = 200
"""Maximum characters of an excerpt, including characters of zero width."""

MAX_ANNOTATIONS = 10
"""GitHub shows ten errors and ten warnings of a step and silently drops the rest."""

_WORD = r"(?:[^\s,:{}\[\]]|:(?=[^\s,{}\[\]]))+"
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"'  # a quoted value is one token, including blanks
    r"|'(?:[^']|'')*'"
    r"|[&*!][^\s,{}\[\]]*"  # an anchor, alias or tag, without its value
    rf"|{_WORD}(?: (?!#){_WORD})*"  # plain words; 1:30 is one, but the colon of a key is not in it
)


class Excerptable(Protocol):
    """A file as read: its problems, and its text for excerpts ("" if there is none)."""

    @property
    def path(self) -> str:
        """The path of the file, as given."""

    @property
    def text(self) -> str:
        """The file's content."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the file."""

    @property
    def quotable(self) -> bool:
        """Whether the file may be quoted: it has no configured secret."""


def problems_text(readings: Sequence[Excerptable], *, paint: Paint = plain) -> str:
    """Return the problems of ``readings`` with excerpts and a summary line, ending in a line break.

    A problem of an empty line, of an unread file or of one with a configured secret has no excerpt.
    """
    blocks: list[str] = []
    for reading in readings:
        lines = reading.text.split("\n") if reading.quotable else []
        blocks += ("".join(f"{line}\n" for line in _block(each, lines, paint)) for each in reading.problems)
    return "\n".join((*blocks, f"{summary(readings)}\n"))


def summary(readings: Sequence[Excerptable]) -> str:
    """Return one line of counts: ``2 errors, 1 warning in mmp.yaml``, ``no problems in 3 files``."""
    problems = [each for reading in readings for each in reading.problems]
    counted = ", ".join(filter(None, (_count(problems, severity) for severity in Severity)))
    where = escape_unprintable(readings[0].path) if len(readings) == 1 else f"{len(readings)} files"
    more = " and more" if _has_more(problems) else ""
    return f"{counted or 'no problems'}{more} in {where}"


def problems_github(problems: Sequence[Problem]) -> str:
    """Return workflow commands that annotate the lines of a change, "" when there are no problems.

    At most MAX_ANNOTATIONS a level; a plain line counts the ones left out.
    """
    return "".join(line + "\n" for severity in Severity for line in _annotations(problems, severity))


def _block(problem: Problem, lines: Sequence[str], paint: Paint) -> Iterator[str]:
    tone = Tone.BAD if problem.is_error else Tone.WARN
    place = f"{escape_unprintable(problem.path)}:{problem.line}:{problem.column}"
    yield f"{paint(problem.severity, tone)}[{problem.code}] {paint(place, Tone.STRONG)}"
    line = lines[problem.line - 1].rstrip("\r") if problem.line <= len(lines) else ""
    margin = " "
    if line.strip() and problem.code is not Code.MORE_PROBLEMS:
        margin = " " * len(str(problem.line))
        excerpt, offset, width = _excerpt(line, problem.column)
        yield f"  {paint(f'{problem.line} |', Tone.QUIET)} {excerpt}"
        yield f"  {margin} {paint('|', Tone.QUIET)} {' ' * offset}{paint('^' * width, tone)}"
    yield f"  {margin} {paint('=', Tone.QUIET)} {escape_unprintable(problem.message)}"
    if problem.hint:
        yield f"  {margin} {paint('help:', Tone.GOOD)} {escape_unprintable(problem.hint)}"


def _excerpt(line: str, column: int) -> tuple[str, int, int]:
    """Return ``line`` as shown, the cells before its caret, and the caret's width in cells."""
    start = min(column - 1, len(line))
    end = _token_end(line, start)
    before = _cells_of(line[max(start - MAX_LOOKED_AT, 0) : start])
    token = _cells_of(line[start:end])
    after = _cells_of(line[end : end + MAX_LOOKED_AT])
    fits = _width(before) + _width(token) + _width(after) <= EXCERPT_CELLS
    before = before if fits else _cut_left(before, BEFORE_CARET_CELLS)
    room = EXCERPT_CELLS - _width(before)
    rest = _cut_right([*token, *after], room)
    return "".join((*before, *rest))[:MAX_EXCERPT_CHARS], _width(before), max(min(_width(token), room), 1)


def _token_end(line: str, start: int) -> int:
    match = _TOKEN.match(line, start, start + MAX_LOOKED_AT)
    return match.end() if match else min(start + 1, len(line))


def _cells_of(text: str) -> list[str]:
    """Return the displayed form of each character of ``text``."""
    return [escape_unprintable(character) for character in text]


def _cut_left(pieces: list[str], cells: int) -> list[str]:
    if _width(pieces) <= cells:
        return pieces
    return ["…", *reversed(_fitting(reversed(pieces), cells - 1))]


def _cut_right(pieces: list[str], cells: int) -> list[str]:
    return pieces if _width(pieces) <= cells else [*_fitting(pieces, cells - 1), "…"]


def _fitting(pieces: Iterable[str], cells: int) -> list[str]:
    """Return the first pieces that fit into ``cells``."""
    shown = list(pieces)
    ends = accumulate(_width([piece]) for piece in shown)
    return [piece for piece, end in zip(shown, ends, strict=True) if end <= cells]


def _width(pieces: Sequence[str]) -> int:
    return sum(_character_cells(character) for piece in pieces for character in piece)


def _character_cells(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _has_more(problems: Sequence[Problem]) -> bool:
    return any(each.code is Code.MORE_PROBLEMS for each in problems)


def _count(problems: Sequence[Problem], severity: Severity) -> str:
    count = sum(each.severity is severity and each.code is not Code.MORE_PROBLEMS for each in problems)
    return f"{count} {severity}{'' if count == 1 else 's'}" if count else ""


def _annotations(problems: Sequence[Problem], severity: Severity) -> Iterator[str]:
    chosen = [each for each in problems if each.severity is severity]
    yield from map(_annotation, chosen[:MAX_ANNOTATIONS])
    left = len(chosen) - MAX_ANNOTATIONS
    if left > 0:
        shown = f"the first {MAX_PROBLEMS} problems" if _has_more(problems) else "them all"
        yield f"and {left} more {severity}{'' if left == 1 else 's'}; mmp validate shows {shown}"


def _annotation(problem: Problem) -> str:
    places = {"file": problem.path, "line": problem.line, "col": problem.column, "title": problem.code}
    properties = ",".join(f"{name}={_property(str(value))}" for name, value in places.items())
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    return f"::{problem.severity} {properties}::{_data(text)}"


def _data(text: str) -> str:
    """Escape a message for GitHub's runner; unprintable characters are escaped, too."""
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return escape_unprintable(escaped)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
