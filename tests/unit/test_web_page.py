"""The page as it is served: with its files, and with strips that are asked for seldom."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from reconciler.core.model import Family
from reconciler.core.monitoring.state_timeline import Segment, Timeline
from reconciler.errors import StateUnusable
from reconciler.web import routes
from reconciler.web.metrics import Metrics
from reconciler.web.responses import Query, Response
from reconciler.web.routes import TIMELINE_REFRESH_S, Endpoints
from tests.unit.builders import BTC, NOW
from tests.unit.runtime_world import WALL, compared, fresh, having, shared_state

DAY: Mapping[str, Mapping[Family, tuple[Segment, ...]]] = {
    "main/live": {BTC: (Segment("frozen", WALL - timedelta(hours=2), WALL - timedelta(hours=1)),)}
}
SHOWN = "frozen 1 h"


class State:
    """A state that is asked for strips, and answers as it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = NOW
        self.broken: Exception | None = None
        self.damaged = 0
        self.slow = False
        self.threads: list[int] = []

    async def timelines(self) -> Mapping[str, Callable[[], Timeline]]:
        self.asked += 1
        self.threads.append(threading.get_ident())
        if self.slow:
            await asyncio.sleep(60)
        if self.broken is not None:
            raise self.broken
        return {name: partial(self.draw, spans) for name, spans in DAY.items()}

    def draw(self, spans: Mapping[Family, tuple[Segment, ...]]) -> Timeline:
        self.threads.append(threading.get_ident())
        return Timeline(spans, self.damaged)

    def site(self) -> Endpoints:
        shown = shared_state(having(fresh(), compared()))
        return Endpoints(
            shown,
            Metrics(shown, now=lambda: self.now, wall=lambda: WALL),
            responds=_beats,
            now=lambda: self.now,
            wall=lambda: WALL,
            read_timelines=self.timelines,
        )


async def _beats() -> bool:
    return True


def page(site: Endpoints) -> Response:
    async def ask() -> Response:
        return await site.routes()["/"](Query())

    return asyncio.run(ask())


def test_the_page_shows_the_timelines_of_the_state() -> None:
    answer = page(State().site())
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    assert SHOWN in answer.body.decode()


def test_timelines_are_read_once_in_a_while_however_often_the_page_is_opened() -> None:
    state = State()
    site = state.site()
    for _ in range(5):
        page(site)
    assert state.asked == 1
    state.now += TIMELINE_REFRESH_S
    page(site)
    assert state.asked == 2


def test_a_state_that_cannot_be_read_leaves_the_timelines_unchanged() -> None:
    state = State()
    site = state.site()
    page(site)
    state.now += TIMELINE_REFRESH_S
    state.broken = StateUnusable("state-damaged", "torn")
    assert SHOWN in page(site).body.decode()


def test_timelines_are_drawn_in_no_thread_that_answers_others() -> None:
    state = State()
    assert SHOWN in page(state.site()).body.decode()
    asking, drawing = state.threads
    assert asking == threading.get_ident() != drawing


def test_the_page_counts_the_damaged_records_that_it_leaves_out() -> None:
    state = State()
    state.damaged = 3
    text = page(state.site()).body.decode()
    assert SHOWN in text
    assert "3 damaged records are left out: see mmp state check." in text
    assert "damaged" not in page(State().site()).body.decode()


def test_a_slow_state_does_not_delay_the_page() -> None:
    state = State()
    state.slow = True
    within, routes.TIMELINE_TIMEOUT_S = routes.TIMELINE_TIMEOUT_S, 0.05
    try:
        answer = page(state.site())
    finally:
        routes.TIMELINE_TIMEOUT_S = within
    assert answer.status == 200
    assert SHOWN not in answer.body.decode()


def test_every_file_the_page_loads_is_served_with_its_type() -> None:
    site = State().site()
    html = page(site).body.decode()

    async def fetch(path: str) -> Response:
        return await site.routes()[path](Query())

    for path, media_type in (
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/refresh.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml; charset=utf-8"),
    ):
        assert path.lstrip("/") in html
        answer = asyncio.run(fetch(path))
        assert (answer.status, answer.content_type) == (200, media_type)
        assert answer.body
