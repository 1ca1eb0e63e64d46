"""Requests: a slot is reserved before a request is sent, and its result is recorded afterwards.

A reservation is durable when ``reserve`` returns, and the reservations of all processes are in one order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconciler.core.history_records import ProofKind
from reconciler.core.model import Accepting, FileVersion, RateBudget
from reconciler.core.pacing import Ledger, earliest_slot
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import (
    AppliedMeanwhile,
    AttemptResult,
    NoSlotUntil,
    PausedMeanwhile,
    Reservation,
    ReserveOptions,
    ReserveResult,
    SignedRequest,
)
from reconciler.errors import StateUnavailable
from reconciler.store import ledger_mapping, queries, row_mapping, select_query
from reconciler.store.accepted_settings import AcceptanceSteps, SavedPlanChanges
from reconciler.store.account_session import AccountSession
from reconciler.store.ledger_mapping import RateHistory
from reconciler.store.proofs import Proofs
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import (
    AcceptedRow,
    AttemptRow,
    LossRow,
    Numbered,
    budget_key,
    file_of,
    sanitized,
    setting_columns,
)
from reconciler.store.select_query import Result, SelectQuery
from reconciler.store.sqlite.file_locks import StoreMisuse
from reconciler.store.table_access import Tables

PRUNE_STEPS = 100
"""Old attempts are deleted once for every hundredth part of the number that stays."""

_WITHOUT_EFFECT = frozenset({AttemptStatus.REJECTED, AttemptStatus.NOT_SENT})
"""Outcomes that leave the family as it was."""

_SETTLES_FAMILY = _WITHOUT_EFFECT | {AttemptStatus.APPLIED}
"""Outcomes that change what is recorded of the family."""


class Reservations:
    """Reservations and their results, of one account's User ID."""

    def __init__(
        self,
        session: AccountSession,
        acceptance: AcceptanceSteps,
        saved_plan: SavedPlanChanges,
        proofs: Proofs,
    ) -> None:
        self._session = session
        self._acceptance = acceptance
        self._saved_plan = saved_plan
        self._proofs = proofs
        self._reserved: dict[int, AttemptRow] = {}

    async def ledger(self) -> Ledger:
        """Return the pacing ledger of this account's User ID."""
        budget = self._session.identified()
        history = self.with_uncommitted(await self._session.decide(queries.rate(budget)))
        return ledger_mapping.ledger_from_rows(history, self._session.row_clock())

    async def reserve(self, request: SignedRequest, options: ReserveOptions) -> ReserveResult:
        """Reserve a slot now, in one transaction, or return why not.

        If its COMMIT fails, it may be on record: no request is sent for it, and it counts for the rate.
        """
        session, family, accepting = self._session, request.family, options.accepting
        budget = session.identified()
        await session.register(budget)
        plan_change = queries.plan_change(budget, self._saved_plan.plan, family)
        query = select_query.together(
            select_query.together(queries.select_pause(budget, family), plan_change),
            queries.tries(budget, family),
            queries.select_accepted(budget, family),
            queries.rate(budget),
        )
        numbers = (AttemptRow, AcceptedRow) if accepting else (AttemptRow,)
        async with self._reserving(query, numbers) as (tables, found, recorded):
            (pause, applied), tries, accepted, history = found
            if row_mapping.pauses_request(pause, request.setting, session.engine.clock.wall()):
                return PausedMeanwhile()
            if applied is not None:
                return AppliedMeanwhile()
            row_clock = session.row_clock()
            ledger = ledger_mapping.ledger_from_rows(self.with_uncommitted(history), row_clock)
            slot = earliest_slot(
                ledger, row_clock.now, assume_idle=options.assume_idle, keep_free=options.keep_free
            )
            if slot > row_clock.now or row_clock.now > options.by:
                return NoSlotUntil(slot)
            attempt = await self._record_attempt(tables, budget, request, options.file, tries, row_clock)
            if accepting is not None:
                await self._accept(tables, accepting, attempt, accepted)
            await tables.update(ledger_mapping.retired(history, row_clock))
            await tables.delete(LossRow, ledger_mapping.losses_not_counting(history, row_clock))
            await self._prune(tables, budget, attempt.id)
            recorded.append(attempt)
        self._reserved[attempt.id] = attempt
        registry = session.engine.options.registry
        if registry is not None and session.state_id is not None:
            await registry.reserved(budget, session.state_id, attempt.reserved_at)
        return Reservation(attempt.id, row_clock.now)

    async def settle(self, attempt: int, result: AttemptResult) -> None:
        """Record the result of an attempt, durably. The process that reserved it settles it, once."""
        budget = self._session.identified()
        status, reserved = result.status, self._reserved.get(attempt)
        family = None if reserved is None or status not in _SETTLES_FAMILY else reserved.family
        query = queries.attempt_and_family(budget, attempt, family)
        async with self._session.writing(query) as (tables, found):
            pending = self._pending(found.attempt, attempt, definite=result.definite)
            row_clock = self._session.row_clock()
            row = pending._replace(
                status=status.value,
                definite=int(result.definite),
                limited=int(result.limited),
                code=sanitized(result.code),
                message=sanitized(result.message),
                settled_wall=self._session.wall(),
                resolved=int(pending.resolved or status in _WITHOUT_EFFECT),
            )
            if result.definite:
                # It may have arrived only now, so it counts from now, even after LATEST_ARRIVAL_S.
                row = row._replace(
                    answered_boot=row_clock.first_seen.boot, answered_at=row_clock.now, retired=0
                )
            if status is AttemptStatus.NOT_SENT:
                row = row._replace(retired=1)
            if not result.tried:
                row = row._replace(tries=0)
            if status in _SETTLES_FAMILY:
                rows = found.family
                if rows is None:
                    rows = await tables.select(queries.family_rows(budget, row.family))
                if status is AttemptStatus.APPLIED:
                    row = await self._proofs.acknowledge(tables, rows, row, row_clock)
                else:
                    await self._acceptance.take_back(tables, rows, row)
            await tables.update([row])
        self._reserved.pop(attempt, None)

    @asynccontextmanager
    async def _reserving(
        self, query: SelectQuery[Result], numbers: tuple[type[Numbered], ...]
    ) -> AsyncIterator[tuple[Tables, Result, list[AttemptRow]]]:
        """Write reservations; those put in the list count for the rate even if their COMMIT fails."""
        session, recorded = self._session, list[AttemptRow]()
        try:
            async with session.writing(query, held=session.lock_name, numbers=numbers) as (tables, found):
                yield tables, found, recorded
        except BaseException:
            for row in recorded:
                session.engine.first_seen.remember_uncommitted(row, float(session.engine.clock.now()))
            raise

    def with_uncommitted(self, history: RateHistory) -> RateHistory:
        """Return the history with the reservations of this process whose COMMIT failed."""
        return ledger_mapping.with_uncommitted(history, self._session.engine.first_seen.uncommitted)

    def _pending(self, row: AttemptRow | None, attempt: int, *, definite: bool) -> AttemptRow:
        """Return the row of an attempt of this process.

        If the database lost the row, it is kept in memory, still counts against the rate, and
        StateUnavailable is raised.
        """
        reserved = self._reserved.get(attempt)
        if reserved is not None and (row is None or not ledger_mapping.same_attempt(row, reserved)):
            row_clock = self._session.row_clock()
            if definite:
                reserved = reserved._replace(
                    answered_boot=row_clock.first_seen.boot, answered_at=row_clock.now
                )
            row_clock.first_seen.remember_uncommitted(reserved, row_clock.now)
            hint = "nothing to do: lost requests count against the rate, and mmp reads the result"
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
        session, boot, setting = self._session, row_clock.first_seen.boot, request.setting
        number = await tables.next_id(AttemptRow)
        sent = (session.account, request.family, *setting_columns(setting), request.timestamp)
        reserved = (boot, row_clock.now, session.wall(), AttemptStatus.PENDING.value)
        row = AttemptRow(
            *("", number, *budget_key(budget), *sent, *reserved),
            tries=row_mapping.tries_after(earlier, setting),
            file_sha256=file.sha256,
            file_number=file.number,
            plan=self._saved_plan.plan,
        )
        await tables.insert(row)
        # Only the newest earlier row keeps its try count; it is needed if this request is never sent.
        await tables.update([old._replace(tries=0) for old in earlier[:-1]])
        return row

    async def _accept(
        self, tables: Tables, accepting: Accepting, attempt: AttemptRow, earlier: list[AcceptedRow]
    ) -> None:
        """Record that a request makes its desired setting the accepted one."""
        number, file = await tables.next_id(AcceptedRow), file_of(attempt)
        row = self._acceptance.row(number, attempt.family, accepting, ProofKind.APPLIED, attempt.id, file)
        await self._acceptance.record(tables, [row], earlier)

    async def _prune(self, tables: Tables, budget: RateBudget, attempt: int) -> None:
        """Delete old attempts that nothing depends on, once in a while."""
        keep = self._session.engine.options.keep_attempts
        if attempt % max(1, keep // PRUNE_STEPS) == 0:
            await tables.prune_attempts(budget, keep)
