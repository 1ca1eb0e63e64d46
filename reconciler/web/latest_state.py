"""The latest state of every account, written by the loops' thread and read by the server's thread.

The loops' thread replaces the complete entry of an account; other threads read the newest entry.
Replacing one reference is atomic, so there is no lock, and a reader never makes a loop wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler.core.monitoring.account_runtime import AccountRuntime
from reconciler.core.monitoring.state_timeline import Timeline
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES, UnloadedFiles
from reconciler.core.replica_assignment import Replica, ReplicaStatus, parse_lease_name


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """One account in the latest state.

    ``clock_offset_s``: how far the exchange's clock is ahead of ours; None until it was measured.
    ``timeline`` is of the last 24 hours; empty where none is recorded.
    ``owner`` is this process if replicas share the accounts, else None.
    """

    runtime: AccountRuntime
    interval_s: float
    clock_offset_s: float | None = None
    timeline: Timeline = field(default_factory=Timeline)
    owner: Replica | None = None


@dataclass(slots=True)
class LatestState:
    """The latest state of every account of this process.

    ``unloaded``: settings files from which no account runs. ``replica`` None: this process runs all its
    accounts. ``error``: why the state could not be opened so far. ``timelines`` are by account, as of the
    last request for the page; the server replaces them. ``dropped_log_lines`` returns how many log lines
    could not be written so far.
    """

    version: str
    began_at: datetime
    unloaded: UnloadedFiles = NO_UNLOADED_FILES
    timelines: Mapping[str, Timeline] = field(default_factory=dict)
    replica: ReplicaStatus | None = None
    error: str = ""
    dropped_log_lines: Callable[[], int] = lambda: 0
    _accounts: Mapping[str, AccountSnapshot] = field(default_factory=dict)

    def put(self, name: str, snapshot: AccountSnapshot) -> None:
        """Replace the snapshot of the account called ``name``."""
        self._accounts = {**self._accounts, name: snapshot}

    def drop(self, name: str) -> None:
        """Remove an account that this process no longer runs."""
        self._accounts = {key: value for key, value in self._accounts.items() if key != name}

    def accounts(self) -> tuple[AccountSnapshot, ...]:
        """Return every account, by name, as of this moment."""
        timelines = self.timelines
        return tuple(
            replace(snapshot, timeline=timelines[name]) if name in timelines else snapshot
            for name, snapshot in sorted(self._accounts.items())
        )

    def values(self) -> tuple[object, ...]:
        """Return all values except the timelines: the same objects as before if nothing has changed."""
        return (self._accounts, self.unloaded, self.replica, self.error)

    def remote_accounts(self) -> tuple[tuple[str, str, Replica | None], ...]:
        """Return the accounts that this process does not run: name, environment, owner (None: no owner)."""
        replica = self.replica
        if replica is None or replica.leases is None:
            return ()
        leases, own = replica.leases, self._accounts.keys()
        known = {
            parse_lease_name(key): leases.owners.get(key, "")
            for key in replica.configured | leases.owners.keys()
        }
        return tuple(
            (*account, None if owner == replica.me.id else leases.replicas.get(owner))
            for account, owner in sorted(known.items())
            if "/".join(account) not in own
        )
