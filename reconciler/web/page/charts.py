"""The geometry of the page's charts: the last minute of requests, and the 24 h timeline of each family.

Numbers only: the template turns them into SVG, so input from outside is never part of markup. Positions on
the time axis are per cent of its width; a timeline is one unit wide per column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from reconciler.core.monitoring.account_runtime import SHOWN_S
from reconciler.core.monitoring.state_timeline import Segment
from reconciler.core.pacing import WINDOW_S

AHEAD_S = 15.0
"""How far ahead the chart of the pacing window reaches: a little more than one window."""

LOW, HIGH = 36, 17
"""Distance of a request from the top. Requests usually come in pairs, drawn one above the other."""

TOGETHER_S = 2.0
"""Requests closer than this would overlap."""

TICKS_S = (-60, -40, -20, -10, 0, 10)

DAY = timedelta(hours=24)

COLUMNS, FEWER_COLUMNS, MANY = 96, 36, 50
"""A column is 15 minutes, or 40 minutes with more than 50 families: the page stays below 200 KB even if
each of 200 families alternates all day and differs now."""

TIMELINE_HEIGHT = 12


class TimelineMark(StrEnum):
    """How a state is drawn in the timeline; each mark has its own height beside its colour."""

    FAILED = "failed"
    DIFFERS = "differs"
    FROZEN = "frozen"
    IN_SYNC = "in-sync"
    UNWATCHED = "unwatched"


MARKS = {
    "uncertain": TimelineMark.FAILED,
    "failed": TimelineMark.FAILED,
    "held": TimelineMark.DIFFERS,
    "drifted": TimelineMark.DIFFERS,
    "pending": TimelineMark.DIFFERS,
    "frozen": TimelineMark.FROZEN,
    "in-sync": TimelineMark.IN_SYNC,
}
"""The mark of each recorded state; any other state, or none, is drawn as unwatched."""

ALWAYS_SHOWN = (TimelineMark.FAILED, TimelineMark.DIFFERS, TimelineMark.FROZEN)
"""Worst first: one second of such a mark decides its column. Otherwise a column shows the mark that
lasted longest, and the newest column shows the current mark, so a process that just started is visible."""

MIDDLES = {
    TimelineMark.FAILED: 6,
    TimelineMark.DIFFERS: 8,
    TimelineMark.FROZEN: 4,
    TimelineMark.IN_SYNC: 10,
}
"""The height of the line of each mark, different for each mark."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One request on the time axis. ``kind`` selects its style, ``text`` is its tooltip.

    ``top`` is its distance from the top, LOW or HIGH.
    """

    at: str
    kind: str
    text: str
    top: int = LOW


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time axis and its label."""

    at: str
    label: str


@dataclass(frozen=True, slots=True)
class PacingPicture:
    """The requests of the last minute. ``slot`` None: the next slot is beyond the right edge."""

    window: str
    window_width: str
    now: str
    slot: str | None
    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class TimelinePath:
    """All runs of one mark in a timeline, as one SVG path."""

    mark: TimelineMark
    path: str


@dataclass(frozen=True, slots=True)
class Share:
    """How long a mark lasted within a day, and how often it started."""

    mark: TimelineMark
    seconds: float
    times: int


def pacing_picture(dots: Iterable[tuple[float, str, str]], *, slot_s: float | None) -> PacingPicture:
    """Return the chart; ``dots`` are (seconds from now, kind, words), ``slot_s`` is to the next slot."""
    slot = None if slot_s is None or slot_s > AHEAD_S else _place(max(0.0, slot_s))
    return PacingPicture(
        window=_place(-WINDOW_S),
        window_width=_share(WINDOW_S),
        now=_place(0.0),
        slot=slot,
        dots=tuple(_dots(dot for dot in dots if -SHOWN_S <= dot[0] <= AHEAD_S)),
        ticks=tuple(Tick(_place(at), _tick(at)) for at in TICKS_S),
    )


def _dots(requests: Iterable[tuple[float, str, str]]) -> Iterator[Dot]:
    """Yield each request, oldest first; one right after a low one is drawn above it."""
    low_at = float("-inf")
    for at, kind, text in requests:
        top = HIGH if at - low_at < TOGETHER_S else LOW
        yield Dot(_place(at), kind, text, top)
        low_at = at if top == LOW else float("-inf")


def columns_for(families: int) -> int:
    """Return the number of columns of a timeline on a page with ``families`` families."""
    return COLUMNS if families <= MANY else FEWER_COLUMNS


def paths(spans: Sequence[Segment], wall: datetime, columns: int = COLUMNS) -> tuple[TimelinePath, ...]:
    """Return the timeline of the day up to ``wall``: one path for each mark that occurs, worst first.

    Nothing is drawn for unwatched time, so the background shows.
    """
    paths: dict[TimelineMark, list[str]] = {}
    start = 0
    for mark, same in groupby(_columns(spans, wall - DAY, columns)):
        width = len(list(same))
        if mark is not TimelineMark.UNWATCHED:
            paths.setdefault(mark, []).append(f"M{start} {MIDDLES[mark]}h{width}")
        start += width
    return tuple(TimelinePath(mark, "".join(paths[mark])) for mark in TimelineMark if mark in paths)


def shares(spans: Sequence[Segment], wall: datetime) -> tuple[Share, ...]:
    """Return the share of each mark in the day up to ``wall``, worst first; the sum is always 24 hours."""
    watched = sorted(_clipped(spans, wall - DAY, wall), key=lambda piece: piece[1])
    found = [
        Share(mark, *_sum(watched, mark))
        for mark in TimelineMark
        if mark is not TimelineMark.UNWATCHED and any(piece[0] is mark for piece in watched)
    ]
    left = DAY.total_seconds() - sum(share.seconds for share in found)
    return (*found, Share(TimelineMark.UNWATCHED, left, 1)) if left >= 1 else tuple(found)


def _sum(pieces: Sequence[tuple[TimelineMark, float, float]], mark: TimelineMark) -> tuple[float, int]:
    """Return the seconds of ``mark`` and its number of runs; adjacent pieces are one run."""
    runs = sum(found is mark for found, _ in groupby(piece[0] for piece in pieces))
    return sum(end - begin for found, begin, end in pieces if found is mark), runs


def _columns(spans: Sequence[Segment], since: datetime, columns: int) -> list[TimelineMark]:
    """Return the mark of each column; a worse mark replaces a better one."""
    width = DAY.total_seconds() / columns
    pieces = list(_clipped(spans, since, since + DAY))
    in_sync = _covered([piece for piece in pieces if piece[0] is TimelineMark.IN_SYNC], width, columns)
    shown = [TimelineMark.IN_SYNC if covered > width / 2 else TimelineMark.UNWATCHED for covered in in_sync]
    if in_sync[-1] > 0 and _mark(spans[-1]) is TimelineMark.IN_SYNC:
        shown[-1] = TimelineMark.IN_SYNC
    for mark in reversed(ALWAYS_SHOWN):
        for found, begin, end in pieces:
            if found is mark:
                first, last = int(begin // width), int(-(-end // width))
                shown[first:last] = [mark] * (last - first)
    return shown


def _covered(
    pieces: Sequence[tuple[TimelineMark, float, float]], width: float, columns: int
) -> list[float]:
    """Return how many seconds of each column the pieces cover."""
    covered = [0.0] * columns
    for _, begin, end in pieces:
        first, last = int(begin // width), int(-(-end // width)) - 1
        for column in range(first, last + 1):
            covered[column] += width
        covered[first] -= begin - first * width
        covered[last] -= (last + 1) * width - end
    return covered


def _clipped(
    spans: Sequence[Segment], since: datetime, until: datetime
) -> Iterator[tuple[TimelineMark, float, float]]:
    """Yield the watched spans within a day, in seconds from its start."""
    for span in spans:
        begin, end = max(span.since, since), min(span.until, until)
        mark = _mark(span)
        if begin < end and mark is not TimelineMark.UNWATCHED:
            yield mark, (begin - since).total_seconds(), (end - since).total_seconds()


def _mark(span: Segment) -> TimelineMark:
    return MARKS.get(span.state, TimelineMark.UNWATCHED) if span.state else TimelineMark.UNWATCHED


def _place(at_s: float) -> str:
    return _share(at_s + SHOWN_S)


def _share(seconds: float) -> str:
    return f"{100 * seconds / (SHOWN_S + AHEAD_S):.2f}%"


def _tick(at_s: int) -> str:
    if at_s == 0:
        return "now"
    return f"−{-at_s} s" if at_s < 0 else f"+{at_s} s"
