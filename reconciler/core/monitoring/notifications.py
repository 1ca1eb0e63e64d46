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
    stories: AlertStates, found: Alerts, *, now: float, wall: datetime
) -> tuple[AlertStates, tuple[Notification, ...]]:
    """Go on with every story, given what holds ``now``; returns them and what is to be told, in order.

    What begins or ends for many families at once is one notice.
    """
    kept: dict[AlertKey, AlertState] = {}
    notices: list[Notification] = []
    for key in sorted(stories.keys() | found.keys()):
        story = _followed(stories.get(key), found.get(key), now, wall)
        story, told = _told(key, story, now)
        notices += told
        if not _is_forgotten(story, now):
            kept[key] = story
    return kept, _together(notices)


def _followed(story: AlertState | None, found: Alert | None, now: float, wall: datetime) -> AlertState:
    """Take what holds now; the same condition as before keeps its beginning and its patience."""
    story = story or AlertState(since=wall, due_at=now)
    if found is None:
        return replace(story, active=None, counted=False)
    if story.active is not None and story.active.identity == found.identity:
        return replace(story, active=found)
    return replace(story, active=found, since=wall, due_at=now + found.for_s, counted=False)


def _told(key: AlertKey, story: AlertState, now: float) -> tuple[AlertState, tuple[Notification, ...]]:
    """Return what there is to tell of a story, and the story once that was told."""
    over: tuple[Notification, ...] = ()
    if story.sent is not None and (story.active is None or story.active.kind is not story.sent.kind):
        over = (_over(key, story, story.sent),)
        story = replace(story, sent=None, sent_since=None)
    if story.active is not None:
        story, begun = _told_of(key, story, story.active, now)
        return story, (*over, *begun)
    return (story, over) if over else _told_passed(key, story, now)


def _told_of(
    key: AlertKey, story: AlertState, holds: Alert, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Tell what holds once it is due and was quiet long enough; until then it is counted."""
    if now < story.due_at or (story.sent is not None and story.sent.identity == holds.identity):
        return story, ()
    if _is_calm(story, holds.identity, now):
        return _told_begun(key, story, holds, now)
    if story.counted:
        return story, ()
    return replace(story, suppressed=story.suppressed + 1, counted=True, last=holds), ()


def _told_begun(
    key: AlertKey, story: AlertState, holds: Alert, now: float
) -> tuple[AlertState, tuple[Notification]]:
    count = story.suppressed if story.counted else story.suppressed + 1
    notice = _notice(key, Transition.FIRING, holds.severity, holds, story.since, count)
    told_at = {**_recent(story.sent_at, now), holds.identity: now}
    story = replace(story, sent=holds, sent_since=story.since, sent_at=told_at)
    return replace(story, suppressed=0, counted=False, last=None), (notice,)


def _over(key: AlertKey, story: AlertState, told: Alert) -> Notification:
    """Return the notice that what was told is over: all is right, or something of another kind holds."""
    notice = _notice(key, Transition.RESOLVED, AlertSeverity.INFO, told, story.sent_since or story.since, 1)
    return replace(notice, instead=story.active.kind if story.active else None)


def _told_passed(
    key: AlertKey, story: AlertState, now: float
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Tell, when it is calm again, how often something came and went untold."""
    if story.last is None or not _is_calm(story, story.last.identity, now):
        return story, ()
    notice = _notice(
        key, Transition.RESOLVED, AlertSeverity.INFO, story.last, story.since, story.suppressed
    )
    told_at = {**_recent(story.sent_at, now), story.last.identity: now}
    return replace(story, suppressed=0, last=None, sent_at=told_at), (notice,)


def _notice(
    key: AlertKey, turn: Transition, severity: AlertSeverity, condition: Alert, since: datetime, count: int
) -> Notification:
    families = (Family(key.family),) if key.family else ()
    return Notification(condition.kind, turn, severity, families, condition, since, count)


def _is_calm(story: AlertState, mark: AlertIdentity, now: float) -> bool:
    told_at = story.sent_at.get(mark)
    return told_at is None or now >= told_at + FLAP_SUPPRESS_S


def _is_forgotten(story: AlertState, now: float) -> bool:
    """Tell whether a story is over and has nothing left to say or to hold back."""
    quiet = story.active is None and story.sent is None and story.last is None
    return quiet and not _recent(story.sent_at, now)


def _recent(told_at: Mapping[AlertIdentity, float], now: float) -> dict[AlertIdentity, float]:
    return {mark: at for mark, at in told_at.items() if now < at + FLAP_SUPPRESS_S}


def _together(notices: Iterable[Notification]) -> tuple[Notification, ...]:
    """Return notices in order, those of more families than APART that say the same as one."""
    alike: dict[tuple[int, str, str, str, str], list[Notification]] = {}
    for notice in notices:
        alike.setdefault(_said(notice), []).append(notice)
    told: list[Notification] = []
    for _, several in sorted(alike.items()):
        told += several if len(several) <= GROUP_ABOVE else [_merged(several)]
    return tuple(told)


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
