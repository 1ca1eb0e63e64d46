"""One pass at a time across hosts: a lock is a row that its holder renews.

A row names the holder of the lock, when it expires by the database's clock, and its generation. Each
generation is greater than the one before by a random number, so that none repeats even if a failover lost
the newest. A holder that stops renewing loses the lock to the next process that takes it. The generation
then shows, within the transaction of a reservation, that the lock was lost. The lock prevents passes from
disturbing each other; the rate is safe without it. No other time of the database is used here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress

from reconciler.core.history_records import LockHolder
from reconciler.errors import MmpError, StateLocked
from reconciler.store.postgres.connections import Connections, DatabaseRow, Mode, PostgresStatement
from reconciler.store.postgres.expiry import unexpired
from reconciler.store.sqlite.file_locks import LOCK_POLL_S, StoreMisuse, holder_text, parse_holder

LEASE_S = 9.0
"""How long a lock lasts after its last renewal: three renewals may be late or lost."""

RENEW_S = 3.0
"""The time between two renewals of all locks of the process."""

MAX_STRIDE = 2**32
"""The range of the difference between two generations: none repeats, and 2^31 holders fit into a bigint."""

_UNEXPIRED = unexpired(LEASE_S, "held.expires_at")
"""The SQL condition for a lock, not released, of a live process, in every statement."""

_TAKE = f"""
INSERT INTO locks AS held (name, generation, holder, expires_at)
VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (name) DO UPDATE
SET generation = held.generation + excluded.generation, holder = excluded.holder,
    expires_at = excluded.expires_at
WHERE held.holder = '' OR NOT {_UNEXPIRED}
RETURNING generation
"""

_RENEW = """
UPDATE locks SET expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE name = %s AND generation = %s
"""

_RELEASE = "UPDATE locks SET holder = '' WHERE name = %s AND generation = %s"

_HOLDER = f"SELECT holder FROM locks AS held WHERE name = %s AND {_UNEXPIRED}"

_GENERATION = "SELECT generation, holder FROM locks WHERE name = %s FOR SHARE"
"""Shared, so that no process takes the lock between this read and the commit."""


class LeaseLocks:
    """``engine.Locks`` of one process; a separate task renews the locks that it holds."""

    poll_s = LOCK_POLL_S

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: dict[str, int] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock if it is free or expired."""
        if name in self._held:
            raise StoreMisuse(f"the lock {name} is already held by this process")
        async with self._connections.transaction() as transaction:
            take = _TAKE, (name, _stride(), holder_text(holder), LEASE_S)
            [taken] = await transaction.commit_batch(take)
        if not taken:
            return False
        [(self._held[name],)] = taken
        self._renew_from_now_on()
        return True

    async def release(self, name: str) -> None:
        """Release the lock, if it is this process's; if that fails, the lock expires."""
        generation = self._held.pop(name, None)
        if not self._held and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if generation is not None:
            with suppress(MmpError):
                async with self._connections.transaction() as transaction:
                    await transaction.run(_RELEASE, (name, generation))

    async def holder(self, name: str) -> LockHolder | None:
        """Return the holder of the lock."""
        async with self._connections.transaction(Mode.READ) as transaction:
            found = await transaction.row(_HOLDER, (name,))
        return parse_holder(found[0]) if found else None

    async def close(self) -> None:
        """Release every lock of this process."""
        for name in tuple(self._held):
            await self.release(name)

    def lock_query(self, name: str) -> tuple[PostgresStatement, ...]:
        """Return the query for :meth:`assert_held`; empty where this process did not take the lock."""
        return ((_GENERATION, (name,)),) if name in self._held else ()

    def assert_held(self, name: str, found: Sequence[DatabaseRow]) -> None:
        """Raise StateLocked if the rows of :meth:`lock_query` show that the lock was lost."""
        if [generation for generation, _ in found] != [self._held.get(name)]:
            by = parse_holder(found[0][1]) if found else None
            message = f"the lock {name} was lost{'' if by is None else f' to {by}'}; nothing was sent"
            hint = "this process did not renew the lock in time; it continues when it has the lock again"
            raise StateLocked("state-lock-lost", message, hint)

    def _renew_from_now_on(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew_for_ever())

    async def _renew_for_ever(self) -> None:
        """Renew all locks repeatedly. A failure is not reported: the next reservation detects it."""
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(MmpError):
                await self._renew()

    async def _renew(self) -> None:
        held = [(LEASE_S, name, generation) for name, generation in sorted(self._held.items())]
        async with self._connections.transaction() as transaction:
            await transaction.run_each(_RENEW, held)


def _stride() -> int:
    return 1 + secrets.randbelow(MAX_STRIDE)
