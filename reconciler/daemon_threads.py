"""A daemon thread executor for an event loop, above all for name lookups: no thread is joined at the end.

A lookup cannot be interrupted, and takes half a minute if the resolver does not answer. Asyncio's own
threads are joined when the loop ends, and again when the interpreter ends: a supervisor would kill a
stopped process before. The threads here are daemons that end with the process. Work that has to complete
must not run here.
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
"""The most threads, the same limit as asyncio's own: more lookups wait for a free thread."""


def use_daemon_executor(loop: asyncio.AbstractEventLoop) -> None:
    """Let ``loop`` end without waiting for its lookups."""
    loop.set_default_executor(DaemonThreadExecutor())


class DaemonThreadExecutor(ThreadPoolExecutor):
    """An executor whose threads are never joined. It is a pool only because asyncio requires one."""

    def __init__(self, at_once: int = MAX_THREADS) -> None:
        super().__init__(at_once)
        self._at_once = at_once
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._lock = threading.Lock()
        self._ended = False
        self._begun = 0
        self._unfinished = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn`` in a free thread, or a new one, or the next that is free.

        Raises OSError if there is no thread and none can be started; then ``fn`` is not queued.
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
        """Accept no more work; threads end when they are free. Never waits, also with ``wait``."""
        del wait, cancel_futures
        with self._lock:
            self._ended = True
            for _ in range(self._begun):
                self._work.put(None)

    def _begin_thread(self) -> None:
        """Start one more thread; if that fails, the existing threads do the work."""
        try:
            threading.Thread(target=self._run, name="daemon", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            if self._begun == 0:
                # The system's error, which threading turned into a RuntimeError: a shortage like any other.
                raise OSError(errno.EAGAIN, "no thread can be started") from error
        else:
            self._begun += 1

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._unfinished -= 1
