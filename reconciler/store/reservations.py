"""Requests: a slot is reserved before a request is sent, and its result is recorded afterwards.

A reservation is durable when ``reserve`` returns, and the reservations of all processes are in one order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reconciler.core.model import Environment, ExchangeKind, FileVersion, RateBudget
from reconciler.core.pacing import Ledger, earliest_slot
from reconciler.core.reply import AttemptStatus
from reconciler.core.requests import (
    AppliedMeanwhile,
    AttemptResult,
    NoSlotUntil,
    PausedMeanwhile,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.core.state_records import ProofKind
from reconciler.errors import StateUnavailable
from reconciler.store import ledger_mapping, queries, row_mapping, select_query
from reconciler.store.file_locks import StoreMisuse
from reconciler.store.ledger_mapping import RateHistory
from reconciler.store.proofs import Proofs
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import AcceptedRow, AttemptRow, LossRow, sanitized, wall_text
from reconciler.store.select_query import Result, SelectQuery
from reconciler.store.table_access import Numbered, Tables

if TYPE_CHECKING:
    from reconciler.store.engine import Engine

PRUNE_STEPS = 100
"""Old attempts are deleted once for every hundredth part of the number that stays."""

_WITHOUT_EFFECT = frozenset({AttemptStatus.REJECTED, AttemptStatus.NOT_SENT})
"""Outcomes that leave the family as it was."""

_ABOUT_FAMILY = _WITHOUT_EFFECT | {AttemptStatus.APPLIED}
"""Outcomes that change what is recorded of the family."""


class Reservations(Proofs):
    """Reservations and their results, of one account's User ID."""

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        super().__init__(engine, account, environment, kind)
        self._reserved: dict[int, AttemptRow] = {}

    async def ledger(self) -> Ledger:
        """Return the pacing ledger of this account's User ID."""
        budget = self._identified()
        history = self._with_uncommitted(await self._decide(queries.rate(budget)))
        return ledger_mapping.ledger_from_rows(history, self._row_clock())

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        """Reserve a slot now, in one transaction, or return why not.

        If its COMMIT fails, it may be on record: no request is sent for it, and it counts for the rate.
        """
        budget, family, accepting = self._identified(), request.family, options.accepting
        await self._register(budget)
        query = select_query.together(
            queries.select_pause(budget, family),
            queries.tries_of(budget, family),
            queries.accepted_of(budget, family),
            queries.plan_change(budget, self._plan, family),
            queries.rate(budget),
        )
        numbers = (AttemptRow, AcceptedRow) if accepting else (AttemptRow,)
        async with self._reserving(query, numbers) as (tables, found, recorded):
            pause, tries, accepted, plan_change, history = found
            if row_mapping.pauses_request(pause, request.setting, self._engine.clock.wall()):
                return PausedMeanwhile()
            if plan_change is not None:
                return AppliedMeanwhile()
            row_clock = self._row_clock()
            ledger = ledger_mapping.ledger_from_rows(self._with_uncommitted(history), row_clock)
            slot = earliest_slot(
                ledger, row_clock.now, assume_idle=options.assume_idle, keep_free=options.keep_free
            )
            if slot > row_clock.now or row_clock.now > options.by:
                return NoSlotUntil(slot)
            attempt = await self._record_attempt(tables, budget, request, options.file, tries, row_clock)
            if accepting is not None:
                number = await tables.next_id(AcceptedRow)
                new = self._accepted(number, family, accepting, ProofKind.APPLIED, attempt.id, options.file)
                await self._accept_setting(tables, [new], accepted)
            for row in ledger_mapping.retired(history, row_clock):
                await tables.update_attempt(row)
            await tables.delete(LossRow, ledger_mapping.losses_not_counting(history, row_clock))
            await self._prune(tables, budget, attempt.id)
            recorded.append(attempt)
        self._reserved[attempt.id] = attempt
        if self._engine.options.registry is not None and self._state_id is not None:
            await self._engine.options.registry.reserved(budget, self._state_id, attempt.reserved_at)
        return Reservation(attempt.id, row_clock.now)

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        """Record the result of an attempt, durably. The process that reserved it settles it, once."""
        budget = self._identified()
        status, reserved = result.status, self._reserved.get(attempt)
        family = None if reserved is None or status not in _ABOUT_FAMILY else reserved.family
        async with self._writing(queries.attempt_and_family(budget, attempt, family)) as (tables, found):
            pending = self._pending(found.attempt, attempt, definite=result.definite)
            row_clock = self._row_clock()
            row = pending._replace(
                status=status.value,
                definite=int(result.definite),
                limited=int(result.limited),
                code=sanitized(result.code),
                message=sanitized(result.message),
                settled_wall=wall_text(self._engine.clock.wall()),
                resolved=int(pending.resolved or status in _WITHOUT_EFFECT),
            )
            if result.definite:
                # It arrived by now, perhaps only now: it counts again, even if its L was over.
                row = row._replace(
                    answered_boot=row_clock.first_seen.boot, answered_at=row_clock.now, retired=0
                )
            if status is AttemptStatus.NOT_SENT:
                row = row._replace(retired=1)
            if not result.tried:
                row = row._replace(tries=0)
            if status in _ABOUT_FAMILY:
                rows = found.family
                if rows is None:
                    rows = await tables.select(queries.family_rows(budget, row.family))
                if status is AttemptStatus.APPLIED:
                    row = await self._acknowledge(tables, rows, row, row_clock)
                else:
                    await self._take_back_acceptance(tables, rows, row)
            await tables.update_attempt(row)
        self._reserved.pop(attempt, None)

    @asynccontextmanager
    async def _reserving(
        self, query: SelectQuery[Result], numbers: tuple[type[Numbered], ...]
    ) -> AsyncIterator[tuple[Tables, Result, list[AttemptRow]]]:
        """Write reservations; those put in the list count for the rate even if their COMMIT fails."""
        recorded: list[AttemptRow] = []
        try:
            async with self._writing(query, held=self._lock_name, numbers=numbers) as (tables, found):
                yield tables, found, recorded
        except BaseException:
            for row in recorded:
                self._engine.first_seen.remember_uncommitted(row, float(self._engine.clock.now()))
            raise

    def _with_uncommitted(self, history: RateHistory) -> RateHistory:
        return ledger_mapping.with_uncommitted(history, self._engine.first_seen.uncommitted)

    def _pending(self, row: AttemptRow | None, attempt: int, *, definite: bool) -> AttemptRow:
        """Return the row of an attempt of this process; one that was lost is remembered, and counts."""
        reserved = self._reserved.get(attempt)
        if reserved is not None and (row is None or not ledger_mapping.same_attempt(row, reserved)):
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
        earlier: list[AttemptRow],
        row_clock: RowClock,
    ) -> AttemptRow:
        """Record a pending attempt; it counts as a try until its result is known."""
        setting = request.setting
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
        for old in earlier[:-1]:  # the last one has the count, in case this one is never sent
            await tables.update_attempt(old._replace(tries=0))
        return row

    async def _prune(self, tables: Tables, budget: RateBudget, attempt: int) -> None:
        """Delete old attempts that nothing depends on, once in a while."""
        keep = self._engine.options.keep_attempts
        if attempt % max(1, keep // PRUNE_STEPS) == 0:
            await tables.prune_attempts(budget, keep)
