"""The plan: what it takes to make live equal to desired, family by family.

Three ways are compared: desired against accepted is a *change*, live against accepted is *drift*, and a
family with an unresolved attempt is *uncertain*, which is never equal to anything. The plan is a value: it
is printed, hashed, compared with a review, and applied one request at a time, with a fresh plan after every
request. Nothing here sends, reads or waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, StrEnum, auto

from reconciler.core.accepted_settings import History
from reconciler.core.change_direction import (
    PROTECTIVE,
    Direction,
    changed_fields,
    direction,
    is_less_protected,
    tightest,
)
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.exposure import Amount, factor, worst
from reconciler.core.model import (
    Environment,
    Family,
    Field,
    FilePosition,
    FileVersion,
    Setting,
    format_setting,
)
from reconciler.core.pacing import Ledger, schedule
from reconciler.core.policy import Override, Policy, Refusal
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


class HoldReason(StrEnum):
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


class Doubts(Enum):
    """What becomes of families whose live setting needs another read."""

    SEND_PROTECTION = auto()
    """What only adds protection is sent at once; the others are left out of the plan until read."""
    LEAVE_OUT = auto()
    """All are left out: a plan for people shows what they will still find when it is applied."""
    HOLD = auto()
    """What only adds protection is sent, the others are held: there is no time left to read them again."""


@dataclass(frozen=True, slots=True)
class PlanConstraints:
    """The scope of this plan, and what stops a family.

    ``rejected``: settings the exchange refused, by family; another desired value is tried at once.
    ``policy``: None is the guard alone. ``policy_unreadable``: its file cannot be read now, ``policy`` is
    the last valid one, and nothing is loosened or disabled. ``allowed``: refusals overridden by name.
    ``only``: the families in scope, None for all that are desired. ``reviewed``: before and after of each
    reviewed change, None when there was no review; any other change is stale. ``applied_before``: families
    whose reviewed change was applied once: it is not sent again. The policy checks all
    families of the file, also those that ``only`` leaves out. ``retries``: what was tried without success.
    ``file``: the version of the settings file, None for an explicit act, which may loosen what any other
    file tightened. ``controller``: the plan is a controller's, which restores the accepted setting while a
    change is refused, or a newer file says otherwise; else it is of an explicit act, and what a newer
    ``file`` set meanwhile is left as it is. ``doubts``: what becomes of doubtful families. ``accepted``:
    the settings of each family that passed the guard, oldest first. ``wall``: the time of day, by which
    entries of that record are old; None: not known. ``reads_live``: live is read before anything is sent,
    so what is unknown now will be known then.
    """

    drift: DriftPolicy = DriftPolicy.HEAL
    rejected: Mapping[Family, Rejection] = field(default_factory=dict)
    paused: frozenset[Family] = frozenset()
    policy: Policy | None = None
    policy_unreadable: bool = False
    allowed: frozenset[Override] = frozenset()
    only: frozenset[Family] | None = None
    reviewed: Mapping[Family, tuple[Setting | None, Setting]] | None = None
    applied_before: frozenset[Family] = frozenset()
    retries: RetryRecord = NO_TRIES
    file: FileVersion | None = None
    controller: bool = False
    doubts: Doubts = Doubts.SEND_PROTECTION
    accepted: Mapping[Family, History] = field(default_factory=dict)
    wall: datetime | None = None
    reads_live: bool = False

    def includes(self, family: Family) -> bool:
        """Tell whether a desired family is one this plan is about."""
        return self.only is None or family in self.only


@dataclass(frozen=True, slots=True)
class Change:
    """One family that is not simply in sync.

    ``before`` is live where it was read, else last applied; None when neither is there. ``order`` counts
    requests from 1. ``known_at`` is set for an adopt that has to wait: a read from that instant on will
    show the result. ``eta_s`` is seconds from the making of the plan to the reservation (set) or the
    knowledge (adopt). ``protective``: the request only adds protection, whatever may be in force; such
    requests go first. ``tries`` counts the tries of this value without a definite success, ``is_open``
    tells that an attempt of the family has no definite answer, ``not_before`` is the instant from which it
    may be tried again (-inf: at once). ``other_file``: the family's record came from another, newer
    settings file, ``other_file_at`` at that time of day (None: not known). ``measured_from`` is the
    setting from which the factor is measured where that is not ``before``: the accepted one, or of an
    enable the last enabled one. ``desired`` is what the file says where ``after`` is not: some fields stay
    tighter, as live has them. ``accepts`` is the setting that becomes the accepted one with this request
    or record; None: it changes nothing in that. ``is_live``: live is as ``after`` already, and ``before``
    is what was accepted.
    """

    family: Family
    action: Action
    reason: Reason
    before: Setting | None
    after: Setting
    source: FilePosition | None = None
    because: HoldReason | None = None
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
    desired: Setting | None = None
    accepts: Setting | None = field(default=None, compare=False)
    is_live: bool = field(default=False, compare=False)

    @property
    def direction(self) -> Direction | None:
        """Which way the change goes; None when before and after are equal."""
        return direction(self.before, self.after)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields that differ."""
        return changed_fields(self.before, self.after)

    @property
    def in_force(self) -> Setting | None:
        """What is in force before the change, as far as is known; None: nothing."""
        return self.after if self.is_live else self.before

    @property
    def wanted(self) -> Setting:
        """What the file says."""
        return self.after if self.desired is None else self.desired

    @property
    def is_exposed(self) -> bool:
        """Whether what is in force is known to protect less than the file says."""
        return is_less_protected(self.wanted, self.in_force)

    @property
    def base(self) -> Setting | None:
        """What the factor is measured from; None: nothing is known."""
        return self.measured_from or self.before

    @property
    def factor(self) -> Amount | None:
        """By what factor the change raises the risk; None: not known.

        It is measured from ``base``, and from what live has tighter than that, and the worse counts.
        """
        found = [one for base in self.bases if (one := factor(base, self.after)) is not None]
        return worst(*found) if found else None

    @property
    def bases(self) -> tuple[Setting | None, ...]:
        """The settings from which the factor is measured: ``base``, and what live has tighter than that."""
        base, before = self.base, self.before
        if before is None or before.disabled or base is None:
            return (base,)
        return (before,) if base.disabled else (base, tightest(before, base))

    @property
    def is_changed(self) -> bool:
        """Whether something is sent, held, or adopted that changes the accepted setting."""
        return self.action is not Action.ADOPT or self.before != self.after

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

    ``refusals`` are the policy's or guard's, each naming its family; while there is one, ``apply`` sends
    nothing. ``left_tighter`` are the reasons why fields stay tighter than desired, as live has them: they
    hold up nothing else. ``overridden`` are those that pass only by an override by name, and
    ``without_overrides`` the changes if there were none, None if that is the same. ``doubtful`` names
    families for which another live read is needed before anything is concluded: they are neither among the
    changes nor unchanged. ``missing`` are families that the list leaves out, to be read on their own.
    ``superseded`` are families whose open attempts are over: live shows a value that none of them carries.
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
    left_tighter: tuple[Refusal, ...] = ()
    overridden: tuple[Refusal, ...] = ()
    without_overrides: tuple[Change, ...] | None = None

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
        return tuple(change for change in self.requests if adds_protection(change))

    @property
    def stays_tighter(self) -> frozenset[Family]:
        """The families with fields that stay tighter than the file says: undoing that is refused."""
        return frozenset(refusal.family for refusal in self.left_tighter)

    @property
    def digest(self) -> str:
        """``sha256:…`` over account, environment, and each family's action, before and after.

        It also covers what the factor is measured from, if that is not before. It is the digest of the plan
        without any override: what was reviewed has the same digest whether or not a refusal is then
        overridden.
        """
        return digest(self.account, self.environment, self._reviewed)

    def digest_of(self, families: Set[Family]) -> str:
        """Return the digest of this plan if it were of ``families`` alone, as ``--family`` makes it."""
        of = tuple(change for change in self._reviewed if change.family in families)
        return digest(self.account, self.environment, of)

    @property
    def _reviewed(self) -> tuple[Change, ...]:
        return self.changes if self.without_overrides is None else self.without_overrides


def first_records(changes: Iterable[Change]) -> dict[Family, Setting]:
    """Return the settings that are recorded as live has them, of families with nothing on record.

    No rule applies to them, because nothing changes; which bounds they break is only reported.
    """
    return {
        change.family: change.after
        for change in changes
        if change.action is Action.ADOPT and change.accepts is not None and not change.fields
    }


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
    message = {
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
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def adds_protection(change: Change) -> bool:
    """Tell whether a request only adds protection, or restores what drifted."""
    if change.direction is None:
        return change.protective
    is_mixed_drift = change.direction is Direction.MIXED and change.reason is Reason.DRIFTED
    return change.direction in PROTECTIVE or is_mixed_drift


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


def format_change(change: Change) -> str:
    """Write the changed fields as ``old → new``; the complete setting when there was none before."""
    return format_setting(change.after) if change.before in (None, change.after) else change.field_words
