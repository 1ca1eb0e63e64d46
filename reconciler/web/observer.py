"""The observer of ``run --listen``: it stores the latest state of each account for the HTTP server.

The loops' thread only writes the values; the server's thread only reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from reconciler import __version__, logs
from reconciler.core.events import AccountsConfigured, Event, ReplicaStatusChanged, StateFailed
from reconciler.core.monitoring.account_runtime import AccountRuntime, RecentError
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.monitoring.unloaded_files import with_event
from reconciler.observer_port import RunningAccount
from reconciler.ports import Clock
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.page.account_view import hint_from_glossary
from reconciler.web.request_filter import Listen
from reconciler.web.routes import Endpoints, LoopPing
from reconciler.web.server import Server, start_server

HintForCode = Callable[[str, bool], str]
"""Returns what to do about a code of the exchange; the flag is True if the code answered a read."""

TIMELINE_LENGTH = timedelta(hours=24)
"""Length of the timelines on the page."""

TIMELINE_PAUSE_S = 0.02
"""Pause between reading two parts of a timeline, so that the loops can send in between."""


class HttpObserver:
    """Reports every account over HTTP: the latest state, the metrics and the server.

    ``hint_for_code`` returns what to do about a code of the exchange; its second argument is True if the
    code answered a read.
    """

    def __init__(
        self, listen: Listen, *, interval_s: float, clock: Clock, hint_for_code: HintForCode
    ) -> None:
        self._clock = clock
        self._listen = listen
        self._interval_s = interval_s
        self._hint_for_code = hint_for_code
        self._latest = LatestState(__version__, clock.wall(), dropped_log_lines=logs.dropped_lines)
        self._metrics = Metrics(self._latest, now=clock.now, wall=clock.wall)
        self._server: Server | None = None
        self._accounts: dict[str, RunningAccount] = {}

    def start(self) -> None:
        """Start the server; call it in the loops' event loop. Raises MmpError if it cannot start."""
        loop = asyncio.get_running_loop()
        ping = LoopPing(loop)

        async def read_timelines() -> Mapping[str, Callable[[], Timeline]]:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._read_timelines(), loop))

        endpoints = Endpoints(
            self._latest,
            self._metrics,
            responds=ping.responds,
            now=self._clock.now,
            wall=self._clock.wall,
            hint_for=self._hint_for,
            read_timelines=read_timelines,
        )
        self._server = start_server(self._listen, endpoints.routes(), on_error=_log_bug)
        logs.log("info", "listening", url=self._server.url)

    def stop(self) -> None:
        """Stop the server; waits a bounded time."""
        if self._server is not None:
            self._server.stop()

    def account_acquired(self, account: RunningAccount, runtime: AccountRuntime) -> None:
        """Show an account from now on."""
        self._accounts[account.name] = account
        self._put(account, runtime)

    def account_released(self, account: RunningAccount) -> None:
        """Stop showing an account that another process runs now."""
        self._accounts.pop(account.name, None)
        self._latest.drop(account.name)

    def on_event(
        self, account: RunningAccount | None, event: Event, runtime: AccountRuntime | None
    ) -> None:
        """Count an event, and show its account as it is after the event."""
        self._latest.unloaded = with_event(self._latest.unloaded, event, wall=self._clock.wall())
        if account is None:
            self._on_process_event(event)
        elif runtime is not None:
            self._metrics.observe((runtime.desired.account, runtime.desired.environment.value), event)
            self._put(account, runtime)

    def _on_process_event(self, event: Event) -> None:
        self._metrics.observe_process(event)
        match event:
            case ReplicaStatusChanged(status):
                self._latest.replica, self._latest.error = status, ""
            case AccountsConfigured(accounts):
                assert self._latest.replica is not None, "the replica joins before it reads settings"
                self._latest.replica = replace(self._latest.replica, configured=accounts)
            case StateFailed(message=message) if self._latest.replica is not None:
                self._latest.replica = replace(self._latest.replica, error=message)
            case StateFailed(message=message):
                self._latest.error = message
            case _:
                pass

    async def _read_timelines(self) -> Mapping[str, Callable[[], Timeline]]:
        """Read every account's timeline in the loops' thread: only this thread uses the state."""
        since, accounts = self._clock.wall() - TIMELINE_LENGTH, list(self._accounts.items())
        return {name: await account.store.read_timeline(since, _pause) for name, account in accounts}

    def _put(self, account: RunningAccount, runtime: AccountRuntime) -> None:
        owner = self._latest.replica.me if self._latest.replica else None
        offset_s = account.clock_offset_s
        self._latest.put(account.name, AccountSnapshot(runtime, self._interval_s, offset_s, owner=owner))

    def _hint_for(self, error: RecentError) -> str:
        """Return what to do about a problem, from the table of the exchange's codes or the glossary."""
        if not error.code.isdigit():
            return hint_from_glossary(error)
        return self._hint_for_code(error.code, error.asked)


async def _pause() -> None:
    """Yield to the loops."""
    await asyncio.sleep(TIMELINE_PAUSE_S)


def _log_bug(bug: Exception) -> None:
    """Log that a request failed; the server continues."""
    place = bug.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
    logs.log(
        "error", "a request could not be answered: this is a bug in mmp", error=type(bug).__name__, at=at
    )
