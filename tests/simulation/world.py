"""One seed, one history: the whole world, its troubles and its end.

For a while everything may fail that the seed lets fail; then nothing fails any more, and everything
has to come into sync within a bound. The exchange is the simulator's own, without sockets; between
it and the processes is a network that loses, delays and garbles. Nothing here asks the real time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from reconciler.core.direction import LESS_SAFE, direction
from reconciler.core.model import (
    Confirmed,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    Kind,
    Known,
    Setting,
    Source,
)
from reconciler.core.plan import DriftPolicy, Plan
from reconciler.core.verdict import AttemptStatus, Reply
from reconciler.errors import MmpError
from reconciler.ports import Reserved, Signed
from reconciler.simulator.accounts import fake_account
from reconciler.simulator.asks import Endpoint, MmpSetting
from reconciler.simulator.faults import Fault, FaultKind, ScriptedFault
from reconciler.simulator.messages import Envelope, Page, Said
from reconciler.simulator.options import Options
from reconciler.simulator.rules import SimulatedExchange
from reconciler.store.sqlite import MemoryDisk
from tests.simulation import checkers
from tests.simulation.host import Host, ObserverClock
from tests.simulation.ports import ANSWER_WITHIN_S, TIMEOUT, reply_of
from tests.simulation.process import Process
from tests.simulation.scenario import DISABLED, SETTINGS, Fate, Role, Scenario, draw
from tests.simulation.scheduler import Killed, Scheduler
from tests.simulation.truth import Attempt, Proof, Truth, same_effect

CONVERGES_WITHIN_S = 60.0 + 60.0 + 35.0 + 10.0 + 30.0 + 30.0
"""Stopped and retried, backed off at the longest, an unknown effect, unknown history, an interval, a
lock: all of these in a row. The requests themselves come on top."""

PER_REQUEST_S = 10.06
"""The slowest pace there is for one request: the other slot of each window taken by something else."""

LOOK_EVERY_S = 1.0

LISTEN_TO_ONE_IN = 8
"""Turning everything said into text takes longer than saying it: done in one history in eight."""

FOREIGN_FAMILY = "ADA-USD"
LATEST_LANDING_S = 34.95

_EXCHANGE_FAULTS = {
    Fate.REPLY_LOST: Fault(FaultKind.LOST, effect=True),
    Fate.PAGE: Fault(FaultKind.HTML_502, effect=False),
    Fate.PAGE_AFTER: Fault(FaultKind.HTML_502, effect=True),
    Fate.TRUNCATED: Fault(FaultKind.TRUNCATED, effect=True),
    Fate.WRONG_ECHO: Fault(FaultKind.WRONG_ECHO, effect=True),
    Fate.WRONG_ECHO_BEFORE: Fault(FaultKind.WRONG_ECHO, effect=False),
    Fate.TIMEOUT_CODE: Fault(FaultKind.CODE, effect=False, code="50004"),
    Fate.TIMEOUT_CODE_AFTER: Fault(FaultKind.CODE, effect=True, code="50004"),
    Fate.SYSTEM_ERROR: Fault(FaultKind.CODE, effect=False, code="50026"),
    Fate.BUSY: Fault(FaultKind.CODE, effect=False, code="50013"),
    Fate.UNAVAILABLE: Fault(FaultKind.CODE, effect=False, code="50009"),
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: by which checker's word, when, and how."""

    checker: str
    at: float
    detail: str


@dataclass(slots=True)
class Stats:
    """What a history amounted to."""

    virtual_s: float = 0.0
    kills: int = 0
    requests: int = 0
    port_calls: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """How one seed went. ``lines`` is its story, when it was asked for."""

    seed: int
    violation: Violation | None
    stats: Stats
    lines: tuple[str, ...] = ()


def play(seed: int, *, tracing: bool = False) -> History:
    """Play the history of ``seed`` to its end or to the first broken promise."""
    world = World(draw(seed), tracing=tracing)
    try:
        world.run()
    finally:
        world.close()
    return History(seed, world.violation, world.stats, tuple(world.lines))


@dataclass(slots=True)
class _Files:
    """The desired files: one version after another, the same for every reader."""

    scenario: Scenario
    version: int = 0
    _made: dict[tuple[int, str], Desired] = field(default_factory=dict)

    def of(self, account: str) -> Desired:
        key = (self.version, account)
        if key not in self._made:
            self._made[key] = self._make(account)
        return self._made[key]

    def _make(self, account: str) -> Desired:
        _, settings = self.scenario.versions[self.version]
        place = Source("mmp.yaml", 1, 1)
        owned = {
            family: DesiredFamily(setting, place)
            for family, setting in settings.items()
            if owner(self.scenario, family) == account
        }
        return Desired(account, Environment.LIVE, owned, "mmp.yaml", f"{self.version}")


def owner(scenario: Scenario, family: Family) -> str:
    """Return the account that manages a family: all of them are of one User ID."""
    if scenario.accounts == 1 or family not in scenario.families:
        return "desk-0"
    return f"desk-{scenario.families.index(family) % scenario.accounts}"


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
        self.disk = MemoryDisk()
        self.files = _Files(scenario)
        self.kill_chance = scenario.kill_chance
        self.pause_chance = scenario.pause_chance
        self.read_trouble = scenario.read_trouble
        self.open_trouble = scenario.open_trouble
        self.calm = False
        self.done = False
        self.is_out = False
        self.listening = tracing or scenario.seed % LISTEN_TO_ONE_IN == 0
        self.processes: dict[int, Process] = {}
        self._lives = 0
        self.news = 0  # how often something was written to the state
        self._unsettled: dict[str, Attempt] = {}
        self._make_exchange()
        self._make_hosts()
        outside = self.disk.open(clock=ObserverClock(self.scheduler), boot="observer")
        self.observers = {
            account: outside.account(account, Environment.LIVE, Kind.SIMULATOR)
            for account in sorted({owner(scenario, family) for family in scenario.families})
        }
        self._schedule()

    # -- the course of it ------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything happen until all is in sync, or a promise is broken."""
        bound = CONVERGES_WITHIN_S + 4 * len(self.scenario.families) * PER_REQUEST_S
        while self.violation is None and not self.done:
            self.scheduler.step()
            late = self.scheduler.now - self.scenario.trouble_s
            if late > bound:
                self.verify(checkers.converges, late, self._out_of_sync())
        self.stats.virtual_s = self.scheduler.now
        if self.violation is None:
            self._check_state_for_secrets()

    def close(self) -> None:
        """End all processes and forget the state."""
        for process in self.processes.values():
            process.dead = True
            process.task.kill()
        self.disk.close()

    def verify(self, checker: Callable[..., str | None], *facts: Any) -> bool:
        """Hold ``facts`` against a checker; False, and the end of this history, when it objects."""
        problem = checker(*facts)
        if problem is None:
            return True
        if self.violation is None:
            self.violation = Violation(checker.__name__, self.scheduler.now, problem)
            self.trace(None, "BROKEN %s: %s", checker.__name__, problem)
        return False

    def trace(self, process: Process | None, text: str, *values: object) -> None:
        """Add a line to the story, when someone wants to read it."""
        if self.tracing:
            who = process.name if process else "world"
            self.lines.append(f"{self.scheduler.now:10.4f} {who:12} {text % values}")

    # -- the making of it ------------------------------------------------------------------------

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
        for family in scenario.families:
            before = self.rng.choice((None, *SETTINGS, DISABLED))
            if before is not None:
                self.exchange.begin_with(self.uid, family, _wire(before))
            self.truth.put_in_force(float("-inf"), family, before, own=False)
        if scenario.earlier_arrivals:
            self._earlier_arrivals()

    def _earlier_arrivals(self) -> None:
        """Two requests of ours just before the story: nobody has them on record."""
        for at in (-0.4, -0.2):
            self.exchange.set_mmp(self.key_id, FOREIGN_FAMILY, _wire(SETTINGS[0]), at)
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
            at(min(end, scenario.trouble_s), self._end_outage)
        for begin, end in scenario.key_troubles:
            at(begin, self._set_key, ("read_only",))
            at(min(end, scenario.trouble_s), self._set_key, ("read_only", "trade"))
        at(scenario.trouble_s, self._calm_down)

    # -- troubles --------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        self._lives += 1
        self.news += 1
        role = self.scenario.roles[slot]
        account = f"desk-{slot % self.scenario.accounts}"
        host = self.hosts[slot % len(self.hosts)]
        process = Process(self, f"{role}-{slot}.{self._lives}", slot, account, host)
        self.processes[slot] = process
        self.trace(process, "started on %s, boot %d", host.name, host.boots)

    def process_ended(self, process: Process, error: BaseException | None) -> None:
        """Note how a process ended, and have it started again a little later."""
        unsettled = self._unsettled
        if error is None and self.scenario.lock_works:
            self.verify(checkers.stop_leaves_nothing_pending, unsettled, process.name)
        unsettled.pop(process.name, None)
        if isinstance(error, MmpError):
            self.spoken(process, f"{error} {error.hint}")
        elif error is not None and not isinstance(error, Killed):
            self.verify(checkers.no_crash, error)
        self.trace(process, "ended: %r", error)
        longest = 3.0 if self.calm else 12.0
        self.scheduler.after(self.rng.uniform(0.05, longest), self._start, process.slot)

    def should_have_stopped(self, process: Process, asked_at: float) -> None:
        """Check that a process that was asked to stop did, delays that were none of its own aside."""
        if process.dead:
            return
        due = asked_at + checkers.STOPS_WITHIN_S + process.held_up_ever_s
        if due > self.scheduler.now:
            self.scheduler.at(due, self.should_have_stopped, process, asked_at)
        else:
            self.verify(checkers.stops_soon, process.name, self.scheduler.now - asked_at)

    def _publish(self, version: int) -> None:
        self.files.version = version
        self.trace(None, "file version %d: %s", version, self.scenario.versions[version][1])
        for process in self.processes.values():
            self.scheduler.after(self.rng.uniform(0.0, 1.2), process.accept_newest)

    def file_of(self, account: str) -> Desired:
        """Return the file of an account as it is now."""
        return self.files.of(account)

    def _some_process(self) -> Process | None:
        living = [process for process in self.processes.values() if not process.dead]
        return self.rng.choice(living) if living else None

    def _kill_one(self) -> None:
        if process := self._some_process():
            process.kill()

    def _stop_one(self) -> None:
        if process := self._some_process():
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
        wire = _wire(setting) if setting else None
        self.exchange.drift(self.uid, family, wire, self.scheduler.now)
        self.trace(None, "drift of %s to %s", family, setting)
        self._note_in_force(family, own=False)

    def _freeze(self) -> None:
        family = self.rng.choice(self.scenario.families)
        length_ms = round(1000 * self.rng.uniform(2.0, 25.0))
        self.exchange.freeze(self.uid, family, self.scheduler.now, ms=length_ms)
        self.trace(None, "%s frozen for %d ms", family, length_ms)

    def _foreign_request(self) -> None:
        setting = self.rng.choice(SETTINGS)
        self.exchange.set_mmp(self.key_id, FOREIGN_FAMILY, _wire(setting), self.scheduler.now)
        self.trace(None, "a foreign request")

    def _begin_outage(self) -> None:
        self.is_out = True
        self.exchange.outage(self.scenario.trouble_s)
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
        self.kill_chance = self.pause_chance = self.read_trouble = self.open_trouble = 0.0
        for family in self.scenario.families:
            self.exchange.unfreeze(self.uid, family)
        self.trace(None, "nothing fails from here on")
        self._look()

    # -- the network -----------------------------------------------------------------------------

    def latency(self, process: Process) -> float:
        """Return how long one way takes this time."""
        draw = process.rng.random()
        slow = 8.0 if draw > 0.97 else 1.0
        return self.scenario.latency_s * (0.3 + draw) * slow

    def draw_fate(self, process: Process) -> Fate:
        """Return what becomes of the next request."""
        left = process.rng.random()
        for fate, chance in () if self.calm else self.scenario.fates:
            left -= chance
            if left < 0:
                return fate
        return Fate.FINE

    def write(self, process: Process, request: Signed, fate: Fate, wake: Callable[[Any], None]) -> None:
        """Send a request's bytes on their way; ``wake`` is given the reply, sooner or later."""
        attempt = self._unsettled.get(process.name)
        if attempt is None or attempt.request is not request:
            attempt = None
        self.verify(checkers.one_transmission_per_reservation, attempt)
        if self.scenario.lock_works:
            waiting = [
                other.name
                for other in self.processes.values()
                if other.account == process.account and not other.dead and self._was_written(other)
            ]
            self.verify(checkers.one_request_in_flight, waiting, process.name)
        if attempt is None:
            return
        attempt.written = True
        now = self.scheduler.now
        self.trace(process, "wrote attempt %d, %s", attempt.number, fate)
        self.scheduler.at(
            now + self._gives_up_after(process, fate), wake, self._said_instead(process, fate)
        )
        if fate is Fate.LOST:
            return
        attempt.lands_at = self._lands_at(process, attempt, fate)
        attempt.signed_for = float(request.timestamp)
        self.scheduler.at(attempt.lands_at, self._land, attempt, fate, self.latency(process), wake)

    def _was_written(self, process: Process) -> bool:
        attempt = self._unsettled.get(process.name)
        return attempt is not None and attempt.written

    def _gives_up_after(self, process: Process, fate: Fate) -> float:
        if fate in (Fate.LOST, Fate.LATE, Fate.REPLY_LOST):
            return process.rng.choice((0.05, process.rng.uniform(0.1, 9.0), ANSWER_WITHIN_S))
        return ANSWER_WITHIN_S

    def _said_instead(self, process: Process, fate: Fate) -> Reply:
        """Return what the client makes of no reply; a late request may have been given up by a gateway."""
        if fate is Fate.LATE and process.rng.random() < 0.5:
            return reply_of(process.rng.choice((Page(504), Envelope("50004", "timeout", None))))
        return TIMEOUT

    def _lands_at(self, process: Process, attempt: Attempt, fate: Fate) -> float:
        now = self.scheduler.now
        if fate is not Fate.LATE:
            return now + self.latency(process)
        latest = attempt.reserved_at + LATEST_LANDING_S
        soon = now + process.rng.uniform(0.05, 12.0)
        still_valid = attempt.reserved_at + process.rng.uniform(15.0, checkers.VALID_S)
        return min(latest, process.rng.choice((soon, still_valid, latest)))

    def _land(self, attempt: Attempt, fate: Fate, back: float, wake: Callable[[Any], None]) -> None:
        attempt.landed = True
        now = self.scheduler.now
        self.stats.requests += 1
        self.truth.arrivals.append(now)
        self.verify(checkers.rate, self.truth.arrivals)
        reply = self._answer(attempt, fate)
        self.trace(None, "attempt %d landed: %s", attempt.number, reply.code)
        if fate in (Fate.LATE, Fate.REPLY_LOST):
            return
        if fate is Fate.SLOW:
            back += 1.5 * ANSWER_WITHIN_S * self.rng.random()
        self.scheduler.after(back, wake, reply)

    def _answer(self, attempt: Attempt, fate: Fate) -> Reply:
        now = self.scheduler.now
        if not self._signature_is_valid(attempt):
            return reply_of(Envelope("50102", "Timestamp request expired.", None))
        if fate in _EXCHANGE_FAULTS and not self.is_out:
            self.exchange.inject(ScriptedFault(Endpoint.SET, _EXCHANGE_FAULTS[fate]))
        said: Said = self.exchange.set_mmp(self.key_id, attempt.family, _wire(attempt.setting), now).said
        self._note_in_force(attempt.family, own=True)
        return reply_of(said)

    def _may_take_effect(self, attempt: Attempt) -> bool:
        on_its_way = attempt.lands_at is not None and not attempt.landed
        return on_its_way and self._signature_is_valid(attempt)

    def _signature_is_valid(self, attempt: Attempt) -> bool:
        landed_at = attempt.lands_at or 0.0
        return abs(landed_at - attempt.signed_for) <= checkers.VALID_S

    def _note_in_force(self, family: Family, *, own: bool) -> None:
        wire = self.exchange.settings(self.uid).get(family)
        self.truth.put_in_force(self.scheduler.now, family, _setting(wire), own=own)

    # -- what the store was told -------------------------------------------------------------------

    def reserved(
        self, process: Process, request: Signed, slot: Reserved, known: Mapping[Family, Known]
    ) -> None:
        """Check and note a reservation."""
        scenario, family, setting = self.scenario, request.family, request.setting
        attempt = Attempt(
            slot.attempt, process.name, process.account, request, self.scheduler.now, slot.reserved_at
        )
        self.trace(process, "reserved attempt %d: %s %s", slot.attempt, family, setting)
        self.truth.attempts[slot.attempt] = attempt
        self.news += 1
        self.truth.open_by_family.setdefault(family, []).append(attempt)
        self._unsettled[process.name] = attempt
        wanted = process.told.families.get(family)
        self.verify(checkers.only_accepted_settings, (family, setting), wanted and wanted.setting)
        newest = process.reads[0] if process.reads else None
        if scenario.live:
            self.verify(checkers.frozen_not_written, family, newest)
            self.verify(checkers.read_before_write, self.scheduler.now, newest, process.held_up_s)
        if scenario.guarded:
            reads = tuple(process.reads)
            self.verify(checkers.disabling_is_guarded, family, setting, known.get(family), reads)
        if scenario.lock_works and process.role is Role.RUN:
            facts = (family, setting, known.get(family), newest, scenario.drift)
            self.verify(checkers.drift_policy_kept, *facts)
        if scenario.lock_works:
            self.verify(
                checkers.no_request_without_difference,
                family,
                setting,
                known.get(family),
                tuple(process.reads),
                slot.reserved_at,
            )

    def settled(
        self, process: Process, number: int, status: AttemptStatus, known: Mapping[Family, Known]
    ) -> None:
        """Check and note a verdict on record."""
        attempt = self.truth.attempts[number]
        attempt.settled_as = status.value
        self.news += 1
        self._unsettled.pop(process.name, None)
        self.trace(process, "settled attempt %d: %s", number, status)
        if status is AttemptStatus.APPLIED:
            self._proved(attempt.family, attempt.setting, attempt.reserved_at)
        self._check_settled(known, attempt.family)

    def adopted(
        self, process: Process, settings: Mapping[Family, Setting], known: Mapping[Family, Known]
    ) -> None:
        """Check and note an adoption on record."""
        begun_at = process.reads[0].begun_at if process.reads else float("inf")
        for family, setting in settings.items():
            self._proved(family, setting, begun_at - self.scenario.read_delay_s)
            self._check_settled(known, family)

    def _proved(self, family: Family, setting: Setting, since: float) -> None:
        self.verify(checkers.applied_implies_live, family, setting, since, self.truth)
        self.news += 1
        self.truth.proofs[family] = Proof(setting, since, self.scheduler.now)

    def _check_settled(self, known: Mapping[Family, Known], family: Family) -> None:
        if self.scenario.lock_works:
            flights = [
                attempt
                for attempt in self.truth.open_by_family.get(family, ())
                if self._may_take_effect(attempt)
            ]
            self.verify(checkers.settled_stays_settled, family, known.get(family), flights)

    def check_record(self, account: str, known: Mapping[Family, Known]) -> None:
        """Check what the store says of an account against what it was told."""
        if not self.scenario.lock_works:
            return
        for family in self.scenario.families:
            if owner(self.scenario, family) == account:
                proof = self.truth.proofs.get(family)
                if proof is not None:
                    self.verify(checkers.proof_survives, family, known.get(family), proof)
                self.verify(checkers.doubt_survives, family, known.get(family), self._doubts(family))

    def _doubts(self, family: Family) -> list[Attempt]:
        """Return the attempts that had no verdict yet when the family's last proof was made."""
        proof = self.truth.proofs.get(family)
        return [
            attempt
            for attempt in self.truth.open_by_family.get(family, ())
            if attempt.settled_as in (None, AttemptStatus.UNKNOWN.value)
            and (proof is None or attempt.reserved_at > proof.recorded_at)
        ]

    # -- what was said ---------------------------------------------------------------------------

    def claimed(self, process: Process, plan: Plan) -> None:
        """Check what a plan says is in sync."""
        newest = process.reads[0] if process.reads else None
        for family in plan.unchanged if self.scenario.lock_works else ():
            wanted = process.told.families.get(family)
            if wanted is not None:
                facts = (family, wanted.setting, self.truth, newest, self.scenario.read_delay_s)
                self.verify(checkers.in_sync_is_true, *facts)
        if self.listening:
            self.spoken(process, repr(plan))

    def spoken(self, process: Process, text: str) -> None:
        """Check a text that people or logs get to see."""
        self.verify(checkers.no_secret, text, self.secrets)

    def _check_state_for_secrets(self) -> None:
        image = self.disk._db.serialize()  # all that is on the disk, said nowhere or not
        self.verify(checkers.no_secret, image.decode("latin-1"), self.secrets)

    # -- the end of it ---------------------------------------------------------------------------

    def _look(self) -> None:
        """End the story once all is in sync and nothing is on its way that could change it."""
        if self._out_of_sync() or self._under_way():
            self.scheduler.after(LOOK_EVERY_S, self._look)
        else:
            self.done = True

    def _under_way(self) -> bool:
        return any(self._may_take_effect(attempt) for attempt in self.truth.attempts.values())

    def _out_of_sync(self) -> list[Family]:
        """Return the families that are not as the last file says and as the store believes."""
        wanted = self.scenario.versions[-1][1]
        late = [
            family
            for family in self._expected()
            if not same_effect(self.truth.now_in_force(family), wanted[family])
            and not self._tolerated(family)
        ]
        return list(late) or self._doubted()

    def _expected(self) -> list[Family]:
        """Return the families that nothing holds back."""
        last = self.scenario.versions[-1][1]
        guarded = self.scenario.guarded
        return [family for family in self.scenario.families if not (guarded and last[family].disabled)]

    def _doubted(self) -> list[Family]:
        last = self.scenario.versions[-1][1]
        known = {family: one for account in self.observers for family, one in self._known(account).items()}
        return [
            family
            for family in self._expected()
            if not (isinstance(one := known.get(family), Confirmed) and one.setting == last[family])
        ]

    def _known(self, account: str) -> Mapping[Family, Known]:
        """Return what is on record, as one who only looks."""
        reading = self.observers[account].known()
        try:
            reading.send(None)
        except StopIteration as done:
            known: Mapping[Family, Known] = done.value
            return known
        raise AssertionError("the state answers at once")

    def _roles_for(self, account: str) -> set[Role]:
        roles, accounts = self.scenario.roles, self.scenario.accounts
        return {role for slot, role in enumerate(roles) if f"desk-{slot % accounts}" == account}

    def _tolerated(self, family: Family) -> bool:
        """Tell whether nobody heals this drift: it is reported only."""
        if Role.APPLY in self._roles_for(owner(self.scenario, family)):
            return False
        if family not in self.truth.last_change_behind or self.truth.in_force[family][-1].own:
            return False
        if self.scenario.drift is DriftPolicy.HEAL:
            return False
        live = self.truth.now_in_force(family)
        wanted = self.scenario.versions[-1][1][family]
        if self.scenario.drift is DriftPolicy.WARN:
            return True
        return live is not None and direction(wanted, live) not in LESS_SAFE


def _wire(setting: Setting) -> MmpSetting:
    return _WIRE[setting]


def _setting(wire: MmpSetting | None) -> Setting | None:
    return None if wire is None else _FROM_WIRE[wire]


_WIRE = {
    setting: MmpSetting(
        str(setting.time_interval_ms), str(setting.frozen_interval_ms), setting.qty_limit.text
    )
    for setting in (*SETTINGS, DISABLED)
}
_FROM_WIRE = {wire: setting for setting, wire in _WIRE.items()}
