"""The cost of an idle sidecar: 6 families in sync, ``--listen``, and no HTTP client.

Three processes are measured through the same minute: one that reads live settings every 30 s, one whose
next read is far away (its wake-ups are those besides the interval's reads), and a bare aiohttp server
with nothing else. The kernel's counters of the three are compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import FAMILIES, Desk, configured, simulator

WATCHED_S = 60.0
QUIET_S = 8.0
"""After the start: a start's own work is done by then, including the second reads of the files."""

BARE = """
import asyncio
from aiohttp import web

async def main():
    async def handle(request):
        return web.Response(text="ok")

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process used: share of a core, wake-ups a minute, resident memory."""

    core: float
    wakeups: float
    resident_kb: int


@dataclass(frozen=True, slots=True)
class Idle:
    """A sidecar that reads every 30 s, the same without reads, and a bare server."""

    sidecar: Cost
    without_reads: Cost
    bare: Cost


def idling(folder: Path) -> Idle:
    """Measure all three through one minute."""
    families = dict.fromkeys(FAMILIES, "5s/2s/100")
    with (
        simulator(families=configured(*FAMILIES)) as exchange,
        _bare_server() as bare,
        _sidecar(folder / "reading", exchange.variables, families, "30s") as reading,
        _sidecar(folder / "calm", exchange.variables, families, "10m") as calm,
    ):
        time.sleep(QUIET_S)
        costs = _costs(reading, calm, bare)
    return Idle(*costs)


@contextmanager
def _sidecar(
    folder: Path, variables: dict[str, str], families: dict[str, str], interval: str
) -> Iterator[int]:
    desk = Desk(folder, variables)
    desk.wants(families)
    running = desk.start("run", "--assume-idle", "--listen", "127.0.0.1:0", "--interval", interval)
    url = running.wait_for_log("listening")["url"]
    running.wait_for_log("adopted")
    _ask(url)
    try:
        yield running.pid
    finally:
        desk.close()


@contextmanager
def _bare_server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _ask(process.stdout.readline().strip())
        try:
            yield process.pid
        finally:
            process.kill()


def _ask(url: str) -> None:
    """Send one request first: what a server allocates at its first request is part of its cost."""
    with urllib.request.urlopen(f"{url}/livez", timeout=10) as reply:
        reply.read()


def _costs(*pids: int) -> tuple[Cost, ...]:
    before = [(_on_core_s(pid), _wakeups(pid)) for pid in pids]
    time.sleep(WATCHED_S)
    return tuple(
        Cost(
            (_on_core_s(pid) - core_s) / WATCHED_S,
            (_wakeups(pid) - wakeups) * 60.0 / WATCHED_S,
            _status(pid, "VmRSS"),
        )
        for pid, (core_s, wakeups) in zip(pids, before, strict=True)
    )


def _on_core_s(pid: int) -> float:
    return sum(int(_read(one, "schedstat").split()[0]) for one in _tasks(pid)) / 1e9


def _wakeups(pid: int) -> int:
    return sum(_field(_read(one, "status"), "voluntary_ctxt_switches") for one in _tasks(pid))


def _status(pid: int, name: str) -> int:
    return _field(_read(Path(f"/proc/{pid}"), "status"), name)


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def _field(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name}:"))
