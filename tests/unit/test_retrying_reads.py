"""Reads of commands that run once: one lost reply fails nothing, and an outage ends them after a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import NoneType
from typing import TypeVar

import pytest

from reconciler.core.model import AccountInfo, Family, LiveRead
from reconciler.core.reply import Reply, ReplyClass
from reconciler.okx.retrying_reads import RetryingReads
from tests.unit.builders import BTC

BUSY = Reply(ReplyClass.BUSY, "50013", "overloaded")
WRONG_KEY = Reply(ReplyClass.ACCOUNT, "50111", "wrong key")
INFO = AccountInfo("7", "7", "4", frozenset())
READ = LiveRead(1.0, {})

T = TypeVar("T")

QUESTIONS = ("account", "read_live", "read_family", "sync_clock", "listed")
REPEATED = tuple(question for question in QUESTIONS if question != "read_family")
ANSWERS: dict[str, object] = {
    "account": INFO,
    "read_live": READ,
    "read_family": READ,
    "sync_clock": None,
    "listed": "all",
}


class WokenClock:
    """A clock whose every pause ends early once, as one does that was nudged."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wall(self) -> datetime:
        return datetime(2026, 8, 1, tzinfo=UTC)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        self.time = until if until - self.time < 0.5 else self.time + (until - self.time) / 2


class FailingExchange:
    """An exchange that fails for a number of questions, each taking a while, and then answers."""

    def __init__(self, clock: WokenClock, *failures: Reply, takes_s: float = 0.0) -> None:
        self.clock = clock
        self.failures = list(failures)
        self.takes_s = takes_s
        self.asked_at: list[float] = []

    def answer(self, question: str, kind: type[T]) -> T | Reply:
        self.asked_at.append(self.clock.time)
        self.clock.time += self.takes_s
        if self.failures:
            return self.failures.pop(0)
        answer = ANSWERS[question]
        assert isinstance(answer, kind)
        return answer

    async def account(self) -> AccountInfo | Reply:
        return self.answer("account", AccountInfo)

    async def read_live(self) -> LiveRead | Reply:
        return self.answer("read_live", LiveRead)

    async def read_family(self, family: Family) -> LiveRead | Reply:
        assert family == BTC
        return self.answer("read_family", LiveRead)

    async def sync_clock(self) -> Reply | None:
        return self.answer("sync_clock", NoneType)

    async def listed(self) -> str | Reply:
        return self.answer("listed", str)


def ask(reads: RetryingReads, exchange: FailingExchange, question: str) -> object:
    match question:
        case "read_family":
            return asyncio.run(reads.read_family(BTC))
        case "listed":
            return asyncio.run(reads.retry(exchange.listed))
        case _:
            return asyncio.run(getattr(reads, question)())


def asked(
    question: str, *failures: Reply, takes_s: float = 0.0, timeout_s: float | None = None
) -> tuple[object, list[float], list[Reply]]:
    """Return the answer, after how many seconds each try began, and the failures that were retried."""
    clock, retried = WokenClock(), list[Reply]()
    exchange = FailingExchange(clock, *failures, takes_s=takes_s)
    reads = RetryingReads(exchange, clock, on_retry=retried.append, timeout_s=timeout_s)
    answer = ask(reads, exchange, question)
    return answer, [at - 100.0 for at in exchange.asked_at], retried


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_taken_at_once(question: str) -> None:
    assert asked(question) == (ANSWERS[question], [0.0], [])


def test_one_family_s_read_is_not_repeated_because_its_survey_asks_again() -> None:
    assert asked("read_family", BUSY) == (BUSY, [0.0], [])


@pytest.mark.parametrize("question", REPEATED)
def test_a_failure_is_reported_and_the_read_repeated(question: str) -> None:
    assert asked(question, BUSY, BUSY) == (ANSWERS[question], [0.0, 1.0, 3.0], [BUSY, BUSY])


@pytest.mark.parametrize("question", REPEATED)
def test_what_a_person_has_to_correct_is_returned_at_once(question: str) -> None:
    assert asked(question, WRONG_KEY) == (WRONG_KEY, [0.0], [])
    assert asked(question, BUSY, WRONG_KEY) == (WRONG_KEY, [0.0, 1.0], [BUSY])


def test_an_outage_ends_the_read_after_thirty_seconds() -> None:
    assert asked("account", *[BUSY] * 99) == (BUSY, [0.0, 1.0, 3.0, 7.0, 15.0, 30.0], [BUSY] * 5)


def test_tries_that_hang_are_repeated_too() -> None:
    assert asked("account", *[BUSY] * 99, takes_s=10.0)[1] == [0.0, 11.0, 23.0]


def test_no_try_begins_after_the_timeout_of_the_command() -> None:
    assert asked("account", *[BUSY] * 99, timeout_s=4.0)[1] == [0.0, 1.0, 3.0, 4.0]


def test_the_timeout_is_one_for_all_reads_of_the_command() -> None:
    clock = WokenClock()
    exchange = FailingExchange(clock, BUSY, BUSY, BUSY)
    reads = RetryingReads(exchange, clock, on_retry=lambda _: None, timeout_s=3.5)
    assert asyncio.run(reads.account()) == BUSY
    assert asyncio.run(reads.read_live()) == READ
    exchange.failures = [BUSY]
    assert asyncio.run(reads.read_live()) == BUSY
    assert [at - 100.0 for at in exchange.asked_at] == [0.0, 1.0, 3.0, 3.0, 3.0]
