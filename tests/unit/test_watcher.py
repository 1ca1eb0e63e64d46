"""When files are looked at, with the kernel's own notices and a clock that stands still until it is moved.

What a notice leads to is seen right after it happened: nothing here waits for anything.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import asyncinotify
import pytest

from reconciler.config.load import load_configs
from reconciler.core.events import ConfigAccepted, ConfigRejected
from reconciler.watch import watcher
from reconciler.watch.inotify import InotifyBatch, InotifyDirectories
from reconciler.watch.last_valid_content import Undecided, WatchedFile
from reconciler.watch.symlinks import WatchPath, resolve_path
from reconciler.watch.watcher import DEGRADED_POLL_S, POLL_S, FileWatcher
from reconciler.watch.write_completion import SECOND_READ_S, UNCLOSED_S, ReadConfidence

pytestmark = pytest.mark.unmeasured

TEXT = """\
version: 1
environment: live
families:
  BTC-USD: {timeInterval: 5s, frozenInterval: 2s, qtyLimit: 1}
"""


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def suspended_s(self) -> float:
        return 0.0

    async def sleep_until(self, until: float) -> None:
        raise AssertionError("the watcher waits for inotify")


class File:
    """A watched file whose content is in force as soon as a look at it counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.in_force = self.read()
        self.candidate: str | None = None
        self.looks = 0
        self.while_read: Callable[[], object] = lambda: None

    def watch_path(self) -> WatchPath:
        return resolve_path(str(self.path))

    def read(self) -> str:
        content = self.path.read_text() if self.path.exists() else "(gone)"
        getattr(self, "while_read", lambda: None)()
        return content

    def decide(self, content: str, confidence: ReadConfidence, now: float) -> object:
        self.looks += 1
        before, self.candidate = self.candidate, content
        if content == self.in_force or confidence is ReadConfidence.WRITING:
            return None if content == self.in_force else Undecided()
        if confidence is ReadConfidence.NEEDS_TWO_READS and before != content:
            return Undecided()
        self.in_force = content
        return content


class Here:
    """A watcher of files in one folder, and its decisions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.degraded: list[str] = []
        self.message: list[object] = []
        self.file_watcher = FileWatcher(self.clock, self.degraded.append)

    async def watch(self, name: str) -> File:
        file = File(self.folder / name)
        self.file_watcher.add(file, self.message.append)
        await self.turn()
        file.looks = 0
        return file

    async def turn(self, after_s: float = 0.0) -> list[object]:
        """Let time pass and the watcher run once; return its decisions."""
        self.clock.time += after_s
        del self.message[:]
        self.file_watcher.run_once()
        await self.reads_ended()
        return list(self.message)

    async def reads_ended(self) -> None:
        """Wait until no read is in progress."""
        while tasks := [one.task for one in self.file_watcher.handles if one.task is not None]:
            await asyncio.wait(tasks)


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type] # a coroutine function's result is a coroutine

    return run


@contextmanager
def looking(folder: Path) -> Iterator[Here]:
    here = Here(folder)
    try:
        yield here
    finally:
        here.file_watcher.inotify_directories.close()


@asynccontextmanager
async def one_file(folder: Path) -> AsyncIterator[tuple[Here, File]]:
    """Watch ``mmp.yaml`` in ``folder``, which has the content 1."""
    (folder / "mmp.yaml").write_text("1")
    with looking(folder) as here:
        yield here, await here.watch("mmp.yaml")


@contextmanager
def half_written(path: Path) -> Iterator[None]:
    """Write the first half of a file, which is closed at the end of the block."""
    with path.open("w") as writing:
        writing.write("half")
        writing.flush()
        yield


def moved_in(path: Path, text: str) -> None:
    aside = path.with_name(".aside")
    aside.write_text(text)
    aside.replace(path)


def swapped(folder: Path, version: int, text: str, name: str = "mmp.yaml") -> None:
    """Replace a ConfigMap as the kubelet does: a folder of its own, and a link moved over ``..data``."""
    old = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else None
    (folder / f"..{version}").mkdir()
    (folder / f"..{version}" / name).write_text(text)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").replace(folder / "..data")
    if not (folder / name).is_symlink():
        (folder / name).symlink_to(f"..data/{name}")
    if old is not None:
        (folder / old / name).unlink()
        (folder / old).rmdir()


@in_loop
async def test_a_file_closed_after_writing_is_decided_on_at_once(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        file.path.write_text("2")
        assert await here.turn() == ["2"]
        assert await here.turn(0.1) == []


@in_loop
async def test_a_file_moved_into_place_is_decided_on_at_once(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        for text in "23456":
            moved_in(file.path, text)
            assert await here.turn() == [text]


@in_loop
async def test_every_replacement_of_a_config_map_is_read_at_once(tmp_path: Path) -> None:
    swapped(tmp_path, 0, "0")
    with looking(tmp_path) as here:
        await here.watch("mmp.yaml")
        gc.collect()  # what earlier tests left open is closed now, not below
        descriptors = len(os.listdir("/proc/self/fd"))
        for version in range(1, 300):
            swapped(tmp_path, version, str(version))
            assert await here.turn() == [str(version)], version
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert here.file_watcher.inotify_directories._inotify is not None
        assert len(here.file_watcher.inotify_directories._inotify.watches) <= 4, (
            "the folder, what ..data leads to, hardly more"
        )


@in_loop
async def test_after_many_replacements_the_last_one_is_in_force(tmp_path: Path) -> None:
    swapped(tmp_path, 0, "0")
    with looking(tmp_path) as here:
        file = await here.watch("mmp.yaml")
        for version in range(1, 500):
            swapped(tmp_path, version, str(version))
        assert await here.turn() == ["499"]
        assert file.looks == 1


@in_loop
async def test_a_file_being_written_is_not_read_until_it_is_closed(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        with file.path.open("w") as writing:
            for part in "abc":
                writing.write(part)
                writing.flush()
                assert await here.turn(5.0) == []
            assert (file.in_force, file.looks) == ("1", 0)
        assert await here.turn() == ["abc"]


def linked(folder: Path, text: str) -> Path:
    """Make a file in a folder and a second name of it elsewhere: writing to that is not heard of."""
    (folder / "watched").mkdir()
    (folder / "host").mkdir()
    (folder / "watched" / "mmp.yaml").write_text(text)
    (folder / "host" / "mmp.yaml").hardlink_to(folder / "watched" / "mmp.yaml")
    return folder / "host" / "mmp.yaml"


@in_loop
async def test_a_change_without_an_event_is_found_before_a_request(tmp_path: Path) -> None:
    elsewhere = linked(tmp_path, "1")
    with looking(tmp_path / "watched") as here:
        await here.watch("mmp.yaml")
        (post,) = here.file_watcher.handles
        assert await here.file_watcher.read_before_sending(post)
        elsewhere.write_text("2")
        assert await here.turn(1.0) == [], "nothing is heard of it"
        assert not await here.file_watcher.read_before_sending(post), "not in force, and perhaps half of it"
        assert here.message == []
        assert await here.turn(SECOND_READ_S) == ["2"]
        assert await here.file_watcher.read_before_sending(post)


@in_loop
async def test_the_first_read_before_a_request_reports_invalid_content(tmp_path: Path) -> None:
    elsewhere = linked(tmp_path, TEXT)
    path = str(tmp_path / "watched" / "mmp.yaml")
    with looking(tmp_path / "watched") as here:
        file = WatchedFile(path, load_configs([path])[0].desired)
        post = here.file_watcher.add(file, here.message.append)
        await here.turn()
        elsewhere.write_text(TEXT + "wrong: 1\n")
        assert not await here.file_watcher.read_before_sending(post)
        here.clock.time += SECOND_READ_S
        assert not await here.file_watcher.read_before_sending(post), "found to be invalid by this look"
        assert isinstance(here.message.pop(), ConfigRejected)
        assert await here.file_watcher.read_before_sending(post), (
            "known to be invalid: the last one is in force"
        )
        elsewhere.write_text(TEXT)
        assert await here.file_watcher.read_before_sending(post)
        assert isinstance(here.message.pop(), ConfigAccepted)


@in_loop
async def test_a_read_before_a_request_does_not_end_the_wait_for_a_writer(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        (post,) = here.file_watcher.handles
        with file.path.open("r+") as writing:
            writing.write("1")
            writing.flush()
            assert await here.turn() == []
            assert await here.file_watcher.read_before_sending(post)
            attention = post.tracker
            assert attention.modified_at == here.clock.time
            file.in_force = "0"
            assert not await here.file_watcher.read_before_sending(post)
            assert post.tracker.modified_at == attention.modified_at
            assert await here.turn(SECOND_READ_S) == [], "half of it, for all that is known"
        assert await here.turn() == ["1"]


@in_loop
async def test_an_event_received_by_a_read_before_a_request_wakes_the_watcher(tmp_path: Path) -> None:
    (tmp_path / "mmp.yaml").write_text("1")
    (tmp_path / "other.yaml").write_text("1")
    with looking(tmp_path) as here:
        await here.watch("mmp.yaml")
        other = await here.watch("other.yaml")
        here.file_watcher.inotify_directories._readable.clear()
        other.path.write_text("2")
        assert await here.file_watcher.read_before_sending(here.file_watcher.handles[0])
        assert here.file_watcher.inotify_directories._readable.is_set()
        assert await here.turn() == ["2"]


@in_loop
async def test_a_file_that_is_never_closed_counts_after_30_s_and_two_equal_reads(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        with half_written(file.path):
            assert await here.turn() == []
            assert await here.turn(UNCLOSED_S - 0.1) == []
            assert file.looks == 0
            assert await here.turn(0.2) == []
            assert await here.turn(SECOND_READ_S) == ["half"]


@in_loop
async def test_a_file_that_was_being_written_before_it_was_watched_is_waited_for_too(
    tmp_path: Path,
) -> None:
    """A folder's new file is met at some moment, perhaps when half of it is there."""
    (tmp_path / "a.yaml").write_text("1")
    with looking(tmp_path) as here:
        await here.watch("a.yaml")
        with half_written(tmp_path / "b.yaml"):
            await here.turn()
            file = File(tmp_path / "b.yaml")
            file.in_force = ""
            here.file_watcher.add(file, here.message.append)
            assert [await here.turn(1.0), await here.turn(1.0), await here.turn(20.0)] == [[], [], []]
            assert file.looks == 0
        assert await here.turn() == ["half"]
        assert await here.turn(UNCLOSED_S) == []
        assert here.file_watcher._unclosed == {}


@in_loop
async def test_an_event_of_another_file_does_not_complete_this_one(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        with half_written(file.path):
            for number in range(20):
                (tmp_path / "other.yaml").write_text(str(number))
                moved_in(tmp_path / "mmp.yaml.bak", str(number))
                assert await here.turn(1.0) == []
            assert file.looks == 0


@in_loop
async def test_a_read_during_which_the_file_is_written_decides_nothing(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        writing = None

        def half() -> None:
            nonlocal writing
            file.while_read = lambda: None
            writing = file.path.open("w")
            writing.write("half")
            writing.flush()

        file.while_read = half
        file.path.write_text("2")
        assert await here.turn() == []
        assert await here.turn(1.0) == []
        assert (file.in_force, file.looks) == ("1", 1)
        assert writing is not None
        writing.close()
        assert await here.turn() == ["half"]


@in_loop
async def test_writes_to_the_replaced_file_do_not_matter(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        with file.path.open("a") as late:
            moved_in(file.path, "2")
            late.write("late")
            late.flush()
            assert await here.turn() == ["2"]
            late.write("later")
        await here.turn()
        assert file.looks == 1


@in_loop
async def test_an_editor_that_renames_and_creates_is_followed(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        file.path.rename(tmp_path / "mmp.yaml~")
        assert await here.turn() == []
        file.path.write_text("2")
        assert await here.turn() == ["2"]
        assert file.looks == 1, "the moment without a file was not looked at"


@in_loop
async def test_a_folder_removed_and_made_again_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "mmp.yaml").write_text("1")
    with looking(tmp_path) as here:
        file = await here.watch("config/mmp.yaml")
        for text in ("2", "3"):
            file.path.unlink()
            folder.rmdir()
            await here.turn()
            folder.mkdir()
            await here.turn()
            file.path.write_text(text)
            assert await here.turn() == [text]


@in_loop
async def test_a_folder_moved_away_and_another_moved_in_is_another_file(tmp_path: Path) -> None:
    for name, text in (("config", "1"), ("next", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mmp.yaml").write_text(text)
    with looking(tmp_path) as here:
        file = await here.watch("config/mmp.yaml")
        (tmp_path / "config").rename(tmp_path / "old")
        (tmp_path / "next").rename(tmp_path / "config")
        assert await here.turn() == []
        assert await here.turn(SECOND_READ_S) == ["2"]
        file.path.write_text("3")
        assert await here.turn() == ["3"]


@in_loop
async def test_a_file_behind_links_is_watched_where_it_is(tmp_path: Path) -> None:
    for name, text in (("r1", "1"), ("r2", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.yaml").write_text(text)
    (tmp_path / "current").symlink_to("r1")
    (tmp_path / "mmp.yaml").symlink_to("current/main.yaml")
    with looking(tmp_path) as here:
        await here.watch("mmp.yaml")
        (tmp_path / "r1/main.yaml").write_text("1b")
        assert await here.turn() == ["1b"]
        (tmp_path / "new").symlink_to("r2")
        (tmp_path / "new").replace(tmp_path / "current")
        assert await here.turn() == ["2"]
        (tmp_path / "r2/main.yaml").write_text("2b")
        assert await here.turn() == ["2b"]
        (tmp_path / "r1/main.yaml").write_text("1c")
        assert await here.turn() == [], "left behind"


@in_loop
async def test_a_change_without_an_event_is_found_by_the_slow_poll_and_read_twice(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        file.path.write_text("2")
        here.file_watcher.inotify_directories.read_events()  # a remote file system reports nothing
        assert await here.turn(POLL_S - 0.1) == []
        assert await here.turn(0.2) == []
        assert await here.turn(SECOND_READ_S) == ["2"]


@pytest.mark.slow
@in_loop
async def test_after_an_overflow_every_file_is_read_and_no_earlier_event_counts(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        queued = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        with (tmp_path / "other").open("w") as other, file.path.open("w") as writing:
            os.write(writing.fileno(), b"xxx")
            for _ in range(queued // 2 + 10):  # two names in turn: equal neighbours are one event
                os.write(other.fileno(), b"x")
                (tmp_path / "name").open("w").close()
        assert await here.turn() == []
        assert file.looks == 1
        assert await here.turn(SECOND_READ_S) == ["xxx"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "max_user_instances"),
        (OSError(errno.ENOSYS, "Function not implemented"), "not implemented"),
        (RuntimeError("inotify support was not found"), "not available"),
    ],
)
@in_loop
async def test_without_inotify_files_are_polled_every_second_and_that_is_reported_once(
    error: Exception, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise error

    monkeypatch.setattr(asyncinotify, "Inotify", broken)
    async with one_file(tmp_path) as (here, file):
        file.path.write_text("2")
        assert await here.turn(DEGRADED_POLL_S) == []
        assert await here.turn(DEGRADED_POLL_S) == ["2"]
        assert await here.turn(DEGRADED_POLL_S) == []
        (reason,) = here.degraded
        assert says in reason


@in_loop
async def test_a_folder_that_cannot_be_watched_is_polled_every_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(asyncinotify.Inotify, "add_watch", full)
    async with one_file(tmp_path) as (here, file):
        file.path.write_text("2")
        assert [await here.turn(DEGRADED_POLL_S), await here.turn(DEGRADED_POLL_S)] == [[], ["2"]]
        (reason,) = here.degraded
        assert "max_user_watches" in reason
        monkeypatch.undo()
        await here.turn(DEGRADED_POLL_S)
        file.path.write_text("3")
        assert await here.turn() == ["3"], "watched as soon as that can be"


@in_loop
async def test_every_file_is_read_on_request(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        with half_written(file.path):
            await here.turn()
            here.file_watcher.reread_all()
            await here.reads_ended()
            assert here.message == ["half"]


@in_loop
async def test_it_wakes_at_an_event_and_four_times_a_minute_otherwise(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        assert here.file_watcher._next_at() == pytest.approx(here.clock.now() + POLL_S)
        running = asyncio.create_task(here.file_watcher.run())
        await asyncio.sleep(0)
        file.path.write_text("2")
        async with asyncio.timeout(10):
            while here.message != ["2"]:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@in_loop
async def test_a_folder_that_vanishes_before_it_is_watched_is_resolved_again(tmp_path: Path) -> None:
    inotify_directories = InotifyDirectories.open()
    inotify_directories.set_directories([str(tmp_path / "gone"), str(tmp_path)])
    assert (inotify_directories.error, inotify_directories.missed) == (None, True)
    inotify_directories.set_directories([str(tmp_path)])
    assert not inotify_directories.missed
    (tmp_path / "name").touch()
    assert inotify_directories.read_events().events != ()
    inotify_directories.close()
    inotify_directories.set_directories([str(tmp_path)])
    assert inotify_directories.read_events() == InotifyBatch()
    inotify_directories.close()


# ---- beside the event loop ------------------------------------------------------------------------


@in_loop
async def test_a_file_that_cannot_be_read_to_its_end_delays_no_other_and_no_request_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "READ_BEFORE_SENDING_WITHIN_S", 0.2)
    for name in ("stuck", "mmp.yaml"):
        (tmp_path / name).write_text("1")
    with looking(tmp_path) as here:
        stuck, file = await here.watch("stuck"), await here.watch("mmp.yaml")
        answers = threading.Event()
        stuck.while_read = answers.wait
        moved_in(stuck.path, "2")
        moved_in(file.path, "2")
        here.file_watcher.run_once()
        stuck_post, file_post = here.file_watcher.handles
        while file_post.task is not None:
            await asyncio.sleep(0.01)
        assert here.message == ["2"], "the other file"
        assert here.file_watcher._next_at() > here.clock.now(), "it does not spin"
        threads = threading.active_count()
        for _ in range(3):
            begun = time.monotonic()
            assert not await here.file_watcher.read_before_sending(stuck_post)
            assert time.monotonic() - begun < 1.0
            assert await here.file_watcher.read_before_sending(file_post)
        assert threading.active_count() <= threads + 1, "one thread waits, however often it is looked at"
        here.file_watcher.reread_all()
        answers.set()
        await here.reads_ended()
        assert stuck.in_force == "2"
        assert await here.file_watcher.read_before_sending(stuck_post)


@in_loop
async def test_nothing_is_decided_about_an_object_that_was_removed(tmp_path: Path) -> None:
    async with one_file(tmp_path) as (here, file):
        answers = threading.Event()
        file.while_read = answers.wait
        moved_in(file.path, "2")
        here.file_watcher.run_once()
        here.file_watcher.remove(here.file_watcher.handles[0])
        answers.set()
        await asyncio.sleep(0.2)
        assert (here.message, file.in_force) == ([], "1")


@in_loop
async def test_a_failed_decision_ends_the_watcher(tmp_path: Path) -> None:
    (tmp_path / "mmp.yaml").write_text("1")
    here = Here(tmp_path)

    class BrokenFile(File):
        def decide(self, *_: object) -> None:
            raise ZeroDivisionError

    here.file_watcher.add(BrokenFile(tmp_path / "mmp.yaml"), here.message.append)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(here.file_watcher.run(), 5.0)


@pytest.mark.parametrize("beside", [False, True], ids=["a look", "a look before a request"])
@in_loop
async def test_without_a_thread_nothing_is_decided_and_the_next_read_is_a_second_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    (tmp_path / "mmp.yaml").write_text("1")
    here = Here(tmp_path)
    watching = asyncio.create_task(here.file_watcher.run())
    file = File(tmp_path / "mmp.yaml")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as no_threads:
        no_threads.setattr(threading.Thread, "start", refuse)
        post = here.file_watcher.add(file, here.message.append)
        if beside:
            assert not await here.file_watcher.read_before_sending(post), "what is there is not known"
        moved_in(file.path, "2")
        await asyncio.sleep(0.05)
        await here.reads_ended()
    assert (watching.done(), file.looks, post.task) == (False, 0, None)
    assert post.tracker.read_at == here.clock.time + SECOND_READ_S, "and not again and again"
    here.clock.time += SECOND_READ_S
    here.file_watcher.inotify_directories.wake()
    await asyncio.sleep(0.05)
    await here.reads_ended()
    assert here.message == ["2"], "the writer was done: one look decides"
    watching.cancel()
    await asyncio.wait({watching})


@pytest.mark.parametrize(
    "shortage", [MemoryError(), OSError(errno.ENFILE, "too many open files")], ids=repr
)
@in_loop
async def test_a_shortage_during_a_read_decides_nothing(tmp_path: Path, shortage: Exception) -> None:
    async with one_file(tmp_path) as (here, file):

        def refuse() -> None:
            raise shortage

        file.while_read = refuse
        moved_in(file.path, "2")
        assert await here.turn() == []
        file.while_read = lambda: None
        assert await here.turn(SECOND_READ_S) == ["2"]


@in_loop
async def test_a_required_read_is_retried_until_there_is_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(watcher, "SECOND_READ_S", 0.01)
    with looking(tmp_path) as here:
        with monkeypatch.context() as no_threads:
            no_threads.setattr(threading.Thread, "start", refuse)
            reading = asyncio.create_task(here.file_watcher.retried_in_thread(lambda: 7))
            await asyncio.sleep(0.05)
            assert not reading.done()
        assert await asyncio.wait_for(reading, 5.0) == 7


LARGEST = (
    "version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
    + "".join(f"  F{number:05d}-USD: {{qtyLimit: {number + 1}}}\n" for number in range(10_000))
)
WORST = "version: 1\nenvironment: live\n" + "".join(f"k{number}: 010\n" for number in range(59_000))


@pytest.mark.slow
@pytest.mark.parametrize("text", [LARGEST, WORST], ids=["largest valid file", "worst invalid file"])
def test_the_event_loop_runs_while_a_file_is_parsed(tmp_path: Path, text: str) -> None:
    """A request that is due while a file is parsed is sent in time, although parsing takes long."""
    path = tmp_path / "mmp.yaml"
    path.write_text(TEXT)

    async def measure() -> tuple[float, float]:
        with looking(tmp_path) as here:
            (reading,) = load_configs([str(path)])
            here.file_watcher.add(WatchedFile(str(path), reading.desired), here.message.append)
            await here.turn()
            moved_in(path, text)
            begun = time.monotonic()
            here.file_watcher.run_once()
            at, longest = begun, 0.0
            while not here.message:
                await asyncio.sleep(0.001)
                at, before = time.monotonic(), at
                longest = max(longest, at - before)
            (message,) = here.message
            assert isinstance(message, ConfigAccepted if text is LARGEST else ConfigRejected)
            return at - begun, longest

    took_s, longest_s = asyncio.run(measure())
    assert longest_s < max(0.1, took_s / 4), f"{longest_s:.3f} of {took_s:.3f} s"
    print(f"longest {longest_s:.3f} of {took_s:.3f} s")
