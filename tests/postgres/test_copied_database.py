"""A database copied on its server has the same id; the one with the newest request counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions
from reconciler.errors import AccountProblem
from reconciler.store.engine import StateOptions
from reconciler.store.postgres.state import open_state
from reconciler.store.state_registry import StateRegistry
from tests.contract.stores import HOST, UID, ScriptedClock, signed
from tests.support.postgres import shared


async def _use(url: str, folder: Path, clock: ScriptedClock) -> None:
    """Reserve a request as a new process does that has this database as its state."""
    registry = StateRegistry(str(folder), clock, "boot-1", print)
    state = await open_state(url, StateOptions(clock, "boot-1", lock_timeout_s=0.0, registry=registry))
    try:
        store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
        await store.identify(UID, HOST)
        slot = await store.reserve(signed(), ReserveOptions(assume_idle=True))
        assert isinstance(slot, Reservation)
        await store.settle(
            slot.attempt,
            AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
        )
    finally:
        await state.close()


def test_a_copied_database_and_its_original_never_send_beside_each_other(tmp_path: Path) -> None:
    clock, folder = ScriptedClock(), tmp_path / "run"
    with shared().database() as original:
        asyncio.run(_use(shared().url(original), folder, clock))
        with shared().database(original) as copied:
            clock.time += 20
            asyncio.run(_use(shared().url(copied), folder, clock))
            clock.time += 20
            with pytest.raises(AccountProblem) as behind:
                asyncio.run(_use(shared().url(original), folder, clock))
            assert behind.value.code == "state-behind"
            asyncio.run(_use(shared().url(copied), folder, clock))
