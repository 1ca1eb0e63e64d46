"""Requests are signed and built byte for byte as OKX documents, and keys go to known addresses only."""

from __future__ import annotations

import pickle

import pytest

from reconciler.core.model import Environment, ExchangeKind, Quantity, Setting, parse_family
from reconciler.errors import Exit, UsageError
from reconciler.okx import wire
from reconciler.okx.credentials import Credentials
from reconciler.okx.wire import DEFAULT_BASE_URL, KNOWN_HOSTS, BaseUrl, Request, parse_base_url
from reconciler.secret import Secret

SECRET = "22582BD0CFF14C41EDBF1AB98506286D"
TIMESTAMP = "2020-12-08T09:08:57.715Z"
FAMILY = parse_family("BTC-USD")
SET = wire.set_mmp(FAMILY, Setting(5000, 2000, Quantity("100")))
CREDENTIALS = Credentials(Secret("the-key-id"), Secret(SECRET), Secret("the-passphrase"))


@pytest.mark.parametrize(
    ("request_", "signature"),
    [
        (SET, "Iidrjjf0Rw/qC5xDC4pBYLiwXUHPIAG+iC/vqFd96kU="),
        (
            Request("GET", "/api/v5/account/mmp-config?instFamily=BTC-USD"),
            "VCwNoGWjipwCdF0tcofc7+femcXaWx1Fj3qQtkR0dfw=",
        ),
        (wire.account_config(), "Kr/8IrbDYujS4cg2KkmB+tO2HMUXxyayG6ZwNb4H/yA="),
    ],
    ids=["set", "get", "account"],
)
def test_the_signature_vectors_hold(request_: Request, signature: str) -> None:
    assert wire.signature(SECRET, TIMESTAMP, request_) == signature


@pytest.mark.parametrize(
    ("request_", "method", "target", "body"),
    [
        (
            SET,
            "POST",
            "/api/v5/account/mmp-config",
            b'{"instFamily":"BTC-USD","timeInterval":"5000","frozenInterval":"2000","qtyLimit":"100"}',
        ),
        (
            wire.set_mmp(parse_family("SOL-USD_UM"), Setting(0, 0, Quantity("10.50"))),
            "POST",
            "/api/v5/account/mmp-config",
            b'{"instFamily":"SOL-USD_UM","timeInterval":"0","frozenInterval":"0","qtyLimit":"10.50"}',
        ),
        (wire.get_mmp(), "GET", "/api/v5/account/mmp-config", b""),
        (wire.account_config(), "GET", "/api/v5/account/config", b""),
        (wire.public_time(), "GET", "/api/v5/public/time", b""),
        (wire.public_underlyings(), "GET", "/api/v5/public/underlying?instType=OPTION", b""),
        (
            wire.public_instruments("BTC-USD"),
            "GET",
            "/api/v5/public/instruments?instType=OPTION&uly=BTC-USD",
            b"",
        ),
        (
            wire.reset_mmp(FAMILY),
            "POST",
            "/api/v5/account/mmp-reset",
            b'{"instType":"OPTION","instFamily":"BTC-USD"}',
        ),
    ],
    ids=["set", "set zeroes", "get", "account", "time", "underlyings", "instruments", "reset"],
)
def test_requests_are_these_bytes(request_: Request, method: str, target: str, body: bytes) -> None:
    assert request_ == Request(method, target, body, signed="/public/" not in target)


@pytest.mark.parametrize(
    ("epoch_s", "timestamp"),
    [
        (1607418537.715, TIMESTAMP),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.0004, "1970-01-01T00:00:01.000Z"),
        (0.9996, "1970-01-01T00:00:01.000Z"),
        (1709251199.999, "2024-02-29T23:59:59.999Z"),
        (1709251199.9999, "2024-03-01T00:00:00.000Z"),
    ],
)
def test_timestamps_have_three_digits_and_carry_over(epoch_s: float, timestamp: str) -> None:
    assert wire.format_timestamp(epoch_s) == timestamp


def test_signed_headers_are_complete() -> None:
    headers = wire.signed_headers(SET, CREDENTIALS, Environment.LIVE, TIMESTAMP)
    assert dict(headers) == {
        "User-Agent": wire.USER_AGENT,
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "OK-ACCESS-KEY": "the-key-id",
        "OK-ACCESS-SIGN": "Iidrjjf0Rw/qC5xDC4pBYLiwXUHPIAG+iC/vqFd96kU=",
        "OK-ACCESS-TIMESTAMP": TIMESTAMP,
        "OK-ACCESS-PASSPHRASE": "the-passphrase",
    }


def test_the_demo_header_is_there_in_demo_only() -> None:
    demo = wire.signed_headers(SET, CREDENTIALS, Environment.DEMO, TIMESTAMP)
    live = wire.signed_headers(SET, CREDENTIALS, Environment.LIVE, TIMESTAMP)
    assert demo["x-simulated-trading"] == "1"
    assert len(demo) == len(live) + 1


def test_headers_never_show_a_value() -> None:
    headers = wire.signed_headers(SET, CREDENTIALS, Environment.LIVE, TIMESTAMP)
    for text in (repr(headers), str(headers), f"{headers}", repr([headers])):
        assert "OK-ACCESS-KEY" in text
        assert not any(value in text for name, value in headers.items() if name.startswith("OK-"))
    with pytest.raises(TypeError):
        pickle.dumps(headers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEFAULT_BASE_URL, BaseUrl("https://openapi.okx.com", "openapi.okx.com", ExchangeKind.OKX)),
        *[
            (f"https://{host}", BaseUrl(f"https://{host}", host, ExchangeKind.OKX))
            for host in sorted(KNOWN_HOSTS)
        ],
        ("https://www.okx.com/", BaseUrl("https://www.okx.com", "www.okx.com", ExchangeKind.OKX)),
        ("HTTPS://WWW.OKX.COM:8443", BaseUrl("https://www.okx.com:8443", "www.okx.com", ExchangeKind.OKX)),
        (
            "https://proxy.desk.example",
            BaseUrl("https://proxy.desk.example", "proxy.desk.example", ExchangeKind.OKX),
        ),
        ("http://127.0.0.1:8080", BaseUrl("http://127.0.0.1:8080", "127.0.0.1", ExchangeKind.SIMULATOR)),
        ("http://127.9.8.7/", BaseUrl("http://127.9.8.7", "127.9.8.7", ExchangeKind.SIMULATOR)),
        ("http://localhost:1", BaseUrl("http://localhost:1", "localhost", ExchangeKind.SIMULATOR)),
        ("http://[::1]:8080", BaseUrl("http://[::1]:8080", "::1", ExchangeKind.SIMULATOR)),
        ("https://127.0.0.1:8443", BaseUrl("https://127.0.0.1:8443", "127.0.0.1", ExchangeKind.SIMULATOR)),
    ],
)
def test_an_address_is_understood(text: str, expected: BaseUrl) -> None:
    assert parse_base_url(text, frozenset({"Proxy.Desk.Example", "127.0.0.1"})) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "https://"),
        ("openapi.okx.com", "https://"),
        ("ftp://openapi.okx.com", "https://"),
        ("https://", "https://"),
        ("https:///api", "https://"),
        ("http://openapi.okx.com", "loopback"),
        ("http://10.0.0.1", "loopback"),
        ("http://0.0.0.0:80", "loopback"),
        ("http://127.0.0.1.evil.example", "loopback"),
        ("http://localhost.evil.example", "loopback"),
        ("http://127.1", "loopback"),
        ("http://2130706433", "loopback"),
        ("http://[::ffff:127.0.0.1]", "loopback"),
        ("http://128.0.0.1", "loopback"),
        ("https://okx.com", "not a host OKX documents"),
        ("https://openapi.okx.com.evil.example", "not a host OKX documents"),
        ("https://openapi.okx.com.", "not a host OKX documents"),
        ("https://127.0.0.1", "not a host OKX documents"),
        ("https://localhost", "not a host OKX documents"),
        ("https://openapi.okx.com/api/v5", "path"),
        ("https://openapi.okx.com//", "path"),
        ("https://openapi.okx.com?", "path"),
        ("https://openapi.okx.com/?x=1", "path"),
        ("https://openapi.okx.com#", "path"),
        ("https://openapi.okx.com:99999", "port"),
        ("https://openapi.okx.com:x", "port"),
        ("https://openapi.okx.com:0", "port"),
        ("https://[::1", "port"),
        ("https://me:hunter2@openapi.okx.com", "password"),
        ("https://openapi.okx.com@evil.example", "password"),
        (" https://openapi.okx.com", "blanks"),
        ("https://openapi.okx.com\n", "blanks"),
        ("https://openapi.\tokx.com", "blanks"),
        ("https://openapi.oĸx.com", "ASCII"),
    ],
)
def test_an_address_no_key_may_go_to_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_base_url(text)
    assert caught.value.exit_status is Exit.USAGE
    assert caught.value.code == "base-url"
    assert why in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_the_message_for_another_host_says_how_to_allow_it() -> None:
    with pytest.raises(UsageError) as caught:
        parse_base_url("https://proxy.desk.example", frozenset({"other.example"}))
    assert "--allow-host proxy.desk.example" in caught.value.hint
