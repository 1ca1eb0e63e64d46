"""What prevents a change from being sent now: pauses, the review, freezes, rejections, and doubtful reads.

This file decides the first reason to hold a change. What the policy refuses is decided in ``policy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from reconciler.core.change_direction import is_no_looser, is_protective
from reconciler.core.evidence import (
    Absent,
    Evidence,
    Missing,
    NeedsSecondRead,
    NotRead,
    OrderUnknown,
    Reads,
    Unconfirmed,
    Unreadable,
    last_seen,
    open_attempts,
)
from reconciler.core.family_facts import FamilyFacts
from reconciler.core.model import Family, LiveRow, Setting
from reconciler.core.plan import Action, Change, HoldReason, PlanConstraints
from reconciler.core.retry import Rejection


def hold_reason(
    facts: FamilyFacts, change: Change, rules: PlanConstraints, reads: Reads, now: float
) -> HoldReason | None:
    """Return the first hold that applies: decisions of people first, then temporary conditions."""
    if change.family in rules.paused:
        return HoldReason.PAUSED
    reviewed = rules.reviewed if rules.includes(change.family) else None
    if reviewed is not None and (
        change.family in rules.applied_before or not _as_reviewed(change, facts.seen, reads, reviewed)
    ):
        return HoldReason.STALE
    if _frozen(facts, reads):
        return HoldReason.FROZEN
    if _rejected(change, rules.rejected.get(change.family), now):
        return HoldReason.REJECTED
    if facts.other_file and not rules.controller:
        return HoldReason.DRIFT_POLICY  # a newer file set it while this apply waited
    return None


def is_stale(facts: FamilyFacts, rules: PlanConstraints, reads: Reads) -> bool:
    """Tell whether live is not as it was reviewed, if there was a review of this family."""
    reviewed = rules.reviewed if rules.includes(facts.family) else None
    if reviewed is None:
        return False
    promised = reviewed.get(facts.family)
    if promised is None or not _may_become(promised[1], facts.desired):
        return True
    if isinstance(facts.seen, NotRead | OrderUnknown) and reads.latest is not None:
        return False
    # What was changed since its reviewed change was applied is not set again.
    was_applied = facts.family in rules.applied_before
    return facts.live not in ((promised[1],) if was_applied else (*promised, facts.desired))


def _may_become(promised: Setting, desired: Setting) -> bool:
    """Tell whether a reviewed setting is the desired one, or that with fields that stay tighter."""
    return promised.disabled == desired.disabled and is_no_looser(desired, promised)


def protects_at_once(change: Change, facts: FamilyFacts, reads: Reads) -> bool:
    """Tell whether a request need not wait for another read, because it only adds protection.

    Both the recorded setting and the one that the read shows may be in force, so the change must add
    protection against both. A family that the read shows as desired already waits, too. The recorded
    setting does not count while a request of another value is open, which may have taken effect.
    """
    known, seen = facts.known, facts.seen
    if change.action is not Action.SET:
        return False
    may_be = {change.before}
    if any(one.setting != change.after for one in open_attempts(known)):
        may_be.discard(change.after)
    if isinstance(seen, NeedsSecondRead):
        may_be.add(None if seen.row is None else seen.row.setting)
    if isinstance(seen, Missing):
        last = last_seen(change.family, known, reads)
        if last is None or not _asked_alone(change.family, reads):
            return False  # its own read may show any setting, and so may a row without a name
        may_be.add(last)
    return bool(may_be) and all(is_protective(one, change.after) for one in may_be)


def _asked_alone(family: Family, reads: Reads) -> bool:
    """Tell whether a family that the latest list leaves out was read alone since, without success."""
    missing = reads.missing.get(family)
    if missing is None or missing.asked_at is None or reads.latest is None:
        return False
    return missing.asked_at >= reads.latest.begun_at


def _rejected(change: Change, rejection: Rejection | None, now: float) -> bool:
    """Tell whether the exchange refused this value, and it is not to be tried again now."""
    if rejection is None or rejection.setting != change.after:
        return False
    if now < rejection.retry_at:
        return True
    live = change.before
    return rejection.only_if_looser and live is not None and is_no_looser(change.after, live)


def _as_reviewed(
    change: Change, seen: Evidence, reads: Reads, reviewed: Mapping[Family, tuple[Setting | None, Setting]]
) -> bool:
    """Tell whether a change is one that was reviewed.

    After a request without an answer, or a record of another process, only a new read shows what is in
    force, so until then nothing is stale; and sending again what is in force by now, because
    an older attempt may still land, is the reviewed change, too.
    """
    promised = reviewed.get(change.family)
    if promised is None:
        return False
    if isinstance(seen, NotRead | OrderUnknown) and reads.latest is not None:
        return change.after == promised[1]
    return change.after == promised[1] and change.before in promised


def _frozen(facts: FamilyFacts, reads: Reads) -> bool:
    """Tell whether the family is frozen, or was when its row was last seen, as long as it may be there."""
    match facts.seen:
        case LiveRow(frozen=frozen):
            return frozen
        case NeedsSecondRead(row=LiveRow(frozen=frozen)):
            return frozen
        case NeedsSecondRead() | Missing() | Unconfirmed():
            last = reads.rows.get(facts.family)
            return last is not None and last.row.frozen
        case NotRead() | OrderUnknown() | Unreadable() | Absent():
            return False
        case _:
            assert_never(facts.seen)
