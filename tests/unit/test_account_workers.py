"""The workers of a ``run``: what the failure of one does to the others."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.controller.account_worker import AccountWorker
from reconciler.controller.account_workers import AccountWorkers
from reconciler.controller.event_dispatch import EventReporter
from reconciler.controller.run_context import RunContext, RunOptions
from reconciler.controller.shutdown import GracefulShutdown
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import LoopIdle, RequestReserved
from reconciler.errors import Exit, StateUnusable
from reconciler.okx.wire import parse_base_url
from reconciler.store.engine import StateOptions
from reconciler.store.location import StateFile
from reconciler.watch.last_valid_content import WatchedPolicy
from tests.support.memory_state import MemoryDisk
from tests.unit.builders import BTC, desired, setting

SENDING = RequestReserved(1, BTC, setting("5000/2000/100"), 0.0)
DAMAGED = StateUnusable("state-damaged", "a row of the account is damaged", "restore a backup")


async def _ends(stop_requested: bool, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    """Run two accounts. The first one's state is damaged while a request of the second is in flight."""
    stop, log = GracefulShutdown(), list[str]()

    async def once(worker: AccountWorker) -> None:
        if worker.desired.account == "a":
            await asyncio.sleep(0.2)
            raise DAMAGED
        stop.track(worker.name, SENDING)
        try:
            await asyncio.sleep(0.6)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append("settled")
        stop.track(worker.name, LoopIdle(0.0))

    patch.setattr(AccountWorker, "_once", once)
    files = [
        replace(desired({BTC: setting("5000/2000/100")}), account=name, path=str(folder / f"{name}.yaml"))
        for name in "ab"
    ]
    options = RunOptions(
        config=(),
        policy_file=None,
        state=StateFile(folder / "state.db"),
        base=parse_base_url("http://127.0.0.1:1", frozenset()),
        lock_timeout_s=0.0,
        interval_s=30.0,
        drift=DriftPolicy.HEAL,
        assume_idle=True,
        live=True,
    )
    state = MemoryDisk().open(StateOptions(stop.clock, "boot", lock_timeout_s=30.0))
    policies = {str(folder): WatchedPolicy(None, files[0].path, None)}
    workers = AccountWorkers(
        RunContext(options, state, stop), EventReporter((), stop, simulator=True), policies
    )
    if stop_requested:
        asyncio.get_running_loop().call_later(0.1, stop._ask, signal.SIGTERM)
    with pytest.raises(StateUnusable, match="is damaged"):
        await stop.run(workers.run(tuple(files)))
    assert stop.status is (Exit.TERMINATED if stop_requested else None)
    return log


def test_while_stopping_the_failure_of_one_account_leaves_the_request_of_another_to_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asyncio.run(_ends(True, tmp_path, monkeypatch)) == ["settled"]


def test_otherwise_an_unusable_state_ends_every_account_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asyncio.run(_ends(False, tmp_path, monkeypatch)) == ["cancelled"]
