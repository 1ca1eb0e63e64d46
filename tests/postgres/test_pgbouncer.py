"""A state behind a real PgBouncer in transaction mode: a client has a session for one transaction.

``tests/contract`` runs the contract of the store over it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.core.reservation import NoSlotUntil, Reservation, ReserveResult
from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable
from reconciler.store import queries
from reconciler.store.engine import StateOptions
from reconciler.store.postgres import connections, schema
from reconciler.store.postgres.permission_check import refuse_unwritable
from reconciler.store.postgres.state import open_state
from reconciler.store.table_access import WriteScope
from tests.contract.stores import ScriptedClock, empty_postgres, ready_database, shared_bouncer
from tests.e2e.processes import eventually
from tests.postgres.accounts import Desk, desk
from tests.postgres.many_accounts import BTC, Fleet, fleet, owned
from tests.support.pgbouncer import POOL_SIZE, Bouncer, bouncer
from tests.support.postgres import PASSWORD, Server, server, shared

CANCELLING_S = 10.0
"""How long the library at most asks for a statement that is given up on to be cancelled."""

KEY = ("main", "live", "okx")


async def opened(url: str) -> None:
    state = await open_state(url, StateOptions(ScriptedClock(), "boot-1", lock_timeout_s=0.0))
    await state.close()


def refusal(url: str) -> MmpError:
    with pytest.raises(MmpError) as refused:
        asyncio.run(opened(url))
    return refused.value


# -- sessions ----------------------------------------------------------------------------------------


def test_many_that_start_at_once_make_the_schema_once() -> None:
    with shared().database() as name:
        url = shared_bouncer().url(name)

        async def all_at_once() -> None:
            await asyncio.gather(*(opened(url) for _ in range(8)))

        asyncio.run(refuse_unwritable(url))
        asyncio.run(all_at_once())
        assert shared().ask("SELECT migrations FROM mmp.version", name) == [(len(schema.MIGRATIONS),)]


def test_every_transaction_has_its_limits_whatever_session_it_gets() -> None:
    sessions = set()

    async def one_transaction(one: Desk) -> None:
        async with one.state._connections.transaction() as transaction:
            sessions.add(await transaction.row("SELECT pg_backend_pid()"))
            for name, value in (
                ("statement_timeout", "5s"),
                ("lock_timeout", "4s"),
                ("idle_in_transaction_session_timeout", "5s"),
                ("synchronous_commit", "on"),
                ("search_path", "pg_catalog, mmp, pg_temp"),
            ):
                assert await transaction.row(f"SHOW {name}") == (value,)
            assert await transaction.row("SELECT count(*) FROM pg_prepared_statements") == (0,)

    async def scenario() -> None:
        async with desk(shared_bouncer().url(ready_database())) as one:
            await asyncio.gather(*(one_transaction(one) for _ in range(4 * POOL_SIZE)))
        assert len(sessions) == POOL_SIZE, "or this shows nothing"

    empty_postgres()
    asyncio.run(scenario())


def test_of_many_processes_of_one_user_id_two_get_a_slot() -> None:
    async def scenario() -> None:
        url = shared_bouncer().url(ready_database())
        async with desk(url, account="a") as a, desk(url, account="b") as b, desk(url, account="c") as c:
            slots = await asyncio.gather(*(one.reserve() for one in [a, b, c] * 3))
            assert sum(isinstance(slot, Reservation) for slot in slots) == 2

    empty_postgres()
    asyncio.run(scenario())


# -- faults ------------------------------------------------------------------------------------------


def test_a_session_that_ends_within_a_transaction_fails_it_and_the_next_goes_on() -> None:
    async def scenario() -> None:
        async with desk(shared_bouncer().url(ready_database())) as one:
            with pytest.raises(StateUnavailable) as refused:
                await end_within(one)
            assert refused.value.code == "state-unavailable"
            assert isinstance(await one.reserve(), Reservation)

    async def end_within(one: Desk) -> None:
        async with one.state.writing(WriteScope(KEY, one.store._session.budget)) as tables:
            assert shared().kill_connections(ready_database()) > 0
            await tables.select(queries.newest_attempt(one.store._session.identified(), "BTC-USD"))

    empty_postgres()
    asyncio.run(scenario())


def test_who_stops_within_a_transaction_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "idle_in_transaction_session_timeout"
    shorter = connections._LIMITS.replace(f"{name} = {connections.SILENCE_TIMEOUT_MS}", f"{name} = 100")
    monkeypatch.setattr(connections, "_LIMITS", shorter)

    async def scenario() -> None:
        url = shared_bouncer().url(ready_database())
        async with desk(url) as one, desk(url) as two:
            with pytest.raises(StateUnavailable) as refused:
                await stop_within(one, two)
            assert refused.value.code == "state-unavailable"
            assert isinstance(await one.reserve(), Reservation)
            assert isinstance(await one.reserve(), NoSlotUntil)

    async def stop_within(one: Desk, two: Desk) -> None:
        async with one.state.writing(WriteScope(KEY, one.store._session.budget)) as tables:
            await asyncio.sleep(0.5)
            assert isinstance(await two.reserve(), Reservation)
            await tables.select(queries.newest_attempt(one.store._session.identified(), "BTC-USD"))

    empty_postgres()
    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("database", "change", "said"),
    [
        ("ready", (PASSWORD, "wrong"), "authentication failed"),
        ("ready", ("sslmode=disable", "options=-c%20statement_timeout%3D1s"), "startup parameter"),
        ("no-such", ("", ""), "does not exist"),
        ("ready", ("disable", "require"), "SSL was required"),
    ],
    ids=["password", "options", "database", "tls"],
)
def test_what_it_or_the_server_refuses_is_reported_as_refused(
    database: str, change: tuple[str, str], said: str
) -> None:
    ready_database()
    problem = refusal(shared_bouncer().url(database).replace(*change))
    assert isinstance(problem, StateAccessDenied)
    assert said in problem.message


async def reserved_in_the_end(one: Desk) -> ReserveResult:
    """Query until the state answers: PgBouncer assumes for a moment that its server is still down."""
    for _ in range(20):
        with suppress(StateUnavailable):
            return await one.reserve()
        await asyncio.sleep(0.5)
    raise AssertionError("the state did not come back")


def test_one_that_is_away_or_has_no_server_is_waited_for_and_comes_back() -> None:
    with server() as own, own.database() as name, bouncer(own) as before:
        url = before.url(name)

        async def scenario() -> None:
            async with desk(url) as one:
                assert isinstance(await one.reserve(), Reservation)
                for away in (before, own):
                    away.stop()
                    began = time.monotonic()
                    with pytest.raises(StateUnavailable) as refused:
                        await one.reserve()
                    assert refused.value.code == "state-unavailable"
                    assert time.monotonic() - began < connections.WATCHDOG_S + CANCELLING_S
                    away.start()
                    slot = await reserved_in_the_end(one)
                assert isinstance(slot, NoSlotUntil), "the two before are on record"

        asyncio.run(scenario())


# -- replicas ----------------------------------------------------------------------------------------


@pytest.fixture
def six(tmp_path: Path) -> Iterator[tuple[Fleet, Bouncer, Server]]:
    """Six accounts of one family each on a state that is reached through PgBouncer alone."""
    with (
        server() as own,
        bouncer(own) as before,
        fleet(own, tmp_path / "desk", 6, families=(BTC,), port=before.port) as made,
    ):
        yield made, before, own


@pytest.mark.e2e
def test_three_replicas_begin_at_once_share_and_take_over(six: tuple[Fleet, Bouncer, Server]) -> None:
    made, before, own = six
    replicas = [made.listening() for _ in range(3)]
    for one in replicas:
        one.wait_for("/startupz", 40.0)
    eventually(lambda: [len(owned(one)) for one in replicas] == [2, 2, 2], 20.0, "all to have their share")
    made.wait_until_right(5.0)

    dead, *alive = replicas
    lost = owned(dead)
    dead.process.kill()
    for account in lost:
        made.wants(account, {BTC: 90})
    assert made.wait_until_right(18.0) < 15.0

    own.kill_connections(made.database)
    before.stop()
    eventually(lambda: alive[0].ask("/readyz")[0] == 503, 15.0, "the probe to say that the state is away")
    made.wants("desk-001", {BTC: 60})
    before.start()
    for one in alive:
        one.wait_for("/readyz", 20.0)
    made.wait_until_right(10.0)
    assert len(made.exchange.arrivals()) == 6 + len(lost) + 1
    made.check_pace()
    assert made.exchange.violations() == []
