"""The real clock: raw monotonic time for decisions, the wall for people, and pauses that can be cut short.

This file decides which clock is meant by "now" and what identifies one run of it. Raw monotonic time
is not slewed by NTP, so an elapsed time is never over-estimated by a correction. The wall clock is
never used to decide anything.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

LONGEST_NAP_S = 60.0
"""Bound on one sleep of a pause: the event loop's clock and ours run at slightly different speeds."""

_CLOCK = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time")


class SystemClock:
    """The clock of this machine, as the port ``Clock`` wants it."""

    def __init__(self) -> None:
        self._wakers: set[asyncio.Event] = set()
        self._nudged = False

    def now(self) -> float:
        """Return seconds on the monotonic raw clock of this boot."""
        return time.clock_gettime(_CLOCK)

    def wall(self) -> datetime:
        """Return the time of day, UTC."""
        return datetime.now(UTC)

    async def pause(self, until: float) -> None:
        """Return once ``now() >= until``, never earlier unless nudged; yields at least once."""
        waker = self._new_waker()
        try:
            await asyncio.sleep(0)
            while not waker.is_set() and (left_s := until - self.now()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(waker.wait(), min(left_s, LONGEST_NAP_S))
        finally:
            self._wakers.discard(waker)

    def nudge(self) -> None:
        """End every pause that is under way, or the next one if there is none; call it in the loop."""
        self._nudged = not self._wakers
        for waker in self._wakers:
            waker.set()

    def _new_waker(self) -> asyncio.Event:
        waker = asyncio.Event()
        self._wakers.add(waker)
        if self._nudged:
            waker.set()
        self._nudged = False
        return waker


@cache
def boot_identity() -> str:
    """Return what tells one run of this machine's monotonic clock from any other.

    The boot id, and the time namespace where the kernel has them, because a namespace shifts the
    clock. Where the boot id cannot be read: a random name of this process, so that rows of any other
    process age from their first sight, which is always safe.
    """
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return f"process:{uuid.uuid4()}"
    try:
        return f"{boot}/{os.readlink(_TIME_NAMESPACE)}"
    except OSError:
        return boot
