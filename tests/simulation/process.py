"""One simulated process: the real pass or loop over ports that can kill it, hold it up and watch it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from reconciler.controller.account_preflight import identify
from reconciler.controller.loop import Loop
from reconciler.controller.pass_values import Approval, PassOptions
from reconciler.controller.reconcile import reconcile
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Compared, Event, LiveReadDone, Planned
from reconciler.core.live_evidence import valid_after
from reconciler.core.model import Confirmed, Desired, Family, NeverApplied, Setting
from reconciler.core.plan import Plan
from reconciler.core.policy import Override, RefusalKind
from reconciler.core.reply import Reply
from tests.simulation import checkers
from tests.simulation.ground_truth import SeenRead
from tests.simulation.host import Host
from tests.simulation.policies import policy_in_force
from tests.simulation.ports import ProcessClock, SimulatedClient
from tests.simulation.scenario import CHECKS, Check, PolicyState, ReviewBy, Role
from tests.simulation.scheduler import Killed, Task, suspend

if TYPE_CHECKING:
    from tests.simulation.world import World

EXCHANGE_HOST = "openapi.okx.com"
Reviewed = dict[Family, tuple[Setting | None, Setting]]
"""Before and after of each change that a person agreed to."""

PATIENCE_S = 300.0
"""What ``apply`` allows beyond its own estimate."""


class ObserverFailed(Exception):
    """An observer of a process failed: the process may end, and nothing else may happen."""


class ReadFollower:
    """The reads of a pass that follow each other with nothing done or waited for in between.

    ``count``: how many there were. A read after them needs a reason: something in the record or the file
    is new, or what they showed has to be seen once more.
    """

    def __init__(self) -> None:
        self.count = 0
        self._seen: SeenRead | None = None
        self._news = self._looked_at = -1.0
        self._file: Desired | None = None

    def read(self, process: Process, seen: SeenRead) -> None:
        """Record one more read."""
        self.count += 1
        self._seen = seen
        self._news = process.world.news
        self._file = process.accepted

    def reason(self, process: Process, begun_local: float) -> str | None:
        """Return why one more read is needed after these; None: there is no reason."""
        seen = self._seen
        if seen is None:
            return "first"
        if process.world.news != self._news or process.accepted is not self._file:
            return "news"
        if process.host.resumed_at > seen.begun_at:
            return "suspended"  # what was read before that is forgotten
        if begun_local > seen.read.ended_at + checkers.FRESH_S:
            return "old"  # it was held up
        known = process.store.known_last()
        wanted = process.accepted.families
        if any(valid_after(known.get(family, NeverApplied())) >= seen.read.begun_at for family in wanted):
            return "newer record"  # or one of before a failover, as old as its first sight
        if begun_local < seen.read.begun_at + checkers.SECOND_READ_AFTER_S - 0.01:
            return None
        if any(
            family not in seen.read.rows
            or not isinstance(one, Confirmed)
            or seen.read.begun_at < one.at + 5.0
            for family in wanted
            if (one := known.get(family)) is not None
        ):
            return "doubt"
        shown = process.world.rows_shown[process.account]
        left_out = [family for family in wanted if family not in seen.read.rows]
        if left_out and (seen.read.nameless or any(family in shown for family in left_out)):
            return "missing"
        return None


class Process:
    """One life of a process, from its start to its end or kill."""

    def __init__(self, world: World, name: str, slot: int, account: str, host: Host) -> None:
        scenario = world.scenario
        self.world = world
        self.name = name
        self.slot = slot
        self.account = account
        self.stored_as = world.name_of(account)
        self.host = host
        self.boot = host.boots
        self.role = scenario.roles[slot]
        self.rng = Random(f"{scenario.seed} {name}")
        self.dead = False
        self.idle = False
        self.woken = False
        self.stop_requested = False
        self.held_up_ever_s = 0.0
        self.held_up_until = 0.0
        self.waits_since: float | None = None  # for the server of the state
        self.known_at = float("inf")
        self.reads: deque[SeenRead] = deque(maxlen=2)
        self.family_reads: dict[Family, SeenRead] = {}
        self.last_rows: dict[Family, Setting] = {}
        self.version = world.version_for(slot)
        self.accepted = world.file_of(account, self.version)
        self.message: Desired = self.accepted
        self.file_number = 0  # of the file it last used, in the order of acceptance
        self.asked_policy: PolicyState | None = None  # the one it decided by last
        self.recorded_number = 0  # the same as the record has it: an unanswered COMMIT may count there
        self.reviewed: Reviewed | None = None
        self.follows = ReadFollower()
        self.reads_of_pass = 0
        self.in_pass = False
        self.has_written = False
        self.clock_refused_at = float("-inf")
        self._files_seen: set[str] = set()
        self.put_back: dict[tuple[Family, Setting], int] = {}
        self._second = (0, 0)
        self._asks: deque[float] = deque(maxlen=checkers.MAX_ASKS_IN_TEN_SECONDS + 1)
        self.clock = ProcessClock(self)
        self.state, self.store = world.keeping.open(
            self, lock_timeout_s=self.rng.choice(world.lock_timeouts_s)
        )
        self.exchange = SimulatedClient(self)
        main = self._apply if self.role is Role.APPLY else self._run
        self.task = Task(world.scheduler, main(), self._ended, machine=host)

    def desired(self) -> Desired:
        """Return the newest accepted file, as the production code asks for it."""
        self.message = self.accepted
        return self.message

    def file_accepted(self, sha256: str, *, changed: bool) -> None:
        """Record that the program put a file on record; the process may have seen the file change."""
        saw_it_change = self.role is Role.APPLY or bool(self._files_seen - {sha256})
        self._files_seen.add(sha256)
        self.file_number = self.world.truth.files.accept(sha256, changed=changed and saw_it_change)

    def policy(self) -> Any:
        """Return the policy as the production code reads it."""
        self.asked_policy = self.world.policy
        return policy_in_force(self.world.policy, self.world.readable_policy)

    # -- what it read ----------------------------------------------------------------------------

    def new_pass(self) -> None:
        """Record that a pass starts: its reads follow no others."""
        self.follows = ReadFollower()
        self.reads_of_pass, self.in_pass = 0, True

    def ended_pass(self) -> None:
        """Record that a pass ended: later reads do not belong to it."""
        self.in_pass = False

    def pauses_between_reads(self) -> None:
        """Record that it waits, or does something other than read."""
        self.follows = ReadFollower()

    def begins_read(self, begun_local: float) -> None:
        """Check that there is a reason for one more read, where the last one just ended."""
        self.world.auditor.begins_read(self, begun_local)
        if Check.READ_REASONS in CHECKS:
            reason = self.follows.reason(self, begun_local)
            self.world.verify(checkers.reads_have_a_reason, self.follows.count, reason)

    def ended_read(self, seen: SeenRead) -> None:
        """Record a read."""
        self.reads.appendleft(seen)
        self.reads_of_pass += 1
        self.follows.read(self, seen)
        for family, row in seen.read.rows.items():
            self.last_rows[family] = row.setting
        self.world.rows_shown[self.account].update(seen.read.rows)

    def begun_at(self, read_begun_at: float) -> float:
        """Return the true time at which the read began that is given as the reason for a record."""
        reads = (*self.reads, *self.family_reads.values())
        return min(
            (seen.begun_at for seen in reads if seen.read.begun_at == read_begun_at),
            default=self.reads[0].begun_at if self.reads else float("inf"),
        )

    def true_time(self, instant: float) -> float:
        """Return the true time of an instant of this process; its machine may have rebooted since."""
        return self.host.true_time(instant, self.boot)

    def accept(self, version: int | None = None) -> None:
        """Notice that the file changed, None: to the newest; ``apply`` read it once and does not."""
        if self.role is Role.RUN and not self.dead:
            self.version = self.world.files.version if version is None else max(version, self.version)
            self.accepted = self.world.file_of(self.account, self.version)
            self.wake()

    def cancel(self) -> None:
        """Be cancelled at the await it is in, as asyncio does it."""
        if not self.dead and not self.task.ended and self.host.suspended_until <= self.world.scheduler.now:
            self.world.trace(self, "cancelled")
            self.task.cancel()

    def request_stop(self) -> None:
        """Ask the process to end, as SIGTERM does, and check that it ends."""
        self.stop_requested = True
        self.wake()
        self.world.should_have_stopped(self, self.world.scheduler.now)

    def wake(self) -> None:
        """End the present sleep of the process, or the next one."""
        self.woken = not self.idle
        if self.idle and not self.dead:
            self.task.wake()

    def kill(self) -> None:
        """End the process at its present await."""
        if not self.dead:
            self._die()
            self.task.kill()

    def call(self, name: str) -> None:
        """Count one port call and perhaps be killed by it; after that every call raises Killed."""
        if self.dead:
            raise Killed
        self.world.stats.port_calls += 1
        self._watch_pace(name)
        self.perhaps_die()
        if self.world.cancel_chance and self.rng.random() < self.world.cancel_chance:
            soon = self.rng.choice((0.0, self.rng.uniform(0.0, 1.0), self.rng.uniform(0.0, 10.0)))
            self.world.scheduler.after(soon, self.cancel)

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
        """Tell whether it lives, and no other process took the account's lock from it."""
        return not self.dead and self.world.keeping.has_the_lock(self)

    def perhaps_die(self) -> None:
        """Be killed here, sometimes; raises Killed."""
        if self.rng.random() < self.world.kill_chance:
            self._die()
            raise Killed

    def observe(self, event: Event) -> None:
        """Receive an event as the command line would, and check its claims."""
        if self.dead:
            raise Killed
        self.world.auditor.on_event(self, event)
        if isinstance(event, Compared):
            self.world.auditor.compared(self, event)
        if isinstance(event, Planned):
            self.world.auditor.claimed(self, event.plan)
        elif not isinstance(event, Compared | LiveReadDone) and self.world.listening:
            self.world.auditor.spoken(self, repr(event))
        if self.world.tracing and not isinstance(event, Compared):
            self.world.trace(self, "%s", _event_text(event))
        if self.world.observer_raises and self.rng.random() < self.world.observer_raises:
            raise ObserverFailed

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
        options = self._options("apply")
        if scenario.extras.review is ReviewBy.PLAN:
            options = replace(options, reviewed=await self._planned_before(desired))
        result = await reconcile(
            lambda: desired,
            store=self.store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            options=options,
            review=self._review,
            stopping=lambda: self.stop_requested,
        )
        if result.plan is not None and scenario.lock_works:
            self.world.trace(self, "apply ended: %s", result.end)

    async def _planned_before(self, desired: Desired) -> Reviewed:
        """Return what a plan made now would do: the apply then sends this, and nothing else."""
        plans: list[Plan] = []
        await reconcile(
            lambda: desired,
            store=self.store,
            exchange=self.exchange,
            clock=self.clock,
            observe=self.observe,
            options=self._options("plan"),
            review=plans.append,
            stopping=lambda: self.stop_requested,
        )
        self._was_reviewed(plans[0] if plans else None)
        assert self.reviewed is not None
        return self.reviewed

    def _review(self, plan: Plan) -> Approval:
        deadline = self.clock.now() + plan.eta_s + PATIENCE_S
        if self.world.scenario.extras.review is not ReviewBy.ANSWER:
            return Approval(deadline)
        self._was_reviewed(plan)
        return Approval(deadline, self.reviewed)

    def _was_reviewed(self, plan: Plan | None) -> None:
        """Record a person's approval; then something drifts soon after it."""
        requests = plan.requests if plan is not None else ()
        self.reviewed = {change.family: (change.before, change.after) for change in requests}
        self.world.perhaps_drift_soon(self)

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

    def _options(self, purpose: str) -> PassOptions:
        scenario = self.world.scenario
        return PassOptions(
            purpose=purpose,
            heal_breaker=self.role is Role.RUN,
            controller=self.role is Role.RUN,
            live=scenario.live,
            policy=self.policy if scenario.extras.policies else PassOptions().policy,
            only=frozenset(scenario.families[:1])
            if scenario.extras.narrowed and self.role is Role.APPLY and not self.world.calm
            else None,
            assume_idle=scenario.assume_idle,
            drift=scenario.drift if self.role is Role.RUN else DriftPolicy.HEAL,
            allowed=frozenset()
            if scenario.guarded
            else frozenset(Override(RefusalKind.DISABLE, family) for family in scenario.families),
        )


def _event_text(event: Event) -> str:
    if isinstance(event, Planned):
        return _plan_text(event.plan)
    return repr(event)


def _plan_text(plan: Plan) -> str:
    lines = [f"{change.action} {change.family} {change.reason} {change.because}" for change in plan.changes]
    return f"planned: {'; '.join(lines)} | unchanged {', '.join(plan.unchanged)}"
