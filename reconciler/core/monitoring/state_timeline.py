"""Strips for people: what state each family was in, from when to when, and when nobody watched.

Two facts are on record: when somebody watched (a watch is of one process and grows with its every look,
until they are too far apart) and when a family turned to another state. What lies between two watches
nobody watched, however short: a process that has died sees nothing. Wall clocks are good enough, for
nothing is decided by a strip. They can step, so what is recorded never runs backwards: a small step back is
ridden out, and after a big one whatever lies in the future was recorded under a wrong clock and is
forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.core.model import Family

LATE_S = 60.0
"""How long a look may be overdue before it is a hole: a pass waits for replies, and for other accounts."""

MAX_GAP_S = 90.0
"""Looks further apart leave a hole, at the usual interval of 30 s between two passes."""

KEEP_S = 25 * 3600.0
"""A strip is of 24 hours; an hour more, so that none is cut short while it is drawn."""

UNMANAGED = "unmanaged"
"""The state of a family that is not desired any more."""


FAILED = "failed"
"""The state of a family nobody can see, or whose value cannot be written: the exchange does not answer,
refuses the key, or has refused the value."""


@dataclass(frozen=True, slots=True)
class ObservedPeriod:
    """A time in which one process looked, each time before the next look was long overdue."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class StateChange:
    """A family was found in another state than at the look before, ``at`` that time."""

    family: Family
    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a family's strip: a FamilyState, FAILED or UNMANAGED; None: nobody watched."""

    state: str | None
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """The spans of each family, oldest first; ``damaged`` records are not readable and were left out."""

    spans: Mapping[Family, tuple[Segment, ...]] = field(default_factory=dict)
    damaged: int = 0


def max_gap_s(interval_s: float) -> float:
    """Return the longest gap between looks that leaves no hole, for whoever looks every ``interval_s``."""
    return interval_s + LATE_S


def monotonic_wall(last: datetime | None, wall: datetime, max_gap_s: float = MAX_GAP_S) -> datetime:
    """Return the time a look at ``wall`` is recorded at; ``last`` is that of the look before.

    A step back of at most ``max_gap_s`` is ridden out by standing still.
    """
    if last is not None and timedelta() < last - wall <= timedelta(seconds=max_gap_s):
        return last
    return wall


def continues(watch: ObservedPeriod, at: datetime, max_gap_s: float = MAX_GAP_S) -> bool:
    """Tell whether a look ``at`` that time belongs to ``watch``."""
    return watch.since <= at <= watch.until + timedelta(seconds=max_gap_s)


def changed_states(before: Mapping[Family, str], states: Mapping[Family, str]) -> dict[Family, str]:
    """Return the families that are in another state than ``before``; those gone are UNMANAGED."""
    gone = dict.fromkeys(before.keys() - states.keys(), UNMANAGED)
    now = {**states, **gone}
    return {family: now[family] for family in sorted(now) if before.get(family) != now[family]}


def build_timeline(
    watches: Sequence[ObservedPeriod],
    turns: Iterable[StateChange],
    *,
    since: datetime,
    now: datetime,
    watching: bool,
    max_gap_s: float = MAX_GAP_S,
) -> dict[Family, tuple[Segment, ...]]:
    """Return each family's spans from ``since`` to ``now``, without a hole, by family.

    ``watches`` and ``turns`` are in the order they were recorded in. The last watch goes on until now
    while its next look is not overdue, if whoever asks is ``watching``: of another process nobody knows
    whether it is still there. A family unmanaged all the while has no strip. Where the clock
    was set back a little since the last look, now is that look's time, as for the next look.
    """
    now = monotonic_wall(watches[-1].until if watches else None, now, max_gap_s)
    carried_on = _carried_on(watches, now, max_gap_s) if watching else watches
    looks = [edge for watch in carried_on for edge in _edges(watch)]
    of_family: dict[Family, list[_Event]] = {}
    for turn in turns:
        of_family.setdefault(turn.family, []).append((turn.at, turn.state))
    made = {family: _strip([*looks, *of_family[family]], since, now) for family in sorted(of_family)}
    return {family: spans for family, spans in made.items() if any(map(_tells, spans))}


_Event = tuple[datetime, bool | str]
"""From when on: somebody watches or nobody does, or the state of the family."""


def _tells(span: Segment) -> bool:
    return span.state not in (None, UNMANAGED)


def _carried_on(
    watches: Sequence[ObservedPeriod], now: datetime, max_gap_s: float
) -> Sequence[ObservedPeriod]:
    if not watches or not continues(watches[-1], now, max_gap_s):
        return watches
    return [*watches[:-1], ObservedPeriod(watches[-1].since, now)]


def _edges(watch: ObservedPeriod) -> tuple[_Event, _Event]:
    return (watch.since, True), (watch.until, False)


def _strip(events: list[_Event], since: datetime, now: datetime) -> tuple[Segment, ...]:
    """Go through the events in the order of their times, and cut where what they say changes."""
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
    """Append a span, as a part of the last one if that says the same."""
    if spans and spans[-1].state == span.state:
        span = Segment(span.state, spans.pop().since, span.until)
    spans.append(span)
