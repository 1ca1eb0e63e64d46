"""When alerts become notifications, as in Alertmanager: fire after ``for_s``, resolve, repeat interval.

Each alert key has an AlertState: the active alert, and the last one that was sent. An alert is sent once
it has been active for its ``for_s``. Its end is sent at once, also if an alert of another kind replaces
it. The same alert is not sent twice within REPEAT_INTERVAL_S: if it begins again it is only counted, and
its next notification has the count. So each identity of a key causes at most two notifications per
interval. An AlertState is immutable. If all are lost (a restart), alerts that are still active are sent
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from reconciler.core.model import Family
from reconciler.core.monitoring.alerts import Alert, AlertKey, AlertKind, Alerts, AlertSeverity

REPEAT_INTERVAL_S = 300.0
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

    alert: Alert
    status: Transition
    families: tuple[Family, ...]
    since: datetime
    count: int = 1
    instead: AlertKind | None = None

    @property
    def severity(self) -> AlertSeverity:
        """The severity of an alert that began; an end is only information."""
        return self.alert.severity if self.status is Transition.FIRING else AlertSeverity.INFO


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """An alert that is active since ``since``. It may be sent from ``due_at`` on.

    ``counted``: it is among the suppressed ones of its key.
    """

    alert: Alert
    since: datetime
    due_at: float
    counted: bool = False


@dataclass(frozen=True, slots=True)
class AlertState:
    """The state of one key: the ``active`` alert, and the one that was ``sent`` and has not ended since.

    ``sent_at`` has each identity that was sent within REPEAT_INTERVAL_S. ``suppressed`` counts, for each
    identity, the beginnings that were not sent because of that since its last notification.
    """

    active: ActiveAlert | None = None
    sent: ActiveAlert | None = None
    sent_at: Mapping[AlertIdentity, float] = field(default_factory=dict)
    suppressed: Mapping[AlertIdentity, int] = field(default_factory=dict)


AlertStates = Mapping[AlertKey, AlertState]

_QUIET = AlertState()


def advance(
    alert_states: AlertStates, found: Alerts, *, now: float, wall: datetime
) -> tuple[AlertStates, tuple[Notification, ...]]:
    """Update every alert state with the alerts ``found``; return them and the notifications, in order.

    Alerts that begin or end for many families at once share one notification.
    """
    after: dict[AlertKey, AlertState] = {}
    notifications: list[Notification] = []
    for key in sorted(alert_states.keys() | found.keys()):
        before, families = alert_states.get(key, _QUIET), (Family(key.family),) if key.family else ()
        recent = {one: at for one, at in before.sent_at.items() if now < at + REPEAT_INTERVAL_S}
        state = replace(before, sent_at=recent, active=_active(before.active, found.get(key), now, wall))
        state, resolved = _resolved(state, families)
        state, fired = _fired(state, families, now)
        notifications += (*resolved, *fired)
        if state != _QUIET:
            after[key] = state
    return after, _grouped(notifications)


def _active(
    before: ActiveAlert | None, found: Alert | None, now: float, wall: datetime
) -> ActiveAlert | None:
    """Return the alert that is active now; one with the same identity began when that one did."""
    if found is None:
        return None
    if before is not None and before.alert.identity == found.identity:
        return replace(before, alert=found)
    return ActiveAlert(found, wall, now + found.for_s)


def _resolved(state: AlertState, families: tuple[Family, ...]) -> tuple[AlertState, list[Notification]]:
    """Send the end of a sent alert, also if another kind replaces it."""
    active, sent = state.active, state.sent
    if sent is None or (active is not None and active.alert.kind is sent.alert.kind):
        return state, []
    instead = active.alert.kind if active else None
    over = Notification(sent.alert, Transition.RESOLVED, families, sent.since, instead=instead)
    return replace(state, sent=None), [over]


def _fired(
    state: AlertState, families: tuple[Family, ...], now: float
) -> tuple[AlertState, list[Notification]]:
    """Send the active alert once it is due; within the repeat interval count it instead."""
    active, sent = state.active, state.sent
    if active is None or now < active.due_at:
        return state, []
    identity = active.alert.identity
    if sent is not None and sent.alert.identity == identity:
        return state, []
    count = state.suppressed.get(identity, 0) + (not active.counted)
    if identity in state.sent_at:
        suppressed = {**state.suppressed, identity: count}
        return replace(state, active=replace(active, counted=True), suppressed=suppressed), []
    sent_at = {**state.sent_at, identity: now}
    suppressed = {one: number for one, number in state.suppressed.items() if one != identity}
    state = AlertState(replace(active, counted=False), active, sent_at, suppressed)
    return state, [Notification(active.alert, Transition.FIRING, families, active.since, count)]


def _grouped(notifications: Iterable[Notification]) -> tuple[Notification, ...]:
    """Return notifications in order; equal ones of more than GROUP_ABOVE families become one."""
    alike: dict[tuple[int, str, str, str, str], list[Notification]] = {}
    for one in notifications:
        alike.setdefault(_group(one), []).append(one)
    grouped: list[Notification] = []
    for _, several in sorted(alike.items()):
        grouped += several if len(several) <= GROUP_ABOVE else [_merged(several)]
    return tuple(grouped)


def _group(one: Notification) -> tuple[int, str, str, str, str]:
    """Return the grouping key of a notification; it is also the sort key, worst first."""
    worst = _WORST_FIRST.index(one.severity)
    return worst, one.alert.kind, one.status, one.alert.code, one.instead or ""


def _merged(several: list[Notification]) -> Notification:
    return replace(
        several[0],
        families=tuple(family for one in several for family in one.families),
        since=min(one.since for one in several),
        count=max(one.count for one in several),
    )
