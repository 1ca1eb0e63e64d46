"""One pass at a time over many hosts: a lock is a row that its holder keeps alive.

A row says who holds the lock, until when by the database's clock, and under which generation: each
holder's is greater than the one before, by chance, so that none comes again even where a failover
forgot the newest. Who stops renewing loses it to the next who asks; the generation then shows, within
the transaction of a reservation, that it was lost. The lock keeps passes from getting in each other's
way; the rate is safe without it. No other time of the database is ever used.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields

from reconciler.core.state_records import LockHolder
from reconciler.errors import MmpError, StateLocked
from reconciler.store.file_locks import LOCK_POLL_S, StoreMisuse
from reconciler.store.postgres.connections import Connections, DatabaseRow, Mode, PostgresStatement
from reconciler.store.postgres.expiry import unexpired

LEASE_S = 9.0
"""How long a lock outlives its holder's last word: three renewals may be late or lost."""

RENEW_S = 3.0
"""Between two renewals of all locks of the process."""

MAX_STRIDE = 2**32
"""Between two generations: never the same twice, and 2^31 holders fit into a bigint."""

_FREE = ""
"""The holder of a lock that was given back."""

_UNEXPIRED = unexpired(LEASE_S, "held.expires_at")
"""What makes a lock that was not given back one of a living process, in every statement."""

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
"""Shared, so that nobody takes the lock between this look and the commit."""


_FIELDS = fields(LockHolder)


class LeaseLocks:
    """``engine.Locks`` of one process; a task of its own renews those it holds."""

    poll_s = LOCK_POLL_S

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: dict[str, int] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock if it is free or its holder has gone silent."""
        if name in self._held:
            raise StoreMisuse(f"the lock {name} is already held by this process")
        sentence = json.dumps({field.name: getattr(holder, field.name) for field in _FIELDS})
        async with self._connections.transaction() as transaction:
            take = _TAKE, (name, _stride(), sentence, LEASE_S)
            [taken] = await transaction.commit_batch(take)
        if not taken:
            return False
        [(self._held[name],)] = taken
        self._renew_from_now_on()
        return True

    async def release(self, name: str) -> None:
        """Give the lock back, if it is this process's; where that fails it ends by itself."""
        generation = self._held.pop(name, None)
        if not self._held and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None
        if generation is not None:
            with suppress(MmpError):
                async with self._connections.transaction() as transaction:
                    await transaction.run(_RELEASE, (name, generation))

    async def holder(self, name: str) -> LockHolder | None:
        """Return who holds the lock."""
        async with self._connections.transaction(Mode.READ) as transaction:
            found = await transaction.row(_HOLDER, (name,))
        return _parse(found[0]) if found else None

    async def close(self) -> None:
        """Give back every lock held."""
        for name in tuple(self._held):
            await self.release(name)

    def lock_query(self, name: str) -> tuple[PostgresStatement, ...]:
        """Return what to ask for :meth:`still_held`: nothing where this process did not take the lock."""
        return ((_GENERATION, (name,)),) if name in self._held else ()

    def assert_held(self, name: str, found: Sequence[DatabaseRow]) -> None:
        """Raise StateLocked if what :meth:`whose` found is not this process's any more."""
        if [generation for generation, _ in found] != [self._held.get(name)]:
            by = _parse(found[0][1]) if found else None
            message = f"the lock {name} was lost{'' if by is None else f' to {by}'}; nothing was sent"
            hint = "this process did not renew the lock in time; it continues when it has the lock again"
            raise StateLocked("state-lock-lost", message, hint)

    def _renew_from_now_on(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew_for_ever())

    async def _renew_for_ever(self) -> None:
        """Renew all locks held, again and again. A failure is not told: the next reservation sees it."""
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


def _parse(text: str) -> LockHolder | None:
    try:
        return LockHolder(**json.loads(text))
    except (ValueError, TypeError):
        return None
