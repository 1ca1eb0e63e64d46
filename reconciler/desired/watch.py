"""A desired-settings file that may change while it is in force.

Decides when new content replaces the good one: it must hold, it must be for the same account, and it
must have been read twice the same, since a half-written file can parse. What does not hold is told
once, and the last good one stays in force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.core.model import Desired
from reconciler.core.problems import Code, Problem, problem
from reconciler.desired.config import load_configs
from reconciler.desired.reader import Reading


@dataclass(frozen=True, slots=True)
class Accepted:
    """New content is in force."""

    desired: Desired


@dataclass(frozen=True, slots=True)
class Rejected:
    """New content does not hold; ``problems`` say where it is wrong."""

    problems: tuple[Problem, ...]


class WatchedFile:
    """One account's file; ``desired`` is always the last good content."""

    def __init__(self, desired: Desired, load: Callable[[str], Reading] | None = None) -> None:
        self.desired = desired
        self._load = load or _load
        self._candidate: str | None = None
        self._rejected: str | None = None

    def look(self, *, at_once: bool = False) -> Accepted | Rejected | None:
        """Read the file once more; None when there is nothing new to say.

        ``at_once`` decides on this one look, for when someone says that the file is whole.
        """
        reading = self._load(self.desired.path)
        mark = _mark(reading)
        if mark == self.desired.sha256:
            self._candidate = self._rejected = None
            return None
        if mark == self._rejected:
            return None
        if mark != self._candidate and not at_once:
            self._candidate = mark
            return None
        return self._decide(reading, mark)

    def _decide(self, reading: Reading, mark: str) -> Accepted | Rejected:
        moved = None if reading.desired is None else _moved(self.desired, reading.desired)
        if reading.desired is None or moved is not None:
            self._rejected = mark
            return Rejected(reading.problems if moved is None else (moved,))
        self.desired = reading.desired
        self._candidate = self._rejected = None
        return Accepted(reading.desired)


def _load(path: str) -> Reading:
    (reading,) = load_configs([path])
    return reading


def _mark(reading: Reading) -> str:
    """Return what tells this content from any other: its hash, or the hash of what is wrong with it."""
    if reading.desired is not None:
        return reading.desired.sha256
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
