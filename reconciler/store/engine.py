"""An open state as one process has it: what every database engine offers, and what all of them do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from reconciler.core.history_records import StateCheck
from reconciler.core.model import Environment, ExchangeKind, RateBudget
from reconciler.core.monitoring.state_timeline import MAX_GAP_S
from reconciler.core.replica_assignment import Replica
from reconciler.ports import Clock
from reconciler.store.account_store import SqlAccountStore
from reconciler.store.integrity_check import check_rows
from reconciler.store.row_clock import FirstSeen
from reconciler.store.select_query import SelectQuery
from reconciler.store.sqlite.file_locks import Locks, StoreMisuse
from reconciler.store.state_registry import StateRegistry
from reconciler.store.table_access import Tables, WriteScope

KEEP_ATTEMPTS = 10_000
"""Attempts retained per User ID when nothing depends on them: about 14 hours of sending at full rate."""

KEEP_STATE_CHANGES = 50_000
"""State changes retained per account besides each family's last: five changes a day of the largest file."""


@dataclass(frozen=True, slots=True)
class StateOptions:
    """How one process uses a state.

    ``boot`` names this boot of this host, and must differ wherever the clock does. The ``keep_…`` numbers
    limit what is retained. ``max_gap_s``: the longest time between two observations of one observed period.
    ``registry``: where the state is registered on this machine before it is used for writing; None:
    nowhere. ``read_only``: opened for reading.
    """

    clock: Clock
    boot: str
    lock_timeout_s: float
    keep_attempts: int = KEEP_ATTEMPTS
    keep_state_changes: int = KEEP_STATE_CHANGES
    max_gap_s: float = MAX_GAP_S
    registry: StateRegistry | None = None
    read_only: bool = False


class Engine(ABC):
    """An open state of an engine, which all accounts of a process share.

    ``has_leases``: accounts are assigned to replicas by leases, so no account has a controller lock.
    ``locks``: the locks of the state, as this process sees them.
    """

    has_leases: bool

    def __init__(self, place: str, locks: Locks, options: StateOptions) -> None:
        self.place = place
        self.locks = locks
        self.options = options
        self.clock = options.clock
        self.first_seen = FirstSeen(options.boot)

    def account(self, account: str, environment: Environment, kind: ExchangeKind) -> SqlAccountStore:
        """Return the store of one account; those of one state share connections and ``FirstSeen``."""
        return SqlAccountStore(self, account, environment, kind)

    async def check(self) -> StateCheck:
        """Verify every row of all accounts, as of one moment."""
        async with self.reading(None) as tables:
            return await check_rows(tables)

    @abstractmethod
    async def owner(self, name: str, /) -> Replica | None:
        """Return the live replica that owns the account with this lock; None when none does."""

    @abstractmethod
    def reading(
        self, budget: RateBudget | None, /, query: SelectQuery[Any] | None = None
    ) -> AbstractAsyncContextManager[Tables]:
        """Yield one consistent view of all rows; ``budget``: the one whose requests are read, if any.

        If ``query`` is given, no other query may run. Raises StateUnusable, StateUnavailable.
        """

    def writing(self, scope: WriteScope, /) -> AbstractAsyncContextManager[Tables]:
        """Yield the view of the only writer of what is claimed; durable at the end.

        Reads return what the last writer wrote. Raises StateUnusable, StateUnavailable, and StateLocked
        where the lock was lost.
        """
        if self.options.read_only:
            raise StoreMisuse(f"the state {self.place} was opened for reading")
        return self._write(scope)

    @abstractmethod
    def _write(self, scope: WriteScope) -> AbstractAsyncContextManager[Tables]:
        """Do what :meth:`writing` does, for a state that was opened for writing."""

    def _close_registry(self) -> None:
        if self.options.registry is not None:
            self.options.registry.close()
