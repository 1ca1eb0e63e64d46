"""What is at which path, and the pulse: whether the program's own event loop still answers.

Probes are answered in the server's own thread. What takes longer for many families (metrics, status) is
made beside it, once at a time however many ask, so that a scrape never makes a probe late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Generic, TypeVar

from reconciler.errors import MmpError
from reconciler.sidecar.answers import HTML, Answer, Query, Route
from reconciler.sidecar.board import Board, Strips
from reconciler.sidecar.metrics import Metrics
from reconciler.sidecar.page import Asset, assets, page_html
from reconciler.sidecar.probes import live_checks, probe_answer, ready_checks, startup_checks
from reconciler.sidecar.published import status_answer
from reconciler.sidecar.view import Advise, advise_of_ours

T = TypeVar("T")

PULSE_WITHIN_S = 2.0
"""How long the program's event loop may take to answer: it does its steps in milliseconds."""


STRIPS_EVERY_S = 10.0
"""How old strips may be: a column of theirs is of minutes, and each asking is a look into the state."""

STRIPS_WITHIN_S = 2.0
"""How long the page waits for them: it is of use without."""

AskStrips = Callable[[], Awaitable[Mapping[str, Callable[[], Strips]]]]
"""Asks the state for what draws every account's strips of the last 24 hours. Both may raise MmpError."""


class Shared(Generic[T]):
    """Asks one question at a time: whoever asks meanwhile gets the same answer."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return the answer that is under way, or to a question asked now."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)


class Pulse:
    """Asks an event loop in another thread whether it still turns. It costs that loop no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.beats = Shared(self._ask)
        """Tells whether the loop answers in time."""

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


Beats = Callable[[], Awaitable[bool]]


class Site:
    """Everything that is served, made from the board at the moment it is asked for."""

    def __init__(
        self,
        board: Board,
        metrics: Metrics,
        *,
        beats: Beats,
        now: Callable[[], float],
        wall: Callable[[], datetime],
        advise: Advise = advise_of_ours,
        ask_strips: AskStrips | None = None,
    ) -> None:
        self._board = board
        self._ask_strips = ask_strips
        self._strips_at = float("-inf")
        self._beats = beats
        self._now = now
        self._started = False
        self._metrics = aside(metrics.answer)
        self._status = aside(lambda: status_answer(board, now=now(), wall=wall()))
        self._render = aside(lambda: page_answer(page_html(board, now=now(), wall=wall(), advise=advise)))

    def routes(self) -> Mapping[str, Route]:
        """Return what is at each path."""
        return {
            "/livez": self._live,
            "/healthz": self._live,
            "/readyz": self._ready,
            "/startupz": self._startup,
            "/metrics": self._metrics,
            "/api/v1/status": self._status,
            "/": self._page,
            **{path: asset_route(asset) for path, asset in assets().items()},
        }

    async def _live(self, query: Query) -> Answer:
        answers = await self._beats()
        checks = live_checks(self._board, answers=answers, now=self._now())
        return probe_answer(checks, verbose=query.verbose)

    async def _ready(self, query: Query) -> Answer:
        answers = await self._beats()
        checks = ready_checks(self._board, answers=answers, now=self._now())
        return probe_answer(checks, verbose=query.verbose)

    async def _page(self, query: Query) -> Answer:
        await self._renew_strips()
        return await self._render(query)

    async def _renew_strips(self) -> None:
        """Ask for the strips again once they are old; where they cannot be had, the old ones stay."""
        if self._ask_strips is None or self._now() < self._strips_at + STRIPS_EVERY_S:
            return
        self._strips_at = self._now()
        with suppress(TimeoutError, MmpError):
            drawn = await asyncio.wait_for(_drawn(self._ask_strips), STRIPS_WITHIN_S)
            self._board.strips = {**self._board.strips, **drawn}

    async def _startup(self, query: Query) -> Answer:
        """Answer 200 for good once it was: a file added later does not undo a start."""
        checks = startup_checks(self._board, now=self._now())
        self._started = self._started or all(check.passed for check in checks)
        return probe_answer(() if self._started else checks, verbose=query.verbose)


async def _drawn(ask: AskStrips) -> Mapping[str, Strips]:
    """Draw, beside the loops and the server: ten thousand families take half a second."""
    return await asyncio.to_thread(_draw, await ask())


def _draw(undrawn: Mapping[str, Callable[[], Strips]]) -> Mapping[str, Strips]:
    """Draw every account's strips but of those whose rows are damaged."""
    drawn = {}
    for name, draw in undrawn.items():
        with suppress(MmpError):
            drawn[name] = draw()
    return drawn


def page_answer(html: str) -> Answer:
    """Return the status page."""
    return Answer(200, html.encode("utf-8", "backslashreplace"), HTML)


def asset_route(asset: Asset) -> Route:
    """Return the route of a file the page loads."""

    async def answer(query: Query) -> Answer:
        del query
        return Answer(200, asset.content, asset.media_type)

    return answer


def aside(make: Callable[[], Answer]) -> Route:
    """Return a route whose answer is made in a thread beside the server's, once at a time."""

    async def make_aside() -> Answer:
        return await asyncio.to_thread(make)

    shared = Shared(make_aside)

    async def answer(query: Query) -> Answer:
        del query
        return await shared()

    return answer
