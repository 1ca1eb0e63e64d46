"""Pauses and overrides, over every implementation: what people decided is kept, and ends when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler.core.model import Environment, Family, Kind, Pause
from reconciler.core.records import OverrideRecord
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, NOON, PLACES, Place, ScriptedClock


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(0.0)


def opened(place: Place, clock: ScriptedClock, **names: str) -> AccountStore:
    return place.open(
        clock,
        account=names.get("account", "main"),
        environment=Environment(names.get("environment", "live")),
        kind=Kind(names.get("kind", "okx")),
    )


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def paused(store: AccountStore) -> set[Family]:
    return set(asyncio.run(store.paused()))


def override(store: AccountStore, family: Family, refusal: str, reason: str) -> None:
    asyncio.run(store.record_override(family, refusal=refusal, reason=reason))


def test_nothing_is_paused_at_first(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    assert (asyncio.run(store.pauses()), paused(store), asyncio.run(store.overrides(10))) == ([], set(), [])


def test_a_pause_is_seen_by_every_process_until_its_time_is_over(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock).pause([ETH, BTC], until=at(60), reason="by hand"))
    store = opened(place, clock)
    assert asyncio.run(store.pauses()) == [Pause(family, "by hand", at(0), at(60)) for family in (BTC, ETH)]
    clock.time = 59.999
    assert paused(store) == {BTC, ETH}
    clock.time = 60.0
    assert (asyncio.run(store.pauses()), paused(store)) == ([], set())


def test_a_pause_without_an_end_holds_until_it_is_resumed(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC, ETH], until=None, reason=""))
    clock.time = 1e9
    assert paused(store) == {BTC, ETH}
    asyncio.run(store.resume([BTC]))
    assert asyncio.run(store.pauses()) == [Pause(ETH, "", at(0), None)]


def test_a_newer_pause_replaces_an_older_one(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC], until=None, reason="first"))
    clock.time = 5.0
    asyncio.run(store.pause([BTC], until=at(10), reason="second"))
    assert asyncio.run(store.pauses()) == [Pause(BTC, "second", at(5), at(10))]


def test_resuming_what_is_not_paused_is_harmless(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.resume([BTC]))
    asyncio.run(store.pause([], until=None, reason="nobody"))
    assert asyncio.run(store.pauses()) == []


def test_a_pause_is_of_one_account_and_environment_but_of_either_exchange(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock).pause([BTC], until=None, reason=""))
    assert paused(opened(place, clock, kind="simulator")) == {BTC}
    assert paused(opened(place, clock, account="other")) == set()
    assert paused(opened(place, clock, environment="demo")) == set()


def test_overrides_are_kept_newest_first_with_the_reason_given(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    for number, family in enumerate((BTC, ETH, BTC)):
        clock.time = float(number)
        override(store, family, f"rule {number}", f"reason {number}")
    told = asyncio.run(opened(place, clock).overrides(10))
    assert told == [
        OverrideRecord(BTC, "rule 2", "reason 2", at(2)),
        OverrideRecord(ETH, "rule 1", "reason 1", at(1)),
        OverrideRecord(BTC, "rule 0", "reason 0", at(0)),
    ]
    assert asyncio.run(store.overrides(1)) == told[:1]
    assert asyncio.run(store.overrides(10, "ETH-*")) == told[1:2]


def test_overrides_are_of_one_account_and_environment(place: Place, clock: ScriptedClock) -> None:
    override(opened(place, clock), BTC, "rule", "why")
    assert asyncio.run(opened(place, clock, account="other").overrides(10)) == []
    assert asyncio.run(opened(place, clock, environment="demo").overrides(10)) == []


def test_whatever_people_write_can_be_kept(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    text = "a\x00b\ud800" + "x" * 1000
    asyncio.run(store.pause([BTC], until=None, reason=text))
    override(store, BTC, text, text)
    kept = "ab?" + "x" * 496
    assert [pause.reason for pause in asyncio.run(store.pauses())] == [kept]
    assert [(one.refusal, one.reason) for one in asyncio.run(store.overrides(1))] == [(kept, kept)]
