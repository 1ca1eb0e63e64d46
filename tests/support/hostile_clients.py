"""Clients that attack an HTTP server on this machine, each kind a process of its own, until it is killed.

``python -m tests.support.hostile_clients KIND PORT``. Each kind sends as fast as one core can. What the
server answers does not matter to them, except to those that ask for whole documents.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from threading import Thread

MANY = 1_000
PAGE_READERS = 4

HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
REQUEST = HEAD + b"\r\n"
PAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
STATUS = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"

Client = Callable[[int], None]


def drip_requests(port: int) -> None:
    """Keep 1,000 connections half open, with one byte a second; reconnect those that are closed."""
    opened = [_opened(port, b"G") for _ in range(MANY)]
    while True:
        time.sleep(1.0)
        opened = [one if _sent(one, b"G") else _opened(port, b"G") for one in opened]


def hold_half_open(port: int) -> None:
    """Keep 1,000 connections open that never send anything, with new ones all the time."""
    opened: deque[socket.socket] = deque()
    while True:
        opened.append(_opened(port, b""))
        if len(opened) > MANY:
            opened.popleft().close()


def flood_with_requests(port: int) -> None:
    """Begin a request, or make one and do not wait for its answer, on one new connection after another."""
    opened: deque[socket.socket] = deque()
    for beginning in cycle((REQUEST, b"G")):
        opened.append(_opened(port, beginning))
        if len(opened) > MANY:
            opened.popleft().close()


def flood_with_junk(port: int) -> None:
    """Send what is not HTTP, on one new connection after another."""
    while True:
        _opened(port, os.urandom(4096)).close()


def flood_with_aborts(port: int) -> None:
    """Make a request and reset the connection, again and again."""
    while True:
        connection = _opened(port, REQUEST)
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def send_endless_headers(port: int) -> None:
    """Send a head that has no end."""
    _send_forever(port, HEAD, b"X-Nothing: " + b"x" * 1000 + b"\r\n")


def send_endless_chunks(port: int) -> None:
    """Send a request whose chunked body has no end."""
    _send_forever(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000)


def send_endless_bytes(port: int) -> None:
    """Send a complete request, and bytes after it without an end."""
    _send_forever(port, REQUEST, b"x" * 65_536)


def upgrade_and_send(port: int) -> None:
    """Request another protocol, and send bytes of it without an end."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    _send_forever(port, HEAD + upgrade, b"x" * 65_536)


def leave_answers_unread(port: int) -> None:
    """Ask for the page and the status on 1,000 connections and read nothing of the answers."""
    opened: deque[socket.socket] = deque()
    for request in cycle((PAGE, STATUS)):
        opened.append(_opened(port, request))
        time.sleep(0.01)
        if len(opened) > MANY:
            opened.popleft().close()


def read_pages(port: int) -> None:
    """Ask for page and status in turn, from four clients at once, and read every answer to its end."""
    for _ in range(PAGE_READERS - 1):
        Thread(target=_read_pages, args=(port,), daemon=True).start()
    _read_pages(port)


CLIENTS: dict[str, Client] = {
    "drips": drip_requests,
    "half-open": hold_half_open,
    "requests": flood_with_requests,
    "junk": flood_with_junk,
    "aborts": flood_with_aborts,
    "headers": send_endless_headers,
    "chunks": send_endless_chunks,
    "bytes-after": send_endless_bytes,
    "upgrade": upgrade_and_send,
    "unread": leave_answers_unread,
    "pages": read_pages,
}


@contextmanager
def attacked(kind: str, port: int) -> Iterator[None]:
    """Let clients of one kind attack the server at ``port`` for as long."""
    arguments = (sys.executable, "-m", __name__, kind, str(port))
    with subprocess.Popen(arguments) as process:
        try:
            yield
        finally:
            process.kill()


def _send_forever(port: int, beginning: bytes, then: bytes) -> None:
    """Send ``beginning`` and then ``then`` again and again; once refused, from the beginning again."""
    while True:
        connection = _opened(port, beginning)
        while _sent(connection, then):
            pass


def _read_pages(port: int) -> None:
    for request in cycle((PAGE, STATUS)):
        with _opened(port, request) as connection, suppress(OSError):
            while connection.recv(65_536):
                pass


def _opened(port: int, beginning: bytes) -> socket.socket:
    """Connect, which is tried until it works, and send ``beginning``."""
    while True:
        with suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), timeout=10.0)
            _sent(connection, beginning)
            return connection


def _sent(connection: socket.socket, data: bytes) -> bool:
    """Send ``data``; return whether that worked, and close the connection where it did not."""
    try:
        connection.sendall(data)
    except OSError:
        connection.close()
        return False
    return True


if __name__ == "__main__":
    CLIENTS[sys.argv[1]](int(sys.argv[2]))
