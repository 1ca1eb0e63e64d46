"""Copying a state file into PostgreSQL: everything arrives, and what counts continues to count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reconciler.cli.main import cli
from reconciler.core.model import Accepting, Environment, ExchangeKind, Family, LiveRead, LiveRow
from reconciler.core.pacing import GUARD_S
from reconciler.core.pacing import LATEST_ARRIVAL_S as L
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, NoSlotUntil, Reservation, ReserveOptions
from reconciler.errors import MmpError, StateLocked, StateUnavailable, StateUnusable, UsageError
from reconciler.store import copy_to_postgres, queries, state_registry
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.copy_to_postgres import copy_state, undo
from reconciler.store.engine import StateOptions
from reconciler.store.postgres import connections
from reconciler.store.postgres.state import PostgresState
from reconciler.store.rows import TABLES, AttemptRow, LiveReadRow, StateRow, with_checksum
from reconciler.store.sqlite.state import SqliteState, open_existing, open_state
from reconciler.store.state_registry import StateRegistry
from tests.contract.stores import BTC, ETH, HOST, NOON, UID, ScriptedClock, ready_database, setting, signed
from tests.postgres.accounts import Desk, desk, made_in_another_history, play
from tests.postgres.test_connections import shorten
from tests.support.postgres import shared


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove this machine's registry of states from the test: the states are of OKX."""
    monkeypatch.setattr(state_registry, "ROOTS_FOLDER", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


Scenario = Callable[[str, SqliteState], Coroutine[Any, Any, None]]


def sqlite(path: Path, at: float = 1000.0) -> SqliteState:
    return open_state(str(path / "state.db"), StateOptions(ScriptedClock(at), "boot-1", lock_timeout_s=0.0))


async def settle(store: SqlAccountStore, attempt: int, status: AttemptStatus) -> None:
    definite = status is not AttemptStatus.UNKNOWN
    await store.settle(
        attempt, AttemptResult(status, definite=definite, limited=False, code="1", message="so")
    )


async def fill(state: SqliteState, account: str = "main", uid: str = UID) -> None:
    """Let an account have something in every table, some attempts dropped, and two that count."""
    store = state.account(account, Environment.LIVE, ExchangeKind.OKX)
    clock = state.clock
    assert isinstance(clock, ScriptedClock)
    await store.identify(uid, HOST)
    for quantity in ("1", "2", "3"):
        slot = await store.reserve(signed(quantity), ReserveOptions(assume_idle=True))
        assert isinstance(slot, Reservation)
        await settle(store, slot.attempt, AttemptStatus.APPLIED)
        clock.time += 100
    state._db.execute("DELETE FROM attempts WHERE id = 1")
    slot = await store.reserve(signed("4", ETH), ReserveOptions(assume_idle=True))
    assert isinstance(slot, Reservation)
    await settle(store, slot.attempt, AttemptStatus.UNKNOWN)
    accepting = Accepting(setting("5"), "sha256:1", "loosen:BTC-USD")
    await store.reserve(signed("5"), ReserveOptions(assume_idle=True, accepting=accepting))
    sol = {Family("SOL-USD_UM"): setting("7")}
    accepted = {family: Accepting(one) for family, one in sol.items()}
    store.apply_plan("a" * 32, sol)
    await store.adopt(sol, read_begun_at=clock.time, accepting=accepted)
    await store.record_live(LiveRead(clock.time, {BTC: LiveRow(setting("3"))}))
    await store.pause([BTC], until=NOON + timedelta(days=1), reason="by hand")
    await store.pause([ETH], until=None, reason="fought", contested_setting={ETH: setting("1")})
    await store.accept_file("abc", changed=False)
    await store.record_override(BTC, refusal="a rule", reason="because")
    await store.record_policy("1" * 64, "mmp-policy.yaml", "version: 1\n")
    await store.give_up_policy("1" * 64, "the desk moved")
    await store.record_policy("2" * 64, "mmp-policy.yaml", "version: 1\ndisable: allow\n")
    await store.record_states({BTC: "in-sync", ETH: "uncertain"})


def text(tmp_path: Path, scenario: Scenario) -> None:
    source = sqlite(tmp_path)

    async def run(url: str) -> None:
        await fill(source)
        await scenario(url, source)

    play(run)
    source.close_now()


async def seen(store: SqlAccountStore) -> list[object]:
    """Return everything the port reads of an account, without the ids, which are assigned anew."""
    snapshot = await store.snapshot()
    attempts = [
        (one.family, one.setting, one.status, one.is_open) for one in (await store.history(99)).attempts
    ]
    known = {family: type(one).__name__ for family, one in snapshot.known.items()}
    applied = {family: (one.setting, one.how, one.wall) for family, one in snapshot.applied.items()}
    places = [one.id for one in (await store.history(99)).attempts]
    accepted = {
        family: [
            (one.setting, one.at, one.requested, sum(number <= one.attempt for number in places))
            for one in history
        ]
        for family, history in snapshot.accepted.items()
    }
    return [
        *(snapshot.kind, snapshot.uid, snapshot.host, known, applied, snapshot.live, attempts),
        sorted(sent.latest_arrival for sent in snapshot.ledger.sent) if snapshot.ledger else None,
        *(await store.pauses(), await store.overrides(9), (await store.read_timeline(NOON))().spans),
        *(await store.policies(9), accepted),
        (await store.recorded_inputs()).applied,
        *((await store.recorded_inputs()).retries.tries, await store.accept_file("abc", changed=True)),
    ]


@pytest.mark.parametrize("piece", [1, 2, copy_to_postgres.PIECE])
def test_everything_arrives_and_the_next_slot_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(copy_to_postgres, "PIECE", piece)

    async def scenario(url: str, source: SqliteState) -> None:
        there = source.account("main", Environment.LIVE, ExchangeKind.OKX)
        await there.identify(UID, HOST)
        async with desk(url, at=source.clock.now(), account="somebody.else", uid="7") as other:
            await other.applied()
            there.apply_plan("a" * 32, {})
            before, slot = (
                await seen(there),
                await there.reserve(signed("6", ETH), ReserveOptions(assume_idle=True)),
            )
            counts = dict(await copy_state(source, other.state))
            assert counts.pop("losses") == 0, "only a server loses requests in a failover"
            assert all(counts.values()), counts
            here = other.state.account("main", Environment.LIVE, ExchangeKind.OKX)
            await here.identify(UID, HOST)
            here.apply_plan("a" * 32, {})
            assert await seen(here) == before
            assert isinstance(slot, NoSlotUntil)
            assert await here.reserve(signed("6", ETH), ReserveOptions(assume_idle=True)) == slot
            assert len((await other.store.history(9)).attempts) == 1

    text(tmp_path, scenario)


def test_what_the_target_may_have_lost_of_a_user_id_still_counts_once_its_rows_are_copied(
    tmp_path: Path,
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, at=5000.0, account="somebody.else", uid="7") as other:
            await copy_state(source, other.state)
            here = other.state.account("main", Environment.LIVE, ExchangeKind.OKX)
            await here.identify(UID, HOST)
            assert await here.reserve(signed("6", ETH), ReserveOptions(assume_idle=True)) == NoSlotUntil(
                5000.0 + L + GUARD_S
            )

    with made_in_another_history():
        text(tmp_path, scenario)


def test_proofs_go_on_being_older_or_newer_than_the_same_attempts() -> None:
    assert [copy_to_postgres._as_of(attempt, [3, 5], [101, 102]) for attempt in (0, 2, 3, 4, 5, 9)] == [
        0,
        0,
        101,
        101,
        102,
        102,
    ]


async def _identify(one: Desk) -> None:
    await one.state.account("main", Environment.LIVE, ExchangeKind.OKX).identify("7", HOST)


async def _renamed(one: Desk) -> SqlAccountStore:
    same = one.state.account("another.name", Environment.LIVE, ExchangeKind.OKX)
    await same.identify(UID, HOST)
    return same


async def _pause(one: Desk) -> None:
    await (await _renamed(one)).pause([BTC], until=None, reason="")


async def _override(one: Desk) -> None:
    await (await _renamed(one)).record_override(BTC, refusal="", reason="")


async def _accept(one: Desk) -> None:
    await (await _renamed(one)).accept_file("a", changed=False)


async def _send(one: Desk) -> None:
    await (await _renamed(one)).reserve(signed(), ReserveOptions(assume_idle=True))


@pytest.mark.parametrize("before", [_identify, _pause, _override, _accept, _send])
def test_a_target_that_has_something_of_it_is_refused_and_left_as_it_was(
    tmp_path: Path, before: Callable[[Desk], Coroutine[Any, Any, None]]
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            await before(one)
            [(rows,)] = shared().ask("SELECT count(*) FROM mmp.attempts", ready_database())
            with pytest.raises(MmpError) as refused:
                await copy_state(source, one.state)
            assert refused.value.code == "state-not-empty"
            assert await is_usable(source)
            assert shared().ask("SELECT count(*) FROM mmp.attempts", ready_database()) == [(rows,)]

    text(tmp_path, scenario)


def test_a_file_in_use_is_not_copied(tmp_path: Path) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        worker = sqlite(tmp_path)
        async with (
            desk(url, account="other", uid="99") as one,
            worker.account("main", Environment.LIVE, ExchangeKind.OKX).locked("run"),
        ):
            with pytest.raises(StateLocked):
                await copy_state(source, one.state)
        worker.close_now()

    text(tmp_path, scenario)


def test_rows_that_do_not_arrive_as_they_were_are_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = copy_to_postgres._write

    async def forgetful(tables: Any, rows: copy_to_postgres.Rows) -> None:
        await real(tables, {**rows, LiveReadRow: ()})

    monkeypatch.setattr(copy_to_postgres, "_write", forgetful)

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with pytest.raises(MmpError) as refused:
                await copy_state(source, one.state)
            assert refused.value.code == "state-copy-failed"
            assert await is_usable(source)
            assert shared().ask("SELECT count(*) FROM mmp.attempts", ready_database()) == [(0,)]

    text(tmp_path, scenario)


@pytest.mark.parametrize(
    "lost", ["attempts", "overrides", "observed_periods", "state_changes", "applied", "pauses", "files"]
)
def test_one_row_in_any_piece_that_did_not_arrive_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(copy_to_postgres, "PIECE", 1)
    real = copy_to_postgres._write

    async def forgetful(tables: Any, rows: copy_to_postgres.Rows) -> None:
        await real(
            tables, {kind: some[:-1] if TABLES[kind] == lost else some for kind, some in rows.items()}
        )

    monkeypatch.setattr(copy_to_postgres, "_write", forgetful)

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with pytest.raises(MmpError) as refused:
                await copy_state(source, one.state)
            assert refused.value.message.startswith(f"1 rows of {lost} are missing or differ")

    text(tmp_path, scenario)


# -- the source is retired ---------------------------------------------------------------------------


async def is_usable(source: SqliteState) -> bool:
    """Tell whether the state accepts writes; an error that denies it must name the other state."""
    store, refused = source.account("main", Environment.LIVE, ExchangeKind.OKX), None
    try:
        await store.identify(UID, "another.host")
    except StateUnavailable as problem:
        refused = problem
    assert refused is None or (refused.code, "use --state postgresql://" in refused.hint) in (
        ("state-moved", True),
        ("state-moving", False),
    )
    return refused is None


WRITES: dict[str, Callable[[SqlAccountStore], Coroutine[Any, Any, object]]] = {
    "reserve": lambda store: store.reserve(signed("6", ETH), ReserveOptions(assume_idle=True)),
    "pause": lambda store: store.pause([BTC], until=None, reason=""),
    "resume": lambda store: store.resume([BTC]),
    "record_live": lambda store: store.record_live(LiveRead(1.0, {})),
    "record_states": lambda store: store.record_states({BTC: "in-sync"}),
    "accept_file": lambda store: store.accept_file("new", changed=True),
    "adopt": lambda store: store.adopt({BTC: setting("1")}, read_begun_at=0.0),
    "identify": lambda store: store.identify(UID, "another.host"),
}


def test_nothing_is_written_to_a_file_that_was_moved_and_it_can_be_read(tmp_path: Path) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        worker = sqlite(tmp_path)
        store = worker.account("main", Environment.LIVE, ExchangeKind.OKX)
        await store.identify(UID, HOST)
        assert await worker.moved() is None
        async with desk(url, account="other", uid="99") as one:
            await copy_state(source, one.state)
        for name, write in WRITES.items():
            with pytest.raises(StateUnavailable) as refused:
                await write(store)
            assert refused.value.code == "state-moved", name
        assert await store.history(9)
        assert (await worker.moved()) is not None
        reader = open_existing(str(tmp_path / "state.db"), clock=source.clock, boot="boot-1")
        assert reader is not None
        assert "was moved to postgresql://" in str(await reader.moved())
        reader.close_now()
        worker.close_now()

    text(tmp_path, scenario)


def test_what_is_written_while_a_copy_is_under_way_is_refused_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause takes no lock: it is recorded before the rows are read, or it is refused."""
    real = copy_to_postgres._write

    async def interrupted(tables: Any, rows: copy_to_postgres.Rows) -> None:
        assert not await is_usable(worker)
        await real(tables, rows)

    worker = sqlite(tmp_path)
    monkeypatch.setattr(copy_to_postgres, "_write", interrupted)

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            await copy_state(source, one.state)

    text(tmp_path, scenario)
    worker.close_now()


def test_a_copy_that_is_cancelled_leaves_the_source_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(copy_to_postgres, "_write", cancelled)

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with pytest.raises(asyncio.CancelledError):
                await copy_state(source, one.state)
        assert await is_usable(source)

    text(tmp_path, scenario)


@contextmanager
def killed_after_its_mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a copy end with only the mark as a trace, as a kill does."""

    async def killed(*_: Any) -> None:
        raise ZeroDivisionError

    async def nothing(*_: Any) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(copy_to_postgres, "_write", killed)
        patch.setattr(copy_to_postgres, "_put_back", nothing)
        with pytest.raises(ZeroDivisionError):
            yield


def test_a_copy_that_was_killed_is_completed_by_the_same_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with killed_after_its_mark(monkeypatch):
                await copy_state(source, one.state)
            assert not await is_usable(source)
            assert (await copy_state(source, one.state))["attempts"] == 4
            assert not await is_usable(source)
            with pytest.raises(StateUnavailable) as complete:
                await copy_state(source, one.state)
            assert complete.value.code == "state-moved"
            with pytest.raises(StateUnavailable) as there:
                await undo(source, one.state)
            assert there.value.code == "state-moved"
            assert not await is_usable(source)

    text(tmp_path, scenario)


@pytest.mark.parametrize("way_back", [copy_state, undo])
def test_a_database_used_after_an_interrupted_copy_does_not_count_as_the_complete_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way_back: Callable[..., Coroutine[Any, Any, object]]
) -> None:
    """The empty database was used in the meantime: its records are not those of the file."""

    async def scenario(url: str, source: SqliteState) -> None:
        there = source.account("main", Environment.LIVE, ExchangeKind.OKX)
        async with desk(url, account="other", uid="99") as one:
            with killed_after_its_mark(monkeypatch):
                await copy_state(source, one.state)
            text = await source.moved()
            assert text is not None
            assert (text.code, "--state" in f"{text} {text.hint}") == ("state-moving", False)
            await one.state.account("main", Environment.LIVE, ExchangeKind.OKX).identify(UID, HOST)
            if way_back is copy_state:
                with pytest.raises(StateUnusable) as refused:
                    await copy_state(source, one.state)
                assert refused.value.code == "state-not-empty"
            else:
                await undo(source, one.state)
            assert await is_usable(source)
            assert len(await there.pauses()) == 2

    text(tmp_path, scenario)


@pytest.mark.parametrize("again", [copy_state, undo])
def test_a_copy_killed_before_it_retired_its_source_is_found_to_be_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: Callable[..., Coroutine[Any, Any, object]]
) -> None:
    async def killed(_: SqliteState) -> None:
        raise ZeroDivisionError

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with monkeypatch.context() as patch:
                patch.setattr(copy_to_postgres, "_complete", killed)
                with pytest.raises(ZeroDivisionError):
                    await copy_state(source, one.state)
            unsure = await source.moved()
            assert unsure is not None
            assert unsure.code == "state-moving"
            with pytest.raises(StateUnavailable) as complete:
                await again(source, one.state)
            assert complete.value.code == "state-moved"
            sure = await source.moved()
            assert sure is not None
            assert (sure.code, sure.hint) == ("state-moved", f"use --state {one.state.place}")

    text(tmp_path, scenario)


def test_a_complete_copy_is_not_taken_back_where_the_database_was_made_again_and_used(
    tmp_path: Path,
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            await copy_state(source, one.state)
            async with one.state.bulk_write([]) as tables:
                await tables.upsert((await tables.select(queries.select_state()))._replace(copied_from=""))
            with pytest.raises(StateUnusable) as refused:
                await undo(source, one.state)
            assert refused.value.code == "state-not-empty"
            assert not await is_usable(source)

    text(tmp_path, scenario)


def test_a_resumed_copy_that_fails_again_leaves_the_source_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with killed_after_its_mark(monkeypatch):
                await copy_state(source, one.state)

            async def failing(*_: Any) -> None:
                raise StateUnusable("state-copy-failed", "so", "")

            monkeypatch.setattr(copy_to_postgres, "_write", failing)
            with pytest.raises(StateUnusable):
                await copy_state(source, one.state)
            assert await is_usable(source), "the target was seen to be empty"

    text(tmp_path, scenario)


def test_a_copy_that_was_killed_can_be_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            await undo(source, one.state)
            with killed_after_its_mark(monkeypatch):
                await copy_state(source, one.state)
            await undo(source, one.state)
            assert await is_usable(source)

    text(tmp_path, scenario)


@pytest.mark.parametrize(
    "lost", [StateUnavailable("state-unavailable", "the connection was lost"), asyncio.CancelledError()]
)
def test_a_commit_without_an_answer_leaves_the_source_retired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: BaseException
) -> None:
    real = PostgresState.bulk_write

    @asynccontextmanager
    async def without_answer(self: PostgresState, claims: Any) -> AsyncIterator[Any]:
        async with real(self, claims) as tables:
            yield tables
        raise lost

    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            monkeypatch.setattr(PostgresState, "bulk_write", without_answer)
            with pytest.raises(type(lost)):
                await copy_state(source, one.state)
            monkeypatch.undo()
            if isinstance(lost, MmpError):
                assert "run the same command again" in lost.hint
            assert not await is_usable(source)
            with pytest.raises(StateUnavailable) as complete:
                await copy_state(source, one.state)
            assert complete.value.code == "state-moved"

    text(tmp_path, scenario)


def test_a_source_that_was_moved_is_copied_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(url: str, source: SqliteState) -> None:
        async with desk(url, account="other", uid="99") as one:
            with killed_after_its_mark(monkeypatch):
                await copy_state(source, one.state)
            another = "UPDATE mmp.state SET state_id = 'f', copied_from = '', checksum = '{}'".format(
                with_checksum(StateRow("", "f", "", "", "", "")).checksum
            )
            shared().ask(another, ready_database())
            for place in ("postgresql://elsewhere/mmp", one.state.place):
                monkeypatch.setattr(one.state, "place", place)
                with pytest.raises(StateUnavailable) as refused:
                    await copy_state(source, one.state)
                assert refused.value.code == "state-moving"
                if place.endswith("elsewhere/mmp"):
                    with pytest.raises(StateUnavailable):
                        await undo(source, one.state)
                monkeypatch.undo()
            assert not await is_usable(source)
            await undo(source, one.state)
            assert await is_usable(source), "the database was made again under the same address"

    text(tmp_path, scenario)


def test_the_copy_takes_the_place_of_its_source_on_this_machine(tmp_path: Path) -> None:
    notices: list[str] = []

    async def scenario(url: str, source: SqliteState) -> None:
        worker = sqlite(tmp_path)
        registry = StateRegistry(str(tmp_path / "run"), source.clock, "boot-1", notices.append)
        worker.options = replace(worker.options, registry=registry)
        await worker.account("main", Environment.LIVE, ExchangeKind.OKX).identify(UID, HOST)
        async with desk(url, account="other", uid="99") as one:
            registry = StateRegistry(str(tmp_path / "run"), source.clock, "b", notices.append)
            one.state.options = replace(one.state.options, registry=registry)
            await copy_state(source, one.state)
            here = one.state.account("main", Environment.LIVE, ExchangeKind.OKX)
            await here.identify(UID, HOST)
            assert isinstance(
                await here.reserve(signed("6", ETH), ReserveOptions(assume_idle=True)), NoSlotUntil
            )
            assert not await is_usable(worker)
            with pytest.raises(StateUnavailable):
                await worker.account("main", Environment.LIVE, ExchangeKind.OKX).record_live(
                    LiveRead(1.0, {})
                )
        worker.close_now()

    text(tmp_path, scenario)
    assert notices == []


# -- a large one -------------------------------------------------------------------------------------

LARGE = 20_000
"""Attempts of two User IDs: far more than one statement to the server inserts or reads."""


def enlarge(state: SqliteState) -> None:
    """Let a state have many old attempts, each like the newest it has."""
    [like] = map(AttemptRow._make, state._db.execute("SELECT * FROM attempts ORDER BY id DESC LIMIT 1"))
    old = like._replace(status="applied", definite=1, retired=1, resolved=1)
    rows = [with_checksum(old._replace(id=like.id + n, uid=str(n % 2))) for n in range(1, LARGE + 1)]
    state._db.execute("BEGIN")
    state._db.executemany(f"INSERT INTO attempts VALUES ({','.join('?' * len(like))})", rows)
    state._db.execute("COMMIT")


def test_a_large_state_is_written_and_read_in_pieces_without_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[int] = []
    real = connections.PostgresTransaction._flush

    async def received(self: Any, words: list[str]) -> list[list[tuple[Any, ...]]]:
        found = await real(self, words)
        answered.append(sum(map(len, found)))
        return found

    async def scenario(url: str, source: SqliteState) -> None:
        enlarge(source)
        async with desk(url, account="other", uid="99") as one:
            monkeypatch.setattr(connections.PostgresTransaction, "_flush", received)
            # What a desk of hundreds takes seconds for takes a few milliseconds here.
            shorten(monkeypatch, "idle_in_transaction_session_timeout", 5)
            counts = await copy_state(source, one.state)
            assert counts["attempts"] == LARGE + 4
            assert max(answered) <= copy_to_postgres.PIECE

    text(tmp_path, scenario)
    assert shared().ask("SELECT count(*) FROM mmp.attempts", ready_database()) == [(LARGE + 4,)]


# -- the command -------------------------------------------------------------------------------------


def test_the_command_copies_and_says_what(tmp_path: Path) -> None:
    source = sqlite(tmp_path)
    asyncio.run(fill(source))
    source.close_now()
    file = str(tmp_path / "state.db")
    with shared().database() as name:
        url = shared().url(name)
        done = CliRunner().invoke(cli, ["state", "copy", file, url], catch_exceptions=False)
        assert done.exit_code == 0
        assert "1 identity, 4 attempts" in done.stdout
        assert "nothing is written to" in done.stderr
        with pytest.raises(MmpError) as refused:
            CliRunner().invoke(cli, ["state", "copy", file, url], catch_exceptions=False)
        assert refused.value.code == "state-moved"


def test_the_command_tells_machines_too(tmp_path: Path) -> None:
    sqlite(tmp_path).close_now()
    with shared().database() as name:
        command = ["state", "copy", str(tmp_path / "state.db"), shared().url(name), "--output", "json"]
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert '"format": "mmp/state-copy/1"' in done.stdout
    assert '"attempts": 0' in done.stdout


@pytest.mark.parametrize("places", [("postgresql://here/db", "state.db"), ("{file}", "other.db")])
def test_any_other_way_is_a_usage_error(tmp_path: Path, places: tuple[str, str]) -> None:
    sqlite(tmp_path).close_now()
    source = places[0].format(file=tmp_path / "state.db")
    with pytest.raises(UsageError):
        CliRunner().invoke(cli, ["state", "copy", source, places[1]], catch_exceptions=False)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with pytest.raises(MmpError) as refused:
        CliRunner().invoke(cli, ["state", "copy", str(file), "postgresql://x/y"], catch_exceptions=False)
    assert refused.value.code == "state-missing"
    assert not file.exists()
