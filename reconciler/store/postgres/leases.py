"""Which replica owns which account: one row per replica (its heartbeat), one per lease (its generation).

Times are the database's. They decide about leases only, never about the rate. A replica that sends a
heartbeat locks its own row first and then reads the leases. A replica that takes over from a dead one locks
the leases first and then checks, without waiting, that the dead one's row is free and expired. A replica
whose heartbeat is in progress counts as live. So two live replicas never own one account. The database
itself frees the leases of a replica whose row is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from reconciler.core.model import Family
from reconciler.core.replica_assignment import (
    ABLE,
    LEASE_TTL_S,
    Ability,
    AccountClaim,
    LeaseName,
    LeaseTable,
    Replica,
    ReplicaId,
)
from reconciler.store.postgres import schema
from reconciler.store.postgres.connections import (
    Connections,
    DatabaseRow,
    PostgresStatement,
    PostgresTransaction,
)
from reconciler.store.postgres.expiry import unexpired

ALIVE = unexpired(LEASE_TTL_S)
"""The SQL condition for a row of ``replicas`` of a live replica, in every statement."""

_HEARTBEAT = f"""
WITH before AS (SELECT {ALIVE} AS alive FROM replicas WHERE id = %(id)s)
INSERT INTO replicas (id, host, pid, keeps, unable, read_age_s, resting, expires_at)
VALUES (%(id)s, %(host)s, %(pid)s, %(keeps)s, %(unable)s::jsonb, %(read_age_s)s, %(resting)s::jsonb,
  clock_timestamp() + make_interval(secs => %(ttl)s))
ON CONFLICT (id) DO UPDATE SET keeps = excluded.keeps, unable = excluded.unable,
  read_age_s = excluded.read_age_s, resting = excluded.resting, expires_at = excluded.expires_at
RETURNING coalesce((SELECT alive FROM before), false)
"""
"""Returns whether the replica counted as live before this statement."""

CLAIM_LOCK = 0x4D4D5043
"""The four bytes ``MMPC``: one replica claims at a time, so that of two that do, one sees the other."""

_CLAIM_ALONE = "SELECT pg_advisory_xact_lock(%s)"

_CLAIM = """
UPDATE leases SET uid = %(uid)s, families = %(families)s, claimed = nextval('mmp.leases_claimed')
WHERE name = %(name)s AND replica = %(replica)s
  AND (uid, families) IS DISTINCT FROM (%(uid)s, %(families)s::text[])
"""

_SAME_UID = """
SELECT name, uid, families, claimed FROM leases one WHERE uid <> '' AND EXISTS (
  SELECT FROM leases other WHERE other.uid = one.uid AND other.name <> one.name)
"""

_ALIVE_REPLICAS = f"SELECT id, host, pid, keeps, unable, read_age_s, resting FROM replicas WHERE {ALIVE}"

_USABLE = f"SELECT {schema.USABLE}"

_LEASES = "SELECT name, replica, generation FROM leases WHERE replica IS NOT NULL"

_DEAD = f"""
SELECT id FROM replicas WHERE NOT {ALIVE} AND NOT EXISTS (SELECT FROM leases WHERE replica = replicas.id)
"""

_DELETE_DEAD = f"DELETE FROM replicas WHERE id IN ({_DEAD} FOR UPDATE SKIP LOCKED)"
"""A dead replica's row stays until other replicas own its accounts. A replica that only seems dead, because
a clock was set or it was stopped, gets its accounts back; and no old row becomes live when the clock
reaches its time."""

_IS_ALIVE = f"SELECT 1 FROM replicas WHERE id = %s AND {ALIVE} FOR SHARE"

_MAKE = """
INSERT INTO leases (name, replica, generation, uid, families, claimed)
SELECT name, NULL, 0, '', '{}', 0 FROM unnest(%s::text[]) AS name ORDER BY name ON CONFLICT DO NOTHING
"""

_LOCK = "SELECT name, replica FROM leases WHERE name = ANY(%s) ORDER BY name FOR UPDATE"

_EXPIRED = f"""
SELECT id FROM replicas WHERE id = ANY(%s) AND NOT {ALIVE}
ORDER BY id FOR SHARE SKIP LOCKED
"""

_TAKE = """
UPDATE leases SET replica = %s, generation = generation + 1
WHERE name = ANY(%s) RETURNING name, generation
"""

_RELEASE = """
UPDATE leases SET replica = NULL
WHERE replica = %s AND (name, generation) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))
"""

_LEAVE = "DELETE FROM replicas WHERE id = %s"

_OWNER = f"""
SELECT r.id, r.host, r.pid FROM leases l JOIN replicas r ON r.id = l.replica
WHERE l.name = %s AND {ALIVE}
"""


class Leases:
    """``ports.LeaseStore`` of one replica."""

    def __init__(self, connections: Connections, replica: Replica) -> None:
        self._connections = connections
        self._me = replica
        self._generations: dict[LeaseName, int] = {}
        self._claimed: dict[LeaseName, AccountClaim] = {}

    async def heartbeat(
        self, keeps: frozenset[LeaseName], claims: Mapping[LeaseName, AccountClaim], ability: Ability = ABLE
    ) -> LeaseTable:
        """Renew the row of this replica; returns the live replicas and which accounts they own."""
        new = {name: claim for name, claim in claims.items() if self._claimed.get(name) != claim}
        self._claimed = {}
        async with self._connections.transaction() as transaction:
            [[(was_alive,)], *_, [version], living, leases, same_uid, dead] = await transaction.query_batch(
                self._heartbeat(keeps, ability),
                *self._claim(new),
                (_USABLE, ()),
                (_ALIVE_REPLICAS, ()),
                (_LEASES, ()),
                (_SAME_UID, ()),
                (_DEAD, ()),
            )
            schema.refuse_newer(self._connections.address.shown, *version)
            if dead:
                await transaction.run(_DELETE_DEAD)
        alive = {row[0] for row in living}
        owned = [lease for lease in leases if lease[1] in alive]
        self._generations = {name: number for name, owner, number in owned if owner == self._me.id}
        self._claimed = {name: claim for name, claim in claims.items() if name in self._generations}
        return _lease_table(living, owned, same_uid, was_alive=was_alive)

    def _heartbeat(self, keeps: frozenset[LeaseName], ability: Ability) -> PostgresStatement:
        me = self._me
        return _HEARTBEAT, {
            "id": me.id,
            "host": me.host,
            "pid": me.pid,
            "keeps": sorted(keeps),
            "unable": json.dumps(ability.unable, sort_keys=True),
            "read_age_s": ability.read_age_s,
            "resting": json.dumps(ability.resting, sort_keys=True),
            "ttl": LEASE_TTL_S,
        }

    def _claim(self, new: Mapping[LeaseName, AccountClaim]) -> list[PostgresStatement]:
        if not new:
            return []
        each = [(_CLAIM, _claim(self._me, *one)) for one in sorted(new.items(), key=str)]
        return [(_CLAIM_ALONE, (CLAIM_LOCK,)), *each]

    async def take(self, accounts: Collection[LeaseName]) -> Mapping[LeaseName, ReplicaId | None]:
        """Acquire accounts that are free or of a dead replica; returns the previous owner of each one."""
        names = sorted(accounts)
        async with self._connections.transaction() as transaction:
            if await transaction.row(_IS_ALIVE, (self._me.id,)) is None:
                return {}
            await transaction.run(_MAKE, (names,))
            owners: dict[LeaseName, ReplicaId | None] = dict(await transaction.rows(_LOCK, (names,)))
            expired = await transaction.rows(_EXPIRED, (sorted({one for one in owners.values() if one}),))
            dead = {None, *(replica for (replica,) in expired)}
            free = [name for name, owner in owners.items() if owner in dead]
            [found] = await transaction.commit_batch((_TAKE, (self._me.id, free)))
            taken: list[tuple[LeaseName, int]] = [(name, number) for name, number in found]
        self._generations.update(taken)
        return {name: owners[name] for name, _ in taken}

    async def release(self, accounts: Collection[LeaseName]) -> None:
        """Release the leases of accounts."""
        given = {name: self._generations[name] for name in sorted(accounts) if name in self._generations}
        async with self._connections.transaction() as transaction:
            await transaction.run(_RELEASE, (self._me.id, list(given), list(given.values())))
        for name in given:
            del self._generations[name]
            self._claimed.pop(name, None)

    async def leave(self) -> None:
        """Release all leases, delete the row of this replica, and close."""
        try:
            async with self._connections.transaction() as transaction:
                await transaction.run(_LEAVE, (self._me.id,))
        finally:
            await self._connections.close()


async def lease_owner(transaction: PostgresTransaction, name: LeaseName) -> Replica | None:
    """Return the live replica that owns an account; None when none does."""
    found = await transaction.row(_OWNER, (name,))
    return None if found is None else Replica(*found)


def _claim(me: Replica, name: LeaseName, claim: AccountClaim) -> dict[str, object]:
    return {"uid": claim.uid, "families": sorted(claim.families), "name": name, "replica": me.id}


def _lease_table(
    living: list[DatabaseRow], owned: list[DatabaseRow], same_uid: list[DatabaseRow], *, was_alive: bool
) -> LeaseTable:
    keeps = {name: frozenset[LeaseName](accounts) for name, _, _, accounts, *_ in living}
    configured = frozenset[LeaseName]().union(*keeps.values())
    return LeaseTable(
        replicas={name: Replica(name, host, pid) for name, host, pid, *_ in living},
        keeps=keeps,
        owners={name: owner for name, owner, _ in owned},
        same_uid_accounts={
            name: AccountClaim(uid, frozenset(Family(family) for family in families), number)
            for name, uid, families, number in same_uid
            if name in configured
        },
        was_alive=was_alive,
        abilities={name: Ability(unable, age_s, resting) for name, *_, unable, age_s, resting in living},
    )
