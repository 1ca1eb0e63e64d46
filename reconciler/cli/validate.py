"""``mmp validate``: every problem of the file at once. Offline; needs neither keys nor state."""

from __future__ import annotations

import click

from reconciler.cli.options import config_option, config_paths, output_option
from reconciler.cli.output import Output
from reconciler.errors import Exit


@click.command()
@click.argument("files", nargs=-1, type=click.Path())
@config_option
@output_option("text", "json", "github")
@click.pass_context
def validate(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    config: tuple[str, ...],
    output_format: str,
    color: str,
    **_logging: str | None,
) -> None:
    """Check FILEs (or folders of them) and tell every problem at once, with its place.

    Needs no keys, no network and no state. Exit status 0 when there is no error (warnings are
    allowed), 4 otherwise.

    \b
    Examples:
      mmp validate
      mmp validate accounts/ --output github
    """
    from reconciler.desired.config import load_configs
    from reconciler.report.problems import problems_document, problems_github, problems_text

    out = Output(output_format, color)
    readings = load_configs(files or config_paths(config))
    problems = [problem for reading in readings for problem in reading.problems]
    match output_format:
        case "json":
            out.document(problems_document(problems))
        case "github":
            out.result(problems_github(problems))
        case _:
            out.result(problems_text(readings, paint=out.paint()))
    if any(reading.desired is None for reading in readings):
        ctx.exit(Exit.INVALID)
