"""``mmp diff``: compares two files, folders or git revisions. Offline: no keys, no state.

This file decides which policies a change has to pass: those of both sides, so that a change of the policy
never permits another change beside it. ``config.diff_side`` decides where each side is read from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.output import Output
from reconciler.cli.plan_output import PLAN_FORMATS, PlanPage, fail_on_option, plans_exit_status, show_plans
from reconciler.cli.read_files import desired_of, exit_if_invalid, print_warnings, valid_policy
from reconciler.errors import Exit

if TYPE_CHECKING:
    from reconciler.config.diff_side import DiffSide
    from reconciler.core.model import Desired
    from reconciler.core.plan import Plan
    from reconciler.core.policy import Policy
    from reconciler.core.policy_change import PolicyChange
    from reconciler.documents.plan import DiffBase


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffOptions(CommandOptions):
    """The options of ``diff``."""

    old: str
    new: str
    exit_code: bool
    fail_on: frozenset[str]


@click.command()
@click.argument("old")
@click.argument("new")
@flags.config_option
@flags.policy_option
@click.option("--exit-code", is_flag=True, help="Exit 2 if there are changes.")
@fail_on_option
@flags.output_option(*PLAN_FORMATS)
@with_options(DiffOptions)
def diff(options: DiffOptions) -> Exit:
    """Show the changes from OLD to NEW, each a file, a folder or a git revision.

    A revision is REF (the config at that revision: --config, else mmp.yaml) or REF:path. A word that
    is both a path and a revision is refused: write ./REF for the path, REF:path for the revision.
    Needs no keys, no network and no state. Exit status 0 with or without changes, unless
    --exit-code or --fail-on is given; 4 if a side is invalid.

    \b
    Examples:
      mmp diff HEAD~1 HEAD
      mmp diff origin/main mmp.yaml --exit-code
      mmp diff v1:accounts v2:accounts --output markdown --fail-on policy
    """
    from reconciler.config.diff_side import diff_side

    out = options.out
    sides = diff_side(options.old, options.paths), diff_side(options.new, options.paths)
    befores, afters = read_sides(*sides, out)
    pages = compare_accounts(befores, afters, PolicyLookup(*sides, options.policy_file, out))
    show_plans(pages, out)
    return plans_exit_status(pages, out, fail_on=options.fail_on, changes_count=options.exit_code)


@dataclass(frozen=True, slots=True)
class AccountPolicies:
    """What the changes of one account have to pass, and the policies that require it."""

    to_pass: tuple[Policy | None, ...]
    old: Policy | None
    new: Policy | None
    change: PolicyChange | None = None


def read_sides(
    old: DiffSide, new: DiffSide, out: Output
) -> tuple[tuple[Desired, ...], tuple[Desired, ...]]:
    """Read both sides; on any error report every problem of both and exit 4."""
    old.reject_missing(new)
    new.reject_missing(old)
    befores, afters = old.readings(), new.readings()
    exit_if_invalid((*befores, *afters), out)
    print_warnings(afters, out)
    return desired_of(befores), desired_of(afters)


def compare_accounts(
    befores: Sequence[Desired], afters: Sequence[Desired], policies: PolicyLookup
) -> list[PlanPage]:
    """Return a plan for each account of either side, with its context."""
    from reconciler.core.file_diff import compare, match_accounts, removed_account_plan
    from reconciler.documents.plan import PlanContext

    pairs, dropped = match_accounts(befores, afters, policies.same_place)
    pages: list[PlanPage] = []
    for was, now in pairs:
        found = policies.of(was, now)
        plan = compare(was, now, found.to_pass)
        old = _old_side(was, now, plan, found, policies.old.name, dropped)
        pages.append((plan, replace(PlanContext.of(now, None, found.new), old=old)))
    for was in dropped:
        found = policies.of(was, None)
        plan = removed_account_plan(was, found.to_pass)
        old = _old_side(was, was, plan, found, policies.old.name, ())
        pages.append((plan, replace(PlanContext.of(was, None, found.new), old=old)))
    return pages


class PolicyLookup:
    """The policies of both sides, or the one that was named."""

    def __init__(self, old: DiffSide, new: DiffSide, named: str | None, out: Output) -> None:
        self.old = old
        self._new = new
        self._named = named
        self._out = out

    def of(self, was: Desired | None, now: Desired | None) -> AccountPolicies:
        """Return what a change of one account has to pass; either side may not have the account.

        On any error in a policy its problems are reported and the status is 4.
        """
        if self._named is not None:
            from reconciler.config.policy import load_policy

            named = valid_policy(load_policy(self._named), self._out)
            return AccountPolicies((named,), named, named)
        old = valid_policy(self.old.policy(was), self._out)
        new = valid_policy(self._new.policy(now), self._out)
        if old is None and not self.old.has_every_policy(self._new):
            return AccountPolicies((new,), None, new)
        if new is None and not self._new.has_every_policy(self.old):
            return AccountPolicies((old,), old, old)
        to_pass = (new,) if (old and old.sha256) == (new and new.sha256) else (old, new)
        return AccountPolicies(to_pass, old, new, self._change(old, new, was, now))

    def _change(
        self, old: Policy | None, new: Policy | None, was: Desired | None, now: Desired | None
    ) -> PolicyChange | None:
        from reconciler.core.policy_change import policy_change

        new_name = os.path.basename(self._new.relative_path(new.path)) if new else None
        if old is not None and new is None:
            new_name = self._new.name_of_content(old, now)
        return policy_change(
            old,
            new,
            {family for one in (was, now) if one for family in one.families},
            old_name=os.path.basename(self.old.relative_path(old.path)) if old else None,
            new_name=new_name,
        )

    def same_place(self, was: Desired, now: Desired) -> bool:
        """Return whether two files are the same named file, and not of two User IDs."""
        from reconciler.core.file_diff import other_uid

        if self.old.is_one_file and self._new.is_one_file:
            return True
        is_same_path = self.old.relative_path(was.path) == self._new.relative_path(now.path)
        return is_same_path and not other_uid(was, now)


def _old_side(
    was: Desired | None,
    now: Desired,
    plan: Plan,
    found: AccountPolicies,
    named: str,
    dropped: Sequence[Desired],
) -> DiffBase:
    """Return the older side of the plan of one account.

    ``dropped`` are accounts that only the older side has; a new account may be one of them.
    """
    from reconciler.core.file_diff import is_share_judged, windows_not_asked
    from reconciler.documents.plan import DiffBase, PolicyFile, identity_changes

    return DiffBase(
        path=was.path if was else named,
        policy=PolicyFile.of(found.old),
        policy_change=found.change,
        account=was.account if was else None,
        environment=was.environment.value if was else None,
        identity=identity_changes(was, now) if was else (),
        not_compared=() if was else tuple(f"{one.account} ({one.environment.value})" for one in dropped),
        share_unproven=is_share_judged(plan, found.to_pass),
        per_not_checked=windows_not_asked(plan, found.to_pass),
    )
