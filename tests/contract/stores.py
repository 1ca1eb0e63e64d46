"""The implementations of ``ports.AccountStore``, each as a place that many simulated processes can open.

A test asks a place for a store as one process of one boot sees it; opening again is another process.
Nothing of an engine shows here but how to open it, so the suite over it stays the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from reconciler.core.model import Environment, Family, Kind, Quantity, Setting, parse_family
from reconciler.ports import AccountStore, Clock, Signed
from reconciler.store.sqlite import MemoryDisk, SqliteState, open_state

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

    async def pause(self, until: float) -> None:
        self.pauses.append(until)
        self.time = max(self.time, until)


class Place(Protocol):
    """One state, wherever it is kept."""

    def open(
        self,
        clock: Clock,
        *,
        boot: str = "boot-1",
        account: str = "main",
        environment: Environment = Environment.LIVE,
        kind: Kind = Kind.OKX,
        lock_timeout_s: float = 1.0,
        keep_attempts: int = 10_000,
        keep_turns: int = 50_000,
        max_gap_s: float = 90.0,
    ) -> AccountStore:
        """Open the state as a process that was not there before."""
        ...


@dataclass(slots=True)
class SqlitePlace:
    """A place whose states are SqliteState values, closed at the end of the test."""

    states: Callable[..., SqliteState]
    opened: list[SqliteState] = field(default_factory=list)

    def open(
        self,
        clock: Clock,
        *,
        boot: str = "boot-1",
        account: str = "main",
        environment: Environment = Environment.LIVE,
        kind: Kind = Kind.OKX,
        lock_timeout_s: float = 1.0,
        keep_attempts: int = 10_000,
        keep_turns: int = 50_000,
        max_gap_s: float = 90.0,
    ) -> AccountStore:
        state = self.states(
            clock=clock,
            boot=boot,
            lock_timeout_s=lock_timeout_s,
            keep_attempts=keep_attempts,
            keep_turns=keep_turns,
            max_gap_s=max_gap_s,
        )
        self.opened.append(state)
        return state.account(account, environment, kind)

    def close(self) -> None:
        for state in self.opened:
            state.close_now()


@contextmanager
def sqlite_in_memory(_: Path) -> Iterator[Place]:
    disk = MemoryDisk()
    place = SqlitePlace(disk.open)
    yield place
    place.close()
    disk.close()


@contextmanager
def sqlite_file(directory: Path) -> Iterator[Place]:
    path = str(directory / ".mmp" / "state.db")
    place = SqlitePlace(partial(open_state, path))
    yield place
    place.close()


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "sqlite-memory": sqlite_in_memory,
    "sqlite-file": sqlite_file,
}
"""Every implementation by name; a new one is one more row."""


def setting(quantity: str = "100", *, window_ms: int = 5000, freeze_ms: int = 2000) -> Setting:
    return Setting(window_ms, freeze_ms, Quantity(quantity))


def signed(value: Setting | str = "100", family: Family = BTC) -> Signed:
    chosen = setting(value) if isinstance(value, str) else value
    return Signed(family, chosen, "2026-01-02T12:00:00.000Z", b"{}", {"OK-ACCESS-SIGN": "secret"})
