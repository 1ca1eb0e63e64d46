"""Odd rows of the simulated exchange: what a list and a read of one family show, and what Set echoes."""

from __future__ import annotations

import pytest

from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.http_messages import ReplyBody, ReplyEnvelope
from reconciler.simulator.request_parsing import MmpSetting
from reconciler.simulator.unusual_rows import RowForm
from tests.support.simulator import BTC, KEY, SETTING, T0, UID, exchange

ROW = {**BTC, "mmpFrozen": False, "mmpFrozenUntil": ""}
ETH = {**ROW, "instFamily": "ETH-USD"}
NUMBERS = {"timeInterval": 5000, "frozenInterval": 2000, "qtyLimit": 100}
EXPONENTS = {"timeInterval": "5.000E+3", "frozenInterval": "2.000E+3", "qtyLimit": "1.00E+2"}


def configured(form: RowForm) -> SimulatedExchange:
    world = exchange()
    for family in ("BTC-USD", "ETH-USD"):
        world.seed_setting(UID, family, SETTING)
    world.set_form("BTC-USD", form)
    return world


def rows(reply: ReplyBody) -> list[object]:
    assert isinstance(reply, ReplyEnvelope)
    assert reply.accepted
    return list(reply.data or ())


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (RowForm.PLAIN, [ROW]),
        (RowForm.LOWER_CASE, [{**ROW, "instFamily": "btc-usd"}]),
        (RowForm.BLANKS, [{**ROW, "instFamily": " BTC-USD "}]),
        (RowForm.FULL_WIDTH, [{**ROW, "instFamily": "\uff22\uff34\uff23\uff0d\uff35\uff33\uff24"}]),
        (RowForm.NAMELESS, [{**ROW, "instFamily": None}]),
        (RowForm.TWICE, [ROW, ROW]),
        (RowForm.UNREADABLE, [{**ROW, "qtyLimit": "n/a"}]),
        (RowForm.JSON_NUMBERS, [{**ROW, **NUMBERS}]),
        (RowForm.EXPONENTS, [{**ROW, **EXPONENTS}]),
        (RowForm.NULLS, [{**ROW, "mmpFrozenUntil": None}]),
    ],
)
def test_a_row_is_written_in_the_form_that_was_chosen(form: RowForm, expected: list[object]) -> None:
    world = configured(form)
    assert rows(world.get_mmp(KEY, T0).reply) == [*expected, ETH]
    assert rows(world.get_mmp(KEY, T0, "BTC-USD").reply) == expected


def test_an_unlisted_family_is_shown_to_those_who_ask_for_it() -> None:
    world = configured(RowForm.UNLISTED)
    assert rows(world.get_mmp(KEY, T0).reply) == [ETH]
    assert rows(world.get_mmp(KEY, T0, "BTC-USD").reply) == [ROW]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (RowForm.JSON_NUMBERS, {**BTC, **NUMBERS}),
        (RowForm.EXPONENTS, {**BTC, **EXPONENTS}),
        (RowForm.LOWER_CASE, BTC),
        (RowForm.NAMELESS, BTC),
    ],
)
def test_an_echo_has_the_numbers_of_the_form_and_its_true_name(form: RowForm, expected: object) -> None:
    assert rows(configured(form).set_mmp(KEY, "BTC-USD", SETTING, T0).reply) == [expected]


def test_fractions_stay_what_they_are() -> None:
    world = configured(RowForm.JSON_NUMBERS)
    reply = world.set_mmp(KEY, "BTC-USD", MmpSetting("5000", "2000", "0.5"), T0).reply
    assert rows(reply) == [{**BTC, **NUMBERS, "qtyLimit": 0.5}]


def test_a_form_ends_when_it_is_put_back() -> None:
    world = configured(RowForm.NAMELESS)
    assert world.forms() == {"BTC-USD": RowForm.NAMELESS}
    world.set_form("BTC-USD", RowForm.PLAIN)
    assert world.forms() == {}
    assert rows(world.get_mmp(KEY, T0).reply) == [ROW, ETH]
