"""Shows the progress of an apply: a bar on a terminal, else log lines with a heartbeat."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reconciler.core.events import Event, Observe, Planned, RequestSettled, Waiting
from reconciler.core.reply import AttemptStatus
from reconciler.ports import Clock
from reconciler.render.values import count

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PROGRESS_INTERVAL_S = 30.0
"""A pipeline's log shows at least this often that the apply is alive and when it will end."""


class LogProgress:
    """Log lines per event, and a heartbeat while waiting."""

    def __init__(self, log: Observe, write_log: Callable[..., None], clock: Clock) -> None:
        self._log = log
        self._write_log = write_log
        self._clock = clock
        self._waiting: Waiting | None = None
        self._heart: asyncio.Task[None] | None = None

    def __enter__(self) -> Observe:
        self._heart = asyncio.get_running_loop().create_task(self._beat())
        return self.observe

    def __exit__(self, *_: object) -> None:
        if self._heart is not None:
            self._heart.cancel()

    def observe(self, event: Event) -> None:
        """Log ``event`` and remember what the apply waits for."""
        self._waiting = event if isinstance(event, Waiting) else self._waiting
        self._log(event)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            if self._waiting is not None:
                self._write_log("info", "still waiting", **_words(self._waiting, self._clock))


class BarProgress:
    """One bar: requests done, the next family and its slot, and the clock time of the end."""

    def __init__(self, log: Observe, clock: Clock, *, colored: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._log = log
        self._clock = clock
        self._bar: RichProgress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            # Set explicitly: rich knows neither --color nor what overrides NO_COLOR.
            console=Console(
                stderr=True, color_system="standard" if colored else None, no_color=not colored
            ),
            transient=True,
            # For a terminal only: text for it is written above the bar. A file gets its text directly.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task: TaskID | None = None
        self._total = 0

    def __enter__(self) -> Observe:
        self._bar.start()
        return self.observe

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def observe(self, event: Event) -> None:
        """Move the bar; warnings and refusals also become log lines above it."""
        match event:
            case Planned(plan) if plan.requests:
                self._expect(len(plan.requests))
            case Waiting():
                self._describe(event)
            case RequestSettled(status=AttemptStatus.APPLIED, family=family):
                self._bar.console.print(f"✓ applied {family}", highlight=False)
                if self._task is not None:
                    self._bar.advance(self._task)
            case _:
                self._log(event)

    def _expect(self, left: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("starting", total=left)
            self._total = left
        done = self._bar.tasks[0].completed
        self._bar.update(self._task, total=done + left)

    def _describe(self, event: Waiting) -> None:
        if self._task is not None:
            message = _words(event, self._clock)
            next_family = f"next {event.family} at {message['next_at']}, " if event.family else ""
            self._bar.update(self._task, description=f"{next_family}done at {message['done_at']}")


def _words(event: Waiting, clock: Clock) -> dict[str, str]:
    """Return what the apply waits for, with clock times, because a written line does not change."""
    return {
        "for": event.cause.value,
        "family": event.family or "",
        "remaining": count(event.remaining, "request"),
        "next_at": _time_of_day(event.until, clock),
        "done_at": _time_of_day(event.done_at, clock),
    }


def _time_of_day(instant: float, clock: Clock) -> str:
    local: datetime = (clock.wall() + timedelta(seconds=instant - clock.now())).astimezone()
    return f"{local:%H:%M:%S}"
