"""The 24-hour timeline: the state of each family over time, and the times without an observer.

Two facts are on record: when a process observed an account (an observed period is of one process and grows
with each observation, until two are too far apart) and when a family changed to another state. The time
between two observed periods is unobserved, however short: a process that has died sees nothing. Wall
clocks are good enough, since nothing is decided by a timeline. They can step, so recorded times never run
backwards: after a small step back the time stands still. After a big one, all records that lie in the
future are discarded, since they were made under a wrong clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.core.model import Family

LATE_S = 60.0
"""How long a look may be overdue before it is a gap: a pass waits for replies and for other accounts."""

MAX_GAP_S = 90.0
"""Looks further apart leave a gap, at the usual interval of 30 s between two passes."""

KEEP_S = 25 * 3600.0
"""A timeline is of 24 hours; one hour more, so that none is cut short while it is drawn."""

UNMANAGED = "unmanaged"
"""The state of a family that is not desired any more."""


FAILED = "failed"
"""The state of a family that cannot be read or written: the exchange does not answer, refuses the key, or
has rejected the value."""


@dataclass(frozen=True, slots=True)
class ObservedPeriod:
    """A time in which one process observed the account without a gap."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class StateChange:
    """A family was in another state than at the look before, ``at`` that time."""

    family: Family
    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a family's timeline: a FamilyState, FAILED or UNMANAGED; None: not observed."""

    state: str | None
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """The spans of each family, oldest first; ``damaged`` records are not readable and were left out."""

    spans: Mapping[Family, tuple[Segment, ...]] = field(default_factory=dict)
    damaged: int = 0


def max_gap_s(interval_s: float) -> float:
    """Return the longest time between observations without a gap, if one is due every ``interval_s``."""
    return interval_s + LATE_S


def monotonic_wall(last: datetime | None, wall: datetime, max_gap_s: float = MAX_GAP_S) -> datetime:
    """Return the time recorded for an observation at ``wall``; ``last`` is the time of the one before.

    After a step back of at most ``max_gap_s`` the recorded time stands still.
    """
    if last is not None and timedelta() < last - wall <= timedelta(seconds=max_gap_s):
        return last
    return wall


def continues(period: ObservedPeriod, at: datetime, max_gap_s: float = MAX_GAP_S) -> bool:
    """Tell whether an observation ``at`` that time belongs to ``period``."""
    return period.since <= at <= period.until + timedelta(seconds=max_gap_s)


def changed_states(before: Mapping[Family, str], states: Mapping[Family, str]) -> dict[Family, str]:
    """Return the families that are in another state than ``before``; those gone are UNMANAGED."""
    gone = dict.fromkeys(before.keys() - states.keys(), UNMANAGED)
    now = {**states, **gone}
    return {family: now[family] for family in sorted(now) if before.get(family) != now[family]}


def build_timeline(
    periods: Sequence[ObservedPeriod],
    state_changes: Iterable[StateChange],
    *,
    since: datetime,
    now: datetime,
    watching: bool,
    max_gap_s: float = MAX_GAP_S,
) -> dict[Family, tuple[Segment, ...]]:
    """Return each family's segments from ``since`` to ``now``, without a gap, by family.

    ``periods`` and ``state_changes`` are in the order of their records. If the caller is ``watching``, the
    last period extends to now while its next observation is not overdue; whether another process still runs
    is not known. A family that was unmanaged all the time has no timeline. If the clock was set back a
    little since the last observation, now is the time of that one, as for the next.
    """
    now = monotonic_wall(periods[-1].until if periods else None, now, max_gap_s)
    edges: list[_Event] = [edge for one in periods for edge in ((one.since, True), (one.until, False))]
    if watching and periods and continues(periods[-1], now, max_gap_s):
        edges[-1] = (now, False)
    of_family: dict[Family, list[_Event]] = {}
    for change in state_changes:
        of_family.setdefault(change.family, []).append((change.at, change.state))
    made = {family: _segments([*edges, *of_family[family]], since, now) for family in sorted(of_family)}
    return {
        family: spans
        for family, spans in made.items()
        if any(span.state not in (None, UNMANAGED) for span in spans)
    }


_Event = tuple[datetime, bool | str]
"""A time, and what begins then: observed (True) or not (False), or the state of the family."""


def _segments(events: list[_Event], since: datetime, now: datetime) -> tuple[Segment, ...]:
    """Process the events in the order of their times; a new segment begins where the state changes."""
    spans: list[Segment] = []
    state: str | None = None
    reached, watched = since, False
    for at, what in sorted([*events, (now, False)], key=lambda event: event[0]):
        until = min(at, now)
        if until > reached:
            _append(spans, Segment(state if watched else None, reached, until))
            reached = until
        if isinstance(what, bool):
            watched = what
        else:
            state = what
    return tuple(spans)


def _append(spans: list[Segment], span: Segment) -> None:
    """Append a span, merged with the last one if the state is the same."""
    if spans and spans[-1].state == span.state:
        span = Segment(span.state, spans.pop().since, span.until)
    spans.append(span)
