"""``mmp history``: every attempt on record and what came of it, newest first."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import doors
from reconciler.cli.options import config_option, exchange_options, output_option, state_options, state_path
from reconciler.cli.output import Output
from reconciler.core.model import Desired
from reconciler.report.status import HistoryLine

DEFAULT_LIMIT = 50


@click.command()
@config_option
@state_options
@exchange_options
@click.option("--family", "glob", default="*", metavar="GLOB", help="Only families that match.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, show_default=True, help="At most."
)
@output_option("text", "json")
def history(
    config: tuple[str, ...],
    state: str | None,
    glob: str,
    limit: int,
    output_format: str,
    color: str,
    **_unused: object,
) -> None:
    """Show every Set MMP attempt on record and what came of it, newest first.

    Reads the state only: no keys and no network.

    \b
    Examples:
      mmp history
      mmp history --family 'BTC-*' --limit 5 --output json
    """
    from reconciler.report.documents import several
    from reconciler.report.status import history_document, history_text

    out = Output(output_format, color)
    desired = doors.read_desired(config, out)
    path = state_path(state, config)
    lines = [_lines(one, path, limit, glob) for one in desired]
    told = [(one.account, one.environment.value, some) for one, some in zip(desired, lines, strict=True)]
    if out.json:
        out.document(several("history", [history_document(*each) for each in told]))
    else:
        out.result("\n".join(history_text(*each) for each in told))


def _lines(desired: Desired, path: Path, limit: int, glob: str) -> list[HistoryLine]:
    from reconciler.clock import SystemClock

    found = doors.recorded(path, desired, SystemClock())
    records = found[0].history(limit, glob) if found else []
    return [
        HistoryLine(
            attempt=record.id,
            family=record.family,
            setting=record.setting,
            outcome=record.status.value,
            code=record.code,
            message=record.message,
            reserved_at=record.reserved_wall,
            settled_at=record.settled_wall,
            open=record.open,
        )
        for record in records
    ]
