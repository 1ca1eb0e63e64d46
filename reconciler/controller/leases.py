"""One replica among others: it says that it lives, and keeps the accounts that are its own.

Round by round it tells the database that it lives, sees who else does and who owns what, and does its
part of making shares even: first it lets go, then others take. It believes that an account is its own
only as long as the database may not believe it dead, by its own clock from before it last said that it
lives: who was stopped, cut off or slow begins nothing. That keeps replicas out of each other's way; the
rate is safe without it, in the reservations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.core.events import Observe, StateFailed
from reconciler.core.replica_assignment import (
    HEARTBEAT_S,
    LEASE_TTL_S,
    Ability,
    AccountClaim,
    LeaseName,
    LeaseTable,
    OwnershipView,
    Rebalance,
    Replica,
    ReplicaId,
    awaited,
    leases_safe_until,
    may_take_left,
    rebalance,
)
from reconciler.core.unserved_accounts import (
    Experience,
    ReadState,
    Trial,
    learned,
    released,
    serving_ability,
    to_try,
)
from reconciler.errors import STATE_FAILURES, StateUnavailable, StateUnusable
from reconciler.ports import Clock, LeaseStore

BEGINNING_S = 1.5
"""From the first look on nothing is taken for so long: others begin at the same moment, and who takes
everything gives most of it up a round later."""

COMING_BACK_S = 6.5
"""After a silence of one's own nothing is asked for for so long but what was one's own before: the
database was away, and others need up to a connection's timeout (5 s) and RETRY_S to come back to theirs."""

LEFT_S = 1.3 * HEARTBEAT_S
"""After having been free for so long, an account is anybody's: who is to have it has had a round to take
it, and may have died in the meantime. Two deaths in a row are then still one takeover."""

RETRY_S = 1.0
"""After a failed round. Short, since a silence of LEASE_TTL_S costs all accounts."""

SHORTEST_ROUND_S = 0.25
"""Between two rounds, however often somebody wants one."""


class LeaseCallbacks(Protocol):
    """What a replica does to the accounts it has settings for."""

    def configured(self) -> frozenset[LeaseName]:
        """Return the accounts there are settings for."""
        ...

    def claims_made(self) -> Mapping[LeaseName, AccountClaim]:
        """Return what is written for those that are kept."""
        ...

    def readings(self) -> Mapping[LeaseName, ReadState]:
        """Return how the live reads of the accounts go that run here."""
        ...

    def read_soon(self) -> None:
        """Read an account live now: another replica waits for a sign that this one can."""
        ...

    def trials(self) -> Mapping[LeaseName, Trial]:
        """Return how reading accounts on trial went that did not run here then."""
        ...

    def try_reading(self, account: LeaseName) -> None:
        """Read an account live that does not run here, to see whether it could; one at a time."""
        ...

    def begin(self, account: LeaseName, before: ReplicaId | None) -> None:
        """Keep an account from now on; ``before``: the silent one it was taken over from, if any."""
        ...

    def end(self, account: LeaseName, *, lost: bool, unable: bool = False) -> None:
        """Let go of an account as soon as nothing is in flight.

        ``lost``: it is another's already; ``unable``: it cannot be served here.
        """
        ...

    def ended(self, account: LeaseName) -> bool:
        """Tell whether nothing of an account is under way, so that it may be another's."""
        ...

    def seen(self, roster: LeaseTable) -> None:
        """Take who lives and who owns what."""
        ...

    def state_recovered(self) -> None:
        """Try again now what waits for the state: it is usable again."""
        ...


@dataclass(slots=True)
class ReplicaMember:
    """A replica's part in sharing the accounts out. ``observe`` takes what is about no account."""

    me: Replica
    sharing: LeaseStore
    clock: Clock
    accounts: LeaseCallbacks
    observe: Observe
    stopping: Callable[[], bool] = lambda: False
    _owned: set[LeaseName] = field(default_factory=set)
    leases_safe_until: float = float("-inf")
    """Until when this replica may think that its accounts are its own."""
    _begun: bool = False
    _failed: bool = False
    """Whether the last round failed."""
    _take_from: float = float("-inf")
    """From when on accounts may be taken."""
    _back_at: float = float("-inf")
    """From when on accounts are asked for that are not this replica's already."""
    _give_from: float = float("-inf")
    """From when on accounts are given up: not while somebody who is to have some does not take them."""
    _experience: Experience = field(default_factory=Experience)
    """What this replica remembers of what it could not serve."""
    _free_since: dict[LeaseName, float] = field(default_factory=dict)
    """Accounts nobody keeps, and when they were first seen so."""

    def is_owner(self, account: LeaseName) -> bool:
        """Tell whether the account is this replica's at this moment, so that something may be begun."""
        return account in self._owned and self.lease_valid()

    def lease_valid(self) -> bool:
        """Tell whether the database may not believe this replica dead yet."""
        return self.clock.now() < self.leases_safe_until

    async def run(self) -> None:
        """Run rounds until asked to stop. Raises StateAccessDenied, StateUnusable if never usable."""
        while not self.stopping():
            begun_at = self.clock.now()
            next_at = await self._round_or_retry(begun_at)
            await self._rest(begun_at + SHORTEST_ROUND_S, next_at)

    async def _rest(self, earliest: float, latest: float) -> None:
        """Wait until ``latest``, or until somebody wants a round and ``earliest`` has come."""
        await self.clock.sleep_until(latest)
        while self.clock.now() < earliest and not self.stopping():
            await self.clock.sleep_until(earliest)

    async def _round_or_retry(self, begun_at: float) -> float:
        """Go one round; returns when the next is due."""
        try:
            next_at = await self._round(begun_at)
        except (*STATE_FAILURES, StateUnusable) as problem:
            if not isinstance(problem, StateUnavailable) and self.leases_safe_until == float("-inf"):
                raise
            self._failed = True
            retry_at = self.clock.now() + RETRY_S
            self.observe(StateFailed(problem.code, problem.message, retry_at))
            return retry_at
        if self._failed:
            self._failed = False
            self.accounts.state_recovered()
        return next_at

    async def _round(self, begun_at: float) -> float:
        self._hold_back(begun_at)
        believed = self.lease_valid()
        keeps, readings = self._wanted(begun_at), self.accounts.readings()
        trials = self.accounts.trials()
        self._experience = learned(self._experience, readings, trials, begun_at)
        able = serving_ability(self._experience, readings, trials, keeps, begun_at)
        roster = await self.sharing.heartbeat(keeps, self.accounts.claims_made(), able)
        self.leases_safe_until = leases_safe_until(begun_at)
        if believed and not roster.was_alive:
            # The database's clock was set, and the others' rows have expired by it as this one had: they
            # are not taken from before they had the time to renew them.
            self._take_from = max(self._take_from, begun_at + COMING_BACK_S)
        mine = roster.owned_by(self.me.id)
        self._lose(self._owned - mine)
        self.accounts.seen(roster)
        shares = OwnershipView(self.me.id, roster.keeps, roster.owners, roster.abilities)
        decided = rebalance(shares)
        await self._give_up(decided, mine, readings, begun_at)
        self._look_for_free(shares, begun_at)
        self._show(shares, able, readings, begun_at)
        if begun_at >= self._take_from:
            await self._take(decided, begun_at)
        return self._next_round(begun_at)

    def _hold_back(self, begun_at: float) -> None:
        """After a silence of one's own, the first look's included, see first who else is there."""
        if self._begun and not self.lease_valid() and begun_at >= self._take_from:
            self._back_at = self._take_from = begun_at + COMING_BACK_S
        if not self._begun:
            self._begun, self._take_from = True, begun_at + BEGINNING_S

    def _wanted(self, begun_at: float) -> frozenset[LeaseName]:
        """Return the accounts to ask for: all there are settings for, but when just coming back."""
        return self.accounts.configured() if begun_at >= self._back_at else frozenset(self._owned)

    def _lose(self, lost: set[LeaseName]) -> None:
        """Let go of what another has taken over meanwhile."""
        for account in sorted(lost):
            self._owned.discard(account)
            self.accounts.end(account, lost=True)

    async def _give_up(
        self,
        decided: Rebalance,
        mine: frozenset[LeaseName],
        readings: Mapping[LeaseName, ReadState],
        begun_at: float,
    ) -> None:
        """Let go of what another is to have, and give it back once that is done; keep the rest."""
        leaving = decided.release if begun_at >= self._give_from else ()
        unable = serving_ability(self._experience, readings, {}, (), begun_at).unable
        ending = sorted(self._owned.intersection(leaving))
        for account in ending:
            self._owned.discard(account)
            self.accounts.end(account, lost=False, unable=account in unable)
        given_up = [account for account in ending if account in unable]
        self._experience = released(self._experience, given_up, readings, begun_at)
        idle = [account for account in sorted(mine - self._owned) if self.accounts.ended(account)]
        for account in idle:
            if account not in decided.release:
                self._begin(account, None)
        given = [account for account in idle if account in decided.release]
        if given:
            await self.sharing.release(given)

    def _show(
        self, shares: OwnershipView, able: Ability, readings: Mapping[LeaseName, ReadState], begun_at: float
    ) -> None:
        """Read where that may show that this replica can serve what it does not own."""
        waiting = awaited(shares)
        if waiting:
            self.accounts.read_soon()
        account = to_try(able, readings, self.accounts.trials(), waiting, begun_at)
        if account is not None and self.accounts.ended(account):
            self.accounts.try_reading(account)

    def _look_for_free(self, shares: OwnershipView, begun_at: float) -> None:
        free = shares.keeps[self.me.id] - shares.owners.keys()
        free = frozenset(account for account in free if may_take_left(shares, account))
        self._free_since = {account: self._free_since.get(account, begun_at) for account in free}

    async def _take(self, decided: Rebalance, begun_at: float) -> None:
        """Take what is to be this replica's, and what others have left."""
        left = {account for account, at in self._left_at().items() if begun_at >= at}
        wanted = [account for account in {*decided.take, *left} if self.accounts.ended(account)]
        if left.difference(decided.take):
            self._give_from = begun_at + LEASE_TTL_S
        if wanted:
            taken = await self.sharing.take(wanted)
            for account, before in sorted(taken.items()):
                self._begin(account, before)

    def _left_at(self) -> Mapping[LeaseName, float]:
        """Return from when on each free account is anybody's; while nothing is taken, nobody is late."""
        return {each: max(since, self._take_from) + LEFT_S for each, since in self._free_since.items()}

    def _next_round(self, begun_at: float) -> float:
        """Return when to go round next: at the next beat, or when something may be taken before that."""
        due = (self._take_from, *self._left_at().values())
        return min((begun_at + HEARTBEAT_S, *(at for at in due if at > begun_at)))

    def _begin(self, account: LeaseName, before: ReplicaId | None) -> None:
        self._owned.add(account)
        self.accounts.begin(account, before)
