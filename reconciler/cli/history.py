"""``mmp history``: every attempt on record and what came of it, newest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from reconciler.cli import doors
from reconciler.cli.options import config_option, exchange_options, output_option, state_options, state_path
from reconciler.cli.output import Output
from reconciler.core.model import Desired, Kind
from reconciler.report.status import HistoryLine, OverrideLine

DEFAULT_LIMIT = 50
MAX_LIMIT = 10_000
"""Over half a day of sending without a break, at the pace OKX allows."""


@click.command()
@config_option
@state_options
@exchange_options
@click.option("--family", "glob", default="*", metavar="GLOB", help="Only families that match.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=MAX_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most.",
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

    Refusals of a policy or guard that someone overrode with --allow are shown with their reason.

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
    pairs = [(one, _told(one, path, limit, glob)) for one in desired]
    if out.json:
        documents = [
            history_document(one.account, one.environment.value, told.lines, told.overrides)
            for one, told in pairs
        ]
        out.document(several("history", documents))
        return
    texts = [
        history_text(
            one.account,
            one.environment.value,
            told.lines,
            told.overrides,
            simulator=told.simulator,
            paint=out.paint(),
        )
        for one, told in pairs
    ]
    out.result("\n".join(texts))


@dataclass(frozen=True, slots=True)
class Told:
    """What is on record of one account, and whether it was made at the simulated exchange."""

    lines: list[HistoryLine] = field(default_factory=list)
    overrides: list[OverrideLine] = field(default_factory=list)
    simulator: bool = False


def _told(desired: Desired, path: Path, limit: int, glob: str) -> Told:
    from reconciler.clock import SystemClock

    found = doors.recorded(path, desired, SystemClock())
    if found is None:
        return Told()
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
    overrides = [
        OverrideLine(record.family, record.refusal, record.reason, record.at)
        for record in store.overrides(limit, glob)
    ]
    return Told(lines, overrides, kind is Kind.SIMULATOR)
