"""Leases in a real PostgreSQL: an account has one owner at any time, and no dead replica owns one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.replica_assignment import LEASE_TTL_S, Ability, AccountClaim, Replica, lease_name
from reconciler.errors import StateUnavailable
from reconciler.store.postgres.connections import Connections
from reconciler.store.postgres.conninfo import parse_address
from reconciler.store.postgres.leases import Leases
from tests.contract.stores import BTC, ETH, ready_database
from tests.postgres.accounts import desk, play
from tests.support.postgres import shared

ABC = frozenset({"a.live.okx", "b.live.okx", "c.live.okx"})
NOTHING: dict[str, AccountClaim] = {}


def replica(url: str, name: str) -> Leases:
    return Leases(Connections(parse_address(url)), Replica(name, f"host-{name}", 7))


def fall_silent(name: str, seconds_ago: float = 0.0) -> None:
    """Set when a replica's lease expired; negative: it expires later. So no test has to wait for that."""
    ask(f"UPDATE mmp.replicas SET expires_at = now() - interval '{seconds_ago} s' WHERE id = '{name}'")


def ask(sql: str) -> list[tuple[Any, ...]]:
    return shared().ask(sql, ready_database())


def owners() -> dict[str, str]:
    return dict(ask("SELECT name, replica FROM mmp.leases WHERE replica IS NOT NULL"))


def test_who_asks_first_owns_and_who_comes_later_sees_it() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await two.heartbeat(ABC, NOTHING)
        assert await one.take(["b.live.okx", "a.live.okx"]) == {"a.live.okx": None, "b.live.okx": None}
        assert await two.take(ABC) == {"c.live.okx": None}
        seen = await two.heartbeat(ABC, NOTHING)
        assert seen == await one.heartbeat(ABC, NOTHING)
        assert seen.keeps == {"1": ABC, "2": ABC}
        assert seen.owned_by("1") == {"a.live.okx", "b.live.okx"}
        assert seen.owned_by("2") == {"c.live.okx"}
        assert str(seen.replicas["1"]) == "host-1 (pid 7)"
        await leave(one, two)

    play(scenario)


def test_what_a_silent_one_owned_is_taken_over_and_not_given_back_when_it_wakes() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await one.take(ABC)
        fall_silent("1")
        seen = await two.heartbeat(ABC, NOTHING)
        assert (seen.owners, set(seen.replicas)) == ({}, {"2"})
        assert await one.take(ABC) == {}, "who is not alive takes nothing"
        assert await two.take(["a.live.okx"]) == {"a.live.okx": "1"}
        woken = await one.heartbeat(ABC, NOTHING)
        assert woken.owned_by("1") == {"b.live.okx", "c.live.okx"}
        assert woken.owned_by("2") == {"a.live.okx"}
        await leave(one, two)

    play(scenario)


def test_every_taking_is_another_generation_and_only_its_own_is_given_back() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await two.heartbeat(ABC, NOTHING)
        await one.take(["a.live.okx"])
        ask("UPDATE mmp.leases SET generation = 5")
        await one.release(["a.live.okx", "never.live.okx"])
        assert owners() == {"a.live.okx": "1"}, "a release that comes late is not about the newer lease"
        await one.heartbeat(ABC, NOTHING)
        await one.release(["a.live.okx"])
        assert owners() == {}
        assert await two.take(["a.live.okx"]) == {"a.live.okx": None}
        assert ask("SELECT generation FROM mmp.leases") == [(6,)]
        await leave(one, two)

    play(scenario)


def test_who_leaves_frees_everything_at_once() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await one.take(ABC)
        await one.leave()
        assert (await two.heartbeat(ABC, NOTHING)).keeps == {"2": ABC}
        assert set(await two.take(ABC)) == ABC
        await leave(two)

    play(scenario)


def test_the_row_of_a_dead_one_goes_once_its_accounts_are_anothers() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await one.take(ABC)
        fall_silent("1", 3600)
        await two.heartbeat(ABC, NOTHING)
        assert set(owners()) == ABC, "one that only seems dead comes back to its own"
        await two.take(ABC)
        await two.heartbeat(ABC, NOTHING)
        assert ask("SELECT id FROM mmp.replicas") == [("2",)]
        assert (await one.heartbeat(ABC, NOTHING)).owned_by("1") == frozenset()
        await leave(one, two)

    play(scenario)


@pytest.mark.parametrize("ahead_s", [2 * LEASE_TTL_S + 1, 3600.0, 86_400.0])
def test_a_row_that_expires_too_far_ahead_is_a_dead_ones(ahead_s: float) -> None:
    """The database's clock was set back by that much at the replica's death: it is taken over anyway."""

    async def scenario(url: str) -> None:
        async with desk(url) as state:
            one, two = replica(url, "1"), replica(url, "2")
            key = lease_name("main", Environment.LIVE, ExchangeKind.OKX)
            await one.heartbeat(frozenset({key}), NOTHING)
            await one.take([key])
            fall_silent("1", -ahead_s)
            seen = await two.heartbeat(frozenset({key}), NOTHING)
            assert (set(seen.replicas), seen.owners) == ({"2"}, {})
            assert await state.store.owner() is None
            assert await one.take([key]) == {}, "who is not alive takes nothing"
            assert await two.take([key]) == {key: "1"}
            await two.heartbeat(frozenset({key}), NOTHING)
            assert ask("SELECT id FROM mmp.replicas") == [("2",)], "and it never comes to life"
            await leave(one, two)

    play(scenario)


def test_a_row_that_expires_a_little_ahead_is_of_one_that_lives() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await one.take(ABC)
        fall_silent("1", -2 * LEASE_TTL_S + 2)
        assert (await two.heartbeat(ABC, NOTHING)).owned_by("1") == ABC
        assert await two.take(ABC) == {}
        await leave(one, two)

    play(scenario)


def test_who_says_that_it_lives_learns_whether_it_was_believed_alive() -> None:
    async def scenario(url: str) -> None:
        one = replica(url, "1")
        seen = [
            (await one.heartbeat(ABC, NOTHING)).was_alive,
            (await one.heartbeat(ABC, NOTHING)).was_alive,
        ]
        fall_silent("1", -3600)
        seen += [
            (await one.heartbeat(ABC, NOTHING)).was_alive,
            (await one.heartbeat(ABC, NOTHING)).was_alive,
        ]
        assert seen == [False, True, False, True]
        await leave(one)

    play(scenario)


def test_what_a_replica_cannot_serve_is_seen_by_all() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        reported = Ability(
            {"a.live.okx": 21.5, "b.live.okx": None}, 3.25, {"c.live.okx": 1.5, "d.live.okx": None}
        )
        await one.heartbeat(ABC, NOTHING, reported)
        assert (await two.heartbeat(ABC, NOTHING)).abilities == {"1": reported, "2": Ability()}
        await one.heartbeat(ABC, NOTHING)
        assert (await two.heartbeat(ABC, NOTHING)).abilities == {"1": Ability(), "2": Ability()}
        await leave(one, two)

    play(scenario)


def test_claims_of_two_accounts_of_a_user_id_are_published_in_their_order() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await two.heartbeat(ABC, NOTHING)
        await one.take(["a.live.okx", "b.live.okx"])
        await two.take(["c.live.okx"])
        a, b = AccountClaim("7", frozenset({BTC})), AccountClaim("8", frozenset({BTC}))
        first = await one.heartbeat(ABC, {"a.live.okx": a, "b.live.okx": b, "c.live.okx": b})
        assert first.same_uid_accounts == {}, "nor does it count what is said of an account of another's"
        c = AccountClaim("7", frozenset({BTC, ETH}))
        rivals = (await two.heartbeat(ABC, {"c.live.okx": c})).same_uid_accounts
        assert {name: (one.uid, one.families) for name, one in rivals.items()} == {
            "a.live.okx": ("7", frozenset({BTC})),
            "c.live.okx": ("7", frozenset({BTC, ETH})),
        }
        assert rivals["a.live.okx"].number < rivals["c.live.okx"].number
        await leave(one, two)

    play(scenario)


def test_a_claim_outlives_its_owner_and_keeps_its_number_until_it_is_another() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        a, c = AccountClaim("7", frozenset({BTC})), AccountClaim("7", frozenset({ETH}))
        await one.heartbeat(ABC, NOTHING)
        await two.heartbeat(ABC, NOTHING)
        await one.take(["a.live.okx"])
        await two.take(["c.live.okx"])
        await one.heartbeat(ABC, {"a.live.okx": a})
        before = (await two.heartbeat(ABC, {"c.live.okx": c})).same_uid_accounts
        await one.leave()
        assert (await two.heartbeat(ABC, {"c.live.okx": c})).same_uid_accounts == before, (
            "it is unassigned for a moment"
        )
        await two.take(["a.live.okx"])
        both = {"a.live.okx": a, "c.live.okx": c}
        assert (await two.heartbeat(ABC, both)).same_uid_accounts == before
        changed = {**both, "a.live.okx": AccountClaim("7", frozenset({BTC, ETH}))}
        after = (await two.heartbeat(ABC, changed)).same_uid_accounts
        assert after["a.live.okx"].number > after["c.live.okx"].number
        held = {**both, "a.live.okx": AccountClaim("", frozenset())}
        assert (await two.heartbeat(ABC, held)).same_uid_accounts == {}
        await two.heartbeat(ABC, both)
        gone = await two.heartbeat(ABC - {"a.live.okx"}, both)
        assert set(gone.same_uid_accounts) == {"c.live.okx"}, "who has no file any more claims nothing"
        await leave(two)

    play(scenario)


def test_of_two_that_claim_at_once_one_sees_the_other() -> None:
    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await two.heartbeat(ABC, NOTHING)
        await one.take(["a.live.okx"])
        await two.take(["b.live.okx"])
        for number in range(20):
            claim = AccountClaim(str(number), frozenset({BTC}))
            seen = await asyncio.gather(
                one.heartbeat(ABC, {"a.live.okx": claim}), two.heartbeat(ABC, {"b.live.okx": claim})
            )
            assert any(set(roster.same_uid_accounts) == {"a.live.okx", "b.live.okx"} for roster in seen)
        await leave(one, two)

    play(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_of_two_that_race_for_a_lease_one_gets_it(seed: int) -> None:
    """Three replicas take, renew, expire and release leases at once; then no two own the same account."""

    async def scenario(url: str) -> None:
        random = Random(seed)
        every = [replica(url, str(number)) for number in range(3)]
        await asyncio.gather(*(one.heartbeat(ABC, NOTHING) for one in every))
        for _ in range(15):
            fall_silent(random.choice("012"))
            got = await asyncio.gather(*(_act(random, one) for one in every))
            taken = [name for names in got for name in names]
            assert len(taken) == len(set(taken))
        await leave(*every)

    play(scenario)


async def _act(random: Random, one: Leases) -> frozenset[str]:
    """Do one random action of a replica; returns the accounts whose owner it became."""
    with suppress(StateUnavailable):  # a deadlock: one of the two gives way and tries again
        match random.randrange(4):
            case 0 | 1:
                return frozenset(await one.take(random.sample(sorted(ABC), 2)))
            case 2:
                await one.release(random.sample(sorted(ABC), 2))
            case _:
                await one.heartbeat(ABC, NOTHING)
    return frozenset()


def test_who_is_just_saying_that_it_lives_is_not_taken_from() -> None:
    """Its row is locked and looks expired to the other replica: taken over now, both would own it."""

    async def scenario(url: str) -> None:
        one, two = replica(url, "1"), replica(url, "2")
        await one.heartbeat(ABC, NOTHING)
        await one.take(ABC)
        await two.heartbeat(ABC, NOTHING)
        fall_silent("1")
        beating = Connections(parse_address(url))
        async with beating.transaction() as transaction:
            lives = "UPDATE replicas SET expires_at = now() + interval '8 s' WHERE id = '1' RETURNING id"
            assert await transaction.row(lives) == ("1",)
            assert await two.take(ABC) == {}
        assert (await one.heartbeat(ABC, NOTHING)).owned_by("1") == ABC
        await beating.close()
        await leave(one, two)

    play(scenario)


def test_a_state_tells_who_keeps_an_account() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            key = lease_name("main", Environment.LIVE, ExchangeKind.OKX)
            me = Replica("1", "pod-1", 42)
            sharing = one.state.sharing(me)
            assert await one.store.owner() is None
            await sharing.heartbeat(frozenset({key}), NOTHING)
            await sharing.take([key])
            assert await one.store.owner() == me
            fall_silent("1")
            assert await one.store.owner() is None
            await sharing.leave()

    play(scenario)


async def leave(*replicas: Leases) -> None:
    await asyncio.gather(*(one.leave() for one in replicas))
