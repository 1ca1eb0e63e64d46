"""A ``run`` whose state file fails for a while: it logs that, sends nothing, and recovers later."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.processes import Desk, Exchange, configured, eventually, simulator
from tests.e2e.web_client import Sidecar, ends_well, started

RUN = ("--interval", "1s", "--drift", "heal")
WANTED = {"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"}
LOOSE, AS_WANTED = "5000/2000/900", "5000/2000/100"

BUSY_S = 7.0
PROBED_WITHIN_S = 1.0


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where both families are as the file of the desk wants them."""
    with simulator(families=configured("BTC-USD", "ETH-USD", setting=AS_WANTED)) as running:
        yield running


@pytest.fixture
def run(desk: Desk, exchange: Exchange) -> Sidecar:
    """A ``run`` that is in sync, and reads live every second."""
    del exchange
    desk.wants(WANTED)
    running = started(desk, *RUN)
    running.wait_for("/startupz", 30.0)
    return running


@contextmanager
def held(desk: Desk) -> Iterator[None]:
    """Lock the state as another program that writes to it does."""
    db = sqlite3.connect(desk.state, isolation_level=None, timeout=10.0)
    db.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        db.close()


def probes_until(run: Sidecar, end: float) -> list[tuple[float, int]]:
    """Send probes until ``end``: returns when each was answered, and whether the process was ready."""
    asked = []
    while (began := time.monotonic()) < end:
        assert run.ask("/livez")[0] == 200
        ready, _ = run.ask("/readyz")
        asked.append((time.monotonic() - began, ready))
        time.sleep(0.1)
    return asked


def heals(run: Sidecar, exchange: Exchange) -> None:
    """Check that the drift is healed without help, at the rate limit, and that the process is well."""
    eventually(lambda: exchange.live()["BTC-USD"] == AS_WANTED, 90.0, "the drift to be put back")
    run.wait_for("/readyz", 40.0)
    ends_well(run)


@pytest.mark.slow
def test_a_run_waits_out_a_state_that_is_busy(desk: Desk, exchange: Exchange, run: Sidecar) -> None:
    with held(desk):
        exchange.change("BTC-USD", LOOSE)
        asked = probes_until(run, time.monotonic() + BUSY_S)
        line = run.process.wait_for_log("state cannot be used", 5.0)
        assert line["code"] == "state-busy"
        assert exchange.written() == []
        assert run.metric("mmp_state_failures_total") >= 1
    assert max(took for took, _ in asked) < PROBED_WITHIN_S
    assert 503 in {ready for _, ready in asked}
    heals(run, exchange)


@pytest.mark.slow
def test_a_run_that_is_stopped_while_the_state_is_busy_ends_at_once(desk: Desk, run: Sidecar) -> None:
    with held(desk):
        time.sleep(2.0)
        ends_well(run)


@pytest.mark.slow
def test_a_run_begins_once_the_state_is_not_busy_any_more(desk: Desk, exchange: Exchange) -> None:
    desk.wants(WANTED)
    desk.uses_state(exchange)
    with held(desk):
        run = started(desk, *RUN, "--lock-timeout", "1s")
        assert run.process.wait_for_log("state cannot be used", 15.0)["code"] == "state-busy"
        assert run.ask("/livez")[0] == 200
        assert run.ask("/readyz")[0] == 503
    run.wait_for("/startupz", 40.0)
    ends_well(run)


def test_a_run_that_waits_for_its_state_at_the_start_ends_when_asked_to(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(WANTED)
    desk.uses_state(exchange)
    with held(desk):
        run = started(desk, *RUN)
        time.sleep(1.0)
        ends_well(run)


@pytest.mark.slow
def test_an_apply_waits_for_a_busy_state_up_to_the_lock_timeout(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/50"})
    desk.uses_state(exchange)
    with held(desk):
        late = desk.mmp("apply", "--yes", "--assume-idle", "--lock-timeout", "1s")
        patient = desk.start("apply", "--yes", "--assume-idle", "--lock-timeout", "30s")
        time.sleep(BUSY_S)
    assert (late.status, late.error_code) == (1, "state-busy")
    assert patient.wait().status == 0
    assert exchange.written() == ["BTC-USD"]


@pytest.mark.slow
def test_a_run_survives_a_disk_that_does_not_write(desk: Desk, exchange: Exchange, run: Sidecar) -> None:
    """A limit on the size of files makes each write beyond it fail as a broken disk does."""
    del desk
    limits = resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (70_000, limits[1]))
    exchange.change("BTC-USD", LOOSE)
    assert run.process.wait_for_log("state cannot be used", 60.0)["code"] == "state-io-error"
    run.process.wait_for_log("state cannot be used", 30.0, number=3)
    assert run.ask("/livez")[0] == 200
    assert run.ask("/readyz")[0] == 503
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, limits)
    heals(run, exchange)
