"""The target, over all settings of a small world, against the rule in other words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from reconciler.core.drift_resolution import DriftPolicy, left_tighter, target
from reconciler.core.model import Setting
from tests.unit.builders import setting

WORLD = [
    f"{window}/{freeze}/{quantity}"
    for window, freeze, quantity in product((0, 1000, 3000), (0, 1000, 3000), ("1", "6"))
]
SETTINGS = [setting(text) for text in WORLD]

Tightness = tuple[int, float, int]
"""Window, freeze and quantity of a setting, each of them larger where it is tighter."""


def tightness(one: Setting) -> Tightness:
    freeze = float("inf") if one.frozen_interval_ms == 0 else one.frozen_interval_ms
    return one.time_interval_ms, freeze, -int(one.qty_limit.value)


def no_looser(one: Setting, than: Setting) -> list[bool]:
    """Tell of each field whether ``one`` is at least as tight."""
    return [mine >= other for mine, other in zip(tightness(one), tightness(than), strict=True)]


def triples() -> Iterator[tuple[Setting, Setting, Setting]]:
    """Yield every accepted, live and wanted setting."""
    return product(SETTINGS, SETTINGS, SETTINGS)


def sent(
    wanted: Setting,
    live: Setting | None,
    accepted: tuple[Setting, ...],
    drift: DriftPolicy = DriftPolicy.HEAL_LOOSENED,
    *,
    is_change: bool = True,
) -> Setting:
    """Return a target where there must be one."""
    found = target(wanted, live, accepted, drift, is_change=is_change)
    assert found is not None
    return found


def test_each_field_is_as_wanted_where_live_is_as_accepted_and_else_the_tighter_one() -> None:
    for accepted, live, wanted in triples():
        found = tightness(sent(wanted, live, (accepted,)))
        was_accepted = live == accepted
        if wanted.disabled and not live.disabled:
            is_as_accepted = not accepted.disabled and tightness(live)[0] == tightness(accepted)[0]
            assert found == tightness(wanted if is_as_accepted else live), (
                "what is on stays as it is, or goes off"
            )
            continue
        if found[0] == 0:
            assert found == tightness(wanted), "what is off protects in no field"
            continue
        for place, (was, now, goal) in enumerate(
            zip(tightness(accepted), tightness(live), tightness(wanted), strict=True)
        ):
            if live.disabled and not was_accepted:
                assert found[place] == goal, "what is off protects in no field"
            elif was == now and accepted.disabled == live.disabled:
                assert found[place] == goal
            else:
                assert found[place] == max(now, goal)


def test_no_field_gets_looser_than_live_unless_live_was_accepted_there() -> None:
    for accepted, live, wanted in triples():
        found = sent(wanted, live, (accepted,))
        if live.disabled or found.disabled:
            continue
        same = [was == now for was, now in zip(tightness(accepted), tightness(live), strict=True)]
        tight_again = no_looser(found, live)
        assert all(tight or was_accepted for tight, was_accepted in zip(tight_again, same, strict=True))
        if accepted.disabled:
            assert all(tight_again), "the fields of a setting that is off were never reviewed as limits"


def test_nothing_is_left_looser_than_wanted_and_accepted_becomes_wanted() -> None:
    for accepted, live, wanted in triples():
        found = sent(wanted, live, (accepted,))
        assert all(no_looser(found, wanted)) or (wanted.disabled and found == live)
        if live == accepted:
            assert found == wanted
        assert sent(wanted, None, (accepted,)) == wanted


def test_the_target_of_a_target_is_itself() -> None:
    """Before the request of it is reserved, and after, when what is desired is the accepted setting."""
    for accepted, live, wanted in triples():
        found = sent(wanted, live, (accepted,))
        assert sent(wanted, found, (accepted,)) == found
        assert sent(wanted, found, (wanted,), is_change=False) == found


@pytest.mark.parametrize("is_change", [False, True])
def test_to_heal_everything_is_to_send_what_is_wanted(is_change: bool) -> None:
    for accepted, live, wanted in triples():
        assert sent(wanted, live, (accepted,), DriftPolicy.HEAL, is_change=is_change) == wanted
        assert sent(wanted, None, (accepted,), DriftPolicy.HEAL, is_change=is_change) == wanted


def test_where_differences_are_only_reported_a_change_is_sent_as_ever_and_a_difference_never() -> None:
    for accepted, live, wanted in triples():
        as_ever = target(wanted, live, (accepted,), DriftPolicy.HEAL_LOOSENED, is_change=True)
        assert target(wanted, live, (accepted,), DriftPolicy.WARN, is_change=True) == as_ever
        reported = target(accepted, live, (accepted,), DriftPolicy.WARN, is_change=False)
        assert reported == (accepted if live == accepted else None)
        assert target(accepted, None, (accepted,), DriftPolicy.WARN, is_change=False) is None


def test_there_what_an_unanswered_change_still_has_to_do_is_sent_and_nothing_looser() -> None:
    """The accepted setting was reserved; live may be as it was accepted before."""
    for earlier, live, wanted in triples():
        found = target(wanted, live, (wanted, earlier), DriftPolicy.WARN, is_change=False)
        if live in (earlier, wanted):
            assert found == wanted
        elif found is not None:
            assert all(no_looser(found, wanted)) or (wanted.disabled and found == live)
            assert found == sent(wanted, live, (wanted, earlier))


def test_what_is_left_tighter_is_the_tighter_of_both_or_of_all_three() -> None:
    for accepted, live, wanted in triples():
        if wanted.disabled and not live.disabled:
            assert left_tighter(wanted, live) == left_tighter(wanted, live, accepted) == live
            continue
        both = [max(pair) for pair in zip(tightness(live), tightness(wanted), strict=True)]
        assert list(tightness(left_tighter(wanted, live))) == both
        for was, now, goal, found in zip(
            *map(tightness, (accepted, live, wanted, left_tighter(wanted, live, accepted))), strict=True
        ):
            assert found == (now if now > max(was, goal) else goal)


@pytest.mark.parametrize(
    ("accepted", "desired", "live", "found"),
    [
        # The attacks of issue 12: a quantity of 1 set by hand, and a change of another field alone.
        ("5000/2000/1000", "5000/1000/1000", "5000/2000/1", "5000/1000/1"),
        ("5000/2000/1000", "5000/2000/1000", "4999/2000/1", "5000/2000/1"),
        ("5000/2000/1000", "5000/2000/500", "5000/2000/1", "5000/2000/1"),
        ("5000/2000/100", "5000/2000/300", "5000/2000/99999", "5000/2000/300"),
        ("5000/2000/100", "5000/2000/100", "5000/1000/1", "5000/2000/1"),
        # Enabled by hand with few contracts: what a disabled setting named is no limit that was reviewed.
        ("0/2000/1", "5000/2000/100", "5000/2000/1", "5000/2000/1"),
    ],
)
def test_what_was_set_by_hand_stays_tighter(accepted: str, desired: str, live: str, found: str) -> None:
    assert sent(setting(desired), setting(live), (setting(accepted),)) == setting(found)
