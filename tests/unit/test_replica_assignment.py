"""Sharing accounts out: every start, whoever lives or has which files, ends even and then stays so."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest

from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.replica_assignment import (
    HEARTBEAT_S,
    LEASE_TTL_S,
    Ability,
    OwnershipView,
    Rebalance,
    awaited,
    balance,
    lease_name,
    leases_safe_until,
    may_take_left,
    parse_lease_name,
    rebalance,
)

ROUNDS = 5
"""More than any small world needs to become even: one to share out what is free, one per surplus."""


class World:
    """Replicas that take turns over one table of leases, each with a view of its own."""

    def __init__(self, owners: dict[str, str], keeps: dict[str, frozenset[str]]) -> None:
        self.owners = owners
        self.keeps = keeps
        self.moved = 0

    def view(self, replica: str) -> OwnershipView:
        living = {account: owner for account, owner in self.owners.items() if owner in self.keeps}
        return OwnershipView(replica, self.keeps, living)

    def round(self) -> None:
        """Let all look at the same moment, then act one after the other, as rows decide."""
        decided = {replica: rebalance(self.view(replica)) for replica in self.keeps}
        for replica, made in decided.items():
            for account in made.release:
                assert self.owners[account] == replica
                del self.owners[account]
            for account in made.take:
                if self.owners.get(account) not in self.keeps:
                    self.owners[account] = replica
            self.moved += len(made.release) + len(made.take)

    def settle(self) -> None:
        for _ in range(ROUNDS):
            self.round()

    def is_even(self) -> bool:
        counts = Counter(self.owners.values())
        held = [counts[replica] for replica in self.keeps]
        return max(held) - min(held) <= 1


def accounts(number: int) -> frozenset[str]:
    return frozenset(f"desk-{each}" for each in range(number))


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("replicas", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_from_every_start_shares_become_even_and_stay(number: int, replicas: list[str]) -> None:
    """Owners may be any of the living, a dead one, or nobody."""
    every = accounts(number)
    for start in product([*replicas, "dead", None], repeat=number):
        owners = {account: owner for account, owner in zip(sorted(every), start, strict=True) if owner}
        world = World(owners, dict.fromkeys(replicas, every))
        world.settle()
        assert set(world.owners) == every, start
        assert set(world.owners.values()) <= set(replicas), start
        assert world.is_even(), (start, world.owners)
        moved, kept = world.moved, dict(world.owners)
        world.settle()
        assert (world.moved, world.owners) == (moved, kept), start


def test_nothing_moves_where_shares_are_even_already() -> None:
    for owners in ({"x": "a", "y": "b"}, {"x": "b", "y": "a", "z": "b"}, {"x": "a"}):
        world = World(dict(owners), {replica: frozenset(owners) for replica in "ab"})
        world.settle()
        assert (world.owners, world.moved) == (owners, 0)


def test_a_newcomer_gets_its_share_and_only_that_moves() -> None:
    owners = {f"desk-{each}": "ab"[each % 2] for each in range(30)}
    world = World(dict(owners), {replica: frozenset(owners) for replica in "abc"})
    world.settle()
    assert Counter(world.owners.values()) == {"a": 10, "b": 10, "c": 10}
    assert world.moved == 2 * 10


def test_what_a_dead_replica_owned_is_shared_out_in_one_round() -> None:
    owners = {f"desk-{each}": "abc"[each % 3] for each in range(30)}
    world = World(dict(owners), {replica: frozenset(owners) for replica in "ab"})
    world.round()
    assert Counter(world.owners.values()) == {"a": 15, "b": 15}


def test_an_account_only_one_replica_has_the_file_of_is_taken_by_it_and_stays() -> None:
    world = World({"x": "a"}, {"a": frozenset({"x", "y", "z"}), "b": frozenset()})
    world.settle()
    assert world.owners == {"x": "a", "y": "a", "z": "a"}
    assert world.moved == 2


def test_replicas_with_different_files_own_what_they_have_and_nothing_moves_for_ever() -> None:
    for seed in range(300):
        rng = Random(seed)
        replicas = [f"r{each}" for each in range(rng.randint(1, 4))]
        every = sorted(accounts(rng.randint(1, 8)))
        keeps = {replica: frozenset(rng.sample(every, rng.randint(0, len(every)))) for replica in replicas}
        start = {account: owner for account in every if (owner := rng.choice([*replicas, "dead", None]))}
        world = World(start, keeps)
        world.settle()
        owned = {account: owner for account, owner in world.owners.items() if owner in keeps}
        assert owned.keys() == frozenset().union(*keeps.values()), seed
        assert all(account in keeps[owner] for account, owner in owned.items()), seed
        counts = Counter(owned.values())
        worse = [
            (account, other)
            for account, owner in owned.items()
            for other in replicas
            if account in keeps[other] and counts[other] <= counts[owner] - 2
        ]
        assert worse == [], seed
        moved = world.moved
        world.settle()
        assert world.moved == moved, seed


def test_the_fewest_accounts_move() -> None:
    """Three have two each and a fourth joins: one account moves, whoever looks first."""
    owners = {f"{replica}{each}": replica for replica in "abc" for each in (1, 2)}
    world = World(dict(owners), {replica: frozenset(owners) for replica in "abcd"})
    world.settle()
    assert world.moved == 2
    assert Counter(world.owners.values())["d"] == 1


def test_views_that_differ_cost_a_round_and_no_account() -> None:
    """One replica has not seen the other yet: it takes what it can, and the rows decide."""
    alone = OwnershipView("a", {"a": frozenset({"x", "y"})}, {})
    assert rebalance(alone) == Rebalance(take=("x", "y"))
    world = World({"x": "a", "y": "a"}, {"a": frozenset({"x", "y"}), "b": frozenset({"x", "y"})})
    world.settle()
    assert world.is_even()


# ---- who cannot serve an account -----------------------------------------------------------------


SEEN = (
    Ability(),
    Ability({"x": None}),
    Ability({"x": 25.0}),
    Ability({}, read_age_s=25.0 - LEASE_TTL_S),
    Ability({}, read_age_s=26.0 - LEASE_TTL_S),
    Ability({"x": None, "y": None}, read_age_s=1.0),
    Ability({}, 25.0 - LEASE_TTL_S, resting={"x": 25.0 - LEASE_TTL_S, "y": None}),
)


def can_serve(shares: OwnershipView, replica: str, account: str) -> bool:
    """Say the rule once more, in other words: of an account that is owned by another one."""
    mine, owner = shares.ability(replica), shares.owners.get(account)
    if account in mine.unable:
        return False
    if owner == replica:
        return True
    if account in mine.resting or owner is None:
        return account not in mine.resting
    since = shares.ability(owner).unable.get(account, None)
    return since is None or (mine.read_age_s is not None and since - mine.read_age_s >= LEASE_TTL_S)


def can_serve_again(shares: OwnershipView, replica: str, account: str) -> bool:
    """Say in other words when what rests is no longer kept from a replica."""
    mine, owner = shares.ability(replica), shares.owners.get(account)
    if account not in mine.resting or account in mine.unable:
        return False
    if owner is None:
        return True
    age, since = mine.resting[account], shares.ability(owner).unable.get(account)
    return age is not None and since is not None and since - age >= LEASE_TTL_S


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("abilities", list(product(SEEN, repeat=3)))
def test_in_every_small_world_an_account_goes_to_who_can_serve_it_or_stays(
    abilities: tuple[Ability, ...],
) -> None:
    keeps = {replica: frozenset("xyz") for replica in "abc"}
    for owned in product(("a", "b", "c", None), repeat=3):
        owners = {account: owner for account, owner in zip("xyz", owned, strict=True) if owner}
        shares = OwnershipView("a", keeps, owners, dict(zip("abc", abilities, strict=True)))
        target = balance(shares)
        assert set(target) == set("xyz")
        for account, owner in target.items():
            able = [replica for replica in "abc" if can_serve(shares, replica, account)]
            able = able or [replica for replica in "abc" if can_serve_again(shares, replica, account)]
            if not able:
                assert owner == owners.get(account, owner), "where no replica can, it stays"
            else:
                assert owner in able
            if owners.get(account) in able and owner != owners[account]:
                counts = Counter(target.values())
                assert counts[owner] <= counts[owners[account]] + 1, "only to be even"
        left = {one for one, owner in target.items() if owners.get(one) == "a" and owner != "a"}
        assert set(rebalance(shares).release) == left


@pytest.mark.parametrize(
    ("mine", "theirs", "owner_of_y", "owner_of_x"),
    [
        (Ability({}, 17.0), Ability({"x": 25.0}), "b", "b"),
        (Ability({}, 17.1), Ability({"x": 25.0}), "b", "a"),
        (Ability(), Ability({"x": 25.0}), "b", "a"),
        (Ability(), Ability({"x": 25.0}), None, "a"),
        (Ability({}, 17.0, {"x": 17.0}), Ability({"x": 25.0}), "b", "b"),
        (Ability({}, 17.0, {"x": 17.1}), Ability({"x": 25.0}), "b", "a"),
        (Ability({}, 17.0, {"x": None}), Ability({"x": 25.0}), "b", "a"),
        (Ability({}, 17.0, {"x": 17.0}), Ability({"x": None}), "b", "a"),
        (Ability({"x": None}, 17.0, {"x": 17.0}), Ability({"x": 25.0}), "b", "a"),
        (Ability(), Ability({"x": None}), "b", "b"),
        (Ability({"x": None}), Ability({"x": None}), "b", "a"),
    ],
)
def test_an_account_leaves_who_cannot_read_it_for_one_that_has_read_since(
    mine: Ability, theirs: Ability, owner_of_y: str | None, owner_of_x: str
) -> None:
    owners = {"x": "a"} | ({"y": owner_of_y} if owner_of_y else {})
    keeps = {"a": frozenset("x"), "b": frozenset("xy")}
    assert balance(OwnershipView("b", keeps, owners, {"a": theirs, "b": mine}))["x"] == owner_of_x


def test_an_account_without_an_owner_that_no_replica_can_serve_is_still_assigned() -> None:
    keeps = {replica: frozenset("x") for replica in "ab"}
    assert balance(OwnershipView("a", keeps, {}, {name: Ability({"x": None}) for name in "ab"})) == {
        "x": "a"
    }


def test_who_reports_that_it_cannot_leaves_what_is_free_to_others() -> None:
    keeps = {replica: frozenset("xy") for replica in "ab"}
    one = OwnershipView("a", keeps, {}, {"a": Ability({"x": None})})
    assert (may_take_left(one, "x"), may_take_left(one, "y")) == (False, True)
    both = OwnershipView("a", keeps, {}, {"a": Ability({"x": None}), "b": Ability({"x": None})})
    assert may_take_left(both, "x"), "none can: then any"
    rests = OwnershipView("a", keeps, {}, {"a": Ability(resting={"x": 1.0})})
    assert not may_take_left(rests, "x")
    abilities = {"a": Ability({"x": None}), "b": Ability(resting={"x": None})}
    assert not may_take_left(OwnershipView("a", keeps, {}, abilities), "x"), "it may be able to"
    assert may_take_left(OwnershipView("b", keeps, {}, abilities), "x")
    assert balance(OwnershipView("a", keeps, {}, abilities))["x"] == "b"


def test_a_read_is_worth_making_where_another_one_waits_for_a_sign() -> None:
    keeps, owners = {replica: frozenset("xy") for replica in "ab"}, {"x": "a", "y": "b"}
    failing = Ability({"x": 25.0}, 60.0)

    def asked(mine: Ability, theirs: Ability = failing, owned: dict[str, str] = owners) -> bool:
        return awaited(OwnershipView("b", keeps, owned, {"a": theirs, "b": mine})) == ("x",)

    assert asked(Ability({}, 30.0))
    assert not asked(Ability({}, 3.0)), "it has shown that it can"
    assert not asked(Ability({}, 30.0), Ability({"x": None}, 60.0)), "no sign is asked for"
    assert asked(Ability({}, 3.0, {"x": None})), "that was no read of what rests"
    assert not asked(Ability({}, 30.0, {"x": 3.0}))
    assert asked(Ability(), failing, {"x": "a"}), "it has nothing to read but this"


def test_a_lease_is_good_for_its_time_to_live_from_the_beginning_of_the_beat() -> None:
    assert leases_safe_until(100.0) == 100.0 + LEASE_TTL_S
    assert LEASE_TTL_S > 3 * HEARTBEAT_S, "one lost beat must not cost every account"
    assert LEASE_TTL_S + HEARTBEAT_S < 15.0, "a death must be noticed in time"


@pytest.mark.parametrize("account", ["main", "desk-2.eu", "a.live.okx"])
def test_the_key_of_a_lease_says_whose_it_is_whatever_the_account_is_called(account: str) -> None:
    for environment, kind in product(Environment, ExchangeKind):
        assert parse_lease_name(lease_name(account, environment, kind)) == (account, environment.value)
