"""What is done about one family: a request, an adoption, a hold, or nothing.

This file compares the setting that is to be in force with what is recorded and live, and makes the change
of the plan. Which setting that is, and what the policy refuses, is decided before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict, assert_never

from reconciler.core.change_direction import changed_fields, direction, is_no_looser, is_protective, loosest
from reconciler.core.comparison import Await, LiveUnknown, Need, NeedsAdoption, NeedsRequest, need
from reconciler.core.evidence import Absent, Reads, Unconfirmed, Unreadable, last_proof
from reconciler.core.family_facts import (
    FamilyFacts,
    change_reason,
    is_other_file,
    may_be_in_force,
    measured_from,
)
from reconciler.core.holds import hold_reason, is_stale
from reconciler.core.model import Confirmed, Known, LiveRow, NeverApplied, Setting, Uncertain
from reconciler.core.plan import Action, Change, HoldReason, PlanConstraints, Reason


class _OtherFile(TypedDict):
    other_file: bool
    other_file_at: datetime | None


@dataclass(frozen=True, slots=True)
class FamilyDecision:
    """What one family's change depends on.

    ``aim`` is the desired setting, or the accepted one for now; None: neither. ``refused``: the policy
    refuses what the file changes. ``stays``: it refuses to undo what live has tighter.
    """

    facts: FamilyFacts
    rules: PlanConstraints
    reads: Reads
    at: float
    aim: Setting | None
    refused: bool
    stays: bool

    def change(self, after: Setting | None) -> Change | None:
        """Return what is done to have ``after`` in force; None: the family is in sync.

        ``after`` None: nothing is sent, the difference is only reported.
        """
        facts = self.facts
        if isinstance(facts.seen, Unreadable):
            return unreadable_change(facts)
        if after is None:
            return self._report(by_policy=self.refused)
        # What is desired is in force with it; a setting that is the same by chance is not accepted by that.
        is_desired = after == facts.desired == self.aim
        known = last_proof(facts.known) or NeverApplied() if facts.superseded else facts.known
        found = self._need(after, known, is_desired=is_desired)
        match found:
            case None if is_desired:
                return None
            case None:
                return self._report(by_policy=self.refused or self.stays)
            case NeedsAdoption() if not is_desired and (
                facts.other_file or not isinstance(known, Uncertain)
            ):
                return self._report(by_policy=self.refused or self.stays)
            case NeedsAdoption() if isinstance(known, Confirmed) and is_other_file(known, self.rules):
                # Recording it would hide what the newer file says.
                return None if is_no_looser(known.setting, after) else self._report(by_policy=False)
            case NeedsAdoption() if (
                facts.other_file and facts.is_change and not is_no_looser(facts.accepted, after)
            ):
                return self._report(by_policy=False)  # nor is it judged: a newer file says otherwise
            case NeedsAdoption(reason):
                return self._adopt(after, reason, is_desired=is_desired)
            case Await() if not is_desired:
                return self._report(by_policy=self.refused or self.stays)
            case Await(until, before):
                source = facts.wanted.source
                return Change(
                    facts.family, Action.ADOPT, Reason.UNCERTAIN, before, after, source, known_at=until
                )
            case LiveUnknown():
                return unreadable_change(facts)
            case NeedsRequest() if isinstance(facts.seen, LiveRow) and after == facts.live != facts.desired:
                # Sending what live shows would not stop an open request of another value.
                return self._report(by_policy=self.refused or self.stays)
            case NeedsRequest():
                return self._write(after, found, known)
            case _:
                assert_never(found)

    def _need(self, after: Setting, known: Known, *, is_desired: bool) -> Need:
        """Compare, as :func:`reconciler.core.comparison.need`, and with what was accepted, too."""
        facts = self.facts
        found = need(after, known, facts.seen, self.reads, self.at)
        if found is None and facts.is_change and is_desired:
            # It is in force already and another setting was accepted: that has to be recorded. Without a
            # read that shows it, it is sent again.
            seen = isinstance(facts.seen, LiveRow | Absent)
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
            direction=direction(before, after),
            fields=() if before is None else changed_fields(before, after),
            measured_from=measured_from(facts, before, after) if is_change else None,
            accepts=accepts,
            is_live=True,
            desired=None if after == facts.desired else facts.desired,
        )

    def _report(self, *, by_policy: bool) -> Change:
        """Return the change of a family that is left as live has it; before is what was accepted if live is
        as desired already.
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
        if is_open or isinstance(facts.seen, Unconfirmed):
            reason = Reason.UNCERTAIN
        return Change(
            facts.family,
            Action.HOLD,
            reason,
            before,
            facts.desired,
            facts.wanted.source,
            because=because,
            direction=direction(before, facts.desired),
            fields=changed_fields(before, facts.desired),
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
        facts, before, retries, aim = self.facts, found.before, self.rules.retries, self.aim
        is_change = facts.is_change and aim == facts.desired
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
            direction=direction(before, after),
            fields=changed_fields(before, after),
            protective=protective,
            tries=retries.count(facts.family, after),
            is_open=isinstance(known, Uncertain),
            not_before=retries.not_before(facts.family, after, protective=protective),
            measured_from=measured_from(facts, before, after),
            desired=None if after == facts.desired else facts.desired,
            accepts=aim if is_change or not facts.history else None,
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
        direction=direction(before, facts.desired),
        fields=changed_fields(before, facts.desired),
    )
