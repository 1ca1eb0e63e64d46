"""A state on a small disk of its own that is filled up under a ``run``, and freed again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, configured, eventually, simulator
from tests.e2e.web_client import Sidecar, ends_well, started
from tests.support.requirements import UNSHARE

WANTED = {"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"}
LOOSE, AS_WANTED = "5000/2000/900", "5000/2000/100"
RUN = ("--interval", "1s", "--drift", "heal")

MOUNTED = 'mount -t tmpfs -o size=1m,mode=700 tmpfs "$1" && shift && exec "$@"'
FULL_AT_ONCE = (
    'mount -t tmpfs -o size=1m,mode=700 tmpfs "$1" && cp -p made.db "$1/state.db"'
    ' && { cat /dev/zero > "$1/ballast" 2>/dev/null || true; } && shift && exec "$@"'
)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with simulator(families=configured("BTC-USD", "ETH-USD", setting=AS_WANTED)) as running:
        yield running


@pytest.fixture
def desk(exchange: Exchange, tmp_path: Path) -> Iterator[Desk]:
    here = Desk(tmp_path / "desk", exchange.variables)
    here.wants(WANTED)
    here.state.parent.mkdir()
    yield here
    here.close()


def on_a_small_disk(desk: Desk, script: str = MOUNTED) -> tuple[str, ...]:
    """Return what mounts a small disk where the state is, seen only by the command that follows."""
    return (*UNSHARE, "sh", "-c", script, "sh", str(desk.state.parent))


def disk_of(run: Sidecar, desk: Desk) -> Path:
    """Return the small disk of a running process."""
    return Path(f"/proc/{run.process.pid}/root{desk.state.parent}")


def fill(disk: Path) -> Path:
    """Use up all space; returns the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    assert os.statvfs(disk).f_bavail == 0
    return ballast


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_is_waited_out(desk: Desk, exchange: Exchange) -> None:
    run = started(desk, *RUN, under=on_a_small_disk(desk))
    run.wait_for("/startupz", 30.0)
    ballast = fill(disk_of(run, desk))
    exchange.change("BTC-USD", LOOSE)
    assert run.process.wait_for_log("state cannot be used", 30.0)["code"] == "state-disk-full"
    run.process.wait_for_log("state cannot be used", 30.0, number=3)
    assert {line["code"] for line in failures(run)} == {"state-disk-full"}
    assert run.ask("/livez")[0] == 200
    assert run.ask("/readyz")[0] == 503
    ballast.unlink()
    eventually(lambda: exchange.live()["BTC-USD"] == AS_WANTED, 120.0, "the drift to be put back")
    run.wait_for("/readyz", 40.0)
    ends_well(run)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start_is_waited_out(desk: Desk, exchange: Exchange) -> None:
    """There is no room for SQLite's extra files beside a state; it reports only that it cannot open it."""
    desk.uses_state(exchange)
    desk.state.rename(desk.folder / "made.db")
    ended = desk.start("apply", "--yes", under=on_a_small_disk(desk, FULL_AT_ONCE)).wait()
    assert (ended.status, ended.error_code) == (1, "state-disk-full")
    doctor = desk.start("doctor", under=on_a_small_disk(desk, FULL_AT_ONCE)).wait()
    assert doctor.status == 1
    assert "no space left for the state" in doctor.stdout
    run = started(desk, *RUN, under=on_a_small_disk(desk, FULL_AT_ONCE))
    assert run.process.wait_for_log("state cannot be used", 30.0)["code"] == "state-disk-full"
    assert run.ask("/livez")[0] == 200
    assert run.ask("/readyz")[0] == 503
    time.sleep(1.0)
    (disk_of(run, desk) / "ballast").unlink()
    run.wait_for("/startupz", 60.0)
    ends_well(run)


@pytest.mark.slow
def test_a_disk_without_inodes_is_full_too(desk: Desk, exchange: Exchange) -> None:
    desk.uses_state(exchange)
    desk.state.rename(desk.folder / "made.db")
    no_inodes = FULL_AT_ONCE.replace("mode=700", "nr_inodes=3,mode=700")
    ended = desk.start("apply", "--yes", under=on_a_small_disk(desk, no_inodes)).wait()
    assert (ended.status, ended.error_code) == (1, "state-disk-full")


def failures(run: Sidecar) -> list[dict[str, str]]:
    return [line for line in run.process.log() if line["event"] == "state cannot be used"]
