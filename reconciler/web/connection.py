"""One client connection: read the request head, send the response, close.

The cost of a connection is bounded. At most MAX_HEAD_BYTES of its input are stored. Nothing is read while
the response is made. All clients of a response share its body, which is copied into the socket buffer only
as fast as the client reads. One deadline covers the connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from reconciler.web.http_head import MAX_HEAD_BYTES, TOO_LARGE, read_head, response_head
from reconciler.web.request_filter import RequestInfo, RequestRejection
from reconciler.web.responses import Response, rejection_response

DEADLINE_S = 15.0
"""Bound on one connection, accept to close: the page of 10,000 families takes seconds to make and read."""

DISCARD_BYTES = 64 * 1024
"""How many bytes after the head are read and discarded after the response. Closing a connection with unread
bytes resets it, and the client may lose the response. A client that sends more than this may lose it."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close at once and discard what the client has not read."""

Handle = Callable[[RequestInfo], Awaitable[Response]]
"""Answers a request; never raises."""


class ClientConnection:
    """A client's connection, from :meth:`start` until ``on_close`` is called with it."""

    def __init__(
        self, client: socket.socket, handle: Handle, on_close: Callable[[ClientConnection], None]
    ) -> None:
        self._client = client
        self._fd = client.fileno()  # the event loop is several times faster with it than with the socket
        self._handle = handle
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(DEADLINE_S, self.reset)
        self._waiting = False
        self._received = bytearray()
        self._handling: asyncio.Task[None] | None = None
        self._unsent: list[memoryview] = []
        self._lingers = False
        self._discarded = 0

    @property
    def handled(self) -> bool:
        """Whether the response is being made: the client waits for the server."""
        return self._handling is not None

    def start(self) -> None:
        """Serve the client from now on."""
        self._read()  # the request has often arrived with the connection

    def reset(self) -> None:
        """Close at once and discard what was not read or sent yet."""
        if self._unsent:
            with suppress(OSError):
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._close()

    def _read(self) -> None:
        """Read what has arrived of the head; respond once the head is complete or rejected."""
        received = self._receive(MAX_HEAD_BYTES - len(self._received))
        if received == b"":
            self._close()
            return
        self._received += received or b""
        request = read_head(self._received)
        if request is None:
            self._wait(self._loop.add_reader, self._read)
            return
        self._stop_waiting()
        self._lingers = _has_more(request, self._received)
        self._received.clear()
        if isinstance(request, RequestRejection):
            self._send(rejection_response(request))
        else:
            self._handling = self._loop.create_task(self._respond(request))

    async def _respond(self, request: RequestInfo) -> None:
        answer = await self._handle(request)
        self._handling = None
        self._send(answer, with_body=request.method != "HEAD")

    def _send(self, answer: Response, *, with_body: bool = True) -> None:
        head = response_head(answer, int(time.time()))
        self._unsent = [memoryview(head), memoryview(answer.body if with_body else b"")]
        self._write()

    def _write(self) -> None:
        """Write as much as the socket buffer takes; it has room again once the client reads."""
        try:
            self._sent(self._client.sendmsg(self._unsent, (), socket.MSG_DONTWAIT))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._close()
            return
        if any(self._unsent):
            self._wait(self._loop.add_writer, self._write)
        else:
            self._stop_waiting()
            self._finish()

    def _sent(self, number: int) -> None:
        """Drop the bytes that the socket buffer has taken."""
        for place, part in enumerate(self._unsent):
            self._unsent[place] = part[number:]
            number = max(0, number - len(part))

    def _finish(self) -> None:
        """Close. If the client sends more, shut down the write side and wait until the client closes."""
        if not self._lingers:
            self._close()
            return
        with suppress(OSError):  # the client is gone: the next read reports it
            self._client.shutdown(socket.SHUT_WR)
        self._wait(self._loop.add_reader, self._discard)

    def _discard(self) -> None:
        received = self._receive(DISCARD_BYTES)
        if received is not None:
            self._discarded += len(received)
            if not received or self._discarded >= DISCARD_BYTES:
                self._close()

    def _receive(self, most: int) -> bytes | None:
        """Return at most ``most`` bytes of what has arrived: None if nothing, b"" if the client closed."""
        try:
            return self._client.recv(most, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def _wait(self, add: Callable[[int, Callable[[], None]], None], then: Callable[[], None]) -> None:
        """Call ``then`` whenever the socket can be read, or written."""
        if not self._waiting:
            add(self._fd, then)
            self._waiting = True

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._waiting = False

    def _close(self) -> None:
        if self._client.fileno() < 0:
            return
        self._deadline.cancel()
        self._stop_waiting()
        self._client.close()
        self._unsent = []
        if self._handling is not None:
            self._handling.cancel()
        self._on_close(self)


def _has_more(request: RequestInfo | RequestRejection, received: bytearray) -> bool:
    """Tell whether the client sends anything beyond one complete head; junk has been read already."""
    if isinstance(request, RequestRejection):
        return request is TOO_LARGE
    return request.has_body or not received.endswith(b"\r\n\r\n")
