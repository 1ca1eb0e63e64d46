"""Scripted faults: how they are written, what the caller sees, and what truly happened."""

from __future__ import annotations

import json

import pytest

from reconciler.simulator.faults import Fault, FaultKind, ScriptedFault, parse_fault
from reconciler.simulator.http_messages import (
    Disconnect,
    HtmlPage,
    ReplyBody,
    ReplyEnvelope,
    TruncatedReply,
    render,
)
from reconciler.simulator.request_parsing import Endpoint, MmpSetting
from tests.support.simulator import BTC, KEY, SETTING, T0, UID, exchange, post_set

OTHER = MmpSetting("1", "1", "1")


def reply_and_effect(text: str) -> tuple[ReplyBody, bool]:
    """Return what a Set hears under the fault ``text``, and whether it took effect."""
    world = exchange()
    world.inject(parse_fault(text))
    received = world.set_mmp(KEY, "BTC-USD", SETTING, T0).reply
    return received, world.settings(UID) == {"BTC-USD": SETTING}


@pytest.mark.parametrize(
    ("text", "expected", "effect"),
    [
        ("lost-before", Disconnect(), False),
        ("lost-after", Disconnect(), True),
        ("html-502", HtmlPage(502), False),
        ("html-502-applied", HtmlPage(502), True),
        ("slow-unapplied", Disconnect(), False),
        ("html-403", HtmlPage(403), False),
        ("html-429", HtmlPage(429), False),
        ("html-503-applied", HtmlPage(503), True),
    ],
)
def test_replies_that_are_not_okx_s(text: str, expected: ReplyBody, effect: bool) -> None:
    assert reply_and_effect(text) == (expected, effect)


@pytest.mark.parametrize(
    ("text", "code", "status", "effect"),
    [
        ("50004", "50004", 400, False),
        ("50004-applied", "50004", 400, True),
        ("50013", "50013", 429, False),
        ("50026", "50026", 500, False),
        ("50026-applied", "50026", 500, True),
        ("51000", "51000", 400, False),
        ("54321", "54321", 200, False),
        ("slow", "0", 200, True),
    ],
)
def test_replies_with_a_code(text: str, code: str, status: int, effect: bool) -> None:
    received, applied = reply_and_effect(text)
    assert isinstance(received, ReplyEnvelope)
    assert (received.code, received.status, applied) == (code, status, effect)


@pytest.mark.parametrize(("text", "effect"), [("wrong-echo", True), ("wrong-echo-unapplied", False)])
def test_a_wrong_echo_is_an_acceptance_of_something_else(text: str, effect: bool) -> None:
    received, applied = reply_and_effect(text)
    assert isinstance(received, ReplyEnvelope)
    assert received.accepted
    assert received.data is not None
    assert received.data[0]["qtyLimit"] == "9100"
    assert applied is effect


def test_a_wrong_echo_of_a_reset_says_it_did_not_work() -> None:
    world = exchange()
    world.inject(parse_fault("reset/wrong-echo"))
    received = world.reset_mmp(KEY, "BTC-USD", T0).reply
    assert isinstance(received, ReplyEnvelope)
    assert received.data == ({"result": False},)


def test_there_is_nothing_wrong_to_echo_in_an_empty_answer() -> None:
    world = exchange()
    world.inject(parse_fault("get/wrong-echo"))
    assert world.get_mmp(KEY, T0).reply == ReplyEnvelope("0")


@pytest.mark.parametrize(("text", "effect"), [("truncated", True), ("truncated-unapplied", False)])
def test_a_truncated_reply_announces_more_than_comes(text: str, effect: bool) -> None:
    received, applied = reply_and_effect(text)
    assert isinstance(received, TruncatedReply)
    assert applied is effect
    world = exchange()
    world.inject(parse_fault(text))
    reply = world.handle(post_set(), T0)
    assert reply.cut
    assert json.loads(reply.body)["data"] == [BTC]


def test_a_lost_reply_is_a_dropped_connection() -> None:
    world = exchange()
    world.inject(parse_fault("lost-after@2"))
    reply = world.handle(post_set(), T0)
    assert (reply.drop, reply.delay_s) == (True, 2.0)


def test_a_page_is_html_and_still_says_it_is_the_simulator_s() -> None:
    world = exchange()
    world.inject(parse_fault("html-502"))
    reply = world.handle(post_set(), T0)
    assert (reply.status, reply.headers["Content-Type"]) == (502, "text/html")
    assert (reply.headers["x-simulator"], reply.body[:6]) == ("true", b"<html>")


def test_faults_come_in_order_one_a_request_and_by_endpoint() -> None:
    world = exchange()
    for text in ("50013:2", "get/50026", "lost-before"):
        world.inject(parse_fault(text))
    assert {name: number for name, number in world.faults.pending().items() if number} == {
        "set": 3,
        "get": 1,
    }
    for second in range(5):
        world.set_mmp(KEY, "BTC-USD", SETTING, T0 + 10 * second)
    world.get_mmp(KEY, T0 + 100)
    assert [one.verdict for one in world.arrivals()] == ["50013", "50013", "silence", "0", "0", "50026"]


def test_a_fault_of_one_family_lasts_and_leaves_the_others_alone() -> None:
    world = exchange()
    for text in ("set/BTC-USD/50004:always", "50013"):
        world.inject(parse_fault(text))
    verdicts = {"BTC-USD": [], "ETH-USD": []}  # type: dict[str, list[object]]
    for turn in range(3):
        for place, (family, received) in enumerate(verdicts.items()):
            reply = world.set_mmp(KEY, family, SETTING, T0 + 20 * turn + 10 * place).reply
            assert isinstance(reply, ReplyEnvelope)
            received.append(reply.code)
    assert verdicts == {"BTC-USD": ["50004"] * 3, "ETH-USD": ["50013", "0", "0"]}
    assert world.faults.pending()["set"] == 1, "one that lasts counts once"
    world.faults.clear()
    assert world.faults.pending()["set"] == 0


@pytest.mark.parametrize(
    ("text", "code", "named", "effect"),
    [
        ("wrapped-51000", "1", False, False),
        ("wrapped2-51000", "2", False, False),
        ("wrapped0-51000", "0", False, False),
        ("wrapped-51000-applied", "1", True, True),
        ("wrapped0-59999-applied", "0", True, True),
    ],
)
def test_a_wrapped_refusal_has_the_real_code_in_its_row(
    text: str, code: str, named: bool, effect: bool
) -> None:
    received, applied = reply_and_effect(text)
    assert isinstance(received, ReplyEnvelope)
    assert (received.code, applied) == (code, effect)
    assert received.data is not None
    [row] = received.data
    assert row["sCode"] == text.partition("-")[2][:5]
    assert row["sMsg"]
    assert row.get("instFamily") == ("BTC-USD" if named else None)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("html-429", ("Retry-After", "3")),
        ("html-503", ("Retry-After", "3")),
        ("large-headers", ("X-Hop-7", "y")),
    ],
)
def test_replies_with_headers_of_a_gateway(text: str, header: tuple[str, str]) -> None:
    world = exchange()
    world.inject(parse_fault(text))
    assert header in world.handle(post_set(), T0).headers.items()


@pytest.mark.parametrize(("text", "least"), [("large-headers", 100_000), ("endless-headers", 2_000_000)])
def test_headers_are_as_large_as_documented(text: str, least: int) -> None:
    world = exchange()
    world.inject(parse_fault(text))
    reply = world.handle(post_set(), T0)
    assert sum(map(len, reply.headers.values())) >= least
    assert json.loads(reply.body)["data"] == [BTC]


def test_a_fault_without_effect_still_counts_as_an_arrival() -> None:
    world = exchange()
    world.inject(parse_fault("lost-before:2"))
    for _ in range(3):
        world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    assert [one.verdict for one in world.arrivals()] == ["silence", "silence", "50011"]
    assert [one.kind for one in world.violations()] == ["rate"]


@pytest.mark.parametrize("text", ["lost-after", "wrong-echo", "truncated", "slow", "50004-applied"])
def test_a_refused_request_has_no_effect_under_any_fault(text: str) -> None:
    world = exchange()
    world.inject(parse_fault(text))
    world.set_mmp(KEY, "BTC-USD", MmpSetting("5000", "2000", "0"), T0)
    assert world.settings(UID) == {}
    assert not world.arrivals()[0].applied


def test_an_outage_answers_nothing_and_keeps_the_faults_for_later() -> None:
    world = exchange()
    world.inject(parse_fault("50013"))
    world.outage(T0 + 5)
    received = [world.set_mmp(KEY, "BTC-USD", SETTING, T0 + after).reply for after in (0, 4.9, 12)]
    assert received[:2] == [Disconnect(), Disconnect()]
    assert isinstance(received[2], ReplyEnvelope)
    assert received[2].code == "50013"
    assert world.settings(UID) == {}


def test_cleared_faults_do_not_come() -> None:
    world = exchange()
    world.inject(parse_fault("50013:3"))
    world.faults.clear()
    assert render(world.set_mmp(KEY, "BTC-USD", SETTING, T0)).status == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lost-before", ScriptedFault(Endpoint.SET, Fault(FaultKind.LOST, False))),
        ("lost-after:3", ScriptedFault(Endpoint.SET, Fault(FaultKind.LOST, True), 3)),
        ("get/slow@12.5:2", ScriptedFault(Endpoint.GET, Fault(FaultKind.SLOW, True, 12.5), 2)),
        ("slow", ScriptedFault(Endpoint.SET, Fault(FaultKind.SLOW, True, 3.0))),
        ("time/html-502", ScriptedFault(Endpoint.TIME, Fault(FaultKind.PAGE, False, status=502))),
        ("50004", ScriptedFault(Endpoint.SET, Fault(FaultKind.CODE, False, 0.0, "50004"))),
        ("50004-applied@1", ScriptedFault(Endpoint.SET, Fault(FaultKind.CODE, True, 1.0, "50004"))),
        ("truncated-unapplied", ScriptedFault(Endpoint.SET, Fault(FaultKind.TRUNCATED, False))),
        (
            "set/BTC-USD/50004:always",
            ScriptedFault(Endpoint.SET, Fault(FaultKind.CODE, False, 0.0, "50004"), None, "BTC-USD"),
        ),
        ("SOL-USD_UM/slow", ScriptedFault(Endpoint.SET, Fault(FaultKind.SLOW, True, 3.0), 1, "SOL-USD_UM")),
        ("wrapped-51000", ScriptedFault(Endpoint.SET, Fault(FaultKind.WRAPPED, False, 0.0, "51000", "1"))),
        (
            "get/wrapped2-50011-applied:2",
            ScriptedFault(Endpoint.GET, Fault(FaultKind.WRAPPED, True, 0.0, "50011", "2"), 2),
        ),
    ],
)
def test_faults_are_written_as_they_are_meant(text: str, expected: ScriptedFault) -> None:
    assert parse_fault(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lost",
        "5000",
        "lost-before:0",
        "slow@",
        "slow@9999",
        "put/slow",
        "slow:x",
        "LOST-BEFORE",
        "set/",
        "BTC-USD/",
        "BTC-USD/set/slow",
        "btc-usd/slow",
        "slow:ever",
        "wrapped3-51000",
        "wrapped-",
    ],
)
def test_what_is_not_a_fault_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|endpoint|count"):
        parse_fault(text)


def test_other_families_are_untouched_by_a_set() -> None:
    world = exchange()
    world.seed_setting(UID, "ETH-USD", OTHER)
    world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    assert world.settings(UID) == {"BTC-USD": SETTING, "ETH-USD": OTHER}
