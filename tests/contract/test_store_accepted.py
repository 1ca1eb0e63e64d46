"""Accepted settings on record, over every implementation: a request or a read sets them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.core.accepted_settings import MIN_RETAINED, RETENTION, History
from reconciler.core.model import Accepting, Environment, ExchangeKind, Family, FileVersion
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, SignedRequest
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, ETH, HOST, PLACES, UID, Place, ScriptedClock, setting

FILE = FileVersion("a" * 64, 1)
SETTLED = [AttemptStatus.REJECTED, AttemptStatus.NOT_SENT]


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(1000.0)


def opened(place: Place, clock: ScriptedClock, account: str = "main") -> AccountStore:
    store = place.open(clock, account=account, environment=Environment.LIVE, kind=ExchangeKind.OKX)
    asyncio.run(store.identify(UID, HOST))
    return store


def send(
    store: AccountStore, clock: ScriptedClock, quantity: str, *, accepts: str | None, family: Family = BTC
) -> int:
    """Reserve a request that is alone in its window; return its number."""
    clock.time += 100.0
    request = SignedRequest(family, setting(quantity), "", b"{}", {})
    accepting = None if accepts is None else Accepting(setting(accepts), "sha256:1", "loosen:BTC-USD")
    slot = asyncio.run(
        store.reserve(request, ReserveOptions(assume_idle=True, file=FILE, accepting=accepting))
    )
    assert isinstance(slot, Reservation)
    return slot.attempt


def settle(store: AccountStore, attempt: int, status: AttemptStatus) -> None:
    definite = status is not AttemptStatus.UNKNOWN
    asyncio.run(
        store.settle(attempt, AttemptResult(status, definite=definite, limited=False, code="", message=""))
    )


def adopt(store: AccountStore, clock: ScriptedClock, quantity: str, *, accepts: bool) -> None:
    clock.time += 100.0
    accepting = {BTC: Accepting(setting(quantity))} if accepts else {}
    begun_at = clock.time - 1.0
    asyncio.run(
        store.adopt({BTC: setting(quantity)}, read_begun_at=begun_at, file=FILE, accepting=accepting)
    )


def history(store: AccountStore, family: Family = BTC) -> History:
    accepted = asyncio.run(store.recorded_inputs()).accepted
    assert asyncio.run(store.snapshot()).accepted == accepted
    return accepted.get(family, ())


def quantities(store: AccountStore) -> list[str]:
    return [one.setting.qty_limit.text for one in history(store)]


def test_a_request_makes_its_desired_setting_the_accepted_one_at_once(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    attempt = send(store, clock, "7", accepts="100")
    [one] = history(opened(place, clock, "another.name"))
    assert (one.setting, one.attempt, one.at, one.file, one.requested) == (
        setting("100"),
        attempt,
        clock.wall(),
        FILE,
        True,
    )
    assert history(store, ETH) == ()


def test_a_request_that_changes_nothing_of_the_file_accepts_nothing(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    send(store, clock, "7", accepts=None)
    adopt(store, clock, "7", accepts=False)
    assert history(store) == ()


def test_an_adoption_accepts_what_live_shows(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    attempt = send(store, clock, "7", accepts="7")
    settle(store, attempt, AttemptStatus.APPLIED)
    adopt(store, clock, "9", accepts=True)
    newest = history(store)[-1]
    assert (newest.setting, newest.attempt, newest.requested) == (setting("9"), attempt, False)
    asyncio.run(store.adopt({ETH: setting("1")}, read_begun_at=clock.time - 0.5, file=FILE))
    assert quantities(store) == ["7", "9"]


def test_what_was_attempted_since_the_read_began_is_neither_adopted_nor_accepted(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    send(store, clock, "7", accepts="7")
    accepting = {BTC: Accepting(setting("9"))}
    begun_at = clock.time - 1.0
    asyncio.run(store.adopt({BTC: setting("9")}, read_begun_at=begun_at, accepting=accepting))
    assert quantities(store) == ["7"]


@pytest.mark.parametrize("status", SETTLED)
def test_a_definite_rejection_takes_it_back(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    store = opened(place, clock)
    settle(store, send(store, clock, "7", accepts="7"), AttemptStatus.APPLIED)
    settle(store, send(store, clock, "9", accepts="9"), status)
    assert quantities(store) == ["7"]
    settle(store, send(store, clock, "9", accepts="9"), AttemptStatus.UNKNOWN)
    assert quantities(store) == ["7", "9"]


@pytest.mark.parametrize("status", SETTLED)
def test_it_stays_while_another_request_of_it_may_have_taken_effect(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    store = opened(place, clock)
    settle(store, send(store, clock, "9", accepts="9"), AttemptStatus.UNKNOWN)
    settle(store, send(store, clock, "9", accepts=None), status)
    assert quantities(store) == ["9"]


@pytest.mark.parametrize("status", SETTLED)
def test_it_stays_once_it_was_proven(place: Place, clock: ScriptedClock, status: AttemptStatus) -> None:
    store = opened(place, clock)
    settle(store, send(store, clock, "9", accepts="9"), AttemptStatus.APPLIED)
    settle(store, send(store, clock, "9", accepts=None), status)
    assert quantities(store) == ["9"]
    adopt(store, clock, "11", accepts=True)
    settle(store, send(store, clock, "11", accepts=None), status)
    assert quantities(store) == ["9", "11"], "an adoption is proven by its read"


@pytest.mark.parametrize("status", SETTLED)
def test_a_rejected_request_from_before_takes_nothing_back(
    place: Place, clock: ScriptedClock, status: AttemptStatus
) -> None:
    store, other = opened(place, clock), opened(place, clock)
    late = send(other, clock, "7", accepts=None)
    send(store, clock, "9", accepts="9")
    settle(other, late, status)
    assert quantities(store) == ["9"]


def test_old_ones_are_dropped_once_nothing_depends_on_them(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    for number in range(1, MIN_RETAINED + 4):
        settle(store, send(store, clock, str(number), accepts=str(number)), AttemptStatus.APPLIED)
    assert len(history(store)) == MIN_RETAINED + 3, "all are young"
    clock.time += (RETENTION + timedelta(hours=1)).total_seconds()
    settle(store, send(store, clock, "99", accepts="99"), AttemptStatus.APPLIED)
    assert quantities(store) == [str(number) for number in range(5, MIN_RETAINED + 4)] + ["99"]
