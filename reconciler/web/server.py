"""The HTTP server: it runs in its own thread with its own event loop, so that it never delays the loops.

The server reads the latest state and cannot change what the loops do. There is one cap on connections: at
the cap the oldest connection is closed, so a new one is always accepted. ``connection`` serves and bounds
one connection. Starting is synchronous: an address that cannot be bound is known before anything else
happens.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import parse_qs

from reconciler.errors import MmpError
from reconciler.web.connection import ClientConnection, Handle
from reconciler.web.request_filter import Listen, RequestFilter, RequestInfo
from reconciler.web.responses import Query, Response, Route, rejection_response, text_response

MAX_CONNECTIONS = 256
"""Far more than probes, a scraper and some browsers need. A probe is answered within a few iterations of
the event loop, and is closed only if as many others connect meanwhile."""

ACCEPT_BATCH = 32
"""Connections accepted per iteration of the event loop, so that open connections are served meanwhile."""

BACKLOG = 4096
"""Connections that the kernel completes before they are accepted. If it is full, a client tries again after
a second, which is too late for a probe."""

SEND_BUFFER_BYTES = 64 * 1024
"""The kernel's buffer for a response that the client has not read; its default grows to megabytes."""

RECEIVE_BUFFER_BYTES = 32 * 1024
"""The kernel's buffer for input that is not read here."""

ACCEPT_AGAIN_S = 1.0
"""How long no connection is accepted after this process could open no more files."""

OnError = Callable[[Exception], None]
"""Called in the server's thread with the exception that prevented a response."""

START_WITHIN_S = 10.0
STOP_WITHIN_S = 2.0
"""How long stopping waits for the thread; it is a daemon thread, so it never blocks process exit."""


class Server:
    """The server; made by :func:`start_server`."""

    def __init__(self, sockets: list[socket.socket], url: str) -> None:
        self.url = url
        self._sockets = sockets
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._open: dict[ClientConnection, None] = {}
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def start(self, handle: Handle) -> None:
        """Serve from now on; returns once it does."""
        serving: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(handle, serving), name="mmp-http", daemon=True
        )
        self._thread.start()
        serving.result(START_WITHIN_S)

    def stop(self) -> None:
        """Stop listening and close every connection; waits a bounded time for it."""
        if self._thread is not None and self.running:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_WITHIN_S)

    def _run(self, handle: Handle, serving: Future[None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(handle, serving))

    async def _serve(self, handle: Handle, serving: Future[None]) -> None:
        self._listen(handle)
        serving.set_result(None)
        await self._stopping.wait()
        self._pause()
        for listening in self._sockets:
            listening.close()
        for connection in list(self._open):
            connection.reset()

    def _listen(self, handle: Handle) -> None:
        """Accept connections from now on."""
        for listening in self._sockets:
            if listening.fileno() >= 0:
                self._loop.add_reader(listening, self._accept, listening, handle)

    def _pause(self) -> None:
        """Accept no connection."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)

    def _accept(self, listening: socket.socket, handle: Handle) -> None:
        try:
            for _ in range(ACCEPT_BATCH):
                self._add(listening.accept()[0], handle)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass  # the client is gone
        except OSError:
            self._pause()
            self._loop.call_later(ACCEPT_AGAIN_S, self._listen, handle)

    def _add(self, client: socket.socket, handle: Handle) -> None:
        """Serve a new connection; at the cap, close the oldest one."""
        connection = ClientConnection(client, handle, self._open.__delitem__)
        self._open[connection] = None
        if len(self._open) > MAX_CONNECTIONS:
            self._next_to_close().reset()
        connection.start()

    def _next_to_close(self) -> ClientConnection:
        """Return the oldest connection of the older half that waits for its client, else the oldest one.

        A probe may wait for the event loops; it must survive a flood of new connections meanwhile.
        """
        older = list(islice(self._open, MAX_CONNECTIONS // 2))
        return next((one for one in older if not one.handled), older[0])


def start_server(listen: Listen, routes: Mapping[str, Route], *, on_error: OnError) -> Server:
    """Listen and serve ``routes``, by path. Raises MmpError if the address cannot be bound."""
    sockets = _sockets(listen)
    bound = [address.getsockname()[0].partition("%")[0] for address in sockets]
    request_filter = RequestFilter(bound, (listen.host, *listen.names), machine=socket.gethostname())
    server = Server(sockets, _url(listen.host, sockets[0].getsockname()[1]))
    server.start(partial(_handle, request_filter, routes, on_error))
    return server


async def _handle(
    request_filter: RequestFilter, routes: Mapping[str, Route], on_error: OnError, request: RequestInfo
) -> Response:
    """Answer one request."""
    if rejection := request_filter.rejection(request):
        return rejection_response(rejection)
    path, _, query = request.target.partition("?")
    route = routes.get(path)
    if route is None:
        return text_response(404, f"not found; the paths are {' '.join(sorted(routes))}")
    try:
        return await route(Query(verbose="verbose" in parse_qs(query, keep_blank_values=True)))
    except Exception as error:
        on_error(error)
        return text_response(500, "internal error: a bug in mmp; see its log")


def _sockets(listen: Listen) -> list[socket.socket]:
    """Return a socket bound to every address of the host, all with one port. Raises MmpError."""
    opened: list[socket.socket] = []
    port = listen.port
    try:
        for family, kind, protocol, _, address in _addresses(listen):
            opened.append(_bound(socket.socket(family, kind, protocol), (address[0], port, *address[2:])))
            port = opened[0].getsockname()[1]
    except OSError as error:
        for one in opened:
            one.close()
        message = f"cannot listen at {_place(listen.host, port)}: {_why(error)}"
        hint = "stop the other program, or use another --listen HOST:PORT; port 0 is any free one"
        raise MmpError("listen-failed", message, hint) from None
    return opened


def _addresses(listen: Listen) -> list[Any]:
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _bound(listening: socket.socket, address: tuple[Any, ...]) -> socket.socket:
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart waits a minute
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # its connections' too
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(BACKLOG)  # fails if another process listens
    except OSError:
        listening.close()
        raise
    return listening


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error).lower()
    return os.strerror(error.errno).lower()


def _url(host: str, port: int) -> str:
    return f"http://{_place(host, port)}"


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
