"""Making the plan: what is desired, accepted, on record and live of each family, and what follows.

Three ways are compared and kept apart: desired against accepted is a *change*, live against accepted is
*drift*, and a family with an attempt without a definite answer is *uncertain*. The policy judges a change
from the accepted setting. Making a field as tight as accepted is judged by no rule, and while a change is
refused the accepted setting is restored. Undoing what live has tighter is judged from live: what is refused
there stays as live has it. Nothing here sends, reads or waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypedDict, assert_never

from reconciler.core.accepted_settings import (
    History,
    accepted,
    at_start,
    enabled_throughout,
    is_sent_later,
    is_unproven,
    last_enabled,
    may_be_live,
    was_accepted,
)
from reconciler.core.change_direction import (
    changed_fields,
    direction,
    is_no_looser,
    is_protective,
    loosest,
    tightest,
)
from reconciler.core.comparison import (
    Adopt,
    Await,
    Blocked,
    Need,
    Write,
    in_force,
    need,
    shows_no_attempt,
)
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
    evidence_of,
    last_proof,
    last_seen,
    newest_file,
    open_attempts,
    reflects_until,
)
from reconciler.core.model import (
    Confirmed,
    Desired,
    DesiredFamily,
    Family,
    Known,
    LiveRow,
    NeverApplied,
    Setting,
    Uncertain,
)
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    Doubts,
    HoldReason,
    Plan,
    PlanConstraints,
    Reason,
    adds_protection,
    in_order,
)
from reconciler.core.policy import PolicyResult, ProposedChange, Refusal, evaluate
from reconciler.core.retry import Rejection
from reconciler.core.target import DriftPolicy, left_tighter, target

IN_FORCE_FOR = timedelta(hours=24)
"""For so long a family must have been in force, on record, to count for a share of the families."""


class _OtherFile(TypedDict):
    other_file: bool
    other_file_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Case:
    """One family, and all that is known of it.

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
        """The accepted settings that may be live without anyone else having set them."""
        return may_be_live(self.history, self.known)


def make_plan(
    desired: Desired,
    known: Mapping[Family, Known],
    reads: Reads,
    rules: PlanConstraints,
    now: float,
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
        self.cases = {
            family: self._case(family, known.get(family, NeverApplied()))
            for family in sorted(desired.families)
        }

    def plan(self) -> Plan:
        """Return the plan: judge, find targets, judge what they undo, then what is done of each family."""
        rules, reads = self.rules, self.reads
        steps = self._steps()
        changed = self._judgement(steps)
        refused = _families(changed.refusals)
        passed = [one for one in steps if one.family not in refused]
        targets = {
            family: self._target(case, refused=family in refused) for family, case in self.cases.items()
        }
        returned = self._judge_returns(targets, passed)
        stays = _families(returned.refusals)
        targets = self._without_returns(targets, stays, passed)
        every = [
            change
            for family, case in self.cases.items()
            if (
                change := self._change(
                    case, targets[family], refused=family in refused, stays=family in stays
                )
            )
        ]
        at_once = {
            change.family
            for change in every
            if rules.doubts is not Doubts.LEAVE_OUT
            and _protects_at_once(change, self.cases[change.family], reads)
        }
        doubtful = {family for family, case in self.cases.items() if _is_doubtful(case.seen)} - at_once
        proposed = [change for change in every if change.family not in doubtful]
        if rules.doubts is Doubts.HOLD:
            proposed += [_unreadable(self.cases[family]) for family in sorted(doubtful)]
        looked_at = {family: case for family, case in self.cases.items() if rules.includes(family)}
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
                family for family, case in looked_at.items() if isinstance(case.seen, Missing | Unconfirmed)
            ),
            superseded=tuple(family for family, case in looked_at.items() if case.superseded),
            refusals=_without_removed(self._reviewed(changed.refusals), changes, self.desired, rules),
            left_tighter=returned.refusals,
            overridden=tuple(dict.fromkeys(overridden)),
        )

    # -- what the file changes ------------------------------------------------------------------

    def _case(self, family: Family, known: Known) -> _Case:
        wanted, seen = self.desired.families[family], evidence_of(family, known, self.reads)
        history = self.rules.accepted.get(family, ())
        proof = last_proof(known)
        live = in_force(None if proof is None else proof.setting, seen)
        return _Case(
            family,
            wanted,
            known,
            seen,
            history,
            accepted(history, known),
            live,
            live if isinstance(seen, LiveRow | Absent) else _newest_sent(known) or live,
            other_file=_is_other_file(known, self.rules, but=wanted.setting),
            superseded=isinstance(known, Uncertain)
            # A live setting as desired is adopted instead, unless the record came from a newer file.
            and (live != wanted.setting or _is_other_file(known, self.rules))
            and _superseded(known, seen, self.reads),
        )

    def _judgement(
        self, proposals: list[ProposedChange], passed: Collection[ProposedChange] = ()
    ) -> PolicyResult:
        """Ask the policy about changes. Only what this plan is about to do is refused, or overridden by
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
        """Tell whether a pause keeps the change of a family from being made; it stops no adoption."""
        case = self.cases[family]
        return family in self.rules.paused and case.live != case.desired

    def _in_force_long_enough(self) -> int:
        """Return how many families of the file were in force for 24 hours, as far as is on record."""
        wall, policy = self.rules.wall, self.rules.policy
        if policy is None or policy.loosening.max_share is None:
            return 0  # nothing asks for it
        return sum(enabled_throughout(case.history, wall, IN_FORCE_FOR) for case in self.cases.values())

    def _steps(self) -> list[ProposedChange]:
        """Return what the file changes, measured from what was accepted."""
        return [self._step(case) for case in self.cases.values() if self._is_proposed(case)]

    def _is_proposed(self, case: _Case) -> bool:
        """Tell whether the file changes the family, as far as that is known and may be done at all."""
        if not case.is_change or isinstance(case.seen, Unreadable):
            return False
        if self._is_stale(case) and case.live != case.desired:
            return False  # an adoption is judged whatever was reviewed
        if case.accepted is None:
            return case.live != case.desired and not _is_doubtful(case.seen)
        if case.other_file and (not self.rules.controller or self._is_left_to_other_file(case)):
            return False
        return not self._is_late_effect(case)

    def _is_late_effect(self, case: _Case) -> bool:
        """Tell whether live is as desired by a request on record that passed the guard after accepted did.

        Only recording it is not judged again: a new request is a change like any other.
        """
        if case.live != case.desired or not is_sent_later(case.history, case.known, case.desired):
            return False
        return isinstance(need(case.desired, case.known, case.seen, self.reads, self.at), Adopt | Await)

    def _reviewed(self, refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
        """Return the refusals of what was reviewed: an adoption that was not is stale and stops nothing."""
        cases = self.cases
        return tuple(
            one for one in refusals if one.family not in cases or not self._is_stale(cases[one.family])
        )

    def _is_stale(self, case: _Case) -> bool:
        """Tell whether live is not as it was reviewed, if there was a review of this family."""
        reviewed = self.rules.reviewed if self.rules.includes(case.family) else None
        if reviewed is None:
            return False
        promised = reviewed.get(case.family)
        if promised is None or not _may_become(promised[1], case.desired):
            return True
        if isinstance(case.seen, NotRead | OrderUnknown) and self.reads.latest is not None:
            return False
        # What was changed since its reviewed change was applied is not set again.
        was_applied = case.family in self.rules.applied_before
        return case.live not in ((promised[1],) if was_applied else (*promised, case.desired))

    def _step(self, case: _Case) -> ProposedChange:
        base, desired = case.base, case.desired
        if base is None:
            base = last_seen(case.family, case.known, self.reads)
        is_enabled = base is not None and not base.disabled
        return ProposedChange(
            case.family,
            base,
            desired,
            _may_be_enabled(case),
            self._may_be(case),
            unknown=base is None and isinstance(case.seen, NotRead) and not self.rules.reads_live,
            measured_from=None if is_enabled else last_enabled(case.history, case.known),
            at_start=self._at_start(case),
            is_first=case.base is None and not isinstance(case.seen, NotRead),
        )

    def _may_be(self, case: _Case) -> tuple[Setting, ...]:
        """Return the settings that may be in force instead of the accepted one."""
        attempted = [one for one in _attempted(case.known) if was_accepted(case.history, case.known, one)]
        is_blind = isinstance(case.seen, NotRead) and not self.rules.reads_live
        return tuple(dict.fromkeys((*attempted, *(case.may_be_live if is_blind else ()))))

    def _at_start(self, case: _Case) -> Setting | None:
        policy = self.rules.policy
        per = None if policy is None else policy.loosening.per
        return None if per is None else at_start(case.history, self.rules.wall, per)

    def _is_left_to_other_file(self, case: _Case) -> bool:
        """Tell whether a change waits for a person, because a newer file of another process says
        otherwise.
        """
        return case.other_file and not _only_protects(case.accepted, case.desired, case.known)

    # -- what is sent ---------------------------------------------------------------------------

    def _heals_refused(self) -> bool:
        """Tell whether the accepted setting is restored while a change of the file is refused.

        An ``apply`` sends nothing then, unless its policy cannot be read.
        """
        return self.rules.controller or self.rules.policy_unreadable

    def _aim(self, case: _Case, *, refused: bool) -> Setting | None:
        """Return what the family is to become: the desired setting, or the accepted one for now."""
        left = self.rules.controller and self._is_left_to_other_file(case)
        return case.accepted if case.is_change and (refused or left) else case.desired

    def _target(self, case: _Case, *, refused: bool) -> Setting | None:
        """Return what is to be in force now; None: nothing is to be done, only reported."""
        aim, drift = self._aim(case, refused=refused), self.rules.drift
        if aim is None or (refused and not self._heals_refused()):
            return None
        is_change = aim == case.desired and (case.is_change or is_unproven(case.history, case.known))
        if isinstance(case.seen, Unconfirmed) and drift is DriftPolicy.WARN and not is_change:
            return None
        return target(aim, case.found, case.may_be_live, drift, is_change=is_change)

    def _judge_returns(
        self, targets: Mapping[Family, Setting | None], passed: Collection[ProposedChange]
    ) -> PolicyResult:
        """Return what is refused, or overridden by name, of the steps that undo what live has tighter.

        ``passed`` are the changes of the file that the policy lets pass: they count towards its limits.
        """
        returns = self._returns(targets)
        families = {one.family for one in returns}
        found = self._judgement(returns, passed)
        return PolicyResult(
            tuple(one for one in found.refusals if one.family in families),
            tuple(one for one in found.overridden if one.family in families),
        )

    def _returns(self, targets: Mapping[Family, Setting | None]) -> list[ProposedChange]:
        """Return what undoes something that live has tighter than what was accepted, measured from live."""
        found = ((case, targets[family]) for family, case in self.cases.items())
        return [
            proposal
            for case, after in found
            if after is not None and (proposal := self._return(case, after)) is not None
        ]

    def _return(self, case: _Case, after: Setting) -> ProposedChange | None:
        live, before = case.found, case.accepted
        if live is None or live.disabled or before is None:
            return None
        nearest = tightest(live, before)
        if nearest == before or is_no_looser(nearest, after) or is_no_looser(live, after):
            return None
        if isinstance(case.seen, Unreadable) or self._is_stale(case):
            return None
        start = self._at_start(case)
        return ProposedChange(case.family, nearest, after, True, at_start=start, is_return=True)

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
        case = self.cases[family]
        assert after is not None, "what is not sent undoes nothing"
        assert case.found is not None
        return left_tighter(after, case.found, case.accepted if beside else None)

    def _change(self, case: _Case, after: Setting | None, *, refused: bool, stays: bool) -> Change | None:
        """Return what is done about a family; None: it is in sync."""
        if isinstance(case.seen, Unreadable):
            return _unreadable(case)
        if after is None:
            return self._report(case, by_policy=refused)
        # What is desired is in force with it; a setting that is the same by chance is not accepted by that.
        is_desired = after == case.desired == self._aim(case, refused=refused)
        known = last_proof(case.known) or NeverApplied() if case.superseded else case.known
        found = self._need(case, after, known, is_desired=is_desired)
        match found:
            case None if is_desired:
                return None
            case None:
                return self._report(case, by_policy=refused or stays)
            case Adopt() if not is_desired and (case.other_file or not isinstance(known, Uncertain)):
                return self._report(case, by_policy=refused or stays)
            case Adopt() if isinstance(known, Confirmed) and _is_other_file(known, self.rules):
                # Recording it would hide what the newer file says.
                return None if is_no_looser(known.setting, after) else self._report(case, by_policy=False)
            case Adopt() if case.other_file and case.is_change and not is_no_looser(case.accepted, after):
                return self._report(case, by_policy=False)  # nor is it judged: a newer file says otherwise
            case Adopt(reason):
                return self._adopt(case, after, reason, is_desired=is_desired)
            case Await() if not is_desired:
                return self._report(case, by_policy=refused or stays)
            case Await(until, before):
                source = case.wanted.source
                return Change(
                    case.family, Action.ADOPT, Reason.UNCERTAIN, before, after, source, known_at=until
                )
            case Blocked():
                return _unreadable(case)
            case Write() if isinstance(case.seen, LiveRow) and after == case.live != case.desired:
                # Sending what live shows would not stop an open request of another value.
                return self._report(case, by_policy=refused or stays)
            case Write():
                return self._write(case, after, found, known, refused=refused)
            case _:
                assert_never(found)

    def _need(self, case: _Case, after: Setting, known: Known, *, is_desired: bool) -> Need:
        """Compare, as :func:`reconciler.core.comparison.need`, and with what was accepted, too."""
        found = need(after, known, case.seen, self.reads, self.at)
        if found is None and case.is_change and is_desired:
            # It is in force already and another setting was accepted: that has to be recorded. Without a
            # read that shows it, it is sent again.
            seen = isinstance(case.seen, LiveRow | Absent)
            return Adopt(Reason.CHANGED) if seen else Write(Reason.UNCERTAIN, case.live)
        return found

    def _adopt(self, case: _Case, after: Setting, reason: Reason, *, is_desired: bool) -> Change:
        accepts = after if is_desired and (case.is_change or not case.history) else None
        is_change = case.is_change and case.accepted is not None and is_desired
        before = case.accepted if is_change else after
        return Change(
            case.family,
            Action.ADOPT,
            reason,
            before,
            after,
            case.wanted.source,
            direction=direction(before, after),
            fields=() if before is None else changed_fields(before, after),
            measured_from=_measured_from(case, before, after) if is_change else None,
            accepts=accepts,
            is_live=True,
            desired=None if after == case.desired else case.desired,
        )

    def _report(self, case: _Case, *, by_policy: bool) -> Change:
        """Return the change of a family that is left as live has it; before is what was accepted if live is
        as desired already.
        """
        because = self._by_policy() if by_policy else HoldReason.DRIFT_POLICY
        if by_policy and self._is_stale(case):
            because = HoldReason.STALE
        if case.family in self.rules.paused:
            because = HoldReason.PAUSED
        before = case.accepted if case.live == case.desired else case.live
        reason = _reason(case, Reason.CHANGED if case.is_change else Reason.DRIFTED)
        is_open = isinstance(case.known, Uncertain) and not case.superseded
        if is_open or isinstance(case.seen, Unconfirmed):
            reason = Reason.UNCERTAIN
        return Change(
            case.family,
            Action.HOLD,
            reason,
            before,
            case.desired,
            case.wanted.source,
            because=because,
            direction=direction(before, case.desired),
            fields=changed_fields(before, case.desired),
            measured_from=_measured_from(case, before, case.desired),
            is_live=case.live == case.desired,
            **self._other_file(case),
        )

    def _by_policy(self) -> HoldReason:
        guard_alone = self.rules.policy is None and not self.rules.policy_unreadable
        return HoldReason.GUARD if guard_alone else HoldReason.POLICY

    def _other_file(self, case: _Case) -> _OtherFile:
        proof = last_proof(case.known)
        at = proof.recorded_at if case.other_file and proof else None
        return {"other_file": case.other_file, "other_file_at": at}

    def _write(self, case: _Case, after: Setting, found: Write, known: Known, *, refused: bool) -> Change:
        before, retries, aim = found.before, self.rules.retries, self._aim(case, refused=refused)
        is_change = case.is_change and aim == case.desired
        reason = found.reason
        if reason in (Reason.CHANGED, Reason.DRIFTED):
            reason = Reason.CHANGED if is_change else Reason.DRIFTED
        protective = is_protective(loosest(_may_be_in_force(before, known, case.seen)), after)
        change = Change(
            case.family,
            Action.SET,
            reason,
            before,
            after,
            case.wanted.source,
            direction=direction(before, after),
            fields=changed_fields(before, after),
            protective=protective,
            tries=retries.count(case.family, after),
            is_open=isinstance(known, Uncertain),
            not_before=retries.not_before(case.family, after, protective=protective),
            measured_from=_measured_from(case, before, after),
            desired=None if after == case.desired else case.desired,
            accepts=aim if is_change or not case.history else None,
            **self._other_file(case),
        )
        because = self._held(case, change)
        return replace(change, action=Action.HOLD, because=because) if because else change

    # -- what stops it --------------------------------------------------------------------------

    def _held(self, case: _Case, change: Change) -> HoldReason | None:
        """Return the first hold that applies: what people decided before what the moment decides."""
        rules = self.rules
        if change.family in rules.paused:
            return HoldReason.PAUSED
        reviewed = rules.reviewed if rules.includes(change.family) else None
        if reviewed is not None and (
            change.family in rules.applied_before
            or not _as_reviewed(change, case.seen, self.reads, reviewed)
        ):
            return HoldReason.STALE
        if _frozen(case, self.reads):
            return HoldReason.FROZEN
        if _rejected(change, rules.rejected.get(change.family), self.at):
            return HoldReason.REJECTED
        if case.other_file and not rules.controller:
            return HoldReason.DRIFT_POLICY  # what a newer file set while this apply waited
        return None


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


def _may_become(promised: Setting, desired: Setting) -> bool:
    """Tell whether a reviewed setting is the desired one, or that with fields that stay tighter."""
    return promised.disabled == desired.disabled and is_no_looser(desired, promised)


def _families(refusals: Iterable[Refusal]) -> frozenset[Family]:
    return frozenset(refusal.family for refusal in refusals)


def _is_doubtful(seen: Evidence) -> bool:
    return isinstance(seen, NeedsSecondRead | OrderUnknown | Missing)


def _attempted(known: Known) -> tuple[Setting, ...]:
    """Return the settings that requests without a definite answer carry."""
    return tuple(attempt.setting for attempt in open_attempts(known) if attempt.setting is not None)


def _newest_sent(known: Known) -> Setting | None:
    """Return what the newest request or proof carries; None: nothing is known of that."""
    proof = last_proof(known)
    sent = [] if proof is None else [(proof.attempt, proof.setting)]
    if isinstance(known, Uncertain):
        sent += [(one.attempt, one.setting) for one in known.unresolved if one.setting is not None]
    return max(sent, key=lambda one: one[0])[1] if sent else None


def _may_be_enabled(case: _Case) -> bool:
    """Tell whether the family is, or may be, enabled before the change."""
    proof = last_proof(case.known)
    settings = (case.live, case.accepted, proof.setting if proof else None, *_attempted(case.known))
    return any(setting is not None and not setting.disabled for setting in settings)


def _measured_from(case: _Case, before: Setting | None, after: Setting) -> Setting | None:
    """Return what a factor is measured from where that is not ``before``; None: from ``before``, if at all.

    It is the accepted setting; of an enable the last one that was enabled. Otherwise a family that was
    switched off, or whose row is missing, would pass every limit.
    """
    base = case.accepted
    if (base is None or base.disabled) and not after.disabled:
        base = last_enabled(case.history, case.known)
    return None if base == before else base


def _reason(case: _Case, reason: Reason) -> Reason:
    is_first = case.accepted is None and case.live is None
    return Reason.NEW if is_first and isinstance(case.known, NeverApplied) else reason


def _protects_at_once(change: Change, case: _Case, reads: Reads) -> bool:
    """Tell whether a request need not wait for another read, because it only adds protection.

    Both the recorded setting and the one that the read shows may be in force, so the change must add
    protection against both. A family that the read shows as desired already waits, too. The recorded
    setting does not count while a request of another value is open, which may have taken effect.
    """
    known, seen = case.known, case.seen
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


def _unreadable(case: _Case) -> Change:
    """Return the change of a family whose live setting is not known, so that nothing is decided."""
    proof = last_proof(case.known)
    before = None if proof is None else proof.setting
    return Change(
        case.family,
        Action.HOLD,
        Reason.UNCERTAIN,
        before,
        case.desired,
        case.wanted.source,
        because=HoldReason.UNREADABLE,
        direction=direction(before, case.desired),
        fields=changed_fields(before, case.desired),
    )


def _superseded(known: Uncertain, seen: Evidence, reads: Reads) -> bool:
    """Tell whether a family's open attempts are over: live shows what none of them carries, for good.

    Then the last proof counts again, and a third value is drift.
    """
    if not shows_no_attempt(known, seen):
        return False
    assert reads.latest is not None
    until = max(attempt.effect_until for attempt in known.unresolved)
    return reflects_until(reads.latest.begun_at) > until


def _is_other_file(known: Known, rules: PlanConstraints, *, but: Setting | None = None) -> bool:
    """Tell whether the family's record came from another settings file, newer than this controller's."""
    newest = newest_file(known, but=but)
    if rules.file is None or newest.sha256 == rules.file.sha256:
        return False
    return newest.number > rules.file.number


def _may_be_in_force(before: Setting | None, known: Known, seen: Evidence) -> tuple[Setting | None, ...]:
    """Return every setting that may be in force: one of None stands for none, or for any."""
    shown = (seen.row.setting,) if isinstance(seen, NeedsSecondRead) and seen.row is not None else ()
    if not isinstance(known, Uncertain):
        return (before, *shown)
    return (before, *shown, *(attempt.setting for attempt in known.unresolved))


def _only_protects(before: Setting | None, after: Setting, known: Known) -> bool:
    """Tell whether writing ``after`` takes no protection away, from live or from any open attempt."""
    return (before == after or is_protective(before, after)) and all(
        attempt.setting is None or is_no_looser(attempt.setting, after) for attempt in open_attempts(known)
    )


def _rejected(change: Change, rejection: Rejection | None, now: float) -> bool:
    """Tell whether the exchange refused this value, and it is not to be tried again now."""
    if rejection is None or rejection.setting != change.after:
        return False
    if now < rejection.retry_at:
        return True
    live = change.before
    return rejection.only_if_looser and live is not None and is_no_looser(change.after, live)


def _as_reviewed(
    change: Change,
    seen: Evidence,
    reads: Reads,
    reviewed: Mapping[Family, tuple[Setting | None, Setting]],
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


def _frozen(case: _Case, reads: Reads) -> bool:
    """Tell whether the family is frozen, or was when its row was last seen, as long as it may be there."""
    match case.seen:
        case LiveRow(frozen=frozen):
            return frozen
        case NeedsSecondRead(row=LiveRow(frozen=frozen)):
            return frozen
        case NeedsSecondRead() | Missing() | Unconfirmed():
            last = reads.rows.get(case.family)
            return last is not None and last.row.frozen
        case NotRead() | OrderUnknown() | Unreadable() | Absent():
            return False
        case _:
            assert_never(case.seen)


def _unmanaged(desired: Desired, reads: Reads) -> dict[Family, Setting]:
    if reads.latest is None:
        return {}
    rows = reads.latest.rows
    return {family: rows[family].setting for family in sorted(rows) if family not in desired.families}
