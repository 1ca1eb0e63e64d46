"""Which account of a ``run`` may write which family, where two files turn out to be for one User ID.

Whose key it is, is known only once it was asked, and files change: so the first to claim a family has
it, and whoever wants it too is held as a whole until one of the two files lets go of it. Where replicas
share the accounts out, what others claim is told by the state with every beat, and counts as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.account import claimed_elsewhere, claimed_twice
from reconciler.core.model import Desired, Environment
from reconciler.core.sharing import Claimed
from reconciler.errors import AccountProblem

Owner = tuple[str, Environment]


@dataclass(slots=True)
class Claims:
    """What was granted: by account and environment, the User ID and the file. ``held`` were refused.

    ``elsewhere`` is what accounts of other replicas claim, each with who keeps it.
    """

    held: set[Owner] = field(default_factory=set)
    elsewhere: Mapping[Owner, tuple[Claimed, str]] = field(default_factory=dict)
    _granted: dict[Owner, tuple[str, Desired]] = field(default_factory=dict)

    def refusal(self, uid: str, desired: Desired) -> AccountProblem | None:
        """Claim the families of ``desired`` for its account, or return who has one of them already."""
        owner = (desired.account, desired.environment)
        self._granted.pop(owner, None)
        found = (claimed_twice([other, (uid, desired)]) for other in self._granted.values())
        problem = next((each for each in found if each is not None), None) or self._elsewhere(uid, desired)
        if problem is not None:
            self.held.add(owner)
            return problem
        self.held.discard(owner)
        self._granted[owner] = (uid, desired)
        return None

    def forget(self, owner: Owner) -> None:
        """Let go of what an account claims that is not kept here any more."""
        self.held.discard(owner)
        self._granted.pop(owner, None)

    def granted(self) -> Mapping[Owner, Claimed]:
        """Return what the accounts that are kept here write."""
        return {
            owner: Claimed(uid, frozenset(desired.families))
            for owner, (uid, desired) in self._granted.items()
        }

    def _elsewhere(self, uid: str, desired: Desired) -> AccountProblem | None:
        rivals = [
            (account, claimed.families, where)
            for (account, environment), (claimed, where) in self.elsewhere.items()
            if claimed.uid == uid and environment is desired.environment
        ]
        return claimed_elsewhere(uid, desired, rivals)
