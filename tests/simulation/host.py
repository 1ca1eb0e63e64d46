"""Machines and their clocks: one monotonic clock per boot, slightly inexact, and a wall clock that steps.

As on Linux the monotonic clock stops while the machine is suspended; true time advances.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.simulation.scheduler import Scheduler

LOOK_TAKES_S = 1e-7
"""Virtual time stops while the program computes; real time does not."""

NOTICED_S = 0.1
"""A shorter suspension need not be noticed: it is within what clocks are allowed to be wrong by."""

_MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


class Host:
    """One machine. ``rate`` is how fast its monotonic clock runs against true time (1 ± 500 ppm)."""

    def __init__(self, name: str, *, rate: float, uptime: float, wall_offset_s: float) -> None:
        self.name = name
        self.boots = 1
        self.wall_offset_s = wall_offset_s
        self.suspended_until = float("-inf")
        """In true time, as all that follows."""
        self.resumed_at = float("-inf")
        """The end of the last suspension that a program has to notice."""
        self._rate = rate
        self._pieces = [[(0.0, -uptime)]]  # by boot: what the clock showed when it began to run, and when
        self._suspended_s = 0.0
        self._looks = 0

    @property
    def boot_id(self) -> str:
        """The name of the present boot."""
        return f"{self.name}-boot-{self.boots}"

    def reboot(self, now: float, uptime: float) -> None:
        """Begin a new boot that is ``uptime`` seconds old at ``now``."""
        self.boots += 1
        self._suspended_s = 0.0
        self.suspended_until, self.resumed_at = now, min(now, self.resumed_at)
        self._pieces.append([(0.0, now - uptime)])

    def suspend(self, now: float, length_s: float) -> None:
        """Suspend the machine for ``length_s`` from ``now``, unless it is suspended already."""
        if now < self.suspended_until:
            return
        shown, since = self._pieces[-1][-1]
        self.suspended_until = now + length_s
        self._suspended_s += length_s
        shown += (max(now, since) - since) * self._rate + self._looks * LOOK_TAKES_S
        self._looks = 0
        self._pieces[-1].append((shown, self.suspended_until))
        if length_s > NOTICED_S:
            self.resumed_at = self.suspended_until

    def suspended_s(self) -> float:
        """Return for how long the machine was suspended since it booted."""
        return self._suspended_s

    def monotonic(self, now: float) -> float:
        """Return what the monotonic clock shows at true time ``now``; no two looks see the same."""
        self._looks += 1
        shown, since = self._pieces[-1][-1]
        return shown + (max(now, since) - since) * self._rate + self._looks * LOOK_TAKES_S

    def true_time(self, instant: float, boot: int | None = None) -> float:
        """Return the true time at which a boot (None: this one) has ``instant`` on its monotonic clock."""
        pieces = self._pieces[(boot or self.boots) - 1]
        shown, since = pieces[-1]
        if instant < shown:
            earlier = [piece for piece in pieces if piece[0] <= instant]
            shown, since = earlier[-1] if earlier else pieces[0]
        return since + (instant - shown) / self._rate

    def wall(self, now: float) -> datetime:
        """Return the time of day by this machine's clock."""
        return _MIDNIGHT + timedelta(seconds=now + self.wall_offset_s)


class ObserverClock:
    """True time, for looking at the state from outside."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> float:
        """Return true time."""
        return self._scheduler.now

    def wall(self) -> datetime:
        """Return the true time of day."""
        return _MIDNIGHT + timedelta(seconds=self._scheduler.now)

    def suspended_s(self) -> float:
        """Return 0: true time never stops."""
        return 0.0

    async def sleep_until(self, until: float) -> None:
        """Refuse: an observer never waits."""
        raise AssertionError(f"an observer does not wait until {until}")
