"""One seed, one history: the world, its faults and its end.

For a while everything may fail that the seed allows to fail. Then nothing fails any more, and everything
has to come into sync within a bound. The exchange is the simulator's own, without sockets. Between it and
the processes is a network that loses, delays and garbles. Nothing here reads the real time.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from reconciler.core.change_direction import LESS_SAFE, direction
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.model import (
    Confirmed,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    FilePosition,
    Known,
    Setting,
)
from reconciler.errors import MmpError
from reconciler.simulator.accounts import fake_account
from reconciler.simulator.behaviour_options import Options
from reconciler.simulator.exchange import SimulatedExchange
from tests.simulation import checkers
from tests.simulation.auditor import Auditor
from tests.simulation.features import draw
from tests.simulation.ground_truth import Truth, same_effect
from tests.simulation.guard_checkers import as_good_as_off, looser, ranks
from tests.simulation.host import Host
from tests.simulation.network import Network, wire
from tests.simulation.process import ObserverFailed, Process
from tests.simulation.scenario import (
    DISABLED,
    FIGHTERS_SETTING,
    NO_FAILURES,
    REFUSING,
    SETTINGS,
    DatabaseFaults,
    Feature,
    PolicyState,
    Role,
    Scenario,
    WorldKind,
    owner,
)
from tests.simulation.scheduler import Killed, Scheduler
from tests.simulation.state_backend import Keeping, PostgresKeeping, SqliteKeeping

CONVERGES_WITHIN_S = 60.0 + 60.0 + 40.0 + 10.0 + 30.0 + 30.0
"""Stopped and retried, backed off at the longest, an unknown effect and a read that shows it, unknown
history, an interval, a lock: all of these in a row. The requests themselves come on top.
"""

REFUSED_AGAIN_S = 600.0
"""How long a setting that the exchange refused is not sent, while no other is desired."""

PER_REQUEST_S = 10.06
"""The slowest pace there is for one request: the other slot of each window taken by something else."""

POSTGRES_CONVERGES_WITHIN_S = CONVERGES_WITHIN_S + 9.0 + 30.0 + 45.06 + 40.0
"""The lease of a dead holder, a back-off from a state that was down, and a failover: its two requests
count, and then its uncertain families are to be proven.
"""

FILE_HEALS_WITHIN_S = 30.0 + 45.06 + 40.0
"""Backed off from a file that could not be used; two reservations count whose COMMIT failed, or what they
left on record is to be proven."""

LOOK_EVERY_S = 1.0

LONGEST_PAUSE_S = 45.0
LONGEST_ZOMBIE_S = 60.0
"""A process that is suspended for longer than any lock or request lives."""

LISTEN_TO_ONE_IN = 8
"""Formatting every message takes longer than creating it: done in one history in eight."""

PAUSED_AT_ONCE = 0.1
"""How often, where people pause families, a person does so just before a reservation."""

PAUSES = ("pauses",)
KNOWN = "applied", "attempts", "identity"
"""The tables in which that is on record."""

T = TypeVar("T")

FOREIGN_FAMILY = "ADA-USD"


def at_once(asked: Coroutine[Any, Any, T]) -> T:
    """Return the state's answer; it never waits for anything."""
    try:
        asked.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    raise AssertionError("the state answers at once")


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: the checker that found it, when, and how."""

    checker: str
    at: float
    detail: str


@dataclass(slots=True)
class Stats:
    """The counts of a history."""

    virtual_s: float = 0.0
    kills: int = 0
    requests: int = 0
    port_calls: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """The result of one seed. ``lines`` is its log, if it was requested."""

    seed: int
    violation: Violation | None
    stats: Stats
    lines: tuple[str, ...] = ()
    kind: WorldKind = WorldKind.SQLITE


def play(
    seed: int, kind: WorldKind = WorldKind.SQLITE, *, tracing: bool = False, feature: Feature | None = None
) -> History:
    """Play the history of ``seed`` to its end or to the first broken promise.

    ``feature``: with this one and no other, instead of those of the seed.
    """
    world = World(draw(seed, kind, feature), tracing=tracing)
    try:
        world.run()
    finally:
        world.close()
    return History(seed, world.violation, world.stats, tuple(world.lines), kind)


@dataclass(slots=True)
class _Files:
    """The desired files: one version after another; some readers see a new one late."""

    scenario: Scenario
    version: int = 0
    _made: dict[tuple[int, str], Desired] = field(default_factory=dict)

    def of(self, account: str, version: int, name: str) -> Desired:
        key = (version, name)
        if key not in self._made:
            self._made[key] = self._make(account, version, name)
        return self._made[key]

    def at(self, when: float) -> int:
        """Return the version that was published by then."""
        published = [number for number, (since, _) in enumerate(self.scenario.versions) if since <= when]
        return min(max(published, default=0), self.version)

    def _content(self, version: int) -> int:
        """Return the first version with the same content."""
        settings = self.scenario.versions[version][1]
        return next(number for number, (_, one) in enumerate(self.scenario.versions) if one == settings)

    def _make(self, account: str, version: int, name: str) -> Desired:
        _, settings = self.scenario.versions[version]
        place = FilePosition("mmp.yaml", 1, 1)
        owned = {
            family: DesiredFamily(setting, place)
            for family, setting in settings.items()
            if owner(self.scenario, family) == account
        }
        return Desired(name, Environment.LIVE, owned, "mmp.yaml", f"{self._content(version)}")


class World:
    """Everything of one history."""

    def __init__(self, scenario: Scenario, *, tracing: bool) -> None:
        self.scenario = scenario
        self.tracing = tracing
        self.rng = Random(f"world {scenario.seed}")
        self.scheduler = Scheduler()
        self.stats = Stats()
        self.truth = Truth()
        self.lines: list[str] = []
        self.violation: Violation | None = None
        self.files = _Files(scenario)
        self.kill_chance = scenario.kill_chance
        self.pause_chance = scenario.pause_chance
        self.read_failure = scenario.read_failure
        self.open_failure = scenario.open_failure
        in_postgres = scenario.database is not None
        self.database: DatabaseFaults = scenario.database or NO_FAILURES
        self.longest_pause_s = LONGEST_ZOMBIE_S if in_postgres else LONGEST_PAUSE_S
        self.restart_within_s = 8.0 if in_postgres else 3.0
        self.lock_timeouts_s = (0.0,) * 9 + (0.3,) if in_postgres else (0.0, 0.0, 0.0, 0.3)
        self.history_lost_at = float("-inf")  # when a failover last began another history
        extras = scenario.extras
        self.cancel_chance = extras.cancel_chance
        self.observer_raises = extras.observer_raises
        self.policy: PolicyState | None = None  # the policy file as it is
        self.readable_policy: PolicyState | None = None  # as it was when it could be read
        self.names: dict[str, str] = {}
        self.identified_names: dict[str, str] = {}
        self._renamed = 0
        self.calm = False
        self.done = False
        self.is_out = False
        self.listening = tracing or scenario.seed % LISTEN_TO_ONE_IN == 0
        self.processes: dict[int, Process] = {}
        self._lives = 0
        self.rows_shown: dict[str, set[Family]] = defaultdict(set)  # by account, to any process
        self.news = 0  # how often something was written to the state
        self.pausings = 0  # how often a pause may have begun or ended
        self._unfought_at = -1  # what was on record when that was last looked at
        self._doubted_at: tuple[object, ...] = ()
        self._doubted_then: list[Family] = []
        self.auditor = Auditor(self)
        self.network = Network(self)
        self._make_exchange()
        self._make_hosts()
        self.accounts = sorted({owner(scenario, family) for family in scenario.families})
        self.keeping: Keeping = PostgresKeeping(self) if in_postgres else SqliteKeeping(self)
        self._schedule()
        self.auditor.published(0)

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Run everything until all is in sync, or a promise is broken."""
        bound = CONVERGES_WITHIN_S if self.scenario.database is None else POSTGRES_CONVERGES_WITHIN_S
        bound += 4 * len(self.scenario.families) * PER_REQUEST_S + self._slowness_s()
        bound += FILE_HEALS_WITHIN_S if self.scenario.extras.file is not None else 0.0
        while self.violation is None and not self.done:
            self.scheduler.step()
            late = self.scheduler.now - self.scenario.failure_s
            if late > bound:
                self.verify(checkers.converges, late, self._out_of_sync())
        self.stats.virtual_s = self.scheduler.now
        if self.violation is None:
            self.auditor.check_state()

    def _slowness_s(self) -> float:
        """Return how much longer everything may take: suspended machines, slow replies, fewer slots."""
        extras = self.scenario.extras
        round_trips_s = (extras.read_round_trip_s or 0.0) + (extras.write_round_trip_s or 0.0)
        suspended_s = (
            max((host.suspended_until for host in self.hosts), default=0.0) - self.scenario.failure_s
        )
        fates = {fate for fate, _ in self.scenario.fates}
        fates |= {extras.lasting.fate} if extras.lasting is not None else set()
        refused_s = REFUSED_AGAIN_S if fates & set(REFUSING) else 0.0
        fewer_slots = 2 if extras.lasting is not None else 0
        requests = 4 * len(self.scenario.families)
        return (
            max(0.0, suspended_s) + refused_s + requests * (3 * round_trips_s + fewer_slots * PER_REQUEST_S)
        )

    def close(self) -> None:
        """End all processes and forget the state."""
        for process in self.processes.values():
            process.dead = True
            process.task.kill()
        self.keeping.close()

    def verify(self, checker: Callable[..., str | None], *facts: Any) -> bool:
        """Check ``facts`` with a checker; False, and the end of this history, when it objects."""
        problem = checker(*facts)
        if problem is None:
            return True
        if self.violation is None:
            self.violation = Violation(checker.__name__, self.scheduler.now, problem)
            self.trace(None, "BROKEN %s: %s", checker.__name__, problem)
        return False

    def trace(self, process: Process | None, text: str, *values: object) -> None:
        """Add a line to the log, if it was requested."""
        if self.tracing:
            who = process.name if process else "world"
            self.lines.append(f"{self.scheduler.now:10.4f} {who:12} {text % values}")

    # -- setup -----------------------------------------------------------------------------------

    def _make_exchange(self) -> None:
        scenario = self.scenario
        account = fake_account(1)
        self.uid = account.uid
        self.key_id = account.keys[0].key_id
        key = account.keys[0]
        self.secrets = (key.key_id, key.secret, key.passphrase)
        self.signing_headers = {"OK-ACCESS-KEY": key.key_id, "OK-ACCESS-PASSPHRASE": key.passphrase}
        self.exchange = SimulatedExchange(
            (account,),
            families=(*scenario.families, FOREIGN_FAMILY),
            options=Options(
                rate=scenario.foreign_mode,
                count_refused=scenario.count_refused,
                read_delay_s=scenario.read_delay_s,
                list_disabled=scenario.list_disabled,
                numbers=scenario.numbers,
            ),
        )
        begin = scenario.extras.begin
        for family in scenario.families:
            before = self.rng.choice((None, *SETTINGS, DISABLED)) if begin is None else begin[family]
            if before is not None:
                self.exchange.seed_setting(self.uid, family, wire(before))
            self.truth.put_in_force(float("-inf"), family, before, own=False)
        if scenario.earlier_arrivals:
            self._earlier_arrivals()

    def _earlier_arrivals(self) -> None:
        """Two requests sent just before the history starts; neither is recorded."""
        for at in (-0.4, -0.2):
            self.exchange.set_mmp(self.key_id, FOREIGN_FAMILY, wire(SETTINGS[0]), at)
            self.truth.arrivals.append(at)

    def _make_hosts(self) -> None:
        self.hosts = [
            Host(
                f"host{number}",
                rate=1.0 + self.rng.choice((self.rng.uniform(-490e-6, 490e-6), 490e-6)),
                uptime=self.rng.choice((20.0, 1000.0, 5e6)),
                wall_offset_s=self.rng.uniform(-3.0, 3.0),
            )
            for number in range(self.scenario.hosts)
        ]

    def _schedule(self) -> None:
        scenario, at = self.scenario, self.scheduler.at
        for slot in range(len(scenario.roles)):
            at(self.rng.uniform(0.0, 3.0), self._start, slot)
        for version, (when, _) in enumerate(scenario.versions[1:], 1):
            at(when, self._publish, version)
        for times, action in (
            (scenario.kills_at, self._kill_one),
            (scenario.reboots_at, self._reboot),
            (scenario.stops_at, self._stop_one),
            (scenario.drifts_at, self._drift),
            (scenario.freezes_at, self._freeze),
            (scenario.wall_steps_at, self._step_wall),
            (scenario.clock_jumps_at, self._jump_clock),
            (scenario.foreign_at, self._foreign_request),
        ):
            for when in times:
                at(when, action)
        for begin, end in scenario.outages:
            at(begin, self._begin_outage)
            at(min(end, scenario.failure_s), self._end_outage)
        self.keeping.schedule()
        for begin, end in scenario.key_failures:
            at(begin, self._set_key, ("read_only",))
            at(min(end, scenario.failure_s), self._set_key, ("read_only", "trade"))
        if scenario.fighter_s is not None:
            at(scenario.fighter_s, self._contested)
        extras = scenario.extras
        for when, state in extras.policies:
            at(when, self._put_policy, state)
        for when, family, length_s in extras.pauses:
            at(when, self._pause, family, length_s)
        for when in extras.renames_at:
            at(when, self._rename)
        for when, length_s in extras.suspensions:
            at(when, self._suspend, length_s)
        at(scenario.failure_s, self._calm_down)

    # -- faults ----------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        host = self.hosts[self.scenario.places[slot] if self.scenario.places else slot % len(self.hosts)]
        if host.suspended_until > self.scheduler.now:
            self.scheduler.at(host.suspended_until, self._start, slot)
            return
        self._lives += 1
        self.news += 1
        role = self.scenario.roles[slot]
        account = f"desk-{slot % self.scenario.accounts}"
        process = Process(self, f"{role}-{slot}.{self._lives}", slot, account, host)
        self.processes[slot] = process
        self.trace(process, "started on %s, boot %d", host.name, host.boots)

    def process_ended(self, process: Process, error: BaseException | None) -> None:
        """Record how a process ended, and schedule its restart a little later."""
        unsettled = self.auditor.unsettled
        if error is None and self.scenario.lock_works:
            self.verify(checkers.stop_leaves_nothing_pending, unsettled, process.name)
        unsettled.pop(process.name, None)
        if isinstance(error, MmpError):
            self.auditor.spoken(process, f"{error} {error.hint}")
            if process.role is Role.RUN:
                self.verify(checkers.nothing_ends_a_run, process.name, error)
        elif (
            error is not None
            and not isinstance(error, Killed | CancelledError | ObserverFailed)
            and self.verify(checkers.no_slip, error)
        ):
            self.verify(checkers.no_crash, error)
        self.trace(process, "ended: %r", error)
        longest = self.restart_within_s if self.calm else 12.0
        self.scheduler.after(self.rng.uniform(0.05, longest), self._start, process.slot)

    def should_have_stopped(self, process: Process, asked_at: float) -> None:
        """Check that a process ended after a request to stop, apart from delays that others caused."""
        if process.dead:
            return
        due = asked_at + checkers.STOPS_WITHIN_S + process.held_up_so_far_s()
        if due > self.scheduler.now:
            self.scheduler.at(due, self.should_have_stopped, process, asked_at)
        else:
            self.verify(checkers.stops_soon, process.name, self.scheduler.now - asked_at)

    def _publish(self, version: int) -> None:
        if version <= self.files.version:
            return  # it was published before its time
        self.files.version = version
        self.trace(None, "file version %d: %s", version, self.scenario.versions[version][1])
        lags_s = self.scenario.extras.lags_s
        for process in self.processes.values():
            soon = self.rng.uniform(0.0, 1.2)
            if lags_s and not self.calm:
                self.scheduler.after(soon + lags_s[process.slot], process.accept, version)
            else:
                self.scheduler.after(soon, process.accept)
        self.auditor.published(version)

    def version_for(self, slot: int) -> int:
        """Return the version of the file that a process sees which begins now."""
        lags_s = self.scenario.extras.lags_s
        if not lags_s or self.calm or lags_s[slot] == 0.0:
            return self.files.version
        return self.files.at(self.scheduler.now - lags_s[slot])

    def file_of(self, account: str, version: int) -> Desired:
        """Return a version of the file of an account, by the name it has now."""
        return self.files.of(account, version, self.name_of(account))

    def name_of(self, account: str) -> str:
        """Return what the file calls an account now."""
        return self.names.get(account, account)

    # -- faults of single histories --------------------------------------------------------------

    def perhaps_edit(self, process: Process) -> None:
        """Publish the next version of the file now and then while a connection is being opened."""
        chance, following = self.scenario.extras.edit_chance, self.files.version + 1
        if not chance or following >= len(self.scenario.versions) or process.rng.random() >= chance:
            return
        self.scheduler.after(process.rng.uniform(0.0, 0.001), self._publish_for, process, following)

    def _publish_for(self, process: Process, version: int) -> None:
        self._publish(version)
        process.accept()

    def perhaps_drift_soon(self, process: Process) -> None:
        """Make something drift soon after a review, sometimes."""
        if not self.calm and process.rng.random() < 0.7:
            self.scheduler.after(process.rng.choice((0.0, process.rng.uniform(0.0, 12.0))), self._drift)

    def _put_policy(self, state: PolicyState) -> None:
        self.policy = state
        if not state.unreadable:
            self.readable_policy = state
        self.trace(None, "policy: %s", state)
        for process in self.processes.values():
            process.wake()

    def _pause(self, family: Family, length_s: float) -> None:
        if self.calm or family in self.truth.paused_at:
            return
        self.pausings += 1
        store = self.keeping.observer(owner(self.scenario, family))
        try:
            at_once(store.pause([family], until=None, reason="by hand"))
        except MmpError as unused:
            self.trace(None, "cannot be paused: %s", unused)
            return
        self.truth.paused_at[family] = self.scheduler.now
        self.trace(None, "%s paused by hand", family)
        self.scheduler.after(length_s, self._resume, family)

    def perhaps_pause(self, process: Process, family: Family) -> bool:
        """Pause a family that a process is about to write, sometimes; returns whether it did."""
        if self.calm or not self.scenario.extras.pauses or process.rng.random() >= PAUSED_AT_ONCE:
            return False
        self._pause(family, process.rng.uniform(1.0, 30.0))
        return True

    def pauses_fell_back(self) -> None:
        """Record which families are paused now that the state is what it was earlier."""
        before, self.truth.paused_at = self.truth.paused_at, {}
        self.pausings += bool(self.scenario.extras.pauses)
        for account in self.accounts if self.scenario.extras.pauses else ():
            for pause in at_once(self.keeping.observer(account).pauses()):
                if pause.contested is None:
                    since = before.get(pause.family, self.scheduler.now)
                    self.truth.paused_at[pause.family] = since

    def _resume(self, family: Family) -> None:
        if self.truth.paused_at.pop(family, None) is None:
            return
        self.pausings += 1
        at_once(self.keeping.observer(owner(self.scenario, family)).resume([family]))
        self.trace(None, "%s resumed by hand", family)

    def _rename(self) -> None:
        """Give an account another name; its processes are restarted with the file that says so."""
        account = self.rng.choice(self.accounts)
        self._renamed += 1
        self.names[account] = f"{account}-{self._renamed}"
        self.trace(None, "%s is called %s now", account, self.names[account])
        for process in tuple(self.processes.values()):
            if process.account == account:
                process.kill()

    def _suspend(self, length_s: float) -> None:
        """Suspend a machine: its clock stops, and nothing of its processes happens meanwhile."""
        host, now = self.rng.choice(self.hosts), self.scheduler.now
        if now < host.suspended_until:
            return
        length_s = min(length_s, max(self.scenario.failure_s - now, 0.2) + 10.0)
        host.suspend(now, length_s)
        self.trace(None, "%s suspended for %.1f s", host.name, length_s)
        for process in self.processes.values():
            if process.host is host:
                process.was_held_up(length_s)
                process.held_up_until = max(process.held_up_until, host.suspended_until)
                self.keeping.fell_silent(process)

    def _some_process(self) -> Process | None:
        living = [process for process in self.processes.values() if not process.dead]
        return self.rng.choice(living) if living else None

    def _kill_one(self) -> None:
        if process := self._some_process():
            process.kill()

    def _stop_one(self) -> None:
        process = self._some_process()
        if process is not None and process.host.suspended_until <= self.scheduler.now:
            self.trace(process, "SIGTERM")
            process.request_stop()

    def _reboot(self) -> None:
        host = self.rng.choice(self.hosts)
        for process in self.processes.values():
            if process.host is host:
                process.kill()
        host.reboot(self.scheduler.now, self.rng.choice((5.0, 30.0, 1e4)))
        self.trace(None, "%s rebooted", host.name)

    def _step_wall(self) -> None:
        host = self.rng.choice(self.hosts)
        host.wall_offset_s += self.rng.choice((-3600.0, -20.0, 20.0, 3600.0))

    def _jump_clock(self) -> None:
        if process := self._some_process():
            process.exchange.jump_clock()

    def _drift(self) -> None:
        family = self.rng.choice(self.scenario.families)
        setting = self.rng.choice((None, *SETTINGS, DISABLED))
        instead = wire(setting) if setting else None
        self.exchange.drift(self.uid, family, instead, self.scheduler.now)
        self.trace(None, "drift of %s to %s", family, setting)
        self.network.note_in_force(family, own=False)

    def _contested(self) -> None:
        """Set a family to something else, as a competing writer does, again and again."""
        if self.calm or self.scenario.fighter_s is None:
            return
        family = self.scenario.families[0]
        if not same_effect(self.truth.now_in_force(family), FIGHTERS_SETTING):
            self.exchange.drift(self.uid, family, wire(FIGHTERS_SETTING), self.scheduler.now)
            self.trace(None, "%s fought over", family)
            self.network.note_in_force(family, own=False)
        self.scheduler.after(self.scenario.fighter_s, self._contested)

    def _freeze(self) -> None:
        family = self.rng.choice(self.scenario.families)
        length_ms = round(1000 * self.rng.uniform(2.0, 25.0))
        self.exchange.freeze(self.uid, family, self.scheduler.now, ms=length_ms)
        self.trace(None, "%s frozen for %d ms", family, length_ms)

    def _foreign_request(self) -> None:
        setting = self.rng.choice(SETTINGS)
        self.exchange.set_mmp(self.key_id, FOREIGN_FAMILY, wire(setting), self.scheduler.now)
        self.trace(None, "a foreign request")

    def _begin_outage(self) -> None:
        self.is_out = True
        self.exchange.outage(self.scenario.failure_s)
        self.trace(None, "outage")

    def _end_outage(self) -> None:
        self.is_out = False
        self.exchange.outage(self.scheduler.now)
        self.trace(None, "outage over")

    def _set_key(self, permissions: tuple[str, ...]) -> None:
        self.exchange.put_account(fake_account(1, permissions=permissions))
        self.trace(None, "the key may %s", permissions)

    def _calm_down(self) -> None:
        self.calm = True
        self.database = NO_FAILURES
        self.kill_chance = self.pause_chance = self.read_failure = self.open_failure = 0.0
        self.cancel_chance = self.observer_raises = 0.0
        for family in tuple(self.truth.paused_at):
            self._resume(family)
        if self.scenario.extras.features:
            self._publish(len(self.scenario.versions) - 1)
            for process in self.processes.values():
                self.scheduler.after(self.rng.uniform(0.0, 1.2), process.accept)
        for family in self.scenario.families:
            self.exchange.unfreeze(self.uid, family)
        self.trace(None, "nothing fails from here on")
        self._look()

    # -- the end ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """End the history once all is in sync and nothing is on its way that could change it."""
        self._resume_what_was_contested_over()
        if self._out_of_sync() or self._under_way():
            self.scheduler.after(LOOK_EVERY_S, self._look)
        else:
            self.done = True

    def _resume_what_was_contested_over(self) -> None:
        """Resume the contested families, as a person does once the competing writer has stopped."""
        if self._unfought_at == self.keeping.writes(*PAUSES):
            return
        for account in self.accounts:
            store = self.keeping.observer(account)
            contested_setting = [
                pause.family for pause in at_once(store.pauses()) if pause.contested is not None
            ]
            if contested_setting:
                self.pausings += 1
                at_once(store.resume(contested_setting))
                self.trace(None, "resumed by hand: %s", contested_setting)
        self._unfought_at = self.keeping.writes(*PAUSES)

    def _under_way(self) -> bool:
        expected = self._expected()
        return any(
            self.network.may_take_effect(attempt) and attempt.family in expected
            for attempt in self.truth.attempts
        )

    def _out_of_sync(self) -> list[Family]:
        """Return the families that differ from the last file, at the exchange or in the store's records."""
        wanted = self.scenario.versions[-1][1]
        late = [
            family
            for family in self._expected()
            if not same_effect(self.truth.now_in_force(family), wanted[family])
            and not self._tolerated(family)
            and not self._waits_for_apply(family)
        ]
        return list(late) or self._doubted() or self.keeping.unnoticed()

    def _expected(self) -> list[Family]:
        """Return the families that nothing holds."""
        last, guarded, extras = self.scenario.versions[-1][1], self.scenario.guarded, self.scenario.extras
        return [
            family
            for family in self.scenario.families
            if not (guarded and (last[family].disabled or self._near_off(family, last[family])))
            and not (extras.lasting and extras.lasting.for_ever and extras.lasting.family == family)
            and not (extras.list_faults_last and extras.list_family == family)
        ]

    def _near_off(self, family: Family, wanted: Setting) -> bool:
        """Tell whether the pending change is as good as disabling, without an override for it."""
        before = [
            self.truth.now_in_force(family),
            *(one for one, _ in self.auditor.may_be_in_force(family)),
            *(one for one, _ in self.truth.accepted.get(family, ())[-1:]),
        ]
        return any(one is not None and as_good_as_off(one, wanted) for one in before)

    def _doubted(self) -> list[Family]:
        """Return the families whose record differs from the last file. Time alone changes nothing."""
        files = [(one.name, one.file_number) for one in self.processes.values()]
        changed = self.keeping.writes(*KNOWN), len(self.truth.rejected), *files
        if self._doubted_at != changed:
            self._doubted_then, self._doubted_at = self._doubted_now(), changed
        return self._doubted_then

    def _doubted_now(self) -> list[Family]:
        last = self.scenario.versions[-1][1]
        known = {
            family: one for account in self.accounts for family, one in self.on_record(account).items()
        }
        return [
            family
            for family in self._expected()
            if not (
                isinstance(one := known.get(family), Confirmed)
                and (
                    one.setting == last[family]
                    or self._may_stay_tighter(family, one.setting)
                    or self._tolerated(family)
                )
            )
            and not self._waits_for_apply(family)
            and not (
                (live := self.truth.now_in_force(family))
                and (
                    self._stays_refused(family, live)
                    or (family not in known and self._may_stay_tighter(family, live))
                )
            )
        ]

    def on_record(self, account: str) -> Mapping[Family, Known]:
        """Return the records, read from outside."""
        return at_once(self.keeping.observer(account).known())

    def sql_latency(self, process: Process) -> float:
        """Return how long one way to the server of the state takes this time."""
        return self.database.latency_s * (0.3 + process.rng.random())

    def _roles_for(self, account: str) -> set[Role]:
        roles, accounts = self.scenario.roles, self.scenario.accounts
        return {role for slot, role in enumerate(roles) if f"desk-{slot % accounts}" == account}

    def _tolerated(self, family: Family) -> bool:
        """Tell whether no process heals this drift: it is reported only."""
        if Role.APPLY in self._roles_for(owner(self.scenario, family)):
            return False
        live = self.truth.now_in_force(family)
        if live is not None and (self._may_stay_tighter(family, live) or self._stays_refused(family, live)):
            return True
        shown = self.truth.in_force[family][-1]
        lost = shown.by is not None and shown.by.settled_as is None  # no record says that mmp wrote it
        if not (lost and self.history_lost_at > float("-inf")) and (
            family not in self.truth.last_change_behind or shown.own
        ):
            return False
        if self.scenario.drift is DriftPolicy.HEAL:
            return False
        wanted = self.scenario.versions[-1][1][family]
        if self.scenario.drift is DriftPolicy.WARN:
            return True
        return live is not None and direction(wanted, live) not in LESS_SAFE

    def _stays_refused(self, family: Family, live: Setting) -> bool:
        """Tell whether the exchange rejected what is desired, and what is in force is nowhere looser."""
        wanted = self.scenario.versions[-1][1][family]
        return (family, wanted) in self.truth.rejected and not looser(wanted, live)

    def _waits_for_apply(self, family: Family) -> bool:
        """Tell whether only a person may write a family: its file loosens what a newer one had set.

        A file that was reverted while no process ran is held until ``mmp apply`` confirms it.
        """
        account = owner(self.scenario, family)
        if Role.APPLY in self._roles_for(account):
            return False
        processes = [one for one in self.processes.values() if one.account == account]
        newest = max((one.file_number for one in processes), default=0)
        wanted, live = self.scenario.versions[-1][1][family], self.truth.now_in_force(family)
        record = self.on_record(account).get(family)
        if isinstance(record, Confirmed) and looser(record.setting, wanted):
            recorded = max((one.recorded_number for one in processes), default=0)
            if 0 < recorded < record.file.number:
                return True
        return any(
            number > newest and (looser(setting, wanted) or looser(live, wanted))
            for setting, number in self.auditor.may_be_in_force(family)
        )

    def _may_stay_tighter(self, family: Family, setting: Setting) -> bool:
        """Tell whether a setting nowhere looser than desired may stay, because no process may loosen it.

        It was tightened outside mmp, and ``run`` only heals what became looser; or it was set by a file
        that is newer than that of every process.
        """
        account = owner(self.scenario, family)
        if Role.APPLY in self._roles_for(account) or looser(self.scenario.versions[-1][1][family], setting):
            return False
        wanted = self.scenario.versions[-1][1][family]
        if self.scenario.drift is not DriftPolicy.HEAL:
            tighter = {
                place
                for place, (now, want) in enumerate(zip(ranks(setting), ranks(wanted), strict=True))
                if now > want
            }
            is_lost = self.history_lost_at > float("-inf")  # and with it what was accepted
            if is_lost or tighter <= self.truth.set_by_others(family):
                return True
        proof = self.truth.proofs.get(family)
        numbers = [one.file_number for one in self.processes.values() if one.account == account]
        return proof is not None and all(number < proof.file_number for number in numbers)
