"""The process of ``run``: signals, observers, the state, and the accounts on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count

from reconciler import factories
from reconciler.config.policy import PolicyReading
from reconciler.controller.account_workers import AccountWorkers
from reconciler.controller.event_dispatch import EventReporter
from reconciler.controller.file_discovery import initial_policies
from reconciler.controller.run_context import RunContext, RunOptions
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.events import StateFailed
from reconciler.core.model import Desired
from reconciler.core.monitoring.state_timeline import max_gap_s
from reconciler.core.retry import back_off_s
from reconciler.errors import StateUnavailable
from reconciler.observer_port import AccountObserver
from reconciler.okx.credentials import load_credentials
from reconciler.okx.exchange_clock import ExchangeClock
from reconciler.ports import StateBackend
from reconciler.process_signals import SIGNALS


class RunProcess:
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
        self._events = EventReporter(observers, self._stop, simulator=options.base.is_simulator)
        self._exchange_clock = ExchangeClock(self._events.report)

    async def run(self) -> None:
        """Run until asked to stop. Raises MmpError where the state or the keys cannot be used at all."""
        # First: after this a signal is a request to stop, and everything that was started ends in order.
        self._stop.install()
        for desired in self._desired:
            load_credentials(desired.credentials_prefix, os.environ)
        self._events.start()
        try:
            await self._run()
        finally:
            self._events.stop()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._exchange_clock.aclose)
            state = await self._stop.run(self._open_state(stack))
            if state is None or self._stop.requested():
                return
            context = RunContext(self._options, state, self._stop, self._exchange_clock)
            accounts = AccountWorkers(context, self._events, self._policies)
            SIGNALS.receive(signal.SIGHUP, accounts.reread)
            try:
                await self._stop.run(accounts.run(self._desired))
            finally:
                await accounts.leave()

    async def _open_state(self, stack: AsyncExitStack) -> StateBackend:
        """Return the state, closed with ``stack``; while it cannot be reached, try again with back-off.

        Raises StateAccessDenied and StateUnusable at once: a person has to repair what is wrong.
        """
        options, clock = self._options, self._stop.clock
        for failures in count():
            opening = factories.open_state(
                options.state, clock, options.lock_timeout_s, max_gap_s=max_gap_s(options.interval_s)
            )
            try:
                return await stack.enter_async_context(opening)
            except StateUnavailable as problem:
                retry_at = clock.now() + back_off_s(failures)
                self._events.report(StateFailed(problem.code, problem.message, retry_at))
                await clock.sleep_until(retry_at)
        raise AssertionError("count() never ends")
