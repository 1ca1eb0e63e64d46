"""What reports on the accounts of a process: the port that ``web`` and ``notify`` implement."""

from __future__ import annotations

from typing import Protocol

from reconciler.core.events import Event
from reconciler.core.monitoring.account_runtime import AccountRuntime
from reconciler.ports import AccountStore


class RunningAccount(Protocol):
    """An account that this process runs, as an observer sees it. Each name is of one account."""

    @property
    def name(self) -> str:
        """The account and its environment in one word."""

    @property
    def store(self) -> AccountStore:
        """What the state has on record of the account; only the event loop's thread may use it."""

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead of this machine's; None until it was measured."""


class AccountObserver(Protocol):
    """Reports on the accounts of a process. It must not block the loops: slow work has its own thread."""

    def start(self) -> None:
        """Start; called in the event loop of the accounts. Raises MmpError if it cannot start."""

    def stop(self) -> None:
        """Stop, within a bounded time."""

    def account_acquired(self, account: RunningAccount, runtime: AccountRuntime) -> None:
        """Handle that this process runs an account from now on."""

    def account_released(self, account: RunningAccount) -> None:
        """Handle that another process runs an account from now on."""

    def on_event(
        self, account: RunningAccount | None, event: Event, runtime: AccountRuntime | None
    ) -> None:
        """Handle an event; ``runtime`` is the runtime of its account after it.

        ``account`` None: the event is the process's. ``runtime`` None: this process does not run the
        account.
        """
