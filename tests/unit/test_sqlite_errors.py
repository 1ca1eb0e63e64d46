"""A state file in trouble that passes: busy, full, failing. It is waited for, opened again, and believed.

The faults are SQLite's own where it can be had so, else raised by a connection on a real file: at each
statement of each step in turn, before it was done or after.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.core.model import Environment, ExchangeKind, FileVersion, LiveRead, LiveRow
from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S, CountedRequest
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, NoSlotUntil, Reservation, ReserveOptions
from reconciler.errors import STATE_FAILURES, MmpError, StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite import connection, errors, file, mounts
from reconciler.store.sqlite import state as sqlite_state
from reconciler.store.sqlite.errors import state_error
from reconciler.store.sqlite.state import SqliteState, open_existing, open_state, open_waiting
from reconciler.store.table_access import WriteScope
from tests.contract.stores import BTC, ETH, HOST, UID, ScriptedClock, setting, signed
from tests.support.slow import mostly_slow
from tests.unit.test_store_processes import RealClock

START = 1000.0
CLAIM = WriteScope(("main", "live", "okx"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


@pytest.fixture
def clock() -> ScriptedClock:
    return ScriptedClock(START)


def opened(path: str, clock: Any) -> SqliteState:
    return open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0))


def account_of(state: SqliteState) -> SqlAccountStore:
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(store.identify(UID, HOST))
    return store


class Holder:
    """Another process that has the file, as SQLite sees it: a connection of its own."""

    def __init__(self, path: str, how: str = "BEGIN EXCLUSIVE") -> None:
        self.db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        self.db.execute(how)

    def let_go(self) -> None:
        self.db.close()


# -- busy -----------------------------------------------------------------------------------------


def test_a_busy_file_is_waited_for_and_nothing_else_waits_meanwhile(path: str) -> None:
    state = opened(path, RealClock())
    store = account_of(state)
    gaps_s: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps_s.append(time.monotonic() - before)

    async def while_another_writes() -> None:
        holder = Holder(path)
        asyncio.get_running_loop().call_later(1.0, holder.let_go)
        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        assert await store.known() == {}  # who only reads does not wait
        assert time.monotonic() - began < 0.5
        await store.record_states({BTC: "in-sync"})
        assert time.monotonic() - began >= 0.9
        ticking.cancel()

    asyncio.run(while_another_writes())
    assert len(gaps_s) > 20
    assert max(gaps_s) < 0.5, "the event loop stood still"
    state.close_now()


def test_two_writers_of_one_process_wait_and_each_is_alone(path: str) -> None:
    state = opened(path, RealClock())
    store = account_of(state)

    async def while_another_writes() -> None:
        holder = Holder(path)
        asyncio.get_running_loop().call_later(0.3, holder.let_go)
        await asyncio.gather(*(store.accept_file(f"{number}", changed=True) for number in range(5)))

    asyncio.run(while_another_writes())
    numbers = state._db.execute("SELECT number FROM files ORDER BY number").fetchall()
    assert numbers == [(1,), (2,), (3,), (4,), (5,)]
    state.close_now()


def test_a_file_that_stays_busy_is_reported_after_a_bounded_wait(path: str, clock: ScriptedClock) -> None:
    state = opened(path, clock)
    store = account_of(state)
    holder, began = Holder(path), clock.time
    with pytest.raises(STATE_FAILURES) as refused:
        asyncio.run(store.record_states({BTC: "in-sync"}))
    assert refused.value.code == "state-busy"
    assert refused.value.hint
    assert clock.time - began == pytest.approx(errors.BUSY_WAIT_S)
    holder.let_go()
    asyncio.run(store.record_states({BTC: "in-sync"}))
    state.close_now()


def test_a_file_that_cannot_even_be_read_is_busy(path: str, clock: ScriptedClock) -> None:
    opened(path, clock).close_now()
    holder = Holder(path, "PRAGMA locking_mode = EXCLUSIVE")
    holder.db.execute("BEGIN IMMEDIATE")
    with pytest.raises(STATE_FAILURES) as refused:
        open_state(path, StateOptions(clock, "boot-1", lock_timeout_s=0.0), busy_wait_s=0.0)
    assert refused.value.code == "state-busy"
    holder.let_go()
    opened(path, clock).close_now()


def test_a_busy_file_is_waited_for_at_the_start_up_to_the_lock_timeout(path: str) -> None:
    clock = RealClock()
    opened(path, clock).close_now()

    async def while_another_writes(held_s: float) -> SqliteState:
        holder = Holder(path)
        asyncio.get_running_loop().call_later(held_s, holder.let_go)
        return await open_waiting(path, StateOptions(clock, "boot-1", lock_timeout_s=2.0))

    state = asyncio.run(while_another_writes(0.7))
    state.close_now()
    holder = Holder(path)
    with pytest.raises(STATE_FAILURES) as refused:
        asyncio.run(open_waiting(path, StateOptions(ScriptedClock(), "boot-1", lock_timeout_s=2.0)))
    assert refused.value.code == "state-busy"
    patient = ScriptedClock(START)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(open_waiting(path, StateOptions(patient, "boot-1", lock_timeout_s=30.0)))
    assert patient.time == START + 30.0
    hasty = ScriptedClock(START)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(open_waiting(path, StateOptions(hasty, "boot-1", lock_timeout_s=0.0)))
    assert hasty.time == START + errors.BUSY_WAIT_S
    holder.let_go()


def test_what_is_wrong_otherwise_is_not_waited_for_at_the_start(path: str, clock: ScriptedClock) -> None:
    Path(path).write_bytes(b"")
    with pytest.raises(StateUnusable):
        asyncio.run(open_waiting(path, StateOptions(clock, "boot-1", lock_timeout_s=2.0)))
    assert clock.pauses == []


# -- every statement of every step ------------------------------------------------------------------


@dataclass(slots=True)
class Fault:
    """What SQLite says at the ``at``-th statement from now on, or at the first COMMIT.

    ``always``: whenever a row is inserted. ``done``: it did it all the same. The others count what happens.
    """

    code: int = 0
    at: int = 0
    at_commit: bool = False
    always: bool = False
    done: bool = False
    opened: int = 0
    closed: int = 0
    said: list[str] = field(default_factory=list)

    def next(self, statement: str) -> bool:
        """Count one more statement; tell whether this one fails."""
        word = statement.split(maxsplit=1)[0]
        self.said.append(word)
        if self.always:
            return word == "INSERT"
        if self.at_commit:
            return word == "COMMIT" and self.said.count(word) == 1
        return len(self.said) == self.at


class FailingConnection(sqlite3.Connection):
    """A connection to a real file on which one statement fails."""

    fault = Fault()

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        return self._failing(query, lambda: super(FailingConnection, self).execute(query, *values))

    def executemany(self, query: str, *values: Any) -> sqlite3.Cursor:
        return self._failing(query, lambda: super(FailingConnection, self).executemany(query, *values))

    def close(self) -> None:
        type(self).fault.closed += 1
        super().close()

    def _failing(self, query: str, do: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        fault = type(self).fault
        if not fault.next(query):
            return do()
        if fault.done:
            do()
        raise failure(fault.code)


def failure(code: int) -> sqlite3.OperationalError:
    """Return what the module raises where SQLite returns ``code``."""
    error = sqlite3.OperationalError("as injected")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FailingConnection]]:
    """Make every connection to a file one that can fail."""
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect(place: str, **how: Any) -> sqlite3.Connection:
        if place == connection.IN_MEMORY:
            return real(place, **how)
        FailingConnection.fault.opened += 1
        return real(place, factory=FailingConnection, **how)

    monkeypatch.setattr(sqlite3, "connect", connect)
    yield FailingConnection
    FailingConnection.fault = Fault()


Step = Callable[[SqlAccountStore, int], Coroutine[Any, Any, object]]
"""One step of an account, given the attempt that is pending."""

STEPS: dict[str, Step] = {
    "identify": lambda store, _: store.identify(UID, "another-host"),
    "accept_file": lambda store, _: store.accept_file("new", changed=True),
    "reserve": lambda store, _: store.reserve(signed("9", ETH), ReserveOptions(assume_idle=True)),
    "settle": lambda store, attempt: store.settle(
        attempt, AttemptResult(AttemptStatus.APPLIED, definite=True, limited=False, code="0", message="")
    ),
    "adopt": lambda store, _: store.adopt({ETH: setting("5")}, read_begun_at=START + 50),
    "end_attempts": lambda store, _: store.end_attempts([BTC], read_begun_at=START + 90),
    "record_states": lambda store, _: store.record_states({BTC: "in-sync"}),
    "record_live": lambda store, _: store.record_live(LiveRead(START, {BTC: LiveRow(setting("9"))})),
    "pause": lambda store, _: store.pause([BTC], until=None, reason="x"),
    "record_policy": lambda store, _: store.record_policy("sha", "policy.yaml", "version: 1"),
    "record_override": lambda store, _: store.record_override(BTC, refusal="x", reason="y"),
    "grounds": lambda store, _: store.recorded_inputs(),
}

CODES = {
    sqlite3.SQLITE_IOERR_WRITE: "state-io-error",
    sqlite3.SQLITE_IOERR_FSYNC: "state-io-error",
    sqlite3.SQLITE_FULL: "state-disk-full",
    sqlite3.SQLITE_CANTOPEN: "state-unwritable",
    sqlite3.SQLITE_READONLY: "state-unwritable",
}


@dataclass(slots=True)
class Desk:
    """An account with a pending attempt, and how its file looks to others."""

    path: str
    clock: ScriptedClock
    state: SqliteState
    store: SqlAccountStore
    attempt: int

    def rows(self) -> list[str]:
        """Return all that is on record, as another process reads it."""
        other = sqlite3.connect(self.path)
        try:
            return list(other.iterdump())
        finally:
            other.close()


def desk_in(folder: Path) -> Desk:
    folder.mkdir()
    path, clock = str(folder / "state.db"), ScriptedClock(START)
    state = opened(path, clock)
    store = account_of(state)
    slot = asyncio.run(store.reserve(signed("1"), ReserveOptions(assume_idle=True)))
    assert isinstance(slot, Reservation)
    clock.time = START + 60
    return Desk(path, clock, state, store, slot.attempt)


def statements_of(step: Step, folder: Path) -> list[str]:
    """Return what a step says to SQLite when nothing fails."""
    desk = desk_in(folder)
    FailingConnection.fault = Fault()
    asyncio.run(step(desk.store, desk.attempt))
    said = FailingConnection.fault.said
    desk.state.close_now()
    return said


@pytest.mark.parametrize("name", mostly_slow(STEPS, first=3))
def test_a_failure_at_any_statement_leaves_all_or_nothing_and_heals(
    name: str, tmp_path: Path, failing: type[FailingConnection]
) -> None:
    said = statements_of(STEPS[name], tmp_path / "whole")
    faults = [Fault(sqlite3.SQLITE_IOERR_WRITE, at) for at in range(1, len(said) + 1)]
    faults += [Fault(code, at_commit=True, done=done) for code in CODES for done in (False, True)]
    assert "COMMIT" in said
    for number, fault in enumerate(faults):
        fails_once_and_heals(name, desk_in(tmp_path / f"{number}"), fault, failing)


def fails_once_and_heals(name: str, desk: Desk, fault: Fault, failing: type[FailingConnection]) -> None:
    """Take a step that fails; then it is on record whole or not at all, and can be taken again."""
    before = desk.rows()
    failing.fault = fault
    with pytest.raises(STATE_FAILURES) as refused:
        asyncio.run(STEPS[name](desk.store, desk.attempt))
    failing.fault = Fault()
    assert refused.value.code == CODES[fault.code]
    assert (fault.opened, fault.closed) == (0, 1)
    assert fault.done or desk.rows() == before
    if name != "settle" or not fault.done:  # what is on record is settled once
        desk.clock.time += 60
        asyncio.run(STEPS[name](desk.store, desk.attempt))
    desk.state.close_now()


def test_nothing_is_read_or_written_before_the_file_was_checked_again(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    failing.fault = Fault(sqlite3.SQLITE_IOERR_WRITE, 1)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(desk.store.pause([BTC], until=None, reason="x"))
    failing.fault = Fault()
    asyncio.run(desk.store.known())
    assert failing.fault.opened == 1
    assert "PRAGMA" in failing.fault.said[: failing.fault.said.index("COMMIT")]
    damaged = Path(desk.path)
    desk.state.close_now()
    again = opened(desk.path, desk.clock)
    store = account_of(again)
    failing.fault = Fault(sqlite3.SQLITE_IOERR_WRITE, 1)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(store.pause([BTC], until=None, reason="x"))
    failing.fault = Fault()
    damaged.write_bytes(damaged.read_bytes()[:4096])
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(store.known())
    assert refused.value.code == "state-truncated"


def test_a_file_that_fails_again_and_again_is_opened_once_a_second_for_all_accounts(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    failing.fault = Fault(sqlite3.SQLITE_FULL, always=True)
    problems = []
    for _ in range(100):
        desk.clock.time += 0.1
        with pytest.raises(STATE_FAILURES) as refused:
            asyncio.run(STEPS["record_states"](desk.store, 0))
        problems.append(refused.value)
    assert {problem.code for problem in problems} == {"state-disk-full"}
    assert failing.fault.opened <= 12
    failing.fault = Fault()
    desk.clock.time += sqlite_state.REOPEN_AFTER_S
    for _ in range(3):
        asyncio.run(STEPS["record_states"](desk.store, 0))
    assert failing.fault.opened == 1
    desk.state.close_now()


def test_a_file_that_cannot_be_opened_again_is_tried_again(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    failing.fault = Fault(sqlite3.SQLITE_IOERR_WRITE, 1)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(STEPS["record_states"](desk.store, 0))
    os.chmod(desk.path, 0o606)
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(STEPS["record_states"](desk.store, 0))
    assert refused.value.code == "state-exposed"
    os.chmod(desk.path, 0o600)
    desk.clock.time += sqlite_state.REOPEN_AFTER_S
    asyncio.run(STEPS["record_states"](desk.store, 0))
    desk.state.close_now()


def test_a_file_that_is_mounted_by_itself_is_opened_again_once_it_is_not(
    tmp_path: Path, failing: type[FailingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_in(tmp_path / "desk")
    failing.fault = Fault(sqlite3.SQLITE_IOERR_WRITE, 1)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(STEPS["record_states"](desk.store, 0))
    failing.fault = Fault()
    with monkeypatch.context() as patched:
        mounted = f"40 22 8:1 /srv/state.db {desk.path} rw - ext4 /dev/sda1 rw"
        patched.setattr(mounts, "read_mountinfo", lambda: mounted)
        with pytest.raises(StateAccessDenied) as refused:
            asyncio.run(STEPS["record_states"](desk.store, 0))
    assert refused.value.code == "state-mounted"
    desk.clock.time += sqlite_state.REOPEN_AFTER_S
    asyncio.run(STEPS["record_states"](desk.store, 0))
    desk.state.close_now()


def test_a_file_that_is_another_one_now_is_not_opened_again(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    failing.fault = Fault(sqlite3.SQLITE_IOERR_WRITE, 1)
    with pytest.raises(STATE_FAILURES):
        asyncio.run(desk.store.pause([BTC], until=None, reason="x"))
    failing.fault = Fault()
    os.rename(desk.path, f"{desk.path}.aside")
    opened(desk.path, desk.clock).close_now()
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(desk.store.known())
    assert refused.value.code == "state-replaced"


def test_a_rollback_that_fails_closes_the_connection_too(
    tmp_path: Path, failing: type[FailingConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_in(tmp_path / "desk")

    def unwilling(_: sqlite3.Connection) -> None:
        raise failure(sqlite3.SQLITE_IOERR_WRITE)

    async def fail_in_our_code() -> None:
        async with desk.state.writing(CLAIM):
            raise ZeroDivisionError

    failing.fault = Fault()
    monkeypatch.setattr(failing, "rollback", unwilling)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(fail_in_our_code())
    assert failing.fault.closed == 1
    monkeypatch.undo()
    asyncio.run(desk.store.known())
    desk.state.close_now()


# -- a reservation whose COMMIT failed --------------------------------------------------------------


def fail_to_reserve(desk: Desk, fault: Fault, failing: type[FailingConnection]) -> None:
    asyncio.run(desk.store.known())  # the file is open again
    failing.fault = fault
    with pytest.raises(StateUnavailable):
        asyncio.run(STEPS["reserve"](desk.store, 0))
    failing.fault = Fault()


@pytest.mark.parametrize(
    ("code", "done"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, False),
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_BUSY, False),
    ],
)
def test_a_reservation_whose_commit_failed_counts_for_the_rate(
    tmp_path: Path, failing: type[FailingConnection], code: int, done: bool
) -> None:
    desk = desk_in(tmp_path / "desk")
    for _ in range(2):
        fail_to_reserve(desk, Fault(code, at_commit=True, done=done), failing)
        desk.clock.time += 1.0
    first = START + 60
    latest = [first + LATEST_ARRIVAL_S, first + 1.0 + LATEST_ARRIVAL_S]
    assert sorted(one.latest_arrival for one in asyncio.run(desk.store.ledger()).sent) == latest
    assert (
        sorted(one.latest_arrival for one in asyncio.run(desk.store.recorded_inputs()).ledger.sent)
        == latest
    )
    snapshot = asyncio.run(desk.store.snapshot())
    assert snapshot.ledger is not None
    assert sorted(one.latest_arrival for one in snapshot.ledger.sent) == latest
    slot = asyncio.run(STEPS["reserve"](desk.store, 0))
    assert slot == NoSlotUntil(latest[0] + GUARD_S)
    another = desk.state.account("other", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(another.identify(UID, HOST))
    assert asyncio.run(another.reserve(signed("9", ETH), ReserveOptions(assume_idle=True))) == slot
    third = desk.state.account("third", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(third.identify("another user", HOST))
    assert isinstance(
        asyncio.run(third.reserve(signed("9", ETH), ReserveOptions(assume_idle=True))), Reservation
    )
    desk.clock.time = latest[0] + GUARD_S
    assert isinstance(asyncio.run(STEPS["reserve"](desk.store, 0)), Reservation)
    desk.state.close_now()


def test_what_failed_before_its_commit_counts_for_nothing(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    reserving = statements_of(STEPS["reserve"], tmp_path / "whole")
    fail_to_reserve(desk, Fault(sqlite3.SQLITE_FULL, len(reserving) - 1), failing)
    assert asyncio.run(desk.store.ledger()).sent == ()
    desk.state.close_now()


def test_reservations_that_count_no_more_are_forgotten(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    for _ in range(3):
        fail_to_reserve(desk, Fault(sqlite3.SQLITE_FULL, at_commit=True), failing)
        assert len(desk.state.first_seen.uncommitted) == 1
        desk.clock.time += LATEST_ARRIVAL_S + GUARD_S
        assert asyncio.run(desk.store.ledger()).sent == ()
    desk.state.close_now()


def test_a_reservation_on_record_after_its_commit_failed_counts_once(
    tmp_path: Path, failing: type[FailingConnection]
) -> None:
    desk = desk_in(tmp_path / "desk")
    fail_to_reserve(desk, Fault(sqlite3.SQLITE_IOERR_FSYNC, at_commit=True, done=True), failing)
    assert asyncio.run(desk.store.ledger()).sent == (CountedRequest(2, START + 60 + LATEST_ARRIVAL_S),)
    desk.state.close_now()


# -- what the failure is called ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_SHMSIZE])
@pytest.mark.parametrize("said", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_full_where_sqlite_cannot_open_or_grow_a_file(
    path: str, monkeypatch: pytest.MonkeyPatch, code: int, said: int
) -> None:
    def full(**_: object) -> None:
        raise OSError(said, "as injected")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert errors.sqlite_error(path, failure(code)).code == "state-disk-full"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_CANTOPEN, "state-unwritable"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, "state-io-error"),
        (sqlite3.SQLITE_PROTOCOL, "state-busy"),
        (sqlite3.SQLITE_LOCKED, "state-busy"),
    ],
)
def test_a_disk_that_is_not_full_is_not_called_full(tmp_path: Path, code: int, expected: str) -> None:
    problem = errors.sqlite_error(str(tmp_path / "state.db"), failure(code))
    assert (type(problem) is StateAccessDenied) == (expected == "state-unwritable")
    assert (problem.code, isinstance(problem, STATE_FAILURES)) == (expected, True)
    assert errors.sqlite_error(str(tmp_path / "gone" / "state.db"), failure(code)).code == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (errno.ENOSPC, "state-disk-full", StateUnavailable),
        (errno.EDQUOT, "state-disk-full", StateUnavailable),
        (errno.EIO, "state-io-error", StateUnavailable),
        (errno.EMFILE, "state-unavailable", StateUnavailable),
        (errno.ENOMEM, "state-unavailable", StateUnavailable),
        (errno.EACCES, None, StateAccessDenied),
        (errno.EROFS, None, StateAccessDenied),
    ],
)
def test_what_the_system_says_is_what_passes_or_what_is_denied(
    number: int, code: str | None, kind: type[MmpError]
) -> None:
    error = OSError(number, os.strerror(number))
    for found, denied in (
        (file.unwritable("state.db", error), "state-unwritable"),
        (file.unreadable("state.db", error), "state-unreadable"),
    ):
        assert (found.code, type(found)) == (code or denied, kind)
        assert found.hint


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_process_without_a_descriptor_left_lacks_nothing_but_that(path: str, code: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    errors.sqlite_error(path, failure(code))  # what it imports is there
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        found = errors.sqlite_error(path, failure(code))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found.code == "state-unavailable"
    assert "Too many open files" in found.message


def test_a_disk_that_takes_a_part_of_what_is_needed_is_full(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AlmostFull(io.BytesIO):
        def write(self, _: object) -> int:
            return file.NEEDED_BYTES - 1

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: AlmostFull())
    assert errors.sqlite_error(path, failure(sqlite3.SQLITE_CANTOPEN)).code == "state-disk-full"


def test_a_state_that_cannot_be_made_on_a_full_disk_may_be_made_later(
    path: str, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StateUnavailable) as refused:
            opened(path, clock)
    assert refused.value.code == "state-disk-full"
    assert os.listdir(os.path.dirname(path)) == []
    opened(path, clock).close_now()


def test_a_lock_that_cannot_be_made_for_now_ends_nothing(
    path: str, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened(path, clock)
    store = account_of(state)
    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "EIO")))
        with pytest.raises(StateUnavailable) as refused:
            asyncio.run(store.try_control("run"))
    assert refused.value.code == "state-io-error"
    assert asyncio.run(store.try_control("run"))
    state.close_now()


def test_a_page_that_cannot_be_read_is_a_failing_disk_and_no_damage(path: str) -> None:
    found = errors.not_intact(
        path, "*** in database main ***\nPage 7: unable to get the page. error code=266"
    )
    assert found.code == "state-io-error"
    Path(path).write_bytes(b"")
    for verdict in ("Page 7: unable to get the page. error code=11", "row 1 missing from index"):
        assert errors.not_intact(path, verdict).code == "state-damaged"


def test_a_state_that_cannot_be_read_at_the_moment_is_reported_to_a_reading_command(
    path: str, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(path, clock).close_now()

    def failing_disk(_: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", failing_disk)
    with pytest.raises(StateUnavailable) as refused:
        open_existing(path, clock=clock, boot="boot-1")
    assert refused.value.code == "state-io-error"


# -- a folder that is gone for a while --------------------------------------------------------------


def test_a_state_whose_folder_is_gone_for_a_while_is_waited_for(
    tmp_path: Path, clock: ScriptedClock
) -> None:
    folder, aside = tmp_path / "mounted", tmp_path / "aside"
    folder.mkdir()
    state = opened(str(folder / "state.db"), clock)
    store = account_of(state)
    folder.rename(aside)
    for _ in ("gone", "an empty one in its place"):
        with pytest.raises(StateUnavailable) as refused:
            asyncio.run(store.record_states({BTC: "in-sync"}))
        assert refused.value.code == "state-unreadable"
        folder.mkdir(exist_ok=True)
    folder.rmdir()
    aside.rename(folder)
    asyncio.run(store.record_states({BTC: "in-sync"}))
    assert asyncio.run(store.accept_file("new", changed=True)) == FileVersion("new", 1)
    state.close_now()


def test_a_place_that_cannot_be_asked_about_is_not_taken_for_another(
    path: str, clock: ScriptedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = opened(path, clock)
    store = account_of(state)

    def failing_disk(_: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", failing_disk)
        with pytest.raises(StateUnavailable) as refused:
            asyncio.run(store.known())
    assert refused.value.code == "state-io-error"
    assert asyncio.run(store.known()) == {}
    state.close_now()


# -- the real thing ---------------------------------------------------------------------------------


def test_a_limit_of_sqlites_own_is_a_full_disk_and_ends_with_it(path: str, clock: ScriptedClock) -> None:
    state = opened(path, clock)
    store = account_of(state)
    (pages,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count = {pages}")
    rows = {BTC: LiveRow(setting("9"), frozen_until="x" * 100_000)}
    with pytest.raises(StateUnavailable) as refused:
        asyncio.run(store.record_live(LiveRead(START, rows)))
    assert refused.value.code == "state-disk-full"
    asyncio.run(store.record_live(LiveRead(START, rows)))  # on another connection, without that limit
    state.close_now()


def test_a_file_that_may_not_be_written_is_denied_until_it_may(path: str, clock: ScriptedClock) -> None:
    state = opened(path, clock)
    store = account_of(state)
    state._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StateAccessDenied) as refused:
        asyncio.run(store.record_states({BTC: "in-sync"}))
    assert refused.value.code == "state-unwritable"
    asyncio.run(store.record_states({BTC: "in-sync"}))
    state.close_now()


def test_a_connection_that_was_closed_under_it_is_opened_again(path: str, clock: ScriptedClock) -> None:
    state = opened(path, clock)
    store = account_of(state)
    state._db.close()
    with pytest.raises(StateUnusable) as refused:
        asyncio.run(store.known())
    assert refused.value.code == "state-failed"
    assert asyncio.run(store.known()) == {}
    state.close_now()


def test_a_message_of_sqlite_that_is_not_text_is_damage() -> None:
    """SQLite's message quotes what it found in the file."""
    problem = state_error("/state.db", UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    assert isinstance(problem, StateUnusable)
    assert problem.code == "state-damaged"
