"""``mmp diff``: two files, folders or git revisions against each other. Offline: no keys, no state.

This file decides where each side is read from, and which policies a change has to pass: those of both
sides, so that a change of the policy never lets through what comes along with it.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import click

from reconciler.cli import doors
from reconciler.cli.options import config_option, config_paths, output_option, policy_option
from reconciler.cli.output import Output
from reconciler.cli.showing import PLAN_FORMATS, fail_on_option, show_plans, status_of
from reconciler.errors import Exit

if TYPE_CHECKING:
    from reconciler.cli.revisions import Revision
    from reconciler.core.model import Desired
    from reconciler.core.plan import Plan
    from reconciler.core.policy import Policy
    from reconciler.desired.policy import PolicyReading
    from reconciler.desired.reader import Reading
    from reconciler.report.documents import Context


@click.command()
@click.argument("old")
@click.argument("new")
@config_option
@policy_option
@click.option("--exit-code", is_flag=True, help="Exit 2 when there are changes.")
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
    """Show what changes from OLD to NEW, each a file, a folder or a git revision.

    A revision is REF (the config at that revision: --config, else mmp.yaml) or REF:path. What exists
    as a file is taken as that. Needs no keys, no network and no state. Exit status 0 whether or not
    there are changes, unless --exit-code or --fail-on asks otherwise; 4 when either side does not hold.

    \b
    Examples:
      mmp diff HEAD~1 HEAD
      mmp diff origin/main mmp.yaml --exit-code
      mmp diff v1:accounts v2:accounts --output markdown --fail-on policy
    """
    out = Output(output_format, color)
    sides = side_of(old, config), side_of(new, config)
    befores, afters = read_sides(*sides, out)
    plans, contexts = compared(befores, afters, Guards(*sides, policy_file, out))
    show_plans(plans, contexts, out)
    ctx.exit(status_of(plans, out, fail_on=fail_on, changes_count=exit_code))


class Side(Protocol):
    """Where one of the two is read from."""

    @property
    def name(self) -> str:
        """How the side was named."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether a policy that is not there is none: beside a file of its own there need not be one."""
        ...

    def readings(self) -> tuple[Reading, ...]:
        """Read the desired settings."""
        ...

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        """Read the policy beside the file of ``desired``, None: beside what was named first."""
        ...


@dataclass(frozen=True, slots=True)
class Guard:
    """What one account's changes have to pass, and the policies that comes from."""

    asked: tuple[Policy | None, ...]
    old: Policy | None
    new: Policy | None
    changed: bool


def side_of(written: str, config: tuple[str, ...]) -> Side:
    """Return the side ``written`` on the command line. Raises InvalidInput when it names nothing."""
    if os.path.lexists(written):
        return _OnDisk(written)
    from reconciler.cli.revisions import find_revision, split

    ref, path = split(written)
    revision = find_revision(ref)
    if path is not None:
        return _InGit(revision, (revision.path(path),))
    return _InGit(revision, tuple(map(revision.path_of_file, config_paths(config))))


def read_sides(old: Side, new: Side, out: Output) -> tuple[tuple[Desired, ...], tuple[Desired, ...]]:
    """Read both sides; on any error tell every problem of both and exit 4."""
    befores, afters = old.readings(), new.readings()
    if any(reading.desired is None for reading in (*befores, *afters)):
        doors.tell_problems((*befores, *afters), out)
        raise click.exceptions.Exit(Exit.INVALID)
    doors.tell_warnings(afters, out)
    return _accepted(befores), _accepted(afters)


def compared(
    befores: Sequence[Desired], afters: Sequence[Desired], guards: Guards
) -> tuple[list[Plan], list[Context]]:
    """Return a plan for each account of either side, with what it is about."""
    from reconciler.core.diff import compare, gone, paired

    pairs, dropped = paired(befores, afters)
    plans: list[Plan] = []
    contexts: list[Context] = []
    for was, now in pairs:
        guard = guards.of(was, now)
        plans.append(compare(was, now, guard.asked))
        contexts.append(_context(now, guard, was.path if was else guards.old.name))
    for was in dropped:
        guard = guards.of(was, None)
        plans.append(gone(was, guard.asked))
        contexts.append(_context(was, guard, was.path))
    return plans, contexts


class Guards:
    """The policies of both sides, or the one that was named."""

    def __init__(self, old: Side, new: Side, named: str | None, out: Output) -> None:
        self.old = old
        self._new = new
        self._named = named
        self._out = out

    def of(self, was: Desired | None, now: Desired | None) -> Guard:
        """Return what a change of one account has to pass; either side may not have the account.

        On any error in a policy its problems are told and the status is 4.
        """
        if self._named is not None:
            from reconciler.desired.policy import load_policy

            named = self._accepted(load_policy(self._named))
            return Guard((named,), named, named, changed=False)
        old, new = self._accepted(self.old.policy(was)), self._accepted(self._new.policy(now))
        if old is None and not self.old.is_whole:
            return Guard((new,), None, new, changed=False)
        if new is None and not self._new.is_whole:
            return Guard((old,), old, old, changed=False)
        if _digest(old) == _digest(new):
            return Guard((new,), old, new, changed=False)
        return Guard((old, new), old, new, changed=True)

    def _accepted(self, reading: PolicyReading | None) -> Policy | None:
        if reading is None:
            return None
        if reading.policy is None:
            doors.tell_problems((reading,), self._out)
            raise click.exceptions.Exit(Exit.INVALID)
        return reading.policy


@dataclass(frozen=True, slots=True)
class _OnDisk:
    """A file or folder of this machine."""

    name: str
    is_whole: bool = False

    def readings(self) -> tuple[Reading, ...]:
        from reconciler.desired.config import load_configs

        return load_configs((self.name,))

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        from reconciler.desired.policy import policy_for

        first = os.path.join(self.name, "") if os.path.isdir(self.name) else self.name
        return policy_for(desired.path if desired else first, None)


@dataclass(frozen=True, slots=True)
class _InGit:
    """Files or folders of a revision, each from the top folder."""

    revision: Revision
    paths: tuple[str, ...]
    is_whole: bool = True

    @property
    def name(self) -> str:
        """How the first of them is told."""
        return self.revision.shown(self.paths[0])

    def readings(self) -> tuple[Reading, ...]:
        from reconciler.cli.revisions import InRevision
        from reconciler.desired.config import load_configs

        shown = tuple(map(self.revision.shown, self.paths))
        return load_configs(shown, InRevision(self.revision, self.paths))

    def policy(self, desired: Desired | None) -> PolicyReading | None:
        from reconciler.desired.nodes import MAX_BYTES
        from reconciler.desired.policy import policy_among, read_policy

        folder = self.revision.folder_of(desired.path if desired else self.name)
        entries = self.revision.folder(folder)

        shown = {name: self.revision.shown(posixpath.join(folder, name)) for name in entries}

        def load(path: str) -> PolicyReading:
            entry = entries[posixpath.basename(path.removeprefix(f"{self.revision.name}:"))]
            return read_policy(self.revision.content(entry, path, MAX_BYTES + 1), path)

        return policy_among(shown, load)


def _context(desired: Desired, guard: Guard, old_path: str) -> Context:
    from reconciler.report.documents import Context, OldSide, PolicyFile

    old = PolicyFile(guard.old.path, guard.old.sha256) if guard.old else None
    context = Context.of(desired, None, guard.new)
    return replace(context, old=OldSide(old_path, old, guard.changed))


def _accepted(readings: Sequence[Reading]) -> tuple[Desired, ...]:
    return tuple(reading.desired for reading in readings if reading.desired is not None)


def _digest(policy: Policy | None) -> str | None:
    return policy.sha256 if policy else None
