"""One process's way to a state file with faults: the program's own engine over a connection that fails.

Everything above a connection is the production code. Another program locks the file for a while, the
disk is full for a while, and sometimes a write or the sync of a COMMIT fails. A process whose COMMIT
failed gets the same error, whether or not the COMMIT is on record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from reconciler.errors import StateUnavailable
from tests.simulation import checkers
from tests.simulation.postgres_server import Work
from tests.simulation.row_cache import Rows

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.scenario import FileFaults

PLACE = "/nowhere/state.db"

WRITING = ("INSERT", "UPDATE", "DELETE")


class TroubledFile:
    """The state file as one process has it: connections, one after the other.

    ``note`` is called with each transaction that becomes durable; ``saw`` and ``began_at`` are of the last
    view that was read, as a connection to a server has them.
    """

    def __init__(self, process: Process, rows: Rows, failures: FileFaults) -> None:
        self.note: Callable[[Work], None] | None = None
        self.saw = -1
        self.began_at = 0.0
        self.process = process
        self.rows = rows
        self.failures = failures
        self.rng = Random(f"file {process.world.scenario.seed} {process.name}")

    def open(self) -> FailingConnection:
        """Open the file, where nothing is in the way."""
        return FailingConnection(self)

    def reopen(self) -> FailingConnection:
        """Open the file again, if that can be done; raises StateUnavailable."""
        if self.fails(self.failures.open_failure):
            raise StateUnavailable("state-io-error", "the file cannot be read now")
        return self.open()

    def is_in(self, periods: Sequence[tuple[float, float]]) -> bool:
        """Tell whether this moment is in one of the periods, and faults are still on."""
        world = self.process.world
        return not world.calm and any(begin <= world.scheduler.now < end for begin, end in periods)

    def fails(self, chance: float) -> bool:
        """Tell whether something fails this time."""
        return not self.process.world.calm and self.rng.random() < chance


class FailingConnection:
    """What the engine uses of a connection. After a failure it must be used no more."""

    def __init__(self, file: TroubledFile) -> None:
        self._file = file
        self._process = file.process
        self._has_failed = False
        self._work: Work | None = None

    def execute(self, query: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement, if the disk does."""
        self._check()
        word = query.split(maxsplit=1)[0]
        if word == "COMMIT":
            return self._commit()
        if word == "BEGIN":
            self._begin(query)
        elif word in WRITING:
            self._before_writing([(query, values)])
        return self._file.rows.execute(query, values)

    def executemany(self, query: str, many: Iterable[Sequence[Any]]) -> Any:
        """Run a writing statement for each of ``many`` values."""
        self._check()
        each = list(many)
        self._before_writing([(query, values) for values in each])
        return self._file.rows.executemany(query, each)

    def rollback(self) -> None:
        """Undo what was written in this transaction."""
        self._file.rows.rollback()

    def close(self) -> None:
        """Close the file: other processes still have it open."""

    def _check(self) -> None:
        name = self._process.name
        self._process.world.verify(checkers.opened_again_after_a_failure, name, self._has_failed)

    def _begin(self, how: str) -> None:
        world, file = self._process.world, self._file
        writes = how == "BEGIN IMMEDIATE"
        if writes and file.is_in(file.failures.busy):
            raise failure(sqlite3.SQLITE_BUSY)
        file.saw, file.began_at = -1 if writes else world.news, world.scheduler.now
        self._work = Work(self._process.name) if writes else None

    def _before_writing(self, statements: list[tuple[str, Sequence[Any]]]) -> None:
        assert self._work is not None, "who writes began a writing transaction"
        if self._file.fails(self._file.failures.statement_failure):
            raise self._failed(sqlite3.SQLITE_IOERR_WRITE)
        self._work.writes += statements

    def _commit(self) -> Any:
        """Commit, unless the disk is full, or fails: then that is on record or not."""
        file, work = self._file, self._work
        if work is None or not work.writes:
            return file.rows.execute("COMMIT")
        self._process.perhaps_die()
        if file.is_in(file.failures.full):
            file.rows.rollback()
            self._note_failed_commit(work)
            raise self._failed(sqlite3.SQLITE_FULL)
        fails = file.fails(file.failures.commit_failure)
        if fails and file.rng.random() < 0.5:
            file.rows.rollback()
        else:
            file.rows.execute("COMMIT")
            if file.note is not None:
                file.note(work)
        if fails:
            self._note_failed_commit(work)
            raise self._failed(sqlite3.SQLITE_IOERR_FSYNC)
        if work.reservation() is not None:
            self._process.world.auditor.answered(self._process)
        self._process.perhaps_die()
        return None

    def _note_failed_commit(self, work: Work) -> None:
        if work.reservation() is not None:
            self._process.world.auditor.commit_failed(self._process)

    def _failed(self, code: int) -> sqlite3.OperationalError:
        self._has_failed = True
        self._process.world.trace(self._process, "the disk fails: %d", code)
        return failure(code)


def failure(code: int) -> sqlite3.OperationalError:
    """Return what Python raises where SQLite returns ``code``."""
    error = sqlite3.OperationalError("as the seed says")
    error.sqlite_errorcode = code
    return error
