"""Making the plan: which setting each family is to have now, and what the policy checks.

Three comparisons are made separately: desired against accepted is a *change*, live against accepted is
*drift*, and a family with an attempt without a definite answer is *uncertain*. The policy judges a change
from the accepted setting. While a change is refused, the accepted setting is restored. No rule checks a
request that only tightens a field back to the accepted value. If live is tighter than accepted, going back
is judged as a loosening from live. If it is refused, that field keeps its live value. Nothing here sends,
reads or waits.

The examples are qtyLimit under ``run``, with ``maxFactor: 2`` in the policy:

========  ====  ====  =============  =================================================================
accepted  file  live  drift          result
========  ====  ====  =============  =================================================================
100       50    100   any            50 is sent and becomes accepted: the policy allows tightening
100       300   100   any            held: the policy refuses a change by factor 3
100       300   900   heal-loosened  100 is sent: the change is refused, the accepted value is restored
100       100   60    heal           100 is sent: from live that is less than factor 2
100       100   10    heal           held at 10: from live it would be factor 10
========  ====  ====  =============  =================================================================
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
from reconciler.core.live_evidence import (
    MissingTooLong,
    NotRead,
    Reads,
    RecentlyMissing,
    Unreadable,
    last_seen,
)
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
"""A family counts in the total of a maxShare rule only if it was accepted as enabled for this long."""


def make_plan(
    desired: Desired, known: Mapping[Family, Known], reads: Reads, rules: PlanConstraints, now: float
) -> Plan:
    """Compare desired, accepted and live, and return the plan as of ``now``.

    Call :func:`reconciler.core.plan.with_schedule` to add the ETAs. The whole file is judged first; then
    the plan is limited to ``rules.only``.
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
        """Return the plan: judge the changes, find targets, judge what loosens live, decide each family."""
        rules, reads = self.rules, self.reads
        file_changes = self._file_changes()
        file_result = self._judgement(file_changes)
        refused = _families(file_result.refusals)
        passed = [one for one in file_changes if one.family not in refused]
        targets = {
            family: self._target(facts, refused=family in refused)
            for family, facts in self.families.items()
        }
        loosening_result = self._judge_loosening_of_live(targets, passed)
        kept_tighter = _families(loosening_result.refusals)
        targets = self._without_loosening_of_live(targets, kept_tighter, passed)
        every = [
            change
            for family in self.families
            if (change := self._change(family, targets[family], refused=refused, kept_tighter=kept_tighter))
        ]
        sent_without_second_read = {
            change.family
            for change in every
            if rules.doubts is not Doubts.LEAVE_OUT
            and protects_at_once(change, self.families[change.family], reads)
        }
        in_doubt = {family for family, facts in self.families.items() if is_doubtful(facts.seen)}
        doubtful = in_doubt - sent_without_second_read
        proposed = [change for change in every if change.family not in doubtful]
        if rules.doubts is Doubts.HOLD:
            proposed += [unreadable_change(self.families[family]) for family in sorted(doubtful)]
        looked_at = {family: facts for family, facts in self.families.items() if rules.includes(family)}
        changes = [change for change in proposed if change.family in looked_at]
        left_out = set() if rules.doubts is Doubts.HOLD else doubtful
        touched = {change.family for change in changes} | left_out
        overridden = (*file_result.overridden, *loosening_result.overridden)
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
                if isinstance(facts.seen, RecentlyMissing | MissingTooLong)
            ),
            superseded=tuple(family for family, facts in looked_at.items() if facts.superseded),
            refusals=_without_removed(self._reviewed(file_result.refusals), changes, self.desired, rules),
            left_tighter=loosening_result.refusals,
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
            one.family
            for one in proposals
            if rules.includes(one.family) and not self._is_blocked_by_pause(one.family)
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

    def _is_blocked_by_pause(self, family: Family) -> bool:
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

    def _file_changes(self) -> list[ProposedChange]:
        """Return what the file changes, measured from what was accepted."""
        return [self._file_change(facts) for facts in self.families.values() if self._is_proposed(facts)]

    def _is_proposed(self, facts: FamilyFacts) -> bool:
        """Tell whether the file changes the family, as far as that is known and may be done at all."""
        if not facts.is_change or isinstance(facts.seen, Unreadable):
            return False
        if self._is_stale(facts) and facts.live != facts.desired:
            return False  # if live already equals desired, it is judged even if the review is stale
        if facts.accepted is None:
            return facts.live != facts.desired and not is_doubtful(facts.seen)
        if facts.other_file and (not self.rules.controller or self._is_left_to_other_file(facts)):
            return False
        return not self._is_late_effect(facts)

    def _is_late_effect(self, facts: FamilyFacts) -> bool:
        """Tell whether live equals desired because of a recorded request that passed the guard after the
        accepted setting.

        Only recording it is not judged again: a new request is a change like any other.
        """
        if facts.live != facts.desired or not is_sent_later(facts.history, facts.known, facts.desired):
            return False
        return isinstance(
            need(facts.desired, facts.known, facts.seen, self.reads, self.at), NeedsAdoption | Await
        )

    def _reviewed(self, refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
        """Return the refusals that block something.

        An adoption that was not reviewed is stale; its refusal blocks nothing.
        """
        families = self.families
        return tuple(
            one
            for one in refusals
            if one.family not in families or not self._is_stale(families[one.family])
        )

    def _is_stale(self, facts: FamilyFacts) -> bool:
        return is_stale(facts, self.rules, self.reads)

    def _file_change(self, facts: FamilyFacts) -> ProposedChange:
        base, desired = facts.base, facts.desired
        if base is None:
            base = last_seen(facts.family, facts.known, self.reads)
        is_enabled = base is not None and not base.disabled
        return ProposedChange(
            facts.family,
            base,
            desired,
            may_be_enabled(facts),
            self._maybe_in_force(facts),
            unknown=base is None and isinstance(facts.seen, NotRead) and not self.rules.reads_live,
            measured_from=None if is_enabled else last_enabled(facts.history, facts.known),
            at_start=self._at_start(facts),
            is_first=facts.base is None and not isinstance(facts.seen, NotRead),
        )

    def _maybe_in_force(self, facts: FamilyFacts) -> tuple[Setting, ...]:
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

    def _goal(self, facts: FamilyFacts, *, refused: bool) -> Setting | None:
        """Return what the family is to become: the desired setting, or the accepted one for now."""
        left = self.rules.controller and self._is_left_to_other_file(facts)
        return facts.accepted if facts.is_change and (refused or left) else facts.desired

    def _target(self, facts: FamilyFacts, *, refused: bool) -> Setting | None:
        """Return what is to be in force now; None: nothing is to be done, only reported."""
        goal, drift = self._goal(facts, refused=refused), self.rules.drift
        if goal is None or (refused and not self._heals_refused()):
            return None
        is_change = goal == facts.desired and (facts.is_change or is_unproven(facts.history, facts.known))
        if isinstance(facts.seen, MissingTooLong) and drift is DriftPolicy.WARN and not is_change:
            return None
        return target(goal, facts.found, facts.may_be_live, drift, is_change=is_change)

    def _judge_loosening_of_live(
        self, targets: Mapping[Family, Setting | None], passed: Collection[ProposedChange]
    ) -> PolicyResult:
        """Judge the targets that loosen a field which live has tighter than accepted.

        ``passed`` are the changes of the file that the policy allows: they count towards its limits.
        """
        loosenings = [
            proposal
            for family, facts in self.families.items()
            if (after := targets[family]) is not None
            and (proposal := self._loosening_of_live(facts, after)) is not None
        ]
        families = {one.family for one in loosenings}
        found = self._judgement(loosenings, passed)
        return PolicyResult(
            tuple(one for one in found.refusals if one.family in families),
            tuple(one for one in found.overridden if one.family in families),
        )

    def _loosening_of_live(self, facts: FamilyFacts, after: Setting) -> ProposedChange | None:
        """Return the change that loosens a field which live has tighter than accepted, measured from live.

        None: the target loosens no such field, or the change is not judged now: live cannot be read or is
        off, the review is stale, or nothing was ever accepted.
        """
        live, before = facts.found, facts.accepted
        if live is None or live.disabled or before is None:
            return None
        nearest = tightest(live, before)
        if nearest == before or is_no_looser(nearest, after) or is_no_looser(live, after):
            return None
        if isinstance(facts.seen, Unreadable) or self._is_stale(facts):
            return None
        start = self._at_start(facts)
        return ProposedChange(facts.family, nearest, after, True, at_start=start, is_loosening_of_live=True)

    def _without_loosening_of_live(
        self,
        targets: Mapping[Family, Setting | None],
        kept_tighter: frozenset[Family],
        passed: Collection[ProposedChange],
    ) -> dict[Family, Setting | None]:
        """Return the targets. For a family in ``kept_tighter``, every field that live has tighter than
        accepted keeps its live value, if the target is looser.

        The file's other changes are still sent, unless they are refused too when measured from live.
        """
        if not kept_tighter:
            return dict(targets)
        reduced = {
            family: self._reduced_target(family, targets[family], with_file_changes=True)
            for family in kept_tighter
        }
        still_refused = _families(self._judge_loosening_of_live({**targets, **reduced}, passed).refusals)
        minimal = {
            family: self._reduced_target(family, targets[family], with_file_changes=False)
            for family in kept_tighter & still_refused
        }
        return {**targets, **reduced, **minimal}

    def _reduced_target(
        self, family: Family, after: Setting | None, *, with_file_changes: bool
    ) -> Setting | None:
        """Return a target that loosens no field which live has tighter than accepted.

        Without ``with_file_changes`` it loosens no field of live at all.
        """
        facts = self.families[family]
        assert after is not None, "what is not sent undoes nothing"
        assert facts.found is not None
        return left_tighter(after, facts.found, facts.accepted if with_file_changes else None)

    def _change(
        self,
        family: Family,
        after: Setting | None,
        *,
        refused: frozenset[Family],
        kept_tighter: frozenset[Family],
    ) -> Change | None:
        facts, is_refused = self.families[family], family in refused
        goal = self._goal(facts, refused=is_refused)
        decision = FamilyDecision(
            facts,
            self.rules,
            self.reads,
            self.at,
            goal,
            is_refused,
            keeps_tighter_live=family in kept_tighter,
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
