"""The values: what is a family, what is a quantity, and that equality is by value everywhere."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import product

import pytest

from reconciler.core.model import Quantity, Setting, parse_family, window_text
from tests.unit.builders import setting

EQUALS = [
    ["0", "0.0"],
    ["0.5", "0.50"],
    ["9"],
    ["100", "100.0", "100.00"],
    ["1000"],
    ["12345678901234567890"],
]
"""Texts of equal value in one row each, in rising order."""


@pytest.mark.parametrize("text", ["BTC-USD", "ETH-USD_UM", "SOL-USD_UM_X", "1INCH-USDT", "A-B", "0-0"])
def test_a_family_is_two_words_and_any_suffixes(text: str) -> None:
    assert parse_family(text) == text


NO_FAMILIES = [
    "",
    "BTC",
    "BTCUSD",
    "btc-usd",
    "BTC-USD_",
    "BTC-USD-231229",
    "BTC_USD",
    " BTC-USD",
    "BTC-USD\n",
]
NO_FAMILIES += ["BTC-ÜSD", "BTC-USD٣"]


@pytest.mark.parametrize("text", NO_FAMILIES)
def test_anything_else_is_not_a_family(text: str) -> None:
    with pytest.raises(ValueError, match="not an instrument family"):
        parse_family(text)


@pytest.mark.parametrize(
    "text", ["", "1.", ".5", "01", "00", "1e3", "+1", "-1", "1_0", "٣", "1 ", "1\n", "NaN", "0x1"]
)
def test_text_that_is_no_plain_decimal_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a plain decimal"):
        Quantity(text)


def test_quantities_are_equal_ordered_and_hashed_by_value() -> None:
    ranked = [(rank, text) for rank, row in enumerate(EQUALS) for text in row]
    for (left, one), (right, other) in product(ranked, repeat=2):
        assert (Quantity(one) == Quantity(other)) == (left == right)
        assert (Quantity(one) < Quantity(other)) == (left < right)
        assert (hash(Quantity(one)) == hash(Quantity(other))) or left != right


@pytest.mark.parametrize(("text", "shortest"), [(row[-1], row[0]) for row in EQUALS])
def test_the_canonical_text_is_the_shortest_and_the_value_exact(text: str, shortest: str) -> None:
    assert Quantity(text).canonical == shortest
    assert Quantity(text).value == Decimal(shortest)
    assert str(Quantity(text)) == text


def test_a_quantity_is_no_other_type() -> None:
    assert Quantity("1") != "1"
    assert Quantity("1") != 1


def test_a_setting_keeps_its_spelling_on_the_wire_and_loses_it_in_digests() -> None:
    spelled = setting("5000/0/100.50")
    assert spelled.wire() == {"timeInterval": "5000", "frozenInterval": "0", "qtyLimit": "100.50"}
    assert spelled.canonical() == {"timeInterval": "5000", "frozenInterval": "0", "qtyLimit": "100.5"}
    assert spelled == Setting(5000, 0, Quantity("100.5"))
    assert hash(spelled) == hash(Setting(5000, 0, Quantity("100.5")))


@pytest.mark.parametrize(
    ("text", "disabled", "until_reset"),
    [("0/2000/1", True, False), ("5000/0/1", False, True), ("0/0/1", True, True), ("1/1/1", False, False)],
)
def test_the_two_zeroes_mean_opposite_things(text: str, disabled: bool, until_reset: bool) -> None:
    assert (setting(text).disabled, setting(text).until_reset) == (disabled, until_reset)


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (timedelta(minutes=1), "1m"),
        (timedelta(minutes=90), "90m"),
        (timedelta(minutes=60), "1h"),
        (timedelta(days=1), "24h"),
        (timedelta(hours=36), "36h"),
        (timedelta(days=2), "2d"),
        (timedelta(days=7), "7d"),
    ],
)
def test_a_time_to_look_back_is_written_as_a_policy_writes_it(window: timedelta, text: str) -> None:
    assert window_text(window) == text
