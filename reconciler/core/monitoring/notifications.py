"""When alerts become notifications: on transitions only, once each, with flapping suppressed.

Each alert key has an AlertState: the active alert, the last one sent, and how often it came back since.
An alert is sent once it has been active for its ``for_s``. Its end is sent at once, also if an alert of
another kind replaces it. If the same alert begins again within FLAP_SUPPRESS_S it is only counted, and the
count is sent later. So each identity of a key causes at most two notifications per FLAP_SUPPRESS_S. An
AlertState is immutable. If all are lost (a restart), alerts that are still active are sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from reconciler.core.model import Family
from reconciler.core.monitoring.alerts import Alert, AlertKey, AlertKind, Alerts, AlertSeverity

FLAP_SUPPRESS_S = 300.0
"""For how long after it was sent an alert that begins again is only counted."""

GROUP_ABOVE = 3
"""Up to this many families with the same alert at one time get a notification each; more share one."""

AlertIdentity = tuple[str, str, str]

_WORST_FIRST = tuple(AlertSeverity)


class Transition(StrEnum):
    """Whether an alert begins or ends."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notification:
    """One transition to send, of one or several families; ``families`` empty: of the account.

    ``alert`` is the one that began, or that was sent before and ended; of several families, the first
    one's. ``since`` is when it began. ``count`` is how often it began since it was last sent.
    ``instead`` is the kind of the alert that replaced one that ended; None without one.
    """

    kind: AlertKind
    status: Transition
    severity: AlertSeverity
    families: tuple[Family, ...]
    alert: Alert
    since: datetime
    count: int
    instead: AlertKind | None = None


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of one key. ``active`` None: there is no alert; else it began at ``since``.

    It may be sent from ``due_at`` on. ``sent`` is the alert that was sent and has not ended since.
    ``sent_at`` has each identity that was sent within FLAP_SUPPRESS_S. ``suppressed`` counts beginnings
    that were not sent because of that, including the current one if ``counted``; ``last`` is the latest.
    """

    since: datetime
    due_at: float
    active: Alert | None = None
    sent: Alert | None = None
    sent_since: datetime | None = None
    sent_at: Mapping[AlertIdentity, float] = field(default_factory=dict)
    suppressed: int = 0
    counted: bool = False
    last: Alert | None = None


AlertStates = Mapping[AlertKey, AlertState]


def advance(
    alert_states: AlertStates, found: Alerts, *, now: float, wall: datetime
) -> tuple[AlertStates, tuple[Notification, ...]]:
    """Update every alert state with the alerts ``found``; return them and the notifications, in order.

    Alerts that begin or end for many families at once share one notification.
    """
    kept: dict[AlertKey, AlertState] = {}
    notices: list[Notification] = []
    for key in sorted(alert_states.keys() | found.keys()):
        alert_state = _followed(alert_states.get(key), found.get(key), now, wall)
        alert_state, message = _message(key, alert_state, now)
        notices += message
        if not _is_forgotten(alert_state, now):
            kept[key] = alert_state
    return kept, _together(notices)


def _followed(
    alert_state: AlertState | None, found: Alert | None, now: float, wall: datetime
) -> AlertState:
    """Take the alert found now; one with the same identity keeps its ``since`` and ``due_at``."""
    alert_state = alert_state or AlertState(since=wall, due_at=now)
    if found is None:
        return replace(alert_state, active=None, counted=False)
    if alert_state.active is not None and alert_state.active.identity == found.identity:
        return replace(alert_state, active=found)
    return replace(alert_state, active=found, since=wall, due_at=now + found.for_s, counted=False)


def _message(
    key: AlertKey, alert_state: AlertState, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Return the notifications of a key, and its state after they were sent."""
    over: tuple[Notification, ...] = ()
    if alert_state.sent is not None and (
        alert_state.active is None or alert_state.active.kind is not alert_state.sent.kind
    ):
        over = (_over(key, alert_state, alert_state.sent),)
        alert_state = replace(alert_state, sent=None, sent_since=None)
    if alert_state.active is not None:
        alert_state, begun = _message_of(key, alert_state, alert_state.active, now)
        return alert_state, (*over, *begun)
    return (alert_state, over) if over else _message_passed(key, alert_state, now)


def _message_of(
    key: AlertKey, alert_state: AlertState, holds: Alert, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Send the active alert once it is due and not suppressed; until then count it."""
    if now < alert_state.due_at or (
        alert_state.sent is not None and alert_state.sent.identity == holds.identity
    ):
        return alert_state, ()
    if _is_calm(alert_state, holds.identity, now):
        return _message_begun(key, alert_state, holds, now)
    if alert_state.counted:
        return alert_state, ()
    return replace(alert_state, suppressed=alert_state.suppressed + 1, counted=True, last=holds), ()


def _message_begun(
    key: AlertKey, alert_state: AlertState, holds: Alert, now: float
) -> tuple[AlertState, tuple[Notification]]:
    count = alert_state.suppressed if alert_state.counted else alert_state.suppressed + 1
    notice = _notice(key, Transition.FIRING, holds.severity, holds, alert_state.since, count)
    message_at = {**_recent(alert_state.sent_at, now), holds.identity: now}
    alert_state = replace(alert_state, sent=holds, sent_since=alert_state.since, sent_at=message_at)
    return replace(alert_state, suppressed=0, counted=False, last=None), (notice,)


def _over(key: AlertKey, alert_state: AlertState, message: Alert) -> Notification:
    """Return the notification that a sent alert ended: resolved, or replaced by another kind."""
    notice = _notice(
        key,
        Transition.RESOLVED,
        AlertSeverity.INFO,
        message,
        alert_state.sent_since or alert_state.since,
        1,
    )
    return replace(notice, instead=alert_state.active.kind if alert_state.active else None)


def _message_passed(
    key: AlertKey, alert_state: AlertState, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Once suppression is over, report how often an alert came and went without a notification."""
    if alert_state.last is None or not _is_calm(alert_state, alert_state.last.identity, now):
        return alert_state, ()
    notice = _notice(
        key,
        Transition.RESOLVED,
        AlertSeverity.INFO,
        alert_state.last,
        alert_state.since,
        alert_state.suppressed,
    )
    message_at = {**_recent(alert_state.sent_at, now), alert_state.last.identity: now}
    return replace(alert_state, suppressed=0, last=None, sent_at=message_at), (notice,)


def _notice(
    key: AlertKey, turn: Transition, severity: AlertSeverity, condition: Alert, since: datetime, count: int
) -> Notification:
    families = (Family(key.family),) if key.family else ()
    return Notification(condition.kind, turn, severity, families, condition, since, count)


def _is_calm(alert_state: AlertState, mark: AlertIdentity, now: float) -> bool:
    message_at = alert_state.sent_at.get(mark)
    return message_at is None or now >= message_at + FLAP_SUPPRESS_S


def _is_forgotten(alert_state: AlertState, now: float) -> bool:
    """Tell whether a state has no alert, nothing to send and nothing to suppress."""
    quiet = alert_state.active is None and alert_state.sent is None and alert_state.last is None
    return quiet and not _recent(alert_state.sent_at, now)


def _recent(message_at: Mapping[AlertIdentity, float], now: float) -> dict[AlertIdentity, float]:
    return {mark: at for mark, at in message_at.items() if now < at + FLAP_SUPPRESS_S}


def _together(notices: Iterable[Notification]) -> tuple[Notification, ...]:
    """Return notifications in order; equal ones of more than GROUP_ABOVE families become one."""
    alike: dict[tuple[int, str, str, str, str], list[Notification]] = {}
    for notice in notices:
        alike.setdefault(_said(notice), []).append(notice)
    message: list[Notification] = []
    for _, several in sorted(alike.items()):
        message += several if len(several) <= GROUP_ABOVE else [_merged(several)]
    return tuple(message)


def _said(notice: Notification) -> tuple[int, str, str, str, str]:
    """Return the grouping key of a notification; it is also the sort key, worst first."""
    worst = _WORST_FIRST.index(notice.severity)
    return worst, notice.kind, notice.status, notice.alert.code, notice.instead or ""


def _merged(notices: list[Notification]) -> Notification:
    return replace(
        notices[0],
        families=tuple(family for notice in notices for family in notice.families),
        since=min(notice.since for notice in notices),
        count=max(notice.count for notice in notices),
    )
