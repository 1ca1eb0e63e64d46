"""The head of an HTTP/1 request, read strictly, and the head of the response.

A request here never has a body, and a connection serves one request. So nothing after the head is ever
parsed, and this server and a proxy cannot disagree about where the next request begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from reconciler.web.request_filter import RequestInfo, RequestRejection
from reconciler.web.responses import HEADERS, Response

MAX_HEAD_BYTES = 16 * 1024
"""A browser sends one or two KiB, and more with the cookies of every server on localhost."""

_BEGINNING = re.compile(rb"[A-Za-z]{1,20}(?: |\Z)")
"""Matches the beginning of a request, as far as it has arrived."""

_END = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(rb"([A-Za-z]{1,20}) ([!-~]+) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")

TOO_LARGE = RequestRejection(431, "the head of the request is too large")
MALFORMED = RequestRejection(400, "malformed HTTP request")


def read_head(received: bytes | bytearray) -> RequestInfo | RequestRejection | None:
    """Parse the head at the beginning of ``received``; None while its end has not arrived."""
    if not _BEGINNING.match(received):
        return MALFORMED if received else None
    end = _END.search(received, 0, MAX_HEAD_BYTES)
    if end is None:
        return TOO_LARGE if len(received) >= MAX_HEAD_BYTES else None
    request_line, *fields = bytes(received[: end.start()]).split(b"\r\n")
    return _parsed(request_line, fields) or MALFORMED


def response_head(answer: Response, at: int) -> bytes:
    """Return the status line and the headers of ``answer``, given ``at``, in seconds since 1970."""
    own = {
        "Date": _date(at),
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        **(answer.headers or {}),
    }
    status_line = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    return f"{status_line}{_HEADERS}{_lines(own)}\r\n".encode("ascii")


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


_HEADERS = _lines({**HEADERS, "Connection": "close"})


@lru_cache(maxsize=1)
def _date(at: int) -> str:
    return formatdate(at, usegmt=True)


def _parsed(request_line: bytes, lines: list[bytes]) -> RequestInfo | None:
    """Parse a complete head; None if it is malformed."""
    request = _REQUEST_LINE.fullmatch(request_line)
    values: dict[bytes, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            return None
        values.setdefault(name.lower(), []).append(value.strip(b" \t").decode("latin-1"))
    hosts = values.get(b"host", [])
    if request is None or (request[3] == b"1" and len(hosts) != 1):
        return None
    has_body = b"transfer-encoding" in values or values.get(b"content-length", ["0"]) != ["0"]
    return RequestInfo(request[1].decode(), request[2].decode(), hosts, has_body)
