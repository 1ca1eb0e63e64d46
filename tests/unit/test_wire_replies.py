"""Replies are read strictly: OKX's envelope or no answer, and never a guess."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from reconciler.core.model import AccountInfo, LiveRead, LiveRow, Quantity, Setting, parse_family
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass, interpret_reply
from reconciler.okx import replies, reply_fields
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
    return replies.parse_set(status, body, SCRUB, BTC, SENT)


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
    ("msg a number", 200, b'{"code":"0","msg":7,"data":[]}', "not-okx"),
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
        ([echo(qtyLimit="1e2")], True),
        ([echo(qtyLimit="+100")], False),
        ([echo(qtyLimit=100)], True),
        ([echo(qtyLimit=100.0)], True),
        ([echo(qtyLimit=100.5)], False),
        ([echo(qtyLimit="")], False),
        ([echo(timeInterval=5000)], True),
        ([echo(timeInterval=True)], False),
        ([echo(sCode="0", sMsg="")], True),
        ([echo(sCode=0)], True),
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
    status = interpret_reply(BTC, SENT, reply).status
    assert status is (AttemptStatus.APPLIED if applied else AttemptStatus.UNKNOWN)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (envelope(), "it has no rows"),
        (b'{"code":"0","msg":""}', "it has no list of data"),
        (b'{"code":"0","msg":"","data":null}', "it has no list of data"),
        (b'{"code":"0","msg":"","data":{}}', "it has no list of data"),
        (envelope(None), "it has a row that cannot be read (a row is no JSON object)"),
        (
            envelope(echo(qtyLimit="900")),
            "it has BTC-USD timeInterval 5000, frozenInterval 2000, qtyLimit 900",
        ),
        (envelope({"result": True}), "it has a row that cannot be read (instFamily is missing)"),
        (envelope(*[WIRE] * 5), "it has 5 rows: BTC-USD timeInterval 5000"),
        (
            envelope({"instFamily": KEY, **SENT.wire()}),
            "it has a row that cannot be read (instFamily is '***')",
        ),
    ],
)
def test_an_acceptance_that_is_no_acknowledgement_says_what_came(body: bytes, says: str) -> None:
    reply = set_reply(body)
    assert (reply.reply_class, reply.code) == (ReplyClass.ACCEPTED, "0")
    assert reply.message.startswith("accepted, but the reply does not repeat what was sent: ")
    assert says in reply.message
    assert interpret_reply(BTC, SENT, reply).status is AttemptStatus.UNKNOWN


def result(
    code: object = "51000", message: object = "Parameter error", **fields: object
) -> dict[str, object]:
    """Return a row as OKX's wrapper has them."""
    return {"sCode": code, "sMsg": message, **fields}


def wrapped(*rows: object, code: object = "1") -> bytes:
    return envelope(*rows, code=code, msg="All operations failed")


WORDS = "code 1 with sCode 51000: All operations failed; Parameter error"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (wrapped(result()), Reply(ReplyClass.WRONG_SETTINGS, "51000", WORDS, wrapper="1")),
        (wrapped(result(51000)), Reply(ReplyClass.WRONG_SETTINGS, "51000", WORDS, wrapper="1")),
        (wrapped(result(), code=1), Reply(ReplyClass.WRONG_SETTINGS, "51000", WORDS, wrapper="1")),
        (
            wrapped(result(instFamily="BTC-USD")),
            Reply(ReplyClass.WRONG_SETTINGS, "51000", WORDS, wrapper="1"),
        ),
        (wrapped(result(instFamily=None)), Reply(ReplyClass.WRONG_SETTINGS, "51000", WORDS, wrapper="1")),
        (
            wrapped(result("50011", None), code="2"),
            Reply(
                ReplyClass.RATE_LIMITED,
                "50011",
                "code 2 with sCode 50011: All operations failed",
                wrapper="2",
            ),
        ),
        (
            wrapped(result("51000_1001", "")),
            Reply(
                ReplyClass.WRONG_SETTINGS,
                "51000_1001",
                "code 1 with sCode 51000_1001: All operations failed",
                wrapper="1",
            ),
        ),
        (
            # Whether this one arrived in time is not known, so it must not count as definite.
            wrapped(result("50004", "timeout")),
            Reply(ReplyClass.AMBIGUOUS, "50004", "code 1 with sCode 50004: All operations failed; timeout"),
        ),
        # What says nothing of our request: the code of the envelope, and both in words.
        (wrapped(result(instFamily="ETH-USD")), Reply(ReplyClass.AMBIGUOUS, "1", WORDS)),
        (wrapped(result(instFamily=7)), Reply(ReplyClass.AMBIGUOUS, "1", WORDS)),
        (
            wrapped(result(), result("0", "")),
            Reply(
                ReplyClass.AMBIGUOUS,
                "1",
                "code 1 with sCode 51000, sCode 0: All operations failed; Parameter error",
            ),
        ),
        (
            wrapped(*[result("51000", "")] * 5),
            Reply(
                ReplyClass.AMBIGUOUS,
                "1",
                "code 1 with sCode 51000, sCode 51000, sCode 51000, 2 more: All operations failed",
            ),
        ),
        (
            wrapped(result("0", "fine"), code="2"),
            Reply(ReplyClass.AMBIGUOUS, "2", "code 2 with sCode 0: All operations failed; fine"),
        ),
        (
            wrapped(result("59998", "new")),
            Reply(ReplyClass.AMBIGUOUS, "1", "code 1 with sCode 59998: All operations failed; new"),
        ),
        (
            wrapped(result("", "")),
            Reply(ReplyClass.AMBIGUOUS, "1", "code 1 with sCode '': All operations failed"),
        ),
        (
            wrapped(result(None, "")),
            Reply(ReplyClass.AMBIGUOUS, "1", "code 1 with sCode missing: All operations failed"),
        ),
        (wrapped(WIRE), Reply(ReplyClass.AMBIGUOUS, "1", "All operations failed")),
        (wrapped(None), Reply(ReplyClass.AMBIGUOUS, "1", "All operations failed")),
        (wrapped(), Reply(ReplyClass.AMBIGUOUS, "1", "All operations failed")),
        (b'{"code":"1","msg":"x","data":{}}', Reply(ReplyClass.AMBIGUOUS, "1", "x")),
        # Only codes 1 and 2 are wrappers.
        (
            envelope(result("51000", ""), code="50013", msg="busy"),
            Reply(ReplyClass.BUSY, "50013", "code 50013 with sCode 51000: busy"),
        ),
        (
            envelope(result(), code="59999", msg=""),
            Reply(ReplyClass.AMBIGUOUS, "59999", "code 59999 with sCode 51000: Parameter error"),
        ),
    ],
)
def test_a_wrapped_refusal_is_classed_by_the_code_of_its_only_row(body: bytes, expected: Reply) -> None:
    assert set_reply(body) == expected
    assert set_reply(body, 400) == expected


@pytest.mark.parametrize(
    ("rows", "code", "wrapper"),
    [
        ([{**WIRE, **result()}], "51000", "0"),
        ([result()], "51000", "0"),
        ([result(instFamily="ETH-USD")], "51000", "0"),
        ([result("59998")], "59998", "0"),
        ([WIRE, result("59998")], "59998", "0"),
        ([{**WIRE, **result("50004")}], "50004", None),
        ([{**WIRE, **result("")}], "0", None),
        ([{**WIRE, **result(None)}], "0", None),
        ([{**WIRE, **result("ok")}], "0", None),
        ([{**WIRE, **result("00")}], "00", "0"),
    ],
)
def test_a_row_with_a_code_of_its_own_is_never_an_acknowledgement(
    rows: list[object], code: str, wrapper: str | None
) -> None:
    reply = set_reply(envelope(*rows))
    assert (reply.reply_class, reply.code, reply.echo, reply.wrapper) == (
        ReplyClass.AMBIGUOUS,
        code,
        None,
        wrapper,
    )
    assert reply.message.startswith("code 0 with sCode ")
    reset = replies.parse_reset(200, envelope(*rows), SCRUB, BTC)
    assert reset == reply, "a reset is not done either"


@pytest.mark.parametrize("code", ["0", "1", "2"])
def test_a_wrapped_refusal_of_a_question_is_classed_by_the_code_of_its_row(code: str) -> None:
    body = envelope(result("50030", "no permission"), code=code)
    expected = Reply(
        ReplyClass.ACCOUNT, "50030", f"code {code} with sCode 50030: no permission", wrapper=code
    )
    assert replies.parse_account(200, body, SCRUB) == expected
    assert replies.parse_live(200, body, SCRUB, begun_at=0.0) == expected
    assert replies.parse_live(200, body, SCRUB, begun_at=0.0, asked=BTC) == expected
    assert replies.parse_time(200, body, SCRUB) == expected


def test_what_one_row_of_a_list_refuses_is_about_its_family_alone() -> None:
    read = replies.parse_live(200, envelope(result("50030", instFamily=BTC)), SCRUB, begun_at=0.0)
    assert isinstance(read, LiveRead)
    assert read.unreadable == {BTC: "sCode is '50030'"}


def test_a_wrapped_refusal_about_another_family_is_no_answer_about_this_one() -> None:
    body = wrapped(result("51000", instFamily="ETH-USD"))
    reply = replies.parse_live(200, body, SCRUB, begun_at=0.0, asked=BTC)
    assert isinstance(reply, Reply)
    assert (reply.reply_class, reply.code, reply.wrapper) == (ReplyClass.AMBIGUOUS, "1", None)


def test_messages_of_rows_are_scrubbed_and_the_codes_come_first() -> None:
    reply = set_reply(wrapped(result("51000", f"of {KEY} " + "x" * 1000)))
    assert KEY not in reply.message
    assert reply.message.startswith("code 1 with sCode 51000: All operations failed; of ***")
    assert len(reply.message) <= 200


def test_an_unknown_code_without_a_message_says_so() -> None:
    assert set_reply(envelope(code="59999")).message == (
        "a code that mmp does not know; the reply has no other data"
    )


def test_a_message_that_is_null_is_an_empty_one() -> None:
    assert set_reply(b'{"code":"51000","msg":null}') == Reply(ReplyClass.WRONG_SETTINGS, "51000")
    assert replies.parse_time(200, b'{"code":"0","msg":null,"data":[{"ts":"1597026383085"}]}', SCRUB)


@pytest.mark.parametrize("data", ["null", "{}", '"x"', "7"])
def test_a_question_answered_without_a_list_is_bad_data(data: str) -> None:
    reply = replies.parse_live(200, b'{"code":"0","msg":"","data":%b}' % data.encode(), SCRUB, begun_at=0)
    assert isinstance(reply, Reply)
    assert (reply.reply_class, reply.code) == (ReplyClass.NO_ANSWER, "bad-data")


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("", None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0007", 7.0),
        ("60", 60.0),
        ("61", 60.0),
        ("3600", 60.0),
        ("9" * 5000, 60.0),
        ("-5", None),
        ("7.5", None),
        ("soon", None),
        ("\u0667", None),
        ("Sat, 01 Aug 2026 12:00:20 GMT", 20.0),
        ("Sat, 01 Aug 2026 12:00:20 -0000", 20.0),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0.0),
        ("Sun, 02 Aug 2026 12:00:00 GMT", 60.0),
        ("Sat, 99 Aug 2026 12:00:20 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_a_retry_after_is_read_within_its_bound(text: str, wait_s: float | None) -> None:
    assert replies.parse_retry_after(text, 1785585600.0) == wait_s


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


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("0", "0"),
        ("00", "0"),
        ("007.50", "7.50"),
        ("100", "100"),
        ("100.00", "100.00"),
        ("1e2", "100"),
        ("1E+2", "100"),
        ("1.25e1", "12.5"),
        ("1.25e0002", "125"),
        ("12500e-2", "125"),
        ("12500e-4", "1.25"),
        ("125e-5", "0.00125"),
        ("0.00125e5", "125"),
        ("0e99999999999999999999", "0"),
        ("0.000e-5", "0"),
        ("1e39", "1" + "0" * 39),
        ("1e40", None),
        ("1e-40", "0." + "0" * 39 + "1"),
        ("1e-41", None),
        ("1e999999999", None),
        ("1e-99999", None),
        ("1" * 40, "1" * 40),
        ("1" * 41, None),
        ("0" * 100 + "5", "5"),
        ("5." + "0" * 100, "5"),
        ("0." + "1" * 41, None),
        ("", None),
        (".5", None),
        ("5.", None),
        ("-1", None),
        ("+1", None),
        ("1e", None),
        ("1e+", None),
        ("1 ", None),
        ("٥", None),
        ("0x10", None),
        ("NaN", None),
    ],
)
def test_a_number_is_written_out_exactly_or_not_at_all(text: str, plain: str | None) -> None:
    assert reply_fields.plain_decimal(text) == plain
    if plain is not None and len(text) < 30 and not text.startswith("0e"):
        assert Decimal(plain) == Decimal(text)


def test_an_endless_number_takes_no_time() -> None:
    begun_at = time.perf_counter()
    body = envelope(row(qtyLimit="@")).replace(b'"@"', b"1e" + b"9" * 1_000_000)
    read = replies.parse_live(200, body, SCRUB, begun_at=7.0)
    assert isinstance(read, LiveRead)
    assert read.unreadable == {BTC: "qtyLimit is a number of 1000002 characters"}
    assert time.perf_counter() - begun_at < 1.0


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
        ({"qtyLimit": 100}, LiveRow(SENT)),
        ({"qtyLimit": 100.0}, LiveRow(SENT)),
        ({"qtyLimit": "1e2"}, LiveRow(SENT)),
        ({"timeInterval": 5000, "frozenInterval": "2E3"}, LiveRow(SENT)),
        ({"timeInterval": 5e3, "frozenInterval": 2000.0}, LiveRow(SENT)),
        ({"sCode": "0", "sMsg": ""}, LiveRow(SENT)),
        ({"mmpFrozen": True}, LiveRow(SENT, frozen=True)),
        ({"mmpFrozenUntil": None}, LiveRow(SENT)),
        ({"mmpFrozenUntil": "soon\n"}, LiveRow(SENT)),
        ({"mmpFrozenUntil": "1" * 33}, LiveRow(SENT)),
        ({"mmpFrozenUntil": {"at": 5}}, LiveRow(SENT)),
        ({"mmpFrozenUntil": 1597026383085}, LiveRow(SENT, frozen_until="1597026383085")),
        ({"mmpFrozen": True, "mmpFrozenUntil": None}, LiveRow(SENT, frozen=True)),
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
    ],
)
def test_a_row_without_a_setting_is_as_good_as_none(fields: dict[str, Any]) -> None:
    assert live_read(row(**fields)) == LiveRead(7.0, {})


@pytest.mark.parametrize("blank", ["", None])
@pytest.mark.parametrize("fields", [{"mmpFrozen": ""}, {"mmpFrozen": None}, {}])
def test_a_row_with_all_values_blank_needs_no_mmp_frozen(fields: dict[str, Any], blank: str | None) -> None:
    bare = {name: blank if name in BLANK else value for name, value in without("mmpFrozen").items()}
    assert live_read({**bare, **fields}) == LiveRead(7.0, {})
    assert live_read({"instFamily": "BTC-USD", **fields}) == LiveRead(7.0, {})


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (row(qtyLimit="0"), "qtyLimit is 0"),
        (row(qtyLimit="0.00"), "qtyLimit is 0"),
        (row(qtyLimit=""), "qtyLimit is ''"),
        (row(qtyLimit="-1"), "qtyLimit is '-1'"),
        (row(qtyLimit="1e40"), "qtyLimit is '1e40'"),
        (row(qtyLimit=-100), "qtyLimit is the number -100"),
        (row(qtyLimit=0), "qtyLimit is 0"),
        (row(qtyLimit=True), "qtyLimit is a JSON bool"),
        (row(qtyLimit="1" * 41), "a text of 41 characters"),
        (row(qtyLimit=int("1" * 4000)), "a number of 4000 characters"),
        (row(sCode="51000"), "sCode is '51000'"),
        (row(sCode=None), "sCode is missing"),
        (row(timeInterval=""), "timeInterval is ''"),
        (row(timeInterval="-5000"), "timeInterval"),
        (row(timeInterval="5000.5"), "timeInterval"),
        (row(timeInterval="5s"), "timeInterval is '5s'"),
        (row(timeInterval="12345678901"), "timeInterval"),
        (row(timeInterval=" 5000"), "timeInterval"),
        (row(timeInterval=5000.5), "timeInterval is the number 5000.5"),
        (row(timeInterval="1e10"), "timeInterval is '1e10'"),
        (row(frozenInterval="x"), "frozenInterval"),
        (row(timeInterval="0", frozenInterval="x"), "frozenInterval is 'x'"),
        (row(timeInterval="0", qtyLimit="many"), "qtyLimit is 'many'"),
        (row(frozenInterval=None), "frozenInterval is missing"),
        (row(mmpFrozen="false"), "mmpFrozen is 'false'"),
        (row(mmpFrozen=0), "mmpFrozen is the number 0"),
        (row(mmpFrozen=None), "mmpFrozen is missing"),
        (row(mmpFrozen=""), "mmpFrozen is ''"),
        (without("mmpFrozen"), "mmpFrozen is missing"),
        (row(mmpFrozen=None, timeInterval="0", frozenInterval="", qtyLimit=""), "mmpFrozen is missing"),
        (row(mmpFrozen="false", **BLANK), "mmpFrozen is 'false'"),
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


def test_a_row_without_what_is_only_shown_is_read() -> None:
    assert live_read(without("mmpFrozenUntil")) == LiveRead(7.0, {BTC: LiveRow(SENT)})


@pytest.mark.parametrize(
    "bad",
    [
        row(instFamily=""),
        row(instFamily=" \u3000\n"),
        row(instFamily=None),
        row(instFamily=5),
        row(instFamily=["BTC-USD"]),
        without("instFamily"),
        {},
        None,
        "BTC-USD",
        [LIVE],
    ],
)
def test_a_row_without_a_name_is_counted_and_left_out(bad: object) -> None:
    assert live_read(bad, LIVE, bad) == LiveRead(7.0, {BTC: LiveRow(SENT)}, nameless=2)


@pytest.mark.parametrize(
    ("name", "odd_names"),
    [
        ("btc-usd", {"BTC-USD": "btc-usd"}),
        (" BTC-USD\n", {"BTC-USD": "BTC-USD"}),
        ("\uff22\uff34\uff23-\uff35\uff33\uff24", {"BTC-USD": "\uff22\uff34\uff23-\uff35\uff33\uff24"}),
        ("BTC-USD!", {"BTC-USD!": "BTC-USD!"}),
        (KEY, {KEY.upper(): "***"}),
        ("x" * 5000, {"X" * 256: "***"}),
    ],
)
def test_a_row_with_an_odd_name_is_left_out_by_the_name_it_is_like(
    name: str, odd_names: dict[str, str]
) -> None:
    read = live_read(row(instFamily=name), LIVE, row(instFamily="ETH-USD", qtyLimit="x"))
    assert read == LiveRead(7.0, {BTC: LiveRow(SENT)}, {ETH: "qtyLimit is 'x'"}, odd_names=odd_names)


def test_a_read_of_one_family_has_its_row_alone() -> None:
    body = envelope(row(instFamily="ETH-USD"), LIVE, row(instFamily="SOL-USD", qtyLimit="x"))
    read = replies.parse_live(200, body, SCRUB, begun_at=7.0, took_s=2.5, asked=BTC)
    assert read == LiveRead(7.0, {BTC: LiveRow(SENT)}, took_s=2.5, asked=BTC)
    assert isinstance(read, LiveRead)
    assert read.ended_at == 9.5


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], LiveRead(7.0, {}, asked=BTC)),
        ([row(instFamily="ETH-USD")], LiveRead(7.0, {}, asked=BTC)),
        ([row(instFamily="btc-usd")], LiveRead(7.0, {}, odd_names={"BTC-USD": "btc-usd"}, asked=BTC)),
        ([{}], LiveRead(7.0, {}, nameless=1, asked=BTC)),
        ([LIVE, LIVE], LiveRead(7.0, {}, {BTC: "listed 2 times"}, asked=BTC)),
    ],
)
def test_a_read_of_one_family_may_have_no_row(rows: list[object], expected: LiveRead) -> None:
    assert replies.parse_live(200, envelope(*rows), SCRUB, begun_at=7.0, asked=BTC) == expected


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


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"label": None}, {"label": ""}),
        ({"label": 7}, {"label": ""}),
        ({"label": "x " * 5000}, {"label": ("x " * 100)[:199] + "…"}),
        ({"ip": None}, {"ip": ()}),
        ({"ip": 7}, {"ip": ()}),
        ({"mainUid": None}, {"main_uid": ""}),
        ({"mainUid": "x"}, {"main_uid": ""}),
        ({"mainUid": 7}, {"main_uid": "7"}),
        ({"acctLv": None}, {"level": ""}),
        ({"acctLv": 4}, {"level": "4"}),
        ({"uid": 446556540}, {"uid": "446556540"}),
    ],
)
def test_what_is_only_shown_of_an_account_may_be_missing(
    fields: dict[str, object], expected: dict[str, Any]
) -> None:
    whole = replies.parse_account(200, envelope(ACCOUNT), SCRUB)
    assert isinstance(whole, AccountInfo)
    assert replies.parse_account(200, envelope({**ACCOUNT, **fields}), SCRUB) == replace(whole, **expected)
    if None in fields.values():
        missing = {name: value for name, value in ACCOUNT.items() if name not in fields}
        assert replies.parse_account(200, envelope(missing), SCRUB) == replace(whole, **expected)


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
                ("uid", None),
                ("uid", 4.5),
                ("uid", True),
                ("uid", "44655 6540"),
                ("uid", "x"),
                ("uid", "4" * 33),
                ("acctLv", ""),
                ("acctLv", "four"),
                ("perm", None),
                ("perm", ["trade"]),
                ("perm", "x" * 2000),
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
    assert replies.parse_time(200, envelope({"ts": 1597026383085}), SCRUB) == 1597026383085


@pytest.mark.parametrize(
    "ts", ["", "1597026383", "1597026383085.5", 1597026383, None, "x" * 13, "15970263830850"]
)
def test_a_time_that_makes_no_sense_is_no_answer(ts: object) -> None:
    reply = replies.parse_time(200, envelope({"ts": ts}), SCRUB)
    assert isinstance(reply, Reply)
    assert reply.code == "bad-data"


@pytest.mark.parametrize("result", [True, False])
def test_the_result_of_a_reset_is_read_and_may_be_false(result: bool) -> None:
    assert replies.parse_reset(200, envelope({"result": result}), SCRUB, BTC) is result


def test_listed_names_are_read() -> None:
    assert replies.parse_underlyings(200, envelope(["BTC-USD", "ETH-USD"]), SCRUB) == ("BTC-USD", "ETH-USD")
    listed = [{"instFamily": "BTC-USD", "instId": str(number)} for number in range(3)]
    assert replies.parse_families(200, envelope(*listed), SCRUB) == frozenset({BTC})
    assert replies.parse_families(200, envelope(), SCRUB) == frozenset()


def reset_of_btc(status: int, body: bytes, scrub: reply_fields.Scrub) -> bool | Reply:
    return replies.parse_reset(status, body, scrub, BTC)


@pytest.mark.parametrize(
    ("parse", "rows"),
    [
        (reset_of_btc, []),
        (reset_of_btc, [{"result": "true"}]),
        (reset_of_btc, [{}]),
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
