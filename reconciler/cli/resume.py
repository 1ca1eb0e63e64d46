"""``mmp resume``: end a pause before its time."""

from __future__ import annotations

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired


@click.command()
@flags.config_option
@flags.state_options
@flags.required_family_option
@flags.output_option("text", "json")
@with_options(CommandOptions)
def resume(options: CommandOptions) -> None:
    """End the pauses of families, and show what is still paused.

    The next mmp apply, or a running mmp run, writes the families again.

    \b
    Examples:
      mmp resume --family BTC-USD
      mmp resume --family '*'
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.cli.pause_common import resume_families

    asyncio.run(resume_families(options, read_desired(options)))
