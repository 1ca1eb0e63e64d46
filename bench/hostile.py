"""The effect of hostile clients of ``run --listen`` on a probe, on memory, and on a send of the loop.

The server is a process of its own. It serves the pages of 3,000 families and runs a loop that sends. A
send has the parts of a real one: a durable reservation, a fresh connection, a round trip to another
process, a durable verdict. It replaces the account's snapshot, as the events of a real send do. Each send
is due at a given moment. The measured value is the time from that moment to the end of the send. Each
kind of client is a process of its own. This process sends ten probes a second.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread

from bench.state import REQUEST, LeapingClock
from reconciler.cli.run import SWITCH_INTERVAL_S
from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import open_state
from reconciler.web.latest_state import LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.observer import TIMELINE_PAUSE_S
from reconciler.web.request_filter import Listen
from reconciler.web.responses import Route
from reconciler.web.routes import Endpoints, LoopPing
from reconciler.web.server import start_server
from tests.support.example_accounts import NOW, WALL, large
from tests.support.hostile_clients import CLIENTS, attacked

FAMILIES = 3_000
ACCOUNT = "main/live"
SEND_EVERY_S = 0.02
PROBE_EVERY_S = 0.1
PROBE_TIMEOUT_S = 5.0
SETTLED_S = 1.5
"""After this time every client of a kind is active."""

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
class Effects:
    """Measurements: lateness of sends and time of probes in seconds, a failed probe as 5 s; memory in kB.

    Of several rounds the lowest counts: other load on the machine shows in some rounds, a client in all.
    """

    send_median_s: float
    send_worst_s: float
    probe_median_s: float
    probe_worst_s: float
    peak_kb: int


@dataclass(frozen=True, slots=True)
class Beside:
    """The effects without a client and of each kind; ``idle_kb``: resident before the first request."""

    idle_kb: int
    alone: Effects
    kinds: Mapping[str, Effects]


def beside_hostile_clients(folder: Path, *, sends: int, rounds: int) -> Beside:
    """Measure ``sends`` sends alone and beside each kind of client in turn, on one server."""
    with _server(folder) as server:
        idle_kb = server.peak_kb()
        alone, kinds = [], {kind: list[Effects]() for kind in CLIENTS}
        for _ in range(rounds):
            alone.append(server.effects(sends))
            for kind, seen in kinds.items():
                with attacked(kind, server.port):
                    time.sleep(SETTLED_S)
                    seen.append(server.effects(sends))
    return Beside(idle_kb, _calmest(alone), {kind: _calmest(seen) for kind, seen in kinds.items()})


def _calmest(rounds: list[Effects]) -> Effects:
    return Effects(
        min(one.send_median_s for one in rounds),
        min(one.send_worst_s for one in rounds),
        min(one.probe_median_s for one in rounds),
        min(one.probe_worst_s for one in rounds),
        min(one.peak_kb for one in rounds),
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """The process with the server, from outside."""

    process: subprocess.Popen[str]
    port: int

    def effects(self, sends: int) -> Effects:
        """Let it send, and probe meanwhile."""
        self._forget_peak()
        with _probing(self.port) as took:
            late = self._message(sends)
        return Effects(median(late), max(late), median(took), max(took), self.peak_kb())

    def peak_kb(self) -> int:
        """Return the peak resident memory since the last reset of the peak."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

    def _forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="utf-8")

    def _message(self, sends: int) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{sends}\n")
        self.process.stdin.flush()
        late: list[float] = json.loads(self.process.stdout.readline())
        return late


@contextmanager
def _server(folder: Path) -> Iterator[_Served]:
    arguments = (sys.executable, "-m", __name__, str(folder))
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield _Served(process, int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def _probing(port: int) -> Iterator[list[float]]:
    """Send a probe repeatedly; the times are known at the end of the block."""
    took: list[float] = []
    over = Event()

    def probe() -> None:
        while not over.wait(PROBE_EVERY_S):
            took.append(_probe_s(port))

    thread = Thread(target=probe)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def _probe_s(port: int) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        answered = connection.getresponse().read() != b""
    except (OSError, http.client.HTTPException):
        answered = False
    finally:
        connection.close()
    return time.perf_counter() - began if answered else PROBE_TIMEOUT_S


# ---- the process with the server -----------------------------------------------------------------


async def _serve(folder: Path) -> None:
    """Print the port; then, for each number N on standard input, send N times and print the lateness."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with ExitStack() as stack:
        far_end = stack.enter_context(_far_end())
        state = open_state(
            str(folder / "state.db"), StateOptions(LeapingClock(), "bench", lock_timeout_s=1.0)
        )
        stack.callback(state.close_now)
        store = state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR)
        await store.identify("1", "localhost")
        shared_state = large(FAMILIES, restless=True)
        await _record_day(shared_state, store)
        server = start_server(Listen("127.0.0.1", 0), _routes(shared_state, store), on_error=print)
        stack.callback(server.stop)
        await _sends(shared_state, store, far_end, 10)
        print(server.url.rpartition(":")[2], flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            late = await _sends(shared_state, store, far_end, int(line))
            print(json.dumps(late), flush=True)


def _routes(shared_state: LatestState, store: SqlAccountStore) -> Mapping[str, Route]:
    began = time.monotonic()

    def now() -> float:
        return NOW + time.monotonic() - began

    def wall() -> datetime:
        return WALL + timedelta(seconds=time.monotonic() - began)

    async def read_timelines() -> Mapping[str, Callable[[], Timeline]]:
        since = LeapingClock().wall() - timedelta(hours=24)
        draw = await store.read_timeline(since, partial(asyncio.sleep, TIMELINE_PAUSE_S))
        return {ACCOUNT: draw}

    loop = asyncio.get_running_loop()

    async def ask_timeline() -> Mapping[str, Callable[[], Timeline]]:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(read_timelines(), loop))

    site = Endpoints(
        shared_state,
        Metrics(shared_state, now=now, wall=wall),
        responds=LoopPing(loop).responds,
        now=now,
        wall=wall,
        read_timelines=ask_timeline,
    )
    return site.routes()


async def _record_day(shared_state: LatestState, store: SqlAccountStore) -> None:
    """Record the input of the page's timelines: every family in alternating states."""
    (watched,) = shared_state.accounts()
    for state in ("in-sync", "drifted", "in-sync", "frozen"):
        await store.record_states(dict.fromkeys(watched.runtime.desired.families, state))


@contextmanager
def _far_end() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", FAR_END], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _sends(shared_state: LatestState, store: SqlAccountStore, port: int, number: int) -> list[float]:
    late = []
    for _ in range(number):
        due = time.perf_counter() + SEND_EVERY_S
        await asyncio.sleep(SEND_EVERY_S)
        await _send(store, port)
        late.append(time.perf_counter() - due)
        (watched,) = shared_state.accounts()
        shared_state.put(ACCOUNT, replace(watched))
    return late


async def _send(store: SqlAccountStore, port: int) -> None:
    slot = await store.reserve(REQUEST, ReserveOptions(assume_idle=True))
    assert isinstance(slot, Reservation)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 300)
    await reader.read()
    writer.close()
    await store.settle(
        slot.attempt,
        AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
    )


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
