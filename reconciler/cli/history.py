"""``mmp history``: every recorded attempt and its result, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired
from reconciler.cli.recorded_state import open_recorded_state, recorded_store
from reconciler.core.model import Desired, ExchangeKind
from reconciler.documents.history import AccountHistory, PolicyLine

if TYPE_CHECKING:
    from reconciler.ports import AccountStore, StateBackend

DEFAULT_LIMIT = 50
MAX_LIMIT = 10_000
"""Over half a day of sending without a break, at the pace OKX allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions(CommandOptions):
    """The options of ``history``."""

    glob: str
    limit: int


@click.command()
@flags.config_option
@flags.state_options
@flags.exchange_options
@click.option("--family", "glob", default="*", metavar="GLOB", help="Only families that match.")
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=MAX_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="Largest number of lines.",
)
@flags.output_option("text", "json")
@with_options(HistoryOptions)
def history(options: HistoryOptions) -> None:
    """Show every recorded Set MMP request and its result, newest first.

    Also shows adoptions that changed the accepted setting, refusals that were overridden with --allow and
    their reason, new policies, and policies that were given up with --no-policy.

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

    out = options.out
    desired = read_desired(options)
    histories = asyncio.run(_histories(desired, options))
    pairs = [
        (one.account, one.environment.value, found) for one, found in zip(desired, histories, strict=True)
    ]
    if out.json:
        out.document(one_or_list("history", [history_document(*pair) for pair in pairs]))
    else:
        out.result("\n".join(history_text(*pair, paint=out.paint()) for pair in pairs))


async def _histories(desired: Sequence[Desired], options: HistoryOptions) -> list[AccountHistory]:
    from reconciler.clock import SystemClock

    async with open_recorded_state(options.location(), SystemClock()) as state:
        return [await _account_history(one, state, options.limit, options.glob) for one in desired]


async def _account_history(
    desired: Desired, state: StateBackend | None, limit: int, glob: str
) -> AccountHistory:
    found = await recorded_store(state, desired)
    if found is None:
        return AccountHistory()
    store, kind = found
    log = await store.history(limit, glob)
    return AccountHistory(
        log.attempts,
        overrides=await store.overrides(limit, glob),
        policies=await _policies(store, limit),
        accepted=await store.accepted_log(limit, glob),
        simulator=kind is ExchangeKind.SIMULATOR,
        damaged=log.damaged,
    )


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
