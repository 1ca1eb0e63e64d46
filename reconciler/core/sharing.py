"""Which accounts this replica should own: decided from who is alive and who owns what.

Every replica asks the same function about nearly the same facts and acts on its own behalf only, so
there is no leader. It says what to take and what to give up, one round at a time; the lease rows, with
their generations, decide who really gets an account. Being wrong here costs a round, never a rule:
pacing and the pass's lock hold whoever owns what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.model import Environment, Family, Kind

ReplicaId = str
"""Names one life of one process: a restarted replica is another one."""

AccountKey = str
"""What an account's lease is kept under: its name, environment and kind of exchange, with dots."""

BEAT_S = 2.5
"""Between two signs of life of a replica, and two looks at the leases."""

LEASE_TTL_S = 8.0
"""How long after its last sign of life a replica is believed alive, by the database's clock. Three
beats may be lost, and a death is still noticed within TTL + BEAT, 10.5 s."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One life of one process that keeps accounts; ``host`` and ``pid`` are for people to find it."""

    id: ReplicaId
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is written for an account: families of a User ID. Who claims later has the larger ``number``."""

    uid: str
    families: frozenset[Family]
    number: int = 0

    def covers(self, other: Claimed) -> bool:
        """Tell whether all that ``other`` claims is claimed by this."""
        return self.uid == other.uid and other.families <= self.families


@dataclass(frozen=True, slots=True)
class Roster:
    """Who lives and who owns what at one moment, by the database.

    ``keeps`` and ``owners`` are as in :class:`Shares`. ``rivals`` are the accounts that somebody has
    settings for and whose User ID another account has too, owned at this moment or not. ``was_alive``:
    whether the database believed the replica that looks alive until then.
    """

    replicas: Mapping[ReplicaId, Replica]
    keeps: Mapping[ReplicaId, frozenset[AccountKey]]
    owners: Mapping[AccountKey, ReplicaId]
    rivals: Mapping[AccountKey, Claimed] = field(default_factory=dict)
    was_alive: bool = True

    def owned_by(self, replica: ReplicaId) -> frozenset[AccountKey]:
        """Return the accounts a replica owns."""
        return frozenset(account for account, owner in self.owners.items() if owner == replica)


@dataclass(frozen=True, slots=True)
class Shares:
    """What one replica sees in one round.

    ``keeps``: by living replica the accounts it has settings for, this one's among them. ``owners``:
    who owns which account, the living only; an account without an owner is free.
    """

    me: ReplicaId
    keeps: Mapping[ReplicaId, frozenset[AccountKey]]
    owners: Mapping[AccountKey, ReplicaId]


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do in this round; both sorted, never about the same account."""

    take: tuple[AccountKey, ...] = ()
    release: tuple[AccountKey, ...] = ()


def moves(shares: Shares) -> Moves:
    """Return this replica's part of what makes shares even with the fewest accounts moved.

    What another one is to have is given up now and taken by it in its next round.
    """
    target = even(shares)
    mine = {account for account, owner in shares.owners.items() if owner == shares.me}
    meant = {account for account, owner in target.items() if owner == shares.me}
    return Moves(
        take=tuple(sorted(meant - shares.owners.keys())),
        release=tuple(sorted(mine - meant)),
    )


def even(shares: Shares) -> dict[AccountKey, ReplicaId]:
    """Return who should own what: owners stay, the free go to who has least, then the fewest move.

    Only a replica that has an account's settings can own it. Afterwards no account could go to a
    replica that has at least two fewer.
    """
    able = {
        account: sorted(replica for replica, kept in shares.keeps.items() if account in kept)
        for account in sorted(frozenset[AccountKey]().union(*shares.keeps.values()))
    }
    target = {account: owner for account, owner in shares.owners.items() if owner in able.get(account, ())}
    counts = dict.fromkeys(shares.keeps, 0) | Counter(target.values())
    for account, replicas in able.items():
        if account not in target:
            _give(account, _least(replicas, counts), target, counts)
    while move := _improvement(able, target, counts):
        _give(*move, target, counts)
    return target


def account_key(account: str, environment: Environment, kind: Kind) -> AccountKey:
    """Return what the lease of an account is kept under."""
    return f"{account}.{environment.value}.{kind.value}"


def account_of(key: AccountKey) -> tuple[str, str]:
    """Return the name and the environment of the account a lease is for."""
    account, environment, _ = key.rsplit(".", 2)
    return account, environment


def good_until(beat_begun_at: float) -> float:
    """Return until when, on its own clock, a replica may think that its leases are its own.

    Its last sign of life was at the database no earlier than it was begun.
    """
    return beat_begun_at + LEASE_TTL_S


def _improvement(
    able: Mapping[AccountKey, list[ReplicaId]],
    target: Mapping[AccountKey, ReplicaId],
    counts: Mapping[ReplicaId, int],
) -> tuple[AccountKey, ReplicaId] | None:
    """Return an account of whoever has most, and who should have it; None when no move helps."""
    for account in sorted(target, key=lambda each: (-counts[target[each]], target[each], each)):
        least = _least(able[account], counts)
        if counts[least] <= counts[target[account]] - 2:
            return account, least
    return None


def _give(
    account: AccountKey, owner: ReplicaId, target: dict[AccountKey, ReplicaId], counts: dict[ReplicaId, int]
) -> None:
    if account in target:
        counts[target[account]] -= 1
    target[account] = owner
    counts[owner] += 1


def _least(replicas: list[ReplicaId], counts: Mapping[ReplicaId, int]) -> ReplicaId:
    return min(replicas, key=lambda replica: (counts[replica], replica))
