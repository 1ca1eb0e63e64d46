"""Graceful shutdown by signal: the request in flight is always settled, all else is cancelled."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from reconciler.clock import SystemClock
from reconciler.core.events import Event, LoopFailed, LoopIdle, RequestReserved, RequestSettled, StateFailed
from reconciler.daemon_threads import use_daemon_executor
from reconciler.errors import Exit
from reconciler.process_signals import SIGNALS

T = TypeVar("T")

GRACE_S = 0.5
"""How long a stopped task may take to end by itself before a wait or a read of it is cancelled."""

_STATUS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED, signal.SIGHUP: Exit.HANGUP}


class GracefulShutdown:
    """Whether, and by which signal, this process was asked to stop; tracks requests in flight."""

    def __init__(self) -> None:
        self.status: Exit | None = None
        self.clock = SystemClock()
        """A clock whose sleeps end when this process is asked to stop."""
        self._asked = asyncio.Event()
        self._clocks = [self.clock]
        self._in_flight: set[tuple[str, int]] = set()

    def install(self) -> None:
        """Treat the signals that end this command as a request to stop; no name lookup delays it."""
        loop = asyncio.get_running_loop()
        use_daemon_executor(loop)
        for number in _STATUS:
            SIGNALS.receive_end(number, partial(self._ask, number))
        SIGNALS.deliver_to(loop)

    def new_clock(self) -> SystemClock:
        """Return one more clock whose sleeps end when this process is asked to stop."""
        self._clocks.append(SystemClock())
        return self._clocks[-1]

    async def wait(self) -> None:
        """Return once this process was asked to stop."""
        await self._asked.wait()

    def requested(self) -> bool:
        """Tell whether this process was asked to stop."""
        return self._asked.is_set()

    def in_flight(self, whose: str) -> bool:
        """Tell whether a request of an account is in flight."""
        return any(name == whose for name, _ in self._in_flight)

    def track(self, whose: str, event: Event) -> None:
        """Track the requests in flight, from the events of the account that ``whose`` names.

        A request whose result could not be recorded has no further event: its pass ended with the failure.
        """
        match event:
            case RequestReserved(attempt=attempt):
                self._in_flight.add((whose, attempt))
            case RequestSettled(attempt=attempt):
                self._in_flight.discard((whose, attempt))
            case StateFailed() | LoopFailed() | LoopIdle():
                self._in_flight = {one for one in self._in_flight if one[0] != whose}
            case _:
                pass

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what ``work`` returns; once asked to stop, cancel it as soon as nothing is in flight.

        None: it was cancelled.
        """
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        while not task.done():
            await asyncio.wait({task}, timeout=GRACE_S)
            if not task.done() and not self._in_flight:
                task.cancel()
        return None if task.cancelled() else task.result()

    def _ask(self, number: signal.Signals) -> None:
        self.status = self.status or _STATUS[number]
        self._asked.set()
        for clock in self._clocks:
            clock.wake()
