"""Policies on record, over every implementation: the newest counts until a person gives it up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.core.history_records import PolicyRecord
from reconciler.core.model import Environment, ExchangeKind
from reconciler.ports import AccountStore
from reconciler.store.policies import KEEP_POLICIES, Policies
from reconciler.store.rows import MAX_DOCUMENT
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.contract.stores import HOST, NOON, PLACES, UID, Place, ScriptedClock

ONE, TWO = "1" * 64, "2" * 64
PATH = "mmp-policy.yaml"


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with PLACES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(0.0)


def opened(place: Place, clock: ScriptedClock, *, uid: str = UID, **names: str) -> AccountStore:
    """Return the store of an account that asked the exchange whose key it has."""
    store = place.open(
        clock,
        account=names.get("account", "main"),
        environment=Environment(names.get("environment", "live")),
        kind=ExchangeKind(names.get("kind", "okx")),
    )
    asyncio.run(store.identify(uid, HOST))
    return store


def record(store: AccountStore, sha256: str, document: str = "version: 1\n", path: str = PATH) -> None:
    asyncio.run(store.record_policy(sha256, path, document))


def give_up(store: AccountStore, sha256: str, reason: str = "agreed with risk") -> bool:
    return asyncio.run(store.give_up_policy(sha256, reason))


def newest(store: AccountStore) -> PolicyRecord | None:
    return asyncio.run(store.policy_on_record())


def history(store: AccountStore, limit: int = 1000) -> list[tuple[str, str | None]]:
    return [(one.sha256, one.given_up) for one in asyncio.run(store.policies(limit))]


def test_no_policy_is_on_record_at_first(place: Place, clock: ScriptedClock) -> None:
    for store in (opened(place, clock), place.open(clock, account="unused")):
        assert newest(store) is None
        assert history(store) == []
    with pytest.raises(StoreMisuse):
        record(place.open(clock, account="unused"), ONE)


def test_a_policy_is_read_back_by_a_command_that_asks_no_exchange(
    place: Place, clock: ScriptedClock
) -> None:
    document = "version: 1\nprotected: [BTC-USD]  # é\n"
    record(opened(place, clock), ONE, document)
    assert newest(place.open(clock)) == PolicyRecord(ONE, PATH, document, None, NOON)


def test_the_same_policy_is_recorded_once(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    record(store, ONE)
    clock.time = 60.0
    record(store, ONE)
    record(opened(place, clock), ONE)
    assert [(one.sha256, one.at) for one in asyncio.run(store.policies(10))] == [(ONE, NOON)]


def test_another_policy_replaces_it_and_may_return(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    for sha256 in (ONE, TWO, ONE):
        record(store, sha256)
        clock.time += 1.0
    assert history(store) == [(ONE, None), (TWO, None), (ONE, None)]
    assert history(store, 2) == [(ONE, None), (TWO, None)]
    found = newest(store)
    assert found is not None
    assert found.at == NOON + timedelta(seconds=2)


def test_a_policy_that_another_process_recorded_meanwhile_is_not_recorded_again(
    place: Place, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = opened(place, clock), Policies.policy_on_record

    async def between(self: Policies) -> PolicyRecord | None:
        before = await seen(self)
        monkeypatch.setattr(Policies, "policy_on_record", seen)
        await opened_again.record_policy(ONE, PATH, "")
        return before

    opened_again = opened(place, clock)
    monkeypatch.setattr(Policies, "policy_on_record", between)
    record(store, ONE)
    assert history(store) == [(ONE, None)]


def test_the_policy_on_record_is_given_up_once(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    assert not give_up(store, ONE), "there is none"
    record(store, ONE, "version: 1\n")
    assert not give_up(store, TWO), "it is another one"
    assert give_up(store, ONE, "the desk is closed" + "\x00")
    assert not give_up(store, ONE)
    assert newest(store) is None
    [found, _] = asyncio.run(store.policies(10))
    assert found == PolicyRecord(ONE, PATH, "version: 1\n", "the desk is closed", NOON)
    assert not found.counts
    assert history(store) == [(ONE, "the desk is closed"), (ONE, None)]


def test_a_policy_that_was_given_up_counts_again_once_it_is_found_again(
    place: Place, clock: ScriptedClock
) -> None:
    store = opened(place, clock)
    record(store, ONE)
    assert give_up(store, ONE)
    record(store, ONE)
    found = newest(store)
    assert found is not None
    assert found.counts
    assert len(history(store)) == 3


def test_a_policy_is_of_one_user_id_and_environment(place: Place, clock: ScriptedClock) -> None:
    record(opened(place, clock), ONE)
    renamed = newest(opened(place, clock, account="renamed"))
    assert renamed is not None
    assert newest(opened(place, clock, account="other", uid="2")) is None
    assert newest(opened(place, clock, environment="demo")) is None
    assert newest(opened(place, clock, account="played", kind="simulator")) is None


def test_any_text_can_be_recorded_and_none_is_too_long(place: Place, clock: ScriptedClock) -> None:
    store = opened(place, clock)
    record(store, ONE, "a\x00\ud800" + "x" * MAX_DOCUMENT, path="policy\x00\udcff.yaml")
    found = newest(store)
    assert found is not None
    assert found.path == "policy?.yaml"
    assert found.document == "a?" + "x" * (MAX_DOCUMENT - 3)


def test_the_oldest_policies_are_forgotten(place: Place, clock: ScriptedClock) -> None:
    store, other = opened(place, clock), opened(place, clock, account="other", uid="2")
    record(other, TWO)
    for number in range(KEEP_POLICIES + 3):
        record(store, f"{number:064}")
    found = history(store)
    assert len(found) == KEEP_POLICIES
    assert found[0] == (f"{KEEP_POLICIES + 2:064}", None)
    assert history(other) == [(TWO, None)]
