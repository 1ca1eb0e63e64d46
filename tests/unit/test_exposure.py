"""Exposure and factor: the table of examples, and a small world against an oracle of its own.

The oracle computes in whole numbers on a common denominator, from the texts of a setting, and shares no
code with the module. Infinity is written as None.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest

from reconciler.core import exposure as module
from reconciler.core.change_direction import Direction, direction
from reconciler.core.exposure import (
    UNLIMITED,
    Amount,
    Figure,
    amount_text,
    exposure,
    factor,
    is_above,
    worst,
)
from tests.unit.builders import setting

WINDOWS = ("0", "1", "99", "100", "1000", "5000", "60000", "9999999999")
FREEZES = ("0", "1", "1000", "2000", "60000", "9999999999")
QUANTITIES = ("0.00000000000000000001", "0.5", "1", "1.0", "3", "100", "99999999999999999999")
WORLD = ["/".join(parts) for parts in product(WINDOWS, FREEZES, QUANTITIES)]
SMALL = ["/".join(parts) for parts in product(WINDOWS[:6], FREEZES[:4], ("0.5", "1", "100"))]


# ---- the oracle ----------------------------------------------------------------------------------

Number = tuple[int, int] | None
"""A numerator and a denominator; None: infinite."""


def oracle_figures(text: str) -> list[Number]:
    """Return contracts per trip, per second and per minute as fractions that are not reduced."""
    window, freeze, quantity = text.split("/")
    if window == "0":
        return [None, None, None]
    whole, _, rest = quantity.partition(".")
    contracts, parts = int(whole + rest), 10 ** len(rest)
    trips_again = [int(window)] + ([int(freeze)] if freeze != "0" else [])
    shortest = min(trips_again)
    return [
        (contracts, parts),
        (contracts * 1000, parts * int(window)),
        (contracts * (shortest + 60_000), parts * shortest),
    ]


def oracle_over(after: Number, before: Number) -> Number:
    if after is None:
        return (1, 1) if before is None else None
    if before is None:
        return 0, 1
    return after[0] * before[1], after[1] * before[0]


def oracle_factor(before: str, after: str) -> Number | str:
    """Return the worst ratio; the word ``unknown`` for an enable."""
    was, now = before.split("/"), after.split("/")
    if was[0] == "0" and now[0] != "0":
        return "unknown"
    if now[0] == "0" and was[0] != "0":
        return None
    freezes: list[Number] = [None if one[1] == "0" else (int(one[1]), 1) for one in (was, now)]
    ratios = [oracle_over(freezes[0], freezes[1])]
    if now[0] == "0":  # both: nothing but the other two fields
        was[0] = now[0] = "1"
        figures = oracle_figures("/".join(now))[:1], oracle_figures("/".join(was))[:1]
    else:
        figures = oracle_figures(after), oracle_figures(before)
    ratios += [oracle_over(*pair) for pair in zip(*figures, strict=True)]
    if None in ratios:
        return None
    finite = [one for one in ratios if one is not None]
    most = finite[0]
    for one in finite[1:]:
        most = one if one[0] * most[1] > most[0] * one[1] else most
    return most


def as_amount(number: Number) -> Amount:
    return UNLIMITED if number is None else Fraction(*number)


# ---- against it ----------------------------------------------------------------------------------


def test_the_figures_of_every_setting_are_those_of_the_oracle() -> None:
    for text in WORLD:
        message = exposure(setting(text))
        assert list(message) == list(Figure)
        assert list(message.values()) == [as_amount(one) for one in oracle_figures(text)], text


def test_the_factor_of_every_change_is_that_of_the_oracle() -> None:
    for before, after in product(SMALL, repeat=2):
        expected = oracle_factor(before, after)
        message = factor(setting(before), setting(after))
        assert message == (None if isinstance(expected, str) else as_amount(expected)), (before, after)


def test_tightening_never_has_a_factor_above_1_and_whatever_has_one_is_less_safe() -> None:
    ways: set[Direction | None] = set()
    for before, after in product(SMALL, repeat=2):
        way = direction(setting(before), setting(after))
        message = factor(setting(before), setting(after))
        if way in (Direction.TIGHTEN, None):
            assert message is not None
            assert not is_above(message, Decimal(1)), (before, after)
        if way is Direction.LOOSEN:
            assert message is not None
            # A shorter window alone raises the contracts per second: no loosening is hidden.
            assert is_above(message, Decimal(1)), (before, after)
        ways.add(way)
    assert ways == {None, *Direction}


@pytest.mark.slow
def test_a_factor_of_two_steps_is_never_more_than_the_product_of_theirs() -> None:
    """So a limit on each step is a limit on the way, as far as steps are counted."""
    world = [setting(text) for text in SMALL if not text.startswith("0/")][::3]
    for before, middle, after in product(world, repeat=3):
        first, second, both = (
            factor(*pair) for pair in ((before, middle), (middle, after), (before, after))
        )
        assert first is not None
        assert second is not None
        assert both is not None
        if UNLIMITED not in (first, second):
            assert isinstance(first, Fraction)
            assert isinstance(second, Fraction)
            assert both is not UNLIMITED
            assert both <= first * second


# ---- the table of examples -----------------------------------------------------------------------


def words(message: str) -> tuple[str, ...]:
    """Return window, freeze and quantity of a cell such as ``10s 60s 100``, as the table writes them."""
    parts = message.split()
    quantity = parts[-1] if re.fullmatch(r"\d+", parts[-1]) else "100"
    intervals = [one for one in parts if not re.fullmatch(r"\d+", one)]
    ms = {"disabled": "0", "until-reset": "0"}
    texts = [ms.get(one) or str(int(one.removesuffix("s")) * 1000) for one in intervals]
    return texts[0], texts[1] if len(texts) > 1 else "2000", quantity


def examples() -> list[list[str]]:
    assert module.__doc__ is not None
    lines = [line for line in module.__doc__.splitlines() if " -> " in line and "before" not in line]
    rows = [[cell.strip() for cell in re.split(r" {2,}", line)] for line in lines]
    return [[*row[0].split(" -> "), row[1], row[2]] for row in rows]


@pytest.mark.parametrize(("before", "after", "_ratios", "message"), examples())
def test_the_table_at_the_top_of_the_module_is_what_is_computed(
    before: str, after: str, _ratios: str, message: str
) -> None:
    was, now = words(before), words(after)
    found = factor(setting("/".join(was)), setting("/".join(now)))
    written = {"unlimited": UNLIMITED, "None, not known": None}
    assert found == (written[message] if message in written else Fraction(message))


@pytest.mark.parametrize(
    ("text", "per_trip", "per_second", "per_minute"),
    [
        ("5000/2000/100", "100", "20", "3100"),
        ("5000/0/100", "100", "20", "1300"),
        ("5000/60000/100", "100", "20", "1300"),
        ("60000/60000/0.5", "0.5", "0.009", "1"),
        ("7000/3000/1", "1", "0.143", "21"),
        ("0/2000/100", "unlimited", "unlimited", "unlimited"),
        ("1/1/100000000000000000000", "100000000000000000000", *["1" + "0" * 23], "6000100" + "0" * 18),
    ],
)
def test_figures_are_written_as_decimals_rounded_up(
    text: str, per_trip: str, per_second: str, per_minute: str
) -> None:
    message = [amount_text(each) for each in exposure(setting(text)).values()]
    assert message == [per_trip, per_second, per_minute]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Fraction(4), "4"),
        (Fraction(5, 2), "2.5"),
        (Fraction(2001, 1000), "2.001"),
        (Fraction(2000001, 1000000), "2.001"),
        (Fraction(1, 10**30), "0.001"),
        (Fraction(0), "0"),
        (Fraction(1999_9991, 10_000_000), "2"),
        (Fraction(100), "100"),
        (UNLIMITED, "unlimited"),
    ],
)
def test_an_amount_is_never_written_smaller_than_it_is(amount: Amount, text: str) -> None:
    assert amount_text(amount) == text


def test_nothing_is_known_of_a_change_from_nothing() -> None:
    assert factor(None, setting("5000/2000/100")) is None
    assert factor(None, setting("0/2000/100")) is None


def test_from_a_quantity_of_nothing_there_is_no_finite_factor() -> None:
    """The exchange could list such a row; a file cannot."""
    nothing = setting("5000/2000/0")
    assert factor(nothing, setting("5000/2000/1")) is UNLIMITED
    assert factor(nothing, nothing) == 1
    assert exposure(nothing) == dict.fromkeys(Figure, Fraction(0))


def test_the_worst_of_amounts_is_unlimited_if_one_is() -> None:
    assert worst(Fraction(1), Fraction(2)) == 2
    assert worst(Fraction(1), UNLIMITED) is UNLIMITED
    assert is_above(UNLIMITED, Decimal("9" * 20))
    assert not is_above(Fraction(2), Decimal("2.0"))
