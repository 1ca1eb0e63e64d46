"""Which requests are meant for this server: a table of addresses bound and Host headers."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.web.request_filter import Listen, RequestFilter, RequestInfo, parse_listen

LISTEN = [
    ("127.0.0.1:9464", "127.0.0.1", 9464),
    (":9464", "127.0.0.1", 9464),
    ("9464", "127.0.0.1", 9464),
    ("0", "127.0.0.1", 0),
    ("0.0.0.0:1", "0.0.0.0", 1),
    ("[::1]:9464", "::1", 9464),
    ("[::]:65535", "::", 65535),
    ("localhost:9464", "localhost", 9464),
    ("Desk-1.Example:9464", "desk-1.example", 9464),
    ("mmp_sidecar:9464", "mmp_sidecar", 9464),
]


@pytest.mark.parametrize(("text", "host", "port"), LISTEN)
def test_a_place_to_listen_is_read(text: str, host: str, port: int) -> None:
    assert parse_listen(text, ["MMP.trading.svc"]) == Listen(host, port, ("mmp.trading.svc",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:９",
        "127.0.0.1:http",
        "::1:9464",
        "[::1]",
        "[::1:9464",
        "[127.0.0.1]:1",
        "[fe80::1%eth0]:1",
        "300.1.1.1:1",
        "1.2.3:1",
        "http://127.0.0.1:1",
        "a b:1",
        "-a:1",
        "a..b:1",
        "x" * 254 + ":1",
        "user@host:1",
    ],
)
def test_anything_else_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_listen(text)
    assert error.value.code == "listen-address"


@pytest.mark.parametrize("name", ["", "name:80", "1.2.3.4", "a b", "*", "[::1]"])
def test_a_name_that_is_none_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        parse_listen(":1", [name])


LOOPBACK = ["127.0.0.1", "127.0.0.1:80", "127.1.2.3", "localhost", "LocalHost:1", "[::1]", "[::1]:9464"]
LOOPBACK_MAPPED = "[::ffff:127.0.0.1]"
FOREIGN = [
    "evil.example",
    "evil.example:9464",
    "localhost.evil.example",
    "localhost.",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "0x7f000001",
    "2130706433",
    "127.1",
    "",
    " ",
    "127.0.0.1 ",
    "127.0.0.1:",
    "127.0.0.1:123456",
    "127.0.0.1:80:80",
    "user@127.0.0.1",
    "127.0.0.1/",
    "::1",
    "[::1",
    "[::1%lo]",
    "[127.0.0.1]:80x",
    "loc\u0430lhost",
    "x" * 300,
]
"""Names of others, and spellings that are none."""

ADDRESSES = ["10.1.2.3", "10.1.2.3:9464", "192.168.0.9", "[2001:db8::1]:9464", "8.8.8.8"]
MACHINE = "desk-1"


def guard(bound: str, *names: str) -> RequestFilter:
    return RequestFilter([bound], names, machine=MACHINE)


@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "10.1.2.3", "0.0.0.0", "::", "2001:db8::1"])
def test_loopback_is_always_ours_and_a_foreign_name_never(bound: str) -> None:
    own = guard(bound)
    assert [host for host in [*LOOPBACK, LOOPBACK_MAPPED] if not own.host_allowed([host])] == []
    assert [host for host in FOREIGN if own.host_allowed([host])] == []


@pytest.mark.parametrize(
    ("bound", "ours"),
    [
        ("127.0.0.1", []),
        ("::1", []),
        ("10.1.2.3", ["10.1.2.3", "10.1.2.3:9464"]),
        ("2001:db8::1", ["[2001:db8::1]:9464"]),
        ("0.0.0.0", ADDRESSES),
        ("::", ADDRESSES),
        ("::ffff:10.1.2.3", ["10.1.2.3", "10.1.2.3:9464"]),
    ],
)
def test_addresses_are_ours_as_far_as_they_are_listened_at(bound: str, ours: list[str]) -> None:
    assert [host for host in ADDRESSES if guard(bound).host_allowed([host])] == ours
    everywhere = bound in ("0.0.0.0", "::")
    assert guard(bound).host_allowed([f"{MACHINE.upper()}:9464"]) == everywhere


def test_names_given_are_ours() -> None:
    named = guard("127.0.0.1", "mmp.trading.svc")
    assert named.host_allowed(["MMP.trading.svc:9464"])
    assert not named.host_allowed(["other.trading.svc:9464"])
    assert not named.host_allowed(["[mmp.trading.svc]"])


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_one_host_header_and_no_other_number(hosts: list[str]) -> None:
    assert not guard("0.0.0.0").host_allowed(hosts)


def asking(method: str, target: str) -> RequestInfo:
    return RequestInfo(method, target, ["localhost"], has_body=False)


GOOD = RequestInfo("GET", "/livez", ["127.0.0.1:9464"], has_body=False)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (GOOD, None),
        (RequestInfo("HEAD", "/?verbose", ["localhost"], has_body=False), None),
        *(
            (RequestInfo(method, "/", ["localhost"], has_body=False), 405)
            for method in ("POST", "PUT", "get")
        ),
        *(
            (RequestInfo(method, "*", ["localhost"], has_body=False), 405)
            for method in ("OPTIONS", "TRACE")
        ),
        (RequestInfo("GET", "http://localhost/livez", ["localhost"], has_body=False), 400),
        (RequestInfo("GET", "/livez", ["localhost"], has_body=True), 413),
        (RequestInfo("POST", "http://x/", ["evil.example"], has_body=True), 421),
    ],
)
def test_a_request_is_refused_for_the_first_thing_that_is_wrong(
    asked: RequestInfo, status: int | None
) -> None:
    refusal = guard("127.0.0.1").rejection(asked)
    assert (refusal.status if refusal else None) == status
    assert refusal is None or ("\n" not in refusal.why and refusal.why)
