"""One replica among others: it renews its leases by heartbeat, and rebalances the accounts.

In each round a replica writes its heartbeat, reads the table of leases and rebalances: it releases leases
first, and other replicas take them afterwards. A replica trusts its leases only while the database cannot
count it as dead. It measures that with its own clock, from before the last heartbeat. So a replica that
was stopped, cut off or slow starts nothing. The leases only separate the replicas: the reservations
protect the request rate without them.
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
from reconciler.core.unservable_accounts import (
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
"""How long a new replica takes no lease after its first round. Other replicas may start at the same
moment, and a replica that takes everything gives most of it up one round later."""

COMING_BACK_S = 6.5
"""How long a replica asks only for the accounts it owned before, after it missed heartbeats. The database
was away, and other replicas need up to a connection timeout (5 s) and RETRY_S to renew their leases."""

LEFT_S = 1.3 * HEARTBEAT_S
"""How long an account is free before any replica may take it. The replica that it is assigned to has had
one round to take it, and may have died since. Two deaths in a row are then still one takeover."""

RETRY_S = 1.0
"""The wait after a failed round. It is short: a replica silent for LEASE_TTL_S loses all its accounts."""

SHORTEST_ROUND_S = 0.25
"""The shortest time between two rounds, however often a round is requested."""


class LeaseCallbacks(Protocol):
    """What a replica does with the accounts that it has settings for."""

    def configured(self) -> frozenset[LeaseName]:
        """Return the accounts that have settings."""

    def family_claims(self) -> Mapping[LeaseName, AccountClaim]:
        """Return the families that the accounts of this replica claim."""

    def readings(self) -> Mapping[LeaseName, ReadState]:
        """Return the state of the live reads of the accounts that run here."""

    def read_soon(self) -> None:
        """Read an account live now: another replica waits for proof that this replica can."""

    def trials(self) -> Mapping[LeaseName, Trial]:
        """Return the results of trial reads of accounts that did not run here at the time."""

    def try_reading(self, account: LeaseName) -> None:
        """Read an account that does not run here, to see whether it could run here; one at a time."""

    def start(self, account: LeaseName, before: ReplicaId | None) -> None:
        """Start an account. ``before`` is the dead replica that had its lease, None if there was none."""

    def stop(self, account: LeaseName, *, lost: bool, unable: bool = False) -> None:
        """Stop an account as soon as none of its requests is in flight.

        ``lost``: another replica has the lease already. ``unable``: this replica cannot serve the account.
        """

    def is_stopped(self, account: LeaseName) -> bool:
        """Tell whether an account is stopped here, so that another replica may have it."""

    def on_leases(self, leases: LeaseTable) -> None:
        """Take the newest table of leases: the live replicas and the owner of each account."""

    def state_recovered(self) -> None:
        """Wake what waits for the state: it is usable again."""


@dataclass(slots=True)
class ReplicaMember:
    """This replica as a member of the group. ``observe`` gets events that concern no account."""

    me: Replica
    sharing: LeaseStore
    clock: Clock
    accounts: LeaseCallbacks
    observe: Observe
    stopping: Callable[[], bool] = lambda: False
    _owned: set[LeaseName] = field(default_factory=set)
    leases_safe_until: float = float("-inf")
    """Until when this replica may trust its leases."""
    _started: bool = False
    _failed: bool = False
    """Whether the last round failed."""
    _take_from: float = float("-inf")
    """The time from which this replica may take accounts."""
    _back_at: float = float("-inf")
    """The time from which this replica asks for accounts that it does not own."""
    _give_from: float = float("-inf")
    """The time from which accounts are given up: not while a replica does not take those assigned to it."""
    _experience: Experience = field(default_factory=Experience)
    """Which accounts this replica could not serve."""
    _free_since: dict[LeaseName, float] = field(default_factory=dict)
    """Accounts without an owner, and when this replica first saw each without one."""

    def is_owner(self, account: LeaseName) -> bool:
        """Tell whether this replica owns the account now, so that a request may start."""
        return account in self._owned and self.lease_valid()

    def lease_valid(self) -> bool:
        """Tell whether the database cannot count this replica as dead yet."""
        return self.clock.now() < self.leases_safe_until

    async def run(self) -> None:
        """Run rounds until asked to stop. Raises StateAccessDenied, StateUnusable if never usable."""
        while not self.stopping():
            begun_at = self.clock.now()
            next_at = await self._round_or_retry(begun_at)
            await self._rest(begun_at + SHORTEST_ROUND_S, next_at)

    async def _rest(self, earliest: float, latest: float) -> None:
        """Wait until ``latest``, or, when a round is requested, until ``earliest``."""
        await self.clock.sleep_until(latest)
        while self.clock.now() < earliest and not self.stopping():
            await self.clock.sleep_until(earliest)

    async def _round_or_retry(self, begun_at: float) -> float:
        """Run one round; returns when the next round is due."""
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
        leases = await self.sharing.heartbeat(keeps, self.accounts.family_claims(), able)
        self.leases_safe_until = leases_safe_until(begun_at)
        if believed and not leases.was_alive:
            # The database's clock was set, so the rows of all replicas have expired. The others get time to
            # renew their rows before this replica takes their accounts.
            self._take_from = max(self._take_from, begun_at + COMING_BACK_S)
        mine = leases.owned_by(self.me.id)
        self._stop_lost(self._owned - mine)
        self.accounts.on_leases(leases)
        shares = OwnershipView(self.me.id, leases.keeps, leases.owners, leases.abilities)
        decided = rebalance(shares)
        await self._give_up(decided, mine, readings, begun_at)
        self._look_for_free(shares, begun_at)
        self._show(shares, able, readings, begun_at)
        if begun_at >= self._take_from:
            await self._take(decided, begun_at)
        return self._next_round(begun_at)

    def _hold_back(self, begun_at: float) -> None:
        """At the start and after missed heartbeats, wait for the other replicas before taking leases."""
        if self._started and not self.lease_valid() and begun_at >= self._take_from:
            self._back_at = self._take_from = begun_at + COMING_BACK_S
        if not self._started:
            self._started, self._take_from = True, begun_at + BEGINNING_S

    def _wanted(self, begun_at: float) -> frozenset[LeaseName]:
        """Return the accounts to ask for: all with settings, or only owned ones after missed heartbeats."""
        return self.accounts.configured() if begun_at >= self._back_at else frozenset(self._owned)

    def _stop_lost(self, lost: set[LeaseName]) -> None:
        """Stop the accounts that another replica has taken over."""
        for account in sorted(lost):
            self._owned.discard(account)
            self.accounts.stop(account, lost=True)

    async def _give_up(
        self,
        decided: Rebalance,
        mine: frozenset[LeaseName],
        readings: Mapping[LeaseName, ReadState],
        begun_at: float,
    ) -> None:
        """Stop the accounts assigned to other replicas, and release the leases once they have stopped.

        A stopped account that stays with this replica starts again.
        """
        leaving = decided.release if begun_at >= self._give_from else ()
        unable = serving_ability(self._experience, readings, {}, (), begun_at).unable
        ending = sorted(self._owned.intersection(leaving))
        for account in ending:
            self._owned.discard(account)
            self.accounts.stop(account, lost=False, unable=account in unable)
        given_up = [account for account in ending if account in unable]
        self._experience = released(self._experience, given_up, readings, begun_at)
        idle = [account for account in sorted(mine - self._owned) if self.accounts.is_stopped(account)]
        for account in idle:
            if account not in decided.release:
                self._start(account, None)
        given = [account for account in idle if account in decided.release]
        if given:
            await self.sharing.release(given)

    def _show(
        self, shares: OwnershipView, able: Ability, readings: Mapping[LeaseName, ReadState], begun_at: float
    ) -> None:
        """Read an account where that may prove that this replica can serve accounts it does not own."""
        waiting = awaited(shares)
        if waiting:
            self.accounts.read_soon()
        account = to_try(able, readings, self.accounts.trials(), waiting, begun_at)
        if account is not None and self.accounts.is_stopped(account):
            self.accounts.try_reading(account)

    def _look_for_free(self, shares: OwnershipView, begun_at: float) -> None:
        free = shares.keeps[self.me.id] - shares.owners.keys()
        free = frozenset(account for account in free if may_take_left(shares, account))
        self._free_since = {account: self._free_since.get(account, begun_at) for account in free}

    async def _take(self, decided: Rebalance, begun_at: float) -> None:
        """Take the accounts assigned to this replica, and those that no replica took in time."""
        left = {account for account, at in self._left_at().items() if begun_at >= at}
        wanted = [account for account in {*decided.take, *left} if self.accounts.is_stopped(account)]
        if left.difference(decided.take):
            self._give_from = begun_at + LEASE_TTL_S
        if wanted:
            taken = await self.sharing.take(wanted)
            for account, before in sorted(taken.items()):
                self._start(account, before)

    def _left_at(self) -> Mapping[LeaseName, float]:
        """Return when any replica may take each free account: LEFT_S from ``_take_from`` or later."""
        return {each: max(since, self._take_from) + LEFT_S for each, since in self._free_since.items()}

    def _next_round(self, begun_at: float) -> float:
        """Return when the next round is due: at the next heartbeat, or earlier if a lease may be taken."""
        due = (self._take_from, *self._left_at().values())
        return min((begun_at + HEARTBEAT_S, *(at for at in due if at > begun_at)))

    def _start(self, account: LeaseName, before: ReplicaId | None) -> None:
        self._owned.add(account)
        self.accounts.start(account, before)
