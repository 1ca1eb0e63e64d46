"""As process 1 of a container: the kernel delivers only the signals for which it has a handler."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, Running, eventually
from tests.e2e.test_signals import takes

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

ENDS_WITHIN_S = 2.5


def process_one(running: Running) -> int:
    """Return the id, outside, of the process that is 1 inside, once it takes SIGTERM."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")

    def child() -> int:
        found = children.read_text().split()
        return int(found[0]) if found and takes(int(found[0]), signal.SIGTERM) else 0

    return eventually(child, 20.0, "process 1 to take SIGTERM")


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize(
    ("command", "status"),
    [(("run", "--assume-idle"), 0), (("apply", "--yes"), 143), (("plan",), 143)],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_process_one_ends_on_a_signal(
    desk: Desk, exchange: Exchange, command: tuple[str, ...], status: int, after_s: float
) -> None:
    exchange.control("outage", seconds=60)
    running = desk.start(*command, under=CONTAINER)
    one = process_one(running)
    time.sleep(after_s)
    began = time.monotonic()
    os.kill(one, signal.SIGTERM)
    assert running.wait().status == status
    assert time.monotonic() - began < ENDS_WITHIN_S
