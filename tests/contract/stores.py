"""The implementations of ``ports.AccountStore``, each as a place that many simulated processes can open.

A test asks a place for a store as one process of one boot sees it; opening again is another process.
Nothing of an engine shows here but how to open it, so the suite over it stays the same for all.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from reconciler.core.model import (
    NO_FILE,
    Confirmed,
    Environment,
    ExchangeKind,
    Family,
    Known,
    Quantity,
    Setting,
    Uncertain,
    parse_family,
)
from reconciler.core.reservation import SignedRequest
from reconciler.ports import AccountStore, Clock
from reconciler.store.engine import Engine, StateOptions
from reconciler.store.postgres.connections import Connections
from reconciler.store.postgres.conninfo import parse_address
from reconciler.store.postgres.state import PostgresState
from reconciler.store.postgres.state import open_state as open_postgres
from reconciler.store.rows import TABLES, StateRow
from reconciler.store.sqlite.state import SqliteState, open_state
from tests.support.memory_state import MemoryDisk
from tests.support.pgbouncer import Bouncer, bouncer
from tests.support.postgres import ROLE, shared
from tests.support.requirements import tried

BTC = parse_family("BTC-USD")
ETH = parse_family("ETH-USD")
UID = "446556540"
HOST = "openapi.okx.com"
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@dataclass(slots=True)
class ScriptedClock:
    """A clock that stands still until a test, or somebody's waiting, moves it."""

    time: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def wall(self) -> datetime:
        return NOON + timedelta(seconds=self.time)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        self.pauses.append(until)
        self.time = max(self.time, until)


@dataclass(slots=True)
class Place:
    """One state, wherever it is kept: ``states`` opens it as one more process."""

    states: Callable[[StateOptions], Engine]
    opened: list[Engine] = field(default_factory=list)

    def open(
        self,
        clock: Clock,
        *,
        boot: str = "boot-1",
        account: str = "main",
        environment: Environment = Environment.LIVE,
        kind: ExchangeKind = ExchangeKind.OKX,
        lock_timeout_s: float = 1.0,
        **retained: Any,
    ) -> AccountStore:
        """Open the state as a process that was not there before; ``retained`` as in StateOptions."""
        state = self.states(StateOptions(clock, boot, lock_timeout_s, **retained))
        self.opened.append(state)
        return state.account(account, environment, kind)

    def close(self) -> None:
        """Close the states; those in PostgreSQL share connections, which are closed elsewhere."""
        for state in self.opened:
            if isinstance(state, SqliteState):
                state.close_now()


@contextmanager
def sqlite_in_memory(_: Path) -> Iterator[Place]:
    disk = MemoryDisk()
    place = Place(disk.open)
    yield place
    place.close()
    disk.close()


@contextmanager
def sqlite_file(directory: Path) -> Iterator[Place]:
    path = str(directory / ".mmp" / "state.db")
    place = Place(partial(open_state, path))
    yield place
    place.close()


@contextmanager
def in_postgres(_: Path) -> Iterator[Place]:
    empty_postgres()
    connections = Connections(parse_address(shared().url(ready_database())))
    yield Place(partial(PostgresState, connections))
    asyncio.run(connections.close())


@contextmanager
def behind_pgbouncer(_: Path) -> Iterator[Place]:
    empty_postgres()
    connections = Connections(parse_address(shared_bouncer().url(ready_database())))
    yield Place(partial(PostgresState, connections))
    asyncio.run(connections.close())


@lru_cache(maxsize=1)
def shared_bouncer() -> Bouncer:
    """Return the one PgBouncer of this process before the shared server; ended at exit."""
    stack = ExitStack()
    made = stack.enter_context(bouncer(shared()))
    atexit.register(stack.close)
    return made


@lru_cache(maxsize=1)
def ready_database() -> str:
    """Return the name of a database whose schema is made."""
    name = "ready"
    shared().ask(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {ROLE} ENCODING 'UTF8'")

    async def make_ready() -> None:
        clock = ScriptedClock()
        await (await open_postgres(shared().url(name), StateOptions(clock, "", lock_timeout_s=0.0))).close()

    asyncio.run(make_ready())
    return name


def empty_postgres() -> None:
    """Drop all rows of the ready database: far quicker than a new one, and of a second one none."""
    rows = [name for kind, name in TABLES.items() if kind is not StateRow]
    tables = [*rows, "budgets", "locks", "leases", "replicas"]
    sequences = ("attempts", "losses", "overrides", "observed_periods", "state_changes")
    emptied = [f"DELETE FROM mmp.{table}" for table in tables]
    emptied += [f"SELECT setval('mmp.{table}_id', 1, false)" for table in sequences]
    shared().ask("; ".join(emptied), ready_database())


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "sqlite-memory": sqlite_in_memory,
    "sqlite-file": sqlite_file,
}
"""Every implementation by name; a new one is one more row."""

if tried("PostgreSQL"):
    PLACES["postgres"] = in_postgres
    if tried("PgBouncer"):
        PLACES["pgbouncer"] = behind_pgbouncer


def bare(known: Known | None) -> Known | None:
    """Return what is known, without the details of a proof: its file, how it was made and when."""
    match known:
        case Confirmed():
            return replace(known, file=NO_FILE, acknowledged=False, recorded_at=None)
        case Uncertain(last=Confirmed() as last):
            return replace(known, last=replace(last, file=NO_FILE, acknowledged=False, recorded_at=None))
        case _:
            return known


def setting(quantity: str = "100", *, window_ms: int = 5000, freeze_ms: int = 2000) -> Setting:
    return Setting(window_ms, freeze_ms, Quantity(quantity))


def signed(value: Setting | str = "100", family: Family = BTC) -> SignedRequest:
    chosen = setting(value) if isinstance(value, str) else value
    return SignedRequest(family, chosen, "2026-01-02T12:00:00.000Z", b"{}", {"OK-ACCESS-SIGN": "secret"})
