"""The exchange's clock as one process knows it, for all its accounts: measured once, not once an account.

OKX answers the question what time it is 10 times in 2 s per IP [doc], which a process with many accounts
would use up at its start; whoever asks while a measurement is under way takes what came of that one,
unless that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from reconciler.core.verdict import Reply
from reconciler.okx.address import SharedAddress

PATIENCE_S = 2.0
"""How long others wait for a measurement under way, which takes milliseconds, before the next one asks for
itself: one connection that hangs must not hold up every account. It is half a question a second at most."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """One measurement of the exchange's clock: at the local instant ``at`` it was at ``epoch_s`` or ahead.

    ``wall_error_s`` is how far the exchange's clock was ahead of this machine's time of day, at least.
    """

    epoch_s: float
    at: float
    wall_error_s: float

    def epoch_at(self, now: float) -> float:
        """Return what the exchange's clock was at least at ``now``, in seconds since 1970 UTC."""
        return self.epoch_s + (now - self.at)


class ExchangeClock:
    """What is known of an exchange's clock; the clients of one exchange share it."""

    def __init__(self) -> None:
        self.address = SharedAddress()
        """The health of the address, shared by all accounts."""
        self.offset: ClockOffset | None = None
        self._one_at_a_time = asyncio.Lock()
        self._failed: Reply | None = None
        self._measured = 0

    async def measure(self, ask: Callable[[], Awaitable[ClockOffset | Reply]]) -> Reply | None:
        """Measure, or take what came of a measurement that ended meanwhile; None when it was measured."""
        before = self._measured
        async with AsyncExitStack() as whatever_happens:
            async with self._one_at_a_time:
                if self._measured != before:
                    return self._failed
                measuring = asyncio.create_task(self._measure(ask))
                whatever_happens.callback(measuring.cancel)
                await asyncio.wait({measuring}, timeout=PATIENCE_S)
            return await measuring

    async def _measure(self, ask: Callable[[], Awaitable[ClockOffset | Reply]]) -> Reply | None:
        before = self.offset
        found = await ask()
        self._measured += 1
        self._failed = found if isinstance(found, Reply) else None
        if isinstance(found, ClockOffset):
            self.offset = self._better(found, before)
        return self._failed

    def _better(self, found: ClockOffset, before: ClockOffset | None) -> ClockOffset:
        """Return the measurement to use: the one found, unless another was made while it was under way.

        Each is behind the exchange's clock by the time that its reply took to arrive, so the one that is
        ahead is more exact. The offset ``before`` may be wrong by now and never counts.
        """
        other = self.offset
        if other is None or other is before or other.epoch_at(found.at) <= found.epoch_s:
            return found
        return other
