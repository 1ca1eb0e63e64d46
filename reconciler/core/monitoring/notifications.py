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
from reconciler.core.monitoring.alerts import Condition, Conditions, Key, Kind, Severity

CALM_S = 300.0
"""How long after it was told the same thing is only counted when it begins once more."""

APART = 3
"""So many families in the same trouble at one moment have a message each; more of them share one."""

Mark = tuple[str, str, str]

_WORST_FIRST = tuple(Severity)


class Turn(StrEnum):
    """Which way it turned."""

    BEGAN = "began"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Notice:
    """One transition that is told, of one family or several; ``families`` empty: of the account.

    ``condition`` is what began, or what was told before and is over; of several families, the first
    one's. ``since`` is when it began. ``count`` is how often it began since it was last told of.
    ``instead``: what holds now, where what is over is so because of that.
    """

    kind: Kind
    turn: Turn
    severity: Severity
    families: tuple[Family, ...]
    condition: Condition
    since: datetime
    count: int
    instead: Kind | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """One key's story. ``told`` None: as far as people know, nothing holds.

    ``holds`` None: nothing does; else it began at ``since`` and may be told of from ``due_at`` on.
    ``told_at`` has each mark that was told of within CALM_S. ``untold`` counts beginnings that were
    not told because of that, this one among them if ``counted``; ``last`` is the last of those.
    """

    since: datetime
    due_at: float
    holds: Condition | None = None
    told: Condition | None = None
    told_since: datetime | None = None
    told_at: Mapping[Mark, float] = field(default_factory=dict)
    untold: int = 0
    counted: bool = False
    last: Condition | None = None


Stories = Mapping[Key, Story]


def tell(
    stories: Stories, found: Conditions, *, now: float, wall: datetime
) -> tuple[Stories, tuple[Notice, ...]]:
    """Go on with every story, given what holds ``now``; returns them and what is to be told, in order.

    What begins or ends for many families at once is one notice.
    """
    kept: dict[Key, Story] = {}
    notices: list[Notice] = []
    for key in sorted(stories.keys() | found.keys()):
        story = _followed(stories.get(key), found.get(key), now, wall)
        story, told = _told(key, story, now)
        notices += told
        if not _is_forgotten(story, now):
            kept[key] = story
    return kept, _together(notices)


def _followed(story: Story | None, found: Condition | None, now: float, wall: datetime) -> Story:
    """Take what holds now; the same condition as before keeps its beginning and its patience."""
    story = story or Story(since=wall, due_at=now)
    if found is None:
        return replace(story, holds=None, counted=False)
    if story.holds is not None and story.holds.mark == found.mark:
        return replace(story, holds=found)
    return replace(story, holds=found, since=wall, due_at=now + found.patience_s, counted=False)


def _told(key: Key, story: Story, now: float) -> tuple[Story, tuple[Notice, ...]]:
    """Return what there is to tell of a story, and the story once that was told."""
    over: tuple[Notice, ...] = ()
    if story.told is not None and (story.holds is None or story.holds.kind is not story.told.kind):
        over = (_over(key, story, story.told),)
        story = replace(story, told=None, told_since=None)
    if story.holds is not None:
        story, begun = _told_of(key, story, story.holds, now)
        return story, (*over, *begun)
    return (story, over) if over else _told_passed(key, story, now)


def _told_of(key: Key, story: Story, holds: Condition, now: float) -> tuple[Story, tuple[Notice, ...]]:
    """Tell what holds once it is due and was quiet long enough; until then it is counted."""
    if now < story.due_at or (story.told is not None and story.told.mark == holds.mark):
        return story, ()
    if _is_calm(story, holds.mark, now):
        return _told_begun(key, story, holds, now)
    if story.counted:
        return story, ()
    return replace(story, untold=story.untold + 1, counted=True, last=holds), ()


def _told_begun(key: Key, story: Story, holds: Condition, now: float) -> tuple[Story, tuple[Notice]]:
    count = story.untold if story.counted else story.untold + 1
    notice = _notice(key, Turn.BEGAN, holds.severity, holds, story.since, count)
    told_at = {**_recent(story.told_at, now), holds.mark: now}
    story = replace(story, told=holds, told_since=story.since, told_at=told_at)
    return replace(story, untold=0, counted=False, last=None), (notice,)


def _over(key: Key, story: Story, told: Condition) -> Notice:
    """Return the notice that what was told is over: all is right, or something of another kind holds."""
    notice = _notice(key, Turn.OVER, Severity.INFO, told, story.told_since or story.since, 1)
    return replace(notice, instead=story.holds.kind if story.holds else None)


def _told_passed(key: Key, story: Story, now: float) -> tuple[Story, tuple[Notice, ...]]:
    """Tell, when it is calm again, how often something came and went untold."""
    if story.last is None or not _is_calm(story, story.last.mark, now):
        return story, ()
    notice = _notice(key, Turn.OVER, Severity.INFO, story.last, story.since, story.untold)
    told_at = {**_recent(story.told_at, now), story.last.mark: now}
    return replace(story, untold=0, last=None, told_at=told_at), (notice,)


def _notice(
    key: Key, turn: Turn, severity: Severity, condition: Condition, since: datetime, count: int
) -> Notice:
    families = (Family(key.family),) if key.family else ()
    return Notice(condition.kind, turn, severity, families, condition, since, count)


def _is_calm(story: Story, mark: Mark, now: float) -> bool:
    told_at = story.told_at.get(mark)
    return told_at is None or now >= told_at + CALM_S


def _is_forgotten(story: Story, now: float) -> bool:
    """Tell whether a story is over and has nothing left to say or to hold back."""
    quiet = story.holds is None and story.told is None and story.last is None
    return quiet and not _recent(story.told_at, now)


def _recent(told_at: Mapping[Mark, float], now: float) -> dict[Mark, float]:
    return {mark: at for mark, at in told_at.items() if now < at + CALM_S}


def _together(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Return notices in order, those of more families than APART that say the same as one."""
    alike: dict[tuple[int, str, str, str, str], list[Notice]] = {}
    for notice in notices:
        alike.setdefault(_said(notice), []).append(notice)
    told: list[Notice] = []
    for _, several in sorted(alike.items()):
        told += several if len(several) <= APART else [_merged(several)]
    return tuple(told)


def _said(notice: Notice) -> tuple[int, str, str, str, str]:
    """Return what notices have in common that may share a message; also their order, worst first."""
    worst = _WORST_FIRST.index(notice.severity)
    return worst, notice.kind, notice.turn, notice.condition.code, notice.instead or ""


def _merged(notices: list[Notice]) -> Notice:
    return replace(
        notices[0],
        families=tuple(family for notice in notices for family in notice.families),
        since=min(notice.since for notice in notices),
        count=max(notice.count for notice in notices),
    )
