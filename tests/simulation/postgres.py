"""One process's way to the simulated PostgreSQL: the program's own engine over connections that fail.

Everything above a connection is the production code: the account's steps, the claims of a transaction,
the pass locks. A transaction can be slow, be refused, or lose its connection at every statement, before
or after COMMIT reaches the server. Its client can be held up or killed meanwhile. A process that loses
the answer to COMMIT gets the same error as one whose COMMIT never arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.core.model import NO_FILE, Accepting, Family, FileVersion, LiveRead, Setting
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AttemptResult,
    RecordedInputs,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.errors import MmpError, StateLocked, StateUnavailable
from reconciler.ports import NO_ACCEPTING
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.postgres.connections import WATCHDOG_S, Mode
from reconciler.store.postgres.locks import RENEW_S, LeaseLocks
from reconciler.store.postgres.state import PostgresState
from tests.simulation import checkers
from tests.simulation.ports import Basis, WatchedStore
from tests.simulation.postgres_server import SILENCE_TIMEOUT_S, Gone, Server, Work, wanted_lock
from tests.simulation.scheduler import Killed, Task, suspend

if TYPE_CHECKING:
    from tests.simulation.process import Process

ARRIVES_WITHIN_S = 4.9
"""A COMMIT that travels longer arrives after the server has ended the silent transaction."""


IN_FULL_ONE_IN = 8
"""In one history in eight, unchanged rows are queried again too, and every read is stored."""


def lost() -> StateUnavailable:
    """Return the error that a process gets for every failure of a connection."""
    return StateUnavailable("state-unavailable", "the state cannot be used now", "it is safe to try again")


class SimulatedState(PostgresState):
    """The real engine as one process has it, over connections of this world."""

    def __init__(self, process: Process, server: Server, *, lock_timeout_s: float) -> None:
        self.connections = SimulatedConnections(process, server)
        super().__init__(
            self.connections,  # type: ignore[arg-type]  # all that the engine uses of the real ones
            StateOptions(process.clock, process.host.boot_id, lock_timeout_s),
            table=server.table,
        )
        self.leases = SimulatedLeases(process, self.connections)
        self.locks = self.leases

    def close_now(self) -> None:
        """End as killed: connections break, and the pass lock stays until its lease ends."""
        self.leases.stop_renewing()
        self.connections.drop()


class SimulatedLeases(LeaseLocks):
    """The real locks; a task of this world renews them instead of asyncio's."""

    def __init__(self, process: Process, connections: SimulatedConnections) -> None:
        super().__init__(connections)  # type: ignore[arg-type]  # all that the locks use of the real ones
        self._process = process

    def stop_renewing(self) -> None:
        """Renew no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    def _renew_from_now_on(self) -> None:
        if self._renewing is None:
            self._renewing = _Renewal(self._process, self._renew)  # type: ignore[assignment]  # can be cancelled


class _Renewal:
    """A task that renews again and again, except while its process is held up."""

    def __init__(self, process: Process, renew: Callable[[], Any]) -> None:
        self._process = process
        self._renew = renew
        self._task = Task(
            process.world.scheduler, self._for_ever(), lambda error: None, machine=process.host
        )

    def cancel(self) -> None:
        self._task.kill()

    async def _for_ever(self) -> None:
        scheduler, process = self._process.world.scheduler, self._process
        while True:
            self._task.wake_at(max(scheduler.now + RENEW_S, process.held_up_until))
            await suspend()
            if scheduler.now >= process.held_up_until:
                with suppress(MmpError):
                    await self._renew()


class SimulatedConnections:
    """``Connections`` of one process."""

    def __init__(self, process: Process, server: Server) -> None:
        self.address = SimpleNamespace(shown="postgresql://server/mmp")
        self.note: Callable[[Work], None] | None = None
        self.saw = -1
        self.began_at = 0.0
        self._process = process
        self.server = server
        self.open: list[SimulatedTransaction] = []

    def transaction(self, mode: Mode = Mode.WRITE) -> Transacting:
        """Give one transaction; an exception rolls it back, unless COMMIT is on its way."""
        return Transacting(self, mode)

    async def close(self) -> None:
        """Close all connections."""
        self.drop()

    def drop(self) -> None:
        """Break all connections at once, as a kill does."""
        for transaction in self.open:
            transaction.give_up()

    async def begun(self, mode: Mode) -> SimulatedTransaction:
        """Begin a transaction, if the server can be reached."""
        process, failures = self._process, self._process.world.database
        if process.dead:
            raise Killed
        if self._of_the_pass():
            self.saw, self.began_at = -1, process.world.scheduler.now
        transaction = SimulatedTransaction(process, self.server, mode, self._note_of(mode))
        if delay := transaction.drawn_delay():
            await transaction.held_up_for(delay)
        if mode is Mode.WRITE:  # reading, only the way back matters
            await transaction.spend(process.world.sql_latency(process))
        transaction.perhaps_die()
        if not self.server.is_up or process.rng.random() < failures.connect_failure:
            await transaction.spend(process.rng.choice((0.0, 0.0, process.rng.uniform(0.0, 5.0))))
            raise lost()
        transaction.begin()
        if mode is Mode.READ:
            self.saw = process.world.news
        return transaction

    def _note_of(self, mode: Mode) -> Callable[[Work], None] | None:
        return self.note if self._of_the_pass() and mode is Mode.WRITE else None

    def _of_the_pass(self) -> bool:
        return self._process.world.scheduler.running is self._process.task


class Transacting:
    """An open transaction: ``async with``, written by hand because it runs so often."""

    __slots__ = ("_connections", "_mode", "_transaction")

    def __init__(self, connections: SimulatedConnections, mode: Mode) -> None:
        self._connections = connections
        self._mode = mode

    async def __aenter__(self) -> SimulatedTransaction:
        self._transaction = await self._connections.begun(self._mode)
        self._connections.open.append(self._transaction)
        return self._transaction

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            if error is None:
                await self._transaction.end()
            elif isinstance(error, Gone):
                raise lost() from None
        except Gone:
            raise lost() from None
        finally:
            self._transaction.give_up()
            self._connections.open.remove(self._transaction)


class SimulatedTransaction:
    """One transaction as its client has it."""

    def __init__(
        self, process: Process, server: Server, mode: Mode, note: Callable[[Work], None] | None
    ) -> None:
        self._process = process
        self._server = server
        self._mode = mode
        self._note = note
        self._task = process.world.scheduler.running
        self._work: Work | None = None
        self._commit_sent = False
        self._over = False

    def begin(self) -> None:
        """Begin it at the server; raises Gone."""
        try:
            self._work = self._server.begin(self._process.name)
        except Gone:
            raise lost() from None
        self._work.note = self._note

    async def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""
        work = self._work
        assert work is not None
        if self._process.dead:
            raise Killed
        if self._mode is not Mode.READ:  # reading, all are one: the snapshot is of one moment
            await self._reach()
            wanted = wanted_lock(query, values)
            if wanted is not None:
                await self._locked(*wanted)
        return self._server.execute(work, query, values)

    async def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the only row of one statement."""
        found = await self.rows(query, values)
        return found[0] if found else None

    async def query_batch(self, *questions: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of several statements; between any two, anything can happen."""
        return [await self.rows(*question) for question in questions]

    async def commit_batch(self, *questions: tuple[str, Sequence[Any]]) -> list[list[tuple[Any, ...]]]:
        """Return the rows of the last statements, committed."""
        found = await self.query_batch(*questions)
        await self.commit()
        self._over = True
        return found

    async def run(self, query: str, values: Sequence[Any] = ()) -> None:
        """Run one statement without rows, sooner than the real one does."""
        await self.rows(query, values)

    async def run_each(self, query: str, many: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each of ``many`` values."""
        for values in many:
            await self.rows(query, values)

    async def end(self) -> None:
        """Commit, unless the last answers did."""
        if not self._over:
            await self.commit()

    async def commit(self) -> None:
        """Commit, and count it as committed only when the answer arrives."""
        work = self._work
        assert work is not None
        if self._mode is Mode.READ:
            await self._end_reading(work)
            return
        if not work.writes and self._server.commit(work):
            return
        await self.hold_up()
        self.perhaps_die()
        self._commit_sent = True
        self._send_commit(work)
        await self._waited()
        self.perhaps_die()
        await self.hold_up()
        if work.reservation() is not None:
            self._process.world.auditor.answered(self._process)

    async def _end_reading(self, work: Work) -> None:
        self._server.commit(work)
        await self.spend(self._process.world.sql_latency(self._process))
        if self._process.rng.random() < self._process.world.database.statement_failure:
            raise Gone

    def _send_commit(self, work: Work) -> None:
        """Send COMMIT; where the connection breaks, the client does not learn whether it arrives."""
        rng, world, wake = self._process.rng, self._process.world, self._task.waker()
        after, database = world.scheduler.after, world.database
        work.wake = wake
        out, back = (world.sql_latency(self._process) for _ in range(2))
        if rng.random() >= database.commit_failure:
            after(out, self._commit_arrives, work, back, wake)
            return
        message_after = rng.choice((0.01, rng.uniform(0.0, 3.0), WATCHDOG_S))
        out = rng.choice((out, out, rng.uniform(0.0, ARRIVES_WITHIN_S)))
        if rng.random() < 0.5:
            work.wake = None
            after(out, self._server.abort, work)
        else:
            after(out, self._commit_arrives, work, back, None)
        after(message_after, wake, Gone())

    def give_up(self) -> None:
        """Leave it: the server notices sooner or later, unless COMMIT is on its way."""
        if self._work is None or self._work.over or self._commit_sent:
            return
        self._commit_sent = True  # the client sends nothing more
        rng = self._process.rng
        noticed_after = rng.choice((0.0, 0.0, rng.uniform(0.0, SILENCE_TIMEOUT_S)))
        self._work.wake = None
        if self._mode is Mode.READ or noticed_after == 0.0:
            self._server.abort(self._work)
        else:
            self._process.world.scheduler.after(noticed_after, self._server.abort, self._work)

    async def spend(self, seconds: float) -> None:
        """Let time pass on the way; raises Gone when the server ends the transaction meanwhile."""
        if seconds <= 0.0:
            return
        if self._work is not None:
            self._work.wake = self._task.waker()
        self._task.wake_at(self._process.world.scheduler.now + seconds)
        await self._waited()

    def perhaps_die(self) -> None:
        """Let the process be killed here, sometimes."""
        if self._task is self._process.task:
            self._process.perhaps_die()

    async def hold_up(self) -> None:
        """Perhaps be suspended for a while."""
        if delay := self.drawn_delay():
            await self.held_up_for(delay)

    def drawn_delay(self) -> float:
        """Return for how long it is suspended now; mostly 0."""
        return self._process.drawn_delay() if self._task is self._process.task else 0.0

    async def held_up_for(self, delay: float) -> None:
        """Be suspended; the server waits only for a limited time."""
        self.falls_silent()
        await self._process.held_up_for(delay)

    def falls_silent(self) -> None:
        """Make the server abort it, unless it continues in time."""
        if self._work is not None:
            scheduler = self._process.world.scheduler
            scheduler.after(SILENCE_TIMEOUT_S, self._server.end_silent, self._work, self._work.received)

    def _commit_arrives(self, work: Work, back: float, wake: Callable[[Any], None] | None) -> None:
        work.wake = None
        done = self._server.is_up and self._server.commit(work)
        if wake is not None:
            self._process.world.scheduler.after(back, wake, None if done else Gone())

    async def _reach(self) -> None:
        """Let a writing transaction's statement reach the server."""
        process = self._process
        if delay := self.drawn_delay():
            await self.held_up_for(delay)
        if process.rng.random() < process.world.database.slow_statements:
            await self.spend(process.world.sql_latency(process))
        self.perhaps_die()
        if process.rng.random() < process.world.database.statement_failure:
            raise Gone

    async def _locked(self, wanted: Any, shared: bool) -> None:
        assert self._work is not None
        wake = self._task.waker()
        self._work.wake = wake
        if not self._server.lock(self._work, wanted, wake, shared=shared):
            await self._waited()
        self._work.wake = None

    async def _waited(self) -> None:
        """Wait for an answer; what takes long is a delay that is none of the process's own."""
        process, scheduler = self._process, self._process.world.scheduler
        began = scheduler.now
        if self._task is process.task:
            process.waits_since = began
        answer = await suspend()
        if self._task is process.task:
            process.waits_since = None
            process.was_held_up(scheduler.now - began)
        if isinstance(answer, Gone):
            raise answer


class Commits(Protocol):
    """The connections of one process: what it last read, and what is called at a commit."""

    note: Callable[[Work], None] | None
    saw: int
    began_at: float


class CommitWatchedStore(WatchedStore):
    """The real store over connections that fail; what is recorded is noted when it is committed."""

    def __init__(self, process: Process, store: SqlAccountStore, connections: Commits) -> None:
        super().__init__(process, store)
        self._connections = connections
        self._in_full = process.world.scenario.seed % IN_FULL_ONE_IN == 0

    @contextmanager
    def _noting(self, note: Callable[[Work], None]) -> Iterator[None]:
        """Have ``note`` called when what is written meanwhile is committed."""
        self._connections.note = note
        try:
            yield
        finally:
            self._connections.note = None

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        process, auditor = self._process, self._world.auditor
        process.call("store.reserve")
        process.pauses_between_reads()
        basis = Basis.of(process, request.family, self._last_known)
        basis = replace(basis, accepting=None if options.accepting is None else options.accepting.setting)

        def note(work: Work) -> None:
            row = work.reservation()
            if row is not None:
                slot, taker = Reservation(row.id, row.reserved_at), process.world.keeping.taker(process)
                auditor.reserved_in_postgres(process, request, slot, basis, taker)

        with self._noting(note), auditor.answer_awaited(process):
            slot = await self._store.reserve(request, options)
        process.perhaps_die()
        await process.hold_up()
        return slot

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        process, auditor = self._process, self._world.auditor
        process.call("store.settle")
        await process.hold_up()
        ours = auditor.unsettled.get(process.name)
        auditor.judged(process, definite=result.definite, tried=result.tried, code=result.code)

        def note(work: Work) -> None:
            if ours is None:
                return
            proven = result.status is AttemptStatus.APPLIED and bool(work.proven())
            on_record = self._world.on_record(process.account)
            auditor.recorded(process, ours, result.status, on_record, proven=proven, limited=result.limited)

        with self._noting(note), auditor.answer_awaited(process):
            try:
                await self._store.settle(attempt, result)
            except StateLocked:
                self._world.verify(checkers.verdicts_are_recorded, process.name, attempt)
                raise
        process.perhaps_die()

    async def adopt(
        self,
        settings: Mapping[Family, Setting],
        *,
        read_begun_at: float,
        file: FileVersion = NO_FILE,
        accepting: Mapping[Family, Accepting] = NO_ACCEPTING,
    ) -> frozenset[Family]:
        process, auditor = self._process, self._world.auditor
        process.call("store.adopt")
        begun_at = process.begun_at(read_begun_at)

        def note(work: Work) -> None:
            taker = self._world.keeping.taker(process)
            self._world.verify(checkers.adopted_by_the_holder, process.name, taker)
            recorded = {family: settings[family] for family in settings if family in work.proven()}
            auditor.adopted(process, recorded, begun_at, self._world.on_record(process.account))
            accepted = {family: one.setting for family, one in accepting.items() if family in recorded}
            auditor.accepted_live(process, accepted)

        with self._noting(note):
            adopted = await self._store.adopt(
                settings, read_begun_at=read_begun_at, file=file, accepting=accepting
            )
        process.perhaps_die()
        return adopted

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        process, auditor = self._process, self._world.auditor
        process.call("store.end_attempts")
        begun_at = process.begun_at(read_begun_at)

        def note(_: Work) -> None:
            auditor.attempts_ended(families, begun_at, self._world.on_record(process.account))

        with self._noting(note):
            await self._store.end_attempts(families, read_begun_at=read_begun_at)
        process.perhaps_die()

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        process = self._process
        process.call("store.record_override")
        if self._world.pause_chance and process.rng.random() < 0.2:
            await process.held_up_for(process.rng.uniform(4.0, self._world.longest_pause_s))
        await self._store.record_override(family, refusal=refusal, reason=reason)

    async def record_live(self, read: LiveRead, **more: Any) -> None:
        self._process.call("store.record_live")
        if self._in_full:
            await self._store.record_live(read, **more)

    async def recorded_inputs(self) -> RecordedInputs:
        process = self._process
        process.call("store.grounds")
        if self._known_at == self._world.news and not self._in_full:
            process.known_at = self._world.scheduler.now
            never_paused = self._world.scenario.fighter_s is None and not self._world.pausings
            pauses = () if never_paused else await self._store.pauses()
            ledger = await self._store.ledger()
            return RecordedInputs(self._last_known, pauses, ledger, self._last_retries, self._last_accepted)
        read_inputs = await self._store.recorded_inputs()
        self._last_known, self._known_at = read_inputs.known, self._connections.saw
        self._last_retries, self._last_accepted = read_inputs.retries, read_inputs.accepted
        process.known_at = self._connections.began_at
        if self._connections.saw == self._world.news:
            self._world.auditor.check_record(process.account, self._last_known)
        return read_inputs
