"""``mmp history``: every attempt on record and what came of it, newest first."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli import doors
from reconciler.cli.options import config_option, exchange_options, output_option, state_options, state_path
from reconciler.cli.output import Output
from reconciler.core.model import Desired, Kind
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
    told = [_lines(one, path, limit, glob) for one in desired]
    pairs = list(zip(desired, told, strict=True))
    if out.json:
        documents = [
            history_document(one.account, one.environment.value, lines) for one, (lines, _) in pairs
        ]
        out.document(several("history", documents))
        return
    texts = [
        history_text(one.account, one.environment.value, lines, simulator=simulator, paint=out.paint())
        for one, (lines, simulator) in pairs
    ]
    out.result("\n".join(texts))


def _lines(desired: Desired, path: Path, limit: int, glob: str) -> tuple[list[HistoryLine], bool]:
    """Return one account's attempts, and whether they were made at the simulated exchange."""
    from reconciler.clock import SystemClock

    found = doors.recorded(path, desired, SystemClock())
    if found is None:
        return [], False
    store, kind = found
    lines = [
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
        for record in store.history(limit, glob)
    ]
    return lines, kind is Kind.SIMULATOR
