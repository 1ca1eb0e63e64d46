"""How ``run --listen`` is wired: what is known of each account goes on the board, for the server to read.

The loops' thread puts values up and nothing else; the server's thread only reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from reconciler import __version__, logs
from reconciler.controller.account_worker import AccountWorker
from reconciler.core.events import Event, StateFailed
from reconciler.core.monitoring.runtime import AccountRuntime, RecentError
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.core.replica_assignment import LeaseName
from reconciler.okx.codes import lookup
from reconciler.ports import Clock
from reconciler.web.latest_state import AccountSnapshot, LatestState, ReplicaStatus
from reconciler.web.metrics import Metrics
from reconciler.web.page.account_view import hint_from_glossary
from reconciler.web.request_filter import Listen
from reconciler.web.routes import Endpoints, LoopPing
from reconciler.web.server import Server, start_server

DAY = timedelta(hours=24)
"""How far back the strips of the page go."""

TIMELINE_PAUSE_S = 0.02
"""Between two pieces of what they are drawn from: a request to the exchange takes less."""


class HttpObserver:
    """What is seen of this process over HTTP: the board, the counters and the server."""

    def __init__(self, listen: Listen, clock: Clock) -> None:
        self._clock = clock
        self._listen = listen
        self._board = LatestState(__version__, clock.wall(), dropped_log_lines=logs.dropped_lines)
        self._metrics = Metrics(self._board, now=clock.now, wall=clock.wall)
        self._server: Server | None = None
        self._keepers: dict[str, AccountWorker] = {}

    def start(self) -> None:
        """Serve from now on; call it in the loops' event loop. Raises MmpError if it cannot be."""
        loop = asyncio.get_running_loop()
        pulse = LoopPing(loop)

        async def ask_strips() -> Mapping[str, Callable[[], Timeline]]:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._undrawn(), loop))

        site = Endpoints(
            self._board,
            self._metrics,
            beats=pulse.responds,
            now=self._clock.now,
            wall=self._clock.wall,
            advise=_advise,
            ask_strips=ask_strips,
        )
        self._server = start_server(self._listen, site.routes(), on_error=_broken)
        logs.log("info", "listening", url=self._server.url)

    def stop(self) -> None:
        """Stop serving; waits a bounded time."""
        if self._server is not None:
            self._server.stop()

    def keep(self, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Put an account on the board."""
        self._keepers[keeper.name] = keeper
        self._put(keeper, vitals)

    def drop(self, keeper: AccountWorker) -> None:
        """Take an account off the board that this process does not keep any more."""
        self._keepers.pop(keeper.name, None)
        self._board.drop(keeper.name)

    def miss(self, unkept: UnloadedFiles, event: Event) -> None:
        """Show by which settings no account is kept."""
        del event
        self._board.unloaded = unkept

    def hear(self, event: Event, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        """Show what an account is like after ``event``."""
        self._metrics.observe((keeper.desired.account, keeper.desired.environment.value), event)
        self._put(keeper, vitals)

    def hear_of_none(self, event: Event) -> None:
        """Show what happened to no account."""
        self._metrics.observe_process(event)
        if isinstance(event, StateFailed):
            self._state_awaited(event)

    def share(self, together: ReplicaStatus) -> None:
        """Show how the accounts are shared out now."""
        self._board.replica, self._board.error = together, ""

    def widen(self, keeps: frozenset[LeaseName]) -> None:
        """Show an account for which there are settings before anybody has it."""
        assert self._board.replica is not None, "shared out from before the first file on"
        self._board.replica = replace(self._board.replica, configured=keeps)

    def _state_awaited(self, event: StateFailed) -> None:
        """Show why the state cannot be used: not shared in any more, or not open yet."""
        if self._board.replica is not None:
            self._board.replica = replace(self._board.replica, error=event.message)
        else:
            self._board.error = event.message

    async def _undrawn(self) -> Mapping[str, Callable[[], Timeline]]:
        """Read every account's strips in the loops' thread, which alone uses the state; draw none there."""
        since, keepers = self._clock.wall() - DAY, list(self._keepers.items())
        return {name: await keeper.store.read_timeline(since, _pause) for name, keeper in keepers}

    def _put(self, keeper: AccountWorker, vitals: AccountRuntime) -> None:
        offset_s = keeper.client.clock_offset_s if keeper.client else None
        owner = self._board.replica.me if self._board.replica else None
        watched = AccountSnapshot(vitals, keeper.standing.interval_s, offset_s, owner=owner)
        self._board.put(keeper.name, watched)


async def _pause() -> None:
    """Let the loops do what they have to do."""
    await asyncio.sleep(TIMELINE_PAUSE_S)


def _advise(trouble: RecentError) -> str:
    """Return what to do about a problem: the exchange's codes by its table, ours by the glossary."""
    if not trouble.code.isdigit():
        return hint_from_glossary(trouble)
    known = lookup(trouble.code)
    return known.advice_on_reads if trouble.asked else known.advice


def _broken(bug: Exception) -> None:
    """Say that a request could not be answered; the loops go on."""
    place = bug.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
    logs.log(
        "error", "a request could not be answered: this is a bug in mmp", error=type(bug).__name__, at=at
    )
