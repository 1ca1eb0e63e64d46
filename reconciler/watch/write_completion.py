"""Decides from directory events when to read a file, and how far one read can be trusted.

A half-written file can parse, so content alone never proves that a file is complete. An event of its writer
does: the file was closed, or moved into place. This file has only functions from values to values. Other
files read and wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import assert_never

from reconciler.watch.symlinks import DirEntry

SECOND_READ_S = 1.0
"""The time between two reads that have to agree, where no event shows that the file is complete."""

UNCLOSED_S = 30.0
"""How long to wait for a writer that modified a file and did not close it. A file is also closed when its
program dies, so this concerns only writers that leave a file open, which is wrong for a settings file."""


class FileEventKind(Enum):
    """What happened to one name in a directory."""

    CLOSED = auto()
    """Closed after writing."""
    MOVED_IN = auto()
    MODIFIED = auto()
    """Written to or truncated, by a program that has it open."""
    CREATED = auto()
    GONE = auto()
    """Deleted or moved away."""


@dataclass(frozen=True, slots=True)
class FileEvent:
    """An event at a directory entry."""

    entry: DirEntry
    kind: FileEventKind


class ReadConfidence(IntEnum):
    """How far a read of a file can be trusted; of two values the lower one counts."""

    WRITING = auto()
    """The file is being written: the content may be incomplete."""
    NEEDS_TWO_READS = auto()
    """No event of a writer: two equal reads decide."""
    COMPLETE = auto()
    """The writer closed the file or moved it into place: one read decides."""


@dataclass(frozen=True, slots=True)
class FileTracker:
    """The state of one file beyond its content. Instants are on the caller's clock.

    ``read_at``: when to read, None: no read is due. ``complete``: the file was complete at the last event.
    ``modified_at``: the last modification after which the file was not closed, None: there is none.
    """

    read_at: float | None = None
    complete: bool = False
    modified_at: float | None = None

    def on_event(self, kind: FileEventKind, now: float) -> FileTracker:
        """Return the tracker after an event at the file, or at a link on its path."""
        match kind:
            case FileEventKind.CLOSED | FileEventKind.MOVED_IN:
                return FileTracker(read_at=now, complete=True)
            case FileEventKind.MODIFIED:
                return FileTracker(read_at=now + UNCLOSED_S, modified_at=now)
            case FileEventKind.CREATED:
                return FileTracker(read_at=now + SECOND_READ_S)
            case FileEventKind.GONE:
                # If a complete file was moved in, this event is about the old version.
                return self if self.complete else FileTracker(read_at=now + SECOND_READ_S)
            case _:
                assert_never(kind)

    def recheck(self, now: float) -> FileTracker:
        """Return the tracker when events may be missing: a read is due now, unless one is scheduled."""
        return self if self.read_at is not None else replace(self, read_at=now)

    def reset(self, now: float) -> FileTracker:
        """Return the tracker when events are certainly missing: its state is unknown, and a read is due."""
        return FileTracker(read_at=now)

    def due(self, now: float) -> bool:
        """Tell whether a read is due."""
        return self.read_at is not None and now >= self.read_at

    def confidence(self, now: float) -> ReadConfidence:
        """Return how far a read at ``now`` can be trusted."""
        if self.complete:
            return ReadConfidence.COMPLETE
        writing = self.modified_at is not None and now < self.modified_at + UNCLOSED_S
        return ReadConfidence.WRITING if writing else ReadConfidence.NEEDS_TWO_READS

    def after_extra_read(self, now: float) -> FileTracker:
        """Return the tracker after an extra read that decided nothing: the next read is soon."""
        soon = now + SECOND_READ_S
        return replace(self, read_at=soon if self.read_at is None else min(self.read_at, soon))

    def failed(self, now: float) -> FileTracker:
        """Return the tracker after a read that failed because resources were short."""
        return replace(self, read_at=now + SECOND_READ_S)

    def after_read(self, now: float, *, unsure: bool) -> FileTracker:
        """Return the tracker after a read at ``now``; ``unsure``: it decided nothing yet."""
        if not unsure:
            return FileTracker()
        return FileTracker(read_at=now + SECOND_READ_S, modified_at=self.modified_at)
