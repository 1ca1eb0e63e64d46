"""How many accounts of one process are in the middle of a pass at once.

A read of live settings is good for two seconds. Hundreds of passes at once would all be slow, each
would find its read too old and read again, and none would ever send. Turns keep those that have begun
quick. Nobody waits for a turn without end: accounts that are slow must not hold up others for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MAX_CONCURRENT_PASSES = 48
"""Passes at once. A pass that sends two requests takes about 1.4 s, most of it waiting for its slot: so
many are 68 requests a second, the pace of 340 User IDs, and their work takes a second, not two."""

LONGEST_WAIT_S = 15.0
"""After that a pass begins all the same."""


class PassLimiter:
    """Turns of one process, taken in the order in which they were asked for."""

    def __init__(
        self, at_once: int = MAX_CONCURRENT_PASSES, longest_wait_s: float = LONGEST_WAIT_S
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._longest_wait_s = longest_wait_s

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Have a turn: at once if one is free, else when one is, or without one after the longest wait."""
        had = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait_s):
                had = await self._free.acquire()
        try:
            yield
        finally:
            if had:
                self._free.release()
