"""Files written for people hold, say what was read, and leave nothing out silently."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from reconciler.config.settings import read_config
from reconciler.core.model import AccountInfo, Environment, Family, Field, LiveRead, LiveRow, Setting
from reconciler.core.problems import Code
from reconciler.render.config_file import (
    NO_NAME,
    Imported,
    Naming,
    common_values,
    describe_setting,
    import_text,
    imported,
    starter_text,
)
from tests.unit.builders import BTC, ETH, SOL, row, setting

pytestmark = pytest.mark.unmeasured

INFO = AccountInfo("446556540", "446556540", "4", frozenset({"read_only"}))
LIVE = Naming("main", Environment.LIVE)
WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def text_of(
    settings: Mapping[Family, str], naming: Naming = LIVE, left_out: Mapping[str, str] | None = None
) -> str:
    found = Imported({family: setting(text) for family, text in settings.items()}, left_out or {})
    return import_text(found, naming, INFO, host="openapi.okx.com", wall=WALL)


def settings_in(text: str) -> dict[Family, Setting]:
    reading = read_config(text.encode(), "mmp.yaml")
    assert reading.desired is not None, reading.problems
    return {family: wanted.setting for family, wanted in reading.desired.families.items()}


@pytest.mark.parametrize("environment", list(Environment))
@pytest.mark.parametrize("account", ["main", "desk-2", "007", "no", "a.b_c"])
def test_the_starter_file_is_valid_unchanged(account: str, environment: Environment) -> None:
    reading = read_config(starter_text(Naming(account, environment)).encode(), "mmp.yaml")
    assert reading.problems == ()
    assert reading.desired is not None
    assert (reading.desired.account, reading.desired.environment) == (account, environment)


def test_an_imported_file_names_its_account() -> None:
    text = text_of({BTC: "5000/2000/100"}, Naming("on", Environment.DEMO, "DESK_2_"))
    reading = read_config(text.encode(), "mmp.yaml")
    assert reading.problems == ()
    assert reading.desired is not None
    desired = reading.desired
    assert (desired.account, desired.environment) == ("on", Environment.DEMO)
    assert (desired.expected_uid, desired.credentials_prefix) == ("446556540", "DESK_2_")


def test_what_families_share_is_under_defaults_and_the_rest_beside_them() -> None:
    text = text_of({BTC: "5000/2000/100", ETH: "5000/0/500", SOL: "0/2000/10"})
    assert text.splitlines()[6:] == [
        "defaults:                           # for families that do not set their own",
        "  timeInterval: 5s                  # the window over which fills are counted",
        "  frozenInterval: 2s                # how long quotes stay frozen after the limit is hit",
        "families:",
        "  BTC-USD: {qtyLimit: 100}          # 100 contracts within 5s freeze the quotes for 2s",
        "  ETH-USD: {frozenInterval: until-reset, qtyLimit: 500}"
        "  # 500 contracts within 5s freeze the quotes until a manual reset",
        "  SOL-USD_UM: {timeInterval: disabled, qtyLimit: 10}  # protection is switched off",
    ]


def test_a_single_family_has_no_defaults() -> None:
    assert "defaults" not in text_of({BTC: "5000/2000/100"})


@pytest.mark.parametrize(
    ("quantities", "common"),
    [
        (["100", "100.0", "7"], "100"),
        (["1", "2", "3"], None),
        (["5", "5", "30", "30"], "30"),
        (["0.50", "0.5"], "0.5"),
    ],
)
def test_the_common_value_is_the_most_frequent_and_of_equals_the_first(
    quantities: list[str], common: str | None
) -> None:
    settings = {Family(f"F{place}-USD"): setting(f"5000/0/{q}") for place, q in enumerate(quantities)}
    assert common_values(settings).get(Field.QTY_LIMIT) == common


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5000/2000/1", "1 contract within 5s freeze the quotes for 2s"),
        ("1500/0/0.5", "0.5 contracts within 1500ms freeze the quotes until a manual reset"),
        ("0/0/10", "protection is switched off"),
    ],
)
def test_a_setting_is_written_in_one_phrase(text: str, says: str) -> None:
    assert describe_setting(setting(text)) == says


def test_a_setting_that_a_file_cannot_express_is_left_out_and_named() -> None:
    rows = {
        BTC: row("5000/2000/100"),
        ETH: row(f"5000/2000/{'9' * 21}"),
        SOL: LiveRow(setting("0/0/1"), True),
    }
    found = imported(LiveRead(0.0, rows, {Family("XAU-USD_UM"): "listed 2 times"}))
    assert list(found.settings) == [BTC, SOL]
    assert found.left_out == {ETH: "its qtyLimit has more than 20 digits", "XAU-USD_UM": "listed 2 times"}
    text = import_text(found, LIVE, INFO, host="openapi.okx.com", wall=WALL)
    assert "  # ETH-USD was left out: its qtyLimit has more than 20 digits\n" in text
    assert settings_in(text) == found.settings


@pytest.mark.parametrize(
    ("odd_names", "nameless", "left_out"),
    [
        ({}, 0, {}),
        ({"BTC-USD_UM": "btc-usd_um"}, 0, {"btc-usd_um": "not a family name"}),
        ({"N/A": "n/a"}, 0, {"n/a": "not a family name"}),
        ({"ETH-USD": "ETH-USD"}, 0, {"ETH-USD": "the exchange sent its name with blanks around it"}),
        ({"A\nB": "a\nb"}, 0, {"a\\nb": "not a family name"}),
        ({}, 1, {NO_NAME: "the exchange sent 1 of them"}),
        (
            {"X": "x", "A": "a"},
            3,
            {"a": "not a family name", NO_NAME: "the exchange sent 3 of them", "x": "not a family name"},
        ),
    ],
)
def test_rows_with_an_odd_name_or_none_are_left_out_and_named(
    odd_names: dict[str, str], nameless: int, left_out: dict[str, str]
) -> None:
    read = LiveRead(0.0, {BTC: row("5000/2000/100")}, odd_names=odd_names, nameless=nameless)
    found = imported(read)
    assert list(found.settings) == [BTC]
    assert list(found.left_out.items()) == list(left_out.items()), "by name"
    text = import_text(found, LIVE, INFO, host="openapi.okx.com", wall=WALL)
    assert [line for line in text.splitlines() if "left out" in line] == [
        f"  # {name} was left out: {why}" for name, why in left_out.items()
    ]
    assert settings_in(text) == found.settings


def test_whatever_is_live_comes_back_from_its_file() -> None:
    chance = random.Random(7)
    intervals = [0, 1, 99, 100, 1500, 5000, 60_000, 3_600_000, 9_999_999_999]
    quantities = ["1", "100", "100.0", "0.5", "0.000000001", "9" * 20, "12345678901234567890.0"]
    names = ["BTC-USD", "1INCH-USD", "2024-01", "0-0", "1-2_3", "Y-N", "NULL-USD", "E-1"]
    for _ in range(300):
        rows = {
            Family(name): row(
                f"{chance.choice(intervals)}/{chance.choice(intervals)}/{chance.choice(quantities)}"
            )
            for name in chance.sample(names, chance.randrange(1, len(names)))
        }
        found = imported(LiveRead(0.0, rows))
        assert found.left_out == {}
        text = import_text(found, LIVE, INFO, host="openapi.okx.com", wall=WALL)
        assert settings_in(text) == {family: live.setting for family, live in rows.items()}
        problems = read_config(text.encode(), "mmp.yaml").problems
        assert {problem.code for problem in problems} <= {Code.SHORT_INTERVAL}
