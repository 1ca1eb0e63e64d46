"""The interface of a database engine: transactions, locks, a clock."""

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
"""Attempts retained per User ID when nothing depends on them: about 14 hours of sending at full rate."""

KEEP_STATE_CHANGES = 50_000
"""State changes retained per account besides each family's last: five changes a day of the largest file."""


class Locks(Protocol):
    """The locks of one state, by name, as one process sees them."""

    poll_s: float
    """Seconds between two checks of a lock that another process has."""

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock and record its holder, or return False at once when another process has it.

        Raises StoreMisuse when this process has it already.
        """
        ...

    async def release(self, name: str) -> None:
        """Release the lock; harmless when this process does not have it."""
        ...

    async def holder(self, name: str) -> LockHolder | None:
        """Return the holder of the lock; None when it is free, or its holder is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class WriteScope:
    """What a writing transaction is the only writer of: an account, and a budget where one is named.

    ``held`` names a lock: if this process took it, it must still have it. ``ahead`` is the first query,
    and ``numbers`` the kinds of rows that need a new id: a remote engine runs both when it claims. Other or
    later queries are correct too, and slower.
    """

    key: AccountKey
    budget: RateBudget | None = None
    held: str | None = None
    ahead: SelectQuery[Any] = NOTHING
    numbers: tuple[type[Numbered], ...] = ()


class Engine(Protocol):
    """An open state of an engine, which all accounts of a process share.

    ``read_only``: opened for reading. The ``keep_…`` numbers limit what is retained. ``has_leases``:
    accounts are assigned to replicas by leases, so no account has a controller lock. ``registry``: where
    the state is registered on this machine before it is used for writing; None: nowhere."""

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
        """Return the live replica that owns the account with this lock; None when none does."""
        ...

    def reading(
        self, budget: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AbstractAsyncContextManager[Tables]:
        """Yield one consistent view of all rows; ``budget``: the one whose requests are read, if any.

        If ``only`` names the query, no other query may run. Raises StateUnusable, StateUnavailable.
        """
        ...

    def writing(self, claim: WriteScope, /) -> AbstractAsyncContextManager[Tables]:
        """Yield the view of the only writer of what is claimed; durable at the end.

        Reads return what the last writer wrote. Raises StateUnusable, StateUnavailable, and StateLocked
        where the lock was lost.
        """
        ...
