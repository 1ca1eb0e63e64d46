"""The server: a thread of its own with an event loop of its own, so that it can never hold up the loops.

It is handed values through the board and has no way to touch what the loops do. Every request is held
to the guard, every connection to the door; an answer is written whole, with the same headers, and ends
its connection. Starting is synchronous: an address that cannot be listened at is known before anything
else happens. aiohttp's own error pages and log lines never leave it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong

from reconciler.errors import MmpError
from reconciler.sidecar.answers import HEADERS, Answer, Query, Route, text_answer
from reconciler.sidecar.door import TURN, Allowance, Door
from reconciler.sidecar.guard import METHODS, Asked, Guard, Listen, Refusal

MAX_LINE_BYTES = 2048
"""Of the request line, and of each header field: nothing here is asked with a long one."""

MAX_FIELDS = 64
"""Header fields of one request; a browser sends about 20."""

QUEUE = 256
"""Connections the system may have accepted for us. A burst of others makes a probe wait, not fail: at the
server's share of a core a full queue is a third of a second. Who finds it full tries again after one."""

PIECE_BYTES = 64 * 1024
"""Of an answer, written at once: the status page in a few, and one of these for each who does not read."""

UNREAD_BYTES = 128 * 1024
"""Of one answer, handed to the system while nobody reads it: it would take megabytes, and our time."""

FULL_S = 1.0
"""How long nobody is taken in once the system has no more room for a connection of this process."""

LINGER_S = 1.0
"""How long the rest of a body nobody wants is read away, so that its sender still gets the answer."""

HAND_OVER_S = 0.0005
"""How long a thread may keep the interpreter to itself while another waits for it; 5 ms by default. A send
waits for it some twenty times: beside the rendering of 10,000 families that made it 40 to 50 ms late, and
10 to 20 ms with this."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Broken = Callable[[Exception], None]
"""Is told of a bug that made an answer impossible; called in the server's thread."""

START_WITHIN_S = 10.0
SHUT_DOWN_S = 0.1
"""How long stopping waits for answers on their way."""

STOP_WITHIN_S = 2.0
"""How long stopping waits for the thread; it is a daemon, so it never keeps the process."""


class Server:
    """A running server; made by :func:`start_server`."""

    def __init__(self, sockets: list[socket.socket], url: str) -> None:
        self.url = url
        self.door = Door()
        self.allowance = Allowance()
        self._sockets = sockets
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether its thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def used_s(self) -> float:
        """Return how long its thread has been on a core so far, in seconds."""
        assert self._thread is not None
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def start(self, handler: Handler) -> None:
        """Serve from now on; returns once it does."""
        serving: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(handler, serving), name="mmp-sidecar", daemon=True
        )
        self._thread.start()
        serving.result(START_WITHIN_S)

    def stop(self) -> None:
        """Stop listening and end every connection; waits a bounded time for it."""
        if self._thread is not None and self.running:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_WITHIN_S)

    def _run(self, handler: Handler, serving: Future[None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(handler, serving))

    async def _serve(self, handler: Handler, serving: Future[None]) -> None:
        server = _Server(handler, self.door)
        entrance = _Entrance(self._sockets, server, self.allowance)
        entrance.open()
        serving.set_result(None)
        await self._stopping.wait()
        await entrance.close()
        server.pre_shutdown()
        await server.shutdown(SHUT_DOWN_S)
        await self.door.end_all()  # aiohttp leaves those whose answer nobody reads


class _Entrance:
    """Takes connections in, a few in a turn of the event loop, and none while the allowance is used up."""

    def __init__(self, sockets: list[socket.socket], server: _Server, allowance: Allowance) -> None:
        self._sockets = sockets
        self._server = server
        self._allowance = allowance
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._coming: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Take connections in from now on."""
        for listening in self._sockets:
            self._loop.add_reader(listening, self._take_in, listening)

    async def close(self) -> None:
        """Take nobody in any more, and have those inside who are on their way."""
        self._leave_waiting()
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._sockets:
            listening.close()
        await asyncio.gather(*self._coming, return_exceptions=True)

    def _take_in(self, listening: socket.socket) -> None:
        wait_s = self._allowance.wait_s(self._loop.time(), time.thread_time())
        if wait_s > 0:
            self._wait(wait_s)
            return
        try:
            for _ in range(TURN):
                self._have_inside(listening.accept()[0])
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass  # nobody else is there
        except OSError:
            self._wait(FULL_S)

    def _have_inside(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        coming = self._loop.create_task(self._loop.connect_accepted_socket(self._server, connection))
        self._coming.add(coming)
        coming.add_done_callback(self._coming.discard)

    def _wait(self, wait_s: float) -> None:
        self._leave_waiting()
        self._pause = self._loop.call_later(wait_s, self.open)

    def _leave_waiting(self) -> None:
        for listening in self._sockets:
            self._loop.remove_reader(listening)


class _Server(web.Server):
    """aiohttp's server, with connections of our own."""

    def __init__(self, handler: Handler, door: Door) -> None:
        super().__init__(handler)
        self.door = door

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_FIELDS,
            lingering_time=LINGER_S,
        )


class _Connection(web.RequestHandler):
    """aiohttp's connection, which comes in by the door and keeps aiohttp's error pages to itself."""

    __slots__ = ("_door",)

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._door = manager.door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._door.opened(self, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave."""
        self._door.closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be read as a request, in a line that repeats nothing of it."""
        del request, status, message
        if isinstance(exc, LineTooLong):
            return _written(text_answer(431, "the request is too long"))
        return _written(text_answer(400, "this is no HTTP request"))


class _Pieces(Payload):
    """The body of an answer, written as fast as it is read.

    As bytes all of it would go into the connection's buffer at once: a copy for each who asks, and one
    turn of the event loop as long as that takes.
    """

    _autoclose = True  # there is nothing to close

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._body = body
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the whole body as text."""
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body; waits where nobody reads it."""
        for start in range(0, len(self._body), PIECE_BYTES):
            await writer.write(self._body[start : start + PIECE_BYTES])


def start_server(listen: Listen, routes: Mapping[str, Route], *, broken: Broken) -> Server:
    """Listen and serve ``routes``, by path. Raises MmpError where that address cannot be listened at.

    From then on the interpreter hands over between all threads of this process after HAND_OVER_S.
    """
    sockets = _sockets(listen)
    bound = [address.getsockname()[0].partition("%")[0] for address in sockets]
    guard = Guard(bound, (listen.host, *listen.names), machine=socket.gethostname())
    sys.setswitchinterval(HAND_OVER_S)
    server = Server(sockets, _url(listen.host, sockets[0].getsockname()[1]))
    server.start(_handler(guard, routes, server.door, broken))
    return server


def _handler(guard: Guard, routes: Mapping[str, Route], door: Door, broken: Broken) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        door.asked(request.protocol)
        refusal = guard.refusal(_asked(request))
        answer = await _answer(request, routes, broken) if refusal is None else _refused(refusal)
        door.answered(request.protocol)
        return _written(answer)

    return handle


async def _answer(request: web.BaseRequest, routes: Mapping[str, Route], broken: Broken) -> Answer:
    route = routes.get(request.path)
    if route is None:
        return text_answer(404, f"there is nothing here; there is {' '.join(sorted(routes))}")
    try:
        return await route(Query(verbose="verbose" in request.query))
    except Exception as bug:
        broken(bug)
        return text_answer(500, "this is a bug in mmp; its log says where")


def _asked(request: web.BaseRequest) -> Asked:
    hosts = request.headers.getall("Host", [])
    return Asked(request.method, request.raw_path, hosts, request.body_exists)


def _refused(refusal: Refusal) -> Answer:
    allow = {"Allow": ", ".join(METHODS)} if refusal.status == 405 else {}
    return text_answer(refusal.status, refusal.why, **allow)


def _written(answer: Answer) -> web.Response:
    """Return the answer as aiohttp's; it ends the connection."""
    headers = {**HEADERS, "Content-Type": answer.content_type, **(answer.headers or {})}
    response = web.Response(status=answer.status, body=_Pieces(answer.body), headers=headers)
    response.force_close()
    return response


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
        told = f"cannot listen at {_place(listen.host, port)}: {_why(error)}"
        hint = "end what listens there, or name another --listen HOST:PORT; port 0 is any free one"
        raise MmpError("listen-failed", told, hint) from None
    return opened


def _addresses(listen: Listen) -> list[Any]:
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _bound(listening: socket.socket, address: tuple[Any, ...]) -> socket.socket:
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart waits a minute
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)  # its connections' too
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(QUEUE)  # only now it is known that nobody else does
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
