"""A failover can lose the newest commits: the record is then incomplete, and counts as incomplete."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import TypeVar

import pytest

from reconciler.core.live_evidence import READ_LAG_S
from reconciler.core.model import Confirmed, Environment, ExchangeKind, Known, NeverApplied, Uncertain
from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S, earliest_slot
from reconciler.core.reservation import NoSlotUntil, Reservation, ReserveOptions
from reconciler.errors import StateUnavailable
from tests.contract.stores import BTC, ETH, HOST, UID, ready_database, setting, signed
from tests.postgres.accounts import Desk, desk, made_in_another_history, play
from tests.support.postgres import ROLE, Server, server, shared, until

L = LATEST_ARRIVAL_S
T = TypeVar("T")


def lose_history() -> None:
    """Let the budget have been last seen on another timeline, as after a promotion."""
    shared().ask("UPDATE mmp.budgets SET history = 'another/00000001'", ready_database())


def doubted(known: Known) -> bool:
    return isinstance(known, Uncertain) and [doubt.setting for doubt in known.unresolved] == [None]


@pytest.mark.parametrize("first", ["reserve", "ledger", "known", "settle", "adopt"])
def test_the_first_process_after_a_failover_counts_two_requests_as_reserved_then(first: str) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            pending = await one.reserve("2", ETH)
            assert isinstance(pending, Reservation)
            one.clock.time = 5000.0
            lose_history()
            match first:
                case "reserve":
                    assert await one.reserve() == NoSlotUntil(5000.0 + L + GUARD_S)
                case "ledger":
                    slot = earliest_slot(await one.store.ledger(), 5000.0, assume_idle=True)
                    assert slot == 5000.0 + L + GUARD_S
                case "known":
                    assert doubted(await one.known())
                case "settle":
                    await one.settle(pending.attempt)
                case "adopt":
                    await one.adopt("1")
            one.clock.time = 5000.0 + L + GUARD_S - 0.01
            assert await one.reserve() == NoSlotUntil(5000.0 + L + GUARD_S)
            one.clock.time = 5000.0 + L + GUARD_S
            assert isinstance(await one.reserve(), Reservation)

    play(scenario)


def test_others_count_them_from_their_own_first_sight_of_the_loss() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url, boot="boot-2", at=77.0) as two:
            await one.applied()
            lose_history()
            await one.store.ledger()
            assert await two.reserve() == NoSlotUntil(77.0 + L + GUARD_S)
            two.clock.time = 100.0
            assert await two.reserve() == NoSlotUntil(77.0 + L + GUARD_S)

    play(scenario)


def test_a_loss_is_recorded_once_for_every_account_of_the_user_id() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url, account="other") as two:
            await one.applied("1")
            await two.applied("2", ETH)
            lose_history()
            for _ in range(3):
                assert doubted(await one.known())
                assert doubted(await two.known(ETH))
            counted = "SELECT count(*) FROM mmp.losses"
            assert shared().ask(counted, ready_database()) == [(1 + 2,)]
            assert doubted(await one.known(ETH)), "a lost attempt of one name may be a write of the other"
            assert [one.family for one in (await one.store.history(10)).attempts] == [ETH, BTC]
            assert (await one.store.snapshot()).open_attempts == ()

    play(scenario)


def test_a_doubted_family_is_certain_again_by_a_read_that_shows_the_last_that_can_land() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            await one.adopt("2", ETH)
            one.clock.time = 2000.0
            lose_history()
            assert doubted(await one.known())
            assert doubted(await one.known(ETH))
            one.clock.time = 2000.0 + L + READ_LAG_S - 0.01
            await one.adopt("1")
            assert doubted(await one.known())
            one.clock.time = 2000.0 + L + READ_LAG_S
            await one.adopt("1")
            assert isinstance(await one.known(), Confirmed)
            one.clock.time = 3000.0
            await one.applied("9", ETH)
            assert isinstance(await one.known(ETH), Confirmed)

    play(scenario)


def test_the_first_requests_of_a_user_id_can_be_lost_with_every_trace_of_it() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            assert await one.reserve() == NoSlotUntil(1000.0 + L + GUARD_S)
            one.clock.time = 1000.0 + L + GUARD_S
            assert isinstance(await one.reserve(), Reservation)

    with made_in_another_history():
        play(scenario)


def test_a_user_id_without_a_request_owes_nothing_to_the_history_its_state_was_made_in() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            assert isinstance(await one.reserve(), Reservation)

    play(scenario)


def test_a_family_new_to_the_record_is_doubted_while_its_own_may_have_been_lost() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied("1", ETH)
            one.clock.time = 3000.0
            lose_history()
            assert await one.known() == NeverApplied()
            one.clock.time = 3010.0
            await one.adopt("1")
            assert doubted(await one.known())
            one.clock.time = 3010.0 + L
            await one.adopt("1")
            assert isinstance(await one.known(), Confirmed)

    play(scenario)


def test_a_family_new_to_the_record_once_the_loss_is_over_is_not_doubted() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied("1", ETH)
            one.clock.time = 3000.0
            lose_history()
            await one.store.ledger()
            one.clock.time = 3000.0 + L + READ_LAG_S
            await one.adopt("1")
            assert isinstance(await one.known(), Confirmed)

    play(scenario)


def test_a_real_promotion_of_a_standby_that_missed_the_newest_commit_is_noticed() -> None:
    with server() as primary, primary.database() as name:
        asyncio.run(_fail_over(primary, name))


async def _fail_over(primary: object, name: str) -> None:

    assert isinstance(primary, Server)
    async with desk(primary.url(name)) as one:
        await one.applied("1")
    with primary.standby() as standby:
        until(lambda: standby.caught_up_with(primary))
        standby.stop()
        async with desk(primary.url(name), at=1100.0) as one:
            assert isinstance(await one.reserve("2"), Reservation)
        primary.stop(how=signal.SIGQUIT)
        standby.start()
        standby.promote()
        async with desk(standby.url(name), at=1101.0) as one:
            # The lost reservation of 1100 can land until 1135; it is not on record any more.
            known = await one.known()
            assert doubted(known)
            assert isinstance(known, Uncertain)
            assert known.last is not None
            assert known.last.setting == setting("1")
            assert await one.reserve() == NoSlotUntil(1101.0 + L + GUARD_S)


FIRST_ASKED = ("reserve", "ledger", "settle", "who only looked")


def test_an_old_primary_that_comes_back_is_noticed_though_it_agrees_with_its_own_rows() -> None:
    with server() as primary, ExitStack() as databases:
        asyncio.run(_fail_back(primary, [databases.enter_context(primary.database()) for _ in FIRST_ASKED]))


async def _fail_back(primary: Server, names: list[str]) -> None:
    with primary.standby() as standby:
        for name in names:
            async with desk(primary.url(name)) as one:
                await one.applied("1")
        until(lambda: standby.caught_up_with(primary))
        primary.stop(how=signal.SIGQUIT)
        standby.promote()
        async with AsyncExitStack() as desks:
            asked = [
                await _on_the_newer(desks, either(primary, standby, name), first)
                for name, first in zip(names, FIRST_ASKED, strict=True)
            ]
            primary.start()
            standby.stop(how=signal.SIGQUIT)
            for (one, pending), first in zip(asked, FIRST_ASKED, strict=True):
                await _notices(one, first, pending)


async def _on_the_newer(desks: AsyncExitStack, url: str, first: str) -> tuple[Desk, int]:
    """Send two requests on the newer server, the last unanswered; give the later process, and that one."""
    one = await desks.enter_async_context(desk(url, at=1200.0))
    await one.store.ledger()
    one.clock.time = 1300.0
    await one.applied("2")
    pending = await one.reserve("3")
    assert isinstance(pending, Reservation)
    if first == "who only looked":
        one = await desks.enter_async_context(desk(url, at=1300.0, boot="boot-2"))
        await one.store.ledger()
    return one, pending.attempt


async def _notices(one: Desk, first: str, pending: int) -> None:
    one.clock.time = 1301.0
    due = NoSlotUntil(1301.0 + L + GUARD_S)
    match first:
        case "reserve" | "who only looked":
            assert await again(one.reserve) == due
        case "ledger":
            await again(one.store.ledger)
        case "settle":
            for _ in range(2):  # The connection broke; and no server knows the request any more.
                with suppress(StateUnavailable):
                    await one.settle(pending)
    assert await one.reserve() == due
    assert doubted(await one.known())
    one.clock.time = due.until
    assert isinstance(await one.reserve(), Reservation)


def test_a_failover_that_was_counted_is_not_counted_again_by_who_takes_over_hours_later() -> None:
    with server() as primary, primary.database() as name:
        asyncio.run(_take_over_later(primary, name))


async def _take_over_later(primary: Server, name: str) -> None:
    with primary.standby() as standby:
        url = either(primary, standby, name)
        async with desk(url) as one, desk(url, boot="boot-2", at=1000.0) as two:
            await one.applied("1")
            await two.store.ledger()
            until(lambda: standby.caught_up_with(primary))
            primary.stop(how=signal.SIGQUIT)
            standby.promote()
            one.clock.time = 2000.0
            assert doubted(await again(one.known))
            one.clock.time = 2000.0 + L + GUARD_S
            await one.applied("1")
            one.clock.time = two.clock.time = 9000.0
            assert isinstance(await again(two.known), Confirmed)
            assert isinstance(await two.reserve("2"), Reservation)
            assert standby.ask("SELECT last_value FROM mmp.losses_id", name) == [(1 + 1,)], "once"


MADE_ANEW = {
    "the schema made anew": ("DROP SCHEMA mmp CASCADE", "MIGRATIONS"),
    "the rows of User IDs gone": ("DELETE FROM mmp.budgets", ""),
    "a table restored": (
        "ALTER TABLE mmp.budgets RENAME TO before",
        "CREATE TABLE mmp.budgets (LIKE mmp.before INCLUDING ALL)",
        "INSERT INTO mmp.budgets SELECT * FROM mmp.before",
        "DROP TABLE mmp.before",
        f"ALTER TABLE mmp.budgets OWNER TO {ROLE}",
    ),
}


@pytest.mark.parametrize("how", MADE_ANEW)
def test_what_was_on_record_before_the_tables_were_made_anew_counts_as_lost(how: str) -> None:
    """The same server, so the same history: only a process that saw the record knows of more."""

    async def scenario(url: str, name: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            one.clock.time = 2000.0
            await make_anew(how, url, name)
            due = NoSlotUntil(2000.0 + L + GUARD_S)
            assert await one.reserve() == due
            one.clock.time = due.until
            assert isinstance(await one.reserve(), Reservation)
            one.clock.time = 9000.0
            await one.applied("1")
            one.clock.time = 9100.0
            assert isinstance(await one.reserve(), Reservation), "counted once"

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


@pytest.mark.parametrize("how", [how for how in MADE_ANEW if how != "the rows of User IDs gone"])
def test_they_count_as_lost_for_a_process_that_takes_over_a_user_id_that_it_never_used(how: str) -> None:
    """A replica runs for long, and cannot ask the process that used the User ID until now."""

    async def scenario(url: str, name: str) -> None:
        async with desk(url) as one, desk(url, account="another", uid="3", boot="boot-2", at=77.0) as two:
            await one.applied("1")
            await two.store.ledger()
            two.clock.time = 300.0
            await make_anew(how, url, name)
            due = NoSlotUntil(300.0 + L + GUARD_S)
            store = two.state.account("main", Environment.LIVE, ExchangeKind.OKX)
            await store.identify(UID, HOST)
            assert await store.reserve(signed(), ReserveOptions(assume_idle=True)) == due
            two.clock.time = due.until
            assert isinstance(
                await store.reserve(signed(), ReserveOptions(assume_idle=True)), Reservation
            ), "counted once"

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


def test_a_user_id_that_is_first_used_long_after_the_tables_were_made_anew_owes_nothing() -> None:
    async def scenario(url: str, name: str) -> None:
        async with desk(url, account="another", uid="3") as one:
            await make_anew("the schema made anew", url, name)
            assert await one.reserve() == NoSlotUntil(1000.0 + L + GUARD_S)
            one.clock.time = 1000.0 + L + GUARD_S
            store = one.state.account("main", Environment.LIVE, ExchangeKind.OKX)
            await store.identify(UID, HOST)
            assert isinstance(await store.reserve(signed(), ReserveOptions(assume_idle=True)), Reservation)

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


def test_a_process_that_begins_on_tables_made_anew_waits_a_window_unless_idleness_is_assumed() -> None:
    """No table shows that there were others: the user asserts it with `--assume-idle`."""

    async def scenario(url: str, name: str) -> None:
        async with desk(url) as one:
            await one.applied("1")
            await make_anew("the schema made anew", url, name)
        async with desk(url, at=1000.0) as two:
            assert await two.store.reserve(signed(), ReserveOptions(assume_idle=False)) == NoSlotUntil(
                1000.0 + GUARD_S
            )
            assert isinstance(await two.reserve(), Reservation)

    with shared().database() as name:
        asyncio.run(scenario(shared().url(name), name))


async def make_anew(how: str, url: str, name: str) -> None:
    """Change the tables of a database as ``how`` says."""
    for statement in MADE_ANEW[how]:
        if statement == "MIGRATIONS":
            async with desk(url, account="other", uid="2"):
                pass
        elif statement:
            shared().ask(statement, name)


def test_a_record_that_is_emptied_is_an_unknown_history_again() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            assert (await one.store.ledger()).empty_since == 1000.0
            await one.applied("1")
            one.clock.time = 2000.0
            assert (await one.store.ledger()).empty_since is None
            shared().ask("DELETE FROM mmp.attempts", ready_database())
            assert (await one.store.ledger()).empty_since == 2000.0

    play(scenario)


async def again(ask: Callable[[], Coroutine[object, object, T]]) -> T:
    """Query, and ignore the one error that the broken connection raises."""
    with suppress(StateUnavailable):
        return await ask()
    return await ask()


def either(one: Server, other: Server, name: str) -> str:
    """Return the address of the one of two servers that takes writes."""
    hosts = f"host={one.directory},{other.directory}&port={one.port},{other.port}"
    return f"postgresql://desk@/{name}?{hosts}&target_session_attrs=read-write"
