"""Where every event of a ``run`` goes: to the shutdown, to the observers and to the log."""

from __future__ import annotations

from reconciler import logs
from reconciler.controller.account_worker import AccountWorker
from reconciler.controller.observers import AccountObservers
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.events import Event, Observe
from reconciler.okx.hints import hint_for_event


class EventReporter:
    """Reports events of accounts and of the process. A failing observer or log stops nothing."""

    def __init__(self, observers: AccountObservers, stop: GracefulShutdown, *, simulator: bool) -> None:
        self._observers = observers
        self._stop = stop
        self._simulator = simulator
        self._logs: dict[str, Observe] = {}

    def report(self, event: Event, worker: AccountWorker | None = None) -> None:
        """Report an event of an account, or of the process (None)."""
        if worker is not None:
            self._stop.track(worker.name, event)
        self.observe(event, worker)
        self._log(worker)(event)

    def observe(self, event: Event, worker: AccountWorker | None) -> None:
        """Report an event only to the observers: the log has it already."""
        logs.shielded(lambda event: self._observers.on_event(worker, event))(event)

    def _log(self, worker: AccountWorker | None) -> Observe:
        """Return the observer that logs the events of one account, or of the process; it is reused."""
        key = "" if worker is None else worker.file.path
        if key not in self._logs:
            owner = ("", "") if worker is None else worker.owner
            observe = logs.observer(*owner, simulator=self._simulator, advice=hint_for_event)
            self._logs[key] = logs.shielded(observe)
        return self._logs[key]
