"""Reads of commands that run once: repeated for a short time if the exchange does not answer.

A single refused, lost or unreadable reply must not fail a plan or an import. :mod:`reconciler.core.retry`
decides when a read is repeated. Only reads go through here: this file never repeats a request that changes
anything at the exchange.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from reconciler.core.model import AccountInfo, Family, LiveRead
from reconciler.core.reply import Reply
from reconciler.core.retry import next_read_at
from reconciler.ports import Clock, Exchange

T = TypeVar("T")


class RetryingReads:
    """The port ``Exchange`` for a command that runs once: each read is repeated when it fails.

    ``on_retry`` is called with every failure that is followed by another try. No try begins more than
    ``timeout_s`` after this object was made; None: only the limits of ``core.retry`` count.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        *,
        on_retry: Callable[[Reply], None],
        timeout_s: float | None = None,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._on_retry = on_retry
        self._deadline = float("inf") if timeout_s is None else clock.now() + timeout_s

    async def account(self) -> AccountInfo | Reply:
        """Query the owner and the permissions of the key."""
        return await self.retry(self._exchange.account)

    async def read_live(self) -> LiveRead | Reply:
        """Read every configured family at once."""
        return await self.retry(self._exchange.read_live)

    async def read_family(self, family: Family) -> LiveRead | Reply:
        """Read one family, once: its caller repeats the read."""
        return await self._exchange.read_family(family)

    async def sync_clock(self) -> Reply | None:
        """Measure the offset to the exchange's clock; None when it was measured."""
        return await self.retry(self._exchange.sync_clock)

    async def retry(self, read: Callable[[], Awaitable[T | Reply]]) -> T | Reply:
        """Return the answer to ``read``, or the last failure when no further try follows."""
        begun_at = self._clock.now()
        for failures in count():
            answer = await read()
            if not isinstance(answer, Reply):
                break
            retry_at = next_read_at(
                answer, failures, begun_at=begun_at, now=self._clock.now(), deadline=self._deadline
            )
            if retry_at is None:
                break
            self._on_retry(answer)
            while self._clock.now() < retry_at:
                await self._clock.sleep_until(retry_at)
        return answer
