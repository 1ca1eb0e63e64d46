"""The policies of a ``run``: accounts in one folder share a policy, ``--policy`` is for all accounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from reconciler.config.load import unreadable_unless_shortage
from reconciler.config.policy import PolicyReading, policy_for
from reconciler.core.model import Desired
from reconciler.watch.config_files import PolicyRead, Rejected, WatchedPolicy
from reconciler.watch.watcher import FileWatcher, Watchable, WatchHandle

OnPolicy = Callable[[WatchedPolicy, PolicyRead | Rejected], None]
"""Handles new content of a policy, or its problems."""


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


class WatchedPolicies:
    """The watched policies. ``on_policy`` gets the content of each at the start, and every change."""

    def __init__(
        self,
        policies: dict[str, WatchedPolicy],
        named: str | None,
        watcher: FileWatcher,
        on_policy: OnPolicy,
    ) -> None:
        self._named = named
        self._watcher = watcher
        self._on_policy = on_policy
        self._policies = policies
        self._handles: dict[WatchedPolicy, WatchHandle] = {}

    def watch(self) -> None:
        """Watch the policies that exist at the start."""
        for policy in self._policies.values():
            self._watch(policy)

    def has_policy(self, config_path: str) -> bool:
        """Tell whether the policy of a settings file was read already."""
        return _key(config_path, self._named) in self._policies

    def policy(self, config_path: str) -> WatchedPolicy:
        """Return the policy of a settings file."""
        return self._policies[_key(config_path, self._named)]

    def handle(self, policy: WatchedPolicy) -> WatchHandle:
        """Return the handle of a watched policy."""
        return self._handles[policy]

    async def read(self, config_path: str) -> PolicyReading | None:
        """Read the policy of a new settings file, in a thread; None: there is none."""
        read = partial(policy_for, config_path, self._named, failure=unreadable_unless_shortage)
        return await self._watcher.retried_aside(read)

    def add(self, config_path: str, found: PolicyReading | None) -> None:
        """Watch the policy of a new settings file; another file of its folder may have added it already."""
        if not self.has_policy(config_path):
            policy = WatchedPolicy(found, config_path, self._named)
            self._policies[_key(config_path, self._named)] = policy
            self._watch(policy)

    def _watch(self, policy: WatchedPolicy) -> None:
        if policy.policy is not None:
            self._on_policy(policy, PolicyRead(policy.policy.path, policy.policy))
        if policy.refused is not None:
            self._on_policy(policy, policy.refused)
        watched: Watchable[PolicyReading | None, PolicyRead | Rejected] = policy
        self._handles[policy] = self._watcher.add(watched, lambda seen: self._on_policy(policy, seen))


def _key(config_path: str, named: str | None) -> str:
    return os.path.dirname(config_path) if named is None else named
