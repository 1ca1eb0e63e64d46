"""The store of one account: all durable steps, each in one transaction, for every engine.

This class has the order of the steps and no rules. ``row_clock`` computes the age of rows, ``row_mapping``
their meaning, and the core the pacing; SQL is in ``queries`` and ``table_access``. A write is durable when
its method returns.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice

from reconciler.core.model import ExchangeKind, Family
from reconciler.core.requests import RecordedInputs
from reconciler.core.state_records import AttemptLog, NameRecord, StateSnapshot
from reconciler.store import (
    account_pauses,
    ledger_mapping,
    queries,
    record_mapping,
    row_mapping,
    select_query,
)
from reconciler.store.account_locks import AccountLocks
from reconciler.store.account_pauses import AccountPauses
from reconciler.store.policies import Policies
from reconciler.store.reservations import Reservations
from reconciler.store.rows import AcceptedRow, AppliedRow, AttemptRow, LossRow
from reconciler.store.timeline import AccountTimeline


class SqlAccountStore(AccountLocks, Reservations, AccountPauses, Policies, AccountTimeline):
    """``ports.AccountStore`` of one account in one environment with one kind of exchange."""

    async def recorded_inputs(self) -> RecordedInputs:
        """Return all that a plan rests on, as of one moment.

        A server that failed over may have lost the account's identity. It is recorded again, otherwise the
        commands of people would not find the account.
        """
        budget = self._identified()
        query = select_query.together(
            select_query.together(queries.identity(*self._key[:2]), queries.known(budget)),
            select_query.together(queries.all_tries(budget), queries.newest_acknowledged(budget)),
            select_query.together(queries.all_accepted(budget), queries.plan_changes(budget, self._plan)),
            queries.pauses(budget),
            queries.rate(budget),
        )
        found = await self._decide(query)
        (identity, known), retries, (accepted, plan_changes), pauses, history = found
        row_clock = self._row_clock()
        if identity is None and self._host is not None:
            await self.identify(budget.uid, self._host)
        return RecordedInputs(
            known=row_mapping.known_from_rows(*known, row_clock),
            pauses=account_pauses.in_force(pauses, self._engine.clock.wall()),
            ledger=ledger_mapping.ledger_from_rows(self._with_uncommitted(history), row_clock),
            retries=row_mapping.retries_from_rows(*retries, row_clock),
            accepted=row_mapping.accepted_from_rows(accepted),
            applied=row_mapping.applied_changes(plan_changes),
        )

    async def history(self, limit: int, family: str = "*") -> AttemptLog:
        """Return at most ``limit`` attempts of families matching the glob ``family``, newest first."""
        budget = await self._found(any_kind=False)
        if budget is None:
            return AttemptLog()
        rows, damaged = await self._read(queries.select_history(budget))
        chosen = (row for row in rows if fnmatchcase(row.family, family))
        return AttemptLog([record_mapping.attempt_record(row) for row in islice(chosen, limit)], damaged)

    async def names(self) -> tuple[NameRecord, ...]:
        """Return every account of this environment that is on record, by name."""
        environment = self._environment.value
        rows = await self._read(queries.identities(environment))
        return tuple(NameRecord(row.account, ExchangeKind(row.kind), row.uid) for row in rows)

    async def snapshot(self) -> StateSnapshot:
        """Return all that is on record of the account; changes nothing."""
        budget, history = self._budget, None
        applied: list[AppliedRow] = []
        attempts: list[AttemptRow] = []
        losses: list[LossRow] = []
        accepted: list[AcceptedRow] = []
        async with self._engine.reading(None) as tables:
            identity = await tables.select(queries.identity(*self._key[:2]))
            if budget is None and identity is not None and identity.kind == self._kind.value:
                budget = self._budget_of(identity)
            if budget is not None:
                history = self._with_uncommitted(await tables.select(queries.rate(budget)))
                applied, attempts, losses = await tables.select(queries.known(budget))
                accepted = await tables.select(queries.all_accepted(budget))
            live, damaged = await tables.select(queries.live(self._key))
        row_clock = self._row_clock()
        return StateSnapshot(
            kind=None if identity is None else ExchangeKind(identity.kind),
            uid=None if identity is None else identity.uid,
            host=None if identity is None else identity.host,
            known=row_mapping.known_from_rows(applied, attempts, losses, row_clock),
            applied={Family(row.family): record_mapping.applied_record(row) for row in applied},
            open_attempts=tuple(record_mapping.attempt_record(row) for row in attempts),
            ledger=None if history is None else ledger_mapping.ledger_from_rows(history, row_clock),
            live=record_mapping.live_record(live[0]) if live else None,
            accepted=row_mapping.accepted_from_rows(accepted),
            damaged=damaged,
        )
