"""Two accounts of one ``mmp run``, and replies to one of them that are slow: the other does not wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Exchange, Running, configured, eventually, simulator

pytestmark = pytest.mark.e2e

SLOW_S = 9.0
"""How late the slow replies are: just short of the deadline of a request."""

PROMPT_S = 6.0
"""Within that the other account's change has arrived: a machine that is not busy needs less than one."""

SLOW, OTHER = "999000000001", "999000000002"
PREFIXES = {"slow": "OKX_", "other": "SECOND_"}


@pytest.fixture
def exchange(request: pytest.FixtureRequest) -> Iterator[Exchange]:
    """An exchange with two accounts whose BTC-USD is the first setting of ``wants``."""
    with simulator("--accounts", "2", *getattr(request, "param", ()), families=configured("BTC-USD")) as up:
        up.control(
            "settings",
            uid=OTHER,
            family="BTC-USD",
            timeInterval="5000",
            frozenInterval="2000",
            qtyLimit="100",
        )
        yield up


@pytest.fixture
def desk(exchange: Exchange, tmp_path: Path) -> Iterator[Desk]:
    """A folder of two files, and the keys of both."""
    seconds = {
        name.replace("OKX_", "SECOND_"): value.replace("-1", "-2")
        for name, value in exchange.variables.items()
        if name.startswith("OKX_")
    }
    here = Desk(tmp_path / "desk", exchange.variables | seconds)
    (here.folder / "accounts").mkdir()
    yield here
    here.close()


def wants(desk: Desk, account: str, quantity: int) -> None:
    setting = {"BTC-USD": f"5s/2s/{quantity}"}
    prefix = f"{{prefix: {PREFIXES[account]}}}"
    desk.wants(setting, name=f"accounts/{account}.yaml", account=account, credentials=prefix)


def started(desk: Desk) -> Running:
    return desk.start("run", "-c", "accounts", "--assume-idle", "--interval", "60s")


def quantities(exchange: Exchange) -> tuple[str, str]:
    """Return what is in force for the slow account and for the other one."""
    live = exchange.live_of_all()
    return live[SLOW]["BTC-USD"].rpartition("/")[2], live[OTHER]["BTC-USD"].rpartition("/")[2]


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["get", "set"])
def test_a_slow_reply_to_one_account_delays_no_other(desk: Desk, exchange: Exchange, endpoint: str) -> None:
    wants(desk, "slow", 100)
    wants(desk, "other", 100)
    sidecar = started(desk)
    sidecar.wait_for_log("adopted", number=2)
    asked = len(exchange.arrivals(endpoint))
    exchange.control("fault", fault=f"{endpoint}/slow-unapplied@{SLOW_S:g}")
    wants(desk, "slow", 50)
    eventually(lambda: len(exchange.arrivals(endpoint)) > asked, 15.0, "the request that is answered late")
    began = time.monotonic()
    wants(desk, "other", 50)
    eventually(lambda: quantities(exchange)[1] == "50", PROMPT_S, "the other account's change")
    assert time.monotonic() - began < PROMPT_S < SLOW_S
    assert (
        len([one for one in sidecar.log() if one.get("account") == "slow" and "request" in one["event"]])
        == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [("--fault", f"time/slow@{SLOW_S:g}")], indirect=True)
def test_a_slow_look_at_the_exchanges_clock_by_one_account_delays_no_other(
    desk: Desk, exchange: Exchange
) -> None:
    wants(desk, "slow", 50)
    wants(desk, "other", 50)
    started(desk)
    eventually(lambda: exchange.arrivals("time"), 15.0, "the question that is answered late")
    eventually(lambda: "50" in quantities(exchange), PROMPT_S, "a change of the account that did not ask")
    assert quantities(exchange) in [("50", "100"), ("100", "50")]


@pytest.mark.slow
def test_after_an_outage_the_first_answer_lets_both_accounts_go_on(desk: Desk, exchange: Exchange) -> None:
    """Their back-offs end 6 s apart, since the second one failed later for the first time."""
    wants(desk, "slow", 100)
    wants(desk, "other", 100)
    sidecar = started(desk)
    sidecar.wait_for_log("adopted", number=2)
    exchange.control("outage", seconds=20.0)
    wants(desk, "slow", 50)
    time.sleep(6.0)
    wants(desk, "other", 50)
    eventually(lambda: quantities(exchange) == ("50", "50"), 60.0, "both changes")
    first, second = (one["at"] for one in exchange.arrivals())
    assert second - first < 3.0


def test_a_refused_key_of_one_account_delays_no_other(desk: Desk, exchange: Exchange) -> None:
    wants(desk, "slow", 100)
    wants(desk, "other", 100)
    sidecar = started(desk)
    sidecar.wait_for_log("adopted", number=2)
    exchange.control("fault", fault="get/50111")
    wants(desk, "slow", 50)
    sidecar.wait_for_log("failed: reading live settings")
    began = time.monotonic()
    wants(desk, "other", 50)
    eventually(lambda: quantities(exchange)[1] == "50", 15.0, "the other account's change")
    assert time.monotonic() - began < PROMPT_S
