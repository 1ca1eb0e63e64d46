"""Pauses and overrides, over every implementation: what people decided is kept, and ends when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler.core.model import Environment, Family, Kind, Pause, PausedBy
from reconciler.core.records import OverrideRecord
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, NOON, PLACES, Place, ScriptedClock, setting


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
    return {pause.family for pause in asyncio.run(store.pauses())}


def override(store: AccountStore, family: Family, refusal: str, reason: str) -> None:
    asyncio.run(store.record_override(family, refusal=refusal, reason=reason))


def test_nothing_is_paused_at_first(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    assert (asyncio.run(store.pauses()), asyncio.run(store.overrides(10))) == ((), [])


def test_a_pause_is_seen_by_every_process_until_its_time_is_over(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock).pause([ETH, BTC], until=at(60), reason="by hand"))
    store = opened(place, clock)
    assert asyncio.run(store.pauses()) == tuple(
        Pause(family, "by hand", at(0), at(60)) for family in (BTC, ETH)
    )
    clock.time = 59.999
    assert paused(store) == {BTC, ETH}
    clock.time = 60.0
    assert asyncio.run(store.pauses()) == ()


def test_a_pause_without_an_end_holds_until_it_is_resumed(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC, ETH], until=None, reason=""))
    clock.time = 1e9
    assert paused(store) == {BTC, ETH}
    asyncio.run(store.resume([BTC]))
    assert asyncio.run(store.pauses()) == (Pause(ETH, "", at(0), None),)


def test_a_newer_pause_replaces_an_older_one(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC], until=None, reason="first"))
    clock.time = 5.0
    asyncio.run(store.pause([BTC], until=at(10), reason="second"))
    assert asyncio.run(store.pauses()) == (Pause(BTC, "second", at(5), at(10)),)


def test_resuming_what_is_not_paused_is_harmless(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.resume([BTC]))
    asyncio.run(store.pause([], until=None, reason="nobody"))
    assert asyncio.run(store.pauses()) == ()


def test_a_pause_is_of_one_account_and_environment_but_of_either_exchange(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock).pause([BTC], until=None, reason=""))
    assert paused(opened(place, clock, kind="simulator")) == {BTC}
    assert paused(opened(place, clock, account="other")) == set()
    assert paused(opened(place, clock, environment="demo")) == set()


# -- a fight's pauses -----------------------------------------------------------------------------


def fight(store: AccountStore, *families: Family, until: datetime | None = None, reason: str = "") -> None:
    asyncio.run(store.pause(families, until=until, reason=reason, fought={BTC: setting("7.0")}))


def test_a_fight_s_pause_is_kept_with_the_setting_fought_over(place: Place, clock: ScriptedClock) -> None:
    fight(opened(place, clock), BTC, ETH, until=at(60), reason="put back")
    held = asyncio.run(opened(place, clock).pauses())
    assert held == (
        Pause(BTC, "put back", at(0), at(60), setting("7.0")),
        Pause(ETH, "put back", at(0), at(60)),
    )
    assert [pause.by for pause in held] == [PausedBy.FIGHT, PausedBy.HAND]
    assert held[0].fought is not None
    assert held[0].fought.qty_limit.text == "7.0"
    clock.time = 60.0
    assert paused(opened(place, clock)) == set()


def test_a_pause_by_hand_takes_the_place_of_a_fight_s(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    fight(store, BTC)
    asyncio.run(store.pause([BTC], until=at(9), reason="mine"))
    assert asyncio.run(store.pauses()) == (Pause(BTC, "mine", at(0), at(9)),)


def test_a_fight_s_pause_takes_the_place_of_one_by_hand_once_that_is_over(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC], until=at(9), reason="mine"))
    fight(store, BTC)
    assert asyncio.run(store.pauses()) == (Pause(BTC, "mine", at(0), at(9)),)
    clock.time = 9.0
    fight(store, BTC)
    assert asyncio.run(store.pauses()) == (Pause(BTC, "", at(9), None, setting("7.0")),)


def test_a_newer_fight_replaces_an_older_one_and_ends_like_any_pause(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    fight(store, BTC, until=at(60), reason="first")
    clock.time = 5.0
    fight(store, BTC, reason="second")
    assert asyncio.run(store.pauses()) == (Pause(BTC, "second", at(5), None, setting("7.0")),)
    asyncio.run(store.resume([BTC]))
    assert asyncio.run(store.pauses()) == ()


def test_a_fight_s_pause_is_of_one_account_and_environment(place: Place, clock: ScriptedClock) -> None:
    fight(opened(place, clock), BTC)
    assert paused(opened(place, clock, kind="simulator")) == {BTC}
    assert paused(opened(place, clock, account="other")) == set()
    asyncio.run(opened(place, clock, environment="demo").resume([BTC]))
    assert paused(opened(place, clock)) == {BTC}


# -- overrides ------------------------------------------------------------------------------------


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


def test_only_a_fight_about_that_very_setting_is_ended(place: Place, clock: ScriptedClock) -> None:
    """Between a look at the pauses and the end of a fight somebody may have paused it, or fought on."""
    over, another, sol = setting("100"), setting("90"), Family("SOL-USD_UM")
    store = opened(place, clock)
    fought = {BTC: over, ETH: another}
    asyncio.run(store.pause([BTC, ETH], until=None, reason="fight", fought=fought))
    asyncio.run(store.pause([sol], until=None, reason="by hand"))
    asyncio.run(store.end_fights({BTC: over, ETH: over, sol: over, Family("XAU-USD"): over}))
    assert paused(opened(place, clock)) == {ETH, sol}
    asyncio.run(store.end_fights({}))
    asyncio.run(store.end_fights({ETH: setting("90.0")}))
    assert paused(opened(place, clock)) == {sol}
