"""Finds plain YAML scalars whose meaning depends on the version of YAML.

This file decides which plain values mean the same in YAML 1.1, in YAML 1.2 and to a reviewer, and what
was probably meant by the others. Quoted values are always text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from reconciler.core.model import MAX_QUANTITY_DIGITS

MAX_COMPUTED = 40
"""The longest value for which a replacement is suggested; longer ones are not typing errors."""

_INTEGER = re.compile(r"-?[1-9][0-9]*|0")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = frozenset(
    spelling for word in ("y", "yes", "n", "no", "true", "false", "on", "off")
    for spelling in (word, word.capitalize(), word.upper())
)  # fmt: skip
_NUMBERS_BEGIN_WITH = frozenset("0123456789+-.")


@dataclass(frozen=True, slots=True)
class AmbiguousScalar:
    """A plain value on which YAML programs disagree: another meaning, and what to write ("" if unknown)."""

    taken_for: str
    instead: str


Resolved = None | int | Decimal | str | AmbiguousScalar


def resolve_scalar(text: str) -> Resolved:
    """Return what the plain scalar ``text`` is: null, a decimal number, text, or ambiguous."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return AmbiguousScalar("a truth value (yes or no)", "")
    if text[0] not in _NUMBERS_BEGIN_WITH:
        return text
    is_digits = text[0] != "0" and text.isascii() and text.isdecimal()  # faster than the pattern
    if is_digits or _INTEGER.fullmatch(text):
        # Python does not convert thousands of digits to an int, but it converts them to a Decimal.
        return int(text) if len(text) <= MAX_COMPUTED else Decimal(text)
    if _FRACTION.fullmatch(text):
        return Decimal(text)
    return _ambiguous(text) or text


def _ambiguous(text: str) -> AmbiguousScalar | None:
    for pattern, taken_for, instead in _AMBIGUOUS:
        if pattern.fullmatch(text):
            return AmbiguousScalar(taken_for, instead(text) if len(text) <= MAX_COMPUTED else "")
    return None


def _from_base(base: int, text: str) -> str:
    """Return the decimal number of one with a sign, perhaps, and a prefix such as 0x."""
    digits = text.lstrip("+-")[2:].replace("_", "")
    return f"{_minus(text)}{int(digits, base)}" if digits else ""


def _from_sixties(text: str) -> str:
    if "." in text:
        return ""
    total = 0
    for part in text.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + int(part)
    return f"{_minus(text)}{total}"


def _minus(text: str) -> str:
    return "-" if text.startswith("-") else ""


def _decimal(text: str) -> str:
    value = Decimal(text.replace("_", ""))
    if value == 0:
        return "0"
    return f"{value:f}" if abs(value.adjusted()) <= MAX_QUANTITY_DIGITS else ""


def _unknown(_text: str) -> str:
    return ""


_LOOSE_NUMBER = r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
_AMBIGUOUS: tuple[tuple[re.Pattern[str], str, Callable[[str], str]], ...] = (
    (re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?"), "a date", _unknown),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "a number without a value", _unknown),
    (re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"), "a number in base 60", _from_sixties),
    (re.compile("-0"), "a negative zero", _decimal),
    (re.compile(r"[-+]?0x[0-9a-fA-F_]+"), "a number in hexadecimal", partial(_from_base, 16)),
    (re.compile(r"[-+]?0o[0-7_]+"), "a number in octal", partial(_from_base, 8)),
    (re.compile(r"[-+]?0b[01_]+"), "a number in binary", partial(_from_base, 2)),
    (re.compile(r"[-+]?0[0-9_]+"), "an octal number", _decimal),
    (re.compile(_LOOSE_NUMBER), "a number by some and text by others", _decimal),
)
"""Forms of numbers and dates: what they are taken for, and what to write; the first match counts."""
