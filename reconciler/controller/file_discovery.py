"""The files of a ``run``: which settings files exist, the content of each, and the policies beside them.

A path without a file is watched until a file appears. A file that disappears ends nothing: its last valid
content stays in use. Accounts in one folder share a policy, and ``--policy`` is for all accounts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reconciler.config.load import unreadable_unless_shortage
from reconciler.config.policy import PolicyReading, policy_for
from reconciler.config.settings import Reading
from reconciler.core.events import (
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    Event,
    PolicyAccepted,
    PolicyRejected,
    RejectedConfigRemoved,
)
from reconciler.core.model import Desired
from reconciler.core.problems import Problem
from reconciler.watch.last_valid_content import (
    FilesFound,
    WatchedFile,
    WatchedPath,
    WatchedPolicy,
    same_file,
)
from reconciler.watch.watcher import FileWatcher, Watchable, WatchHandle
from reconciler.watch.write_completion import FileTracker

ConfigEvent = ConfigAccepted | ConfigMissing | ConfigRejected
PolicyEvent = PolicyAccepted | PolicyRejected


@dataclass(slots=True)
class WatchedConfigs:
    """The settings files that are watched, by path.

    ``has_account`` tells whether an account runs from the file at a path. ``reject`` returns why a new file
    must not start an account; None if it may. ``on_config`` gets every decision about a file.
    """

    watcher: FileWatcher
    has_account: Callable[[str], bool]
    reject: Callable[[Reading], Problem | None]
    on_config: Callable[[WatchedFile, ConfigEvent], None]
    report: Callable[[Event], None]
    _files: dict[str, WatchedFile] = field(default_factory=dict)
    _handles: dict[str, WatchHandle] = field(default_factory=dict)

    def add_path(self, path: str) -> None:
        """Watch a file or folder of the command line for settings files."""
        place = WatchedPath(path)
        with suppress(OSError):  # a folder that cannot be listed now is listed soon
            if not place.read():
                self.report(ConfigMissing((path,)))
        self.watcher.add(place, lambda seen: self._on_paths(place, seen), place.follows)

    def add_file(self, file: WatchedFile, *, complete: bool = False) -> None:
        """Watch a settings file; ``complete``: its writer has just closed it."""
        self._files[file.path] = file
        watched: Watchable[Reading, ConfigEvent] = file
        handle = self.watcher.add(watched, lambda event: self.on_config(file, event))
        self._handles[file.path] = handle
        if complete:
            handle.tracker = FileTracker(handle.tracker.read_at, complete=True)

    def is_watched(self, file: WatchedFile) -> bool:
        """Tell whether this file is still watched."""
        return self._files.get(file.path) is file

    def handle(self, file: WatchedFile) -> WatchHandle:
        """Return the handle of a watched file."""
        return self._handles[file.path]

    def _on_paths(self, place: WatchedPath, seen: FilesFound) -> None:
        """Watch the files that a path leads to now, and forget those that never were valid."""
        for path in seen.paths:
            if not any(same_file(path, known) for known in self._files):
                self.add_file(WatchedFile(path, refuse=self.reject), complete=seen.complete)
        unused = [path for path in self._files if not self.has_account(path) and _is_no_file(path)]
        for path in unused:
            del self._files[path]
            self.watcher.remove(self._handles.pop(path))
            self.report(RejectedConfigRemoved(path))
        if not seen.paths and not any(_leads_to(place, path) for path in self._files):
            self.report(ConfigMissing((place.path,)))


def _is_no_file(path: str) -> bool:
    """Tell whether a path does not exist or is a folder now, as a link without a target may become one."""
    return not os.path.lexists(path) or os.path.isdir(path)


def _leads_to(place: WatchedPath, path: str) -> bool:
    return Path(place.path) in (Path(path), Path(path).parent)


def initial_policies(
    desired: Sequence[Desired], found: Sequence[PolicyReading | None], named: str | None
) -> dict[str, WatchedPolicy]:
    """Return the policies at the start, by folder or by the name given with ``--policy``."""
    policies: dict[str, WatchedPolicy] = {}
    for one, reading in zip(desired, found, strict=True):
        policies.setdefault(_key(one.path, named), WatchedPolicy(reading, one.path, named))
    if named is not None and not desired:
        policies[named] = WatchedPolicy(policy_for("", named), "", named)
    return policies


@dataclass(slots=True)
class WatchedPolicies:
    """The watched policies. ``on_policy`` gets the content of each at the start, and every change.

    ``policies`` are by folder, or by ``named``, the file of ``--policy``.
    """

    watcher: FileWatcher
    policies: dict[str, WatchedPolicy]
    named: str | None
    on_policy: Callable[[WatchedPolicy, PolicyEvent], None]
    _handles: dict[WatchedPolicy, WatchHandle] = field(default_factory=dict)

    def watch(self) -> None:
        """Watch the policies that exist at the start."""
        for policy in self.policies.values():
            self._watch(policy)

    def has_policy(self, config_path: str) -> bool:
        """Tell whether the policy of a settings file was read already."""
        return _key(config_path, self.named) in self.policies

    def policy(self, config_path: str) -> WatchedPolicy:
        """Return the policy of a settings file."""
        return self.policies[_key(config_path, self.named)]

    def handle(self, policy: WatchedPolicy) -> WatchHandle:
        """Return the handle of a watched policy."""
        return self._handles[policy]

    async def read(self, config_path: str) -> PolicyReading | None:
        """Read the policy of a new settings file, in a thread; None: there is none."""
        read = partial(policy_for, config_path, self.named, failure=unreadable_unless_shortage)
        return await self.watcher.retried_in_thread(read)

    def add(self, config_path: str, found: PolicyReading | None) -> None:
        """Watch the policy of a new settings file; another file of its folder may have added it already."""
        if not self.has_policy(config_path):
            policy = WatchedPolicy(found, config_path, self.named)
            self.policies[_key(config_path, self.named)] = policy
            self._watch(policy)

    def _watch(self, policy: WatchedPolicy) -> None:
        if policy.policy is not None:
            self.on_policy(policy, PolicyAccepted(policy.policy.path, policy.policy.sha256))
        if policy.refused is not None:
            self.on_policy(policy, policy.refused)
        watched: Watchable[PolicyReading | None, PolicyEvent] = policy
        self._handles[policy] = self.watcher.add(watched, lambda event: self.on_policy(policy, event))


def _key(config_path: str, named: str | None) -> str:
    return os.path.dirname(config_path) if named is None else named
