"""``mmp init``: a commented starter file. Offline; overwrites nothing."""

from __future__ import annotations

import click

from reconciler.atomic_create import STDOUT, write_new
from reconciler.cli import flags
from reconciler.cli.output import Output
from reconciler.core.model import Environment
from reconciler.core.problems import escape_unprintable


@click.command()
@click.argument("file", default=flags.DEFAULT_CONFIG, type=click.Path())
@flags.naming_options(Environment.DEMO)
@flags.output_option("text", "json")
def init(
    file: str, account: str, environment: str, output_format: str, color: str, **_logging: str | None
) -> None:
    """Write a commented starter FILE (default mmp.yaml) that is valid; '-' is stdout.

    Never overwrites a file. The file is for the demo environment and has example families: replace
    them, or use mmp import, which writes the live ones.

    \b
    Examples:
      mmp init
      mmp init accounts/desk-2.yaml --account desk-2 --environment live
    """
    from reconciler.render.config_file import Naming, starter_text

    out = Output(output_format, color)
    text = starter_text(Naming(account, Environment(environment)))
    if file == STDOUT:
        out.result(text)
        return
    write_new(file, text)
    if out.json:
        out.document({"format": "mmp/init/1", "path": file, "account": account, "environment": environment})
        return
    out.result(
        f"Wrote {escape_unprintable(file)}. "
        "Next: add your families, then run mmp validate and mmp doctor.\n"
    )
