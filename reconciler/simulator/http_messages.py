"""Requests and replies as values. Only this file turns a reply into bytes.

A reply of the exchange is a union: an OKX envelope, an envelope that is cut off, a gateway's HTML page,
or silence. The simulation suite matches on it; the server sends its rendering.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import assert_never

SimRow = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One HTTP request as it arrived: ``target`` is path and query, exactly as on the wire.

    Header names may come in any case. ``remote`` is the caller's address.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    remote: str = "127.0.0.1"

    def __post_init__(self) -> None:
        """Lower the header names once, so that looking them up ignores case."""
        lowered = {name.lower(): value for name, value in self.headers.items()}
        object.__setattr__(self, "headers", lowered)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target's query, undecoded; empty when there is none."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """Return the header's value, empty when it is missing."""
        return self.headers.get(name.lower(), "")


@dataclass(frozen=True, slots=True)
class ReplyEnvelope:
    """OKX's own JSON reply. ``data`` None: the member is missing, as in gateway errors [doc].

    ``names`` is a list inside the list of data, which one endpoint answers with; None: rows.
    """

    code: str
    message: str = ""
    data: tuple[SimRow, ...] | None = ()
    status: int = 200
    names: tuple[str, ...] | None = None

    @property
    def accepted(self) -> bool:
        """Whether the code is OKX's success."""
        return self.code == "0"


@dataclass(frozen=True, slots=True)
class TruncatedReply:
    """An envelope of which only the first half of the bytes arrives."""

    envelope: ReplyEnvelope


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """An HTML page of a gateway or proxy: proves nothing about the exchange behind it."""

    status: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The connection closes without a byte of reply."""


ReplyBody = ReplyEnvelope | TruncatedReply | HtmlPage | Disconnect


@dataclass(frozen=True, slots=True)
class SimOutcome:
    """What the caller receives, ``delay_s`` seconds late, with ``headers`` beside the usual ones."""

    reply: ReplyBody
    delay_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SimReply:
    """A reply ready for the wire.

    ``drop``: close the connection without a byte. ``cut``: announce the length of the full body, send
    half of it and close. ``delay_s``: wait that long first.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    drop: bool = False
    cut: bool = False
    delay_s: float = 0.0


SIMULATOR_HEADER = {"x-simulator": "true"}
JSON_HEADERS = {**SIMULATOR_HEADER, "Content-Type": "application/json; charset=utf-8"}
HTML_HEADERS = {**SIMULATOR_HEADER, "Content-Type": "text/html"}


def render(outcome: SimOutcome) -> SimReply:
    """Return ``outcome`` as bytes for the wire."""
    match outcome.reply:
        case ReplyEnvelope() as envelope:
            reply = SimReply(envelope.status, JSON_HEADERS, to_json(envelope))
        case TruncatedReply(envelope):
            reply = SimReply(envelope.status, JSON_HEADERS, to_json(envelope), cut=True)
        case HtmlPage(status):
            reply = SimReply(status, HTML_HEADERS, _page(status))
        case Disconnect():
            reply = SimReply(0, SIMULATOR_HEADER, b"", drop=True)
        case _ as never:
            assert_never(never)
    return replace(reply, headers={**reply.headers, **dict(outcome.headers)}, delay_s=outcome.delay_s)


def to_json(envelope: ReplyEnvelope) -> bytes:
    """Return the envelope's bytes, compact, in OKX's order of members."""
    members: dict[str, object] = {"code": envelope.code, "msg": envelope.message}
    if envelope.names is not None:
        members["data"] = [envelope.names]
    elif envelope.data is not None:
        members["data"] = envelope.data
    return json.dumps(members, separators=(",", ":")).encode()


def _page(status: int) -> bytes:
    words = HTTPStatus(status).phrase
    return f"<html><head><title>{status}</title></head><body>{words} (simulator)</body></html>".encode()
