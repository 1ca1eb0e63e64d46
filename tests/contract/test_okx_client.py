"""The client against a scripted server on loopback: the bytes it sends, and what it makes of every reply.

The server is a bare socket that records what arrives and then does what its script says, so that the
tests see exactly what an exchange, or someone between us and it, would see.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest

from reconciler.core.circuit_breaker import WORKS
from reconciler.core.events import ClockMeasured, ClockUnmeasured, Event
from reconciler.core.model import (
    AccountInfo,
    Environment,
    LiveRead,
    LiveRow,
    Quantity,
    Setting,
    parse_family,
)
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import SignedRequest
from reconciler.errors import AccountProblem
from reconciler.okx.client import (
    CLOCK_MAX_AGE_FOR_WRITES_S,
    CLOCK_MAX_AGE_S,
    OkxClient,
    OkxConnection,
    OkxTradingClient,
)
from reconciler.okx.credentials import Credentials
from reconciler.okx.exchange_clock import ClockOffset, ExchangeClock
from reconciler.okx.replies import LIVE_REPLY_LIMIT_BYTES, REPLY_LIMIT_BYTES
from reconciler.okx.transport import MAX_HEADERS_BYTES, SingleUseConnection, TransportFailure
from reconciler.okx.wire import USER_AGENT, parse_base_url
from reconciler.ports import Exchange, TradingExchange
from reconciler.secret import Secret

KEY = "0b7c9c1e-5f0a-4a52-9d7e-0123456789ab"
SECRET = "22582BD0CFF14C41EDBF1AB98506286D"
PHRASE = "Sesame-Open!9"
CREDENTIALS = Credentials(Secret(KEY), Secret(SECRET), Secret(PHRASE))

FAMILY = parse_family("BTC-USD")
SETTING = Setting(5000, 2000, Quantity("100"))
BODY = b'{"instFamily":"BTC-USD","timeInterval":"5000","frozenInterval":"2000","qtyLimit":"100"}'
ROW = {"instFamily": "BTC-USD", **SETTING.wire()}
LIVE_ROW = {**ROW, "mmpFrozen": False, "mmpFrozenUntil": ""}
ACCOUNT = {"uid": "7", "mainUid": "7", "acctLv": "4", "perm": "read_only,trade", "ip": "", "label": "d"}

NOON = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)
SHORT_S = 0.3
"""The total deadline in tests that run into it."""


class HandClock:
    """A clock that stands still until the test moves it; ``lag`` makes its wall run behind."""

    def __init__(self, *, lag_s: float = 0.0) -> None:
        self.elapsed_s = 0.0
        self.asleep_s = 5000.0
        self.lag_s = lag_s

    def now(self) -> float:
        return 1000.0 + self.elapsed_s

    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.elapsed_s - self.lag_s)

    def suspended_s(self) -> float:
        return self.asleep_s

    async def sleep_until(self, until: float) -> None:
        self.elapsed_s = max(self.elapsed_s, until - 1000.0)


@dataclass(frozen=True)
class Arrived:
    """One request as it arrived: its raw head, its header fields, and its body."""

    method: str
    target: str
    names: tuple[str, ...]
    headers: dict[str, str]
    body: bytes


Script = Callable[[Arrived, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A raw server: what has arrived, and what to do about the next request to a path."""

    clock: HandClock
    scripts: dict[str, list[Script]] = field(default_factory=dict)
    arrived: list[Arrived] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    greet: Callable[[asyncio.StreamWriter], None] | None = None

    @property
    def posts(self) -> list[Arrived]:
        return [request for request in self.arrived if request.method == "POST"]

    def gets(self, target: str) -> int:
        return sum(request.target == target for request in self.arrived if request.method == "GET")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.greet is not None:
                self.greet(writer)
            while (request := await _read_request(reader)) is not None:
                self.arrived.append(request)
                await self._next_script(request)(request, reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _next_script(self, request: Arrived) -> Script:
        queue = self.scripts.get(f"{request.method} {request.target}", [])
        if queue:
            return queue.pop(0)
        if request.target.endswith("/public/time"):
            epoch_s = NOON.timestamp() + self.clock.elapsed_s
            return say(envelope({"ts": str(round(epoch_s * 1000))}))
        return say(envelope(ROW if request.method == "POST" else LIVE_ROW))


async def _read_request(reader: asyncio.StreamReader) -> Arrived | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].decode("ascii").split("\r\n")
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1"
    fields = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in fields}
    assert len(headers) == len(fields), "a header was sent twice"
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Arrived(method, target, tuple(name for name, _ in fields), headers, body)


def envelope(*rows: object, code: str = "0", msg: str = "") -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": rows}).encode()


def http(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    length = f"Content-Length: {len(body)}"
    return "\r\n".join([f"HTTP/1.1 {status}", length, *fields, "", ""]).encode() + body


def say(body: bytes, status: str = "200 OK", *fields: str) -> Script:
    return raw(http(body, status, *fields))


def raw(data: bytes) -> Script:
    """Write ``data`` as it is and close."""

    async def script(_: Arrived, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    return script


async def silent(_: Arrived, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Answer nothing until the client goes away."""
    await reader.read()


async def reset(_: Arrived, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Break the connection without an orderly end."""
    writer.transport.abort()


def drip(data: bytes, pause_s: float) -> Script:
    """Write ``data`` one byte at a time."""

    async def script(_: Arrived, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for number in range(len(data)):
                writer.write(data[number : number + 1])
                await writer.drain()
                await asyncio.sleep(pause_s)

    return script


@dataclass
class World:
    """A server, a client of it, and a clock."""

    server: Server
    clock: HandClock
    client: OkxTradingClient
    exchange_clock: ExchangeClock
    events: list[Event]
    """What the exchange's clock reported."""

    def signed(self) -> SignedRequest:
        return self.client.sign(FAMILY, SETTING)

    async def opened(self) -> OkxConnection:
        connection = await self.client.open()
        assert isinstance(connection, OkxConnection), connection
        return connection

    async def set_mmp(self) -> Reply:
        connection = await self.opened()
        return await connection.send(self.signed(), deadline=self.clock.now() + 2.0)

    def on_post(self, *scripts: Script) -> None:
        self.server.scripts["POST /api/v5/account/mmp-config"] = list(scripts)

    def on_get(self, target: str, *scripts: Script) -> None:
        self.server.scripts[f"GET /api/v5/{target}"] = list(scripts)


def play(
    scenario: Callable[[World], Coroutine[Any, Any, None]],
    *,
    environment: Environment = Environment.LIVE,
    timeout_s: float = 5.0,
    lag_s: float = 0.0,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Run ``story`` in a fresh world, and check that the loop had nothing to complain about."""

    async def run() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with _world(environment, timeout_s, lag_s, tls) as world:
            await scenario(world)
        assert complaints == []

    asyncio.run(run())


@asynccontextmanager
async def _world(
    environment: Environment, timeout_s: float, lag_s: float, tls: ssl.SSLContext | None
) -> Any:
    clock = HandClock(lag_s=lag_s)
    server = Server(clock)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    base_url = parse_base_url(f"{scheme}://127.0.0.1:{server.port}", frozenset({"127.0.0.1"}))
    events: list[Event] = []
    exchange_clock = ExchangeClock(events.append)
    client = OkxTradingClient(
        base_url, environment, CREDENTIALS, clock, timeout_s=timeout_s, exchange_clock=exchange_clock
    )
    try:
        yield World(server, clock, client, exchange_clock, events)
    finally:
        await exchange_clock.aclose()
        listener.close()
        await settle()


async def settle() -> None:
    """Let the server's tasks see that their connections are gone."""
    deadline = time.monotonic() + 2.0
    while len(asyncio.all_tasks()) > 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.001)


def no_secret_in(*values: object) -> None:
    text = " ".join(f"{value!r} {value!s}" for value in values)
    assert not any(secret.lower() in text.lower() for secret in (KEY, SECRET, PHRASE)), text


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    no_secret_in(*(record.getMessage() for record in caplog.records))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# What is sent


def test_the_clients_are_the_ports() -> None:
    async def scenario(world: World) -> None:
        trading: TradingExchange = world.client
        reading: Exchange = world.client
        assert trading is reading

    play(scenario)


def test_a_reading_client_has_no_way_to_write() -> None:
    assert not {"open", "sign", "send", "reset"} & set(dir(OkxClient))


def test_opening_connects_and_writes_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        connections = world.server.connections
        connection = await world.opened()
        await asyncio.sleep(0.02)
        assert world.server.connections == connections + 1
        assert world.server.posts == []
        await connection.send(world.signed(), deadline=world.clock.now())
        assert world.server.connections == connections + 1
        assert len(world.server.posts) == 1

    play(scenario)


def test_exactly_the_signed_bytes_arrive() -> None:
    async def scenario(world: World) -> None:
        await world.set_mmp()
        [request] = world.server.posts
        assert (request.target, request.body) == ("/api/v5/account/mmp-config", BODY)
        signed = f"{request.headers['ok-access-timestamp']}POST{request.target}".encode() + request.body
        digest = hmac.digest(SECRET.encode(), signed, hashlib.sha256)
        assert base64.b64decode(request.headers["ok-access-sign"]) == digest

    play(scenario)


@pytest.mark.parametrize("environment", list(Environment))
def test_these_headers_arrive_and_no_others(environment: Environment) -> None:
    async def scenario(world: World) -> None:
        await world.set_mmp()
        [request] = world.server.posts
        headers = dict(request.headers)
        assert headers.pop("host") == f"127.0.0.1:{world.server.port}"
        assert len(headers.pop("ok-access-sign")) == 44
        demo = {"x-simulated-trading": "1"} if environment is Environment.DEMO else {}
        assert headers == demo | {
            "accept": "*/*",
            "accept-encoding": "identity",
            "connection": "close",
            "content-length": str(len(BODY)),
            "content-type": "application/json",
            "ok-access-key": KEY,
            "ok-access-passphrase": PHRASE,
            "ok-access-timestamp": "2026-08-01T12:00:00.000Z",
            "user-agent": USER_AGENT,
        }

    play(scenario, environment=environment)


def test_reads_are_signed_without_a_body() -> None:
    async def scenario(world: World) -> None:
        await world.client.read_live()
        request = world.server.arrived[-1]
        assert (request.method, request.target, request.body) == ("GET", "/api/v5/account/mmp-config", b"")
        signed = f"{request.headers['ok-access-timestamp']}GET{request.target}".encode()
        digest = hmac.digest(SECRET.encode(), signed, hashlib.sha256)
        assert base64.b64decode(request.headers["ok-access-sign"]) == digest

    play(scenario)


def test_the_question_for_the_time_carries_no_key() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        [request] = world.server.arrived
        assert not [name for name in request.headers if name.startswith("ok-")]

    play(scenario)


def test_the_environment_cannot_redirect_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def scenario(world: World) -> None:
        assert (await world.set_mmp()).reply_class is ReplyClass.ACCEPTED
        assert isinstance(await world.client.read_live(), LiveRead)
        assert not [request for request in world.server.arrived if "authorization" in request.headers]

    play(scenario)


def test_a_cookie_is_not_stored() -> None:
    async def scenario(world: World) -> None:
        world.on_get("account/config", say(envelope(ACCOUNT), "200 OK", "Set-Cookie: a=b; Path=/"))
        await world.client.account()
        await world.client.read_live()
        assert "cookie" not in world.server.arrived[-1].headers

    play(scenario)


# What is not sent


def test_a_passed_deadline_writes_nothing() -> None:
    async def scenario(world: World) -> None:
        connection = await world.opened()
        request = world.signed()
        world.clock.elapsed_s += 2.001
        reply = await connection.send(request, deadline=1002.0)
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "late")
        await settle()
        assert world.server.posts == []

    play(scenario)


@pytest.mark.parametrize(("asleep_s", "sent"), [(0.0, True), (0.09, True), (0.11, False), (3600.0, False)])
def test_after_a_suspension_nothing_is_written(asleep_s: float, sent: bool) -> None:
    async def scenario(world: World) -> None:
        connection = await world.opened()
        request = world.signed()
        world.clock.asleep_s += asleep_s
        reply = await connection.send(request, deadline=world.clock.now() + 2.0)
        expected = (ReplyClass.ACCEPTED, "0") if sent else (ReplyClass.NOT_SENT, "suspended")
        assert (reply.reply_class, reply.code) == expected
        await settle()
        assert len(world.server.posts) == sent

    play(scenario)


def test_a_connection_the_exchange_closed_meanwhile_is_not_written_to() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        world.server.greet = lambda writer: writer.close()
        connection = await world.opened()
        await asyncio.sleep(0.02)
        reply = await connection.send(world.signed(), deadline=world.clock.now())
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "closed-early")
        assert world.server.posts == []

    play(scenario)


def test_a_close_the_loop_has_not_seen_yet_is_noticed_before_writing() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connection = await SingleUseConnection.open(f"http://127.0.0.1:{listener.getsockname()[1]}")
            assert isinstance(connection, SingleUseConnection)
            assert await connection.lost() is None
            accepted, _ = listener.accept()
            accepted.close()
            lost = await connection.lost()
            assert lost is not None
            assert not lost.sent
            await connection.close()

    asyncio.run(scenario())


def test_a_request_that_found_its_connection_closed_was_not_sent() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            connection = await SingleUseConnection.open(f"http://127.0.0.1:{listener.getsockname()[1]}")
            assert isinstance(connection, SingleUseConnection)
            listener.accept()[0].close()
            await asyncio.sleep(0.02)
            failed = await connection.send("GET", "/", b"", {}, limit_bytes=10)
            assert isinstance(failed, TransportFailure)
            assert not failed.sent

    asyncio.run(scenario())


def test_an_answer_before_the_question_is_not_taken_for_one() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        world.server.greet = lambda writer: writer.write(http(envelope(ROW)))
        connection = await world.opened()
        await asyncio.sleep(0.02)
        reply = await connection.send(world.signed(), deadline=world.clock.now())
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "closed-early")
        assert world.server.posts == []

    play(scenario)


def test_a_connection_is_good_for_one_request() -> None:
    async def scenario(world: World) -> None:
        connection = await world.opened()
        request = world.signed()
        assert (await connection.send(request, deadline=1e9)).reply_class is ReplyClass.ACCEPTED
        assert (await connection.send(request, deadline=1e9)).reply_class is ReplyClass.NOT_SENT
        assert len(world.server.posts) == 1

    play(scenario)


def test_closing_is_harmless_at_any_time() -> None:
    async def scenario(world: World) -> None:
        connection = await world.opened()
        await connection.close()
        await connection.close()
        assert (await connection.send(world.signed(), deadline=1e9)).reply_class is ReplyClass.NOT_SENT
        await settle()
        assert world.server.posts == []

    play(scenario)


async def _refused_port() -> int:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    return port


@pytest.mark.parametrize(("scheme", "code"), [("http", "connect"), ("https", "connect")])
def test_a_refused_connection_is_not_sent(scheme: str, code: str) -> None:
    async def scenario() -> None:
        base_url = parse_base_url(f"{scheme}://127.0.0.1:{await _refused_port()}", frozenset({"127.0.0.1"}))
        client = OkxTradingClient(base_url, Environment.LIVE, CREDENTIALS, HandClock())
        for reply in (await client.open(), await client.read_live(), await client.sync_clock()):
            assert isinstance(reply, Reply)
            assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, code)
            assert "refused" in reply.message
            no_secret_in(reply)

    asyncio.run(scenario())


def test_a_name_that_cannot_be_resolved_is_not_sent() -> None:
    async def scenario() -> None:
        base_url = parse_base_url("https://no-such-host.invalid", frozenset({"no-such-host.invalid"}))
        client = OkxTradingClient(base_url, Environment.LIVE, CREDENTIALS, HandClock(), timeout_s=5.0)
        reply = await client.open()
        assert isinstance(reply, Reply)
        assert reply.reply_class is ReplyClass.NOT_SENT
        assert reply.code in ("dns", "connect-timeout")

    asyncio.run(scenario())


def test_an_exchange_that_accepts_nothing_is_given_up() -> None:
    async def scenario(world: World) -> None:
        # The port answers, but never with TLS: connecting must end all the same.
        base_url = parse_base_url(f"https://127.0.0.1:{world.server.port}", frozenset({"127.0.0.1"}))
        client = OkxTradingClient(base_url, Environment.LIVE, CREDENTIALS, world.clock, timeout_s=SHORT_S)
        reply = await client.sync_clock()
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "connect-timeout")

    play(scenario)


# A certificate nobody trusts, and its key, which is good for nothing else.
_TEST_KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3m4w9HqpZPuXthVM
JCUHtNiQ1/zQ4staMxVlIL7DY2mhRANCAARMrPgr8J7TyeoiBA0hQEDA+RymEALT
CsOty7bqUucOZS5v2Kl9Vn6Dc0MomqUmND4qGpomXzft67H7848cFLXD"""
_TEST_CERTIFICATE = """
MIIBmjCCAUGgAwIBAgIUDgyGWxqqlh5tIAYrA/aAegMrVrAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjIxMTA1NVoYDzIxMjYxMDI5
MjExMDU1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARMrPgr8J7TyeoiBA0hQEDA+RymEALTCsOty7bqUucOZS5v2Kl9Vn6D
c0MomqUmND4qGpomXzft67H7848cFLXDo28wbTAdBgNVHQ4EFgQU2l7oDPB3wZw0
LmzOP9nxqt6G9K0wHwYDVR0jBBgwFoAU2l7oDPB3wZw0LmzOP9nxqt6G9K0wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgIQg8C6LXviYfgHrt0N/MfzEOtJuQb/m3ikZgGalpWFACIDyb
c2vo+9I9ByFWUku6R1pRNw6ZgS5R8lw/7BFl6QHE"""


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    parts = (("PRIVATE KEY", _TEST_KEY), ("CERTIFICATE", _TEST_CERTIFICATE))
    pem = "".join(f"-----BEGIN {name}-----{text}\n-----END {name}-----\n" for name, text in parts)
    (tmp_path / "server.pem").write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def test_a_certificate_of_an_unknown_authority_is_refused(tls: ssl.SSLContext) -> None:
    async def scenario(world: World) -> None:
        reply = await world.client.sync_clock()
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "tls")
        assert "certificate" in reply.message
        assert world.server.arrived == []

    play(scenario, tls=tls)


def test_a_connection_prepared_over_tls_sends(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)

    async def scenario(world: World) -> None:
        assert (await world.set_mmp()).reply_class is ReplyClass.ACCEPTED
        assert len(world.server.posts) == 1

    play(scenario, tls=tls)


# What becomes of a request that was sent

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ACCEPTANCE = http(envelope(ROW))
UNANSWERED: list[tuple[str, Script, str]] = [
    ("closed without a byte", raw(b""), "broken"),
    ("reset", reset, "broken"),
    ("half a status line", raw(b"HTTP/1.1 20"), "broken"),
    ("half the headers", raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "broken"),
    ("no body at all", raw(ACCEPTANCE[: -len(envelope(ROW))]), "broken"),
    ("one byte missing", raw(ACCEPTANCE[:-1]), "broken"),
    ("not HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "broken"),
    ("header without a colon", raw(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), "broken"),
    ("two lengths", raw(http(envelope(ROW), "200 OK", "Content-Length: 3")), "broken"),
    ("negative length", raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "broken"),
    ("endless status", raw(b"HTTP/1.1 200 " + b"x" * 2_000_000), "headers-too-large"),
    ("endless header", raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000), "headers-too-large"),
    (
        "endless headers",
        raw(b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 100 + b"\r\n") * 20_000),
        "headers-too-large",
    ),
    ("large header", say(envelope(ROW), "200 OK", "X: " + "x" * MAX_HEADERS_BYTES), "headers-too-large"),
    ("large headers", say(envelope(ROW), "200 OK", *["X: " + "x" * 5_000] * 60), "headers-too-large"),
    ("headers cut short", raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000), "broken"),
    ("chunk cut short", raw(CHUNKED + b"100\r\n" + envelope(ROW)), "broken"),
    ("chunk of no size", raw(CHUNKED + b"zz\r\n" + envelope(ROW)), "broken"),
    ("gzip", say(b"\x1f\x8b\x08\x00", "200 OK", "Content-Encoding: gzip"), "encoded"),
    ("said to be gzip", say(envelope(ROW), "200 OK", "Content-Encoding: gzip"), "encoded"),
    ("gzip in a list", say(envelope(ROW), "200 OK", "Content-Encoding: identity, br"), "encoded"),
    (
        "gzip in a second header",
        say(envelope(ROW), "200 OK", "Content-Encoding: identity", "Content-Encoding: gzip"),
        "encoded",
    ),
    ("too large", say(b" " * REPLY_LIMIT_BYTES + envelope(ROW)), "too-large"),
    (
        "too large in chunks",
        raw(CHUNKED + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 5 + b"0\r\n\r\n"),
        "too-large",
    ),
    ("endless body", raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000), "too-large"),
    ("silence", silent, "timeout"),
    ("dripping headers", drip(ACCEPTANCE, 0.05), "timeout"),
    ("dripping body", drip(http(b" " * 1000), 0.01), "timeout"),
    ("a proxy's page", say(b"<html>504</html>", "504 Gateway Timeout"), "not-okx"),
    ("a page with status 200", say(b"<html>hello</html>"), "not-okx"),
    ("nothing to say", raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "not-okx"),
    ("switching protocols", raw(b"HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n"), "not-okx"),
    ("acceptance under 500", say(envelope(ROW), "500 Oops"), "bad-status"),
]


@pytest.mark.parametrize(
    ("script", "code"), [row[1:] for row in UNANSWERED], ids=[row[0] for row in UNANSWERED]
)
def test_a_request_without_a_complete_reply_is_unknown_and_never_repeated(
    script: Script, code: str
) -> None:
    async def scenario(world: World) -> None:
        world.on_post(script)
        reply = await world.set_mmp()
        assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, code), reply
        no_secret_in(reply, reply.message)
        assert len(world.server.posts) == 1

    play(scenario, timeout_s=SHORT_S)


@pytest.mark.parametrize("encoding", ["identity", "Identity", "", " ", "none", "utf-8", "UTF-8"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_reply_that_is_not_compressed_is_read_however_a_gateway_says_so(
    encoding: str, times: int
) -> None:
    async def scenario(world: World) -> None:
        fields = [f"Content-Encoding: {encoding}"] * times
        world.on_post(say(envelope(ROW), "200 OK", *fields))
        assert (await world.set_mmp()).reply_class is ReplyClass.ACCEPTED

    play(scenario)


@pytest.mark.parametrize("script", [raw(b""), reset, raw(ACCEPTANCE[:-1])])
def test_a_read_is_not_repeated_behind_our_back_either(script: Script) -> None:
    async def scenario(world: World) -> None:
        world.on_get("account/mmp-config", script)
        reply = await world.client.read_live()
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "broken")
        assert world.server.gets("/api/v5/account/mmp-config") == 1

    play(scenario)


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
def test_a_redirect_is_not_followed(status: str) -> None:
    async def scenario(world: World) -> None:
        other = Server(world.clock)
        listener = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        here = f"Location: http://127.0.0.1:{world.server.port}/api/v5/account/mmp-config"
        away = f"Location: http://127.0.0.1:{port}/api/v5/account/mmp-config"
        for location in (here, away):
            world.on_post(say(b"", status, location))
            reply = await world.set_mmp()
            assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "redirect")
        listener.close()
        assert (len(world.server.posts), other.connections) == (2, 0)

    play(scenario)


@pytest.mark.parametrize("status", ["200 OK", "400 B", "401 U", "429 T", "500 S", "503 S"])
@pytest.mark.parametrize(
    ("code", "reply_class"),
    [
        ("50011", ReplyClass.RATE_LIMITED),
        ("50013", ReplyClass.BUSY),
        ("50004", ReplyClass.AMBIGUOUS),
        ("50102", ReplyClass.CLOCK),
        ("51000", ReplyClass.WRONG_SETTINGS),
        ("51021", ReplyClass.NOT_OPEN),
        ("50119", ReplyClass.ACCOUNT),
        ("50101", ReplyClass.ENVIRONMENT),
        ("50022", ReplyClass.UNAVAILABLE),
        ("50112", ReplyClass.OUR_BUG),
        ("59999", ReplyClass.AMBIGUOUS),
    ],
)
def test_an_answer_is_judged_by_its_code(status: str, code: str, reply_class: ReplyClass) -> None:
    async def scenario(world: World) -> None:
        world.on_post(say(envelope(code=code, msg=f"key {KEY}, sign {'A' * 43}="), status))
        reply = await world.set_mmp()
        assert reply == Reply(reply_class, code, "key ***, sign ***")

    play(scenario)


@pytest.mark.parametrize(
    "reply",
    [
        ACCEPTANCE,
        http(envelope(ROW), "201 Created"),
        http(envelope(ROW), "200 OK", "Content-Encoding: identity"),
        http(envelope(ROW), "200 OK", "Content-Type: text/plain"),
        b"HTTP/1.1 200 OK\r\n\r\n" + envelope(ROW),
        CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(envelope(ROW)), envelope(ROW)),
        b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTANCE,
        http(envelope(ROW), "200 OK", "Content-Security-Policy: " + "x" * 100_000),
        http(envelope(ROW), "200 " + "O" * 20_000),
        http(envelope(ROW), "200 OK", *[f"X-Hop-{number}: y" for number in range(5_000)]),
        http(envelope(ROW), "200 OK", "Retry-After: 7"),
    ],
    ids=[
        "plain",
        "201",
        "identity",
        "other type",
        "until closed",
        "chunked",
        "after 100",
        "long header",
        "long status",
        "many headers",
        "retry after",
    ],
)
def test_an_acceptance_in_any_wrapping_is_one(reply: bytes) -> None:
    async def scenario(world: World) -> None:
        world.on_post(raw(reply))
        assert await world.set_mmp() == Reply(ReplyClass.ACCEPTED, "0", "", ((FAMILY, SETTING),))

    play(scenario)


@pytest.mark.parametrize(
    ("script", "code", "wait_s"),
    [
        (say(envelope(code="50011"), "429 T", "Retry-After: 7"), "50011", 7.0),
        (say(envelope(code="50013"), "503 S", "Retry-After: 3600"), "50013", 60.0),
        (say(b"<html>429</html>", "429 T", "retry-after: 12"), "not-okx", 12.0),
        (say(b"<html>503</html>", "503 S", "Retry-After: Sat, 01 Aug 2026 12:00:30 GMT"), "not-okx", 30.0),
        (say(b"<html>503</html>", "503 S", "Retry-After: soon"), "not-okx", None),
        (say(b"<html>503</html>", "503 S"), "not-okx", None),
        (say(b"x" * REPLY_LIMIT_BYTES * 2, "503 S", "Retry-After: 12"), "too-large", 12.0),
        (say(b"", "503 S", "Content-Encoding: gzip", "Retry-After: 12"), "encoded", 12.0),
        (say(envelope(ROW), "500 S", "Retry-After: 12"), "bad-status", 12.0),
        (raw(b""), "broken", None),
    ],
)
def test_what_a_reply_asks_for_in_retry_after_is_passed_on(
    script: Script, code: str, wait_s: float | None
) -> None:
    async def scenario(world: World) -> None:
        world.on_post(script)
        reply = await world.set_mmp()
        assert (reply.code, reply.retry_after_s) == (code, wait_s)
        for path in (
            "account/mmp-config",
            "account/config",
            "public/time",
            "public/underlying?instType=OPTION",
        ):
            world.on_get(path, script)
        for ask in (
            world.client.read_live,
            world.client.account,
            world.client.listed_families,
            world.client.sync_clock,
        ):
            world.client.exchange_clock.address.health = (
                WORKS  # else nothing is asked before the wait is over
            )
            answer = await ask()
            if code == "bad-status" or (code == "too-large" and ask == world.client.read_live):
                continue  # what is an acceptance or small enough for this one
            assert isinstance(answer, Reply)
            assert (answer.code, answer.retry_after_s) == (code, wait_s), ask

    play(scenario, lag_s=500.0)


def test_a_wrapped_refusal_is_read_as_what_it_is_about() -> None:
    async def scenario(world: World) -> None:
        row = {"instFamily": "BTC-USD", "sCode": "51000", "sMsg": f"of {KEY}"}
        world.on_post(say(envelope(row, code="1", msg="All operations failed")))
        assert await world.set_mmp() == Reply(
            ReplyClass.WRONG_SETTINGS,
            "51000",
            "code 1 with sCode 51000: All operations failed; of ***",
            wrapper="1",
        )

    play(scenario)


def test_being_cancelled_in_flight_closes_and_ends() -> None:
    async def scenario(world: World) -> None:
        world.on_post(silent)
        task = asyncio.create_task(world.set_mmp())
        while not world.server.posts:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert len(asyncio.all_tasks()) == 1, "the server still has the connection"

    play(scenario)


# Reading


def test_live_settings_are_read_completely() -> None:
    async def scenario(world: World) -> None:
        rows = [{**LIVE_ROW, "instFamily": f"F{number}-USD"} for number in range(10_000)]
        world.on_get("account/mmp-config", say(envelope(*rows)))
        read = await world.client.read_live()
        assert isinstance(read, LiveRead)
        assert len(read.rows) == 10_000

    play(scenario)


def test_even_the_list_of_all_families_is_bounded() -> None:
    async def scenario(world: World) -> None:
        world.on_get("account/mmp-config", say(b" " * LIVE_REPLY_LIMIT_BYTES + envelope()))
        reply = await world.client.read_live()
        assert isinstance(reply, Reply)
        assert reply.code == "too-large"

    play(scenario)


def test_a_read_begins_before_its_first_byte() -> None:
    async def scenario(world: World) -> None:
        async def slow(_: Arrived, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            world.clock.elapsed_s += 3.0
            await say(envelope(LIVE_ROW))(_, __, writer)

        await world.client.sync_clock()
        world.clock.elapsed_s += 5.0
        world.on_get("account/mmp-config", slow)
        read = await world.client.read_live()
        assert isinstance(read, LiveRead)
        assert (read.begun_at, read.took_s, read.ended_at) == (1005.0, 3.0, 1008.0)
        world.on_get("account/mmp-config?instFamily=BTC-USD", slow)
        one = await world.client.read_family(FAMILY)
        assert isinstance(one, LiveRead)
        assert (one.begun_at, one.took_s) == (1008.0, 3.0)

    play(scenario)


def test_one_family_is_read_by_its_name() -> None:
    async def scenario(world: World) -> None:
        other = {**LIVE_ROW, "instFamily": "ETH-USD"}
        world.on_get(
            "account/mmp-config?instFamily=BTC-USD", say(envelope(other, LIVE_ROW)), say(envelope())
        )
        read = await world.client.read_family(FAMILY)
        assert read == LiveRead(1000.0, {FAMILY: LiveRow(SETTING)}, asked=FAMILY)
        request = world.server.arrived[-1]
        signed = f"{request.headers['ok-access-timestamp']}GET{request.target}".encode()
        digest = hmac.digest(SECRET.encode(), signed, hashlib.sha256)
        assert base64.b64decode(request.headers["ok-access-sign"]) == digest
        assert await world.client.read_family(FAMILY) == LiveRead(1000.0, {}, asked=FAMILY)

    play(scenario)


def test_a_read_of_one_family_that_is_refused_is_no_read() -> None:
    async def scenario(world: World) -> None:
        late = say(envelope(code="50102"), "401 U")
        path = "account/mmp-config?instFamily=BTC-USD"
        world.on_get(path, late, say(envelope(code="51001")))
        reply = await world.client.read_family(FAMILY)
        assert isinstance(reply, Reply)
        assert reply.code == "51001"
        assert world.server.gets("/api/v5/public/time") == 2, "it was asked again with the clock set right"

    play(scenario)


def test_the_account_is_read() -> None:
    async def scenario(world: World) -> None:
        world.on_get("account/config", say(envelope(ACCOUNT)))
        info = await world.client.account()
        assert info == AccountInfo("7", "7", "4", frozenset({"read_only", "trade"}), (), "d")

    play(scenario)


# A key that may be replaced


OTHER = Credentials(Secret("another-key"), Secret("another-secret"), Secret("another-phrase"))
UNREADABLE = AccountProblem("credentials-file", "the key cannot be read")


class Kept:
    """A key as it is kept: what it is now, or why it cannot be read."""

    def __init__(self) -> None:
        self.now: Credentials | AccountProblem = CREDENTIALS

    def reload(self) -> Credentials:
        if isinstance(self.now, AccountProblem):
            raise self.now
        return self.now


def rekeying(world: World) -> tuple[OkxTradingClient, Kept]:
    """Return a client of the world whose key may be replaced."""
    base_url = parse_base_url(f"http://127.0.0.1:{world.server.port}", frozenset())
    kept = Kept()
    client = OkxTradingClient(base_url, Environment.LIVE, CREDENTIALS, world.clock, reload=kept.reload)
    return client, kept


def test_a_key_that_was_given_is_never_another_one() -> None:
    async def scenario(world: World) -> None:
        assert not world.client.key_changed()

    play(scenario)


@pytest.mark.parametrize("now", [OTHER, UNREADABLE])
def test_a_key_replaced_is_noticed_and_the_old_one_signs_until_the_account_is_asked(
    now: Credentials | AccountProblem,
) -> None:
    async def scenario(world: World) -> None:
        client, kept = rekeying(world)
        await client.sync_clock()
        assert not client.key_changed()
        kept.now = now
        assert client.key_changed()
        assert client.sign(FAMILY, SETTING).headers["OK-ACCESS-KEY"] == KEY
        await client.read_live()
        assert world.server.arrived[-1].headers["ok-access-key"] == KEY

    play(scenario)


def test_asking_for_the_account_takes_the_key_as_it_is_now() -> None:
    async def scenario(world: World) -> None:
        client, kept = rekeying(world)
        kept.now = OTHER
        world.on_get("account/config", say(envelope(ACCOUNT)))
        assert isinstance(await client.account(), AccountInfo)
        assert world.server.arrived[-1].headers["ok-access-key"] == "another-key"
        assert not client.key_changed()
        assert client.sign(FAMILY, SETTING).headers["OK-ACCESS-KEY"] == "another-key"

    play(scenario)


def test_a_key_that_cannot_be_read_asks_for_nothing() -> None:
    async def scenario(world: World) -> None:
        client, kept = rekeying(world)
        kept.now = UNREADABLE
        with pytest.raises(AccountProblem):
            await client.account()
        assert world.server.arrived == []
        assert client.key_changed()

    play(scenario)


# The exchange's clock


@pytest.mark.parametrize("lag_s", [0.0, 40.0, -40.0])
def test_requests_are_signed_by_the_exchanges_clock(lag_s: float) -> None:
    async def scenario(world: World) -> None:
        assert world.client.clock_offset_s is None
        await world.set_mmp()
        assert world.client.clock_offset_s == pytest.approx(lag_s)
        assert world.server.posts[0].headers["ok-access-timestamp"] == "2026-08-01T12:00:00.000Z"

    play(scenario, lag_s=lag_s)


def test_a_step_of_the_wall_clock_changes_no_signature() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        world.clock.elapsed_s += 1.5
        world.clock.lag_s = 3600.0
        assert world.signed().timestamp == "2026-08-01T12:00:01.500Z"

    play(scenario)


@pytest.mark.parametrize(
    ("half_s", "lag_s", "offset_s"),
    [(1.0, 0.0, 0.0), (4.5, 0.0, 0.0), (1.0, 40.0, 39.0), (1.0, -40.0, -39.0)],
)
def test_the_exchanges_time_is_taken_as_of_the_replys_arrival(
    half_s: float, lag_s: float, offset_s: float
) -> None:
    async def scenario(world: World) -> None:
        world.on_get("public/time", _slow_time(world, half_s))
        assert await world.client.sync_clock() is None
        # Read half way and taken as of the end: behind the exchange's clock by the way back, never ahead.
        read_at = NOON + timedelta(seconds=half_s)
        assert datetime.fromisoformat(world.signed().timestamp) == read_at
        world.clock.elapsed_s += 3.0
        assert datetime.fromisoformat(world.signed().timestamp) == read_at + timedelta(seconds=3.0)
        assert world.client.clock_offset_s == pytest.approx(offset_s), "what is certain of it"

    play(scenario, lag_s=lag_s)


def _slow_time(world: World, half_s: float) -> Script:
    async def script(request: Arrived, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        world.clock.elapsed_s += half_s
        read_at = NOON.timestamp() + world.clock.elapsed_s
        world.clock.elapsed_s += half_s
        await say(envelope({"ts": str(round(read_at * 1000))}))(request, reader, writer)

    return script


def test_a_measurement_is_reused_for_ten_minutes() -> None:
    async def scenario(world: World) -> None:
        for _ in range(3):
            await (await world.opened()).close()
            await world.client.read_live()
        assert world.server.gets("/api/v5/public/time") == 1
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        request = world.signed()
        assert world.server.gets("/api/v5/public/time") == 1, "signing never waits"
        assert request.timestamp.startswith("2026-08-01T12:10:01")
        await (await world.opened()).close()
        await world.exchange_clock.refreshed()
        assert world.server.gets(TIME) == 2
        assert world.signed().timestamp.startswith("2026-08-01T12:10:01")

    play(scenario)


TIME = "/api/v5/public/time"


NO_TIME = {
    "refused": say(envelope(code="50026", msg="System error")),
    "a page": say(b"<html>502</html>", "502 Bad Gateway"),
    "broken": reset,
}
"""Ways in which a measurement of the exchange's clock fails."""

USES: dict[str, Callable[[OkxTradingClient], Awaitable[object]]] = {
    "account": OkxTradingClient.account,
    "read live": OkxTradingClient.read_live,
    "read a family": lambda client: client.read_family(FAMILY),
    "open": OkxTradingClient.open,
    "reset": lambda client: client.reset(FAMILY),
}
"""Everything that needs the exchange's clock."""


READS = ("account", "read live", "read a family")


@pytest.mark.parametrize("failure", NO_TIME)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("age_s", "measured_again", "writes"),
    [(600.0, False, True), (600.1, True, True), (3600.0, True, True), (3600.1, True, False)],
)
def test_an_old_measurement_serves_reads_for_ever_and_writes_for_an_hour(
    use: str, failure: str, age_s: float, measured_again: bool, writes: bool
) -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += age_s
        world.on_get("public/time", NO_TIME[failure])
        world.on_get("account/config", say(envelope(ACCOUNT)))
        world.server.scripts[RESET_PATH] = [say(envelope({"result": True}))]
        used = writes or use in READS
        answer = await USES[use](world.client)
        await world.exchange_clock.refreshed()
        assert world.server.gets(TIME) == 1 + measured_again
        assert isinstance(answer, Reply) is not used
        signed = [one for one in world.server.arrived if "ok-access-timestamp" in one.headers]
        assert len(signed) == (used and use != "open"), "nothing is written by a clock that may be wrong"
        now = NOON + timedelta(seconds=age_s)
        assert datetime.fromisoformat(world.signed().timestamp) == now
        if isinstance(answer, OkxConnection):
            await answer.close()

    play(scenario)


@pytest.mark.parametrize("use", ["open", "reset"])
def test_a_write_that_is_refused_says_why_and_what_to_do(use: str) -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += 3660.0
        world.on_get("public/time", say(b"<html>403</html>", "403 Forbidden"))
        assert isinstance(await world.client.read_live(), LiveRead)
        reply = await USES[use](world.client)
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, "clock-old")
        for part in (
            "61 min ago",
            f"{TIME}: HTTP 403",
            "within 60 min",
            f"allow this machine to reach GET {TIME}",
        ):
            assert part in reply.message
        assert world.server.posts == []

    play(scenario)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("age_s", [CLOCK_MAX_AGE_S + 1, CLOCK_MAX_AGE_FOR_WRITES_S - 1])
def test_a_measurement_that_hangs_delays_nothing(use: str, age_s: float) -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += age_s
        world.on_get("public/time", *[silent] * 9)
        world.on_get("account/config", *[say(envelope(ACCOUNT))] * 3)
        world.server.scripts[RESET_PATH] = [say(envelope({"result": True}))] * 3
        for _ in range(3):
            async with asyncio.timeout(1.0):
                answer = await USES[use](world.client)
            assert not isinstance(answer, Reply)
            if isinstance(answer, OkxConnection):
                await answer.close()
        assert world.server.gets(TIME) <= 2, "one measurement is under way, no more"

    play(scenario)


@pytest.mark.parametrize("use", USES)
def test_a_measurement_that_hangs_does_not_delay_for_long_once_writes_are_refused(use: str) -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_FOR_WRITES_S + 1
        world.on_get("public/time", *[silent] * 9)
        world.on_get("account/config", say(envelope(ACCOUNT)))
        async with asyncio.timeout(2.0 if use in READS else 1.0):
            assert isinstance(await USES[use](world.client), Reply) is (use not in READS)

    play(scenario)


def test_a_failed_measurement_is_repeated_with_a_back_off_and_reported_once() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.on_get("public/time", *[say(b"<html>", "403 Forbidden")] * 8)
        begun_at, tried_at = world.clock.elapsed_s, []
        for _ in range(1400):
            before = world.server.gets(TIME)
            assert isinstance(await world.client.read_live(), LiveRead)
            await world.exchange_clock.refreshed()
            if world.server.gets(TIME) > before:
                tried_at.append(world.clock.elapsed_s - begun_at)
            world.clock.elapsed_s += 0.1
        gaps = [round(after - before) for before, after in pairwise(tried_at)]
        assert gaps == [1, 2, 4, 8, 16, 30, 30, 30], "the last one succeeds"
        first, last = world.events
        assert isinstance(first, ClockUnmeasured)
        assert first.reply.code == "not-okx"
        assert first.reply.message.startswith(f"{TIME}: HTTP 403")
        assert last == ClockMeasured()

    play(scenario)


def test_a_measurement_in_the_background_waits_as_long_as_a_gateway_asks_for() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.on_get("public/time", say(b"<html>", "429 Too Many", "Retry-After: 50"))
        for seconds, asked in ((0.0, 2), (49.0, 2), (1.1, 3)):
            world.clock.elapsed_s += seconds
            await world.client.read_live()
            await world.exchange_clock.refreshed()
            assert world.server.gets(TIME) == asked

    play(scenario)


def test_a_failing_measurement_says_nothing_about_the_address() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.on_get("public/time", say(b"<html>", "403 Forbidden"))
        assert isinstance(await world.client.read_live(), LiveRead)
        await world.exchange_clock.refreshed()
        assert world.server.gets(TIME) == 2
        assert world.exchange_clock.address.health == WORKS

    play(scenario)


def test_while_the_address_fails_no_measurement_is_the_probe_that_others_wait_for() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.exchange_clock.address.health = WORKS.failed(
            Reply(ReplyClass.NO_ANSWER, "broken", "it broke"), 0.0
        )
        world.on_get("public/time", silent)
        async with asyncio.timeout(1.0):
            assert isinstance(await world.client.read_live(), LiveRead)
        assert world.server.gets(TIME) == 1
        assert world.exchange_clock.address.health == WORKS
        await world.client.read_live()
        await asyncio.sleep(0.05)
        assert world.server.gets(TIME) == 2, "the next read has it measured again"

    play(scenario)


@pytest.mark.parametrize("outage", [False, True])
def test_after_an_hour_without_reads_a_request_is_possible_right_after_the_first_one(outage: bool) -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_FOR_WRITES_S + 1
        if outage:
            failure = Reply(ReplyClass.NO_ANSWER, "broken", "it broke")
            world.exchange_clock.address.health = WORKS.failed(failure, 0.0).failed(failure, 1.0)
        assert isinstance(await world.client.read_live(), LiveRead)
        await (await world.opened()).close()
        assert world.server.gets(TIME) == 2

    play(scenario)


def test_a_read_refused_for_an_old_time_is_measured_and_repeated() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += 10 * CLOCK_MAX_AGE_FOR_WRITES_S
        page = say(b"<html>", "403 Forbidden")
        world.on_get("public/time", page, page)
        world.on_get("account/mmp-config", *[say(envelope(code="50102"), "401 U")] * 2)
        reply = await world.client.read_live()
        assert isinstance(reply, Reply)
        assert reply.message.startswith(f"{TIME}: HTTP 403"), "it names what failed"
        assert isinstance(await world.client.read_live(), LiveRead)

    play(scenario)


def test_closing_ends_a_measurement_and_the_next_use_begins_another() -> None:
    async def scenario(world: World) -> None:
        await world.exchange_clock.aclose()
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.on_get("public/time", silent)
        await world.client.read_live()
        await asyncio.sleep(0.05)
        assert world.server.gets(TIME) == 2
        await world.exchange_clock.aclose()
        await settle()
        assert len(asyncio.all_tasks()) == 1
        await world.client.read_live()
        await world.exchange_clock.refreshed()
        assert world.server.gets(TIME) == 3
        assert world.events == []

    play(scenario)


def test_a_read_that_is_cancelled_leaves_the_measurement_to_the_others() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.sync_clock() is None
        world.clock.elapsed_s += CLOCK_MAX_AGE_S + 1
        world.on_get("account/mmp-config", silent)
        reading = asyncio.create_task(world.client.read_live())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await world.exchange_clock.refreshed()
        assert world.server.gets(TIME) == 2
        assert world.client.clock_offset_s == 0.0

    play(scenario)


def test_a_bug_in_a_measurement_is_not_lost() -> None:
    async def broken() -> ClockOffset | Reply:
        raise RuntimeError("a bug")

    async def scenario() -> None:
        exchange_clock, clock = ExchangeClock(), HandClock()
        exchange_clock.refresh(broken, clock)
        await exchange_clock.refreshed()
        with pytest.raises(RuntimeError, match="a bug"):
            exchange_clock.refresh(broken, clock)
        await exchange_clock.aclose()

    asyncio.run(scenario())


def test_nothing_is_signed_before_the_clock_was_measured() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(AssertionError):
            world.signed()

    play(scenario)


@pytest.mark.parametrize(
    "script", [say(b"<html>502</html>", "502 Bad"), say(envelope(code="50026")), raw(b"")]
)
def test_without_the_exchanges_clock_nothing_is_opened_or_read(script: Script) -> None:
    async def scenario(world: World) -> None:
        world.on_get("public/time", script, script, script)
        opened = await world.client.open()
        assert isinstance(opened, Reply)
        assert opened.reply_class is ReplyClass.NOT_SENT
        assert isinstance(await world.client.read_live(), Reply)
        assert isinstance(await world.client.account(), Reply)
        assert {request.target for request in world.server.arrived} == {"/api/v5/public/time"}

    play(scenario)


def test_a_read_refused_for_its_time_is_measured_again_and_tried_once_more() -> None:
    async def scenario(world: World) -> None:
        late = say(envelope(code="50102", msg="Timestamp request expired"), "401 U")
        world.on_get("account/mmp-config", late)
        assert isinstance(await world.client.read_live(), LiveRead)
        assert world.server.gets("/api/v5/public/time") == 2
        world.on_get("account/config", late, late, late)
        reply = await world.client.account()
        assert isinstance(reply, Reply)
        assert reply.reply_class is ReplyClass.CLOCK
        assert world.server.gets("/api/v5/account/config") == 2
        assert world.server.gets("/api/v5/public/time") == 3

    play(scenario)


def test_a_write_refused_for_its_time_is_left_to_the_pass() -> None:
    async def scenario(world: World) -> None:
        world.on_post(say(envelope(code="50102"), "401 U"))
        assert (await world.set_mmp()).reply_class is ReplyClass.CLOCK
        assert len(world.server.posts) == 1
        assert world.server.gets("/api/v5/public/time") == 1

    play(scenario)


def test_a_signed_request_shows_no_secret() -> None:
    async def scenario(world: World) -> None:
        await world.client.sync_clock()
        no_secret_in(world.signed(), world.client, vars(world.client))

    play(scenario)


# Resetting, and what is listed


RESET_PATH = "POST /api/v5/account/mmp-reset"


@pytest.mark.parametrize("done", [True, False])
def test_a_reset_is_one_signed_request_for_one_family(done: bool) -> None:
    async def scenario(world: World) -> None:
        world.server.scripts[RESET_PATH] = [say(envelope({"result": done}))]
        assert await world.client.reset(FAMILY) is done
        [request] = world.server.posts
        assert request.body == b'{"instType":"OPTION","instFamily":"BTC-USD"}'
        signed = f"{request.headers['ok-access-timestamp']}POST{request.target}".encode() + request.body
        digest = hmac.digest(SECRET.encode(), signed, hashlib.sha256)
        assert base64.b64decode(request.headers["ok-access-sign"]) == digest

    play(scenario)


@pytest.mark.parametrize(
    ("script", "reply_class"),
    [
        (say(envelope(code="59509", msg="no permission")), ReplyClass.ACCOUNT),
        (say(envelope(code="50102")), ReplyClass.CLOCK),
        (reset, ReplyClass.NO_ANSWER),
        (say(envelope()), ReplyClass.NO_ANSWER),
    ],
)
def test_a_reset_without_a_result_is_reported_and_never_repeated(
    script: Script, reply_class: ReplyClass
) -> None:
    async def scenario(world: World) -> None:
        world.server.scripts[RESET_PATH] = [script]
        reply = await world.client.reset(FAMILY)
        assert isinstance(reply, Reply)
        assert reply.reply_class is reply_class
        assert len(world.server.posts) == 1

    play(scenario)


def test_without_the_exchanges_clock_nothing_is_reset() -> None:
    async def scenario(world: World) -> None:
        world.on_get("public/time", say(b"<html>"))
        reply = await world.client.reset(FAMILY)
        assert isinstance(reply, Reply)
        assert reply.reply_class is ReplyClass.NOT_SENT
        assert world.server.posts == []

    play(scenario)


INSTRUMENTS = "public/instruments?instType=OPTION&uly="


def listed(*families: str) -> Script:
    return say(envelope(*({"instFamily": family} for family in families)))


def test_listed_families_are_asked_for_underlying_by_underlying_without_a_key() -> None:
    async def scenario(world: World) -> None:
        world.on_get("public/underlying?instType=OPTION", say(envelope(["BTC-USD", "ETH-USD"])))
        world.on_get(f"{INSTRUMENTS}BTC-USD", listed("BTC-USD", "BTC-USD_UM", "BTC-USD"))
        world.on_get(f"{INSTRUMENTS}ETH-USD", listed("ETH-USD"))
        expected = frozenset(map(parse_family, ("BTC-USD", "BTC-USD_UM", "ETH-USD")))
        assert await world.client.listed_families() == expected
        names = {name for request in world.server.arrived for name in request.headers}
        assert not [name for name in names if name.startswith("ok-")]

    play(scenario)


@pytest.mark.parametrize(
    ("underlyings", "instruments", "code"),
    [
        (say(b"<html>"), None, "not-okx"),
        (reset, None, "broken"),
        (say(envelope([f"U{number}-USD" for number in range(21)])), None, "too-many"),
        (say(envelope(["BTC-USD"])), say(envelope(code="50011")), "50011"),
        (say(envelope(["BTC-USD"])), reset, "broken"),
    ],
)
def test_a_list_that_cannot_be_read_completely_is_none(
    underlyings: Script, instruments: Script | None, code: str
) -> None:
    async def scenario(world: World) -> None:
        world.on_get("public/underlying?instType=OPTION", underlyings)
        if instruments is not None:
            world.on_get(f"{INSTRUMENTS}BTC-USD", instruments)
        reply = await world.client.listed_families()
        assert isinstance(reply, Reply)
        assert reply.code == code

    play(scenario)


# ---- the exchange's clock, shared by the accounts of a process ------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_a_caller_that_waits_for_a_measurement_gets_its_result(fails: bool) -> None:
    asked = 0
    failure = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
    offset = ClockOffset(1.0, 2.0, 0.0)

    async def ask() -> ClockOffset | Reply:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return failure if fails else offset

    async def scenario() -> None:
        exchange_clock = ExchangeClock()
        answers = await asyncio.gather(*(exchange_clock.measure(ask) for _ in range(30)))
        assert (answers, asked) == ([failure if fails else None] * 30, 1)
        assert exchange_clock.offset == (None if fails else offset)
        await exchange_clock.measure(ask)
        assert asked == 2, "who asks later asks anew"

    asyncio.run(scenario())


@pytest.mark.parametrize("ends", [True, False])
def test_a_caller_does_not_wait_long_for_the_measurement_of_another(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr("reconciler.okx.exchange_clock.MEASUREMENT_WAIT_S", 0.05)
    failure = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")
    asked = 0

    async def scenario() -> None:
        exchange_clock, over = ExchangeClock(), asyncio.Event()

        async def hang() -> ClockOffset | Reply:
            await over.wait()
            return failure

        async def ask() -> ClockOffset | Reply:
            nonlocal asked
            asked += 1
            return ClockOffset(1.0, 2.0, 0.0)

        hanging = asyncio.create_task(exchange_clock.measure(hang))
        await asyncio.sleep(0)
        async with asyncio.timeout(5.0):
            assert await asyncio.gather(*(exchange_clock.measure(ask) for _ in range(30))) == [None] * 30
        assert asked == 1, "one asks instead, and the others take what came of that"
        assert not hanging.done()
        if ends:
            over.set()
            assert await hanging == failure
        else:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
            assert len(asyncio.all_tasks()) == 1, "what was given up goes on nowhere"
        assert exchange_clock.offset == ClockOffset(1.0, 2.0, 0.0), "a failure forgets nothing"
        assert await exchange_clock.measure(ask) is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("slow", "quick", "used"),
    [
        # Taken as of an arrival 8 s late: 6 s behind the quick one.
        (ClockOffset(104.0, 1010.0, 0.0), ClockOffset(102.0, 1002.0, 0.0), "quick"),
        (ClockOffset(110.5, 1010.0, 0.0), ClockOffset(102.0, 1002.0, 0.0), "slow"),
    ],
)
def test_of_two_measurements_at_once_the_one_that_is_nearer_is_used(
    slow: ClockOffset, quick: ClockOffset, used: str
) -> None:
    async def scenario() -> None:
        exchange_clock, over = ExchangeClock(), asyncio.Event()

        async def ask_slowly() -> ClockOffset | Reply:
            await over.wait()
            return slow

        async def ask() -> ClockOffset | Reply:
            return quick

        slowly = asyncio.create_task(exchange_clock._measure(ask_slowly))
        await asyncio.sleep(0)
        assert await exchange_clock._measure(ask) is None
        over.set()
        assert await slowly is None
        assert exchange_clock.offset == (quick if used == "quick" else slow)
        behind = ClockOffset(50.0, 1011.0, 0.0)

        async def ask_again() -> ClockOffset | Reply:
            return behind

        await exchange_clock.measure(ask_again)
        assert exchange_clock.offset == behind, "a later measurement counts, whatever it finds"

    asyncio.run(scenario())


def test_a_measurement_that_was_given_up_is_made_by_the_next() -> None:
    async def scenario() -> None:
        exchange_clock, never = ExchangeClock(), asyncio.Event()

        async def hang() -> ClockOffset | Reply:
            await never.wait()
            raise AssertionError

        async def ask() -> ClockOffset | Reply:
            return ClockOffset(1.0, 2.0, 0.0)

        hanging = asyncio.create_task(exchange_clock.measure(hang))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(exchange_clock.measure(ask))
        await asyncio.sleep(0)
        hanging.cancel()
        assert await waiting is None
        assert exchange_clock.offset is not None

    asyncio.run(scenario())
