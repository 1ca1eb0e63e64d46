"""The SQLite state beyond the port: readers for people, damage, and failures of the engine."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from reconciler.core.history_records import (
    AppliedRecord,
    AttemptRecord,
    LiveRecord,
    ProofKind,
    StateSnapshot,
)
from reconciler.core.model import (
    Accepting,
    Confirmed,
    Environment,
    ExchangeKind,
    LiveRead,
    LiveRow,
    OpenAttempt,
    Uncertain,
)
from reconciler.core.pacing import LATEST_ARRIVAL_S, CountedRequest, Ledger
from reconciler.core.replica_assignment import Replica
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions
from reconciler.errors import StateAccessDenied, StateUnusable
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.rows import AttemptRow, with_checksum
from reconciler.store.sqlite import schema
from reconciler.store.sqlite.file_locks import StoreMisuse
from reconciler.store.sqlite.state import SqliteState, open_existing, open_state
from reconciler.store.table_access import WriteScope
from tests.contract.stores import BTC, ETH, HOST, NOON, UID, ScriptedClock, setting, signed

START = 1000.0


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(START)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


@pytest.fixture
def state(path: str, clock: ScriptedClock) -> Iterator[SqliteState]:
    opened = open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0))
    yield opened
    opened.close_now()


@pytest.fixture
def store(state: SqliteState) -> SqlAccountStore:
    main = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(main.identify(UID, HOST))
    return main


def opened_by(store: SqlAccountStore) -> SqliteState:
    assert isinstance(store._session.engine, SqliteState)
    return store._session.engine


def database(store: SqlAccountStore) -> sqlite3.Connection:
    return opened_by(store)._db


def copy_of(path: str, clock: ScriptedClock) -> SqlAccountStore:
    """Return the account as a dry run or a status sees it."""
    state = open_existing(path, clock=clock, boot="boot-1")
    assert state is not None
    return state.account("main", Environment.LIVE, ExchangeKind.OKX)


def write(store: SqlAccountStore, quantity: str, status: AttemptStatus, family: str = BTC) -> int:
    slot = asyncio.run(store.reserve(signed(quantity, family), ReserveOptions(assume_idle=True)))  # type: ignore[arg-type]  # a family is text
    assert isinstance(slot, Reservation)
    if status is not AttemptStatus.PENDING:
        definite = status in (AttemptStatus.APPLIED, AttemptStatus.REJECTED)
        asyncio.run(
            store.settle(
                slot.attempt,
                AttemptResult(
                    status, definite=definite, limited=False, code="51000", message="too \x00odd"
                ),
            )
        )
    return slot.attempt


def fill(store: SqlAccountStore, clock: ScriptedClock) -> None:
    """Leave one confirmed and one doubtful family and a live read on record."""
    write(store, "100.0", AttemptStatus.APPLIED, BTC)
    clock.time += 1
    write(store, "7", AttemptStatus.PENDING, ETH)
    clock.time += 1
    read = LiveRead(clock.time, {BTC: LiveRow(setting("9"), frozen=True, frozen_until="17")}, {ETH: "odd"})
    asyncio.run(store.record_live(read))
    asyncio.run(store.pause([BTC, ETH], until=None, reason="x", contested_setting={BTC: setting("1")}))
    asyncio.run(store.record_states({BTC: "in-sync"}))
    asyncio.run(store.accept_file("abc", changed=False))


# -- readers ------------------------------------------------------------------------------------


def test_history_tells_every_attempt_newest_first(store: SqlAccountStore, clock: ScriptedClock) -> None:
    fill(store, clock)
    pending, applied = asyncio.run(store.history(10)).attempts
    assert applied == AttemptRecord(
        id=1,
        family=BTC,
        setting=setting("100.0"),
        status=AttemptStatus.APPLIED,
        limited=False,
        is_open=False,
        code="51000",
        message="too odd",
        reserved_wall=NOON + timedelta(seconds=START),
        settled_wall=NOON + timedelta(seconds=START),
    )
    assert applied.setting.qty_limit.text == "100.0"
    assert (pending.id, pending.status, pending.is_open) == (2, AttemptStatus.PENDING, True)
    assert pending.settled_wall is None


@pytest.mark.parametrize(
    ("limit", "family", "ids"),
    [
        (10, "*", [2, 1]),
        (1, "*", [2]),
        (0, "*", []),
        (10, "BTC-*", [1]),
        (10, "btc-usd", []),
        (1, "B*", [1]),
    ],
)
def test_history_is_bounded_and_chosen_by_a_glob(
    store: SqlAccountStore, clock: ScriptedClock, limit: int, family: str, ids: list[int]
) -> None:
    fill(store, clock)
    assert [attempt.id for attempt in asyncio.run(store.history(limit, family)).attempts] == ids


def test_an_empty_state_has_an_empty_snapshot(state: SqliteState) -> None:
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    assert asyncio.run(store.snapshot()) == StateSnapshot(None, None, None, {}, {}, (), None, None)


def test_a_snapshot_tells_all_and_a_reading_process_sees_the_same(
    store: SqlAccountStore, path: str, clock: ScriptedClock
) -> None:
    fill(store, clock)
    sentence = asyncio.run(store.snapshot())
    doubt = OpenAttempt(2, setting("7"), START + 1, START + 1 + LATEST_ARRIVAL_S)
    assert sentence == StateSnapshot(
        uid=UID,
        kind=ExchangeKind.OKX,
        host=HOST,
        known={
            BTC: Confirmed(
                setting("100"), START, 1, acknowledged=True, recorded_at=NOON + timedelta(seconds=START)
            ),
            ETH: Uncertain(None, (doubt,)),
        },
        applied={BTC: AppliedRecord(setting("100"), ProofKind.APPLIED, 1, NOON + timedelta(seconds=START))},
        open_attempts=tuple(asyncio.run(store.history(1)).attempts),
        ledger=Ledger(sent=(CountedRequest(1, START), CountedRequest(2, START + 1 + LATEST_ARRIVAL_S))),
        live=LiveRecord(
            {BTC: LiveRow(setting("9"), frozen=True, frozen_until="17")},
            {ETH: "odd"},
            NOON + timedelta(seconds=START + 2),
        ),
    )
    reader = copy_of(path, clock)
    assert asyncio.run(reader.snapshot()) == sentence
    assert asyncio.run(reader.history(10)) == asyncio.run(store.history(10))
    assert asyncio.run(reader.pauses()) == asyncio.run(store.pauses())
    assert asyncio.run(reader.read_timeline(NOON))().spans == asyncio.run(store.read_timeline(NOON))().spans
    opened_by(reader).close_now()


def test_a_snapshot_for_another_kind_has_no_ledger(store: SqlAccountStore, state: SqliteState) -> None:
    other = state.account("main", Environment.LIVE, ExchangeKind.SIMULATOR)
    sentence = asyncio.run(other.snapshot())
    assert (sentence.uid, sentence.ledger, sentence.known) == (UID, None, {})
    assert (asyncio.run(other.known()), asyncio.run(other.history(10)).attempts) == ({}, [])


def test_a_copy_for_reading_is_never_written_to_nor_paced_by(
    store: SqlAccountStore, path: str, clock: ScriptedClock
) -> None:
    fill(store, clock)
    reader = copy_of(path, clock)
    assert asyncio.run(reader.identify(UID, "elsewhere")) == HOST
    assert asyncio.run(reader.known()) == asyncio.run(store.known())
    assert asyncio.run(reader.ledger()) == asyncio.run(store.ledger())
    assert asyncio.run(reader.lock_holder()) is None
    for forbidden in (
        reader.reserve(signed(), ReserveOptions(assume_idle=True)),
        reader.settle(
            2, AttemptResult(AttemptStatus.UNKNOWN, definite=False, limited=False, code="", message="")
        ),
        reader.adopt({BTC: setting()}, read_begun_at=START),
        reader.record_live(LiveRead(START, {})),
        reader.pause([BTC], until=None, reason=""),
        reader.record_states({}),
        reader.accept_file("new", changed=False),
        reader.end_attempts([BTC], read_begun_at=START),
    ):
        with pytest.raises(StoreMisuse):
            asyncio.run(forbidden)
    opened_by(reader).close_now()
    assert asyncio.run(store.identify(UID, HOST)) is None


# -- damage ---------------------------------------------------------------------------------------

TAMPERED = [
    ("identity", "uid", "'1'", "main/live"),
    ("identity", "host", "'1'", "main/live"),
    ("attempts", "checksum", "'0123456789abcdef'", "1"),
    ("attempts", "id", "77", "77"),
    ("attempts", "time_interval_ms", "1", "1"),
    ("attempts", "frozen_interval_ms", "1", "1"),
    ("attempts", "qty_limit", "'100.00'", "1"),
    ("attempts", "boot", "'boot-2'", "1"),
    ("attempts", "reserved_at", "reserved_at - 1", "1"),
    ("attempts", "status", "'rejected'", "1"),
    ("attempts", "answered_at", "answered_at - 1e-9", "1"),
    ("attempts", "answered_boot", "NULL", "1"),
    ("attempts", "limited", "1", "1"),
    ("attempts", "message", "''", "1"),
    ("applied", "qty_limit", "'100.00'", f"okx/live/{UID}/BTC-USD"),
    ("applied", "how", "'adopted'", f"okx/live/{UID}/BTC-USD"),
    ("applied", "attempt", "0", f"okx/live/{UID}/BTC-USD"),
    ("applied", "family", "'BTC-USC'", f"okx/live/{UID}/BTC-USC"),
    ("pauses", "reason", "''", f"okx/live/{UID}/BTC-USD"),
    ("pauses", "qty_limit", "'2'", f"okx/live/{UID}/BTC-USD"),
    ("files", "number", "9", f"okx/live/{UID}/abc"),
]


async def read_all(store: SqlAccountStore) -> None:
    await store.snapshot()
    await store.pauses()
    await store.read_timeline(NOON)
    await store.accept_file("abc", changed=False)


@pytest.mark.parametrize(("table", "column", "value", "row"), TAMPERED)
def test_a_changed_row_is_not_believed_and_named(
    store: SqlAccountStore, clock: ScriptedClock, table: str, column: str, value: str, row: str
) -> None:
    fill(store, clock)
    where = "id = 1" if table == "attempts" else "true"
    database(store).execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(read_all(store))
    assert refused.value.code == "state-damaged"
    assert f"{table} row {row} " in refused.value.message
    assert refused.value.hint


LEFT_OUT = [
    ("live", "document", "'{}'", 0, 1, 0),
    ("live", "read_wall", "CAST(x'ff' AS TEXT)", 0, 1, 0),
    ("observed_periods", "until_wall", "from_wall || ' '", 0, 0, 1),
    ("state_changes", "state", "'drifted'", 0, 0, 1),
    ("attempts", "message", "''", 1, 0, 0),
    ("attempts", "message", "CAST(x'ff' AS TEXT)", 1, 0, 0),
]


@pytest.mark.parametrize(("table", "column", "value", "history", "live", "timeline"), LEFT_OUT)
def test_a_damaged_record_that_nothing_is_decided_by_is_left_out_and_counted(
    store: SqlAccountStore,
    path: str,
    clock: ScriptedClock,
    table: str,
    column: str,
    value: str,
    history: int,
    live: int,
    timeline: int,
) -> None:
    write(store, "100.0", AttemptStatus.APPLIED)
    clock.time += 60
    fill(store, clock)
    where = "id = 1" if table == "attempts" else "true"
    database(store).execute("UPDATE attempts SET retired = 1 WHERE id = 1")
    reseal_attempt(store)
    database(store).execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
    opened_by(store).close_now()
    reader = copy_of(path, clock)
    log = asyncio.run(reader.history(10))
    assert (len(log.attempts), log.damaged) == (3 - history, history)
    snapshot = asyncio.run(reader.snapshot())
    assert (snapshot.live is None, snapshot.damaged) == (bool(live), live)
    assert asyncio.run(reader.read_timeline(NOON))().damaged == timeline
    opened_by(reader).close_now()


def reseal_attempt(store: SqlAccountStore) -> None:
    """Let the first attempt fit its checksum again, as a step of ours leaves it."""
    db = database(store)
    row = AttemptRow(*db.execute("SELECT * FROM attempts WHERE id = 1").fetchone())
    db.execute("UPDATE attempts SET checksum = ? WHERE id = 1", (with_checksum(row).checksum,))


@pytest.mark.parametrize("table", sorted(schema.DECIDING))
def test_a_deciding_row_that_is_gone_is_missed_at_opening(
    store: SqlAccountStore, path: str, clock: ScriptedClock, table: str
) -> None:
    fill_all(store, clock)
    db = database(store)
    named = (f"{table}_summed_at_delete",)
    (of_delete,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", named).fetchone()
    db.execute(f"DROP TRIGGER {table}_summed_at_delete")
    db.execute(f"DELETE FROM {table}" + (" WHERE id = 2" if table == "attempts" else ""))
    db.execute(of_delete)
    opened_by(store).close_now()
    options = StateOptions(clock, "boot-1", lock_timeout_s=0.0)
    for opener in (
        partial(open_existing, clock=clock, boot="boot-1"),
        partial(open_state, options=options),
    ):
        with pytest.raises(StateUnusable) as refused:
            opener(path)
        assert refused.value.code == "state-damaged"
        assert f"records of User ID {UID} (okx, live) are missing or were replaced" in refused.value.message


def fill_all(store: SqlAccountStore, clock: ScriptedClock) -> None:
    """Leave a row in each table that decides."""
    fill(store, clock)
    asyncio.run(store.record_policy("a" * 64, "mmp-policy.yaml", "version: 1\n"))
    asyncio.run(store.record_override(BTC, refusal="disable", reason="agreed"))
    accepting = Accepting(setting("8"), "sha256:1", "")
    clock.time += 60
    slot = asyncio.run(
        store.reserve(signed("8", BTC), ReserveOptions(assume_idle=True, accepting=accepting))
    )
    assert isinstance(slot, Reservation)
    store.apply_plan("plan-1", {BTC: setting("8")})
    asyncio.run(store.record_in_force([BTC]))
    opened_by(store)._tables.lost = True
    asyncio.run(store.ledger())
    opened_by(store)._tables.lost = False


def test_another_program_cannot_write_to_a_deciding_table(
    store: SqlAccountStore, path: str, clock: ScriptedClock
) -> None:
    fill(store, clock)
    theirs = sqlite3.connect(path)
    with pytest.raises(sqlite3.OperationalError, match="mmp_combine"):
        theirs.execute("DELETE FROM pauses")
    theirs.close()


def test_an_id_is_never_given_twice_whatever_became_of_the_counter(
    store: SqlAccountStore, path: str, clock: ScriptedClock
) -> None:
    fill(store, clock)
    database(store).execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'attempts'")
    opened_by(store).close_now()
    with pytest.raises(StateUnusable, match="the newest id of attempts is not on record"):
        open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0))


def test_text_that_is_not_utf8_is_damage_wherever_it_is(
    store: SqlAccountStore, path: str, clock: ScriptedClock
) -> None:
    fill(store, clock)
    database(store).execute("UPDATE row_sums SET sum = CAST(x'ff' AS TEXT)")
    opened_by(store).close_now()
    with pytest.raises(StateUnusable) as refused:
        open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0))
    assert refused.value.code == "state-damaged"


def test_damage_leaves_no_trace_in_the_watch_that_comes_after(
    store: SqlAccountStore, clock: ScriptedClock
) -> None:
    fill(store, clock)
    database(store).execute("UPDATE observed_periods SET until_wall = 'x'")
    database(store).execute("UPDATE state_changes SET state = 'x'")
    clock.time += 10
    asyncio.run(store.record_states({BTC: "in-sync"}))
    clock.time += 10
    timeline = asyncio.run(store.read_timeline(NOON))()
    assert timeline.damaged == 2
    assert timeline.spans[BTC][-1].state == "in-sync"


def test_a_step_that_meets_damage_changes_nothing(store: SqlAccountStore, clock: ScriptedClock) -> None:
    write(store, "1", AttemptStatus.APPLIED)
    attempt = write(store, "2", AttemptStatus.PENDING)
    db = database(store)
    db.execute("UPDATE applied SET attempt = 0")
    before = list(db.iterdump())
    with pytest.raises(StateUnusable):
        asyncio.run(
            store.settle(
                attempt,
                AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="", message=""),
            )
        )
    assert list(db.iterdump()) == before
    assert not db.in_transaction


# -- failures of the engine: those that pass are in test_store_trouble -----------------------------


def test_a_file_broken_under_an_open_state_is_reported_as_damage(store: SqlAccountStore, path: str) -> None:
    db = database(store)
    write(store, "1", AttemptStatus.APPLIED)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA cache_size = 0")
    db.execute("PRAGMA shrink_memory")
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (Path(path).stat().st_size - 4096))
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(store.history(10))
    assert refused.value.code == "state-damaged"


def test_nothing_of_a_transaction_that_fails_in_our_own_code_is_stored(store: SqlAccountStore) -> None:
    async def forget_and_fail() -> None:
        async with opened_by(store).writing(WriteScope(("main", "live", "okx"))):
            database(store).execute("DELETE FROM identity")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(forget_and_fail())
    assert asyncio.run(store.snapshot()).uid == UID


# -- strips -----------------------------------------------------------------------------------------


def counted(store: SqlAccountStore) -> tuple[int, int]:
    """Return how many observed periods and state changes there are."""
    query = "SELECT (SELECT count(*) FROM observed_periods), (SELECT count(*) FROM state_changes)"
    periods, changes = database(store).execute(query).fetchone()
    return periods, changes


def test_a_look_that_finds_nothing_new_changes_one_row(
    store: SqlAccountStore, clock: ScriptedClock
) -> None:
    states = {BTC: "in-sync", ETH: "frozen"}
    asyncio.run(store.record_states(states))
    db = database(store)
    before = db.total_changes
    for _ in range(10):
        clock.time += 30
        asyncio.run(store.record_states(states))
    assert db.total_changes - before == 10
    assert counted(store) == (1, 2)


def test_only_what_a_timeline_can_show_is_stored(store: SqlAccountStore, clock: ScriptedClock) -> None:
    asyncio.run(store.record_states({BTC: "in-sync", ETH: "held"}))
    clock.time += 30
    asyncio.run(store.record_states({BTC: "pending"}))
    clock.time += 26 * 3600
    asyncio.run(store.record_states({BTC: "in-sync"}))
    assert counted(store) == (1, 2)
    rows = database(store).execute("SELECT family, state FROM state_changes ORDER BY id").fetchall()
    assert rows == [(BTC, "pending"), (BTC, "in-sync")]


# -- cost -------------------------------------------------------------------------------------------


def test_every_step_of_a_pass_finds_its_rows_by_index(store: SqlAccountStore, clock: ScriptedClock) -> None:
    sentence: list[str] = []
    db = database(store)
    fill(store, clock)
    db.set_trace_callback(sentence.append)
    clock.time += 100
    write(store, "2", AttemptStatus.APPLIED)
    asyncio.run(store.adopt({ETH: setting("7")}, read_begun_at=clock.time))
    asyncio.run(store.end_attempts([ETH], read_begun_at=clock.time))
    asyncio.run(store.accept_file("other", changed=True))
    asyncio.run(store.pause([BTC], until=None, reason=""))
    asyncio.run(store.recorded_inputs())
    asyncio.run(store.known())
    asyncio.run(store.ledger())
    asyncio.run(store.identify(UID, HOST))
    asyncio.run(store.record_states({BTC: "in-sync"}))
    asyncio.run(store.record_states({BTC: "drifted"}))
    db.set_trace_callback(None)
    statements = {text for text in sentence if text.startswith(("SELECT", "UPDATE", "DELETE"))}
    assert len(statements) > 8
    for text in statements:
        plan = " | ".join(row[3] for row in db.execute("EXPLAIN QUERY PLAN " + text))
        assert "SCAN attempts" not in plan, f"{text}: {plan}"
        assert "SCAN applied" not in plan, f"{text}: {plan}"
        assert "SCAN files" not in plan, f"{text}: {plan}"
        assert "SCAN pauses" not in plan, f"{text}: {plan}"
        assert "SCAN state_changes" not in plan, f"{text}: {plan}"
        assert "SCAN observed_periods" not in plan, f"{text}: {plan}"


def test_a_file_has_no_leases_and_its_accounts_no_owner(state: SqliteState, store: SqlAccountStore) -> None:
    asked: object = state.sharing(Replica("1", "pod-1", 7))  # type: ignore[func-returns-value] # what is tested
    assert asked is None
    assert asyncio.run(store.owner()) is None


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("DELETE FROM state", "the row with the id of the state is missing, or there is another"),
        ("UPDATE state SET moved_to = 'x'", "state row "),
    ],
)
def test_the_row_of_the_state_itself_is_verified_at_opening(
    store: SqlAccountStore, path: str, clock: ScriptedClock, spoil: str, said: str
) -> None:
    database(store).execute(spoil)
    opened_by(store).close_now()
    with pytest.raises(StateUnusable, match=said):
        open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0))


def test_nothing_is_written_once_a_newer_version_brought_the_file_up_to_date(
    path: str, store: SqlAccountStore
) -> None:
    def newer(version: int) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute(f"PRAGMA user_version = {version}")
        other.close()

    newer(len(schema.MIGRATIONS) + 1)
    with pytest.raises(StateAccessDenied) as refused:
        asyncio.run(store.reserve(signed("1"), ReserveOptions(assume_idle=True)))
    assert refused.value.code == "state-newer"
    assert asyncio.run(store.known()) == {}
    newer(len(schema.MIGRATIONS))
    assert isinstance(
        asyncio.run(store.reserve(signed("1"), ReserveOptions(assume_idle=True))), Reservation
    )


def test_one_more_column_in_every_table_changes_nothing(path: str, store: SqlAccountStore) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    for (table,) in other.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if not table.startswith("sqlite_"):
            other.execute(f"ALTER TABLE {table} ADD COLUMN more TEXT NOT NULL DEFAULT 'new'")
    other.close()
    slot = asyncio.run(store.reserve(signed("1"), ReserveOptions(assume_idle=True)))
    assert isinstance(slot, Reservation)
    sentence = store.settle(
        slot.attempt,
        AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message=""),
    )
    asyncio.run(sentence)
    assert isinstance(asyncio.run(store.known())[BTC], Confirmed)
    assert len(asyncio.run(store.history(10)).attempts) == 1
