"""The transactions of one account, and the User ID that its records belong to.

Attempts, proofs, pauses, overrides and accepted files belong to a User ID, as at the exchange: accounts
with one User ID share them, and a renamed account loses none. Live reads and the timeline belong to the
account name. The clock is read inside a transaction, after the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.replica_assignment import lease_name
from reconciler.core.state_registry_rules import RegisteredState
from reconciler.errors import MmpError, StateAccountMismatch
from reconciler.store import queries, row_mapping
from reconciler.store.retired_state import move_target, state_moved
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import IdentityRow, Numbered, sanitized, wall_text
from reconciler.store.select_query import Result, SelectQuery, together
from reconciler.store.sqlite.file_locks import StoreMisuse
from reconciler.store.table_access import Tables, WriteScope

if TYPE_CHECKING:
    from reconciler.store.engine import Engine


class AccountSession:
    """One account in one environment with one kind of exchange, on an open state.

    All parts of the store of the account share it.
    """

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        self.engine = engine
        self.account = account
        self.environment = environment
        self.kind = kind
        self.key = (account, environment.value, kind.value)
        self.lock_name = lease_name(account, environment, kind)
        self.budget: RateBudget | None = None
        self.host: str | None = None
        self.state_id: str | None = None

    # -- User ID --------------------------------------------------------------------------------

    async def identify(self, uid: str, host: str) -> str | None:
        """Record or check the User ID; returns the previous host when it was another one.

        In a state opened for reading it is only checked. Raises StateAccountMismatch for another uid or
        kind.
        """
        if self.engine.options.read_only:
            found = await self._identity_read(uid)
        else:
            await self.register(RateBudget(self.kind, self.environment, uid))
            query = queries.identity(*self.key[:2])
            async with self.engine.writing(WriteScope(self.key, ahead=query)) as tables:
                found = self._checked(await tables.select(query), uid)
                if found is None or found.host != host:
                    row = IdentityRow("", *self.key, uid, sanitized(host), self.wall())
                    await tables.upsert(row)
        self.budget, self.host = RateBudget(self.kind, self.environment, uid), host
        return found.host if found is not None and found.host != host else None

    async def check_identity(self, uid: str) -> None:
        """Check the User ID and change nothing; raises StateAccountMismatch for another uid or kind."""
        await self._identity_read(uid)
        self.budget = RateBudget(self.kind, self.environment, uid)

    def identified(self) -> RateBudget:
        """Return the budget of the account, which ``identify`` or ``check_identity`` found."""
        if self.budget is None:
            raise StoreMisuse("identify comes before ledger and reserve")
        return self.budget

    async def used(self) -> RateBudget:
        """Return the budget of the account; raises MmpError if it was never recorded."""
        budget = await self.found()
        if budget is None:
            whose = f"account {self.account} ({self.environment.value})"
            hint = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"
            message = f"the state {self.engine.place} was never used for {whose}"
            raise MmpError("state-unused", message, hint)
        return budget

    async def found(self, *, any_kind: bool = True) -> RateBudget | None:
        """Return the budget of the account, from this process or the state; None while neither has it.

        A record of another kind of exchange counts only with ``any_kind``.
        """
        if self.budget is not None:
            return self.budget
        identity = await self.read(queries.identity(*self.key[:2]))
        if identity is None or (identity.kind != self.kind.value and not any_kind):
            return None
        return self.budget_of(identity)

    def budget_of(self, identity: IdentityRow) -> RateBudget:
        """Return the budget that a recorded identity names."""
        return RateBudget(ExchangeKind(identity.kind), self.environment, identity.uid)

    async def register(self, budget: RateBudget) -> None:
        """Register the state on this machine, before it is used to write for a User ID.

        Raises AccountProblem while another state is in use for it, or a request of this machine may count
        that is not on record here; StateAccountMismatch for the wrong account.
        """
        registry, engine = self.engine.options.registry, self.engine
        if registry is None:
            return
        if self.state_id is None or not engine.has_leases:
            row = await self.read(queries.select_state())
            self.state_id, moved = row.state_id, move_target(row)
            if moved is not None:
                raise state_moved(engine.place, moved)
        if self.budget is None:
            await self._identity_read(budget.uid)

        async def is_on_record(boot: str, at: float) -> bool:
            return bool(await self.read(queries.reserved_then(budget, boot, at)))

        ours = RegisteredState(self.state_id, engine.place, not engine.has_leases, registry.boot)
        await registry.claim(budget, self.lock_name, ours, is_on_record)

    async def _identity_read(self, uid: str) -> IdentityRow | None:
        """Return the recorded identity, without writing to the state; raises StateAccountMismatch."""
        return self._checked(await self.read(queries.identity(*self.key[:2])), uid)

    def _checked(self, found: IdentityRow | None, uid: str) -> IdentityRow | None:
        """Return the recorded identity. Raises StateAccountMismatch for another User ID or kind."""
        if found is None:
            return None
        whose = f"the state {self.engine.place} of account {self.account} ({self.environment.value})"
        if found.kind != self.kind.value:
            hint = f"use the state of {self.kind.value} (--state); never use one state for both"
            message = f"{whose} belongs to {found.kind}, but this is {self.kind.value}"
            raise StateAccountMismatch("state-foreign-kind", message, hint)
        if found.uid != uid:
            hint = (
                "use the key of that account, or give this User ID an account name of its own in its file"
            )
            message = f"{whose} belongs to User ID {found.uid}, but this key belongs to {uid}"
            raise StateAccountMismatch("state-foreign-uid", message, hint)
        return found

    # -- transactions ---------------------------------------------------------------------------

    def wall(self) -> str:
        """Return the time of day, as rows have it."""
        return wall_text(self.engine.clock.wall())

    def row_clock(self) -> RowClock:
        """Return the clock for rows that were read before this call."""
        return RowClock(self.engine.first_seen, float(self.engine.clock.now()))

    async def read(self, query: SelectQuery[Result]) -> Result:
        """Return the result of a query, in one transaction."""
        async with self.engine.reading(None, query) as tables:
            return await tables.select(query)

    async def read_of_user(
        self, query: Callable[[RateBudget], SelectQuery[Result]], *, any_kind: bool = True
    ) -> Result | None:
        """Return the result of a query for the budget of the account; None while it has none."""
        budget = await self.found(any_kind=any_kind)
        return None if budget is None else await self.read(query(budget))

    async def decide(self, query: SelectQuery[Result]) -> Result:
        """Return the result of a query for a decision; a loss that was found is recorded first."""
        async with self.engine.reading(self.budget, query) as tables:
            if self.engine.options.read_only or not tables.lost:
                return await tables.select(query)
        async with self.writing(query) as (_, found):
            return found

    @asynccontextmanager
    async def writing(
        self,
        query: SelectQuery[Result],
        *,
        held: str | None = None,
        numbers: tuple[type[Numbered], ...] = (),
        budget: RateBudget | None = None,
    ) -> AsyncIterator[tuple[Tables, Result]]:
        """Write about the requests of the User ID, after the query; a loss that was found is recorded
        first.

        ``budget``: the User ID, if this process did not identify the account itself.
        """
        of = budget or self.budget
        async with self.engine.writing(WriteScope(self.key, of, held, query, numbers)) as tables:
            if tables.lost and of is not None:
                await self._record_loss(tables, of)
            yield tables, await tables.select(query)

    async def _record_loss(self, tables: Tables, budget: RateBudget) -> None:
        wall = self.engine.clock.wall()
        query = together(queries.recorded_families(budget), queries.newest_of_user(budget))
        found = await tables.select(query)
        await tables.insert_losses(
            row_mapping.loss_rows(budget, *found, self.account, self.row_clock(), wall)
        )
