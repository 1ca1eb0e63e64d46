"""Replies are read strictly: OKX's envelope or no answer, and never a guess."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.core.model import AccountInfo, LiveRead, LiveRow, Quantity, Setting, parse_family
from reconciler.core.verdict import AttemptStatus, Reply, ReplyClass, judge
from reconciler.okx import replies
from reconciler.okx.codes import TABLE
from reconciler.okx.credentials import Credentials
from reconciler.secret import Secret

pytestmark = pytest.mark.unmeasured

KEY = "0b7c9c1e-5f0a-4a52-9d7e-0123456789ab"
SCRUB = Credentials(Secret(KEY), Secret("5ecret"), Secret("Sesame!")).scrub
BTC, ETH = parse_family("BTC-USD"), parse_family("ETH-USD")
SENT = Setting(5000, 2000, Quantity("100"))
WIRE = {"instFamily": "BTC-USD", **SENT.wire()}
LIVE = {**WIRE, "mmpFrozen": False, "mmpFrozenUntil": ""}


def envelope(*rows: object, code: object = "0", msg: str = "", **more: object) -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": list(rows), **more}).encode()


def set_reply(body: bytes, status: int = 200) -> Reply:
    return replies.parse_set(status, body, SCRUB)


def live_read(*rows: object) -> LiveRead | Reply:
    return replies.parse_live(200, envelope(*rows), SCRUB, begun_at=7.0)


def echo(**fields: object) -> dict[str, object]:
    return {**WIRE, **fields}


NO_ANSWER: list[tuple[str, int, bytes, str]] = [
    ("empty", 200, b"", "not-okx"),
    ("blank", 200, b"  \n", "not-okx"),
    ("HTML page of a CDN", 502, b"<html><body>502 Bad Gateway</body></html>", "not-okx"),
    ("HTML with status 200", 200, b"<html>Attention required</html>", "not-okx"),
    ("plain text", 429, b"Too Many Requests", "not-okx"),
    ("truncated", 200, envelope(WIRE)[:-9], "not-okx"),
    ("truncated after code", 200, b'{"code":"0"', "not-okx"),
    ("two values", 200, envelope(WIRE) * 2, "not-okx"),
    ("trailing junk", 200, envelope(WIRE) + b"x", "not-okx"),
    ("code given twice", 200, b'{"code":"50011","code":"0","msg":"","data":[]}', "not-okx"),
    (
        "field of the echo twice",
        200,
        envelope(WIRE).replace(b'"qtyLimit"', b'"qtyLimit":"9","qtyLimit"'),
        "not-okx",
    ),
    ("NaN", 200, b'{"code":"0","msg":"","data":[NaN]}', "not-okx"),
    ("Infinity", 200, b'{"code":"0","msg":"","data":[],"x":-Infinity}', "not-okx"),
    ("deep", 200, b'{"code":"0","msg":"","data":' + b"[" * 17 + b"]" * 17 + b"}", "not-okx"),
    ("very deep", 200, b"[" * 60_000, "not-okx"),
    ("unterminated string of quotes", 200, b'"' + b'\\"' * 30_000, "not-okx"),
    ("integer beyond conversion", 200, b'{"code":' + b"1" * 5_000 + b',"msg":"","data":[]}', "not-okx"),
    ("UTF-16", 200, envelope(WIRE).decode().encode("utf-16"), "not-okx"),
    ("not UTF-8", 200, envelope(WIRE, msg="x").replace(b"x", b"\xff"), "not-okx"),
    ("byte order mark", 200, b"\xef\xbb\xbf" + envelope(WIRE), "not-okx"),
    ("single quotes", 200, b"{'code':'0','msg':'','data':[]}", "not-okx"),
    ("array", 200, b"[" + envelope(WIRE) + b"]", "not-okx"),
    ("string", 200, b'"0"', "not-okx"),
    ("null", 200, b"null", "not-okx"),
    ("number", 200, b"0", "not-okx"),
    ("empty object", 200, b"{}", "not-okx"),
    ("no code", 200, b'{"msg":"","data":[]}', "not-okx"),
    ("code null", 200, b'{"code":null,"msg":"","data":[]}', "not-okx"),
    ("code true", 200, b'{"code":true,"msg":"","data":[]}', "not-okx"),
    ("code false", 200, b'{"code":false,"msg":"","data":[]}', "not-okx"),
    ("code 0.0", 200, b'{"code":0.0,"msg":"","data":[]}', "not-okx"),
    ("code negative", 200, b'{"code":-1,"msg":"","data":[]}', "not-okx"),
    ("code a word", 200, b'{"code":"ok","msg":"","data":[]}', "not-okx"),
    ("code with a blank", 200, b'{"code":" 0","msg":"","data":[]}', "not-okx"),
    ("code with a newline", 200, b'{"code":"0\\n","msg":"","data":[]}', "not-okx"),
    ("code in other digits", 200, '{"code":"\u0660","msg":"","data":[]}'.encode(), "not-okx"),
    ("no msg", 200, b'{"code":"0","data":[]}', "not-okx"),
    ("msg null", 200, b'{"code":"0","msg":null,"data":[]}', "not-okx"),
    ("no data with code 0", 200, b'{"code":"0","msg":""}', "not-okx"),
    ("data null with code 0", 200, b'{"code":"0","msg":"","data":null}', "not-okx"),
    ("data an object with code 0", 200, b'{"code":"0","msg":"","data":{}}', "not-okx"),
    ("another API's error", 504, b'{"error":"upstream timed out"}', "not-okx"),
    ("redirect with an acceptance", 307, envelope(WIRE), "redirect"),
    ("redirect with a rejection", 302, envelope(code="50011"), "redirect"),
    ("redirect without a body", 301, b"", "redirect"),
    ("acceptance under 400", 400, envelope(WIRE), "bad-status"),
    ("acceptance under 429", 429, envelope(WIRE), "bad-status"),
    ("acceptance under 500", 500, envelope(WIRE), "bad-status"),
    ("acceptance under 101", 101, envelope(WIRE), "bad-status"),
]


@pytest.mark.parametrize(
    ("status", "body", "code"), [row[1:] for row in NO_ANSWER], ids=[row[0] for row in NO_ANSWER]
)
def test_what_is_not_an_envelope_of_okx_is_no_answer(status: int, body: bytes, code: str) -> None:
    for reply in (
        set_reply(body, status),
        replies.parse_live(status, body, SCRUB, begun_at=0.0),
        replies.parse_account(status, body, SCRUB),
        replies.parse_time(status, body, SCRUB),
    ):
        assert isinstance(reply, Reply)
        assert (reply.reply_class, reply.code, reply.echo) == (ReplyClass.NO_ANSWER, code, None)
        assert reply.message
        assert reply.message.isprintable()


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
@pytest.mark.parametrize("code", [code for code in TABLE if code != "0"])
def test_a_rejection_is_classed_by_its_code_whatever_the_status(code: str, status: int) -> None:
    expected = Reply(TABLE[code].reply_class, code, "because")
    assert set_reply(envelope(code=code, msg="because"), status) == expected
    assert set_reply(json.dumps({"code": code, "msg": "because"}).encode(), status) == expected
    assert set_reply(envelope(code=int(code), msg="because"), status) == expected
    assert replies.parse_live(status, envelope(code=code, msg="because"), SCRUB, begun_at=0) == expected
    assert replies.parse_account(status, envelope(code=code, msg="because"), SCRUB) == expected


@pytest.mark.parametrize("code", ["1", "2", "50003", "99999", "0_1", "00"])
def test_an_unknown_code_proves_nothing(code: str) -> None:
    assert set_reply(envelope(WIRE, code=code)).reply_class is ReplyClass.AMBIGUOUS


def test_the_key_id_in_a_message_is_masked() -> None:
    reply = set_reply(envelope(code="50110", msg=f"Your IP 203.0.113.9 is not in {KEY}'s whitelist"), 401)
    assert reply.message == "Your IP 203.0.113.9 is not in ***'s whitelist"


@pytest.mark.parametrize(
    ("rows", "applied"),
    [
        ([WIRE], True),
        ([dict(reversed(WIRE.items()))], True),
        ([echo(qtyLimit="100.0")], True),
        ([echo(qtyLimit="0100")], True),
        ([echo(timeInterval="5000.0", frozenInterval="02000")], True),
        ([echo(extra="new field")], True),
        ([], False),
        ([WIRE, WIRE], False),
        ([WIRE, echo(instFamily="ETH-USD")], False),
        ([echo(instFamily="ETH-USD")], False),
        ([echo(instFamily="btc-usd")], False),
        ([echo(timeInterval="5001")], False),
        ([echo(frozenInterval="0")], False),
        ([echo(qtyLimit="100.01")], False),
        ([echo(qtyLimit="1e2")], False),
        ([echo(qtyLimit="+100")], False),
        ([echo(qtyLimit=100)], False),
        ([echo(qtyLimit="")], False),
        ([echo(timeInterval=5000)], False),
        ([echo(timeInterval="5000.5")], False),
        ([echo(timeInterval="5,000")], False),
        ([echo(timeInterval="٥٠٠٠")], False),
        ([{"instFamily": "BTC-USD"}], False),
        ([{"result": True}], False),
        (["BTC-USD"], False),
        ([None], False),
        ([[WIRE]], False),
    ],
)
def test_only_one_row_that_echoes_what_was_sent_is_applied(rows: list[object], applied: bool) -> None:
    reply = set_reply(envelope(*rows))
    assert reply.reply_class is ReplyClass.ACCEPTED
    status = judge(BTC, SENT, reply).status
    assert status is (AttemptStatus.APPLIED if applied else AttemptStatus.UNKNOWN)


def test_an_accepted_code_may_be_a_number() -> None:
    reply = set_reply(envelope(WIRE, code=0))
    assert reply == Reply(ReplyClass.ACCEPTED, "0", "", ((BTC, SENT),))


def test_new_fields_beside_the_envelope_do_no_harm() -> None:
    reply = set_reply(envelope(WIRE, inTime="1597026383085123", outTime="1597026383085999"))
    assert reply.echo == ((BTC, SENT),)


def row(**fields: Any) -> dict[str, Any]:
    return {**LIVE, **fields}


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in LIVE.items() if name != field}


BLANK = {"timeInterval": "", "frozenInterval": "", "qtyLimit": ""}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, LiveRow(SENT)),
        ({"qtyLimit": "100.00"}, LiveRow(SENT)),
        ({"timeInterval": "05000.0"}, LiveRow(SENT)),
        ({"frozenInterval": "0"}, LiveRow(Setting(5000, 0, Quantity("100")))),
        ({"timeInterval": "0"}, LiveRow(Setting(0, 2000, Quantity("100")))),
        (
            {"timeInterval": "0", "frozenInterval": "0", "qtyLimit": "0.5"},
            LiveRow(Setting(0, 0, Quantity("0.5"))),
        ),
        ({"mmpFrozen": True}, LiveRow(SENT, frozen=True)),
        (
            {"mmpFrozen": True, "mmpFrozenUntil": "1597026383085"},
            LiveRow(SENT, frozen=True, frozen_until="1597026383085"),
        ),
        (
            {"mmpFrozenUntil": "2020-12-08T09:08:57.715Z"},
            LiveRow(SENT, frozen_until="2020-12-08T09:08:57.715Z"),
        ),
    ],
)
def test_a_row_is_read(fields: dict[str, Any], expected: LiveRow) -> None:
    assert live_read(row(**fields)) == LiveRead(7.0, {BTC: expected})


@pytest.mark.parametrize(
    "fields",
    [
        BLANK,
        {"timeInterval": None, "frozenInterval": None, "qtyLimit": None},
        {"timeInterval": "0", "frozenInterval": "0", "qtyLimit": "0"},
        {"timeInterval": "0", "frozenInterval": "", "qtyLimit": ""},
        {"timeInterval": "0.0", "frozenInterval": "0.0", "qtyLimit": "0.0"},
        {"timeInterval": "0", "frozenInterval": "2000", "qtyLimit": "0"},
        {"timeInterval": "0", "frozenInterval": "2000", "qtyLimit": ""},
        {"timeInterval": "0", "frozenInterval": "x", "qtyLimit": "100"},
    ],
)
def test_a_row_without_a_setting_is_as_good_as_none(fields: dict[str, Any]) -> None:
    assert live_read(row(**fields)) == LiveRead(7.0, {})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row(qtyLimit="0"), "qtyLimit is 0"),
        (row(qtyLimit="0.00"), "qtyLimit is 0"),
        (row(qtyLimit=""), "qtyLimit is ''"),
        (row(qtyLimit="-1"), "qtyLimit is '-1'"),
        (row(qtyLimit="1e2"), "qtyLimit is '1e2'"),
        (row(qtyLimit=100), "qtyLimit is a JSON int"),
        (row(qtyLimit="1" * 41), "a text of 41 characters"),
        (row(timeInterval=""), "timeInterval is ''"),
        (row(timeInterval="-5000"), "timeInterval"),
        (row(timeInterval="5000.5"), "timeInterval"),
        (row(timeInterval="5s"), "timeInterval is '5s'"),
        (row(timeInterval="12345678901"), "timeInterval"),
        (row(timeInterval=" 5000"), "timeInterval"),
        (row(timeInterval=5000), "timeInterval is a JSON int"),
        (row(frozenInterval="x"), "frozenInterval"),
        (row(frozenInterval=None), "frozenInterval is missing"),
        (row(mmpFrozen="false"), "mmpFrozen is 'false'"),
        (row(mmpFrozen=0), "mmpFrozen is a JSON int"),
        (row(mmpFrozen=None), "mmpFrozen is missing"),
        (without("mmpFrozen"), "mmpFrozen is missing"),
        (without("mmpFrozenUntil"), "mmpFrozenUntil is missing"),
        (row(mmpFrozenUntil=1597026383085), "mmpFrozenUntil is a JSON int"),
        (row(mmpFrozenUntil="soon\n"), "mmpFrozenUntil"),
        (row(mmpFrozenUntil="1" * 33), "mmpFrozenUntil"),
        (without("qtyLimit"), "qtyLimit is missing"),
        (row(mmpFrozen=True, **BLANK), "timeInterval is ''"),
        (row(mmpFrozen=True, timeInterval="0", frozenInterval="0", qtyLimit="0"), "qtyLimit is 0"),
        (row(qtyLimit=KEY), "***"),
    ],
)
def test_a_row_that_makes_no_sense_is_unreadable_and_only_it(bad: dict[str, Any], says: str) -> None:
    read = live_read(bad, row(instFamily="ETH-USD"))
    assert isinstance(read, LiveRead)
    assert read.rows == {ETH: LiveRow(SENT)}
    assert set(read.unreadable) == {BTC}
    assert says in read.unreadable[BTC]
    assert KEY not in read.unreadable[BTC]


@pytest.mark.parametrize("second", [LIVE, row(qtyLimit="200"), row(**BLANK), row(qtyLimit="x")])
def test_a_family_listed_twice_is_unreadable(second: dict[str, Any]) -> None:
    read = live_read(LIVE, row(instFamily="ETH-USD"), second)
    assert read == LiveRead(7.0, {ETH: LiveRow(SENT)}, {BTC: "listed 2 times"})


@pytest.mark.parametrize(
    "bad",
    [
        row(instFamily=""),
        row(instFamily=None),
        row(instFamily="btc-usd"),
        row(instFamily="BTC-USD\n"),
        row(instFamily=5),
        without("instFamily"),
        {},
        None,
        "BTC-USD",
        [LIVE],
    ],
)
def test_a_row_of_no_family_spoils_the_read(bad: object) -> None:
    reply = live_read(LIVE, bad)
    assert isinstance(reply, Reply)
    assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "bad-data")


def test_no_rows_are_a_read_too() -> None:
    assert live_read() == LiveRead(7.0, {})


def test_the_largest_account_fits_the_bound() -> None:
    wide = "9" * 20
    rows = [row(instFamily=f"LONGNAME{number:05}-USD_UM", qtyLimit=wide) for number in range(10_000)]
    body = envelope(*rows)
    assert len(body) < replies.LIVE_REPLY_LIMIT_BYTES
    read = replies.parse_live(200, body, SCRUB, begun_at=0.0)
    assert isinstance(read, LiveRead)
    assert len(read.rows) == 10_000


ACCOUNT: dict[str, Any] = {
    "uid": "446556540",
    "mainUid": "446556540",
    "acctLv": "4",
    "perm": "trade,read_only",
    "ip": "203.0.113.9, 2001:db8::1",
    "label": "desk one",
    "posMode": "net_mode",
}


def test_an_account_is_read() -> None:
    assert replies.parse_account(200, envelope(ACCOUNT), SCRUB) == AccountInfo(
        uid="446556540",
        main_uid="446556540",
        level="4",
        permissions=frozenset({"read_only", "trade"}),
        ip=("203.0.113.9", "2001:db8::1"),
        label="desk one",
    )


def test_a_key_bound_to_no_address_has_none() -> None:
    info = replies.parse_account(200, envelope({**ACCOUNT, "ip": ""}), SCRUB)
    assert isinstance(info, AccountInfo)
    assert info.ip == ()


def test_a_label_cannot_carry_the_key_out() -> None:
    info = replies.parse_account(200, envelope({**ACCOUNT, "label": f"k {KEY}\x1b[2J"}), SCRUB)
    assert isinstance(info, AccountInfo)
    assert info.label == "k *** [2J"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [ACCOUNT, ACCOUNT],
        [None],
        [{}],
        *[
            [{**ACCOUNT, field: value}]
            for field, value in [
                ("uid", ""),
                ("uid", 446556540),
                ("uid", "44655 6540"),
                ("uid", "x"),
                ("uid", "4" * 33),
                ("mainUid", None),
                ("acctLv", 4),
                ("acctLv", ""),
                ("perm", None),
                ("perm", ["trade"]),
                ("ip", None),
                ("label", 7),
                ("label", "x" * 2000),
            ]
        ],
    ],
)
def test_an_account_that_makes_no_sense_is_no_answer(rows: list[object]) -> None:
    reply = replies.parse_account(200, envelope(*rows), SCRUB)
    assert isinstance(reply, Reply)
    assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "bad-data")


def test_the_time_is_read() -> None:
    assert replies.parse_time(200, envelope({"ts": "1597026383085"}), SCRUB) == 1597026383085


@pytest.mark.parametrize(
    "ts", ["", "1597026383", "1597026383085.5", 1597026383085, None, "x" * 13, "15970263830850"]
)
def test_a_time_that_makes_no_sense_is_no_answer(ts: object) -> None:
    reply = replies.parse_time(200, envelope({"ts": ts}), SCRUB)
    assert isinstance(reply, Reply)
    assert reply.code == "bad-data"


@pytest.mark.parametrize("result", [True, False])
def test_the_result_of_a_reset_is_read_and_may_be_false(result: bool) -> None:
    assert replies.parse_reset(200, envelope({"result": result}), SCRUB) is result


def test_listed_names_are_read() -> None:
    assert replies.parse_underlyings(200, envelope(["BTC-USD", "ETH-USD"]), SCRUB) == ("BTC-USD", "ETH-USD")
    listed = [{"instFamily": "BTC-USD", "instId": str(number)} for number in range(3)]
    assert replies.parse_families(200, envelope(*listed), SCRUB) == frozenset({BTC})
    assert replies.parse_families(200, envelope(), SCRUB) == frozenset()


@pytest.mark.parametrize(
    ("parse", "rows"),
    [
        (replies.parse_reset, []),
        (replies.parse_reset, [{"result": "true"}]),
        (replies.parse_reset, [{}]),
        (replies.parse_underlyings, []),
        (replies.parse_underlyings, ["BTC-USD"]),
        (replies.parse_underlyings, [["BTC-USD"], ["ETH-USD"]]),
        (replies.parse_underlyings, [[7]]),
        (replies.parse_underlyings, [["BTC-USD&x=y"]]),
        (replies.parse_families, [{"instFamily": ""}]),
        (replies.parse_families, [None]),
    ],
)
def test_names_and_results_that_make_no_sense_are_no_answer(parse: Any, rows: list[object]) -> None:
    reply = parse(200, envelope(*rows), SCRUB)
    assert isinstance(reply, Reply)
    assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "bad-data")
