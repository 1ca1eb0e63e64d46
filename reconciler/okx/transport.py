"""One connection, one HTTP request, one reply: the only file that knows aiohttp.

This file decides when bytes may have left: until ``send`` hands the request to aiohttp nothing has
been written, after that anything may have been. It never retries, never follows a redirect, asks no
proxy, keeps no cookie, reads no more than it was told to, and never lets an exception of aiohttp out:
they carry the request's headers, so failures are remade here into words of our own. There is no way
to switch TLS verification off.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL  # aiohttp's own URL type; given as one, a target is sent as it stands

TOTAL_TIMEOUT_S = 10.0
"""Bound on connecting, and again on a request with its whole reply: longer than OKX ever takes to
answer, and short beside the time an unanswered request costs its slot anyway."""

_CHUNK_BYTES = 16 * 1024
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
"""aiohttp's own timers are off: it rounds long ones up to whole seconds. Ours is asyncio.timeout."""

_TURNS_TO_NOTICE_A_CLOSE = 2
"""Turns of the event loop: one polls the socket, the next runs what the poll found."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A complete HTTP reply: its status and its body as it came."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """No reply. ``sent`` is False only if not one byte of the request was written.

    ``code`` is a stable word, ``message`` our own text, without anything of the request's.
    """

    sent: bool
    code: str
    message: str


class OneShot:
    """An open connection for one request. ``open`` makes it, ``send`` uses it up."""

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
        )

    @classmethod
    async def open(cls, url: str, timeout_s: float = TOTAL_TIMEOUT_S) -> OneShot | Failed:
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

    async def lost(self) -> Failed | None:
        """Tell whether the other side has already closed the connection, or spoken out of turn."""
        for _ in range(_TURNS_TO_NOTICE_A_CLOSE):
            await asyncio.sleep(0)
        return None if self._connector.usable else _CLOSED_EARLY

    async def send(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], *, limit_bytes: int
    ) -> RawReply | Failed:
        """Write one request and return its whole reply, of at most ``limit_bytes``; then close.

        ``target`` and ``body`` go out byte for byte. Being cancelled closes the connection too.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(method, target, body, headers, limit_bytes)
        except TimeoutError:
            return Failed(True, "timeout", f"no whole reply within {self._timeout_s:g} s")
        except Exception as error:
            # Whatever aiohttp raises ends here: its exceptions hold the request's headers.
            return self._broken(error)
        finally:
            await self.close()

    async def close(self) -> None:
        """Close without sending; harmless when already closed."""
        await self._session.close()

    async def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], limit_bytes: int
    ) -> RawReply | Failed:
        url = URL(self._url + target, encoded=True)
        async with self._session.request(
            method, url, data=body or None, headers=dict(headers), allow_redirects=False
        ) as response:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                return Failed(True, "encoded", "the reply is compressed although we refused that")
            content = await _read_bounded(response.content, limit_bytes)
        if content is None:
            return Failed(True, "too-large", f"the reply is larger than {limit_bytes} bytes")
        return RawReply(response.status, content)

    def _broken(self, error: Exception) -> Failed:
        if not self._connector.handed_out:
            return _CLOSED_EARLY
        kind = type(error).__name__
        return Failed(True, "broken", f"the connection broke or the reply is not HTTP ({kind})")


class _PreparedConnector(aiohttp.TCPConnector):
    """A connector that connects when told to and gives that one connection out once.

    aiohttp asks its connector for a connection whenever it wants one, for a retry too; from this
    one it gets the prepared connection or none, so a second transmission cannot happen silently.
    """

    def __init__(self) -> None:
        super().__init__(force_close=True, limit=1, use_dns_cache=False)
        self._prepared: ResponseHandler | None = None
        self.handed_out = False

    @property
    def usable(self) -> bool:
        """Whether the prepared connection is open and has had nothing to say yet."""
        # should_close is also set by bytes that came unasked: they would pass for our reply.
        return (
            self._prepared is not None and self._prepared.is_connected() and not self._prepared.should_close
        )

    async def prepare(self, url: URL) -> None:
        """Connect, TLS included, and keep the connection."""
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


_CLOSED_EARLY = Failed(False, "closed-early", "the exchange closed the connection before the request")


async def _read_bounded(content: aiohttp.StreamReader, limit_bytes: int) -> bytes | None:
    """Return the whole body, or None as soon as it is larger than ``limit_bytes``."""
    body = bytearray()
    async for chunk in content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            return None
    return bytes(body)


def _not_connected(error: Exception, timeout_s: float) -> Failed:
    match error:
        case TimeoutError():
            return Failed(False, "connect-timeout", f"could not connect within {timeout_s:g} s")
        case aiohttp.ClientConnectorDNSError():
            return Failed(False, "dns", "the host's name cannot be resolved")
        case aiohttp.ClientConnectorCertificateError(
            certificate_error=ssl.SSLCertVerificationError(verify_message=why)
        ):
            return Failed(False, "tls", f"the host's TLS certificate is not trusted: {why}")
        case aiohttp.ClientSSLError():
            return Failed(False, "tls", "TLS could not be set up with the host")
        case aiohttp.ClientConnectorError():
            why = os.strerror(error.os_error.errno) if error.os_error.errno else "no reason given"
            return Failed(False, "connect", f"could not connect: {why}")
        case _:
            return Failed(False, "connect", f"could not connect ({type(error).__name__})")
