"""``mmp diff``: compares two files, folders or git revisions. Offline: no keys, no state.

This file decides where each side is read from, and which policies a change has to pass: those of both
sides, so that a change of the policy never permits another change beside it.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import click

from reconciler.cli.options import config_option, config_paths, output_option, policy_option
from reconciler.cli.output import Output
from reconciler.cli.plan_output import PLAN_FORMATS, fail_on_option, plans_exit_status, show_plans
from reconciler.cli.read_files import print_problems, print_warnings
from reconciler.errors import Exit
from reconciler.regular_file import STANDARD_INPUT, read_with_status

if TYPE_CHECKING:
    from reconciler.config.git import Revision
    from reconciler.config.policy import PolicyReading
    from reconciler.config.settings import Reading
    from reconciler.core.model import Desired
    from reconciler.core.plan import Plan
    from reconciler.core.policy import Policy
    from reconciler.core.policy_change import PolicyChange
    from reconciler.documents.plan import PlanContext


@click.command()
@click.argument("old")
@click.argument("new")
@config_option
@policy_option
@click.option("--exit-code", is_flag=True, help="Exit 2 if there are changes.")
@fail_on_option
@output_option(*PLAN_FORMATS)
@click.pass_context
def diff(
    ctx: click.Context,
    /,
    old: str,
    new: str,
    config: tuple[str, ...],
    policy_file: str | None,
    exit_code: bool,
    fail_on: frozenset[str],
    output_format: str,
    color: str,
    **_logging: str | None,
) -> None:
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
    out = Output(output_format, color)
    sides = diff_side(old, config), diff_side(new, config)
    befores, afters = read_sides(*sides, out)
    plans, contexts = compare_accounts(befores, afters, PolicyLookup(*sides, policy_file, out))
    show_plans(plans, contexts, out)
    ctx.exit(plans_exit_status(plans, contexts, out, fail_on=fail_on, changes_count=exit_code))


class DiffSide(Protocol):
    """Where one of the two is read from."""

    @property
    def name(self) -> str:
        """How the side was named."""
        ...

    def is_whole(self, other: DiffSide) -> bool:
        """Return whether a missing policy means none: a single file need not have one beside it."""
        ...

    def readings(self) -> tuple[Reading, ...]:
        """Read the desired settings."""
        ...

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        """Read the policy beside the file of ``desired``; None means beside the first named path."""
        ...

    def beside(self, desired: Desired | None) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each YAML file in the folder that is searched for the policy."""
        ...

    @property
    def is_one_file(self) -> bool:
        """Whether a single file was named."""
        ...

    def refuse_mistyped(self, other: DiffSide) -> None:
        """Raise InvalidInput for a config that is not here, unless ``other`` has it at the same path."""
        ...

    def has(self, path: str, revision: Revision) -> bool:
        """Return whether ``path``, from the top of the repository of ``revision``, was named and exists."""
        ...

    def place(self, path: str) -> str:
        """Return the path of a file within the named path, without the revision."""
        ...


YAML_ENDINGS = (".yaml", ".yml")
"""The ending of a file name that may be a policy under another name."""


@dataclass(frozen=True, slots=True)
class AccountPolicies:
    """What the changes of one account have to pass, and the policies that require it."""

    asked: tuple[Policy | None, ...]
    old: Policy | None
    new: Policy | None
    change: PolicyChange | None = None


def diff_side(written: str, config: tuple[str, ...]) -> DiffSide:
    """Return the side ``written`` on the command line.

    Raises InvalidInput when it names nothing, or when it may be a path and a revision: a person who can add
    files to a branch must not decide which of the two is compared.
    """
    from reconciler.config.git import find_revision, is_plainly_a_path, reject_ambiguous, split_ref_path

    ref, path = split_ref_path(written)
    if written == STANDARD_INPUT:
        return _OnDisk(written)
    if os.path.lexists(written) and (path is None or is_plainly_a_path(written)):
        reject_ambiguous(written)
        return _OnDisk(written)
    revision = find_revision(ref)
    if path is not None:
        return _InGit(revision, (revision.path(path),))
    return _InGit(revision, tuple(map(revision.path_of_file, config_paths(config))))


def read_sides(
    old: DiffSide, new: DiffSide, out: Output
) -> tuple[tuple[Desired, ...], tuple[Desired, ...]]:
    """Read both sides; on any error report every problem of both and exit 4."""
    old.refuse_mistyped(new)
    new.refuse_mistyped(old)
    befores, afters = old.readings(), new.readings()
    if any(reading.desired is None for reading in (*befores, *afters)):
        print_problems((*befores, *afters), out)
        raise click.exceptions.Exit(Exit.INVALID)
    print_warnings(afters, out)
    return _accepted(befores), _accepted(afters)


def compare_accounts(
    befores: Sequence[Desired], afters: Sequence[Desired], guards: PolicyLookup
) -> tuple[list[Plan], list[PlanContext]]:
    """Return a plan for each account of either side, with its subject."""
    from reconciler.core.file_diff import (
        compare,
        is_share_judged,
        match_accounts,
        removed_account_plan,
        windows_not_asked,
    )

    pairs, dropped = match_accounts(befores, afters, guards.same_place)
    plans: list[Plan] = []
    contexts: list[PlanContext] = []
    for was, now in pairs:
        guard = guards.of(was, now)
        plan = compare(was, now, guard.asked)
        context = _context(now, guard, was, guards.old.name, () if was else dropped)
        assert context.old is not None
        unproven = replace(
            context.old,
            share_unproven=is_share_judged(plan, guard.asked),
            per_not_asked=windows_not_asked(plan, guard.asked),
        )
        plans.append(plan)
        contexts.append(replace(context, old=unproven))
    for was in dropped:
        guard = guards.of(was, None)
        plans.append(removed_account_plan(was, guard.asked))
        contexts.append(_context(was, guard, was, guards.old.name, ()))
    return plans, contexts


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

            named = self._accepted(load_policy(self._named))
            return AccountPolicies((named,), named, named)
        old, new = self._accepted(self.old.policy(was)), self._accepted(self._new.policy(now))
        if old is None and not self.old.is_whole(self._new):
            return AccountPolicies((new,), None, new)
        if new is None and not self._new.is_whole(self.old):
            return AccountPolicies((old,), old, old)
        asked = (new,) if _digest(old) == _digest(new) else (old, new)
        return AccountPolicies(asked, old, new, self._change(old, new, was, now))

    def _change(
        self, old: Policy | None, new: Policy | None, was: Desired | None, now: Desired | None
    ) -> PolicyChange | None:
        from reconciler.core.policy_change import policy_change

        new_name = os.path.basename(self._new.place(new.path)) if new else None
        if old is not None and new is None:
            new_name = next(
                (name for name, content in self._new.beside(now) if _sha256(content) == old.sha256), None
            )
        return policy_change(
            old,
            new,
            {*(was.families if was else ()), *(now.families if now else ())},
            old_name=os.path.basename(self.old.place(old.path)) if old else None,
            new_name=new_name,
        )

    def same_place(self, was: Desired, now: Desired) -> bool:
        """Return whether two files are the same named file, and not of two User IDs."""
        from reconciler.core.file_diff import other_uid

        if self.old.is_one_file and self._new.is_one_file:
            return True
        return self.old.place(was.path) == self._new.place(now.path) and not other_uid(was, now)

    def _accepted(self, reading: PolicyReading | None) -> Policy | None:
        if reading is None:
            return None
        if reading.policy is None:
            print_problems((reading,), self._out)
            raise click.exceptions.Exit(Exit.INVALID)
        return reading.policy


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """A file or folder on this machine."""

    name: str

    @property
    def is_one_file(self) -> bool:
        """Whether it is a file."""
        return not os.path.isdir(self.name)

    def is_whole(self, other: DiffSide) -> bool:
        """Return whether a missing policy means none.

        It does if these are working files of what ``other`` names in a revision, or if both are folders.
        """
        if isinstance(other, _InGit):
            return self._folder_in(other.revision) in other.folders()
        return not self.is_one_file and not other.is_one_file

    def _folder_in(self, revision: Revision) -> str | None:
        """Return the folder from the top of the repository; None outside of it."""
        from reconciler.errors import InvalidInput

        try:
            path = revision.path_of_file(self.name)
        except InvalidInput:
            return None
        return posixpath.dirname(path) if self.is_one_file else path

    def beside(self, desired: Desired | None) -> Iterator[tuple[str, bytes]]:
        from reconciler.config.yaml_nodes import MAX_FILE_BYTES

        folder = os.path.dirname(self._policy_place(desired)) or os.curdir
        for name in sorted(os.listdir(folder)):
            if name.endswith(YAML_ENDINGS):
                with suppress(OSError):  # only a regular file is a policy; no wait for others
                    yield name, read_with_status(os.path.join(folder, name), MAX_FILE_BYTES + 1)[1]

    def refuse_mistyped(self, other: DiffSide) -> None:
        """Accept it: a named path exists, else it would have been taken for a revision."""

    def has(self, path: str, revision: Revision) -> bool:
        """Return whether this is the file or folder at ``path`` of the repository."""
        from reconciler.errors import InvalidInput

        try:
            return revision.path_of_file(self.name) == path
        except InvalidInput:  # it is not in the repository at all
            return False

    def place(self, path: str) -> str:
        """Return the path within the folder that was named, or the file's name."""
        return os.path.basename(path) if self.is_one_file else os.path.relpath(path, self.name)

    def readings(self) -> tuple[Reading, ...]:
        from reconciler.config.load import load_configs

        return load_configs((self.name,))

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        from reconciler.config.policy import policy_for

        return policy_for(self._policy_place(desired), None)

    def _policy_place(self, desired: Desired | None) -> str:
        """Return a path in the folder that is searched for the policy."""
        if desired is not None:
            return desired.path
        return self.name if self.is_one_file else os.path.join(self.name, "")


@dataclass(frozen=True, slots=True)
class _InGit:
    """Files or folders of a revision, each from the top folder."""

    revision: Revision
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """The display name of the first path."""
        return self.revision.display_path(self.paths[0])

    def is_whole(self, other: DiffSide) -> bool:
        """Return True: a revision has everything that was committed."""
        del other
        return True

    def folders(self) -> set[str]:
        """Return the folders, from the top, that are searched for policies."""
        return {self.revision.folder_of(self.revision.display_path(path)) for path in self.paths}

    def beside(self, desired: Desired | None) -> Iterator[tuple[str, bytes]]:
        from reconciler.config.yaml_nodes import MAX_FILE_BYTES
        from reconciler.errors import InvalidInput

        folder = self.revision.folder_of(desired.path if desired else self.name)
        for name, entry in sorted(self.revision.folder(folder).items()):
            if name.endswith(YAML_ENDINGS):
                with suppress(InvalidInput):
                    yield name, self.revision.content(entry, name, MAX_FILE_BYTES + 1)

    @property
    def is_one_file(self) -> bool:
        """Whether only one path was named, and it is a file."""
        return len(self.paths) == 1 and not self._is_folder(self.paths[0])

    def refuse_mistyped(self, other: DiffSide) -> None:
        """Raise InvalidInput for a path only this side names, or that neither side has.

        A config that the other side has at the same path is new or was removed.
        """
        from reconciler.config.git import missing_in_revision

        for path in self.paths:
            if not self._is_there(path) and not other.has(path, self.revision):
                raise missing_in_revision(self.revision, path)

    def has(self, path: str, revision: Revision) -> bool:
        """Return whether the config at ``path`` is in this revision and was named."""
        del revision
        return path in self.paths and self._is_there(path)

    def place(self, path: str) -> str:
        """Return the path within the folder that was named; from the top where several were."""
        from_top = self.revision.parse_display_path(path)
        if self.is_one_file:
            return posixpath.basename(from_top)
        return posixpath.relpath(from_top, self.paths[0] or ".") if len(self.paths) == 1 else from_top

    def readings(self) -> tuple[Reading, ...]:
        from reconciler.config.git import GitFiles
        from reconciler.config.load import load_configs

        there = tuple(filter(self._is_there, self.paths))
        return load_configs(tuple(map(self.revision.display_path, there)), GitFiles(self.revision, there))

    def _is_folder(self, path: str) -> bool:
        found = self.revision.entry(path)
        return found is not None and found.is_folder

    def _is_there(self, path: str) -> bool:
        """Return whether a config is at ``path``: a file, or a folder with settings files."""
        from reconciler.config.load import is_config_name

        if self._is_folder(path):
            return any(map(is_config_name, self.revision.folder(path)))
        return self.revision.entry(path) is not None

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        from reconciler.config.policy import find_policy, read_policy
        from reconciler.config.yaml_nodes import MAX_FILE_BYTES

        folder = self.revision.folder_of(desired.path if desired else self.name)
        entries = self.revision.folder(folder)

        shown = {name: self.revision.display_path(posixpath.join(folder, name)) for name in entries}

        def load(path: str) -> PolicyReading:
            entry = entries[posixpath.basename(self.revision.parse_display_path(path))]
            return read_policy(self.revision.content(entry, path, MAX_FILE_BYTES + 1), path)

        return find_policy(shown, load)


def _context(
    desired: Desired, guard: AccountPolicies, was: Desired | None, named: str, candidates: Sequence[Desired]
) -> PlanContext:
    """Return the subject of the plan of one account.

    ``candidates`` are accounts that only the older side has; this account may be one of them.
    """
    from reconciler.documents.plan import DiffBase, PlanContext, PolicyFile, identity_changes

    policy = PolicyFile(guard.old.path, guard.old.sha256) if guard.old else None
    context = PlanContext.of(desired, None, guard.new)
    if was is None:
        names = tuple(f"{one.account} ({one.environment.value})" for one in candidates)
        return replace(context, old=DiffBase(named, policy, guard.change, None, None, not_compared=names))
    old = DiffBase(
        was.path, policy, guard.change, was.account, was.environment.value, identity_changes(was, desired)
    )
    return replace(context, old=old)


def _accepted(readings: Sequence[Reading]) -> tuple[Desired, ...]:
    return tuple(reading.desired for reading in readings if reading.desired is not None)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(policy: Policy | None) -> str | None:
    return policy.sha256 if policy else None
