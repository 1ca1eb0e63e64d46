"""``mmp run`` as a sidecar: files change and break, settings drift, families freeze, the exchange fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, Running, configured, eventually, put_in_place, simulator

pytestmark = pytest.mark.e2e

RUN = ("run", "--assume-idle", "--interval", "1s")
BTC = {"BTC-USD": "5s/2s/100"}


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where BTC-USD matches BTC."""
    with simulator(families=configured("BTC-USD", "ETH-USD")) as running:
        yield running


def begun(desk: Desk, *flags: str) -> Running:
    """Start a sidecar over BTC and return it once it has recorded what is live."""
    desk.wants(BTC)
    sidecar = desk.start(*RUN, *flags)
    sidecar.wait_for_log("adopted")
    return sidecar


def in_force(exchange: Exchange, family: str, setting: str) -> None:
    eventually(lambda: exchange.live().get(family) == setting, 15.0, f"{family} to be {setting}")


def ends_well(sidecar: Running) -> None:
    """Stop the sidecar with SIGTERM: exit 0 within 2 s."""
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    ended = sidecar.wait()
    assert (ended.status, ended.stdout) == (0, "")
    assert time.monotonic() - began < 2.0
    assert ended.log[-1]["event"] == "stopped"


@pytest.mark.slow
def test_an_edited_file_is_applied_and_a_broken_one_is_not(desk: Desk, exchange: Exchange) -> None:
    sidecar = begun(desk)
    desk.wants({"BTC-USD": "5s/2s/90"})
    in_force(exchange, "BTC-USD", "5000/2000/90")
    sidecar.wait_for_log("config accepted", number=2)

    put_in_place(desk.config, desk.config.read_text().replace("qtyLimit: 90", "qtyLimt: 50"))
    rejected = sidecar.wait_for_log("config invalid")
    assert "last valid version stays in use" in rejected["event"]
    assert rejected["code"] == "unknown-key"
    assert rejected["at"] == "mmp.yaml:5:51"
    assert "qtyLimit" in rejected["hint"]
    exchange.change("BTC-USD", "5000/2000/9999")
    in_force(exchange, "BTC-USD", "5000/2000/90")

    desk.config.unlink()
    sidecar.wait_for_log("config invalid", number=2)
    desk.wants({"BTC-USD": "5s/2s/90"})
    sidecar.wait_for_log("config accepted", number=3)
    ends_well(sidecar)
    assert exchange.live()["BTC-USD"] == "5000/2000/90"


@pytest.mark.slow
def test_loosening_drift_is_healed_within_the_interval_and_tightening_drift_is_only_reported(
    desk: Desk, exchange: Exchange
) -> None:
    sidecar = begun(desk)
    exchange.change("BTC-USD", "5000/2000/101")
    in_force(exchange, "BTC-USD", "5000/2000/100")
    exchange.change("BTC-USD", "5000/2000/60")
    message = sidecar.wait_for_log("held")
    assert (message["family"], message["change"]) == ("BTC-USD", "qtyLimit 60 → 100")
    assert message["reason"] == "drifted tighter: reported, not changed back"
    message_so = "a status that shows it, 5 s after the last write"
    eventually(lambda: "≠ drifted" in desk.mmp("status").stdout, 15.0, message_so)
    assert exchange.live()["BTC-USD"] == "5000/2000/60"
    assert exchange.written() == ["BTC-USD"]
    ends_well(sidecar)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "requests"), [("heal", ["BTC-USD"]), ("warn", [])], ids=["heal-both-ways", "only-warn"]
)
def test_drift_is_treated_as_ordered(
    desk: Desk, exchange: Exchange, policy: str, requests: list[str]
) -> None:
    sidecar = begun(desk, "--drift", policy)
    drift = "5000/2000/60" if policy == "heal" else "5000/2000/9999"
    exchange.change("BTC-USD", drift)
    if requests:
        in_force(exchange, "BTC-USD", "5000/2000/100")
    else:
        assert sidecar.wait_for_log("held")["change"] == "qtyLimit 9999 → 100"
        time.sleep(1.5)
    assert exchange.written() == requests
    ends_well(sidecar)


@pytest.mark.slow
def test_a_frozen_family_is_not_written_until_that_is_over(desk: Desk, exchange: Exchange) -> None:
    sidecar = begun(desk)
    exchange.control("freeze", family="BTC-USD", ms=0)
    desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/90"})
    in_force(exchange, "ETH-USD", "5000/2000/90")
    time.sleep(1.5)
    assert exchange.written() == ["ETH-USD"]
    exchange.control("unfreeze", family="BTC-USD")
    in_force(exchange, "BTC-USD", "5000/2000/90")
    ends_well(sidecar)


def test_sighup_reads_the_file_at_once(desk: Desk, exchange: Exchange) -> None:
    desk.wants(BTC)
    sidecar = desk.start("run", "--assume-idle", "--interval", "10m")
    sidecar.wait_for_log("adopted")
    desk.wants({"BTC-USD": "5s/2s/90"})
    began = time.monotonic()
    sidecar.signal(signal.SIGHUP)
    in_force(exchange, "BTC-USD", "5000/2000/90")
    assert time.monotonic() - began < 2.0
    ends_well(sidecar)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unplug", "outage"])
def test_an_outage_is_survived(desk: Desk, exchange: Exchange, kind: str) -> None:
    sidecar = begun(desk)
    exchange.control(kind, seconds=8)
    desk.wants({"BTC-USD": "5s/2s/90"})
    sidecar.wait_for_log("failed: reading live settings", number=2)
    in_force(exchange, "BTC-USD", "5000/2000/90")
    sidecar.wait_for_log("the exchange answers again")
    assert exchange.written() == ["BTC-USD"]
    ends_well(sidecar)


def test_it_starts_during_an_outage_and_waits_for_the_end(desk: Desk, exchange: Exchange) -> None:
    exchange.control("outage", seconds=60)
    desk.wants({"BTC-USD": "5s/2s/90"})
    sidecar = desk.start(*RUN)
    sidecar.wait_for_log("failed: reading the account of the key")
    exchange.control("outage", seconds=0)
    in_force(exchange, "BTC-USD", "5000/2000/90")
    ends_well(sidecar)


@pytest.mark.slow
def test_switching_protection_off_is_held_and_the_rest_goes_on(desk: Desk, exchange: Exchange) -> None:
    sidecar = begun(desk)
    desk.wants({"BTC-USD": "disabled/2s/100", "ETH-USD": "5s/2s/90"})
    in_force(exchange, "ETH-USD", "5000/2000/90")
    time.sleep(1.5)
    assert exchange.live()["BTC-USD"] == "5000/2000/100"
    assert sidecar.wait_for_log("held")["reason"] == "would switch protection off"
    assert "held: would switch protection off" in desk.mmp("status").stdout
    ends_well(sidecar)
    assert exchange.written() == ["ETH-USD"]


@pytest.mark.slow
def test_a_family_taken_out_of_the_file_is_left_as_it_is(desk: Desk, exchange: Exchange) -> None:
    desk.wants({**BTC, "ETH-USD": "5s/2s/100"})
    sidecar = desk.start(*RUN)
    sidecar.wait_for_log("adopted")
    desk.wants(BTC)
    sidecar.wait_for_log("config accepted", number=2)
    exchange.change("ETH-USD", "5000/2000/9999")
    time.sleep(2.0)
    assert exchange.written() == []
    ends_well(sidecar)


@pytest.mark.slow
def test_sigterm_lets_the_request_in_flight_come_to_its_end(desk: Desk, exchange: Exchange) -> None:
    sidecar = begun(desk)
    exchange.control("fault", fault="set/slow@1.5")
    desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/90"})
    exchange.wait_for_requests(1)
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait().status == 0
    (attempt,) = desk.mmp("history", "--output", "json").document["attempts"]
    assert (attempt["family"], attempt["outcome"]) == ("BTC-USD", "applied")
    assert exchange.written() == ["BTC-USD"]


SLOW_TO_READ = """
import os
real = os.open
def slow(path, flags, *more, **named):
    if os.path.basename(os.fspath(path)) == os.environ["SLOW"]:
        with open(os.environ["GATE"], "rb") as gate:
            gate.read()
    return real(path, flags, *more, **named)
os.open = slow
"""
"""Run at the start of the interpreter: one file is read only once the writing end of a pipe is closed."""


def opened_for_reading(pipe: Path) -> int:
    """Return the writing end once someone waits for the content; nothing is ever written."""

    def opened() -> int | None:
        with suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        return None

    descriptor = eventually(opened, 15.0, "the file to be read")
    assert descriptor is not None
    return descriptor


@pytest.mark.parametrize("slow", ["mmp.yaml", "mmp-policy.yaml"])
@pytest.mark.parametrize("first", [(), (signal.SIGHUP,)], ids=["at-once", "after-sighup"])
def test_sigterm_while_it_starts_is_exit_0_and_nothing_is_sent(
    desk: Desk, exchange: Exchange, slow: str, first: tuple[signal.Signals, ...]
) -> None:
    desk.wants(BTC)
    put_in_place(desk.folder / "mmp-policy.yaml", "version: 1\n")
    hooks, pipe = desk.folder / "hooks", desk.folder / "gate"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(SLOW_TO_READ)
    os.mkfifo(pipe)
    sidecar = desk.start(*RUN, env={"PYTHONPATH": str(hooks), "SLOW": slow, "GATE": str(pipe)})
    writing_end = opened_for_reading(pipe)
    for number in (*first, signal.SIGTERM):
        sidecar.signal(number)
    os.close(writing_end)  # a signal that came right before the read is looked at after it
    ended = sidecar.wait(5.0)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert exchange.arrivals("account") == []
    assert not desk.state.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patience", "said"), [("1s", "state is locked"), ("30s", "account identified")], ids=["over", "within"]
)
def test_sigterm_while_another_process_holds_the_state(
    desk: Desk, exchange: Exchange, patience: str, said: str
) -> None:
    """An apply has the lock while it waits for its slots; the sidecar logs that it waits, then exits."""
    desk.wants(dict.fromkeys(("BTC-USD", "ETH-USD", "SOL-USD_UM", "XAU-USD_UM"), "5s/2s/90"))
    applying = desk.start("apply", "--yes", "--assume-idle")
    exchange.wait_for_requests(2)
    sidecar = desk.start(*RUN, "--lock-timeout", patience)
    line = sidecar.wait_for_log(said)
    assert said != "state is locked" or f"pid {applying.pid}" in line["reason"]
    time.sleep(0.5)
    ends_well(sidecar)
    assert applying.kill().status == -signal.SIGKILL


@pytest.mark.slow
def test_a_lock_held_for_long_is_waited_for(desk: Desk, exchange: Exchange) -> None:
    desk.wants(dict.fromkeys(("BTC-USD", "ETH-USD", "SOL-USD_UM"), "5s/2s/90"))
    applying = desk.start("apply", "--yes", "--assume-idle")
    exchange.wait_for_requests(2)
    sidecar = desk.start(*RUN, "--lock-timeout", "500ms")
    sidecar.wait_for_log("state is locked", number=3)
    assert applying.wait().status == 0
    ends_well(sidecar)
    assert len(exchange.written()) == 3


@pytest.mark.slow
def test_an_emergency_is_sent_while_an_apply_fails_again_and_again(desk: Desk, exchange: Exchange) -> None:
    """A family that the exchange reports busy makes an apply wait: run sends what its file tightens."""
    exchange.control("fault", fault="ETH-USD/50013:always")
    sidecar = begun(desk)
    desk.wants({"ETH-USD": "5s/2s/90"}, name="other.yaml")
    applying = desk.start("apply", "--yes", "-c", "other.yaml")
    exchange.wait_for_requests(1)
    time.sleep(1.0)
    desk.wants({"BTC-USD": "5s/2s/10"})
    edited = time.monotonic()
    sidecar.wait_for_log("request applied")
    assert time.monotonic() - edited < 13.0
    assert applying.process.poll() is None, "it still tries"
    ends_well(sidecar)
    applying.kill()


@pytest.mark.slow
def test_a_key_that_loses_its_right_stops_the_writing_and_not_the_program(
    desk: Desk, exchange: Exchange
) -> None:
    sidecar = begun(desk)
    exchange.control("accounts", permissions=["read_only"])
    desk.wants({"BTC-USD": "5s/2s/90"})
    refused = sidecar.wait_for_log("request rejected")
    assert refused["code"] == "50120"
    time.sleep(2.5)
    assert len(exchange.written()) == 1, "no second try before somebody had time to mend it"
    exchange.control("accounts", permissions=["read_only", "trade"])
    ends_well(sidecar)


def test_a_file_that_does_not_hold_at_the_start_is_exit_4(desk: Desk, exchange: Exchange) -> None:
    desk.config.write_text("version: 1\n")
    ended = desk.mmp(*RUN)
    assert ended.status == 4
    assert "error[missing-key]" in ended.stderr
    assert exchange.arrivals("account") == []


def test_a_file_for_another_account_is_refused_while_running(desk: Desk, exchange: Exchange) -> None:
    sidecar = begun(desk)
    desk.wants({"BTC-USD": "5s/2s/90"}, account="other")
    rejected = sidecar.wait_for_log("config invalid")
    assert "restart mmp run" in rejected["hint"]
    time.sleep(1.0)
    assert exchange.written() == []
    ends_well(sidecar)
