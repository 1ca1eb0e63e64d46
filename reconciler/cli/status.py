"""``mmp status``: what is on record, beside what is desired. Asks the state, not the exchange."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import doors
from reconciler.cli.options import (
    config_option,
    exchange_options,
    output_option,
    policy_option,
    state_options,
    state_path,
)
from reconciler.cli.output import Output
from reconciler.core.model import Desired, Kind
from reconciler.core.status import Record, Status, make_status

if TYPE_CHECKING:
    from reconciler.core.policy import Policy
    from reconciler.store.facts import StateSnapshot


@click.command()
@config_option
@policy_option
@state_options
@exchange_options
@output_option("text", "json")
def status(
    config: tuple[str, ...],
    policy_file: str | None,
    state: str | None,
    output_format: str,
    color: str,
    **_unused: object,
) -> None:
    """Show desired, applied and live of every family, what is pending and when, and the pacing window.

    Reads the state only: no keys, no network, and it never waits for a lock.

    \b
    Examples:
      mmp status
      mmp status --output json
    """
    from reconciler.report.documents import several
    from reconciler.report.status import status_document, status_text

    out = Output(output_format, color)
    path = state_path(state, config)
    desired = doors.read_desired(config, out)
    policies = doors.read_policies(desired, policy_file, out)
    statuses = [_status(one, policy, path) for one, policy in zip(desired, policies, strict=True)]
    if out.json:
        out.document(several("status", [status_document(one) for one in statuses]))
    else:
        out.result("\n".join(status_text(one, paint=out.paint()) for one in statuses))


def _status(desired: Desired, policy: Policy | None, path: Path) -> Status:
    from reconciler.clock import SystemClock

    clock = SystemClock()
    found = doors.recorded(path, desired, clock)
    record, simulator = Record(None, None, {}, None, {}, None), False
    if found is not None:
        store, kind = found
        record, simulator = _record(store.snapshot()), kind is Kind.SIMULATOR
    record = replace(record, pauses=doors.pauses(path, desired, clock))
    return make_status(
        desired, record, simulator=simulator, now=clock.now(), wall=clock.wall(), policy=policy
    )


def _record(snapshot: StateSnapshot) -> Record:
    return Record(
        uid=snapshot.uid,
        host=snapshot.host,
        known=snapshot.known,
        ledger=snapshot.ledger,
        live_rows=snapshot.live.rows if snapshot.live else {},
        live_at=snapshot.live.wall if snapshot.live else None,
    )
