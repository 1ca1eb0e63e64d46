"""``mmp resume``: end a pause before its time."""

from __future__ import annotations

import click

from reconciler.cli.options import config_option, output_option, state_location, state_options
from reconciler.cli.output import Output
from reconciler.cli.read_files import read_desired


@click.command()
@config_option
@state_options
@click.option(
    "--family",
    "globs",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="Families that match, such as 'BTC-*'; may be repeated.",
)
@output_option("text", "json")
def resume(
    config: tuple[str, ...],
    state: str | None,
    allow_filesystems: tuple[str, ...],
    lock_timeout: float,
    globs: tuple[str, ...],
    output_format: str,
    color: str,
    **_logging: str | None,
) -> None:
    """End the pauses of families, and show what is still paused.

    The next mmp apply, or a running mmp run, writes the families again.

    \b
    Examples:
      mmp resume --family BTC-USD
      mmp resume --family '*'
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.cli.pause_common import PauseTarget, resume_families

    out = Output(output_format, color)
    desired = read_desired(config, out)
    meant = PauseTarget(desired, state_location(state, config, allow_filesystems), lock_timeout, globs)
    asyncio.run(resume_families(meant, out=out))
