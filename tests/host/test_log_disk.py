"""A log on a small disk that is full, and that has room again later."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, eventually, log_lines
from tests.support.requirements import UNSHARE

FULL = (
    'mount -t tmpfs -o size=64k tmpfs "$1" && { cat /dev/zero > "$1/ballast" 2>/dev/null || true; }'
    ' && log="$1/log" && shift && exec "$@" 2>>"$log"'
)


@pytest.fixture(autouse=True)
def logs(desk: Desk) -> None:
    (desk.folder / "logs").mkdir()


def on_a_full_disk(desk: Desk) -> tuple[str, ...]:
    """Return what sends the log of the command that follows to a disk without room."""
    return (*UNSHARE, "sh", "-c", FULL, "sh", str(desk.folder / "logs"))


def test_run_goes_on_beside_a_full_disk_and_says_later_what_is_missing(
    desk: Desk, exchange: Exchange
) -> None:
    flags = ("--assume-idle", "--interval", "1s", "--log-level", "debug", "--log-format", "json")
    running = desk.start("run", *flags, under=on_a_full_disk(desk))
    exchange.wait_for_requests(1)
    exchange.change("BTC-USD", "5000/2000/900")
    exchange.wait_for_requests(2)
    disk = Path(f"/proc/{running.pid}/root{desk.folder}/logs")
    assert (disk / "log").read_bytes() == b""
    (disk / "ballast").unlink()

    def dropped_counts() -> list[int]:
        with suppress(ValueError):
            lines = log_lines((disk / "log").read_text())
            return [line["lines"] for line in lines if line["event"].startswith("lines dropped")]
        return []

    eventually(dropped_counts, 10.0, "a line about what is missing")
    (missing,) = dropped_counts()
    assert missing > 10
    running.signal(signal.SIGTERM)
    assert running.wait(4.0).status == 0


def test_apply_ends_as_its_work_did_beside_a_full_disk(desk: Desk, exchange: Exchange) -> None:
    ended = desk.start("apply", "--yes", "--assume-idle", under=on_a_full_disk(desk)).wait()
    assert ended.status == 0
    assert ended.stdout.endswith("Done: 1 applied.\n")
    assert exchange.written() == ["BTC-USD"]
