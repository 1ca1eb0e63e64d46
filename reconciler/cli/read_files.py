"""Read the settings and policy files that the command line names; any problem in them ends the command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import CommandOptions
from reconciler.cli.output import Output
from reconciler.core.missing_policy import GivenUp
from reconciler.core.model import Desired
from reconciler.core.problems import any_error, has_visible_text
from reconciler.errors import Exit, UsageError

if TYPE_CHECKING:
    from reconciler.config.policy import PolicyReading
    from reconciler.config.settings import Reading
    from reconciler.core.history_records import PolicyRecord
    from reconciler.core.policy import Policy
    from reconciler.render.problems import Excerptable
    from reconciler.watch.last_valid_content import WatchedPolicy


def read_desired(options: CommandOptions) -> tuple[Desired, ...]:
    """Read all configs; on any error report every problem and exit 4; warnings only go to stderr."""
    from reconciler.config.load import load_configs

    return _valid(load_configs(options.paths), options.out)


def read_present(options: CommandOptions) -> tuple[Desired, ...]:
    """Read the configs that exist, as ``read_desired`` does; the missing ones may be created later."""
    from reconciler.config.load import is_absent, load_configs

    readings = load_configs(options.paths)
    return _valid([reading for reading in readings if not is_absent(reading)], options.out)


def _valid(readings: Sequence[Reading], out: Output) -> tuple[Desired, ...]:
    exit_if_invalid(readings, out)
    print_warnings(readings, out)
    return desired_of(readings)


def desired_of(readings: Sequence[Reading]) -> tuple[Desired, ...]:
    """Return the desired settings of the readings that have them."""
    return tuple(reading.desired for reading in readings if reading.desired is not None)


def exit_if_invalid(readings: Sequence[Excerptable], out: Output) -> None:
    """If there is an error in a file, report every problem and exit 4."""
    if any(any_error(reading.problems) for reading in readings):
        print_problems(readings, out)
        raise click.exceptions.Exit(Exit.INVALID)


def valid_policy(reading: PolicyReading | None, out: Output) -> Policy | None:
    """Return the policy that was read, if any; on any error report its problems and exit 4."""
    exit_if_invalid([reading] if reading else [], out)
    return reading.policy if reading else None


def read_policies(desired: Sequence[Desired], options: CommandOptions) -> tuple[Policy | None, ...]:
    """Read each account's policy: the one named, else the one beside its config, else None.

    On any error every problem of every policy is reported and the status is 4.
    """
    return tuple(reading.policy if reading else None for reading in _valid_policies(desired, options))


def watched_policies(desired: Sequence[Desired], options: CommandOptions) -> tuple[WatchedPolicy, ...]:
    """Read each account's policy as ``read_policies`` does, to be read again later."""
    from reconciler.watch.last_valid_content import WatchedPolicy

    found, named = _valid_policies(desired, options), options.policy_file
    return tuple(WatchedPolicy(each, one.path, named) for one, each in zip(desired, found, strict=True))


def _valid_policies(
    desired: Sequence[Desired], options: CommandOptions
) -> tuple[PolicyReading | None, ...]:
    from reconciler.config.settings_against_policy import with_unmatched_entries

    named, out = options.policy_file, options.out
    found = read_policy_files(desired, options)
    readings = [
        with_unmatched_entries(reading, accounts_under(reading, desired, found, named))
        for reading in {each.path: each for each in found if each is not None}.values()
    ]
    exit_if_invalid(readings, out)
    print_warnings(readings, out)
    return found


def read_policy_files(
    desired: Sequence[Desired], options: CommandOptions
) -> tuple[PolicyReading | None, ...]:
    """Read each account's policy, valid or not: the one named, else the one beside its config, or None.

    Raises UsageError if there is one and ``--no-policy`` says that it is missing.
    """
    by_folder = policies_by_folder([one.path for one in desired], options.policy_file)
    found = tuple(by_folder[os.path.dirname(one.path)] for one in desired)
    _refuse_needless_no_policy(options, found)
    return found


def policies_by_folder(paths: Sequence[str], named: str | None) -> dict[str, PolicyReading | None]:
    """Read the policy of each folder of ``paths``, once; ``named`` is the one of every folder."""
    from reconciler.config.policy import policy_for

    by_folder = {os.path.dirname(path): path for path in paths}
    return {folder: policy_for(path, named) for folder, path in by_folder.items()}


def given_up(options: CommandOptions) -> GivenUp | None:
    """Return the policy that ``--no-policy`` names, with the reason. Raises UsageError without one."""
    if options.no_policy is None:
        return None
    if options.reason is None or not has_visible_text(options.reason):
        raise UsageError(
            "no-reason",
            "--no-policy needs a reason",
            'add --reason "…" with visible text; the history records it',
        )
    return GivenUp(options.no_policy, options.reason)


def _refuse_needless_no_policy(options: CommandOptions, found: Sequence[PolicyReading | None]) -> None:
    """Raise UsageError where ``--no-policy`` is given and there is a policy file, or one is named."""
    if options.no_policy is None:
        return
    if (named := options.policy_file) is not None:
        raise UsageError(
            "no-policy-named",
            f"--no-policy is for a policy file that is missing, and --policy (or MMP_POLICY) names {named}",
            "give one of the two",
        )
    for reading in found:
        if reading is not None:
            raise UsageError(
                "no-policy-found",
                f"--no-policy is for a policy file that is missing, and {reading.path} was found",
                "leave out --no-policy, or remove the file first",
            )


def warn_of_missing(records: Iterable[PolicyRecord | None], out: Output) -> None:
    """Warn on stderr of each policy whose file is missing; for commands that only read."""
    from reconciler.controller.account_policy import missing_error  # late: it imports the log

    for record in dict.fromkeys(records):
        if record is not None:
            out.error(missing_error(record), warning=True)


def accounts_under(
    policy: PolicyReading,
    desired: Sequence[Desired | None],
    policies: Sequence[PolicyReading | None],
    named: str | None,
) -> tuple[Desired, ...]:
    """Return the accounts that ``policy`` applies to; ``policies`` are those of ``desired``, one each.

    A policy beside configs applies to every config of its folder, also to those that were not named. None
    if one of these configs is invalid: its families are not known.
    """
    from reconciler.config.load import load_configs

    under = [
        one
        for one, its in zip(desired, policies, strict=True)
        if its is not None and its.path == policy.path
    ]
    if policy.policy is None or not policy.policy.families:
        return ()
    if named is None:
        folder = os.path.join(os.path.dirname(policy.path), "")
        under += [reading.desired for reading in load_configs((folder or os.curdir,))]
    known = {(one.account, one.environment): one for one in under if one is not None}
    return () if None in under else tuple(known.values())


def print_problems(readings: Sequence[Excerptable], out: Output) -> None:
    """Write every problem: to stderr for people, to stdout as a document when one was requested."""
    import sys

    from reconciler.documents.problems import problems_document
    from reconciler.render.problems import problems_text

    problems = [problem for reading in readings for problem in reading.problems]
    if out.json:
        out.document(problems_document(problems))
    elif out.style.json_lines:
        for problem in problems:
            out.problem(problem)
    else:
        out.info(problems_text(readings, paint=out.paint(sys.stderr)).rstrip("\n"))


def print_warnings(readings: Sequence[Excerptable], out: Output) -> None:
    """Write warnings to stderr, one line each."""
    for reading in readings:
        for problem in reading.problems:
            out.problem(problem)
