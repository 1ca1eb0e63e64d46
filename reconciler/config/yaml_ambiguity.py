"""Finds plain YAML scalars whose meaning depends on the version of YAML.

This file decides which plain values mean the same in YAML 1.1, in YAML 1.2 and to a reviewer, and what
was probably meant by the others. Quoted values are always text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from reconciler.core.model import MAX_QUANTITY_DIGITS

MAX_COMPUTED = 40
"""The longest value for which a replacement is suggested; longer ones are not typing errors."""

_WHOLE = re.compile(r"-?[1-9][0-9]*|0")
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = frozenset(
    spelling for word in ("y", "yes", "n", "no", "true", "false", "on", "off")
    for spelling in (word, word.capitalize(), word.upper())
)  # fmt: skip
_BASES = (
    (re.compile(r"([-+]?)0x([0-9a-fA-F_]+)"), 16, "hexadecimal"),
    (re.compile(r"([-+]?)0o([0-7_]+)"), 8, "octal"),
    (re.compile(r"([-+]?)0b([01_]+)"), 2, "binary"),
)
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_LOOSE_NUMBER = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?")
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
    if is_digits or _WHOLE.fullmatch(text):
        # Python does not convert thousands of digits to an int, but it converts them to a Decimal.
        return int(text) if len(text) <= MAX_COMPUTED else Decimal(text)
    if _FRACTION.fullmatch(text):
        return Decimal(text)
    return _ambiguous(text) or text


def _ambiguous(text: str) -> AmbiguousScalar | None:
    if _DATE.fullmatch(text):
        return AmbiguousScalar("a date", "")
    if _NO_NUMBER.fullmatch(text):
        return AmbiguousScalar("a number without a value", "")
    if _SIXTIES.fullmatch(text):
        return AmbiguousScalar("a number in base 60", _sixties(text))
    if text == "-0":
        return AmbiguousScalar("a negative zero", "0")
    for pattern, base, name in _BASES:
        if match := pattern.fullmatch(text):
            return AmbiguousScalar(f"a number in {name}", _whole(match[1], match[2], base))
    if _LEADING_ZERO.fullmatch(text):
        return AmbiguousScalar("an octal number", _decimal(text))
    if _LOOSE_NUMBER.fullmatch(text):
        return AmbiguousScalar("a number by some and text by others", _decimal(text))
    return None


def _whole(sign: str, digits: str, base: int) -> str:
    digits = digits.replace("_", "")
    if not digits or len(digits) > MAX_COMPUTED:
        return ""
    return f"{sign.replace('+', '')}{int(digits, base)}"


def _sixties(text: str) -> str:
    if len(text) > MAX_COMPUTED or "." in text:
        return ""
    total = 0
    for part in text.lstrip("+-").replace("_", "").split(":"):
        total = total * 60 + int(part)
    return f"{'-' if text.startswith('-') else ''}{total}"


def _decimal(text: str) -> str:
    if len(text) > MAX_COMPUTED:
        return ""
    value = Decimal(text.replace("_", ""))
    if value == 0:
        return "0"
    return f"{value:f}" if abs(value.adjusted()) <= MAX_QUANTITY_DIGITS else ""
