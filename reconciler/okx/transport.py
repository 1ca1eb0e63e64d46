"""One connection, one HTTP request, one reply: the only file that knows aiohttp.

This file decides when bytes may have been sent: until ``send`` hands the request to aiohttp nothing has
been written, after that anything may have been. It never retries, never follows a redirect, uses no
proxy, stores no cookie, and reads no more than its limit. No exception of aiohttp leaves it: these contain
the request's headers, so each failure becomes a value with our own text. There is no way to switch TLS
verification off.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import LineTooLong
from yarl import URL  # aiohttp's own URL type; such a target is sent unchanged

TOTAL_TIMEOUT_S = 10.0
"""Bound on connecting, and again on a request with its complete reply: longer than OKX ever takes to
answer, and short beside the time that an unanswered request blocks its slot anyway."""

MAX_HEADERS_BYTES = 256 * 1024
"""Bound on the status line and all headers of a reply together. OKX's are about 2 KiB; gateways add
cookies and policies of some KiB each, which aiohttp's own bounds (8 KiB a line, 128 headers) refuse."""

_MAX_HEADERS = MAX_HEADERS_BYTES
"""Bound on the number of headers. It is so high that the bound above is always reached first."""

_PLAIN_ENCODINGS = frozenset({"", "identity", "none", "utf-8"})
"""Values of Content-Encoding that gateways put on a reply that is not compressed."""

_CHUNK_BYTES = 16 * 1024
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
"""aiohttp's own timers are off: it rounds long ones up to full seconds. Ours is asyncio.timeout."""

_TURNS_TO_NOTICE_A_CLOSE = 2
"""Iterations of the event loop: one polls the socket, the next handles the result."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A complete HTTP reply: its status and its body as received.

    ``retry_after`` is the header of that name as received, "" without one.
    """

    status: int
    body: bytes
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No reply. ``sent`` is False only if not one byte of the request was written.

    ``code`` is a stable word, ``message`` our own text, without content of the request. ``retry_after`` is
    that of a reply which was not read to its end.
    """

    sent: bool
    code: str
    message: str
    retry_after: str = ""


class SingleUseConnection:
    """An open connection for one request. ``open`` creates it, ``send`` uses it up."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._connector = _PreparedConnector()
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            raise_for_status=False,
            timeout=_NO_TIMEOUT,
            max_line_size=MAX_HEADERS_BYTES,
            max_field_size=MAX_HEADERS_BYTES,
            max_headers=_MAX_HEADERS,
        )

    @classmethod
    async def open(
        cls, url: str, timeout_s: float = TOTAL_TIMEOUT_S
    ) -> SingleUseConnection | TransportFailure:
        """Connect to ``url`` now, TLS included; no byte of a request is written."""
        connection = cls(url, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await connection._connector.prepare(URL(url, encoded=True))
        except BaseException as error:
            await connection.close()
            if not isinstance(error, Exception):
                raise
            return _not_connected(error, timeout_s)
        return connection

    async def lost(self) -> TransportFailure | None:
        """Return a failure if the other side has already closed the connection or sent data, else None."""
        for _ in range(_TURNS_TO_NOTICE_A_CLOSE):
            await asyncio.sleep(0)
        return None if self._connector.usable else _CLOSED_EARLY

    async def send(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], *, limit_bytes: int
    ) -> RawReply | TransportFailure:
        """Write one request and return its complete reply, of at most ``limit_bytes``; then close.

        ``target`` and ``body`` are sent byte for byte. Cancellation closes the connection too.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(method, target, body, headers, limit_bytes)
        except TimeoutError:
            return TransportFailure(True, "timeout", f"no complete reply within {self._timeout_s:g} s")
        except Exception as error:
            # No exception of aiohttp leaves this block, because it contains the request's headers.
            return self._broken(error)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""
        await self._session.close()

    async def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], limit_bytes: int
    ) -> RawReply | TransportFailure:
        url = URL(self._url + target, encoded=True)
        async with self._session.request(
            method, url, data=body or None, headers=dict(headers), allow_redirects=False
        ) as response:
            if _headers_bytes(response) > MAX_HEADERS_BYTES:
                return _HEADERS_TOO_LARGE
            retry_after = response.headers.get("Retry-After", "")
            if not _is_plain(response):
                why = "the reply is compressed, which mmp does not accept"
                return TransportFailure(True, "encoded", why, retry_after)
            content = await _read_bounded(response.content, limit_bytes)
        if content is None:
            why = f"the reply is larger than {limit_bytes} bytes"
            return TransportFailure(True, "too-large", why, retry_after)
        return RawReply(response.status, content, retry_after)

    def _broken(self, error: Exception) -> TransportFailure:
        if not self._connector.handed_out:
            return _CLOSED_EARLY
        if _is_too_large(error):
            return _HEADERS_TOO_LARGE
        kind = type(error).__name__
        return TransportFailure(True, "broken", f"the connection broke or the reply is not HTTP ({kind})")


class _HeadersTooLarge(Exception):
    """The headers of a reply exceed the bound, and have not ended yet."""


class _BoundedHandler(ResponseHandler):
    """aiohttp's reader of a connection, with a bound on the total headers of a reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._unfinished_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read more data, unless the headers exceed the bound and have not ended."""
        super().data_received(data)
        if self._payload is not None or self.exception() is not None:
            return
        self._unfinished_bytes += len(data)
        if self._unfinished_bytes > MAX_HEADERS_BYTES:
            self.set_exception(_HeadersTooLarge())
            if self.transport is not None:
                self.transport.close()


class _PreparedConnector(aiohttp.TCPConnector):
    """A connector that connects only in ``prepare`` and hands out that one connection once.

    aiohttp asks its connector for a connection whenever it wants one, also for a retry. This one returns
    the prepared connection or none, so a second transmission cannot happen silently.
    """

    def __init__(self) -> None:
        super().__init__(force_close=True, limit=1, use_dns_cache=False)
        handler = cast("type[ResponseHandler]", _BoundedHandler)  # a partial would have another type
        self._factory = functools.partial(handler, loop=asyncio.get_running_loop())
        self._prepared: ResponseHandler | None = None
        self.handed_out = False

    @property
    def usable(self) -> bool:
        """Whether the prepared connection is open and has received nothing yet."""
        # should_close is also set by unexpected bytes: they would be taken for our reply.
        return (
            self._prepared is not None and self._prepared.is_connected() and not self._prepared.should_close
        )

    async def prepare(self, url: URL) -> None:
        """Connect, TLS included, and store the connection."""
        request = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop())
        self._prepared = await super()._create_connection(request, [], _NO_TIMEOUT)

    async def _create_connection(self, *_: object) -> ResponseHandler:
        prepared, self._prepared = self._prepared, None
        if prepared is None or not prepared.is_connected():
            raise aiohttp.ClientConnectionError("there is no prepared connection")
        self.handed_out = True
        return prepared

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close the prepared connection as well if it was never used."""
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None
        await super().close(abort_ssl=abort_ssl)


_CLOSED_EARLY = TransportFailure(
    False, "closed-early", "the exchange closed the connection before the request"
)
_HEADERS_TOO_LARGE = TransportFailure(
    True, "headers-too-large", f"the headers of the reply are larger than {MAX_HEADERS_BYTES} bytes in all"
)


def _headers_bytes(response: aiohttp.ClientResponse) -> int:
    """Return how large the headers of a reply are, each with its colon, blank and line end."""
    return sum(len(name) + len(value) + len(b": \r\n") for name, value in response.raw_headers)


def _is_plain(response: aiohttp.ClientResponse) -> bool:
    """Return whether the body is as the exchange wrote it, by every Content-Encoding of the reply."""
    encodings = ",".join(response.headers.getall("Content-Encoding", ())).split(",")
    return {encoding.strip().lower() for encoding in encodings} <= _PLAIN_ENCODINGS


def _is_too_large(error: BaseException | None) -> bool:
    """Return whether an exception of aiohttp, or its cause, is about the size of the headers."""
    while error is not None:
        if isinstance(error, (_HeadersTooLarge, LineTooLong)):
            return True
        error = error.__cause__
    return False


async def _read_bounded(content: aiohttp.StreamReader, limit_bytes: int) -> bytes | None:
    """Return the complete body, or None as soon as it is larger than ``limit_bytes``."""
    body = bytearray()
    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def _not_connected(error: Exception, timeout_s: float) -> TransportFailure:
    match error:
        case TimeoutError():
            return TransportFailure(False, "connect-timeout", f"could not connect within {timeout_s:g} s")
        case aiohttp.ClientConnectorDNSError():
            return TransportFailure(False, "dns", "the host's name cannot be resolved")
        case aiohttp.ClientConnectorCertificateError(
            certificate_error=ssl.SSLCertVerificationError(verify_message=why)
        ):
            return TransportFailure(False, "tls", f"the host's TLS certificate is not trusted: {why}")
        case aiohttp.ClientSSLError():
            return TransportFailure(False, "tls", "TLS could not be set up with the host")
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.os_error.errno) if error.os_error.errno else "no reason given"
            return TransportFailure(False, "connect", f"could not connect: {why}")
        case _:
            return TransportFailure(False, "connect", f"could not connect ({type(error).__name__})")
