"""The changes of saved plans that were applied: each is sent once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.core.model import Environment, ExchangeKind, Family, RateBudget, Setting
from reconciler.core.saved_plan import APPLIED_CHANGES_RETENTION
from reconciler.core.state_records import ProofKind
from reconciler.store import row_mapping
from reconciler.store.account_session import AccountSession
from reconciler.store.rows import AttemptRow, PlanChangeRow, budget_key, wall_text
from reconciler.store.select_query import NOTHING
from reconciler.store.table_access import Tables

if TYPE_CHECKING:
    from reconciler.store.engine import Engine


class SavedPlanChanges(AccountSession):
    """What is recorded of the saved plan that is being applied."""

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        super().__init__(engine, account, environment, kind)
        self._plan = ""
        self._plan_changes: Mapping[Family, Setting] = {}

    def apply_plan(self, plan: str, changes: Mapping[Family, Setting]) -> None:
        """Record requests and adoptions as changes of the saved plan with this id from now on."""
        self._plan, self._plan_changes = plan, changes

    async def record_in_force(self, families: Collection[Family]) -> None:
        """Record that changes of the saved plan were found in force, with nothing to be sent."""
        budget = self._identified()
        found = {family: self._plan_changes[family] for family in families}
        async with self._writing(NOTHING, held=self._lock_name) as (tables, _):
            await self._record_plan_changes(tables, budget, [], found, ProofKind.ADOPTED)

    async def _record_plan_changes(
        self,
        tables: Tables,
        budget: RateBudget,
        attempts: Iterable[AttemptRow],
        in_force: Mapping[Family, Setting],
        how: ProofKind,
    ) -> None:
        """Record the changes of saved plans that are now in force, by a request or by adoption."""
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
                applied = (plan, family, self._account, how.value, wall_text(wall))
                await tables.upsert(PlanChangeRow("", *budget_key(budget), *applied))
        await tables.prune_plan_changes(budget, wall_text(wall - APPLIED_CHANGES_RETENTION))
