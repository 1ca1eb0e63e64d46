"""What the signs of a directory say: when a file is looked at, and whether one look is enough."""

from __future__ import annotations

from itertools import product

import pytest

from reconciler.watch.write_completion import (
    SECOND_READ_S,
    UNCLOSED_S,
    FileEventKind,
    FileTracker,
    ReadConfidence,
)

T = 1000.0
WHOLE = (FileEventKind.CLOSED, FileEventKind.MOVED_IN)


def after(*signs: FileEventKind, begin: FileTracker | None = None) -> FileTracker:
    """Return the attention after signs that all came at T."""
    attention = begin or FileTracker()
    for sign in signs:
        attention = attention.on_event(sign, T)
    return attention


@pytest.mark.parametrize(
    ("sign", "look_after_s", "trust"),
    [
        (FileEventKind.CLOSED, 0.0, ReadConfidence.COMPLETE),
        (FileEventKind.MOVED_IN, 0.0, ReadConfidence.COMPLETE),
        (FileEventKind.MODIFIED, UNCLOSED_S, ReadConfidence.WRITING),
        (FileEventKind.CREATED, SECOND_READ_S, ReadConfidence.NEEDS_TWO_READS),
        (FileEventKind.GONE, SECOND_READ_S, ReadConfidence.NEEDS_TWO_READS),
    ],
)
def test_an_event_sets_the_next_read_and_its_confidence(
    sign: FileEventKind, look_after_s: float, trust: ReadConfidence
) -> None:
    attention = after(sign)
    assert (attention.read_at, attention.confidence(T)) == (T + look_after_s, trust)


@pytest.mark.parametrize(
    "signs", list(product(FileEventKind, repeat=3)), ids=lambda signs: "-".join(s.name for s in signs)
)
def test_one_read_decides_only_when_the_last_event_completed_the_file(
    signs: tuple[FileEventKind, ...],
) -> None:
    """Against an oracle that reads backwards; what goes away behind a whole file is no matter."""
    last = next((sign for sign in reversed(signs) if sign is not FileEventKind.GONE), FileEventKind.GONE)
    assert (after(*signs).confidence(T) is ReadConfidence.COMPLETE) == (last in WHOLE)
    assert (after(*signs).confidence(T) is ReadConfidence.WRITING) == (signs[-1] is FileEventKind.MODIFIED)


def test_a_file_being_written_is_waited_for_and_then_read_twice() -> None:
    attention = after(FileEventKind.CREATED, FileEventKind.MODIFIED)
    just_before, over = T + UNCLOSED_S - 0.1, T + UNCLOSED_S
    assert (attention.due(just_before), attention.confidence(just_before)) == (
        False,
        ReadConfidence.WRITING,
    )
    assert (attention.due(over), attention.confidence(over)) == (True, ReadConfidence.NEEDS_TWO_READS)
    again = attention.after_read(over, unsure=True)
    assert (again.read_at, again.confidence(over + SECOND_READ_S)) == (
        over + SECOND_READ_S,
        ReadConfidence.NEEDS_TWO_READS,
    )


def test_each_modification_starts_the_wait_again() -> None:
    attention = after(FileEventKind.MODIFIED).on_event(FileEventKind.MODIFIED, T + 20.0)
    assert attention.confidence(T + 45.0) is ReadConfidence.WRITING


@pytest.mark.parametrize("sign", list(FileEventKind))
def test_a_recheck_neither_decides_nor_moves_a_scheduled_read(sign: FileEventKind) -> None:
    assert after(sign).recheck(T + 5.0) == after(sign)
    assert FileTracker().recheck(T) == FileTracker(read_at=T)


@pytest.mark.parametrize("sign", list(FileEventKind))
def test_after_lost_events_no_event_counts(sign: FileEventKind) -> None:
    assert after(sign).reset(T) == FileTracker(read_at=T)
    assert after(sign).reset(T).confidence(T) is ReadConfidence.NEEDS_TWO_READS


def test_no_read_is_due_after_one_that_decided() -> None:
    assert after(FileEventKind.CLOSED).after_read(T, unsure=False) == FileTracker()


def test_a_read_that_decided_nothing_is_repeated_a_second_later() -> None:
    assert FileTracker(T).after_read(T, unsure=True) == FileTracker(T + SECOND_READ_S)
