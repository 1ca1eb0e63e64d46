"""When something that failed is tried again: back-off, Retry-After, and reads of commands that run once."""

from __future__ import annotations

import pytest

from reconciler.core.retry import (
    LONG_BACK_OFF_S,
    MAX_RETRY_AFTER_S,
    READ_RETRIES_S,
    back_off_s,
    next_read_at,
    retry_after_s,
)
from reconciler.core.verdict import STOPPING, Reply, ReplyClass

BUSY = Reply(ReplyClass.BUSY, "50013")
PAGE = Reply(ReplyClass.NO_ANSWER, "not-okx", "HTTP 502, not a reply of OKX's: not JSON")
RETRIED = sorted(set(ReplyClass) - STOPPING - {ReplyClass.ACCEPTED})


def asking_for(wait_s: float, reply_class: ReplyClass = ReplyClass.NO_ANSWER) -> Reply:
    return Reply(reply_class, "not-okx", retry_after_s=wait_s)


def test_the_back_off_doubles_from_one_second_to_thirty() -> None:
    assert [back_off_s(failures) for failures in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert back_off_s(10**6) == 30


@pytest.mark.parametrize(
    ("reply", "failures", "wait_s"),
    [
        (BUSY, 0, 1.0),
        (BUSY, 3, 8.0),
        (asking_for(7.0), 0, 7.0),
        (asking_for(7.0), 3, 8.0),
        (asking_for(0.0), 0, 1.0),
        (asking_for(60.0), 9, 60.0),
        (asking_for(86400.0), 0, MAX_RETRY_AFTER_S),
        (asking_for(7.0, ReplyClass.RATE_LIMITED), 0, 7.0),
        (Reply(ReplyClass.UNAVAILABLE, "50005"), 0, LONG_BACK_OFF_S),
        (asking_for(7.0, ReplyClass.UNAVAILABLE), 0, LONG_BACK_OFF_S),
    ],
)
def test_an_account_waits_for_the_longest_of_back_off_and_what_it_is_asked_for(
    reply: Reply, failures: int, wait_s: float
) -> None:
    assert retry_after_s(reply, failures) == wait_s


@pytest.mark.parametrize("reply_class", sorted(STOPPING))
def test_a_read_that_a_person_has_to_make_possible_is_not_repeated(reply_class: ReplyClass) -> None:
    assert next_read_at(Reply(reply_class, "50103"), 0, begun_at=0.0, now=0.1) is None


@pytest.mark.parametrize("reply_class", RETRIED)
def test_every_other_failure_of_a_read_is_retried_with_back_off(reply_class: ReplyClass) -> None:
    reply, now = Reply(reply_class, "any"), 100.0
    tries: list[float] = []
    while (retry_at := next_read_at(reply, len(tries), begun_at=100.0, now=now)) is not None:
        tries.append(retry_at - now)
        now = retry_at
    assert tries == [1, 2, 4, 8, 15]
    assert now - 100.0 == READ_RETRIES_S


@pytest.mark.parametrize(
    ("reply", "failures", "now", "deadline", "retry_at"),
    [
        (PAGE, 0, 10.0, 5.0, None),
        (PAGE, 0, 1.0, 2.0, 2.0),
        (PAGE, 0, 1.0, 1.9, None),
        (PAGE, 2, 3.0, 5.0, 5.0),
        (PAGE, 4, 10.0, float("inf"), 26.0),
        (PAGE, 4, 29.0, float("inf"), 30.0),
        (PAGE, 4, 29.1, float("inf"), None),
        (PAGE, 0, 45.0, float("inf"), 46.0),
        (asking_for(60.0), 0, 10.0, float("inf"), 70.0),
        (asking_for(60.0), 0, 10.0, 69.0, None),
        (asking_for(60.0), 1, 10.0, float("inf"), None),
        (asking_for(10.0), 1, 10.0, float("inf"), 20.0),
    ],
)
def test_the_retries_end(
    reply: Reply, failures: int, now: float, deadline: float, retry_at: float | None
) -> None:
    assert next_read_at(reply, failures, begun_at=0.0, now=now, deadline=deadline) == retry_at
