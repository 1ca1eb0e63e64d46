"""The ports of one simulated process: its clock, its view of the state, and its way to the exchange.

Every call may be the last one, before it does anything or after it did; every call may take long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from reconciler.core.model import (
    NO_FILE,
    AccountInfo,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    Pause,
    Quantity,
    Setting,
)
from reconciler.core.records import Holder
from reconciler.core.retry import NO_TRIES
from reconciler.core.verdict import AttemptStatus, Reply, ReplyClass
from reconciler.okx.codes import fact
from reconciler.ports import Grounds, NotYet, PausedMeanwhile, Reserved, Signed
from reconciler.simulator.messages import Envelope, Row, Said
from reconciler.store.account import KeptAccount
from tests.simulation.scenario import Fate
from tests.simulation.scheduler import suspend
from tests.simulation.truth import SeenRead

if TYPE_CHECKING:
    from tests.simulation.process import Process

ANSWER_WITHIN_S = 10.0
"""After this long without a reply a client gives up."""

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

    async def pause(self, until: float) -> None:
        """Wait, a little too long, or not long enough."""
        process = self._process
        process.call("pause")
        await process.hold_up()
        nudged, process.nudged = process.nudged, False
        if until <= self.now() or nudged:
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
    """What a request rests on: what is desired, known and read, as its process has it."""

    wanted: Setting | None
    known: Mapping[Family, Known]
    reads: tuple[SeenRead, ...]

    @classmethod
    def of(cls, process: Process, family: Family, known: Mapping[Family, Known]) -> Basis:
        """Return what a request for ``family`` rests on at this moment."""
        wanted = process.told.families.get(family)
        setting = wanted.setting if wanted else None
        return cls(setting, known, tuple(process.reads))


class WatchedStore:
    """The real store; every call may be the last, and the truth keeps track of what was recorded."""

    def __init__(self, process: Process, store: KeptAccount) -> None:
        self._process = process
        self._world = process.world
        self._store = store
        self._last_known: Mapping[Family, Known] = {}
        self._last_retries = NO_TRIES
        self._known_at = -1
        self._last_pauses: tuple[Pause, ...] = ()
        self._pauses_at = -1

    @asynccontextmanager
    async def locked(self, purpose: str) -> AsyncIterator[None]:
        """Hold the real lock; in some worlds it does not keep others out."""
        self._process.call("store.locked")
        if not self._world.scenario.lock_works:
            yield
            return
        async with self._store.locked(purpose):
            self._process.perhaps_die()
            yield

    async def identify(self, uid: str, host: str) -> str | None:
        self._process.call("store.identify")
        previous = await self._store.identify(uid, host)
        self._process.perhaps_die()
        return previous

    async def grounds(self) -> Grounds:
        self._process.call("store.grounds")
        if not self._world.listening and self._known_at == self._world.news:
            # In most histories not asked again while nobody wrote: the answer would be the same.
            pauses, ledger = await self._pauses(), await self._store.ledger()
            return Grounds(self._last_known, pauses, ledger, self._last_retries)
        self._known_at = self._world.news
        self._pauses_at = self._world.pausings
        grounds = await self._store.grounds()
        self._last_known, self._last_pauses = grounds.known, grounds.pauses
        self._last_retries = grounds.retries
        self._world.auditor.check_record(self._process.account, self._last_known)
        return grounds

    async def _pauses(self) -> tuple[Pause, ...]:
        if self._last_pauses or self._pauses_at != self._world.pausings:
            # Where there was none there is none, until one begins.
            self._pauses_at = self._world.pausings
            self._last_pauses = await self._store.pauses()
        return self._last_pauses

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        self._process.call("store.accept_file")
        return await self._store.accept_file(sha256, changed=changed)

    async def reserve(
        self,
        request: Signed,
        *,
        assume_idle: bool,
        by: float = float("inf"),
        file: FileVersion = NO_FILE,
        keep_free: int = 0,
    ) -> Reserved | NotYet | PausedMeanwhile:
        process = self._process
        process.call("store.reserve")
        await process.hold_up()
        slot = await self._store.reserve(
            request, assume_idle=assume_idle, by=by, file=file, keep_free=keep_free
        )
        if isinstance(slot, Reserved):
            basis = Basis.of(process, request.family, self._last_known)
            self._world.auditor.reserved(process, request, slot, basis).answered = True
        process.perhaps_die()
        await process.hold_up()
        return slot

    async def settle(
        self,
        attempt: int,
        status: AttemptStatus,
        *,
        definite: bool,
        limited: bool,
        code: str,
        message: str,
        tried: bool = True,
    ) -> None:
        process = self._process
        process.call("store.settle")
        await process.hold_up()
        await self._store.settle(
            attempt, status, definite=definite, limited=limited, code=code, message=message, tried=tried
        )
        self._world.auditor.settled(process, status, await self._store.known())
        process.perhaps_die()

    async def adopt(
        self, settings: Mapping[Family, Setting], *, read_begun_at: float, file: FileVersion = NO_FILE
    ) -> frozenset[Family]:
        process = self._process
        process.call("store.adopt")
        adopted = await self._store.adopt(settings, read_begun_at=read_begun_at, file=file)
        begun_at = process.reads[0].begun_at if process.reads else float("inf")
        recorded = {family: settings[family] for family in adopted}
        self._world.auditor.adopted(recorded, begun_at, await self._store.known())
        process.perhaps_die()
        return adopted

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        self._process.call("store.end_attempts")
        await self._store.end_attempts(families, read_begun_at=read_begun_at)
        self._world.news += 1
        self._process.perhaps_die()

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        fought: Mapping[Family, Setting] | None = None,
    ) -> None:
        self._process.call("store.pause")
        self._world.pausings += 1
        await self._store.pause(families, until=until, reason=reason, fought=fought)
        self._process.perhaps_die()

    async def check_identity(self, uid: str) -> None:
        self._process.call("store.check_identity")
        await self._store.check_identity(uid)

    async def try_control(self, purpose: str) -> bool:
        return not self._world.scenario.lock_works or await self._store.try_control(purpose)

    async def release_control(self) -> None:
        await self._store.release_control()

    async def controller(self) -> Holder | None:
        return await self._store.controller()

    async def end_fights(self, fought: Mapping[Family, Setting]) -> None:
        self._process.call("store.end_fights")
        self._world.pausings += 1
        await self._store.end_fights(fought)
        self._process.perhaps_die()

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        self._process.call("store.record_override")
        await self._store.record_override(family, refusal=refusal, reason=reason)

    async def record_live(self, read: LiveRead) -> None:
        self._process.call("store.record_live")
        if self._world.listening:  # it is for people only, and the dearest call of all
            await self._store.record_live(read)

    async def record_states(self, states: Mapping[Family, str]) -> None:
        self._process.call("store.record_states")
        await self._store.record_states(states)


class SimulatedClient:
    """The exchange as one process sees it: questions and answers over a network that fails."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._clock = process.clock
        self._clock_error_s = process.rng.uniform(-2.5, 2.5)
        if self._world.scenario.bad_clock and process.rng.random() < 0.5:
            self.jump_clock()

    def jump_clock(self) -> None:
        """Make what was measured of the exchange's clock wrong, as a suspended machine does."""
        self._clock_error_s = self._process.rng.choice((-1.0, 1.0)) * self._process.rng.uniform(33.0, 60.0)

    async def account(self) -> AccountInfo | Reply:
        return await self._ask("exchange.account", self._account)

    async def read_live(self) -> LiveRead | Reply:
        process = self._process
        begun_at, begun_local = self._world.scheduler.now, self._clock.now()
        read = await self._ask("exchange.read_live", lambda: self._live(begun_local))
        if isinstance(read, LiveRead):
            process.reads.appendleft(SeenRead(begun_at, read))
        return read

    async def sync_clock(self) -> Reply | None:
        return await self._ask("exchange.sync_clock", lambda: None)

    async def open(self) -> SimulatedConnection | Reply:
        process, world = self._process, self._world
        process.call("exchange.open")
        took = world.network.latency(process)
        failing = world.is_out or process.rng.random() < world.open_trouble
        if failing:
            took = process.rng.choice((took, process.rng.uniform(0.1, 8.0)))
        process.task.wake_at(world.scheduler.now + took)
        await suspend()
        process.perhaps_die()
        if failing and (world.is_out or process.rng.random() < 0.6):
            return NOT_SENT
        return SimulatedConnection(process)

    def rekeyed(self) -> bool:
        return False

    def sign(self, family: Family, setting: Setting) -> Signed:
        self._process.perhaps_die()
        stamp = self._world.scheduler.now + self._clock_error_s
        return Signed(family, setting, f"{stamp:.6f}", b"", self._world.signing_headers)

    def _set_clock_right(self) -> None:
        if abs(self._clock_error_s) > 30.0:
            self._clock_error_s = self._process.rng.uniform(-2.5, 2.5)

    def _account(self) -> AccountInfo | Reply:
        said = self._world.exchange.account_config(self._world.key_id, self._world.scheduler.now).said
        if not isinstance(said, Envelope) or not said.accepted:
            return reply_of(said)
        row = (said.data or ())[0]
        permissions = frozenset(str(row["perm"]).split(","))
        return AccountInfo(str(row["uid"]), str(row["mainUid"]), str(row["acctLv"]), permissions)

    def _live(self, begun_local: float) -> LiveRead | Reply:
        said = self._world.exchange.get_mmp(self._world.key_id, self._world.scheduler.now).said
        if not isinstance(said, Envelope) or not said.accepted:
            return reply_of(said)
        rows = {Family(str(row["instFamily"])): _live_row(row) for row in said.data or ()}
        return LiveRead(begun_local, rows)

    async def _ask(self, name: str, answer: Callable[[], T | Reply]) -> T | Reply:
        """Ask over the network: out, answered when it arrives, and back, unless it fails.

        A question refused for its timestamp is asked again by the client itself, its clock set right.
        """
        process, world = self._process, self._world
        process.call(name)
        self._set_clock_right()
        wake = process.task.waker()
        if process.rng.random() < world.read_trouble:
            took = process.rng.choice((0.05, 1.0, ANSWER_WITHIN_S))
            world.scheduler.after(took, wake, _failed_read(process))
        else:
            out, back = world.network.latency(process), world.network.latency(process)
            world.scheduler.after(out, lambda: world.scheduler.after(back, wake, answer()))
        answered: T | Reply = await suspend()
        process.perhaps_die()
        await process.hold_up()
        return answered


class SimulatedConnection:
    """A connection good for one request, which may be written once and answered once, or not."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._closed = False

    async def send(self, request: Signed, *, deadline: float) -> Reply:
        process, world = self._process, self._process.world
        process.call("exchange.send")
        await process.hold_up()
        assert not self._closed, "a connection is good for one request"
        self._closed = True
        if process.clock.now() > deadline:
            return NOT_SENT
        wake = process.task.waker()
        fate = world.network.draw_fate(process)
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


def reply_of(said: Said) -> Reply:
    """Return what a client makes of what the exchange said."""
    if not isinstance(said, Envelope):
        return Reply(ReplyClass.NO_ANSWER, "not-okx", "no reply of the exchange's own")
    if not said.accepted:
        return Reply(fact(said.code).reply_class, said.code, said.message)
    echo = tuple((Family(str(row["instFamily"])), _setting(row)) for row in said.data or ())
    return Reply(ReplyClass.ACCEPTED, "0", "", echo)


def _failed_read(process: Process) -> Reply:
    if process.rng.random() < 0.3:
        return Reply(ReplyClass.BUSY, "50013", "Systems are busy.")
    return TIMEOUT


def _live_row(row: Row) -> LiveRow:
    return LiveRow(_setting(row), bool(row["mmpFrozen"]), str(row["mmpFrozenUntil"]))


def _setting(row: Row) -> Setting:
    return _parsed(str(row["timeInterval"]), str(row["frozenInterval"]), str(row["qtyLimit"]))


@cache
def _parsed(time_interval: str, frozen_interval: str, qty_limit: str) -> Setting:
    return Setting(int(time_interval), int(frozen_interval), Quantity(qty_limit))
