"""``mmp status``: what is recorded, beside what is desired. Reads the state, not the exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired, read_policies, warn_of_missing
from reconciler.cli.recorded_state import open_recorded_state, recorded_store
from reconciler.core.model import Desired, ExchangeKind
from reconciler.core.monitoring.status import Status, StatusInputs, recorded_status
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from reconciler.core.history_records import PolicyRecord
    from reconciler.core.policy import Policy
    from reconciler.ports import Clock, StateBackend


@click.command()
@flags.config_option
@flags.policy_option
@flags.state_options
@flags.exchange_options
@flags.output_option("text", "json")
@with_options(CommandOptions)
def status(options: CommandOptions) -> None:
    """Show desired, applied and live settings, what is pending and when, and the pacing window.

    Reads the state only: no keys, no network, and it never waits for a lock.

    \b
    Examples:
      mmp status
      mmp status --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler.documents.plan import one_or_list
    from reconciler.documents.status import status_document
    from reconciler.render.status import status_text

    out, place = options.out, options.location()
    desired = read_desired(options)
    policies = read_policies(desired, options)
    answers = asyncio.run(_statuses(desired, policies, place))
    statuses = [status for status, _ in answers]
    warn_of_missing((missing for _, missing in answers), out)
    if out.json:
        out.document(one_or_list("status", [status_document(one) for one in statuses]))
    else:
        out.result("\n".join(status_text(one, paint=out.paint()) for one in statuses))


async def _statuses(
    desired: Sequence[Desired], policies: Sequence[Policy | None], place: StateLocation
) -> list[tuple[Status, PolicyRecord | None]]:
    """Return each account's status, and the recorded policy if its file is missing."""
    from reconciler.clock import SystemClock

    clock = SystemClock()
    async with open_recorded_state(place, clock) as state:
        under = zip(desired, policies, strict=True)
        return [await _status(one, policy, state, clock) for one, policy in under]


async def _status(
    desired: Desired, policy: Policy | None, state: StateBackend | None, clock: Clock
) -> tuple[Status, PolicyRecord | None]:
    from reconciler.controller.account_policy import remembered

    missing: PolicyRecord | None = None
    found = await recorded_store(state, desired)
    record, simulator = StatusInputs(None, None, {}, None, {}, None), False
    if found is not None:
        store, kind = found
        snapshot, simulator = await store.snapshot(), kind is ExchangeKind.SIMULATOR
        record = StatusInputs(
            uid=snapshot.uid,
            host=snapshot.host,
            known=snapshot.known,
            ledger=snapshot.ledger,
            live_rows=snapshot.live.rows if snapshot.live else {},
            live_at=snapshot.live.wall if snapshot.live else None,
            pauses=await store.pauses(),
            owner=await store.owner(),
            controller=await store.controller(),
            accepted=snapshot.accepted,
            damaged=snapshot.damaged,
        )
        missing = await store.policy_on_record() if policy is None else None
    status = recorded_status(
        desired,
        record,
        simulator=simulator,
        now=clock.now(),
        wall=clock.wall(),
        policy=policy or remembered(missing),
        policy_unreadable=missing is not None,
    )
    return status, missing
