"""Whatever happens to a connection or a server: no unrecorded request, and the ledger sets the rate."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from reconciler.core.reservation import NoSlotUntil, Reservation, ReserveResult
from reconciler.errors import StateUnavailable
from reconciler.store import queries
from reconciler.store.postgres import connections
from reconciler.store.postgres.connections import PostgresTransaction
from reconciler.store.table_access import WriteScope
from tests.contract.stores import ETH, ready_database
from tests.postgres.accounts import Desk, desk, play
from tests.support.postgres import PASSWORD, shared

KEY = ("main", "live", "okx")


def on_record() -> int:
    [(count,)] = shared().ask("SELECT count(*) FROM mmp.attempts", ready_database())
    return int(count)


# -- connections that end ----------------------------------------------------------------------------

STEPS: dict[str, Callable[[Desk], Awaitable[Any]]] = {
    "reserve": lambda one: one.reserve("2"),
    "settle": lambda one: one.settle(1),
    "adopt": lambda one: one.adopt("1"),
    "known": lambda one: one.known(),
    "ledger": lambda one: one.store.ledger(),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_connection_ended_before_any_statement_fails_the_step_and_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real = PostgresTransaction._flush
    left = 0

    async def mortal(self: PostgresTransaction, words: list[str]) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            shared().kill_connections(ready_database())
        return await real(self, words)

    monkeypatch.setattr(PostgresTransaction, "_flush", mortal)

    async def scenario(url: str) -> None:
        nonlocal left
        async with desk(url) as one:
            assert isinstance(await one.reserve("1"), Reservation)
            before = shared().ask("SELECT * FROM mmp.attempts", ready_database())
            for number in range(1, 100):
                left = number
                codes = await asyncio.gather(STEPS[step](one), return_exceptions=True)
                if not isinstance(codes[0], StateUnavailable):
                    assert left > 0, "the step went on without noticing"
                    break
                assert codes[0].code == "state-unavailable"
                assert shared().ask("SELECT * FROM mmp.attempts", ready_database()) == before
            assert 1 < number < 99

    play(scenario)


def test_a_connection_that_died_while_it_lay_idle_is_replaced_unnoticed() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            assert isinstance(await one.reserve(), Reservation)
            assert shared().kill_connections(ready_database()) > 0
            assert isinstance(await one.reserve(), Reservation)

    play(scenario)


def test_a_connection_in_use_when_all_are_closed_is_closed_after_its_use() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            pool = one.state._connections
            async with pool.transaction() as transaction:
                await pool.close()
                assert await transaction.row("SELECT 1") == (1,)
            assert pool._idle == []
            assert shared().kill_connections(ready_database()) == 0

    play(scenario)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_restart_of_the_server_loses_nothing(how: signal.Signals) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied()
            await one.applied()
            shared().stop(how=how)
            with pytest.raises(StateUnavailable):
                await one.reserve()
            shared().start()
            assert isinstance(await one.reserve(), NoSlotUntil)
            assert on_record() == 2

    play(scenario)


# -- answers that are lost ---------------------------------------------------------------------------


@asynccontextmanager
async def cutting_after_commit() -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """Give the port of a proxy, and what arms it: it then cuts once the server has answered COMMIT."""
    armed = False

    def arm() -> None:
        nonlocal armed
        armed = True

    async def serve(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", shared().port)
        cut = asyncio.Event()

        async def up() -> None:
            while data := await client.read(65536):
                if armed and b"COMMIT\0" in data:
                    cut.set()
                to_server.write(data)

        async def down() -> None:
            while data := await server.read(65536):
                if cut.is_set():
                    return
                to_client.write(data)

        sending = asyncio.create_task(up())
        await down()
        sending.cancel()
        for writer in (to_client, to_server):
            writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1], arm


def test_a_commit_whose_answer_is_lost_fails_the_reservation_and_counts_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)

    async def scenario(_: str) -> None:
        async with cutting_after_commit() as (port, arm):
            url = f"postgresql://desk@127.0.0.1:{port}/{ready_database()}?sslmode=disable"
            async with desk(url) as one:
                arm()
                with pytest.raises(StateUnavailable):
                    await one.reserve()
            async with desk(shared().url(ready_database())) as two:
                assert on_record() == 1
                assert isinstance(await two.reserve(), Reservation)
                assert isinstance(await two.reserve(), NoSlotUntil)

    play(scenario)


@pytest.mark.parametrize("ended_by", ["watchdog", "administrator"])
def test_a_commit_that_did_not_reach_the_synchronous_standby_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            shared().set("synchronous_standby_names", "'nobody'")
            try:
                with pytest.raises(StateUnavailable) as refused:
                    await (waited_out(one) if ended_by == "watchdog" else cancelled(one))
            finally:
                shared().set("synchronous_standby_names", "''")
            text = {"watchdog": "did not answer in time", "administrator": "synchronous replication"}
            assert text[ended_by] in refused.value.message

    async def waited_out(one: Desk) -> None:
        monkeypatch.setattr(connections, "WATCHDOG_S", 0.5)
        await commit_until_it_fails(one)

    async def cancelled(one: Desk) -> None:
        committing = asyncio.create_task(commit_until_it_fails(one))
        while not committing.done():
            shared().ask("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            await asyncio.sleep(0.05)
        await committing

    play(scenario)


async def commit_until_it_fails(one: Desk) -> None:
    """Commit repeatedly: the server waits for a standby only some time after the setting changes."""
    for _ in range(1000):
        async with one.state._connections.transaction() as transaction:
            await transaction.run("UPDATE version SET migrations = migrations")


def test_a_transaction_that_failed_unnoticed_is_not_taken_for_committed() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            with pytest.raises(StateUnavailable) as refused:
                await fail_unnoticed(one)
            assert "ROLLBACK" in refused.value.message

    async def fail_unnoticed(one: Desk) -> None:
        async with one.state._connections.transaction() as transaction:
            with pytest.raises(psycopg.DataError):
                await transaction.rows("SELECT 1 / 0")

    play(scenario)


# -- limits ------------------------------------------------------------------------------------------


def shorten(monkeypatch: pytest.MonkeyPatch, limit: str, to_ms: int) -> None:
    """Shorten one of the limits that every transaction begins with."""
    words = connections._LIMITS.split(";")
    said = [f" SET LOCAL {limit} = {to_ms}" if limit in word else word for word in words]
    assert said != words
    monkeypatch.setattr(connections, "_LIMITS", ";".join(said))


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
def test_waiting_for_another_transaction_is_bounded(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            assert isinstance(await one.reserve(), Reservation)
            shorten(monkeypatch, limit, 200)
            async with one.state.writing(WriteScope(KEY, one.store._session.budget)):
                with pytest.raises(StateUnavailable) as refused:
                    await two.reserve()
            assert refused.value.code == "state-busy"
            assert isinstance(await two.reserve(), Reservation)

    play(scenario)


def test_a_client_that_stops_within_a_transaction_loses_it_and_blocks_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            shorten(monkeypatch, "idle_in_transaction_session_timeout", 100)
            with pytest.raises(StateUnavailable) as refused:
                await stop_within(one, two)
            assert refused.value.code == "state-unavailable"

    async def stop_within(one: Desk, two: Desk) -> None:
        async with one.state.writing(WriteScope(KEY, one.store._session.budget)) as tables:
            await asyncio.sleep(0.5)
            assert isinstance(await two.reserve(), Reservation)
            await tables.select(queries.newest_attempt(one.store._session.identified(), "BTC-USD"))

    play(scenario)


def test_a_server_that_says_nothing_at_all_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WATCHDOG_S", 0.2)

    async def scenario(url: str) -> None:
        async with desk(url) as one:
            with pytest.raises(StateUnavailable) as refused:
                async with one.state._connections.transaction() as transaction:
                    await transaction.run("SELECT pg_sleep(3)")
            assert "did not answer in time" in refused.value.message

    play(scenario)


# -- no session state --------------------------------------------------------------------------------


def test_a_transaction_leaves_nothing_behind_in_its_session() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            for quantity in ("1", "2"):
                await one.reserve(quantity)
                await one.store.known()
            (idle,) = one.state._connections._idle
            for query, expected in (
                ("SELECT count(*) FROM pg_prepared_statements", 0),
                ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
                ("SHOW synchronous_commit", "off"),
                ("SHOW client_min_messages", "error"),
                ("SHOW search_path", '"$user", public'),
                ("SHOW lock_timeout", "0"),
            ):
                assert await (await idle.execute(query.encode())).fetchall() == [(expected,)], query

    play(scenario)


def test_every_transaction_waits_for_the_disk_and_sees_what_the_last_holder_wrote() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, one.state._connections.transaction() as transaction:
            assert await transaction.row("SHOW synchronous_commit") == ("on",)
            assert await transaction.row("SHOW transaction_isolation") == ("read committed",)

    play(scenario)


# -- races -------------------------------------------------------------------------------------------


def test_of_many_processes_of_one_user_id_two_get_a_slot() -> None:
    """Under other account names, so that only the row of the budget separates them."""

    async def scenario(url: str) -> None:
        for _ in range(3):
            async with (
                desk(url, account="a") as a,
                desk(url, account="b") as b,
                desk(url, account="c") as c,
            ):
                a.clock.time = b.clock.time = c.clock.time = 1000.0
                desks = [a, b, c] * 3
                slots = await asyncio.gather(*(one.reserve() for one in desks))
                assert sum(isinstance(slot, Reservation) for slot in slots) == 2
            shared().ask("DELETE FROM mmp.attempts", ready_database())

    play(scenario)


def test_a_first_request_of_a_user_id_is_counted_by_another_that_is_its_first_too() -> None:
    async def scenario(url: str) -> None:
        async with desk(url, account="a") as a, desk(url, account="b") as b:
            slots = await asyncio.gather(*(one.reserve("1", ETH) for one in (a, b, a, b)))
            assert sum(isinstance(slot, Reservation) for slot in slots) == 2

    play(scenario)


def test_who_waited_for_a_budget_reads_ahead_what_the_last_holder_wrote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reads are in the message that waits, and still see what was committed while it waited."""
    said: list[list[str]] = []

    async def scenario(url: str) -> None:
        async with desk(url, account="a") as a, desk(url, account="b") as b:
            assert isinstance(await a.reserve(), Reservation)

            async def waited_for(*_: object) -> None:
                waiting.append(asyncio.create_task(b.reserve()))
                await until_one_waits_for_a_lock()

            waiting: list[asyncio.Task[ReserveResult]] = []
            monkeypatch.setattr(a.store._reservations, "_prune", waited_for)  # the last before its COMMIT
            noted(monkeypatch, said)
            assert isinstance(await a.reserve(), Reservation)
            assert isinstance(await waiting[0], NoSlotUntil)

    play(scenario)
    [message] = [words for words in said if any("FOR UPDATE" in word for word in words)][1:]
    assert sum("retired=0" in word for word in message) == 1, "it waited and read in one message"
    assert sum("retired=0" in word for words in said for word in words) == 2, "and read nothing again"


def noted(monkeypatch: pytest.MonkeyPatch, said: list[list[str]]) -> None:
    """Record every message sent from now on."""
    real = PostgresTransaction._flush

    async def noting(self: PostgresTransaction, words: list[str]) -> Any:
        said.append([*self._pending, *words])
        return await real(self, words)

    monkeypatch.setattr(PostgresTransaction, "_flush", noting)


async def until_one_waits_for_a_lock() -> None:
    """Wait until a transaction waits for one of another client."""
    here = "datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(400):
        if shared().ask(f"SELECT 1 FROM pg_stat_activity WHERE {here}", ready_database()):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")
