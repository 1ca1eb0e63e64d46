"""Pauses and overrides, over every implementation: what people decided is kept, and ends when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, cast

import pytest

from reconciler.core.model import Environment, Family, Kind, Pause
from reconciler.store.facts import OverrideRecord
from tests.contract.stores import BTC, ETH, NOON, PLACES, Place, ScriptedClock


class Decisions(Protocol):
    """What a store keeps of people's decisions, beside ``ports.Store``."""

    async def paused(self) -> frozenset[Family]: ...
    def pauses(self) -> list[Pause]: ...
    def pause(self, families: Iterable[Family], *, until: datetime | None, reason: str) -> None: ...
    def resume(self, families: Iterable[Family]) -> None: ...
    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None: ...
    def overrides(self, limit: int, family: str = "*") -> list[OverrideRecord]: ...


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(0.0)


def opened(place: Place, clock: ScriptedClock, **names: str) -> Decisions:
    return cast(
        "Decisions",
        place.open(
            clock,
            account=names.get("account", "main"),
            environment=Environment(names.get("environment", "live")),
            kind=Kind(names.get("kind", "okx")),
        ),
    )


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def paused(store: Decisions) -> set[Family]:
    return set(asyncio.run(store.paused()))


def override(store: Decisions, family: Family, refusal: str, reason: str) -> None:
    asyncio.run(store.record_override(family, refusal=refusal, reason=reason))


def test_nothing_is_paused_at_first(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    assert (store.pauses(), paused(store), store.overrides(10)) == ([], set(), [])


def test_a_pause_is_seen_by_every_process_until_its_time_is_over(
    place: Place, clock: ScriptedClock
) -> None:
    opened(place, clock).pause([ETH, BTC], until=at(60), reason="by hand")
    store = opened(place, clock)
    assert store.pauses() == [Pause(family, "by hand", at(0), at(60)) for family in (BTC, ETH)]
    clock.time = 59.999
    assert paused(store) == {BTC, ETH}
    clock.time = 60.0
    assert (store.pauses(), paused(store)) == ([], set())


def test_a_pause_without_an_end_holds_until_it_is_resumed(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    store.pause([BTC, ETH], until=None, reason="")
    clock.time = 1e9
    assert paused(store) == {BTC, ETH}
    store.resume([BTC])
    assert store.pauses() == [Pause(ETH, "", at(0), None)]


def test_a_newer_pause_replaces_an_older_one(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    store.pause([BTC], until=None, reason="first")
    clock.time = 5.0
    store.pause([BTC], until=at(10), reason="second")
    assert store.pauses() == [Pause(BTC, "second", at(5), at(10))]


def test_resuming_what_is_not_paused_is_harmless(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    store.resume([BTC])
    store.pause([], until=None, reason="nobody")
    assert store.pauses() == []


def test_a_pause_is_of_one_account_and_environment_but_of_either_exchange(
    place: Place, clock: ScriptedClock
) -> None:
    opened(place, clock).pause([BTC], until=None, reason="")
    assert paused(opened(place, clock, kind="simulator")) == {BTC}
    assert paused(opened(place, clock, account="other")) == set()
    assert paused(opened(place, clock, environment="demo")) == set()


def test_overrides_are_kept_newest_first_with_the_reason_given(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    for number, family in enumerate((BTC, ETH, BTC)):
        clock.time = float(number)
        override(store, family, f"rule {number}", f"reason {number}")
    told = opened(place, clock).overrides(10)
    assert told == [
        OverrideRecord(BTC, "rule 2", "reason 2", at(2)),
        OverrideRecord(ETH, "rule 1", "reason 1", at(1)),
        OverrideRecord(BTC, "rule 0", "reason 0", at(0)),
    ]
    assert store.overrides(1) == told[:1]
    assert store.overrides(10, "ETH-*") == told[1:2]


def test_overrides_are_of_one_account_and_environment(place: Place, clock: ScriptedClock) -> None:
    override(opened(place, clock), BTC, "rule", "why")
    assert opened(place, clock, account="other").overrides(10) == []
    assert opened(place, clock, environment="demo").overrides(10) == []


def test_whatever_people_write_can_be_kept(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    text = "a\x00b\ud800" + "x" * 1000
    store.pause([BTC], until=None, reason=text)
    override(store, BTC, text, text)
    kept = "ab?" + "x" * 496
    assert [pause.reason for pause in store.pauses()] == [kept]
    assert [(one.refusal, one.reason) for one in store.overrides(1)] == [(kept, kept)]
