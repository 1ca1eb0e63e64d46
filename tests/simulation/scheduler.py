"""Virtual time: a heap of actions, and coroutines that await only this world.

There is no asyncio: the production code awaits only its ports. So a task is a coroutine that receives a
value when the event it waits for has happened. Actions at equal instants run in the order of their
scheduling.
"""

from __future__ import annotations

import heapq
import types
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol


class Killed(BaseException):
    """The process was killed: raised at a port call, and again at every later one."""


@types.coroutine
def suspend() -> Generator[None, Any, Any]:
    """Suspend until the task is resumed; returns the value it is resumed with."""
    return (yield)


class Scheduler:
    """The only exact clock, and its scheduled actions. ``now`` is in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.running: Any = None
        """The task that runs now."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do ``action`` at ``when``; at once if that is past."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do ``action`` in ``delay`` seconds."""
        self.at(self.now + delay, action, *arguments)

    def step(self) -> bool:
        """Do the next action; False when none remains."""
        if not self._heap:
            return False
        self.now, _, action, arguments = heapq.heappop(self._heap)
        action(*arguments)
        return True


class Machine(Protocol):
    """The machine of a task: while it is suspended, the task does not run."""

    suspended_until: float


class Task:
    """One coroutine on the scheduler. ``on_end`` is given the exception it ended with, or None.

    ``machine``: what it runs on; None: something that is never suspended.
    """

    __slots__ = ("_coroutine", "_machine", "_on_end", "_scheduler", "_ticket", "ended")

    def __init__(
        self,
        scheduler: Scheduler,
        coroutine: Coroutine[Any, Any, None],
        on_end: Callable[[BaseException | None], None],
        *,
        machine: Machine | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._machine = machine
        self._coroutine = coroutine
        self._on_end = on_end
        self._ticket = 0
        self.ended = False
        scheduler.at(scheduler.now, self._resume, 0, None)

    def wake_at(self, when: float, value: Any = None) -> None:
        """Resume the coroutine at ``when``, unless something else resumes it before."""
        self._scheduler.at(when, self._resume, self._ticket, value)

    def waker(self) -> Callable[[Any], None]:
        """Return what resumes the coroutine from the wait it is about to begin, and from no other."""
        ticket = self._ticket
        return lambda value: self._resume(ticket, value)

    def wake(self) -> None:
        """Resume the coroutine now from whatever it waits for."""
        self._resume(self._ticket, None)

    def kill(self) -> None:
        """End the coroutine at its present await; each port call in its cleanup fails."""
        if not self.ended:
            self._advance(self._coroutine.throw, Killed())

    def cancel(self) -> None:
        """Raise asyncio's cancellation where the coroutine waits; how it reacts is up to the coroutine."""
        if not self.ended:
            self._advance(self._coroutine.throw, CancelledError())

    def _resume(self, ticket: int, value: Any) -> None:
        if ticket != self._ticket or self.ended:
            return
        machine, now = self._machine, self._scheduler.now
        if machine is not None and machine.suspended_until > now:
            self._scheduler.at(machine.suspended_until, self._resume, ticket, value)
        else:
            self._advance(self._coroutine.send, value)

    def _advance(self, how: Callable[[Any], Any], value: Any) -> None:
        self._ticket += 1
        before, self._scheduler.running = self._scheduler.running, self
        try:
            how(value)
        except StopIteration:
            self._end(None)
        except (Killed, CancelledError, Exception) as error:
            self._end(error)
        finally:
            self._scheduler.running = before

    def _end(self, error: BaseException | None) -> None:
        self.ended = True
        self._on_end(error)
