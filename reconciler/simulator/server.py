"""The simulated exchange behind real sockets, on loopback only.

This file decides when a request has arrived (its head was read completely and the simulated inbound delay
is over), how late replies are, and how connections end. ``exchange`` decides the answers. Its clock is the
wall clock at the start, continued by the monotonic one, so it never goes back.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from reconciler.simulator.control import CONTROL_PREFIX, ControlError, Payload, control, seconds_of
from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.http_messages import JSON_HEADERS, SimReply, SimRequest

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""The only addresses served: the control endpoint allows any change to anyone who can connect."""

MAX_BODY_BYTES = 64 * 1024
SHUTDOWN_S = 0.5
"""How long open requests may take to end when the server stops."""


@dataclass(frozen=True, slots=True)
class Network:
    """The simulated network to the exchange.

    A round trip takes ``latency_s``, half of it each way, and each way up to ``jitter_s`` more, at random
    from ``seed``. Arrivals are stamped after the inbound delay, so jitter moves them together or apart as a
    real network does.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    seed: int = 0


class SimulatorServer:
    """A running server; :func:`running_simulator` starts and stops it."""

    def __init__(self, exchange: SimulatedExchange, network: Network, host: str, port: int) -> None:
        if host not in LOOPBACK:
            raise ValueError(f"the simulator serves loopback only ({', '.join(LOOPBACK)}), not {host}")
        self.exchange = exchange
        self._network = network
        self._host = host
        self._port = port
        self._chance = random.Random(network.seed)  # noqa: S311 - jitter, not secrets
        self._epoch = time.time() - time.monotonic()
        self._replug: asyncio.Task[None] | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        """The base URL for the program."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def now(self) -> float:
        """Return the exchange's clock: seconds since the epoch, never going back."""
        return self._epoch + time.monotonic()

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        # handler_cancellation stays off: a caller that disconnects does not undo what has arrived.
        # auto_decompress stays off too: the signature is over the bytes as they were sent.
        server = web.Server(
            self._handle, access_log=None, handler_cancellation=False, auto_decompress=False
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await self._listen()

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._replug is not None:
            self._replug.cancel()
            with suppress(asyncio.CancelledError):
                await self._replug
        if self._runner is not None:
            await self._runner.cleanup()

    async def _listen(self) -> None:
        assert self._runner is not None, "start comes first"
        self._site = web.TCPSite(self._runner, self._host, self._port)
        await self._site.start()
        self._port = self._runner.addresses[0][1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(CONTROL_PREFIX):
            return await self._control(request)
        # Read concurrently: a complete request takes effect even if the caller has disconnected since.
        reading = asyncio.create_task(request.read())
        await self._travel()
        arrived = self.now()
        try:
            body = await reading
        except (ConnectionError, web.HTTPException):  # the caller disconnected, or sent far too much
            return _disconnect(request)
        if len(body) > MAX_BODY_BYTES:
            return _disconnect(request)
        reply = self.exchange.handle(_as_sim_request(request, body), arrived)
        await asyncio.sleep(reply.delay_s)
        await self._travel()
        return await _send(request, reply)

    async def _travel(self) -> None:
        """Wait for the simulated delay in one direction."""
        network = self._network
        await asyncio.sleep(network.latency_s / 2 + self._chance.uniform(0, network.jitter_s))

    async def _control(self, request: web.BaseRequest) -> web.Response:
        name = request.path.removeprefix(CONTROL_PREFIX)
        try:
            payload = _payload(await request.read())
            if (request.method, name) == ("POST", "unplug"):
                return _json(200, self._unplug(payload))
            return _json(200, control(self.exchange, request.method, name, payload, self.now()))
        except (ControlError, ValueError, KeyError) as error:
            return _json(400, {"error": str(error)})

    def _unplug(self, payload: Payload) -> object:
        """Refuse connections for ``seconds``: the listening socket is closed and opened again."""
        seconds = seconds_of(payload)
        if self._replug is None or self._replug.done():
            self._replug = asyncio.create_task(self._unplugged(seconds))
        return {"seconds": seconds}

    async def _unplugged(self, seconds: float) -> None:
        assert self._site is not None, "start comes first"
        await self._site.stop()
        await asyncio.sleep(seconds)
        await self._listen()


@asynccontextmanager
async def running_simulator(
    exchange: SimulatedExchange, *, host: str = "127.0.0.1", port: int = 0, network: Network = Network()
) -> AsyncIterator[str]:
    """Serve ``exchange`` on loopback and yield its base URL; port 0 takes a free one.

    Raises ValueError for a host that is not loopback and OSError when the port is taken.
    """
    server = SimulatorServer(exchange, network, host, port)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


def _as_sim_request(request: web.BaseRequest, body: bytes) -> SimRequest:
    """Return the request as it arrived: ``raw_path`` is the target before any decoding."""
    return SimRequest(
        request.method, request.raw_path, dict(request.headers), body, request.remote or "127.0.0.1"
    )


async def _send(request: web.BaseRequest, reply: SimReply) -> web.StreamResponse:
    if reply.drop:
        return _disconnect(request)
    if reply.cut:
        return await _truncate(request, reply)
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


def _disconnect(request: web.BaseRequest) -> web.Response:
    """Close the connection without a byte; the response returned can no longer be written."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def _truncate(request: web.BaseRequest, reply: SimReply) -> web.StreamResponse:
    """Announce the full body, send half of it and close."""
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _payload(body: bytes) -> Payload:
    payload = json.loads(body) if body else {}
    if not isinstance(payload, dict):
        raise ControlError("the payload is a JSON object")
    return payload


def _json(status: int, value: object) -> web.Response:
    body = json.dumps(value, indent=1, allow_nan=False).encode()
    return web.Response(status=status, headers=JSON_HEADERS, body=body)
