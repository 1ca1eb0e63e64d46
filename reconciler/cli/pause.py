"""``mmp pause``: stops all writes to families for a time, also those that would repair drift."""

from __future__ import annotations

from dataclasses import dataclass

import click

from reconciler.cli import flags
from reconciler.cli.flag_types import DURATION
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired, read_policies
from reconciler.errors import UsageError

LONGEST_S = 30 * 86_400.0
"""Bound on a pause that ends by itself; a longer one should be a change of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOptions(CommandOptions):
    """The options of ``pause``."""

    for_s: float
    until_resumed: bool


@click.command()
@flags.config_option
@flags.policy_option
@flags.state_options
@flags.required_family_option
@click.option(
    "--for", "for_s", type=DURATION, default="30m", show_default=True, help="How long, at most 30d."
)
@click.option("--until-resumed", is_flag=True, help="Until mmp resume.")
@click.option("--reason", default="", metavar="TEXT", help="Reason; mmp status shows it.")
@flags.output_option("text", "json")
@with_options(PauseOptions)
def pause(options: PauseOptions) -> None:
    """Stop writes to desired families for a time, even to restore drift.

    A pause is recorded in the state. It ends after --for or with mmp resume. A running mmp run obeys it
    from its next step on. Live settings stay as they are: a pause sends nothing and protects nothing. A
    new pause replaces an older one of the same family. Families that the policy protects cannot be
    paused.

    \b
    Examples:
      mmp pause --family BTC-USD --for 30m --reason "testing by hand"
      mmp pause --family '*' --until-resumed --reason "maintenance at OKX"
    """
    span_s = None if options.until_resumed else options.for_s
    if span_s is not None and not 0 < span_s <= LONGEST_S:
        raise UsageError("pause-span", "--for is more than 0 and at most 30d", "or use --until-resumed")

    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.cli.pause_common import pause_families

    desired = read_desired(options)
    policies = read_policies(desired, options)
    asyncio.run(pause_families(options, desired, policies, for_s=span_s))
