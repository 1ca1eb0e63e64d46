"""The comparison of one family: its target, its record, and what live shows.

This file decides what is needed so that the target is in force and on record: a request, a record alone, a
later read, or nothing. An attempt without a definite answer makes a family uncertain, and uncertain is
never equal to anything. It does not decide what the target is, nor what stops a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from reconciler.core.change_direction import is_no_looser
from reconciler.core.evidence import (
    READ_LAG_S,
    Absent,
    Evidence,
    Missing,
    NeedsSecondRead,
    NotRead,
    OrderUnknown,
    Reads,
    Unconfirmed,
    Unreadable,
    last_proof,
    reflects_until,
)
from reconciler.core.model import Confirmed, Known, LiveRow, NeverApplied, Setting, Uncertain
from reconciler.core.plan import Reason


@dataclass(frozen=True, slots=True)
class NeedsRequest:
    """The family has to be written."""

    reason: Reason
    before: Setting | None


@dataclass(frozen=True, slots=True)
class NeedsAdoption:
    """Live is as desired and only the record is out of date."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Await:
    """As desired as far as is known, but an older attempt may take effect yet, ``until`` then.

    A read that begins later shows it; where live is not read, one more request settles it.
    """

    until: float
    before: Setting | None


@dataclass(frozen=True, slots=True)
class LiveUnknown:
    """What is live cannot be read for certain, so nothing is done."""


Need = NeedsRequest | NeedsAdoption | Await | LiveUnknown | None


def shows_no_attempt(known: Uncertain, seen: Evidence) -> bool:
    """Tell whether live is something that no open attempt carries; a disabled setting may show no row."""
    carried = [attempt.setting for attempt in known.unresolved if attempt.setting is not None]
    match seen:
        case LiveRow(setting=live):
            return live not in carried
        case Absent():
            return not any(setting.disabled for setting in carried)
        case _:
            return False


def need(after: Setting, known: Known, seen: Evidence, reads: Reads, now: float) -> Need:
    """Return what is needed so that ``after`` is in force and on record; ``seen`` can be read."""
    if isinstance(seen, Unconfirmed):
        return _need_unconfirmed(after, known, seen)
    match known:
        case NeverApplied():
            return _need_never_applied(after, seen)
        case Confirmed():
            return _need_confirmed(after, known, seen, reads)
        case Uncertain():
            return _need_uncertain(after, known, seen, reads, now)
        case _:
            assert_never(known)


def _need_unconfirmed(after: Setting, known: Known, seen: Unconfirmed) -> Need:
    """Decide about a family that lists leave out and whose own read fails: nothing looser is sent.

    A setting that was proven since the lists leave the family out is not sent again, only reported.
    """
    last, proof = seen.last, last_proof(known)
    if last is None or after.disabled or not is_no_looser(last, after):
        return LiveUnknown()
    if proof is not None and proof.setting == after and proof.at > seen.since:
        return LiveUnknown()
    return NeedsRequest(Reason.UNCERTAIN, None if last == after else last)


def _need_never_applied(after: Setting, seen: Evidence) -> Need:
    match seen:
        case LiveRow(setting=live) if live == after:
            return NeedsAdoption(Reason.CHANGED)
        case LiveRow(setting=live):
            return NeedsRequest(Reason.CHANGED, live)
        case _:
            return NeedsRequest(Reason.NEW, None)


def _need_confirmed(after: Setting, known: Confirmed, seen: Evidence, reads: Reads) -> Need:
    """Decide about a family without open attempts; a request starts from the setting that is in force.

    A setting proven by a read may have taken effect after that read began, and its attempts may still take
    effect. After a read that does not show all of that, nothing counts as in sync.
    """
    applied = known.setting
    live = proven_setting(applied, seen)
    if live != after:
        return NeedsRequest(Reason.DRIFTED if applied == after else Reason.CHANGED, live)
    if applied == after:
        return None
    if reads.latest is not None and reflects_until(reads.latest.begun_at) <= known.lands_until:
        return NeedsRequest(Reason.UNCERTAIN, live)
    return NeedsAdoption(Reason.CHANGED)


def proven_setting(applied: Setting | None, seen: Evidence) -> Setting | None:
    """Return what is in force now: live where it counts, else what was applied; None for nothing.

    A missing row where disabled was confirmed is that disabled setting.
    """
    match seen:
        case LiveRow(setting=live):
            return live
        case Absent():
            return applied if applied is not None and applied.disabled else None
        case NotRead() | OrderUnknown() | NeedsSecondRead() | Missing() | Unconfirmed() | Unreadable():
            return applied
        case _:
            assert_never(seen)


def _need_uncertain(after: Setting, known: Uncertain, seen: Evidence, reads: Reads, now: float) -> Need:
    """Decide about a family with unresolved attempts; they bind until their effect can be known.

    When all of them carry the desired value, a read that shows it settles at once. When one carries
    another value, the desired one is sent at once and only a read that shows all of that attempt's L
    settles; without live reads, one more acknowledged write after its L does. One that only may have
    been, because the state lost its record, costs no request while live is as desired.
    """
    others = [attempt for attempt in known.unresolved if attempt.setting != after]
    until = max((attempt.effect_until for attempt in others), default=float("-inf"))
    before = proven_setting(known.last.setting if known.last else None, seen)
    begun_at = reads.latest.begun_at if reads.latest and isinstance(seen, LiveRow | Absent) else None
    write = NeedsRequest(Reason.UNCERTAIN, before)
    if begun_at is not None and before == after and reflects_until(begun_at) > until:
        return NeedsAdoption(Reason.UNCERTAIN)
    if begun_at is not None and before == after and all(other.setting is None for other in others):
        # Only the record is in doubt, and live is as desired: no request before that is over.
        return Await(until + READ_LAG_S, before)
    if not others or not _acknowledged_since(after, known, max(other.attempt for other in others)):
        return write
    if begun_at is not None and before != after:
        return write
    if reads.latest is None:
        return write if now > until else Await(until, before)
    return Await(until + READ_LAG_S, before)


def _acknowledged_since(after: Setting, known: Uncertain, attempt: int) -> bool:
    last = known.last
    return last is not None and last.setting == after and last.attempt > attempt
