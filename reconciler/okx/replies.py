"""Replies of OKX's API v5, read strictly into values. Pure.

This file decides what counts as an answer from OKX: only its own JSON envelope, exactly readable. The
``code`` decides, not the HTTP status, because the documented statuses are not the sent ones; only an
acceptance must also have a successful status. Whatever cannot be read with certainty is NO_ANSWER, never a
guess: the page of a proxy proves nothing about the exchange. OKX wraps some refusals: code 1 or 2, and the
real code in the ``sCode`` of the one row [seen]. A row with an ``sCode`` other than 0 is never an
acknowledgement, whatever the envelope's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TypeVar

from reconciler.core.model import AccountInfo, Family, LiveRead, Setting
from reconciler.core.reply import Reply, ReplyClass
from reconciler.okx.codes import ACCEPTED_CODE, TABLE, lookup
from reconciler.okx.live_rows import live_rows
from reconciler.okx.reply_fields import (
    CODE,
    Scrub,
    if_matching,
    if_text,
    matching,
    only_row,
    read_code,
    read_family,
    read_row,
    read_setting,
    read_text,
    row_code,
    shown_value,
)
from reconciler.okx.strict_json import UnreadableReply, strict_json

REPLY_LIMIT_BYTES = 64 * 1024
"""Bound on every reply but the list of all families; OKX's are a few hundred bytes."""

LIVE_REPLY_LIMIT_BYTES = 4 * 1024 * 1024
"""Bound on the list of all families: about 150 bytes a row, 10,000 families, and room for more fields."""

MAX_ROWS_SHOWN = 3
"""How many rows of an invalid reply its message describes."""

MAX_HEADER_RETRY_AFTER_S = 60.0
"""Bound on the wait of a Retry-After header: the end of an outage is noticed within a minute."""

WRAPPER_CODES = frozenset({"1", "2"})
"""Codes of an envelope that mean only that all, or some, rows failed; see their sCode [seen]."""

T = TypeVar("T")

_USER_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_TIME_MS = re.compile(r"[0-9]{13}", re.ASCII)
_UNDERLYING = re.compile(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Envelope:
    """OKX's own envelope. ``data`` None: there is no list of data; gateway errors have none [seen]."""

    code: str
    message: str
    data: tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of a row of an envelope: ``code`` is its sCode, "0" a success.

    If sCode is not a code of OKX, ``code`` describes its value.
    """

    code: str
    message: str
    family: object


def parse_set(status: int, body: bytes, scrub: Scrub, family: Family, setting: Setting) -> Reply:
    """Return the classified reply to setting ``family`` to ``setting``.

    An acceptance has the rows that it echoes. If an answer does not show the result of the request, its
    message describes the content of the answer.
    """
    envelope = _acknowledged(status, body, scrub, family)
    if isinstance(envelope, Reply):
        return envelope
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
    """Return every family in the reply to Get MMP Config, or the reply that explains why there is no list.

    ``begun_at`` is the instant before the request's first byte, ``took_s`` its duration. ``asked`` is the
    one requested family, and then only its rows count; None: all. A row without a usable instFamily, or
    with one that is not a family name, does not affect the others.
    """

    def read(data: tuple[object, ...]) -> LiveRead:
        return live_rows(data, scrub, LiveRead(begun_at, {}, took_s=took_s, asked=asked))

    return _parse(status, body, scrub, read, family=asked, is_list=asked is None)


def parse_account(status: int, body: bytes, scrub: Scrub) -> AccountInfo | Reply:
    """Return the account/config reply about the key, or why there is none."""
    return _parse(status, body, scrub, lambda data: _account(only_row(data), scrub))


def parse_time(status: int, body: bytes, scrub: Scrub) -> int | Reply:
    """Return the exchange's clock in milliseconds since 1970 UTC, or why there is none."""
    return _parse(status, body, scrub, lambda data: _time_ms(only_row(data)))


def parse_reset(status: int, body: bytes, scrub: Scrub, family: Family) -> bool | Reply:
    """Return the result of Reset MMP Status, which can be false with code 0 [doc], or why there is none."""
    envelope = _acknowledged(status, body, scrub, family)
    if isinstance(envelope, Reply):
        return envelope
    return _data(envelope, scrub, lambda data: _result(only_row(data)))


def parse_underlyings(status: int, body: bytes, scrub: Scrub) -> tuple[str, ...] | Reply:
    """Return the underlyings that have options, from a list inside the list of data [doc]."""
    return _parse(status, body, scrub, _underlyings)


def parse_families(status: int, body: bytes, scrub: Scrub) -> frozenset[Family] | Reply:
    """Return the families of the listed instruments; there may be none."""
    return _parse(
        status, body, scrub, lambda data: frozenset(read_family(row) for row in map(read_row, data))
    )


def no_answer(code: str, message: str) -> Reply:
    """Return the reply for a missing answer: ``code`` is a word of ours."""
    return Reply(ReplyClass.NO_ANSWER, code, message)


def parse_retry_after(text: str, epoch_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most MAX_RETRY_AFTER_S.

    Either a whole number of seconds or a date, which is compared with ``epoch_s``, the time in seconds
    since 1970 UTC. None if it is empty or neither.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = text.lstrip("0")
        return min(MAX_HEADER_RETRY_AFTER_S, float(seconds[: len("60") + 1] or 0))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # not a date, or a date outside the calendar
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return min(MAX_HEADER_RETRY_AFTER_S, max(0.0, moment.timestamp() - epoch_s))


def _parse(
    status: int,
    body: bytes,
    scrub: Scrub,
    read: Callable[[tuple[object, ...]], T],
    *,
    family: Family | None = None,
    is_list: bool = False,
) -> T | Reply:
    """Parse the answer to a read with ``read``, or return the reply that follows.

    ``is_list``: the rows are of families, and a refusal in a row that names its family is about that only.
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
            raise UnreadableReply("there is no list of data")
        return read(envelope.data)
    except UnreadableReply as error:
        return no_answer("bad-data", scrub(f"the reply's data cannot be used: {error}"))


def _accepted(status: int, body: bytes, scrub: Scrub, family: Family | None) -> Envelope | Reply:
    """Return the envelope of code 0 under a successful status, else the reply that follows.

    ``family`` is the one in the request; None: the request had none.
    """
    if 300 <= status < 400:
        # Whatever the content: OKX's API has no redirects, so a third party sent this.
        return no_answer("redirect", f"HTTP {status}: a redirect, which is never followed")
    try:
        envelope = read_envelope(body)
    except UnreadableReply as error:
        return no_answer("not-okx", f"HTTP {status}, not a reply of OKX's: {error}")
    if envelope.code != ACCEPTED_CODE:
        return _refused(envelope, scrub, family)
    if not 200 <= status < 300:
        # Two statements that contradict each other; either could be wrong.
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
        words = f"{known.meaning}; the reply has no other data"
    return Reply(known.reply_class, envelope.code, scrub(words))


def _only_refusal(envelope: Envelope, family: Family | None) -> RowResult | None:
    """Return the refusal in the only row, if its code is in the table; None without one.

    A row of another family than the requested one is no evidence about the request.
    """
    rows = envelope.data or ()
    refused = _refusals(envelope)
    if len(rows) != 1 or not refused or not _is_known(refused[0].code):
        return None
    foreign = family is not None and refused[0].family not in (None, "", family)
    return None if foreign else refused[0]


def _by_row(row: RowResult, envelope: Envelope, scrub: Scrub) -> Reply:
    """Return the reply that follows from a row's code.

    The envelope is named as the wrapper only if the code shows that the request had arrived.
    """
    reply_class = lookup(row.code).reply_class
    wrapper = None if reply_class is ReplyClass.AMBIGUOUS else envelope.code
    return Reply(reply_class, row.code, scrub(_words(envelope)), wrapper=wrapper)


def _acknowledged(status: int, body: bytes, scrub: Scrub, family: Family) -> Envelope | Reply:
    """Return the envelope of code 0 in which no row reports a failure; with one the result is unknown."""
    envelope = _accepted(status, body, scrub, family)
    if isinstance(envelope, Reply) or not _refusals(envelope):
        return envelope
    code = _refusals(envelope)[0].code
    if not CODE.fullmatch(code):
        return Reply(ReplyClass.AMBIGUOUS, envelope.code, scrub(_words(envelope)))
    undecided = _is_known(code) and lookup(code).reply_class is ReplyClass.AMBIGUOUS
    wrapper = None if undecided else envelope.code
    return Reply(ReplyClass.AMBIGUOUS, code, scrub(_words(envelope)), wrapper=wrapper)


def _is_known(code: str) -> bool:
    """Return whether a code other than 0 is in the table; the part before ``_`` identifies a sub-code."""
    return code.partition("_")[0] in TABLE


def _results(envelope: Envelope) -> tuple[RowResult, ...]:
    """Return the results of the rows with an sCode."""
    return tuple(
        _row_result(row) for row in envelope.data or () if isinstance(row, dict) and "sCode" in row
    )


def _refusals(envelope: Envelope) -> tuple[RowResult, ...]:
    return tuple(result for result in _results(envelope) if result.code != ACCEPTED_CODE)


def _row_result(row: Mapping[str, object]) -> RowResult:
    message = row.get("sMsg")
    return RowResult(
        row_code(row["sCode"]), message if isinstance(message, str) else "", row.get("instFamily")
    )


def _words(envelope: Envelope) -> str:
    """Return the text of an envelope: its message, or its codes and messages and those of its rows.

    The codes come first, because a long message is cut.
    """
    results = _results(envelope)
    if not results:
        return envelope.message
    codes = [f"sCode {row.code}" for row in results[:MAX_ROWS_SHOWN]]
    if len(results) > MAX_ROWS_SHOWN:
        codes.append(f"{len(results) - MAX_ROWS_SHOWN} more")
    messages = [envelope.message, *(row.message for row in results[:MAX_ROWS_SHOWN])]
    text = "; ".join(filter(None, messages))
    return f"code {envelope.code} with {', '.join(codes)}" + (f": {text}" if text else "")


def _data_words(data: tuple[object, ...] | None) -> str:
    """Describe the data of an acceptance, as far as a message has room."""
    if data is None:
        return "it has no list of data"
    if not data:
        return "it has no rows"
    rows = "; ".join(map(_echo_words, data[:MAX_ROWS_SHOWN]))
    return f"it has {rows}" if len(data) == 1 else f"it has {len(data)} rows: {rows}"


def _echo_words(row: object) -> str:
    try:
        fields = read_row(row)
        family = read_family(fields)
        values = (f"{name} {value}" for name, value in read_setting(fields).wire().items())
        return f"{family} {', '.join(values)}"
    except UnreadableReply as error:
        return f"a row that cannot be read ({error})"


def read_envelope(body: bytes) -> Envelope:
    """Return OKX's envelope; raise UnreadableReply for no or ambiguous JSON, or another shape."""
    value = strict_json(body)
    if not isinstance(value, dict):
        raise UnreadableReply("no JSON object")
    code = read_code(value.get("code"))
    message = value.get("msg")
    data = value.get("data")
    if message is None and "msg" in value:
        message = ""  # only displayed: null is as good as an empty one
    if not isinstance(message, str):
        raise UnreadableReply("no msg")
    return Envelope(code, message, tuple(data) if isinstance(data, list) else None)


def _echo(data: tuple[object, ...] | None) -> tuple[tuple[Family, Setting], ...] | None:
    if data is None:
        return None
    try:
        return tuple((read_family(row), read_setting(row)) for row in map(read_row, data))
    except UnreadableReply:
        return None


def _account(row: Mapping[str, object], scrub: Scrub) -> AccountInfo:
    """Return the required data of the account, and optional values that are only displayed.

    Without a mode the account can be read, but not written.
    """
    return AccountInfo(
        uid=matching(row, "uid", _USER_ID),
        main_uid=if_matching(row, "mainUid", _USER_ID),
        level="" if row.get("acctLv") is None else matching(row, "acctLv", _USER_ID),
        permissions=frozenset(map(scrub, _comma_list(read_text(row, "perm")))),
        ip=tuple(map(scrub, _comma_list(if_text(row, "ip")))),
        label=scrub(if_text(row, "label")),
    )


def _time_ms(row: Mapping[str, object]) -> int:
    return int(matching(row, "ts", _TIME_MS))


def _result(row: Mapping[str, object]) -> bool:
    result = row.get("result")
    if not isinstance(result, bool):
        raise UnreadableReply(f"result is {shown_value(result)}")
    return result


def _underlyings(data: tuple[object, ...]) -> tuple[str, ...]:
    """Return the names in the one inner list; they are checked, because an address will contain them."""
    names = data[0] if len(data) == 1 else None
    if not isinstance(names, list):
        raise UnreadableReply("no list of underlyings")
    for name in names:
        if not isinstance(name, str) or not _UNDERLYING.fullmatch(name):
            raise UnreadableReply(f"an underlying is {shown_value(name)}")
    return tuple(names)


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
