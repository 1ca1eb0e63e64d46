"""``mmp history``: every recorded attempt and its result, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import (
    config_option,
    exchange_options,
    output_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.read_files import read_desired
from reconciler.cli.recorded_state import open_recorded_state, recorded_store
from reconciler.core.model import Desired, ExchangeKind
from reconciler.documents.history import AcceptedLine, HistoryLine, OverrideLine, PolicyLine
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from reconciler.ports import AccountStore, StateBackend

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
    help="Largest number of lines.",
)
@output_option("text", "json")
def history(
    config: tuple[str, ...],
    state: str | None,
    allow_filesystems: tuple[str, ...],
    glob: str,
    limit: int,
    output_format: str,
    color: str,
    **_unused: object,
) -> None:
    """Show every recorded Set MMP request and its result, newest first.

    Also shows adoptions that changed the accepted setting, refusals that were overridden with --allow and
    their reason, policies that came into force, and policies that were given up with --no-policy.

    Reads the state only: no keys and no network.

    \b
    Examples:
      mmp history
      mmp history --family 'BTC-*' --limit 5 --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.documents.history import history_document
    from reconciler.documents.plan import one_or_list
    from reconciler.render.status import history_text

    out = Output(output_format, color)
    desired = read_desired(config, out)
    place = state_location(state, config, allow_filesystems)
    histories = asyncio.run(_histories(desired, place, limit, glob))
    pairs = list(zip(desired, histories, strict=True))
    if out.json:
        documents = [
            history_document(
                one.account,
                one.environment.value,
                records_of.lines,
                records_of.overrides,
                records_of.policies,
                records_of.accepted,
                records_of.damaged,
            )
            for one, records_of in pairs
        ]
        out.document(one_or_list("history", documents))
        return
    texts = [
        history_text(
            one.account,
            one.environment.value,
            records_of.lines,
            records_of.overrides,
            records_of.policies,
            records_of.accepted,
            damaged=records_of.damaged,
            simulator=records_of.simulator,
            paint=out.paint(),
        )
        for one, records_of in pairs
    ]
    out.result("\n".join(texts))


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """The recorded attempts of one account, and whether they were made at the simulated exchange.

    ``damaged`` records of attempts are left out.
    """

    lines: list[HistoryLine] = field(default_factory=list)
    overrides: list[OverrideLine] = field(default_factory=list)
    policies: list[PolicyLine] = field(default_factory=list)
    accepted: list[AcceptedLine] = field(default_factory=list)
    simulator: bool = False
    damaged: int = 0


async def _histories(
    desired: Sequence[Desired], place: StateLocation, limit: int, glob: str
) -> list[AccountHistory]:
    from reconciler.clock import SystemClock

    async with open_recorded_state(place, SystemClock()) as state:
        return [await _account_history(one, state, limit, glob) for one in desired]


async def _account_history(
    desired: Desired, state: StateBackend | None, limit: int, glob: str
) -> AccountHistory:
    found = await recorded_store(state, desired)
    if found is None:
        return AccountHistory()
    store, kind = found
    log = await store.history(limit, glob)
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
            open=record.is_open,
        )
        for record in log.attempts
    ]
    overrides = [
        OverrideLine(record.family, record.refusal, record.reason, record.at)
        for record in await store.overrides(limit, glob)
    ]
    accepted = [
        AcceptedLine(
            family=record.family,
            before=record.before,
            setting=record.setting,
            how=record.how.value,
            digest=record.digest,
            override=record.override,
            file_sha256=record.file_sha256,
            at=record.at,
        )
        for record in await store.accepted_log(limit, glob)
    ]
    policies = await _policies(store, limit)
    return AccountHistory(lines, overrides, policies, accepted, kind is ExchangeKind.SIMULATOR, log.damaged)


async def _policies(store: AccountStore, limit: int) -> list[PolicyLine]:
    """Return at most ``limit`` changes of the policy, newest first."""
    records = [*await store.policies(limit + 1), None]
    return [
        PolicyLine(
            record.path,
            record.sha256,
            before.sha256 if before is not None and before.counts else None,
            record.given_up,
            record.at,
        )
        for record, before in pairwise(records)
        if record is not None
    ][:limit]
