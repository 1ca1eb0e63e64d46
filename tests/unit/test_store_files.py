"""The state as a file: whole or not there, and refused with what to do when it cannot be believed."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.core.history_records import LockHolder
from reconciler.core.model import Environment, ExchangeKind
from reconciler.errors import StateAccessDenied, StateUnusable
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite import connection, file_access, file_locks, schema
from reconciler.store.sqlite import file as sqlite_file
from reconciler.store.sqlite.file_locks import FileLocks
from reconciler.store.sqlite.schema import APPLICATION_ID
from reconciler.store.sqlite.state import SqliteState, open_existing, open_state
from tests.contract.stores import ScriptedClock


def opened(path: Path) -> SqliteState:
    return open_state(str(path), StateOptions(ScriptedClock(), "boot-1", lock_timeout_s=0.0))


def read(path: Path) -> SqliteState | None:
    return open_existing(str(path), clock=ScriptedClock(), boot="boot-1")


def read_completely(path: Path) -> None:
    state = read(path)
    assert state is not None
    state.close_now()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".mmp" / "state.db"


@pytest.fixture
def made(path: Path) -> Path:
    opened(path).close_now()
    return path


def test_a_new_state_is_closed_to_others_and_alone_in_its_directory(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in made.parent.iterdir()] == ["state.db"]


def test_a_new_state_is_marked_as_ours_with_its_version_and_wal(made: Path) -> None:
    db = sqlite3.connect(made)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_every_commit_waits_for_the_disk(made: Path) -> None:
    state = opened(made)
    assert state._db.execute("PRAGMA synchronous").fetchone() == (2,)
    state.close_now()


def test_a_state_is_opened_again_and_through_a_symbolic_link(made: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(made)
    state = opened(link)
    assert state.place == str(made)
    state.close_now()


def test_a_path_is_taken_as_it_is_written(tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=memory#b %41 ü" / "state.db"
    opened(odd).close_now()
    assert odd.exists()


# -- coming into being --------------------------------------------------------------------------


class Killed(BaseException):
    """The process ended here; nothing of it runs any more."""


STEPS = {
    *("open", "write", "fsync", "fstat", "fchown", "fchmod", "close", "link", "unlink"),
    *("mkdir", "listdir", "lstat", "stat"),
}
"""What a process asks of the operating system while a state is made and opened."""


class MortalOs:
    """The operating system as a process sees it that dies after ``lives`` calls."""

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in STEPS:
            return real

        def call(*values: object, **named: object) -> object:
            if self.lives <= 0:
                raise Killed
            self.lives -= 1
            return real(*values, **named)

        return call


def test_a_kill_at_any_moment_of_making_leaves_no_state_or_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    links_left = []
    for lives in range(60):
        path = tmp_path / str(lives) / "state.db"
        with monkeypatch.context() as patched:
            mortal = MortalOs(lives)
            patched.setattr(sqlite_file, "os", mortal)
            patched.setattr(file_access, "os", mortal)
            try:
                opened(path).close_now()
                completed = True
            except Killed:
                completed = False
        found.append((completed, path.exists()))
        links_left.append(path.exists() and path.stat().st_nlink == 2)
        if links_left[-1]:
            read_completely(path)
            assert path.stat().st_nlink == 2
        opened(path).close_now()
        assert path.stat().st_nlink == 1
    assert any(links_left)
    assert found[0] == (False, False)
    assert (False, True) in found
    assert found[-1] == (True, True)
    assert found == sorted(found)


def end_of_the_process(folder: Path) -> None:
    """Close what the kernel closes for a process that was killed."""
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder)):
                os.close(int(descriptor))


def test_a_kill_at_any_moment_of_making_a_lock_leaves_none_or_one_that_can_be_taken(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = LockHolder(1, "here", "a test", "2026-03-01")
    completed, links_left = [], []
    for lives in range(40):
        lock = made.with_name(f"{made.name}.{lives}.lock")
        with monkeypatch.context() as patched:
            mortal = MortalOs(lives)
            for module in (sqlite_file, file_access, file_locks):
                patched.setattr(module, "os", mortal)
            try:
                completed.append(asyncio.run(FileLocks(str(made)).take(str(lives), holder)))
            except Killed:
                completed.append(False)
        end_of_the_process(made.parent)
        links_left.append(lock.exists() and lock.stat().st_nlink == 2)
        after = FileLocks(str(made))
        assert asyncio.run(after.take(str(lives), holder))
        after.close()
        assert (lock.stat().st_nlink, stat.S_IMODE(lock.stat().st_mode)) == (1, 0o600)
    assert any(links_left)
    assert (completed[0], completed[-1]) == (False, True)
    assert completed == sorted(completed)


def test_the_loser_of_a_race_uses_the_winners_state(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def beaten(source: str, target: str) -> None:
        monkeypatch.undo()
        winner = opened(path)
        db = winner._db
        db.execute("INSERT INTO live VALUES ('', 'winner', '', '', '', '')")
        winner.close_now()
        os.link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    state = opened(path)
    assert state._db.execute("SELECT account FROM live").fetchall() == [("winner",)]
    state.close_now()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]


def test_the_loser_of_a_race_uses_the_winners_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def beaten(folder: str, mode: int) -> None:
        real(folder, mode)
        real(folder, mode)

    monkeypatch.setattr(os, "mkdir", beaten)
    opened(path).close_now()
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]


def test_an_image_is_written_to_its_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1000]))
    opened(tmp_path / "state.db").close_now()


@pytest.mark.parametrize("call", ["link", "write", "open", "mkdir"])
def test_a_place_that_cannot_hold_a_state_is_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StateAccessDenied) as refused:
        opened(path)
    assert refused.value.code == "state-unwritable"
    assert "Operation not permitted" in refused.value.message
    monkeypatch.undo()
    assert not path.exists()


# -- what is refused ------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    path.chmod(0o600)


def newer(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    db.close()


def without_a_table(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DROP TABLE applied")
    db.close()


def without_an_index(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("DROP INDEX attempts_counting")
    db.close()


def with_a_broken_page(path: Path) -> None:
    image = bytearray(path.read_bytes())
    image[4096:4196] = b"\xff" * 100
    path.write_bytes(image)


def with_an_index_that_lost_a_row(path: Path) -> None:
    """Every page is readable, but the page of one index is that of another, empty one."""
    db = connection.connect(str(path), "rw", 0.0)
    columns = db.execute("SELECT name, type FROM pragma_table_info('attempts')").fetchall()
    blank = [1 if name == "id" else "0" if kind == "TEXT" else 0 for name, kind in columns]
    db.execute(f"INSERT INTO attempts VALUES ({','.join('?' * len(blank))})", blank)
    roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall())
    db.close()
    image = bytearray(path.read_bytes())
    lost, empty = ((roots[name] - 1) * 4096 for name in ("attempts_counting", "attempts_limited"))
    image[lost : lost + 4096] = image[empty : empty + 4096]
    path.write_bytes(image)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_a_group_in_a_folder_open_to_others(path: Path) -> None:
    path.chmod(0o640)
    path.parent.chmod(0o705)


def beside(suffix: str) -> Callable[[Path], Path]:
    return lambda path: path.with_name(path.name + suffix)


REFUSALS: list[tuple[str, Callable[[Path], object]]] = [
    ("state-empty", lambda path: path.write_bytes(b"")),
    ("state-not-sqlite", lambda path: path.write_bytes(b"families: {}\n")),
    ("state-not-sqlite", lambda path: path.write_bytes(b"x" * 5000)),
    ("state-truncated", lambda path: os.truncate(path, 10)),
    ("state-truncated", lambda path: os.truncate(path, 99)),
    ("state-truncated", lambda path: os.truncate(path, 100)),
    ("state-truncated", lambda path: os.truncate(path, 4096)),
    ("state-truncated", lambda path: os.truncate(path, 4096 * 5 + 7)),
    ("state-foreign-file", foreign),
    ("state-newer", newer),
    ("state-incomplete", without_a_table),
    ("state-incomplete", without_an_index),
    ("state-damaged", with_a_broken_page),
    ("state-damaged", with_an_index_that_lost_a_row),
    ("state-not-a-file", a_directory),
    ("state-exposed", with_a_group_in_a_folder_open_to_others),
    ("state-exposed", lambda path: beside("-wal")(path).touch(0o644)),
    ("state-exposed", lambda path: path.chmod(0o602)),
]


@pytest.mark.parametrize("opener", [opened, read])
@pytest.mark.parametrize(("code", "spoil"), REFUSALS)
def test_a_file_that_cannot_be_believed_is_refused_and_left_as_it_is(
    made: Path, code: str, spoil: Callable[[Path], object], opener: Callable[[Path], SqliteState | None]
) -> None:
    spoil(made)
    before = made.read_bytes() if made.is_file() else None
    with pytest.raises((StateUnusable, StateAccessDenied)) as refused:
        opener(made)
    assert refused.value.code == code
    assert str(made) in refused.value.message
    assert refused.value.hint
    assert (made.read_bytes() if made.is_file() else None) == before


def test_a_file_that_cannot_be_read_is_reported(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StateAccessDenied) as refused:
        opened(made)
    monkeypatch.undo()
    assert refused.value.code == "state-unreadable"


def test_a_state_that_is_removed_or_replaced_is_not_written_to_any_more(made: Path) -> None:
    state = opened(made)
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(store.identify("1", "host"))
    made.rename(made.with_name("aside.db"))
    for replaced in (False, True):
        if replaced:
            opened(made).close_now()
        with pytest.raises(StateUnusable) as refused:
            asyncio.run(store.identify("1", "host"))
        assert refused.value.code == "state-replaced"
    state.close_now()


# -- one name --------------------------------------------------------------------------------------


def linked(target: Callable[[Path], Path]) -> Callable[[Path], None]:
    """Give a file a second name, as ``ln`` does; it is made where there is none."""

    def link(path: Path) -> None:
        file = target(path)
        file.touch(0o600)
        os.link(file, path.parent / "another-name")

    return link


def linked_symbolically(path: Path) -> None:
    log = beside("-wal")(path)
    log.unlink(missing_ok=True)
    log.symlink_to(path.parent / "elsewhere")


def like_a_leftover_of_another_file(path: Path) -> None:
    linked(lambda path: path)(path)
    (path.parent / f".{path.name}.0123456789abcdef.new").write_bytes(b"")
    (path.parent / f".{path.name}.fedcba9876543210.new").symlink_to(path)


@pytest.mark.parametrize("opener", [opened, read])
@pytest.mark.parametrize(
    "link",
    [
        linked(lambda path: path),
        linked(beside("-wal")),
        linked(beside("-shm")),
        linked_symbolically,
        like_a_leftover_of_another_file,
    ],
)
def test_a_state_with_another_link_is_refused_and_left_as_it_is(
    made: Path, link: Callable[[Path], None], opener: Callable[[Path], object]
) -> None:
    link(made)
    before = (made.read_bytes(), sorted(os.listdir(made.parent)))
    with pytest.raises(StateAccessDenied) as refused:
        opener(made)
    assert refused.value.code == "state-linked"
    assert "two records of requests" in refused.value.message
    assert "folder" in refused.value.hint
    assert (made.read_bytes(), sorted(os.listdir(made.parent))) == before


def test_both_names_of_a_state_are_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    os.link(made, other)
    for name in (made, other):
        with pytest.raises(StateAccessDenied, match="another hard link"):
            opened(name)


def test_what_a_kill_while_the_state_was_made_left_is_removed_by_the_next_writer(made: Path) -> None:
    leftover = made.parent / f".{made.name}.0123456789abcdef.new"
    os.link(made, leftover)
    read_completely(made)
    assert leftover.exists()
    opened(made).close_now()
    assert [entry.name for entry in made.parent.iterdir()] == ["state.db"]


def test_a_leftover_that_its_maker_removes_meanwhile_is_no_error(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = made.parent / f".{made.name}.0123456789abcdef.new"
    os.link(made, leftover)
    real = os.listdir

    def beaten(folder: str) -> list[str]:
        names = real(folder)
        leftover.unlink(missing_ok=True)
        return names

    monkeypatch.setattr(os, "listdir", beaten)
    read_completely(made)
    os.link(made, leftover)
    opened(made).close_now()


def test_a_leftover_that_cannot_be_removed_is_an_error(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    os.link(made, made.parent / f".{made.name}.0123456789abcdef.new")
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StateAccessDenied) as refused:
        opened(made)
    assert refused.value.code == "state-unwritable"


def test_in_a_folder_that_cannot_be_listed_every_other_link_counts(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    os.link(made, made.parent / f".{made.name}.0123456789abcdef.new")
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StateAccessDenied) as refused:
        read(made)
    assert refused.value.code == "state-linked"


def test_a_state_that_gets_another_link_while_it_is_open_is_not_written_to_any_more(made: Path) -> None:
    state = opened(made)
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(store.identify("1", "host"))
    other = made.with_name("other.db")
    os.link(made, other)
    with pytest.raises(StateAccessDenied) as refused:
        asyncio.run(store.identify("1", "host"))
    assert refused.value.code == "state-linked"
    other.unlink()
    asyncio.run(store.identify("1", "host"))
    state.close_now()


# -- reading without touching -----------------------------------------------------------------------


def test_reading_a_state_that_is_not_there_makes_nothing(path: Path) -> None:
    assert read(path) is None
    assert not path.parent.exists()
    error = sqlite_file.missing(str(path))
    assert (error.code, str(path) in error.message, bool(error.hint)) == ("state-missing", True, True)


def test_reading_leaves_file_and_directory_as_they_are(made: Path) -> None:
    made.parent.chmod(0o500)
    before = (made.read_bytes(), made.stat().st_mtime_ns, os.listdir(made.parent))
    state = read(made)
    assert state is not None
    state.close_now()
    assert (made.read_bytes(), made.stat().st_mtime_ns, os.listdir(made.parent)) == before
    made.parent.chmod(0o700)


def test_reading_sees_what_another_process_committed_a_moment_ago(made: Path) -> None:
    writer = opened(made)
    writer._db.execute("INSERT INTO live VALUES ('', 'fresh', '', '', '', '')")
    state = read(made)
    assert state is not None
    assert state._db.execute("SELECT account FROM live").fetchall() == [("fresh",)]
    state.close_now()
    writer.close_now()


def test_a_file_that_changes_while_it_is_read_is_read_by_sqlite(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = iter([(1, 1, 1), (1, 1, 2)])
    monkeypatch.setattr("reconciler.store.sqlite.connection._mark", lambda _: next(marks))
    state = read(made)
    assert state is not None
    state.close_now()
    assert next(marks, None) is None


# -- migrations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [opened, read])
def test_an_older_state_is_brought_up_to_date_with_its_rows(
    made: Path, monkeypatch: pytest.MonkeyPatch, opener: Callable[[Path], SqliteState | None]
) -> None:
    db = sqlite3.connect(made)
    db.execute("INSERT INTO live VALUES ('', 'kept', '', '', '', '')")
    db.commit()
    db.close()
    second = ("ALTER TABLE live ADD COLUMN more TEXT", "CREATE TABLE extra (a TEXT) STRICT")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    for _ in range(2):
        state = opener(made)
        assert state is not None
        assert state._db.execute("SELECT account, more FROM live").fetchall() == [("kept", None)]
        assert schema.version_of(state._db) == len(schema.MIGRATIONS)
        state.close_now()


def test_a_migration_that_fails_changes_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = ("CREATE TABLE extra (a TEXT) STRICT", "ALTER TABLE nowhere ADD COLUMN more TEXT")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
        with pytest.raises(StateUnusable) as refused:
            opened(made)
    assert refused.value.code == "state-damaged"
    opened(made).close_now()
