"""A step sends all its queries in one round trip: a database may be far away."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reconciler.core.model import LiveRead
from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S
from reconciler.core.reservation import NoSlotUntil, Reservation
from reconciler.store.postgres import connections
from reconciler.store.postgres.connections import Mode, PostgresTransaction
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.contract.stores import BTC, ETH, UID, ready_database, setting
from tests.postgres.accounts import Desk, desk, play
from tests.support.postgres import shared

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


async def one_pass(one: Desk) -> None:
    async with one.store.locked("test"):
        pass


ROUND_TRIPS: dict[str, tuple[int, Callable[[Desk], Awaitable[Any]]]] = {
    "grounds": (1, lambda one: one.store.recorded_inputs()),
    "reserve": (2, lambda one: one.reserve("2")),
    "settle": (2, lambda one: one.settle(1)),
    "adopt": (2, lambda one: one.store.adopt({BTC: setting("1"), ETH: setting("1")}, read_begun_at=1000.0)),
    "record_live": (1, lambda one: one.store.record_live(LiveRead(1000.0, {}))),
    "take and release the lock": (2, one_pass),
}


@pytest.mark.parametrize("step", ROUND_TRIPS)
def test_a_step_makes_few_round_trips(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    at_most, take = ROUND_TRIPS[step]
    said: list[list[str]] = []
    real = PostgresTransaction._flush

    async def noting(self: PostgresTransaction, words: list[str]) -> Any:
        said.append(words)
        return await real(self, words)

    async def scenario(url: str) -> None:
        async with desk(url) as one:
            assert isinstance(await one.reserve("1"), Reservation)
            monkeypatch.setattr(PostgresTransaction, "_flush", noting)
            await take(one)
            monkeypatch.undo()

    play(scenario)
    assert len(said) == at_most, said


def test_a_budget_whose_row_was_lost_is_made_again_and_locked() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.reserve()
            shared().ask("DELETE FROM mmp.budgets", ready_database())
            lost = await one.reserve()
            assert lost == NoSlotUntil(one.clock.time + LATEST_ARRIVAL_S + GUARD_S), (
                "with what was on record"
            )
            one.clock.time = lost.until
            assert isinstance(await one.reserve(), Reservation)
            assert shared().ask("SELECT uid FROM mmp.budgets", ready_database()) == [(UID,)]

    play(scenario)


def test_nothing_can_be_asked_after_the_last_answers() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, one.state._connections.transaction(Mode.READ) as transaction:
            assert await transaction.commit_batch(("SELECT 1", ())) == [[(1,)]]
            with pytest.raises(StoreMisuse):
                await transaction.rows("SELECT 2")

    play(scenario)


def test_pending_statements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_PENDING", 3)

    async def scenario(url: str) -> None:
        async with desk(url) as one, one.state._connections.transaction() as transaction:
            for _ in range(20):
                await transaction.run("UPDATE version SET migrations = migrations")
                assert len(transaction._pending) <= 3

    play(scenario)


def test_every_value_comes_back_as_it_was_whatever_it_looks_like() -> None:
    """Values are literals of a message: none of them may end one, or mean something else."""
    texts = ["'; DROP SCHEMA mmp CASCADE; --", "\\'", "%s %% %(x)s", "ü\n€", "", "E'\\x'", "$$", "a;b"]
    floats = [0.1 + 0.2, -1.5, 1e300, 5e-324, -0.0, 123456789.123456789]
    numbers = [0, -1, 2**62]

    async def scenario(url: str) -> None:
        async with desk(url) as one, one.state._connections.transaction() as transaction:
            for text in texts:
                assert await transaction.row("SELECT %s::text, 'a' || %s", (text, text)) == (
                    text,
                    "a" + text,
                )
            for value in floats:
                [(number,)] = await transaction.rows("SELECT %s::double precision", (value,))
                assert repr(number) == repr(value)
            for number in numbers:
                assert await transaction.row("SELECT %s::bigint - 0", (number,)) == (number,)
            assert await transaction.row("SELECT %s::text IS NULL, %s::text[]", (None, texts)) == (
                True,
                texts,
            )

    play(scenario)
