"""What every engine's logic does when its newest records may have been lost, over one that can say so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from reconciler.core.live_evidence import READ_LAG_S
from reconciler.core.model import (
    Confirmed,
    Environment,
    ExchangeKind,
    Family,
    Known,
    NeverApplied,
    Uncertain,
)
from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AttemptResult,
    NoSlotUntil,
    Reservation,
    ReserveOptions,
    ReserveResult,
)
from reconciler.errors import MmpError, StateUnavailable
from reconciler.store import queries
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.rows import AttemptRow, IdentityRow
from reconciler.store.sqlite.state import SqliteState
from tests.contract.stores import BTC, ETH, HOST, UID, ScriptedClock, setting, signed
from tests.support.memory_state import MemoryDisk

L = LATEST_ARRIVAL_S
SHOWN_S = L + READ_LAG_S


class World:
    """One process on a state that can be told that it lost what was last recorded."""

    def __init__(self) -> None:
        self.clock = ScriptedClock()
        self.disk = MemoryDisk()
        self.state: SqliteState = self.disk.open(StateOptions(self.clock, "boot-1", lock_timeout_s=30.0))
        self.store: SqlAccountStore = self.state.account("main", Environment.LIVE, ExchangeKind.OKX)
        asyncio.run(self.store.identify(UID, HOST))

    def lose(self) -> None:
        """Let the next transaction find that records may have been lost, and nobody said so."""

        async def noticed() -> None:
            await self.store.ledger()

        self.state._tables.lost = True
        asyncio.run(noticed())
        self.state._tables.lost = False

    def reserve(self, quantity: str = "1", family: Family = BTC) -> ReserveResult:
        return asyncio.run(self.store.reserve(signed(quantity, family), ReserveOptions(assume_idle=True)))

    def settle(
        self, attempt: int, status: AttemptStatus = AttemptStatus.APPLIED, *, definite: bool = True
    ) -> None:
        settling = self.store.settle(
            attempt, AttemptResult(status, definite=definite, limited=False, code="0", message="")
        )
        asyncio.run(settling)

    def applied(self, quantity: str, family: Family = BTC) -> None:
        slot = self.reserve(quantity, family)
        assert isinstance(slot, Reservation)
        self.settle(slot.attempt)

    def adopt(self, quantity: str, family: Family = BTC) -> None:
        asyncio.run(self.store.adopt({family: setting(quantity)}, read_begun_at=self.clock.time))

    def known(self, family: Family = BTC) -> Known:
        return asyncio.run(self.store.known()).get(family, NeverApplied())

    def doubted(self, family: Family = BTC) -> bool:
        known = self.known(family)
        return isinstance(known, Uncertain) and [doubt.setting for doubt in known.unresolved] == [None]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.disk.close()


def test_two_requests_count_as_reserved_at_the_loss_and_every_family_is_doubted(world: World) -> None:
    world.applied("1")
    world.adopt("2", ETH)
    world.clock.time = 2000.0
    world.lose()
    assert world.reserve() == NoSlotUntil(2000.0 + L + GUARD_S)
    assert world.doubted(BTC)
    assert world.doubted(ETH)
    snapshot = asyncio.run(world.store.snapshot())
    assert snapshot.open_attempts == ()
    assert [one.family for one in asyncio.run(world.store.history(9)).attempts] == [BTC]


def test_a_doubt_ends_by_a_read_that_shows_or_a_write_after_the_last_that_can_land(world: World) -> None:
    world.applied("1")
    world.adopt("2", ETH)
    world.clock.time = 2000.0
    world.lose()
    world.clock.time = 2000.0 + SHOWN_S - 0.01
    world.adopt("1")
    assert world.doubted(BTC)
    world.clock.time = 2000.0 + SHOWN_S
    world.adopt("1")
    assert isinstance(world.known(BTC), Confirmed)
    assert world.doubted(ETH)
    world.clock.time = 2000.0 + L + GUARD_S
    world.applied("3", ETH)
    assert isinstance(world.known(ETH), Confirmed)


@pytest.mark.parametrize(
    ("after_s", "doubted"),
    [(10.0, True), (SHOWN_S - 0.01, True), (SHOWN_S, False), (L + GUARD_S + 1, False)],
)
def test_a_family_new_to_the_record_is_doubted_while_its_own_may_have_been_lost(
    world: World, after_s: float, doubted: bool
) -> None:
    world.lose()
    world.clock.time += after_s
    world.adopt("1")
    assert world.doubted() == doubted


def test_a_newcomers_read_from_before_is_doubted_although_it_is_recorded_after(world: World) -> None:
    world.lose()
    begun_at = world.clock.time + SHOWN_S - 0.01
    world.clock.time += SHOWN_S + 1
    asyncio.run(world.store.adopt({BTC: setting("1")}, read_begun_at=begun_at))
    assert world.doubted()


def test_a_family_on_record_by_a_refused_request_alone_gets_one_doubt(world: World) -> None:
    slot = world.reserve("1")
    assert isinstance(slot, Reservation)
    world.settle(slot.attempt, AttemptStatus.REJECTED)
    world.clock.time = 2000.0
    world.lose()
    world.adopt("1")
    assert world.doubted()


def test_lost_requests_end_no_spacing_and_are_dropped_in_the_end(world: World) -> None:
    slot = world.reserve()
    assert isinstance(slot, Reservation)
    asyncio.run(
        world.store.settle(
            slot.attempt,
            AttemptResult(AttemptStatus.REJECTED, definite=True, limited=True, code="50011", message=""),
        )
    )
    for _ in range(15):
        world.clock.time += 100.0
        world.lose()
    world.clock.time += 100.0
    assert asyncio.run(world.store.ledger()).throttled


def test_a_state_for_reading_records_no_loss(world: World) -> None:
    world.applied("1")
    world.state.options = replace(world.state.options, read_only=True)
    world.state._tables.lost = True
    assert isinstance(world.known(), Confirmed)


@pytest.mark.parametrize("row", ["gone", "another's"])
def test_a_request_whose_record_was_lost_is_not_settled_on_anothers_row(world: World, row: str) -> None:
    slot = world.reserve("1")
    assert isinstance(slot, Reservation)
    db = world.state._db
    db.execute("DELETE FROM attempts")
    db.execute("DELETE FROM sqlite_sequence")
    if row != "gone":
        world.clock.time += 1.0
        other = world.state.account("main", Environment.LIVE, ExchangeKind.OKX)
        asyncio.run(other.identify(UID, HOST))
        assert asyncio.run(other.reserve(signed("2"), ReserveOptions(assume_idle=True))) == Reservation(
            slot.attempt, world.clock.time
        )
    with pytest.raises(StateUnavailable) as refused:
        world.settle(slot.attempt)
    assert refused.value.code == "state-record-lost"


@pytest.mark.parametrize(
    ("definite", "counts_until"), [(True, 1002.0 + GUARD_S), (False, 1000.0 + L + GUARD_S)]
)
def test_a_request_whose_record_was_lost_counts_for_the_process_that_sent_it(
    world: World, definite: bool, counts_until: float
) -> None:
    slot = world.reserve("1")
    assert isinstance(slot, Reservation)
    world.state._db.execute("DELETE FROM attempts")
    world.clock.time = 1002.0
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            world.settle(slot.attempt, AttemptStatus.UNKNOWN, definite=definite)
    assert isinstance(world.reserve("2"), Reservation), "it counts once"
    assert world.reserve("3") == NoSlotUntil(counts_until)


def test_requests_that_are_gone_from_the_record_count_for_a_process_that_saw_them(world: World) -> None:
    """To assume that nothing was sent is no way to forget what was seen."""
    world.applied("1")
    world.applied("2")
    world.clock.time = 1002.0
    asyncio.run(world.store.ledger())
    world.state._db.execute("DELETE FROM attempts")
    assert world.reserve("3") == NoSlotUntil(1002.0 + L + GUARD_S)
    world.clock.time = 1002.0 + L + GUARD_S
    assert isinstance(world.reserve("3"), Reservation)


def test_a_request_that_was_never_sent_leaves_an_unknown_history(world: World) -> None:
    slot = world.reserve("1")
    assert isinstance(slot, Reservation)
    asyncio.run(world.store.ledger())
    world.settle(slot.attempt, AttemptStatus.NOT_SENT, definite=False)
    assert isinstance(world.reserve("2"), Reservation)


def test_all_rows_of_a_kind_come_in_the_order_of_their_ids(world: World) -> None:
    world.applied("1")
    world.applied("2")

    async def every() -> tuple[list[int], list[str], int]:
        async with world.state.reading(None) as tables:
            attempts = [row.id for row in await tables.select(queries.all_rows(AttemptRow))]
            accounts = [row.account for row in await tables.select(queries.all_rows(IdentityRow))]
            await tables.insert_all([])
            return attempts, accounts, len(await tables.next_ids(AttemptRow, 3))

    assert asyncio.run(every()) == ([1, 2], ["main"], 3)


def test_whose_account_it_is_is_put_on_record_again_where_that_was_lost(world: World) -> None:
    world.applied("1")
    world.state._db.execute("DELETE FROM identity")
    unused = world.state.account("main", Environment.LIVE, ExchangeKind.OKX)
    with pytest.raises(MmpError):
        asyncio.run(unused.pause([BTC], until=None, reason=""))
    asyncio.run(world.store.recorded_inputs())
    asyncio.run(unused.pause([BTC], until=None, reason=""))
    text = asyncio.run(unused.snapshot())
    assert (text.uid, text.host) == (UID, HOST)
