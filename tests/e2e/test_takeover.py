"""Two ``run`` processes on one state file: one controls the account, the other writes nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import Desk, Exchange, Running, configured, eventually, simulator
from tests.e2e.web_client import Sidecar, ends_well
from tests.support.webhook import webhook

pytestmark = pytest.mark.e2e

RUN = ("run", "--assume-idle", "--interval", "1s", "--drift", "heal", "--listen", "127.0.0.1:0")
STANDING_BY = "standby: another process controls the account"


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where BTC-USD matches the first file."""
    with simulator(families=configured("BTC-USD")) as running:
        yield running


def started(desk: Desk, name: str, quantity: str, **env: str) -> Sidecar:
    """Start a run with a file of its own on the state of the desk."""
    desk.wants({"BTC-USD": f"5s/2s/{quantity}"}, name=name)
    process = desk.start(*RUN, "-c", name, "--state", str(desk.state), env=env)
    return Sidecar(process, process.wait_for_log("listening")["url"])


def sent(exchange: Exchange) -> list[str]:
    return [one["setting"]["qtyLimit"] for one in exchange.arrivals()]


def on_record(desk: Desk) -> list[list[tuple[Any, ...]]]:
    """Return the rows that a standby must not change, and that an idle controller does not change."""
    with sqlite3.connect(f"file:{desk.state}?mode=ro", uri=True) as db:
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("attempts", "applied")]


def named(process: Running) -> str:
    return f"pid {process.pid} on "


@pytest.mark.slow
def test_the_second_writes_nothing_and_takes_over_when_the_first_is_killed(
    desk: Desk, exchange: Exchange
) -> None:
    with webhook() as hook:
        first = started(desk, "first.yaml", "100")
        first.wait_for("/startupz", 15.0)
        second = started(desk, "second.yaml", "70", MMP_NOTIFY=hook.url())
        message = second.process.wait_for_log(STANDING_BY)
        assert named(first.process) in message["controller"]
        assert "(run, since " in message["controller"]
        eventually(lambda: second.status()["live_at"], 10.0, "the standby to read live")
        assert second.ask("/livez")[0] == 200
        status, body = second.ask("/readyz?verbose")
        assert (status, f"standby-main-live ok: controlled by {named(first.process)}" in body) == (
            200,
            True,
        )
        assert second.ask("/startupz")[0] == 503, "its own file is tighter than what is in force"
        assert second.status()["controller"]["pid"] == first.process.pid
        assert first.status()["controller"] is None
        assert second.metric("mmp_standby") == 1
        assert first.metric("mmp_standby") == 0
        assert "Standby, this process writes nothing" in second.ask("/")[1]
        assert f"controlled by {named(first.process)}" in desk.mmp("status", "-c", "first.yaml").stdout

        exchange.change("BTC-USD", "5000/2000/999")
        eventually(lambda: sent(exchange) == ["100"], 10.0, "the first to heal")
        first.process.wait_for_log("request applied")
        before = on_record(desk)
        time.sleep(62.0)
        assert sent(exchange) == ["100"], "none from the second"
        assert on_record(desk) == before
        began = eventually(
            lambda: [one for one in hook.documents() if one["kind"] == "standby"], 10.0, "the alert"
        )
        assert named(first.process) in began[0]["text"]
        assert len([line for line in second.process.log() if STANDING_BY in line["event"]]) == 1

        first.process.kill()
        killed_at = time.monotonic()
        second.process.wait_for_log("this process controls the account now", within_s=3.0)
        assert time.monotonic() - killed_at < 2.0
        eventually(lambda: sent(exchange) == ["100", "70"], 15.0, "the second to apply its file")
        second.wait_for("/startupz", 5.0)
        exchange.change("BTC-USD", "5000/2000/999")
        eventually(lambda: sent(exchange) == ["100", "70", "70"], 20.0, "the second to heal")
        assert second.status()["controller"] is None
        over = eventually(
            lambda: [
                one for one in hook.documents() if (one["kind"], one["status"]) == ("standby", "resolved")
            ],
            10.0,
            "the end of the alert",
        )
        assert over[0]["text"].endswith("is no longer a standby.")
        ends_well(second)
    assert "no controller runs" in desk.mmp("status", "-c", "first.yaml").stdout


def test_an_apply_enters_between_the_passes_of_the_controller(desk: Desk, exchange: Exchange) -> None:
    controller = started(desk, "mmp.yaml", "100")
    controller.wait_for("/startupz", 15.0)
    desk.wants({"ETH-USD": "5s/2s/70"}, name="other.yaml")
    ended = desk.mmp(
        *("apply", "--yes", "--assume-idle", "--output", "json", "-c", "other.yaml"),
        *("--state", str(desk.state)),
    )
    assert (ended.status, ended.outcomes) == (0, {"ETH-USD": "applied"})
    ends_well(controller)
