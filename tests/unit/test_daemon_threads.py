"""Threads nobody joins: they do the work, at most so many at once, and no end waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from reconciler.daemon_threads import DaemonThreadExecutor, use_daemon_executor

PATIENCE_S = 10.0


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Return what hanging work waits for; it is let go at the end."""
    over = threading.Event()
    yield over
    over.set()


def test_a_loop_ends_while_its_work_hangs(hang: threading.Event) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        use_daemon_executor(loop)
        hanging = loop.run_in_executor(None, hang.wait)
        assert await asyncio.to_thread(lambda: 7) == 7, "another thread is free"
        hanging.cancel()

    begun = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - begun < PATIENCE_S
    assert not hang.is_set()


def test_more_than_there_are_threads_waits_its_turn_and_loses_nothing(hang: threading.Event) -> None:
    threads = DaemonThreadExecutor(2)
    hanging: list[Future[bool]] = [threads.submit(hang.wait) for _ in range(2)]
    waiting = [threads.submit(pow, number, 2) for number in range(5)]
    waiting[1].cancel()
    time.sleep(0.05)
    assert not any(future.done() for future in hanging)
    assert not waiting[0].done()
    hang.set()
    done = [future.result(PATIENCE_S) for future in waiting if not future.cancelled()]
    assert done == [0, 4, 9, 16]


def test_a_free_thread_is_used_again() -> None:
    threads = DaemonThreadExecutor()
    names = set()
    for _ in range(5):
        names.add(threads.submit(threading.get_ident).result(PATIENCE_S))
        time.sleep(0.02)
    assert len(names) < 5


def test_a_failure_is_the_futures() -> None:
    with pytest.raises(ZeroDivisionError):
        DaemonThreadExecutor().submit(lambda: 1 // 0).result(PATIENCE_S)


def test_after_the_end_nothing_is_taken_and_free_threads_go() -> None:
    threads = DaemonThreadExecutor()
    thread = threads.submit(threading.current_thread).result(PATIENCE_S)
    threads.shutdown()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError):
        threads.submit(int)


# ---- the system has no more threads --------------------------------------------------------------


def refuse_to_start(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let no thread start until what is returned is undone."""
    monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
    return monkeypatch


@pytest.mark.parametrize("at_once", [1, 32])
def test_threads_that_could_not_start_take_no_places(at_once: int, no_threads: pytest.MonkeyPatch) -> None:
    threads = DaemonThreadExecutor(at_once)
    ran: list[int] = []
    for number in range(at_once):
        with pytest.raises(OSError, match="no thread can be started"):
            threads.submit(ran.append, number)
    no_threads.undo()
    assert threads.submit(lambda: 7).result(PATIENCE_S) == 7
    assert ran == [], "what was refused is not done later"


def test_without_a_new_thread_the_others_do_the_work(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = DaemonThreadExecutor(2)
    hanging = threads.submit(hang.wait)
    with monkeypatch.context() as no_threads:
        no_threads.setattr(threading.Thread, "start", refuse_to_start)
        waiting = threads.submit(lambda: 7)
    assert threads.submit(lambda: 8).result(PATIENCE_S) == 8, "the second thread begins when it can"
    assert waiting.result(PATIENCE_S) == 7
    assert not hanging.done()
