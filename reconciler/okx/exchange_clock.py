"""The exchange's clock for all accounts of one process: measured once, not once for each account.

OKX answers the query of its time 10 times in 2 s per IP [doc], which a process with many accounts would use
up at its start. A request during a measurement uses the result of that measurement, unless it hangs. While
the last measurement is good enough, the next one is made in the background and no request waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.core.events import ClockMeasured, ClockUnmeasured, Event, Observe
from reconciler.core.reply import Reply
from reconciler.core.retry import retry_after_s
from reconciler.okx.shared_breaker import SharedBreaker

if TYPE_CHECKING:
    from reconciler.ports import Clock

MEASUREMENT_WAIT_S = 2.0
"""How long others wait for a measurement in progress, which takes milliseconds, before the next one
measures itself: one hanging connection must not delay every account. The rate is at most 0.5 queries/s."""

BACKGROUND_WAIT_S = 1.0
"""How long a read waits for the measurement in the background once the last one is too old for writing. A
read is fresh for 2 s, so it stays fresh."""

MeasureOffset = Callable[[], Awaitable["ClockOffset | Reply"]]
"""Queries the exchange's time, once."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """One measurement of the exchange's clock: at the local instant ``at`` it was at ``epoch_s`` or ahead.

    ``wall_error_s`` is how far the exchange's clock was ahead of this machine's time of day, at least.
    """

    epoch_s: float
    at: float
    wall_error_s: float

    def epoch_at(self, now: float) -> float:
        """Return the least value of the exchange's clock at ``now``, in seconds since 1970 UTC."""
        return self.epoch_s + (now - self.at)


def _observe_nothing(_: Event) -> None:
    pass


class ExchangeClock:
    """The measurements of an exchange's clock; the clients of one exchange share it.

    ``observe`` receives the beginning and the end of failing measurements in the background.
    """

    def __init__(self, observe: Observe = _observe_nothing) -> None:
        self.address = SharedBreaker()
        """The health of the address, shared by all accounts."""
        self.offset: ClockOffset | None = None
        self._observe = observe
        self._one_at_a_time = asyncio.Lock()
        self.last_failure: Reply | None = None
        """Why the newest measurement failed; None when it did not."""
        self._measured = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._refresh_failures = 0
        self._refresh_at = float("-inf")

    async def measure(self, measure_offset: MeasureOffset) -> Reply | None:
        """Measure, or use a measurement that ended meanwhile; None when the clock was measured."""
        before = self._measured
        async with AsyncExitStack() as stack:
            async with self._one_at_a_time:
                if self._measured != before:
                    return self.last_failure
                measuring = asyncio.create_task(self._measure(measure_offset))
                stack.callback(measuring.cancel)
                await asyncio.wait({measuring}, timeout=MEASUREMENT_WAIT_S)
            return await measuring

    def refresh(self, measure_offset: MeasureOffset, clock: Clock) -> None:
        """Start a measurement in the background, unless one is in progress or failed recently.

        None is started while the address fails: ``measure_offset`` does not use the shared circuit
        breaker, and other requests detect by themselves when the address works again.
        """
        if (
            self._is_refreshing()
            or clock.now() < self._refresh_at
            or self.address.health.failure is not None
        ):
            return
        self._refreshing = asyncio.create_task(self._refresh(measure_offset, clock))

    async def refreshed(self) -> None:
        """Return when the measurement in the background is over, or after a second; at once without one."""
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing}, timeout=BACKGROUND_WAIT_S)

    async def aclose(self) -> None:
        """End the measurement in the background; harmless without one, and at any time."""
        refreshing, self._refreshing = self._refreshing, None
        if refreshing is not None:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    def _is_refreshing(self) -> bool:
        """Return whether one is in progress in the background; raises a bug that ended the last one."""
        if self._refreshing is not None and self._refreshing.done():
            over, self._refreshing = self._refreshing, None
            if not over.cancelled():
                over.result()
        return self._refreshing is not None

    async def _refresh(self, measure_offset: MeasureOffset, clock: Clock) -> None:
        failed = await self._measure(measure_offset)
        if failed is None:
            return
        self._refresh_at = clock.now() + retry_after_s(failed, self._refresh_failures)
        self._refresh_failures += 1
        if self._refresh_failures == 1:
            self._observe(ClockUnmeasured(failed))

    async def _measure(self, measure_offset: MeasureOffset) -> Reply | None:
        before = self.offset
        found = await measure_offset()
        self._measured += 1
        self.last_failure = found if isinstance(found, Reply) else None
        if isinstance(found, ClockOffset):
            self.offset = self._better(found, before)
            failures, self._refresh_failures, self._refresh_at = self._refresh_failures, 0, float("-inf")
            if failures:
                self._observe(ClockMeasured())
        return self.last_failure

    def _better(self, found: ClockOffset, before: ClockOffset | None) -> ClockOffset:
        """Return the measurement to use: ``found``, unless another was made at the same time.

        Each is behind the exchange's clock by the time that its reply took to arrive, so the one that is
        ahead is more exact. The offset ``before`` may be wrong by now and never counts.
        """
        other = self.offset
        if other is None or other is before or other.epoch_at(found.at) <= found.epoch_s:
            return found
        return other
