"""The store of one account: all durable steps, each in one transaction, for every engine.

This class has the order of the steps and no rules. ``row_clock`` computes the age of rows, ``row_mapping``
their meaning, and the core the pacing; SQL is in ``queries`` and ``table_access``. A write is durable when
its method returns.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING

from reconciler.core.history_records import AttemptLog, NameRecord, StateSnapshot
from reconciler.core.model import Environment, ExchangeKind, Family
from reconciler.core.reservation import RecordedInputs
from reconciler.store import (
    account_pauses,
    history_mapping,
    ledger_mapping,
    queries,
    row_mapping,
    select_query,
)
from reconciler.store.accepted_settings import AcceptanceSteps, SavedPlanChanges
from reconciler.store.account_locks import AccountLocks
from reconciler.store.account_pauses import AccountPauses
from reconciler.store.account_session import AccountSession
from reconciler.store.policies import Policies
from reconciler.store.proofs import Proofs
from reconciler.store.reservations import Reservations
from reconciler.store.rows import AcceptedRow
from reconciler.store.timeline import AccountTimeline

if TYPE_CHECKING:
    from reconciler.store.engine import Engine


class SqlAccountStore:
    """``ports.AccountStore`` of one account in one environment with one kind of exchange.

    It consists of parts that share one session. Here is all that it can do, and which part does it.
    """

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        self._session = session = AccountSession(engine, account, environment, kind)
        self.identify = session.identify
        self.check_identity = session.check_identity

        locks = AccountLocks(session)
        self.locked = locks.locked
        self.lock_holder = locks.lock_holder
        self.owner = locks.owner
        self.try_control = locks.try_control
        self.release_control = locks.release_control
        self.controller = locks.controller

        acceptance = AcceptanceSteps(session)
        self.accept_file = acceptance.accept_file
        self.accepted_log = acceptance.accepted_log

        self._saved_plan = saved_plan = SavedPlanChanges(session)
        self.apply_plan = saved_plan.apply_plan
        self.record_in_force = saved_plan.record_in_force

        proofs = Proofs(session, acceptance, saved_plan)
        self.known = proofs.known
        self.adopt = proofs.adopt
        self.end_attempts = proofs.end_attempts
        self.record_live = proofs.record_live
        self.last_rows = proofs.last_rows

        self._reservations = requests = Reservations(session, acceptance, saved_plan, proofs)
        self.ledger = requests.ledger
        self.reserve = requests.reserve
        self.settle = requests.settle

        pauses = AccountPauses(session)
        self.pauses = pauses.pauses
        self.pause = pauses.pause
        self.resume = pauses.resume
        self.clear_heal_breakers = pauses.clear_heal_breakers

        policies = Policies(session)
        self.policy_on_record = policies.policy_on_record
        self.policies = policies.policies
        self.record_policy = policies.record_policy
        self.give_up_policy = policies.give_up_policy
        self.record_override = policies.record_override
        self.overrides = policies.overrides

        timeline = AccountTimeline(session)
        self.record_states = timeline.record_states
        self.read_timeline = timeline.read_timeline

    async def recorded_inputs(self) -> RecordedInputs:
        """Return all that a plan rests on, as of one moment.

        A server that failed over may have lost the account's identity. It is recorded again, otherwise the
        commands of people would not find the account.
        """
        budget = self._session.identified()
        together, plan = select_query.together, self._saved_plan.plan
        query = together(
            together(queries.identity(*self._session.key[:2]), queries.known(budget)),
            together(queries.tries(budget), queries.newest_acknowledged(budget)),
            together(queries.select_accepted(budget), queries.plan_changes(budget, plan)),
            together(queries.pauses(budget), queries.rate(budget)),
        )
        found = await self._session.decide(query)
        (identity, known), retries, (accepted, plan_changes), (pauses, history) = found
        row_clock = self._session.row_clock()
        if identity is None and self._session.host is not None:
            await self.identify(budget.uid, self._session.host)
        return RecordedInputs(
            known=row_mapping.known_from_rows(*known, row_clock),
            pauses=account_pauses.in_force(pauses, self._session.engine.clock.wall()),
            ledger=ledger_mapping.ledger_from_rows(self._reservations.with_uncommitted(history), row_clock),
            retries=row_mapping.retries_from_rows(*retries, row_clock),
            accepted=row_mapping.accepted_from_rows(accepted),
            applied=row_mapping.applied_changes(plan_changes),
        )

    async def history(self, limit: int, family: str = "*") -> AttemptLog:
        """Return at most ``limit`` attempts of families matching the glob ``family``, newest first."""
        found = await self._session.read_of_user(queries.select_history, any_kind=False)
        if found is None:
            return AttemptLog()
        rows, damaged = found
        chosen = (row for row in rows if fnmatchcase(row.family, family))
        return AttemptLog([history_mapping.attempt_record(row) for row in islice(chosen, limit)], damaged)

    async def names(self) -> tuple[NameRecord, ...]:
        """Return every account of this environment that is on record, by name."""
        environment = self._session.environment.value
        rows = await self._session.read(queries.identities(environment))
        return tuple(NameRecord(row.account, ExchangeKind(row.kind), row.uid) for row in rows)

    async def snapshot(self) -> StateSnapshot:
        """Return all that is on record of the account; changes nothing."""
        budget, history = self._session.budget, None
        known: queries.KnownRows = ([], [], [])
        accepted: list[AcceptedRow] = []
        async with self._session.engine.reading(None) as tables:
            identity = await tables.select(queries.identity(*self._session.key[:2]))
            if budget is None and identity is not None and identity.kind == self._session.kind.value:
                budget = self._session.budget_of(identity)
            if budget is not None:
                history = self._reservations.with_uncommitted(await tables.select(queries.rate(budget)))
                known = await tables.select(queries.known(budget))
                accepted = await tables.select(queries.select_accepted(budget))
            live, damaged = await tables.select(queries.live(self._session.key))
        (applied, attempts, _), row_clock = known, self._session.row_clock()
        return StateSnapshot(
            kind=None if identity is None else ExchangeKind(identity.kind),
            uid=None if identity is None else identity.uid,
            host=None if identity is None else identity.host,
            known=row_mapping.known_from_rows(*known, row_clock),
            applied={Family(row.family): history_mapping.applied_record(row) for row in applied},
            open_attempts=tuple(history_mapping.attempt_record(row) for row in attempts),
            ledger=None if history is None else ledger_mapping.ledger_from_rows(history, row_clock),
            live=history_mapping.live_record(live[0]) if live else None,
            accepted=row_mapping.accepted_from_rows(accepted),
            damaged=damaged,
        )
