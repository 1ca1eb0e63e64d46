"""The routes, and the ping: whether the program's own event loop still answers.

Probes are answered in the server's thread. Responses that take longer for many families (page, metrics,
status) are made in a second thread, one at a time, and are shared by all clients until something has
changed. So no client delays a probe or slows the loops.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import is_
from typing import Any, Generic, ParamSpec, TypeVar

from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.daemon_threads import DaemonThreadExecutor
from reconciler.errors import MmpError
from reconciler.web.latest_state import LatestState
from reconciler.web.metrics import Metrics
from reconciler.web.page.account_view import PageHintFor, hint_from_glossary
from reconciler.web.page.render import assets, page_html
from reconciler.web.probes import live_checks, probe_response, ready_checks, startup_checks
from reconciler.web.responses import Query, Response, Route, html_response
from reconciler.web.status_api import status_response

P = ParamSpec("P")
T = TypeVar("T")

PING_TIMEOUT_S = 2.0
"""How long the program's event loop may take to answer: its steps take milliseconds."""

ANSWER_COUNTS_S = 1.0
"""How long an answer of that loop is reused for other probes."""

ASK_AGAIN_S = 0.2
"""Minimum time between two pings of that loop."""

REUSE_S = 1.0
"""Maximum age of a response while no value has changed: ages are shown in full seconds."""

RENDER_SHARE = 0.2
"""Maximum share of one core for making one kind of response, even if values change all the time: it shares
an interpreter with the loops. 3,000 families take a second."""

CHEAP_S = 0.025
"""A response that takes less than this is made whenever a value has changed: some 200 families."""

MAX_REUSE_S = 5.0
"""Maximum age of a response after a value has changed."""

TIMELINE_REFRESH_S = 10.0
"""Maximum age of timelines: a column is minutes wide, and each refresh reads the state."""

TIMELINE_TIMEOUT_S = 2.0
"""How long the page waits for timelines: it is useful without them."""

ReadTimelines = Callable[[], Awaitable[Mapping[str, Callable[[], Timeline]]]]
"""Reads every account's timeline of the last 24 hours from the state. May raise MmpError."""


class SingleFlight(Generic[T]):
    """Runs one task at a time: all calls meanwhile get the same result."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._run = run
        self._running: asyncio.Task[T] | None = None

    def start(self) -> asyncio.Task[T]:
        """Return the running task, or start one."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return self._running

    async def __call__(self) -> T:
        """Return the result of the running task, or start one."""
        return await asyncio.shield(self.start())


class LoopPing:
    """Checks whether an event loop in another thread still runs. It costs that loop no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asking = SingleFlight(self._ask)
        self._answered_at = float("-inf")

    async def responds(self) -> bool:
        """Tell whether the loop has answered recently, or else whether it answers in time.

        During a flood of probes no probe waits, and the loop is pinged a few times a second.
        """
        since_s = asyncio.get_running_loop().time() - self._answered_at
        if since_s > ASK_AGAIN_S:
            asking = self._asking.start()
        return since_s < ANSWER_COUNTS_S or await asyncio.shield(asking)

    async def _ask(self) -> bool:
        here, answered = asyncio.get_running_loop(), asyncio.Event()

        def answer() -> None:
            with suppress(RuntimeError):  # the server's loop has ended meanwhile
                here.call_soon_threadsafe(answered.set)

        try:
            self._loop.call_soon_threadsafe(answer)
            await asyncio.wait_for(answered.wait(), PING_TIMEOUT_S)
        except (RuntimeError, TimeoutError):  # closed, or too slow
            return False
        self._answered_at = here.time()
        return True


Responds = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A response with the values it was made from, when, and the CPU seconds it took."""

    answer: Response
    values: tuple[object, ...]
    began: float
    ended: float
    cost_s: float

    def reusable(self, values: tuple[object, ...], now: float) -> bool:
        """Tell whether it may be reused for a request at ``now``, while the latest state is ``values``.

        Values are replaced, never changed, so the same objects mean that nothing has changed.
        """
        if all(map(is_, self.values, values)) and now < self.began + REUSE_S:
            return True
        pause_s = self.cost_s / RENDER_SHARE - self.cost_s if self.cost_s > CHEAP_S else 0.0
        return now < self.ended + min(pause_s, MAX_REUSE_S)


class Renderer:
    """Makes responses in one thread beside the server: one at a time, however many requests arrive."""

    def __init__(self, latest: LatestState, now: Callable[[], float]) -> None:
        self._latest = latest
        self._now = now
        self._thread = DaemonThreadExecutor(at_once=1)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work`` in the thread and return its result."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _without_gc, partial(work, *args, **kwargs))

    def route(
        self, make: Callable[[], Response], before: Callable[[], Awaitable[None]] | None = None
    ) -> Route:
        """Return a route whose response ``make`` makes, after ``before``; many requests share it."""
        last: Rendered | None = None

        async def render() -> Rendered:
            nonlocal last
            if before is not None:
                await before()
            values, began = self._latest.values(), self._now()
            answer, cost_s = await self.run(_with_cost, make)
            last = Rendered(answer, values, began, self._now(), cost_s)
            return last

        rendering = SingleFlight(render)

        async def answer(query: Query) -> Response:
            del query
            if last is not None and last.reusable(self._latest.values(), self._now()):
                return last.answer
            return (await rendering()).answer

        return answer


def _with_cost(make: Callable[[], Response]) -> tuple[Response, float]:
    """Return the response and the CPU seconds that this thread used for it."""
    began = time.thread_time()
    answer = make()
    return answer, time.thread_time() - began


def _without_gc(work: Callable[[], T]) -> T:
    """Run ``work`` without the garbage collector and return its result.

    A collection visits all objects of the process, takes 50 ms or more and stops the loops. It would be
    for objects that are freed anyway once the work is done.
    """
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


class Endpoints:
    """Every endpoint, served from the latest state at the time of the request."""

    def __init__(
        self,
        latest: LatestState,
        metrics: Metrics,
        *,
        responds: Responds,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        hint_for: PageHintFor = hint_from_glossary,
        read_timelines: ReadTimelines | None = None,
    ) -> None:
        self._latest = latest
        self._read_timelines = read_timelines
        self._timelines_at = float("-inf")
        self._responds = responds
        self._now = now
        self._started = False
        self._renderer = Renderer(latest, now)
        self._metrics = self._renderer.route(metrics.answer)
        self._status = self._renderer.route(lambda: status_response(latest, now=now(), wall=wall()))
        self._page = self._renderer.route(
            lambda: html_response(page_html(latest, now=now(), wall=wall(), hint_for=hint_for)),
            before=self._renew_timelines,
        )

    def routes(self) -> Mapping[str, Route]:
        """Return the route of each path."""
        return {
            "/livez": self._live,
            "/healthz": self._live,
            "/readyz": self._ready,
            "/startupz": self._startup,
            "/metrics": self._metrics,
            "/api/v1/status": self._status,
            "/": self._page,
            **{path: _fixed(asset) for path, asset in assets().items()},
        }

    async def _live(self, query: Query) -> Response:
        checks = live_checks(self._latest, answers=await self._responds(), now=self._now())
        return probe_response(checks, verbose=query.verbose)

    async def _ready(self, query: Query) -> Response:
        checks = ready_checks(self._latest, answers=await self._responds(), now=self._now())
        return probe_response(checks, verbose=query.verbose)

    async def _renew_timelines(self) -> None:
        """Read the timelines again once they are old; if that fails, the old ones stay."""
        if self._read_timelines is None or self._now() < self._timelines_at + TIMELINE_REFRESH_S:
            return
        self._timelines_at = self._now()
        with suppress(TimeoutError, MmpError):
            timelines = await asyncio.wait_for(
                self._build_timelines(self._read_timelines), TIMELINE_TIMEOUT_S
            )
            self._latest.timelines = {**self._latest.timelines, **timelines}

    async def _build_timelines(self, read: ReadTimelines) -> Mapping[str, Timeline]:
        """Draw in the renderer's thread: ten thousand families take half a second."""
        return await self._renderer.run(_build, await read())

    async def _startup(self, query: Query) -> Response:
        """After the first 200 always answer 200: a file added later does not undo a start."""
        checks = startup_checks(self._latest, now=self._now())
        self._started = self._started or all(check.passed for check in checks)
        return probe_response(() if self._started else checks, verbose=query.verbose)


def _build(unbuilt: Mapping[str, Callable[[], Timeline]]) -> Mapping[str, Timeline]:
    return {name: draw() for name, draw in unbuilt.items()}


def _fixed(response: Response) -> Route:
    """Return a route whose response is always the same."""

    async def answer(query: Query) -> Response:
        del query
        return response

    return answer
