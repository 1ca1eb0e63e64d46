"""Every durable step of an account, in one transaction each, whichever engine keeps the rows.

Proofs, attempts, pauses, overrides and accepted files are of a User ID, as the exchange has it: accounts of
one User ID share them, and a new account name loses none of them. What was seen of an account (the last
live read, the strips) is stored by its name.

This file has the order of the steps and holds no rule: ages are ``ageing``'s, meaning is ``facts``',
pacing is the core's, SQL is ``tables``'. A write is durable when its method returns, and reservations of
all processes are in one order. The clock is read inside the transaction, after the rows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice

from reconciler.core.evidence import SeenRow, reflects_until
from reconciler.core.model import (
    NO_FILE,
    Accepting,
    Environment,
    ExchangeKind,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    Pause,
    RateBudget,
    Setting,
)
from reconciler.core.monitoring.state_timeline import (
    KEEP_S,
    UNMANAGED,
    Segment,
    Timeline,
    build_timeline,
    changed_states,
    continues,
    monotonic_wall,
)
from reconciler.core.pacing import Ledger, earliest_slot
from reconciler.core.pauses import replaces
from reconciler.core.replica_assignment import Replica, lease_name
from reconciler.core.reply import AttemptStatus
from reconciler.core.saved_plan import APPLIED_CHANGES_RETENTION
from reconciler.core.state_records import (
    AcceptedRecord,
    AttemptLog,
    LockHolder,
    NameRecord,
    OverrideRecord,
    PolicyRecord,
    ProofKind,
    StateSnapshot,
)
from reconciler.errors import MmpError, StateAccountMismatch, StateLocked, StateUnavailable
from reconciler.ports import (
    NO_ACCEPTING,
    NO_ROWS,
    AppliedMeanwhile,
    NoSlotUntil,
    PausedMeanwhile,
    RecordedInputs,
    Reservation,
    SignedRequest,
)
from reconciler.store import queries, row_mapping
from reconciler.store.engine import Engine, WriteScope
from reconciler.store.file_locks import StoreMisuse
from reconciler.store.queries import SelectQuery, budget_key
from reconciler.store.row_clock import RowClock
from reconciler.store.row_mapping import RateHistory
from reconciler.store.rows import (
    LOST,
    MAX_DOCUMENT,
    AcceptedRow,
    AppliedRow,
    AttemptRow,
    FileRow,
    IdentityRow,
    LiveReadRow,
    ObservedPeriodRow,
    OverrideRow,
    PlanChangeRow,
    PolicyRow,
    StateChangeRow,
    file_of,
    live_document,
    sanitized,
    setting_of,
    storable,
    wall_text,
)
from reconciler.store.table_access import Numbered, Tables, readable

PRUNE_STEPS = 100
"""Pruning is done once for every hundredth part of what is kept."""

KEEP_FILES = 10_000
"""Contents of settings files remembered per User ID: enough for a file edited every minute for a week.
Forgotten content that returns counts as new."""

KEEP_POLICIES = 100
"""Policies remembered per User ID: the newest counts, the others are history."""

TURNS_AT_ONCE = 1000
"""Turns that are read without a pause: some 5 ms."""

_SETTLED = frozenset({AttemptStatus.REJECTED, AttemptStatus.NOT_SENT})
"""Outcomes that leave the family as it was."""


class SqlAccountStore:
    """``ports.AccountStore`` of one account in one environment with one kind of exchange."""

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        self._engine = engine
        self._account = account
        self._environment = environment
        self._kind = kind
        self._key = (account, environment.value, kind.value)
        self._lock_name = lease_name(account, environment, kind)
        self._controller_lock = f"{self._lock_name}.controller"
        self._controls = False
        self._budget: RateBudget | None = None
        self._host: str | None = None
        self._reserved: dict[int, AttemptRow] = {}
        self._watch: int | None = None
        self._state_id: str | None = None
        self._plan = ""
        self._plan_changes: Mapping[Family, Setting] = {}

    # -- who ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def locked(self, purpose: str, *, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Hold the account's lock; raises StateLocked, naming the holder, after ``timeout_s``.

        None: after the state's lock timeout.
        """
        await self._take_lock(purpose, self._engine.lock_timeout_s if timeout_s is None else timeout_s)
        try:
            yield
        finally:
            await self._engine.locks.release(self._lock_name)

    async def lock_holder(self) -> LockHolder | None:
        """Return who holds the account's lock now; None when nobody does."""
        return await self._engine.locks.holder(self._lock_name)

    async def owner(self) -> Replica | None:
        """Return the replica that keeps the account; None when none does."""
        return await self._engine.owner(self._lock_name)

    async def identify(self, uid: str, host: str) -> str | None:
        """Stamp or check the owner; returns the previous host when it was another one.

        A state opened for reading is checked and not stamped. Raises StateForeign for another uid
        or kind.
        """
        if self._engine.frozen:
            found = await self._identity_read(uid)
        else:
            await self._register(RateBudget(self._kind, self._environment, uid))
            asks = queries.identity(*self._key[:2])
            async with self._engine.writing(WriteScope(self._key, ahead=(asks,))) as tables:
                found = await self._checked_identity(tables, uid)
                if found is None or found.host != host:
                    wall = wall_text(self._engine.clock.wall())
                    await tables.upsert(IdentityRow("", *self._key, uid, sanitized(host), wall))
        self._budget, self._host = RateBudget(self._kind, self._environment, uid), host
        return found.host if found is not None and found.host != host else None

    async def check_identity(self, uid: str) -> None:
        """Check the owner and change nothing; raises StateForeign for another uid or kind."""
        await self._identity_read(uid)
        self._budget = RateBudget(self._kind, self._environment, uid)

    def apply_plan(self, plan: str, changes: Mapping[Family, Setting]) -> None:
        """Record requests and adoptions as changes of the saved plan with this id from now on."""
        self._plan, self._plan_changes = plan, changes

    # -- who controls it ------------------------------------------------------------------------

    async def try_control(self, purpose: str) -> bool:
        """Become the account's controller, or return False at once where another process is."""
        if self._engine.has_leases or self._controls:
            return True
        locks, name, holder = self._engine.locks, self._controller_lock, self._holder(purpose)
        self._controls = await locks.take(name, holder) or (
            # A process that checks who holds the lock holds it for a moment itself.
            await locks.holder(name) is None and await locks.take(name, holder)
        )
        return self._controls

    async def release_control(self) -> None:
        """Stop being the account's controller, and using the state for it on this machine."""
        if self._engine.registry is not None and self._budget is not None:
            self._engine.registry.release(self._budget, self._lock_name)
        if self._controls:
            self._controls = False
            await self._engine.locks.release(self._controller_lock)

    async def controller(self) -> LockHolder | None:
        """Return the account's controller; None when there is none, or none that can be named."""
        return None if self._engine.has_leases else await self._engine.locks.holder(self._controller_lock)

    # -- what a pass needs ----------------------------------------------------------------------

    async def recorded_inputs(self) -> RecordedInputs:
        """Return all that a plan rests on, as of one moment.

        A server that failed over may have lost the account's identity. It is recorded again, otherwise the
        commands of people would not find the account.
        """
        budget, whose = self._identified(), queries.identity(*self._key[:2])
        tried = queries.all_tries(budget), queries.newest_acknowledged(budget)
        of_plan = (queries.plan_changes(budget, self._plan),) if self._plan else ()
        others = queries.all_accepted(budget), queries.pauses(budget), *of_plan
        asks = (*_asks_known(budget), *others, *tried)
        async with self._deciding(whose, *asks, *queries.rate(budget)) as tables:
            identity = await tables.identity(*self._key[:2])
            applied, attempts = await tables.all_applied(budget), await tables.all_open(budget)
            kept, tries = await _pauses_on_record(tables, budget), await tables.all_tries(budget)
            acknowledged = await tables.newest_acknowledged(budget)
            accepted = await tables.all_accepted(budget)
            applied_changes = await tables.plan_changes(budget, self._plan) if self._plan else []
            history = self._with_uncommitted(await tables.rate_history(budget))
        row_clock = self._row_clock()
        if identity is None and self._host is not None:
            await self.identify(budget.uid, self._host)
        return RecordedInputs(
            known=row_mapping.known_from_rows(applied, attempts, row_clock),
            pauses=_holding(kept, self._engine.clock.wall()),
            ledger=row_mapping.ledger_from_rows(history, row_clock),
            retries=row_mapping.retries_from_rows(tries, acknowledged, row_clock),
            accepted=row_mapping.accepted_from_rows(accepted),
            applied=row_mapping.applied_changes(applied_changes),
        )

    async def known(self) -> Mapping[Family, Known]:
        """Return what is known of every family on record (never Never)."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return {}
        async with self._deciding(*_asks_known(budget)) as tables:
            applied, attempts = await tables.all_applied(budget), await tables.all_open(budget)
        return row_mapping.known_from_rows(applied, attempts, self._row_clock())

    async def ledger(self) -> Ledger:
        """Return the pacing ledger of this account's User ID."""
        budget = self._identified()
        async with self._deciding(*queries.rate(budget)) as tables:
            history = self._with_uncommitted(await tables.rate_history(budget))
        return row_mapping.ledger_from_rows(history, self._row_clock())

    async def accept_file(self, sha256: str, *, changed: bool) -> FileVersion:
        """Record that this content of the settings file is in force; writes only if that is new."""
        budget = self._identified()
        asks = (queries.file(budget, sha256), queries.newest_number(budget))
        async with self._engine.reading(None, *asks) as tables:
            accepted = await _accepted(tables, budget, sha256, changed=changed)
        if accepted is not None:
            return accepted
        async with self._writing(*asks) as tables:
            accepted = await _accepted(tables, budget, sha256, changed=changed)
            return accepted or await self._accept(tables, budget, sha256)

    async def reserve(
        self,
        request: SignedRequest,
        *,
        assume_idle: bool,
        by: float = float("inf"),
        file: FileVersion = NO_FILE,
        keep_free: int = 0,
        accepting: Accepting | None = None,
    ) -> Reservation | NoSlotUntil | PausedMeanwhile | AppliedMeanwhile:
        """Reserve a slot now, ``by`` an instant at the latest, in one transaction, or say why not.

        Where its COMMIT fails, it may be on record: nothing is sent on it, and it counts for the rate.
        """
        budget, family = self._identified(), request.family
        await self._register(budget)
        asks = (
            queries.pause(budget, family),
            queries.tries_of(budget, family),
            *((queries.accepted_of(budget, family),) if accepting else ()),
            *((queries.plan_change(budget, self._plan, family),) if self._plan else ()),
            *queries.rate(budget),
        )
        numbers = (AttemptRow, AcceptedRow) if accepting else (AttemptRow,)
        async with self._reserving(*asks, numbers=numbers) as (tables, recorded):
            pause = await tables.pause(budget, family)
            if row_mapping.pauses_request(pause, request.setting, self._engine.clock.wall()):
                return PausedMeanwhile()
            if self._plan and await tables.plan_change(budget, self._plan, family) is not None:
                return AppliedMeanwhile()
            history = await tables.rate_history(budget)
            row_clock = self._row_clock()
            ledger = row_mapping.ledger_from_rows(self._with_uncommitted(history), row_clock)
            slot = earliest_slot(ledger, row_clock.now, assume_idle=assume_idle, keep_free=keep_free)
            if slot > row_clock.now or row_clock.now > by:
                return NoSlotUntil(slot)
            accepted = None if accepting is None else await tables.next_id(AcceptedRow)
            earlier = [] if accepting is None else await tables.accepted_of(budget, family)
            attempt = await self._record_attempt(tables, budget, request, file, row_clock)
            if accepting is not None and accepted is not None:
                how = ProofKind.APPLIED
                new = self._accepted(accepted, family, accepting, how, attempt.id, file)
                await self._accept_setting(tables, [new], earlier)
            for row in row_mapping.retired(history, row_clock):
                await tables.update_attempt(row)
            await self._prune(tables, budget, attempt.id)
            recorded.append(attempt)
        self._reserved[attempt.id] = attempt
        if self._engine.registry is not None and self._state_id is not None:
            await self._engine.registry.reserved(budget, self._state_id, attempt.reserved_at)
        return Reservation(attempt.id, row_clock.now)

    async def settle(
        self,
        attempt: int,
        status: AttemptStatus,
        *,
        definite: bool,
        limited: bool,
        code: str,
        message: str,
        tried: bool = True,
    ) -> None:
        """Record what came of an attempt, durably; each is settled once, by whoever reserved it."""
        budget = self._identified()
        async with self._writing(*self._asks_of_verdict(budget, attempt, status)) as tables:
            pending = await self._pending(tables, budget, attempt, definite=definite)
            row_clock = self._row_clock()
            row = pending._replace(
                status=status.value,
                definite=int(definite),
                limited=int(limited),
                code=sanitized(code),
                message=sanitized(message),
                settled_wall=wall_text(self._engine.clock.wall()),
                resolved=int(pending.resolved or status in _SETTLED),
            )
            if definite:
                # It arrived by now, perhaps only now: it counts again, even if its L was over.
                row = row._replace(
                    answered_boot=row_clock.first_seen.boot, answered_at=row_clock.now, retired=0
                )
            if status is AttemptStatus.NOT_SENT:
                row = row._replace(retired=1)
            if not tried:
                row = row._replace(tries=0)
            if status is AttemptStatus.APPLIED:
                row = await self._acknowledge(tables, budget, row, row_clock)
            if status in _SETTLED:
                await self._take_back_acceptance(tables, budget, row)
            await tables.update_attempt(row)
        self._reserved.pop(attempt, None)

    async def adopt(
        self,
        settings: Mapping[Family, Setting],
        *,
        read_begun_at: float,
        file: FileVersion = NO_FILE,
        accepting: Mapping[Family, Accepting] = NO_ACCEPTING,
    ) -> frozenset[Family]:
        """Record settings a live read proved in force; returns the families recorded.

        Attempts that may still land stay open: of another value, they leave the family uncertain. What was
        attempted or proven since the read began is left alone: the read may not show it. If the lock was
        lost, another process may have written since the read: nothing is adopted, raises StateLocked.
        """
        budget = self._identified()
        asks = (
            *_asks_known(budget),
            queries.all_tries(budget),
            queries.newest_attempts(budget),
            queries.lost_attempts(budget),
            *((queries.all_accepted(budget),) if accepting else ()),
        )
        async with self._writing(*asks, held=self._lock_name) as tables:
            row_clock = self._row_clock()
            attempts, applied = await tables.all_open(budget), await tables.all_applied(budget)
            tries, newest = await tables.all_tries(budget), await tables.newest_attempts(budget)
            later = row_mapping.changed_since(attempts, applied, read_begun_at, row_clock)
            adopted = {family: setting for family, setting in settings.items() if family not in later}
            accepted = await self._accepted_by_read(tables, budget, adopted, accepting, newest, file)
            since = reflects_until(read_begun_at)
            await self._doubt_newcomers(tables, budget, adopted, since, row_clock)
            changed = row_mapping.resolved_by(
                (row for row in attempts if row.family in adopted), since, row_clock
            )
            changed += row_mapping.tries_resolved_by(tries, adopted)
            for row in row_mapping.merged(changed):
                await tables.update_attempt(row)
            for family, setting in adopted.items():
                proof = self._proof(
                    family,
                    setting,
                    ProofKind.ADOPTED,
                    newest.get(family, 0),
                    file,
                    row_clock,
                    at=read_begun_at,
                )
                await tables.upsert(proof)
            await self._accept_setting(tables, *accepted)
            await self._record_plan_changes(tables, budget, attempts, adopted, ProofKind.ADOPTED)
        return frozenset(adopted)

    async def record_in_force(self, families: Collection[Family]) -> None:
        """Record that changes of the saved plan were found in force, with nothing to be sent."""
        budget = self._identified()
        found = {family: self._plan_changes[family] for family in families}
        async with self._writing(held=self._lock_name) as tables:
            await self._record_plan_changes(tables, budget, [], found, ProofKind.ADOPTED)

    async def end_attempts(self, families: Collection[Family], *, read_begun_at: float) -> None:
        """End the open attempts of families that a live read shows to have been superseded."""
        budget = self._identified()
        async with self._writing(queries.all_open(budget), held=self._lock_name) as tables:
            attempts = [row for row in await tables.all_open(budget) if row.family in families]
            for row in row_mapping.resolved_by(attempts, reflects_until(read_begun_at), self._row_clock()):
                await tables.update_attempt(row)

    async def record_live(self, read: LiveRead, *, last_seen: Mapping[Family, LiveRow] = NO_ROWS) -> None:
        """Keep the latest live read, and the last rows of families that it leaves out."""
        wall = wall_text(self._engine.clock.wall())
        async with self._engine.writing(WriteScope(self._key)) as tables:
            await tables.upsert(LiveReadRow("", *self._key, live_document(read, last_seen), wall))

    async def last_rows(self) -> Mapping[Family, SeenRow]:
        """Return the rows last read of the User ID; older than a proof, they count as seen long ago."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return {}
        asks = (queries.live_reads(budget), queries.all_applied(budget))
        async with self._engine.reading(None, *asks) as tables:
            reads, applied = await tables.live_reads(budget), await tables.all_applied(budget)
        return row_mapping.seen_rows(reads, applied, self._row_clock())

    # -- pauses ---------------------------------------------------------------------------------

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the pauses in force by their time at this moment, by family."""
        budget = await self._found()
        if budget is None:
            return ()
        wall = self._engine.clock.wall()
        async with self._engine.reading(None, queries.pauses(budget)) as tables:
            kept = await _pauses_on_record(tables, budget)
        return _holding(kept, wall)

    async def pause(
        self,
        families: Iterable[Family],
        *,
        until: datetime | None,
        reason: str,
        fought: Mapping[Family, Setting] | None = None,
    ) -> None:
        """Pause families until a time of day (None: until resumed), as a fight's where ``fought`` says.

        A reservation claims the same User ID, so after this has returned, no request of these families is
        reserved.
        """
        budget, wall = await self._used(), self._engine.clock.wall()
        async with self._writing(queries.pauses(budget), budget=budget) as tables:
            before = await _pauses_on_record(tables, budget)
            for family in families:
                pause = Pause(family, reason, wall, until, (fought or {}).get(family))
                if replaces(pause, before.get(family), wall):
                    await tables.upsert(row_mapping.pause_row(pause, budget, self._account))

    async def clear_heal_breakers(self, fought: Mapping[Family, Setting]) -> None:
        """End the fight's pauses of families that are about exactly these settings."""
        budget = self._identified()
        async with self._writing(queries.pauses(budget)) as tables:
            before = await _pauses_on_record(tables, budget)
            for family, setting in fought.items():
                if family in before and before[family].contested == setting:
                    await tables.drop_pause(budget, family)

    async def resume(self, families: Iterable[Family]) -> None:
        """End the pauses of families; harmless where there is none."""
        budget = await self._used()
        async with self._writing(budget=budget) as tables:
            for family in families:
                await tables.drop_pause(budget, family)

    # -- the policy -----------------------------------------------------------------------------

    async def policy_on_record(self) -> PolicyRecord | None:
        """Return the policy that was recorded last; None where none was, or a person gave it up."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return None
        async with self._engine.reading(None, queries.newest_policy(budget)) as tables:
            row = await tables.newest_policy(budget)
        return None if row is None or row.given_up is not None else row_mapping.policy_record(row)

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """Return at most ``limit`` policies that were in force or given up, newest first."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return []
        async with self._engine.reading(None, queries.policies(budget)) as tables:
            rows = await tables.policies(budget)
        return [row_mapping.policy_record(row) for row in rows[:limit]]

    async def record_policy(self, sha256: str, path: str, document: str) -> None:
        """Record that a policy is in force; writes only if that is new."""
        newest = await self.policy_on_record()
        if newest is not None and newest.sha256 == sha256:
            return
        asks = queries.newest_policy(self._identified())
        async with self._writing(asks, numbers=(PolicyRow,)) as tables:
            row = await tables.newest_policy(self._identified())
            if row is None or row.given_up is not None or row.sha256 != sha256:
                await self._record_policy(tables, sha256, path, document, None)

    async def give_up_policy(self, sha256: str, reason: str) -> bool:
        """Record that a person gives up the policy on record; False where that is another, or none.

        A policy that was given up is not given up again.
        """
        asks = queries.newest_policy(self._identified())
        async with self._writing(asks, numbers=(PolicyRow,)) as tables:
            row = await tables.newest_policy(self._identified())
            if row is None or row.given_up is not None or row.sha256 != sha256:
                return False
            await self._record_policy(tables, sha256, row.path, row.document, sanitized(reason))
        return True

    async def _record_policy(
        self, tables: Tables, sha256: str, path: str, document: str, given_up: str | None
    ) -> None:
        """Record a policy, and forget the oldest ones."""
        budget, wall = self._identified(), wall_text(self._engine.clock.wall())
        text = (sanitized(sha256), storable(path), storable(document[:MAX_DOCUMENT]))
        number = await tables.next_id(PolicyRow)
        key = budget_key(budget)
        await tables.insert(PolicyRow("", number, *key, self._account, *text, given_up, wall))
        await tables.prune_policies(budget, KEEP_POLICIES)

    # -- what is shown --------------------------------------------------------------------------

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        """Keep for the history that a refusal was overridden by name, and why."""
        budget, wall = self._identified(), wall_text(self._engine.clock.wall())
        async with self._engine.writing(WriteScope(self._key, numbers=(OverrideRow,))) as tables:
            number = await tables.next_id(OverrideRow)
            told = (family, self._account, sanitized(refusal), sanitized(reason), wall)
            await tables.insert(OverrideRow("", number, *budget_key(budget), *told))

    async def overrides(self, limit: int, family: str = "*") -> list[OverrideRecord]:
        """Return at most ``limit`` overrides of families matching the glob, newest first."""
        budget = await self._found()
        if budget is None:
            return []
        async with self._engine.reading(None, queries.overrides(budget)) as tables:
            rows = await tables.overrides(budget)
        chosen = (row for row in rows if fnmatchcase(row.family, family))
        return [row_mapping.override_record(row) for row in islice(chosen, limit)]

    async def accepted_log(self, limit: int, family: str = "*") -> list[AcceptedRecord]:
        """Return at most ``limit`` accepted settings of families matching the glob, newest first."""
        budget = await self._found()
        if budget is None:
            return []
        async with self._engine.reading(None, queries.all_accepted(budget)) as tables:
            rows = await tables.all_accepted(budget)
        return row_mapping.accepted_log([row for row in rows if fnmatchcase(row.family, family)])[:limit]

    async def history(self, limit: int, family: str = "*") -> AttemptLog:
        """Return at most ``limit`` attempts of families matching the glob ``family``, newest first."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return AttemptLog()
        async with self._engine.reading(None, queries.history(budget)) as tables:
            rows, damaged = await tables.history(budget)
        chosen = (row for row in rows if row.status != LOST and fnmatchcase(row.family, family))
        return AttemptLog([row_mapping.attempt_record(row) for row in islice(chosen, limit)], damaged)

    async def names(self) -> tuple[NameRecord, ...]:
        """Return every account of this environment that is on record, by name."""
        environment = self._environment.value
        async with self._engine.reading(None, queries.identities(environment)) as tables:
            rows = await tables.identities(environment)
        return tuple(NameRecord(row.account, ExchangeKind(row.kind), row.uid) for row in rows)

    async def snapshot(self) -> StateSnapshot:
        """Return all that is on record of the account; changes nothing."""
        budget, history = self._budget, None
        applied: list[AppliedRow] = []
        attempts: list[AttemptRow] = []
        accepted: list[AcceptedRow] = []
        async with self._engine.reading(None) as tables:
            identity = await tables.identity(*self._key[:2])
            if budget is None and identity is not None and identity.kind == self._kind.value:
                budget = self._budget_of(identity)
            if budget is not None:
                history = self._with_uncommitted(await tables.rate_history(budget))
                applied, attempts = await tables.all_applied(budget), await tables.all_open(budget)
                accepted = await tables.all_accepted(budget)
            live, damaged = await tables.live(self._key)
        row_clock = self._row_clock()
        return StateSnapshot(
            kind=None if identity is None else ExchangeKind(identity.kind),
            uid=None if identity is None else identity.uid,
            host=None if identity is None else identity.host,
            known=row_mapping.known_from_rows(applied, attempts, row_clock),
            applied={Family(row.family): row_mapping.applied_record(row) for row in applied},
            open_attempts=tuple(row_mapping.attempt_record(row) for row in attempts if row.status != LOST),
            ledger=None if history is None else row_mapping.ledger_from_rows(history, row_clock),
            live=row_mapping.live_record(live[0]) if live else None,
            accepted=row_mapping.accepted_from_rows(accepted),
            damaged=damaged,
        )

    # -- strips ---------------------------------------------------------------------------------

    async def record_states(self, states: Mapping[Family, str]) -> None:
        """Record that the account is watched, and which families are in another state than before."""
        asks = (queries.newest_presence(self._key), queries.last_turns(self._key))
        async with self._engine.writing(WriteScope(self._key, ahead=asks)) as tables:
            at, newest = await self._look(tables, self._engine.clock.wall())
            before = {Family(row.family): row.state for row in await tables.last_turns(self._key)}
            watch = await self._looked(tables, newest, at)
            changed = changed_states(before, states)
            numbers = await tables.next_ids(StateChangeRow, len(changed)) if changed else ()
            await tables.insert_all(
                [
                    StateChangeRow("", number, *self._key, family, sanitized(state), wall_text(at))
                    for number, (family, state) in zip(numbers, changed.items(), strict=True)
                ]
            )
            if watch != self._watch or changed:
                oldest = wall_text(at - timedelta(seconds=KEEP_S))
                await tables.prune_strips(self._key, oldest, UNMANAGED, self._engine.keep_state_changes)
        self._watch = watch

    async def timeline(self, since: datetime) -> Mapping[Family, tuple[Segment, ...]]:
        """Return the strip of each family from ``since`` to this moment."""
        draw = await self.read_timeline(since)
        return draw().spans

    async def read_timeline(
        self, since: datetime, pause: Callable[[], Awaitable[None]] | None = None
    ) -> Callable[[], Timeline]:
        """Read what strips are drawn from, and return what draws them, in whatever thread."""
        asks = (queries.presence(self._key), queries.turns_after(self._key, "", 0, TURNS_AT_ONCE))
        async with self._engine.reading(None, *asks) as tables:
            presence, damaged = await tables.presence(self._key)
            newest = turns = await tables.unverified_turns(asks[1])
        now, watching = self._engine.clock.wall(), bool(presence) and presence[-1].id == self._watch
        while len(newest) == TURNS_AT_ONCE:
            if pause is not None:
                await pause()
            ask = queries.turns_after(self._key, newest[-1].family, newest[-1].id, TURNS_AT_ONCE)
            async with self._engine.reading(None, ask) as tables:
                newest = await tables.unverified_turns(ask)
            turns = turns + newest

        def draw() -> Timeline:
            changes = readable(turns)
            spans = build_timeline(
                [row_mapping.observed_period_of(row) for row in presence],
                [row_mapping.state_change_of(row) for row in changes.rows],
                since=since,
                now=now,
                watching=watching,
                max_gap_s=self._engine.max_gap_s,
            )
            return Timeline(spans, damaged + changes.damaged)

        return draw

    async def _look(self, tables: Tables, wall: datetime) -> tuple[datetime, ObservedPeriodRow | None]:
        """Return the time a look at ``wall`` counts as, and the newest watch; forget what is later."""
        newest = await tables.newest_presence(self._key)
        at = monotonic_wall(
            None if newest is None else row_mapping.observed_period_of(newest).until,
            wall,
            self._engine.max_gap_s,
        )
        if newest is not None and at < row_mapping.observed_period_of(newest).until:
            newest = await self._forget_after(tables, at)
        return at, newest

    async def _looked(self, tables: Tables, newest: ObservedPeriodRow | None, at: datetime) -> int:
        """Record that this process looked at ``at``; returns the number of the watch that is part of.

        A watch of another process is never gone on with, of one before this one neither.
        """
        ours = newest is not None and newest.id == self._watch
        if (
            newest is not None
            and ours
            and continues(row_mapping.observed_period_of(newest), at, self._engine.max_gap_s)
        ):
            await tables.watched_until(newest, wall_text(at))
            return newest.id
        number = await tables.next_id(ObservedPeriodRow)
        await tables.insert(ObservedPeriodRow("", number, *self._key, wall_text(at), wall_text(at)))
        return number

    async def _forget_after(self, tables: Tables, at: datetime) -> ObservedPeriodRow | None:
        """Forget what was recorded later than ``at``; returns the newest presence that is left."""
        await tables.forget_after(self._key, wall_text(at))
        newest = await tables.newest_presence(self._key)
        if newest is None or row_mapping.observed_period_of(newest).until <= at:
            return newest
        return await tables.watched_until(newest, wall_text(at))

    # -- locking and identity -------------------------------------------------------------------

    async def _take_lock(self, purpose: str, timeout_s: float) -> None:
        clock, locks = self._engine.clock, self._engine.locks
        deadline = clock.now() + timeout_s
        holder = self._holder(purpose)
        while not await locks.take(self._lock_name, holder):
            now = clock.now()
            if now >= deadline:
                raise await self._locked_out()
            await clock.sleep_until(min(deadline, now + locks.poll_s))

    def _holder(self, purpose: str) -> LockHolder:
        """Return this process as the holder of a lock that it takes now."""
        wall = wall_text(self._engine.clock.wall())
        return LockHolder(os.getpid(), os.uname().nodename, sanitized(purpose), wall)

    async def _locked_out(self) -> StateLocked:
        holder = await self.lock_holder()
        by = "another process" if holder is None else str(holder)
        message = f"the state {self._engine.place} of account {self._account} is held by {by}"
        hint = "wait until it is done, or give more time with --lock-timeout"
        return StateLocked("state-locked", message, hint)

    def _identified(self) -> RateBudget:
        if self._budget is None:
            raise StoreMisuse("identify comes before ledger and reserve")
        return self._budget

    async def _used(self) -> RateBudget:
        """Return whose account it is; raises MmpError if that was never recorded."""
        budget = await self._found()
        if budget is None:
            whose = f"account {self._account} ({self._environment.value})"
            hint = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"
            message = f"the state {self._engine.place} was never used for {whose}"
            raise MmpError("state-unused", message, hint)
        return budget

    async def _found(self, *, any_kind: bool = True) -> RateBudget | None:
        """Return whose account it is, as this process or the record says; None while neither does.

        A record of another kind of exchange counts only with ``any_kind``.
        """
        if self._budget is not None:
            return self._budget
        asks = queries.identity(*self._key[:2])
        async with self._engine.reading(None, asks) as tables:
            identity = await tables.identity(*self._key[:2])
        if identity is None or (identity.kind != self._kind.value and not any_kind):
            return None
        return self._budget_of(identity)

    def _budget_of(self, identity: IdentityRow) -> RateBudget:
        return RateBudget(ExchangeKind(identity.kind), self._environment, identity.uid)

    async def _register(self, budget: RateBudget) -> None:
        """Register the state on this machine, before it is written with for a User ID.

        Raises AccountProblem while another state is in use for it, or a request of this machine may count
        that is not on record here; StateForeign for the wrong account.
        """
        registry, engine = self._engine.registry, self._engine
        if registry is None:
            return
        if self._state_id is None or not engine.has_leases:
            async with engine.reading(None, queries.state()) as tables:
                row = await tables.state()
            self._state_id, moved = row.state_id, row_mapping.moved_to(row)
            if moved is not None:
                raise row_mapping.state_moved(engine.place, moved)
        if self._budget is None:
            await self._identity_read(budget.uid)

        async def is_on_record(boot: str, at: float) -> bool:
            asks = queries.reserved_then(budget, boot, at)
            async with engine.reading(None, asks) as tables:
                return await tables.reserved_then(budget, boot, at)

        whose, is_file = (budget, self._lock_name, self._state_id), not engine.has_leases
        await registry.claim(*whose, engine.place, is_on_record, is_file=is_file)

    async def _identity_read(self, uid: str) -> IdentityRow | None:
        """Return whose account it is, without writing to the state; raises StateForeign."""
        async with self._engine.reading(None, queries.identity(*self._key[:2])) as tables:
            return await self._checked_identity(tables, uid)

    async def _checked_identity(self, tables: Tables, uid: str) -> IdentityRow | None:
        """Return whose account it is, None while nobody said; raises StateForeign for another."""
        found = await tables.identity(*self._key[:2])
        if found is None:
            return None
        whose = f"the state {self._engine.place} of account {self._account} ({self._environment.value})"
        if found.kind != self._kind.value:
            hint = f"name the state used with {self._kind.value} (--state), and keep the simulator's apart"
            message = f"{whose} was made with {found.kind}, and this is {self._kind.value}"
            raise StateAccountMismatch("state-foreign-kind", message, hint)
        if found.uid != uid:
            hint = (
                "use the key of that account, or give this User ID an account name of its own in its file"
            )
            message = f"{whose} belongs to User ID {found.uid}, and this key is of {uid}"
            raise StateAccountMismatch("state-foreign-uid", message, hint)
        return found

    def _row_clock(self) -> RowClock:
        """Return the ages of rows read before this call."""
        return RowClock(self._engine.first_seen, float(self._engine.clock.now()))

    # -- what may have been lost ----------------------------------------------------------------

    @asynccontextmanager
    async def _writing(
        self,
        *ahead: SelectQuery,
        held: str | None = None,
        numbers: tuple[type[Numbered], ...] = (),
        budget: RateBudget | None = None,
    ) -> AsyncIterator[Tables]:
        """Write about the requests of the account's User ID; the first to do so after a loss records it.

        ``budget``: whose they are, if this process itself did not identify the account.
        """
        of = budget or self._budget
        async with self._engine.writing(WriteScope(self._key, of, held, ahead, numbers)) as tables:
            if tables.lost and of is not None:
                await self._record_loss(tables, of)
            yield tables

    @asynccontextmanager
    async def _reserving(
        self, *ahead: SelectQuery, numbers: tuple[type[Numbered], ...]
    ) -> AsyncIterator[tuple[Tables, list[AttemptRow]]]:
        """Write reservations; those put in the list count for the rate even if their COMMIT fails."""
        recorded: list[AttemptRow] = []
        try:
            async with self._writing(*ahead, held=self._lock_name, numbers=numbers) as tables:
                yield tables, recorded
        except BaseException:
            for row in recorded:
                self._engine.first_seen.remember_uncommitted(row, float(self._engine.clock.now()))
            raise

    def _with_uncommitted(self, history: RateHistory) -> RateHistory:
        return row_mapping.with_uncommitted(history, self._engine.first_seen.uncommitted)

    @asynccontextmanager
    async def _deciding(self, *only: SelectQuery) -> AsyncIterator[Tables]:
        """Read what is decided by, after a loss that nobody recorded yet has been."""
        async with self._engine.reading(self._budget, *only) as tables:
            if self._engine.frozen or not tables.lost:
                yield tables
                return
        async with self._writing() as tables:
            yield tables

    async def _record_loss(self, tables: Tables, budget: RateBudget) -> None:
        wall = self._engine.clock.wall()
        on_record = await tables.on_record(budget)
        lost = row_mapping.lost_attempts(budget, on_record, self._account, self._row_clock(), wall)
        await tables.insert_attempts(lost)

    async def _doubt_newcomers(
        self,
        tables: Tables,
        budget: RateBudget,
        families: Iterable[Family],
        since: float,
        row_clock: RowClock,
    ) -> None:
        """Doubt families that are adopted as the first of them on record, where that may have been lost.

        None can be written for the first time before that is over: the same loss counts against the rate.
        """
        lost = await tables.lost_attempts(budget)
        for family in families if lost else ():
            doubt = row_mapping.lost_attempt_for(lost, self._account, family, since, row_clock)
            if doubt is not None and not await _is_on_record(tables, budget, family):
                await tables.insert_attempts([doubt])

    def _asks_of_verdict(
        self, budget: RateBudget, attempt: int, status: AttemptStatus
    ) -> tuple[SelectQuery, ...]:
        """Return what a verdict is recorded by, as far as this process knows what it is about."""
        asks, reserved = queries.attempt(budget, attempt), self._reserved.get(attempt)
        if reserved is None or status not in {AttemptStatus.APPLIED, *_SETTLED}:
            return (asks,)
        of = (budget, reserved.family)
        if status in _SETTLED:
            return asks, queries.accepted_of(*of), queries.applied(*of), queries.open_of(*of)
        return (
            asks,
            queries.tries_of(*of),
            queries.applied(*of),
            queries.open_of(*of),
            queries.newest_attempt(*of),
        )

    # -- the durable steps ----------------------------------------------------------------------

    async def _accept(self, tables: Tables, budget: RateBudget, sha256: str) -> FileVersion:
        """Give content of the settings file the next number."""
        number = await tables.newest_number(budget) + 1
        wall = wall_text(self._engine.clock.wall())
        await tables.upsert(
            FileRow("", *budget_key(budget), sanitized(sha256), number, self._account, wall)
        )
        if number > KEEP_FILES:
            await tables.prune_files(budget, number - KEEP_FILES)
        return FileVersion(sha256, number)

    async def _pending(
        self, tables: Tables, budget: RateBudget, attempt: int, *, definite: bool
    ) -> AttemptRow:
        """Return the row of an attempt of this process; one that was lost is remembered, and counts."""
        row = await tables.attempt(budget, attempt)
        reserved = self._reserved.get(attempt)
        if reserved is not None and (row is None or not row_mapping.same_attempt(row, reserved)):
            row_clock = self._row_clock()
            if definite:
                reserved = reserved._replace(
                    answered_boot=row_clock.first_seen.boot, answered_at=row_clock.now
                )
            row_clock.first_seen.remember_uncommitted(reserved, row_clock.now)
            hint = "nothing has to be done: what may have been lost is counted and read back"
            message = f"the record of request {attempt} was lost by the server of the state"
            raise StateUnavailable("state-record-lost", message, hint)
        if row is None or row.status != AttemptStatus.PENDING.value:
            raise StoreMisuse(f"attempt {attempt} is not pending: it cannot be settled")
        return row

    async def _record_attempt(
        self,
        tables: Tables,
        budget: RateBudget,
        request: SignedRequest,
        file: FileVersion,
        row_clock: RowClock,
    ) -> AttemptRow:
        """Record a pending attempt; it counts as a try until its result is known."""
        setting = request.setting
        earlier = await tables.tries_of(budget, request.family)
        row = AttemptRow(
            checksum="",
            id=await tables.next_id(AttemptRow),
            kind=budget.kind.value,
            environment=budget.environment.value,
            uid=budget.uid,
            account=self._account,
            family=request.family,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            signed_at=request.timestamp,
            boot=row_clock.first_seen.boot,
            reserved_at=row_clock.now,
            reserved_wall=wall_text(self._engine.clock.wall()),
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
            tries=row_mapping.tries_after(earlier, setting),
            file_sha256=file.sha256,
            file_number=file.number,
            plan=self._plan,
        )
        await tables.insert(row)
        for old in earlier[:-1]:  # the last one has the count, should this one never be sent
            await tables.update_attempt(old._replace(tries=0))
        return row

    async def _take_back_acceptance(self, tables: Tables, budget: RateBudget, row: AttemptRow) -> None:
        """Forget that a setting was accepted, if this attempt that failed for certain was all there was of
        it.

        Otherwise a change that the exchange rejected would count as the setting to restore.
        """
        accepted = await tables.accepted_of(budget, row.family)
        if not accepted:
            return
        proof, newest = await tables.applied(budget, row.family), accepted[-1]
        others = [one for one in await tables.open_of(budget, row.family) if one.id != row.id]
        if row_mapping.is_all_there_was(row, newest, proof, others):
            await tables.drop_accepted([newest.id])

    def _accepted(
        self,
        number: int,
        family: str,
        accepting: Accepting,
        how: ProofKind,
        attempt: int,
        file: FileVersion,
    ) -> AcceptedRow:
        setting = accepting.setting
        return AcceptedRow(
            "",
            number,
            *budget_key(self._identified()),
            family,
            self._account,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            how=how.value,
            attempt=attempt,
            file_sha256=file.sha256,
            file_number=file.number,
            digest=sanitized(accepting.digest),
            override=sanitized(accepting.override),
            at_wall=wall_text(self._engine.clock.wall()),
        )

    async def _accepted_by_read(
        self,
        tables: Tables,
        budget: RateBudget,
        adopted: Mapping[Family, Setting],
        accepting: Mapping[Family, Accepting],
        newest: Mapping[str, int],
        file: FileVersion,
    ) -> tuple[list[AcceptedRow], list[AcceptedRow]]:
        """Return the rows of settings that become accepted without a request, and all of before."""
        families = [family for family in adopted if family in accepting]
        if not families:
            return [], []
        earlier = await tables.all_accepted(budget)
        numbers = await tables.next_ids(AcceptedRow, len(families))
        rows = [
            self._accepted(
                number, family, accepting[family], ProofKind.ADOPTED, newest.get(family, 0), file
            )
            for number, family in zip(numbers, families, strict=True)
        ]
        return rows, [row for row in earlier if row.family in accepting]

    async def _accept_setting(
        self, tables: Tables, rows: list[AcceptedRow], earlier: list[AcceptedRow]
    ) -> None:
        """Record accepted settings, and drop older ones that nothing depends on any more."""
        await tables.insert_all(rows)
        wall = self._engine.clock.wall()
        of: dict[str, list[AcceptedRow]] = {row.family: [] for row in rows}
        for one in (*earlier, *rows):
            of[one.family].append(one)
        old = [number for of_family in of.values() for number in row_mapping.needless(of_family, wall)]
        if old:
            await tables.drop_accepted(old)

    async def _acknowledge(
        self, tables: Tables, budget: RateBudget, row: AttemptRow, row_clock: RowClock
    ) -> AttemptRow:
        """Make the attempt's setting the confirmed one, if its acknowledgement proves that."""
        tries = await tables.tries_of(budget, row.family)
        changed = [one._replace(tries=0) for one in tries if one.id != row.id]
        row = row._replace(tries=0)
        proof, attempts = None, await tables.open_of(budget, row.family)
        setting = {Family(row.family): setting_of(row)}
        await self._record_plan_changes(tables, budget, [row, *attempts], setting, ProofKind.APPLIED)
        if row_mapping.proves(row, await tables.applied(budget, row.family)):
            newest = await tables.newest_attempt(budget, row.family)
            changed += row_mapping.resolved_by(attempts, row_clock.reserved_at(row), row_clock)
            file = file_of(row)
            proof = self._proof(
                row.family, setting_of(row), ProofKind.APPLIED, newest, file, row_clock, at=row_clock.now
            )
        for one in row_mapping.merged(changed):
            await tables.update_attempt(one)
        if proof is None:
            return row
        await tables.upsert(proof)
        return row._replace(resolved=1)

    async def _record_plan_changes(
        self,
        tables: Tables,
        budget: RateBudget,
        attempts: Iterable[AttemptRow],
        in_force: Mapping[Family, Setting],
        how: ProofKind,
    ) -> None:
        """Record the changes of saved plans that what is in force applies: of requests, or adopted."""
        plans = row_mapping.plan_changes_of(attempts, in_force)
        if how is ProofKind.ADOPTED:
            for family, setting in in_force.items():
                if self._plan_changes.get(family) == setting:
                    plans.setdefault(family, set()).add(self._plan)
        if not plans:
            return
        wall = self._engine.clock.wall()
        for family, of in plans.items():
            for plan in sorted(of):
                told = (plan, family, self._account, how.value, wall_text(wall))
                await tables.upsert(PlanChangeRow("", *budget_key(budget), *told))
        await tables.prune_plan_changes(budget, wall_text(wall - APPLIED_CHANGES_RETENTION))

    def _proof(
        self,
        family: str,
        setting: Setting,
        how: ProofKind,
        newest: int,
        file: FileVersion,
        row_clock: RowClock,
        *,
        at: float,
    ) -> AppliedRow:
        """Return the row that says: ``setting`` was in force at ``at``, ``newest`` the last attempt."""
        return AppliedRow(
            "",
            *budget_key(self._identified()),
            family,
            self._account,
            time_interval_ms=setting.time_interval_ms,
            frozen_interval_ms=setting.frozen_interval_ms,
            qty_limit=setting.qty_limit.text,
            how=how.value,
            attempt=newest,
            boot=row_clock.first_seen.boot,
            at=float(at),
            at_wall=wall_text(self._engine.clock.wall()),
            file_sha256=file.sha256,
            file_number=file.number,
        )

    async def _prune(self, tables: Tables, budget: RateBudget, attempt: int) -> None:
        """Drop old attempts that nothing depends on, now and then."""
        keep = self._engine.keep_attempts
        if attempt % max(1, keep // PRUNE_STEPS) == 0:
            await tables.prune(budget, keep)


def _holding(kept: Mapping[Family, Pause], wall: datetime) -> tuple[Pause, ...]:
    """Return the pauses in force by their time, by family."""
    return tuple(pause for _, pause in sorted(kept.items()) if pause.holds(wall))


async def _pauses_on_record(tables: Tables, budget: RateBudget) -> dict[Family, Pause]:
    """Return the pause on record of each family, whether or not its time is over."""
    return {Family(row.family): row_mapping.pause_of(row) for row in await tables.pauses(budget)}


async def _accepted(
    tables: Tables, budget: RateBudget, sha256: str, *, changed: bool
) -> FileVersion | None:
    """Return the version that content of the settings file has already; None: it gets the next number."""
    found, newest = await tables.file(budget, sha256), await tables.newest_number(budget)
    if found is None or (changed and found.number < newest):
        return None
    return FileVersion(sha256, found.number)


async def _is_on_record(tables: Tables, budget: RateBudget, family: Family) -> bool:
    if await tables.newest_attempt(budget, family):
        return True
    return await tables.applied(budget, family) is not None


def _asks_known(budget: RateBudget) -> tuple[SelectQuery, ...]:
    return queries.all_applied(budget), queries.all_open(budget)
