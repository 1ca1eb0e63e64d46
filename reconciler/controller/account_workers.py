"""The accounts of a ``run``: one worker for each valid settings file, started and stopped here.

Without leases a worker starts at once. Where replicas share the accounts, it starts when this replica
takes the lease of its account, and stops when the lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from reconciler.config.load import duplicate_account
from reconciler.config.settings import Reading
from reconciler.controller.account_ownership import AccountOwnership, this_replica
from reconciler.controller.account_worker import AccountWorker
from reconciler.controller.event_dispatch import EventReporter
from reconciler.controller.file_discovery import ConfigEvent, PolicyEvent, WatchedConfigs, WatchedPolicies
from reconciler.controller.run_context import RunContext
from reconciler.controller.shutdown import GRACE_S
from reconciler.core import events
from reconciler.core.model import Desired
from reconciler.core.problems import Problem
from reconciler.core.replica_assignment import LeaseName
from reconciler.watch.key_files import KeyFiles
from reconciler.watch.last_valid_content import WatchedFile, WatchedPolicy
from reconciler.watch.watcher import FileWatcher, WatchHandle

START_EVERY_S = 0.02
"""The time between the first requests of two accounts that start together. Hundreds at once would be too
many for OKX's limits by IP, for the state and for this process; the last of a hundred starts after 2 s."""


class AccountWorkers:
    """Every account with a valid settings file, and its worker."""

    def __init__(
        self, context: RunContext, reporter: EventReporter, policies: dict[str, WatchedPolicy]
    ) -> None:
        self._context = context
        self._stop = context.stop
        self._events = reporter
        self._watcher = FileWatcher(
            context.stop.clock, lambda reason: reporter.report(events.WatchDegraded(reason))
        )
        self._workers: dict[str, AccountWorker] = {}
        """By the path of the file."""
        self._configs = WatchedConfigs(
            self._watcher, self._workers.__contains__, self._reject, self._on_config, reporter.report
        )
        named = context.options.policy_file
        self._policies = WatchedPolicies(self._watcher, policies, named, self._on_policy)
        self._by_lease: dict[LeaseName, AccountWorker] = {}
        self._keys: dict[LeaseName, WatchHandle] = {}
        self._tasks = asyncio.TaskGroup()
        self._failure: Exception | None = None
        """The first failure after a request to stop."""
        self._policy_reads: dict[str, asyncio.Task[None]] = {}
        """The tasks that read the policy of a new file, by the path of the file."""
        self._start_at = float("-inf")
        self._ownership = self._join()

    async def run(self, desired: tuple[Desired, ...]) -> None:
        """Run the accounts until asked to stop. Raises what ended a worker or the file watcher."""
        try:
            async with self._tasks:
                self._policies.watch()
                for one in desired:
                    file = WatchedFile(one.path, one)
                    self._configs.add_file(file)
                    self._add_worker(file)
                for path in self._context.options.config:
                    self._configs.add_path(path)
                watching = self._tasks.create_task(self._watcher.run())
                if self._ownership is not None:
                    self._tasks.create_task(self._run_task(self._ownership.member.run()))
                await self._stop.wait()
                for task in (watching, *self._policy_reads.values()):
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None  # the first one; it ended the others
        if self._failure is not None:
            raise self._failure

    async def _run_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Await ``work``. If it fails, the other tasks are cancelled, but not once a stop was requested.

        Then each of them ends by itself, after its request in flight is settled.
        """
        try:
            await work
        except Exception as failure:
            if not self._stop.requested():
                raise
            self._failure = self._failure or failure

    async def leave(self) -> None:
        """Give up the leases, if there are any."""
        if self._ownership is not None:
            await self._ownership.leave()

    def reread(self) -> None:
        """Read every file now, and let every account start a pass."""
        self._watcher.reread_all()
        self._wake(*self._workers.values())

    # ---- settings files ------------------------------------------------------------------------------

    def _reject(self, reading: Reading) -> Problem | None:
        """Return the problem of a new file whose account has a file already; None if it has none."""
        assert reading.owner is not None
        owner = (reading.owner.account, reading.owner.environment)
        paths = (path for path, worker in self._workers.items() if worker.owner == owner)
        return next((duplicate_account(reading, path) for path in paths), None)

    def _on_config(self, file: WatchedFile, event: ConfigEvent) -> None:
        """Handle new content of a file, or its problems."""
        worker, accepted = self._workers.get(file.path), isinstance(event, events.ConfigAccepted)
        if accepted and worker is None:
            self._add_with_policy(file)
            return
        self._events.report(event, worker)
        if accepted and worker is not None:
            self._wake(worker, *(other for other in self._workers.values() if other.blocked_by_claim))

    # ---- policies ------------------------------------------------------------------------------------

    def _on_policy(self, policy: WatchedPolicy, event: PolicyEvent) -> None:
        """Log a change of a policy once, and report it for every account that has the policy."""
        workers = [worker for worker in self._workers.values() if worker.policy is policy]
        self._events.report(event)
        for worker in workers:
            self._events.observe(event, worker)
        self._wake(*workers)

    def _add_with_policy(self, file: WatchedFile) -> None:
        """Add the worker of a new file, once the policy of the file was read."""
        if self._policies.has_policy(file.path):
            self._add_worker(file)
        elif file.path not in self._policy_reads:
            self._policy_reads[file.path] = self._tasks.create_task(self._read_policy_and_add(file))

    async def _read_policy_and_add(self, file: WatchedFile) -> None:
        try:
            found = await self._policies.read(file.path)
        finally:
            del self._policy_reads[file.path]
        if self._configs.is_watched(file):
            self._policies.add(file.path, found)
            self._add_worker(file)

    # ---- workers -------------------------------------------------------------------------------------

    def _add_worker(self, file: WatchedFile) -> None:
        """Add the worker of an account whose file was accepted."""
        assert file.desired is not None
        policy = self._policies.policy(file.path)
        worker = AccountWorker(
            file, policy, self._context, lambda event: self._events.report(event, worker)
        )
        handles = self._configs.handle(file), self._policies.handle(policy)
        worker.read_before_sending = partial(self._watcher.read_before_sending, *handles)
        self._workers[file.path] = self._by_lease[worker.key] = worker
        accepted = events.ConfigAccepted(file.path, file.desired.sha256)
        if self._ownership is None:
            self._start_worker(worker)
            self._events.report(accepted, worker)
        else:
            # First: the missing file must not count as loaded while no replica has the account.
            self._events.report(events.AccountsConfigured(self._ownership.configured()))
            self._events.report(accepted, worker)
            worker.owned = partial(self._ownership.owns, worker)
            self._ownership.wake()

    def _start_worker(self, worker: AccountWorker) -> None:
        """Start a worker; many at once start one after the other."""
        self._events.account_acquired(worker)
        if worker.policy.refused is not None:
            self._events.observe(worker.policy.refused, worker)
        prefix = worker.desired.credentials_prefix
        self._keys[worker.key] = self._watcher.add(KeyFiles(prefix), lambda _: self._wake(worker))
        self._start_at = max(self._start_at + START_EVERY_S, self._stop.clock.now())
        worker.task = self._tasks.create_task(self._run_task(worker.run(self._start_at)))

    def _wake(self, *workers: AccountWorker) -> None:
        for worker in workers:
            worker.clock.wake()

    # ---- leases --------------------------------------------------------------------------------------

    def _join(self) -> AccountOwnership | None:
        """Join the replicas that share the accounts; None where the state has no leases."""
        me = this_replica()
        leases = self._context.state.sharing(me)
        if leases is None:
            return None
        start, stop = self._take_lease, self._end_lease
        return AccountOwnership(me, self._context, leases, self._by_lease, start, stop, self._events)

    def _take_lease(self, worker: AccountWorker, before: str) -> None:
        self._start_worker(worker)
        self._events.report(events.LeaseTaken(before), worker)
        accepted = events.ConfigAccepted(worker.desired.path, worker.desired.sha256)
        self._events.observe(accepted, worker)
        if worker.file.refused is not None:
            self._events.observe(worker.file.refused, worker)

    def _end_lease(self, worker: AccountWorker, lost: bool, unable: bool) -> None:
        self._events.report(events.LeaseEnded(lost, unable), worker)
        worker.request_stop()
        self._tasks.create_task(self._until_ended(worker))

    async def _until_ended(self, worker: AccountWorker) -> None:
        """Wait until no request of an account is in flight, then end its worker."""
        assert worker.task is not None
        while not worker.task.done():
            await asyncio.wait({worker.task}, timeout=GRACE_S)
            if not worker.task.done() and not self._stop.in_flight(worker.name):
                worker.task.cancel()
        self._context.claims.release(worker.owner)
        self._watcher.remove(self._keys.pop(worker.key))
        self._events.account_released(worker)
        worker.task = None
        if self._ownership is not None:
            self._ownership.wake()
