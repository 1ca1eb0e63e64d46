"""``mmp demo``: a tour against the simulated exchange, with the real program as separate processes."""

from __future__ import annotations

import click

from reconciler.cli.flags import output_option
from reconciler.cli.output import Output


@click.command()
@click.option("--check", is_flag=True, help="Run unattended, and fail if a result is not as expected.")
@output_option("text", "json")
@click.pass_context
def demo(ctx: click.Context, /, check: bool, output_format: str, color: str, **_unused: object) -> None:
    """Show the main functions on the simulated exchange: plan, apply, drift, a frozen family.

    Takes about a minute, because requests are paced. Uses a temporary folder and loopback; nothing is
    sent to OKX.

    \b
    Examples:
      mmp demo
      mmp demo --check
    """
    from reconciler.cli.demo_tour import Tour

    ctx.exit(Tour(Output(output_format, color), pauses=not check).run())
