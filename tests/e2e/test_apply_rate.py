"""One apply at the real pace: as many requests as differences, never three in 10 s, close to the floor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Desk, Ended, Exchange, gaps, simulator

pytestmark = pytest.mark.e2e

LIVE_BEFORE = "SOL-USD_UM=5000/2000/100,ETH-USD=5000/2000/100,BTC-USD,AAA-USD=5000/2000/100,ZZZ-USD=0/0/5"
DESIRED = {
    "AAA-USD": "5s/2s/400",  # looser
    "BTC-USD": "5s/2s/100",  # not configured yet: enabled
    "ETH-USD": "5s/2s/50",  # tighter
    "SOL-USD_UM": "10s/1s/100",  # both at once
    "ZZZ-USD": "1s/until-reset/5",  # disabled so far: enabled
}
IN_ORDER = ["BTC-USD", "ETH-USD", "ZZZ-USD", "AAA-USD", "SOL-USD_UM"]


def least_s(requests: int) -> float:
    """Return the least time ``requests`` take: one window for every burst after the first."""
    return 10.0 * (math.ceil(requests / 2) - 1)


def start_up_s(idle: Ended, first: Ended, exchange: Exchange) -> float:
    """Return what an apply costs without pacing: one with nothing to do, or what came before the
    first request where a busy machine made that longer."""
    until_first: float = exchange.arrivals()[0]["at"] - first.began_at
    return max(idle.seconds, until_first)


@pytest.fixture
def jittery() -> Iterator[Exchange]:
    with simulator("--jitter", "40ms", "--seed", "7", families=LIVE_BEFORE, latency="50ms") as running:
        yield running


@pytest.fixture
def desk(jittery: Exchange, tmp_path: Path) -> Iterator[Desk]:
    here = Desk(tmp_path / "desk", jittery.variables)
    yield here
    here.close()


@pytest.mark.slow
def test_n_families_take_n_requests_in_order_and_close_to_the_least_time(
    jittery: Exchange, desk: Desk
) -> None:
    desk.wants(DESIRED)
    first = desk.mmp("apply", "--yes", "--assume-idle", "--output", "json")
    assert first.status == 0
    assert first.outcomes == dict.fromkeys(DESIRED, "applied")
    assert jittery.written() == IN_ORDER
    assert min(gaps(jittery.arrivals())) > 10.0

    idle = desk.mmp("apply")
    assert (idle.status, len(jittery.arrivals())) == (0, len(DESIRED)), "a second apply sends nothing"
    # Start and end take as long as an apply without changes; twice that on a machine that got busier.
    assert first.seconds <= least_s(len(DESIRED)) * 1.03 + 2 * start_up_s(idle, first, jittery)
    assert jittery.live()["ZZZ-USD"] == "1000/0/5"


@pytest.mark.proof
def test_twelve_families_take_six_bursts(tmp_path: Path) -> None:
    names = [f"AAA-USD_{number}" for number in range(12)]
    with simulator("--jitter", "40ms", families=",".join(names), latency="50ms") as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.wants(dict.fromkeys(names, "5s/2s/100"))
        ended = desk.mmp("apply", "--yes", "--assume-idle")
        idle = desk.mmp("apply")
        assert (ended.status, idle.status) == (0, 0)
        assert exchange.written() == sorted(names)
        assert ended.seconds <= least_s(len(names)) * 1.03 + 2 * start_up_s(idle, ended, exchange)
        desk.close()


def test_a_second_apply_is_no_request_and_exit_0(exchange: Exchange, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "other", exchange.variables)
    desk.wants({"BTC-USD": "5s/2s/100"})
    assert desk.mmp("apply", "--yes", "--assume-idle").status == 0
    again = desk.mmp("apply")
    assert again.status == 0
    assert "No changes. 1 family is as desired." in again.stdout
    assert exchange.written() == ["BTC-USD"]
    desk.close()


@pytest.mark.slow
def test_with_no_history_one_window_is_waited_out_first(exchange: Exchange, tmp_path: Path) -> None:
    desk = Desk(tmp_path / "other", exchange.variables)
    desk.wants({"BTC-USD": "5s/2s/100"})
    ended = desk.mmp("apply", "--yes")
    assert ended.status == 0
    (arrival,) = exchange.arrivals()
    (first_read, *_) = exchange.arrivals("get")
    assert arrival["at"] - first_read["at"] > 9.5, "10.055 s from the first look at the state"
    assert "in 10 s" in ended.stdout
    desk.close()
