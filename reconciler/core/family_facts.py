"""What is known of one desired family when a plan is made, and what it needs.

This file brings the sources together: which setting is accepted, which is in force, which may be, and
whether the record came from a newer file. It also decides what is needed so that a target is in force and
on record: a request, a record alone, a later read, or nothing. An attempt without a definite answer makes
a family uncertain, and uncertain is never equal to anything. It does not decide what the target is, nor
what stops a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from reconciler.core.accepted_settings import History, accepted, last_enabled, may_be_live
from reconciler.core.change_direction import is_no_looser, is_protective
from reconciler.core.live_evidence import (
    READ_LAG_S,
    Absent,
    Evidence,
    MissingTooLong,
    NeedsSecondRead,
    NotRead,
    OrderUnknown,
    Reads,
    RecentlyMissing,
    Unreadable,
    evidence_of,
    last_proof,
    newest_file,
    open_attempts,
    reflects_until,
)
from reconciler.core.model import (
    Confirmed,
    DesiredFamily,
    Family,
    Known,
    LiveRow,
    NeverApplied,
    Setting,
    Uncertain,
)
from reconciler.core.plan import PlanConstraints, Reason


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """One desired family, and all its known facts.

    ``accepted`` is the setting that passed the guard last, None: none is on record. ``live`` is what is in
    force now as far as is known, None: nothing. ``found`` is the same, but where no read counts it is what
    the newest request carries, answered or not: a target stays until a newer read. ``superseded``: its open
    attempts are over, see :func:`_superseded`.
    """

    family: Family
    wanted: DesiredFamily
    known: Known
    seen: Evidence
    history: History
    accepted: Setting | None
    live: Setting | None
    found: Setting | None
    other_file: bool
    superseded: bool

    @property
    def desired(self) -> Setting:
        """What the file says."""
        return self.wanted.setting

    @property
    def is_change(self) -> bool:
        """Whether the desired setting is yet to pass the guard."""
        return self.accepted != self.desired

    @property
    def base(self) -> Setting | None:
        """What a change of the file is measured from; None: nothing is known."""
        return self.live if self.accepted is None else self.accepted

    @property
    def may_be_live(self) -> tuple[Setting, ...]:
        """The accepted settings that may be live although no other writer set them."""
        return may_be_live(self.history, self.known)


def family_facts(
    wanted: DesiredFamily, family: Family, known: Known, reads: Reads, rules: PlanConstraints
) -> FamilyFacts:
    """Return the facts of one family, as of what is on record and what was read."""
    seen = evidence_of(family, known, reads)
    history = rules.accepted.get(family, ())
    proof = last_proof(known)
    live = proven_setting(None if proof is None else proof.setting, seen)
    return FamilyFacts(
        family,
        wanted,
        known,
        seen,
        history,
        accepted(history, known),
        live,
        live if isinstance(seen, LiveRow | Absent) else _newest_sent(known) or live,
        other_file=is_other_file(known, rules, excluding=wanted.setting),
        superseded=isinstance(known, Uncertain)
        # A live setting as desired is adopted instead, unless the record came from a newer file.
        and (live != wanted.setting or is_other_file(known, rules))
        and _superseded(known, seen, reads),
    )


def is_doubtful(seen: Evidence) -> bool:
    """Tell whether another read is needed before anything is concluded."""
    return isinstance(seen, NeedsSecondRead | OrderUnknown | RecentlyMissing)


def attempted(known: Known) -> tuple[Setting, ...]:
    """Return the settings that requests without a definite answer carry."""
    return tuple(attempt.setting for attempt in open_attempts(known) if attempt.setting is not None)


def _newest_sent(known: Known) -> Setting | None:
    """Return what the newest request or proof carries; None: nothing is known of that."""
    proof = last_proof(known)
    sent = [] if proof is None else [(proof.attempt, proof.setting)]
    if isinstance(known, Uncertain):
        sent += [(one.attempt, one.setting) for one in known.unresolved if one.setting is not None]
    return max(sent, key=lambda one: one[0])[1] if sent else None


def may_be_enabled(facts: FamilyFacts) -> bool:
    """Tell whether the family is, or may be, enabled before the change."""
    proof = last_proof(facts.known)
    settings = (facts.live, facts.accepted, proof.setting if proof else None, *attempted(facts.known))
    return any(setting is not None and not setting.disabled for setting in settings)


def measured_from(facts: FamilyFacts, before: Setting | None, after: Setting) -> Setting | None:
    """Return what a factor is measured from where that is not ``before``; None: from ``before``, if at all.

    It is the accepted setting; of an enable the last one that was enabled. Otherwise a family that was
    switched off, or whose row is missing, would pass every limit.
    """
    base = facts.accepted
    if (base is None or base.disabled) and not after.disabled:
        base = last_enabled(facts.history, facts.known)
    return None if base == before else base


def change_reason(facts: FamilyFacts, reason: Reason) -> Reason:
    """Return ``reason``, or NEW if nothing was ever known of the family."""
    is_first = facts.accepted is None and facts.live is None
    return Reason.NEW if is_first and isinstance(facts.known, NeverApplied) else reason


def _superseded(known: Uncertain, seen: Evidence, reads: Reads) -> bool:
    """Tell whether a family's open attempts are over for good: live shows a value that none carries.

    Then the last proof counts again, and a third value is drift.
    """
    if not shows_no_attempt(known, seen):
        return False
    assert reads.latest is not None
    until = max(attempt.effect_until for attempt in known.unresolved)
    return reflects_until(reads.latest.begun_at) > until


def is_other_file(known: Known, rules: PlanConstraints, *, excluding: Setting | None = None) -> bool:
    """Tell whether the family's record came from another settings file, newer than this controller's."""
    newest = newest_file(known, excluding=excluding)
    if rules.file is None or newest.sha256 == rules.file.sha256:
        return False
    return newest.number > rules.file.number


def may_be_in_force(before: Setting | None, known: Known, seen: Evidence) -> tuple[Setting | None, ...]:
    """Return every setting that may be in force: None in it means no setting, or any."""
    shown = (seen.row.setting,) if isinstance(seen, NeedsSecondRead) and seen.row is not None else ()
    if not isinstance(known, Uncertain):
        return (before, *shown)
    return (before, *shown, *(attempt.setting for attempt in known.unresolved))


def only_protects(before: Setting | None, after: Setting, known: Known) -> bool:
    """Tell whether writing ``after`` takes no protection away, from live or from any open attempt."""
    return (before == after or is_protective(before, after)) and all(
        attempt.setting is None or is_no_looser(attempt.setting, after) for attempt in open_attempts(known)
    )


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
    if isinstance(seen, MissingTooLong):
        return _need_missing_too_long(after, known, seen)
    match known:
        case NeverApplied():
            return _need_never_applied(after, seen)
        case Confirmed():
            return _need_confirmed(after, known, seen, reads)
        case Uncertain():
            return _need_uncertain(after, known, seen, reads, now)
        case _:
            assert_never(known)


def _need_missing_too_long(after: Setting, known: Known, seen: MissingTooLong) -> Need:
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
        case (
            NotRead()
            | OrderUnknown()
            | NeedsSecondRead()
            | RecentlyMissing()
            | MissingTooLong()
            | Unreadable()
        ):
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
