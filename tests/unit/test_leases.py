"""A replica among others, in virtual time: deaths, stops, cuts, restarts and joins, one seed a history.

The database is a table with a clock; each replica is the real one over it. Checked at every step: no two
replicas act for one account; at the end: everything is owned, evenly, and nothing moves any more. Who
lives is what the program's own SQL says of a row, by the database's clock, which may be set at any time.
"""

from __future__ import annotations

import heapq
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count, pairwise
from random import Random

import pytest

from reconciler.controller.leases import (
    BEGINNING_S,
    COMING_BACK_S,
    RETRY_S,
    SHORTEST_ROUND_S,
    ReplicaMember,
)
from reconciler.core import replica_assignment
from reconciler.core import unservable_accounts as core_ability
from reconciler.core.events import Event, StateFailed
from reconciler.core.replica_assignment import (
    ABLE,
    HEARTBEAT_S,
    LEASE_TTL_S,
    Ability,
    AccountClaim,
    LeaseName,
    LeaseTable,
    OwnershipView,
    Replica,
    ReplicaId,
)
from reconciler.core.unservable_accounts import (
    RECOVERING_S,
    TRY_AGAIN_S,
    TRY_EVERY_S,
    UNREAD_S,
    ReadState,
    Trial,
)
from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.postgres import leases
from tests.support.slow import mostly_slow

pytestmark = pytest.mark.unmeasured

TAKEN_OVER_S = 15.0
"""The promise: how long after a death its accounts may be without an owner."""

CLOCK_SET_S = 30.0
"""The same where the database's clock was set since: a row may expire twice the lease time ahead then, and
may look expired for one more before that."""

OVERLAP_S = LEASE_TTL_S
"""For so long after a step of the clock one that just began may take what is another's: it has nothing to
compare with, and the other one trusts its lease. Nothing else rests on that."""

READ_EVERY_S = 30.0
FIRST_READ_S = 1.0
RETRY_READ_S = 5.0

SERVED_S = UNREAD_S + 20.0
"""The promise: how long after its first failed read an account may stay beside a replica that can read."""

SERVED_BESIDE_S = UNREAD_S + TRY_EVERY_S + RECOVERING_S + 30.0
"""The promise: how long an account may fail beside a replica that can read all that time, whatever it gave
up before: a trial read, the time after its own outage, and letting go of and taking the account."""

LATENCY_S = 0.01
DEADLINE_S = 4.0
"""How long a question to a database that is away takes to fail."""

AWAY = StateUnavailable("state-unavailable", "the state cannot be used now")


class World:
    """Virtual time, one database, and the processes over it."""

    def __init__(self, seed: int = 0) -> None:
        self.time = 1000.0
        self.random = Random(seed)
        self.up = True
        self.living: dict[ReplicaId, tuple[frozenset[LeaseName], float]] = {}
        self.leases: dict[LeaseName, ReplicaId] = {}
        self.abilities: dict[ReplicaId, Ability] = {}
        self.exchange_up = True
        self.unreadable: set[LeaseName] = set()
        """Accounts that the exchange does not answer about, to any replica."""
        self.read_every_s = READ_EVERY_S
        self.taken: list[tuple[float, LeaseName, ReplicaId]] = []
        self.processes: dict[ReplicaId, Process] = {}
        self.calm_since = float("inf")
        self.clock_s = 0.0
        self.clock_set_at = float("-inf")
        self.served_beside_s = float("inf")
        self.can_read_since: dict[ReplicaId, float] = {}
        self.served_at: dict[LeaseName, float] = {}
        self.last_kept: dict[LeaseName, float] = {}
        self._due: list[tuple[float, int, Process]] = []
        self._order = count()

    def start(self, name: ReplicaId, keeps: Collection[LeaseName], *, settling_s: float = 0.0) -> Process:
        process = Process(self, name, set(keeps), settling_s=settling_s)
        self.processes[name] = process
        self._later(self.time, process)
        return process

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._due and self._due[0][0] <= end:
            self.time, _, process = heapq.heappop(self._due)
            if process.dead:
                continue
            if process.stopped_until > self.time:
                self._later(min(process.stopped_until, self.time + 0.5), process)
                continue
            try:
                self._later(process.work.send(None), process)
            except StopIteration:
                continue
            self.check()
        self.time = end
        self.check()

    def _later(self, at: float, process: Process) -> None:
        heapq.heappush(self._due, (max(at, self.time), next(self._order), process))

    # -- what must hold --------------------------------------------------------------------------

    def check(self) -> None:
        """No two replicas may begin anything for one account, or be in the middle of it."""
        acting = Counter(account for process in self.awake() for account in process.may_begin())
        if self.time > self.clock_set_at + OVERLAP_S:
            assert [account for account, number in acting.items() if number > 1] == []
        for one in self.awake():
            self.last_kept |= dict.fromkeys(one.under_way(), self.time)
        for account in set().union(*(one.has for one in self.awake())):
            since = max(self.last_kept.get(account, self.calm_since), self.calm_since)
            in_time = self.time - since <= TAKEN_OVER_S or self.time - self.clock_set_at <= CLOCK_SET_S
            assert in_time, f"no replica has {account} since {since}"
        if self.served_beside_s < float("inf"):
            self.check_served()

    def check_served(self) -> None:
        """No account may fail for long beside a replica that could read it all that time."""
        able = [one for one in self.awake() if not one.cut_from_exchange and self.exchange_up]
        self.can_read_since = {one.name: self.can_read_since.get(one.name, self.time) for one in able}
        for one in self.awake():
            served = [account for account in one.may_begin() if one.read[account].failing_since is None]
            self.served_at |= dict.fromkeys(served, self.time)
        for one in able:
            for account in one.has:
                since = max(self.served_at.get(account, 0.0), self.can_read_since[one.name])
                assert self.time - since <= self.served_beside_s, f"{account} is not served since {since}"

    def awake(self) -> list[Process]:
        return [one for one in self.processes.values() if not one.dead and one.stopped_until <= self.time]

    def unowned(self) -> list[LeaseName]:
        wanted = {account for one in self.awake() for account in one.configured()}
        return sorted(wanted - {account for one in self.awake() for account in one.may_begin()})

    def shares(self) -> list[int]:
        return sorted(len(one.may_begin()) for one in self.awake())

    # -- the database ----------------------------------------------------------------------------

    def clock(self) -> float:
        return self.time + self.clock_s

    def set_clock(self, by_s: float) -> None:
        self.clock_s += by_s
        self.clock_set_at = self.time

    def alive(self, name: ReplicaId) -> bool:
        return name in self.living and is_alive(self.living[name][1], self.clock())

    def bury(self) -> None:
        """Remove the rows of the dead who own nothing."""
        for name in tuple(self.living):
            if not self.alive(name) and name not in self.leases.values():
                del self.living[name]

    def roster(self, *, was_alive: bool) -> LeaseTable:
        living = {name: keeps for name, (keeps, _) in self.living.items() if self.alive(name)}
        owners = {account: owner for account, owner in self.leases.items() if owner in living}
        every = {name: Replica(name, name, 1) for name in living}
        abilities = {name: self.abilities[name] for name in living}
        return LeaseTable(every, living, owners, was_alive=was_alive, abilities=abilities)


SQL = sqlite3.connect(":memory:")


def is_alive(expires_at: float, clock: float) -> bool:
    """Ask the program's own condition about a row that expires then."""
    SQL.create_function("clock_timestamp", 0, lambda: clock)
    condition = re.sub(r"make_interval\(secs => ([\d.]+)\)", r"\1", leases.ALIVE)
    [(alive,)] = SQL.execute(f"SELECT {condition} FROM (SELECT ? AS expires_at)", (expires_at,))
    return bool(alive)


@dataclass(eq=False)
class Process:
    """One process: the real member, its own accounts, and what may happen to it."""

    world: World
    name: ReplicaId
    has: set[LeaseName]
    settling_s: float = 0.0
    """How long after being let go an account's request in flight may take."""
    dead: bool = False
    stopped_until: float = float("-inf")
    cut: bool = False
    kept: dict[LeaseName, float] = field(default_factory=dict)
    """Until when something of the account is under way; infinite while it is kept."""
    message: list[tuple[str, LeaseName]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    recovered: int = 0
    cut_from_exchange: bool = False
    refused: set[LeaseName] = field(default_factory=set)
    """Accounts whose key the exchange refuses here."""
    read: dict[LeaseName, ReadState] = field(default_factory=dict)
    next_read_at: dict[LeaseName, float] = field(default_factory=dict)
    trials_made: dict[LeaseName, Trial] = field(default_factory=dict)
    unusable: MmpError | None = None
    """What the database says instead of an answer."""

    def __post_init__(self) -> None:
        me = Replica(self.name, "host", 1)
        self.member = ReplicaMember(
            me, self, self, self, self.events.append, stopping=lambda: self.stopped_for_good
        )
        self.stopped_for_good = False
        self.work: Coroutine[float, None, None] = self.member.run()

    def may_begin(self) -> list[LeaseName]:
        return [account for account in self.kept if self.member.is_owner(account)]

    def under_way(self) -> list[LeaseName]:
        """What it keeps, or still settles."""
        settling = [
            account for account, until in self.kept.items() if self.world.time < until < float("inf")
        ]
        return self.may_begin() + settling

    # -- ports.Clock -----------------------------------------------------------------------------

    def now(self) -> float:
        return self.world.time

    def wall(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        await Until(until)

    # -- replica.Accounts ------------------------------------------------------------------------

    def configured(self) -> frozenset[LeaseName]:
        return frozenset(self.has)

    def family_claims(self) -> Mapping[LeaseName, AccountClaim]:
        return {}

    def start(self, account: LeaseName, before: ReplicaId | None) -> None:
        assert self.is_stopped(account), "what is not over is not begun again"
        self.kept[account] = float("inf")
        self.read[account], self.next_read_at[account] = ReadState(), self.world.time + FIRST_READ_S
        self.message.append((f"from {before}" if before else "begin", account))

    def stop(self, account: LeaseName, *, lost: bool, unable: bool = False) -> None:
        self.kept[account] = self.world.time + self.world.random.uniform(0, self.settling_s)
        self.message.append(("lost" if lost else "unable" if unable else "end", account))
        del self.read[account], self.next_read_at[account]

    def readings(self) -> Mapping[LeaseName, ReadState]:
        """Read what was due since the last call, each when it was."""
        for account in self.read:
            while self.next_read_at[account] <= self.world.time:
                self._read_live(account, self.next_read_at[account])
        return dict(self.read)

    def _read_live(self, account: LeaseName, at: float) -> None:
        before = self.read[account]
        fails = self._fails(account)
        if account in self.refused and not fails:
            self.read[account] = replace(before, refused=True)
        elif fails:
            since = at if before.failing_since is None else before.failing_since
            self.read[account] = replace(before, failing_since=since)
        else:
            self.read[account] = ReadState(read_at=at)
        self.next_read_at[account] = at + (RETRY_READ_S if fails else self.world.read_every_s)

    def read_soon(self) -> None:
        for account in sorted(self.read)[:1]:
            self.next_read_at[account] = min(self.next_read_at[account], self.world.time)

    def trials(self) -> Mapping[LeaseName, Trial]:
        return dict(self.trials_made)

    def try_reading(self, account: LeaseName) -> None:
        assert account not in self.read, "what runs here is read by its loop"
        fails, refused = self._fails(account), account in self.refused
        self.trials_made[account] = Trial(self.world.time, not fails and not refused, refused and not fails)

    def _fails(self, account: LeaseName) -> bool:
        world = self.world
        return self.cut_from_exchange or not world.exchange_up or account in world.unreadable

    def is_stopped(self, account: LeaseName) -> bool:
        return self.kept.get(account, float("-inf")) <= self.world.time

    def on_leases(self, roster: LeaseTable) -> None:
        assert self.name in roster.replicas

    def state_recovered(self) -> None:
        self.recovered += 1

    # -- ports.Sharing ---------------------------------------------------------------------------

    async def heartbeat(
        self, keeps: frozenset[LeaseName], claims: Mapping[LeaseName, AccountClaim], ability: Ability = ABLE
    ) -> LeaseTable:
        del claims
        await self._reach()
        self.world.abilities[self.name] = ability
        was_alive = self.world.alive(self.name)
        self.world.living[self.name] = (keeps, self.world.clock() + LEASE_TTL_S)
        roster = self.world.roster(was_alive=was_alive)
        self.world.bury()
        await self._answer()
        return roster

    async def take(self, accounts: Collection[LeaseName]) -> Mapping[LeaseName, ReplicaId | None]:
        await self._reach()
        taken: dict[LeaseName, ReplicaId | None] = {}
        for account in sorted(accounts) if self.world.alive(self.name) else ():
            owner = self.world.leases.get(account)
            if owner is None or not self.world.alive(owner):
                self.world.leases[account] = self.name
                self.world.taken.append((self.world.time, account, self.name))
                taken[account] = owner
        await self._answer()
        return taken

    async def release(self, accounts: Collection[LeaseName]) -> None:
        await self._reach()
        for account in accounts:
            assert self.is_stopped(account), "an account may be taken only when nothing is under way"
            if self.world.leases.get(account) == self.name:
                del self.world.leases[account]
        await self._answer()

    async def leave(self) -> None:
        raise AssertionError("whoever runs the member leaves")

    async def _reach(self) -> None:
        await Until(self.world.time + self.world.random.uniform(0, LATENCY_S))
        await self._fail_if_away()

    async def _answer(self) -> None:
        await Until(self.world.time + self.world.random.uniform(0, LATENCY_S))
        await self._fail_if_away()

    async def _fail_if_away(self) -> None:
        if self.unusable is not None:
            raise self.unusable
        if self.cut or not self.world.up:
            await Until(self.world.time + self.world.random.choice([0.0, DEADLINE_S]))
            raise AWAY


class Until:
    """What a coroutine of this world waits for: an instant."""

    def __init__(self, instant: float) -> None:
        self._instant = instant

    def __await__(self) -> Generator[float, None, None]:
        yield self._instant


def accounts(number: int) -> set[LeaseName]:
    return {f"desk-{each:02}.live.okx" for each in range(number)}


# ---- one thing at a time -------------------------------------------------------------------------


def test_one_alone_keeps_everything_after_a_moment() -> None:
    world = World()
    one = world.start("a", accounts(6))
    world.run(BEGINNING_S - 0.1)
    assert one.may_begin() == []
    world.run(0.2)
    assert world.unowned() == []


def test_those_that_begin_together_share_without_giving_anything_up() -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(30.0)
    assert world.shares() == [10, 10, 10]
    assert len(world.taken) == 30


def test_a_newcomer_gets_its_share_within_three_beats_and_only_that_moves() -> None:
    world = World()
    for name in "ab":
        world.start(name, accounts(30))
    world.run(60.0)
    world.start("c", accounts(30))
    world.run(3 * HEARTBEAT_S)
    assert world.shares() == [10, 10, 10]
    assert len(world.taken) == 40


@pytest.mark.parametrize("died_at", [30.0 + part / 10 for part in range(26)])
def test_the_accounts_of_a_dead_one_are_taken_over_in_time(died_at: float) -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(died_at)
    world.processes["b"].dead = True
    world.run(LEASE_TTL_S + HEARTBEAT_S + 0.1)
    assert world.unowned() == []
    assert world.shares() == [15, 15]
    others = [word for one in world.awake() for word, _ in one.message if word.startswith("from")]
    assert others == ["from b"] * 10


@pytest.mark.parametrize("joined_at", [6.0, 7.5, 8.5, 9.5])
@pytest.mark.parametrize("fell_silent_after", [0.05, 1.0, 1.6, 2.4])
def test_a_replica_that_dies_before_it_takes_its_accounts_delays_no_other(
    joined_at: float, fell_silent_after: float
) -> None:
    world = World()
    for name in "ab":
        world.start(name, accounts(30))
    world.run(30.0)
    left_behind = set(world.processes["b"].may_begin())
    world.processes["b"].dead = True
    died_at = world.time
    world.run(joined_at)
    newcomer = world.start("0", accounts(30))
    world.run(fell_silent_after)
    newcomer.dead = True
    world.run(died_at + TAKEN_OVER_S - world.time)
    assert left_behind <= {account for at, account, _ in world.taken if at > died_at}
    world.run(joined_at + fell_silent_after)
    assert world.unowned() == []


@pytest.mark.slow
@pytest.mark.parametrize("died_at", [30.0 + part / 4 for part in range(11)])
@pytest.mark.parametrize("apart_s", [0.0, 0.5, 1.0, 1.5, 2.0, 2.4])
def test_two_that_die_one_after_the_other_are_one_takeover(died_at: float, apart_s: float) -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
        world.run(apart_s)
    world.run(died_at)
    left_behind = set(world.processes["a"].may_begin())
    world.processes["a"].dead = True
    world.run(LEASE_TTL_S - 0.3)
    world.processes["b"].dead = True
    world.run(TAKEN_OVER_S - LEASE_TTL_S + 0.3)
    taken_by_the_second = set(world.processes["b"].kept)
    assert left_behind - taken_by_the_second <= set(world.processes["c"].may_begin())


@pytest.mark.parametrize("joined_at", [30.0 + part / 4 for part in range(11)])
def test_what_one_does_not_take_is_not_given_to_it_again_and_again(joined_at: float) -> None:
    world = World()
    one = world.start("a", accounts(30))
    world.run(joined_at)
    newcomer = world.start("0", accounts(30))
    world.run(1.0)
    newcomer.dead = True
    world.run(60.0)
    assert len(one.may_begin()) == 30
    assert len([word for word, _ in one.message if word == "end"]) == 15


STEPS = [sign * step for step in (1.0, 6.0, 8.0, 15.9, 16.1, 120.0, 3600.0, 86_400.0) for sign in (-1, 1)]


def dies_when_the_clock_is_set(by_s: float, after_s: float) -> World:
    """Let one of three die and set the database's clock after that; returns the world at the bound."""
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(31.0)
    world.calm_since = world.time
    world.processes["b"].dead = True
    world.run(after_s)
    world.set_clock(by_s)
    world.run(CLOCK_SET_S)
    return world


@pytest.mark.slow
@pytest.mark.parametrize("by_s", STEPS)
@pytest.mark.parametrize("after_s", [0.0, 2.0, 7.9, 9.0])
def test_a_dead_one_is_taken_over_in_time_however_the_clock_is_set_then(
    by_s: float, after_s: float
) -> None:
    world = dies_when_the_clock_is_set(by_s, after_s)
    assert world.unowned() == []
    assert world.shares() == [15, 15]


def test_with_the_condition_of_before_a_clock_set_back_leaves_the_dead_their_accounts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leases, "ALIVE", "expires_at > clock_timestamp()")
    with pytest.raises(AssertionError, match="no replica has desk-"):
        dies_when_the_clock_is_set(-3600.0, 0.0).run(5.0)


@pytest.mark.slow
@pytest.mark.parametrize("by_s", STEPS)
@pytest.mark.parametrize("at", [30.0, 31.25, 32.0])
def test_a_clock_that_is_set_moves_no_account_of_those_that_live(by_s: float, at: float) -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(at)
    world.set_clock(by_s)
    world.run(40.0)
    assert len(world.taken) == 30


def sharing_evenly(*names: ReplicaId, number: int = 10, read_every_s: float = READ_EVERY_S) -> World:
    """Start one after the other, so that they read at different moments."""
    world = World()
    world.read_every_s = read_every_s
    for name in names:
        world.start(name, accounts(number))
        world.run(26.0)
    world.run(20.0)
    return world


def moved_since(world: World, at: float) -> Counter[LeaseName]:
    return Counter(account for when, account, _ in world.taken if when > at)


@pytest.mark.parametrize("cut_at", [0.0, 7.0, 14.0, 21.0, 28.0])
@pytest.mark.parametrize("others", ["b", "bc"])
def test_the_accounts_of_one_that_is_cut_off_from_the_exchange_move_to_one_that_is_not(
    cut_at: float, others: str
) -> None:
    world = sharing_evenly("a", *others)
    world.run(cut_at)
    world.processes["a"].cut_from_exchange = True
    world.run(READ_EVERY_S + SERVED_S)
    assert world.processes["a"].may_begin() == []
    assert world.unowned() == []
    healthy = [len(world.processes[name].may_begin()) for name in others]
    assert max(healthy) - min(healthy) <= 1


def test_a_healthy_one_that_reads_seldom_shows_that_it_can_when_it_is_asked() -> None:
    world = sharing_evenly("a", "b", read_every_s=300.0)
    one, other = world.processes["a"], world.processes["b"]
    one.cut_from_exchange = True
    while all(reading.failing_since is None for reading in one.read.values()):
        world.run(1.0)
    world.run(SERVED_S)
    assert len(other.may_begin()) == 10


def test_who_has_no_account_to_read_may_try_one_that_another_cannot() -> None:
    world = sharing_evenly("a", number=1)
    world.start("b", accounts(1))
    world.run(10.0)
    world.processes["a"].cut_from_exchange = True
    world.run(READ_EVERY_S + SERVED_S)
    assert len(world.processes["b"].may_begin()) == 1
    world.processes["a"].cut_from_exchange = False
    world.processes["b"].cut_from_exchange = True
    world.run(READ_EVERY_S + TRY_AGAIN_S[0] + SERVED_S)
    assert len(world.processes["a"].may_begin()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("read_every_s", [READ_EVERY_S, 300.0])
@pytest.mark.parametrize("down_at", [0.0, 7.0, 14.0, 21.0, 28.0])
def test_accounts_do_not_move_while_no_replica_can_read_them(down_at: float, read_every_s: float) -> None:
    world = sharing_evenly("a", "b", "c", read_every_s=read_every_s)
    world.run(down_at)
    before = len(world.taken)
    world.exchange_up = False
    world.run(600.0)
    assert len(world.taken) == before
    world.exchange_up = True
    world.run(60.0)
    assert len(world.taken) == before
    assert world.unowned() == []


def test_an_account_whose_key_is_refused_moves_alone_and_once() -> None:
    world = sharing_evenly("a", "b")
    one, began = world.processes["a"], world.time
    account = one.may_begin()[0]
    one.refused = {account}
    world.run(READ_EVERY_S + 3 * HEARTBEAT_S)
    assert account in world.processes["b"].may_begin()
    world.run(TRY_AGAIN_S[0] - READ_EVERY_S)
    assert moved_since(world, began)[account] == 1
    assert world.shares() == [5, 5]


@pytest.mark.slow
def test_an_account_whose_key_is_refused_everywhere_moves_less_and_less_often() -> None:
    world = sharing_evenly("a", "b")
    account, began, hours = min(accounts(10)), world.time, 2
    for one in world.awake():
        one.refused = {account}
    world.run(hours * 3600.0)
    most = 2 * (len(TRY_AGAIN_S) + hours * 3600.0 / TRY_AGAIN_S[-1])
    assert moved_since(world, began)[account] <= most
    assert world.unowned() == []


@pytest.mark.slow
def test_one_that_stays_cut_off_is_given_nothing_to_try_and_gets_its_share_once_it_can_read() -> None:
    world = sharing_evenly("a", "b")
    world.processes["a"].cut_from_exchange = True
    world.run(120.0)
    before = len(world.taken)
    world.run(5000.0)
    assert len(world.taken) == before
    world.processes["a"].cut_from_exchange = False
    world.run(TRY_EVERY_S + TRY_EVERY_S + RECOVERING_S + 4 * HEARTBEAT_S)
    assert world.shares() == [5, 5]


@pytest.mark.slow
def test_one_that_is_cut_off_again_and_again_gets_accounts_less_and_less_often() -> None:
    world = sharing_evenly("a", "b")
    one, began = world.processes["a"], world.time
    for _ in range(40):
        one.cut_from_exchange = not one.cut_from_exchange
        world.run(150.0)
    tries = [when for when, account, name in world.taken if name == "a" and when > began]
    rounds = [later for earlier, later in pairwise([began, *tries]) if later - earlier > 4 * HEARTBEAT_S]
    assert 3 <= len(rounds) <= len(TRY_AGAIN_S)
    apart = [later - earlier for earlier, later in pairwise(rounds)]
    assert all(later >= earlier for earlier, later in pairwise(apart))


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("first_s", [0.0, 200.0])
def test_an_outage_of_the_exchange_moves_nothing_to_one_without_accounts_either(
    number: int, first_s: float
) -> None:
    world = sharing_evenly("a", number=number)
    world.processes["a"].cut_from_exchange = first_s > 0
    world.start("b", accounts(1))
    world.run(first_s or 20.0)
    world.processes["a"].cut_from_exchange = False
    before = len(world.taken)
    world.exchange_up = False
    world.run(1000.0)
    world.exchange_up = True
    world.run(RECOVERING_S)
    assert len(world.taken) == before


@pytest.mark.slow
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("read_every_s", [READ_EVERY_S, 300.0])
def test_an_account_that_no_replica_can_read_does_not_go_to_and_fro(
    refused: bool, number: int, read_every_s: float
) -> None:
    world = sharing_evenly("a", "b", number=number, read_every_s=read_every_s)
    account, began = min(accounts(number)), world.time
    if refused:
        for one in world.awake():
            one.refused = {account}
    else:
        world.unreadable = {account}
    world.run(5000.0)
    assert moved_since(world, began)[account] <= 2
    assert moved_since(world, began).total() <= 4


def cut_one_after_the_other(cuts: list[tuple[ReplicaId, float, float]], number: int = 4) -> World:
    """Cut replicas off the exchange from when to when, in seconds; check that who can read serves."""
    world = sharing_evenly("a", "b", number=number)
    began, world.served_beside_s = world.time, SERVED_BESIDE_S
    changes = [(at, name, True) for name, at, _ in cuts] + [(until, name, False) for name, _, until in cuts]
    for at, name, cut in sorted(changes):
        world.run(began + at - world.time)
        world.processes[name].cut_from_exchange = cut
    world.run(2 * SERVED_BESIDE_S)
    return world


FOR_EVER = 4700.0
OFTEN = [("a", at, at + 150.0) for at in range(100, 2900, 300)]
IN_TURN = (
    [("a", 100.0, 700.0), ("b", 720.0, FOR_EVER)],
    [("a", 100.0, 4000.0), ("b", 4100.0, FOR_EVER)],
    [("a", 100.0, 700.0), ("b", 690.0, FOR_EVER)],
    [("a", 100.0, 300.0), ("b", 260.0, 600.0), ("a", 620.0, 1500.0), ("b", 1510.0, FOR_EVER)],
    [*OFTEN, ("b", 2960.0, 4000.0)],
)


@pytest.mark.slow
@pytest.mark.parametrize("cuts", IN_TURN)
@pytest.mark.parametrize("number", [1, 4])
def test_one_that_gave_its_accounts_up_has_them_again_when_their_owner_is_cut_off(
    cuts: list[tuple[ReplicaId, float, float]], number: int
) -> None:
    world = cut_one_after_the_other(cuts, number)
    assert world.unowned() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_replica_cut_off_during_a_move_does_not_hold_accounts_from_one_that_can_read_them(
    seed: int,
) -> None:
    random, at, cuts = Random(seed * 15_485_863), 0.0, list[tuple[ReplicaId, float, float]]()
    for number in range(random.randrange(2, 7)):
        at += random.uniform(-60.0, 300.0) if cuts else 100.0
        until = at + random.choice([30.0, 200.0, 600.0, 2500.0]) * random.uniform(0.8, 1.2)
        cuts.append(("ab"[number % 2], at, until))
        at = until
    cut_one_after_the_other(cuts, random.choice([1, 2, 5]))


@pytest.mark.slow
def test_a_rule_that_keeps_accounts_from_who_gave_them_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_assignment, "_may_have_again", lambda *_: False)
    with pytest.raises(AssertionError, match="is not served"):
        cut_one_after_the_other(IN_TURN[-1])


def believes_every_lease(shares: OwnershipView, replica: ReplicaId, account: LeaseName) -> bool:
    """Ask no sign of one that could read, so that an outage of the exchange moves accounts."""
    return account not in shares.ability(replica).unable


def test_a_rule_that_asks_no_sign_of_who_can_read_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_assignment, "_may_have", believes_every_lease)
    with pytest.raises(AssertionError):
        test_accounts_do_not_move_while_no_replica_can_read_them(14.0, 300.0)


@pytest.mark.slow
def test_a_rule_without_waits_between_two_tries_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_ability, "TRY_AGAIN_S", (5.0,))
    with pytest.raises(AssertionError):
        test_one_that_is_cut_off_again_and_again_gets_accounts_less_and_less_often()


def test_a_rule_that_knows_no_inability_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_assignment, "_may_have", lambda *_: True)
    with pytest.raises(AssertionError):
        test_the_accounts_of_one_that_is_cut_off_from_the_exchange_move_to_one_that_is_not(0.0, "b")


@pytest.mark.parametrize("seed", mostly_slow(range(12), first=2))
def test_whatever_is_cut_off_a_healthy_one_ends_up_with_the_accounts(seed: int) -> None:
    """Deaths, joins, cuts and refused keys; then one healthy replica among some that are cut off."""
    world = World(seed)
    random = Random(seed * 104_729)
    names = (f"r{number}" for number in count())
    every = accounts(random.randrange(1, 13))
    for _ in range(random.randrange(2, 4)):
        world.start(next(names), every)
    for _ in range(random.randrange(1, 12)):
        world.run(random.uniform(0.0, 40.0))
        _disturb_reading(world, random, next(names), every)
    world.exchange_up = True
    living = world.awake() or [world.start(next(names), every)]
    healthy = random.choice(living)
    for one in living:
        one.cut_from_exchange = one is not healthy
        one.refused = set()
    world.run(TRY_AGAIN_S[-1] + READ_EVERY_S + 4 * SERVED_S)
    elsewhere = every - set(healthy.may_begin())
    assert len(elsewhere) <= len(living) - 1, "each that is cut off may be trying one"
    assert set(world.unowned()) <= elsewhere


def _disturb_reading(world: World, random: Random, newcomer: ReplicaId, every: set[LeaseName]) -> None:
    living = world.awake()
    match random.randrange(5):
        case 0:
            world.start(newcomer, every)
        case 1 if len(living) > 1:
            random.choice(living).dead = True
        case 2:
            world.exchange_up = not world.exchange_up
        case 3 if living:
            random.choice(living).refused = set(
                random.sample(sorted(every), random.randrange(len(every) + 1))
            )
        case _ if living:
            one = random.choice(living)
            one.cut_from_exchange = not one.cut_from_exchange


def test_one_that_wakes_from_a_long_stop_begins_nothing_that_is_another_s() -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(30.0)
    woken = world.processes["b"]
    before = woken.may_begin()
    woken.stopped_until = world.time + 20.0
    world.run(20.0)
    assert woken.may_begin() == []
    world.run(0.2)
    assert woken.may_begin() == []
    assert [account for word, account in woken.message if word == "lost"] == before
    world.run(COMING_BACK_S + 3 * HEARTBEAT_S)
    assert world.shares() == [10, 10, 10]


def test_a_short_stop_moves_nothing() -> None:
    world = World()
    for name in "ab":
        world.start(name, accounts(10))
    world.run(30.0)
    world.processes["a"].stopped_until = world.time + LEASE_TTL_S - HEARTBEAT_S - 0.1
    world.run(30.0)
    assert len(world.taken) == 10


def test_a_database_that_is_away_stops_every_replica_and_moves_nothing() -> None:
    world = World()
    for name in "abc":
        world.start(name, accounts(30))
    world.run(30.0)
    shares = [one.may_begin() for one in world.awake()]
    world.up = False
    world.run(LEASE_TTL_S)
    assert world.shares() == [0, 0, 0], "nobody may begin anything once its time is over"
    world.run(30.0)
    world.up = True
    world.run(DEADLINE_S + RETRY_S + COMING_BACK_S)
    assert [one.may_begin() for one in world.awake()] == shares
    assert len(world.taken) == 30
    assert {type(event) for event in world.awake()[0].events} == {StateFailed}


DAMAGED = StateUnusable("state-damaged", "a page is damaged")
HIDDEN = StateAccessDenied("state-tables-missing", "tables are missing")


@pytest.mark.parametrize("problem", [DAMAGED, HIDDEN])
def test_what_a_person_has_to_mend_is_waited_out_once_the_state_was_usable(problem: MmpError) -> None:
    world = World()
    one = world.start("a", accounts(3))
    world.run(10.0)
    one.unusable = problem
    world.run(30.0)
    assert one.may_begin() == []
    assert {type(event) for event in one.events} == {StateFailed}
    assert one.recovered == 0
    one.unusable = None
    world.run(RETRY_S + 0.1)
    assert (len(one.may_begin()), one.recovered) == (3, 1)
    world.run(30.0)
    assert one.recovered == 1


@pytest.mark.parametrize("problem", [DAMAGED, HIDDEN])
def test_a_state_that_never_was_usable_ends_the_replica(problem: MmpError) -> None:
    world = World()
    one = world.start("a", accounts(3))
    one.unusable = problem
    with pytest.raises(type(problem)):
        world.run(1.0)


def test_one_that_is_cut_off_lets_others_have_its_accounts_and_comes_back() -> None:
    world = World()
    for name in "ab":
        world.start(name, accounts(10))
    world.run(30.0)
    world.processes["a"].cut = True
    world.run(TAKEN_OVER_S)
    assert world.processes["a"].may_begin() == []
    assert len(world.processes["b"].may_begin()) == 10
    world.processes["a"].cut = False
    world.run(30.0)
    assert world.shares() == [5, 5]


def test_what_is_in_flight_is_settled_before_another_may_take_it() -> None:
    world = World()
    world.start("a", accounts(10), settling_s=12.0)
    world.run(30.0)
    world.start("b", accounts(10))
    world.run(3 * HEARTBEAT_S)
    assert len(world.processes["b"].may_begin()) < 5
    world.run(12.0 + HEARTBEAT_S)
    assert world.shares() == [5, 5]


def test_an_account_whose_acquisition_was_not_answered_is_owned_all_the_same() -> None:
    world = World()
    one = world.start("a", accounts(1))
    while not world.taken:
        world.run(0.001)
    world.up = False
    world.run(DEADLINE_S + 0.1)
    assert one.may_begin() == []
    world.up = True
    world.run(DEADLINE_S + RETRY_S + 0.1)
    assert len(one.may_begin()) == 1


def test_the_account_of_a_new_file_is_owned_at_the_next_round_and_rounds_are_not_hurried_without_end() -> (
    None
):
    world = World()
    one = world.start("a", accounts(1))
    world.run(10.0)
    one.has |= {"new.live.okx"}
    world.run(HEARTBEAT_S + 0.1)
    assert "new.live.okx" in one.may_begin()
    assert SHORTEST_ROUND_S < HEARTBEAT_S


def test_a_stopping_one_goes_no_further_round() -> None:
    world = World()
    one = world.start("a", accounts(1))
    world.run(10.0)
    one.stopped_for_good = True
    world.run(HEARTBEAT_S + 0.1)
    last = world.living["a"]
    world.run(30.0)
    assert world.living["a"] == last


# ---- everything at once --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", mostly_slow(range(150), first=20))
def test_whatever_happens_no_two_act_and_all_is_owned_once_it_ends(seed: int) -> None:
    world = World(seed)
    random = Random(seed * 7919)
    names = (f"r{number}" for number in count())
    every = accounts(random.randrange(1, 31))
    for _ in range(random.randrange(1, 4)):
        world.start(next(names), every, settling_s=random.choice([0.0, 12.0]))
    for _ in range(random.randrange(1, 25)):
        world.run(random.uniform(0.0, 6.0))
        _disturb(world, random, next(names), every)
    _end_disturbances(world)
    if not world.awake():
        world.start(next(names), every)
    world.run(60.0)
    assert world.unowned() == []
    assert max(world.shares()) - min(world.shares()) <= 1
    moved = len(world.taken)
    world.run(60.0)
    assert len(world.taken) == moved


def _disturb(world: World, random: Random, newcomer: ReplicaId, every: set[LeaseName]) -> None:
    """Let one thing happen."""
    living = [one for one in world.processes.values() if not one.dead]
    match random.randrange(7):
        case 0:
            world.start(newcomer, every, settling_s=random.choice([0.0, 12.0]))
        case 1 if living:
            random.choice(living).dead = True
        case 2 if living:
            random.choice(living).stopped_until = world.time + random.uniform(0.0, 25.0)
        case 3 if living:
            one = random.choice(living)
            one.cut = not one.cut
        case 4:
            world.up = not world.up
        case 5:
            world.set_clock(random.choice(STEPS))
        case _ if living:
            one = random.choice(living)
            one.has = {account for account in every if random.random() < 0.8}


def _end_disturbances(world: World) -> None:
    world.up = True
    world.calm_since = world.time + DEADLINE_S + RETRY_S
    for one in world.processes.values():
        one.cut = False
        one.has = set().union(*(each.has for each in world.processes.values()))
        one.stopped_until = min(one.stopped_until, world.time)


@pytest.mark.slow
def test_no_replica_asks_for_more_than_its_share() -> None:
    """Ten replicas over three hundred accounts: joining one by one, each moves its share and no more."""
    world = World()
    every = accounts(300)
    for number in range(10):
        world.start(f"r{number}", every)
        world.run(5 * HEARTBEAT_S)
    assert world.shares() == [30] * 10
    assert len(world.taken) == 300 + sum(300 // number for number in range(2, 11))
