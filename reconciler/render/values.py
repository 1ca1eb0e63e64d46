"""Formats values for people: intervals in the largest unit that divides them, times in words."""

from __future__ import annotations

from reconciler.core.change_direction import changed_fields
from reconciler.core.model import Setting

HEAD_WORD_CELLS = 9
"""The width of the widest first words of a line: unmanaged, uncertain."""


LIVE_IS_SO = "live is already as the file says: recorded, no request"
"""The text of an adoption in a plan."""

EITHER_POLICY = "What the policy of either side refuses is held."
"""The text of a comparison of two revisions whose policies differ."""


def format_moves(before: Setting, after: Setting) -> str:
    """Write each field that differs as ``qtyLimit 100 → 400``; empty if none does."""
    return ", ".join(
        f"{field.value} {before.field_text(field)} → {after.field_text(field)}"
        for field in changed_fields(before, after)
    )


def format_duration(seconds: float) -> str:
    """Write a waiting time: ``now``, ``8 s``, ``1 min 20 s``, ``2 h 5 min``."""
    total_s = round(seconds)
    if total_s <= 0:
        return "now"
    if total_s < 60:
        return f"{total_s} s"
    minutes, rest = divmod(total_s, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_due(seconds: float) -> str:
    """Write when something comes: ``now``, ``in 8 s``."""
    duration = format_duration(seconds)
    return duration if duration == "now" else f"in {duration}"


def format_age(seconds: float) -> str:
    """Write an age: ``8 s old``; an age below one second is written as 1 s."""
    return f"{format_duration(max(1.0, seconds))} old"


def count(number: int, thing: str) -> str:
    """Write ``1 request``, ``2 requests``; for words whose plural takes an s."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def damaged_records(number: int) -> str:
    """Write how many records could not be read and were left out, and what to do."""
    verb = "is" if number == 1 else "are"
    return f"{count(number, 'damaged record')} {verb} left out: see mmp state check"


def families(number: int) -> str:
    """Write ``1 family``, ``2 families``."""
    return "1 family" if number == 1 else f"{number} families"


def pad_label(symbol: str, word: str) -> str:
    """Write the beginning of a line, padded so that the rest is aligned in one column."""
    return f"{symbol} {word:<{HEAD_WORD_CELLS}}  "
