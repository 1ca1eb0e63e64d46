"""The exchange's clock as one process knows it, for all its accounts: measured once, not once an account.

OKX answers the question what time it is 10 times in 2 s per IP [doc], which a process with many accounts
would use up at its start; whoever asks while a measurement is under way takes what came of that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reconciler.core.verdict import Reply


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """One measurement of the exchange's clock: ``epoch_s`` was true at the local instant ``at``.

    ``wall_error_s`` is how far the exchange's clock was ahead of this machine's time of day.
    """

    epoch_s: float
    at: float
    wall_error_s: float

    def epoch_at(self, now: float) -> float:
        """Return the exchange's clock at the local instant ``now``, in seconds since 1970 UTC."""
        return self.epoch_s + (now - self.at)


class ExchangeClock:
    """What is known of an exchange's clock; the clients of one exchange share it."""

    def __init__(self) -> None:
        self.offset: ClockOffset | None = None
        self._one_at_a_time = asyncio.Lock()
        self._failed: Reply | None = None
        self._measured = 0

    async def measure(self, ask: Callable[[], Awaitable[ClockOffset | Reply]]) -> Reply | None:
        """Measure, or take what came of a measurement that ended meanwhile; None when it was measured."""
        before = self._measured
        async with self._one_at_a_time:
            if self._measured == before:
                found = await ask()
                self._measured += 1
                self._failed = found if isinstance(found, Reply) else None
                self.offset = self.offset if isinstance(found, Reply) else found
        return self._failed
