"""A plan saved for review: which changes it approves, and what makes it stale.

This file decides whether a saved plan may still be applied here and now, which changes were reviewed
with it, and how a family that has changed since is reported. It never relaxes anything: what a saved plan
does not name as a change is not made. Other modules read files and documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.core.change_direction import changed_fields, is_protective, loosest
from reconciler.core.history_records import ProofKind
from reconciler.core.model import Environment, Family, Setting
from reconciler.core.plan import Action, Change, HoldReason, Plan, Reason, in_order

MAX_EXPIRY = timedelta(days=30)
"""The longest time for which a plan may be applied: after a month, live may differ from what was
reviewed."""

APPLIED_CHANGES_RETENTION = MAX_EXPIRY + timedelta(days=1)
"""How long it is recorded that a change of a saved plan was applied: longer than that plan may be applied.
The day is for clocks that differ between machines."""

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the clock of the machine that made a plan or a snapshot may be ahead of this one's."""

Reviewed = Mapping[Family, tuple[Setting | None, Setting]]
"""Before and after of every change that was reviewed, by family."""


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """A change of a saved plan is on record as applied, ``at`` that time of day.

    ``how``: by an acknowledged request of that plan, or because live was already as planned.
    """

    how: ProofKind
    at: datetime

    @property
    def sentence(self) -> str:
        """What is reported of the change."""
        return f"already {self.how.value} at {format_utc(self.at)}"


AppliedChanges = Mapping[Family, AppliedChange]
"""The changes of one saved plan that are on record as applied, by family."""

NONE_APPLIED: AppliedChanges = {}
"""No change is on record as applied."""


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a plan is for. A plan for one target says nothing about another.

    ``host`` is the exchange's, ``simulator`` who answers there, ``sha256`` of the config's bytes.
    """

    account: str
    environment: Environment
    host: str
    simulator: bool
    sha256: str


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan as it was saved. ``id`` differs between any two saved plans, also of the same changes.

    ``uid`` is None when the User ID was not known.
    """

    id: str
    plan: Plan
    target: PlanTarget
    made_at: datetime
    expires_at: datetime
    uid: str | None
    version: str


def reviewed(plan: Plan, allowed: Set[Family] = frozenset()) -> Reviewed:
    """Return what a review of ``plan`` approves: requests, adoptions of a changed setting, and held changes
    once no hold applies; a stale change is not approved by a review that shows it as such.

    ``allowed``: families of which an override was given. Fields that stay tighter in the plan become as the
    file says with it.
    """
    undone = plan.stays_tighter & allowed
    return {
        change.family: (change.before, change.wanted if change.family in undone else change.after)
        for change in plan.changes
        if change.is_changed and change.because is not HoldReason.STALE
    }


def not_applied_yet(promised: Reviewed, applied: AppliedChanges) -> Reviewed:
    """Return what a saved plan still approves: each of its changes is applied at most once.

    A family that changed after its change was applied was changed by another writer, so it is stale.
    """
    return {family: change for family, change in promised.items() if family not in applied}


def in_force_already(plan: Plan, promised: Reviewed, applied: AppliedChanges) -> frozenset[Family]:
    """Return the families that ``plan`` finds as planned by the saved plan, with no record of that yet."""
    in_sync = set(plan.unchanged) - set(plan.doubtful)
    return frozenset(in_sync & not_applied_yet(promised, applied).keys())


def families_in_scope(plan: Plan) -> frozenset[Family]:
    """Return the families ``plan`` looked at; it says nothing about any other."""
    return frozenset(change.family for change in plan.changes) | frozenset(plan.unchanged)


def in_sending_order(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return the changes of a plan file in sending order, numbered again from before and after.

    Whether the request of an uncertain family only adds protection depends on attempts that the file does
    not name. Its place in the file is used, if there is an order with that place.
    """
    first, last = True, (False, "")
    found: list[Change] = []
    for change in changes:
        if change.action is Action.SET:
            is_uncertain = change.reason is Reason.UNCERTAIN
            first = first and (is_uncertain, change.family) > last and _may_be_protective(change)
            last = is_uncertain, change.family
            change = replace(change, protective=first if is_uncertain else _is_protective(change))
        found.append(change)
    return in_order(found)


def _may_be_protective(change: Change) -> bool:
    return change.reason is Reason.UNCERTAIN or _is_protective(change)


def _is_protective(change: Change) -> bool:
    return is_protective(loosest((change.before,)), change.after)


def target_mismatches(saved: PlanTarget, here: PlanTarget) -> tuple[str, ...]:
    """Return each way in which ``here`` is not the place the plan was made for; none when it is."""
    message = (
        ("account", saved.account, here.account),
        ("environment", saved.environment.value, here.environment.value),
        ("host", _who(saved), _who(here)),
    )
    differing = [f"its {name} is {theirs}, not {ours}" for name, theirs, ours in message if theirs != ours]
    changed = ["the config has changed since (another sha256)"] if saved.sha256 != here.sha256 else []
    return (*differing, *changed)


def expired(saved: SavedPlan, wall: datetime) -> str | None:
    """Return why the plan's time is not now; None while it may be applied."""
    expires_at = min(saved.expires_at, saved.made_at + MAX_EXPIRY)
    if wall >= expires_at:
        return f"it expired at {format_utc(expires_at)}"
    if saved.made_at > wall + CLOCK_TOLERANCE:
        return f"it was made at {format_utc(saved.made_at)}, which is in the future by this machine's clock"
    return None


def describe_moved(change: Change, promised: Reviewed, applied: AppliedChanges = NONE_APPLIED) -> str:
    """Return in one sentence how the family of a stale ``change`` is not as the plan file says."""
    if change.family not in promised:
        return "not a change of the plan file: skipped"
    before, after = promised[change.family]
    if change.family in applied:
        return _moved_since(change.in_force, after, applied[change.family])
    if change.after != after:
        return "the plan file has another value: skipped"
    if before is None or change.before is None:
        was = "nothing" if before is None else "a setting"
        now = "none is" if change.before is None else "one is"
        return f"the plan file found {was} in force, now {now}: skipped"
    return f"changed since the plan file was made: {_differing(before, change.before)}: skipped"


def _moved_since(now: Setting | None, after: Setting, applied: AppliedChange) -> str:
    """Return how a family is not as it was when its change was applied."""
    if now is None:
        why = "no setting is in force now"
    elif now == after:
        why = "another request may have changed it"
    else:
        why = f"changed since: {_differing(after, now)}"
    return f"{applied.sentence}, {why}: not sent again"


def _differing(then: Setting, now: Setting) -> str:
    """Name the fields that are not as they were: ``qtyLimit is 100, not 400``."""
    was, is_ = then.canonical(), now.canonical()
    fields = [name.value for name in changed_fields(then, now)]
    return ", ".join(f"{name} is {is_[name]}, not {was[name]}" for name in fields)


def format_utc(wall: datetime) -> str:
    """Write a time of day, UTC, to the second: ``2026-03-01 03:00:00Z``."""
    return f"{wall:%Y-%m-%d %H:%M:%S}Z"


def _who(place: PlanTarget) -> str:
    return f"{place.host} (simulator)" if place.simulator else place.host
