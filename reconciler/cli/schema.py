"""``mmp schema``: print a published JSON Schema. Offline."""

from __future__ import annotations

import click

from reconciler.cli.flags import output_option
from reconciler.cli.output import Output
from reconciler.schema_files import SCHEMA_NAMES, schema_text


@click.command()
@click.argument("name", type=click.Choice(SCHEMA_NAMES))
@output_option("text", "json")
def schema(name: str, output_format: str, color: str, **_logging: str | None) -> None:
    """Print the JSON Schema NAME: of a file, or of a document that mmp writes.

    \b
    Examples:
      mmp schema mmp > schemas/mmp.schema.json
      mmp schema plan
    """
    Output(output_format, color).result(schema_text(name))
