"""The server over real sockets: what it answers, whom it refuses, and that nobody can be in the way."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest

from reconciler.errors import MmpError
from reconciler.web.connection import DEADLINE_S
from reconciler.web.http_head import MAX_HEAD_BYTES
from reconciler.web.request_filter import Listen, parse_listen
from reconciler.web.responses import HEADERS, Query, Response, Route, json_response, text_response
from reconciler.web.server import MAX_CONNECTIONS, Server, start_server
from tests.support.hostile_clients import attacked

pytestmark = pytest.mark.unmeasured

LARGE = 10_000_000
"""More bytes than sockets hold on their way, so that writing them takes a reader."""

LARGE_BODY = b"x" * LARGE
DOCS = Path(__file__).parents[2] / "docs" / "sidecar.md"
LOCAL = Listen("127.0.0.1", 0)
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


async def live(query: Query) -> Response:
    return text_response(200, "verbose" if query.verbose else "ok")


async def document(query: Query) -> Response:
    return json_response(200, {"told": "naïve"})


async def large(query: Query) -> Response:
    return Response(200, LARGE_BODY)


async def broken(query: Query) -> Response:
    raise RuntimeError("a secret")


async def held(query: Query) -> Response:
    """Answer late: like a probe while the loops are busy, or a page that takes long to render."""
    await asyncio.sleep(2.0)
    return text_response(200, "at last")


ROUTES: Mapping[str, Route] = {
    "/livez": live,
    "/json": document,
    "/large": large,
    "/broken": broken,
    "/held": held,
}


@contextmanager
def serving(listen: Listen = LOCAL, bugs: list[Exception] | None = None) -> Iterator[Server]:
    server = start_server(listen, ROUTES, on_error=(bugs if bugs is not None else []).append)
    try:
        yield server
    finally:
        server.stop()
    assert not server.running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def connected(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port_of(server)), timeout=5.0)
    connection.settimeout(30.0)
    return connection


def exchange(server: Server, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server ends the connection."""
    with connected(server) as connection:
        connection.sendall(sent)
        return all_of(connection)


def all_of(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def probe_s(server: Server) -> float:
    """Ask the probe as a kubelet does; return how long it took."""
    began = time.monotonic()
    answer = ask(server, "/livez")
    assert (answer.status, answer.read()) == (200, b"ok\n")
    return time.monotonic() - began


# ---- what it answers -------------------------------------------------------------------------------


def test_a_route_is_answered_with_every_header_and_ends_its_connection(server: Server) -> None:
    answer = ask(server, "/json")
    assert (answer.status, answer.read().decode()) == (200, '{\n  "told": "naïve"\n}\n')
    sentence = dict(answer.getheaders())
    assert HEADERS.items() <= sentence.items()
    assert sentence["Content-Type"] == "application/json; charset=utf-8"
    assert (sentence["Connection"], sentence["Server"]) == ("close", "mmp")


def test_the_policy_allows_what_is_ours_and_nothing_else() -> None:
    policy = HEADERS["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert all(one.split(" ")[1] in ("'none'", "'self'") for one in policy)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/livez", b"ok\n"), ("/livez?verbose", b"verbose\n"), ("/livez?verbose=1&a=%ff", b"verbose\n")],
)
def test_a_query_may_ask_for_every_check(server: Server, path: str, body: bytes) -> None:
    assert ask(server, path).read() == body


def test_head_is_get_without_the_body(server: Server) -> None:
    answer = ask(server, "/livez", "HEAD")
    assert (answer.status, answer.getheader("Content-Length"), answer.read()) == (200, "3", b"")


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "//livez", "/livez/", "/../livez", "/%2e%2e/etc", "/%00"]
)
def test_anything_else_is_not_there(server: Server, path: str) -> None:
    assert ask(server, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND"])
def test_the_response_to_another_method_lists_the_allowed_ones(server: Server, method: str) -> None:
    answer = ask(server, "/livez", method)
    assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1"])
def test_a_host_that_is_not_ours_is_refused_in_one_line(server: Server, host: str) -> None:
    answer = ask(server, "/json", Host=host)
    body = answer.read()
    assert (answer.status, body.count(b"\n")) == (421, 1)
    assert b"told" not in body


def test_a_bug_is_logged_and_not_shown_to_the_client() -> None:
    bugs: list[Exception] = []
    with serving(bugs=bugs) as server:
        answer = ask(server, "/broken", Accept="text/html")
        assert (answer.status, b"secret" in answer.read()) == (500, False)
        assert probe_s(server) < 5.0
    assert [str(bug) for bug in bugs] == ["a secret"]


# ---- what it refuses -------------------------------------------------------------------------------

HOSTILE: list[tuple[str, bytes, int]] = [
    ("no host", b"GET /livez HTTP/1.1\r\n\r\n", 400),
    ("no host, long ago", b"GET /livez HTTP/1.0\r\n\r\n", 421),
    ("an absolute target", b"GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("a long line", b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    ("a long field", GET + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", 431),
    ("many fields", GET + b"X: 1\r\n" * MAX_HEAD_BYTES + b"\r\n", 431),
    ("a body", GET + b"Content-Length: 5\r\n\r\nhello", 413),
    ("a chunked body", GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 413),
    ("a body announced", GET + b"Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n", 413),
    ("two lengths", GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 413),
    ("length and chunks", GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
    ("a folded field", GET + b"X: 1\r\n 2\r\n\r\n", 400),
    ("a field without a colon", GET + b"nonsense\r\n\r\n", 400),
    ("a space before the colon", GET + b"X : 1\r\n\r\n", 400),
    ("bare line feeds", b"GET /livez HTTP/1.1\nHost: localhost\n\n", 400),
    ("two spaces", b"GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("no version", b"GET /livez\r\n\r\n", 400),
    ("an empty line first", b"\r\n" + GET + b"\r\n", 400),
    ("many spaces and a zero byte", GET + b"X:" + b" " * 15_000 + b"\x00\r\n\r\n", 400),
    ("a zero byte", GET + b"X: a\x00b\r\n\r\n", 400),
    ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40, 400),
    ("another version", b"GET /livez HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
]


@pytest.mark.parametrize(
    ("sent", "status"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_a_malformed_request_is_refused_in_our_own_words(
    server: Server, sent: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    reply = exchange(server, sent)
    assert status_of(reply) == status
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"Server: mmp\r\n" in head
    assert b"aiohttp" not in reply
    assert body.count(b"\n") == 1
    assert b"<" not in body
    assert capfd.readouterr() == ("", "")


def test_two_host_headers_are_refused(server: Server) -> None:
    reply = exchange(server, GET + b"Host: localhost\r\n\r\n")
    assert status_of(reply) in (400, 421)


@pytest.mark.parametrize("more", [b"Content-Length: 0\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_length_of_nothing_and_another_protocol_do_not_matter(server: Server, more: bytes) -> None:
    assert status_of(exchange(server, GET + more + b"\r\n")) == 200


def test_a_request_in_single_bytes_is_one_request(server: Server) -> None:
    with connected(server) as connection:
        for byte in GET + b"\r\n":
            connection.sendall(bytes([byte]))
        assert status_of(all_of(connection)) == 200


def test_a_client_that_ends_its_side_gets_its_answer(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection).endswith(b"at last\n")


def test_half_a_request_is_not_answered(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(GET)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection) == b""


def test_only_the_first_request_of_a_connection_is_answered(server: Server) -> None:
    reply = exchange(server, (GET + b"\r\n") * 50)
    assert reply.count(b"HTTP/1.1 200") == 1


# ---- who cannot be in the way ----------------------------------------------------------------------


@contextmanager
def slow_clients(server: Server, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open connections that send the beginning of a request and then nothing."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(connected(server))
            connection.sendall(sent)
            opened.append(connection)
        yield opened


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT", GET], ids=["nothing", "half a line", "no end"])
def test_three_hundred_slow_connections_do_not_delay_a_probe(server: Server, sent: bytes) -> None:
    with slow_clients(server, 300, sent) as opened:
        assert probe_s(server) < 5.0
        opened[0].settimeout(1.0)
        assert all_of_or_reset(opened[0]) == b"", "the one longest silent gave way"


def test_clients_that_never_read_do_not_delay_a_probe(server: Server) -> None:
    with slow_clients(server, 10, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        assert probe_s(server) < 5.0


def test_many_waiting_requests_do_not_delay_a_probe(server: Server) -> None:
    with slow_clients(server, MAX_CONNECTIONS + 10, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        for _ in range(5):
            assert probe_s(server) < 3.0
        assert server.connections <= MAX_CONNECTIONS


def test_waiting_requests_and_silent_connections_together_do_not_delay_a_probe(server: Server) -> None:
    asking = slow_clients(server, MAX_CONNECTIONS, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with asking, slow_clients(server, MAX_CONNECTIONS, b""):
        for _ in range(5):
            assert probe_s(server) < 3.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose connections end after half a second."""
    monkeypatch.setattr("reconciler.web.connection.DEADLINE_S", 0.5)
    with serving() as running:
        yield running


@pytest.mark.parametrize("sent", [b"", GET, b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_connection_ends_at_its_deadline_whatever_was_asked(impatient: Server, sent: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(sent)
        began = time.monotonic()
        assert all_of_or_reset(connection) == b""
        assert 0.2 < time.monotonic() - began < 1.9


def test_an_answer_not_read_in_time_is_ended(impatient: Server) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.0)
        assert len(all_of_or_reset(connection)) < LARGE


def test_dripping_bytes_buys_no_time(impatient: Server) -> None:
    with connected(impatient) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            drip(connection)
        assert time.monotonic() - began < 3.0


def drip(connection: socket.socket) -> None:
    connection.sendall(GET)
    for _ in range(40):
        time.sleep(0.1)
        connection.sendall(b"X: 1\r\n")


def test_closed_connections_leave_nothing_behind(server: Server) -> None:
    for _ in range(3):
        with slow_clients(server, 50, GET):
            pass
        probe_s(server)
    deadline = time.monotonic() + 5.0
    while server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.connections == 0


def test_the_documentation_names_the_limits_there_are() -> None:
    text = " ".join(DOCS.read_text().split())
    assert f"At most {MAX_CONNECTIONS} connections" in text
    assert f"up to {MAX_HEAD_BYTES // 1024} KiB" in text
    assert f"over within {DEADLINE_S:.0f} s" in text


def test_there_are_never_more_inside_than_there_is_room_for(server: Server) -> None:
    with slow_clients(server, MAX_CONNECTIONS + 60, b""):
        probe_s(server)
        assert server.connections <= MAX_CONNECTIONS


HELD = b"GET /held HTTP/1.1\r\nHost: localhost\r\n"
REQUESTS, FIELDS = (GET + b"\r\n") * 200, b"X: 1\r\n" * 1000
SENDS_MORE = {
    "requests after the request": (HELD + b"\r\n", REQUESTS),
    "another protocol": (HELD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", FIELDS),
    "a body": (HELD + b"Content-Length: 999999999\r\n\r\n", FIELDS),
    "a chunked body": (HELD + b"Transfer-Encoding: chunked\r\n\r\n", b"6\r\nX: 1\r\n\r\n" * 500),
    "a head without an end": (HELD, FIELDS),
}
SYSTEM_HOLDS = 1_000_000
"""More bytes than the kernel buffers for a client that does not read."""


@pytest.mark.parametrize(("beginning", "more"), SENDS_MORE.values(), ids=SENDS_MORE)
def test_hardly_a_byte_is_read_beyond_a_head(server: Server, beginning: bytes, more: bytes) -> None:
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        connection.settimeout(1.0)
        connection.sendall(beginning)
        assert bytes_taken(connection, more) < SYSTEM_HOLDS


def bytes_taken(connection: socket.socket, more: bytes) -> int:
    """Send until nothing is taken for a second, or the connection is closed; return how much."""
    taken = 0
    while taken < 10 * SYSTEM_HOLDS:
        try:
            taken += connection.send(more)
        except OSError:
            break
    return taken


def test_many_new_connections_do_not_close_the_one_that_waits_for_its_answer(server: Server) -> None:
    with connected(server) as waiting:
        waiting.sendall(HELD + b"\r\n")
        time.sleep(0.1)
        with slow_clients(server, 2 * MAX_CONNECTIONS, b""):
            assert all_of(waiting).endswith(b"at last\n")


HOSTILE_KINDS = ("half-open", "requests", "junk", "aborts", "headers", "chunks", "bytes-after", "upgrade")


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE_KINDS)
def test_a_probe_is_answered_in_time_beside_hostile_clients(server: Server, kind: str) -> None:
    with attacked(kind, port_of(server)):
        time.sleep(0.5)
        assert median(probe_s(server) for _ in range(7)) < 1.0


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open nothing, for as long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_that_can_open_nothing_more_takes_connections_in_once_it_can(server: Server) -> None:
    with socket.socket() as connection:
        connection.settimeout(10.0)
        with no_more_files():
            used_s = time.process_time()
            connection.connect(("127.0.0.1", port_of(server)))
            connection.sendall(GET + b"\r\n")
            time.sleep(0.5)
            assert time.process_time() - used_s < 0.1, "it does not try over and over"
        assert status_of(all_of(connection)) == 200


def all_of_or_reset(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


# ---- where it listens ------------------------------------------------------------------------------


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MmpError) as error:
            start_server(Listen("127.0.0.1", port), ROUTES, on_error=print)
    assert error.value.code == "listen-failed"
    assert error.value.message == f"cannot listen at 127.0.0.1:{port}: address already in use"
    assert error.value.exit_status == 1


@pytest.mark.parametrize("place", ["192.0.2.1:0", "no-such-host.invalid:0"])
def test_an_address_of_another_machine_is_an_error(place: str) -> None:
    with pytest.raises(MmpError) as error:
        start_server(parse_listen(place), ROUTES, on_error=print)
    assert error.value.code == "listen-failed"


@pytest.mark.parametrize(
    ("place", "url", "asked"),
    [
        (":0", "http://127.0.0.1:", "127.0.0.1"),
        ("localhost:0", "http://localhost:", "127.0.0.1"),
        ("0.0.0.0:0", "http://0.0.0.0:", "127.0.0.1"),
        ("[::1]:0", "http://[::1]:", "::1"),
        ("[::]:0", "http://[::]:", "127.0.0.1"),
    ],
)
def test_it_listens_on_the_given_address(place: str, url: str, asked: str) -> None:
    with serving(parse_listen(place)) as server:
        assert server.url.startswith(url)
        connection = http.client.HTTPConnection(asked, port_of(server), timeout=5)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200


def test_a_restart_takes_the_same_port_at_once() -> None:
    with serving() as server:
        probe_s(server)
        port = port_of(server)
    with serving(Listen("127.0.0.1", port)) as server:
        probe_s(server)


def test_stopping_is_bounded_whichever_client_stays_connected() -> None:
    with ExitStack() as stack:
        with serving() as server:
            stack.enter_context(slow_clients(server, 20, GET))
            stack.enter_context(slow_clients(server, 5, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            began = time.monotonic()
        assert time.monotonic() - began < 2.0
