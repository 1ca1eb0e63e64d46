"""Pauses and overrides, over every implementation: what people decided is kept, and ends when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reconciler.core.history_records import AcceptedRecord, OverrideRecord, ProofKind
from reconciler.core.model import Accepting, Environment, ExchangeKind, Family, FileVersion, Pause, PausedBy
from reconciler.core.reservation import PausedMeanwhile, Reservation, ReserveOptions
from reconciler.errors import Exit, MmpError
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, HOST, NOON, PLACES, UID, Place, ScriptedClock, setting, signed


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(0.0)


def opened(place: Place, clock: ScriptedClock, **names: str) -> AccountStore:
    """Return the store of an account that was used, as a verb sees it: one that asked no exchange."""

    def store() -> AccountStore:
        return place.open(
            clock,
            account=names.get("account", "main"),
            environment=Environment(names.get("environment", "live")),
            kind=ExchangeKind(names.get("kind", "okx")),
        )

    asyncio.run(store().identify(names.get("uid", UID), HOST))
    return store()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def paused(store: AccountStore) -> set[Family]:
    return {pause.family for pause in asyncio.run(store.pauses())}


def override(store: AccountStore, family: Family, refusal: str, reason: str) -> None:
    asyncio.run(store.identify(UID, HOST))
    asyncio.run(store.record_override(family, refusal=refusal, reason=reason))


def test_nothing_is_paused_at_first(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    assert (asyncio.run(store.pauses()), asyncio.run(store.overrides(10))) == ((), [])
    unused = place.open(clock, account="unused")
    assert (asyncio.run(unused.pauses()), asyncio.run(unused.overrides(10))) == ((), [])
    assert asyncio.run(unused.history(10)).attempts == []


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


def test_a_pause_is_of_one_user_id_and_environment(place: Place, clock: ScriptedClock) -> None:
    asyncio.run(opened(place, clock).pause([BTC], until=None, reason=""))
    assert paused(opened(place, clock, account="renamed")) == {BTC}
    assert paused(opened(place, clock, account="other", uid="2")) == set()
    assert paused(opened(place, clock, environment="demo")) == set()
    assert paused(opened(place, clock, account="played", kind="simulator")) == set()


def test_a_pause_is_found_whichever_kind_of_exchange_is_asked_with(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock, kind="simulator").pause([BTC], until=None, reason=""))
    assert paused(place.open(clock, kind=ExchangeKind.OKX)) == {BTC}


def test_an_account_that_was_never_used_is_neither_paused_nor_resumed(
    place: Place, clock: ScriptedClock
) -> None:
    asyncio.run(opened(place, clock, account="other").pause([BTC], until=None, reason=""))
    store = place.open(clock)
    for refused in (store.pause([BTC], until=None, reason=""), store.resume([BTC])):
        with pytest.raises(MmpError) as failure:
            asyncio.run(refused)
        assert (failure.value.code, failure.value.exit_status) == ("state-unused", Exit.FAILED)
        assert "account main (live)" in failure.value.message
    assert asyncio.run(store.pauses()) == ()
    assert paused(opened(place, clock, account="other")) == {BTC}


# -- reservations ---------------------------------------------------------------------------------


def test_no_request_of_a_paused_family_is_reserved(place: Place, clock: ScriptedClock) -> None:
    running = opened(place, clock)
    asyncio.run(running.identify(UID, HOST))
    asyncio.run(opened(place, clock, account="renamed").pause([BTC], until=at(60), reason=""))

    def reserve(family: Family) -> object:
        return asyncio.run(running.reserve(signed("100", family), ReserveOptions(assume_idle=True)))

    assert reserve(BTC) == PausedMeanwhile()
    assert asyncio.run(running.history(10)).attempts == []
    assert isinstance(reserve(ETH), Reservation)
    clock.time = 59.999
    assert reserve(BTC) == PausedMeanwhile()
    clock.time = 60.0
    assert isinstance(reserve(BTC), Reservation)


@pytest.mark.parametrize(("wanted", "reserved"), [("7", False), ("7.0", False), ("8", True)])
def test_a_pause_by_the_breaker_holds_only_requests_of_the_contested_setting(
    place: Place, clock: ScriptedClock, wanted: str, reserved: bool
) -> None:
    running = opened(place, clock)
    asyncio.run(running.identify(UID, HOST))
    contested_family(running, BTC)
    slot = asyncio.run(running.reserve(signed(wanted), ReserveOptions(assume_idle=True)))
    assert isinstance(slot, Reservation if reserved else PausedMeanwhile)


# -- a fight's pauses -----------------------------------------------------------------------------


def contested_family(
    store: AccountStore, *families: Family, until: datetime | None = None, reason: str = ""
) -> None:
    asyncio.run(store.pause(families, until=until, reason=reason, contested_setting={BTC: setting("7.0")}))


def test_a_pause_by_the_breaker_is_stored_with_the_contested_setting(
    place: Place, clock: ScriptedClock
) -> None:
    contested_family(opened(place, clock), BTC, ETH, until=at(60), reason="put back")
    held = asyncio.run(opened(place, clock).pauses())
    assert held == (
        Pause(BTC, "put back", at(0), at(60), setting("7.0")),
        Pause(ETH, "put back", at(0), at(60)),
    )
    assert [pause.by for pause in held] == [PausedBy.BREAKER, PausedBy.MANUAL]
    assert held[0].contested is not None
    assert held[0].contested.qty_limit.text == "7.0"
    clock.time = 60.0
    assert paused(opened(place, clock)) == set()


def test_a_manual_pause_replaces_one_by_the_breaker(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    contested_family(store, BTC)
    asyncio.run(store.pause([BTC], until=at(9), reason="mine"))
    assert asyncio.run(store.pauses()) == (Pause(BTC, "mine", at(0), at(9)),)


def test_a_pause_by_the_breaker_replaces_a_manual_one_that_has_ended(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    asyncio.run(store.pause([BTC], until=at(9), reason="mine"))
    contested_family(store, BTC)
    assert asyncio.run(store.pauses()) == (Pause(BTC, "mine", at(0), at(9)),)
    clock.time = 9.0
    contested_family(store, BTC)
    assert asyncio.run(store.pauses()) == (Pause(BTC, "", at(9), None, setting("7.0")),)


def test_a_newer_pause_by_the_breaker_replaces_an_older_one_and_ends_like_any_pause(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    contested_family(store, BTC, until=at(60), reason="first")
    clock.time = 5.0
    contested_family(store, BTC, reason="second")
    assert asyncio.run(store.pauses()) == (Pause(BTC, "second", at(5), None, setting("7.0")),)
    asyncio.run(store.resume([BTC]))
    assert asyncio.run(store.pauses()) == ()


def test_a_pause_by_the_breaker_is_of_one_user_id_and_environment(
    place: Place, clock: ScriptedClock
) -> None:
    contested_family(opened(place, clock), BTC)
    assert paused(opened(place, clock, account="renamed")) == {BTC}
    assert paused(opened(place, clock, account="other", uid="2")) == set()
    asyncio.run(opened(place, clock, environment="demo").resume([BTC]))
    assert paused(opened(place, clock)) == {BTC}


# -- overrides ------------------------------------------------------------------------------------


def test_overrides_are_stored_newest_first_with_the_reason_given(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    for number, family in enumerate((BTC, ETH, BTC)):
        clock.time = float(number)
        override(store, family, f"rule {number}", f"reason {number}")
    sentence = asyncio.run(opened(place, clock).overrides(10))
    assert sentence == [
        OverrideRecord(BTC, "rule 2", "reason 2", at(2)),
        OverrideRecord(ETH, "rule 1", "reason 1", at(1)),
        OverrideRecord(BTC, "rule 0", "reason 0", at(0)),
    ]
    assert asyncio.run(store.overrides(1)) == sentence[:1]
    assert asyncio.run(store.overrides(10, "ETH-*")) == sentence[1:2]


def test_overrides_are_of_one_user_id_and_environment(place: Place, clock: ScriptedClock) -> None:
    override(opened(place, clock), BTC, "rule", "why")
    assert len(asyncio.run(opened(place, clock, account="renamed").overrides(10))) == 1
    assert asyncio.run(opened(place, clock, account="other", uid="2").overrides(10)) == []
    assert asyncio.run(opened(place, clock, environment="demo").overrides(10)) == []


# -- accepted settings ----------------------------------------------------------------------------


def test_accepted_settings_are_listed_newest_first_with_what_was_accepted_before(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    asyncio.run(store.identify(UID, HOST))

    def adopt(family: Family, quantity: str, override: str = "") -> None:
        clock.time += 100
        accepting = {family: Accepting(setting(quantity), "sha256:1", override)}
        settings = {family: setting(quantity)}
        file = FileVersion("f" * 64, 1)
        asyncio.run(store.adopt(settings, read_begun_at=clock.time, accepting=accepting, file=file))

    def accepted(
        family: Family, before: str | None, after: str, override: str, seconds: int
    ) -> AcceptedRecord:
        was = None if before is None else setting(before)
        more = (ProofKind.ADOPTED, "sha256:1", override, "f" * 64, at(seconds))
        return AcceptedRecord(family, was, setting(after), *more)

    adopt(BTC, "1")
    adopt(ETH, "2")
    adopt(BTC, "3", "loosen:BTC-USD")
    sentence = asyncio.run(opened(place, clock).accepted_log(10))
    assert sentence == [
        accepted(BTC, "1", "3", "loosen:BTC-USD", 300),
        accepted(ETH, None, "2", "", 200),
        accepted(BTC, None, "1", "", 100),
    ]
    assert asyncio.run(store.accepted_log(1)) == sentence[:1]
    assert asyncio.run(store.accepted_log(10, "ETH-*")) == sentence[1:2]
    assert asyncio.run(opened(place, clock, account="renamed").accepted_log(10)) == sentence
    assert asyncio.run(opened(place, clock, account="other", uid="2").accepted_log(10)) == []
    unused = place.open(clock, account="unused", environment=Environment.DEMO, kind=ExchangeKind.OKX)
    assert asyncio.run(unused.accepted_log(10)) == []


def test_a_request_s_setting_is_listed_as_applied(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    asyncio.run(store.identify(UID, HOST))
    slot = asyncio.run(
        store.reserve(signed("5"), ReserveOptions(assume_idle=True, accepting=Accepting(setting("7"))))
    )
    assert isinstance(slot, Reservation)
    (sentence,) = asyncio.run(store.accepted_log(10))
    assert (sentence.family, sentence.how, sentence.setting, sentence.before) == (
        BTC,
        ProofKind.APPLIED,
        setting("7"),
        None,
    )


def test_any_text_of_a_person_can_be_stored(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    text = "a\x00b\ud800" + "x" * 1000
    asyncio.run(store.pause([BTC], until=None, reason=text))
    override(store, BTC, text, text)
    kept = "ab?" + "x" * 496
    assert [pause.reason for pause in asyncio.run(store.pauses())] == [kept]
    assert [(one.refusal, one.reason) for one in asyncio.run(store.overrides(1))] == [(kept, kept)]


def test_only_a_pause_by_the_breaker_for_that_setting_is_ended(place: Place, clock: ScriptedClock) -> None:
    """Between a look at the pauses and the end of a fight somebody may have paused it, or fought on."""
    over, another, sol = setting("100"), setting("90"), Family("SOL-USD_UM")
    store = opened(place, clock)
    contested_setting = {BTC: over, ETH: another}
    asyncio.run(store.identify(UID, HOST))
    asyncio.run(store.pause([BTC, ETH], until=None, reason="fight", contested_setting=contested_setting))
    asyncio.run(store.pause([sol], until=None, reason="by hand"))
    asyncio.run(store.clear_heal_breakers({BTC: over, ETH: over, sol: over, Family("XAU-USD"): over}))
    assert paused(opened(place, clock)) == {ETH, sol}
    asyncio.run(store.clear_heal_breakers({}))
    asyncio.run(store.clear_heal_breakers({ETH: setting("90.0")}))
    assert paused(opened(place, clock)) == {sol}
