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

from reconciler.core.events import Observe, StateAwaited
from reconciler.core.sharing import (
    BEAT_S,
    AccountKey,
    Claimed,
    Moves,
    Replica,
    ReplicaId,
    Roster,
    Shares,
    good_until,
    moves,
)
from reconciler.errors import StateUnavailable
from reconciler.ports import Clock, Sharing

BEGINNING_S = 1.5
"""From the first look on nothing is taken for so long: others begin at the same moment, and who takes
everything gives most of it up a round later."""

COMING_BACK_S = 6.5
"""The same after a silence of one's own: the database was away, and others need up to a connection's
timeout (5 s) and RETRY_S to come back to what is still theirs."""

RETRY_S = 1.0
"""After a failed round. Short, since a silence of LEASE_TTL_S costs all accounts."""

SHORTEST_ROUND_S = 0.25
"""Between two rounds, however often somebody wants one."""


class Accounts(Protocol):
    """What a replica does to the accounts it has settings for."""

    def keeps(self) -> frozenset[AccountKey]:
        """Return the accounts there are settings for."""
        ...

    def claims_made(self) -> Mapping[AccountKey, Claimed]:
        """Return what is written for those that are kept."""
        ...

    def begin(self, account: AccountKey, before: ReplicaId | None) -> None:
        """Keep an account from now on; ``before``: the silent one it was taken over from, if any."""
        ...

    def end(self, account: AccountKey, *, lost: bool) -> None:
        """Let go of an account as soon as nothing is in flight; ``lost``: it is another's already."""
        ...

    def ended(self, account: AccountKey) -> bool:
        """Tell whether nothing of an account is under way, so that it may be another's."""
        ...

    def seen(self, roster: Roster) -> None:
        """Take who lives and who owns what."""
        ...


@dataclass(slots=True)
class Member:
    """A replica's part in sharing the accounts out. ``observe`` takes what is about no account."""

    me: Replica
    sharing: Sharing
    clock: Clock
    accounts: Accounts
    observe: Observe
    stopping: Callable[[], bool] = lambda: False
    _owned: set[AccountKey] = field(default_factory=set)
    good_until: float = float("-inf")
    """Until when this replica may think that its accounts are its own."""
    _take_from: float | None = None
    """From when on accounts may be taken; None: not before the first look."""

    def owns(self, account: AccountKey) -> bool:
        """Tell whether the account is this replica's at this moment, so that something may be begun."""
        return account in self._owned and self.believed()

    def believed(self) -> bool:
        """Tell whether the database may not believe this replica dead yet."""
        return self.clock.now() < self.good_until

    async def run(self) -> None:
        """Go round until asked to stop. Raises StateUnusable when the state cannot be relied on."""
        while not self.stopping():
            begun_at = self.clock.now()
            next_at = await self._round_or_retry(begun_at)
            await self._rest(begun_at + SHORTEST_ROUND_S, next_at)

    async def _rest(self, earliest: float, latest: float) -> None:
        """Wait until ``latest``, or until somebody wants a round and ``earliest`` has come."""
        await self.clock.pause(latest)
        while self.clock.now() < earliest and not self.stopping():
            await self.clock.pause(earliest)

    async def _round_or_retry(self, begun_at: float) -> float:
        """Go one round; returns when the next is due."""
        try:
            return await self._round(begun_at)
        except StateUnavailable as problem:
            retry_at = self.clock.now() + RETRY_S
            self.observe(StateAwaited(problem.code, problem.message, retry_at))
            return retry_at

    async def _round(self, begun_at: float) -> float:
        silent = not self.believed()
        roster = await self.sharing.beat(self.accounts.keeps(), self.accounts.claims_made())
        if silent:
            self._take_from = begun_at + (BEGINNING_S if self._take_from is None else COMING_BACK_S)
        self.good_until = good_until(begun_at)
        mine = roster.owned_by(self.me.id)
        self._lose(self._owned - mine)
        self.accounts.seen(roster)
        decided = moves(Shares(self.me.id, roster.keeps, roster.owners))
        await self._give_up(decided, mine)
        return await self._take_in_time(decided, begun_at)

    def _lose(self, lost: set[AccountKey]) -> None:
        """Let go of what another has taken over meanwhile."""
        for account in sorted(lost):
            self._owned.discard(account)
            self.accounts.end(account, lost=True)

    async def _give_up(self, decided: Moves, mine: frozenset[AccountKey]) -> None:
        """Let go of what another is to have, and give it back once that is done; keep the rest."""
        for account in sorted(self._owned.intersection(decided.release)):
            self._owned.discard(account)
            self.accounts.end(account, lost=False)
        idle = [account for account in sorted(mine - self._owned) if self.accounts.ended(account)]
        for account in idle:
            if account not in decided.release:
                self._begin(account, None)
        given = [account for account in idle if account in decided.release]
        if given:
            await self.sharing.release(given)

    async def _take_in_time(self, decided: Moves, begun_at: float) -> float:
        """Take what is to be this replica's, if it is time; returns when the next round is due."""
        assert self._take_from is not None, "the first look was after a silence"
        if begun_at < self._take_from:
            return min(self._take_from, begun_at + BEAT_S)
        await self._take(decided)
        return begun_at + BEAT_S

    async def _take(self, decided: Moves) -> None:
        wanted = [account for account in decided.take if self.accounts.ended(account)]
        if wanted:
            for account, before in sorted((await self.sharing.take(wanted)).items()):
                self._begin(account, before)

    def _begin(self, account: AccountKey, before: ReplicaId | None) -> None:
        self._owned.add(account)
        self.accounts.begin(account, before)
