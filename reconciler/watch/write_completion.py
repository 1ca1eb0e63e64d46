"""What the signs of a directory say of a file: when to look at it, and what one look is worth.

A half-written file can parse, so content alone never tells that it is whole. Its writer does: by
closing it, or by moving it into place. This file decides what follows from which sign, as functions
from values to values; reading and waiting are others'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import assert_never

from reconciler.watch.symlinks import DirEntry

SECOND_LOOK_S = 1.0
"""Between two looks that have to agree, where no writer said that the file is whole."""

UNCLOSED_S = 30.0
"""How long a writer that modified a file and did not close it is waited for. A program that died
with it open closes it too, so this is for writers that keep a file open, which is no way to write one."""


class FileEventKind(Enum):
    """What happened to one name in a directory."""

    CLOSED = auto()
    """Closed after writing."""
    MOVED_IN = auto()
    MODIFIED = auto()
    """Written to or cut short, by someone who has it open."""
    CREATED = auto()
    GONE = auto()
    """Deleted or moved away."""


@dataclass(frozen=True, slots=True)
class FileEvent:
    """A sign at its spot."""

    spot: DirEntry
    sign: FileEventKind


class ReadConfidence(IntEnum):
    """What a look at a file is worth; the less of two counts."""

    WRITING = auto()
    """Somebody is writing: whatever is read may be half of it."""
    NEEDS_TWO_READS = auto()
    """Nobody said anything: two equal looks decide."""
    COMPLETE = auto()
    """The writer said that it is whole: one look decides."""


@dataclass(frozen=True, slots=True)
class FileTracker:
    """What is known of one file beyond its content. Instants are on the caller's clock.

    ``look_at``: when to look, None: nothing calls for it. ``whole``: the writer was done at the last
    sign. ``modified_at``: the last modification that was not followed by closing, None: there is none.
    """

    look_at: float | None = None
    whole: bool = False
    modified_at: float | None = None

    def on_event(self, sign: FileEventKind, now: float) -> FileTracker:
        """Return what a sign at the file, or at a link on the way to it, makes of this."""
        match sign:
            case FileEventKind.CLOSED | FileEventKind.MOVED_IN:
                return FileTracker(look_at=now, whole=True)
            case FileEventKind.MODIFIED:
                return FileTracker(look_at=now + UNCLOSED_S, modified_at=now)
            case FileEventKind.CREATED:
                return FileTracker(look_at=now + SECOND_LOOK_S)
            case FileEventKind.GONE:
                # Of a whole file on its way here: the version it replaces is being cleared away.
                return self if self.whole else FileTracker(look_at=now + SECOND_LOOK_S)
            case _:
                assert_never(sign)

    def recheck(self, now: float) -> FileTracker:
        """Return this where signs may have been missed: look, unless that is due or too early anyway."""
        return self if self.look_at is not None else replace(self, look_at=now)

    def reset(self, now: float) -> FileTracker:
        """Return this where signs were certainly missed: nothing is known any more."""
        return FileTracker(look_at=now)

    def due(self, now: float) -> bool:
        """Tell whether it is time to look."""
        return self.look_at is not None and now >= self.look_at

    def confidence(self, now: float) -> ReadConfidence:
        """Return what a look at ``now`` is worth."""
        if self.whole:
            return ReadConfidence.COMPLETE
        writing = self.modified_at is not None and now < self.modified_at + UNCLOSED_S
        return ReadConfidence.WRITING if writing else ReadConfidence.NEEDS_TWO_READS

    def looked_beside(self, now: float) -> FileTracker:
        """Return this after a look beside the others that decided nothing: the next one is soon."""
        soon = now + SECOND_LOOK_S
        return replace(self, look_at=soon if self.look_at is None else min(self.look_at, soon))

    def failed(self, now: float) -> FileTracker:
        """Return this after a look that this process was too short of something to take."""
        return replace(self, look_at=now + SECOND_LOOK_S)

    def after_read(self, now: float, *, unsure: bool) -> FileTracker:
        """Return this after a look at ``now``; ``unsure``: it decided nothing yet."""
        if not unsure:
            return FileTracker()
        return FileTracker(look_at=now + SECOND_LOOK_S, modified_at=self.modified_at)
