"""Which pauses hold and which of two stays: every case of a small world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from reconciler.core.model import Family, Pause, PausedBy, Setting
from reconciler.core.pauses import active_pauses, obsolete_breaker_pauses, paused, replaces
from tests.unit.builders import BTC, ETH, SOL, desired, setting

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
ENDS = {"over": WALL, "running": WALL + timedelta(seconds=1), "endless": None}
WANTED = desired({BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")})


def pause(family: Family, contested_setting: Setting | None = None, until: datetime | None = None) -> Pause:
    return Pause(family, "why", WALL - timedelta(minutes=1), until, contested_setting)


@pytest.mark.parametrize(
    ("family", "contested_setting", "holds"),
    [
        (BTC, None, True),
        (SOL, None, True),
        (BTC, setting("5000/2000/100"), True),
        (BTC, setting("5000/2000/100.00"), True),
        (BTC, setting("5000/2000/101"), False),
        (BTC, setting("5001/2000/100"), False),
        (BTC, setting("5000/0/100"), False),
        (BTC, setting("1000/0/500"), False),
        (SOL, setting("5000/2000/100"), True),  # a file that does not name it wants no other value
    ],
)
def test_a_pause_by_the_breaker_is_over_as_soon_as_another_value_is_desired(
    family: Family, contested_setting: Setting | None, holds: bool
) -> None:
    one = pause(family, contested_setting)
    assert active_pauses([one], WANTED) == ((one,) if holds else ())
    assert paused([one], WANTED) == ({family} if holds else set())
    assert one.by is (PausedBy.BREAKER if contested_setting else PausedBy.MANUAL)
    assert obsolete_breaker_pauses([one], WANTED) == ({} if holds else {family: contested_setting})


@pytest.mark.parametrize("new", list(PausedBy))
def test_any_pause_of_a_family_that_had_none_is_stored(new: PausedBy) -> None:
    assert replaces(made(new, "endless"), None, WALL)


@pytest.mark.parametrize(("new", "old", "end"), list(product(PausedBy, PausedBy, ENDS)))
def test_only_a_manual_pause_in_force_withstands_one_by_the_breaker(
    new: PausedBy, old: PausedBy, end: str
) -> None:
    withstands = (new, old) == ("breaker", "manual") and end != "over"
    assert replaces(made(new, "endless"), made(old, end), WALL) is not withstands


def made(by: PausedBy, end: str) -> Pause:
    return pause(BTC, setting("1/1/1") if by is PausedBy.BREAKER else None, ENDS[end])
