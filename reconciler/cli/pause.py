"""``mmp pause``: stops all writes to families for a time, also those that would repair drift."""

from __future__ import annotations

import click

from reconciler.cli.options import (
    Duration,
    config_option,
    output_option,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.read_files import read_desired, read_policies
from reconciler.errors import UsageError

LONGEST_S = 30 * 86_400.0
"""Bound on a pause that ends by itself; a longer one should be a change of the file."""


@click.command()
@config_option
@policy_option
@state_options
@click.option(
    "--family",
    "globs",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="Families that match, such as 'BTC-*'; may be repeated.",
)
@click.option(
    "--for", "for_s", type=Duration(), default="30m", show_default=True, help="How long, at most 30d."
)
@click.option("--until-resumed", is_flag=True, help="Until mmp resume.")
@click.option("--reason", default="", metavar="TEXT", help="Reason; mmp status shows it.")
@output_option("text", "json")
def pause(
    config: tuple[str, ...],
    policy_file: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    lock_timeout: float,
    globs: tuple[str, ...],
    for_s: float,
    until_resumed: bool,
    reason: str,
    output_format: str,
    color: str,
    **_logging: str | None,
) -> None:
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
    if not until_resumed and not 0 < for_s <= LONGEST_S:
        raise UsageError("pause-span", "--for is more than 0 and at most 30d", "or use --until-resumed")

    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.cli.pause_common import PauseTarget, pause_families

    out = Output(output_format, color)
    desired = read_desired(config, out)
    meant = PauseTarget(desired, state_location(state, config, allow_filesystems), lock_timeout, globs)
    policies = read_policies(desired, policy_file, out)
    span_s = None if until_resumed else for_s
    asyncio.run(pause_families(meant, for_s=span_s, reason=reason, policies=policies, out=out))
