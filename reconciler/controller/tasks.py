"""The tasks of a ``run``: the first one that fails ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Starts tasks and remembers the first failure. ``awaited`` are those that a stop waits for."""

    def __init__(self) -> None:
        self.awaited: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None], *, awaited: bool = False) -> asyncio.Task[None]:
        """Start ``work``; ``awaited``: it ends by itself after a request to stop, and is waited for."""
        task = asyncio.create_task(work)
        if awaited:
            self.awaited.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait_for_failure(self) -> None:
        """Return once a task has failed."""
        await self._failed.wait()

    def raise_failure(self) -> None:
        """Raise the failure of the first failed task; return if none failed."""
        if self._failure is not None:
            raise self._failure

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.awaited.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is None:
            self._failure = error
            self._failed.set()


async def cancel_all(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
