"""The state in SQLite: opening it, and every durable step of an account in one transaction each.

This file moves rows and holds no rule: ages are ``ageing``'s, meaning is ``facts``', pacing is the
core's. A write is one BEGIN IMMEDIATE … COMMIT with ``synchronous=FULL``, so it is on disk when the
method returns, and reservations of all processes are in one order. The clock is read inside the
transaction, after the rows. SQLite's own errors never leave this file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from reconciler.core.model import Budget, Environment, Family, Kind, Known, LiveRead, Pause, Setting
from reconciler.core.pacing import CALM_SENDS, Ledger, earliest_slot
from reconciler.core.pauses import replaces
from reconciler.core.records import AttemptRecord, Holder, How, OverrideRecord, StateSnapshot
from reconciler.core.strips import KEEP_S, MAX_GAP_S, UNMANAGED, Span, goes_on, stamp, strips, turned
from reconciler.core.verdict import AttemptStatus
from reconciler.errors import StateForeign, StateLocked, StateUnusable
from reconciler.ports import Clock, NotYet, Reserved, Signed
from reconciler.store import facts, files, schema
from reconciler.store.ageing import Ages, FirstSights
from reconciler.store.locks import FileLocks, Locks, MemoryLocks, StoreMisuse
from reconciler.store.rows import (
    AppliedRow,
    AttemptRow,
    FightRow,
    IdentityRow,
    LiveDocument,
    OverrideRow,
    PauseRow,
    PresenceRow,
    RowDamaged,
    TurnRow,
    clean,
    live_document,
    sealed,
    setting_of,
    verified,
    wall_text,
)

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's transaction, which take milliseconds."""

LOCK_POLL_S = 0.05
"""Between two looks at a held lock: short against a pass, rare enough to cost nothing."""

KEEP_ATTEMPTS = 10_000
"""Attempts kept per User ID once nothing depends on them: about 14 hours of sending at full rate."""

PRUNE_STEPS = 100
"""Pruning is done once for every hundredth part of what is kept."""

KEEP_TURNS = 50_000
"""Turns kept of an account beside each family's last: five changes a day of the largest file."""

IN_MEMORY = ":memory:"

_SETTLED = frozenset({AttemptStatus.REJECTED, AttemptStatus.NOT_SENT})
"""Outcomes that leave the family as it was."""


def open_state(
    path: str,
    *,
    clock: Clock,
    boot: str,
    lock_timeout_s: float,
    keep_attempts: int = KEEP_ATTEMPTS,
    keep_turns: int = KEEP_TURNS,
    max_gap_s: float = MAX_GAP_S,
) -> SqliteState:
    """Open the state file for writing, making it if there is none.

    ``boot`` names this boot of this host, and must differ wherever the clock does. Symbolic links
    are followed, so that the lock files of all names of one state are the same. Raises StateUnusable.
    """
    real = os.path.realpath(path)
    files.refuse_network(real, files.read_mountinfo())
    _make_if_missing(real)
    files.inspect(real)
    with _remade(real):
        db = _connect(real, "rw")
        try:
            _believe(db, real)
            _prepare(db)
        except BaseException:
            db.close()
            raise
    return SqliteState(
        db,
        place=real,
        clock=clock,
        sights=FirstSights(boot),
        locks=FileLocks(real),
        lock_timeout_s=lock_timeout_s,
        keep_attempts=keep_attempts,
        keep_turns=keep_turns,
        max_gap_s=max_gap_s,
        still_there=files.watch(real),
        close=db.close,
    )


def open_existing(path: str, *, clock: Clock, boot: str) -> SqliteState | None:
    """Return the state as it is at this moment, for reading; None when there is no file.

    The rows are copied into memory: the file, its directory and whoever is writing are left alone.
    Whatever reserves or records is refused as misuse; ``identify`` checks but stamps the copy only.
    Raises StateUnusable.
    """
    real = os.path.realpath(path)
    if not os.path.lexists(real):
        return None
    files.refuse_network(real, files.read_mountinfo())
    files.inspect(real)
    with _remade(real):
        db = sqlite3.connect(IN_MEMORY, isolation_level=None)
        try:
            db.deserialize(schema.with_wal(_image(real), on=False))
            _believe(db, real)
        except BaseException:
            db.close()
            raise
    return SqliteState(
        db,
        place=real,
        clock=clock,
        sights=FirstSights(boot),
        locks=FileLocks(real),
        lock_timeout_s=0.0,
        frozen=True,
        close=db.close,
    )


class MemoryDisk:
    """A state without a file, for simulations: it outlives the simulated processes that open it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(IN_MEMORY, isolation_level=None, cached_statements=256)
        self._db.deserialize(schema.with_wal(schema.empty_image(), on=False))
        self._locks: dict[str, tuple[object, Holder]] = {}

    def open(
        self,
        *,
        clock: Clock,
        boot: str,
        lock_timeout_s: float = 30.0,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_turns: int = KEEP_TURNS,
        max_gap_s: float = MAX_GAP_S,
    ) -> SqliteState:
        """Open the state as one more process; closing it gives back its locks, as a death does."""
        return SqliteState(
            self._db,
            place=IN_MEMORY,
            clock=clock,
            sights=FirstSights(boot),
            locks=MemoryLocks(self._locks),
            lock_timeout_s=lock_timeout_s,
            keep_attempts=keep_attempts,
            keep_turns=keep_turns,
            max_gap_s=max_gap_s,
        )

    def close(self) -> None:
        """Forget everything."""
        self._db.close()


class SqliteState:
    """``ports.State``, seen by one process; all accounts share it. Made by ``open_state`` and its kin."""

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        place: str,
        clock: Clock,
        sights: FirstSights,
        locks: Locks,
        lock_timeout_s: float,
        keep_attempts: int = KEEP_ATTEMPTS,
        keep_turns: int = KEEP_TURNS,
        max_gap_s: float = MAX_GAP_S,
        frozen: bool = False,
        still_there: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.place = place
        self.clock = clock
        self.sights = sights
        self.locks = locks
        self.lock_timeout_s = lock_timeout_s
        self.keep_attempts = keep_attempts
        self.keep_turns = keep_turns
        self.max_gap_s = max_gap_s
        self._db = db
        self._frozen = frozen
        self._still_there = still_there
        self._close = close

    def account(self, account: str, environment: Environment, kind: Kind) -> SqliteStore:
        """Return the store of one account; those of one state share connection and first sights."""
        return SqliteStore(self, account, environment, kind)

    async def close(self) -> None:
        """Give back all locks and close; harmless when done before."""
        self.close_now()

    def close_now(self) -> None:
        """Close at once, as a death does; closing a file never waits for anybody."""
        self.locks.close()
        self._close()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give one consistent view of all rows. Raises StateUnusable."""
        return self._transaction("BEGIN")

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give the only writer's view; what was written is durable at the end. Raises StateUnusable."""
        if self._frozen:
            raise StoreMisuse(f"the state {self.place} was opened for reading")
        return self.stamping()

    def stamping(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give a writer's view that a state opened for reading grants too, of its copy."""
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute(begin)
            self._still_there()
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):  # the failure that brought us here is the one to tell
                self._db.rollback()
            _raise_remade(self.place, error)


class SqliteStore:
    """``ports.AccountStore`` of one account in one environment with one kind of exchange."""

    def __init__(self, state: SqliteState, account: str, environment: Environment, kind: Kind) -> None:
        self._state = state
        self._account = account
        self._environment = environment
        self._kind = kind
        self._key = (account, environment.value, kind.value)
        self._budget: Budget | None = None

    @property
    def _lock_name(self) -> str:
        return ".".join(self._key)

    @asynccontextmanager
    async def locked(self, purpose: str) -> AsyncIterator[None]:
        """Hold the account's lock; raises StateLocked, naming the holder, after the lock timeout."""
        await self._take_lock(purpose)
        try:
            yield
        finally:
            self._state.locks.release(self._lock_name)

    async def lock_holder(self) -> Holder | None:
        """Return who holds the account's lock now; None when nobody does."""
        return self._state.locks.holder(self._lock_name)

    async def identify(self, uid: str, host: str) -> str | None:
        """Stamp or check the owner; returns the previous host when it was another one.

        Raises StateForeign for another uid or kind.
        """
        with self._state.stamping() as db:
            found = self._identity(db)
            if found is not None:
                self._refuse_foreign(found, uid)
            if found is None or found.host != host:
                stamp = wall_text(self._state.clock.wall())
                account, environment, kind = self._key
                row = IdentityRow("", account, environment, kind, uid, clean(host), stamp)
                db.execute("INSERT OR REPLACE INTO identity VALUES (?,?,?,?,?,?,?)", sealed(row))
        self._budget = Budget(self._kind, self._environment, uid)
        return found.host if found is not None and found.host != host else None

    async def known(self) -> Mapping[Family, Known]:
        """Return what is known of every family on record (never Never)."""
        with self._state.reading() as db:
            applied, attempts = self._all_applied(db), self._all_open(db)
        return facts.known_from_rows(applied, attempts, self._ages())

    async def ledger(self) -> Ledger:
        """Return the pacing ledger of this account's User ID."""
        budget = self._identified()
        with self._state.reading() as db:
            history = _rate_history(db, budget)
        return facts.ledger_from_rows(history, self._ages())

    async def reserve(self, request: Signed, *, assume_idle: bool) -> Reserved | NotYet:
        """Reserve a slot now and record the attempt, in one durable transaction, or say when."""
        budget = self._identified()
        with self._state.writing() as db:
            history = _rate_history(db, budget)
            ages = self._ages()
            slot = earliest_slot(facts.ledger_from_rows(history, ages), ages.now, assume_idle=assume_idle)
            if slot > ages.now:
                return NotYet(slot)
            for row in facts.no_longer_counting(history, ages):
                _update(db, row)
            attempt = self._insert(db, budget, request, ages.now)
            self._prune(db, budget, attempt)
        return Reserved(attempt, ages.now)

    async def settle(
        self,
        attempt: int,
        status: AttemptStatus,
        *,
        definite: bool,
        limited: bool,
        code: str,
        message: str,
    ) -> None:
        """Record what came of an attempt, durably; each is settled once, by whoever reserved it."""
        with self._state.writing() as db:
            pending = self._pending(db, attempt)
            ages = self._ages()
            row = pending._replace(
                status=status.value,
                definite=int(definite),
                limited=int(limited),
                code=clean(code),
                message=clean(message),
                settled_wall=wall_text(self._state.clock.wall()),
                resolved=int(pending.resolved or status in _SETTLED),
            )
            if definite:
                # It arrived by now, perhaps only now: it counts again, even if its L was over.
                row = row._replace(answered_boot=ages.sights.boot, answered_at=ages.now, retired=0)
            if status is AttemptStatus.NOT_SENT:
                row = row._replace(retired=1)
            if status is AttemptStatus.APPLIED:
                row = self._acknowledge(db, row, ages)
            _update(db, row)

    async def adopt(self, settings: Mapping[Family, Setting], *, read_begun_at: float) -> None:
        """Record settings a live read proved in force.

        Attempts that may still land stay open: of another value, they leave the family uncertain.
        """
        with self._state.writing() as db:
            ages = self._ages()
            for family, setting in settings.items():
                self._prove(
                    db, family, setting, How.ADOPTED, at=read_begun_at, begun_at=read_begun_at, ages=ages
                )

    async def record_live(self, read: LiveRead) -> None:
        """Keep the latest live read for ``mmp status``; never used to decide anything."""
        account, environment, kind = self._key
        wall = wall_text(self._state.clock.wall())
        row = LiveDocument("", account, environment, kind, live_document(read), wall)
        with self._state.writing() as db:
            db.execute("INSERT OR REPLACE INTO live VALUES (?,?,?,?,?,?)", sealed(row))

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the pauses in force by their time at this moment, by family."""
        wall = self._state.clock.wall()
        with self._state.reading() as db:
            kept = self._all_pauses(db)
        return tuple(pause for _, pause in sorted(kept.items()) if pause.holds(wall))

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        fought: Mapping[Family, Setting] | None = None,
    ) -> None:
        """Pause families until a time of day (None: until resumed), as a fight's where ``fought`` says."""
        wall = self._state.clock.wall()
        with self._state.writing() as db:
            before = self._all_pauses(db)
            for family in families:
                pause = Pause(family, reason, wall, until, (fought or {}).get(family))
                if replaces(pause, before.get(family), wall):
                    self._drop_pause(db, family)
                    self._keep_pause(db, pause)

    async def end_fights(self, fought: Mapping[Family, Setting]) -> None:
        """End the fight's pauses of families that are about exactly these settings."""
        with self._state.writing() as db:
            before = self._all_pauses(db)
            for family, setting in fought.items():
                if family in before and before[family].fought == setting:
                    self._drop_pause(db, family)

    async def resume(self, families: Iterable[Family]) -> None:
        """End the pauses of families; harmless where there is none."""
        with self._state.writing() as db:
            for family in families:
                self._drop_pause(db, family)

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        """Keep for the history that a refusal was overridden by name, and why."""
        account, environment, _ = self._key
        wall = wall_text(self._state.clock.wall())
        with self._state.writing() as db:
            number = _next_id(db, "overrides")
            row = OverrideRow("", number, account, environment, family, clean(refusal), clean(reason), wall)
            db.execute("INSERT INTO overrides VALUES (?,?,?,?,?,?,?,?)", sealed(row))

    async def overrides(self, limit: int, family: str = "*") -> list[OverrideRecord]:
        """Return at most ``limit`` overrides of families matching the glob, newest first."""
        query = "SELECT * FROM overrides WHERE account=? AND environment=? ORDER BY id DESC"
        with self._state.reading() as db:
            rows = [verified(OverrideRow._make(values)) for values in db.execute(query, self._key[:2])]
        chosen = (row for row in rows if fnmatchcase(row.family, family))
        return [facts.override_record(row) for row in islice(chosen, limit)]

    async def history(self, limit: int, family: str = "*") -> list[AttemptRecord]:
        """Return at most ``limit`` attempts of families matching the glob ``family``, newest first."""
        query = "SELECT * FROM attempts WHERE account=? AND environment=? AND kind=? ORDER BY id DESC"
        with self._state.reading() as db:
            rows = (verified(AttemptRow._make(values)) for values in db.execute(query, self._key))
            chosen = (row for row in rows if fnmatchcase(row.family, family))
            return [facts.attempt_record(row) for row in islice(chosen, limit)]

    async def snapshot(self) -> StateSnapshot:
        """Return all that is on record of the account; changes nothing."""
        with self._state.reading() as db:
            identity = self._identity(db)
            budget = self._budget_of(identity)
            history = None if budget is None else _rate_history(db, budget)
            applied, attempts, live = self._all_applied(db), self._all_open(db), self._live(db)
        ages = self._ages()
        return StateSnapshot(
            kind=None if identity is None else Kind(identity.kind),
            uid=None if identity is None else identity.uid,
            host=None if identity is None else identity.host,
            known=facts.known_from_rows(applied, attempts, ages),
            applied={Family(row.family): facts.applied_record(row) for row in applied},
            open_attempts=tuple(facts.attempt_record(row) for row in attempts),
            ledger=None if history is None else facts.ledger_from_rows(history, ages),
            live=None if live is None else facts.live_record(live),
        )

    # -- strips --------------------------------------------------------------------------------

    async def record_states(self, states: Mapping[Family, str]) -> None:
        """Record that the account is watched, and which families are in another state than before."""
        with self._state.writing() as db:
            at, begun = self._look(db, self._state.clock.wall())
            changed = turned(self._last_states(db), states)
            for family, state in changed.items():
                row = TurnRow("", _next_id(db, "turns"), *self._key, family, clean(state), wall_text(at))
                db.execute("INSERT INTO turns VALUES (?,?,?,?,?,?,?,?)", sealed(row))
            if begun or changed:
                self._prune_strips(db, at)

    async def strips(self, since: datetime) -> Mapping[Family, tuple[Span, ...]]:
        """Return the strip of each family from ``since`` to this moment."""
        with self._state.reading() as db:
            watches = [facts.watch_of(row) for row in self._all_presence(db)]
            turns = [facts.turn_of(row) for row in self._all_turns(db)]
        return strips(
            watches, turns, since=since, now=self._state.clock.wall(), max_gap_s=self._state.max_gap_s
        )

    # -- locking and identity ------------------------------------------------------------------

    async def _take_lock(self, purpose: str) -> None:
        clock = self._state.clock
        deadline = clock.now() + self._state.lock_timeout_s
        holder = Holder(os.getpid(), os.uname().nodename, clean(purpose), wall_text(clock.wall()))
        while not self._state.locks.take(self._lock_name, holder):
            now = clock.now()
            if now >= deadline:
                raise self._locked_out()
            await clock.pause(min(deadline, now + LOCK_POLL_S))

    def _locked_out(self) -> StateLocked:
        holder = self._state.locks.holder(self._lock_name)
        by = "another process" if holder is None else str(holder)
        message = f"the state {self._state.place} of account {self._account} is held by {by}"
        hint = "wait until it is done, or give more time with --lock-timeout"
        return StateLocked("state-locked", message, hint)

    def _identified(self) -> Budget:
        if self._budget is None:
            raise StoreMisuse("identify comes before ledger and reserve")
        return self._budget

    def _budget_of(self, identity: IdentityRow | None) -> Budget | None:
        if identity is None or identity.kind != self._kind.value:
            return None
        return Budget(self._kind, self._environment, identity.uid)

    def _refuse_foreign(self, found: IdentityRow, uid: str) -> None:
        whose = f"the state {self._state.place} of account {self._account} ({self._environment.value})"
        if found.kind != self._kind.value:
            hint = "give the simulator and the exchange a state of their own each (--state)"
            message = f"{whose} was made with {found.kind}, and this is {self._kind.value}"
            raise StateForeign("state-foreign-kind", message, hint)
        if found.uid != uid:
            hint = "use the key of that account, or another account name or --state for this one"
            message = f"{whose} belongs to User ID {found.uid}, and this key is of {uid}"
            raise StateForeign("state-foreign-uid", message, hint)

    def _ages(self) -> Ages:
        """Return the ages of rows read before this call."""
        return Ages(self._state.sights, float(self._state.clock.now()))

    # -- rows of this account ------------------------------------------------------------------

    def _identity(self, db: sqlite3.Connection) -> IdentityRow | None:
        query = "SELECT * FROM identity WHERE account=? AND environment=?"
        values = db.execute(query, self._key[:2]).fetchone()
        return None if values is None else verified(IdentityRow._make(values))

    def _live(self, db: sqlite3.Connection) -> LiveDocument | None:
        query = "SELECT * FROM live WHERE account=? AND environment=? AND kind=?"
        values = db.execute(query, self._key).fetchone()
        return None if values is None else verified(LiveDocument._make(values))

    def _all_applied(self, db: sqlite3.Connection) -> list[AppliedRow]:
        query = "SELECT * FROM applied WHERE account=? AND environment=? AND kind=? ORDER BY family"
        return [verified(AppliedRow._make(values)) for values in db.execute(query, self._key)]

    def _all_open(self, db: sqlite3.Connection) -> list[AttemptRow]:
        query = (
            "SELECT * FROM attempts INDEXED BY attempts_open"
            " WHERE account=? AND environment=? AND kind=? AND resolved=0 ORDER BY id"
        )
        return [verified(AttemptRow._make(values)) for values in db.execute(query, self._key)]

    def _open(self, db: sqlite3.Connection, family: str) -> list[AttemptRow]:
        query = (
            "SELECT * FROM attempts INDEXED BY attempts_open"
            " WHERE account=? AND environment=? AND kind=? AND family=? AND resolved=0 ORDER BY id"
        )
        return [verified(AttemptRow._make(values)) for values in db.execute(query, (*self._key, family))]

    def _applied(self, db: sqlite3.Connection, family: str) -> AppliedRow | None:
        query = "SELECT * FROM applied WHERE account=? AND environment=? AND kind=? AND family=?"
        values = db.execute(query, (*self._key, family)).fetchone()
        return None if values is None else verified(AppliedRow._make(values))

    def _all_pauses(self, db: sqlite3.Connection) -> dict[Family, Pause]:
        """Return the pause on record of each family, whether or not its time is over."""
        by_hand = db.execute("SELECT * FROM pauses WHERE account=? AND environment=?", self._key[:2])
        rows: list[PauseRow | FightRow] = [verified(PauseRow._make(values)) for values in by_hand]
        fights = db.execute("SELECT * FROM fights WHERE account=? AND environment=?", self._key[:2])
        rows += [verified(FightRow._make(values)) for values in fights]
        return {Family(row.family): facts.pause_of(row) for row in rows}

    def _pending(self, db: sqlite3.Connection, attempt: int) -> AttemptRow:
        query = "SELECT * FROM attempts WHERE id=? AND account=? AND environment=? AND kind=?"
        values = db.execute(query, (attempt, *self._key)).fetchone()
        row = None if values is None else verified(AttemptRow._make(values))
        if row is None or row.status != AttemptStatus.PENDING.value:
            raise StoreMisuse(f"attempt {attempt} is not pending: it cannot be settled")
        return row

    # -- pauses --------------------------------------------------------------------------------

    def _drop_pause(self, db: sqlite3.Connection, family: Family) -> None:
        key = (*self._key[:2], family)
        db.execute("DELETE FROM pauses WHERE account=? AND environment=? AND family=?", key)
        db.execute("DELETE FROM fights WHERE account=? AND environment=? AND family=?", key)

    def _keep_pause(self, db: sqlite3.Connection, pause: Pause) -> None:
        row = facts.pause_row(pause, self._account, self._environment)
        if isinstance(row, PauseRow):
            db.execute("INSERT INTO pauses VALUES (?,?,?,?,?,?,?)", sealed(row))
        else:
            db.execute("INSERT INTO fights VALUES (?,?,?,?,?,?,?,?,?,?)", sealed(row))

    # -- rows of the strips --------------------------------------------------------------------

    def _all_presence(self, db: sqlite3.Connection) -> list[PresenceRow]:
        query = "SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id"
        return [verified(PresenceRow._make(values)) for values in db.execute(query, self._key)]

    def _all_turns(self, db: sqlite3.Connection) -> list[TurnRow]:
        query = "SELECT * FROM turns WHERE account=? AND environment=? AND kind=? ORDER BY id"
        return [verified(TurnRow._make(values)) for values in db.execute(query, self._key)]

    def _newest_presence(self, db: sqlite3.Connection) -> PresenceRow | None:
        query = (
            "SELECT * FROM presence WHERE account=? AND environment=? AND kind=? ORDER BY id DESC LIMIT 1"
        )
        values = db.execute(query, self._key).fetchone()
        return None if values is None else verified(PresenceRow._make(values))

    def _last_states(self, db: sqlite3.Connection) -> dict[Family, str]:
        """Return the state each family was last found in."""
        query = (
            "SELECT * FROM turns WHERE id IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)"
        )
        rows = (verified(TurnRow._make(values)) for values in db.execute(query, self._key))
        return {Family(row.family): row.state for row in rows}

    def _look(self, db: sqlite3.Connection, wall: datetime) -> tuple[datetime, bool]:
        """Record a look at ``wall``; returns the time it counts as, and whether a new watch began."""
        newest = self._newest_presence(db)
        at = stamp(None if newest is None else facts.watch_of(newest).until, wall, self._state.max_gap_s)
        if newest is not None and at < facts.watch_of(newest).until:
            newest = self._forget_after(db, at)
        if newest is not None and goes_on(facts.watch_of(newest), at, self._state.max_gap_s):
            _watched_until(db, newest, at)
            return at, False
        row = PresenceRow("", _next_id(db, "presence"), *self._key, wall_text(at), wall_text(at))
        db.execute("INSERT INTO presence VALUES (?,?,?,?,?,?,?)", sealed(row))
        return at, True

    def _forget_after(self, db: sqlite3.Connection, at: datetime) -> PresenceRow | None:
        """Forget what was recorded later than ``at``; returns the newest presence that is left."""
        after = (*self._key, wall_text(at))
        db.execute(
            "DELETE FROM presence WHERE account=? AND environment=? AND kind=? AND from_wall > ?", after
        )
        db.execute("DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall > ?", after)
        newest = self._newest_presence(db)
        if newest is None or facts.watch_of(newest).until <= at:
            return newest
        return _watched_until(db, newest, at)

    def _prune_strips(self, db: sqlite3.Connection, at: datetime) -> None:
        """Drop what no strip shows any more; each family's state at the beginning of one stays."""
        old = (*self._key, wall_text(at - timedelta(seconds=KEEP_S)))
        db.execute(
            "DELETE FROM presence WHERE account=? AND environment=? AND kind=? AND until_wall < ?", old
        )
        db.execute(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall < ?"
            " AND id NOT IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? AND at_wall < ? GROUP BY family)",
            (*old, *old),
        )
        db.execute(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=? AND at_wall < ? AND state=?"
            " AND id IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)",
            (*old, UNMANAGED, *self._key),
        )
        db.execute(
            "DELETE FROM turns WHERE account=? AND environment=? AND kind=?"
            " AND id <= (SELECT id FROM turns WHERE account=? AND environment=? AND kind=?"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)"
            " AND id NOT IN (SELECT max(id) FROM turns"
            " WHERE account=? AND environment=? AND kind=? GROUP BY family)",
            (*self._key, *self._key, self._state.keep_turns, *self._key),
        )

    # -- the durable steps ---------------------------------------------------------------------

    def _insert(self, db: sqlite3.Connection, budget: Budget, request: Signed, now: float) -> int:
        """Record a pending attempt."""
        setting = request.setting
        row = AttemptRow(
            checksum="",
            id=_next_id(db, "attempts"),
            kind=budget.kind.value,
            environment=budget.environment.value,
            uid=budget.uid,
            account=self._account,
            family=request.family,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            signed_at=request.timestamp,
            boot=self._state.sights.boot,
            reserved_at=now,
            reserved_wall=wall_text(self._state.clock.wall()),
            status=AttemptStatus.PENDING.value,
            definite=0,
            code="",
            message="",
            answered_boot=None,
            answered_at=None,
            settled_wall=None,
            limited=0,
            retired=0,
            resolved=0,
        )
        db.execute(
            "INSERT INTO attempts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", sealed(row)
        )
        return row.id

    def _acknowledge(self, db: sqlite3.Connection, row: AttemptRow, ages: Ages) -> AttemptRow:
        """Make the attempt's setting the confirmed one, if its acknowledgement proves that."""
        if not facts.proves(row, self._applied(db, row.family)):
            return row
        begun_at, setting = ages.reserved_at(row), setting_of(row)
        self._prove(db, row.family, setting, How.APPLIED, at=ages.now, begun_at=begun_at, ages=ages)
        return row._replace(resolved=1)

    def _prove(
        self,
        db: sqlite3.Connection,
        family: str,
        setting: Setting,
        how: How,
        *,
        at: float,
        begun_at: float,
        ages: Ages,
    ) -> None:
        """Record that ``setting`` was in force at ``at``, and end what a proof begun then ends."""
        for ended in facts.ended_by(self._open(db, family), begun_at, ages):
            _update(db, ended)
        account, environment, kind = self._key
        row = AppliedRow(
            checksum="",
            account=account,
            environment=environment,
            kind=kind,
            family=family,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            how=how.value,
            attempt=self._newest(db, family),
            boot=ages.sights.boot,
            at=float(at),
            at_wall=wall_text(self._state.clock.wall()),
        )
        db.execute("INSERT OR REPLACE INTO applied VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", sealed(row))

    def _newest(self, db: sqlite3.Connection, family: str) -> int:
        query = "SELECT max(id) FROM attempts WHERE account=? AND environment=? AND kind=? AND family=?"
        (newest,) = db.execute(query, (*self._key, family)).fetchone()
        return newest or 0

    def _prune(self, db: sqlite3.Connection, budget: Budget, attempt: int) -> None:
        """Drop old attempts that nothing depends on, now and then."""
        keep = self._state.keep_attempts
        if attempt % max(1, keep // PRUNE_STEPS):
            return
        key = _budget_key(budget)
        db.execute(
            "DELETE FROM attempts WHERE kind=? AND environment=? AND uid=? AND retired=1 AND resolved=1"
            " AND id <= (SELECT id FROM attempts WHERE kind=? AND environment=? AND uid=?"
            " ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (*key, *key, keep),
        )


def _rate_history(db: sqlite3.Connection, budget: Budget) -> facts.RateHistory:
    key = _budget_key(budget)
    counting = _attempts(
        db,
        "SELECT * FROM attempts INDEXED BY attempts_counting"
        " WHERE kind=? AND environment=? AND uid=? AND retired=0",
        key,
    )
    limited = _attempts(
        db,
        "SELECT * FROM attempts INDEXED BY attempts_limited"
        " WHERE kind=? AND environment=? AND uid=? AND limited=1"
        " ORDER BY id DESC LIMIT 1",
        key,
    )
    return facts.RateHistory(
        budget=budget,
        counting=tuple(counting),
        limited=limited[0] if limited else None,
        sends_since=_sends_after(db, key, limited[0].id) if limited else 0,
        empty=not counting and not _sends_after(db, key, 0),
    )


def _attempts(db: sqlite3.Connection, query: str, values: tuple[str, ...]) -> list[AttemptRow]:
    return [verified(AttemptRow._make(found)) for found in db.execute(query, values)]


def _sends_after(db: sqlite3.Connection, key: tuple[str, str, str], attempt: int) -> int:
    """Return how many requests after ``attempt`` were or may have been sent, up to CALM_SENDS."""
    query = (
        "SELECT count(*) FROM (SELECT 1 FROM attempts INDEXED BY attempts_sent"
        " WHERE kind=? AND environment=? AND uid=? AND status <> 'not-sent' AND id > ? LIMIT ?)"
    )
    (count,) = db.execute(query, (*key, attempt, CALM_SENDS)).fetchone()
    return int(count)


def _budget_key(budget: Budget) -> tuple[str, str, str]:
    return budget.kind.value, budget.environment.value, budget.uid


def _next_id(db: sqlite3.Connection, table: str) -> int:
    """Return the id the next row gets; it has to be known before, because the check covers it."""
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name=?", (table,)).fetchone()
    return 1 if found is None else int(found[0]) + 1


def _watched_until(db: sqlite3.Connection, row: PresenceRow, until: datetime) -> PresenceRow:
    row = sealed(row._replace(until_wall=wall_text(until)))
    db.execute(
        "UPDATE presence SET checksum=?, until_wall=? WHERE id=?", (row.checksum, row.until_wall, row.id)
    )
    return row


def _update(db: sqlite3.Connection, row: AttemptRow) -> None:
    """Write back everything of an attempt that can change after its reservation."""
    db.execute(
        "UPDATE attempts SET checksum=?, status=?, definite=?, code=?, message=?, answered_boot=?,"
        " answered_at=?, settled_wall=?, limited=?, retired=?, resolved=? WHERE id=?",
        (
            sealed(row).checksum,
            row.status,
            row.definite,
            row.code,
            row.message,
            row.answered_boot,
            row.answered_at,
            row.settled_wall,
            row.limited,
            row.retired,
            row.resolved,
            row.id,
        ),
    )


def _make_if_missing(path: str) -> None:
    if os.path.lexists(path):
        return
    try:
        files.create_whole(path, schema.empty_image())
    except OSError as error:
        raise files.unwritable(path, error) from None


def _connect(path: str, mode: str) -> sqlite3.Connection:
    """Open an existing file; SQLite must never make one."""
    return sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
    )


def _prepare(db: sqlite3.Connection) -> None:
    """Make every commit durable, and find out now rather than later if there can be none."""
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA fullfsync = ON")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


def _believe(db: sqlite3.Connection, path: str) -> None:
    """Raise StateUnusable unless the database is whole, known and as this program makes it.

    One read transaction, so that another process's migration is seen whole or not at all. The whole
    check, not the quick one: that does not hold indexes against rows, and a request that an index has
    lost would not be paced by (13 ms for 10,000 attempts).
    """
    db.execute("BEGIN")
    version = schema.version_of(db)
    if version > len(schema.MIGRATIONS):
        hint = "use that newer version, or another state (--state)"
        raise StateUnusable("state-newer", f"the state {path} was written by a newer mmp", hint)
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise files.broken(path, verdict)
    if schema.as_found(db) != schema.as_made(version):
        message = f"the state {path} does not have the tables of its version {version}"
        raise StateUnusable("state-incomplete", message, files.START_ANEW)
    db.execute("COMMIT")
    schema.migrate(db)


def _image(path: str) -> bytes:
    """Return the bytes of the database at one moment, without leaving anything beside it.

    Without a write-ahead log nobody has the file open and it says everything; if it changed under
    our eyes all the same, or there is a log, SQLite puts the two together.
    """
    before = _mark(path)
    if before is not None:
        image = Path(path).read_bytes()
        if _mark(path) == before:
            return image
    db = _connect(path, "ro")
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return db.serialize()
    finally:
        db.close()


def _mark(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None when it has a write-ahead log."""
    if os.path.exists(path + "-wal"):
        return None
    info = os.stat(path)
    return info.st_ino, info.st_size, info.st_mtime_ns


@contextmanager
def _remade(path: str) -> Iterator[None]:
    """Turn what SQLite says inside into StateUnusable."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        _raise_remade(path, error)


def _raise_remade(path: str, error: BaseException) -> NoReturn:
    """Raise ``error``, as StateUnusable if SQLite or a row's check says so."""
    match error:
        case RowDamaged():
            raise files.damaged(path, f"{error.place} does not fit its check") from None
        case sqlite3.DatabaseError():
            raise _told(path, error) from None
        case _:
            raise error


def _told(path: str, error: sqlite3.DatabaseError) -> StateUnusable:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return files.broken(path, str(error))
        case sqlite3.SQLITE_FULL:
            hint = "free some space; what was recorded before is safe"
            return StateUnusable("state-disk-full", f"no space left for the state {path}", hint)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            message = f"the state {path} was kept busy for {BUSY_TIMEOUT_S:g} s by another process"
            return StateUnusable("state-busy", message, "see what has it open (fuser, lsof) and try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            hint = "give this user the right to write the file and its directory, or use another --state"
            return StateUnusable("state-unwritable", f"cannot write the state {path}: {error}", hint)
        case _:
            hint = "see whether the disk is in order; nothing that failed was recorded"
            return StateUnusable("state-failed", f"the state {path} cannot be used: {error}", hint)
