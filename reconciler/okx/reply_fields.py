"""Reads single values of a row of a reply: a code, a setting, a number, a text, a family.

An invalid value raises UnreadableReply, which names the field and its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from reconciler.core.model import MAX_INTERVAL_DIGITS, Family, Field, Quantity, Setting, parse_family
from reconciler.okx.strict_json import Number, UnreadableReply

Scrub = Callable[[str], str]
"""Makes a message of the exchange fit for output: no secrets, one line, bounded."""

MAX_DIGITS = 40
"""Bound on the digits of a live number without exponent; twice what a configuration file may hold."""

MAX_EXPONENT_DIGITS = 4
"""Bound on the digits of an exponent: any longer one makes a number of more than MAX_DIGITS, or 0."""

MAX_FIELD_CHARS = 1024
"""Bound on a text field; a key has at most a few permissions."""

CODE = re.compile(r"[0-9]{1,6}(_[0-9]{1,6})?", re.ASCII)

_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?", re.ASCII)


def read_code(value: object) -> str:
    """Return a reply's code; a JSON number was observed once."""
    if isinstance(value, Number):
        value = value.text
    if not isinstance(value, str) or not CODE.fullmatch(value):
        raise UnreadableReply("no code of OKX's")
    return value


def row_code(value: object) -> str:
    """Return the sCode of a row."""
    try:
        return read_code(value)
    except UnreadableReply:
        return shown_value(value)


def read_setting(row: Mapping[str, object]) -> Setting:
    """Return the setting of a row; raise UnreadableReply for an invalid field."""
    return Setting(
        interval_ms(row, Field.TIME_INTERVAL),
        interval_ms(row, Field.FROZEN_INTERVAL),
        reply_quantity(row, Field.QTY_LIMIT),
    )


def interval_ms(row: Mapping[str, object], field: Field) -> int:
    """Return a whole number of milliseconds; [unknown] whether ``5000`` may come back as ``5000.0``."""
    integer, _, fraction = _plain(row, field).partition(".")
    if fraction.strip("0") or len(integer) > MAX_INTERVAL_DIGITS:
        raise UnreadableReply(f"{field} is {shown_value(row.get(field))}")
    return int(integer)


def reply_quantity(row: Mapping[str, object], field: Field) -> Quantity:
    """Return a quantity of contracts; raise UnreadableReply if it is not a plain number."""
    return Quantity(_plain(row, field))


def _plain(row: Mapping[str, object], field: Field) -> str:
    """Return a number as a plain decimal of at most MAX_DIGITS; it may come as text or as a JSON number."""
    value = row.get(field)
    text = value.text if isinstance(value, Number) else value
    plain = plain_decimal(text) if isinstance(text, str) else None
    if plain is None:
        raise UnreadableReply(f"{field} is {shown_value(value)}")
    return plain


def plain_decimal(text: str) -> str | None:
    """Return a decimal number of the same value without an exponent or leading zeros.

    None if it is not such a number, or has no plain form of at most MAX_DIGITS. No digit is rounded away,
    and no longer number is built.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    integer, fraction, sign, exponent = match[1].lstrip("0"), match[2] or "", match[3], match[4]
    if exponent is None and len(integer) + len(fraction) <= MAX_DIGITS:
        return f"{integer or '0'}.{fraction}" if fraction else integer or "0"
    digits = (integer + fraction).rstrip("0")
    exponent = (exponent or "").lstrip("0") or "0"
    if not digits.strip("0"):
        return "0"
    if len(exponent) > MAX_EXPONENT_DIGITS:
        return None
    return _with_point(digits, len(integer) + int(sign + exponent if sign else exponent))


def _with_point(digits: str, point: int) -> str | None:
    """Return ``digits`` with the decimal point after the first ``point`` of them, and zeros where needed.

    None where that takes more than MAX_DIGITS.
    """
    leading = len(digits) - len(digits.lstrip("0"))
    digits, point = digits[leading:], point - leading
    if max(point, 0) + max(len(digits) - point, 0) > MAX_DIGITS:
        return None
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def matching(row: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    """Return a text, or a JSON number as it was written."""
    value = row.get(field)
    text = value.text if isinstance(value, Number) else value
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise UnreadableReply(f"{field} is {shown_value(value)}")
    return text


def if_matching(row: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    """Return a value that is only displayed; "" if there is none or it cannot be displayed."""
    try:
        return matching(row, field, pattern)
    except UnreadableReply:
        return ""


def read_text(row: Mapping[str, object], field: str) -> str:
    """Return a text field of bounded length; raise UnreadableReply where there is none."""
    value = row.get(field)
    if not isinstance(value, str) or len(value) > MAX_FIELD_CHARS:
        raise UnreadableReply(f"{field} is {shown_value(value)}")
    return value


def if_text(row: Mapping[str, object], field: str) -> str:
    """Return a text that is only displayed; "" where there is none."""
    value = row.get(field)
    return value if isinstance(value, str) else ""


def read_family(row: Mapping[str, object]) -> Family:
    """Return the family that a row names; raise UnreadableReply where it names none."""
    value = row.get("instFamily")
    try:
        return parse_family(value if isinstance(value, str) else "")
    except ValueError:
        raise UnreadableReply(f"instFamily is {shown_value(value)}") from None


def read_row(value: object) -> Mapping[str, object]:
    """Return a value as a row; raise UnreadableReply if it is not a JSON object."""
    if not isinstance(value, dict):
        raise UnreadableReply("a row is no JSON object")
    return value


def only_row(data: tuple[object, ...]) -> Mapping[str, object]:
    """Return the one row of a list; raise UnreadableReply where there is not exactly one."""
    if len(data) != 1:
        raise UnreadableReply(f"{len(data)} rows where one was expected")
    return read_row(data[0])


def shown_value(value: object) -> str:
    """Return a value of the exchange for a message: its type, and its text if that is short."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= MAX_DIGITS else f"a text of {len(value)} characters"
    if isinstance(value, Number):
        short = len(value.text) <= MAX_DIGITS
        return f"the number {value.text}" if short else f"a number of {len(value.text)} characters"
    return "missing" if value is None else f"a JSON {type(value).__name__}"
