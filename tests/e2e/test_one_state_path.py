"""One state file by two names: each would be a ledger of its own, so no command uses it then."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, eventually
from tests.e2e.web_client import ends_well, started

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


@pytest.mark.slow
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


def test_a_run_does_not_begin_with_it(desk: Desk, exchange: Exchange, other: Path) -> None:
    ended = desk.start("run", "--assume-idle", "--log-format", "json").wait(30)
    assert ended.status == 1
    assert "state-linked" in {line.get("code") for line in ended.log}
    assert exchange.written() == ["BTC-USD"]
    assert other.exists()


@pytest.mark.slow
def test_a_run_goes_on_once_the_links_of_a_backup_are_gone(desk: Desk, exchange: Exchange) -> None:
    """``cp -al`` gives each file of the folder a second name, also the log of SQLite and the locks."""
    desk.wants({"BTC-USD": "5s/2s/100"})
    run = started(desk, "--assume-idle", "--interval", "1s", "--drift", "heal")
    run.wait_for("/startupz", 30.0)
    backup = desk.folder / "backup"
    subprocess.run(["cp", "-al", desk.state.parent, backup], check=True)
    exchange.change("BTC-USD", "5000/2000/900")
    line = run.process.wait_for_log("state cannot be used", 10.0)
    assert line["code"] == "state-linked"
    assert run.ask("/livez")[0] == 200
    assert run.ask("/readyz")[0] == 503
    assert run.metric("mmp_state_failures_total") >= 1
    run.process.wait_for_log("state cannot be used", 10.0, number=3)
    assert exchange.written() == ["BTC-USD"]
    shutil.rmtree(backup)
    eventually(lambda: exchange.live()["BTC-USD"] == "5000/2000/100", 60.0, "the drift to be put back")
    run.wait_for("/readyz", 40.0)
    ends_well(run)
