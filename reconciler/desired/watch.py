"""Files that may change while they are in force: desired settings and the policy beside them.

Decides when new content replaces the good one: it must hold, settings must be for the same account,
and it must have been read twice the same, since a half-written file can parse. What does not hold is
told once, and the last good one stays in force. A policy that goes away does not hold, either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.model import Desired
from reconciler.core.policy import Policy
from reconciler.core.problems import Code, Problem, problem
from reconciler.desired.config import load_configs
from reconciler.desired.policy import PolicyReading, policy_for
from reconciler.desired.reader import Reading


@dataclass(frozen=True, slots=True)
class Accepted:
    """New content is in force."""

    desired: Desired


@dataclass(frozen=True, slots=True)
class PolicyAccepted:
    """New content of the policy is in force."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Rejected:
    """New content does not hold; ``problems`` say where it is wrong."""

    problems: tuple[Problem, ...]


class WatchedFile:
    """One account's file; ``desired`` is always the last good content."""

    def __init__(self, desired: Desired, load: Callable[[str], Reading] | None = None) -> None:
        self.desired = desired
        self._load = load or _load
        self._looks = _Looks()

    def look(self, *, at_once: bool = False) -> Accepted | Rejected | None:
        """Read the file once more; None when there is nothing new to say.

        ``at_once`` decides on this one look, for when someone says that the file is whole.
        """
        reading = self._load(self.desired.path)
        mark = _mark(reading.desired, reading)
        if not self._looks.are_enough(mark, self.desired.sha256, at_once=at_once):
            return None
        moved = None if reading.desired is None else _moved(self.desired, reading.desired)
        if reading.desired is None or moved is not None:
            return Rejected(reading.problems if moved is None else (moved,))
        self.desired = reading.desired
        return Accepted(reading.desired)


class WatchedPolicy:
    """One config's policy; ``policy`` is always the last good one, None: there never was one.

    ``named`` is the file of ``--policy``, None: whichever lies beside ``config_path``.
    """

    def __init__(self, policy: Policy | None, config_path: str, named: str | None) -> None:
        self.policy = policy
        self._config_path = config_path
        self._named = named
        self._looks = _Looks()

    def look(self, *, at_once: bool = False) -> PolicyAccepted | Rejected | None:
        """Look for the policy once more; None when there is nothing new to say."""
        reading = policy_for(self._config_path, self._named)
        if reading is None:
            reading = self._gone()
        mark = _mark(reading.policy, reading)
        in_force = _mark(self.policy, self._gone())
        if not self._looks.are_enough(mark, in_force, at_once=at_once):
            return None
        if reading.policy is None:
            return Rejected(reading.problems)
        self.policy = reading.policy
        return PolicyAccepted(reading.policy)

    def _gone(self) -> PolicyReading:
        """Return what there is to say where no policy is found."""
        path = self.policy.path if self.policy else ""
        hint = "put it back; to run without one, restart mmp run"
        return PolicyReading(
            path, "", None, (problem(Code.FILE_MISSING, path, "the policy is gone", hint),)
        )


@dataclass(slots=True)
class _Looks:
    """What was seen of a file that is not in force: new content, or content that does not hold."""

    candidate: str | None = None
    decided: str | None = None

    def are_enough(self, mark: str, in_force: str, *, at_once: bool) -> bool:
        """Tell whether to decide about ``mark`` now: seen twice, or at once, and not decided before."""
        if mark == in_force:
            self.candidate = self.decided = None
            return False
        if mark == self.decided:
            return False
        if mark != self.candidate and not at_once:
            self.candidate = mark
            return False
        self.candidate, self.decided = None, mark
        return True


def _load(path: str) -> Reading:
    (reading,) = load_configs([path])
    return reading


def _mark(accepted: Desired | Policy | None, reading: Reading | PolicyReading) -> str:
    """Return what tells this content from any other: its hash, or the hash of what is wrong with it."""
    if accepted is not None:
        return accepted.sha256
    told = reading.text + "".join(f"{found.code}{found.message}" for found in reading.problems)
    return "refused:" + hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()


def _moved(was: Desired, now: Desired) -> Problem | None:
    """Return the problem of a file that is for something else than the running account."""
    identity = (was.account, was.environment, was.credentials_prefix)
    if identity == (now.account, now.environment, now.credentials_prefix):
        return None
    return problem(
        Code.BAD_ACCOUNT,
        now.path,
        f"the file is now for {_whose(now)}, but {_whose(was)} is running",
        "account, environment and credentials cannot change while running: restart mmp run",
    )


def _whose(desired: Desired) -> str:
    prefix = desired.credentials_prefix
    return f"account {desired.account} ({desired.environment.value}, keys {prefix}…)"
