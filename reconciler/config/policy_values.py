"""The value readers of a policy file: limits, factors, shares, times, families, and deny or allow.

This file decides what ``2``, ``50%``, ``500ms``, ``24h`` and ``deny`` mean where the format puts them, and
what was probably meant by ``x2``, ``0.5``, ``1 day`` and ``forbid``. It knows nothing of files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

from reconciler.config.messages import bad_family
from reconciler.config.schema_check import KeyPath
from reconciler.config.values import ValueProblem, guess_ms, read_interval, read_quantity
from reconciler.config.yaml_nodes import Scalar
from reconciler.core.accepted_settings import MAX_WINDOW
from reconciler.core.exposure import Figure
from reconciler.core.model import FAMILY_PATTERN, MAX_QUANTITY_DIGITS, Family, Field, window_text
from reconciler.core.policy import ZERO_WORDS
from reconciler.core.problems import Code, quoted

MAX_FAMILIES_LIMIT = 10_000

MIN_WINDOW = timedelta(minutes=1)
"""The shortest value of loosening.per."""

_SHORTEST_MS, _LONGEST_MS = (window // timedelta(milliseconds=1) for window in (MIN_WINDOW, MAX_WINDOW))

PolicyValue = Decimal | int | bool | Family | timedelta
"""A limit, factor or share; a count; allowed or not; a family; a time."""

Read = tuple[PolicyValue | None, ValueProblem | None]
"""A value, perhaps with a warning; or None with what is wrong."""

_FAMILY = re.compile(FAMILY_PATTERN)
_FACTOR = re.compile(r"[1-9][0-9]*(\.[0-9]+)?")
_COUNT = re.compile(r"0|[1-9][0-9]{0,4}")
_SHARE = re.compile(r"(100|[1-9]?[0-9](?:\.[0-9]{1,4})?)%")
_WINDOW = re.compile(r"(0|[1-9][0-9]{0,19})([mhd])")
_WINDOW_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?")
_MEANS_DENY = frozenset({"denied", "deny", "forbid", "forbidden", "never", "refuse", "block", "reject"})
_MEANS_ALLOW = frozenset({"allowed", "allow", "permit", "permitted", "ok", "accept"})


def value_readers(path: KeyPath) -> Mapping[str | None, Callable[[Scalar], Read]]:
    """Return the value readers of the table or list at ``path`` by key; the key None is for list items."""
    if path[:1] != ("bounds",):
        return _SECTIONS.get(path, {})
    return _BOUNDS.get(path[-1:]) or _BOUNDS.get(path[-2:], {})


def example_of(path: KeyPath) -> str:
    """Return an example of the value at ``path``."""
    if path[:1] == ("protected",) and len(path) > 1:
        return "BTC-USD"
    if path[:2] == ("bounds", "families") and len(path) == 3:
        return "{qtyLimit: {max: 200}}"
    return next((text for place, text in _EXAMPLES if place == path[-len(place) :]), "version: 1")


_EXAMPLES: tuple[tuple[KeyPath, str], ...] = (
    (("version",), "version: 1"),
    (("timeInterval", "min"), "min: 500ms"),
    (("timeInterval", "max"), "max: 1m"),
    (("frozenInterval", "min"), "min: 500ms"),
    (("frozenInterval", "max"), "max: 1m"),
    (("qtyLimit", "min"), "min: 1"),
    (("qtyLimit", "max"), "max: 1000"),
    (("perTrip", "max"), "max: 1000"),
    (("perSecond", "max"), "max: 200"),
    (("perMinute", "max"), "max: 20000"),
    (("disabled",), "disabled: deny"),
    (("until-reset",), "until-reset: allow"),
    (("floor", "timeInterval"), "timeInterval: 100ms"),
    (("floor", "factor"), "factor: 1000"),
    (("floor",), "floor: {timeInterval: 100ms, factor: 1000}"),
    (("perTrip",), "perTrip: {max: 1000}"),
    (("perSecond",), "perSecond: {max: 200}"),
    (("perMinute",), "perMinute: {max: 20000}"),
    (("exposure",), "exposure: {perSecond: {max: 200}, perMinute: {max: 20000}}"),
    (("timeInterval",), "timeInterval: {min: 500ms, max: 1m, disabled: deny}"),
    (("frozenInterval",), "frozenInterval: {min: 1s, until-reset: allow}"),
    (("qtyLimit",), "qtyLimit: {max: 1000}"),
    (("maxFactor",), "maxFactor: 2"),
    (("maxFamilies",), "maxFamilies: 3"),
    (("maxShare",), "maxShare: 50%"),
    (("per",), "per: 24h"),
    (("unknown",), "unknown: deny"),
    (("loosening",), "loosening: {maxFactor: 2, per: 24h, maxFamilies: 3, maxShare: 50%}"),
    (("disable",), "disable: deny"),
    (("protected",), "protected: [BTC-USD]"),
    (("bounds",), "bounds: {default: {qtyLimit: {max: 1000}}}"),
    (("bounds", "default"), "default: {qtyLimit: {max: 1000}}"),
    (("bounds", "families"), "families: {BTC-USD: {qtyLimit: {max: 200}}}"),
)
"""Examples by the end of a path; the first match counts."""


def _interval(name: Field, node: Scalar) -> Read:
    ms, found = read_interval(name, node.text)
    if ms:
        return Decimal(ms), found
    word = ZERO_WORDS[name]
    if ms is None and found:
        hint = found.hint.removesuffix(f", or {word}")
        if word not in hint:
            return None, replace(found, hint=hint)
    message, hint = f"a limit of {name} must be longer than zero", f"to forbid {word}, write {word}: deny"
    return None, ValueProblem(Code.BAD_INTERVAL, message, hint)


def _floor(node: Scalar) -> Read:
    """Read the floor of timeInterval. There is no warning for a short one, because floors are short."""
    value, found = _interval(Field.TIME_INTERVAL, node)
    return (value, None) if value is not None else (None, found)


def _quantity(node: Scalar) -> Read:
    quantity, found = read_quantity(node.text)
    if found and "timeInterval" in found.hint:
        found = replace(found, hint="leave the limit out")
    return (quantity.value if quantity else None), found


def _choice(node: Scalar) -> Read:
    if node.text in ("deny", "allow"):
        return node.text == "allow", None
    word = node.text.strip().casefold()
    meant = "deny" if word in _MEANS_DENY else "allow" if word in _MEANS_ALLOW else None
    hint = f"did you mean {meant}?" if meant else "write deny or allow"
    return None, ValueProblem(Code.BAD_CHOICE, f"this must be deny or allow, not {quoted(node.text)}", hint)


def _factor(node: Scalar, *, example: str) -> Read:
    text = node.text
    if _FACTOR.fullmatch(text) and len(text.replace(".", "")) <= MAX_QUANTITY_DIGITS:
        return Decimal(text), None
    bare = text.strip().strip("xX×*")
    hint = f"write a plain number such as {example}"
    if bare != text and _FACTOR.fullmatch(bare):
        hint = f"did you mean {bare}?"
    return None, ValueProblem(Code.BAD_FACTOR, f"{quoted(text)} is not a factor of at least 1", hint)


def _count(node: Scalar) -> Read:
    if node.plain and _COUNT.fullmatch(node.text) and int(node.text) <= MAX_FAMILIES_LIMIT:
        return int(node.text), None
    hint = "write a whole number such as 3; 0 allows none"
    if _COUNT.fullmatch(node.text) and not node.plain:
        hint = "write it without quotes"
    message = f"{quoted(node.text)} is not a whole number of families up to {MAX_FAMILIES_LIMIT}"
    return None, ValueProblem(Code.BAD_COUNT, message, hint)


def _share(node: Scalar) -> Read:
    if match := _SHARE.fullmatch(node.text):
        return Decimal(match[1]) / 100, None
    message = f"{quoted(node.text)} is not a share from 0% to 100%"
    return None, ValueProblem(Code.BAD_SHARE, message, _share_hint(node))


def _share_hint(node: Scalar) -> str:
    """Return a hint for a share that is not a percentage: 50 and 0.5 probably mean 50%."""
    bare = node.text.removesuffix("%").strip()
    if _NUMBER.fullmatch(bare):
        value = Decimal(bare)
        percent = value * 100 if 0 < value < 1 and "%" not in node.text else value
        if percent <= 100:
            return f"did you mean {percent.normalize():f}%?"
    return "write a percentage such as 50% or 12.5%"


def window_of(text: str) -> timedelta | None:
    """Return ``text`` as the value of loosening.per; None if it is not valid."""
    ms = _window_ms(text)
    return timedelta(milliseconds=ms) if ms is not None and _SHORTEST_MS <= ms <= _LONGEST_MS else None


def _window(node: Scalar) -> Read:
    window = window_of(node.text)
    if window is not None:
        return window, None
    message = (
        f"{quoted(node.text)} is not a time from {window_text(MIN_WINDOW)} to {window_text(MAX_WINDOW)}"
    )
    return None, ValueProblem(Code.BAD_WINDOW, message, _window_hint(node.text))


def _window_hint(text: str) -> str:
    ms = _window_ms(text)
    if ms is None:
        ms = guess_ms(text.strip().casefold())
    if ms is None:
        return "write a number and a unit, such as 90m, 24h or 7d"
    if ms < _SHORTEST_MS:
        return f"the shortest is {window_text(MIN_WINDOW)}"
    if ms > _LONGEST_MS:
        return f"the longest is {window_text(MAX_WINDOW)}"
    if ms % _SHORTEST_MS:
        return "write whole minutes, such as 90m"
    return f"did you mean {window_text(timedelta(milliseconds=ms))}?"


def _window_ms(text: str) -> int | None:
    match = _WINDOW.fullmatch(text)
    return int(match[1]) * _WINDOW_UNITS_MS[match[2]] if match else None


def _family(node: Scalar) -> Read:
    if _FAMILY.fullmatch(node.text):
        return Family(node.text), None
    hint = "patterns are not for this: name each family" if "*" in node.text else ""
    return None, bad_family(node.text, hint)


def bad_pattern(name: str) -> ValueProblem:
    """Return the problem of a key that is neither a family name nor a pattern."""
    if "*" not in name:
        return bad_family(name)
    message = f"{quoted(name)} is not a pattern of families"
    hint = 'capitals, digits, dashes, underscores and *, at most 64 characters: "ETH-*"'
    return ValueProblem(Code.BAD_PATTERN, message, hint)


_TIME = partial(_interval, Field.TIME_INTERVAL)
_FREEZE = partial(_interval, Field.FROZEN_INTERVAL)
_Readers = Mapping[str | None, Callable[[Scalar], Read]]
_BOUNDS: Mapping[KeyPath, _Readers] = {
    ("timeInterval",): {"min": _TIME, "max": _TIME, "disabled": _choice},
    ("frozenInterval",): {"min": _FREEZE, "max": _FREEZE, "until-reset": _choice},
    ("qtyLimit",): {"min": _quantity, "max": _quantity},
    **{("exposure", figure.value): {"max": _quantity} for figure in Figure},
}
"""The readers of the tables in bounds, by the end of their path."""

_SECTIONS: Mapping[KeyPath, _Readers] = {
    (): {"disable": _choice},
    ("floor",): {"timeInterval": _floor, "factor": partial(_factor, example="1000 or 500")},
    ("loosening",): {
        "maxFactor": partial(_factor, example="2 or 1.5; with 1 no exposure may rise"),
        "maxFamilies": _count,
        "maxShare": _share,
        "per": _window,
        "unknown": _choice,
    },
    ("protected",): {None: _family},
}
"""The readers of the other tables, by path."""
