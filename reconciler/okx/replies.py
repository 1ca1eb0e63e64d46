"""Replies of OKX's API v5, read strictly into values. Pure.

This file decides what counts as an answer of OKX's: its own JSON envelope, exactly readable, and
nothing else. It judges by ``code``, not by HTTP status, because the documented statuses are not what
is sent; only an acceptance must also come with a successful status. Whatever cannot be read for
certain is NO_ANSWER, never a guess: a page of a proxy's proves nothing about what the exchange did.
OKX wraps some refusals: code 1 or 2, and the real code in the ``sCode`` of the one row [seen]. A row
with an ``sCode`` other than 0 is never an acknowledgement, whatever the envelope's code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
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
    fold_name,
    parse_family,
)
from reconciler.core.reply import Reply, ReplyClass
from reconciler.okx.codes import ACCEPTED_CODE, TABLE, lookup

REPLY_LIMIT_BYTES = 64 * 1024
"""Bound on every reply but the list of all families; OKX's are a few hundred bytes."""

LIVE_REPLY_LIMIT_BYTES = 4 * 1024 * 1024
"""Bound on the list of all families: about 150 bytes a row, 10,000 families, and room for more fields."""

MAX_DEPTH = 16
"""Bound on nesting; an envelope of OKX's is four deep. Without it Python's parser runs out of stack."""

MAX_DIGITS = 40
"""Bound on the digits of a live number written out; twice what a configuration file may hold."""

MAX_EXPONENT_DIGITS = 4
"""Bound on the digits of an exponent: any longer one makes a number of more than MAX_DIGITS, or 0."""

MAX_NAME_CHARS = 256
"""Bound on an instFamily that is no family's name. Folding makes no name shorter, so a longer one cannot
be almost the name of a family."""

MAX_FIELD_CHARS = 1024
"""Bound on a text field; a key has at most a few permissions."""

MAX_ROWS_SHOWN = 3
"""How many rows of a reply that makes no sense its message describes."""

MAX_RETRY_AFTER_S = 60.0
"""Bound on what a Retry-After header may ask for: an outage's end is noticed within a minute."""

WRAPPER_CODES = frozenset({"1", "2"})
"""Codes of an envelope that say only that all, or some, rows failed; see their sCode [seen]."""

Scrub = Callable[[str], str]
"""Makes a message of the exchange's fit for output: no secrets, one line, bounded."""

T = TypeVar("T")

_CODE = re.compile(r"[0-9]{1,6}(_[0-9]{1,6})?", re.ASCII)
_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?", re.ASCII)
_USER_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_MOMENT = re.compile(r"[0-9TZ:.+ -]{0,32}", re.ASCII)
_TIME_MS = re.compile(r"[0-9]{13}", re.ASCII)
_UNDERLYING = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}", re.ASCII)
# Possessive (++, *+), so that an unterminated string cannot make this quadratic.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?+|([\[{])|([\]}])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written, so that no digit of it is lost."""

    text: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """OKX's own envelope. ``data`` None: there is no list of data; gateway errors have none [seen]."""

    code: str
    message: str
    data: tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """What a row of an envelope says of its own request: ``code`` is its sCode, "0" a success.

    If sCode is no code of OKX's, ``code`` describes its value.
    """

    code: str
    message: str
    family: object


class Unreadable(ValueError):
    """A value of a reply makes no sense; the text says which, in our words."""


def parse_set(status: int, body: bytes, scrub: Scrub, family: Family, setting: Setting) -> Reply:
    """Return the classified reply to setting ``family`` to ``setting``.

    An acceptance carries the rows it echoes. If an answer does not show the result of the request, its
    message says what the answer contains.
    """
    envelope = _accepted(status, body, scrub, family)
    if isinstance(envelope, Reply):
        return envelope
    if _refusals(envelope):
        return _not_acknowledged(envelope, scrub)
    echo = _echo(envelope.data)
    words = envelope.message
    if echo != ((family, setting),):
        words = f"accepted, but the reply does not repeat what was sent: {_data_words(envelope.data)}"
    return Reply(ReplyClass.ACCEPTED, envelope.code, scrub(words), echo)


def parse_live(
    status: int,
    body: bytes,
    scrub: Scrub,
    *,
    begun_at: float,
    took_s: float = 0.0,
    asked: Family | None = None,
) -> LiveRead | Reply:
    """Return every family Get MMP Config lists, or the reply that says why there is no list.

    ``begun_at`` is the instant before the request's first byte, ``took_s`` how long it took. ``asked`` is
    the one family it was about, whose rows alone count then; None: all. A row without a usable
    instFamily, or with one that is no family's name, takes nothing away from the others.
    """

    def read(data: tuple[object, ...]) -> LiveRead:
        return _live(data, scrub, LiveRead(begun_at, {}, took_s=took_s, asked=asked))

    return _parse(status, body, scrub, read, family=asked, is_list=asked is None)


def parse_account(status: int, body: bytes, scrub: Scrub) -> AccountInfo | Reply:
    """Return what account/config says of the key, or why it cannot be had."""
    return _parse(status, body, scrub, lambda data: _account(_only_row(data), scrub))


def parse_time(status: int, body: bytes, scrub: Scrub) -> int | Reply:
    """Return the exchange's clock in milliseconds since 1970 UTC, or why it cannot be had."""
    return _parse(status, body, scrub, lambda data: _time_ms(_only_row(data)))


def parse_reset(status: int, body: bytes, scrub: Scrub, family: Family) -> bool | Reply:
    """Return the result of Reset MMP Status, which can be false with code 0 [doc], or why there is none."""
    envelope = _accepted(status, body, scrub, family)
    if isinstance(envelope, Reply):
        return envelope
    if _refusals(envelope):
        return _not_acknowledged(envelope, scrub)
    return _data(envelope, scrub, lambda data: _result(_only_row(data)))


def parse_underlyings(status: int, body: bytes, scrub: Scrub) -> tuple[str, ...] | Reply:
    """Return the underlyings options are listed of, from a list inside the list of data [doc]."""
    return _parse(status, body, scrub, _underlyings)


def parse_families(status: int, body: bytes, scrub: Scrub) -> frozenset[Family] | Reply:
    """Return the families of the listed instruments; there may be none."""
    return _parse(status, body, scrub, lambda data: frozenset(_family(row) for row in map(_row, data)))


def no_answer(code: str, message: str) -> Reply:
    """Return the reply that stands for none: ``code`` is a word of ours."""
    return Reply(ReplyClass.NO_ANSWER, code, message)


def parse_retry_after(text: str, epoch_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most MAX_RETRY_AFTER_S.

    Either a whole number of seconds or a date, which is compared with ``epoch_s``, the time in seconds
    since 1970 UTC. None if it is empty or neither.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = text.lstrip("0")
        return min(MAX_RETRY_AFTER_S, float(seconds[: len("60") + 1] or 0))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one that no calendar has
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(MAX_RETRY_AFTER_S, max(0.0, moment.timestamp() - epoch_s))


def _parse(
    status: int,
    body: bytes,
    scrub: Scrub,
    read: Callable[[tuple[object, ...]], T],
    *,
    family: Family | None = None,
    is_list: bool = False,
) -> T | Reply:
    """Parse the answer to a read with ``read``, or return the reply that it amounts to.

    ``is_list``: the rows are of families, and a refusal in a row that names its family is about it alone.
    """
    envelope = _accepted(status, body, scrub, family)
    if isinstance(envelope, Reply):
        return envelope
    refused = _only_refusal(envelope, family)
    if is_list and refused is not None and refused.family:
        refused = None
    return _data(envelope, scrub, read) if refused is None else _by_row(refused, envelope, scrub)


def _data(envelope: Envelope, scrub: Scrub, read: Callable[[tuple[object, ...]], T]) -> T | Reply:
    try:
        if envelope.data is None:
            raise Unreadable("there is no list of data")
        return read(envelope.data)
    except Unreadable as error:
        return no_answer("bad-data", scrub(f"the reply's data cannot be used: {error}"))


def _accepted(status: int, body: bytes, scrub: Scrub, family: Family | None) -> Envelope | Reply:
    """Return the envelope of code 0 under a successful status, else the reply it amounts to.

    ``family`` is the one the request was about; None: it was about none in particular.
    """
    if 300 <= status < 400:
        # Whatever it says: OKX's API has no redirects, so this is someone between us and it.
        return no_answer("redirect", f"HTTP {status}: a redirect, which is never followed")
    try:
        envelope = read_envelope(body)
    except Unreadable as error:
        return no_answer("not-okx", f"HTTP {status}, not a reply of OKX's: {error}")
    if envelope.code != ACCEPTED_CODE:
        return _refused(envelope, scrub, family)
    if not 200 <= status < 300:
        # Two statements that contradict each other; believing either could be wrong.
        return no_answer("bad-status", f"HTTP {status} with code 0 contradict each other")
    return envelope


def _refused(envelope: Envelope, scrub: Scrub, family: Family | None) -> Reply:
    """Return the reply of an envelope whose code is not 0, by the code of its row where it is a wrapper."""
    if envelope.code in WRAPPER_CODES:
        refused = _only_refusal(envelope, family)
        if refused is not None:
            return _by_row(refused, envelope, scrub)
    known = lookup(envelope.code)
    words = _words(envelope)
    if not words and known.reply_class is ReplyClass.AMBIGUOUS:
        words = f"{known.meaning}; nothing else was in the reply"
    return Reply(known.reply_class, envelope.code, scrub(words))


def _only_refusal(envelope: Envelope, family: Family | None) -> RowResult | None:
    """Return the refusal in the only row, if its code is in the table; None without one.

    A row of another family than the requested one says nothing about the request.
    """
    rows = envelope.data or ()
    refused = _refusals(envelope)
    if len(rows) != 1 or not refused or not _is_known(refused[0].code):
        return None
    foreign = family is not None and refused[0].family not in (None, "", family)
    return None if foreign else refused[0]


def _by_row(row: RowResult, envelope: Envelope, scrub: Scrub) -> Reply:
    """Return the reply that a row's code amounts to.

    The envelope is named as the wrapper only where the code says that the request had arrived.
    """
    reply_class = lookup(row.code).reply_class
    wrapper = None if reply_class is ReplyClass.AMBIGUOUS else envelope.code
    return Reply(reply_class, row.code, scrub(_words(envelope)), wrapper=wrapper)


def _not_acknowledged(envelope: Envelope, scrub: Scrub) -> Reply:
    """Return the reply of code 0 in which a row reports a failure: the result is unknown."""
    code = _refusals(envelope)[0].code
    if not _CODE.fullmatch(code):
        return Reply(ReplyClass.AMBIGUOUS, envelope.code, scrub(_words(envelope)))
    undecided = _is_known(code) and lookup(code).reply_class is ReplyClass.AMBIGUOUS
    wrapper = None if undecided else envelope.code
    return Reply(ReplyClass.AMBIGUOUS, code, scrub(_words(envelope)), wrapper=wrapper)


def _is_known(code: str) -> bool:
    """Tell whether a code other than 0 is in the table; a sub-code is known by the part before ``_``."""
    return code.partition("_")[0] in TABLE


def _results(envelope: Envelope) -> tuple[RowResult, ...]:
    """Return what the rows with an sCode say."""
    return tuple(
        _row_result(row) for row in envelope.data or () if isinstance(row, dict) and "sCode" in row
    )


def _refusals(envelope: Envelope) -> tuple[RowResult, ...]:
    return tuple(result for result in _results(envelope) if result.code != ACCEPTED_CODE)


def _row_result(row: Mapping[str, object]) -> RowResult:
    message = row.get("sMsg")
    return RowResult(
        _row_code(row["sCode"]), message if isinstance(message, str) else "", row.get("instFamily")
    )


def _row_code(value: object) -> str:
    try:
        return _code(value)
    except Unreadable:
        return _shown(value)


def _words(envelope: Envelope) -> str:
    """Return what an envelope says: its message, or the codes and messages of it and of its rows.

    The codes come first, because a long message is cut.
    """
    results = _results(envelope)
    if not results:
        return envelope.message
    codes = [f"sCode {row.code}" for row in results[:MAX_ROWS_SHOWN]]
    if len(results) > MAX_ROWS_SHOWN:
        codes.append(f"{len(results) - MAX_ROWS_SHOWN} more")
    messages = [envelope.message, *(row.message for row in results[:MAX_ROWS_SHOWN])]
    said = "; ".join(filter(None, messages))
    return f"code {envelope.code} with {', '.join(codes)}" + (f": {said}" if said else "")


def _data_words(data: tuple[object, ...] | None) -> str:
    """Describe the data of an acceptance, as far as a message has room for it."""
    if data is None:
        return "it has no list of data"
    if not data:
        return "it has no rows"
    rows = "; ".join(map(_echo_words, data[:MAX_ROWS_SHOWN]))
    return f"it has {rows}" if len(data) == 1 else f"it has {len(data)} rows: {rows}"


def _echo_words(row: object) -> str:
    try:
        fields = _row(row)
        family = _family(fields)
        values = (f"{name} {value}" for name, value in _setting(fields).wire().items())
        return f"{family} {', '.join(values)}"
    except Unreadable as error:
        return f"a row that cannot be read ({error})"


def read_envelope(body: bytes) -> Envelope:
    """Return OKX's envelope, or raise Unreadable: not JSON, ambiguous JSON, or not the envelope's shape."""
    value = strict_json(body)
    if not isinstance(value, dict):
        raise Unreadable("no JSON object")
    code = _code(value.get("code"))
    message = value.get("msg")
    data = value.get("data")
    if message is None and "msg" in value:
        message = ""  # only ever shown: null is as good as an empty one
    if not isinstance(message, str):
        raise Unreadable("no msg")
    return Envelope(code, message, tuple(data) if isinstance(data, list) else None)


def strict_json(body: bytes) -> Any:
    """Return the one JSON value in ``body``, or raise Unreadable.

    UTF-8 only, no duplicate keys, no NaN or Infinity, at most MAX_DEPTH deep: two readers of a reply
    we act on must not be able to disagree about it. Numbers come as Number, however long they are.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    if _depth(text) > MAX_DEPTH:
        raise Unreadable("JSON nested too deep")
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=Number,
            parse_float=Number,
        )
    except json.JSONDecodeError:
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
    if isinstance(value, Number):
        value = value.text
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise Unreadable("no code of OKX's")
    return value


def _echo(data: tuple[object, ...] | None) -> tuple[tuple[Family, Setting], ...] | None:
    if data is None:
        return None
    try:
        return tuple((_family(row), _setting(row)) for row in map(_row, data))
    except Unreadable:
        return None


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The rows of a read by their instFamily: of families, of odd names, and how many without a name."""

    named: tuple[tuple[Family, Mapping[str, object]], ...]
    odd_names: Mapping[str, str]
    nameless: int


def _live(data: tuple[object, ...], scrub: Scrub, read: LiveRead) -> LiveRead:
    """Return ``read`` with the rows of ``data``."""
    found = _sorted(data, scrub)
    named = [(family, row) for family, row in found.named if read.asked in (None, family)]
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
    return replace(
        read, rows=rows, unreadable=unreadable, odd_names=found.odd_names, nameless=found.nameless
    )


def _sorted(data: tuple[object, ...], scrub: Scrub) -> _Sorted:
    named: list[tuple[Family, Mapping[str, object]]] = []
    odd_names: dict[str, str] = {}
    nameless = 0
    for row in data:
        name = row.get("instFamily") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(name, str) or not fold_name(name):
            nameless += 1
            continue
        try:
            named.append((parse_family(name), row))
        except ValueError:
            name = name.strip()[:MAX_NAME_CHARS]
            odd_names[fold_name(name)] = scrub(name)
    return _Sorted(tuple(named), odd_names, nameless)


def _live_row(row: Mapping[str, object], *, times_listed: int) -> LiveRow | None:
    """Return one family's row; None when it says no more than a missing row would."""
    if times_listed > 1:
        raise Unreadable(f"listed {times_listed} times")
    if "sCode" in row and _row_code(row["sCode"]) != ACCEPTED_CODE:
        raise Unreadable(f"sCode is {_shown(row['sCode'])}")
    frozen = row.get("mmpFrozen")
    if frozen in (None, "") and _is_blank(row):
        return None
    if not isinstance(frozen, bool):
        raise Unreadable(f"mmpFrozen is {_shown(frozen)}")
    if not frozen and _is_unset(row):
        return None
    setting = _setting(row)
    if setting.qty_limit == Quantity("0"):
        raise Unreadable("qtyLimit is 0")
    return LiveRow(setting, frozen, _if_matching(row, "mmpFrozenUntil", _MOMENT))


def _is_unset(row: Mapping[str, object]) -> bool:
    """Tell whether a row that is not frozen has no setting in it.

    [unknown] what a never-configured or disabled family returns. Taken for unset: all three fields
    blank, and a window of 0 beside a blank field or a quantity of 0. A full setting with window 0 is
    none of these. Raises Unreadable where a value beside a window of 0 makes no sense.
    """
    if _is_blank(row):
        return True
    blank = _blank_fields(row)
    if Field.TIME_INTERVAL in blank or _interval_ms(row, Field.TIME_INTERVAL) != 0:
        return False
    if Field.FROZEN_INTERVAL not in blank:
        _interval_ms(row, Field.FROZEN_INTERVAL)
    quantity = Quantity("0") if Field.QTY_LIMIT in blank else _quantity(row, Field.QTY_LIMIT)
    return bool(blank) or quantity == Quantity("0")


def _is_blank(row: Mapping[str, object]) -> bool:
    """Tell whether all three fields of the setting are missing, null or empty."""
    return len(_blank_fields(row)) == len(Field)


def _blank_fields(row: Mapping[str, object]) -> set[Field]:
    return {field for field in Field if row.get(field) in (None, "")}


def _setting(row: Mapping[str, object]) -> Setting:
    return Setting(
        _interval_ms(row, Field.TIME_INTERVAL),
        _interval_ms(row, Field.FROZEN_INTERVAL),
        _quantity(row, Field.QTY_LIMIT),
    )


def _interval_ms(row: Mapping[str, object], field: Field) -> int:
    """Return a whole number of milliseconds; [unknown] whether ``5000`` may come back as ``5000.0``."""
    whole, _, fraction = _plain(row, field).partition(".")
    if fraction.strip("0") or len(whole) > MAX_INTERVAL_DIGITS:
        raise Unreadable(f"{field} is {_shown(row.get(field))}")
    return int(whole)


def _quantity(row: Mapping[str, object], field: Field) -> Quantity:
    return Quantity(_plain(row, field))


def _plain(row: Mapping[str, object], field: Field) -> str:
    """Return a number as a plain decimal of at most MAX_DIGITS; it may come as text or as a JSON number."""
    value = row.get(field)
    text = value.text if isinstance(value, Number) else value
    plain = plain_decimal(text) if isinstance(text, str) else None
    if plain is None:
        raise Unreadable(f"{field} is {_shown(value)}")
    return plain


def plain_decimal(text: str) -> str | None:
    """Return a decimal number of the same value without an exponent or leading zeros.

    None for what is no number of that kind, or has no plain form of at most MAX_DIGITS. No digit is
    rounded away, and no number is built that is any longer.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole, fraction, sign, exponent = match[1].lstrip("0"), match[2] or "", match[3], match[4]
    if exponent is None and len(whole) + len(fraction) <= MAX_DIGITS:
        return f"{whole or '0'}.{fraction}" if fraction else whole or "0"
    digits = (whole + fraction).rstrip("0")
    exponent = (exponent or "").lstrip("0") or "0"
    if not digits.strip("0"):
        return "0"
    if len(exponent) > MAX_EXPONENT_DIGITS:
        return None
    return _with_point(digits, len(whole) + int(sign + exponent if sign else exponent))


def _with_point(digits: str, point: int) -> str | None:
    """Return ``digits`` with the decimal point after the first ``point`` of them, zeros put where needed.

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


def _account(row: Mapping[str, object], scrub: Scrub) -> AccountInfo:
    """Return what is needed of the account, and optional values that are only shown.

    Without a mode the account can be read, but not written.
    """
    return AccountInfo(
        uid=_matching(row, "uid", _USER_ID),
        main_uid=_if_matching(row, "mainUid", _USER_ID),
        level="" if row.get("acctLv") is None else _matching(row, "acctLv", _USER_ID),
        permissions=frozenset(map(scrub, _comma_list(_text(row, "perm")))),
        ip=tuple(map(scrub, _comma_list(_if_text(row, "ip")))),
        label=scrub(_if_text(row, "label")),
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


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _matching(row: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    """Return a text, or a JSON number as it was written."""
    value = row.get(field)
    text = value.text if isinstance(value, Number) else value
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise Unreadable(f"{field} is {_shown(value)}")
    return text


def _if_matching(row: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    """Return a value that is only ever shown; "" where there is none that can be."""
    try:
        return _matching(row, field, pattern)
    except Unreadable:
        return ""


def _text(row: Mapping[str, object], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or len(value) > MAX_FIELD_CHARS:
        raise Unreadable(f"{field} is {_shown(value)}")
    return value


def _if_text(row: Mapping[str, object], field: str) -> str:
    """Return a text that is only ever shown; "" where there is none."""
    value = row.get(field)
    return value if isinstance(value, str) else ""


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
    if isinstance(value, Number):
        short = len(value.text) <= MAX_DIGITS
        return f"the number {value.text}" if short else f"a number of {len(value.text)} characters"
    return "missing" if value is None else f"a JSON {type(value).__name__}"
