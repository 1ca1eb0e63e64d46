"""Reads the JSON of a reply strictly, so that two readers cannot disagree about a reply."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_JSON_DEPTH = 16
"""Bound on nesting; an envelope of OKX's is four deep. Without it Python's parser runs out of stack."""

# Possessive (++, *+), so that an unterminated string cannot make this quadratic.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?+|([\[{])|([\]}])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written, so that no digit is lost."""

    text: str


class UnreadableReply(ValueError):
    """A value of a reply is invalid; the text names it, in our words."""


def strict_json(body: bytes) -> Any:
    """Return the one JSON value in ``body``, or raise UnreadableReply.

    UTF-8 only, no duplicate keys, no NaN or Infinity, at most MAX_JSON_DEPTH deep: two readers of a reply
    that we act on must not be able to disagree. Numbers are returned as Number, however long they are.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableReply("not UTF-8") from None
    if _depth(text) > MAX_JSON_DEPTH:
        raise UnreadableReply("JSON nested too deep")
    try:
        return json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_int=Number,
            parse_float=Number,
        )
    except json.JSONDecodeError:
        raise UnreadableReply("not JSON") from None


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        depth += 1 if match[1] else -1 if match[2] else 0
        deepest = max(deepest, depth)
    return deepest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise UnreadableReply("JSON with a key given twice")
    return value


def _no_constant(_: str) -> NoReturn:
    raise UnreadableReply("JSON with NaN or Infinity")
