"""The state of a world: SQLite in memory, or the simulated PostgreSQL with its own faults."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Protocol, cast

from reconciler.core.history_records import LockHolder
from reconciler.core.model import Environment, ExchangeKind, Family
from reconciler.ports import AccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import SqliteState
from tests.simulation import checkers
from tests.simulation.ground_truth import Recollection
from tests.simulation.host import ObserverClock
from tests.simulation.ports import WatchedStore
from tests.simulation.postgres import CommitWatchedStore, SimulatedState
from tests.simulation.postgres_server import SEQUENCES_SKIP, Image, Server
from tests.simulation.row_cache import Rows
from tests.simulation.state_file import PLACE, TroubledFile
from tests.support.memory_state import MemoryDisk, MemoryLocks

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.scenario import FileFaults
    from tests.simulation.world import World


class OpenState(Protocol):
    """A state as one process has it."""

    def account(self, account: str, environment: Environment, kind: ExchangeKind) -> AccountStore:
        """Return the store of one account."""
        ...

    def close_now(self) -> None:
        """End as the process does."""
        ...


class Keeping(Protocol):
    """The state of a world, opened by each process."""

    def open(self, process: Process, *, lock_timeout_s: float) -> tuple[OpenState, WatchedStore]:
        """Open the state for a process that begins."""
        ...

    def observer(self, account: str) -> AccountStore:
        """Return a view of the records from outside, read at once."""
        ...

    def schedule(self) -> None:
        """Schedule the faults of the state."""
        ...

    def has_the_lock(self, process: Process) -> bool:
        """Tell whether no process took the lock of its account from a living process."""
        ...

    def taker(self, process: Process) -> str | None:
        """Return the process that last took the lock of this process's account and did not release it."""
        ...

    def fell_silent(self, process: Process) -> None:
        """Record that the machine of a process was suspended just now."""
        ...

    def unnoticed(self) -> list[Family]:
        """Return the families with something that some process has not noticed yet."""
        ...

    def writes(self, *tables: str) -> int:
        """Return what has grown since the last look if rows of ``tables`` may be others since."""
        ...

    def image(self) -> bytes:
        """Return all that is on record."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


class SqliteKeeping:
    """A file that all processes have open; only its feature makes it fail."""

    def __init__(self, world: World) -> None:
        self._failures = world.scenario.extras.file
        self._locks: dict[str, tuple[object, LockHolder]] = {}
        self._rows = Rows.in_memory()
        self._disk = MemoryDisk(self._rows)
        outside = self._disk.open(
            StateOptions(ObserverClock(world.scheduler), "observer", lock_timeout_s=30.0)
        )
        self._observers = _Observers(world, outside)

    def open(self, process: Process, *, lock_timeout_s: float) -> tuple[OpenState, WatchedStore]:
        if self._failures is not None:
            return self._open_troubled(process, self._failures, lock_timeout_s)
        state = self._disk.open(
            StateOptions(process.clock, process.host.boot_id, lock_timeout_s=lock_timeout_s)
        )
        return state, WatchedStore(
            process, state.account(process.stored_as, Environment.LIVE, ExchangeKind.SIMULATOR)
        )

    def _open_troubled(
        self, process: Process, failures: FileFaults, lock_timeout_s: float
    ) -> tuple[OpenState, WatchedStore]:
        file = TroubledFile(process, self._rows, failures)
        state = SqliteState(
            cast("sqlite3.Connection", file.open()),
            PLACE,
            MemoryLocks(self._locks),
            StateOptions(process.clock, process.host.boot_id, lock_timeout_s),
            reopen=lambda: cast("sqlite3.Connection", file.reopen()),
        )
        account = state.account(process.stored_as, Environment.LIVE, ExchangeKind.SIMULATOR)
        return state, CommitWatchedStore(process, account, file)

    def observer(self, account: str) -> AccountStore:
        return self._observers.of(account)

    def schedule(self) -> None:
        """Schedule nothing: processes meet the faults of a file by themselves."""

    def fell_silent(self, process: Process) -> None:
        """Do nothing: a file has no timeout."""

    def has_the_lock(self, process: Process) -> bool:
        return True

    def taker(self, process: Process) -> str | None:
        return process.name

    def unnoticed(self) -> list[Family]:
        return []

    def writes(self, *tables: str) -> int:
        return self._rows.writes(*tables)

    def image(self) -> bytes:
        return self._rows.serialize()

    def close(self) -> None:
        self._disk.close()


class PostgresKeeping:
    """A server that restarts, fails over and loses commits that it confirmed, as the seed says."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._failures = world.database
        self.server = Server(
            world.scheduler, rate=self._failures.clock_rate, offset_s=world.rng.uniform(-5.0, 5.0)
        )
        self.server.on_theft = self._check_theft
        self.server.on_loss_counted = self._note_news
        outside = SqliteState(
            self.server.rows,
            "server",
            MemoryLocks({}),
            StateOptions(ObserverClock(world.scheduler), "observer", lock_timeout_s=0.0),
        )
        self._observers = _Observers(world, outside)
        self._states: dict[str, SimulatedState] = {}
        suspended = bool(world.scenario.extras.suspensions)
        self._healthy = self._failures.quiet and world.pause_chance == 0.0 and not suspended

    def open(self, process: Process, *, lock_timeout_s: float) -> tuple[OpenState, WatchedStore]:
        state = SimulatedState(process, self.server, lock_timeout_s=lock_timeout_s)
        account = state.account(process.stored_as, Environment.LIVE, ExchangeKind.SIMULATOR)
        self._states[process.name] = state
        after_s = self._world.scenario.extras.tables_made_anew_after_s
        if after_s is not None and len(self._states) == len(self._world.scenario.roles):
            self._world.scheduler.after(after_s, self._make_tables_anew)
        return state, CommitWatchedStore(process, account, state.connections)

    def observer(self, account: str) -> AccountStore:
        self.server.committed()
        return self._observers.of(account)

    def fell_silent(self, process: Process) -> None:
        """Make the server abort the transactions that a suspended machine leaves open."""
        for transaction in self._states[process.name].connections.open:
            transaction.falls_silent()

    def schedule(self) -> None:
        at = self._world.scheduler.at
        for when, lost_s, down_s, offset_s in self._failures.failovers:
            at(max(0.0, when - lost_s), self._standby_ends, when, down_s, offset_s)
        for when, down_s in self._failures.restarts:
            at(when, self._restart, down_s)
        for when, step_s in self._failures.clock_steps:
            at(when, self._step_clock, step_s)

    def has_the_lock(self, process: Process) -> bool:
        return self.taker(process) == process.name

    def taker(self, process: Process) -> str | None:
        return self.server.takers.get(f"{process.stored_as}.{Environment.LIVE}.{ExchangeKind.SIMULATOR}")

    def unnoticed(self) -> list[Family]:
        return list(self._world.scenario.families) if self.server.loss_unnoticed() else []

    def writes(self, *tables: str) -> int:
        return self.server.rows.writes(*tables)

    def image(self) -> bytes:
        return self.server.committed().serialize()

    def close(self) -> None:
        self.server.rows.close()

    # -- faults ----------------------------------------------------------------------------------

    def _standby_ends(self, when: float, down_s: float, offset_s: float) -> None:
        """Let the standby get nothing more; it is promoted later."""
        image, record = self.server.image(), self._world.truth.on_record()
        self._world.scheduler.at(when, self._fail_over, image, record, down_s, offset_s)

    def _fail_over(self, image: Image, record: Recollection, down_s: float, offset_s: float) -> None:
        skip = self._world.rng.choice((0, SEQUENCES_SKIP))
        self.server.promote(image, skip=skip, offset_s=offset_s)
        self._fell_back(record)
        self._world.trace(None, "failover to timeline %d", self.server.timeline)
        self._come_up_in(down_s)

    def _make_tables_anew(self) -> None:
        self.server.make_tables_anew()
        self._fell_back(Recollection({}, {}))
        self._world.trace(None, "the tables are made anew")

    def _fell_back(self, record: Recollection) -> None:
        """Record that the state is what it was earlier."""
        world = self._world
        world.truth.fall_back(record)
        world.history_lost_at = world.scheduler.now
        world.news += 1
        world.pauses_fell_back()

    def _restart(self, down_s: float) -> None:
        self._world.trace(None, "the server restarts")
        self.server.go_down()
        self._come_up_in(down_s)

    def _come_up_in(self, down_s: float) -> None:
        at = min(
            self._world.scheduler.now + down_s,
            max(self._world.scenario.failure_s, self._world.scheduler.now),
        )
        self._world.scheduler.at(at, self.server.come_up)

    def _step_clock(self, step_s: float) -> None:
        self.server.offset_s += step_s
        self._world.trace(None, "the server's clock steps by %s s", step_s)

    def _note_news(self) -> None:
        self._world.news += 1

    def _check_theft(self, before: str, now: str) -> None:
        alive = any(one.name == before and not one.dead for one in self._world.processes.values())
        if alive and self._healthy:
            self._world.verify(checkers.lock_held_while_healthy, before, now)


class _Observers:
    """What is on record of each account, by the name under which it was last identified."""

    def __init__(self, world: World, outside: SqliteState) -> None:
        self._world = world
        self._outside = outside
        self._stores: dict[str, AccountStore] = {}

    def of(self, account: str) -> AccountStore:
        """Return the store of an account, to look into."""
        name = self._world.identified_names.get(account, account)
        if name not in self._stores:
            self._stores[name] = self._outside.account(name, Environment.LIVE, ExchangeKind.SIMULATOR)
        return self._stores[name]
