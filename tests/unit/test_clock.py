"""The real clock never comes back early, comes back at once when nudged, and knows its boot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from reconciler import clock as module
from reconciler.clock import SystemClock, boot_identity
from reconciler.ports import Clock


@pytest.fixture(autouse=True)
def fresh_identity() -> Iterator[None]:
    boot_identity.cache_clear()
    yield
    boot_identity.cache_clear()


def test_it_is_the_port() -> None:
    clock: Clock = SystemClock()
    assert clock.now() <= clock.now()
    assert clock.wall().tzinfo is UTC


@pytest.mark.parametrize("wait_s", [0.0, 0.0001, 0.003, 0.02])
def test_a_pause_is_never_short(wait_s: float) -> None:
    async def story() -> None:
        clock = SystemClock()
        until = clock.now() + wait_s
        await clock.pause(until)
        assert until <= clock.now() < until + 1.0

    asyncio.run(story())


def test_a_long_pause_is_made_of_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_NAP_S", 0.002)

    async def story() -> None:
        clock = SystemClock()
        until = clock.now() + 0.02
        await clock.pause(until)
        assert clock.now() >= until

    asyncio.run(story())


@pytest.mark.parametrize("until", [1e12, float("inf")])
def test_a_nudge_ends_every_pause_under_way(until: float) -> None:
    async def story() -> None:
        clock = SystemClock()
        pauses = [asyncio.create_task(clock.pause(until)) for _ in range(3)]
        await asyncio.sleep(0.005)
        assert not any(pause.done() for pause in pauses)
        clock.nudge()
        await asyncio.wait_for(asyncio.gather(*pauses), 1.0)

    asyncio.run(story())


def test_a_nudge_between_pauses_ends_the_next_one_only() -> None:
    async def story() -> None:
        clock = SystemClock()
        clock.nudge()
        await asyncio.wait_for(clock.pause(1e12), 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.pause(1e12), 0.01)

    asyncio.run(story())


def test_a_nudge_that_was_heard_is_not_remembered() -> None:
    async def story() -> None:
        clock = SystemClock()
        pause = asyncio.create_task(clock.pause(1e12))
        await asyncio.sleep(0.005)
        clock.nudge()
        await asyncio.wait_for(pause, 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.pause(1e12), 0.01)

    asyncio.run(story())


def test_a_pause_that_is_over_already_lets_others_run() -> None:
    async def story() -> None:
        ran: list[bool] = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        await SystemClock().pause(0.0)
        assert ran == [True]

    asyncio.run(story())


def test_one_clock_serves_several_loops() -> None:
    clock = SystemClock()
    for _ in range(2):
        asyncio.run(clock.pause(clock.now() + 0.002))


def test_it_runs_as_fast_as_time_does() -> None:
    clock = SystemClock()
    before, raw_before = time.monotonic(), clock.now()
    time.sleep(0.02)
    assert clock.now() - raw_before == pytest.approx(time.monotonic() - before, abs=0.01)


def test_the_boot_is_told_apart_by_its_id_and_time_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_id, namespace = tmp_path / "boot_id", tmp_path / "time"
    boot_id.write_text("6b0c\n")
    monkeypatch.setattr(module, "_BOOT_ID", boot_id)
    monkeypatch.setattr(module, "_TIME_NAMESPACE", namespace)
    assert boot_identity() == "6b0c"
    boot_identity.cache_clear()
    namespace.symlink_to("time:[4026531834]")
    assert boot_identity() == "6b0c/time:[4026531834]"


def test_without_a_boot_id_the_process_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BOOT_ID", tmp_path / "absent")
    first = boot_identity()
    assert first.startswith("process:")
    assert boot_identity() == first
    boot_identity.cache_clear()
    assert boot_identity() != first


def test_this_machine_says_the_same_each_time() -> None:
    assert boot_identity() == boot_identity()
