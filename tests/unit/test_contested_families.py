"""A family that somebody sets again and again: put back three times in ten minutes, then left.

Time is virtual; loop and store are the real ones. The fighter changes the family a moment after every
write of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconciler.controller.pass_values import InMemoryState
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import Compared, HealBreakerTripped, RequestReserved
from reconciler.core.model import Family, LiveRow, PausedBy, Setting, Uncertain
from reconciler.core.pauses import Heal
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions, SignedRequest
from reconciler.errors import StateUnusable
from tests.unit.builders import BTC, ETH, desired, setting
from tests.unit.test_loop import INFO, A, B, World
from tests.unit.test_loop_faults import Odd
from tests.unit.test_loop_faults import world as two_families
from tests.unit.test_review import at_once

pytestmark = pytest.mark.unmeasured

LOOSER = setting("5000/2000/9999")
FIGHTER_S = 5.0
TEN_MINUTES = 600.0
MOST = 3


def contested_over(*, every_s: float = FIGHTER_S, until: float = 1e9, breaks: bool = True) -> World:
    """Return a world in sync in which BTC-USD is loosened every so many seconds, beside a calm ETH-USD."""
    here = World(desired({BTC: A, ETH: A}), interval_s=FIGHTER_S)
    here.options = replace(here.options, drift=DriftPolicy.HEAL_LOOSENED, heal_breaker=breaks)
    here.exchange.live = {BTC: LiveRow(A), ETH: LiveRow(A)}
    contested_families_on(here, every_s, 1060.0, until)
    return here


def contested_families_on(here: World, every_s: float, since: float, until: float) -> None:
    def loosen(at: float) -> None:
        here.exchange.live[BTC] = LiveRow(LOOSER)
        if at + every_s < until:
            here.clock.at(at + every_s, lambda: loosen(at + every_s))

    here.clock.at(since, lambda: loosen(since))


def sent(here: World, since: float = 0.0) -> list[tuple[float, Setting]]:
    return [(at, wanted) for at, family, wanted in here.exchange.sent if family == BTC and at >= since]


def broken(here: World) -> list[float]:
    return here.times_of(HealBreakerTripped)


def paused_by(here: World) -> list[PausedBy]:
    return [pause.by for pause in asyncio.run(here.store.pauses())]


def again(here: World) -> None:
    """Let a new process go on with the same state."""
    here.stopped = False
    here.store = here.process()


@pytest.mark.slow
def test_it_is_put_back_three_times_and_then_left() -> None:
    here = contested_over()
    here.run(4000.0)
    assert [wanted for _, wanted in sent(here)] == [A] * MOST
    assert here.exchange.live[BTC].setting == LOOSER
    ((_, event),) = [(at, one) for at, one in here.events if isinstance(one, HealBreakerTripped)]
    assert event == HealBreakerTripped(BTC, A, MOST)
    assert paused_by(here) == [PausedBy.BREAKER]


@pytest.mark.slow
def test_without_the_breaker_it_goes_on_for_ever() -> None:
    here = contested_over(breaks=False)
    here.run(600.0)
    assert len(sent(here)) > 20
    assert broken(here) == []


@pytest.mark.slow
def test_rare_changes_of_another_writer_do_not_contest_a_family() -> None:
    here = contested_over(every_s=250.0)
    here.run(4000.0)
    assert len(sent(here)) == 16
    assert broken(here) == []


@pytest.mark.slow
def test_never_more_than_three_heals_in_ten_minutes_at_any_pace() -> None:
    for every_s in (6.0, 20.0, 100.0, 199.0, 201.0, 290.0):
        here = contested_over(every_s=every_s)
        here.run(2500.0)
        moments = [at for at, _ in sent(here)]
        assert all(
            late - early >= TEN_MINUTES for early, late in zip(moments, moments[MOST:], strict=False)
        )


@pytest.mark.slow
def test_other_families_go_on() -> None:
    here = contested_over()
    here.clock.at(1500.0, lambda: here.exchange.live.update({ETH: LiveRow(LOOSER)}))
    here.clock.at(1600.0, lambda: here.want({BTC: A, ETH: B}))
    here.run(1000.0)
    assert [wanted for _, family, wanted in here.exchange.sent if family == ETH] == [A, B]


@pytest.mark.slow
def test_a_restart_forgets_the_count_and_not_the_pause() -> None:
    here = contested_over()
    here.run(500.0)
    again(here)
    here.run(2000.0)
    assert len(sent(here)) == MOST


def test_a_resumed_family_is_counted_anew() -> None:
    here = contested_over(until=1900.0)
    resume = here.process().resume
    here.clock.at(1300.0, lambda: asyncio.get_running_loop().create_task(resume([BTC])))
    here.run(600.0)
    assert len(sent(here)) == 2 * MOST
    assert len(broken(here)) == 2


@pytest.mark.parametrize("newer", [B, setting("5000/2000/50")], ids=["looser", "tighter"])
def test_another_desired_value_is_applied_at_once_and_ends_it_for_good(newer: Setting) -> None:
    here = contested_over(until=1500.0)
    here.clock.at(1600.0, lambda: here.want({BTC: newer, ETH: A}))
    here.clock.at(1700.0, lambda: here.want({BTC: A, ETH: A}))
    here.run(900.0)
    late = sent(here, 1550.0)
    assert [wanted for _, wanted in late] == [newer, A]
    assert late[0][0] < 1602.0
    assert late[1][0] < 1702.0, "going back to what was fought over is a change like any other"
    assert paused_by(here) == []


def test_a_file_that_leaves_the_family_out_for_a_while_does_not_end_it() -> None:
    here = contested_over(until=1500.0)
    here.clock.at(1600.0, lambda: here.want({ETH: A}))
    here.clock.at(1700.0, lambda: here.want({BTC: A, ETH: A}))
    here.run(900.0)
    assert sent(here, 1550.0) == []


@pytest.mark.slow
def test_a_run_without_breaker_is_held_by_one_of_another_for_the_contested_setting_only() -> None:
    here = contested_over(until=1500.0)
    here.run(600.0)
    again(here)
    here.options = replace(here.options, heal_breaker=False)
    here.clock.at(1700.0, lambda: here.want({BTC: B, ETH: A}))
    here.run(300.0)
    assert [(at > 1700.0, wanted) for at, wanted in sent(here)] == [*[(False, A)] * MOST, (True, B)]


@pytest.mark.parametrize("minutes", [10, None], ids=["for a while", "until resumed"])
def test_a_pause_by_hand_is_never_replaced(minutes: int | None) -> None:
    here = contested_over()
    until = None if minutes is None else here.clock.wall() + timedelta(minutes=minutes)
    pausing = here.process().pause([BTC], until=until, reason="by hand")
    here.clock.at(1050.0, lambda: asyncio.get_running_loop().create_task(pausing))
    here.run(400.0)
    assert sent(here) == []
    assert paused_by(here) == [PausedBy.MANUAL]
    assert broken(here) == []


def test_a_breaker_that_cannot_write_it_down_ends_the_loop_and_not_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = contested_over()

    async def damaged(*_: object, **__: object) -> None:
        raise StateUnusable("state-damaged", "the state is damaged")

    monkeypatch.setattr(here.store, "pause", damaged)
    with pytest.raises(StateUnusable):
        here.run(1000.0)
    assert len(sent(here)) == MOST


# -- while another family is in doubt ----------------------------------------------------------------------


def unanswered(here: World, odd: Odd) -> None:
    """A request to set ETH-USD had no answer and may land yet."""
    at_once(here.store.settle(written(here), AttemptResult(AttemptStatus.UNKNOWN, **UNTOLD)))


def lagging(here: World, odd: Odd) -> None:
    """ETH-USD was set a moment ago, and live shows something tighter."""
    at_once(here.store.settle(written(here), AttemptResult(AttemptStatus.APPLIED, **UNTOLD)))
    here.clock.pass_by(0.1)
    odd.live[ETH] = LiveRow(setting("5000/2000/50"))


def missing(here: World, odd: Odd) -> None:
    """The list leaves ETH-USD out, and its own read fails."""
    odd.left_out, odd.own_read = {ETH}, Reply(ReplyClass.BUSY, "50013", "Systems are busy")


def nameless(here: World, odd: Odd) -> None:
    """A row without a name may be the one of ETH-USD."""
    missing(here, odd)
    odd.spoil = lambda read: replace(read, nameless=1)


def overtaken(here: World, odd: Odd) -> None:
    """Another process records a proof of ETH-USD while it is read."""
    theirs, read_at = here.process(), here.clock.now() + 0.02
    at_once(theirs.identify(INFO.uid, "openapi.okx.com"))
    here.clock.at(read_at, lambda: at_once(theirs.adopt({ETH: A}, read_begun_at=read_at)))


UNTOLD: dict[str, Any] = {"definite": True, "limited": False, "code": "", "message": ""}


def written(here: World) -> int:
    slot = at_once(
        here.store.reserve(SignedRequest(ETH, A, "", b"{}", {}), ReserveOptions(assume_idle=True))
    )
    assert isinstance(slot, Reservation)
    return slot.attempt


@pytest.mark.parametrize("doubt", [unanswered, lagging, missing, nameless, overtaken])
@pytest.mark.parametrize("heals", [MOST - 1, MOST])
def test_a_contested_family_is_judged_while_another_family_is_in_doubt(
    doubt: Callable[[World, Odd], None], heals: int
) -> None:
    """BTC-USD was put back so many times, and is looser again."""
    here, odd = two_families({BTC: A, ETH: A})
    odd.live = {BTC: LiveRow(LOOSER), ETH: LiveRow(A)}
    at_once(here.store.identify(INFO.uid, "openapi.okx.com"))
    at_once(here.store.adopt({BTC: A, ETH: A}, read_begun_at=here.clock.now()))
    here.clock.pass_by(20.0)
    doubt(here, odd)
    memory = InMemoryState(heals={BTC: (Heal(A, here.clock.now() - 1.0),) * heals})
    options = replace(here.options, wait_in_pass=True, timeout_s=3.0, heal_breaker=True)
    here.one_pass(memory, options)
    in_doubt = [
        (type(event), ETH in in_doubt_then(here, number))
        for number, (_, event) in enumerate(here.events)
        if isinstance(event, HealBreakerTripped | RequestReserved) and event.family == BTC
    ]
    assert in_doubt == [(HealBreakerTripped if heals == MOST else RequestReserved, True)]
    assert paused_by(here) == ([PausedBy.BREAKER] if heals == MOST else [])
    assert bool(sent(here)) == (heals < MOST)


def in_doubt_then(here: World, before: int) -> set[Family]:
    """Return the families in doubt in the last comparison before so many events."""
    *_, last = (event for _, event in here.events[:before] if isinstance(event, Compared))
    uncertain = {family for family, known in last.known.items() if isinstance(known, Uncertain)}
    return {*last.plan.doubtful, *uncertain}
