"""Threads for what an event loop hands away, above all name lookups, which nobody waits for at the end.

A lookup cannot be interrupted, and a resolver that does not answer keeps it for half a minute. The threads
asyncio uses by itself are joined when the loop ends, and once more when the interpreter does: a process
told to stop would be killed by its supervisor before. Here are daemons that go down with the process.
Nothing may run in them that has to come to its end.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 32
"""Threads at most, as many as asyncio's own would be at most: more lookups wait for a free one."""


def use_daemon_executor(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``loop`` end without waiting for its lookups."""
    loop.set_default_executor(DaemonThreadExecutor())


class DaemonThreadExecutor(ThreadPoolExecutor):
    """An executor whose threads nobody joins; a thread pool by name only, since asyncio takes no other."""

    def __init__(self, at_once: int = MAX_THREADS) -> None:
        super().__init__(at_once)
        self._at_once = at_once
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._lock = threading.Lock()
        self._ended = False
        self._begun = 0
        self._unfinished = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a thread that is free, or a new one, or the next to be free.

        Raises OSError where there is no thread and none can be had now; then ``fn`` is not kept.
        """
        future = Future[T]()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._begun < min(self._unfinished + 1, self._at_once):
                self._begin_thread()
            self._unfinished += 1
            self._work.put(work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; threads end when they are free. Waits for none of them, whatever is asked."""
        del wait, cancel_futures
        with self._lock:
            self._ended = True
            for _ in range(self._begun):
                self._work.put(None)

    def _begin_thread(self) -> None:
        """Begin one thread more; where none can be had, those that there are do the work."""
        try:
            threading.Thread(target=self._run, name="daemon", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            if self._begun == 0:
                # What the system said, which threading makes a RuntimeError of: like any other shortage.
                raise OSError(errno.EAGAIN, "no thread can be started") from error
        else:
            self._begun += 1

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._unfinished -= 1
