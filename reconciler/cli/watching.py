"""How ``run --listen`` is wired: events fold into vitals and counters, vitals go on the board.

The loops' thread does the folding and nothing else for it; the server's thread only reads the board.
"""

from __future__ import annotations

import asyncio

from reconciler import __version__, logs
from reconciler.cli import doors
from reconciler.cli.keeping import Keeper
from reconciler.core.events import ConfigAwaited, Event
from reconciler.core.vitals import FileState, Vitals, after, begun
from reconciler.okx.codes import fact
from reconciler.ports import Clock
from reconciler.sidecar.board import Board, Watched
from reconciler.sidecar.guard import Listen
from reconciler.sidecar.metrics import Metrics
from reconciler.sidecar.routes import Pulse, Site
from reconciler.sidecar.server import Server, start_server
from reconciler.sidecar.view import advise_of_ours


class Watching:
    """What is seen of this process from outside: the board, the counters and the server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.board = Board(__version__, clock.wall())
        self._metrics = Metrics(self.board, now=clock.now, wall=clock.wall)
        self._server: Server | None = None
        self._vitals: dict[str, Vitals] = {}

    def listen(self, listen: Listen) -> None:
        """Serve from now on; call it in the loops' event loop. Raises MmpError if it cannot be."""
        pulse = Pulse(asyncio.get_running_loop())
        site = Site(
            self.board,
            self._metrics,
            beats=pulse.beats,
            now=self._clock.now,
            wall=self._clock.wall,
            advise=_advise,
        )
        self._server = start_server(listen, site.routes(), broken=_broken)
        logs.log("info", "listening", url=self._server.url)

    def stop(self) -> None:
        """Stop serving; waits a bounded time."""
        if self._server is not None:
            self._server.stop()

    def keep(self, keeper: Keeper) -> None:
        """Put an account on the board."""
        desired, standing = keeper.desired, keeper.standing
        self._vitals[_name(keeper)] = begun(
            desired,
            host=standing.base.host,
            simulator=doors.is_simulator(standing.base),
            live=standing.live,
            now=self._clock.now(),
            policy=self._policy_in_force(keeper),
        )
        self.board.awaited = ()
        self._put(keeper)

    def tell(self, event: Event, keeper: Keeper | None) -> None:
        """Fold what happened into what is shown, of one account or of none."""
        if isinstance(event, ConfigAwaited):
            self.board.awaited = event.paths
        if keeper is None or _name(keeper) not in self._vitals:
            return
        name, now, wall = _name(keeper), self._clock.now(), self._clock.wall()
        self._vitals[name] = after(self._vitals[name], event, now=now, wall=wall)
        self._metrics.observe((keeper.desired.account, keeper.desired.environment.value), event)
        self._put(keeper)

    def _put(self, keeper: Keeper) -> None:
        offset_s = keeper.client.clock_offset_s if keeper.client else None
        watched = Watched(self._vitals[_name(keeper)], keeper.standing.interval_s, offset_s)
        self.board.put(_name(keeper), watched)

    def _policy_in_force(self, keeper: Keeper) -> FileState | None:
        policy = keeper.policy.policy
        return FileState(policy.path, policy.sha256, self._clock.wall()) if policy else None


def _advise(code: str) -> str:
    """Return what to do about a code: the exchange's by its table, ours by the glossary."""
    return fact(code).advice if code.isdigit() else advise_of_ours(code)


def _name(keeper: Keeper) -> str:
    return f"{keeper.desired.account}/{keeper.desired.environment.value}"


def _broken(bug: Exception) -> None:
    """Say that a request could not be answered; the loops go on."""
    place = bug.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
    logs.log(
        "error", "a request could not be answered: this is a bug in mmp", error=type(bug).__name__, at=at
    )
