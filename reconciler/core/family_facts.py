"""Everything that is known of one desired family when a plan is made: file, record and live.

This file brings the sources together: which setting is accepted, which is in force, which may be, and
whether the record came from a newer file. Other modules decide what follows from these facts.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.accepted_settings import History, accepted, last_enabled, may_be_live
from reconciler.core.change_direction import is_no_looser, is_protective
from reconciler.core.comparison import proven_setting, shows_no_attempt
from reconciler.core.evidence import (
    Absent,
    Evidence,
    Missing,
    NeedsSecondRead,
    OrderUnknown,
    Reads,
    evidence_of,
    last_proof,
    newest_file,
    open_attempts,
    reflects_until,
)
from reconciler.core.model import DesiredFamily, Family, Known, LiveRow, NeverApplied, Setting, Uncertain
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
        other_file=is_other_file(known, rules, but=wanted.setting),
        superseded=isinstance(known, Uncertain)
        # A live setting as desired is adopted instead, unless the record came from a newer file.
        and (live != wanted.setting or is_other_file(known, rules))
        and _superseded(known, seen, reads),
    )


def is_doubtful(seen: Evidence) -> bool:
    """Tell whether another read is needed before anything is concluded."""
    return isinstance(seen, NeedsSecondRead | OrderUnknown | Missing)


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


def is_other_file(known: Known, rules: PlanConstraints, *, but: Setting | None = None) -> bool:
    """Tell whether the family's record came from another settings file, newer than this controller's."""
    newest = newest_file(known, but=but)
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
