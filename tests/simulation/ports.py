"""The ports of one simulated process: its clock, its view of the state, and its way to the exchange.

Every call may be the last one, before or after its effect. Every call may take long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.core.accepted_settings import History
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import SeenRow, last_proof
from reconciler.core.model import (
    NO_FILE,
    Accepting,
    AccountInfo,
    Desired,
    Family,
    FileVersion,
    Known,
    LiveRead,
    NeverApplied,
    Pause,
    Setting,
)
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.reservation import (
    AttemptResult,
    RecordedInputs,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.core.retry import NO_TRIES
from reconciler.okx.codes import lookup
from reconciler.ports import NO_ACCEPTING
from reconciler.simulator.http_messages import ReplyBody, ReplyEnvelope
from reconciler.store.account_store import SqlAccountStore
from tests.simulation import checkers, guard_checkers
from tests.simulation.ground_truth import SeenRead
from tests.simulation.host import NOTICED_S
from tests.simulation.list_replies import SeenList, read_list, read_set_reply
from tests.simulation.scenario import CHECKS, Check, Fate, PolicyState
from tests.simulation.scheduler import suspend

if TYPE_CHECKING:
    from tests.simulation.process import Process

ANSWER_WITHIN_S = 10.0
"""After this long without a reply a client gives up."""

BETWEEN_S = 0.05
"""How long before a reservation a person pauses the family, now and then."""

ROWS_COUNT = ("0", "1", "2")
"""A reply with another code has no usable rows, so the parser need not run."""

T = TypeVar("T")

NOT_SENT = Reply(ReplyClass.NOT_SENT, "connect", "the connection failed before a byte was written")
TIMEOUT = Reply(ReplyClass.NO_ANSWER, "timeout", "no reply")


class ProcessClock:
    """The clock of one process: that of its machine, with pauses that end late, or early."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._scheduler = process.world.scheduler
        self._host = process.host

    def now(self) -> float:
        """Return the machine's monotonic time."""
        return self._host.monotonic(self._scheduler.now)

    def wall(self) -> datetime:
        """Return the machine's idea of the time of day."""
        return self._host.wall(self._scheduler.now)

    def suspended_s(self) -> float:
        """Return for how long the machine was suspended since it booted."""
        return self._host.suspended_s()

    async def sleep_until(self, until: float) -> None:
        """Wait, a little too long, or not long enough."""
        process = self._process
        process.call("pause")
        process.pauses_between_reads()
        await process.hold_up()
        woken, process.woken = process.woken, False
        if until <= self.now() or woken:
            return
        rng = process.rng
        when = self._host.true_time(until) + rng.uniform(0.0001, 0.004)
        if rng.random() < 0.03:
            when = rng.uniform(self._scheduler.now, min(when, self._scheduler.now + 60.0))
        process.idle = True
        process.task.wake_at(when)
        await suspend()
        process.idle = False
        await process.hold_up()


@dataclass(frozen=True, slots=True)
class Basis:
    """What a request rests on: what is desired, known and read, as its process has it.

    ``file`` is the newest file that its process was given, and ``policy`` the policy of that moment;
    ``family_reads`` are the newest reads of one family each, ``last_rows`` the rows last seen.
    ``asked_at``: since when, in true time, the state is asked for the reservation.
    """

    wanted: Setting | None
    known: Mapping[Family, Known]
    reads: tuple[SeenRead, ...]
    file: Desired
    policy: PolicyState | None
    family_reads: Mapping[Family, SeenRead]
    last_rows: Mapping[Family, Setting]
    asked_at: float
    file_number: int
    """Of the file that its process last put on record."""
    accepting: Setting | None = None
    """What becomes the accepted setting with the request."""

    @classmethod
    def of(cls, process: Process, family: Family, known: Mapping[Family, Known]) -> Basis:
        """Return what a request for ``family`` rests on at this moment."""
        file = process.accepted if Check.NEWEST_FILE in CHECKS else process.message
        wanted = file.families.get(family)
        return cls(
            wanted=wanted.setting if wanted else None,
            known=known,
            reads=tuple(process.reads),
            file=file,
            policy=process.world.policy,
            family_reads=dict(process.family_reads),
            last_rows=process.last_rows,
            asked_at=process.world.scheduler.now,
            file_number=process.file_number,
        )


class WatchedStore:
    """The real store; every call may be the last, and the truth keeps track of what was recorded."""

    def __init__(self, process: Process, store: SqlAccountStore) -> None:
        self._process = process
        self._world = process.world
        self._store = store
        self._last_known: Mapping[Family, Known] = {}
        self._last_retries = NO_TRIES
        self._last_accepted: Mapping[Family, History] = {}
        self._known_at = -1
        self._last_pauses: tuple[Pause, ...] = ()
        self._pauses_at = -1

    def known_last(self) -> Mapping[Family, Known]:
        """Return what was known at the process's last query."""
        return self._last_known

    @asynccontextmanager
    async def locked(self, purpose: str, *, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Take the real lock; in some worlds it does not exclude others."""
        self._process.call("store.locked")
        self._process.new_pass()
        try:
            if not self._world.scenario.lock_works:
                yield
                return
            async with self._store.locked(purpose, timeout_s=timeout_s):
                self._process.perhaps_die()
                yield
        finally:
            self._process.ended_pass()

    async def identify(self, uid: str, host: str) -> str | None:
        self._process.call("store.identify")
        previous = await self._store.identify(uid, host)
        self._world.identified_names[self._process.account] = self._process.stored_as
        self._process.perhaps_die()
        return previous

    async def recorded_inputs(self) -> RecordedInputs:
        self._process.call("store.grounds")
        if not self._world.listening and self._known_at == self._world.news:
            # Most histories do not query again while no process wrote: the answer would be the same.
            pauses, ledger = await self._pauses(), await self._store.ledger()
            return RecordedInputs(self._last_known, pauses, ledger, self._last_retries, self._last_accepted)
        self._known_at = self._world.news
        self._pauses_at = self._world.pausings
        read_inputs = await self._store.recorded_inputs()
        self._last_known, self._last_pauses = read_inputs.known, read_inputs.pauses
        self._last_retries, self._last_accepted = read_inputs.retries, read_inputs.accepted
        self._world.auditor.check_record(self._process.account, self._last_known)
        return read_inputs

    async def _pauses(self) -> tuple[Pause, ...]:
        if self._last_pauses or self._pauses_at != self._world.pausings:
            # Where there was none there is none, until one begins.
            self._pauses_at = self._world.pausings
            self._last_pauses = await self._store.pauses()
        return self._last_pauses

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        process = self._process
        process.call("store.accept_file")
        version = await self._store.accept_file(sha256, changed=changed)
        process.file_accepted(sha256, changed=changed)
        process.recorded_number = version.number
        self._world.trace(process, "file %s is number %d; changed: %s", sha256, version.number, changed)
        process.perhaps_die()
        return version

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        process = self._process
        process.call("store.reserve")
        basis = Basis.of(process, request.family, self._last_known)
        await process.hold_up()
        if self._world.perhaps_pause(process, request.family):
            await process.held_up_for(BETWEEN_S)
        accepts = None if options.accepting is None else options.accepting.setting
        basis = replace(basis, asked_at=self._world.scheduler.now, accepting=accepts)
        process.pauses_between_reads()
        slot = await self._store.reserve(request, options)
        if isinstance(slot, Reservation):
            self._world.auditor.reserved(process, request, slot, basis).answered = True
        process.perhaps_die()
        await process.hold_up()
        return slot

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        process = self._process
        process.call("store.settle")
        await process.hold_up()
        self._world.auditor.judged(process, definite=result.definite, tried=result.tried, code=result.code)
        await self._store.settle(attempt, result)
        self._world.auditor.settled(
            process, result.status, await self._store.known(), limited=result.limited
        )
        process.perhaps_die()

    async def adopt(
        self,
        settings: Mapping[Family, Setting],
        *,
        read_begun_at: float,
        file: FileVersion = NO_FILE,
        accepting: Mapping[Family, Accepting] = NO_ACCEPTING,
    ) -> frozenset[Family]:
        process = self._process
        process.call("store.adopt")
        if not self._world.scenario.lock_works:
            await process.hold_up()
            if process.rng.random() < 0.3:
                await process.held_up_for(process.rng.uniform(0.2, 4.0))  # others may write meanwhile
        adopted = await self._store.adopt(
            settings, read_begun_at=read_begun_at, file=file, accepting=accepting
        )
        recorded = {family: settings[family] for family in adopted}
        begun_at, known = process.begun_at(read_begun_at), await self._store.known()
        for family in recorded:
            proof = last_proof(known.get(family, NeverApplied()))
            proven_at = float("-inf") if proof is None else proof.at
            facts = family, proven_at, read_begun_at
            self._world.verify(guard_checkers.as_old_as_its_read, *facts)
        self._world.auditor.adopted(process, recorded, begun_at, known)
        self._world.auditor.accepted_live(
            process, {family: one.setting for family, one in accepting.items() if family in adopted}
        )
        process.perhaps_die()
        return adopted

    async def record_in_force(self, families: Collection[Family]) -> None:
        self._process.call("store.record_in_force")
        await self._store.record_in_force(families)

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        process = self._process
        process.call("store.end_attempts")
        await self._store.end_attempts(families, read_begun_at=read_begun_at)
        begun_at = process.begun_at(read_begun_at)
        self._world.news += 1
        self._world.auditor.attempts_ended(families, begun_at, await self._store.known())
        process.perhaps_die()

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        contested_setting: Mapping[Family, Setting] | None = None,
    ) -> None:
        self._process.call("store.pause")
        self._world.pausings += 1
        await self._store.pause(families, until=until, reason=reason, contested_setting=contested_setting)
        self._process.perhaps_die()

    async def check_identity(self, uid: str) -> None:
        self._process.call("store.check_identity")
        await self._store.check_identity(uid)

    async def try_control(self, purpose: str) -> bool:
        return not self._world.scenario.lock_works or await self._store.try_control(purpose)

    async def release_control(self) -> None:
        await self._store.release_control()

    async def controller(self) -> LockHolder | None:
        return await self._store.controller()

    async def clear_heal_breakers(self, contested_setting: Mapping[Family, Setting]) -> None:
        self._process.call("store.clear_heal_breakers")
        self._world.pausings += 1
        await self._store.clear_heal_breakers(contested_setting)
        self._process.perhaps_die()

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        self._process.call("store.record_override")
        await self._store.record_override(family, refusal=refusal, reason=reason)

    async def record_live(self, read: LiveRead, **more: Any) -> None:
        self._process.call("store.record_live")
        if self._world.listening:  # it is for people only, and the most expensive call
            await self._store.record_live(read, **more)

    async def last_rows(self) -> Mapping[Family, SeenRow]:
        """Return none: in most histories no read is recorded, and reporting one must not change it."""
        return {}

    async def record_states(self, states: Mapping[Family, str]) -> None:
        self._process.call("store.record_states")
        await self._store.record_states(states)


class SimulatedClient:
    """The exchange as one process sees it: requests and replies over a network that fails."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._clock = process.clock
        self._clock_error_s = process.rng.uniform(-2.5, 2.5)
        self._answered_at = self._answered_local = 0.0
        self.failed_at = float("-inf")
        if self._world.scenario.bad_clock and process.rng.random() < 0.5:
            self.jump_clock()

    def jump_clock(self) -> None:
        """Make the measured offset of the exchange's clock wrong, as a suspended machine does."""
        self._clock_error_s = self._process.rng.choice((-1.0, 1.0)) * self._process.rng.uniform(33.0, 60.0)

    async def account(self) -> AccountInfo | Reply:
        return await self._ask("exchange.account", self._account)

    async def read_live(self) -> LiveRead | Reply:
        process = self._process
        begun_at, begun_local = self._world.scheduler.now, self._clock.now()
        process.begins_read(begun_local)
        seen = await self._ask("exchange.read_live", lambda: self._list(begun_local))
        if isinstance(seen, Reply):
            return seen
        read = seen.ended(self._answered_local)
        process.ended_read(SeenRead(begun_at, read, self._answered_at, seen.odd))
        return read

    async def read_family(self, family: Family) -> LiveRead | Reply:
        process = self._process
        begun_at, begun_local = self._world.scheduler.now, self._clock.now()
        seen = await self._ask("exchange.read_family", lambda: self._list(begun_local, family))
        if isinstance(seen, Reply):
            return seen
        read = seen.ended(self._answered_local)
        process.family_reads[family] = SeenRead(begun_at, read, self._answered_at)
        return read

    async def sync_clock(self) -> Reply | None:
        return await self._ask("exchange.sync_clock", lambda: None)

    async def open(self) -> SimulatedConnection | Reply:
        process, world = self._process, self._world
        process.call("exchange.open")
        world.perhaps_edit(process)
        took = world.network.latency(process)
        failing = world.is_out or process.rng.random() < world.open_failure
        if failing:
            took = process.rng.choice((took, process.rng.uniform(0.1, 8.0)))
        process.task.wake_at(world.scheduler.now + took)
        await suspend()
        process.perhaps_die()
        if failing and (world.is_out or process.rng.random() < 0.6):
            self.failed_at = world.scheduler.now
            return NOT_SENT
        return SimulatedConnection(process)

    def key_changed(self) -> bool:
        return False

    def sign(self, family: Family, setting: Setting) -> SignedRequest:
        self._process.perhaps_die()
        stamp = self._world.scheduler.now + self._clock_error_s
        return SignedRequest(family, setting, f"{stamp:.6f}", b"", self._world.signing_headers)

    def _set_clock_right(self) -> None:
        if abs(self._clock_error_s) > checkers.VALID_S:
            self._clock_error_s = self._process.rng.uniform(-2.5, 2.5)

    def _account(self) -> AccountInfo | Reply:
        reply = self._world.exchange.account_config(self._world.key_id, self._world.scheduler.now).reply
        if not isinstance(reply, ReplyEnvelope) or not reply.accepted:
            return reply_of(reply)
        row = (reply.data or ())[0]
        permissions = frozenset(str(row["perm"]).split(","))
        return AccountInfo(str(row["uid"]), str(row["mainUid"]), str(row["acctLv"]), permissions)

    def _list(self, begun_local: float, family: Family | None = None) -> SeenList | Reply:
        """Return what the real parser makes of Get MMP Config's answer at this moment."""
        world = self._world
        reply = world.exchange.get_mmp(world.key_id, world.scheduler.now, family).reply
        if not isinstance(reply, ReplyEnvelope) or not reply.accepted:
            return reply_of(reply)
        return read_list(self._process, reply.data or (), begun_at=begun_local, asked=family)

    async def _ask(self, name: str, answer: Callable[[], T | Reply]) -> T | Reply:
        """Send a read over the network: out, answered when it arrives, and back, unless it fails.

        The client itself repeats a read refused for its timestamp, after it corrects its clock offset.
        """
        process, world = self._process, self._world
        process.call(name)
        self._set_clock_right()
        wake = process.task.waker()
        if process.rng.random() < world.read_failure:
            took = process.rng.choice((0.05, 1.0, ANSWER_WITHIN_S))
            world.scheduler.after(took, wake, _failed_read(process))
        else:
            out, back = world.network.read_latency(process), world.network.read_latency(process)
            world.scheduler.after(out, lambda: world.scheduler.after(back, wake, answer()))
        answered: T | Reply = await suspend()
        self._answered_at = world.scheduler.now
        self._answered_local = self._clock.now()
        if isinstance(answered, Reply):
            self.failed_at = self._answered_at
        process.perhaps_die()
        await process.hold_up()
        return answered


class SimulatedConnection:
    """A connection good for one request, which may be written once and answered once, or not."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._closed = False

    async def send(self, request: SignedRequest, *, deadline: float) -> Reply:
        process, world = self._process, self._process.world
        process.call("exchange.send")
        suspended_s = process.clock.suspended_s()
        await process.hold_up()
        assert not self._closed, "a connection is good for one request"
        self._closed = True
        if process.clock.now() > deadline or process.clock.suspended_s() > suspended_s + NOTICED_S:
            return NOT_SENT
        wake = process.task.waker()
        fate = world.network.draw_fate(process, request.family)
        if fate is Fate.NOT_WRITTEN:
            world.scheduler.after(world.network.latency(process), wake, NOT_SENT)
        else:
            world.network.write(process, request, fate, wake)
            process.perhaps_die()
        reply: Reply = await suspend()
        process.perhaps_die()
        await process.hold_up()
        return reply

    async def close(self) -> None:
        self._process.call("exchange.close")


def reply_of(reply: ReplyBody) -> Reply:
    """Return what a client reads from the exchange's reply."""
    if not isinstance(reply, ReplyEnvelope):
        return Reply(ReplyClass.NO_ANSWER, "not-okx", "no reply of the exchange's own")
    return Reply(lookup(reply.code).reply_class, reply.code, reply.message)


def set_reply_of(reply: ReplyBody, family: Family, setting: Setting) -> Reply:
    """Return what a client reads from the exchange's reply to setting ``family`` to ``setting``."""
    if not isinstance(reply, ReplyEnvelope) or reply.data is None or reply.code not in ROWS_COUNT:
        return reply_of(reply)
    return read_set_reply(reply, family, setting)


def _failed_read(process: Process) -> Reply:
    if process.rng.random() < 0.3:
        return Reply(ReplyClass.BUSY, "50013", "Systems are busy.")
    return TIMEOUT
