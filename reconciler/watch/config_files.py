"""Files that may change while they are in force: desired settings and the policy beside them.

Decides when new content replaces the last valid one. It must be valid, and settings must be for the same
account. It must also be complete: its writer closed the file, or, without an event of the writer, two
reads were the same. Invalid content is reported once, and the last valid version stays in use; a return
to that version is reported, too. A deleted file or policy counts as invalid, and it must be missing in
more than one read. The result also says whether the policy can be read now: while it cannot, nothing is
loosened.
"""

from __future__ import annotations

import gc
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Generic, TypeVar

from reconciler.config.load import (
    POLICY_NAMES,
    OnDisk,
    failed_reading,
    file_id,
    is_config_name,
    is_shortage,
    read_config,
    read_content,
    unreadable_unless_shortage,
)
from reconciler.config.policy import PolicyReading, load_policy, policy_for, read_policy
from reconciler.config.settings import Reading
from reconciler.core.missing_policy import MIN_DIGITS
from reconciler.core.model import Desired
from reconciler.core.policy import Policy, PolicyInForce
from reconciler.core.problems import Code, Problem, problem
from reconciler.watch.symlinks import DirEntry, WatchPath, resolve_path, union
from reconciler.watch.write_completion import SECOND_LOOK_S, ReadConfidence

ANY_NAME = "*"
"""Stands for any name in a folder; no settings file has this name."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ConfigRead:
    """New content is in force, or the content in force is back after invalid content."""

    desired: Desired


@dataclass(frozen=True, slots=True)
class PolicyRead:
    """New content of the policy is in force, or the policy in force is back; None: there is none."""

    path: str
    policy: Policy | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """New content is invalid; ``problems`` say where.

    ``in_force`` False: there never was a valid version that could stay in force.
    """

    path: str
    problems: tuple[Problem, ...]
    in_force: bool


@dataclass(frozen=True, slots=True)
class MissingConfig:
    """There is a link to the file and no file yet, and nothing was ever in force: wait for the file."""

    path: str


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing is decided: read again."""


class WatchedFile:
    """One account's file; ``desired`` is always the last valid content, None before the first.

    ``refuse`` may return a problem of valid content, while no content is in force yet.
    """

    def __init__(
        self,
        path: str,
        desired: Desired | None = None,
        refuse: Callable[[Reading], Problem | None] = lambda _: None,
    ) -> None:
        self.path = path
        self.desired = desired
        self.refused: Rejected | None = None
        """Why newer content was rejected; None: none was."""
        self._refuse = refuse
        self._awaited = False
        self._looks = _Candidate()
        self._read = _Remembered(read_config)

    def route(self) -> WatchPath:
        """Return the watch path of the file as it is now."""
        return resolve_path(self.path)

    def read(self) -> Reading:
        """Read the file; the same content as before is not parsed again.

        Raises an OSError that says nothing about the file: too many open files, or a failed disk.
        """
        content = read_content(self.path, OnDisk(), unreadable_unless_shortage)
        return failed_reading(content) if isinstance(content, Problem) else self._read(content, self.path)

    def decide(
        self, reading: Reading, trust: ReadConfidence, now: float
    ) -> ConfigRead | MissingConfig | Rejected | Undecided | None:
        """Decide what the content means; None if nothing changed."""
        unreadable = _unreadable(reading.problems)
        if self.desired is None and unreadable is Code.FILE_MISSING:
            return self._missed()
        self._awaited = False
        in_force = None if self.desired is None else self.desired.sha256
        trust = trust if unreadable is None else min(trust, ReadConfidence.NEEDS_TWO_READS)
        match self._looks.decide(_mark(reading.desired, reading), in_force, trust, now):
            case _LookResult.SAME:
                return None
            case _LookResult.UNSURE:
                return Undecided()
            case _LookResult.BACK:
                assert self.desired is not None
                self.refused = None
                return ConfigRead(self.desired)
            case _LookResult.NEW:
                return self._taken(reading)

    def _missed(self) -> MissingConfig | None:
        """Forget the reads of a file that was never valid: it was removed, or its link has no target."""
        before, self._awaited = self._awaited, os.path.lexists(self.path)
        self._looks, self.refused = _Candidate(), None
        return MissingConfig(self.path) if self._awaited and not before else None

    def _taken(self, reading: Reading) -> ConfigRead | Rejected:
        problems = self._wrong(reading)
        if reading.desired is None or problems:
            self.refused = Rejected(self.path, problems, in_force=self.desired is not None)
            return self.refused
        self.desired, self.refused, self._looks = reading.desired, None, _Candidate()
        return ConfigRead(reading.desired)

    def _wrong(self, reading: Reading) -> tuple[Problem, ...]:
        """Return why the content must not be in force; empty if it may."""
        if reading.desired is None:
            return reading.problems
        wrong = self._refuse(reading) if self.desired is None else _moved(self.desired, reading.desired)
        return () if wrong is None else (wrong,)


class WatchedPolicy:
    """One config's policy. ``policy`` is always the last valid one, None: there never was one.

    ``found`` is what was read at the start, None: there was no policy. ``named`` is the file of
    ``--policy``, None: the one beside ``config_path``, if any. Once a policy was seen, valid or not, an
    invalid or deleted file counts as a policy that cannot be read. Only before any policy was seen, a
    missing file means that there is no policy.
    """

    def __init__(self, found: PolicyReading | None, config_path: str, named: str | None) -> None:
        self.policy: Policy | None = None
        self.document = ""
        """The text of the file that ``policy`` comes from."""
        self.refused: Rejected | None = None
        """Why a newer policy was rejected; None: none was."""
        self._seen = False
        self._path = ""
        self._config_path = config_path
        self._named = named
        self._looks = _Candidate()
        self._read = _Remembered(read_policy)
        if found is not None:
            self._taken(found)
            self._looks.refused = None if found.policy else _mark(None, found)

    @property
    def in_force(self) -> PolicyInForce:
        """The policy that applies now, and whether its file cannot be read."""
        return PolicyInForce(self.policy, unreadable=self.refused is not None)

    def route(self) -> WatchPath:
        """Return the watch path of the policy, or of the places where one would be found."""
        if self._named is not None:
            return resolve_path(self._named)
        folder = os.path.dirname(self._config_path)
        return union(resolve_path(os.path.join(folder, name)) for name in sorted(POLICY_NAMES))

    def read(self) -> PolicyReading | None:
        """Read the policy; None: there is none. Raises an OSError that says nothing about the policy."""
        load = partial(load_policy, read=self._read, failure=unreadable_unless_shortage)
        return policy_for(self._config_path, self._named, load, unreadable_unless_shortage)

    def decide(
        self, found: PolicyReading | None, trust: ReadConfidence, now: float
    ) -> PolicyRead | Rejected | Undecided | None:
        """Decide what the content means; None if nothing changed."""
        reading = found or self._gone()
        unreadable = _unreadable(reading.problems) is not None
        trust = min(trust, ReadConfidence.NEEDS_TWO_READS) if unreadable else trust
        in_force = None if self.policy is None and self._seen else _mark(self.policy, self._gone())
        match self._looks.decide(_mark(reading.policy, reading), in_force, trust, now):
            case _LookResult.SAME:
                return None
            case _LookResult.UNSURE:
                return Undecided()
            case _LookResult.BACK:
                self.refused = None
                return PolicyRead(self.policy.path if self.policy else reading.path, self.policy)
            case _LookResult.NEW:
                return self._taken(reading)

    def _taken(self, reading: PolicyReading) -> PolicyRead | Rejected:
        self._path = reading.path
        # A folder that cannot be listed says nothing about whether a policy is in it.
        self._seen = self._seen or self._named is not None or _is_policy_name(reading.path)
        if reading.policy is None:
            in_force = self.policy is not None
            self.refused = Rejected(reading.path, reading.problems, in_force=in_force)
            return self.refused
        self.policy, self.refused, self._looks = reading.policy, None, _Candidate()
        self.document = reading.text
        return PolicyRead(reading.path, reading.policy)

    def _gone(self) -> PolicyReading:
        """Return the problem to report if there was a policy and none is found now."""
        hint = "put it back; to go on without one, start mmp again"
        if self.policy is not None:
            hint += f' with --no-policy {self.policy.sha256[:MIN_DIGITS]} --reason "…"'
        gone = problem(Code.FILE_MISSING, self._path, "the policy is gone", hint)
        return PolicyReading(self._path, "", None, (gone,))


@dataclass(frozen=True, slots=True)
class FilesFound:
    """The settings files of a watched path; ``whole``: it is one file that was just completed."""

    paths: tuple[str, ...]
    whole: bool


class WatchedPath:
    """A file or folder named on the command line, and the settings files there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: tuple[str, ...] = ()

    def route(self) -> WatchPath:
        """Return the watch path of the file, or of any name in the folder."""
        return resolve_path(os.path.join(self.path, ANY_NAME) if os.path.isdir(self.path) else self.path)

    def follows(self, spot: DirEntry) -> bool:
        """Tell whether ``spot`` is a settings file in the folder."""
        return is_config_name(spot.name) and spot.directory == file_id(self.path)

    def read(self) -> tuple[str, ...]:
        """Return the paths of the settings files that exist now.

        Raises an OSError that says nothing about these files.
        """
        files = OnDisk()
        try:
            names = files.names(self.path)
        except OSError as error:
            if is_shortage(error):
                raise
            return ()
        if names is None:
            return (self.path,) if os.path.lexists(self.path) else ()
        return tuple(os.path.join(self.path, name) for name in sorted(filter(is_config_name, names)))

    def decide(self, paths: tuple[str, ...], trust: ReadConfidence, now: float) -> FilesFound | None:
        """Return the files that exist now; None if they are the same as before."""
        del now
        before, self._found = self._found, paths
        return (
            None
            if paths == before
            else FilesFound(paths, trust is ReadConfidence.COMPLETE and paths == (self.path,))
        )


def same_file(one: str, other: str) -> bool:
    """Tell whether two paths lead to one file."""
    return file_id(one) == file_id(other)


class _LookResult(Enum):
    """The result of one read."""

    SAME = auto()
    UNSURE = auto()
    BACK = auto()
    NEW = auto()


@dataclass(slots=True)
class _Candidate:
    """The content of a file that is not in force: new content, or invalid content."""

    candidate: str | None = None
    since: float = 0.0
    refused: str | None = None
    """Content that was rejected."""

    def decide(self, mark: str, in_force: str | None, trust: ReadConfidence, now: float) -> _LookResult:
        """Decide about ``mark``, the identity of the content read; ``in_force`` None: none is in force."""
        if mark == in_force and (trust is not ReadConfidence.WRITING or self.refused is None):
            was_refused, self.candidate, self.refused = self.refused is not None, None, None
            return _LookResult.BACK if was_refused else _LookResult.SAME
        if mark == self.refused:
            self.candidate = None
            return _LookResult.SAME
        if not self._enough(mark, trust, now):
            return _LookResult.UNSURE
        self.candidate, self.refused = None, mark
        return _LookResult.NEW

    def _enough(self, mark: str, trust: ReadConfidence, now: float) -> bool:
        if trust is ReadConfidence.COMPLETE:
            return True
        if trust is ReadConfidence.WRITING:
            self.candidate = None
            return False
        if mark != self.candidate:
            self.candidate, self.since = mark, now
            return False
        return now >= self.since + SECOND_LOOK_S


_PARSING = threading.Lock()
"""One file is parsed at a time: more parsing threads would delay the event loop."""


class _Remembered(Generic[R]):
    """Parses content, and remembers the last result: an unchanged file costs only a hash."""

    def __init__(self, read: Callable[[bytes, str], R]) -> None:
        self._read = read
        self._last: tuple[str, bytes, R] | None = None

    def __call__(self, content: bytes, path: str) -> R:
        digest = hashlib.sha256(content).digest()
        if self._last is None or self._last[:2] != (path, digest):
            with _PARSING, _without_collector():
                self._last = (path, digest, self._read(content, path))
        return self._last[2]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn off the garbage collector of cycles: while it runs, no other thread runs.

    Parsing makes no cycles, but so many objects that the collector would start again and again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _is_policy_name(path: str) -> bool:
    """Tell whether the last name of a path is a name for a policy file."""
    return os.path.basename(path) in POLICY_NAMES


def _unreadable(problems: tuple[Problem, ...]) -> Code | None:
    """Return why a file could not be read at all; None if it was read."""
    codes = (Code.FILE_MISSING, Code.FILE_UNREADABLE)
    return next((found.code for found in problems if found.code in codes), None)


def _mark(accepted: Desired | Policy | None, reading: Reading | PolicyReading) -> str:
    """Return an identity of this content: its hash, or the hash of its text and problems."""
    if accepted is not None:
        return accepted.sha256
    message = reading.text + "".join(f"{found.code}{found.message}" for found in reading.problems)
    return "refused:" + hashlib.sha256(message.encode("utf-8", "replace")).hexdigest()


def _moved(was: Desired, now: Desired) -> Problem | None:
    """Return the problem of a file that now names another account, environment or key; None if none."""
    running = (was.account, was.environment, was.credentials_prefix)
    if running == (now.account, now.environment, now.credentials_prefix):
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
