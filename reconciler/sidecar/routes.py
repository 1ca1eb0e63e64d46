"""What is at which path, and the pulse: whether the program's own event loop still answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from reconciler.sidecar.answers import Answer, Query, Route
from reconciler.sidecar.board import Board
from reconciler.sidecar.metrics import Metrics
from reconciler.sidecar.probes import live_checks, probe_answer, ready_checks, startup_checks
from reconciler.sidecar.published import status_answer

PULSE_WITHIN_S = 2.0
"""How long the program's event loop may take to answer: it does its steps in milliseconds."""


class Pulse:
    """Asks an event loop in another thread whether it still turns. It costs that loop no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asking: asyncio.Task[bool] | None = None

    async def beats(self) -> bool:
        """Tell whether the loop answers in time; askers at the same time share one question."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        here, answered = asyncio.get_running_loop(), asyncio.Event()

        def answer() -> None:
            with suppress(RuntimeError):  # the asker's loop has ended meanwhile
                here.call_soon_threadsafe(answered.set)

        try:
            self._loop.call_soon_threadsafe(answer)
            await asyncio.wait_for(answered.wait(), PULSE_WITHIN_S)
        except (RuntimeError, TimeoutError):  # closed, or too slow
            return False
        return True


@dataclass(slots=True)
class Site:
    """Everything that is served, made from the board at the moment it is asked for."""

    board: Board
    metrics: Metrics
    pulse: Pulse
    now: Callable[[], float]
    wall: Callable[[], datetime]
    _started: bool = False

    def routes(self) -> Mapping[str, Route]:
        """Return what is at each path."""
        return {
            "/livez": self._live,
            "/healthz": self._live,
            "/readyz": self._ready,
            "/startupz": self._startup,
            "/metrics": self._metrics,
            "/api/v1/status": self._status,
        }

    async def _live(self, query: Query) -> Answer:
        answers = await self.pulse.beats()
        checks = live_checks(self.board, answers=answers, now=self.now())
        return probe_answer(checks, verbose=query.verbose)

    async def _ready(self, query: Query) -> Answer:
        answers = await self.pulse.beats()
        checks = ready_checks(self.board, answers=answers, now=self.now())
        return probe_answer(checks, verbose=query.verbose)

    async def _startup(self, query: Query) -> Answer:
        """Answer 200 for good once it was: a file added later does not undo a start."""
        checks = startup_checks(self.board)
        self._started = self._started or all(check.passed for check in checks)
        return probe_answer(() if self._started else checks, verbose=query.verbose)

    async def _metrics(self, query: Query) -> Answer:
        del query
        return self.metrics.answer()

    async def _status(self, query: Query) -> Answer:
        del query
        return status_answer(self.board, now=self.now(), wall=self.wall())
