"""The cost of a durable step: a reservation and its verdict, against one bare commit of the same kind."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Ratio, compare
from reconciler.core.model import Environment, ExchangeKind, Family, Quantity, Setting
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, SignedRequest
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import open_state

BATCH = 50
"""Steps per measurement, so that one slow flush of the disk does not decide."""

REQUEST = SignedRequest(
    family=Family("BTC-USD"),
    setting=Setting(5000, 2000, Quantity("100")),
    timestamp="2026-01-01T00:00:00.000Z",
    body=b"{}",
    headers={},
)


class LeapingClock:
    """A clock that advances by a minute at every read, so that there is always a slot."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Return a minute more than the last time."""
        self._now += 60.0
        return self._now

    def wall(self) -> datetime:
        """Return a fixed time of day."""
        return datetime(2026, 1, 1, tzinfo=UTC)

    def suspended_s(self) -> float:
        """Return 0: this machine is never suspended."""
        return 0.0

    async def sleep_until(self, until: float) -> None:
        """Return at once."""


def durable_steps(folder: Path, *, rounds: int) -> Ratio:
    """Compare reserve and settle with one bare durable commit, per step, in ``folder``."""
    state = open_state(str(folder / "state.db"), StateOptions(LeapingClock(), "bench", lock_timeout_s=1.0))
    store = state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR)
    bare = _bare(folder / "bare.db")
    with asyncio.Runner() as runner:
        runner.run(store.identify("1", "localhost"))
        ratio = compare(lambda: runner.run(_steps(store)), lambda: _commits(bare), rounds=rounds)
    bare.close()
    state.close_now()
    return Ratio(ratio.ours_s / BATCH, ratio.theirs_s / BATCH)


async def _steps(store: SqlAccountStore) -> None:
    for _ in range(BATCH):
        slot = await store.reserve(REQUEST, ReserveOptions(assume_idle=True))
        assert isinstance(slot, Reservation)
        await store.settle(
            slot.attempt,
            AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
        )


def _bare(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE attempts (id INTEGER PRIMARY KEY, body TEXT)")
    return db


def _commits(db: sqlite3.Connection) -> None:
    for number in range(BATCH):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO attempts (body) VALUES (?)", (f"{number}:" + "x" * 100,))
        db.execute("COMMIT")
