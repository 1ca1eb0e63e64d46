"""The observer of ``run --notify``: alerts of accounts and of files become webhook calls.

The loops' thread decides what is sent; the sender's thread sends it. Finding the active alerts walks over
all families that differ or are frozen, so it runs only on the events of a pass that can change an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from reconciler import logs
from reconciler.core import events
from reconciler.core.events import Event
from reconciler.core.monitoring.account_runtime import AccountRuntime, RejectedFile, runtime_status
from reconciler.core.monitoring.alerts import AlertKind, active_alerts, rejected_file_alerts
from reconciler.core.monitoring.notifications import (
    AlertIdentity,
    AlertStates,
    Notification,
    Transition,
    advance,
)
from reconciler.core.monitoring.protection import runtime_protection
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES, UnloadedFiles, with_event
from reconciler.documents.notification import Advice, file_notification_document, notification_document
from reconciler.documents.plan import Document
from reconciler.notify.webhook_address import WebhookAddress
from reconciler.notify.webhook_sender import WebhookSender
from reconciler.observer_port import RunningAccount
from reconciler.ports import Clock

TRIGGERS = (
    events.Planned,
    events.LoopIdle,
    events.LoopFailed,
    events.ConfigAccepted,
    events.ConfigRejected,
    events.PolicyAccepted,
    events.PolicyRejected,
)
"""Events that can change an alert: a plan with new content, the end of an action, a file."""


class PolicyDeduper:
    """What was sent about each policy since it changed.

    If several accounts share a policy, only one message is sent.
    """

    def __init__(self) -> None:
        self._sent: set[tuple[str, Transition, AlertIdentity]] = set()

    def on_event(self, event: events.Event) -> None:
        """Handle an event before the accounts do: after a policy has changed, it is sent again."""
        if isinstance(event, events.PolicyAccepted | events.PolicyRejected):
            self._sent = {sent for sent in self._sent if sent[0] != event.path}

    def should_send(self, notice: Notification) -> bool:
        """Tell whether no account has sent this yet, and record it as sent."""
        if notice.alert.kind is not AlertKind.POLICY_INVALID:
            return True
        file = notice.alert.about
        assert isinstance(file, RejectedFile)
        sent = (file.path, notice.status, notice.alert.identity)
        is_new = sent not in self._sent
        self._sent.add(sent)
        return is_new


class AccountNotifier:
    """The alert states of one account. ``post`` takes a document and must neither wait nor fail.

    All accounts of a process share ``policies``.
    """

    def __init__(
        self,
        post: Callable[[Document], None],
        advice: Advice,
        *,
        interval_s: float,
        policies: PolicyDeduper,
    ) -> None:
        self._policies = policies
        self._post = post
        self._advice = advice
        self._interval_s = interval_s
        self._alert_states: AlertStates = {}
        self._taken_over = False

    def on_event(self, event: events.Event, runtime: AccountRuntime, *, now: float, wall: datetime) -> None:
        """Handle an event and the runtime after it; post what is now firing or resolved."""
        if isinstance(event, events.LeaseTaken):
            self._taken_over = bool(event.before)
        if not isinstance(event, TRIGGERS):
            return
        self._alert_states, found = advance(self._alert_states, active_alerts(runtime), now=now, wall=wall)
        notices = [notice for notice in found if self._should_send(notice)]
        if not notices:
            return
        status = runtime_status(runtime, now=now, wall=wall)
        protection = runtime_protection(runtime, status, now=now, interval_s=self._interval_s)
        for notice in notices:
            self._post(notification_document(notice, runtime, protection, at=wall, advice=self._advice))

    def _should_send(self, notice: Notification) -> bool:
        """Tell whether to send it: not "protected" for an account that another replica ran until now."""
        if self._taken_over and notice.alert.kind is AlertKind.PROTECTED:
            return False
        return self._policies.should_send(notice)


class FileNotifier:
    """The alert states of each file from which no account runs. ``post`` is as for ``AccountNotifier``."""

    def __init__(self, post: Callable[[Document], None], *, host: str, simulator: bool) -> None:
        self._post = post
        self._host = host
        self._simulator = simulator
        self._alert_states: dict[str, AlertStates] = {}

    def on_event(self, unloaded: UnloadedFiles, event: events.Event, *, now: float, wall: datetime) -> None:
        """Handle an event and the files that are rejected after it; post what is now firing or resolved."""
        gone = isinstance(event, events.RejectedConfigRemoved | events.ConfigMissing)
        rejected = {file.path: rejected_file_alerts(file) for file in unloaded.rejected}
        for path in sorted(self._alert_states.keys() | rejected.keys()):
            states, notices = advance(
                self._alert_states.pop(path, {}), rejected.get(path, {}), now=now, wall=wall
            )
            if states:
                self._alert_states[path] = states
            for notice in notices:
                self._post(
                    file_notification_document(
                        notice, path, gone=gone, host=self._host, simulator=self._simulator, at=wall
                    )
                )


class WebhookObserver:
    """Sends the alerts of every account to webhooks. ``hint_for`` returns what to do about a reply."""

    def __init__(
        self,
        targets: Sequence[WebhookAddress],
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
        self._unloaded = NO_UNLOADED_FILES
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
