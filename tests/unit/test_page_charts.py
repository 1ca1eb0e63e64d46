"""The pictures of the status page, as numbers: where requests stand, and how a day was spent."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from reconciler.core.monitoring.state_timeline import Segment
from reconciler.core.monitoring.status import FamilyState
from reconciler.web.page.charts import (
    COLUMNS,
    DAY,
    FEWER_COLUMNS,
    HIGH,
    LOW,
    MARKS,
    MIDDLES,
    TimelineMark,
    columns_for,
    pacing_picture,
    paths,
    shares,
)
from tests.support.example_accounts import WALL, day_of

STATES = [*MARKS, None, "unmanaged"]


def test_every_state_of_a_family_has_a_mark() -> None:
    assert set(FamilyState) <= set(MARKS)
    assert len(set(MIDDLES.values())) == len(MIDDLES) == len(TimelineMark) - 1


# ---- the pacing window -----------------------------------------------------------------------------


def test_the_window_is_the_last_ten_seconds_of_the_axis() -> None:
    picture = pacing_picture([], slot_s=None)
    assert (picture.window, picture.window_width, picture.now) == ("66.67%", "13.33%", "80.00%")
    assert [(tick.at, tick.label) for tick in picture.ticks] == [
        ("0.00%", "−60 s"),
        ("26.67%", "−40 s"),
        ("53.33%", "−20 s"),
        ("66.67%", "−10 s"),
        ("80.00%", "now"),
        ("93.33%", "+10 s"),
    ]


@pytest.mark.parametrize(
    ("slot_s", "place"),
    [(0, "80.00%"), (-3, "80.00%"), (7.5, "90.00%"), (15, "100.00%"), (15.1, None), (None, None)],
)
def test_the_next_slot_is_drawn_at_its_time_unless_it_is_beyond_the_edge(
    slot_s: float | None, place: str | None
) -> None:
    assert pacing_picture([], slot_s=slot_s).slot == place


def test_requests_are_drawn_at_their_time_and_older_ones_are_left_out() -> None:
    picture = pacing_picture(
        [(-61, "applied", "a"), (-60, "applied", "b"), (-7.5, "unknown", "c")], slot_s=0
    )
    assert [(dot.at, dot.kind, dot.text) for dot in picture.dots] == [
        ("0.00%", "applied", "b"),
        ("70.00%", "unknown", "c"),
    ]


def test_requests_sent_together_are_drawn_one_above_the_other() -> None:
    times = (-30, -29.9, -29.8, -20, -18, -9, -8.5)
    picture = pacing_picture([(at, "applied", "") for at in times], slot_s=0)
    assert [dot.top for dot in picture.dots] == [LOW, HIGH, LOW, LOW, LOW, LOW, HIGH]


# ---- a day -----------------------------------------------------------------------------------------


def drawn(*states: tuple[float, str | None], columns: int = COLUMNS) -> dict[str, str]:
    return {stroke.mark.value: stroke.path for stroke in paths(day_of(*states), WALL, columns)}


def test_a_timeline_is_one_path_for_each_mark() -> None:
    assert drawn((1440, "in-sync")) == {"in-sync": "M0 10h96"}
    assert drawn((720, "in-sync"), (720, "drifted")) == {"in-sync": "M0 10h48", "differs": "M48 8h48"}
    assert drawn((360, "pending"), (360, "in-sync"), (720, "held"), columns=4) == {
        "differs": "M0 8h1M2 8h2",
        "in-sync": "M1 10h1",
    }
    assert drawn((360, "in-sync")) == {"in-sync": "M72 10h24"}
    assert drawn() == {}


@pytest.mark.parametrize(
    ("state", "mark"),
    [("frozen", "frozen"), ("drifted", "differs"), ("uncertain", "failed"), ("failed", "failed")],
)
def test_one_second_of_a_worse_state_marks_its_entire_column(state: str, mark: str) -> None:
    found = drawn((1400, "in-sync"), (1 / 60, state), (39, "in-sync"))
    assert found[mark] == f"M93 {MIDDLES[TimelineMark(mark)]}h1"


def test_the_worst_of_a_column_is_the_one_that_is_drawn() -> None:
    assert set(drawn((5, "frozen"), (5, "drifted"), (1, "uncertain"))) == {"failed"}
    assert set(drawn((5, "frozen"), (5, "drifted"))) == {"differs"}


def test_a_column_that_was_mostly_not_observed_is_empty() -> None:
    assert drawn((8, "in-sync")) == {"in-sync": "M95 10h1"}
    assert drawn((7, "in-sync"), (8, None)) == {}


def test_what_is_now_is_in_the_newest_column_from_the_first_second_on() -> None:
    assert drawn((1 / 60, "in-sync")) == {"in-sync": "M95 10h1"}
    assert drawn((1 / 60, "drifted"), (1 / 60, "in-sync")) == {"differs": "M95 8h1"}
    asked_before = Segment("in-sync", WALL - timedelta(seconds=12), WALL - timedelta(seconds=9))
    assert paths([asked_before], WALL)[0].path == "M95 10h1"


def test_what_is_older_than_a_day_or_still_to_come_is_left_out() -> None:
    whole = Segment("in-sync", WALL - timedelta(days=3), WALL + timedelta(days=1))
    assert paths([whole], WALL)[0].path == "M0 10h96"
    assert shares([whole], WALL)[0].seconds == DAY.total_seconds()
    gone = Segment("drifted", WALL - timedelta(days=3), WALL - timedelta(days=2))
    assert paths([gone], WALL) == ()


def test_a_day_is_summed_up_by_how_long_and_how_often() -> None:
    message = shares(
        day_of(
            (60, "in-sync"), (2, "drifted"), (3, "pending"), (30, "in-sync"), (1, "held"), (4, "in-sync")
        ),
        WALL,
    )
    assert [(one.mark.value, one.seconds, one.times) for one in message] == [
        ("differs", 360, 2),
        ("in-sync", 5640, 3),
        ("unwatched", 80_400, 1),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_day_always_adds_up_and_every_column_is_drawn_once_at_most(seed: int) -> None:
    chance = random.Random(seed)
    spans = day_of(*((chance.uniform(0.01, 200), chance.choice(STATES)) for _ in range(30)))
    assert sum(one.seconds for one in shares(spans, WALL)) == pytest.approx(DAY.total_seconds(), abs=1)
    columns = chance.choice([COLUMNS, FEWER_COLUMNS])
    runs = [
        tuple(int(number) for number in run.replace("h", " ").split(" "))
        for stroke in paths(spans, WALL, columns)
        for run in stroke.path.split("M")[1:]
    ]
    filled = [column for start, _, width in runs for column in range(start, start + width)]
    assert len(filled) == len(set(filled))
    assert all(0 <= column < columns for column in filled)


def test_many_families_have_coarser_timelines() -> None:
    assert (columns_for(50), columns_for(51)) == (COLUMNS, FEWER_COLUMNS)
