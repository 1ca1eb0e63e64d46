"""How ``run`` is wired: one loop per account, one watcher over their files and policies, signals to all.

The watcher looks at the files' contents every second. New content is accepted after two equal looks a
second apart, since a half-written file can parse; content that does not hold leaves the last good one
in force. Which account a file is for cannot change while running.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler import logs
from reconciler.cli import doors
from reconciler.cli.options import StatePlace
from reconciler.cli.stopping import Stop
from reconciler.clock import SystemClock
from reconciler.core.events import Event, Observe
from reconciler.core.model import Desired
from reconciler.core.plan import DriftPolicy
from reconciler.core.policy import Policy
from reconciler.core.problems import Problem
from reconciler.core.strips import gap_s
from reconciler.core.vitals import FileState, begun
from reconciler.desired.watch import Accepted, PolicyAccepted, Rejected, WatchedFile, WatchedPolicy
from reconciler.loop import Loop
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.wire import BaseUrl
from reconciler.ports import State
from reconciler.reconcile import Options
from reconciler.sidecar.guard import Listen
from reconciler.sidecar.target import Target

if TYPE_CHECKING:
    from reconciler.cli.telling import Telling
    from reconciler.cli.watching import Watching

POLL_S = 1.0
"""Between two looks at a file; also how long new content has to stay the same to be accepted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the command line of ``run`` ordered, to hold until it is stopped."""

    config: tuple[str, ...]
    policy_file: str | None
    state: StatePlace
    base: BaseUrl
    lock_timeout_s: float
    interval_s: float
    drift: DriftPolicy
    assume_idle: bool
    live: bool
    listen: Listen | None = None
    notify: tuple[Target, ...] = ()


class Running:
    """One ``mmp run`` over one or several accounts."""

    def __init__(
        self, desired: tuple[Desired, ...], policies: tuple[Policy | None, ...], standing: Standing
    ) -> None:
        self.standing = standing
        self.stop = Stop()
        self.clock: SystemClock = self.stop.clock
        self.files = [WatchedFile(one) for one in desired]
        self.policies = _watched(desired, policies, standing.policy_file)
        self.simulator = doors.is_simulator(standing.base)
        self.watching = None if standing.listen is None else _watching(self.clock)
        self.telling = _telling(standing.notify, self.clock) if standing.notify else None

    async def run(self) -> None:
        """Run until asked to stop. Raises MmpError where the state or the keys cannot be used at all."""
        # First of all: from here on a signal is a request to stop, and what is begun is ended properly.
        self.stop.install()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._look, True)
        if self.telling is not None:
            self.telling.start()
        try:
            await self._run_watched()
        finally:
            if self.telling is not None:
                self.telling.stop()

    async def _run_watched(self) -> None:
        if self.watching is None or self.standing.listen is None:
            return await self._run()
        self.watching.listen(self.standing.listen)
        try:
            await self._run()
        finally:
            self.watching.stop()

    async def _run(self) -> None:
        clients = [
            doors.trading_client(file.desired, self.standing.base, self.clock) for file in self.files
        ]
        place, lock_timeout_s = self.standing.state, self.standing.lock_timeout_s
        max_gap_s = gap_s(self.standing.interval_s)
        async with doors.opened_state(place, self.clock, lock_timeout_s, max_gap_s=max_gap_s) as state:
            loops = [
                self._loop(file, policy, client, state)
                for file, policy, client in zip(self.files, self.policies, clients, strict=True)
            ]
            await self.stop.run(self._all(loops))
        logs.log("info", "stopped")

    async def _all(self, loops: list[Loop]) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*(loop.run() for loop in loops))
        finally:
            watching.cancel()

    def _loop(
        self, file: WatchedFile, policy: WatchedPolicy, client: OkxTradingClient, state: State
    ) -> Loop:
        desired = file.desired
        store = state.account(desired.account, desired.environment, self.standing.base.kind)
        return Loop(
            desired=lambda: file.desired,
            store=store,
            exchange=client,
            clock=self.clock,
            observe=self._observer(desired, client),
            host=self.standing.base.host,
            options=Options(
                purpose="run",
                breaks_fights=True,
                live=self.standing.live,
                assume_idle=self.standing.assume_idle,
                drift=self.standing.drift,
                policy=lambda: policy.policy,
            ),
            interval_s=self.standing.interval_s,
            stopping=self.stop.asked,
        )

    def _observer(self, desired: Desired, client: OkxTradingClient) -> Observe:
        onlookers = self._onlookers(desired, client)
        log = logs.observer(
            desired.account, desired.environment.value, simulator=self.simulator, advice=doors.advice
        )

        def observe(event: Event) -> None:
            self.stop.watch(desired.account, event)
            log(event)
            for look in onlookers:
                look(event)

        return observe

    def _onlookers(self, desired: Desired, client: OkxTradingClient) -> list[Observe]:
        """Return whoever follows an account from outside: the board, and those who are told."""
        vitals = begun(
            desired,
            host=self.standing.base.host,
            simulator=self.simulator,
            live=self.standing.live,
            now=self.clock.now(),
        )
        vitals = replace(vitals, config=FileState(desired.path, desired.sha256, self.clock.wall()))
        found: list[Observe] = []
        if self.watching is not None:
            watch = self.watching.observer(
                vitals,
                interval_s=self.standing.interval_s,
                clock_offset_s=lambda: client.clock_offset_s,
            )
            found.append(watch)
        if self.telling is not None:
            found.append(self.telling.observer(vitals, interval_s=self.standing.interval_s))
        return found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self._look(False)

    def _look(self, at_once: bool) -> None:
        """Look at every file; ``at_once`` (SIGHUP) does not wait for a second equal look."""
        for policy in dict.fromkeys(self.policies):
            self._tell("policy", policy.look(at_once=at_once))
        for file in self.files:
            self._tell("config", file.look(at_once=at_once))
        if at_once:
            self.clock.nudge()

    def _tell(self, what: str, seen: Accepted | PolicyAccepted | Rejected | None) -> None:
        match seen:
            case Accepted(accepted) | PolicyAccepted(accepted):
                logs.log("info", f"{what} accepted", path=accepted.path, sha256=accepted.sha256)
                self.clock.nudge()
            case Rejected(problems):
                for problem in problems:
                    _tell(what, problem)
            case None:
                pass


def _watching(clock: SystemClock) -> Watching:
    from reconciler.cli.watching import Watching  # late: nobody else needs its server and counters

    return Watching(clock)


def _telling(targets: tuple[Target, ...], clock: SystemClock) -> Telling:
    from reconciler.cli.telling import Telling  # late, as above

    return Telling(targets, clock)


def _watched(
    desired: tuple[Desired, ...], policies: tuple[Policy | None, ...], named: str | None
) -> list[WatchedPolicy]:
    """Return each account's policy; accounts whose files lie in one folder share it."""
    shared: dict[str, WatchedPolicy] = {}
    return [
        shared.setdefault(os.path.dirname(one.path), WatchedPolicy(policy, one.path, named))
        for one, policy in zip(desired, policies, strict=True)
    ]


def _tell(what: str, problem: Problem) -> None:
    logs.log(
        "error",
        f"{what} rejected, the last good one stays in force",
        code=problem.code,
        at=f"{problem.path}:{problem.line}:{problem.column}",
        reason=problem.message,
        hint=problem.hint,
    )
