"""The address of the exchange, shared by the accounts of one process: one probe while it fails.

:mod:`reconciler.core.circuit_breaker` decides what to do. This file makes requests wait for each other and
reports their results: every connection that is opened through :meth:`SharedBreaker.open` reports the result
of its request itself. A request whose connection is open is never delayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from reconciler.core.circuit_breaker import (
    GATEWAY_STATUSES,
    WORKS,
    CircuitBreaker,
    Proceed,
    Refuse,
    WaitForProbe,
    not_tried,
)
from reconciler.core.reply import Reply, ReplyClass
from reconciler.okx.replies import parse_retry_after, read_envelope
from reconciler.okx.strict_json import UnreadableReply
from reconciler.okx.transport import RawReply, SingleUseConnection, TransportFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.ports import Clock


BROKEN_CODES = frozenset({"broken", "closed-early"})
"""The failures of an open connection that count as failures of the address. A request that hangs is not one
of them: others may be answered meanwhile."""


class SharedBreaker:
    """The state of one address in one process; the clients of an exchange share it."""

    def __init__(self) -> None:
        self.health: CircuitBreaker = WORKS
        self._results = 0
        self._waiting: set[asyncio.Event] = set()
        self._on_recovery: set[Callable[[], None]] = set()

    async def open(
        self, url: str, timeout_s: float, clock: Clock, epoch_s: Callable[[], float]
    ) -> SingleUseConnection | TransportFailure | Reply:
        """Connect once the address may be tried; a Reply is the failure of another request's try.

        ``epoch_s`` returns the time in seconds since 1970 UTC, for a Retry-After that is a date.
        """
        refused = await self._admitted(clock)
        if refused is not None:
            return refused
        connection = await ReportingConnection.open(url, timeout_s)
        if isinstance(connection, TransportFailure):
            self._failed(Reply(ReplyClass.NOT_SENT, connection.code, connection.message), clock.now())
        elif isinstance(connection, ReportingConnection):
            connection.report = lambda answer: self._on_result(answer, clock.now(), epoch_s())
        return connection

    @contextmanager
    def on_recovery(self, call: Callable[[], None]) -> Iterator[None]:
        """Within the block, call ``call`` whenever an outage of the address is over."""
        self._on_recovery.add(call)
        try:
            yield
        finally:
            self._on_recovery.discard(call)

    async def _admitted(self, clock: Clock) -> Reply | None:
        """Wait until the address may be tried and return None, else the failure of a probe meanwhile."""
        now = clock.now()
        while True:
            match self.health.admission(now):
                case Proceed():
                    self.health = self.health.begun(now)
                    return None
                case Refuse(reply):
                    return reply
                case WaitForProbe(until):
                    before = self._results
                    await self._result_within(until - now)
                    if self._results == before:
                        now = max(until, clock.now())
                        continue
                    now = clock.now()
                    if self.health.failure is not None:
                        return not_tried(self.health.failure)

    async def _result_within(self, seconds: float) -> None:
        """Return as soon as a request has a result, or after ``seconds``."""
        result = asyncio.Event()
        self._waiting.add(result)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(result.wait(), seconds)
        finally:
            self._waiting.discard(result)

    def _on_result(self, answer: RawReply | TransportFailure, now: float, epoch_s: float) -> None:
        """Record the result of a request whose connection was open."""
        if isinstance(answer, TransportFailure):
            if self.health.failure is not None or answer.code in BROKEN_CODES:
                self._no_own_reply(answer.code, answer.message, now)
        elif self.health.failure is None and answer.status not in GATEWAY_STATUSES:
            return
        elif is_own_reply(answer):
            self._works()
        else:
            message = f"HTTP {answer.status}, not a reply of OKX's"
            self._no_own_reply("not-okx", message, now, parse_retry_after(answer.retry_after, epoch_s))

    def _no_own_reply(
        self, code: str, message: str, now: float, retry_after_s: float | None = None
    ) -> None:
        self._failed(Reply(ReplyClass.NO_ANSWER, code, message, retry_after_s=retry_after_s), now)

    def _failed(self, failure: Reply, now: float) -> None:
        self.health = self.health.failed(failure, now)
        self._wake_waiting()

    def _works(self) -> None:
        was, self.health = self.health, WORKS
        self._wake_waiting()
        if was.is_outage:
            for call in tuple(self._on_recovery):
                call()

    def _wake_waiting(self) -> None:
        self._results += 1
        for waiting in self._waiting:
            waiting.set()


class ReportingConnection(SingleUseConnection):
    """A connection that reports the result of its request."""

    report: Callable[[RawReply | TransportFailure], None] | None = None

    async def send(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], *, limit_bytes: int
    ) -> RawReply | TransportFailure:
        """Write one request, report its result, and return it; see :meth:`SingleUseConnection.send`."""
        answer = await super().send(method, target, body, headers, limit_bytes=limit_bytes)
        if self.report is not None:
            self.report(answer)
        return answer


def is_own_reply(answer: RawReply) -> bool:
    """Return whether a reply is OKX's own envelope, whatever its status and code are."""
    try:
        read_envelope(answer.body)
    except UnreadableReply:
        return False
    return True
