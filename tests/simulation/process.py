"""One simulated process: the real pass or loop over ports that can kill it, hold it up and watch it."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

from reconciler.core.events import Compared, Event, LiveReadDone, Planned
from reconciler.core.model import Desired, Family, Setting
from reconciler.core.plan import DriftPolicy, Plan
from reconciler.core.policy import Allow, Kind
from reconciler.core.verdict import Reply
from reconciler.loop import Loop
from reconciler.reconcile import Options, identify, reconcile
from tests.simulation import checkers
from tests.simulation.host import Host
from tests.simulation.ports import ProcessClock, SimulatedClient
from tests.simulation.scenario import Role
from tests.simulation.scheduler import Killed, Task, suspend
from tests.simulation.truth import SeenRead

if TYPE_CHECKING:
    from tests.simulation.world import World

EXCHANGE_HOST = "openapi.okx.com"
PATIENCE_S = 300.0
"""What ``apply`` allows beyond its own estimate."""


class Process:
    """One life of a process, from its start to its end or death."""

    def __init__(self, world: World, name: str, slot: int, account: str, host: Host) -> None:
        scenario = world.scenario
        self.world = world
        self.name = name
        self.slot = slot
        self.account = account
        self.host = host
        self.boot = host.boots
        self.role = scenario.roles[slot]
        self.rng = Random(f"{scenario.seed} {name}")
        self.dead = False
        self.idle = False
        self.nudged = False
        self.stop_requested = False
        self.held_up_ever_s = 0.0
        self.held_up_until = 0.0
        self.waits_since: float | None = None  # for the server of the state
        self.known_at = float("inf")
        self.reads: deque[SeenRead] = deque(maxlen=2)
        self.accepted = world.file_of(account)
        self.told: Desired = self.accepted
        self.put_back: dict[tuple[Family, Setting], int] = {}
        self._second = (0, 0)
        self._asks: deque[float] = deque(maxlen=checkers.MAX_ASKS_IN_TEN_SECONDS + 1)
        self.clock = ProcessClock(self)
        self.state, self.store = world.keeping.open(
            self, lock_timeout_s=self.rng.choice(world.lock_timeouts_s)
        )
        self.exchange = SimulatedClient(self)
        main = self._apply if self.role is Role.APPLY else self._run
        self.task = Task(world.scheduler, main(), self._ended)

    def desired(self) -> Desired:
        """Return the newest accepted file, as the production code asks for it."""
        self.told = self.accepted
        return self.told

    def true_time(self, instant: float) -> float:
        """Return the true time of an instant of this process; its machine may have rebooted since."""
        return self.host.true_time(instant, self.boot)

    def accept_newest(self) -> None:
        """Notice that the file changed; ``apply`` read it once and does not."""
        if self.role is Role.RUN and not self.dead:
            self.accepted = self.world.file_of(self.account)
            self.nudge()

    def request_stop(self) -> None:
        """Ask the process to end, as SIGTERM does, and see that it does."""
        self.stop_requested = True
        self.nudge()
        self.world.should_have_stopped(self, self.world.scheduler.now)

    def nudge(self) -> None:
        """End the pause the process is in, or the next one."""
        self.nudged = not self.idle
        if self.idle and not self.dead:
            self.task.wake()

    def kill(self) -> None:
        """End the process where it stands."""
        if not self.dead:
            self._die()
            self.task.kill()

    def call(self, name: str) -> None:
        """Count one port call and perhaps die of it; raises Killed, for ever after."""
        if self.dead:
            raise Killed
        self.world.stats.port_calls += 1
        self._watch_pace(name)
        self.perhaps_die()

    async def hold_up(self) -> None:
        """Perhaps be suspended by the system for a while."""
        if delay := self.drawn_delay():
            await self.held_up_for(delay)

    def drawn_delay(self) -> float:
        """Return for how long the system suspends the process now; mostly 0."""
        if self.rng.random() >= self.world.pause_chance:
            return 0.0
        longest = self.world.longest_pause_s
        return self.rng.choice((self.rng.uniform(0.2, 4.0), self.rng.uniform(4.0, longest)))

    async def held_up_for(self, delay: float) -> None:
        """Be suspended, whatever arrives meanwhile."""
        self.world.trace(self, "held up for %.1f s", delay)
        self.was_held_up(delay)
        self.held_up_until = self.world.scheduler.now + delay
        self.task.wake_at(self.held_up_until)
        await suspend()

    def was_held_up(self, delay: float) -> None:
        """Count a delay that is none of the process's own."""
        self.held_up_ever_s += delay

    def held_up_so_far_s(self) -> float:
        """Return all delays that were none of its own, the present one too."""
        waits_s = 0.0 if self.waits_since is None else self.world.scheduler.now - self.waits_since
        return self.held_up_ever_s + waits_s

    def has_the_lock(self) -> bool:
        """Tell whether it lives, and nobody took the account's lock from it."""
        return not self.dead and self.world.keeping.has_the_lock(self)

    def perhaps_die(self) -> None:
        """Be killed here, sometimes; raises Killed."""
        if self.rng.random() < self.world.kill_chance:
            self._die()
            raise Killed

    def observe(self, event: Event) -> None:
        """Take an event as the command line would, and check what it claims."""
        if self.dead:
            raise Killed
        self.world.auditor.heard(self, event)
        if isinstance(event, Planned):
            self.world.auditor.claimed(self, event.plan)
        elif not isinstance(event, Compared | LiveReadDone) and self.world.listening:
            self.world.auditor.spoken(self, repr(event))
        if self.world.tracing and not isinstance(event, Compared):
            self.world.trace(self, "%s", _told(event))

    def _die(self) -> None:
        self.dead = True
        self.state.close_now()
        self.world.stats.kills += 1
        self.world.trace(self, "killed")

    def _ended(self, error: BaseException | None) -> None:
        self.dead = True
        self.state.close_now()
        self.world.process_ended(self, error)

    def _watch_pace(self, name: str) -> None:
        second, count = self._second
        now = int(self.world.scheduler.now)
        self._second = (second, count + 1) if second == now else (now, 1)
        if name.startswith("exchange"):
            self._asks.append(self.world.scheduler.now)
        recent = 0
        if len(self._asks) == self._asks.maxlen and self._asks[-1] - self._asks[0] < 10.0:
            recent = len(self._asks)
        if not self.world.verify(checkers.no_busy_loop, self._second[1], recent):
            self._die()
            raise Killed

    async def _apply(self) -> None:
        scenario = self.world.scenario
        desired = self.desired()
        info = await identify(
            desired, store=self.store, exchange=self.exchange, host=EXCHANGE_HOST, observe=self.observe
        )
        if isinstance(info, Reply):
            return
        result = await reconcile(
            lambda: desired,
            store=self.store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            options=self._options("apply"),
            review=lambda plan: self.clock.now() + plan.eta_s + PATIENCE_S,
            stopping=lambda: self.stop_requested,
        )
        if result.plan is not None and scenario.lock_works:
            self.world.trace(self, "apply ended: %s", result.end)

    async def _run(self) -> None:
        await Loop(
            desired=self.desired,
            store=self.store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            host=EXCHANGE_HOST,
            options=self._options("run"),
            interval_s=self.world.scenario.interval_s,
            stopping=lambda: self.stop_requested,
        ).run()

    def _options(self, purpose: str) -> Options:
        scenario = self.world.scenario
        return Options(
            purpose=purpose,
            breaks_fights=self.role is Role.RUN,
            live=scenario.live,
            assume_idle=scenario.assume_idle,
            drift=scenario.drift if self.role is Role.RUN else DriftPolicy.HEAL,
            allowed=frozenset()
            if scenario.guarded
            else frozenset(Allow(Kind.DISABLE, family) for family in scenario.families),
        )


def _told(event: Event) -> str:
    if isinstance(event, Planned):
        return _told_plan(event.plan)
    return repr(event)


def _told_plan(plan: Plan) -> str:
    lines = [f"{change.action} {change.family} {change.reason} {change.because}" for change in plan.changes]
    return f"planned: {'; '.join(lines)} | unchanged {', '.join(plan.unchanged)}"
