"""How many may be in, and for how long: what keeps slow and hostile clients from the probes' way.

Every connection is for one request. It has a few seconds to ask it whole, and a bounded time for all.
There is a room for each stage of a visit, and when one is full, whoever has been in it longest gives way.
A probe passes through all three within milliseconds: however many say nothing, wait for a long answer or
leave theirs unread, it is never the one. And however fast they come, nobody is let in while the server has
used up its allowance: the loops share an interpreter with it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto

from aiohttp import web

TURN = 32
"""Connections taken in per turn of the event loop."""


class Stage(Enum):
    """How far a visit has got: nothing whole asked yet, waiting for its answer, being written to."""

    SILENT = auto()
    ASKING = auto()
    ANSWERED = auto()


ROOM = {Stage.SILENT: 4 * TURN, Stage.ASKING: 4 * TURN, Stage.ANSWERED: TURN}
"""Far more than probes, a scraper and some browsers need. Between coming in and being read lie two turns
at the most, so whoever asks at once has asked before as many others as there is room for came after.
What is written to somebody who does not read stays in memory, so those are fewest."""

MAX_CONNECTIONS = sum(ROOM.values())

ASK_WITHIN_S = 5.0
"""From the connection to the last byte of the request's head: a kubelet gives up after 1 s by default."""

DONE_WITHIN_S = 15.0
"""From the connection to its end: 10,000 families are written in a few, and read by whoever wants them."""


SHARE = 0.15
"""Of a core, the most the server's thread may use for long: enough for some 700 requests a second, and for
a thousand slow connections that come back each second. At a quarter some sends were 0.15 s late."""

AT_ONCE_S = 0.1
"""What it may have saved up: enough to have several hundred inside who come in the same moment."""

PAUSE_S = 0.02
"""The shortest time in which nobody is let in: a few pauses cost less than many."""


@dataclass(slots=True)
class Allowance:
    """How much of a core the server may use, as a saving that grows by the share of time that passes.

    What is inside is served whatever it costs; a saving below zero makes those outside wait.
    """

    share: float = SHARE
    at_once_s: float = AT_ONCE_S
    _left_s: float = AT_ONCE_S
    _now: float = 0.0
    _used_s: float = 0.0

    def wait_s(self, now: float, used_s: float) -> float:
        """Return how long nobody may be let in; 0 when somebody may.

        ``used_s`` is what the server's thread has used of a core so far.
        """
        grown_s = self.share * (now - self._now) - (used_s - self._used_s)
        self._left_s = min(self.at_once_s, self._left_s + grown_s)
        self._now, self._used_s = now, used_s
        return max(PAUSE_S, -self._left_s / self.share) if self._left_s < 0 else 0.0


@dataclass(slots=True)
class _Visit:
    """One open connection; ``deadlines`` end it, one after the other."""

    transport: asyncio.Transport
    deadlines: tuple[asyncio.TimerHandle, asyncio.TimerHandle]


@dataclass(slots=True)
class Door:
    """The open connections: a room for each stage, in each the order they came into it."""

    ask_within_s: float = ASK_WITHIN_S
    done_within_s: float = DONE_WITHIN_S
    _rooms: dict[Stage, dict[web.RequestHandler, _Visit]] = field(
        default_factory=lambda: {stage: {} for stage in Stage}
    )

    @property
    def inside(self) -> int:
        """How many connections are open."""
        return sum(map(len, self._rooms.values()))

    def opened(self, who: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let a connection in."""
        loop = asyncio.get_running_loop()
        deadlines = (
            loop.call_later(self.ask_within_s, self._too_slow, who),
            loop.call_later(self.done_within_s, self._end, who),
        )
        self._enter(Stage.SILENT, who, _Visit(transport, deadlines))

    def asked(self, who: web.RequestHandler) -> None:
        """Note that a connection has asked a whole request."""
        self._go_on(who, Stage.ASKING)

    def answered(self, who: web.RequestHandler) -> None:
        """Note that a connection's answer is about to be written."""
        self._go_on(who, Stage.ANSWERED)

    def closed(self, who: web.RequestHandler) -> None:
        """Note that a connection is over."""
        self._leave_for_good(who)

    async def end_all(self) -> None:
        """End every connection, and wait until that is done."""
        for who in [who for room in self._rooms.values() for who in room]:
            self._end(who)
        await asyncio.sleep(0)  # an aborted connection is closed in the loop's next turn

    def _go_on(self, who: web.RequestHandler, stage: Stage) -> None:
        if visit := self._leave(who):
            self._enter(stage, who, visit)

    def _enter(self, stage: Stage, who: web.RequestHandler, visit: _Visit) -> None:
        """Put a visit into a room; the one longest in there gives way when there is no room left."""
        room = self._rooms[stage]
        room[who] = visit
        if len(room) > ROOM[stage]:
            self._end(next(iter(room)))

    def _leave(self, who: web.RequestHandler) -> _Visit | None:
        """Take a visit out of whichever room it is in; None where it is over."""
        return next((room.pop(who) for room in self._rooms.values() if who in room), None)

    def _leave_for_good(self, who: web.RequestHandler) -> _Visit | None:
        """Take a visit out and forget its deadlines; None where it is over already."""
        visit = self._leave(who)
        for deadline in visit.deadlines if visit else ():
            deadline.cancel()
        return visit

    def _too_slow(self, who: web.RequestHandler) -> None:
        if who in self._rooms[Stage.SILENT]:
            self._end(who)

    def _end(self, who: web.RequestHandler) -> None:
        """End a connection at once, whatever was not read or written yet."""
        if visit := self._leave_for_good(who):
            visit.transport.abort()
