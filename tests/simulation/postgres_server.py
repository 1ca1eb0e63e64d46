"""A PostgreSQL server in memory: transactions, row locks, a history, and an unreliable clock.

It runs the program's own statements. Rows are in SQLite, which supports one transaction at a time. So
each of several open transactions has a list of its writes, and the server replays them on the committed
rows whenever that transaction runs. A statement then reads what PostgreSQL shows under READ COMMITTED:
everything committed before it, and the transaction's own writes. The callers simulate waits, failures
and kills.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from reconciler.store.postgres.connections import LOCK_TIMEOUT_MS, SILENCE_TIMEOUT_MS
from reconciler.store.rows import AppliedRow, AttemptRow
from reconciler.store.sqlite import schema
from tests.simulation.row_cache import Rows
from tests.simulation.scheduler import Scheduler

LOCK_TIMEOUT_S = LOCK_TIMEOUT_MS / 1000
SILENCE_TIMEOUT_S = SILENCE_TIMEOUT_MS / 1000

SEQUENCES_SKIP = 32
"""A promoted standby may skip this many numbers of a sequence."""

_OWN_TABLES = (
    "CREATE TABLE budgets (kind, environment, uid, history, PRIMARY KEY (kind, environment, uid))",
    "CREATE TABLE locks (name PRIMARY KEY, generation, holder, expires_at)",
    "CREATE TABLE version (migrations, history)",
)

Wake = Callable[[Any], None]


class Gone(Exception):
    """The server ended the transaction, or would not take the statement."""


class Lockable(NamedTuple):
    """A row, or the name of an account, that a transaction can lock."""

    table: str
    key: tuple[object, ...]


@dataclass(eq=False, slots=True)
class Work:
    """One transaction as the server sees it. ``wake`` resumes the client that waits for an answer."""

    owner: str
    writes: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    locks: dict[Lockable, bool] = field(default_factory=dict)
    over: bool = False
    received: int = 0
    wake: Wake | None = None
    note: Callable[[Work], None] | None = None
    lock: str | None = None
    """The name of the pass lock that it writes about."""
    takes: bool = False
    """Whether it takes that lock."""
    touched: int = 0
    """How many rows its last statement wrote."""

    def reservation(self) -> AttemptRow | None:
        """Return the attempt that it reserves, if it does."""
        return next(iter(self._attempts()), None)

    def counts_a_loss(self) -> bool:
        """Tell whether it records what may have been lost."""
        return any(query.startswith("INSERT INTO losses") for query, _ in self.writes)

    def _attempts(self) -> list[AttemptRow]:
        return [
            AttemptRow._make(values)
            for query, values in self.writes
            if query.startswith("INSERT INTO attempts")
        ]

    def proven(self) -> set[str]:
        """Return the families of which it records a setting as proven in force."""
        return {
            AppliedRow._make(values).family
            for query, values in self.writes
            if query.startswith("INSERT INTO applied")
        }

    def families_proven(self) -> frozenset[str]:
        """Return the families of which it does."""
        return frozenset(
            str(value)
            for query, values in self.writes
            if query.startswith("INSERT INTO applied")
            for value in values
        )


@dataclass(frozen=True, slots=True)
class Image:
    """All that a standby has at one moment."""

    rows: sqlite3.Connection
    sequences: dict[str, int]
    takers: dict[str, str]


@dataclass(slots=True)
class _Waiting:
    work: Work
    shared: bool
    wake: Wake


class Server:
    """The server of one world. ``takers``: by whose transaction each pass lock was last taken."""

    def __init__(self, scheduler: Scheduler, *, rate: float, offset_s: float) -> None:
        self._scheduler = scheduler
        self._rate = rate
        self.offset_s = offset_s
        self.timeline = 1
        self.table = 1  # which of the tables of this name it is
        self.is_up = True
        self.commits = 0
        self.on_theft: Callable[[str, str], None] = lambda before, now: None
        self.on_loss_counted: Callable[[], None] = lambda: None
        self.stamped: dict[tuple[str, float], float] = {}
        self.takers: dict[str, str] = {}
        self._sequences: dict[str, int] = {}
        self._open: list[Work] = []
        self._queues: dict[Lockable, list[_Waiting]] = {}
        self._holders: dict[Lockable, list[Work]] = {}
        self._current: Work | None = None
        self.rows = Rows.in_memory()
        self._make_tables(self.rows)

    # -- identity and clock ----------------------------------------------------------------------

    @property
    def history(self) -> str:
        """Return the name of the present history."""
        return f"7000000000000000001/{self.timeline:08X}"

    def clock(self) -> float:
        """Return the server's own time, in seconds from an arbitrary instant."""
        return self._scheduler.now * self._rate + self.offset_s

    def committed(self) -> sqlite3.Connection:
        """Return the rows as they are committed, to be read at once."""
        self._set_aside()
        return self.rows

    def loss_unnoticed(self) -> bool:
        """Tell whether no process has noticed yet that the history is another one."""
        query = "SELECT 1 FROM budgets WHERE history <> ?"
        return self.committed().execute(query, (self.history,)).fetchone() is not None

    # -- transactions ----------------------------------------------------------------------------

    def begin(self, owner: str) -> Work:
        """Begin a transaction; raises Gone while the server is not up."""
        if not self.is_up:
            raise Gone
        work = Work(owner)
        self._open.append(work)
        return work

    def execute(self, work: Work, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement whose locks it has, in the program's own dialect; raises Gone."""
        if work.over:
            raise Gone
        work.received += 1
        statement = understood(query)
        match statement.does:
            case Does.COUNT:
                return self._next_ids(*values)
            case Does.LOCK_NAME:
                return [("",)]
            case Does.READ:
                return self._read(work, statement, values)
            case _:
                return self._write(work, statement, values)

    def _read(self, work: Work, statement: Statement, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._look(work)
        found: list[tuple[Any, ...]] = self.rows.execute(
            statement.text, self._bound(statement, values)
        ).fetchall()
        return found

    def _write(self, work: Work, statement: Statement, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        bound = self._bound(statement, values)
        self._turn(work)
        cursor = self.rows.execute(statement.text, bound)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        work.touched = max(cursor.rowcount, len(found))
        if work.touched:
            work.writes.append((statement.text, bound))
        if statement.does in (Does.TAKE_LOCK, Does.CHANGE_LOCK):
            work.lock = _lock_name(values)
            work.takes |= statement.does is Does.TAKE_LOCK and bool(found)
        return found

    def commit(self, work: Work) -> bool:
        """Make the writes durable and visible, even if no client waits for the answer."""
        if work.over:
            return False
        if work.writes:
            self._turn(work)
            self.commits += 1
        if self._current is work:
            self.rows.execute("COMMIT")
            self._current = None
        reserved = work.reservation()
        if reserved is not None:
            self.stamped[reserved.boot, reserved.reserved_at] = self.clock()
        self._over(work)
        if work.counts_a_loss():
            self.on_loss_counted()
        if work.note is not None:
            work.note(work)
        if work.lock is not None:
            self._lock_changed(work, work.lock)
        return True

    def _lock_changed(self, work: Work, name: str) -> None:
        """Record the present owner of the pass lock, None without one."""
        query = "SELECT holder FROM locks WHERE name = ?"
        if work.takes:
            before, self.takers[name] = self.takers.get(name), work.owner
            if before is not None:
                self.on_theft(before, work.owner)
        elif self.rows.execute(query, (name,)).fetchone() == ("",):
            self.takers.pop(name, None)

    def abort(self, work: Work) -> None:
        """Undo a transaction; its client learns of it if it waits for something."""
        if work.over:
            return
        if self._current is work:
            self._set_aside()
        self._over(work)
        if work.wake is not None:
            self._scheduler.after(0.0, work.wake, Gone())

    def end_silent(self, work: Work, received: int) -> None:
        """Undo a transaction that sent nothing since then."""
        if work.received == received:
            self.abort(work)

    # -- locks -----------------------------------------------------------------------------------

    def lock(self, work: Work, wanted: Lockable, wake: Wake, *, shared: bool) -> bool:
        """Lock a row; False: ``wake`` is given None once it is locked, or Gone."""
        if work.over:
            raise Gone
        work.received += 1
        if wanted in work.locks and (shared or not work.locks[wanted]):
            return True
        if not self._queues.get(wanted) and self._is_free(work, wanted, shared=shared):
            self._grant(work, wanted, shared=shared)
            return True
        waiting = _Waiting(work, shared, wake)
        self._queues.setdefault(wanted, []).append(waiting)
        self._scheduler.after(LOCK_TIMEOUT_S, self._wait_no_longer, wanted, waiting)
        return False

    def _is_free(self, work: Work, wanted: Lockable, *, shared: bool) -> bool:
        others = [holder for holder in self._holders.get(wanted, ()) if holder is not work]
        return not others or (shared and all(holder.locks[wanted] for holder in others))

    def _grant(self, work: Work, wanted: Lockable, *, shared: bool) -> None:
        if wanted not in work.locks:
            self._holders.setdefault(wanted, []).append(work)
        work.locks[wanted] = shared

    def _wait_no_longer(self, wanted: Lockable, waiting: _Waiting) -> None:
        if waiting in self._queues.get(wanted, ()):
            self.abort(waiting.work)

    def _over(self, work: Work) -> None:
        """Release all that a transaction has, or waits for."""
        work.over = True
        self._open.remove(work)
        for held in work.locks:
            self._holders[held].remove(work)
        for wanted, queue in tuple(self._queues.items()):
            queue[:] = [waiting for waiting in queue if waiting.work is not work]
            self._grant_next(wanted)
            if not queue:
                del self._queues[wanted]

    def _grant_next(self, wanted: Lockable) -> None:
        queue = self._queues[wanted]
        while queue and self._is_free(queue[0].work, wanted, shared=queue[0].shared):
            waiting = queue.pop(0)
            self._grant(waiting.work, wanted, shared=waiting.shared)
            self._scheduler.after(0.0, waiting.wake, None)

    # -- faults ----------------------------------------------------------------------------------

    def go_down(self) -> None:
        """End all transactions, and take none until further notice."""
        self.is_up = False
        for work in tuple(self._open):
            self.abort(work)

    def come_up(self) -> None:
        """Take transactions again."""
        self.is_up = True

    def image(self) -> Image:
        """Return what is committed, as a standby that follows until now has it."""
        rows = sqlite3.connect(":memory:", isolation_level=None)
        self.committed().backup(rows)
        return Image(rows, dict(self._sequences), dict(self.takers))

    def promote(self, image: Image, *, skip: int, offset_s: float) -> None:
        """Continue from what a standby had, on a timeline and by a clock of its own."""
        self._replace_rows(image, skip)
        self.timeline += 1
        self.offset_s = offset_s

    def make_tables_anew(self) -> None:
        """Drop all tables and make them again, in one moment."""
        rows = sqlite3.connect(":memory:", isolation_level=None)
        self._make_tables(rows)
        self._replace_rows(Image(rows, {}, {}), 0)
        self.table += 1
        self.come_up()

    def _make_tables(self, rows: sqlite3.Connection) -> None:
        rows.deserialize(_empty())
        rows.execute("INSERT INTO version VALUES (1, ?)", (self.history,))

    def _replace_rows(self, image: Image, skip: int) -> None:
        """End all transactions, take none, and have other rows."""
        self.go_down()
        image.rows.backup(self.committed())
        image.rows.close()
        self.rows.forget()
        self._sequences = {name: value + skip for name, value in image.sequences.items()}
        self.takers = dict(image.takers)

    # -- rows ------------------------------------------------------------------------------------

    def _look(self, work: Work) -> None:
        """Let the rows be what this transaction sees, to be looked at only."""
        if work.writes:
            self._turn(work)
        elif self._current is not work:
            self._set_aside()

    def _turn(self, work: Work) -> None:
        """Let the rows be what this transaction sees, to be written to."""
        if self._current is work:
            return
        self._set_aside()
        self.rows.execute("BEGIN")
        for query, values in work.writes:
            self.rows.execute(query, values)
        self._current = work

    def _set_aside(self) -> None:
        if self._current is not None:
            self.rows.execute("ROLLBACK")
            self._current = None

    def _next_ids(self, sequence: str, count: int) -> list[tuple[Any, ...]]:
        first = self._sequences.get(sequence, 0) + 1
        self._sequences[sequence] = first + count - 1
        return [(number,) for number in range(first, first + count)]

    def _bound(self, statement: Statement, values: Sequence[Any]) -> Sequence[Any]:
        if statement.holders is None:
            return values
        rest = iter(values)
        said = {"now": self.clock(), "history": self.history, "table": self.table}
        return [said[holder] if holder in said else next(rest) for holder in statement.holders]


class Does(Enum):
    """What a statement does, as far as a transaction is concerned."""

    READ = "read"
    WRITE = "write"
    COUNT = "take numbers of a sequence"
    LOCK_NAME = "lock a name"
    TAKE_LOCK = "take a pass lock"
    CHANGE_LOCK = "change whose a pass lock is"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, understood once. ``holders``: what each stands for, None for just the values."""

    text: str
    does: Does
    holders: tuple[str, ...] | None
    locks: str | None
    """The table of which it locks a row before it does anything."""
    shares: bool
    """Whether it is content to share that row."""


def wanted_lock(query: str, values: Sequence[Any]) -> tuple[Lockable, bool] | None:
    """Return what a statement locks before it does anything, and whether it is content to share it."""
    statement = understood(query)
    match statement.locks:
        case None:
            return None
        case "budgets":
            return Lockable("budgets", tuple(values[-3:])), statement.shares
        case "locks":
            return Lockable("locks", (_lock_name(values),)), statement.shares
        case table:
            return Lockable(table, tuple(values)), statement.shares


def _lock_name(values: Sequence[Any]) -> str:
    return next(value for value in values if isinstance(value, str))


@lru_cache(maxsize=256)
def understood(query: str) -> Statement:
    """Return what a statement of the program means to the server."""
    text, holders = _dialect(query)
    locks, shares = _lock_of(query) or (None, False)
    return Statement(text, _done_by(text), holders, locks, shares)


def _done_by(text: str) -> Does:
    if "nextval(" in text:
        return Does.COUNT
    if "pg_advisory_xact_lock" in text:
        return Does.LOCK_NAME
    if text.startswith("SELECT"):
        return Does.READ
    if text.startswith("UPDATE locks SET expires_at"):
        return Does.WRITE  # it stays whose it is
    if " locks " in text:
        return Does.TAKE_LOCK if text.startswith("INSERT") else Does.CHANGE_LOCK
    return Does.WRITE


def _lock_of(query: str) -> tuple[str, bool] | None:
    if "pg_advisory_xact_lock" in query:
        return "accounts", False
    named = re.search(r"\b(?:FROM|INTO|UPDATE) (budgets|locks)\b", query)
    looks_only = query.startswith("SELECT") and not re.search(r" FOR (UPDATE|SHARE)", query)
    if named is None or looks_only:
        return None
    return named[1], " FOR SHARE" in query


_NAMED = re.compile(r"system_identifier::text \|\| '/' \|\| left\(pg_walfile_name\([^)]*\(\)\), 8\)")

_WORDS: tuple[tuple[str, str], ...] = (
    (_NAMED.pattern, "<history>"),
    (r"budgets\.tableoid::bigint", "<table>"),
    (r"\(SELECT max\(usable_from\) FROM mmp\.version\)", "1"),
    (r"clock_timestamp\(\)", "<now>"),
    (r"make_interval\(secs => (%s|[\d.]+)\)", r"\1"),
    (r" FOR (?:UPDATE|SHARE)(?: OF \w+)?", ""),
    (r", pg_control_system\(\)", ""),
    (r"FROM pg_control_system\(\) WHERE", "WHERE"),
    (r"FROM version ON", "FROM version WHERE true ON"),
)


_HOLDERS = "%s|<history>|<now>|<table>"


def _dialect(query: str) -> tuple[str, tuple[str, ...] | None]:
    """Return a statement in SQLite's dialect; and what each holder stands for, None for just the values."""
    for pattern, instead in _WORDS:
        query = re.sub(pattern, instead, query)
    holders = tuple(holder.strip("<>") for holder in re.findall(_HOLDERS, query))
    text = re.sub(_HOLDERS, "?", query).strip()
    return text, None if set(holders) <= {"%s"} else holders


@lru_cache(maxsize=1)
def _empty() -> bytes:
    rows = sqlite3.connect(":memory:", isolation_level=None)
    rows.deserialize(schema.with_wal(schema.new_image("0" * 32), on=False))
    for statement in _OWN_TABLES:
        rows.execute(statement)
    return rows.serialize()
