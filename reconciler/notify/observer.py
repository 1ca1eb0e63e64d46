"""The observer of ``run --notify``: alerts of accounts and of files become webhook calls.

The loops' thread decides what is sent; the sender's thread sends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler import logs
from reconciler.core.events import Event
from reconciler.core.monitoring.runtime import AccountRuntime
from reconciler.core.monitoring.unloaded_files import NONE, with_event
from reconciler.documents.notification import Advice
from reconciler.notify.account_notifier import TRIGGERS, AccountNotifier, FileNotifier, PolicyDeduper
from reconciler.notify.target import Target
from reconciler.notify.webhook_sender import WebhookSender
from reconciler.observer_port import RunningAccount
from reconciler.ports import Clock


class WebhookObserver:
    """Sends the alerts of every account to webhooks. ``hint_for`` returns what to do about a reply."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        host: str,
        simulator: bool,
        interval_s: float,
        clock: Clock,
        hint_for: Advice,
    ) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._hint_for = hint_for
        self._sender = WebhookSender(targets, _log)
        self._accounts: dict[str, AccountNotifier] = {}
        self._policies = PolicyDeduper()
        self._unloaded = NONE
        self._files = FileNotifier(self._sender.post, host=host, simulator=simulator)
        for target in targets:
            logs.log("info", "notifying", to=target.shown)

    def start(self) -> None:
        """Start to deliver, in a separate thread."""
        self._sender.start()

    def stop(self) -> None:
        """Deliver what is left, for a bounded time."""
        self._sender.stop()

    def account_acquired(self, account: RunningAccount, runtime: AccountRuntime) -> None:
        """Send the alerts of an account from now on."""
        del runtime  # a new account has no alerts yet
        self._accounts[account.name] = AccountNotifier(
            self._sender.post, self._hint_for, interval_s=self._interval_s, policies=self._policies
        )

    def account_released(self, account: RunningAccount) -> None:
        """Stop sending for an account: another process does now."""
        self._accounts.pop(account.name, None)

    def on_event(
        self, account: RunningAccount | None, event: Event, runtime: AccountRuntime | None
    ) -> None:
        """Send the alerts that ``event`` fires or resolves."""
        before = self._unloaded
        self._unloaded = with_event(before, event, wall=self._clock.wall())
        if self._unloaded != before:
            self._on_files(event)
        if account is None:
            self._policies.on_event(event)
        elif runtime is not None:
            now, wall = self._clock.now(), self._clock.wall()
            self._accounts[account.name].on_event(event, runtime, now=now, wall=wall)
            if isinstance(event, TRIGGERS):
                self._on_files(event)

    def _on_files(self, event: Event) -> None:
        self._files.on_event(self._unloaded, event, now=self._clock.now(), wall=self._clock.wall())


def _log(level: str, event: str, values: Mapping[str, object]) -> None:
    logs.log(level, event, **values)
