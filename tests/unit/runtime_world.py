"""A watched account in short words: a builder gives defaults, a test says what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reconciler.core.events import Compared, Event
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Desired, Family, Known, LiveRead, LiveRow, Pause, Setting
from reconciler.core.monitoring.account_runtime import AccountRuntime, FileInForce, apply_event, initial
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.core.pacing import CountedRequest, Ledger
from reconciler.core.plan import PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.web.latest_state import AccountSnapshot, LatestState
from tests.unit.builders import BTC, ETH, NOW, desired, setting

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
INTERVAL_S = 30.0
A = setting("5000/2000/100")
WANTED = {BTC: A, ETH: A}
IDLE = Ledger(sent=(CountedRequest(1, NOW - 60),))


def wall_at(now: float) -> datetime:
    """Return the time of day at an instant of the test's clock."""
    return WALL + timedelta(seconds=now - NOW)


def fresh(
    wanted: Mapping[Family, Setting] | Desired = WANTED, *, live: bool = True, account: str = "main"
) -> AccountRuntime:
    """Return the runtime of a loop that began at NOW."""
    file = wanted if isinstance(wanted, Desired) else desired(wanted, account=account)
    runtime = initial(file, host="openapi.okx.com", simulator=False, live=live, now=NOW)
    return replace(runtime, config=FileInForce(file.path, file.sha256, WALL))


def compared(
    known: Mapping[Family, Known] | None = None,
    rows: Mapping[Family, LiveRow] | None = None,
    *,
    wanted: Mapping[Family, Setting] | Desired = WANTED,
    rules: PlanConstraints | None = None,
    ledger: Ledger = IDLE,
    now: float = NOW,
    complete: bool | None = None,
    account: str = "main",
    pauses: tuple[Pause, ...] = (),
    reads: Reads | None = None,
) -> Compared:
    """Return what a pass compares: ``rows`` None is a pass that has not read yet."""
    file = wanted if isinstance(wanted, Desired) else desired(wanted, account=account)
    read = None if rows is None else LiveRead(now - 1, rows)
    reads = reads or Reads(read, display=True)  # what is missing counts as confirmed to be gone
    rules, known = rules or PlanConstraints(), known or {}
    plan = with_schedule(make_plan(file, known, reads, rules, now), ledger, now, assume_idle=False)
    complete = read is not None and not plan.doubtful if complete is None else complete
    return Compared(file, known, ledger, pauses, rules, plan, complete, reads)


def having(runtime: AccountRuntime, *events: Event, now: float = NOW) -> AccountRuntime:
    """Return the runtime after ``events``, all at ``now``."""
    for event in events:
        runtime = apply_event(runtime, event, now=now, wall=wall_at(now))
    return runtime


def shared_state(*runtime: AccountRuntime, awaited: tuple[str, ...] = ()) -> LatestState:
    """Return a board with these accounts."""
    made = LatestState("1.2.3", WALL, UnloadedFiles(awaited))
    for one in runtime:
        made.put(f"{one.desired.account}/{one.desired.environment}", AccountSnapshot(one, INTERVAL_S))
    return made
