"""Whether a loop is alive: one that hangs is seen to, wherever it does; one that only waits is not.

The loop and the store are the real ones, in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconciler.controller.loop import BURST_S
from reconciler.core.events import (
    ConfigAccepted,
    ConfigRejected,
    Event,
    LeaseTaken,
    PolicyAccepted,
    PolicyRejected,
)
from reconciler.core.model import LiveRow
from reconciler.core.monitoring.account_runtime import (
    SILENCE_S,
    AccountRuntime,
    alive,
    apply_event,
    initial,
)
from tests.unit.builders import BTC
from tests.unit.test_loop import A, B, Wire, World, world

HOUR_S = 3600.0
LOCK_TIMEOUT_S = 300.0
HUNG_AT = 2000.0


class HungError(Exception):
    """Stands for a wait that never ends: as far as anybody hears, nothing comes after it."""


class Pulse:
    """The runtime of a world's loop, and whether it was alive at every check."""

    def __init__(self, here: World) -> None:
        self._clock = here.clock
        self.runtime: AccountRuntime = initial(
            here.desired, host="h", simulator=False, live=True, now=here.clock.now()
        )
        self.looks: list[tuple[float, bool]] = []
        here.listeners.append(self.on_event)

    def on_event(self, event: Event) -> None:
        self.runtime = apply_event(self.runtime, event, now=self._clock.now(), wall=self._clock.wall())

    def look(self) -> None:
        now = self._clock.now()
        self.looks.append((now, alive(self.runtime, now)))

    def seen_after_s(self) -> float:
        """Return how long after now it is seen that nothing is heard any more, to the second."""
        now = self._clock.now()
        return next(float(s) for s in range(10**5) if not alive(self.runtime, now + s))


def hanging(here: World) -> Callable[..., Any]:
    """Return what takes the place of a method: it does as before, and from HUNG_AT on never returns."""

    def of(method: Callable[..., Any]) -> Callable[..., Any]:
        async def hang(*args: Any, **more: Any) -> Any:
            if here.clock.now() >= HUNG_AT:
                raise HungError
            return await method(*args, **more)

        return hang

    return of


def quiet(**changes: Any) -> World:
    """Return a world in sync that looks once an hour, until a file changes everything at HUNG_AT."""
    here = world(interval_s=HOUR_S)
    here.exchange.live[BTC] = LiveRow(A)
    here.lock_timeout_s = LOCK_TIMEOUT_S
    here.store = here.process()
    here.clock.at(HUNG_AT, lambda: here.want({BTC: B}, **changes))
    return here


EXCHANGE = ("read_live", "open")
STORE = ("recorded_inputs", "record_live", "reserve", "settle")


@pytest.mark.parametrize("where", [*EXCHANGE, *STORE, "send"])
def test_a_loop_that_hangs_in_a_pass_is_seen_to_however_long_its_interval(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = quiet()
    pulse = Pulse(here)
    place: Any = Wire if where == "send" else here.exchange if where in EXCHANGE else here.store
    monkeypatch.setattr(place, where, hanging(here)(getattr(place, where)) if where != "send" else _hung)
    with pytest.raises(HungError):
        here.run(4 * HOUR_S)
    assert HUNG_AT <= here.clock.now() < HUNG_AT + 1.0
    assert SILENCE_S - 1 <= pulse.seen_after_s() <= SILENCE_S + LOCK_TIMEOUT_S + BURST_S + 1


async def _hung(*_: object, **__: object) -> None:
    raise HungError


@pytest.mark.parametrize("where", ["read_live", "open", "send"])
def test_beyond_the_lock_a_hang_is_seen_within_the_silence_alone(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = quiet()
    pulse = Pulse(here)
    place: Any = Wire if where == "send" else here.exchange
    monkeypatch.setattr(place, where, hanging(here)(getattr(place, where)) if where != "send" else _hung)
    with pytest.raises(HungError):
        here.run(4 * HOUR_S)
    assert pulse.seen_after_s() <= SILENCE_S + 1


@pytest.mark.parametrize("where", ["account", "identify"])
def test_a_loop_that_hangs_while_it_asks_whose_key_it_is_is_seen_to(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = quiet(expected_uid="446556540")
    pulse = Pulse(here)
    place: Any = here.exchange if where == "account" else here.store
    monkeypatch.setattr(place, where, hanging(here)(getattr(place, where)))
    with pytest.raises(HungError):
        here.run(4 * HOUR_S)
    assert pulse.seen_after_s() <= SILENCE_S + 1


def test_a_loop_that_never_gets_its_turn_is_seen_to() -> None:
    here = quiet()
    pulse = Pulse(here)

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        if here.clock.now() >= HUNG_AT:
            raise HungError
        yield

    here.turn = turn
    with pytest.raises(HungError):
        here.run(4 * HOUR_S)
    assert pulse.seen_after_s() <= SILENCE_S + LOCK_TIMEOUT_S + BURST_S + 1


@pytest.mark.slow
@pytest.mark.unmeasured
def test_a_loop_that_only_waits_for_the_lock_is_alive_however_long_it_may() -> None:
    here = quiet()
    pulse = Pulse(here)

    async def hold() -> None:
        async with here.process().locked("apply"):
            while here.clock.now() < HUNG_AT + 1000.0:
                await asyncio.sleep(0)

    here.clock.at(HUNG_AT - 10, lambda: asyncio.get_running_loop().create_task(hold()))
    for second in range(1000, 6000, 5):
        here.clock.at(float(second), pulse.look)
    here.run(5000.0)
    assert [at for at, one in pulse.looks if not one] == []
    assert here.exchange.live[BTC].setting == B


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("interval_s", [2.0, HOUR_S])
def test_a_loop_that_makes_its_rounds_is_alive_in_any_error(interval_s: float) -> None:
    here = world(interval_s=interval_s)
    pulse = Pulse(here)
    for second in range(1000, 6000, 5):
        here.clock.at(float(second), pulse.look)
    here.clock.at(1500.0, lambda: setattr(here.exchange, "kept", None))
    here.clock.at(2000.0, lambda: setattr(here.exchange, "kept", "first"))
    here.clock.at(3000.0, lambda: setattr(here.exchange, "latency_s", 10.0))
    here.clock.at(4000.0, lambda: here.want({BTC: B}))
    here.run(5000.0)
    assert [at for at, one in pulse.looks if not one] == []


@pytest.mark.parametrize(
    "event",
    [
        ConfigAccepted("mmp.yaml", "0" * 64),
        ConfigRejected("mmp.yaml", ()),
        PolicyAccepted("p.yaml", None),
        PolicyRejected("p.yaml", ()),
        LeaseTaken(""),
    ],
)
def test_files_that_change_do_not_make_a_loop_look_alive(event: Event) -> None:
    here = quiet()
    pulse = Pulse(here)
    here.clock.pass_by(SILENCE_S + 1)
    pulse.on_event(event)
    assert not alive(pulse.runtime, here.clock.now())
