"""A newer version changes the tables while this one runs on them: it continues or waits, and never ends."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.core.model import Confirmed
from reconciler.core.replica_assignment import Replica
from reconciler.errors import StateAccessDenied
from reconciler.store.postgres import schema
from reconciler.store.postgres.connections import Connections
from reconciler.store.postgres.conninfo import parse_address
from reconciler.store.postgres.leases import Leases
from tests.contract.stores import BTC, ETH
from tests.e2e.processes import eventually
from tests.postgres.accounts import desk
from tests.postgres.many_accounts import Fleet
from tests.support.postgres import Server, shared

OWN_TABLES = ("version", "budgets", "locks", "replicas", "leases")

TABLES = (*OWN_TABLES, *schema.expected_columns())

NAME = "main.live.okx"


def add_a_column(postgres: Server, database: str) -> None:
    """Do what a newer version that this one may run beside does."""
    for table in TABLES:
        postgres.ask(f"ALTER TABLE mmp.{table} ADD COLUMN more text NOT NULL DEFAULT 'new'", database)
    postgres.ask("UPDATE mmp.version SET migrations = migrations + 1", database)


def use_alone(postgres: Server, database: str, usable_from: int) -> None:
    """Do what a newer version that this one may not run beside does."""
    postgres.ask(f"UPDATE mmp.version SET usable_from = {usable_from}", database)


def test_every_step_of_an_account_goes_on_in_tables_with_one_more_column() -> None:
    async def scenario(url: str, name: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            sharing = Leases(Connections(parse_address(url)), Replica("1", "host", 7))
            await sharing.heartbeat(frozenset({NAME}), {})
            add_a_column(shared(), name)
            assert (await sharing.heartbeat(frozenset({NAME}), {})).keeps == {"1": frozenset({NAME})}
            assert await sharing.take([NAME]) == {NAME: None}
            assert await one.state.owner(NAME) is not None
            await sharing.release([NAME])
            await sharing.leave()
            async with one.store.locked("run"):
                await one.applied("2", ETH)
            await one.store.pause([BTC], until=None, reason="why")
            assert [pause.family for pause in await one.store.pauses()] == [BTC]
            await one.store.resume([BTC])
            one.clock.time += 100.0
            await one.adopt("3")
            assert isinstance(await one.known(), Confirmed)
            assert len((await one.store.history(10)).attempts) >= 2
        async with desk(url, boot="boot-2", account="late", uid="77") as late:
            await late.applied("1")

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


def test_what_a_newer_version_uses_alone_is_neither_read_nor_written() -> None:
    async def scenario(url: str, name: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            sharing = Leases(Connections(parse_address(url)), Replica("1", "host", 7))
            use_alone(shared(), name, 99)
            for ask in (one.reserve, one.store.ledger, lambda: sharing.heartbeat(frozenset({NAME}), {})):
                with pytest.raises(StateAccessDenied) as refused:
                    await ask()
                assert refused.value.code == "state-newer"
            assert shared().ask("SELECT count(*) FROM mmp.replicas", name) == [(0,)]
            assert shared().ask("SELECT count(*) FROM mmp.attempts", name) == [(1,)]
            use_alone(shared(), name, 1)
            await sharing.heartbeat(frozenset({NAME}), {})
            await one.applied("2", ETH)
            await sharing.leave()

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


@pytest.mark.e2e
def test_a_run_goes_on_beside_a_newer_version_and_waits_for_one_that_uses_the_state_alone(
    two: Fleet, postgres: Server
) -> None:
    one = two.listening()
    one.wait_for("/startupz", 20.0)
    add_a_column(postgres, two.database)
    two.wants("desk-001", {BTC: 70})
    two.wait_until_right(20.0)
    assert one.ask("/readyz")[0] == 200

    use_alone(postgres, two.database, 99)
    two.wants("desk-002", {BTC: 60})
    eventually(lambda: one.ask("/readyz")[0] == 503, 20.0, "the probe to say so")
    assert "used by a newer mmp" in one.ask("/readyz")[1]
    assert one.process.wait_for_log("state cannot be used")["code"] == "state-newer"
    assert one.ask("/livez")[0] == 200
    assert two.different() == ["desk-002"]
    use_alone(postgres, two.database, 1)
    one.wait_for("/readyz", 20.0)
    two.wait_until_right(20.0)
    assert two.start().process.poll() is None, "and another one of this version may start"
