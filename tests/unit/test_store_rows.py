"""Rows and their checks, ages and locks: the parts every engine shares."""

from __future__ import annotations

import os
import stat
from asyncio import run
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.core.history_records import LockHolder
from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.errors import MmpError, StateAccessDenied
from reconciler.store import row_clock
from reconciler.store.row_clock import BootInstant, FirstSeen
from reconciler.store.rows import (
    AppliedRow,
    IdentityRow,
    LiveReadRow,
    ObservedPeriodRow,
    PlanChangeRow,
    RowDamaged,
    check_checksum,
    check_row,
    sanitized,
    wall_text,
    with_checksum,
)
from reconciler.store.sqlite.file_locks import FileLocks, ProcessLocks, StoreMisuse
from tests.contract.stores import NOON
from tests.support.memory_state import MemoryLocks

ROW = IdentityRow("", "main", "live", "okx", "446556540", "openapi.okx.com", "2026-01-02T12:00:00.000Z")
HOLDER = LockHolder(4242, "host-a", "apply", "2026-01-02T12:03:04.000Z")


def test_the_check_of_a_row_never_changes_between_versions() -> None:
    """States outlive versions of this program and of Python: these are facts of the format."""
    assert check_row(ROW) == "9cc047e83f57ead0"
    assert check_row(ROW._replace(host="π\u0378\x00'\"\\")) == "acc90f822e473a4c"
    applied = AppliedRow(
        *("", "okx", "live", "1", "BTC-USD", "main", 5000, 0, "100.0", "applied", 7, "b", 0.1, "w", "a", 3)
    )
    assert check_row(applied) == "a55323bc1257d107"


def test_a_sealed_row_is_believed_and_every_other_is_not() -> None:
    good = with_checksum(ROW)
    assert check_checksum(good) is good
    for column in IdentityRow._fields:
        with pytest.raises(RowDamaged) as refused:
            check_checksum(good._replace(**{column: "x"}))
        assert str(refused.value).startswith("identity row ")


def test_a_damaged_change_of_a_saved_plan_is_named_by_its_plan_and_family() -> None:
    damaged = PlanChangeRow("", "okx", "live", "7", "a" * 32, "BTC-USD", "main", "applied", "w")
    with pytest.raises(RowDamaged, match=f"plan_changes row okx/live/7/{'a' * 32}/BTC-USD"):
        check_checksum(damaged)


def test_what_is_remembered_of_a_row_is_of_its_table_alone() -> None:
    good = with_checksum(ROW)
    for _ in range(2):
        assert check_checksum(good) is good
        with pytest.raises(RowDamaged):
            check_checksum(ObservedPeriodRow._make(good))


def test_a_row_of_one_table_is_not_believed_in_another() -> None:
    values = ("main", "live", "okx", "{}", "w")
    assert check_row(LiveReadRow("", *values)) != check_row(IdentityRow._make(["", *values, ""]))


@pytest.mark.parametrize(
    ("text", "kept"),
    [("plain π", "plain π"), ("a\x00b", "ab"), ("\ud800", "?"), ("x" * 501, "x" * 500), ("", "")],
)
def test_text_of_others_is_made_fit_for_every_engine(text: str, kept: str) -> None:
    assert sanitized(text) == kept


def test_a_wall_time_is_utc_with_milliseconds() -> None:
    assert wall_text(NOON) == "2026-01-02T12:00:00.000Z"


# -- ages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "local"),
    [
        (BootInstant("mine", 5.0), 5.0),
        (BootInstant("mine", 10.0), 10.0),
        (BootInstant("mine", 10.1), 10.0),
        (BootInstant("other", 5.0), 10.0),
        (BootInstant("other", 50.0), 10.0),
        (BootInstant("", -5.0), 10.0),
    ],
)
def test_only_a_stamp_of_this_boot_that_is_not_in_the_future_is_an_instant(
    stamp: BootInstant, local: float
) -> None:
    first_seen = FirstSeen("mine")
    assert first_seen.local("fact", stamp, 10.0) == local
    assert first_seen.local("other fact", stamp, 99.0) == (99.0 if stamp.boot != "mine" else stamp.instant)


def test_a_first_sight_is_of_one_fact_with_one_stamp() -> None:
    first_seen = FirstSeen("mine")
    assert first_seen.local("fact", BootInstant("other", 1.0), 10.0) == 10.0
    assert first_seen.local("fact", BootInstant("other", 1.0), 20.0) == 10.0
    assert first_seen.local("fact", BootInstant("other", 2.0), 20.0) == 20.0
    assert first_seen.local("fact", BootInstant("third", 1.0), 30.0) == 30.0
    budget = RateBudget(ExchangeKind.OKX, Environment.LIVE, "1")
    assert first_seen.empty_since(budget, 40.0) == first_seen.empty_since(budget, 50.0) == 40.0


def test_first_sights_are_bounded_and_forgetting_one_only_makes_a_row_younger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_clock, "MAX_FIRST_SEEN", 2)
    first_seen = FirstSeen("mine")
    for fact, now in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("c", 4.0)):
        first_seen.local(fact, BootInstant("other", 0.0), now)
    assert first_seen.local("b", BootInstant("other", 0.0), 9.0) == 2.0
    assert first_seen.local("a", BootInstant("other", 0.0), 9.0) == 9.0


# -- locks ------------------------------------------------------------------------------------------


def file_locks(folder: Path) -> FileLocks:
    """Return the locks beside a state, of which only its owner and rights matter."""
    state = folder / "state.db"
    state.touch(0o600)
    return FileLocks(str(state))


@pytest.fixture(params=["file", "memory"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ProcessLocks, ProcessLocks]:
    if request.param == "file":
        return file_locks(tmp_path), file_locks(tmp_path)
    table: dict[str, tuple[object, LockHolder]] = {}
    return MemoryLocks(table), MemoryLocks(table)


def test_one_process_at_a_time_and_it_is_named(pair: tuple[ProcessLocks, ProcessLocks]) -> None:
    one, two = pair
    assert run(two.holder("main")) is None
    assert run(one.take("main", HOLDER))
    assert not run(two.take("main", HOLDER))
    assert run(two.take("other", HOLDER))
    assert run(two.holder("main")) == run(one.holder("main")) == HOLDER
    with pytest.raises(StoreMisuse):
        run(one.take("main", HOLDER))
    run(two.release("main"))
    assert run(two.holder("main")) == HOLDER
    run(one.release("main"))
    run(one.release("main"))
    assert run(two.holder("main")) is None
    assert run(two.take("main", HOLDER))
    two.close()
    assert run(one.take("main", HOLDER))
    assert run(one.take("other", HOLDER))
    one.close()


def test_a_lock_file_is_closed_to_others_and_stays(tmp_path: Path) -> None:
    locks = file_locks(tmp_path)
    run(locks.take("main.live.okx", HOLDER))
    locks.close()
    path = tmp_path / "state.db.main.live.okx.lock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b""


@pytest.mark.parametrize("text", [b"", b"{", b"[1, 2]", b"7", b'{"pid": 1}', b"\xff\xfe"])
def test_a_holder_that_cannot_be_read_is_not_named(tmp_path: Path, text: bytes) -> None:
    one, two = (file_locks(tmp_path) for _ in range(2))
    run(one.take("main", HOLDER))
    (tmp_path / "state.db.main.lock").write_bytes(text)
    assert run(two.holder("main")) is None
    assert not run(two.take("main", HOLDER))
    one.close()


def test_a_place_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StateAccessDenied) as refused:
        run(file_locks(tmp_path).take("main", HOLDER))
    assert refused.value.code == "state-unwritable"
    assert "No locks available" in refused.value.message
    assert len(os.listdir("/proc/self/fd")) == descriptors


def lead_elsewhere(lock: Path) -> None:
    lock.symlink_to(lock.with_name("elsewhere"))


def link_to_another_file(lock: Path) -> None:
    other = lock.with_name("elsewhere")
    other.write_text("of another user")
    other.chmod(0o600)
    os.link(other, lock)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lead_elsewhere, "state-linked"),
        (link_to_another_file, "state-linked"),
        (os.mkfifo, "state-not-a-file"),
        (lambda lock: lock.touch(0o606), "state-exposed"),
        (os.mkdir, "state-unwritable"),
    ],
)
def test_a_lock_that_is_more_than_a_file_beside_the_state_is_refused_and_not_written_to(
    tmp_path: Path, spoil: Callable[[Path], object], code: str
) -> None:
    umask = os.umask(0)
    spoil(tmp_path / "state.db.main.lock")
    os.umask(umask)
    locks = file_locks(tmp_path)
    assert run(locks.holder("main")) is None
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MmpError) as refused:
        run(locks.take("main", HOLDER))
    assert refused.value.code == code
    assert str(tmp_path / "state.db.main.lock") in refused.value.message
    assert len(os.listdir("/proc/self/fd")) == descriptors
    elsewhere = tmp_path / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_text() == "of another user"


def test_what_a_kill_while_a_lock_was_made_left_is_removed_by_the_next_to_take_it(tmp_path: Path) -> None:
    locks = file_locks(tmp_path)
    run(locks.take("main", HOLDER))
    locks.close()
    os.link(tmp_path / "state.db.main.lock", tmp_path / ".state.db.main.lock.0123456789abcdef.new")
    assert run(locks.take("main", HOLDER))
    locks.close()
    assert sorted(os.listdir(tmp_path)) == ["state.db", "state.db.main.lock"]


def test_a_lock_has_the_rights_of_its_state_whatever_the_umask(tmp_path: Path) -> None:
    locks = file_locks(tmp_path)
    (tmp_path / "state.db").chmod(0o660)
    umask = os.umask(0o077)
    run(locks.take("main", HOLDER))
    os.umask(umask)
    locks.close()
    assert stat.S_IMODE((tmp_path / "state.db.main.lock").stat().st_mode) == 0o660
