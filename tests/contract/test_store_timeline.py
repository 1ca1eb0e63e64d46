"""Strips, over every implementation: looks and turns are kept, bounded, and survive odd clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from reconciler.core.model import Environment, ExchangeKind, Family
from reconciler.core.monitoring.state_timeline import UNMANAGED, Segment, Timeline
from reconciler.core.monitoring.status import FamilyState
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, NOON, PLACES, Place, ScriptedClock

DAY_S = 24 * 3600.0

Timelines = dict[Family, list[tuple[str | None, float, float]]]


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(0.0)


@pytest.fixture
def store(place: Place, clock: ScriptedClock) -> AccountStore:
    return place.open(clock)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def look(store: AccountStore, clock: ScriptedClock, seconds: float, **states: str) -> None:
    """Record at ``seconds`` the states of families, given by their first word."""
    clock.time = seconds
    asyncio.run(store.record_states({Family(f"{name}-USD"): state for name, state in states.items()}))


def read_timelines(store: AccountStore, since: float = 0.0) -> Timelines:
    made = asyncio.run(store.read_timeline(at(since)))().spans
    return {
        family: [
            (span.state, (span.since - NOON).total_seconds(), (span.until - NOON).total_seconds())
            for span in spans
        ]
        for family, spans in made.items()
    }


def test_nothing_is_recorded_before_the_first_read(store: AccountStore, clock: ScriptedClock) -> None:
    assert read_timelines(store) == {}
    look(store, clock, 0.0)
    assert read_timelines(store) == {}


def test_a_state_begins_with_the_read_that_found_it(store: AccountStore, clock: ScriptedClock) -> None:
    look(store, clock, 10, BTC=FamilyState.PENDING, ETH=FamilyState.IN_SYNC)
    look(store, clock, 40, BTC=FamilyState.IN_SYNC, ETH=FamilyState.IN_SYNC)
    look(store, clock, 70, BTC=FamilyState.IN_SYNC, ETH=FamilyState.FROZEN)
    clock.time = 100
    assert read_timelines(store) == {
        BTC: [(None, 0, 10), ("pending", 10, 40), ("in-sync", 40, 100)],
        ETH: [(None, 0, 10), ("in-sync", 10, 70), ("frozen", 70, 100)],
    }
    assert read_timelines(store, 50)[BTC] == [("in-sync", 50, 100)]


def test_the_time_between_two_processes_is_not_observed(
    place: Place, store: AccountStore, clock: ScriptedClock
) -> None:
    for seconds in (0, 30):
        look(store, clock, seconds, BTC="in-sync")
    other = place.open(clock)
    clock.time = 35
    assert read_timelines(other) == {BTC: [("in-sync", 0, 30), (None, 30, 35)]}
    for seconds in (40, 70):
        look(other, clock, seconds, BTC="in-sync")
    clock.time = 75
    assert read_timelines(other) == {BTC: [("in-sync", 0, 30), (None, 30, 40), ("in-sync", 40, 75)]}
    assert read_timelines(store)[BTC][-1] == (None, 70, 75)
    look(store, clock, 80, BTC="in-sync")
    assert read_timelines(store)[BTC][2:] == [("in-sync", 40, 70), (None, 70, 80)]
    look(store, clock, 81, BTC="in-sync")
    assert read_timelines(store)[BTC][3:] == [(None, 70, 80), ("in-sync", 80, 81)]


def test_looks_too_far_apart_leave_a_hole(store: AccountStore, clock: ScriptedClock) -> None:
    for seconds in (0, 90, 180.001, 300):
        look(store, clock, seconds, BTC="in-sync")
    clock.time = 310
    assert read_timelines(store) == {BTC: [("in-sync", 0, 90), (None, 90, 300), ("in-sync", 300, 310)]}


def test_how_far_apart_looks_may_be_is_the_opener_s_to_say(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock, max_gap_s=5.0)
    for seconds in (0, 5, 11):
        look(store, clock, seconds, BTC="in-sync")
    assert read_timelines(store) == {BTC: [("in-sync", 0, 5), (None, 5, 11)]}


def test_a_family_not_desired_any_more_turns_to_unmanaged_and_may_come_back(
    store: AccountStore, clock: ScriptedClock
) -> None:
    look(store, clock, 0, BTC="in-sync", ETH="held")
    look(store, clock, 30, ETH="held")
    look(store, clock, 60, BTC="pending", ETH="held")
    clock.time = 90
    assert read_timelines(store) == {
        BTC: [("in-sync", 0, 30), (UNMANAGED, 30, 60), ("pending", 60, 90)],
        ETH: [("held", 0, 90)],
    }


def test_timelines_are_of_one_account_environment_and_kind(
    place: Place, store: AccountStore, clock: ScriptedClock
) -> None:
    look(store, clock, 0, BTC="in-sync")
    clock.time = 10
    for other in (
        place.open(clock, account="other"),
        place.open(clock, environment=Environment.DEMO),
        place.open(clock, kind=ExchangeKind.SIMULATOR),
    ):
        assert read_timelines(other) == {}
        asyncio.run(other.record_states({ETH: "held"}))
    assert list(read_timelines(store)) == [BTC]


# -- odd clocks -----------------------------------------------------------------------------------


def test_a_small_step_back_of_the_clock_stands_still(store: AccountStore, clock: ScriptedClock) -> None:
    look(store, clock, 100, BTC="in-sync")
    look(store, clock, 40, BTC="drifted")
    look(store, clock, 130, BTC="drifted")
    assert read_timelines(store, 90) == {BTC: [(None, 90, 100), ("drifted", 100, 130)]}


def test_after_a_big_step_back_what_lies_in_the_future_is_forgotten(
    store: AccountStore, clock: ScriptedClock
) -> None:
    look(store, clock, 0, BTC="in-sync")
    look(store, clock, 60, BTC="pending")
    look(store, clock, 3600, BTC="frozen", ETH="held")
    look(store, clock, 100, BTC="in-sync")
    look(store, clock, 130, BTC="in-sync")
    assert read_timelines(store) == {BTC: [("in-sync", 0, 60), (None, 60, 100), ("in-sync", 100, 130)]}


def test_a_step_back_into_a_watch_ends_it_there(store: AccountStore, clock: ScriptedClock) -> None:
    for seconds in range(0, 600, 30):
        look(store, clock, seconds, BTC="in-sync" if seconds < 300 else "drifted")
    look(store, clock, 200, BTC="in-sync")
    assert read_timelines(store) == {BTC: [("in-sync", 0, 200)]}
    clock.time = 500
    assert read_timelines(store) == {BTC: [("in-sync", 0, 200), (None, 200, 500)]}


def test_a_clock_before_everything_starts_anew(store: AccountStore, clock: ScriptedClock) -> None:
    look(store, clock, 1000, BTC="in-sync")
    look(store, clock, -1e6, BTC="drifted")
    assert read_timelines(store, -1e6 - 5) == {}
    look(store, clock, -1e6 + 30, BTC="drifted")
    assert read_timelines(store, -1e6) == {BTC: [("drifted", -1e6, -1e6 + 30)]}


@pytest.mark.parametrize("seed", range(20))
def test_timelines_are_complete_whatever_the_clock_does(
    store: AccountStore, clock: ScriptedClock, seed: int
) -> None:
    rng = Random(seed)
    for _ in range(60):
        clock.time += rng.choice((1, 30, 60, 89, 200, -7, -80, -100, -2000, 1e5, -1e5))
        states = {family: rng.choice("abc") for family in (BTC, ETH) if rng.random() < 0.8}
        asyncio.run(store.record_states(states))
        clock.time += 90
        timelines, since = read_timelines(store, clock.time - DAY_S), clock.time - DAY_S
        for spans in timelines.values():
            assert (spans[0][1], spans[-1][2]) == (since, clock.time)
            assert all(one[2] == two[1] and one[0] != two[0] for one, two in pairwise(spans))
        assert {family: spans[-1][0] for family, spans in timelines.items()} == {
            family: states.get(family, UNMANAGED) for family in timelines.keys() | states.keys()
        }
        clock.time -= 90


# -- drawing --------------------------------------------------------------------------------------


def test_timelines_are_drawn_by_any_thread_and_show_the_moment_they_were_read(
    store: AccountStore, clock: ScriptedClock
) -> None:
    look(store, clock, 0, BTC="in-sync")
    look(store, clock, 30, BTC="held")
    clock.time = 40
    timelines, draw = (
        asyncio.run(store.read_timeline(at(0)))().spans,
        asyncio.run(store.read_timeline(at(0))),
    )
    look(store, clock, 60, BTC="in-sync")
    with ThreadPoolExecutor() as aside:
        assert aside.submit(draw).result() == Timeline(timelines)
    assert timelines[BTC][-1] == Segment("held", at(30), at(40))


def test_timelines_are_read_in_pieces_with_a_pause_between_them(
    store: AccountStore, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, state in ((0, "in-sync"), (30, "held"), (60, "in-sync")):
        look(store, clock, seconds, BTC=state, ETH=state, SOL="in-sync")
    at_once = asyncio.run(store.read_timeline(at(0)))().spans
    pauses = []

    async def pause() -> None:
        pauses.append(clock.time)
        clock.time += 10
        await store.record_states({BTC: "frozen", ETH: "in-sync", Family("SOL-USD"): "in-sync"})

    monkeypatch.setattr("reconciler.store.timeline.CHANGES_AT_ONCE", 2)
    assert asyncio.run(store.read_timeline(at(0)))().spans == at_once
    draw = asyncio.run(store.read_timeline(at(0), pause))
    assert len(pauses) == 4, "seven turns, and one more of BTC that was there before it was read"
    assert draw() == Timeline(at_once), "what happens meanwhile is not shown"


# -- bounds ---------------------------------------------------------------------------------------


@pytest.mark.unmeasured
def test_a_state_from_long_ago_is_still_known_after_a_turn(
    store: AccountStore, clock: ScriptedClock
) -> None:
    looks = [80.0 * number for number in range(2 * 24 * 3600 // 80)]
    last = looks[-1]

    async def look_on() -> None:
        for clock.time in looks:
            await store.record_states({BTC: "in-sync"})

    asyncio.run(look_on())
    look(store, clock, last + 30, BTC="drifted")
    clock.time = last + 60
    assert read_timelines(store, last - DAY_S) == {
        BTC: [("in-sync", last - DAY_S, last + 30), ("drifted", last + 30, last + 60)]
    }


def test_turns_are_bounded_and_every_family_keeps_its_last(place: Place, clock: ScriptedClock) -> None:
    store = place.open(clock, keep_state_changes=10)
    look(store, clock, 0, ETH="held", BTC="a")
    for number in range(1, 101):
        look(store, clock, float(number), ETH="held", BTC="ab"[number % 2])
    timelines = read_timelines(store)
    assert timelines[ETH] == [("held", 0, 100)]
    assert [span[0] for span in timelines[BTC]] == [None, *("ab"[number % 2] for number in range(91, 100))]


def test_what_is_older_than_a_timeline_is_dropped(store: AccountStore, clock: ScriptedClock) -> None:
    for hour in range(100):
        look(store, clock, hour * 3600.0, BTC="ab"[hour % 2])
        look(store, clock, hour * 3600.0 + 60, BTC="ab"[hour % 2])
    oldest = min(span[1] for span in read_timelines(store)[BTC] if span[0] is not None)
    assert oldest == pytest.approx(99 * 3600 - 25 * 3600, abs=3600)
