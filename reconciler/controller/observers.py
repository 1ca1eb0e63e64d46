"""The observers of a ``run``: an event updates the runtime of its account, then goes to each observer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler.core.monitoring.runtime import AccountRuntime, FileState, apply_event, initial

if TYPE_CHECKING:
    from reconciler.controller.account_worker import AccountWorker
    from reconciler.core.events import Event
    from reconciler.observer_port import AccountObserver
    from reconciler.ports import Clock


class AccountObservers:
    """All observers, and the runtime of every account that this process runs."""

    def __init__(self, observers: Sequence[AccountObserver], clock: Clock) -> None:
        self._clock = clock
        self._all = observers
        self._runtimes: dict[str, AccountRuntime] = {}

    def start(self) -> None:
        """Start every observer. Raises MmpError where one of them cannot start."""
        for one in self._all:
            one.start()

    def stop(self) -> None:
        """Stop every observer; waits a bounded time."""
        for one in self._all:
            one.stop()

    def account_acquired(self, worker: AccountWorker) -> None:
        """Report that this process runs an account from now on."""
        policy = worker.policy.policy
        self._runtimes[worker.name] = initial(
            worker.desired,
            host=worker.options.base.host,
            simulator=worker.options.base.is_simulator,
            live=worker.options.live,
            now=self._clock.now(),
            policy=FileState(policy.path, policy.sha256, self._clock.wall()) if policy else None,
        )
        for one in self._all:
            one.account_acquired(worker, self._runtimes[worker.name])

    def account_released(self, worker: AccountWorker) -> None:
        """Report that another process runs an account from now on."""
        if self._runtimes.pop(worker.name, None) is not None:
            for one in self._all:
                one.account_released(worker)

    def runtime(self, worker: AccountWorker) -> AccountRuntime | None:
        """Return the runtime of an account; None while this process does not run it."""
        return self._runtimes.get(worker.name)

    def on_event(self, worker: AccountWorker | None, event: Event) -> None:
        """Report an event of an account, or of the process (None)."""
        runtime = None
        if worker is not None and worker.name in self._runtimes:
            before = self._runtimes[worker.name]
            runtime = apply_event(before, event, now=self._clock.now(), wall=self._clock.wall())
            self._runtimes[worker.name] = runtime
        for one in self._all:
            one.on_event(worker, event, runtime)
