"""The policies that were in force for one account's User ID, and the refusals that were overridden."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice

from reconciler.core.history_records import OverrideRecord, PolicyRecord
from reconciler.core.model import Family
from reconciler.store import history_mapping, queries
from reconciler.store.account_session import AccountSession
from reconciler.store.rows import MAX_DOCUMENT, OverrideRow, PolicyRow, budget_key, sanitized, storable
from reconciler.store.table_access import Tables, WriteScope

KEEP_POLICIES = 100
"""Policies remembered per User ID: the newest counts, the others are history."""


class Policies:
    """Policies and overrides."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session

    async def policy_on_record(self) -> PolicyRecord | None:
        """Return the policy that was recorded last; None where none was, or it was given up."""
        row = await self._session.read_of_user(queries.newest_policy, any_kind=False)
        return None if row is None or row.given_up is not None else history_mapping.policy_record(row)

    async def policies(self, limit: int) -> list[PolicyRecord]:
        """Return at most ``limit`` policies that were in force or given up, newest first."""
        rows = await self._session.read_of_user(queries.policies, any_kind=False) or []
        return [history_mapping.policy_record(row) for row in rows[:limit]]

    async def record_policy(self, sha256: str, path: str, document: str) -> None:
        """Record that a policy is in force; writes only if that is new."""
        newest = await self.policy_on_record()
        if newest is not None and newest.sha256 == sha256:
            return
        query = queries.newest_policy(self._session.identified())
        async with self._session.writing(query, numbers=(PolicyRow,)) as (tables, row):
            if row is None or row.given_up is not None or row.sha256 != sha256:
                await self._record_policy(tables, sha256, path, document, None)

    async def give_up_policy(self, sha256: str, reason: str) -> bool:
        """Record that a person gives up the policy on record; False where that is another, or none.

        A policy that was given up is not given up again.
        """
        query = queries.newest_policy(self._session.identified())
        async with self._session.writing(query, numbers=(PolicyRow,)) as (tables, row):
            if row is None or row.given_up is not None or row.sha256 != sha256:
                return False
            await self._record_policy(tables, sha256, row.path, row.document, sanitized(reason))
        return True

    async def _record_policy(
        self, tables: Tables, sha256: str, path: str, document: str, given_up: str | None
    ) -> None:
        """Record a policy, and forget the oldest ones."""
        budget, wall = self._session.identified(), self._session.wall()
        text = (sanitized(sha256), storable(path), storable(document[:MAX_DOCUMENT]))
        number = await tables.next_id(PolicyRow)
        key = budget_key(budget)
        await tables.insert(PolicyRow("", number, *key, self._session.account, *text, given_up, wall))
        await tables.prune_policies(budget, KEEP_POLICIES)

    async def record_override(self, family: Family, *, refusal: str, reason: str) -> None:
        """Record for the history that a refusal was overridden by name, and why."""
        budget, wall = self._session.identified(), self._session.wall()
        async with self._session.engine.writing(
            WriteScope(self._session.key, numbers=(OverrideRow,))
        ) as tables:
            number = await tables.next_id(OverrideRow)
            values = (family, self._session.account, sanitized(refusal), sanitized(reason), wall)
            await tables.insert(OverrideRow("", number, *budget_key(budget), *values))

    async def overrides(self, limit: int, family: str = "*") -> list[OverrideRecord]:
        """Return at most ``limit`` overrides of families matching the glob, newest first."""
        rows = await self._session.read_of_user(queries.overrides) or ()
        chosen = (row for row in rows if fnmatchcase(row.family, family))
        return [history_mapping.override_record(row) for row in islice(chosen, limit)]
