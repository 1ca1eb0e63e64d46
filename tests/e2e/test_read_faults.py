"""Reads of commands that run once: a single failure is survived, a lasting one ends with its code."""

from __future__ import annotations

import pytest

from tests.e2e.processes import Desk, Ended, Exchange, configured, simulator

pytestmark = pytest.mark.e2e

FAULTS = ("50011", "50001", "50013", "50004", "50026", "html-502", "lost-before", "truncated")

COMMANDS = {
    "plan": ("plan", "--output", "json"),
    "import": ("import", "--out", "imported.yaml"),
    "doctor": ("doctor",),
    "reset": ("reset", "BTC-USD", "--yes"),
    "apply": ("apply", "--yes"),
}
"""Every command that runs once and queries the exchange; each checks the key's owner, and reads live."""


def retries(ended: Ended) -> int:
    return sum(line["event"] == "read failed, trying again" for line in ended.log)


@pytest.fixture
def desk(desk: Desk, exchange: Exchange) -> Desk:
    """A desk whose one family is live as desired, so that no command has anything to send."""
    exchange.change("BTC-USD", "5000/2000/100")
    desk.wants({"BTC-USD": "5s/2s/100"})
    return desk


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_one_failure_of_a_read_fails_no_command(desk: Desk, exchange: Exchange, fault: str) -> None:
    for name in ("plan", "import", "doctor"):
        exchange.control("fault", fault=f"account/{fault}")
        exchange.control("fault", fault=f"get/{fault}")
        ended = desk.mmp(*COMMANDS[name])
        assert ended.status == 0, (name, ended.stderr)
        assert retries(ended) == 2, (name, ended.stderr)
    assert exchange.written() == []


@pytest.mark.parametrize("fault", ["50011", "html-502"])
@pytest.mark.parametrize("name", ["apply", "reset"])
def test_commands_that_send_survive_one_failure_of_their_reads(
    desk: Desk, exchange: Exchange, name: str, fault: str
) -> None:
    exchange.control("fault", fault=f"account/{fault}")
    exchange.control("fault", fault=f"get/{fault}")
    ended = desk.mmp(*COMMANDS[name])
    assert (ended.status, exchange.written()) == (0, []), ended.stderr


@pytest.mark.slow
def test_a_failure_of_the_public_endpoints_fails_no_command(desk: Desk, exchange: Exchange) -> None:
    for name, command in COMMANDS.items():
        exchange.control("fault", fault="time/html-502")
        ended = desk.mmp(*command)
        assert (ended.status, retries(ended)) == (0, 1), (name, ended.stderr)


@pytest.mark.slow
def test_a_failure_that_lasts_ends_every_command_after_half_a_minute(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.control("fault", fault="account/50013:1000")
    running = {name: desk.start(*command) for name, command in COMMANDS.items()}
    for name, started in running.items():
        ended = started.wait()
        assert ended.status == 1, (name, ended.stderr)
        assert "50013" in ended.stdout + ended.stderr, name
        assert 25.0 < ended.seconds < 45.0, name
        assert 4 <= retries(ended) <= 6, name
    assert exchange.written() == []


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("fault", "status"), [("50111", 8), ("50101", 8), ("50112", 1)])
def test_what_a_person_has_to_correct_ends_a_command_at_once(
    desk: Desk, exchange: Exchange, name: str, fault: str, status: int
) -> None:
    exchange.control("fault", fault=f"account/{fault}:1000")
    ended = desk.mmp(*COMMANDS[name])
    assert (ended.status, retries(ended)) == (status, 0), ended.stderr


@pytest.mark.slow
def test_the_timeout_of_apply_bounds_the_retries(desk: Desk, exchange: Exchange) -> None:
    exchange.control("fault", fault="account/50013:1000")
    ended = desk.mmp(*COMMANDS["apply"], "--timeout", "3s")
    assert (ended.status, retries(ended)) == (1, 2)
    assert ended.seconds < 25


def test_a_reset_is_never_repeated(tmp_path_factory: pytest.TempPathFactory) -> None:
    with simulator(families=configured("BTC-USD")) as exchange:
        desk = Desk(tmp_path_factory.mktemp("reset") / "desk", exchange.variables)
        desk.wants({"BTC-USD": "5s/2s/100"})
        exchange.control("freeze", family="BTC-USD", ms=0)
        exchange.control("fault", fault="reset/50013")
        ended = desk.mmp(*COMMANDS["reset"])
        assert (ended.status, len(exchange.arrivals("reset"))) == (1, 1), ended.stderr
        desk.close()
