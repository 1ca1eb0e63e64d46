"""Every check of the simulated exchange has a row that triggers it; every effect is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconciler.simulator.accounts import ApiKey, fake_account
from reconciler.simulator.authentication import sign
from reconciler.simulator.behaviour_options import NumberForm, changed_options
from reconciler.simulator.codes import REFUSALS
from reconciler.simulator.exchange import SimulatedExchange, format_number
from reconciler.simulator.family_state import MAX_READ_DELAY_S, SimulatedFamily
from reconciler.simulator.faults import parse_fault
from reconciler.simulator.http_messages import ReplyEnvelope, SimReply, SimRequest
from reconciler.simulator.request_parsing import MmpSetting
from tests.support.simulator import (
    ACCOUNT,
    BTC,
    INSTRUMENTS,
    KEY,
    RESET,
    SET,
    SETTING,
    T0,
    TIME,
    UID,
    UNDERLYING,
    as_body,
    exchange,
    post_set,
    request,
    signature,
    stamp,
)

LOOSER = MmpSetting("5000", "2000", "400")


def code(reply: SimReply) -> str:
    return str(json.loads(reply.body)["code"])


def rows(reply: SimReply) -> list[Any]:
    document = json.loads(reply.body)
    assert document["code"] == "0", document
    return list(document["data"])


def get(family: str = "") -> SimRequest:
    return request("GET", SET + (f"?instFamily={family}" if family else ""))


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        (
            "POST",
            SET,
            b'{"instFamily":"BTC-USD","timeInterval":"5000","frozenInterval":"2000","qtyLimit":"100"}',
            "Iidrjjf0Rw/qC5xDC4pBYLiwXUHPIAG+iC/vqFd96kU=",
        ),
        ("GET", SET + "?instFamily=BTC-USD", b"", "VCwNoGWjipwCdF0tcofc7+femcXaWx1Fj3qQtkR0dfw="),
        ("GET", ACCOUNT, b"", "Kr/8IrbDYujS4cg2KkmB+tO2HMUXxyayG6ZwNb4H/yA="),
    ],
)
def test_the_signature_is_the_documented_one(method: str, target: str, body: bytes, expected: str) -> None:
    message = ("2020-12-08T09:08:57.715Z" + method + target).encode() + body
    assert sign("22582BD0CFF14C41EDBF1AB98506286D", message) == expected
    assert signature("22582BD0CFF14C41EDBF1AB98506286D", message) == expected


def test_a_good_set_is_echoed_and_in_force() -> None:
    world = exchange()
    reply = world.handle(post_set(), T0)
    assert (reply.status, rows(reply)) == (200, [BTC])
    assert reply.headers["x-simulator"] == "true"
    assert world.settings(UID) == {"BTC-USD": SETTING}


CALLER_ROWS: list[tuple[str, SimRequest, str, int]] = [
    ("unknown path", request("GET", "/api/v5/account/mmp"), "404", 404),
    ("wrong method", request("PUT", SET), "50115", 405),
    ("reset is POST only", request("GET", RESET), "50115", 405),
    ("no key", post_set(drop="OK-ACCESS-KEY"), "50103", 401),
    ("unknown key", post_set(headers={"OK-ACCESS-KEY": "other"}), "50119", 401),
    (
        "unknown key, no signature",
        post_set(headers={"OK-ACCESS-KEY": "other"}, drop="OK-ACCESS-SIGN"),
        "50119",
        401,
    ),
    ("no signature", post_set(drop="OK-ACCESS-SIGN"), "50106", 401),
    ("no timestamp", post_set(drop="OK-ACCESS-TIMESTAMP"), "50107", 401),
    ("no passphrase", post_set(drop="OK-ACCESS-PASSPHRASE"), "50104", 401),
    ("demo header with a live key", post_set(headers={"x-simulated-trading": "1"}), "50101", 401),
    ("a demo header of no meaning", post_set(headers={"X-Simulated-Trading": "true"}), "50101", 401),
    ("seconds since the epoch", post_set(headers={"OK-ACCESS-TIMESTAMP": "1800000000"}), "50112", 401),
    ("no milliseconds", post_set(headers={"OK-ACCESS-TIMESTAMP": "2027-01-15T08:00:00Z"}), "50112", 401),
    ("no such month", post_set(headers={"OK-ACCESS-TIMESTAMP": "2027-13-15T08:00:00.000Z"}), "50112", 401),
    ("31 s old", post_set(utc=T0 - 30.001), "50102", 401),
    ("31 s ahead", post_set(utc=T0 + 30.001), "50102", 401),
    ("wrong passphrase", post_set(headers={"OK-ACCESS-PASSPHRASE": "no"}), "50105", 401),
    ("wrong signature", post_set(headers={"OK-ACCESS-SIGN": "bm8="}), "50113", 401),
    ("a signature that is not ASCII", post_set(headers={"OK-ACCESS-SIGN": "ü"}), "50113", 401),
    ("form content type", post_set(headers={"Content-Type": "text/plain"}), "50006", 400),
    ("no content type", post_set(drop="Content-Type"), "50006", 400),
]


@pytest.mark.parametrize(
    ("what", "asked", "expected", "status"), CALLER_ROWS, ids=[r[0] for r in CALLER_ROWS]
)
def test_a_wrong_caller_is_refused(what: str, asked: SimRequest, expected: str, status: int) -> None:
    world = exchange()
    reply = world.handle(asked, T0)
    assert (code(reply), reply.status) == (expected, status)
    assert world.settings(UID) == {}


@pytest.mark.parametrize("utc", [T0 - 30, T0, T0 + 30])
def test_a_timestamp_within_30_s_is_taken(utc: float) -> None:
    assert code(exchange().handle(post_set(utc=utc), T0)) == "0"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", SET, as_body(BTC)[:-1] + b" }"),
        ("POST", SET, as_body(BTC) + b"\n"),
        ("POST", SET, as_body({**BTC, "qtyLimit": "101"})),
        ("POST", RESET, as_body(BTC)),
        ("POST", SET + "?", as_body(BTC)),
    ],
)
def test_the_signature_covers_method_target_and_body_bytes(method: str, target: str, body: bytes) -> None:
    signed = post_set()
    assert code(exchange().handle(replace(signed, method=method, target=target, body=body), T0)) == "50113"


def test_a_content_type_may_name_its_charset() -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    asked = post_set(drop="Content-Type", headers=headers)
    assert code(exchange().handle(asked, T0)) == "0"


def test_the_exchange_goes_by_its_own_clock() -> None:
    world = exchange(clock_skew_s=40.0)
    assert code(world.handle(post_set(utc=T0), T0)) == "50102"
    assert code(world.handle(post_set(utc=T0 + 40), T0)) == "0"
    assert rows(world.handle(SimRequest("GET", TIME), T0)) == [{"ts": str(int((T0 + 40) * 1000))}]


def test_a_demo_account_wants_the_demo_header() -> None:
    world = exchange(fake_account(environment="demo"))
    assert code(world.handle(post_set(), T0)) == "50101"
    assert code(world.handle(post_set(headers={"x-simulated-trading": "0"}), T0)) == "50101"
    assert code(world.handle(post_set(headers={"x-simulated-trading": "1"}), T0 + 20)) == "0"


def test_a_foreign_address_is_named_together_with_the_key() -> None:
    world = exchange(fake_account(ip=("10.0.0.1",)))
    reply = world.handle(post_set(remote="10.0.0.2"), T0)
    assert code(reply) == "50110"
    assert KEY in reply.body.decode()
    assert code(world.handle(post_set(remote="10.0.0.1"), T0)) == "0"


ALL_THREE = (
    ("POST", SET, as_body(BTC)),
    ("GET", SET, b""),
    ("POST", RESET, as_body({"instFamily": "BTC-USD"})),
)


@pytest.mark.parametrize(
    ("account", "codes"),
    [
        (fake_account(permissions=("read_only",)), ("50120", "0", "50120")),
        (fake_account(permissions=("trade",)), ("0", "50120", "0")),
        (fake_account(level="3"), ("51010", "51010", "51010")),
        (fake_account(mmp_privilege=False), ("50030", "50030", "59509")),
        (fake_account(), ("0", "0", "0")),
    ],
)
def test_an_account_may_only_do_what_it_may(account: Any, codes: tuple[str, ...]) -> None:
    world = exchange(account)
    replies = [world.handle(request(*one), T0) for one in ALL_THREE]
    assert tuple(code(reply) for reply in replies) == codes
    assert code(world.handle(request("GET", ACCOUNT), T0)) == ("50120" if codes[1] == "50120" else "0")


def test_the_unknown_account_codes_can_be_chosen() -> None:
    world = exchange(fake_account(level="2"), account_mode_code="51155")
    assert code(world.handle(post_set(), T0)) == "51155"
    world = exchange(fake_account(mmp_privilege=False), no_privilege_code="50041")
    assert code(world.handle(post_set(), T0)) == "50041"


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in BTC.items() if key != name}


BODY_ROWS: list[tuple[bytes, str]] = [
    (b"", "50000"),
    (b"{", "50002"),
    (b"[]", "50002"),
    (b'"BTC-USD"', "50002"),
    (b"\xff{}", "50002"),
    (b"\xef\xbb\xbf" + as_body(BTC), "50002"),
    (as_body(BTC) + b"x", "50002"),
    (as_body(BTC)[:-1] + b',"qtyLimit":"100"}', "50002"),
    (as_body(BTC).replace(b'"100"', b"NaN"), "50002"),
    (b"[" * 100_000, "50002"),
    *[(as_body(without(name)), "50014") for name in BTC],
    *[(as_body({**BTC, name: ""}), "50014") for name in BTC],
    *[(as_body({**BTC, name: 5000}), "51000") for name in BTC],
    *[(as_body({**BTC, name: None}), "51000") for name in BTC],
    *[(as_body({**BTC, name: ["1"]}), "51000") for name in BTC],
    (as_body({**BTC, "expTime": "1"}), "51000"),
    *[
        (as_body({**BTC, name: text}), "51000")
        for name in ("timeInterval", "frozenInterval")
        for text in ("-1", "5.0", "5s", "05000", "5e3", " 5000", "12345678901", "５", "5_0", "+5", "0x5")
    ],
    *[
        (as_body({**BTC, "qtyLimit": text}), "51000")
        for text in (
            "0",
            "0.0",
            "0.00",
            "-1",
            "1e2",
            ".5",
            "5.",
            "1,000",
            "01",
            " 1",
            "inf",
            "１",
            "1" * 22,
        )
    ],
    (as_body({**BTC, "instFamily": "btc-usd"}), "51001"),
    (as_body({**BTC, "instFamily": "DOGE-USD"}), "51001"),
]


@pytest.mark.parametrize(("body", "expected"), BODY_ROWS, ids=lambda one: repr(one)[:60])
def test_a_wrong_body_is_refused(body: bytes, expected: str) -> None:
    world = exchange()
    assert code(world.handle(request("POST", SET, body), T0)) == expected
    assert world.settings(UID) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"timeInterval": "0"},
        {"frozenInterval": "0"},
        {"timeInterval": "9999999999"},
        {"qtyLimit": "0.5"},
        {"qtyLimit": "100.0"},
        {"instFamily": "SOL-USD_UM"},
    ],
)
def test_the_edges_of_a_setting_are_taken(changes: dict[str, str]) -> None:
    assert rows(exchange().handle(post_set({**BTC, **changes}), T0)) == [{**BTC, **changes}]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("GET", SET + "?instFamily=DOGE-USD"), "51001"),
        (request("GET", SET + "?instFamily="), "51000"),
        (request("GET", SET + "?instFamily=BTC-USD&instFamily=BTC-USD"), "51000"),
        (request("GET", SET + "?family=BTC-USD"), "51000"),
        (request("GET", ACCOUNT + "?uid=1"), "51000"),
        (request("POST", SET + "?instFamily=BTC-USD", as_body(BTC)), "51000"),
        (request("POST", RESET, as_body({"instFamily": "DOGE-USD"})), "51001"),
        (request("POST", RESET, as_body({})), "50014"),
        (request("POST", RESET, as_body({"instFamily": "BTC-USD", "instType": "SWAP"})), "51000"),
        (request("POST", RESET, as_body({"instFamily": "BTC-USD", "instType": "OPTION"})), "0"),
        (SimRequest("GET", UNDERLYING), "50014"),
        (SimRequest("GET", UNDERLYING + "?instType=SWAP"), "51000"),
        (SimRequest("GET", UNDERLYING + "?instType=OPTION&uly=BTC-USD"), "51000"),
        (SimRequest("GET", INSTRUMENTS + "?uly=BTC-USD"), "50014"),
        (SimRequest("GET", INSTRUMENTS + "?instType=OPTION&uly="), "51000"),
    ],
)
def test_the_other_endpoints_are_as_strict(asked: SimRequest, expected: str) -> None:
    assert code(exchange().handle(asked, T0)) == expected


def test_gateway_errors_have_no_data_and_others_an_empty_list() -> None:
    world = exchange()
    assert "data" not in json.loads(world.handle(SimRequest("GET", SET), T0).body)
    assert json.loads(world.handle(get("DOGE-USD"), T0).body)["data"] == []


def test_underlyings_are_a_list_in_the_list_and_instruments_name_their_family() -> None:
    world = exchange()
    assert rows(world.handle(SimRequest("GET", UNDERLYING + "?instType=OPTION"), T0)) == [
        ["BTC-USD", "ETH-USD", "SOL-USD", "XAU-USD"]
    ]
    listed = rows(world.handle(SimRequest("GET", INSTRUMENTS + "?instType=OPTION&uly=BTC-USD"), T0))
    assert [(row["instFamily"], row["uly"]) for row in listed] == [
        ("BTC-USD", "BTC-USD"),
        ("BTC-USD_UM", "BTC-USD"),
    ]
    assert len(rows(world.handle(SimRequest("GET", INSTRUMENTS + "?instType=OPTION"), T0))) == 6
    assert rows(world.handle(SimRequest("GET", INSTRUMENTS + "?instType=OPTION&uly=DOGE-USD"), T0)) == []


def test_account_config_names_the_user_and_the_rights_of_the_key() -> None:
    reply = exchange(fake_account(level="2", ip=("127.0.0.1",))).handle(request("GET", ACCOUNT), T0)
    assert rows(reply) == [
        {
            "acctLv": "2",
            "ip": "127.0.0.1",
            "label": "simulator",
            "mainUid": UID,
            "perm": "read_only,trade",
            "uid": UID,
        }
    ]


# What a read shows ----------------------------------------------------------------------------


def shown_families(world: SimulatedExchange, at: float = T0) -> list[str]:
    return [row["instFamily"] for row in rows(world.handle(get(), at))]


def test_a_read_lists_what_is_configured_sorted() -> None:
    world = exchange()
    world.seed_setting(UID, "ETH-USD", SETTING)
    world.seed_setting(UID, "BTC-USD", SETTING)
    assert rows(world.handle(get(), T0)) == [
        {**BTC, "instFamily": family, "mmpFrozen": False, "mmpFrozenUntil": ""}
        for family in ("BTC-USD", "ETH-USD")
    ]
    assert [row["instFamily"] for row in rows(world.handle(get("ETH-USD"), T0))] == ["ETH-USD"]
    assert rows(world.handle(get("XAU-USD_UM"), T0)) == []


@pytest.mark.parametrize(("list_disabled", "expected"), [(True, ["BTC-USD"]), (False, [])])
def test_a_disabled_family_is_listed_or_missing(list_disabled: bool, expected: list[str]) -> None:
    world = exchange(list_disabled=list_disabled)
    world.seed_setting(UID, "BTC-USD", MmpSetting("0", "2000", "100"))
    assert shown_families(world) == expected


def test_a_never_configured_family_is_missing_or_zeroes() -> None:
    assert shown_families(exchange()) == []
    world = exchange(list_unconfigured=True)
    assert shown_families(world) == sorted(world.families)
    assert {row["timeInterval"] for row in rows(world.handle(get(), T0))} == {"0"}


def test_a_read_lags_behind_a_write_by_the_delay() -> None:
    world = exchange(read_delay_s=2.0)
    world.seed_setting(UID, "BTC-USD", SETTING)
    world.set_mmp(KEY, "BTC-USD", LOOSER, T0)
    seen = [rows(world.handle(get(), T0 + after))[0]["qtyLimit"] for after in (0, 1.9, 2, 3)]
    assert seen == ["100", "100", "400", "400"]
    assert world.settings(UID)["BTC-USD"] == LOOSER


def test_a_wiped_family_is_gone_but_a_lagging_read_still_shows_it() -> None:
    world = exchange(read_delay_s=1.0)
    world.seed_setting(UID, "BTC-USD", SETTING)
    world.drift(UID, "BTC-USD", None, T0)
    assert [shown_families(world, T0 + after) for after in (0.5, 1)] == [["BTC-USD"], []]


def test_old_settings_are_forgotten_but_never_the_one_in_force() -> None:
    book = SimulatedFamily(SETTING)
    book.change(LOOSER, T0)
    assert (book.seen(T0 - 1), book.seen(T0)) == (SETTING, LOOSER)
    book.change(SETTING, T0 + 2 * MAX_READ_DELAY_S)
    assert (book.seen(T0 - 1), book.seen(T0)) == (None, LOOSER)
    assert (book.seen(T0 + 1e9), book.in_force) == (SETTING, SETTING)


@pytest.mark.parametrize(
    ("form", "sent", "expected"),
    [
        (NumberForm.AS_SENT, "100.0", "100.0"),
        (NumberForm.SHORTEST, "100.0", "100"),
        (NumberForm.SHORTEST, "100", "100"),
        (NumberForm.SHORTEST, "0.50", "0.5"),
        (NumberForm.DECIMAL, "100", "100.0"),
        (NumberForm.DECIMAL, "0.50", "0.5"),
        (NumberForm.DECIMAL, "10000000000000000000", "10000000000000000000.0"),
    ],
)
def test_numbers_come_back_in_the_chosen_form(form: NumberForm, sent: str, expected: str) -> None:
    assert format_number(sent, form) == expected
    world = exchange(numbers=form)
    assert rows(world.handle(post_set({**BTC, "qtyLimit": sent}), T0))[0]["qtyLimit"] == expected
    assert rows(world.handle(get(), T0))[0]["qtyLimit"] == expected


# Freezing -------------------------------------------------------------------------------------


def frozen(world: SimulatedExchange, at: float) -> tuple[bool, str]:
    row = rows(world.handle(get("BTC-USD"), at))[0]
    return row["mmpFrozen"], row["mmpFrozenUntil"]


@pytest.mark.parametrize("ms", [2000, None])
def test_a_freeze_ends_by_itself(ms: int | None) -> None:
    world = exchange()
    world.seed_setting(UID, "BTC-USD", SETTING)
    world.freeze(UID, "BTC-USD", T0, ms=ms)
    until = str(int(T0 * 1000) + 2000)
    assert [frozen(world, T0 + after) for after in (0, 1.999, 2)] == [
        (True, until),
        (True, until),
        (False, ""),
    ]


def test_a_freeze_until_reset_ends_with_reset_only() -> None:
    world = exchange()
    world.seed_setting(UID, "BTC-USD", MmpSetting("5000", "0", "100"))
    world.freeze(UID, "BTC-USD", T0)
    assert frozen(world, T0) == (True, "")
    assert frozen_now(world, T0 + 1e9)
    assert rows(world.handle(request("POST", RESET, as_body({"instFamily": "BTC-USD"})), T0)) == [
        {"result": True}
    ]
    assert not frozen_now(world, T0)


def frozen_now(world: SimulatedExchange, at: float) -> bool:
    return world.frozen_until(UID, "BTC-USD", at) is not None


@pytest.mark.parametrize("set_unfreezes", [False, True])
def test_a_set_on_a_frozen_family_takes_effect_and_may_unfreeze(set_unfreezes: bool) -> None:
    world = exchange(set_unfreezes=set_unfreezes)
    world.seed_setting(UID, "BTC-USD", SETTING)
    world.freeze(UID, "BTC-USD", T0, ms=0)
    assert code(world.handle(post_set({**BTC, "qtyLimit": "1"}), T0 + 1)) == "0"
    assert world.settings(UID)["BTC-USD"].qty_limit == "1"
    assert frozen_now(world, T0 + 2) is not set_unfreezes
    assert [one.kind for one in world.violations()] == ["frozen"]


def test_a_never_configured_family_freezes_until_reset() -> None:
    world = exchange()
    world.freeze(UID, "BTC-USD", T0)
    assert frozen_now(world, T0 + 1e9)
    world.unfreeze(UID, "BTC-USD")
    assert not frozen_now(world, T0)


# Accounts -------------------------------------------------------------------------------------


def test_accounts_have_settings_and_limits_of_their_own() -> None:
    world = SimulatedExchange([fake_account(1), fake_account(2)])
    outcomes = [world.set_mmp(f"simulator-key-{n}", "BTC-USD", SETTING, T0) for n in (1, 1, 2, 2)]
    assert [one.reply.code for one in outcomes if isinstance(one.reply, ReplyEnvelope)] == ["0"] * 4
    assert world.settings("999000000002") == {"BTC-USD": SETTING}
    assert world.violations() == ()


def test_two_keys_of_one_account_share_its_limit() -> None:
    account = fake_account()
    second = ApiKey("simulator-key-b", "s", "p")
    world = exchange(replace(account, keys=(*account.keys, second)))
    outcomes = [world.set_mmp(key, "BTC-USD", SETTING, T0) for key in (KEY, "simulator-key-b", KEY)]
    codes = [one.reply.code for one in outcomes if isinstance(one.reply, ReplyEnvelope)]
    assert codes == ["0", "0", "50011"]


def test_an_account_that_is_replaced_takes_its_old_keys_with_it() -> None:
    world = exchange()
    world.put_account(replace(fake_account(), keys=(ApiKey("simulator-key-new", "s", "p"),)))
    assert code(world.handle(post_set(), T0)) == "50119"


def test_secrets_are_not_in_the_repr() -> None:
    assert "simulator-secret" not in repr(fake_account())
    assert "passphrase-1" not in repr(fake_account())


# Without signatures ---------------------------------------------------------------------------


def test_the_unsigned_doors_have_every_other_check() -> None:
    world = exchange(fake_account(permissions=("read_only",)))
    assert world.set_mmp("other", "BTC-USD", SETTING, T0).reply == replace_code("50119")
    assert world.set_mmp(KEY, "BTC-USD", SETTING, T0).reply == replace_code("50120")
    world.put_account(fake_account())
    refused = world.set_mmp(KEY, "BTC-USD", MmpSetting("5000", "2000", "0"), T0 + 10).reply
    assert isinstance(refused, ReplyEnvelope)
    assert refused.code == "51000"


def replace_code(wanted: str) -> ReplyEnvelope:
    return ReplyEnvelope(wanted, REFUSALS[wanted].message, None, REFUSALS[wanted].status)


def test_the_unsigned_doors_answer_as_the_signed_ones() -> None:
    world = exchange()
    world.seed_setting(UID, "BTC-USD", SETTING)
    pairs = [
        (world.set_mmp(KEY, "BTC-USD", SETTING, T0), post_set()),
        (world.get_mmp(KEY, T0), get()),
        (world.get_mmp(KEY, T0, "BTC-USD"), get("BTC-USD")),
        (world.reset_mmp(KEY, "BTC-USD", T0), request("POST", RESET, as_body({"instFamily": "BTC-USD"}))),
        (world.account_config(KEY, T0), request("GET", ACCOUNT)),
        (world.public_time(T0), SimRequest("GET", TIME)),
    ]
    for outcome, signed in pairs:
        assert isinstance(outcome.reply, ReplyEnvelope)
        assert list(outcome.reply.data or ()) == rows(world.handle(signed, T0))


# The record -----------------------------------------------------------------------------------


def test_arrivals_have_the_request_and_the_verdict() -> None:
    world = exchange()
    world.inject(parse_fault("lost-after"))
    for asked in (post_set(), post_set({**BTC, "qtyLimit": 1}), get(), post_set(drop="OK-ACCESS-KEY")):
        world.handle(asked, T0)
    seen = [(one.uid, one.endpoint.value, one.family, one.verdict, one.applied) for one in world.arrivals()]
    assert seen == [
        (UID, "set", "BTC-USD", "silence", True),
        (UID, "set", None, "51000", False),
        (UID, "get", None, "0", True),
        ("", "set", "BTC-USD", "50103", False),
    ]
    assert [one.number for one in world.arrivals()] == [1, 2, 3, 4]


def test_the_history_tells_writes_from_drift() -> None:
    world = exchange()
    world.seed_setting(UID, "ETH-USD", SETTING)
    world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    world.drift(UID, "BTC-USD", LOOSER, T0 + 5)
    assert [(one.at, one.setting, one.cause) for one in world.history()] == [
        (T0, SETTING, "set"),
        (T0 + 5, LOOSER, "control"),
    ]


def test_forgetting_the_record_does_not_forget_the_limits() -> None:
    world = exchange()
    for _ in range(2):
        world.set_mmp(KEY, "BTC-USD", SETTING, T0)
    world.forget_records()
    assert (world.arrivals(), world.history()) == ((), ())
    outcome = world.set_mmp(KEY, "BTC-USD", SETTING, T0 + 9.9)
    assert isinstance(outcome.reply, ReplyEnvelope)
    assert outcome.reply.code == "50011"


def test_malformed_writes_are_held_against_the_caller() -> None:
    world = exchange()
    world.handle(request("POST", SET, b"{"), T0)
    assert [(one.kind, one.uid) for one in world.violations()] == [("malformed", UID)]


def test_arrivals_looked_at_out_of_order_never_turn_back_time() -> None:
    world = exchange()
    world.set_mmp(KEY, "BTC-USD", SETTING, T0 + 1)
    world.set_mmp(KEY, "BTC-USD", LOOSER, T0)
    assert [one.at for one in world.history()] == [T0 + 1, T0 + 1]
    assert rows(world.handle(get(), T0 + 1))[0]["qtyLimit"] == "400"
    assert [one.at for one in world.arrivals()][:2] == [T0 + 1, T0]


# Options --------------------------------------------------------------------------------------


def test_options_can_be_changed_by_name() -> None:
    changed = changed_options(
        exchange().options,
        {"rate": "fixed", "count_refused": False, "read_delay_s": 2, "no_privilege_code": "50041"},
    )
    assert (changed.rate.value, changed.count_refused, changed.read_delay_s) == ("fixed", False, 2.0)
    assert changed.no_privilege_code == "50041"


@pytest.mark.parametrize(
    "changes",
    [{"speed": 1}, {"rate": "leaky"}, {"count_refused": 1}, {"read_delay_s": True}, {"numbers": 1}],
)
def test_options_are_checked(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        changed_options(exchange().options, changes)


def test_a_stamp_is_in_the_exchange_s_form() -> None:
    assert stamp(T0) == "2027-01-15T08:00:00.000Z"
