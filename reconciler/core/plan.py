"""The plan: what it takes to make live equal to desired, family by family.

Three ways are compared and kept apart: desired against last applied is a *change*, live against last
applied is *drift*, and a family with an unresolved attempt is *uncertain*, which is never equal to
anything. The plan is a value: it is printed, hashed, held against a review, and applied one request
at a time, with a fresh plan after every request. Nothing here sends, reads or waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum, auto
from typing import assert_never

from reconciler.core.direction import (
    LESS_SAFE,
    PROTECTIVE,
    Direction,
    changed_fields,
    direction,
    is_no_looser,
    is_protective,
    loosest,
    tightest,
)
from reconciler.core.evidence import (
    SETTLING_S,
    Absent,
    Doubtful,
    Missing,
    NotRead,
    Overtaken,
    Reads,
    Unconfirmed,
    Unreadable,
    View,
    last_proof,
    last_seen,
    newest_file,
    shown_until,
    view,
)
from reconciler.core.exposure import Amount, factor
from reconciler.core.model import (
    Confirmed,
    Desired,
    DesiredFamily,
    Environment,
    Family,
    Field,
    FileVersion,
    Known,
    LiveRow,
    Never,
    Setting,
    Source,
    Uncertain,
)
from reconciler.core.pacing import Ledger, schedule
from reconciler.core.policy import Allow, Judgement, Policy, Proposal, Refusal, judge
from reconciler.core.retry import NO_TRIES, Rejection, RetryRecord


class Basis(StrEnum):
    """What desired was compared with."""

    LIVE = "live"
    LAST_APPLIED = "last-applied"
    FILE = "file"


class Action(StrEnum):
    """What is done about a family: one request, a record without a request, or nothing for now."""

    SET = "set"
    ADOPT = "adopt"
    HOLD = "hold"


class Reason(StrEnum):
    """Why a family is in the plan."""

    NEW = "new"
    CHANGED = "changed"
    DRIFTED = "drifted"
    UNCERTAIN = "uncertain"


class Because(StrEnum):
    """Why a family that differs is held."""

    FROZEN = "frozen"
    PAUSED = "paused"
    POLICY = "policy"
    GUARD = "guard"
    DRIFT_POLICY = "drift-policy"
    REJECTED = "rejected"
    STALE = "stale"
    """The change is not one that was reviewed; used only after a review."""
    UNREADABLE = "unreadable"
    """What is live cannot be read for certain, so whether the change is safe is unknown."""


NOT_PROPOSED = frozenset({Because.PAUSED, Because.DRIFT_POLICY, Because.STALE, Because.UNREADABLE})
"""Holds decided before a policy is asked: these changes are not about to be made."""


class DriftPolicy(StrEnum):
    """What ``run`` does about drift; ``apply`` and ``plan`` always heal."""

    HEAL_LOOSENED = "heal-loosened"
    HEAL = "heal"
    WARN = "warn"


class Doubts(Enum):
    """What becomes of families whose live setting another read has to tell."""

    SEND_PROTECTION = auto()
    """What only adds protection goes at once; the others are left out of the plan until they are read."""
    LEAVE_OUT = auto()
    """All are left out: a plan for people shows what they will still find when it is applied."""
    HOLD = auto()
    """What only adds protection goes, the others are held: there is no time left to read them again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is looked at in this plan, and what holds a family back.

    ``rejected``: settings the exchange refused, by family; another desired value is tried at once.
    ``policy``: None is the guard alone. ``policy_unreadable``: its file cannot be read now, ``policy`` is
    the last valid one, and nothing is loosened or disabled. ``allowed``: refusals overridden by name.
    ``only``: the families looked at, None for all that are desired. ``reviewed``: before and after
    of each reviewed change, None when there was no review; any other change is stale.
    The policy checks all families of the file, also those that ``only`` leaves out. ``retries``: what was
    tried without success. ``file``: the version of the settings file, None for an explicit act, which may
    loosen what any other file tightened. ``explicit``: it is the file of an explicit act that has waited:
    what a newer file set meanwhile is left as it is. ``doubts``: what becomes of doubtful families.
    """

    drift: DriftPolicy = DriftPolicy.HEAL
    rejected: Mapping[Family, Rejection] = field(default_factory=dict)
    paused: frozenset[Family] = frozenset()
    policy: Policy | None = None
    policy_unreadable: bool = False
    allowed: frozenset[Allow] = frozenset()
    only: frozenset[Family] | None = None
    reviewed: Mapping[Family, tuple[Setting | None, Setting]] | None = None
    retries: RetryRecord = NO_TRIES
    file: FileVersion | None = None
    explicit: bool = False
    doubts: Doubts = Doubts.SEND_PROTECTION

    def looks_at(self, family: Family) -> bool:
        """Tell whether a desired family is one this plan is about."""
        return self.only is None or family in self.only


@dataclass(frozen=True, slots=True)
class Change:
    """One family that is not simply in sync.

    ``before`` is live where it was read, else last applied; None when neither is there.
    ``direction`` is None when before and after are equal. ``order`` counts requests from 1.
    ``known_at`` is set for an adopt that has to wait: the instant from which a read will tell.
    ``eta_s`` is seconds from the plan's making to the reservation (set) or the knowledge (adopt).
    ``protective``: the request only adds protection, whatever may be in force; such requests go first.
    ``tries`` counts the tries of this value without a definite success, ``is_open`` tells that an attempt
    of the family has no definite answer, ``not_before`` is the instant
    from which it may be tried again (-inf: at once). ``other_file``: the family's record came from
    another, newer settings file, ``other_file_at`` at that time of day (None: not known).
    ``measured_from`` is the setting from which the factor is measured where that is not ``before``: of an
    enable, the last enabled setting on record.
    """

    family: Family
    action: Action
    reason: Reason
    before: Setting | None
    after: Setting
    source: Source | None = None
    because: Because | None = None
    direction: Direction | None = None
    fields: tuple[Field, ...] = ()
    order: int | None = None
    eta_s: float | None = None
    known_at: float | None = None
    protective: bool = field(default=False, compare=False)
    tries: int = field(default=0, compare=False)
    is_open: bool = field(default=False, compare=False)
    not_before: float = field(default=float("-inf"), compare=False)
    other_file: bool = False
    other_file_at: datetime | None = None
    measured_from: Setting | None = None

    @property
    def base(self) -> Setting | None:
        """What the factor is measured from; None: nothing is known."""
        return self.measured_from or self.before

    @property
    def factor(self) -> Amount | None:
        """By what factor the change raises the risk; None: not known."""
        return factor(self.base, self.after)

    @property
    def field_words(self) -> str:
        """The fields that differ, as ``qtyLimit 100 → 400``; only the values where there is no before."""
        was = self.before
        return ", ".join(
            f"{name.value} {f'{was.field_text(name)} → ' if was else ''}{self.after.field_text(name)}"
            for name in self.fields
        )

    def slots_left(self, *, others: bool, unanswered: bool) -> int:
        """Return how many slots of a window this request leaves free; ``others``: another one waits.

        A value tried without success does not take the last slot while another family waits for it. A
        change that loosens never takes it while an attempt of its family has no definite answer, or a
        request of the User ID is ``unanswered``: an urgent change always finds a slot.
        """
        if self.protective:
            return int(self.tries > 0 and others)
        return int(self.tries > 0 or self.is_open or unanswered)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done for one account; ``changes`` requests first in sending order.

    ``refusals`` are the policy's or guard's, each naming its family; while there is one, ``apply``
    sends nothing. ``overridden`` are those that only an override by name lets pass, and ``waived`` the
    families that would be held were there no override. ``doubtful`` names families for which another
    live read is needed before anything is concluded: they are neither among the changes nor unchanged.
    ``missing`` are families that the list leaves out, to be read on their own. ``superseded`` are
    families whose open attempts are over, because live shows what none of them carries.
    """

    account: str
    environment: Environment
    basis: Basis
    changes: tuple[Change, ...]
    unchanged: tuple[Family, ...]
    unmanaged: Mapping[Family, Setting]
    doubtful: tuple[Family, ...] = ()
    missing: tuple[Family, ...] = ()
    superseded: tuple[Family, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    overridden: tuple[Refusal, ...] = ()
    waived: frozenset[Family] = frozenset()

    def of(self, action: Action) -> tuple[Change, ...]:
        """Return the changes with ``action``, in plan order."""
        return tuple(change for change in self.changes if change.action is action)

    @property
    def requests(self) -> tuple[Change, ...]:
        """The changes that take a request, in sending order."""
        return self.of(Action.SET)

    @property
    def eta_s(self) -> float:
        """Seconds until the last request is reserved or the last unknown is known; 0 when none."""
        return max((change.eta_s for change in self.changes if change.eta_s is not None), default=0.0)

    @property
    def protection(self) -> tuple[Change, ...]:
        """The requests that add protection or revert drift that is looser, in sending order.

        They pass the policy, so what it refuses of other families should not hold them up.
        """
        return tuple(change for change in self.requests if _adds_protection(change))

    @property
    def digest(self) -> str:
        """``sha256:…`` over account, environment, and each family's action, before and after.

        And over what its factor is measured from, where that is not before. It is that of the plan without
        any override: what was reviewed has the same digest whether or not a refusal is then overridden.
        """
        return self.digest_of(frozenset(change.family for change in self.changes))

    def digest_of(self, families: Set[Family]) -> str:
        """Return the digest of this plan if it were of ``families`` alone, as ``--family`` makes it."""
        held = (
            replace(change, action=Action.HOLD) if change.family in self.waived else change
            for change in self.changes
            if change.family in families
        )
        return digest(self.account, self.environment, tuple(held))


def make_plan(
    desired: Desired,
    known: Mapping[Family, Known],
    reads: Reads,
    rules: Rules,
    now: float,
) -> Plan:
    """Compare three ways and return the plan as of ``now``; etas come by :func:`with_schedule`.

    Everything the file would change is judged, and only then narrowed to what is looked at.
    """
    seen_of = {
        family: view(family, known.get(family, Never()), reads) for family in sorted(desired.families)
    }
    every = [
        change
        for family, seen in seen_of.items()
        if (change := _change(family, desired, known.get(family, Never()), seen, reads, rules, now))
    ]
    at_once = {
        change.family
        for change in every
        if rules.doubts is not Doubts.LEAVE_OUT
        and _protects_at_once(change, known.get(change.family, Never()), seen_of[change.family], reads)
    }
    doubtful = {family for family, seen in seen_of.items() if _is_doubtful(seen)} - at_once
    proposed = [change for change in every if change.family not in doubtful]
    if rules.doubts is Doubts.HOLD:
        proposed += [
            _unreadable(family, desired, known.get(family, Never())) for family in sorted(doubtful)
        ]
    judgement = _judged(proposed, known, desired, reads, rules)
    views = {family: seen for family, seen in seen_of.items() if rules.looks_at(family)}
    looked_at = [change for change in proposed if rules.looks_at(change.family)]
    changes = _refused(looked_at, judgement.refusals, rules)
    left_out = set() if rules.doubts is Doubts.HOLD else doubtful
    touched = {change.family for change in changes} | left_out
    return Plan(
        account=desired.account,
        environment=desired.environment,
        basis=Basis.LAST_APPLIED if reads.latest is None else Basis.LIVE,
        changes=in_order(changes),
        unchanged=tuple(family for family in views if family not in touched),
        unmanaged=_unmanaged(desired, reads),
        doubtful=tuple(family for family in views if family in left_out),
        missing=tuple(family for family, seen in views.items() if isinstance(seen, Missing | Unconfirmed)),
        superseded=tuple(
            family
            for family, seen in views.items()
            if _superseded(desired.families[family].setting, known.get(family, Never()), seen, reads, rules)
        ),
        refusals=_without_removed(judgement.refusals, changes, desired, rules),
        overridden=judgement.overridden,
        waived=_families(judgement.without) - _families(judgement.refusals),
    )


def _adds_protection(change: Change) -> bool:
    if change.direction is None:
        return change.protective
    is_mixed_drift = change.direction is Direction.MIXED and change.reason is Reason.DRIFTED
    return change.direction in PROTECTIVE or is_mixed_drift


def _without_removed(
    refusals: tuple[Refusal, ...], changes: list[Change], desired: Desired, rules: Rules
) -> tuple[Refusal, ...]:
    """Return the refusals that count for a plan of some families.

    A protected family that is missing from the file blocks no request that adds protection to another.
    """
    requests = [change for change in changes if change.action is Action.SET]
    if rules.only is None or not requests or not all(map(_adds_protection, requests)):
        return refusals
    return tuple(refusal for refusal in refusals if refusal.family in desired.families)


def _is_doubtful(seen: View) -> bool:
    return isinstance(seen, Doubtful | Overtaken | Missing)


def _protects_at_once(change: Change, known: Known, seen: View, reads: Reads) -> bool:
    """Tell whether a request need not wait for another read, because it only adds protection.

    Both the recorded setting and the one that the read shows may be in force, so the change must add
    protection against both. A family that the read shows as desired already waits, too. The recorded
    setting does not count while a request of another value is open, which may have taken effect.
    """
    if change.action is not Action.SET:
        return False
    may_be = {change.before}
    if isinstance(known, Uncertain) and any(one.setting != change.after for one in known.unresolved):
        may_be.discard(change.after)
    if isinstance(seen, Doubtful):
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


def _unreadable(family: Family, desired: Desired, known: Known) -> Change:
    """Return the change of a family whose live setting is not known, so that nothing is decided."""
    proof, wanted = last_proof(known), desired.families[family]
    before = None if proof is None else proof.setting
    return Change(
        family,
        Action.HOLD,
        Reason.UNCERTAIN,
        before,
        wanted.setting,
        wanted.source,
        because=Because.UNREADABLE,
        direction=direction(before, wanted.setting),
        fields=changed_fields(before, wanted.setting),
    )


def in_order(changes: list[Change]) -> tuple[Change, ...]:
    """Return ``changes`` in plan order, requests numbered from 1.

    Requests come first (those that only add protection, then the fewest tries without success, then by
    name), then adopts, then holds.
    """
    ordered = sorted(changes, key=_sending_rank)
    requests = sum(change.action is Action.SET for change in ordered)
    numbered = [replace(change, order=place) for place, change in enumerate(ordered[:requests], 1)]
    return (*numbered, *ordered[requests:])


def with_schedule(
    plan: Plan, ledger: Ledger, now: float, *, assume_idle: bool, round_trip_s: float = 0.0
) -> Plan:
    """Return ``plan`` with every eta filled in from the pacing ledger."""
    requests, unanswered = plan.requests, ledger.unanswered(now)
    slots = schedule(
        ledger,
        now,
        len(requests),
        assume_idle=assume_idle,
        round_trip_s=round_trip_s,
        keep_free=[
            change.slots_left(others=number < len(requests), unanswered=unanswered)
            for number, change in enumerate(requests, 1)
        ],
    )
    return replace(plan, changes=tuple(_timed(change, slots, now) for change in plan.changes))


def digest(account: str, environment: Environment, changes: tuple[Change, ...]) -> str:
    """Hash what a review approves: equal inputs give equal digests, whatever order, time or place."""
    told = {
        "account": account,
        "environment": environment.value,
        "changes": [
            {
                "family": change.family,
                "action": change.action.value,
                "before": change.before.canonical() if change.before else None,
                "after": change.after.canonical(),
                **({"measured_from": base.canonical()} if (base := change.measured_from) else {}),
            }
            for change in sorted(changes, key=lambda change: change.family)
        ],
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Write:
    """The family has to be written; ``drift``: only if the drift policy reverts what live shows."""

    reason: Reason
    before: Setting | None
    drift: bool = False


@dataclass(frozen=True, slots=True)
class _Adopt:
    """Live is as desired and only the record is behind."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class _Await:
    """As desired as far as is known, but an older attempt may land yet: ``until`` nobody can tell.

    By a read that begins then; where live is not read, by one more write.
    """

    until: float
    before: Setting | None


@dataclass(frozen=True, slots=True)
class _Blocked:
    """What is live cannot be read for certain, so nothing is done."""


_Need = _Write | _Adopt | _Await | _Blocked | None


def _change(
    family: Family,
    desired: Desired,
    known: Known,
    seen: View,
    reads: Reads,
    rules: Rules,
    now: float,
) -> Change | None:
    wanted = desired.families[family]
    after = wanted.setting
    if _superseded(after, known, seen, reads, rules):
        known = last_proof(known) or Never()
    need = _need(after, known, seen, reads, now)
    match need:
        case None:
            return None
        case _Adopt() if isinstance(known, Confirmed) and _is_other_file(known, rules):
            return _left_to_other_file(family, wanted, known)
        case _Adopt(reason):
            return Change(family, Action.ADOPT, reason, after, after, wanted.source)
        case _Await(until, before):
            return Change(
                family, Action.ADOPT, Reason.UNCERTAIN, before, after, wanted.source, known_at=until
            )
        case _Blocked():
            return _unreadable(family, desired, known)
        case _Write():
            return _set_or_hold(family, wanted, need, known, seen, reads, rules, now)
        case _:
            assert_never(need)


def _left_to_other_file(family: Family, wanted: DesiredFamily, known: Confirmed) -> Change | None:
    """Return the change of a family that live shows as this file wants it, and a newer file does not.

    It is not recorded: that would hide what the newer file wants. If that is tighter, it is reported.
    """
    if is_no_looser(known.setting, wanted.setting):
        return None
    return Change(
        family,
        Action.HOLD,
        Reason.DRIFTED,
        wanted.setting,
        wanted.setting,
        wanted.source,
        because=Because.DRIFT_POLICY,
        other_file=True,
        other_file_at=known.recorded_at,
    )


def _superseded(after: Setting, known: Known, seen: View, reads: Reads, rules: Rules) -> bool:
    """Tell whether a family's open attempts are over: live shows what none of them carries, for good.

    Then the last proof counts again, and a third value is drift. A live setting as desired is adopted
    instead, unless the record came from a newer settings file.
    """
    if not isinstance(known, Uncertain) or not _shows_no_attempt(known, seen):
        return False
    if _in_force(known.last.setting if known.last else None, seen) == after and not _is_other_file(
        known, rules
    ):
        return False
    assert reads.latest is not None
    until = max(attempt.effect_until for attempt in known.unresolved)
    return shown_until(reads.latest.begun_at) > until


def _shows_no_attempt(known: Uncertain, seen: View) -> bool:
    """Tell whether live is something that no open attempt carries; a disabled setting may show no row."""
    carried = [attempt.setting for attempt in known.unresolved if attempt.setting is not None]
    match seen:
        case LiveRow(setting=live):
            return live not in carried
        case Absent():
            return not any(setting.disabled for setting in carried)
        case _:
            return False


def _is_other_file(known: Known, rules: Rules, *, but: Setting | None = None) -> bool:
    """Tell whether the family's record came from another settings file, newer than this controller's."""
    newest = newest_file(known, but=but)
    if rules.file is None or newest.sha256 == rules.file.sha256:
        return False
    return newest.number > rules.file.number


def _set_or_hold(
    family: Family,
    wanted: DesiredFamily,
    need: _Write,
    known: Known,
    seen: View,
    reads: Reads,
    rules: Rules,
    now: float,
) -> Change:
    after, proof = wanted.setting, last_proof(known)
    other_file = _is_other_file(known, rules, but=after)
    as_accepted = proof is not None and need.before == proof.setting
    is_change = as_accepted and _only_protects(need.before, after, known)
    is_drift = other_file and need.reason is Reason.CHANGED and not is_change
    if is_drift and not rules.explicit:
        after = _healed_to(need.before, after, proof)
    only_protects = _only_protects(need.before, after, known)
    protective = is_protective(loosest(_may_be_in_force(need.before, known, seen)), after)
    change = Change(
        family,
        Action.SET,
        Reason.DRIFTED if is_drift else need.reason,
        need.before,
        after,
        wanted.source,
        direction=direction(need.before, after),
        fields=changed_fields(need.before, after),
        protective=protective,
        tries=rules.retries.count(family, after),
        is_open=isinstance(known, Uncertain),
        not_before=rules.retries.not_before(family, after, protective=protective),
        other_file=other_file,
        other_file_at=proof.recorded_at if other_file and proof else None,
        measured_from=_last_enabled(need.before, after, known),
    )
    because = _held(change, need, seen, reads, rules, now)
    if because is None and other_file and (rules.explicit or not only_protects):
        because = Because.DRIFT_POLICY
    return replace(change, action=Action.HOLD, because=because) if because else change


def _healed_to(before: Setting | None, after: Setting, proof: Confirmed | None) -> Setting:
    """Return what an older file's controller sends: no less than the newer file says if live is looser."""
    if proof is None or (before is not None and is_no_looser(proof.setting, before)):
        return after
    restored = tightest(proof.setting, after)
    return restored if is_protective(before, restored) else after


def _last_enabled(before: Setting | None, after: Setting, known: Known) -> Setting | None:
    """Return the last proven setting if an enable is measured from it; None if it is not on record.

    Otherwise a family that is switched off, or whose row is missing, would pass every limit.
    """
    proof = last_proof(known)
    return proof.setting if proof and may_be_measured_from(proof.setting, before, after) else None


def may_be_measured_from(base: Setting, before: Setting | None, after: Setting) -> bool:
    """Tell whether a change can be measured from ``base`` in place of ``before``: only an enable is."""
    return not (after.disabled or base.disabled) and (before is None or before.disabled)


def _may_be_in_force(before: Setting | None, known: Known, seen: View) -> tuple[Setting | None, ...]:
    """Return every setting that may be in force: one of None stands for none, or for any."""
    shown = (seen.row.setting,) if isinstance(seen, Doubtful) and seen.row is not None else ()
    if not isinstance(known, Uncertain):
        return (before, *shown)
    return (before, *shown, *(attempt.setting for attempt in known.unresolved))


def _only_protects(before: Setting | None, after: Setting, known: Known) -> bool:
    """Tell whether writing ``after`` takes no protection away, from live or from any open attempt."""
    attempts = known.unresolved if isinstance(known, Uncertain) else ()
    return (before == after or is_protective(before, after)) and all(
        attempt.setting is None or is_no_looser(attempt.setting, after) for attempt in attempts
    )


def _need(after: Setting, known: Known, seen: View, reads: Reads, now: float) -> _Need:
    if isinstance(seen, Unreadable):
        return _Blocked()
    if isinstance(seen, Unconfirmed):
        return _need_unconfirmed(after, known, seen)
    match known:
        case Never():
            return _need_never_applied(after, seen)
        case Confirmed():
            return _need_confirmed(after, known, seen, reads)
        case Uncertain():
            return _need_uncertain(after, known, seen, reads, now)
        case _:
            assert_never(known)


def _need_unconfirmed(after: Setting, known: Known, seen: Unconfirmed) -> _Need:
    """Decide about a family that lists leave out and whose own read fails: nothing looser is sent.

    A setting that was proven since the lists leave the family out is not sent again, only reported.
    """
    last, proof = seen.last, last_proof(known)
    if last is None or after.disabled or not is_no_looser(last, after):
        return _Blocked()
    if proof is not None and proof.setting == after and proof.at > seen.since:
        return _Blocked()
    as_proven = isinstance(known, Confirmed) and known.setting == after
    return _Write(Reason.UNCERTAIN, None if last == after else last, drift=as_proven)


def _need_never_applied(after: Setting, seen: View) -> _Need:
    match seen:
        case LiveRow(setting=live) if live == after:
            return _Adopt(Reason.CHANGED)
        case LiveRow(setting=live):
            return _Write(Reason.CHANGED, live)
        case _:
            return _Write(Reason.NEW, None)


def _need_confirmed(after: Setting, known: Confirmed, seen: View, reads: Reads) -> _Need:
    """Decide about a family without a doubt; one of another value begins where live left the proven one.

    What was proven by a read may have landed after that read began, and attempts of it may land yet: a
    read that does not show all that ends in nothing being called in sync.
    """
    applied = known.setting
    live = _in_force(applied, seen)
    if live != after:
        return _Write(Reason.DRIFTED if applied == after else Reason.CHANGED, live)
    if applied == after:
        return None
    if reads.latest is not None and shown_until(reads.latest.begun_at) <= known.lands_until:
        return _Write(Reason.UNCERTAIN, live)
    return _Adopt(Reason.CHANGED)


def _in_force(applied: Setting | None, seen: View) -> Setting | None:
    """Return what is in force now: live where it counts, else what was applied; None for nothing.

    A missing row where disabled was confirmed is that disabled setting.
    """
    match seen:
        case LiveRow(setting=live):
            return live
        case Absent():
            return applied if applied is not None and applied.disabled else None
        case NotRead() | Overtaken() | Doubtful() | Missing() | Unconfirmed() | Unreadable():
            return applied
        case _:
            assert_never(seen)


def _need_uncertain(after: Setting, known: Uncertain, seen: View, reads: Reads, now: float) -> _Need:
    """Decide about a family with unresolved attempts; they bind until their effect can be known.

    When all of them carry the desired value, a read that shows it settles at once. When one carries
    another value, the desired one is sent at once and only a read that shows all of that attempt's L
    settles; without live reads, one more acknowledged write after its L does. One that only may have
    been, because the state lost its record, costs no request while live is as desired.
    """
    others = [attempt for attempt in known.unresolved if attempt.setting != after]
    until = max((attempt.effect_until for attempt in others), default=float("-inf"))
    before = _in_force(known.last.setting if known.last else None, seen)
    begun_at = reads.latest.begun_at if reads.latest and isinstance(seen, LiveRow | Absent) else None
    as_proven = known.last is not None and known.last.setting == after
    third = before != after and _shows_no_attempt(known, seen)
    write = _Write(Reason.UNCERTAIN, before, drift=as_proven and third)
    if begun_at is not None and before == after and shown_until(begun_at) > until:
        return _Adopt(Reason.UNCERTAIN)
    if begun_at is not None and before == after and all(other.setting is None for other in others):
        # Only the record is in doubt, and live is as desired: no request before that is over.
        return _Await(until + SETTLING_S, before)
    if not others or not _acknowledged_since(after, known, max(other.attempt for other in others)):
        return write
    if begun_at is not None and before != after:
        return write
    if reads.latest is None:
        return write if now > until else _Await(until, before)
    return _Await(until + SETTLING_S, before)


def _acknowledged_since(after: Setting, known: Uncertain, attempt: int) -> bool:
    last = known.last
    return last is not None and last.setting == after and last.attempt > attempt


def _held(
    change: Change, need: _Write, seen: View, reads: Reads, rules: Rules, now: float
) -> Because | None:
    """Return the first hold that applies: what people decided before what the moment decides."""
    if change.family in rules.paused:
        return Because.PAUSED
    if (need.drift or change.reason is Reason.DRIFTED) and not _healed(change, rules.drift):
        return Because.DRIFT_POLICY
    reviewed = rules.reviewed if rules.looks_at(change.family) else None
    if reviewed is not None and not _as_reviewed(change, seen, reads, reviewed):
        return Because.STALE
    if _frozen(change.family, seen, reads):
        return Because.FROZEN
    if _rejected(change, rules.rejected.get(change.family), now):
        return Because.REJECTED
    return None


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
    seen: View,
    reads: Reads,
    reviewed: Mapping[Family, tuple[Setting | None, Setting]],
) -> bool:
    """Tell whether a change is one that was reviewed.

    After a request of ours that was not answered, or a record of somebody else's, only a new read tells
    what is in force, so until then nothing is stale; and sending again what is in force by now, because
    an older attempt may still land, is the reviewed change, too.
    """
    promised = reviewed.get(change.family)
    if promised is None:
        return False
    if isinstance(seen, NotRead | Overtaken) and reads.latest is not None:
        return change.after == promised[1]
    return change.after == promised[1] and change.before in promised


def _healed(change: Change, policy: DriftPolicy) -> bool:
    match policy:
        case DriftPolicy.HEAL:
            return True
        case DriftPolicy.WARN:
            return False
        case DriftPolicy.HEAL_LOOSENED:
            became = Direction.DISABLE if change.before is None else direction(change.after, change.before)
            return became in LESS_SAFE
        case _:
            assert_never(policy)


def _judged(
    proposed: list[Change], known: Mapping[Family, Known], desired: Desired, reads: Reads, rules: Rules
) -> Judgement:
    """Ask the policy about everything the file would change, whatever this plan is about.

    What is left out or paused counts towards the limits: else what is too much at once would pass in
    slices. Refused, and let pass by name, is only what this plan is about to do, or is gone.
    """
    enabled = {
        change.family: _may_be_enabled(change, known.get(change.family, Never())) for change in proposed
    }
    proposals = [
        _proposal(change, known.get(change.family, Never()), reads, may_be_enabled=enabled[change.family])
        for change in proposed
        if _counts(change)
    ]
    idle = desired.families.keys() - {
        change.family for change in proposed if _is_proposed(change) and rules.looks_at(change.family)
    }
    allowed = frozenset(allow for allow in rules.allowed if allow.family not in idle)
    in_force = sum(
        enabled.get(family, not wanted.setting.disabled) for family, wanted in desired.families.items()
    )
    judgement = judge(
        proposals,
        desired,
        rules.policy,
        allowed,
        in_force=in_force,
        unreadable=rules.policy_unreadable,
    )
    return Judgement(
        _without(judgement.refusals, idle), judgement.overridden, _without(judgement.without, idle)
    )


def _proposal(change: Change, known: Known, reads: Reads, *, may_be_enabled: bool) -> Proposal:
    """Return the change as the policy judges it.

    If a row is gone, a change of the file is measured from the last setting seen: otherwise a missing row
    would lift every limit. Restoring the last proven setting is measured from nothing, as an enable.
    """
    before, way = change.before, change.direction
    if before is None and change.reason is not Reason.DRIFTED:
        before = last_seen(change.family, known, reads)
        way = way if before is None else direction(before, change.after)
    attempts = known.unresolved if isinstance(known, Uncertain) else ()
    may_be = tuple(attempt.setting for attempt in attempts if attempt.setting is not None)
    unknown = before is None and reads.latest is None
    heals = change.reason is Reason.DRIFTED and _healed(change, DriftPolicy.HEAL_LOOSENED)
    is_first = change.before is None and change.measured_from is None and not may_be
    return Proposal(
        change.family,
        before,
        change.after,
        way,
        may_be_enabled,
        may_be,
        unknown,
        change.measured_from,
        floor_applies=not (heals or is_first),
    )


def _is_proposed(change: Change) -> bool:
    """Tell whether a change is about to be made, unless the moment or a policy holds it."""
    return change.action is not Action.ADOPT and change.because not in NOT_PROPOSED


def _counts(change: Change) -> bool:
    """Tell whether a change counts towards the policy's limits: so does one that is put off by hand.

    A drift somebody paused is not what the file asks for anew.
    """
    return _is_proposed(change) or (
        change.because is Because.PAUSED and change.reason is not Reason.DRIFTED
    )


def _without(refusals: tuple[Refusal, ...], families: Set[Family]) -> tuple[Refusal, ...]:
    return tuple(refusal for refusal in refusals if refusal.family not in families)


def _families(refusals: tuple[Refusal, ...]) -> frozenset[Family]:
    return frozenset(refusal.family for refusal in refusals)


def _refused(proposed: list[Change], refusals: tuple[Refusal, ...], rules: Rules) -> list[Change]:
    """Hold the refused changes; a refusal outweighs what the moment holds them for."""
    families = _families(refusals)
    guard_alone = rules.policy is None and not rules.policy_unreadable
    because = Because.GUARD if guard_alone else Because.POLICY
    return [
        replace(change, action=Action.HOLD, because=because)
        if change.family in families and _is_proposed(change)
        else change
        for change in proposed
    ]


def _may_be_enabled(change: Change, known: Known) -> bool:
    """Tell whether the family is, or may be, enabled before the change."""
    in_force = [change.before]
    if isinstance(known, Confirmed) and change.reason is Reason.UNCERTAIN:
        in_force += [known.setting]
    if isinstance(known, Uncertain):
        in_force += [attempt.setting for attempt in known.unresolved]
        in_force += [proof.setting] if (proof := last_proof(known)) else []
    return any(setting is not None and not setting.disabled for setting in in_force)


def _frozen(family: Family, seen: View, reads: Reads) -> bool:
    """Tell whether the family is frozen, or was when its row was last seen, as long as it may be there."""
    match seen:
        case LiveRow(frozen=frozen):
            return frozen
        case Doubtful(row=LiveRow(frozen=frozen)):
            return frozen
        case Doubtful() | Missing() | Unconfirmed():
            last = reads.rows.get(family)
            return last is not None and last.row.frozen
        case NotRead() | Overtaken() | Unreadable() | Absent():
            return False
        case _:
            assert_never(seen)


def _unmanaged(desired: Desired, reads: Reads) -> dict[Family, Setting]:
    if reads.latest is None:
        return {}
    rows = reads.latest.rows
    return {family: rows[family].setting for family in sorted(rows) if family not in desired.families}


_ACTION_RANK = {Action.SET: 0, Action.ADOPT: 1, Action.HOLD: 2}


def _sending_rank(change: Change) -> tuple[int, bool, int, bool, str]:
    """Return the sort key of a change: among families with equal tries, an uncertain one goes last."""
    if change.action is not Action.SET:
        return _ACTION_RANK[change.action], False, 0, False, change.family
    is_uncertain = change.reason is Reason.UNCERTAIN
    return 0, not change.protective, change.tries, is_uncertain, change.family


def _timed(change: Change, slots: tuple[float, ...], now: float) -> Change:
    if change.order is not None:
        return replace(change, eta_s=max(slots[change.order - 1], change.not_before) - now)
    if change.known_at is not None:
        return replace(change, eta_s=max(0.0, change.known_at - now))
    return change
