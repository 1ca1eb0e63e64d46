"""Reads the value of a field: an interval or a quantity, or the problem of an invalid value.

This file decides what ``5s``, ``500``, ``disabled``, ``until-reset`` and ``0.5`` mean, and what was
probably meant by ``5 s``, ``1m30s``, ``never`` and ``1,000``. It knows nothing of files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.core.model import (
    MAX_INTERVAL_DIGITS,
    MAX_QUANTITY_DIGITS,
    QUANTITY_PATTERN,
    Field,
    Quantity,
    interval_text,
)
from reconciler.core.policy import ZERO_WORDS
from reconciler.core.problems import Code, quoted

SHORT_INTERVAL_MS = 100
"""Below this there is a warning, because seconds were probably meant."""

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}

_ZERO_MEANS = {
    Field.TIME_INTERVAL: "the protection is switched off",
    Field.FROZEN_INTERVAL: "frozen until a manual reset",
}
_INTERVAL_FORMS = "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h)"
_MEANS_ZERO = {
    Field.TIME_INTERVAL: frozenset({"disable", "off", "none", "no", "false", "never"}),
    Field.FROZEN_INTERVAL: frozenset(
        {
            "untilreset",
            "until_reset",
            "until reset",
            "reset",
            "manual",
            "forever",
            "never",
            "infinite",
            "inf",
        }
    ),
}

_MILLISECONDS = re.compile(r"0|[1-9][0-9]*")
_WITH_UNIT = re.compile(r"(0|[1-9][0-9]*)(ms|s|m|h)")
_QUANTITY = re.compile(QUANTITY_PATTERN)
_LOOSE_UNIT = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,6})?)[ _]*([a-zµ]+)\.?", re.IGNORECASE)
_COMPOUND = re.compile(r"(?:[0-9]{1,10}(?:ms|s|m|h|d) ?){2,4}")
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_THOUSANDS = re.compile(r"[0-9]{1,3}([, _])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]+)?")
_UNIT_NAMES = {
    **dict.fromkeys(("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"), 1),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000),
}


@dataclass(frozen=True, slots=True)
class ValueProblem:
    """A problem of a value, without its position."""

    code: Code
    message: str
    hint: str = ""


def read_interval(name: Field, text: str) -> tuple[int | None, ValueProblem | None]:
    """Return the milliseconds of ``text`` as the interval field ``name``, perhaps with a warning.

    If it is not an interval, return None and the problem.
    """
    if text == ZERO_WORDS[name]:
        return 0, None
    if _MILLISECONDS.fullmatch(text) and len(text) <= MAX_INTERVAL_DIGITS:
        return int(text), _interval_warning(name, text, int(text))
    if (match := _WITH_UNIT.fullmatch(text)) and len(match[1]) <= MAX_INTERVAL_DIGITS:
        return _with_unit(name, text, int(match[1]) * UNITS_MS[match[2]])
    hint = _interval_hint(name, text)
    return None, ValueProblem(Code.BAD_INTERVAL, f"{quoted(text)} is not a {name}", hint)


def read_quantity(text: str) -> tuple[Quantity | None, ValueProblem | None]:
    """Return ``text`` as a qtyLimit, or None and the problem.

    It is a plain decimal greater than 0, of at most 20 digits.
    """
    try:
        quantity = Quantity(text)
    except ValueError:
        message = f"{quoted(text)} is not a plain decimal number"
        return None, ValueProblem(Code.BAD_QUANTITY, message, _quantity_hint(text))
    if len(text) > MAX_QUANTITY_DIGITS and len(text.replace(".", "")) > MAX_QUANTITY_DIGITS:
        message = f"{quoted(text)} has more than {MAX_QUANTITY_DIGITS} digits"
        hint = "write the number of contracts, such as 100 or 0.5"
        return None, ValueProblem(Code.BAD_QUANTITY, message, hint)
    if not text.strip("0."):
        hint = "to switch the family's protection off, write timeInterval: disabled and any quantity"
        return None, ValueProblem(Code.BAD_QUANTITY, "qtyLimit must be greater than 0", hint)
    return quantity, None


def _with_unit(name: Field, text: str, ms: int) -> tuple[int | None, ValueProblem | None]:
    if ms == 0:
        word = ZERO_WORDS[name]
        message = f"{name} {text}: zero is not a duration; at OKX it means {_ZERO_MEANS[name]}"
        return None, ValueProblem(Code.ZERO_WITH_UNIT, message, f"if that is meant, write {name}: {word}")
    if len(str(ms)) > MAX_INTERVAL_DIGITS:
        message = f"{text} is more than {MAX_INTERVAL_DIGITS} digits of milliseconds"
        hint = "check the unit: ms, s, m (minutes) or h"
        if name is Field.FROZEN_INTERVAL:
            hint = "for a freeze without an end write until-reset"
        return None, ValueProblem(Code.BAD_INTERVAL, message, hint)
    return ms, _interval_warning(name, text, ms)


def _interval_warning(name: Field, text: str, ms: int) -> ValueProblem | None:
    if ms == 0:
        message = f"{name} 0 means the same as at OKX: {_ZERO_MEANS[name]}"
        return ValueProblem(Code.BARE_ZERO, message, f"write {name}: {ZERO_WORDS[name]}")
    if ms < SHORT_INTERVAL_MS:
        message = f"{name} is only {ms} ms; did you mean seconds?"
        little = f"under {SHORT_INTERVAL_MS} ms protects little"
        hint = f"write {ms}s for seconds" if text.isdecimal() else little
        return ValueProblem(Code.SHORT_INTERVAL, message, hint)
    return None


def _interval_hint(name: Field, text: str) -> str:
    other = next(each for each in ZERO_WORDS if each is not name)
    word = text.strip().casefold()
    if word in _MEANS_ZERO[name] or word == ZERO_WORDS[name]:
        return f"did you mean {ZERO_WORDS[name]}?"
    if word == ZERO_WORDS[other]:
        return f"{word} is a word for {other}; the word for {name} is {ZERO_WORDS[name]}"
    if text.isascii() and text.isdecimal():
        return f"at most {MAX_INTERVAL_DIGITS} digits, without leading zeros"
    if (ms := guess_ms(word)) is not None:
        return f"did you mean {interval_text(ms)}?"
    return f"{_INTERVAL_FORMS}, or {ZERO_WORDS[name]}"


def guess_ms(word: str) -> int | None:
    """Return the milliseconds of a duration in another spelling; None if it is not one."""
    if match := _LOOSE_UNIT.fullmatch(word):
        return _product(match[1], _UNIT_NAMES.get(match[2]))
    if _COMPOUND.fullmatch(word):
        return sum(int(count) * _UNIT_NAMES[unit] for count, unit in _PART.findall(word)) or None
    return None


def _product(count: str, unit_ms: int | None) -> int | None:
    integer, _, fraction = count.partition(".")
    ms, rest = divmod(int(integer + fraction) * (unit_ms or 0), 10 ** len(fraction))
    return ms if ms and not rest else None


def _quantity_hint(text: str) -> str:
    bare = text.strip().removeprefix("+")
    if _THOUSANDS.fullmatch(bare):
        bare = re.sub("[, _]", "", bare)
    meant = re.sub(r"^0+(?=[0-9])", "", f"0{bare}")
    if _QUANTITY.fullmatch(meant) and meant.strip("0."):
        return f"did you mean {meant}?"
    return "write the number of contracts in plain digits, such as 100 or 0.5"
