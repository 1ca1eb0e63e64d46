"""Strips: from looks and turns to spans, against an oracle that asks second by second."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pytest

from reconciler.core.model import Family
from reconciler.core.monitoring.state_timeline import (
    MAX_GAP_S,
    UNMANAGED,
    ObservedPeriod,
    Segment,
    StateChange,
    build_timeline,
    changed_states,
    continues,
    max_gap_s,
    monotonic_wall,
)
from tests.unit.builders import BTC, ETH, SOL

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def watch(since: float, until: float) -> ObservedPeriod:
    return ObservedPeriod(at(since), at(until))


def turn(seconds: float, state: str, family: Family = BTC) -> StateChange:
    return StateChange(family, state, at(seconds))


def drawn(
    watches: Sequence[ObservedPeriod],
    turns: Sequence[StateChange],
    since: float,
    now: float,
    gap: float = 10.0,
    *,
    watching: bool = True,
) -> dict[Family, list[tuple[str | None, float, float]]]:
    """Return strips with seconds after noon for times."""
    made = build_timeline(watches, turns, since=at(since), now=at(now), watching=watching, max_gap_s=gap)
    return {family: [_segment_fields(span) for span in spans] for family, spans in made.items()}


def _segment_fields(span: Segment) -> tuple[str | None, float, float]:
    since, until = ((one - NOON).total_seconds() for one in (span.since, span.until))
    return span.state, since, until


TIMELINES = {
    "one state, watched all along": ([watch(0, 100)], [turn(0, "in-sync")], [("in-sync", 10, 100)]),
    "a turn cuts": (
        [watch(0, 100)],
        [turn(0, "in-sync"), turn(40, "drifted"), turn(50, "in-sync")],
        [("in-sync", 10, 40), ("drifted", 40, 50), ("in-sync", 50, 100)],
    ),
    "before the first look nobody watched": (
        [watch(30, 100)],
        [turn(30, "pending")],
        [(None, 10, 30), ("pending", 30, 100)],
    ),
    "a family that was not there yet has no state": (
        [watch(0, 100)],
        [turn(60, "pending")],
        [(None, 10, 60), ("pending", 60, 100)],
    ),
    "a hole in the watch, the same state after it": (
        [watch(0, 30), watch(70, 100)],
        [turn(0, "in-sync")],
        [("in-sync", 10, 30), (None, 30, 70), ("in-sync", 70, 100)],
    ),
    "a hole in the watch, another state after it": (
        [watch(0, 30), watch(70, 100)],
        [turn(0, "in-sync"), turn(70, "frozen")],
        [("in-sync", 10, 30), (None, 30, 70), ("frozen", 70, 100)],
    ),
    "a look not overdue yet": ([watch(0, 90)], [turn(0, "in-sync")], [("in-sync", 10, 100)]),
    "a look overdue": ([watch(0, 89)], [turn(0, "in-sync")], [("in-sync", 10, 89), (None, 89, 100)]),
    "not desired any more": (
        [watch(0, 100)],
        [turn(0, "held"), turn(20, UNMANAGED)],
        [("held", 10, 20), (UNMANAGED, 20, 100)],
    ),
    "two turns in one moment: the later counts": (
        [watch(0, 100)],
        [turn(0, "a"), turn(20, "b"), turn(20, "a"), turn(30, "c")],
        [("a", 10, 30), ("c", 30, 100)],
    ),
    "all before: nobody watched, nothing to show": ([watch(0, 5)], [turn(0, "in-sync")], None),
    "never watched": ([], [turn(0, "in-sync")], None),
    "unmanaged all the while": ([watch(0, 100)], [turn(0, "held"), turn(5, UNMANAGED)], None),
    "what lies in the future is not shown": (
        [watch(0, 500)],
        [turn(0, "in-sync"), turn(200, "drifted")],
        [("in-sync", 10, 100)],
    ),
}


@pytest.mark.parametrize("name", TIMELINES)
def test_a_timeline_has_what_was_seen_and_when_nothing_was_observed(name: str) -> None:
    watches, turns, spans = TIMELINES[name]
    assert drawn(watches, turns, 10, 100) == ({} if spans is None else {BTC: spans})


def test_it_is_unknown_whether_another_process_still_observes() -> None:
    watches, turns = [watch(0, 90)], [turn(0, "in-sync")]
    assert drawn(watches, turns, 10, 100, watching=False) == {BTC: [("in-sync", 10, 90), (None, 90, 100)]}


def test_every_family_has_its_own_timeline_by_name() -> None:
    turns = [turn(0, "held", SOL), turn(0, "in-sync", BTC), turn(50, "frozen", SOL)]
    assert list(drawn([watch(0, 100)], turns, 10, 100).items()) == [
        (BTC, [("in-sync", 10, 100)]),
        (SOL, [("held", 10, 50), ("frozen", 50, 100)]),
    ]


@pytest.mark.parametrize("seed", range(200))
def test_timelines_are_what_an_oracle_says_second_by_second(seed: int) -> None:
    rng = Random(seed)
    edges = sorted(rng.sample(range(120), 2 * rng.randint(0, 4)))
    watches = [watch(edges[place], edges[place + 1]) for place in range(0, len(edges), 2)]
    families = (BTC, ETH)
    turns = [
        turn(second, rng.choice(("a", "b", UNMANAGED)), rng.choice(families))
        for second in sorted(rng.choices(range(120), k=rng.randint(0, 8)))
    ]
    since, now = sorted(rng.sample(range(-10, 140), 2))
    gap, watching = rng.choice((0.0, 5.0, 30.0)), rng.random() < 0.7
    made = drawn(watches, turns, since, now, gap, watching=watching)
    if edges and 0 < edges[-1] - now <= gap:
        now = edges[-1]
    for family in families:
        wanted = [
            oracle(watches, turns, family, second, now, gap if watching else -1.0)
            for second in range(since, now)
        ]
        if set(wanted) <= {None, UNMANAGED}:
            assert family not in made
            continue
        spans = made[family]
        assert (spans[0][1], spans[-1][2]) == (since, now)
        assert all(one[2] == two[1] and one[0] != two[0] for one, two in pairwise(spans))
        shown = [state for state, begun, ended in spans for _ in range(int(begun), int(ended))]
        assert shown == wanted


def oracle(
    watches: Sequence[ObservedPeriod],
    turns: Sequence[StateChange],
    family: Family,
    second: int,
    now: int,
    gap: float,
) -> str | None:
    """Return what was seen in the second that begins at ``second``."""
    watched = any(one.since <= at(second) and at(second + 1) <= one.until for one in watches)
    if watches and at(now) <= watches[-1].until + timedelta(seconds=gap):
        watched |= watches[-1].since <= at(second)
    states = [one.state for one in turns if one.family == family and one.at <= at(second)]
    return states[-1] if watched and states else None


# -- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "wall", "recorded"),
    [
        (None, 50, 50),
        (50, 51, 51),
        (50, 50, 50),
        (50, 49.9, 50),
        (50, 40, 50),
        (50, 39.9, 39.9),
        (50, -1e6, -1e6),
        (50, 1e6, 1e6),
    ],
)
def test_a_small_step_back_of_the_clock_is_ridden_out(
    last: float | None, wall: float, recorded: float
) -> None:
    assert monotonic_wall(None if last is None else at(last), at(wall), 10.0) == at(recorded)


@pytest.mark.parametrize(
    ("seconds", "goes"), [(-0.1, False), (0, True), (50, True), (60, True), (60.1, False)]
)
def test_a_watch_goes_on_until_the_looks_are_too_far_apart(seconds: float, goes: bool) -> None:
    assert continues(watch(0, 50), at(seconds), 10.0) is goes


def test_two_missed_looks_of_the_usual_interval_are_no_hole() -> None:
    assert max_gap_s(30.0) == MAX_GAP_S
    assert continues(watch(0, 50), at(50 + MAX_GAP_S))
    assert monotonic_wall(at(MAX_GAP_S), at(0)) == at(MAX_GAP_S)


@pytest.mark.parametrize(
    ("before", "states", "turns"),
    [
        ({}, {}, {}),
        ({}, {BTC: "a"}, {BTC: "a"}),
        ({BTC: "a"}, {BTC: "a"}, {}),
        ({BTC: "a"}, {BTC: "b"}, {BTC: "b"}),
        ({BTC: "a", ETH: "a"}, {ETH: "a"}, {BTC: UNMANAGED}),
        ({BTC: UNMANAGED}, {}, {}),
        ({BTC: UNMANAGED}, {BTC: "a"}, {BTC: "a"}),
    ],
)
def test_only_what_changed_is_a_turn(
    before: dict[Family, str], states: dict[Family, str], turns: dict[Family, str]
) -> None:
    assert changed_states(before, states) == turns


@pytest.mark.parametrize(("interval_s", "gap"), [(1.0, 61.0), (30.0, 90.0), (600.0, 660.0)])
def test_a_look_may_be_a_minute_late_however_seldom_they_are(interval_s: float, gap: float) -> None:
    assert max_gap_s(interval_s) == gap
