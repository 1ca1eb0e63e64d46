"""The process of ``run``: signals, observers, the state, and the accounts on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

from reconciler.config.policy import PolicyReading
from reconciler.controller.accounts import Accounts
from reconciler.controller.event_reporter import EventReporter
from reconciler.controller.observers import AccountObservers
from reconciler.controller.run_options import RunOptions
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.controller.state_opening import open_when_available
from reconciler.controller.watched_policies import initial_policies
from reconciler.core.model import Desired
from reconciler.observer_port import AccountObserver
from reconciler.okx.credentials import load_credentials
from reconciler.okx.exchange_clock import ExchangeClock
from reconciler.process_signals import SIGNALS


class Supervisor:
    """One ``mmp run``, over accounts whose files exist at the start and accounts whose files come later."""

    def __init__(
        self,
        desired: tuple[Desired, ...],
        policies: tuple[PolicyReading | None, ...],
        options: RunOptions,
        observers: Sequence[AccountObserver] = (),
    ) -> None:
        self._options = options
        self._desired = desired
        self._policies = initial_policies(desired, policies, options.policy_file)
        self._stop = GracefulShutdown()
        self._observers = AccountObservers(observers, self._stop.clock)
        self._events = EventReporter(self._observers, self._stop, simulator=options.base.is_simulator)
        self._exchange_clock = ExchangeClock(self._events.report)

    async def run(self) -> None:
        """Run until asked to stop. Raises MmpError where the state or the keys cannot be used at all."""
        # First: after this a signal is a request to stop, and everything that was started ends in order.
        self._stop.install()
        for desired in self._desired:
            load_credentials(desired.credentials_prefix, os.environ)
        self._observers.start()
        try:
            await self._run()
        finally:
            self._observers.stop()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._exchange_clock.aclose)
            opening = open_when_available(self._options, self._stop.clock, stack, self._events.report)
            state = await self._stop.run(opening)
            if state is None or self._stop.requested():
                return
            accounts = Accounts(
                self._options,
                state,
                self._stop,
                self._observers,
                self._events,
                self._exchange_clock,
                self._policies,
            )
            SIGNALS.receive(signal.SIGHUP, accounts.reread)
            try:
                await self._stop.run(accounts.run(self._desired))
            finally:
                await accounts.leave()
