"""Responses as values: the server writes them, tests read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from reconciler.core.problems import json_text
from reconciler.documents.plan import Document
from reconciler.web.request_filter import METHODS, RequestRejection

PLAIN = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "mmp",
}
"""On every response: no content from other origins, no framing, no sniffing, no caching."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response: HTTP status, body and its type; ``headers`` beside those of every response."""

    status: int
    body: bytes
    content_type: str = PLAIN
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a request that a route uses. ``verbose``: write each check on its own line."""

    verbose: bool = False


Route = Callable[[Query], Awaitable[Response]]
"""Answers the requests for one path."""


def text_response(status: int, text: str, **headers: str) -> Response:
    """Return ``text``, one or more lines without the last line break, as plain text."""
    return Response(status, f"{text}\n".encode("utf-8", "backslashreplace"), headers=headers or None)


def rejection_response(rejection: RequestRejection) -> Response:
    """Return why a request is not answered."""
    allow = {"Allow": ", ".join(METHODS)} if rejection.status == 405 else {}
    return text_response(rejection.status, rejection.why, **allow)


def json_response(status: int, document: Document) -> Response:
    """Return a document as the command line prints it."""
    return Response(status, f"{json_text(document, indent=2, allow_nan=False)}\n".encode(), JSON)


def html_response(html: str) -> Response:
    """Return a page."""
    return Response(200, html.encode("utf-8", "backslashreplace"), HTML)
