"""Posts notifications to webhooks in a separate thread: a webhook that hangs makes no loop wait.

Posting only appends to a list. Each webhook has its own short queue and its own worker, which delivers in
order, so a slow webhook delays no other. When a queue is full, the oldest of its least severe notifications
is dropped, counted and logged. Redirects are not followed and no proxy is used. Only status and Retry-After
of a reply are read. No exception of aiohttp is passed on: it has the address, which is a secret.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL  # aiohttp's own URL type: an address of this type is used unchanged

from reconciler import __version__
from reconciler.core.monitoring.alerts import AlertSeverity
from reconciler.core.problems import json_text
from reconciler.daemon_threads import use_daemon_executor
from reconciler.notify.retry import DeliveryResult, retry_delay_s
from reconciler.notify.webhook_address import WebhookAddress

MAX_WAITING = 100
"""Queue size per webhook: an hour of the worst flapping. Older notifications are of little use by then."""

TRY_TIMEOUT_S = 10.0
"""Timeout of one try, including connection and reply."""

MAX_HEADER_BYTES = 64 * 1024
"""Bound on one header of a reply. Gateways add headers beyond aiohttp's own bounds (8 KiB a line, 128
headers), and a message that the webhook accepted would be sent again because of them."""

MAX_WEBHOOK_HEADERS = 1000
"""Bound on the number of headers of a reply: far more than gateways add."""

FLUSH_S = 2.0
"""How long stopping waits for queued messages: supervisors wait for 10 s or more."""

JOIN_S = 1.0
"""How long stopping then waits for the thread itself."""

Log = Callable[[str, str, Mapping[str, object]], None]
"""Writes one log line: level, event and values. It is called from the notifier's own thread."""

Sleep = Callable[[float], Awaitable[None]]

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
"""aiohttp's own timers are off: it rounds long ones up to whole seconds. Ours is asyncio.timeout."""

_HEADERS = {
    "Content-Type": "application/json; charset=utf-8",
    "User-Agent": f"mmp-reconciler/{__version__}",
}


_WORST_FIRST = tuple(AlertSeverity)

_OUTCOME = {True: ("debug", "notification delivered"), False: ("warning", "notification not delivered")}


@dataclass(frozen=True, slots=True)
class Message:
    """One queued notification: its bytes, its kind for the log, and its severity."""

    kind: str
    severity: AlertSeverity
    body: bytes


class WebhookSender:
    """The thread, and one worker per webhook in it."""

    def __init__(
        self,
        targets: Sequence[WebhookAddress],
        log: Log,
        *,
        timeout_s: float = TRY_TIMEOUT_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        use_daemon_executor(self._loop)
        self._workers = [_Worker(target, log, timeout_s, sleep) for target in targets]
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._main, name="notifier", daemon=True)

    def start(self) -> None:
        """Start to deliver."""
        self._thread.start()

    def post(self, document: Mapping[str, Any]) -> None:
        """Queue a notification for every webhook; never waits, never fails; any thread may call it."""
        body = json_text(document, separators=(",", ":")).encode()
        message = Message(str(document["kind"]), AlertSeverity(document["severity"]), body)
        for worker in self._workers:
            self._call(worker.put, message)

    def stop(self, flush_s: float = FLUSH_S) -> None:
        """Deliver what is left for at most ``flush_s``, log what could not be delivered, end the thread."""
        self._call(self._close, flush_s)
        self._thread.join(flush_s + JOIN_S)

    def _call(self, action: Callable[..., None], *values: Any) -> None:
        with suppress(RuntimeError):  # the thread has ended: nothing can be delivered
            self._loop.call_soon_threadsafe(action, *values)

    def _close(self, flush_s: float) -> None:
        for worker in self._workers:
            worker.close()
        self._loop.call_later(flush_s, self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._deliver())
        finally:
            self._loop.close()

    async def _deliver(self) -> None:
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        await asyncio.wait(self._tasks)


class _Worker:
    """Delivers to one webhook, one notification after another. Only the sender's thread uses it."""

    def __init__(self, target: WebhookAddress, log: Log, timeout_s: float, sleep: Sleep) -> None:
        self._target = target
        self._log = log
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()
        self._waiting: deque[Message] = deque()
        self._in_hand = 0
        self._dropped = 0

    def put(self, message: Message) -> None:
        """Queue a message; if the queue is full, drop the least severe message, perhaps this one."""
        self._waiting.append(message)
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[_mildest(self._waiting)]
            self._dropped += 1
        self._woken.set()

    def close(self) -> None:
        """End once the queue is empty; from now on nothing is retried."""
        self._closing.set()
        self._woken.set()

    async def run(self) -> None:
        """Deliver messages until closed."""
        try:
            async with _session() as session:
                while message := await self._next():
                    await self._deliver(session, message)
                    self._log_dropped()
        finally:
            self._dropped += len(self._waiting) + self._in_hand
            self._log_dropped()

    async def _next(self) -> Message | None:
        """Wait for the next message and return it; None if closed and the queue is empty."""
        while not self._waiting and not self._closing.is_set():
            self._woken.clear()
            await self._woken.wait()
        if not self._waiting:
            return None
        self._in_hand = 1
        return self._waiting.popleft()

    async def _deliver(self, session: aiohttp.ClientSession, message: Message) -> None:
        """Try until the message is accepted or given up; while closing, try once."""
        tries = 1
        while not (answer := await self._try(session, message)).delivered:
            again_s = None if self._closing.is_set() else retry_delay_s(tries, answer, datetime.now(UTC))
            if again_s is None:
                break
            self._report("debug", "notification tried again", message, tries, answer)
            await self._wait(again_s)
            tries += 1
        level, event = _OUTCOME[answer.delivered]
        self._report(level, event, message, tries, answer)
        self._in_hand = 0

    async def _wait(self, wait_s: float) -> None:
        """Wait ``wait_s``, or until closed: then there is time for one more try."""
        waits = {asyncio.ensure_future(self._sleep(wait_s)), asyncio.ensure_future(self._closing.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _try(self, session: aiohttp.ClientSession, message: Message) -> DeliveryResult:
        url = URL(self._target.url.reveal(), encoded=True)
        try:
            async with asyncio.timeout(self._timeout_s):
                async with session.post(
                    url, data=message.body, headers=_HEADERS, allow_redirects=False
                ) as response:
                    retry_after = response.headers.get("Retry-After", "")
                    return DeliveryResult(response.status, f"it answered {response.status}", retry_after)
        except TimeoutError:
            return DeliveryResult(None, f"it did not answer within {self._timeout_s:g} s")
        except Exception as error:
            return DeliveryResult(None, _words(error))

    def _report(self, level: str, event: str, message: Message, tries: int, answer: DeliveryResult) -> None:
        text = {"to": self._target.shown, "kind": message.kind, "tries": tries}
        self._log(level, event, text if answer.delivered else text | {"reason": answer.why})

    def _log_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            self._log("warning", "notifications dropped", {"to": self._target.shown, "number": dropped})


def _mildest(messages: Sequence[Message]) -> int:
    """Return the index of the message to drop: the oldest of the least severe."""
    return max(range(len(messages)), key=lambda place: _WORST_FIRST.index(messages[place].severity))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=1),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        raise_for_status=False,
        timeout=_NO_TIMEOUT,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_WEBHOOK_HEADERS,
    )


def _words(error: Exception) -> str:
    """Describe an error in our own words: the library's message has the address."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name cannot be resolved"
        case aiohttp.ClientSSLError():
            return "TLS could not be set up with it, or its certificate is not trusted"
        case aiohttp.ClientConnectorError():
            return "no connection to it could be made"
        case _:
            return f"the connection broke or the reply is not HTTP ({type(error).__name__})"
