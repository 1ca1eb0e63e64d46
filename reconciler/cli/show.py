"""``mmp show``: a saved plan as its reviewer saw it, and whether it could still be applied. Offline."""

from __future__ import annotations

from dataclasses import replace

import click

from reconciler.cli.flags import output_option
from reconciler.cli.output import Output
from reconciler.cli.plan_output import show_plans
from reconciler.documents.saved_plan_file import load_plan, stale_reasons


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@output_option("text", "json", "markdown")
def show(plan_file: str, output_format: str, color: str, **_logging: str | None) -> None:
    """Show the saved plan in the file PLAN, with a banner if it is stale.

    Needs no keys, no network and no state. A plan is stale if it has expired, or if its settings file
    can be read and has changed. JSON is the document in the file; the banner goes to stderr.

    \b
    Exit status: 0 shown, stale or not; 4 unreadable, edited, too new, or not a saved plan.

    \b
    Examples:
      mmp show plan.json
      mmp show plan.json --output markdown > comment.md
    """
    out = Output(output_format, color)
    loaded = load_plan(plan_file)
    saved_info = replace(loaded.saved_info, stale=stale_reasons(loaded))
    if not out.json:
        context = replace(loaded.context, saved=saved_info)
        show_plans([(loaded.saved.plan, context)], out, simulator=loaded.saved.target.simulator)
        return
    if saved_info.stale:
        out.info(saved_info.banner)
    out.document(loaded.document)
