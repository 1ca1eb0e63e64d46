"""Which account of a ``run`` may write which family, where two files turn out to be for one User ID.

Whose key it is, is known only once it was asked, and files change: so the first to claim a family has
it, and whoever wants it too is held as a whole until one of the two files lets go of it. Where replicas
share the accounts out, the state numbers what is claimed, and nothing is written on a claim that is not
on record there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler.core.account import claimed_elsewhere, claimed_twice
from reconciler.core.model import Desired, Environment
from reconciler.core.sharing import Claimed
from reconciler.errors import AccountProblem

Owner = tuple[str, Environment]

NOTHING = Claimed("", frozenset())
"""What an account claims that is held."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the state has on record: of accounts kept here, and of others with who keeps each."""

    ours: Mapping[Owner, Claimed] = field(default_factory=dict)
    others: Mapping[Owner, tuple[Claimed, str]] = field(default_factory=dict)
    numbers: Mapping[Owner, int] = field(default_factory=dict)
    """Of accounts kept here whose User ID others have too."""


@dataclass(slots=True)
class Claims:
    """What was granted: by account and environment, the User ID and the file. ``held`` were refused.

    ``recorded`` None: nobody else can claim anything. ``news`` is told when something new was granted.
    """

    held: set[Owner] = field(default_factory=set)
    recorded: Recorded | None = None
    news: Callable[[], None] = lambda: None
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
        if not self.on_record(owner):
            self.news()
        return None

    def forget(self, owner: Owner) -> None:
        """Let go of what an account claims that is not kept here any more."""
        self.held.discard(owner)
        self._granted.pop(owner, None)

    def made(self) -> dict[Owner, Claimed]:
        """Return what the accounts that are kept here claim; nothing where they are held."""
        granted = {owner: _claimed(*each) for owner, each in self._granted.items()}
        return {**dict.fromkeys(self.held, NOTHING), **granted}

    def on_record(self, owner: Owner) -> bool:
        """Tell whether all that was granted to an account is on record, so that nobody else gets it."""
        if self.recorded is None or owner not in self._granted:
            return True
        return self.recorded.ours.get(owner, NOTHING).covers(_claimed(*self._granted[owner]))

    def _elsewhere(self, uid: str, desired: Desired) -> AccountProblem | None:
        recorded = self.recorded or Recorded()
        number = recorded.numbers.get((desired.account, desired.environment))
        rivals = [
            (account, claimed.families, where)
            for (account, environment), (claimed, where) in sorted(recorded.others.items())
            if claimed.uid == uid
            and environment is desired.environment
            and (number is None or claimed.number < number)
        ]
        return claimed_elsewhere(uid, desired, rivals)


def _claimed(uid: str, desired: Desired) -> Claimed:
    return Claimed(uid, frozenset(desired.families))
