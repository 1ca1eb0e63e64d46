"""The lock of an account as a row: renewed, taken over after expiry, and never assumed after a loss."""

from __future__ import annotations

import asyncio

import pytest

from reconciler.core.history_records import LockHolder
from reconciler.core.model import Confirmed
from reconciler.core.reservation import PausedMeanwhile, Reservation
from reconciler.errors import StateLocked
from reconciler.store.postgres import locks
from reconciler.store.postgres.expiry import FURTHEST
from reconciler.store.sqlite.file_locks import StoreMisuse
from reconciler.store.table_access import WriteScope
from tests.contract.stores import BTC, ready_database, setting
from tests.postgres.accounts import desk, play
from tests.support.postgres import shared

NAME = "main.live.okx"


def go_silent() -> None:
    """Let the current lease of the lock expire, as after a kill or a long stop."""
    shared().ask("UPDATE mmp.locks SET expires_at = now() - interval '1 second'", ready_database())


def expire_in(seconds: float) -> None:
    """Let the lease last for so long by the server's clock."""
    until = f"now() + interval '{seconds} seconds'"
    shared().ask(f"UPDATE mmp.locks SET expires_at = {until}", ready_database())


def seconds_left() -> float:
    [(left,)] = shared().ask("SELECT expires_at - clock_timestamp() FROM mmp.locks", ready_database())
    return float(left.total_seconds())


def test_a_lock_whose_holder_went_silent_is_taken_over_and_the_loser_sends_nothing() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            async with one.store.locked("run"):
                assert isinstance(await one.reserve(), Reservation)
                go_silent()
                assert isinstance(await one.reserve(), Reservation), "no other process has it yet"
                one.clock.time += 1000.0
                async with two.store.locked("apply"):
                    with pytest.raises(StateLocked) as refused:
                        await one.reserve()
                    assert refused.value.code == "state-lock-lost"
                    assert "(apply, since" in refused.value.message
                    await one.settle(1)
                assert await two.store.lock_holder() is None
                with pytest.raises(StateLocked) as again:
                    await one.reserve()
                assert again.value.code == "state-lock-lost"
            assert shared().ask("SELECT count(*) FROM mmp.attempts", ready_database()) == [(2,)]

    play(scenario)


def test_who_lost_the_lock_adopts_nothing_over_what_another_wrote_since() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two, one.store.locked("run"):
            go_silent()
            two.clock.time = 2000.0
            async with two.store.locked("apply"):
                await two.applied("2")
            with pytest.raises(StateLocked):
                await one.store.adopt({BTC: setting("1")}, read_begun_at=1000.0)
            known = await two.known()
            assert isinstance(known, Confirmed)
            assert known.setting == setting("2")

    play(scenario)


def test_a_lock_of_the_far_future_is_free_because_only_a_clock_set_back_explains_it() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two, one.store.locked("run"):
            expire_in(FURTHEST * locks.LEASE_S - 5.0)
            with pytest.raises(StateLocked):
                await two.store.locked("apply").__aenter__()
            assert await two.store.lock_holder() is not None
            expire_in(3600.0)
            assert await two.store.lock_holder() is None, "nor is it shown as held for as long"
            async with two.store.locked("apply"):
                with pytest.raises(StateLocked):
                    await one.reserve()

    play(scenario)


def test_no_generation_comes_again_after_a_failover_that_forgot_the_newest() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            async with one.store.locked("run"):
                pass
            [before] = shared().ask("SELECT name, generation FROM mmp.locks", ready_database())
            async with one.store.locked("run"):
                forget = f"UPDATE mmp.locks SET holder = '', generation = {before[1]}"
                shared().ask(forget, ready_database())
                async with two.store.locked("apply"):
                    with pytest.raises(StateLocked) as refused:
                        await one.reserve()
                    assert refused.value.code == "state-lock-lost"
                    assert isinstance(await two.reserve(), Reservation)

    play(scenario)


def test_giving_back_a_lost_lock_leaves_it_to_its_holder() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            async with one.store.locked("run"):
                go_silent()
                taken = two.store.locked("apply")
                await taken.__aenter__()
            holder = await one.store.lock_holder()
            assert holder is not None
            assert holder.purpose == "apply"
            await taken.__aexit__(None, None, None)

    play(scenario)


def test_a_held_lock_is_renewed_while_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW_S", 0.05)

    async def scenario(url: str) -> None:
        async with desk(url) as one, one.store.locked("run"):
            go_silent()
            await asyncio.sleep(0.5)
            assert locks.LEASE_S - 2.0 < seconds_left() <= locks.LEASE_S

    play(scenario)


def test_a_renewal_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RENEW_S", 0.05)

    async def scenario(url: str) -> None:
        async with desk(url) as one, one.store.locked("run"):
            shared().stop()
            await asyncio.sleep(0.3)
            shared().start()
            go_silent()
            await asyncio.sleep(0.5)
            assert seconds_left() > locks.LEASE_S - 2.0

    play(scenario)


def test_a_lock_that_cannot_be_given_back_ends_by_itself() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            async with one.store.locked("run"):
                shared().stop()
            shared().start()
            assert await one.store.lock_holder() is not None
            assert 0 < seconds_left() <= locks.LEASE_S

    play(scenario)


def test_one_lock_of_several_is_given_back_and_the_others_stay() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two:
            holder = LockHolder(7, "here", "run", "2026-01-02T12:00:00.000Z")
            ours, theirs = one.state.locks, two.state.locks
            assert await ours.take("a", holder)
            assert await ours.take("b", holder)
            await ours.release("a")
            assert await theirs.take("a", holder)
            assert not await theirs.take("b", holder)
            with pytest.raises(StoreMisuse):
                await ours.take("b", holder)
            await ours.release("never held")
            await ours.close()
            assert await theirs.take("b", holder)

    play(scenario)


@pytest.mark.parametrize("text", ["{", "[]", '{"pid": 1}'])
def test_a_holder_that_cannot_be_read_is_not_named(text: str) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url) as two, one.store.locked("run"):
            shared().ask(f"UPDATE mmp.locks SET holder = '{text}'", ready_database())
            assert await two.store.lock_holder() is None
            with pytest.raises(StateLocked) as refused:
                await two.store.locked("apply").__aenter__()
            assert "another process" in refused.value.message

    play(scenario)


def test_a_deleted_lock_row_counts_as_lost() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, one.store.locked("run"):
            shared().ask("DELETE FROM mmp.locks", ready_database())
            with pytest.raises(StateLocked) as refused:
                await one.reserve()
            assert refused.value.message == f"the lock {NAME} was lost; nothing was sent"

    play(scenario)


def test_a_pause_waits_for_a_reservation_of_the_same_user_id_that_is_under_way() -> None:
    """Once it has returned, no reservation that did not see it can become durable."""

    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url, account="renamed") as two:
            budget = two.store._session.identified()
            async with two.state.writing(WriteScope(("renamed", "live", "okx"), budget)):
                pausing = asyncio.ensure_future(one.store.pause([BTC], until=None, reason=""))
                done, _ = await asyncio.wait([pausing], timeout=0.3)
                assert not done
            await pausing
            assert await two.reserve("1", BTC) == PausedMeanwhile()

    play(scenario)
