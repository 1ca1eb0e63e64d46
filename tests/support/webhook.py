"""A webhook that answers, or fails, as a test configures it: a real server in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to give: its status and headers, after a while; ``hangs``: none at all."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    hangs: bool = False
    breaks: bool = False
    body: bytes = b"ok"


OK = Reply()


@dataclass(slots=True)
class Webhook:
    """What arrived, and the replies: ``replies`` one after another, then the last one always."""

    replies: list[Reply] = field(default_factory=lambda: [OK])
    arrived: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    port: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/hook/s3cr3t-token") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def documents(self) -> list[dict[str, Any]]:
        """Return every body that arrived, parsed."""
        return [json.loads(body) for _, _, body in list(self.arrived)]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        reply = self.replies[min(len(self.arrived), len(self.replies) - 1)]
        self.arrived.append((request.raw_path, dict(request.headers), body))
        if reply.breaks:
            assert request.transport is not None
            request.transport.abort()
        with suppress(TimeoutError):  # a server that is stopped waits for no handler
            await asyncio.wait_for(self.stopped.wait(), 3600.0 if reply.hangs else reply.after_s)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


@contextmanager
def webhook(*replies: Reply) -> Iterator[Webhook]:
    """Serve a webhook that answers with ``replies`` while the block runs."""
    hook = Webhook(list(replies) or [OK])
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(hook.handle), shutdown_timeout=0.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hook.port = runner.addresses[0][1]
        ready.set()
        await hook.stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10.0)
    try:
        yield hook
    finally:
        loop.call_soon_threadsafe(hook.stopped.set)
        thread.join(10.0)
        loop.close()


def eventually(holds: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until ``holds``; real time, because real sockets are looked at."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)
