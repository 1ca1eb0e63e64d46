"""Where every event of a ``run`` goes: to the shutdown, to the observers and to the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler import logs
from reconciler.core.monitoring.account_runtime import AccountRuntime, FileInForce, apply_event, initial
from reconciler.okx.hints import hint_for_event

if TYPE_CHECKING:
    from reconciler.controller.account_worker import AccountWorker
    from reconciler.controller.shutdown import GracefulShutdown
    from reconciler.core.events import Event, Observe
    from reconciler.observer_port import AccountObserver


class EventReporter:
    """Reports events of accounts and of the process, and has the runtime of every account that runs here.

    An event updates the runtime of its account before an observer gets it. A failing observer or log stops
    nothing.
    """

    def __init__(
        self, observers: Sequence[AccountObserver], stop: GracefulShutdown, *, simulator: bool
    ) -> None:
        self._observers = observers
        self._stop = stop
        self._simulator = simulator
        self._runtimes: dict[str, AccountRuntime] = {}
        self._logs: dict[str, Observe] = {}

    def start(self) -> None:
        """Start every observer. Raises MmpError where one of them cannot start."""
        for one in self._observers:
            one.start()

    def stop(self) -> None:
        """Stop every observer; waits a bounded time."""
        for one in self._observers:
            one.stop()

    def account_acquired(self, worker: AccountWorker) -> None:
        """Report that this process runs an account from now on."""
        policy, clock, options = worker.policy.policy, self._stop.clock, worker.options
        self._runtimes[worker.name] = initial(
            worker.desired,
            host=options.base.host,
            simulator=self._simulator,
            live=options.live,
            now=clock.now(),
            policy=FileInForce(policy.path, policy.sha256, clock.wall()) if policy else None,
        )
        for one in self._observers:
            one.account_acquired(worker, self._runtimes[worker.name])

    def account_released(self, worker: AccountWorker) -> None:
        """Report that another process runs an account from now on."""
        if self._runtimes.pop(worker.name, None) is not None:
            for one in self._observers:
                one.account_released(worker)

    def runtime(self, worker: AccountWorker) -> AccountRuntime | None:
        """Return the runtime of an account; None while this process does not run it."""
        return self._runtimes.get(worker.name)

    def report(self, event: Event, worker: AccountWorker | None = None) -> None:
        """Report an event of an account, or of the process (None)."""
        if worker is not None:
            self._stop.track(worker.name, event)
        self.observe(event, worker)
        self._log(worker)(event)

    def observe(self, event: Event, worker: AccountWorker | None) -> None:
        """Report an event only to the observers: the log has it already."""
        logs.shielded(lambda event: self._observe(event, worker))(event)

    def _observe(self, event: Event, worker: AccountWorker | None) -> None:
        runtime = None
        if worker is not None and worker.name in self._runtimes:
            before, clock = self._runtimes[worker.name], self._stop.clock
            runtime = apply_event(before, event, now=clock.now(), wall=clock.wall())
            self._runtimes[worker.name] = runtime
        for one in self._observers:
            one.on_event(worker, event, runtime)

    def _log(self, worker: AccountWorker | None) -> Observe:
        """Return the observer that logs the events of one account, or of the process; it is reused."""
        key = "" if worker is None else worker.file.path
        if key not in self._logs:
            owner = ("", "") if worker is None else worker.owner
            observe = logs.observer(*owner, simulator=self._simulator, advice=hint_for_event)
            self._logs[key] = logs.shielded(observe)
        return self._logs[key]
