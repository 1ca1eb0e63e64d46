"""Replies of OKX's API v5, read strictly into values. Pure.

This file decides what counts as an answer of OKX's: its own JSON envelope, exactly readable, and
nothing else. It judges by ``code``, not by HTTP status, because the documented statuses are not what
is sent; only an acceptance must also come with a successful status. Whatever cannot be read for
certain is NO_ANSWER, never a guess: a page of a proxy's proves nothing about what the exchange did.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from reconciler.core.model import (
    MAX_INTERVAL_DIGITS,
    AccountInfo,
    Family,
    Field,
    LiveRead,
    LiveRow,
    Quantity,
    Setting,
    parse_family,
)
from reconciler.core.verdict import Reply, ReplyClass
from reconciler.okx.codes import ACCEPTED_CODE, fact

REPLY_LIMIT_BYTES = 64 * 1024
"""Bound on every reply but the list of all families; OKX's are a few hundred bytes."""

LIVE_REPLY_LIMIT_BYTES = 4 * 1024 * 1024
"""Bound on the list of all families: about 150 bytes a row, 10,000 families, and room for more fields."""

MAX_DEPTH = 16
"""Bound on nesting; an envelope of OKX's is four deep. Without it Python's parser runs out of stack."""

MAX_DIGITS = 40
"""Bound on the digits of a live number; twice what a configuration file may hold."""

MAX_FIELD_CHARS = 1024
"""Bound on a text field; a key can be bound to 20 addresses of up to 39 characters."""

Scrub = Callable[[str], str]
"""Makes a message of the exchange's fit for output: no secrets, one line, bounded."""

T = TypeVar("T")

_CODE = re.compile(r"[0-9]{1,6}(_[0-9]{1,6})?", re.ASCII)
_INTERVAL = re.compile(r"0*([0-9]+)(?:\.0+)?", re.ASCII)
_QUANTITY = re.compile(r"0*([0-9]+(?:\.[0-9]+)?)", re.ASCII)
_USER_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_MOMENT = re.compile(r"[0-9TZ:.+ -]{0,32}", re.ASCII)
_TIME_MS = re.compile(r"[0-9]{13}", re.ASCII)
_UNDERLYING = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}", re.ASCII)
# Possessive (++, *+), so that an unterminated string cannot make this quadratic.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?+|([\[{])|([\]}])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Envelope:
    """OKX's own envelope. ``data`` is read with code 0 only: gateway errors have none [seen]."""

    code: str
    message: str
    data: tuple[object, ...]


class Unreadable(ValueError):
    """A value of a reply makes no sense; the text says which, in our words."""


def parse_set(status: int, body: bytes, scrub: Scrub) -> Reply:
    """Return the classified reply to Set MMP; an acceptance carries the rows it echoes."""
    envelope = _accepted(status, body, scrub)
    if isinstance(envelope, Reply):
        return envelope
    return Reply(ReplyClass.ACCEPTED, envelope.code, scrub(envelope.message), _echo(envelope.data))


def parse_live(status: int, body: bytes, scrub: Scrub, *, begun_at: float) -> LiveRead | Reply:
    """Return every family Get MMP Config lists, or why it cannot be had.

    ``begun_at`` is the instant before the request's first byte. A row without a usable instFamily
    makes the whole read worthless: it may be the row of any family.
    """
    return _parse(status, body, scrub, lambda data: _live(data, scrub, begun_at))


def parse_account(status: int, body: bytes, scrub: Scrub) -> AccountInfo | Reply:
    """Return what account/config says of the key, or why it cannot be had."""
    return _parse(status, body, scrub, lambda data: _account(_only_row(data), scrub))


def parse_time(status: int, body: bytes, scrub: Scrub) -> int | Reply:
    """Return the exchange's clock in milliseconds since 1970 UTC, or why it cannot be had."""
    return _parse(status, body, scrub, lambda data: _time_ms(_only_row(data)))


def parse_reset(status: int, body: bytes, scrub: Scrub) -> bool | Reply:
    """Return the result of Reset MMP Status, which can be false with code 0 [doc], or why there is none."""
    return _parse(status, body, scrub, lambda data: _result(_only_row(data)))


def parse_underlyings(status: int, body: bytes, scrub: Scrub) -> tuple[str, ...] | Reply:
    """Return the underlyings options are listed of, from a list inside the list of data [doc]."""
    return _parse(status, body, scrub, _underlyings)


def parse_families(status: int, body: bytes, scrub: Scrub) -> frozenset[Family] | Reply:
    """Return the families of the listed instruments; there may be none."""
    return _parse(status, body, scrub, lambda data: frozenset(_family(row) for row in map(_row, data)))


def no_answer(code: str, message: str) -> Reply:
    """Return the reply that stands for none: ``code`` is a word of ours."""
    return Reply(ReplyClass.NO_ANSWER, code, message)


def _parse(status: int, body: bytes, scrub: Scrub, read: Callable[[tuple[object, ...]], T]) -> T | Reply:
    envelope = _accepted(status, body, scrub)
    if isinstance(envelope, Reply):
        return envelope
    try:
        return read(envelope.data)
    except Unreadable as error:
        return no_answer("bad-data", scrub(f"the reply's data cannot be used: {error}"))


def _accepted(status: int, body: bytes, scrub: Scrub) -> Envelope | Reply:
    """Return the envelope of code 0 under a successful status, else the reply it amounts to."""
    if 300 <= status < 400:
        # Whatever it says: OKX's API has no redirects, so this is someone between us and it.
        return no_answer("redirect", f"HTTP {status}: a redirect, which is never followed")
    try:
        envelope = read_envelope(body)
    except Unreadable as error:
        return no_answer("not-okx", f"HTTP {status}, not a reply of OKX's: {error}")
    if envelope.code != ACCEPTED_CODE:
        return Reply(fact(envelope.code).reply_class, envelope.code, scrub(envelope.message))
    if not 200 <= status < 300:
        # Two statements that contradict each other; believing either could be wrong.
        return no_answer("bad-status", f"HTTP {status} with code 0 contradict each other")
    return envelope


def read_envelope(body: bytes) -> Envelope:
    """Return OKX's envelope, or raise Unreadable: not JSON, ambiguous JSON, or not the envelope's shape."""
    value = strict_json(body)
    if not isinstance(value, dict):
        raise Unreadable("no JSON object")
    code = _code(value.get("code"))
    message = value.get("msg")
    if not isinstance(message, str):
        raise Unreadable("no msg")
    if code != ACCEPTED_CODE:
        return Envelope(code, message, ())
    data = value.get("data")
    if not isinstance(data, list):
        raise Unreadable("no list of data")
    return Envelope(code, message, tuple(data))


def strict_json(body: bytes) -> Any:
    """Return the one JSON value in ``body``, or raise Unreadable.

    UTF-8 only, no duplicate keys, no NaN or Infinity, at most MAX_DEPTH deep: two readers of a reply
    we act on must not be able to disagree about it.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    if _depth(text) > MAX_DEPTH:
        raise Unreadable("JSON nested too deep")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except Unreadable:
        raise
    except ValueError:  # JSONDecodeError, and integers too long to convert
        raise Unreadable("not JSON") from None


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        depth += 1 if match[1] else -1 if match[2] else 0
        deepest = max(deepest, depth)
    return deepest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Unreadable("JSON with a key given twice")
    return value


def _no_constant(_: str) -> NoReturn:
    raise Unreadable("JSON with NaN or Infinity")


def _code(value: object) -> str:
    """Return a reply's code; it was once seen as a JSON number."""
    if isinstance(value, int):
        value = str(value)  # true and false become words, which no code is
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise Unreadable("no code of OKX's")
    return value


def _echo(data: tuple[object, ...]) -> tuple[tuple[Family, Setting], ...] | None:
    try:
        return tuple((_family(row), _setting(row)) for row in map(_row, data))
    except Unreadable:
        return None


def _live(data: tuple[object, ...], scrub: Scrub, begun_at: float) -> LiveRead:
    named = [(_family(row), row) for row in map(_row, data)]
    count = Counter(family for family, _ in named)
    rows: dict[Family, LiveRow] = {}
    unreadable: dict[Family, str] = {}
    for family, row in named:
        try:
            live = _live_row(row, times_listed=count[family])
        except Unreadable as error:
            unreadable[family] = scrub(str(error))
        else:
            if live is not None:
                rows[family] = live
    return LiveRead(begun_at, rows, unreadable)


def _live_row(row: Mapping[str, object], *, times_listed: int) -> LiveRow | None:
    """Return one family's row; None when it says no more than a missing row would."""
    if times_listed > 1:
        raise Unreadable(f"listed {times_listed} times")
    frozen = row.get("mmpFrozen")
    if not isinstance(frozen, bool):
        raise Unreadable(f"mmpFrozen is {_shown(frozen)}")
    if not frozen and _is_unset(row):
        return None
    setting = _setting(row)
    if setting.qty_limit == Quantity("0"):
        raise Unreadable("qtyLimit is 0")
    return LiveRow(setting, frozen, _matching(row, "mmpFrozenUntil", _MOMENT))


def _is_unset(row: Mapping[str, object]) -> bool:
    """Tell whether a row that is not frozen has no setting in it.

    [unknown] what a never-configured or disabled family returns. Taken for unset: all three fields
    blank, and a window of 0 beside values that are no setting; a whole setting with window 0 is kept.
    """
    if all(row.get(field) in (None, "") for field in Field):
        return True
    try:
        disabled = _interval_ms(row, Field.TIME_INTERVAL) == 0
    except Unreadable:
        return False
    return disabled and not _is_setting(row)


def _is_setting(row: Mapping[str, object]) -> bool:
    try:
        return _setting(row).qty_limit != Quantity("0")
    except Unreadable:
        return False


def _setting(row: Mapping[str, object]) -> Setting:
    return Setting(
        _interval_ms(row, Field.TIME_INTERVAL),
        _interval_ms(row, Field.FROZEN_INTERVAL),
        _quantity(row, Field.QTY_LIMIT),
    )


def _interval_ms(row: Mapping[str, object], field: Field) -> int:
    """Return a whole number of milliseconds; [unknown] whether ``5000`` may come back as ``5000.0``."""
    match = _INTERVAL.fullmatch(_digits(row, field))
    if not match or len(match[1]) > MAX_INTERVAL_DIGITS:
        raise Unreadable(f"{field} is {_shown(row.get(field))}")
    return int(match[1])


def _quantity(row: Mapping[str, object], field: Field) -> Quantity:
    match = _QUANTITY.fullmatch(_digits(row, field))
    if not match:
        raise Unreadable(f"{field} is {_shown(row.get(field))}")
    return Quantity(match[1])


def _digits(row: Mapping[str, object], field: Field) -> str:
    value = row.get(field)
    if not isinstance(value, str) or len(value) > MAX_DIGITS:
        raise Unreadable(f"{field} is {_shown(value)}")
    return value


def _account(row: Mapping[str, object], scrub: Scrub) -> AccountInfo:
    return AccountInfo(
        uid=_matching(row, "uid", _USER_ID),
        main_uid=_matching(row, "mainUid", _USER_ID),
        level=_matching(row, "acctLv", _USER_ID),
        permissions=frozenset(map(scrub, _comma_list(row, "perm"))),
        ip=tuple(map(scrub, _comma_list(row, "ip"))),
        label=scrub(_text(row, "label")),
    )


def _time_ms(row: Mapping[str, object]) -> int:
    return int(_matching(row, "ts", _TIME_MS))


def _result(row: Mapping[str, object]) -> bool:
    result = row.get("result")
    if not isinstance(result, bool):
        raise Unreadable(f"result is {_shown(result)}")
    return result


def _underlyings(data: tuple[object, ...]) -> tuple[str, ...]:
    """Return the names in the one inner list; they are checked, because they go into an address."""
    names = data[0] if len(data) == 1 else None
    if not isinstance(names, list):
        raise Unreadable("no list of underlyings")
    for name in names:
        if not isinstance(name, str) or not _UNDERLYING.fullmatch(name):
            raise Unreadable(f"an underlying is {_shown(name)}")
    return tuple(names)


def _comma_list(row: Mapping[str, object], field: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in _text(row, field).split(",") if item.strip())


def _matching(row: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Unreadable(f"{field} is {_shown(value)}")
    return value


def _text(row: Mapping[str, object], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or len(value) > MAX_FIELD_CHARS:
        raise Unreadable(f"{field} is {_shown(value)}")
    return value


def _family(row: Mapping[str, object]) -> Family:
    value = row.get("instFamily")
    try:
        return parse_family(value if isinstance(value, str) else "")
    except ValueError:
        raise Unreadable(f"instFamily is {_shown(value)}") from None


def _row(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Unreadable("a row is no JSON object")
    return value


def _only_row(data: tuple[object, ...]) -> Mapping[str, object]:
    if len(data) != 1:
        raise Unreadable(f"{len(data)} rows where one was expected")
    return _row(data[0])


def _shown(value: object) -> str:
    """Return a value of the exchange's for a message: its kind, and its text while that is short."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= MAX_DIGITS else f"a text of {len(value)} characters"
    return "missing" if value is None else f"a JSON {type(value).__name__}"
