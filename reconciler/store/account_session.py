"""The transactions of one account, and the User ID that its records belong to.

Attempts, proofs, pauses, overrides and accepted files belong to a User ID, as at the exchange: accounts
with one User ID share them, and a renamed account loses none. Live reads and the timeline belong to the
account name. The clock is read inside a transaction, after the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.replica_assignment import lease_name
from reconciler.errors import MmpError, StateAccountMismatch
from reconciler.store import queries, row_mapping
from reconciler.store.file_locks import StoreMisuse
from reconciler.store.row_clock import RowClock
from reconciler.store.rows import IdentityRow, sanitized, wall_text
from reconciler.store.select_query import Result, SelectQuery, together
from reconciler.store.state_move import move_target, state_moved
from reconciler.store.table_access import Numbered, Tables, WriteScope

if TYPE_CHECKING:
    from reconciler.store.engine import Engine


class AccountSession:
    """One account in one environment with one kind of exchange, on an open state."""

    def __init__(self, engine: Engine, account: str, environment: Environment, kind: ExchangeKind) -> None:
        self._engine = engine
        self._account = account
        self._environment = environment
        self._kind = kind
        self._key = (account, environment.value, kind.value)
        self._lock_name = lease_name(account, environment, kind)
        self._budget: RateBudget | None = None
        self._host: str | None = None
        self._state_id: str | None = None

    # -- User ID --------------------------------------------------------------------------------

    async def identify(self, uid: str, host: str) -> str | None:
        """Record or check the User ID; returns the previous host when it was another one.

        In a state opened for reading it is only checked. Raises StateAccountMismatch for another uid or
        kind.
        """
        if self._engine.options.read_only:
            found = await self._identity_read(uid)
        else:
            await self._register(RateBudget(self._kind, self._environment, uid))
            query = queries.identity(*self._key[:2])
            async with self._engine.writing(WriteScope(self._key, ahead=query)) as tables:
                found = self._checked(await tables.select(query), uid)
                if found is None or found.host != host:
                    wall = wall_text(self._engine.clock.wall())
                    await tables.upsert(IdentityRow("", *self._key, uid, sanitized(host), wall))
        self._budget, self._host = RateBudget(self._kind, self._environment, uid), host
        return found.host if found is not None and found.host != host else None

    async def check_identity(self, uid: str) -> None:
        """Check the User ID and change nothing; raises StateAccountMismatch for another uid or kind."""
        await self._identity_read(uid)
        self._budget = RateBudget(self._kind, self._environment, uid)

    def _identified(self) -> RateBudget:
        if self._budget is None:
            raise StoreMisuse("identify comes before ledger and reserve")
        return self._budget

    async def _used(self) -> RateBudget:
        """Return the budget of the account; raises MmpError if it was never recorded."""
        budget = await self._found()
        if budget is None:
            whose = f"account {self._account} ({self._environment.value})"
            hint = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"
            message = f"the state {self._engine.place} was never used for {whose}"
            raise MmpError("state-unused", message, hint)
        return budget

    async def _found(self, *, any_kind: bool = True) -> RateBudget | None:
        """Return the budget of the account, from this process or the state; None while neither has it.

        A record of another kind of exchange counts only with ``any_kind``.
        """
        if self._budget is not None:
            return self._budget
        identity = await self._read(queries.identity(*self._key[:2]))
        if identity is None or (identity.kind != self._kind.value and not any_kind):
            return None
        return self._budget_of(identity)

    def _budget_of(self, identity: IdentityRow) -> RateBudget:
        return RateBudget(ExchangeKind(identity.kind), self._environment, identity.uid)

    async def _register(self, budget: RateBudget) -> None:
        """Register the state on this machine, before it is used to write for a User ID.

        Raises AccountProblem while another state is in use for it, or a request of this machine may count
        that is not on record here; StateAccountMismatch for the wrong account.
        """
        registry, engine = self._engine.options.registry, self._engine
        if registry is None:
            return
        if self._state_id is None or not engine.has_leases:
            row = await self._read(queries.select_state())
            self._state_id, moved = row.state_id, move_target(row)
            if moved is not None:
                raise state_moved(engine.place, moved)
        if self._budget is None:
            await self._identity_read(budget.uid)

        async def is_on_record(boot: str, at: float) -> bool:
            return bool(await self._read(queries.reserved_then(budget, boot, at)))

        whose, is_file = (budget, self._lock_name, self._state_id), not engine.has_leases
        await registry.claim(*whose, engine.place, is_on_record, is_file=is_file)

    async def _identity_read(self, uid: str) -> IdentityRow | None:
        """Return the recorded identity, without writing to the state; raises StateAccountMismatch."""
        return self._checked(await self._read(queries.identity(*self._key[:2])), uid)

    def _checked(self, found: IdentityRow | None, uid: str) -> IdentityRow | None:
        """Return the recorded identity. Raises StateAccountMismatch for another User ID or kind."""
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

    # -- transactions ---------------------------------------------------------------------------

    def _row_clock(self) -> RowClock:
        """Return the clock for rows that were read before this call."""
        return RowClock(self._engine.first_seen, float(self._engine.clock.now()))

    async def _read(self, query: SelectQuery[Result]) -> Result:
        """Return the result of a query, in one transaction."""
        async with self._engine.reading(None, query) as tables:
            return await tables.select(query)

    async def _decide(self, query: SelectQuery[Result]) -> Result:
        """Return the result of a query for a decision; a loss that was found is recorded first."""
        async with self._engine.reading(self._budget, query) as tables:
            if self._engine.options.read_only or not tables.lost:
                return await tables.select(query)
        async with self._writing(query) as (_, found):
            return found

    @asynccontextmanager
    async def _writing(
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
        of = budget or self._budget
        async with self._engine.writing(WriteScope(self._key, of, held, query, numbers)) as tables:
            if tables.lost and of is not None:
                await self._record_loss(tables, of)
            yield tables, await tables.select(query)

    async def _record_loss(self, tables: Tables, budget: RateBudget) -> None:
        wall = self._engine.clock.wall()
        query = together(queries.recorded_families(budget), queries.newest_of_user(budget))
        found = await tables.select(query)
        await tables.insert_losses(
            row_mapping.loss_rows(budget, *found, self._account, self._row_clock(), wall)
        )
