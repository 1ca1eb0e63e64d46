"""Files that may change while they are in force: desired settings and the policy beside them.

Decides when new content replaces the last valid one. It must be valid, and settings must be for the same
account. It must also be complete: its writer closed the file, or, without an event of the writer, two
reads were the same. Invalid content is reported once, and the last valid version stays in use; a return
to that version is reported, too. A deleted file or policy counts as invalid, and it must be missing in
more than one read. The result also says whether the policy can be read now: while it cannot, nothing is
loosened.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
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
from reconciler.core.events import (
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    PolicyAccepted,
    PolicyRejected,
)
from reconciler.core.missing_policy import MIN_DIGITS
from reconciler.core.model import Desired
from reconciler.core.policy import Policy, PolicyInForce
from reconciler.core.problems import Code, Problem, problem
from reconciler.watch.symlinks import DirEntry, WatchPath, resolve_path, union
from reconciler.watch.write_completion import SECOND_READ_S, ReadConfidence

ANY_NAME = "*"
"""Stands for any name in a folder; no settings file has this name."""

R = TypeVar("R")


FileReading = TypeVar("FileReading", bound=Reading | PolicyReading)
Accepted = TypeVar("Accepted", bound=ConfigAccepted | PolicyAccepted)
Rejected = TypeVar("Rejected", bound=ConfigRejected | PolicyRejected)


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing is decided: read again."""


class WatchedSource(ABC, Generic[FileReading, Accepted, Rejected]):
    """A file whose last valid content is in force. It decides whether newer content replaces that.

    ``refused`` is why newer content was rejected; None: none was.
    """

    def __init__(self) -> None:
        self.refused: Rejected | None = None
        self._refused_content: str | None = None
        self._candidate: str | None = None
        """Content that is not in force and was read once, at ``_candidate_since``."""
        self._candidate_since = 0.0

    def _decided(
        self, reading: FileReading, in_force: str | None, confidence: ReadConfidence, now: float
    ) -> Accepted | Rejected | Undecided | None:
        """Decide what the content means; ``in_force`` is the identity of that in force, None: none is."""
        content = _identity(reading)
        if _unreadable(reading.problems) is not None:
            confidence = min(confidence, ReadConfidence.NEEDS_TWO_READS)
        if content == in_force and (
            confidence is not ReadConfidence.WRITING or self._refused_content is None
        ):
            was_refused = self._refused_content is not None
            self._forget_others()
            return self._accepted(reading) if was_refused else None
        if content == self._refused_content:
            self._candidate = None
            return None
        if not self._is_enough(content, confidence, now):
            return Undecided()
        self._candidate, self._refused_content = None, content
        return self._take(reading)

    def _is_enough(self, content: str, confidence: ReadConfidence, now: float) -> bool:
        """Tell whether this read decides; two equal reads do where no event shows a complete file."""
        if confidence is ReadConfidence.NEEDS_TWO_READS and content == self._candidate:
            return now >= self._candidate_since + SECOND_READ_S
        self._candidate = content if confidence is ReadConfidence.NEEDS_TWO_READS else None
        self._candidate_since = now
        return confidence is ReadConfidence.COMPLETE

    def _forget_others(self) -> None:
        """Forget all content that is not in force."""
        self.refused = self._refused_content = self._candidate = None

    def _reject(self, event: Rejected) -> Rejected:
        self.refused = event
        return event

    @abstractmethod
    def _accepted(self, reading: FileReading) -> Accepted:
        """Return the event that the content in force is accepted; ``reading`` shows it."""

    @abstractmethod
    def _take(self, reading: FileReading) -> Accepted | Rejected:
        """Put new content in force, or reject it."""


class WatchedFile(WatchedSource[Reading, ConfigAccepted, ConfigRejected]):
    """One account's file; ``desired`` is always the last valid content, None before the first.

    ``refuse`` may return a problem of valid content, while no content is in force yet.
    """

    def __init__(
        self,
        path: str,
        desired: Desired | None = None,
        refuse: Callable[[Reading], Problem | None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.path = path
        self.desired = desired
        self._refuse = refuse
        self._awaited = False
        self._read = _Remembered(read_config)

    def watch_path(self) -> WatchPath:
        """Return the watch path of the file as it is now."""
        return resolve_path(self.path)

    def read(self) -> Reading:
        """Read the file; the same content as before is not parsed again.

        Raises an OSError that says nothing about the file: too many open files, or a failed disk.
        """
        content = read_content(self.path, OnDisk(), unreadable_unless_shortage)
        return failed_reading(content) if isinstance(content, Problem) else self._read(content, self.path)

    def decide(
        self, reading: Reading, confidence: ReadConfidence, now: float
    ) -> ConfigAccepted | ConfigMissing | ConfigRejected | Undecided | None:
        """Decide what the content means; None if nothing changed."""
        if self.desired is None and _unreadable(reading.problems) is Code.FILE_MISSING:
            return self._missed()
        self._awaited = False
        return self._decided(
            reading, None if self.desired is None else self.desired.sha256, confidence, now
        )

    def _missed(self) -> ConfigMissing | None:
        """Forget the reads of a file that was never valid: it was removed, or its link has no target."""
        before, self._awaited = self._awaited, os.path.lexists(self.path)
        self._forget_others()
        return ConfigMissing((self.path,)) if self._awaited and not before else None

    def _accepted(self, reading: Reading) -> ConfigAccepted:
        assert reading.desired is not None
        return ConfigAccepted(self.path, reading.desired.sha256)

    def _take(self, reading: Reading) -> ConfigAccepted | ConfigRejected:
        problems = self._problems(reading)
        if reading.desired is None or problems:
            return self._reject(ConfigRejected(self.path, problems, in_force=self.desired is not None))
        self.desired = reading.desired
        self._forget_others()
        return self._accepted(reading)

    def _problems(self, reading: Reading) -> tuple[Problem, ...]:
        """Return why the content must not be in force; empty if it may."""
        if reading.desired is None:
            return reading.problems
        wrong = self._refuse(reading) if self.desired is None else _moved(self.desired, reading.desired)
        return () if wrong is None else (wrong,)


class WatchedPolicy(WatchedSource[PolicyReading, PolicyAccepted, PolicyRejected]):
    """One config's policy. ``policy`` is always the last valid one, None: there never was one.

    ``found`` is what was read at the start, None: there was no policy. ``named`` is the file of
    ``--policy``, None: the one beside ``config_path``, if any. Once a policy was seen, valid or not, an
    invalid or deleted file counts as a policy that cannot be read. Only before any policy was seen, a
    missing file means that there is no policy.
    """

    def __init__(self, found: PolicyReading | None, config_path: str, named: str | None) -> None:
        super().__init__()
        self.policy: Policy | None = None
        self.document = ""
        """The text of the file that ``policy`` comes from."""
        self._seen = False
        self._path = ""
        self._config_path = config_path
        self._named = named
        self._read = _Remembered(read_policy)
        if found is not None:
            self._refused_content = _identity(found)
            self._take(found)

    @property
    def in_force(self) -> PolicyInForce:
        """The policy that applies now, and whether its file cannot be read."""
        return PolicyInForce(self.policy, unreadable=self.refused is not None)

    def watch_path(self) -> WatchPath:
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
        self, found: PolicyReading | None, confidence: ReadConfidence, now: float
    ) -> PolicyAccepted | PolicyRejected | Undecided | None:
        """Decide what the content means; None if nothing changed."""
        in_force = self.policy.sha256 if self.policy else None if self._seen else _identity(self._gone())
        return self._decided(found or self._gone(), in_force, confidence, now)

    def _accepted(self, reading: PolicyReading) -> PolicyAccepted:
        accepted = self.policy
        return (
            PolicyAccepted(accepted.path, accepted.sha256)
            if accepted
            else PolicyAccepted(reading.path, None)
        )

    def _take(self, reading: PolicyReading) -> PolicyAccepted | PolicyRejected:
        self._path = reading.path
        # A folder that cannot be listed says nothing about whether a policy is in it.
        self._seen = self._seen or self._named is not None or _is_policy_name(reading.path)
        if reading.policy is None:
            in_force = self.policy is not None
            return self._reject(PolicyRejected(reading.path, reading.problems, in_force=in_force))
        self.policy, self.document = reading.policy, reading.text
        self._forget_others()
        return self._accepted(reading)

    def _gone(self) -> PolicyReading:
        """Return the problem to report if there was a policy and none is found now."""
        hint = "restore it; to continue without a policy, restart mmp"
        if self.policy is not None:
            hint += f' with --no-policy {self.policy.sha256[:MIN_DIGITS]} --reason "…"'
        gone = problem(Code.FILE_MISSING, self._path, "the policy file was deleted", hint)
        return PolicyReading(self._path, "", None, (gone,))


@dataclass(frozen=True, slots=True)
class FilesFound:
    """The settings files of a watched path; ``complete``: it is one file that was just completed."""

    paths: tuple[str, ...]
    complete: bool


class WatchedPath:
    """A file or folder named on the command line, and the settings files there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._found: tuple[str, ...] = ()

    def watch_path(self) -> WatchPath:
        """Return the watch path of the file, or of any name in the folder."""
        return resolve_path(os.path.join(self.path, ANY_NAME) if os.path.isdir(self.path) else self.path)

    def follows(self, entry: DirEntry) -> bool:
        """Tell whether ``entry`` is a settings file in the folder."""
        return is_config_name(entry.name) and entry.directory == file_id(self.path)

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

    def decide(self, paths: tuple[str, ...], confidence: ReadConfidence, now: float) -> FilesFound | None:
        """Return the files that exist now; None if they are the same as before."""
        del now
        before, self._found = self._found, paths
        return (
            None
            if paths == before
            else FilesFound(paths, confidence is ReadConfidence.COMPLETE and paths == (self.path,))
        )


def same_file(one: str, other: str) -> bool:
    """Tell whether two paths lead to one file."""
    return file_id(one) == file_id(other)


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
            with _PARSING:
                self._last = (path, digest, self._read(content, path))
        return self._last[2]


def _is_policy_name(path: str) -> bool:
    """Tell whether the last name of a path is a name for a policy file."""
    return os.path.basename(path) in POLICY_NAMES


def _unreadable(problems: tuple[Problem, ...]) -> Code | None:
    """Return why a file could not be read at all; None if it was read."""
    codes = (Code.FILE_MISSING, Code.FILE_UNREADABLE)
    return next((found.code for found in problems if found.code in codes), None)


def _identity(reading: Reading | PolicyReading) -> str:
    """Return an identity of the content read: its hash, or the hash of its text and problems."""
    accepted = reading.desired if isinstance(reading, Reading) else reading.policy
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
