"""Which account of a ``run`` may write which family, where two files are for one User ID.

The User ID of a key is known only after the exchange was asked, and files change. The first account that
claims a family has it. Another account that wants it is stopped until one of the two files drops the
family. Where replicas share the accounts, the state numbers the claims, and nothing is sent on a claim that
is not recorded yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.core.account_preflight import claim_conflict, remote_claim_conflict
from reconciler.core.model import Desired, Environment
from reconciler.core.replica_assignment import AccountClaim
from reconciler.errors import AccountProblem

ClaimOwner = tuple[str, Environment]

NO_CLAIMS = AccountClaim("", frozenset())
"""The claim of an account that has no recorded claim."""


@dataclass(frozen=True, slots=True)
class RecordedClaims:
    """The claims in the state: those of this process, and those of all accounts that share a User ID.

    ``rivals`` has each claim with the replica that runs the account, the accounts of this process included.
    """

    ours: Mapping[ClaimOwner, AccountClaim] = field(default_factory=dict)
    rivals: Mapping[ClaimOwner, tuple[AccountClaim, str]] = field(default_factory=dict)

    def rank(self, owner: ClaimOwner, wanted: AccountClaim) -> float:
        """Return when an account claimed what it wants; infinite while that is not known."""
        claimed, _ = self.rivals.get(owner, (NO_CLAIMS, ""))
        return claimed.number if claimed.covers(wanted) else float("inf")


@dataclass(slots=True)
class FamilyClaims:
    """The granted claims: by account and environment, the User ID and the file.

    ``denied`` are the accounts whose claim was denied, each with its User ID: they claim no family, and
    still get the claims of others on that User ID. ``recorded`` None: no other process can claim a family.
    ``on_new_claim`` is called when a new claim was granted.
    """

    denied: dict[ClaimOwner, str] = field(default_factory=dict)
    recorded: RecordedClaims | None = None
    on_new_claim: Callable[[], None] = lambda: None
    _granted: dict[ClaimOwner, tuple[str, Desired]] = field(default_factory=dict)

    def claim_families(self, uid: str, desired: Desired) -> AccountProblem | None:
        """Claim the families of ``desired`` for its account, or return which account has one of them."""
        owner = (desired.account, desired.environment)
        self._granted.pop(owner, None)
        rank = self._rank(owner, uid, desired)
        problem = self._claimed_here(uid, desired, rank) or self._claimed_before(uid, desired, rank)
        if problem is not None:
            self.denied[owner] = uid
            return problem
        self.denied.pop(owner, None)
        self._granted[owner] = (uid, desired)
        if not self.on_record(owner):
            self.on_new_claim()
        return None

    def release(self, owner: ClaimOwner) -> None:
        """Drop the claims of an account that this process does not run any more."""
        self.denied.pop(owner, None)
        self._granted.pop(owner, None)

    def claims_to_publish(self) -> dict[ClaimOwner, AccountClaim]:
        """Return the claims of the accounts that run here; no family for a denied account."""
        held = {owner: AccountClaim(uid, frozenset()) for owner, uid in self.denied.items()}
        return held | {owner: _claimed(*each) for owner, each in self._granted.items()}

    def on_record(self, owner: ClaimOwner) -> bool:
        """Tell whether all claims granted to an account are on record, so no other account gets them."""
        if self.recorded is None or owner not in self._granted:
            return True
        return self.recorded.ours.get(owner, NO_CLAIMS).covers(_claimed(*self._granted[owner]))

    def _rank(self, owner: ClaimOwner, uid: str, desired: Desired) -> float:
        return (self.recorded or RecordedClaims()).rank(owner, _claimed(uid, desired))

    def _claimed_here(self, uid: str, desired: Desired, rank: float) -> AccountProblem | None:
        """Return which account here has a family: the first one, unless another one claimed it before."""
        # Compare the User ID first: this runs before every step, and hundreds of accounts have one each.
        granted = (
            each
            for owner, each in self._granted.items()
            if each[0] == uid and self._rank(owner, *each) <= rank
        )
        found = (claim_conflict([each, (uid, desired)]) for each in granted)
        return next((each for each in found if each is not None), None)

    def _claimed_before(self, uid: str, desired: Desired, rank: float) -> AccountProblem | None:
        """Return which account claimed a family earlier, according to the state."""
        rivals = [
            (account, claimed.families, where)
            for (account, environment), (claimed, where) in sorted(
                (self.recorded or RecordedClaims()).rivals.items()
            )
            if account != desired.account
            and environment is desired.environment
            and claimed.uid == uid
            and claimed.number < rank
        ]
        return remote_claim_conflict(uid, desired, rivals)


def _claimed(uid: str, desired: Desired) -> AccountClaim:
    return AccountClaim(uid, frozenset(desired.families))
