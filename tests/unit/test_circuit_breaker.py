"""The address of the exchange: while it fails one request probes it, and a slow probe delays no other."""

from __future__ import annotations

import pytest

from reconciler.core.circuit_breaker import (
    PROBE_EVERY_S,
    WORKS,
    Admission,
    CircuitBreaker,
    Proceed,
    Refuse,
    WaitForProbe,
    not_tried,
)
from reconciler.core.reply import Reply, ReplyClass

REFUSED = Reply(ReplyClass.NOT_SENT, "connect", "could not connect: Connection refused")
PAGE = Reply(ReplyClass.NO_ANSWER, "not-okx", "HTTP 503, not a reply of OKX's")
NOW = 100.0


def asking_for(wait_s: float) -> Reply:
    return Reply(ReplyClass.NO_ANSWER, "not-okx", "HTTP 429, not a reply of OKX's", retry_after_s=wait_s)


def once() -> CircuitBreaker:
    return WORKS.failed(REFUSED, NOW)


def probed_at(instant: float) -> CircuitBreaker:
    return once().begun(instant)


@pytest.mark.parametrize(
    ("health", "now", "admission"),
    [
        (WORKS, NOW, Proceed()),
        (WORKS.begun(NOW), NOW, Proceed()),
        (once(), NOW, Proceed()),
        (probed_at(NOW), NOW, WaitForProbe(NOW + PROBE_EVERY_S)),
        (probed_at(NOW), NOW + 1.999, WaitForProbe(NOW + PROBE_EVERY_S)),
        (probed_at(NOW), NOW + PROBE_EVERY_S, Proceed()),
        (probed_at(NOW).failed(PAGE, NOW + 0.1), NOW + 0.2, WaitForProbe(NOW + PROBE_EVERY_S)),
        (probed_at(NOW).failed(PAGE, NOW + 0.1), NOW + PROBE_EVERY_S, Proceed()),
        (probed_at(NOW).failed(PAGE, NOW + 9.9), NOW + 9.9, Proceed()),
    ],
)
def test_requests_begin_two_seconds_apart_while_the_address_fails(
    health: CircuitBreaker, now: float, admission: Admission
) -> None:
    assert health.admission(now) == admission


@pytest.mark.parametrize(
    ("failure", "now", "left_s"),
    [
        (asking_for(7.0), NOW, 7.0),
        (asking_for(7.0), NOW + 6.0, 1.0),
        (asking_for(7.0), NOW + 7.0, None),
        (asking_for(3600.0), NOW + 1.0, 59.0),
        (asking_for(3600.0), NOW + 60.0, None),
        (asking_for(0.0), NOW, None),
    ],
)
def test_what_a_gateway_asks_for_is_waited_for_by_all(
    failure: Reply, now: float, left_s: float | None
) -> None:
    once = WORKS.failed(failure, NOW)
    assert once.admission(now) == Proceed(), "it may have been about that one request"
    admission = once.failed(PAGE, NOW).admission(now)
    if left_s is None:
        assert admission == Proceed()
    else:
        assert isinstance(admission, Refuse)
        assert (admission.reply.reply_class, admission.reply.code) == (ReplyClass.NOT_SENT, "not-okx")
        assert admission.reply.retry_after_s == left_s


def test_a_later_failure_does_not_shorten_what_was_asked_for() -> None:
    health = (
        WORKS.failed(asking_for(30.0), NOW).failed(REFUSED, NOW + 1.0).failed(asking_for(2.0), NOW + 2.0)
    )
    assert isinstance(health.admission(NOW + 29.0), Refuse)
    assert health.admission(NOW + 30.0) == Proceed()


def test_one_failure_is_no_outage_yet() -> None:
    assert [WORKS.is_outage, once().is_outage, once().failed(PAGE, NOW).is_outage] == [False, False, True]


def test_a_request_that_was_not_admitted_sent_nothing_and_has_the_reason() -> None:
    reply = not_tried(PAGE)
    assert (reply.reply_class, reply.code) == (ReplyClass.NOT_SENT, PAGE.code)
    assert PAGE.message in reply.message
    assert reply.retry_after_s is None
