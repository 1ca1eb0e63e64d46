"""When people are told: on transitions only, once each, and not over and over where something flaps.

A story follows one key through time: what holds, what people were told last, and how often it came back
since. What begins is told once it has lasted as long as it may; what was told is told again when it is
over, at once, also where something of another kind holds instead. The same thing beginning again within
CALM_S is only counted, and the count is told later. So a key sends at most two messages per CALM_S and
mark, whatever happens. A story is a value, made anew
each time; losing all of them (a restart) means that what still holds is told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from reconciler.core.model import Family
from reconciler.core.monitoring.alerts import Alert, AlertKey, AlertKind, Alerts, AlertSeverity

FLAP_SUPPRESS_S = 300.0
"""How long after it was told the same thing is only counted when it begins once more."""

GROUP_ABOVE = 3
"""So many families in the same trouble at one moment have a message each; more of them share one."""

AlertIdentity = tuple[str, str, str]

_WORST_FIRST = tuple(AlertSeverity)


class Transition(StrEnum):
    """Which way it turned."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Notification:
    """One transition that is told, of one family or several; ``families`` empty: of the account.

    ``condition`` is what began, or what was told before and is over; of several families, the first
    one's. ``since`` is when it began. ``count`` is how often it began since it was last told of.
    ``instead``: what holds now, where what is over is so because of that.
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
    """One key's story. ``told`` None: as far as people know, nothing holds.

    ``holds`` None: nothing does; else it began at ``since`` and may be told of from ``due_at`` on.
    ``told_at`` has each mark that was told of within CALM_S. ``untold`` counts beginnings that were
    not told because of that, this one among them if ``counted``; ``last`` is the last of those.
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
    """Go on with every story, given what holds ``now``; returns them and what is to be told, in order.

    What begins or ends for many families at once is one notice.
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
    """Take what holds now; the same condition as before keeps its beginning and its patience."""
    alert_state = alert_state or AlertState(since=wall, due_at=now)
    if found is None:
        return replace(alert_state, active=None, counted=False)
    if alert_state.active is not None and alert_state.active.identity == found.identity:
        return replace(alert_state, active=found)
    return replace(alert_state, active=found, since=wall, due_at=now + found.for_s, counted=False)


def _message(
    key: AlertKey, alert_state: AlertState, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Return what there is to tell of a story, and the story once that was told."""
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
    """Tell what holds once it is due and was quiet long enough; until then it is counted."""
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
    """Return the notice that what was told is over: all is right, or something of another kind holds."""
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
    """Tell, when it is calm again, how often something came and went untold."""
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
    """Tell whether a story is over and has nothing left to say or to hold back."""
    quiet = alert_state.active is None and alert_state.sent is None and alert_state.last is None
    return quiet and not _recent(alert_state.sent_at, now)


def _recent(message_at: Mapping[AlertIdentity, float], now: float) -> dict[AlertIdentity, float]:
    return {mark: at for mark, at in message_at.items() if now < at + FLAP_SUPPRESS_S}


def _together(notices: Iterable[Notification]) -> tuple[Notification, ...]:
    """Return notices in order, those of more families than APART that say the same as one."""
    alike: dict[tuple[int, str, str, str, str], list[Notification]] = {}
    for notice in notices:
        alike.setdefault(_said(notice), []).append(notice)
    message: list[Notification] = []
    for _, several in sorted(alike.items()):
        message += several if len(several) <= GROUP_ABOVE else [_merged(several)]
    return tuple(message)


def _said(notice: Notification) -> tuple[int, str, str, str, str]:
    """Return what notices have in common that may share a message; also their order, worst first."""
    worst = _WORST_FIRST.index(notice.severity)
    return worst, notice.kind, notice.status, notice.alert.code, notice.instead or ""


def _merged(notices: list[Notification]) -> Notification:
    return replace(
        notices[0],
        families=tuple(family for notice in notices for family in notice.families),
        since=min(notice.since for notice in notices),
        count=max(notice.count for notice in notices),
    )
