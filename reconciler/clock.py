"""The real clock: raw monotonic time for decisions, wall time for people, and sleeps that can be woken.

This file decides which clock "now" means, and what identifies one boot of it. NTP does not slew raw
monotonic time, so a correction never makes an elapsed time too long. No decision uses the wall clock.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

LONGEST_NAP_S = 60.0
"""The longest single sleep: the event loop's clock runs at a slightly different speed than this one."""

_CLOCK = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)
_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_NAMESPACE = Path("/proc/self/ns/time")
_CHILDRENS_NAMESPACE = Path("/proc/self/ns/time_for_children")
_TIME_OFFSETS = Path("/proc/self/timens_offsets")
_OFFSETS = re.compile(r"\S+ -?[0-9]+ [0-9]+(?: \S+ -?[0-9]+ [0-9]+)*")
"""Clock, seconds and nanoseconds, for each clock that is shifted."""

INITIAL_NAMESPACE = "time:[4026531834]"
"""The time namespace of the boot, without a shift (PROC_TIME_INIT_INO in include/uapi/linux/nsfs.h)."""


class SystemClock:
    """The clock of this machine; implements the port ``Clock``."""

    def __init__(self) -> None:
        self._wakers: set[asyncio.Event] = set()
        self._woken = False

    def now(self) -> float:
        """Return seconds on the monotonic raw clock of this boot."""
        return time.clock_gettime(_CLOCK)

    def wall(self) -> datetime:
        """Return the time of day, UTC."""
        return datetime.now(UTC)

    def suspended_s(self) -> float:
        """Return for how many seconds this machine has been suspended; 0.0 if that is unknown.

        Boot time advances during a suspension, monotonic time does not. NTP slews both alike. The raw
        clock of ``now`` is not slewed, so it cannot be used here.
        """
        if _BOOT_CLOCK is None:
            return 0.0
        return time.clock_gettime(_BOOT_CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC)

    async def sleep_until(self, until: float) -> None:
        """Return when ``now() >= until``, earlier only if woken; yields at least once."""
        waker = self._new_waker()
        try:
            await asyncio.sleep(0)
            while not waker.is_set() and (left_s := until - self.now()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(waker.wait(), min(left_s, LONGEST_NAP_S))
        finally:
            self._wakers.discard(waker)

    def wake(self) -> None:
        """End every sleep in progress, or the next one if there is none; call it in the loop."""
        self._woken = not self._wakers
        for waker in self._wakers:
            waker.set()

    def _new_waker(self) -> asyncio.Event:
        waker = asyncio.Event()
        self._wakers.add(waker)
        if self._woken:
            waker.set()
        self._woken = False
        return waker


@cache
def boot_identity() -> str:
    """Return an identity of this machine's monotonic clock, which differs for every boot.

    It is the boot id, and the shift of the clock in this time namespace. It is not the namespace's inode:
    the kernel reuses the inode of an ended namespace, and the next one's clock may be hours ahead. If the
    clock of this process is unknown, it is a random name of this process: the rows of any other process
    then age from the time they were first seen, which is always safe.
    """
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        shift = _clock_shift()
    except (OSError, ValueError):
        return f"process:{uuid.uuid4()}"
    return f"{boot}/{shift}" if shift else boot


def _clock_shift() -> str:
    """Return the offsets of this process's time namespace; "" where the kernel has no such namespaces.

    Offsets are fixed from the first process in a namespace on (time_namespaces(7)). The file has the
    offsets of the namespace of child processes: they apply here only if it is the same namespace.
    Raises OSError or ValueError if the offsets of this process are unknown.
    """
    try:
        ours = os.readlink(_TIME_NAMESPACE)
    except FileNotFoundError:
        return ""
    if os.readlink(_CHILDRENS_NAMESPACE) != ours:
        raise ValueError("the offsets on show are those of another time namespace")
    try:
        offsets = " ".join(_TIME_OFFSETS.read_text(encoding="ascii").split())
    except OSError:
        if ours != INITIAL_NAMESPACE:
            raise
        return ""
    if not _OFFSETS.fullmatch(offsets):
        raise ValueError("time offsets in an unknown form")
    return offsets
