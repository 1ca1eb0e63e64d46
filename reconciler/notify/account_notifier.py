"""Tells of accounts, and of files by which none is kept: looks when something may have turned.

Nothing is decided here. A look costs a walk over what differs and what is frozen, so it is not taken at
every event of a pass, only at those after which something else may hold.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from reconciler.core.events import (
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    Event,
    LeaseTaken,
    LoopFailed,
    LoopIdle,
    Planned,
    PolicyAccepted,
    PolicyRejected,
    RejectedConfigRemoved,
)
from reconciler.core.monitoring.alerts import AlertKind, active_alerts, rejected_file_alerts
from reconciler.core.monitoring.notifications import (
    AlertIdentity,
    AlertStates,
    Notification,
    Transition,
    advance,
)
from reconciler.core.monitoring.protection import runtime_protection
from reconciler.core.monitoring.runtime import AccountRuntime, FileState, runtime_status
from reconciler.core.monitoring.unloaded_files import UnloadedFiles
from reconciler.documents.notification import Advice, file_notification_document, notification_document
from reconciler.documents.plan import Document

TRIGGERS = (
    Planned,
    LoopIdle,
    LoopFailed,
    ConfigAccepted,
    ConfigRejected,
    PolicyAccepted,
    PolicyRejected,
)
"""Events at which one looks: a plan that says something new, the end of whatever was done, a file."""


class PolicyDeduper:
    """What was told of each policy since it turned: of many accounts under it, the first one tells."""

    def __init__(self) -> None:
        self._message: set[tuple[str, Transition, AlertIdentity]] = set()

    def on_event(self, event: Event) -> None:
        """Take an event before the accounts do: where a policy turned, it may be told of again."""
        if isinstance(event, PolicyAccepted | PolicyRejected):
            self._message = {message for message in self._message if message[0] != event.path}

    def should_send(self, notice: Notification) -> bool:
        """Tell whether nobody told that yet; from then on somebody did."""
        if notice.kind is not AlertKind.POLICY_REJECTED:
            return True
        file = notice.alert.about
        assert isinstance(file, FileState)
        message = (file.path, notice.status, notice.alert.identity)
        if message in self._message:
            return False
        self._message.add(message)
        return True


class AccountNotifier:
    """One account's stories so far. ``post`` takes a document and must neither wait nor fail.

    ``policies`` are what the accounts of a process have in common.
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

    def on_event(self, event: Event, runtime: AccountRuntime, *, now: float, wall: datetime) -> None:
        """Take an event, and the runtime after it; tells what began or is over, if anything."""
        if isinstance(event, LeaseTaken):
            self._taken_over = bool(event.before)
        if not isinstance(event, TRIGGERS):
            return
        self._alert_states, found = advance(self._alert_states, active_alerts(runtime), now=now, wall=wall)
        notices = [notice for notice in found if self._is_news(notice)]
        if not notices:
            return
        status = runtime_status(runtime, now=now, wall=wall)
        judged = runtime_protection(runtime, status, now=now, interval_s=self._interval_s)
        for notice in notices:
            self._post(notification_document(notice, runtime, judged, at=wall, advice=self._advice))

    def _is_news(self, notice: Notification) -> bool:
        """Tell whether it is: being protected is none of an account that another replica kept till now."""
        if self._taken_over and notice.kind is AlertKind.PROTECTED:
            return False
        return self._policies.should_send(notice)


class FileNotifier:
    """The stories of files by which no account is kept, one each. ``post`` is as a Teller's."""

    def __init__(self, post: Callable[[Document], None], *, host: str, simulator: bool) -> None:
        self._post = post
        self._host = host
        self._simulator = simulator
        self._alert_states: dict[str, AlertStates] = {}
        self._gone: set[str] = set()

    def on_event(self, not_loaded: UnloadedFiles, event: Event, *, now: float, wall: datetime) -> None:
        """Take an event, and the files that are refused since; tells what began or is over, if anything."""
        refused = {file.path: file for file in not_loaded.rejected}
        self._gone = (self._gone & self._alert_states.keys()) - refused.keys()
        match event:
            case RejectedConfigRemoved(path):
                self._gone.add(path)
            case ConfigMissing(paths):
                self._gone.update(paths)
            case _:
                pass
        for path in sorted(self._alert_states.keys() | refused.keys()):
            found = rejected_file_alerts(refused[path]) if path in refused else {}
            self._alert_states[path], notices = advance(
                self._alert_states.get(path, {}), found, now=now, wall=wall
            )
            for notice in notices:
                self._tell(notice, path, wall)
        self._alert_states = {
            path: alert_states for path, alert_states in self._alert_states.items() if alert_states
        }

    def _tell(self, notice: Notification, path: str, wall: datetime) -> None:
        gone, host, simulator = path in self._gone, self._host, self._simulator
        self._post(
            file_notification_document(notice, path, gone=gone, host=host, simulator=simulator, at=wall)
        )
