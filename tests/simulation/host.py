"""Machines and their clocks: a monotonic one per boot, never quite right, and a wall clock that steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.simulation.scheduler import Scheduler

LOOK_TAKES_S = 1e-7
"""Virtual time stands still while the program computes; real time does not."""

_MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


class Host:
    """One machine. ``rate`` is how fast its monotonic clock runs against true time (1 ± 500 ppm)."""

    def __init__(self, name: str, *, rate: float, uptime: float, wall_offset_s: float) -> None:
        self.name = name
        self.boots = 1
        self.wall_offset_s = wall_offset_s
        self._rate = rate
        self._booted_at = [-uptime]
        self._looks = 0

    @property
    def boot_id(self) -> str:
        """The name of the present boot."""
        return f"{self.name}-boot-{self.boots}"

    def reboot(self, now: float, uptime: float) -> None:
        """Begin a new boot that is ``uptime`` seconds old at ``now``."""
        self.boots += 1
        self._booted_at.append(now - uptime)

    def monotonic(self, now: float) -> float:
        """Return what the monotonic clock shows at true time ``now``; no two looks see the same."""
        self._looks += 1
        return (now - self._booted_at[-1]) * self._rate + self._looks * LOOK_TAKES_S

    def true_time(self, instant: float, boot: int | None = None) -> float:
        """Return the true time at which a boot (None: this one) has ``instant`` on its monotonic clock."""
        return self._booted_at[(boot or self.boots) - 1] + instant / self._rate

    def wall(self, now: float) -> datetime:
        """Return the time of day as this machine believes it to be."""
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

    async def pause(self, until: float) -> None:
        """Refuse: an observer waits for nothing."""
        raise AssertionError(f"an observer does not wait until {until}")
