"""Heads of HTTP requests: what is read from them, byte by byte, and that no head takes long to read."""

from __future__ import annotations

import random
import time

import pytest

from reconciler.web.http_head import MALFORMED, MAX_HEAD_BYTES, TOO_LARGE, read_head, response_head
from reconciler.web.request_filter import RequestInfo, RequestRejection
from reconciler.web.responses import Response, text_response

HEAD = b"GET /livez?verbose HTTP/1.1\r\nHost: localhost:9464\r\nCookie: a=\xe9; b\r\n\r\n"
READ = RequestInfo("GET", "/livez?verbose", ["localhost:9464"], has_body=False)
REQUEST_LINE = b"GET / HTTP/1.1\r\n"


def test_a_head_is_complete_with_its_last_byte_and_whatever_follows_does_not_matter() -> None:
    assert [read_head(HEAD[:length]) for length in range(len(HEAD))] == [None] * len(HEAD)
    assert read_head(HEAD) == READ
    assert read_head(HEAD + b"\x00\xff GET / HTTP/1.1\r\n\r\n") == READ


@pytest.mark.parametrize(
    ("fields", "has_body"),
    [
        (b"", False),
        (b"content-length: 0\r\n", False),
        (b"Content-Length:0\t\r\n", False),
        (b"CONTENT-LENGTH: 1\r\n", True),
        (b"Content-Length: 0\r\nContent-Length: 0\r\n", True),
        (b"Content-Length: -0\r\n", True),
        (b"transfer-encoding:\r\n", True),
    ],
)
def test_a_body_is_announced_by_its_length_or_its_encoding(fields: bytes, has_body: bool) -> None:
    request = read_head(REQUEST_LINE + b"Host: localhost\r\n" + fields + b"\r\n")
    assert isinstance(request, RequestInfo)
    assert request.has_body == has_body


def test_a_head_may_be_as_long_as_the_bound_and_no_longer() -> None:
    beginning, end = REQUEST_LINE + b"Host: localhost\r\nX: ", b"\r\n\r\n"
    padding = MAX_HEAD_BYTES - len(beginning) - len(end)
    assert isinstance(read_head(beginning + b"x" * padding + end), RequestInfo)
    assert read_head(beginning + b"x" * (padding + 1) + end) == TOO_LARGE


@pytest.mark.parametrize(
    "filling",
    [b" ", b"\t ", b"a", b":", b"a:", b"\r", b"\n", b"\r\r\n", b"X: \r\n", b"\x80", b" \r\n", b"/ ", b"A "],
)
@pytest.mark.parametrize("beginning", [b"", b"GET ", REQUEST_LINE, REQUEST_LINE + b"X:", b"GET / HTTP/1.1"])
def test_no_head_takes_long_to_read(beginning: bytes, filling: bytes) -> None:
    head = (beginning + filling * MAX_HEAD_BYTES)[: MAX_HEAD_BYTES - 5] + b"\x00\r\n\r\n"
    began = time.thread_time()
    assert read_head(head) == MALFORMED
    assert time.thread_time() - began < 0.1


def test_any_bytes_are_read_or_refused() -> None:
    chance = random.Random(7)
    parts = [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host:", b"a", b":", b"\n", b"\x00", b"\xff", b"\t"]
    for _ in range(5000):
        received = b"".join(chance.choices(parts, k=chance.randint(0, 20)))
        assert isinstance(read_head(received), RequestInfo | RequestRejection | None)


def test_the_head_of_a_response_is_lines_of_ours_alone() -> None:
    head = response_head(Response(503, b"not yet\n", "text/plain", {"Allow": "GET"}), at=0)
    status_line, *fields = head.decode().split("\r\n")
    assert status_line == "HTTP/1.1 503 Service Unavailable"
    assert fields[-2:] == ["", ""]
    message = dict(line.split(": ", 1) for line in fields[:-2])
    assert message["Date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert (message["Content-Length"], message["Content-Type"], message["Allow"]) == (
        "8",
        "text/plain",
        "GET",
    )
    assert message["Connection"] == "close"
    assert b"Allow" not in response_head(text_response(200, "ok"), at=0)
