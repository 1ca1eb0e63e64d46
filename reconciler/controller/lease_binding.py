"""How the accounts of a ``run`` are shared out with other replicas on one PostgreSQL state.

The rule is the core's, the rounds are ``replica``'s; this translates between leases and keepers. With
a state that has no leases there is none of this: a process keeps all its accounts.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from reconciler.clock import SystemClock
from reconciler.controller.account_worker import AccountWorker
from reconciler.controller.family_claims import FamilyClaims, Owner, RecordedClaims
from reconciler.controller.leases import ReplicaMember
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.events import Observe
from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.monitoring.runtime import AccountRuntime, reading_of
from reconciler.core.replica_assignment import (
    AccountClaim,
    LeaseName,
    LeaseTable,
    Replica,
    ReplicaId,
    lease_name,
    parse_lease_name,
)
from reconciler.core.unserved_accounts import REFUSED, ReadState, Trial
from reconciler.errors import MmpError
from reconciler.ports import LeaseStore
from reconciler.web.latest_state import ReplicaStatus

LEAVE_S = 3.0
"""How long saying goodbye may take: who cannot say it is taken over a few seconds later all the same."""

MAX_MET = 100
"""Replicas whose names are remembered, to tell from whom an account was taken over."""


def this_replica() -> Replica:
    """Return what names this life of this process."""
    return Replica(uuid.uuid4().hex, os.uname().nodename, os.getpid())


@dataclass(slots=True)
class WorkerCallbacks:
    """What sharing does to the process it is part of.

    ``keepers``: of every account there are settings for. ``end`` lets go of one: it is over once
    nothing of it is in flight. ``see`` takes the newest roster, ``hurry`` lets accounts go round now,
    ``vitals`` returns what an account is like, None while it does not run.
    """

    keepers: Mapping[LeaseName, AccountWorker]
    begin: Callable[[AccountWorker, str], None]
    end: Callable[[AccountWorker, bool, bool], None]
    see: Callable[[LeaseTable], None]
    wake: Callable[..., None]
    vitals: Callable[[AccountWorker], AccountRuntime | None]


@dataclass(slots=True)
class AccountOwnership:
    """``replica.Accounts`` over the keepers of this process, and this process's part in sharing."""

    me: Replica
    kind: ExchangeKind
    sharing: LeaseStore
    claims: FamilyClaims
    stop: GracefulShutdown
    hands: WorkerCallbacks
    observe: Observe
    member: ReplicaMember = field(init=False)
    _clock: SystemClock = field(init=False)
    _sent: dict[Owner, AccountClaim] = field(default_factory=dict)
    _met: dict[ReplicaId, Replica] = field(default_factory=dict)
    _trials: dict[LeaseName, Trial] = field(default_factory=dict)
    _trying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._clock = self.stop.new_clock()
        self.claims.recorded, self.claims.on_new_claim = RecordedClaims(), self.wake
        self.member = ReplicaMember(
            self.me, self.sharing, self._clock, self, self.observe, self.stop.requested
        )

    def owns(self, keeper: AccountWorker) -> bool:
        """Tell whether something may be begun for an account: it is ours, and so is what it claims."""
        return self.member.is_owner(keeper.key) and self.claims.on_record(keeper.owner)

    def wake(self) -> None:
        """Go the next round soon: an account came, or one that was let go is over."""
        self._clock.wake()

    def cluster_info(self, roster: LeaseTable) -> ReplicaStatus:
        """Return how the accounts are shared out, for whoever looks."""
        return ReplicaStatus(self.me, self.configured(), roster, self.member.leases_safe_until)

    async def leave(self) -> None:
        """Be gone, so that others need not wait for the silence to end; bounded, and never fails."""
        if self._trying is not None:
            self._trying.cancel()
        with suppress(MmpError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.sharing.leave()

    # -- replica.Accounts ------------------------------------------------------------------------

    def configured(self) -> frozenset[LeaseName]:
        """Return the accounts there are settings for."""
        return frozenset(self.hands.keepers)

    def claims_made(self) -> Mapping[LeaseName, AccountClaim]:
        """Return what is written for those that are kept."""
        self._sent = self.claims.claims_to_publish()
        return {lease_name(*owner, self.kind): claim for owner, claim in self._sent.items()}

    def readings(self) -> Mapping[LeaseName, ReadState]:
        """Return how the live reads of the accounts go that run here."""
        running = ((key, self.hands.vitals(keeper)) for key, keeper in self.hands.keepers.items())
        return {key: reading_of(vitals) for key, vitals in running if vitals is not None}

    def read_soon(self) -> None:
        """Let one account go round: the first that can be read, as far as is known."""
        readings = self.readings()
        able = sorted(key for key, one in readings.items() if one.failing_since is None and not one.refused)
        self.hands.wake(*(self.hands.keepers[key] for key in able[:1]))

    def trials(self) -> Mapping[LeaseName, Trial]:
        """Return how reading accounts on trial went that did not run here then."""
        return dict(self._trials)

    def try_reading(self, account: LeaseName) -> None:
        """Read an account live that does not run here; one at a time."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try_reading(account))

    async def _try_reading(self, account: LeaseName) -> None:
        begun_at = self._clock.now()
        try:
            wrong = await self.hands.keepers[account].read_on_trial()
        except MmpError:
            self._trials[account] = Trial(self._clock.now(), succeeded=False, refused=True)
            return
        if wrong is None:
            self._trials[account] = Trial(begun_at, succeeded=True)
        else:
            refused = wrong.reply_class in REFUSED
            self._trials[account] = Trial(self._clock.now(), succeeded=False, refused=refused)

    def begin(self, account: LeaseName, before: ReplicaId | None) -> None:
        """Keep an account from now on."""
        whose = "" if before is None else str(self._met.get(before, before))
        self.hands.begin(self.hands.keepers[account], whose)

    def end(self, account: LeaseName, *, lost: bool, unable: bool = False) -> None:
        """Let go of an account as soon as nothing is in flight."""
        self.hands.end(self.hands.keepers[account], lost, unable)

    def ended(self, account: LeaseName) -> bool:
        """Tell whether nothing of an account is under way."""
        return not self.hands.keepers[account].running

    def seen(self, roster: LeaseTable) -> None:
        """Take who lives and who owns what."""
        self._met = dict(list({**self._met, **roster.replicas}.items())[-MAX_MET:])
        waiting = [keeper for keeper in self.hands.keepers.values() if self._waits(keeper)]
        self.claims.recorded = self._recorded(roster)
        self.hands.see(roster)
        # Who is held asks again whether it still is, at most once a beat.
        self.hands.wake(
            *(keeper for keeper in waiting if keeper.blocked_by_claim or not self._waits(keeper))
        )

    def state_recovered(self) -> None:
        """Let every account go round now: those that back off would find that out up to 30 s later."""
        self.hands.wake(*self.hands.keepers.values())

    def _waits(self, keeper: AccountWorker) -> bool:
        return keeper.blocked_by_claim or not self.claims.on_record(keeper.owner)

    def _recorded(self, roster: LeaseTable) -> RecordedClaims:
        """Return what is on record once the claims that were sent are."""
        rivals: dict[Owner, tuple[AccountClaim, str]] = {}
        for key, claimed in roster.same_uid_accounts.items():
            account, environment = parse_lease_name(key)
            if key != lease_name(account, Environment(environment), self.kind):
                continue  # at the other kind of exchange
            keeper = roster.replicas.get(roster.owners.get(key, ""))
            where = str(keeper) if keeper else "nobody at this moment"
            rivals[account, Environment(environment)] = (claimed, where)
        return RecordedClaims(self._sent, rivals)
