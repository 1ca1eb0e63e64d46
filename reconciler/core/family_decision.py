"""What is done about one family: a request, an adoption, a hold, or nothing.

This file compares the setting that is to be in force with what is recorded and live, and makes the change
of the plan. It decides the first reason to hold a change: pauses, the review, freezes, rejections, and
doubtful reads. Which setting is to be in force, and what the policy refuses, is decided before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict, assert_never

from reconciler.core import live_evidence
from reconciler.core.change_direction import is_no_looser, is_protective, loosest
from reconciler.core.family_facts import (
    Await,
    FamilyFacts,
    LiveUnknown,
    Need,
    NeedsAdoption,
    NeedsRequest,
    change_reason,
    is_other_file,
    may_be_in_force,
    measured_from,
    need,
)
from reconciler.core.live_evidence import Evidence, Reads, last_proof, last_seen, open_attempts
from reconciler.core.model import Confirmed, Family, Known, LiveRow, NeverApplied, Setting, Uncertain
from reconciler.core.plan import Action, Change, HoldReason, PlanConstraints, Reason
from reconciler.core.retry import Rejection


class _OtherFile(TypedDict):
    other_file: bool
    other_file_at: datetime | None


@dataclass(frozen=True, slots=True)
class FamilyDecision:
    """What one family's change depends on.

    ``goal`` is the desired setting, or the accepted one for now; None: neither. ``refused``: the policy
    refuses what the file changes. ``keeps_tighter_live``: the policy refuses to loosen the fields that live
    has tighter than accepted.
    """

    facts: FamilyFacts
    rules: PlanConstraints
    reads: Reads
    at: float
    goal: Setting | None
    refused: bool
    keeps_tighter_live: bool

    def change(self, after: Setting | None) -> Change | None:
        """Return what is done to have ``after`` in force; None: the family is in sync.

        ``after`` None: nothing is sent, the difference is only reported.
        """
        facts = self.facts
        if isinstance(facts.seen, live_evidence.Unreadable):
            return unreadable_change(facts)
        if after is None:
            return self._report(by_policy=self.refused)
        # Only if the desired setting was the goal does ``after`` become accepted. If the goal was the
        # accepted setting, and ``after`` equals the desired one by coincidence, that is not enough.
        is_desired = after == facts.desired == self.goal
        known = last_proof(facts.known) or NeverApplied() if facts.superseded else facts.known
        blocked_by_policy = self.refused or self.keeps_tighter_live
        match found := self._need(after, known, is_desired=is_desired):
            case None:
                return None if is_desired else self._report(by_policy=blocked_by_policy)
            case LiveUnknown():
                return unreadable_change(facts)
            case NeedsAdoption(reason) if is_desired or (
                isinstance(known, Uncertain) and not facts.other_file
            ):
                if isinstance(known, Confirmed) and is_other_file(known, self.rules):
                    # Recording it would hide what the newer file says.
                    return None if is_no_looser(known.setting, after) else self._report(by_policy=False)
                if facts.other_file and facts.is_change and not is_no_looser(facts.accepted, after):
                    # It is not checked against the policy either, because a newer file wants another value.
                    return self._report(by_policy=False)
                return self._adopt(after, reason, is_desired=is_desired)
            case Await(until, before) if is_desired:
                source = facts.wanted.source
                return Change(
                    facts.family, Action.ADOPT, Reason.UNCERTAIN, before, after, source, known_at=until
                )
            case NeedsRequest() if not isinstance(facts.seen, LiveRow) or not (
                after == facts.live != facts.desired
            ):
                return self._write(after, found, known)
            case NeedsAdoption() | Await() | NeedsRequest():
                # Sending what live shows would not stop an open request of another value.
                return self._report(by_policy=blocked_by_policy)
            case _:
                assert_never(found)

    def _need(self, after: Setting, known: Known, *, is_desired: bool) -> Need:
        """Compare, as :func:`reconciler.core.family_facts.need`, and with what was accepted, too."""
        facts = self.facts
        found = need(after, known, facts.seen, self.reads, self.at)
        if found is None and facts.is_change and is_desired:
            # It is in force already and another setting was accepted: that has to be recorded. Without a
            # read that shows it, it is sent again.
            seen = isinstance(facts.seen, LiveRow | live_evidence.Absent)
            return NeedsAdoption(Reason.CHANGED) if seen else NeedsRequest(Reason.UNCERTAIN, facts.live)
        return found

    def _adopt(self, after: Setting, reason: Reason, *, is_desired: bool) -> Change:
        facts = self.facts
        accepts = after if is_desired and (facts.is_change or not facts.history) else None
        is_change = facts.is_change and facts.accepted is not None and is_desired
        before = facts.accepted if is_change else after
        return Change(
            facts.family,
            Action.ADOPT,
            reason,
            before,
            after,
            facts.wanted.source,
            measured_from=measured_from(facts, before, after) if is_change else None,
            accepts=accepts,
            is_live=True,
            desired=None if after == facts.desired else facts.desired,
        )

    def _report(self, *, by_policy: bool) -> Change:
        """Return a hold: nothing is sent.

        ``before`` is live, or accepted if live already equals desired.
        """
        facts = self.facts
        because = self._by_policy() if by_policy else HoldReason.DRIFT_POLICY
        if by_policy and is_stale(facts, self.rules, self.reads):
            because = HoldReason.STALE
        if facts.family in self.rules.paused:
            because = HoldReason.PAUSED
        before = facts.accepted if facts.live == facts.desired else facts.live
        reason = change_reason(facts, Reason.CHANGED if facts.is_change else Reason.DRIFTED)
        is_open = isinstance(facts.known, Uncertain) and not facts.superseded
        if is_open or isinstance(facts.seen, live_evidence.MissingTooLong):
            reason = Reason.UNCERTAIN
        return Change(
            facts.family,
            Action.HOLD,
            reason,
            before,
            facts.desired,
            facts.wanted.source,
            because=because,
            measured_from=measured_from(facts, before, facts.desired),
            is_live=facts.live == facts.desired,
            **self._other_file(),
        )

    def _by_policy(self) -> HoldReason:
        guard_alone = self.rules.policy is None and not self.rules.policy_unreadable
        return HoldReason.GUARD if guard_alone else HoldReason.POLICY

    def _other_file(self) -> _OtherFile:
        facts, proof = self.facts, last_proof(self.facts.known)
        at = proof.recorded_at if facts.other_file and proof else None
        return {"other_file": facts.other_file, "other_file_at": at}

    def _write(self, after: Setting, found: NeedsRequest, known: Known) -> Change:
        facts, before, retries, goal = self.facts, found.before, self.rules.retries, self.goal
        is_change = facts.is_change and goal == facts.desired
        reason = found.reason
        if reason in (Reason.CHANGED, Reason.DRIFTED):
            reason = Reason.CHANGED if is_change else Reason.DRIFTED
        protective = is_protective(loosest(may_be_in_force(before, known, facts.seen)), after)
        change = Change(
            facts.family,
            Action.SET,
            reason,
            before,
            after,
            facts.wanted.source,
            protective=protective,
            tries=retries.count(facts.family, after),
            is_open=isinstance(known, Uncertain),
            not_before=retries.not_before(facts.family, after, protective=protective),
            measured_from=measured_from(facts, before, after),
            desired=None if after == facts.desired else facts.desired,
            accepts=goal if is_change or not facts.history else None,
            **self._other_file(),
        )
        because = hold_reason(facts, change, self.rules, self.reads, self.at)
        return replace(change, action=Action.HOLD, because=because) if because else change


def unreadable_change(facts: FamilyFacts) -> Change:
    """Return the change of a family whose live setting is not known, so that nothing is decided."""
    proof = last_proof(facts.known)
    before = None if proof is None else proof.setting
    return Change(
        facts.family,
        Action.HOLD,
        Reason.UNCERTAIN,
        before,
        facts.desired,
        facts.wanted.source,
        because=HoldReason.UNREADABLE,
    )


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
    reviewed_change = reviewed.get(facts.family)
    if reviewed_change is None or not _may_become(reviewed_change[1], facts.desired):
        return True
    if (
        isinstance(facts.seen, live_evidence.NotRead | live_evidence.OrderUnknown)
        and reads.latest is not None
    ):
        return False
    # What was changed since its reviewed change was applied is not set again.
    was_applied = facts.family in rules.applied_before
    return facts.live not in ((reviewed_change[1],) if was_applied else (*reviewed_change, facts.desired))


def _may_become(reviewed: Setting, desired: Setting) -> bool:
    """Tell whether a reviewed setting equals the desired one, or is only tighter than it."""
    return reviewed.disabled == desired.disabled and is_no_looser(desired, reviewed)


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
    if isinstance(seen, live_evidence.NeedsSecondRead):
        may_be.add(None if seen.row is None else seen.row.setting)
    if isinstance(seen, live_evidence.RecentlyMissing):
        last = last_seen(change.family, known, reads)
        if last is None or not _was_read_alone(change.family, reads):
            return False  # the single-family read, or a row without a name, may still show any setting
        may_be.add(last)
    return bool(may_be) and all(is_protective(one, change.after) for one in may_be)


def _was_read_alone(family: Family, reads: Reads) -> bool:
    """Tell whether a single-family read followed the latest list, which leaves the family out.

    That read failed or showed no row: otherwise the family would not be missing.
    """
    missing = reads.missing.get(family)
    if missing is None or missing.single_read_at is None or reads.latest is None:
        return False
    return missing.single_read_at >= reads.latest.begun_at


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
    force. Until then a change to the reviewed value is not stale. Repeating a value already in force,
    because an older attempt may still arrive, also counts as the reviewed change.
    """
    reviewed_change = reviewed.get(change.family)
    if reviewed_change is None:
        return False
    if isinstance(seen, live_evidence.NotRead | live_evidence.OrderUnknown) and reads.latest is not None:
        return change.after == reviewed_change[1]
    return change.after == reviewed_change[1] and change.before in reviewed_change


def _frozen(facts: FamilyFacts, reads: Reads) -> bool:
    """Tell whether the family is frozen, or was when its row was last seen, if the row may still exist."""
    match facts.seen:
        case LiveRow(frozen=frozen):
            return frozen
        case live_evidence.NeedsSecondRead(row=LiveRow(frozen=frozen)):
            return frozen
        case (
            live_evidence.NeedsSecondRead()
            | live_evidence.RecentlyMissing()
            | live_evidence.MissingTooLong()
        ):
            last = reads.rows.get(facts.family)
            return last is not None and last.row.frozen
        case (
            live_evidence.NotRead()
            | live_evidence.OrderUnknown()
            | live_evidence.Unreadable()
            | live_evidence.Absent()
        ):
            return False
        case _:
            assert_never(facts.seen)
