"""The real clock never comes back early, comes back at once when nudged, and knows its boot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
    async def scenario() -> None:
        clock = SystemClock()
        until = clock.now() + wait_s
        await clock.sleep_until(until)
        assert until <= clock.now() < until + 1.0

    asyncio.run(scenario())


def test_a_long_pause_is_made_of_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_NAP_S", 0.002)

    async def scenario() -> None:
        clock = SystemClock()
        until = clock.now() + 0.02
        await clock.sleep_until(until)
        assert clock.now() >= until

    asyncio.run(scenario())


@pytest.mark.parametrize("until", [1e12, float("inf")])
def test_a_wake_ends_every_sleep_under_way(until: float) -> None:
    async def scenario() -> None:
        clock = SystemClock()
        pauses = [asyncio.create_task(clock.sleep_until(until)) for _ in range(3)]
        await asyncio.sleep(0.005)
        assert not any(pause.done() for pause in pauses)
        clock.wake()
        await asyncio.wait_for(asyncio.gather(*pauses), 1.0)

    asyncio.run(scenario())


def test_a_wake_between_sleeps_ends_the_next_one_only() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        clock.wake()
        await asyncio.wait_for(clock.sleep_until(1e12), 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.sleep_until(1e12), 0.01)

    asyncio.run(scenario())


def test_a_wake_that_was_received_is_not_remembered() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        pause = asyncio.create_task(clock.sleep_until(1e12))
        await asyncio.sleep(0.005)
        clock.wake()
        await asyncio.wait_for(pause, 1.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.sleep_until(1e12), 0.01)

    asyncio.run(scenario())


def test_a_pause_that_is_over_already_lets_others_run() -> None:
    async def scenario() -> None:
        ran: list[bool] = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        await SystemClock().sleep_until(0.0)
        assert ran == [True]

    asyncio.run(scenario())


def test_one_clock_serves_several_loops() -> None:
    clock = SystemClock()
    for _ in range(2):
        asyncio.run(clock.sleep_until(clock.now() + 0.002))


def test_it_runs_as_fast_as_time_does() -> None:
    clock = SystemClock()
    before, raw_before = time.monotonic(), clock.now()
    time.sleep(0.02)
    assert clock.now() - raw_before == pytest.approx(time.monotonic() - before, abs=0.01)


HERE = "time:[4026531834]"
AWAY = "time:[4026532178]"
NOT_SHIFTED = "monotonic           0         0\nboottime            0         0\n"
SHIFTED = "monotonic        1000         0\nboottime            0         0\n"


@dataclass(frozen=True, slots=True)
class Proc:
    """What /proc says of one process; None: there is no such file."""

    boot: str | None = "6b0c"
    ours: str | None = HERE
    childrens: str | None = HERE
    offsets: str | None = NOT_SHIFTED


@pytest.fixture
def identity_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Proc], str]:
    boot_id, offsets = tmp_path / "boot_id", tmp_path / "timens_offsets"
    ours, childrens = tmp_path / "time", tmp_path / "time_for_children"
    monkeypatch.setattr(module, "_BOOT_ID", boot_id)
    monkeypatch.setattr(module, "_TIME_NAMESPACE", ours)
    monkeypatch.setattr(module, "_CHILDRENS_NAMESPACE", childrens)
    monkeypatch.setattr(module, "_TIME_OFFSETS", offsets)

    def identity(proc: Proc) -> str:
        for path in tmp_path.iterdir():
            path.unlink()
        for path, content in ((boot_id, proc.boot), (offsets, proc.offsets)):
            if content is not None:
                path.write_text(content)
        for path, target in ((ours, proc.ours), (childrens, proc.childrens)):
            if target is not None:
                path.symlink_to(target)
        boot_identity.cache_clear()
        return boot_identity()

    return identity


SHIFTED_AWAY = Proc(ours=AWAY, childrens=AWAY, offsets=SHIFTED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Proc(), Proc()),
        (Proc(), Proc(offsets=" ".join(NOT_SHIFTED.split()))),
        (Proc(), Proc(ours=AWAY, childrens=AWAY)),
        (SHIFTED_AWAY, SHIFTED_AWAY),
        (SHIFTED_AWAY, Proc(ours="time:[1]", childrens="time:[1]", offsets=SHIFTED)),
        (Proc(offsets=None), Proc(ours=None, childrens=None, offsets=None)),
    ],
)
def test_one_clock_has_one_identity(one: Proc, other: Proc, identity_of: Callable[[Proc], str]) -> None:
    assert identity_of(one) == identity_of(other)
    assert identity_of(one).startswith("6b0c")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Proc(), Proc(boot="7777")),
        (Proc(), SHIFTED_AWAY),
        # The kernel gives the inode of a namespace that is gone to the next one.
        (SHIFTED_AWAY, replace(SHIFTED_AWAY, offsets=SHIFTED.replace("1000", "5000"))),
        (SHIFTED_AWAY, replace(SHIFTED_AWAY, offsets=SHIFTED.replace("1000", "-1000"))),
        (SHIFTED_AWAY, replace(SHIFTED_AWAY, offsets=NOT_SHIFTED)),
    ],
)
def test_two_clocks_have_two_identities(one: Proc, other: Proc, identity_of: Callable[[Proc], str]) -> None:
    assert identity_of(one) != identity_of(other)


@pytest.mark.parametrize(
    "proc",
    [
        Proc(boot=None),
        Proc(ours=AWAY, childrens=AWAY, offsets=None),
        Proc(ours=AWAY, childrens=AWAY, offsets=""),
        Proc(offsets="monotonic soon"),
        Proc(childrens=AWAY),
        Proc(childrens=AWAY, offsets=SHIFTED),
        Proc(ours=AWAY, offsets=NOT_SHIFTED),
        Proc(childrens=None),
    ],
)
def test_a_clock_without_an_identity_equals_no_other(
    proc: Proc, identity_of: Callable[[Proc], str]
) -> None:
    first = identity_of(proc)
    assert first.startswith("process:")
    assert boot_identity() == first, "one process, one name"
    assert identity_of(proc) != first


def test_this_machine_says_the_same_each_time() -> None:
    assert boot_identity() == boot_identity()
