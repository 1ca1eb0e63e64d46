"""How ``run --listen`` is wired: events fold into vitals and counters, vitals go on the board.

The loops' thread does the folding and nothing else for it; the server's thread only reads the board.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler import __version__, logs
from reconciler.core.events import Event, Observe
from reconciler.core.vitals import Vitals, after
from reconciler.ports import Clock
from reconciler.sidecar.board import Board, Watched
from reconciler.sidecar.guard import Listen
from reconciler.sidecar.metrics import Metrics
from reconciler.sidecar.routes import Pulse, Site
from reconciler.sidecar.server import Server, start_server


class Watching:
    """What is seen of this process from outside: the board, the counters and the server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.board = Board(__version__, clock.wall())
        self._metrics = Metrics(self.board, now=clock.now, wall=clock.wall)
        self._server: Server | None = None

    def listen(self, listen: Listen) -> None:
        """Serve from now on; call it in the loops' event loop. Raises MmpError if it cannot be."""
        pulse = Pulse(asyncio.get_running_loop())
        site = Site(
            self.board, self._metrics, beats=pulse.beats, now=self._clock.now, wall=self._clock.wall
        )
        self._server = start_server(listen, site.routes(), broken=_broken)
        logs.log("info", "listening", url=self._server.url)

    def stop(self) -> None:
        """Stop serving; waits a bounded time."""
        if self._server is not None:
            self._server.stop()

    def observer(
        self,
        begun: Vitals,
        *,
        interval_s: float,
        clock_offset_s: Callable[[], float | None],
    ) -> Observe:
        """Put an account on the board, and return what keeps it there as it is, event by event."""
        name = f"{begun.desired.account}/{begun.desired.environment}"
        labels = (begun.desired.account, begun.desired.environment.value)
        vitals = begun

        def observe(event: Event) -> None:
            nonlocal vitals
            vitals = after(vitals, event, now=self._clock.now(), wall=self._clock.wall())
            self._metrics.observe(labels, event)
            self.board.put(name, Watched(vitals, interval_s, clock_offset_s()))

        self.board.put(name, Watched(begun, interval_s))
        return observe


def _broken(bug: Exception) -> None:
    """Say that a request could not be answered; the loops go on."""
    place = bug.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
    logs.log(
        "error", "a request could not be answered: this is a bug in mmp", error=type(bug).__name__, at=at
    )
