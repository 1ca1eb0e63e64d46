"""``mmp validate``: every problem of the files at once. Offline; needs neither keys nor state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import accounts_under, policies_by_folder
from reconciler.errors import Exit

if TYPE_CHECKING:
    from reconciler.config.policy import PolicyReading
    from reconciler.config.settings import Reading
    from reconciler.render.problems import Excerptable


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateOptions(CommandOptions):
    """The options of ``validate``."""

    files: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths to check, each once: named as FILE or with --config, else the default.

        MMP_CONFIG is the default of this shell: it adds nothing to what the command line names.
        """
        source = click.get_current_context().get_parameter_source("config")
        named = (*self.files, *(self.config if source is ParameterSource.COMMANDLINE else ()))
        return tuple(dict.fromkeys(named or self.config or (flags.DEFAULT_CONFIG,)))


@click.command()
@click.argument("files", nargs=-1, type=click.Path())
@flags.config_option
@flags.policy_option
@flags.output_option("text", "json", "github")
@with_options(ValidateOptions)
def validate(options: ValidateOptions) -> Exit:
    """Check files or folders (- is standard input) and list every problem.

    Each file is checked against --policy, or against the policy beside it. A file with the name
    mmp-policy.yaml is checked as a policy. Needs no keys, no network and no state.

    \b
    Exit status: 0 no error (warnings are allowed), 4 a file is invalid, 3 the policy refuses one.

    \b
    Examples:
      mmp validate
      mmp validate accounts/ --output github
    """
    from reconciler.documents.problems import problems_document
    from reconciler.render.problems import problems_github, problems_text

    out = options.out
    configs, policies = read_all(options.paths, options.policy_file)
    readings: tuple[Excerptable, ...] = (*configs, *policies)
    problems = [problem for reading in readings for problem in reading.problems]
    match out.format:
        case "json":
            out.document(problems_document(problems))
        case "github":
            out.result(problems_github(problems))
        case _:
            out.result(problems_text(readings, paint=out.paint()))
    return _status(configs, policies)


def read_all(
    paths: Sequence[str], named: str | None
) -> tuple[tuple[Reading, ...], tuple[PolicyReading, ...]]:
    """Read the files and folders of ``paths`` and check each config with its policy.

    Returns the configs and the policies that were read, each once.
    """
    from reconciler.config.load import POLICY_NAMES, load_configs
    from reconciler.config.policy import load_policy
    from reconciler.config.settings_against_policy import with_policy_problems, with_unmatched_entries

    given = [path for path in paths if os.path.basename(path) in POLICY_NAMES]
    configs = load_configs([path for path in paths if path not in given])
    policies = {path: load_policy(path) for path in given + ([named] if named else [])}
    by_folder = policies_by_folder([reading.path for reading in configs if reading.text], named)
    found = [by_folder.get(os.path.dirname(reading.path)) for reading in configs]
    policies |= {policy.path: policy for policy in found if policy is not None}
    policies = {
        path: with_unmatched_entries(
            policy, accounts_under(policy, [reading.desired for reading in configs], found, named)
        )
        for path, policy in policies.items()
    }
    held = (
        with_policy_problems(policy.policy if policy else None, reading)
        for reading, policy in zip(configs, found, strict=True)
    )
    return tuple(held), tuple(policies.values())


def _status(configs: Sequence[Reading], policies: Sequence[PolicyReading]) -> Exit:
    from reconciler.config.settings_against_policy import CODES

    if any(reading.desired is None for reading in configs) or any(one.policy is None for one in policies):
        return Exit.INVALID
    codes = {problem.code for reading in configs for problem in reading.problems}
    return Exit.REFUSED if codes & set(CODES.values()) else Exit.DONE
