"""One state file by two names: each would be a ledger of its own, so no command uses it then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.rig import Desk, Exchange

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle", "--output", "json")


@pytest.fixture
def other(desk: Desk) -> Path:
    """A second name of a state that a request was sent from."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp(*APPLY).status == 0
    name = desk.folder / "other" / "state.db"
    name.parent.mkdir(0o700)
    os.link(desk.state, name)
    return name


def test_two_names_of_one_state_never_send_twice_the_rate(
    desk: Desk, exchange: Exchange, other: Path
) -> None:
    desk.wants({"BTC-USD": "5s/2s/50", "ETH-USD": "5s/2s/50", "SOL-USD_UM": "5s/2s/50"})
    both = [desk.start(*APPLY, "--state", str(name)) for name in (desk.state, other)]
    for ended in [one.wait() for one in both]:
        assert (ended.status, ended.document["problems"][0]["code"]) == (1, "state-linked")
    assert exchange.written() == ["BTC-USD"]
    other.unlink()
    assert desk.mmp(*APPLY).status == 0


@pytest.mark.parametrize("verb", ["plan", "status", "history", "doctor"])
def test_what_only_reads_refuses_it_too(desk: Desk, other: Path, verb: str) -> None:
    for name in (desk.state, other):
        ended = desk.mmp(verb, "--state", str(name))
        assert ended.status == 1
        assert "has another hard link" in ended.stdout + ended.stderr


def test_a_run_ends_when_its_state_gets_a_second_name(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    running = desk.start("run", "--assume-idle", "--interval", "1s", "--log-format", "json")
    exchange.wait_for_requests(1)
    os.link(desk.state, desk.folder / "other.db")
    ended = running.wait(30)
    assert ended.status == 1
    assert "state-linked" in {line.get("error") or line.get("code") for line in ended.log}
