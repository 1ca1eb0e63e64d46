"""Making the plan: which setting each family is to have now, and what the policy checks.

Three comparisons are made separately: desired against accepted is a *change*, live against accepted is
*drift*, and a family with an attempt without a definite answer is *uncertain*. The policy judges a change
from the accepted setting. Making a field as tight as accepted is checked by no rule, and while a change is
refused the accepted setting is restored. Undoing what live has tighter is measured from live: a refused
field stays as live has it. Nothing here sends, reads or waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from reconciler.core.accepted_settings import (
    at_start,
    enabled_throughout,
    is_sent_later,
    is_unproven,
    last_enabled,
    was_accepted,
)
from reconciler.core.change_direction import is_no_looser, tightest
from reconciler.core.drift_resolution import DriftPolicy, left_tighter, target
from reconciler.core.family_decision import FamilyDecision, is_stale, protects_at_once, unreadable_change
from reconciler.core.family_facts import (
    Await,
    FamilyFacts,
    NeedsAdoption,
    attempted,
    family_facts,
    is_doubtful,
    may_be_enabled,
    need,
    only_protects,
)
from reconciler.core.live_evidence import Missing, NotRead, Reads, Unconfirmed, Unreadable, last_seen
from reconciler.core.model import Desired, Family, Known, NeverApplied, Setting
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    Doubts,
    Plan,
    PlanConstraints,
    adds_protection,
    in_order,
)
from reconciler.core.policy import PolicyResult, ProposedChange, Refusal
from reconciler.core.policy_rules import evaluate

IN_FORCE_FOR = timedelta(hours=24)
"""For so long a family must have been in force, on record, to count for a share of the families."""


def make_plan(
    desired: Desired, known: Mapping[Family, Known], reads: Reads, rules: PlanConstraints, now: float
) -> Plan:
    """Compare desired, accepted and live, and return the plan as of ``now``.

    Etas come by :func:`reconciler.core.plan.with_schedule`. Everything the file would change is judged, and
    only then narrowed to what is looked at.
    """
    plan = _Planner(desired, known, reads, rules, now).plan()
    if not rules.allowed or not plan.overridden:
        return plan
    without = _Planner(desired, known, reads, replace(rules, allowed=frozenset()), now).plan()
    return replace(plan, without_overrides=without.changes)


class _Planner:
    """Everything one plan is made from."""

    def __init__(
        self,
        desired: Desired,
        known: Mapping[Family, Known],
        reads: Reads,
        rules: PlanConstraints,
        now: float,
    ) -> None:
        self.desired = desired
        self.reads = reads
        self.rules = rules
        self.at = now
        self.families = {
            family: family_facts(
                desired.families[family], family, known.get(family, NeverApplied()), reads, rules
            )
            for family in sorted(desired.families)
        }

    def plan(self) -> Plan:
        """Return the plan: check changes, find targets, check what they undo, decide about each family."""
        rules, reads = self.rules, self.reads
        steps = self._steps()
        changed = self._judgement(steps)
        refused = _families(changed.refusals)
        passed = [one for one in steps if one.family not in refused]
        targets = {
            family: self._target(facts, refused=family in refused)
            for family, facts in self.families.items()
        }
        returned = self._judge_returns(targets, passed)
        stays = _families(returned.refusals)
        targets = self._without_returns(targets, stays, passed)
        every = [
            change
            for family in self.families
            if (change := self._change(family, targets[family], refused=refused, stays=stays))
        ]
        at_once = {
            change.family
            for change in every
            if rules.doubts is not Doubts.LEAVE_OUT
            and protects_at_once(change, self.families[change.family], reads)
        }
        doubtful = {family for family, facts in self.families.items() if is_doubtful(facts.seen)} - at_once
        proposed = [change for change in every if change.family not in doubtful]
        if rules.doubts is Doubts.HOLD:
            proposed += [unreadable_change(self.families[family]) for family in sorted(doubtful)]
        looked_at = {family: facts for family, facts in self.families.items() if rules.includes(family)}
        changes = [change for change in proposed if change.family in looked_at]
        left_out = set() if rules.doubts is Doubts.HOLD else doubtful
        touched = {change.family for change in changes} | left_out
        overridden = (*changed.overridden, *returned.overridden)
        return Plan(
            account=self.desired.account,
            environment=self.desired.environment,
            basis=Basis.LAST_APPLIED if reads.latest is None else Basis.LIVE,
            changes=in_order(changes),
            unchanged=tuple(family for family in looked_at if family not in touched),
            unmanaged=_unmanaged(self.desired, reads),
            doubtful=tuple(family for family in looked_at if family in left_out),
            missing=tuple(
                family
                for family, facts in looked_at.items()
                if isinstance(facts.seen, Missing | Unconfirmed)
            ),
            superseded=tuple(family for family, facts in looked_at.items() if facts.superseded),
            refusals=_without_removed(self._reviewed(changed.refusals), changes, self.desired, rules),
            left_tighter=returned.refusals,
            overridden=tuple(dict.fromkeys(overridden)),
        )

    # -- what the file changes ------------------------------------------------------------------

    def _judgement(
        self, proposals: list[ProposedChange], passed: Collection[ProposedChange] = ()
    ) -> PolicyResult:
        """Check changes against the policy. Only what this plan is about to do is refused, or overridden by
        name.

        What is left out or paused counts towards the limits: otherwise what is too much at once would pass
        in parts.
        """
        rules = self.rules
        idle = self.desired.families.keys() - {
            one.family for one in proposals if rules.includes(one.family) and not self._waits(one.family)
        }
        allowed = frozenset(allow for allow in rules.allowed if allow.family not in idle)
        judgement = evaluate(
            proposals,
            self.desired,
            rules.policy,
            allowed,
            in_force=self._in_force_long_enough(),
            unreadable=rules.policy_unreadable,
            besides=passed,
        )
        refusals = tuple(refusal for refusal in judgement.refusals if refusal.family not in idle)
        return PolicyResult(refusals, judgement.overridden)

    def _waits(self, family: Family) -> bool:
        """Tell whether a pause prevents the change of a family; it prevents no adoption."""
        facts = self.families[family]
        return family in self.rules.paused and facts.live != facts.desired

    def _in_force_long_enough(self) -> int:
        """Return how many families of the file were in force for 24 hours, as far as is on record."""
        wall, policy = self.rules.wall, self.rules.policy
        if policy is None or policy.loosening.max_share is None:
            return 0  # no rule uses it
        return sum(
            enabled_throughout(facts.history, wall, IN_FORCE_FOR) for facts in self.families.values()
        )

    def _steps(self) -> list[ProposedChange]:
        """Return what the file changes, measured from what was accepted."""
        return [self._step(facts) for facts in self.families.values() if self._is_proposed(facts)]

    def _is_proposed(self, facts: FamilyFacts) -> bool:
        """Tell whether the file changes the family, as far as that is known and may be done at all."""
        if not facts.is_change or isinstance(facts.seen, Unreadable):
            return False
        if self._is_stale(facts) and facts.live != facts.desired:
            return False  # an adoption is judged whatever was reviewed
        if facts.accepted is None:
            return facts.live != facts.desired and not is_doubtful(facts.seen)
        if facts.other_file and (not self.rules.controller or self._is_left_to_other_file(facts)):
            return False
        return not self._is_late_effect(facts)

    def _is_late_effect(self, facts: FamilyFacts) -> bool:
        """Tell whether live is as desired by a request on record that passed the guard after accepted did.

        Only recording it is not judged again: a new request is a change like any other.
        """
        if facts.live != facts.desired or not is_sent_later(facts.history, facts.known, facts.desired):
            return False
        return isinstance(
            need(facts.desired, facts.known, facts.seen, self.reads, self.at), NeedsAdoption | Await
        )

    def _reviewed(self, refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
        """Return the refusals of what was reviewed: an adoption that was not is stale and stops nothing."""
        families = self.families
        return tuple(
            one
            for one in refusals
            if one.family not in families or not self._is_stale(families[one.family])
        )

    def _is_stale(self, facts: FamilyFacts) -> bool:
        return is_stale(facts, self.rules, self.reads)

    def _step(self, facts: FamilyFacts) -> ProposedChange:
        base, desired = facts.base, facts.desired
        if base is None:
            base = last_seen(facts.family, facts.known, self.reads)
        is_enabled = base is not None and not base.disabled
        return ProposedChange(
            facts.family,
            base,
            desired,
            may_be_enabled(facts),
            self._may_be(facts),
            unknown=base is None and isinstance(facts.seen, NotRead) and not self.rules.reads_live,
            measured_from=None if is_enabled else last_enabled(facts.history, facts.known),
            at_start=self._at_start(facts),
            is_first=facts.base is None and not isinstance(facts.seen, NotRead),
        )

    def _may_be(self, facts: FamilyFacts) -> tuple[Setting, ...]:
        """Return the settings that may be in force instead of the accepted one."""
        sent = [one for one in attempted(facts.known) if was_accepted(facts.history, facts.known, one)]
        is_blind = isinstance(facts.seen, NotRead) and not self.rules.reads_live
        return tuple(dict.fromkeys((*sent, *(facts.may_be_live if is_blind else ()))))

    def _at_start(self, facts: FamilyFacts) -> Setting | None:
        policy = self.rules.policy
        per = None if policy is None else policy.loosening.per
        return None if per is None else at_start(facts.history, self.rules.wall, per)

    def _is_left_to_other_file(self, facts: FamilyFacts) -> bool:
        """Tell whether a change waits for a person, because a newer file of another process says
        otherwise.
        """
        return facts.other_file and not only_protects(facts.accepted, facts.desired, facts.known)

    # -- what is sent ---------------------------------------------------------------------------

    def _heals_refused(self) -> bool:
        """Tell whether the accepted setting is restored while a change of the file is refused.

        An ``apply`` sends nothing then, unless its policy cannot be read.
        """
        return self.rules.controller or self.rules.policy_unreadable

    def _aim(self, facts: FamilyFacts, *, refused: bool) -> Setting | None:
        """Return what the family is to become: the desired setting, or the accepted one for now."""
        left = self.rules.controller and self._is_left_to_other_file(facts)
        return facts.accepted if facts.is_change and (refused or left) else facts.desired

    def _target(self, facts: FamilyFacts, *, refused: bool) -> Setting | None:
        """Return what is to be in force now; None: nothing is to be done, only reported."""
        aim, drift = self._aim(facts, refused=refused), self.rules.drift
        if aim is None or (refused and not self._heals_refused()):
            return None
        is_change = aim == facts.desired and (facts.is_change or is_unproven(facts.history, facts.known))
        if isinstance(facts.seen, Unconfirmed) and drift is DriftPolicy.WARN and not is_change:
            return None
        return target(aim, facts.found, facts.may_be_live, drift, is_change=is_change)

    def _judge_returns(
        self, targets: Mapping[Family, Setting | None], passed: Collection[ProposedChange]
    ) -> PolicyResult:
        """Return what is refused, or overridden by name, of the steps that undo what live has tighter.

        ``passed`` are the changes of the file that the policy allows: they count towards its limits.
        """
        returns = [
            proposal
            for family, facts in self.families.items()
            if (after := targets[family]) is not None
            and (proposal := self._return(facts, after)) is not None
        ]
        families = {one.family for one in returns}
        found = self._judgement(returns, passed)
        return PolicyResult(
            tuple(one for one in found.refusals if one.family in families),
            tuple(one for one in found.overridden if one.family in families),
        )

    def _return(self, facts: FamilyFacts, after: Setting) -> ProposedChange | None:
        """Return what undoes something that live has tighter than accepted, measured from live."""
        live, before = facts.found, facts.accepted
        if live is None or live.disabled or before is None:
            return None
        nearest = tightest(live, before)
        if nearest == before or is_no_looser(nearest, after) or is_no_looser(live, after):
            return None
        if isinstance(facts.seen, Unreadable) or self._is_stale(facts):
            return None
        start = self._at_start(facts)
        return ProposedChange(facts.family, nearest, after, True, at_start=start, is_return=True)

    def _without_returns(
        self,
        targets: Mapping[Family, Setting | None],
        stays: frozenset[Family],
        passed: Collection[ProposedChange],
    ) -> dict[Family, Setting | None]:
        """Return the targets, where it ``stays`` with what live has tighter than accepted as live has it.

        What the file changes beside it is sent, unless that is refused from live as well.
        """
        parts = {family: self._part(family, targets[family], beside=True) for family in stays}
        again = (
            _families(self._judge_returns({**targets, **parts}, passed).refusals) if stays else frozenset()
        )
        least = {family: self._part(family, targets[family], beside=False) for family in stays & again}
        return {**targets, **parts, **least}

    def _part(self, family: Family, after: Setting | None, *, beside: bool) -> Setting | None:
        """Return a target without what undoes anything tighter; ``beside``: with what the file changes."""
        facts = self.families[family]
        assert after is not None, "what is not sent undoes nothing"
        assert facts.found is not None
        return left_tighter(after, facts.found, facts.accepted if beside else None)

    def _change(
        self, family: Family, after: Setting | None, *, refused: frozenset[Family], stays: frozenset[Family]
    ) -> Change | None:
        facts, is_refused = self.families[family], family in refused
        aim = self._aim(facts, refused=is_refused)
        decision = FamilyDecision(
            facts, self.rules, self.reads, self.at, aim, is_refused, stays=family in stays
        )
        return decision.change(after)


def _without_removed(
    refusals: tuple[Refusal, ...], changes: list[Change], desired: Desired, rules: PlanConstraints
) -> tuple[Refusal, ...]:
    """Return the refusals that count for a plan of some families.

    A protected family that is missing from the file blocks no request that adds protection to another.
    """
    requests = [change for change in changes if change.action is Action.SET]
    if rules.only is None or not requests or not all(map(adds_protection, requests)):
        return refusals
    return tuple(refusal for refusal in refusals if refusal.family in desired.families)


def _families(refusals: Iterable[Refusal]) -> frozenset[Family]:
    return frozenset(refusal.family for refusal in refusals)


def _unmanaged(desired: Desired, reads: Reads) -> dict[Family, Setting]:
    if reads.latest is None:
        return {}
    rows = reads.latest.rows
    return {family: rows[family].setting for family in sorted(rows) if family not in desired.families}
