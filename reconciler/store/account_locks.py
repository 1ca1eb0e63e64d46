"""The locks of one account: for a pass, and for the process that controls the account."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reconciler.core.history_records import LockHolder
from reconciler.core.replica_assignment import Replica
from reconciler.errors import StateLocked
from reconciler.store.account_session import AccountSession
from reconciler.store.rows import sanitized


class AccountLocks:
    """The pass lock, the controller lock and the lease of an account."""

    def __init__(self, session: AccountSession) -> None:
        self._session = session
        self._engine = session.engine
        self._lock = session.lock_name
        self._controller_lock = f"{session.lock_name}.controller"
        self._controls = False

    @asynccontextmanager
    async def locked(self, purpose: str, *, timeout_s: float | None = None) -> AsyncIterator[None]:
        """Hold the account's lock; raises StateLocked, naming the holder, after ``timeout_s``.

        None: after the state's lock timeout.
        """
        await self._take_lock(
            purpose, self._engine.options.lock_timeout_s if timeout_s is None else timeout_s
        )
        try:
            yield
        finally:
            await self._engine.locks.release(self._lock)

    async def lock_holder(self) -> LockHolder | None:
        """Return the holder of the account's lock; None when it is free."""
        return await self._engine.locks.holder(self._lock)

    async def owner(self) -> Replica | None:
        """Return the replica that owns the account; None when none does."""
        return await self._engine.owner(self._lock)

    async def try_control(self, purpose: str) -> bool:
        """Become the account's controller, or return False at once where another process is."""
        if self._engine.has_leases or self._controls:
            return True
        locks, name, holder = self._engine.locks, self._controller_lock, self._holder(purpose)
        self._controls = await locks.take(name, holder) or (
            # A process that reads the holder of the lock has a shared lock for a moment.
            await locks.holder(name) is None and await locks.take(name, holder)
        )
        return self._controls

    async def release_control(self) -> None:
        """Stop being the account's controller, and unregister the state for it on this machine."""
        if self._engine.options.registry is not None and self._session.budget is not None:
            self._engine.options.registry.release(self._session.budget, self._lock)
        if self._controls:
            self._controls = False
            await self._engine.locks.release(self._controller_lock)

    async def controller(self) -> LockHolder | None:
        """Return the account's controller; None when there is none, or it is unknown."""
        return None if self._engine.has_leases else await self._engine.locks.holder(self._controller_lock)

    async def _take_lock(self, purpose: str, timeout_s: float) -> None:
        clock, locks = self._engine.clock, self._engine.locks
        deadline = clock.now() + timeout_s
        holder = self._holder(purpose)
        while not await locks.take(self._lock, holder):
            now = clock.now()
            if now >= deadline:
                raise await self._locked_out()
            await clock.sleep_until(min(deadline, now + locks.poll_s))

    def _holder(self, purpose: str) -> LockHolder:
        """Return this process as the holder of a lock that it takes now."""
        wall = self._session.wall()
        return LockHolder(os.getpid(), os.uname().nodename, sanitized(purpose), wall)

    async def _locked_out(self) -> StateLocked:
        holder = await self.lock_holder()
        by = "another process" if holder is None else str(holder)
        message = f"the state {self._engine.place} of account {self._session.account} is locked by {by}"
        hint = "wait until it ends, or use a longer --lock-timeout"
        return StateLocked("state-locked", message, hint)
