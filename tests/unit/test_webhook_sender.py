"""Posting notices: tried again within bounds, never in the way, and the address never shown."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import product

import pytest

from reconciler.core.monitoring.alerts import AlertSeverity
from reconciler.notify.retry import MAX_TRIES, MAX_WAIT_S, RETRIED, DeliveryResult, retry_delay_s
from reconciler.notify.webhook_address import MAX_URL_CHARS, parse_target
from reconciler.notify.webhook_sender import JOIN_S, MAX_WAITING, WebhookSender
from tests.support.webhook import OK, Reply, Webhook, eventually, webhook

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
TOKEN = "s3cr3t-token"

# ---- where to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/s3cr3t-token", "https://hooks.slack.com/…"),
        ("https://chat.example:8443/hooks/s3cr3t-token?x=s3cr3t-token", "https://chat.example:8443/…"),
        ("https://someone:s3cr3t-token@chat.example/", "https://chat.example/…"),
        ("HTTPS://CHAT.example/s3cr3t-token", "https://chat.example/…"),
        ("http://127.0.0.1:9000/s3cr3t-token", "http://127.0.0.1:9000/…"),
        ("http://localhost/s3cr3t-token", "http://localhost/…"),
        ("http://[::1]:9000/s3cr3t-token", "http://[::1]:9000/…"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(text: str, shown: str) -> None:
    target = parse_target(text)
    assert target.shown == shown
    assert target.url.reveal() == text
    assert TOKEN not in f"{target!r} {target} {target.url}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cr3t-token",
        "hooks.slack.com/s3cr3t-token",
        "ftp://chat.example/s3cr3t-token",
        "http://chat.example/s3cr3t-token",
        "http://10.0.0.1/s3cr3t-token",
        "http://127.0.0.1.example/s3cr3t-token",
        "https:///s3cr3t-token",
        "https://",
        "https://chat.example:s3cr3t-token/",
        "https://chat.example:99999/s3cr3t-token",
        "https://[s3cr3t-token/",
        "https://chat.example/s3cr3t-token\nX: y",
        "https://chat.example/s3cr3t-token x",
        "https://chät.example/s3cr3t-token",
        "https://chat.example/s3cr3t-token" + "x" * MAX_URL_CHARS,
    ],
)
def test_an_address_that_will_not_do_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_target(text)
    message = f"{refused.value} {refused.value.__cause__}"
    assert TOKEN not in message
    assert "address" in message or "https" in message


# ---- once more? ----------------------------------------------------------------------------------


def test_every_answer_is_tried_again_or_not_by_what_it_means() -> None:
    for status, tries in product((None, *range(100, 600)), range(1, MAX_TRIES + 2)):
        answer = DeliveryResult(status)
        wait_s = retry_delay_s(tries, answer, WALL)
        patient = status is None or status >= 500 or status in RETRIED
        assert (wait_s is not None) == (patient and tries < MAX_TRIES), (status, tries)
        assert wait_s is None or wait_s == 2.0 ** (tries - 1)
        assert answer.delivered == (status in range(200, 300))


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("", 1.0),
        ("0", 1.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("3600", MAX_WAIT_S),
        ("9" * 400, MAX_WAIT_S),
        ("-5", 1.0),
        ("soon", 1.0),
        ("7.5", 1.0),
        ("٧", 1.0),
        (format_datetime(WALL + timedelta(seconds=20), usegmt=True), 20.0),
        ("Sun, 01 Mar 2026 03:00:20 -0000", 20.0),
        (format_datetime(WALL - timedelta(days=1), usegmt=True), 1.0),
        (format_datetime(WALL + timedelta(days=9000), usegmt=True), MAX_WAIT_S),
        ("Sun, 99 Mar 2026 03:00:20 GMT", 1.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 1.0),
    ],
)
def test_a_retry_after_is_honoured_within_a_bound(header: str, wait_s: float) -> None:
    assert retry_delay_s(1, DeliveryResult(429, retry_after=header), WALL) == wait_s
    assert retry_delay_s(1, DeliveryResult(503, retry_after=header), WALL) == wait_s


# ---- the thread ----------------------------------------------------------------------------------


@dataclass
class LogLines:
    """What the notifier logged, and how long it waited: waiting takes no time here."""

    lines: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def say(self, level: str, event: str, values: Mapping[str, object]) -> None:
        self.lines.append((level, event, values))

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


@contextmanager
def notifying(*targets: str, timeout_s: float = 5.0) -> Iterator[tuple[WebhookSender, LogLines]]:
    message = LogLines()
    notifier = WebhookSender(
        [parse_target(target) for target in targets], message.say, timeout_s=timeout_s, sleep=message.sleep
    )
    notifier.start()
    try:
        yield notifier, message
    finally:
        notifier.stop(2.0)
        assert "notifier" not in [thread.name for thread in threading.enumerate()]
        assert TOKEN not in str(message.lines)


def notice(number: int = 0, severity: AlertSeverity = AlertSeverity.CRITICAL) -> dict[str, object]:
    message = {"kind": "frozen", "severity": severity.value, "text": f"é {number}", "count": number}
    return {"format": "mmp/notification/1", **message}


def numbers(hook: Webhook) -> list[object]:
    return [document["count"] for document in hook.documents()]


def test_a_notice_arrives_once_as_json() -> None:
    with webhook() as hook, notifying(hook.url("/hook/s3cr3t-token?a=%2F%7e")) as (notifier, message):
        notifier.post(notice())
        eventually(lambda: message.lines)
        ((path, headers, body),) = hook.arrived
        assert path == "/hook/s3cr3t-token?a=%2F%7e", "byte for byte: it is a secret, not prose"
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert headers["User-Agent"].startswith("mmp-reconciler/")
        assert json.loads(body) == notice()
        assert message.lines == [
            (
                "debug",
                "notification delivered",
                {"to": f"http://127.0.0.1:{hook.port}/…", "kind": "frozen", "tries": 1},
            )
        ]


@pytest.mark.parametrize(
    ("replies", "tries", "waits"),
    [
        ([Reply(500), Reply(503), OK], 3, [1.0, 2.0]),
        ([Reply(429, {"Retry-After": "30"}), OK], 2, [30.0]),
        ([Reply(breaks=True), OK], 2, [1.0]),
        ([Reply(hangs=True), OK], 2, [1.0]),
        ([Reply(408), OK], 2, [1.0]),
    ],
)
def test_what_passes_is_tried_again_and_arrives(
    replies: list[Reply], tries: int, waits: list[float]
) -> None:
    with webhook(*replies) as hook, notifying(hook.url(), timeout_s=0.3) as (notifier, message):
        notifier.post(notice(1))
        eventually(lambda: "notification delivered" in message.events())
        assert numbers(hook) == [1] * tries
        assert message.waits == waits
        assert message.lines[-1][2]["tries"] == tries


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 301, 302, 307, 308])
def test_a_notification_that_is_never_accepted_is_dropped_and_reported(status: int) -> None:
    with webhook(Reply(status, {"Location": "/elsewhere/s3cr3t-token"}), OK) as hook:
        with notifying(hook.url()) as (notifier, message):
            notifier.post(notice(1))
            notifier.post(notice(2))
            eventually(lambda: "notification delivered" in message.events())
        assert numbers(hook) == [1, 2], "no second try, and no redirect followed"
        assert {path for path, _, _ in hook.arrived} == {"/hook/s3cr3t-token"}
        assert message.waits == []
        assert message.lines[0][:2] == ("warning", "notification not delivered")
        assert message.lines[0][2]["reason"] == f"it answered {status}"


def test_headers_that_a_gateway_adds_stop_no_delivery() -> None:
    headers = {"Content-Security-Policy": "x" * 60_000} | {f"X-Hop-{number}": "y" for number in range(500)}
    with webhook(Reply(200, headers)) as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice(1))
        eventually(lambda: message.events() == ["notification delivered"])
        assert numbers(hook) == [1]


def test_a_webhook_that_is_gone_is_given_up_after_five_tries() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nothing else can answer there
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}/s3cr3t-token"
        with notifying(gone) as (notifier, message):
            notifier.post(notice())
            eventually(lambda: "notification not delivered" in message.events())
            assert message.waits == [1.0, 2.0, 4.0, 8.0]
            level, event, values = message.lines[-1]
            assert (level, event) == ("warning", "notification not delivered")
            assert values["tries"] == MAX_TRIES
            assert values["reason"] == "no connection to it could be made"


def test_an_endless_reply_is_not_read() -> None:
    body = b"x" * 50_000_000
    with webhook(Reply(body=body)) as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice())
        eventually(lambda: message.lines)
        assert message.events() == ["notification delivered"]


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with webhook() as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice())
        eventually(lambda: message.lines)
        assert message.events() == ["notification delivered"]


def test_queueing_never_waits_and_beyond_the_limit_the_oldest_is_dropped_and_reported() -> None:
    many = MAX_WAITING + 50
    with webhook(Reply(after_s=0.5), OK) as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice(0))
        eventually(lambda: hook.arrived)
        began = time.monotonic()
        for number in range(1, many + 1):
            notifier.post(notice(number))
        assert time.monotonic() - began < 0.4, "the first is still being answered"
        eventually(lambda: len(hook.arrived) == MAX_WAITING + 1)
        eventually(lambda: message.events().count("notification delivered") == MAX_WAITING + 1)
        assert numbers(hook) == [0, *range(51, many + 1)]
        dropped = [
            values["number"] for _, event, values in message.lines if event == "notifications dropped"
        ]
        assert dropped == [50]


@pytest.mark.parametrize("seed", range(4))
def test_of_too_many_the_mildest_make_way_and_of_those_the_oldest(seed: int) -> None:
    chance = random.Random(seed)
    weights = [(1, 1, 8), (8, 1, 1), (0, 8, 1), (1, 0, 0)][seed]
    severities = chance.choices(list(AlertSeverity), weights, k=MAX_WAITING + 50)
    with webhook(Reply(after_s=0.5), OK) as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice(-1))
        eventually(lambda: hook.arrived)
        for number, severity in enumerate(severities):
            notifier.post(notice(number, severity))
        eventually(lambda: message.events().count("notification delivered") == MAX_WAITING + 1)
        worst = sorted(
            range(len(severities)),
            key=lambda number: (list(AlertSeverity).index(severities[number]), -number),
        )
        assert numbers(hook) == [-1, *sorted(worst[:MAX_WAITING])]


def test_one_webhook_that_hangs_delays_no_other() -> None:
    with webhook(Reply(hangs=True)) as slow, webhook() as quick:
        with notifying(slow.url(), quick.url(), timeout_s=3600.0) as (notifier, message):
            for number in range(3):
                notifier.post(notice(number))
            eventually(lambda: numbers(quick) == [0, 1, 2])
            assert len(slow.arrived) == 1
            began = time.monotonic()
        assert time.monotonic() - began < 2.0 + JOIN_S, "stopping is bounded"
        lost = [values for _, event, values in message.lines if event == "notifications dropped"]
        assert [values["number"] for values in lost] == [3]


def test_stopping_delivers_what_waits() -> None:
    with webhook(Reply(after_s=0.2), OK) as hook:
        with notifying(hook.url()) as (notifier, message):
            for number in range(5):
                notifier.post(notice(number))
        assert numbers(hook) == [0, 1, 2, 3, 4]
        assert message.events() == ["notification delivered"] * 5


def test_stopping_gives_each_one_more_try_and_no_more() -> None:
    with webhook(Reply(500)) as hook:
        message = LogLines()
        notifier = WebhookSender([parse_target(hook.url())], message.say)
        notifier.start()
        notifier.post(notice(1))
        notifier.post(notice(2))
        eventually(lambda: "notification tried again" in message.events())
        began = time.monotonic()
        notifier.stop(2.0)
        assert time.monotonic() - began < 1.0, "the wait is cut short"
        assert numbers(hook) == [1, 1, 2]
        assert message.events().count("notification not delivered") == 2


def test_after_the_end_nothing_is_delivered_and_nothing_breaks() -> None:
    with webhook() as hook:
        with notifying(hook.url()) as (notifier, _):
            pass
        notifier.post(notice())
        notifier.stop(0.1)
        assert hook.arrived == []


def test_an_error_that_contains_the_address_is_reworded() -> None:
    with webhook(Reply(breaks=True)) as hook, notifying(hook.url()) as (notifier, message):
        notifier.post(notice())
        eventually(lambda: "notification not delivered" in message.events())
        assert "the connection broke" in str(message.lines[-1][2]["reason"])


def test_tls_that_cannot_be_set_up_is_reported() -> None:
    with webhook() as hook:
        url = hook.url().replace("http://", "https://")
        with notifying(url) as (notifier, message):
            notifier.post(notice())
            eventually(lambda: "notification not delivered" in message.events())
            assert "TLS" in str(message.lines[-1][2]["reason"])
        assert hook.arrived == []
