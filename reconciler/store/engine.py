"""What keeps the rows, as the logic of an account sees it: transactions, locks, a clock."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.core.model import RateBudget
from reconciler.core.replica_assignment import Replica
from reconciler.core.state_records import LockHolder
from reconciler.ports import Clock
from reconciler.store.registry import StateRegistry
from reconciler.store.row_clock import FirstSeen
from reconciler.store.rows import AccountKey
from reconciler.store.select_query import NOTHING, SelectQuery
from reconciler.store.table_access import Numbered, Tables

KEEP_ATTEMPTS = 10_000
"""Attempts kept per User ID once nothing depends on them: about 14 hours of sending at full rate."""

KEEP_STATE_CHANGES = 50_000
"""Turns kept of an account beside each family's last: five changes a day of the largest file."""


class Locks(Protocol):
    """The locks of one state, by name, as one process sees them."""

    poll_s: float
    """Between two looks at a lock that another holds."""

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock and say who holds it, or return False at once when another does.

        Raises StoreMisuse when this process holds it already.
        """
        ...

    async def release(self, name: str) -> None:
        """Give the lock back; harmless when it is not held."""
        ...

    async def holder(self, name: str) -> LockHolder | None:
        """Return who holds the lock; None when nobody does, or nobody that can be named."""
        ...


@dataclass(frozen=True, slots=True)
class WriteScope:
    """What a writing transaction is the only writer of: an account, and a budget where one is named.

    ``held`` names a lock: if this process took it, it must still have it. ``ahead`` is what will be
    asked first, and ``numbers`` the kinds of rows that an id will be wanted for: an engine that is far away
    finds out when it claims. Asking something else, or later, is as right and takes longer.
    """

    key: AccountKey
    budget: RateBudget | None = None
    held: str | None = None
    ahead: SelectQuery[Any] = NOTHING
    numbers: tuple[type[Numbered], ...] = ()


class Engine(Protocol):
    """An open state of some engine, which all accounts of a process share.

    ``read_only``: opened for reading. All that is kept is bounded by the ``keep_…`` numbers.
    ``has_leases``: replicas share the accounts out, so no account has a controller lock. ``registry``:
    where the state is registered on this machine before it is written with; None: nowhere."""

    place: str
    clock: Clock
    first_seen: FirstSeen
    lock_timeout_s: float
    keep_attempts: int
    keep_state_changes: int
    max_gap_s: float
    read_only: bool
    has_leases: bool
    registry: StateRegistry | None

    @property
    def locks(self) -> Locks:
        """Return the locks of the state, as this process sees them."""
        ...

    async def owner(self, name: str, /) -> Replica | None:
        """Return the living replica that keeps the account with this lock; None when none does."""
        ...

    def reading(
        self, budget: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AbstractAsyncContextManager[Tables]:
        """Give one consistent view of all rows; ``budget`` is whose requests it is about, if anybody's.

        Where ``only`` says what will be asked, nothing else may be. Raises StateUnusable,
        StateUnavailable.
        """
        ...

    def writing(self, claim: WriteScope, /) -> AbstractAsyncContextManager[Tables]:
        """Give the view of the only writer of what is claimed; durable at the end.

        What is read in it is what the last writer wrote. Raises StateUnusable, StateUnavailable, and
        StateLocked where the lock was lost.
        """
        ...
