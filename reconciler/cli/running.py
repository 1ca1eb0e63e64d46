"""How ``run`` is wired: one loop per account, one watcher over their files, signals to all.

The watcher looks at the files' contents every second. New content is accepted after two equal looks a
second apart, since a half-written file can parse; content that does not hold leaves the last good one
in force. Which account a file is for cannot change while running.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from reconciler import logs
from reconciler.cli import doors
from reconciler.cli.stopping import Stop
from reconciler.clock import SystemClock
from reconciler.core.events import Event, Observe
from reconciler.core.model import Desired
from reconciler.core.plan import DriftPolicy
from reconciler.core.problems import Problem
from reconciler.desired.watch import Accepted, Rejected, WatchedFile
from reconciler.loop import Loop
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.wire import BaseUrl
from reconciler.reconcile import Options
from reconciler.store.sqlite import SqliteState

POLL_S = 1.0
"""Between two looks at a file; also how long new content has to stay the same to be accepted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the command line of ``run`` ordered, to hold until it is stopped."""

    config: tuple[str, ...]
    state: Path
    base: BaseUrl
    lock_timeout_s: float
    interval_s: float
    drift: DriftPolicy
    assume_idle: bool
    live: bool


class Running:
    """One ``mmp run`` over one or several accounts."""

    def __init__(self, desired: tuple[Desired, ...], standing: Standing) -> None:
        self.standing = standing
        self.stop = Stop()
        self.clock: SystemClock = self.stop.clock
        self.files = [WatchedFile(one) for one in desired]
        self.simulator = doors.is_simulator(standing.base)

    async def run(self) -> None:
        """Run until asked to stop. Raises MmpError where the state or the keys cannot be used at all."""
        clients = [
            doors.trading_client(file.desired, self.standing.base, self.clock) for file in self.files
        ]
        state = doors.open_state(self.standing.state, self.clock, self.standing.lock_timeout_s)
        loops = [self._loop(file, client, state) for file, client in zip(self.files, clients, strict=True)]
        self.stop.install()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._look, True)
        try:
            await self.stop.run(self._all(loops))
        finally:
            state.close()
        logs.log("info", "stopped")

    async def _all(self, loops: list[Loop]) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(loop.run() for loop in loops))
        finally:
            watching.cancel()

    def _loop(self, file: WatchedFile, client: OkxTradingClient, state: SqliteState) -> Loop:
        desired = file.desired
        return Loop(
            desired=lambda: file.desired,
            store=state.account(desired.account, desired.environment, self.standing.base.kind),
            exchange=client,
            clock=self.clock,
            observe=self._observer(desired),
            host=self.standing.base.host,
            options=Options(
                purpose="run",
                live=self.standing.live,
                assume_idle=self.standing.assume_idle,
                drift=self.standing.drift,
            ),
            interval_s=self.standing.interval_s,
            stopping=self.stop.asked,
        )

    def _observer(self, desired: Desired) -> Observe:
        log = logs.observer(desired.account, desired.environment.value, simulator=self.simulator)

        def observe(event: Event) -> None:
            self.stop.watch(desired.account, event)
            log(event)

        return observe

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self._look(False)

    def _look(self, at_once: bool) -> None:
        """Look at every file; ``at_once`` (SIGHUP) does not wait for a second equal look."""
        for file in self.files:
            match file.look(at_once=at_once):
                case Accepted(desired):
                    logs.log("info", "config accepted", path=desired.path, sha256=desired.sha256)
                    self.clock.nudge()
                case Rejected(problems):
                    for problem in problems:
                        _tell(problem)
                case None:
                    pass
        if at_once:
            self.clock.nudge()


def _tell(problem: Problem) -> None:
    logs.log(
        "error",
        "config rejected, the last good one stays in force",
        code=problem.code,
        at=f"{problem.path}:{problem.line}:{problem.column}",
        reason=problem.message,
        hint=problem.hint,
    )
