"""SIGTERM and SIGINT at any moment, from the start on: a documented status, nothing left in flight."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, eventually

pytestmark = pytest.mark.e2e

RUN = ("run", "--assume-idle", "--interval", "1s")
APPLY = ("apply", "--yes", "--assume-idle", "--lock-timeout", "5s")

MOMENTS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.1, 1.4)

FIRST_IMPORTS = """
import json, sys
from reconciler.process_signals import SIGNALS

def installed(command):
    print(json.dumps([command, sorted(sys.modules)]))
    sys.exit()

type(SIGNALS).install = lambda self, command: installed(command)
from reconciler.__main__ import main
main()
"""


def takes(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for a signal, by the kernel (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("command", ["run", "apply"])
def test_signals_are_taken_before_anything_that_takes_long_is_imported(command: str) -> None:
    asked = [sys.executable, "-c", FIRST_IMPORTS, command]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    verb, imported = json.loads(done.stdout)
    bare = subprocess.run(
        [sys.executable, "-c", "import json, signal, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ours = {"reconciler", "reconciler.__main__", "reconciler.process_signals", "__future__"}
    assert verb == command
    assert set(imported) - set(json.loads(bare.stdout)) <= ours


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "number", "status"),
    [
        (RUN, signal.SIGTERM, 0),
        (RUN, signal.SIGINT, 0),
        (APPLY, signal.SIGTERM, 143),
        (APPLY, signal.SIGINT, 130),
    ],
    ids=["run-TERM", "run-INT", "apply-TERM", "apply-INT"],
)
def test_a_signal_at_any_moment_ends_it_with_its_status(
    desk: Desk, exchange: Exchange, command: tuple[str, ...], number: signal.Signals, status: int
) -> None:
    """Of SIGTERM also before Python itself has started: then it kills, which sh calls 143.

    SIGINT at such a moment is Python's own, which ends with 1.
    """
    for change, moment in enumerate(MOMENTS_S):
        desk.wants({"BTC-USD": f"5s/2s/{100 + change}", "ETH-USD": f"5s/2s/{100 + change}"})
        running = desk.start(*command)
        if number is signal.SIGINT:
            eventually(lambda: takes(running.pid, signal.SIGTERM), 10.0, "the program's own handlers")  # noqa: B023 - called at once
        time.sleep(moment)
        taken = takes(running.pid, signal.SIGTERM)
        running.signal(number)
        ended = running.wait(5.0)
        over = ended.status == 0 and "Done: " in ended.stdout  # it had ended before the signal came
        assert ended.status == status or over or (ended.status == -number and not taken), moment
    exchange.control("fault", fault="set/slow@0.3")
    before = len(exchange.arrivals())
    desk.wants({"BTC-USD": "5s/2s/50", "ETH-USD": "5s/2s/50"})
    running = desk.start(*command)
    exchange.wait_for_requests(before + 1)
    running.signal(number)
    assert running.wait(5.0).status == status
    attempts = desk.mmp("history", "--output", "json").document["attempts"]
    assert len(attempts) == len(exchange.arrivals())
    assert {attempt["outcome"] for attempt in attempts} == {"applied"}


def test_an_interrupt_that_the_caller_ignores_stays_ignored(desk: Desk, exchange: Exchange) -> None:
    """As sh does for a job in the background."""
    exchange.control("outage", seconds=60)
    desk.wants({"BTC-USD": "5s/2s/100"})
    running = desk.start("plan", under=("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh"))
    eventually(lambda: takes(running.pid, signal.SIGTERM), 10.0, "its signals to be taken")
    for _ in range(4):
        running.signal(signal.SIGINT)
        time.sleep(0.3)
    assert running.process.poll() is None
    running.signal(signal.SIGTERM)
    assert running.wait(3.0).status == 143


def test_under_nohup_an_apply_goes_on_when_the_session_is_gone(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="set/slow@0.3")
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    running = desk.start(*APPLY, under=("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh"))
    exchange.wait_for_requests(1)
    running.signal(signal.SIGHUP)
    assert running.wait(20.0).status == 0
    assert exchange.written() == ["BTC-USD", "ETH-USD"]


@pytest.mark.slow
def test_a_signal_while_the_state_is_awaited_ends_an_apply(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100", "SOL-USD_UM": "5s/2s/100"})
    first = desk.start(*APPLY)
    exchange.wait_for_requests(2)
    waiting = desk.start("apply", "--yes", "--lock-timeout", "60s")
    eventually(lambda: takes(waiting.pid, signal.SIGTERM), 10.0, "its signals to be taken")
    time.sleep(1.0)
    waiting.signal(signal.SIGTERM)
    assert waiting.wait(3.0).status == 143
    assert first.wait().status == 0
