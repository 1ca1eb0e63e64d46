"""Real processes on one real state file: the rate, the lock, and kills at any moment.

Children run this file with a verb; the clock is the machine's own, because no script reaches across
processes. Everything is over in a few seconds: only the first window of a state is looked at.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.core.model import Confirmed, Environment, ExchangeKind, Uncertain
from reconciler.core.pacing import BURST
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, NoSlotUntil, Reservation, ReserveOptions
from reconciler.errors import StateLocked
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite.state import SqliteState, open_state
from tests.contract.stores import BTC, setting, signed

ROOT = str(Path(__file__).parents[2])
KILLS = 20


class RealClock:
    """The machine's clock, which all processes share."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - self.now()))


class LeapingClock(RealClock):
    """The machine's clock with a minute leapt at every reservation, so that there is always a slot."""

    def __init__(self, start: float) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def leap(self) -> None:
        self.time += 60.0


def opened(path: str, clock: RealClock, *, lock_timeout_s: float = 0.0) -> SqliteState:
    return open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=lock_timeout_s))


async def identified(state: SqliteState) -> SqlAccountStore:
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    await store.identify("1", "host")
    return store


def child(verb: str, *values: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.unit.test_store_processes", verb, *values]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


# -- what children do -------------------------------------------------------------------------------


async def hammer(path: str, seconds: str) -> None:
    """Reserve as fast as possible; print every reservation."""
    state = opened(path, RealClock())
    store = await identified(state)
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        slot = await store.reserve(signed(), ReserveOptions(assume_idle=True))
        if isinstance(slot, Reservation):
            print("reserved", slot.attempt, flush=True)
            await store.settle(
                slot.attempt,
                AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
            )
    state.close_now()


async def write_for_ever(path: str, start: str) -> None:
    """Write one value after the other; say so only after each step is durable."""
    clock = LeapingClock(float(start))
    store = await identified(opened(path, clock))
    for number in range(1, 1_000_000):
        clock.leap()
        slot = await store.reserve(signed(str(number)), ReserveOptions(assume_idle=True))
        assert isinstance(slot, Reservation)
        print("reserved", slot.attempt, number, flush=True)
        await store.settle(
            slot.attempt,
            AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
        )
        print("settled", slot.attempt, number, flush=True)


async def make_for_ever(directory: str, _: str) -> None:
    """Make one new state after the other."""
    for number in range(1_000_000):
        path = os.path.join(directory, str(number), "state.db")
        print(path, flush=True)
        opened(path, RealClock()).close_now()


async def hold(path: str, purpose: str) -> None:
    """Hold the lock until killed."""
    store = await identified(opened(path, RealClock()))
    async with store.locked(purpose):
        print("held", flush=True)
        sys.stdin.readline()


# -- what is promised -------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_together_never_get_more_slots_than_one_would(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    children = [child("hammer", path, "1.0") for _ in range(3)]
    for one in children:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    sentence = [one.communicate("go\n", timeout=30)[0] for one in children]
    assert [one.returncode for one in children] == [0, 0, 0]
    reserved = [line for text in sentence for line in text.splitlines() if line.startswith("reserved")]
    assert len(reserved) == len(set(reserved)) == BURST
    state = opened(path, RealClock())
    store = asyncio.run(identified(state))
    assert isinstance(asyncio.run(store.reserve(signed(), ReserveOptions(assume_idle=True))), NoSlotUntil)
    state.close_now()


def test_the_lock_of_another_process_is_named_and_ends_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    holder = child("hold", path, "apply")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    state = opened(path, RealClock(), lock_timeout_s=0.1)

    async def enter() -> None:
        async with (await identified(state)).locked("run"):
            pass

    with pytest.raises(StateLocked) as refused:
        asyncio.run(enter())
    assert f"locked by pid {holder.pid} on {os.uname().nodename} (apply, since 20" in refused.value.message
    holder.kill()
    holder.communicate(timeout=10)
    asyncio.run(enter())
    state.close_now()


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_good_state_with_every_acknowledged_step(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    moments = random.Random(7)
    leapt = 0.0
    acknowledged = 0
    for _ in range(KILLS):
        leapt += 10_000_000.0
        victim = child("write_for_ever", path, str(leapt))
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.05))
        victim.kill()
        sentence = victim.communicate(timeout=10)[0]
        acknowledged += _check_against(path, leapt, sentence)
    assert acknowledged > KILLS


def _check_against(path: str, now: float, sentence: str) -> int:
    """Hold what is on record against the last things a killed child said; return how many there were."""
    steps = [line.split() for line in sentence.splitlines(keepends=True) if line.endswith("\n")]
    state = opened(path, LeapingClock(now + 5_000_000.0))
    store = asyncio.run(identified(state))
    attempts = {attempt.id: attempt for attempt in asyncio.run(store.history(1_000_000)).attempts}
    for verb, attempt, number in steps:
        record = attempts[int(attempt)]
        assert record.setting == setting(number)
        if verb == "settled":
            assert record.status is AttemptStatus.APPLIED
    assert sum(attempt.is_open for attempt in attempts.values()) <= KILLS
    settled = [int(number) for verb, _, number in steps if verb == "settled"]
    known = asyncio.run(store.known())[BTC]
    last = known.last if isinstance(known, Uncertain) else known
    if settled:
        assert isinstance(last, Confirmed)
        assert last.setting.qty_limit.value >= max(settled)
    state.close_now()
    return len(steps)


@pytest.mark.slow
def test_kills_while_states_are_made_leave_none_or_good_ones(tmp_path: Path) -> None:
    moments = random.Random(11)
    paths: list[str] = []
    for kill in range(5):
        victim = child("make_for_ever", str(tmp_path / str(kill)), "")
        assert victim.stdout is not None
        paths += [victim.stdout.readline().strip() for _ in range(1 + kill)]
        time.sleep(moments.uniform(0.0, 0.03))
        os.killpg(victim.pid, signal.SIGKILL)
        paths += victim.communicate(timeout=10)[0].splitlines()
    assert len(paths) > 5
    for path in paths[-50:]:
        opened(path, RealClock()).close_now()
        assert os.stat(path).st_nlink == 1


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
