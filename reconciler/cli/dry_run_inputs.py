"""What a dry run reads from the state and the exchange before it plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.cli.exchange_checks import verify_key_owner
from reconciler.core.model import Desired, Family, Known, Pause

if TYPE_CHECKING:
    from reconciler.core.accepted_settings import History
    from reconciler.core.evidence import SeenRow
    from reconciler.core.pacing import Ledger
    from reconciler.core.state_records import PolicyRecord
    from reconciler.okx.wire import BaseUrl
    from reconciler.ports import Clock, Exchange, StateBackend


@dataclass(frozen=True, slots=True)
class DryRunInputs:
    """The inputs of a dry run; ``uid`` None: neither the exchange nor the state has it.

    ``pauses`` are those that have not ended. ``policy`` is the recorded one, None if none applies.
    """

    known: Mapping[Family, Known]
    ledger: Ledger
    uid: str | None
    pauses: tuple[Pause, ...] = ()
    last_rows: Mapping[Family, SeenRow] = field(default_factory=dict)
    accepted: Mapping[Family, History] = field(default_factory=dict)
    policy: PolicyRecord | None = None


async def load_dry_run_inputs(
    state: StateBackend | None, desired: Desired, base: BaseUrl, exchange: Exchange | None, clock: Clock
) -> DryRunInputs:
    """Return the inputs of a dry run, its pacing ledger and the owner of the account; writes nothing.

    With an exchange the key's account is checked against the file and the state. Raises MmpError.
    """
    from reconciler.core.pacing import Ledger

    store = state.account(desired.account, desired.environment, base.kind) if state else None
    uid = None
    if exchange is not None:
        uid = (await verify_key_owner(desired, base, exchange, store, writing=False)).uid
    nothing_sent = Ledger(empty_since=clock.now())
    if store is None:
        return DryRunInputs({}, nothing_sent, uid)
    snapshot = await store.snapshot()
    ledger = snapshot.ledger or nothing_sent
    return DryRunInputs(
        await store.known(),
        ledger,
        uid or snapshot.uid,
        await store.pauses(),
        await store.last_rows(),
        snapshot.accepted,
        await store.policy_on_record(),
    )
