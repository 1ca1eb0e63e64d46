"""Which accounts this replica should own, decided from which replicas are alive and own what.

Every replica calls the same function with nearly the same facts and acts for itself only, so there is no
leader. It returns what to take and what to release, one round at a time; the lease rows, with their
generations, decide which replica gets an account. An error here costs a round, but breaks no rule: pacing
and the lock of a pass are safe whichever replica owns the account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.model import Environment, ExchangeKind, Family

ReplicaId = str
"""Names one life of one process: a restarted replica is another one."""

LeaseName = str
"""The key of an account's lease: its name, environment and kind of exchange, with dots."""

HEARTBEAT_S = 2.5
"""Time between two heartbeats of a replica, and between two reads of the lease table."""

LEASE_TTL_S = 8.0
"""How long after its last heartbeat a replica counts as alive, by the database's clock. Three heartbeats
may be lost, and a death is still noticed within LEASE_TTL_S + HEARTBEAT_S, 10.5 s."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One life of a process that runs accounts; ``host`` and ``pid`` let people find it."""

    id: ReplicaId
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class AccountClaim:
    """What is written for an account: families of a User ID. A later claim has the larger ``number``."""

    uid: str
    families: frozenset[Family]
    number: int = 0

    def covers(self, other: AccountClaim) -> bool:
        """Tell whether this claims all that ``other`` claims."""
        return self.uid == other.uid and other.families <= self.families


@dataclass(frozen=True, slots=True)
class Ability:
    """What a replica reports of how well it can serve accounts.

    ``unable``: the accounts that it cannot serve, with the seconds since the first failed read, or None
    where that says nothing: the key is refused there, or the account does not run there. ``read_age_s``:
    since its newest live read of any account; None where there was none. ``resting``: the accounts that it
    gave up and does not take for a while, with the seconds since a read showed that it could serve them.
    """

    unable: Mapping[LeaseName, float | None] = field(default_factory=dict)
    read_age_s: float | None = None
    resting: Mapping[LeaseName, float | None] = field(default_factory=dict)


ABLE = Ability()


@dataclass(frozen=True, slots=True)
class LeaseTable:
    """The living replicas and the owners of accounts at one moment, by the database.

    ``keeps`` and ``owners`` are as in :class:`OwnershipView`. ``same_uid_accounts`` are the accounts that
    a replica has settings for and whose User ID another account has too, owned at this moment or not.
    ``was_alive``: whether this replica counted as alive until this read. ``abilities`` are by replica.
    """

    replicas: Mapping[ReplicaId, Replica]
    keeps: Mapping[ReplicaId, frozenset[LeaseName]]
    owners: Mapping[LeaseName, ReplicaId]
    same_uid_accounts: Mapping[LeaseName, AccountClaim] = field(default_factory=dict)
    was_alive: bool = True
    abilities: Mapping[ReplicaId, Ability] = field(default_factory=dict)

    def owned_by(self, replica: ReplicaId) -> frozenset[LeaseName]:
        """Return the accounts a replica owns."""
        return frozenset(account for account, owner in self.owners.items() if owner == replica)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """The leases as this replica knows them, where replicas share the accounts.

    ``configured`` are the accounts that this replica has settings for. ``leases`` None: no table was read
    yet. ``safe_until``: until then this replica may act on its own leases. ``error``: why the state could
    not be reached.
    """

    me: Replica
    configured: frozenset[LeaseName] = frozenset()
    leases: LeaseTable | None = None
    safe_until: float = float("-inf")
    error: str = ""

    @property
    def unable(self) -> frozenset[LeaseName]:
        """The accounts that this replica reported it cannot serve."""
        mine = None if self.leases is None else self.leases.abilities.get(self.me.id)
        return frozenset() if mine is None else frozenset(mine.unable)


@dataclass(frozen=True, slots=True)
class OwnershipView:
    """What one replica sees in one round.

    ``keeps``: by living replica the accounts it has settings for, including this replica. ``owners``:
    the living owner of each account; an account without an owner is free. ``abilities``: by living
    replica what it reports; one that is left out can serve every account.
    """

    me: ReplicaId
    keeps: Mapping[ReplicaId, frozenset[LeaseName]]
    owners: Mapping[LeaseName, ReplicaId]
    abilities: Mapping[ReplicaId, Ability] = field(default_factory=dict)

    def ability(self, replica: ReplicaId) -> Ability:
        """Return what a replica reports."""
        return self.abilities.get(replica, ABLE)


@dataclass(frozen=True, slots=True)
class Rebalance:
    """What to do in this round; both sorted, never about the same account."""

    take: tuple[LeaseName, ...] = ()
    release: tuple[LeaseName, ...] = ()


def rebalance(shares: OwnershipView) -> Rebalance:
    """Return this replica's part of balancing the accounts with the fewest moves.

    An account that another replica should have is released now; that replica takes it in its next round.
    """
    target = balance(shares)
    mine = {account for account, owner in shares.owners.items() if owner == shares.me}
    meant = {account for account, owner in target.items() if owner == shares.me}
    return Rebalance(take=tuple(sorted(meant - shares.owners.keys())), release=tuple(sorted(mine - meant)))


def balance(shares: OwnershipView) -> dict[LeaseName, ReplicaId]:
    """Return the owner that each account should have.

    Owners stay, free accounts go to the replica with the fewest, then as few as possible move. Only a
    replica that has an account's settings can own it, and of those only one that can serve it. If there is
    none, one where it rests that has read since can have it; else the account stays where it is.
    Afterwards no account could go to a replica that has at least two fewer.
    """
    workers = {
        account: sorted(replica for replica, named in shares.keeps.items() if account in named)
        for account in sorted(frozenset[LeaseName]().union(*shares.keeps.values()))
    }
    able = {
        account: [replica for replica in replicas if _may_have(shares, replica, account)]
        or [replica for replica in replicas if _may_have_again(shares, replica, account)]
        for account, replicas in workers.items()
    }
    stuck = [account for account, replicas in able.items() if not replicas]
    able |= {account: _owner_among(shares, account, workers[account]) for account in stuck}
    target = {account: owner for account, owner in shares.owners.items() if owner in able.get(account, ())}
    counts = dict.fromkeys(shares.keeps, 0) | Counter(target.values())
    for account, replicas in able.items():
        if account not in target:
            _give(account, _least(replicas, counts), target, counts)
    able |= {account: [target[account]] for account in stuck}
    while move := _improvement(able, target, counts):
        _give(*move, target, counts)
    return target


def may_take_left(shares: OwnershipView, account: LeaseName) -> bool:
    """Tell whether an account was free for so long that any replica may take it."""
    others = [replica for replica, named in shares.keeps.items() if account in named]
    unable = [replica for replica in others if account in shares.ability(replica).unable]
    resting = [replica for replica in others if account in shares.ability(replica).resting]
    worse = [replica for replica in others if replica in unable or replica in resting]
    return shares.me not in worse or (worse == others and (shares.me not in unable or unable == others))


def awaited(shares: OwnershipView) -> tuple[LeaseName, ...]:
    """Return the accounts that wait for proof that this replica can read them: a read now would give it."""
    ability = shares.ability(shares.me)
    return tuple(
        account
        for account, owner in sorted(shares.owners.items())
        if owner != shares.me and account in shares.keeps[shares.me]
        if shares.ability(owner).unable.get(account) is not None
        if not _has_read_since(shares, shares.me, account, ability.resting.get(account, ability.read_age_s))
    )


def _may_have(shares: OwnershipView, replica: ReplicaId, account: LeaseName) -> bool:
    """Tell whether a replica can serve an account, as far as it is known.

    Where the owner's reads fail, it may be the exchange: then another one has to have read since.
    """
    ability = shares.ability(replica)
    if account in ability.unable:
        return False
    if shares.owners.get(account) == replica:
        return True
    return account not in ability.resting and _has_read_since(shares, replica, account, ability.read_age_s)


def _may_have_again(shares: OwnershipView, replica: ReplicaId, account: LeaseName) -> bool:
    """Tell whether a replica may serve a resting account earlier because no other replica can.

    That takes a read since the owner's began to fail. A refused key is no reason: a read says too little.
    """
    ability, owner = shares.ability(replica), shares.owners.get(account)
    if account in ability.unable or account not in ability.resting:
        return False
    if owner is None:
        return True
    if shares.ability(owner).unable.get(account) is None:
        return False
    return _has_read_since(shares, replica, account, ability.resting[account])


def _has_read_since(
    shares: OwnershipView, replica: ReplicaId, account: LeaseName, read_age_s: float | None
) -> bool:
    """Tell whether a replica has read since the reads of an account's owner fail; True if they do not."""
    owner = shares.owners.get(account)
    failing_s = None if owner in (None, replica) else shares.ability(owner or "").unable.get(account)
    # The two reports may be up to a lease time apart.
    return failing_s is None or (read_age_s is not None and read_age_s + LEASE_TTL_S <= failing_s)


def _owner_among(shares: OwnershipView, account: LeaseName, replicas: list[ReplicaId]) -> list[ReplicaId]:
    owner = shares.owners.get(account)
    return [owner] if owner is not None and owner in replicas else replicas


def lease_name(account: str, environment: Environment, kind: ExchangeKind) -> LeaseName:
    """Return the key of an account's lease."""
    return f"{account}.{environment.value}.{kind.value}"


def parse_lease_name(key: LeaseName) -> tuple[str, str]:
    """Return the name and the environment of the account a lease is for."""
    account, environment, _ = key.rsplit(".", 2)
    return account, environment


def leases_safe_until(beat_begun_at: float) -> float:
    """Return until when, on its own clock, a replica may rely on its leases.

    Its last heartbeat reached the database no earlier than it was begun.
    """
    return beat_begun_at + LEASE_TTL_S


def _improvement(
    able: Mapping[LeaseName, list[ReplicaId]],
    target: Mapping[LeaseName, ReplicaId],
    counts: Mapping[ReplicaId, int],
) -> tuple[LeaseName, ReplicaId] | None:
    """Return an account of the replica with most, and its new owner; None when no move helps."""
    for account in sorted(target, key=lambda each: (-counts[target[each]], target[each], each)):
        least = _least(able[account], counts)
        if counts[least] <= counts[target[account]] - 2:
            return account, least
    return None


def _give(
    account: LeaseName, owner: ReplicaId, target: dict[LeaseName, ReplicaId], counts: dict[ReplicaId, int]
) -> None:
    if account in target:
        counts[target[account]] -= 1
    target[account] = owner
    counts[owner] += 1


def _least(replicas: list[ReplicaId], counts: Mapping[ReplicaId, int]) -> ReplicaId:
    return min(replicas, key=lambda replica: (counts[replica], replica))
