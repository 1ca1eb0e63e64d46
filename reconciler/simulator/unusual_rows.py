"""Unusual forms of a family's row in a read [unknown], and of numbers in an echo.

A form lasts until it is set to plain again. OKX does not document such rows. They test that such a row
affects only its own family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum

from reconciler.simulator.http_messages import SimRow
from reconciler.simulator.request_parsing import SETTING_FIELDS

_FULL_WIDTH = 0xFEE0
"""From an ASCII character to the one of the same shape and full width."""


class RowForm(StrEnum):
    """How a family's row is written."""

    PLAIN = "plain"
    UNLISTED = "unlisted"
    LOWER_CASE = "lower-case"
    BLANKS = "blanks"
    FULL_WIDTH = "full-width"
    NAMELESS = "nameless"
    TWICE = "twice"
    UNREADABLE = "unreadable"
    JSON_NUMBERS = "json-numbers"
    EXPONENTS = "exponents"
    NULLS = "nulls"


_CHANGES: Mapping[RowForm, Callable[[str], SimRow]] = {
    RowForm.LOWER_CASE: lambda name: {"instFamily": name.lower()},
    RowForm.BLANKS: lambda name: {"instFamily": f" {name} "},
    RowForm.FULL_WIDTH: lambda name: {"instFamily": "".join(chr(ord(char) + _FULL_WIDTH) for char in name)},
    RowForm.NAMELESS: lambda _: {"instFamily": None},
    RowForm.UNREADABLE: lambda _: {"qtyLimit": "n/a"},
    RowForm.NULLS: lambda _: {"mmpFrozenUntil": None},
}
"""What a form changes in the row of the family with a name."""


def rows_in(form: RowForm, row: SimRow, *, of_all: bool) -> tuple[SimRow, ...]:
    """Return what a read has in place of ``row``; ``of_all``: a list of all families, not of one."""
    if form is RowForm.UNLISTED:
        return () if of_all else (row,)
    if form is RowForm.TWICE:
        return (row, row)
    if form in _CHANGES:
        return ({**row, **_CHANGES[form](str(row["instFamily"]))},)
    return (numbers_in(form, row),)


def numbers_in(form: RowForm, row: SimRow) -> SimRow:
    """Return ``row`` with its numbers in the form's notation; the same in reads and echoes."""
    notation = _NOTATIONS.get(form)
    return (
        row if notation is None else {**row, **{name: notation(str(row[name])) for name in SETTING_FIELDS}}
    )


def _json_number(text: str) -> int | float:
    """Return a number that JSON writes as the same value; fractions of more than 15 digits are rounded."""
    return float(text) if "." in text else int(text)


_NOTATIONS: Mapping[RowForm, Callable[[str], object]] = {
    RowForm.JSON_NUMBERS: _json_number,
    RowForm.EXPONENTS: lambda text: f"{Decimal(text):E}",
}
