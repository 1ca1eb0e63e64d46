"""Which account of a ``run`` may write which family, where two files turn out to be for one User ID.

Whose key it is, is known only once it was asked, and files change: so the first to claim a family has
it, and whoever wants it too is held as a whole until one of the two files lets go of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.core.account import claimed_twice
from reconciler.core.model import Desired, Environment
from reconciler.errors import AccountProblem

Owner = tuple[str, Environment]


@dataclass(slots=True)
class Claims:
    """What was granted: by account and environment, the User ID and the file. ``held`` were refused."""

    held: set[Owner] = field(default_factory=set)
    _granted: dict[Owner, tuple[str, Desired]] = field(default_factory=dict)

    def refusal(self, uid: str, desired: Desired) -> AccountProblem | None:
        """Claim the families of ``desired`` for its account, or return who has one of them already."""
        owner = (desired.account, desired.environment)
        self._granted.pop(owner, None)
        found = (claimed_twice([other, (uid, desired)]) for other in self._granted.values())
        problem = next((each for each in found if each is not None), None)
        if problem is not None:
            self.held.add(owner)
            return problem
        self.held.discard(owner)
        self._granted[owner] = (uid, desired)
        return None
