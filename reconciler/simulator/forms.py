"""Unusual forms of a family's row in a read [unknown], and of numbers in an echo.

A form lasts until it is set to plain again. OKX does not document such rows. They test that such a row
affects only its own family.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from reconciler.simulator.messages import SimRow
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


def rows_in(form: RowForm, row: SimRow, *, of_all: bool) -> tuple[SimRow, ...]:
    """Return what a read has in place of ``row``; ``of_all``: a list of all families, not of one."""
    name = str(row["instFamily"])
    match form:
        case RowForm.PLAIN:
            return (row,)
        case RowForm.UNLISTED:
            return () if of_all else (row,)
        case RowForm.LOWER_CASE:
            return ({**row, "instFamily": name.lower()},)
        case RowForm.BLANKS:
            return ({**row, "instFamily": f" {name} "},)
        case RowForm.FULL_WIDTH:
            return ({**row, "instFamily": "".join(chr(ord(char) + _FULL_WIDTH) for char in name)},)
        case RowForm.NAMELESS:
            return ({**row, "instFamily": None},)
        case RowForm.TWICE:
            return (row, row)
        case RowForm.UNREADABLE:
            return ({**row, "qtyLimit": "n/a"},)
        case RowForm.JSON_NUMBERS | RowForm.EXPONENTS:
            return (numbers_in(form, row),)
        case RowForm.NULLS:
            return ({**row, "mmpFrozenUntil": None},)
        case _ as never:
            assert_never(never)


def numbers_in(form: RowForm, row: SimRow) -> SimRow:
    """Return ``row`` with its numbers in the form's notation; the same in reads and echoes."""
    match form:
        case RowForm.JSON_NUMBERS:
            return {**row, **{name: _json_number(text) for name, text in _texts(row).items()}}
        case RowForm.EXPONENTS:
            return {**row, **{name: f"{Decimal(text):E}" for name, text in _texts(row).items()}}
        case _:
            return row


def _json_number(text: str) -> int | float:
    """Return a number that JSON writes as the same value; fractions of more than 15 digits are rounded."""
    return float(text) if "." in text else int(text)


def _texts(row: SimRow) -> Mapping[str, str]:
    return {name: str(row[name]) for name in SETTING_FIELDS}
