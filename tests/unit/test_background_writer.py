"""The thread behind stderr: nothing waits for its reader, what is missing is counted and named in place."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.background_writer import BackgroundWriter

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    while WRITERS:
        WRITERS.pop().drain(None)  # a blocked write fails now, and must not meet the number of another file
    os.close(writing)


WRITERS: list[BackgroundWriter] = []


def writer_of(fd: int, max_bytes: int | None = 10_000) -> BackgroundWriter:
    writer = BackgroundWriter(fd, max_bytes=max_bytes, describe_dropped=lambda lines: f"dropped {lines}")
    WRITERS.append(writer)
    return writer


def read_lines(fd: int, number: int) -> list[bytes]:
    """Read until there are ``number`` whole lines."""
    found = b""
    while found.count(b"\n") < number:
        found += os.read(fd, 65536)
    return found.splitlines()


def fill(writer: BackgroundWriter) -> int:
    """Write until the pipe, what the thread holds and the queue are full, and one line is dropped.

    Returns how many lines are in them.
    """
    os.set_blocking(writer.fd, False)
    lines = 0
    with suppress(BlockingIOError):
        while True:
            lines += os.write(writer.fd, LINE) == len(LINE)
    os.set_blocking(writer.fd, True)
    writer.write(LINE)
    while not writer._writing:
        time.sleep(0.01)
    lines += 1
    while writer.dropped_lines == 0:
        writer.write(LINE)
        lines += 1
    return lines - 1


def test_what_is_missing_is_named_where_it_is_missing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = writer_of(writing)
    written = fill(writer)
    for _ in range(9):
        writer.write(b"short\n")  # fits, but not where it belongs
    lines = read_lines(reading, written + 1)
    assert lines[:written] == [LINE.rstrip()] * written
    assert lines[written:] == [b"dropped 10"]
    writer.write(b"after\n")
    assert read_lines(reading, 1) == [b"after"]
    assert (writer.dropped_lines, writer.drain(1.0)) == (10, True)


@pytest.mark.slow
def test_a_flood_of_unread_lines_takes_bounded_memory(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    writer = writer_of(writing, 100_000)
    fill(writer)
    before = writer.dropped_lines
    tracemalloc.start()
    for _ in range(100_000):
        writer.write(LINE)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert writer.dropped_lines - before == 100_000
    assert most < 50_000


def test_a_write_never_waits_and_a_wait_in_vain_is_not_repeated(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    writer = writer_of(writing)
    fill(writer)
    began = time.monotonic()
    writer.write(LINE)
    assert time.monotonic() - began < 0.1
    assert not writer.drain(0.2)
    began = time.monotonic()
    assert not writer.drain(5.0)
    writer.close(5.0)
    assert time.monotonic() - began < 1.0


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = writer_of(writing, None)
    lines = [b"%d" % number for number in range(30_000)]
    writer.write(b"".join(line + b"\n" for line in lines))
    time.sleep(0.2)
    assert read_lines(reading, 30_000) == lines
    assert (writer.dropped_lines, os.get_blocking(writing)) == (0, False)


def test_a_disk_that_has_room_again_gets_a_line_of_its_own(tmp_path: Path) -> None:
    """The last line before was cut off: what says that lines are missing is not a part of it."""
    path = tmp_path / "log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    full = os.open("/dev/full", os.O_WRONLY)
    fd = os.dup(file)
    writer = writer_of(fd)
    writer.write(b"cut o")
    assert writer.drain(1.0)
    os.dup2(full, fd)
    for _ in range(3):
        writer.write(b"ff\nlost\n")
        assert writer.drain(1.0)
    assert (writer.dropped_lines, writer.error is not None) == (6, True)
    os.dup2(file, fd)
    writer.write(b"again\n")
    assert writer.drain(1.0)
    assert path.read_bytes() == b"cut o\ndropped 6\nagain\n"
    for each in (file, full, fd):
        os.close(each)


def test_what_is_printed_after_the_end_goes_out_only_where_nothing_waits(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = writer_of(writing)
    writer.close(1.0)
    writer.write(b"late\n" * 2000)
    assert read_lines(reading, 2000) == [b"late"] * 2000
    blocked = threading.Thread(target=writer.write, args=(LINE * 10_000,), daemon=True)
    blocked.start()
    blocked.join(5.0)
    assert not blocked.is_alive(), "the pipe is full and is not read"


def test_a_text_that_is_longer_than_the_bound_goes_through_where_nothing_waits(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    writer = writer_of(writing)
    assert writer.drain(1.0)
    writer.write(LINE * 1000)
    assert len(read_lines(reading, 1000)) == 1000
    assert writer.dropped_lines == 0


def test_without_a_thread_lines_are_dropped_until_there_is_one(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a container may have no more processes."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reading, writing = pipe
    writer = writer_of(writing)
    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", refuse)
        writer.write(b"lost\n")
        assert writer.drain(None)
    writer.write(b"again\n")
    assert read_lines(reading, 2) == [b"again", b"dropped 1"]
    assert writer.dropped_lines == 1


def test_lines_are_missing_in_silence_nowhere(pipe: tuple[int, int]) -> None:
    """Not even where the line about them cannot be made."""
    reading, writing = pipe
    writer = writer_of(writing)
    writer.describe_dropped = lambda lines: str(lines // 0)
    written = fill(writer)
    lines = read_lines(reading, written + 1)
    assert lines[written:] == [b"1 lines dropped"]
    assert writer.dropped_lines == 1
