"""The direction lattice over all pairs of a small world, against an oracle that shares no code with it."""

from __future__ import annotations

from itertools import chain, product

import pytest

from reconciler.core.change_direction import (
    LESS_SAFE,
    PROTECTIVE,
    Direction,
    changed_fields,
    direction,
    is_no_looser,
    is_protective,
    loosest,
    tightest,
    tightness,
)
from reconciler.core.model import Field, Setting
from tests.unit.builders import setting

# Each field's values from loosest to tightest, as the contract ranks them, in rows of equal texts.
WINDOWS = [["0"], ["1"], ["999"], ["1000"], ["9999999999"]]
FREEZES = [["1"], ["999"], ["1000"], ["0"]]
QUANTITIES = [["100", "100.0", "100.00"], ["99.5", "99.50"], ["9"], ["0.1"]]

WORLD = [
    (window, freeze, quantity)
    for window, freeze, quantity in product(
        *(chain(*ranking) for ranking in (WINDOWS, FREEZES, QUANTITIES))
    )
]

OPPOSITE = {
    None: None,
    Direction.ENABLE: Direction.DISABLE,
    Direction.DISABLE: Direction.ENABLE,
    Direction.TIGHTEN: Direction.LOOSEN,
    Direction.LOOSEN: Direction.TIGHTEN,
    Direction.MIXED: Direction.MIXED,
}


def place(value: str, ranking: list[list[str]]) -> int:
    """Return where ``value`` stands in ``ranking``; a larger place is tighter."""
    return next(rank for rank, equals in enumerate(ranking) if value in equals)


def oracle(before: tuple[str, str, str], after: tuple[str, str, str]) -> str | None:
    """Return the direction as the contract words it, from the tables above."""
    if before[0] != "0" and after[0] == "0":
        return "disable"
    if before[0] == "0" and after[0] != "0":
        return "enable"
    rankings = (WINDOWS, FREEZES, QUANTITIES)
    moved = [
        place(new, ranking) - place(old, ranking)
        for old, new, ranking in zip(before, after, rankings, strict=True)
    ]
    tighter, looser = any(step > 0 for step in moved), any(step < 0 for step in moved)
    if tighter and looser:
        return "mixed"
    return "tighten" if tighter else "loosen" if looser else None


def made(texts: tuple[str, str, str]) -> Setting:
    return setting("/".join(texts))


def test_every_pair_of_the_world_goes_the_way_the_contract_says() -> None:
    for before, after in product(WORLD, repeat=2):
        assert direction(made(before), made(after)) == oracle(before, after), (before, after)


def test_there_and_back_are_opposites() -> None:
    for before, after in product(map(made, WORLD), repeat=2):
        assert OPPOSITE[direction(before, after)] == direction(after, before)


@pytest.mark.parametrize("same", [Direction.TIGHTEN, Direction.LOOSEN, Direction.ENABLE, Direction.DISABLE])
def test_two_steps_of_one_direction_make_a_step_of_that_direction(same: Direction) -> None:
    world = [made(texts) for texts in WORLD if texts[2] in ("100", "99.5", "9")]
    steps: dict[Setting, list[Setting]] = {
        before: [after for after in world if direction(before, after) is same] for before in world
    }
    for before, nexts in steps.items():
        for middle in nexts:
            assert all(direction(before, after) is same for after in steps[middle])


@pytest.mark.unmeasured
def test_no_direction_means_equal_by_value_and_no_field_changed() -> None:
    for before, after in product(map(made, WORLD), repeat=2):
        equal = tightness(before) == tightness(after)
        assert (direction(before, after) is None) == (before == after) == equal
        assert (changed_fields(before, after) == ()) == equal


@pytest.mark.unmeasured
def test_changed_fields_are_exactly_those_whose_place_differs() -> None:
    for before, after in product(WORLD, repeat=2):
        rankings = (WINDOWS, FREEZES, QUANTITIES)
        differ = [
            name
            for name, old, new, ranking in zip(Field, before, after, rankings, strict=True)
            if place(old, ranking) != place(new, ranking)
        ]
        assert changed_fields(made(before), made(after)) == tuple(differ)


def test_from_nothing_every_setting_enables_unless_it_disables() -> None:
    for after in map(made, WORLD):
        expected = Direction.DISABLE if after.disabled else Direction.ENABLE
        assert direction(None, after) is expected
        assert changed_fields(None, after) == tuple(Field)


@pytest.mark.parametrize("quantity", ["1", "12345678901234567890", "0.00000000000000000001"])
def test_until_reset_is_the_longest_freeze_and_disabled_the_shortest_window(quantity: str) -> None:
    longest = setting(f"5000/0/{quantity}")
    assert direction(setting(f"5000/9999999999/{quantity}"), longest) is Direction.TIGHTEN
    assert tightness(setting(f"0/2000/{quantity}"))[0] < tightness(setting(f"1/2000/{quantity}"))[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.30000000000000000001", "0.3"),
        ("10000000000000000001", "10000000000000000000"),
        ("100.1", "100"),
        ("1.0000000000000000000000000000000000000002", "1.0000000000000000000000000000000000000001"),
    ],
)
def test_quantities_are_compared_exactly_however_long(before: str, after: str) -> None:
    assert direction(setting(f"1/1/{before}"), setting(f"1/1/{after}")) is Direction.TIGHTEN
    assert direction(setting(f"1/1/{after}"), setting(f"1/1/{before}")) is Direction.LOOSEN


def test_every_direction_only_protects_or_takes_something_away() -> None:
    assert set(Direction) == PROTECTIVE | LESS_SAFE
    assert not PROTECTIVE & LESS_SAFE
    same = setting("5000/2000/100")
    assert (is_protective(same, same), is_no_looser(same, same)) == (False, True)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (["5000/2000/100"], "5000/2000/100"),
        (["5000/2000/100", "1000/9000/50"], "1000/2000/100"),
        (["5000/0/100", "5000/9000/50"], "5000/9000/100"),
        (["5000/0/100", "5000/0/50"], "5000/0/100"),
        (["5000/2000/100", "0/2000/100"], None),
        (["5000/2000/100", None], None),
        ([None], None),
        ([], None),
    ],
)
def test_the_loosest_is_taken_field_by_field(settings: list[str | None], found: str | None) -> None:
    every = [None if one is None else setting(one) for one in settings]
    assert loosest(every) == (None if found is None else setting(found))


def test_the_tightest_is_taken_field_by_field_and_is_no_looser_than_either() -> None:
    texts = [
        f"{window}/{freeze}/{quantity}"
        for window in (1, 5)
        for freeze in (0, 2000)
        for quantity in (50, 100)
    ]
    every = [setting(text) for text in (*texts, "0/2000/10")]
    for one in every:
        for other in every:
            found = tightest(one, other)
            assert found == tightest(other, one)
            assert is_no_looser(one, found)
            assert is_no_looser(other, found)
            enabled = [each for each in (one, other) if not each.disabled] or [one]
            ranks = zip(*map(tightness, enabled), strict=True)
            assert tightness(found) == tuple(max(rank) for rank in ranks)
