"""How replicas on one PostgreSQL state share the accounts of a ``run``.

``core/replica_assignment.py`` decides and ``controller/leases.py`` runs the rounds. This file translates
between leases and workers. A state without leases does not need it: the process runs all its accounts.
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
from reconciler.controller.event_dispatch import EventReporter
from reconciler.controller.family_claims import ClaimOwner, RecordedClaims
from reconciler.controller.leases import ReplicaMember
from reconciler.controller.run_context import RunContext
from reconciler.core.events import ReplicaStatusChanged
from reconciler.core.model import Environment
from reconciler.core.monitoring.account_runtime import reading_of
from reconciler.core.replica_assignment import (
    AccountClaim,
    LeaseName,
    LeaseTable,
    Replica,
    ReplicaId,
    ReplicaStatus,
    lease_name,
    parse_lease_name,
)
from reconciler.core.unservable_accounts import REFUSED, ReadState, Trial
from reconciler.errors import MmpError
from reconciler.ports import LeaseStore

LEAVE_S = 3.0
"""How long giving up the leases may take; otherwise they expire a few seconds later."""

MAX_MET = 100
"""Replicas whose names are remembered, to report from which one a lease was taken over."""


def this_replica() -> Replica:
    """Return the name of this process in the table of leases."""
    return Replica(uuid.uuid4().hex, os.uname().nodename, os.getpid())


@dataclass(slots=True)
class AccountOwnership:
    """``LeaseCallbacks`` over the workers of this process, and this process as a member of the group.

    ``workers`` has one of every account that has settings. ``start_worker`` starts one, with the name of
    the replica that had the lease before. ``stop_worker`` stops one once none of its requests is in flight.
    """

    me: Replica
    context: RunContext
    sharing: LeaseStore
    workers: Mapping[LeaseName, AccountWorker]
    start_worker: Callable[[AccountWorker, str], None]
    stop_worker: Callable[[AccountWorker, bool, bool], None]
    events: EventReporter
    member: ReplicaMember = field(init=False)
    _clock: SystemClock = field(init=False)
    _sent: dict[ClaimOwner, AccountClaim] = field(default_factory=dict)
    _met: dict[ReplicaId, Replica] = field(default_factory=dict)
    _trials: dict[LeaseName, Trial] = field(default_factory=dict)
    _trying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        stop, claims = self.context.stop, self.context.claims
        self._clock = stop.new_clock()
        claims.recorded, claims.on_new_claim = RecordedClaims(), self.wake
        self.member = ReplicaMember(
            self.me, self.sharing, self._clock, self, self.events.report, stop.requested
        )
        self.events.report(ReplicaStatusChanged(ReplicaStatus(self.me)))

    def owns(self, worker: AccountWorker) -> bool:
        """Tell whether an account may start a request: its lease is here, and its claims are on record."""
        return self.member.is_owner(worker.key) and self.context.claims.on_record(worker.owner)

    def wake(self) -> None:
        """Start the next round soon: an account was added, or one has ended."""
        self._clock.wake()

    async def leave(self) -> None:
        """Release the leases, so others need not wait for expiry. Never fails, takes LEAVE_S at most."""
        if self._trying is not None:
            self._trying.cancel()
        with suppress(MmpError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.sharing.leave()

    # -- LeaseCallbacks --------------------------------------------------------------------------

    def configured(self) -> frozenset[LeaseName]:
        """Return the accounts that have settings."""
        return frozenset(self.workers)

    def family_claims(self) -> Mapping[LeaseName, AccountClaim]:
        """Return the families that the accounts of this process claim."""
        self._sent = self.context.claims.claims_to_publish()
        return {
            lease_name(*owner, self.context.options.base.kind): claim for owner, claim in self._sent.items()
        }

    def readings(self) -> Mapping[LeaseName, ReadState]:
        """Return the state of the live reads of the accounts that run here."""
        running = ((key, self.events.runtime(worker)) for key, worker in self.workers.items())
        return {key: reading_of(runtime) for key, runtime in running if runtime is not None}

    def read_soon(self) -> None:
        """Wake one account: the first one whose live reads are not known to fail."""
        readings = self.readings()
        able = sorted(key for key, one in readings.items() if one.failing_since is None and not one.refused)
        for key in able[:1]:
            self.workers[key].clock.wake()

    def trials(self) -> Mapping[LeaseName, Trial]:
        """Return the results of trial reads of accounts that did not run here at the time."""
        return dict(self._trials)

    def try_reading(self, account: LeaseName) -> None:
        """Read an account live that does not run here; one account at a time."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try_reading(account))

    async def _try_reading(self, account: LeaseName) -> None:
        begun_at = self._clock.now()
        try:
            wrong = await self.workers[account].read_on_trial()
        except MmpError:
            self._trials[account] = Trial(self._clock.now(), succeeded=False, refused=True)
            return
        if wrong is None:
            self._trials[account] = Trial(begun_at, succeeded=True)
        else:
            refused = wrong.reply_class in REFUSED
            self._trials[account] = Trial(self._clock.now(), succeeded=False, refused=refused)

    def start(self, account: LeaseName, before: ReplicaId | None) -> None:
        """Start an account."""
        whose = "" if before is None else str(self._met.get(before, before))
        self.start_worker(self.workers[account], whose)

    def stop(self, account: LeaseName, *, lost: bool, unable: bool = False) -> None:
        """Stop an account as soon as none of its requests is in flight."""
        self.stop_worker(self.workers[account], lost, unable)

    def is_stopped(self, account: LeaseName) -> bool:
        """Tell whether an account is stopped."""
        return not self.workers[account].running

    def on_leases(self, leases: LeaseTable) -> None:
        """Take the newest table of leases: the live replicas and the owner of each account."""
        self._met = dict(list({**self._met, **leases.replicas}.items())[-MAX_MET:])
        waiting = [worker for worker in self.workers.values() if self._waits(worker)]
        self.context.claims.recorded = self._recorded(leases)
        status = ReplicaStatus(self.me, self.configured(), leases, self.member.leases_safe_until)
        self.events.report(ReplicaStatusChanged(status))
        for worker in waiting:
            # An account blocked by a claim checks the claim again, at most once per heartbeat.
            if worker.blocked_by_claim or not self._waits(worker):
                worker.clock.wake()

    def state_recovered(self) -> None:
        """Wake every account: one that backs off would notice the recovery up to 30 s later."""
        for worker in self.workers.values():
            worker.clock.wake()

    def _waits(self, worker: AccountWorker) -> bool:
        return worker.blocked_by_claim or not self.context.claims.on_record(worker.owner)

    def _recorded(self, leases: LeaseTable) -> RecordedClaims:
        """Return the claims on record, once those that this process sent are recorded."""
        rivals: dict[ClaimOwner, tuple[AccountClaim, str]] = {}
        for key, claimed in leases.same_uid_accounts.items():
            account, environment = parse_lease_name(key)
            if key != lease_name(account, Environment(environment), self.context.options.base.kind):
                continue  # at the other kind of exchange
            worker = leases.replicas.get(leases.owners.get(key, ""))
            where = str(worker) if worker else "no replica at this moment"
            rivals[account, Environment(environment)] = (claimed, where)
        return RecordedClaims(self._sent, rivals)
