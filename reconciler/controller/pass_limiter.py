"""How many accounts of one process are in the middle of a pass at once.

A read of live settings is valid for two seconds. Hundreds of passes at once would all be slow: each would
find its read too old and read again, and none would ever send. The limit keeps the running passes fast. The
wait for a permit is bounded, so that slow accounts do not delay others for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

MAX_CONCURRENT_PASSES = 48
"""Passes at once. A pass that sends two requests takes about 1.4 s, most of it waiting for its slot. So
48 passes are 68 requests a second, the pace of 340 User IDs, and their work takes one second, not two."""

LONGEST_WAIT_S = 15.0
"""The longest wait for a permit. After it a pass starts without one."""


class PassLimiter:
    """The permits of one process, granted in the order of the requests."""

    def __init__(
        self, at_once: int = MAX_CONCURRENT_PASSES, longest_wait_s: float = LONGEST_WAIT_S
    ) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._longest_wait_s = longest_wait_s

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Acquire a permit, waiting until one is free; after the longest wait, continue without one."""
        had = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_wait_s):
                had = await self._free.acquire()
        try:
            yield
        finally:
            if had:
                self._free.release()
