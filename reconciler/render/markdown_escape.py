"""Escapes text for Markdown, and fits documents into a size limit.

This file decides how text from outside is written: as a code span, in which GitHub and GitLab link no
mention, issue or address. It also decides which rows are left out when a document would be too long. Rows
that are left out are always counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from reconciler.core.problems import escape_unprintable
from reconciler.render.values import families

MAX_CELL_TEXT = 200
"""Maximum characters of one text from outside: a path may have 4,096 bytes, and the summary has to fit."""

NOTE_BYTES = 120
"""Bytes reserved in every block for the sentence that counts the rows left out."""


RowRank = tuple[int, bool, int, Fraction, str, str, str]
"""The order in which rows are left out, over all blocks: the highest rank first."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One family's row of a block: the text, ending in a newline, and its rank."""

    rank: RowRank
    text: str


@dataclass(frozen=True, slots=True)
class TruncatableBlock:
    """A block that may be cut: its beginning, its rows (one a family, by rank), and its end.

    ``close`` comes before the sentence that counts the rows left out, ``end`` after it.
    """

    begin: str
    rows: tuple[TableRow, ...]
    close: str = ""
    end: str = ""

    @property
    def min_bytes(self) -> int:
        """The size of the block without rows, in bytes."""
        return NOTE_BYTES + size(self.begin + self.close + self.end)

    def text(self, number: int) -> str:
        """Return the block with its first ``number`` rows."""
        left = len(self.rows) - number
        note = f"\n… and {families(left)} more, left out to fit a comment.\n" if left else ""
        shown = "".join(row.text for row in self.rows[:number])
        return self.begin + shown + self.close + note + self.end


def block(begin: str, rows: Iterable[TableRow], close: str = "", end: str = "") -> list[TruncatableBlock]:
    """Return the block of ``rows``, the worst first; nothing if there is no row."""
    ranked = tuple(sorted(rows, key=lambda row: row.rank))
    return [TruncatableBlock(begin, ranked, close, end)] if ranked else []


Piece = str | TruncatableBlock
"""Text that must not be cut, or a block that may be cut."""


def code(text: str) -> str:
    """Return any ``text`` as a code span of one line. Not for a table: see :func:`cell`."""
    shown = _cut(escape_unprintable(text)) or "(empty)"
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    # Markdown removes one space on each side, unless there is nothing else.
    pad = " " if shown.strip(" ") and (shown[0] in " `" or shown[-1] in " `") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def cell(text: str) -> str:
    """Return ``text`` as a code span inside a table; a bar would end the cell, so it is escaped."""
    return code(escape_unprintable(text).replace("|", "\\x7c"))


def fenced(text: str) -> str:
    """Return ``text`` for a line inside a fenced block; its backticks cannot end the block."""
    return escape_unprintable(text).replace("`", "\\x60")


def min_size(pieces: Sequence[Piece]) -> int:
    """Return the size of ``pieces`` without any rows, in bytes."""
    return sum(size(piece) if isinstance(piece, str) else piece.min_bytes for piece in pieces)


def fit(pieces: Sequence[Piece], limit: int) -> str:
    """Return the document of ``pieces`` in at most ``limit`` bytes.

    Rows that do not fit are left out from the highest rank down, over all blocks. ``min_size(pieces)`` must
    not be above ``limit``.
    """
    room = limit - min_size(pieces)
    assert room >= 0
    blocks = {place: piece for place, piece in enumerate(pieces) if isinstance(piece, TruncatableBlock)}
    shown = dict.fromkeys(blocks, 0)
    ranked = ((row.rank, place, row) for place, block in blocks.items() for row in block.rows)
    for _, place, row in sorted(ranked, key=lambda each: each[:2]):
        room -= size(row.text)
        if room < 0:
            break
        shown[place] += 1
    return "".join(
        piece if isinstance(piece, str) else piece.text(shown[place]) for place, piece in enumerate(pieces)
    )


def size(text: str) -> int:
    """Return the size of ``text`` in bytes."""
    return len(text.encode())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CELL_TEXT else text[: MAX_CELL_TEXT - 1] + "…"
