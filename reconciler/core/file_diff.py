"""The differences of two files, for a reviewer: without state and without live settings.

This file decides which accounts are certainly the same one under another name, which families of two
accepted files differ and which of those a policy refuses. Its plan is of the same shape as every other:
before is what the older file wanted, and the times are of an apply that begins with an idle budget. A
family that only the older file has is no longer managed, which is never a reason to write it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from reconciler.core.change_direction import LESS_SAFE, Direction, is_protective
from reconciler.core.model import Desired, DesiredFamily, Environment, Family, Setting
from reconciler.core.pacing import Ledger
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, Reason, in_order, with_schedule
from reconciler.core.policy import GUARD_RULE, Policy, ProposedChange, Refusal
from reconciler.core.policy_rules import evaluate

Account = tuple[str, Environment]
"""What two files are matched by."""

Pair = tuple[Desired | None, Desired]
"""One account before and after: (None, new) is a new account, (old, new) is in both, maybe renamed."""

Like = Callable[[Desired, Desired], bool]
"""Tells whether a removed account and a new one look like one that was renamed."""


def match_accounts(
    old: Sequence[Desired], new: Sequence[Desired], same_place: Like
) -> tuple[tuple[Pair, ...], tuple[Desired, ...]]:
    """Return the accounts of ``new`` with what they were, and the accounts only ``old`` has.

    What is called otherwise is still compared where it is certain which account it was: both expect the
    same User ID, or else their files are in the ``same_place``, or else they have the same families and
    the same prefix of keys. Where more than one account could be meant nothing is compared.
    """
    before = {account_id(one): one for one in old}
    found = {account_id(one): before.pop(account_id(one)) for one in new if account_id(one) in before}
    for like in (_same_uid, same_place, _same_families_and_keys):
        come = [one for one in new if account_id(one) not in found]
        alike = [(was, one) for one in come for was in before.values() if like(was, one)]
        for was, one in alike:
            if sum(was is each or one is other for each, other in alike) == 1:
                found[account_id(one)] = before.pop(account_id(was))
    return tuple((found.get(account_id(one)), one) for one in new), tuple(before.values())


def other_uid(was: Desired, now: Desired) -> bool:
    """Tell whether two files expect different User IDs: under another name that is another account."""
    uids = {was.expected_uid, now.expected_uid} - {None}
    return len(uids) > 1


def _same_uid(was: Desired, now: Desired) -> bool:
    return was.expected_uid is not None and was.expected_uid == now.expected_uid


def _same_families_and_keys(was: Desired, now: Desired) -> bool:
    same_keys = was.credentials_prefix == now.credentials_prefix and not other_uid(was, now)
    return same_keys and was.families.keys() == now.families.keys()


def account_id(desired: Desired) -> Account:
    """Return what a file's account is known by."""
    return desired.account, desired.environment


def compare(old: Desired | None, new: Desired, policies: Sequence[Policy | None] = (None,)) -> Plan:
    """Return what ``new`` changes of ``old``; None: the account is new, with all its families.

    Each of ``policies`` checks the change (None is the guard alone), and a change has to pass all of them.
    If the environment changes, the settings are compared all the same, and the protected families of the
    old environment count as removed.
    """
    before = old.families if old else {}
    changes = [
        change
        for family in new.families
        if (change := _change(family, before.get(family), new)) is not None
    ]
    in_force = sum(not was.setting.disabled for family, was in before.items() if family in new.families)
    left = (
        removed_account_plan(old, policies).refusals
        if old and old.environment is not new.environment
        else ()
    )
    refusals = _sorted({*_refusals(changes, new, policies, in_force), *left})
    touched = {change.family for change in changes}
    plan = Plan(
        account=new.account,
        environment=new.environment,
        basis=Basis.FILE,
        changes=in_order(_held(changes, refusals)),
        unchanged=tuple(family for family in sorted(new.families) if family not in touched),
        unmanaged=_settings(before, without=new.families),
        refusals=refusals,
    )
    return with_schedule(plan, Ledger(), 0.0, assume_idle=True)


def is_share_judged(plan: Plan, policies: Sequence[Policy | None]) -> bool:
    """Tell whether a share of the families that OLD enables was judged: they need not be in force."""
    limited = any(policy is not None and policy.loosening.max_share is not None for policy in policies)
    looser = any(
        change.direction in LESS_SAFE and change.before is not None and not change.before.disabled
        for change in plan.changes
    )
    return limited and looser


def windows_not_asked(plan: Plan, policies: Sequence[Policy | None]) -> tuple[timedelta, ...]:
    """Return the times within which a policy limits steps in a row, shortest first.

    What was accepted at their start is only on record, so these limits are not checked. Empty if they could
    refuse nothing: a tightening passes, and disabling has a rule of its own.
    """
    if all(change.direction in _NEVER_TOO_FAR for change in plan.changes):
        return ()
    windows = {policy.loosening.per for policy in policies if policy is not None}
    return tuple(sorted(window for window in windows if window is not None))


_NEVER_TOO_FAR = frozenset({Direction.TIGHTEN, Direction.DISABLE})


def removed_account_plan(old: Desired, policies: Sequence[Policy | None] = (None,)) -> Plan:
    """Return the plan of a removed account: its families are no longer managed."""
    nothing = replace(old, families={})
    refusals = (one for one in _refusals([], nothing, policies, 0) if one.family in old.families)
    return Plan(
        account=old.account,
        environment=old.environment,
        basis=Basis.FILE,
        changes=(),
        unchanged=(),
        unmanaged=_settings(old.families, without={}),
        refusals=_sorted(refusals),
    )


def _change(family: Family, was: DesiredFamily | None, new: Desired) -> Change | None:
    wanted = new.families[family]
    before, after = was.setting if was else None, wanted.setting
    if before == after:
        return None
    return Change(
        family,
        Action.SET,
        Reason.NEW if before is None else Reason.CHANGED,
        before,
        after,
        wanted.source,
        protective=is_protective(before, after),
    )


def _refusals(
    changes: list[Change], new: Desired, policies: Sequence[Policy | None], in_force: int
) -> set[Refusal]:
    proposals = [_proposal(change) for change in changes]
    return {
        refusal
        for policy in policies
        for refusal in evaluate(proposals, new, policy, frozenset(), in_force=in_force).refusals
    }


def _proposal(change: Change) -> ProposedChange:
    before = change.before
    enabled = before is not None and not before.disabled
    return ProposedChange(change.family, before, change.after, may_be_enabled=enabled)


def _held(changes: list[Change], refusals: tuple[Refusal, ...]) -> list[Change]:
    rules: dict[Family, set[str]] = {}
    for refusal in refusals:
        rules.setdefault(refusal.family, set()).add(refusal.rule)
    held: list[Change] = []
    for change in changes:
        refused_by = rules.get(change.family)
        because = HoldReason.GUARD if refused_by == {GUARD_RULE} else HoldReason.POLICY
        held.append(replace(change, action=Action.HOLD, because=because) if refused_by else change)
    return held


def _settings(
    families: Mapping[Family, DesiredFamily], *, without: Mapping[Family, DesiredFamily]
) -> dict[Family, Setting]:
    return {family: families[family].setting for family in sorted(families) if family not in without}


def _sorted(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(
        sorted(refusals, key=lambda one: (one.family, one.rule, one.field or "", one.measured, one.limit))
    )
