"""Colour as optional decoration: every meaning also has a symbol and a word."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Tone(StrEnum):
    """The meaning of a piece of text; a terminal may show it as a colour."""

    GOOD = "32"
    BAD = "31"
    WARN = "33"
    QUIET = "2"
    STRONG = "1"


Paint = Callable[[str, Tone], str]
"""Returns the text, decorated or not."""


def plain(text: str, tone: Tone) -> str:
    """Return ``text`` unchanged."""
    del tone
    return text


def ansi(text: str, tone: Tone) -> str:
    """Return ``text`` in the tone's ANSI colour."""
    return f"\x1b[{tone.value}m{text}\x1b[0m"
