"""Output that is not read, or cannot be written: requests are sent, statuses stay, SIGTERM still works."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pexpect
import pytest

from tests.e2e.processes import MMP, Desk, Exchange, Running, eventually
from tests.e2e.web_client import Sidecar

pytestmark = pytest.mark.e2e

BTC = {"BTC-USD": "5s/2s/100"}
TWO = {**BTC, "ETH-USD": "5s/2s/100"}
RUN = ("run", "--assume-idle", "--interval", "1s", "--log-level", "debug")
APPLY = ("apply", "--yes", "--assume-idle", "--log-level", "debug")

ENDS_WITHIN_S = 2.5
"""For the end after SIGTERM: a second for a log that is not read, and a busy machine."""

RESULT_ENDS_WITHIN_S = 5.5
"""After SIGTERM if the result is not read: three seconds for that, one for the log, and a busy machine."""

CHUNK = 65536


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe that takes nothing more; a reader of its own would free it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"." * CHUNK):
            pass
    os.set_blocking(writing, True)
    try:
        yield reading, writing
    finally:
        for each in (reading, writing):
            with suppress(OSError):
                os.close(each)


@contextmanager
def closed_reader() -> Iterator[int]:
    """Give a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def full_device() -> Iterator[int]:
    """Give a device that has no room."""
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@contextmanager
def only_readable() -> Iterator[int]:
    """Give a descriptor that cannot be written to."""
    device = os.open("/dev/null", os.O_RDONLY)
    yield device
    os.close(device)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """Give a pipe that is full, and whose reader does not read."""
    with full_pipe() as (_, writing):
        yield writing


Unwritable = Callable[[], AbstractContextManager[int]]

UNWRITABLE = [unread_pipe, closed_reader, full_device, only_readable]


def reading(fd: int) -> tuple[threading.Thread, bytearray]:
    """Read ``fd`` to its end from now on, in a thread."""
    found = bytearray()

    def read() -> None:
        while piece := os.read(fd, CHUNK):
            found.extend(piece)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, found


def ends(
    running: Running, status: int, number: signal.Signals = signal.SIGTERM, within_s: float = ENDS_WITHIN_S
) -> None:
    began = time.monotonic()
    running.signal(number)
    assert running.wait().status == status
    assert time.monotonic() - began < within_s


@pytest.mark.slow
@pytest.mark.parametrize("unwritable", UNWRITABLE)
def test_run_heals_and_ends_whatever_its_log_leads_to(
    desk: Desk, exchange: Exchange, unwritable: Unwritable
) -> None:
    desk.wants(BTC)
    with unwritable() as stderr:
        running = desk.start(*RUN, stderr=stderr)
        exchange.wait_for_requests(1)
        exchange.change("BTC-USD", "5000/2000/900")
        exchange.wait_for_requests(2)
        assert not fcntl.fcntl(stderr, fcntl.F_GETFL) & os.O_NONBLOCK, "others write there, too"
        ends(running, 0)
    assert exchange.live()["BTC-USD"] == "5000/2000/100"


@pytest.mark.parametrize("unwritable", UNWRITABLE)
@pytest.mark.parametrize("flags", [(), ("--output", "json"), ("--log-format", "json")])
def test_apply_sends_everything_and_ends_as_its_work_did(
    desk: Desk, exchange: Exchange, unwritable: Unwritable, flags: tuple[str, ...]
) -> None:
    desk.wants(TWO)
    with unwritable() as stderr:
        ended = desk.start(*APPLY, *flags, stderr=stderr).wait()
    assert (ended.status, exchange.written()) == (0, ["BTC-USD", "ETH-USD"])
    if "--output" in flags:
        assert ended.outcomes == {"BTC-USD": "applied", "ETH-USD": "applied"}
    else:
        assert ended.stdout.endswith("Done: 2 applied.\n")


@pytest.mark.slow
def test_a_log_that_is_closed_changes_nothing(desk: Desk, exchange: Exchange) -> None:
    desk.wants(TWO)
    closed = ("/bin/sh", "-c", 'exec "$@" 2>&-', "sh")
    ended = desk.start(*APPLY, under=closed).wait()
    assert (ended.status, ended.stderr) == (0, "")
    running = desk.start(*RUN, under=closed)
    exchange.change("BTC-USD", "5000/2000/900")
    exchange.wait_for_requests(3)
    ends(running, 0)


@pytest.mark.parametrize("verb", ["plan", "status", "doctor", "validate"])
def test_a_log_that_cannot_be_written_changes_no_status(desk: Desk, exchange: Exchange, verb: str) -> None:
    """Also where a read is repeated, which is a log line."""
    desk.wants(BTC)
    exchange.control("fault", fault="get/50013:1")
    with full_device() as stderr:
        ended = desk.start(verb, stderr=stderr).wait()
    assert ended.status == 0, ended.stdout


@pytest.mark.slow
def test_a_reader_that_comes_back_gets_the_number_of_missing_lines(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    with full_pipe() as (log, stderr):
        sidecar = listening(desk, stderr)
        exchange.wait_for_requests(1)
        assert sidecar.metric("mmp_log_lines_dropped_total") == 0
        flood(desk, lambda: sidecar.metric("mmp_log_lines_dropped_total") > 100)
        assert memory_mb(sidecar.process.pid) < 200
        dropped = sidecar.metric("mmp_log_lines_dropped_total")
        thread, found = reading(log)
        eventually(lambda: b"lines dropped" in found, 10.0, "a line about what was dropped")
        last = sidecar.metric("mmp_log_lines_dropped_total")
        documents = json.loads(sidecar.ask("/api/v1/status")[1])
        (document,) = documents.get("statuses", [documents])
        assert document["watch"]["dropped_log_lines"] == last
        ends(sidecar.process, 0)
        os.close(stderr)
        thread.join(10.0)
    lines = [json.loads(line) for line in found.lstrip(b".").decode().splitlines()]
    message = [line["lines"] for line in lines if line["event"].startswith("lines dropped")]
    assert sum(message) == last >= dropped
    assert lines[-1]["event"] == "stopped"


def listening(desk: Desk, stderr: int) -> Sidecar:
    """Start a sidecar whose log is not read, on a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ("-c", ".", "--listen", f"127.0.0.1:{port}", "--log-format", "json")
    sidecar = Sidecar(desk.start(*RUN, *flags, stderr=stderr), f"http://127.0.0.1:{port}")

    def answers() -> bool:
        with suppress(OSError):
            return sidecar.ask("/livez")[0] == 200
        return False

    eventually(answers, 20.0, "the sidecar to listen")
    return sidecar


def flood(desk: Desk, enough: Callable[[], bool]) -> None:
    """Break a file in a hundred places, again and again, until ``enough``."""
    for number in range(400):
        families = {f"AAA-USD_{each}": f"5s/2s/-{number}" for each in range(100)}
        desk.wants(families, name="more.yaml", account="other")
        time.sleep(0.05)
        if enough():
            return
    raise AssertionError("nothing was dropped")


def memory_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        (line,) = (each for each in status if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


# ---- the result, on stdout -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--output", "json")], ids=["text", "json"])
def test_a_result_waits_for_its_reader_and_no_request_does(
    desk: Desk, exchange: Exchange, flags: tuple[str, ...]
) -> None:
    desk.wants(TWO)
    with full_pipe() as (result, stdout):
        running = desk.start(*APPLY, *flags, stdout=stdout)
        exchange.wait_for_requests(2)
        running.wait_for_log("request applied", number=2)
        time.sleep(1.5)
        assert running.process.poll() is None, "the result waits"
        thread, found = reading(result)
        ended = running.wait(5.0)
        os.close(stdout)
        thread.join(10.0)
    text = found.lstrip(b".").decode()
    assert ended.status == 0
    if flags:
        assert [one["outcome"] for one in json.loads(text)["results"]] == ["applied", "applied"]
    else:
        assert "Plan: 2 to set" in text
        assert text.endswith("Done: 2 applied.\n")


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--output", "json")], ids=["text", "json"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_output_of_a_result_that_is_not_read(
    desk: Desk, exchange: Exchange, flags: tuple[str, ...], number: signal.Signals, status: int
) -> None:
    desk.wants(BTC)
    with full_pipe() as (_, stdout):
        running = desk.start(*APPLY, *flags, stdout=stdout)
        exchange.wait_for_requests(1)
        running.wait_for_log("request applied")
        time.sleep(0.5)
        ends(running, status, number, RESULT_ENDS_WITHIN_S)
    (attempt,) = desk.mmp("history", "--output", "json").document["attempts"]
    assert attempt["outcome"] == "applied"


@pytest.mark.slow
def test_a_signal_ends_the_work_although_its_output_is_not_read(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="set/slow@0.5")
    desk.wants(TWO)
    with full_pipe() as (_, stdout), full_pipe() as (_, stderr):
        running = desk.start(*APPLY, stdout=stdout, stderr=stderr)
        exchange.wait_for_requests(1)
        ends(running, 143, within_s=RESULT_ENDS_WITHIN_S)
    (attempt,) = desk.mmp("history", "--output", "json").document["attempts"]
    assert attempt["outcome"] == "applied"


@pytest.mark.slow
def test_a_result_whose_reader_is_gone_stops_no_request(desk: Desk, exchange: Exchange) -> None:
    desk.wants(TWO)
    with closed_reader() as stdout:
        ended = desk.start(*APPLY, stdout=stdout).wait()
    assert (ended.status, exchange.written()) == (1, ["BTC-USD", "ETH-USD"])


# ---- a terminal ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_that_is_stopped_delays_no_request(desk: Desk, exchange: Exchange) -> None:
    desk.wants({**TWO, "SOL-USD_UM": "5s/2s/100"})
    child: pexpect.spawn[str] = pexpect.spawn(
        MMP, list(APPLY), cwd=str(desk.folder), env=desk.environment, encoding="utf-8", timeout=30
    )
    child.expect("next SOL-USD_UM at")
    child.send("\x13")
    exchange.wait_for_requests(3)
    eventually(lambda: attempts(desk) == ["applied"] * 3, 5.0, "the last request to be on record")
    assert child.isalive(), "the result waits for the terminal"
    child.send("\x11")
    child.expect("Done: 3 applied.")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def attempts(desk: Desk) -> list[str]:
    found = desk.mmp("history", "--output", "json").document["attempts"]
    return [attempt["outcome"] for attempt in found]


TOSTOP = """
import subprocess, sys, termios

modes = termios.tcgetattr(0)
modes[3] |= termios.TOSTOP
termios.tcsetattr(0, termios.TCSANOW, modes)
sys.exit(subprocess.run(sys.argv[1:], process_group=0).returncode)
"""
"""What ``stty tostop`` and a job in the background are: writing to the terminal stops such a job."""


@pytest.mark.slow
def test_a_terminal_that_stops_jobs_in_the_background_stops_no_heal(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    child: pexpect.spawn[str] = pexpect.spawn(
        sys.executable,
        ["-c", TOSTOP, MMP, *RUN],
        cwd=str(desk.folder),
        env=desk.environment,
        encoding="utf-8",
        timeout=30,
    )
    child.expect("request applied")
    exchange.change("BTC-USD", "5000/2000/900")
    exchange.wait_for_requests(2)
    child.expect("request applied")
    child.close(force=True)


def test_a_plan_goes_to_its_file_beside_the_bar_on_the_terminal(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    child: pexpect.spawn[str] = pexpect.spawn(
        "/bin/sh",
        ["-c", 'exec "$@" > plan.txt', "sh", MMP, *APPLY],
        cwd=str(desk.folder),
        env=desk.environment,
        encoding="utf-8",
        timeout=30,
    )
    child.expect("applied BTC-USD")
    child.expect(pexpect.EOF)
    written = (desk.folder / "plan.txt").read_text(encoding="utf-8")
    assert "Plan: 1 to set" in written
    assert written.endswith("Done: 1 applied.\n")
