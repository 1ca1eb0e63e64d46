"""Processes with their state in the tests' own PostgreSQL, as short helpers for these tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from reconciler.core.model import Environment, ExchangeKind, Family, Known, NeverApplied
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, ReserveResult
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.postgres.state import PostgresState, open_state
from tests.contract.stores import (
    BTC,
    HOST,
    UID,
    ScriptedClock,
    empty_postgres,
    ready_database,
    setting,
    signed,
)
from tests.support.postgres import shared


@dataclass(slots=True)
class Desk:
    """One process: its state, its account's store, its clock."""

    state: PostgresState
    store: SqlAccountStore
    clock: ScriptedClock

    async def reserve(self, quantity: str = "100", family: Family = BTC) -> ReserveResult:
        return await self.store.reserve(signed(quantity, family), ReserveOptions(assume_idle=True))

    async def applied(self, quantity: str = "100", family: Family = BTC) -> int:
        slot = await self.reserve(quantity, family)
        assert isinstance(slot, Reservation)
        await self.settle(slot.attempt)
        return slot.attempt

    async def settle(self, attempt: int, status: AttemptStatus = AttemptStatus.APPLIED) -> None:
        definite = status in (AttemptStatus.APPLIED, AttemptStatus.REJECTED)
        await self.store.settle(
            attempt, AttemptResult(status, definite=definite, limited=False, code="0", message="")
        )

    async def adopt(self, quantity: str, family: Family = BTC) -> None:
        """Adopt the result of a read that starts now."""
        await self.store.adopt({family: setting(quantity)}, read_begun_at=self.clock.time)

    async def known(self, family: Family = BTC) -> Known:
        return (await self.store.known()).get(family, NeverApplied())


def play(scenario: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a new state without a row; it gets the address."""
    empty_postgres()
    asyncio.run(scenario(shared().url(ready_database())))


@asynccontextmanager
async def desk(
    url: str,
    *,
    boot: str = "boot-1",
    at: float = 1000.0,
    account: str = "main",
    uid: str = UID,
    lock_s: float = 0.0,
) -> AsyncIterator[Desk]:
    """Give a process on the state at ``url``, identified; closed in the end."""
    clock = ScriptedClock(at)
    state = await open_state(url, StateOptions(clock, boot, lock_timeout_s=lock_s))
    try:
        store = state.account(account, Environment.LIVE, ExchangeKind.OKX)
        await store.identify(uid, HOST)
        yield Desk(state, store, clock)
    finally:
        await state.close()


@contextmanager
def made_in_another_history() -> Iterator[None]:
    """Let the state have been made on another timeline, and nothing be on record of any User ID."""
    [(now,)] = shared().ask("SELECT history FROM mmp.version", ready_database())
    shared().ask("UPDATE mmp.version SET history = 'another/00000001'", ready_database())
    try:
        yield
    finally:
        shared().ask(f"UPDATE mmp.version SET history = '{now}'", ready_database())
