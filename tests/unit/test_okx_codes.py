"""The code table has every code of the facts in the class they give it."""

from __future__ import annotations

import pytest

from reconciler.core.reply import ReplyClass
from reconciler.okx.codes import REGION_HOSTS, TABLE, FactSource, lookup
from reconciler.okx.wire import KNOWN_HOSTS

# Written out once more by hand, from the facts, so that a code cannot change class unnoticed.
EXPECTED = {
    ReplyClass.ACCEPTED: "0",
    ReplyClass.RATE_LIMITED: "50011 50040 50061",
    ReplyClass.BUSY: "50001 50013",
    ReplyClass.AMBIGUOUS: "50004 50026 50042 51054",
    ReplyClass.CLOCK: "50102",
    ReplyClass.WRONG_SETTINGS: (
        "51000 54009 50014 50015 50016 50024 50025 51001 51014 51015 51026 51069 50032 50033 50052 51155"
    ),
    ReplyClass.NOT_OPEN: "51021 51022 51027 51028 51029 50017 50018 50020 50021",
    ReplyClass.ACCOUNT: (
        "50100 50103 50104 50105 50106 50107 50110 50111 50113 50114 50116 50118 50119 50120 50121 50030 "
        "50035 50041 51010 50007 50008 50010 50027 50028 50029 50051 50059 50060 51024 59509"
    ),
    ReplyClass.ENVIRONMENT: "50101 50038 50053 50108 50109 50067",
    ReplyClass.UNAVAILABLE: "50009 50012 50019 50022 50023 50005 50046 50062",
    ReplyClass.OUR_BUG: "50000 50002 50006 50112 50115",
}
ROWS = [(code, reply_class) for reply_class, listed in EXPECTED.items() for code in listed.split()]


@pytest.mark.parametrize(("code", "reply_class"), ROWS)
def test_every_code_of_the_facts_is_in_its_class(code: str, reply_class: ReplyClass) -> None:
    assert lookup(code).reply_class is reply_class


def test_the_table_has_no_other_codes() -> None:
    assert set(TABLE) == {code for code, _ in ROWS}


@pytest.mark.parametrize("code", ["1", "2", "50003", "50122", "59999", "60011", "00", "", "502", "50011x"])
def test_an_unknown_code_is_ambiguous(code: str) -> None:
    assert lookup(code).reply_class is ReplyClass.AMBIGUOUS
    assert lookup(code).code == code


@pytest.mark.parametrize(
    ("code", "reply_class"), [("51000_1001", ReplyClass.WRONG_SETTINGS), ("99999_1", ReplyClass.AMBIGUOUS)]
)
def test_a_sub_code_is_classed_by_its_code(code: str, reply_class: ReplyClass) -> None:
    assert lookup(code).reply_class is reply_class


def test_no_sub_code_of_zero_is_an_acceptance() -> None:
    assert lookup("0_1").reply_class is not ReplyClass.ACCEPTED


def test_every_code_says_what_to_do() -> None:
    assert all(row.meaning and row.advice.endswith(".") for row in TABLE.values())
    assert all("|" not in row.meaning + row.advice for row in TABLE.values())


def test_classes_we_only_read_into_a_code_say_so() -> None:
    for code in ("50001", "50013", "50026", "50042", "50017", "50018", "50020", "50021"):
        assert lookup(code).source is FactSource.ASSUMED


def test_the_wrong_region_names_the_hosts() -> None:
    assert all(host in lookup("50119").advice for host in REGION_HOSTS)
    assert set(REGION_HOSTS) < KNOWN_HOSTS
