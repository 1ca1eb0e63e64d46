"""How ``run`` is wired: one keeper per account, one lookout over all their files, signals to all.

Everything that happens goes through ``tell``, with the keeper it is about. Files may come later: a
place that is empty is waited for, and a file that appears in a folder begins an account of its own. A
file that goes away ends nothing: its last good content stays in force.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from reconciler import factories, logs
from reconciler.cli.options import config_paths
from reconciler.config.load import duplicate_account, unreadable_unless_shortage
from reconciler.config.policy import PolicyReading, policy_for
from reconciler.config.settings import Reading
from reconciler.controller.account_worker import AccountWorker, KeyFiles, RunOptions
from reconciler.controller.family_claims import FamilyClaims
from reconciler.controller.lease_binding import AccountOwnership, WorkerCallbacks, this_replica
from reconciler.controller.observers import AccountObservers
from reconciler.controller.pass_limiter import PassLimiter
from reconciler.controller.shutdown import GRACE_S, GracefulShutdown
from reconciler.core import events
from reconciler.core.events import Event, Observe
from reconciler.core.model import Desired
from reconciler.core.monitoring.state_timeline import max_gap_s
from reconciler.core.problems import Problem
from reconciler.core.replica_assignment import LeaseName, LeaseTable
from reconciler.core.retry import back_off_s
from reconciler.errors import StateUnavailable
from reconciler.okx.credentials import load_credentials
from reconciler.okx.exchange_clock import ExchangeClock
from reconciler.okx.hints import hint_for_event
from reconciler.process_signals import SIGNALS
from reconciler.watch.config_files import (
    ConfigRead,
    FilesFound,
    Missing,
    PolicyRead,
    Rejected,
    WatchedFile,
    WatchedPath,
    WatchedPolicy,
    same_file,
)
from reconciler.watch.watcher import FileWatcher, WatchHandle
from reconciler.watch.write_completion import FileTracker
from reconciler.web.latest_state import ReplicaStatus

BEGIN_EVERY_S = 0.02
"""Between the first questions of two accounts that begin together: hundreds at once would be too many
for OKX's limits by IP, for the state and for this process; of a hundred the last begins after 2 s."""


class Supervisor:
    """One ``mmp run`` over its accounts: those there are, and those to come."""

    def __init__(
        self, desired: tuple[Desired, ...], policies: tuple[PolicyReading | None, ...], standing: RunOptions
    ) -> None:
        self.standing = standing
        self.stop = GracefulShutdown()
        self.claims = FamilyClaims()
        self.keepers: dict[str, AccountWorker] = {}
        """By the path of the file."""
        self.shared: AccountOwnership | None = None
        """How the accounts are shared out with other replicas; None: all are this process's."""
        self._by_key: dict[LeaseName, AccountWorker] = {}
        self._keys: dict[LeaseName, WatchHandle] = {}
        self._begin_at = float("-inf")
        self._timing = ExchangeClock(self.tell)
        self._turns = PassLimiter()
        self._begin_with = desired
        self._files: dict[str, WatchedFile] = {}
        self._posts: dict[str, WatchHandle] = {}
        self._policies: dict[str, WatchedPolicy] = {}
        self._policy_posts: dict[WatchedPolicy, WatchHandle] = {}
        self._beginning: dict[str, asyncio.Task[None]] = {}
        """What reads the policy of a new file, by the path of the file."""
        for one, found in zip(desired, policies, strict=True):
            watched = WatchedPolicy(found, one.path, standing.policy_file)
            self._policies.setdefault(self._policy_key(one.path), watched)
        if (named := standing.policy_file) is not None and not desired:
            self._policies[named] = WatchedPolicy(policy_for("", named), "", named)
        self._observers: dict[str, Observe] = {}
        self._onlookers = AccountObservers(standing, self.stop.clock)
        self._keeping: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until asked to stop. Raises MmpError where the state or the keys cannot be used at all."""
        # First of all: from here on a signal is a request to stop, and what is begun is ended properly.
        self.stop.install()
        for desired in self._begin_with:
            load_credentials(desired.credentials_prefix, os.environ)
        self._onlookers.start()
        try:
            await self._run(self.standing)
        finally:
            self._onlookers.stop()

    async def _run(self, standing: RunOptions) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._timing.aclose)
            await self.stop.run(self._open(standing, stack))
            if self.stop.requested():
                return
            self.shared = self._share()
            try:
                await self.stop.run(self._supervise())
            finally:
                if self.shared is not None:
                    await self.shared.leave()

    async def _open(self, standing: RunOptions, stack: AsyncExitStack) -> None:
        """Open the state, closed with ``stack``; one that cannot be reached is waited for.

        Raises StateRefused and StateUnusable: what somebody has to mend is told at once, by an end.
        """
        gap, clock = max_gap_s(standing.interval_s), self.stop.clock
        for failures in count():
            state = factories.open_state(standing.state, clock, standing.lock_timeout_s, max_gap_s=gap)
            try:
                self.state = await stack.enter_async_context(state)
            except StateUnavailable as problem:
                retry_at = clock.now() + back_off_s(failures)
                self.tell(events.StateFailed(problem.code, problem.message, retry_at))
                await clock.sleep_until(retry_at)
            else:
                return

    def tell(self, event: Event, keeper: AccountWorker | None = None) -> None:
        """Take what happened, to one account or to none; everything that is told comes through here."""
        if keeper is not None:
            self.stop.track(keeper.name, event)
        logs.shielded(lambda event: self._onlookers.hear(event, keeper))(event)
        self._observer(keeper)(event)

    # ---- what runs -----------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = loop.create_future()
        self.lookout = FileWatcher(self.stop.clock, lambda reason: self.tell(events.WatchDegraded(reason)))
        SIGNALS.receive(signal.SIGHUP, self._reread)
        self._look_out()
        watching = self._start(self.lookout.run())
        if self.shared is not None:
            self._keeping.add(self._start(self.shared.member.run()))
        try:
            await self._until_stopped()
            # Each ends by itself, and what it began is ended.
            await asyncio.gather(*self._keeping, return_exceptions=True)
            self._raise_failure()
        finally:
            await _cancelled(watching, *self._beginning.values(), *self._keeping)

    async def _until_stopped(self) -> None:
        """Return once asked to stop; raises what ended a keeper, or the lookout, before."""
        asked = asyncio.create_task(self.stop.wait())
        await asyncio.wait({asked, self._failed}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failed.done():
            self._failed.result()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    # ---- what is watched -----------------------------------------------------------------------------

    def _look_out(self) -> None:
        for policy in self._policies.values():
            self._watch_policy(policy)
        for desired in self._begin_with:
            self._watch_file(WatchedFile(desired.path, desired))
            self._add_worker(self._files[desired.path])
        for path in config_paths(self.standing.config):
            self._watch_place(WatchedPath(path))

    def _watch_policy(self, policy: WatchedPolicy) -> None:
        if policy.policy is not None:
            self._tell_policy(policy, PolicyRead(policy.policy.path, policy.policy))
        if policy.refused is not None:
            self._tell_policy(policy, policy.refused)
        self._policy_posts[policy] = self.lookout.add(policy, lambda seen: self._tell_policy(policy, seen))

    def _watch_file(self, file: WatchedFile, *, whole: bool = False) -> None:
        """Watch a file; ``whole``: its writer just said that it is."""
        self._files[file.path] = file
        post = self.lookout.add(file, lambda seen: self._on_content(file, seen))
        self._posts[file.path] = post
        if whole:
            post.attention = FileTracker(post.attention.look_at, whole=True)

    def _watch_place(self, place: WatchedPath) -> None:
        with suppress(OSError):  # what could not be listed now is listed soon
            if not place.read():
                self.tell(events.ConfigMissing((place.path,)))
        self.lookout.add(place, lambda seen: self._on_paths(place, seen), place.follows)

    # ---- what is seen --------------------------------------------------------------------------------

    def _on_paths(self, place: WatchedPath, seen: object) -> None:
        """Begin to watch the files a place leads to now, and forget those that were never good."""
        assert isinstance(seen, FilesFound)
        for path in seen.paths:
            if not any(same_file(path, known) for known in self._files):
                self._watch_file(WatchedFile(path, refuse=self._refuse), whole=seen.whole)
        for path in [path for path in self._files if path not in self.keepers and _is_no_file(path)]:
            self._drop_file(path)
        if not seen.paths and not any(_leads_to(place, path) for path in self._files):
            self.tell(events.ConfigMissing((place.path,)))

    def _drop_file(self, path: str) -> None:
        """Watch a file no longer that never held and is gone."""
        del self._files[path]
        self.lookout.remove(self._posts.pop(path))
        self.tell(events.RejectedConfigRemoved(path))

    def _refuse(self, reading: Reading) -> Problem | None:
        """Return what is wrong with a new file whose account is kept already."""
        assert reading.owner is not None
        wanted = (reading.owner.account, reading.owner.environment)
        first = (path for path, keeper in self.keepers.items() if keeper.owner == wanted)
        return next((duplicate_account(reading, path) for path in first), None)

    def _on_content(self, file: WatchedFile, seen: object) -> None:
        """Take new content of a file, or what is wrong with it."""
        match seen:
            case ConfigRead() if file.path not in self.keepers:
                self._keep_under_its_policy(file)
            case ConfigRead(desired):
                keeper = self.keepers[file.path]
                self.tell(events.ConfigAccepted(desired.path, desired.sha256), keeper)
                self._wake(keeper, *(other for other in self.keepers.values() if other.blocked_by_claim))
            case Missing(path):
                self.tell(events.ConfigMissing((path,)))
            case Rejected() as rejected:
                self.tell(_config_rejected(rejected), self.keepers.get(file.path))

    def _tell_policy(self, policy: WatchedPolicy, seen: object) -> None:
        match seen:
            case PolicyRead(path, found):
                self._tell_each(policy, events.PolicyAccepted(path, found.sha256 if found else None))
                self._wake(*self._under(policy))
            case Rejected() as rejected:
                self._tell_each(policy, _policy_rejected(rejected))
                self._wake(*self._under(policy))

    def _under(self, policy: WatchedPolicy) -> list[AccountWorker]:
        return [keeper for keeper in self.keepers.values() if keeper.policy is policy]

    def _tell_each(self, policy: WatchedPolicy, event: Event) -> None:
        """Log what happened to a policy once, and show it at every account that is under it."""
        self.tell(event)
        for keeper in self._under(policy):
            self._onlookers.hear(event, keeper)

    def _wake(self, *keepers: AccountWorker) -> None:
        for keeper in keepers:
            keeper.clock.wake()

    def _reread(self) -> None:
        """Take SIGHUP: look at every file now, each look deciding, and let every loop go round once."""
        self.lookout.reread_all()
        self._wake(*self.keepers.values())

    # ---- an account ----------------------------------------------------------------------------------

    def _keep_under_its_policy(self, file: WatchedFile) -> None:
        """Begin to keep the account of a new file, once the policy it is under was read."""
        if self._policy_key(file.path) in self._policies:
            self._add_worker(file)
        elif file.path not in self._beginning:
            self._beginning[file.path] = self._start(self._read_policy_and_keep(file))

    async def _read_policy_and_keep(self, file: WatchedFile) -> None:
        try:
            named = self.standing.policy_file
            read = partial(policy_for, file.path, named, failure=unreadable_unless_shortage)
            found = await self.lookout.retried_aside(read)
        finally:
            del self._beginning[file.path]
        if self._files.get(file.path) is not file:
            return
        if self._policy_key(file.path) not in self._policies:
            self._add_policy(file.path, found)
        self._add_worker(file)

    def _add_worker(self, file: WatchedFile) -> None:
        """Begin to keep the account of a file that was accepted."""
        assert file.desired is not None

        def tell(event: Event) -> None:
            self.tell(event, keeper)

        keeper = AccountWorker(
            file,
            self._policy(file.path),
            self.standing,
            self.state,
            self.stop,
            self.claims,
            tell,
            self._timing,
            self._turns,
        )
        posts = self._posts[file.path], self._policy_posts[keeper.policy]
        keeper.look_before_sending = partial(self.lookout.look_before_sending, *posts)
        self.keepers[file.path] = self._by_key[keeper.key] = keeper
        if self.shared is None:
            self._start_worker(keeper)
            tell(events.ConfigAccepted(file.path, file.desired.sha256))
        else:
            # First: nobody may take it that nothing is waited for while the account is nobody's yet.
            self._onlookers.widen(self.shared.configured())
            tell(events.ConfigAccepted(file.path, file.desired.sha256))
            keeper.owned = partial(self.shared.owns, keeper)
            self.shared.wake()

    def _start_worker(self, keeper: AccountWorker) -> None:
        """Let an account be kept by this process from now on; many at once begin one after the other."""
        self._onlookers.keep(keeper)
        if keeper.policy.refused is not None:
            self._onlookers.hear(_policy_rejected(keeper.policy.refused), keeper)
        prefix = keeper.desired.credentials_prefix
        self._keys[keeper.key] = self.lookout.add(KeyFiles(prefix), lambda _: self._wake(keeper))
        self._begin_at = max(self._begin_at + BEGIN_EVERY_S, self.stop.clock.now())
        keeper.task = self._start(keeper.run(self._begin_at))
        self._keeping.add(keeper.task)

    # ---- an account that is shared out ---------------------------------------------------------------

    def _share(self) -> AccountOwnership | None:
        """Return this process's part in sharing the accounts out; None where the state knows of none."""
        me = this_replica()
        sharing = self.state.sharing(me)
        if sharing is None:
            return None
        self._onlookers.share(ReplicaStatus(me))
        hands = WorkerCallbacks(
            self._by_key,
            self._take_lease,
            self._end_lease,
            self._on_cluster_view,
            self._wake,
            self._onlookers.vitals,
        )
        kind = self.standing.base.kind
        return AccountOwnership(me, kind, sharing, self.claims, self.stop, hands, self.tell)

    def _take_lease(self, keeper: AccountWorker, before: str) -> None:
        self._start_worker(keeper)
        self.tell(events.LeaseTaken(before), keeper)
        self._onlookers.hear(events.ConfigAccepted(keeper.desired.path, keeper.desired.sha256), keeper)
        if keeper.file.refused is not None:
            self._onlookers.hear(_config_rejected(keeper.file.refused), keeper)

    def _end_lease(self, keeper: AccountWorker, lost: bool, unable: bool) -> None:
        self.tell(events.LeaseEnded(lost, unable), keeper)
        keeper.request_stop()
        self._keeping.add(self._start(self._until_ended(keeper)))

    async def _until_ended(self, keeper: AccountWorker) -> None:
        """Wait until nothing of an account is under way; what only waits is not waited for."""
        assert keeper.task is not None
        while not keeper.task.done():
            await asyncio.wait({keeper.task}, timeout=GRACE_S)
            if not keeper.task.done() and not self.stop.in_flight(keeper.name):
                keeper.task.cancel()
        self.claims.release(keeper.owner)
        self.lookout.remove(self._keys.pop(keeper.key))
        self._onlookers.drop(keeper)
        keeper.task = None
        if self.shared is not None:
            self.shared.wake()

    def _on_cluster_view(self, roster: LeaseTable) -> None:
        """Take who lives and who owns what."""
        if self.shared is not None:
            self._onlookers.share(self.shared.cluster_info(roster))

    def _policy(self, config_path: str) -> WatchedPolicy:
        """Return the policy of a config; files in one folder share it, and a named one all do."""
        return self._policies[self._policy_key(config_path)]

    def _add_policy(self, config_path: str, found: PolicyReading | None) -> None:
        policy = WatchedPolicy(found, config_path, self.standing.policy_file)
        self._policies[self._policy_key(config_path)] = policy
        self._watch_policy(policy)

    def _policy_key(self, config_path: str) -> str:
        named = self.standing.policy_file
        return os.path.dirname(config_path) if named is None else named

    def _observer(self, keeper: AccountWorker | None) -> Observe:
        """Return what logs the events of one keeper, or of none: the same one each time."""
        key = "" if keeper is None else keeper.file.path
        if key not in self._observers:
            owner = ("", "") if keeper is None else keeper.owner
            simulator = self.standing.base.is_simulator
            observe = logs.observer(*owner, simulator=simulator, advice=hint_for_event)
            self._observers[key] = logs.shielded(observe)
        return self._observers[key]


def _is_no_file(path: str) -> bool:
    """Tell whether there is nothing at a path, or a folder by now: a link to nowhere may become one."""
    return not os.path.lexists(path) or os.path.isdir(path)


def _leads_to(place: WatchedPath, path: str) -> bool:
    return Path(place.path) in (Path(path), Path(path).parent)


def _config_rejected(seen: Rejected) -> Event:
    return events.ConfigRejected(seen.path, seen.problems, seen.in_force)


def _policy_rejected(seen: Rejected) -> Event:
    return events.PolicyRejected(seen.path, seen.problems, seen.in_force)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
