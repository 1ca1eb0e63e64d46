"""How many may be in, and for how long: what keeps slow and hostile clients from the probes' way.

Every connection is for one request. It has a few seconds to ask it whole, and a bounded time for all.
When the house is full, the one that has been in longest without having asked gives way: a probe asks at
once, so it is never the one, however many others open connections and say nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

TURN = 64
"""Connections taken in per turn of the event loop."""

MAX_CONNECTIONS = 4 * TURN
"""Far more than probes, a scraper and some browsers need. Between coming in and being read lie two turns
at the most, so whoever asks at once has asked before as many others as there is room for came after."""

ASK_WITHIN_S = 5.0
"""From the connection to the last byte of the request's head: a kubelet gives up after 1 s by default."""

DONE_WITHIN_S = 15.0
"""From the connection to its end: 10,000 families are written in a few, and read by whoever wants them."""


@dataclass(slots=True)
class _Visit:
    """One open connection; ``deadlines`` end it, one after the other."""

    transport: asyncio.Transport
    deadlines: tuple[asyncio.TimerHandle, asyncio.TimerHandle]


@dataclass(slots=True)
class Door:
    """The open connections, in the order they came, those that have asked apart from the others."""

    most: int = MAX_CONNECTIONS
    ask_within_s: float = ASK_WITHIN_S
    done_within_s: float = DONE_WITHIN_S
    _silent: dict[web.RequestHandler, _Visit] = field(default_factory=dict)
    _asking: dict[web.RequestHandler, _Visit] = field(default_factory=dict)

    @property
    def inside(self) -> int:
        """How many connections are open."""
        return len(self._silent) + len(self._asking)

    def opened(self, who: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Let a connection in; the one longest silent gives way when there is no room."""
        loop = asyncio.get_running_loop()
        deadlines = (
            loop.call_later(self.ask_within_s, self._too_slow, who),
            loop.call_later(self.done_within_s, self._end, who),
        )
        self._silent[who] = _Visit(transport, deadlines)
        if self.inside > self.most:
            self._end(next(iter(self._silent)))

    def asked(self, who: web.RequestHandler) -> None:
        """Note that a connection has asked a whole request."""
        if visit := self._silent.pop(who, None):
            self._asking[who] = visit

    def closed(self, who: web.RequestHandler) -> None:
        """Note that a connection is over."""
        visit = self._silent.pop(who, None) or self._asking.pop(who, None)
        if visit is not None:
            for deadline in visit.deadlines:
                deadline.cancel()

    async def end_all(self) -> None:
        """End every connection, and wait until that is done."""
        for who in [*self._silent, *self._asking]:
            self._end(who)
        await asyncio.sleep(0)  # an aborted connection is closed in the loop's next turn

    def _too_slow(self, who: web.RequestHandler) -> None:
        if who in self._silent:
            self._end(who)

    def _end(self, who: web.RequestHandler) -> None:
        """End a connection at once, whatever was not read or written yet."""
        visit = self._silent.get(who) or self._asking.get(who)
        if visit is not None:
            self.closed(who)
            visit.transport.abort()
