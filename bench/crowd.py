"""What crowds of clients at the sidecar's server do to a send of the loop beside it.

A send here is what a real one is made of: a durable reservation, a fresh connection, a round trip to
another process, a durable verdict. It is due at a moment, and what counts is how long after that moment
it is over. A crowd is a process of its own. The slow one: connections that begin a request, drip a byte
every second, and come back when they are ended. The flood: connections that begin a request, or ask one
and do not wait for its answer, made as fast as one core can make them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

from bench.state import REQUEST, LeapingClock
from reconciler.core.model import Environment, Kind
from reconciler.core.verdict import AttemptStatus
from reconciler.ports import Reserved
from reconciler.sidecar.answers import Answer, Query, text_answer
from reconciler.sidecar.guard import Listen
from reconciler.sidecar.server import start_server
from reconciler.store.account import KeptAccount
from reconciler.store.sqlite import open_state

CROWD = 1_000
EVERY_S = 0.02
SETTLED_S = 2.0
"""After which all of the crowd have come in once."""

ASKED = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

FAR_END = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    connection.recv(1000)
    connection.sendall(b"ok")
    connection.close()
"""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How late sends were over, in seconds: the usual one, and the worst of the calmest round.

    What others do on the machine makes single sends late in some rounds, the crowd in every one.
    """

    median_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Sends:
    """How late sends were with nobody there, beside the slow crowd and beside the flood."""

    alone: Lateness
    crowded: Lateness
    flooded: Lateness


def sends_beside_crowds(folder: Path, *, sends: int, rounds: int) -> Sends:
    """Measure ``sends`` alone and beside each crowd in turn; the same server is there for all."""
    server = start_server(Listen("127.0.0.1", 0), {"/livez": _live}, broken=print)
    state = open_state(str(folder / "state.db"), clock=LeapingClock(), boot="bench", lock_timeout_s=1.0)
    store = state.account("main", Environment.LIVE, Kind.SIMULATOR)
    try:
        return asyncio.run(_compare(store, server.url, sends, rounds))
    finally:
        state.close_now()
        server.stop()


def gather(port: int) -> None:
    """Be the slow crowd, until killed."""
    opened = [_connected(port) for _ in range(CROWD)]
    while True:
        time.sleep(1.0)
        opened = [one if _dripped(one) else _connected(port) for one in opened]


def flood(port: int) -> None:
    """Be the flood, until killed."""
    opened: deque[socket.socket] = deque()
    for number in count():
        with suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", port), timeout=2.0)
            opened.append(connection)
            connection.sendall(b"G" if number % 2 else ASKED)
        if len(opened) > CROWD:
            opened.popleft().close()


async def _compare(store: KeptAccount, url: str, sends: int, rounds: int) -> Sends:
    await store.identify("1", "localhost")
    with _started("-c", FAR_END) as far_end:
        assert far_end.stdout is not None
        port = int(far_end.stdout.readline())
        await _sends(store, port, 10)
        measured = [
            (
                await _sends(store, port, sends),
                await _beside("slow", store, port, url, sends),
                await _beside("flood", store, port, url, sends),
            )
            for _ in range(rounds)
        ]
    return Sends(*(_calmest(list(rounds)) for rounds in zip(*measured, strict=True)))


async def _beside(crowd: str, store: KeptAccount, port: int, url: str, sends: int) -> list[float]:
    with _started("-m", "bench.crowd", crowd, url.rpartition(":")[2]):
        await asyncio.sleep(SETTLED_S)
        return await _sends(store, port, sends)


@contextmanager
def _started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _calmest(rounds: list[list[float]]) -> Lateness:
    return Lateness(min(map(median, rounds)), min(map(max, rounds)))


async def _sends(store: KeptAccount, port: int, number: int) -> list[float]:
    late = []
    for _ in range(number):
        due = time.perf_counter() + EVERY_S
        await asyncio.sleep(EVERY_S)
        await _send(store, port)
        late.append(time.perf_counter() - due)
    return late


async def _send(store: KeptAccount, port: int) -> None:
    slot = await store.reserve(REQUEST, assume_idle=True)
    assert isinstance(slot, Reserved)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 300)
    await reader.read()
    writer.close()
    await store.settle(
        slot.attempt, AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""
    )


async def _live(query: Query) -> Answer:
    del query
    return text_answer(200, "ok")


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    _dripped(connection)
    return connection


def _dripped(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"G")
    except OSError:
        connection.close()
        return False
    return True


if __name__ == "__main__":
    {"slow": gather, "flood": flood}[sys.argv[1]](int(sys.argv[2]))
