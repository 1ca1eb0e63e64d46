"""Intervals, quantities and plain scalars: each spelling with what it means or what was meant."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reconciler.config.values import read_interval, read_quantity
from reconciler.config.yaml_ambiguity import AmbiguousScalar, resolve_scalar
from reconciler.core.model import Field, Quantity, interval_text
from reconciler.core.problems import Code

TIME, FROZEN = Field.TIME_INTERVAL, Field.FROZEN_INTERVAL


@pytest.mark.parametrize(
    ("name", "text", "ms"),
    [
        (TIME, "disabled", 0),
        (FROZEN, "until-reset", 0),
        (TIME, "100", 100),
        (TIME, "9999999999", 9_999_999_999),
        (TIME, "500ms", 500),
        (TIME, "5s", 5_000),
        (FROZEN, "2m", 120_000),
        (FROZEN, "1h", 3_600_000),
        (FROZEN, "2777h", 9_997_200_000),
        (TIME, "9999999s", 9_999_999_000),
    ],
)
def test_an_interval_is_milliseconds_or_a_number_with_a_unit(name: Field, text: str, ms: int) -> None:
    assert read_interval(name, text) == (ms, None)


@pytest.mark.parametrize(
    ("name", "text", "ms", "code", "words"),
    [
        (TIME, "0", 0, Code.BARE_ZERO, "switched off"),
        (FROZEN, "0", 0, Code.BARE_ZERO, "until a manual reset"),
        (TIME, "5", 5, Code.SHORT_INTERVAL, "5 ms"),
        (FROZEN, "99ms", 99, Code.SHORT_INTERVAL, "99 ms"),
    ],
)
def test_a_doubtful_interval_is_taken_with_a_warning(
    name: Field, text: str, ms: int, code: Code, words: str
) -> None:
    value, warning = read_interval(name, text)
    assert value == ms
    assert warning is not None
    assert warning.code is code
    assert words in warning.message


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        (TIME, "5 s", "did you mean 5s?"),
        (TIME, "5S", "did you mean 5s?"),
        (TIME, "5sec", "did you mean 5s?"),
        (TIME, "5 seconds", "did you mean 5s?"),
        (TIME, "500 millis", "did you mean 500ms?"),
        (TIME, "1.5s", "did you mean 1500ms?"),
        (TIME, "0.5m", "did you mean 30s?"),
        (TIME, "1m30s", "did you mean 90s?"),
        (TIME, "1m 30s", "did you mean 90s?"),
        (TIME, "1d", "did you mean 24h?"),
        (TIME, "05s", "did you mean 5s?"),
        (TIME, "Disabled", "did you mean disabled?"),
        (TIME, "off", "did you mean disabled?"),
        (TIME, "never", "did you mean disabled?"),
        (FROZEN, "never", "did you mean until-reset?"),
        (FROZEN, "forever", "did you mean until-reset?"),
        (FROZEN, "until reset", "did you mean until-reset?"),
        (
            TIME,
            "until-reset",
            "until-reset is a word for frozenInterval; the word for timeInterval is disabled",
        ),
        (
            FROZEN,
            "disabled",
            "disabled is a word for timeInterval; the word for frozenInterval is until-reset",
        ),
        (TIME, "0500", "at most 10 digits, without leading zeros"),
        (TIME, "12345678901", "at most 10 digits, without leading zeros"),
        (TIME, "9999999999s", "check the unit: ms, s, m (minutes) or h"),
        (FROZEN, "9999999999h", "for a freeze without an end write until-reset"),
        (
            TIME,
            "1.0001s",
            "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h), or disabled",
        ),
        (
            TIME,
            "5us",
            "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h), or disabled",
        ),
        (
            TIME,
            "0 s",
            "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h), or disabled",
        ),
        (
            TIME,
            "0m0s",
            "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h), or disabled",
        ),
        (
            TIME,
            "",
            "write whole milliseconds (5000) or a number and a unit (500ms, 5s, 2m, 1h), or disabled",
        ),
    ],
)
def test_what_is_no_interval_is_answered_with_what_was_meant(name: Field, text: str, hint: str) -> None:
    value, found = read_interval(name, text)
    assert value is None
    assert found is not None
    assert (found.code, found.hint) == (Code.BAD_INTERVAL, hint)


@pytest.mark.parametrize(("name", "word"), [(TIME, "disabled"), (FROZEN, "until-reset")])
@pytest.mark.parametrize("unit", ["ms", "s", "m", "h"])
def test_a_zero_with_a_unit_names_the_word(name: Field, word: str, unit: str) -> None:
    value, found = read_interval(name, f"0{unit}")
    assert value is None
    assert found is not None
    assert found.code is Code.ZERO_WITH_UNIT
    assert found.hint == f"if that is meant, write {name}: {word}"


@pytest.mark.parametrize("text", ["1", "100", "0.5", "100.0", "1" * 20, "0." + "0" * 18 + "1", "0.10"])
def test_a_quantity_keeps_its_text(text: str) -> None:
    value, found = read_quantity(text)
    assert found is None
    assert isinstance(value, Quantity)
    assert value.text == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1,000", "did you mean 1000?"),
        ("1 000 000", "did you mean 1000000?"),
        ("1_000", "did you mean 1000?"),
        ("1,000.5", "did you mean 1000.5?"),
        ("0100", "did you mean 100?"),
        ("00.5", "did you mean 0.5?"),
        (".5", "did you mean 0.5?"),
        ("+5", "did you mean 5?"),
        (" 5 ", "did you mean 5?"),
        ("1,5", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("1e3", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("-5", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("5 contracts", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("5\n", "did you mean 5?"),
        ("٥", "write the number of contracts in plain digits, such as 100 or 0.5"),
        ("1" * 21, "write the number of contracts, such as 100 or 0.5"),
        ("0", "to switch the family's protection off, write timeInterval: disabled and any quantity"),
        ("0.00", "to switch the family's protection off, write timeInterval: disabled and any quantity"),
    ],
)
def test_what_is_no_quantity_is_answered_with_what_was_meant(text: str, hint: str) -> None:
    value, found = read_quantity(text)
    assert value is None
    assert found is not None
    assert (found.code, found.hint) == (Code.BAD_QUANTITY, hint)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(1, "1ms"), (1500, "1500ms"), (5000, "5s"), (90_000, "90s"), (120_000, "2m"), (3_600_000, "1h")],
)
def test_an_interval_is_written_with_the_largest_unit_that_divides_it(ms: int, text: str) -> None:
    assert interval_text(ms) == text
    assert read_interval(TIME, text)[0] == ms


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        ("0", 0),
        ("-5", -5),
        ("100", 100),
        ("9" * 5000, Decimal("9" * 5000)),
        ("0.5", Decimal("0.5")),
        ("-1.50", Decimal("-1.50")),
        *(
            (text, text)
            for text in ("5s", "disabled", "BTC-USD", "yep", "nothing", "1-2", "a", "=", "nUll", "1a", "-")
        ),
        *(
            (text, text)
            for text in ("5_s", "1:99", "0x", "0xg", "--5", "+", "1e", "1.2.3", "127.0.0.1", "0b2", "oN")
        ),
    ],
)
def test_a_plain_value_that_is_the_same_everywhere(text: str, value: object) -> None:
    assert resolve_scalar(text) == value


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        *(
            (text, "")
            for word in ("y", "n", "yes", "no", "on", "off", "true", "false")
            for text in (word, word.upper())
        ),
        ("010", "10"),
        ("08", "8"),
        ("-0", "0"),
        ("00", "0"),
        ("0o17", "15"),
        ("0x10", "16"),
        ("-0x10", "-16"),
        ("0b101", "5"),
        ("0b_", ""),
        ("0x" + "f" * 100, ""),
        ("1_000", "1000"),
        ("1_000.5", "1000.5"),
        ("1:30", "90"),
        ("-1:30", "-90"),
        ("1:30:00", "5400"),
        ("1:30.5", ""),
        ("1e3", "1000"),
        ("1.5E-2", "0.015"),
        ("1e999999999", ""),
        ("1" * 50 + "e1", ""),
        ("+5", "5"),
        ("-.5", "-0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        (".inf", ""),
        ("-.INF", ""),
        (".NaN", ""),
        ("2024-01-31", ""),
        ("2024-01-31 10:00:00", ""),
        ("2024-01-31T10:00:00Z", ""),
    ],
)
def test_a_plain_value_yaml_programs_disagree_on(text: str, instead: str) -> None:
    found = resolve_scalar(text)
    assert isinstance(found, AmbiguousScalar)
    assert found.instead == instead


@pytest.mark.parametrize(
    ("text", "taken_for"),
    [("-0", "a negative zero"), ("-00", "an octal number"), ("010", "an octal number")],
)
def test_a_surprise_says_what_some_take_it_for(text: str, taken_for: str) -> None:
    found = resolve_scalar(text)
    assert isinstance(found, AmbiguousScalar)
    assert found.taken_for == taken_for
