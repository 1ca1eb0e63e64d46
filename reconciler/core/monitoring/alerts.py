"""The active alerts of an account. Each has a key that does not change while the alert is active.

Alerts are computed from the runtime alone, so they report what the loop saw. Only a complete comparison
shows that a family differs; what cannot be read now stays as last seen. This file decides what is an alert,
how severe it is, and how long it must last before it is sent. When and how often it is sent is decided in
``notifications``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.core.events import ControlledElsewhere, SettingRejected, StateFailed, StateLockTimedOut
from reconciler.core.model import LiveRow, Pause
from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    FileState,
    NeverValid,
    Outage,
    RejectedFile,
)
from reconciler.core.plan import Action, Change, HoldReason, Reason
from reconciler.core.problems import first_error
from reconciler.core.reply import Reply

UNREACHABLE_AFTER_S = 60.0
"""A shorter outage, such as a deployment of the exchange, is not reported."""

LOCKED_AFTER_S = 60.0
"""A pipeline locks the state while it sends its requests. A longer lock needs attention."""

STATE_LOST_AFTER_S = 60.0
"""A failover takes seconds, and so does a busy file; a full disk stays full."""

STANDBY_AFTER_S = 60.0
"""In a restart two processes overlap until the first one ends. After a longer time two were started."""

FROZEN_FOR_S = 60.0
"""A freeze that ends by itself and delays a change is reported if it lasts longer than this."""

LATE_AFTER_S = 15.0
"""A change is reported if it is not in force this long after it was expected to be."""


class AlertKind(StrEnum):
    """Kinds of alert. Each is sent when it begins and when it ends; PROTECTED never ends."""

    OUT_OF_SYNC = "out-of-sync"
    FROZEN = "frozen"
    REJECTED = "rejected"
    CONTESTED = "contested"
    KEY_PROBLEM = "key-problem"
    UNREACHABLE = "unreachable"
    CONFIG_INVALID = "config-invalid"
    POLICY_INVALID = "policy-invalid"
    STATE_LOCKED = "state-locked"
    STATE_UNAVAILABLE = "state-unavailable"
    STANDBY = "standby"
    PROTECTED = "protected"


class AlertSeverity(StrEnum):
    """How bad it is. CRITICAL: there is less protection than desired, or nothing can be written."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class AlertTopic(StrEnum):
    """What an alert is about. A topic (of a family, for FAMILY) has at most one alert: the worst."""

    FAMILY = "family"
    EXCHANGE = "exchange"
    CONFIG = "config"
    POLICY = "policy"
    STATE = "state"
    CONTROLLER = "controller"
    START = "start"


@dataclass(frozen=True, slots=True, order=True)
class AlertKey:
    """A topic and the family it is about: "" for the account."""

    topic: AlertTopic
    family: str = ""


AlertSubject = (
    Change
    | LiveRow
    | SettingRejected
    | Pause
    | Outage
    | Reply
    | RejectedFile
    | ControlledElsewhere
    | StateFailed
    | StateLockTimedOut
    | int
)
"""The details of an alert: the change, the live row, the exchange's reply, the heal breaker's pause, the
rejected file, the process that controls the account, why the state cannot be used, the lock of another
process, or the number of families."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One active alert. ``code`` is the exact cause. It is sent after it was active for ``for_s``."""

    kind: AlertKind
    severity: AlertSeverity
    code: str
    about: AlertSubject
    for_s: float = 0.0

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes this alert different from one of the same topic that was sent already."""
        return self.kind, self.severity, self.code


Alerts = Mapping[AlertKey, Alert]

TopicAlerts = Iterator[tuple[AlertTopic, Alert]]
"""Alerts of an account, by topic."""


def active_alerts(runtime: AccountRuntime) -> Alerts:
    """Return all active alerts, by key."""
    config = _file(AlertTopic.CONFIG, AlertKind.CONFIG_INVALID, runtime.config)
    policy = _file(AlertTopic.POLICY, AlertKind.POLICY_INVALID, runtime.policy)
    of_account = (_exchange(runtime), config, policy, _state(runtime), _standby(runtime), _start(runtime))
    return _families(runtime) | {AlertKey(topic): alert for found in of_account for topic, alert in found}


def _families(runtime: AccountRuntime) -> dict[AlertKey, Alert]:
    changes = runtime.last_complete.plan.changes if runtime.last_complete else ()
    differing = {change.family: _differs(change, runtime) for change in changes if _counts(change)}
    contested = {
        pause.family: _contested(pause, changes) for pause in runtime.pauses if pause.contested is not None
    }
    rows = runtime.read.rows if runtime.read else {}
    frozen = {
        family: Alert(AlertKind.FROZEN, AlertSeverity.CRITICAL, "until-reset", rows[family])
        for family in runtime.desired.families
        if family in rows and rows[family].frozen and rows[family].setting.until_reset
    }
    worst_last = {**differing, **contested, **frozen}
    return {AlertKey(AlertTopic.FAMILY, family): one for family, one in sorted(worst_last.items())}


def _counts(change: Change) -> bool:
    """Tell whether a change is a difference: adopting a setting that a read has proven is none."""
    return change.action is not Action.ADOPT or change.known_at is not None


def _differs(change: Change, runtime: AccountRuntime) -> Alert:
    severity = AlertSeverity.CRITICAL if change.is_exposed else AlertSeverity.WARNING
    rejected = runtime.rejected.get(change.family)
    if change.because is HoldReason.REJECTED and rejected is not None:
        return Alert(AlertKind.REJECTED, severity, rejected.reply.code, rejected)
    code = change.because or change.reason
    return Alert(AlertKind.OUT_OF_SYNC, severity, code.value, change, _for_s(change))


def _for_s(change: Change) -> float:
    """Return how long a family may differ before it is reported.

    A change on its way is reported once it is late. Drift is reported at once, even if it is corrected at
    once, because another writer changed the setting. A held change is reported at once, except for a
    freeze that ends by itself.
    """
    if change.reason is Reason.DRIFTED and change.because is not HoldReason.FROZEN:
        return 0.0
    if change.action is Action.HOLD:
        return FROZEN_FOR_S if change.because is HoldReason.FROZEN else 0.0
    return (change.eta_s or 0.0) + LATE_AFTER_S


def _contested(pause: Pause, changes: tuple[Change, ...]) -> Alert:
    """Return the alert of a family that another writer keeps changing, whatever is in force now."""
    exposed = any(change.family == pause.family and change.is_exposed for change in changes)
    severity = AlertSeverity.CRITICAL if exposed else AlertSeverity.WARNING
    return Alert(AlertKind.CONTESTED, severity, "contested", pause)


def _exchange(runtime: AccountRuntime) -> TopicAlerts:
    if runtime.terminal_error is not None:
        reply = runtime.terminal_error.reply
        yield AlertTopic.EXCHANGE, Alert(AlertKind.KEY_PROBLEM, AlertSeverity.CRITICAL, reply.code, reply)
    elif runtime.outage is not None:
        kind, severity = AlertKind.UNREACHABLE, AlertSeverity.CRITICAL
        yield (AlertTopic.EXCHANGE, Alert(kind, severity, "no-answer", runtime.outage, UNREACHABLE_AFTER_S))


def rejected_file_alerts(file: RejectedFile) -> Alerts:
    """Return the alerts of a rejected settings file from which no account runs."""
    found = _file(AlertTopic.CONFIG, AlertKind.CONFIG_INVALID, file)
    return {AlertKey(topic): alert for topic, alert in found}


def _file(topic: AlertTopic, kind: AlertKind, file: FileState | None) -> TopicAlerts:
    if isinstance(file, RejectedFile):
        wrong = first_error(file.problems)
        severity = AlertSeverity.CRITICAL if isinstance(file, NeverValid) else AlertSeverity.WARNING
        yield topic, Alert(kind, severity, wrong.code.value if wrong else "rejected", file)


def _state(runtime: AccountRuntime) -> TopicAlerts:
    failed, locked = runtime.state_failed, runtime.state_locked
    if failed is not None:
        kind, severity, after = AlertKind.STATE_UNAVAILABLE, AlertSeverity.CRITICAL, STATE_LOST_AFTER_S
        yield AlertTopic.STATE, Alert(kind, severity, "unavailable", failed, after)
    elif locked is not None:
        kind, severity, after = AlertKind.STATE_LOCKED, AlertSeverity.WARNING, LOCKED_AFTER_S
        yield AlertTopic.STATE, Alert(kind, severity, "locked", locked, after)


def _standby(runtime: AccountRuntime) -> TopicAlerts:
    if runtime.controller is not None:
        kind, severity = AlertKind.STANDBY, AlertSeverity.WARNING
        about = runtime.controller
        yield AlertTopic.CONTROLLER, Alert(kind, severity, "standby", about, STANDBY_AFTER_S)


def _start(runtime: AccountRuntime) -> TopicAlerts:
    if runtime.started:
        number = len(runtime.desired.families)
        yield AlertTopic.START, Alert(AlertKind.PROTECTED, AlertSeverity.INFO, "started", number)
