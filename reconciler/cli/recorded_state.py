"""How commands that only read open the state and find an account in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.core.model import Desired, ExchangeKind
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from reconciler.core.history_records import NameRecord
    from reconciler.ports import AccountStore, Clock, StateBackend


@asynccontextmanager
async def open_recorded_state(place: StateLocation, clock: Clock) -> AsyncIterator[StateBackend | None]:
    """Open the state for reading only; None when there is none. Warns when the state was moved."""
    async with factories.open_state_readonly(place, clock) as state:
        if state is not None and (moved := await state.moved()) is not None:
            click.echo(f"warning: {moved.message}; {moved.hint}", err=True)
        yield state


async def recorded_store(
    state: StateBackend | None, desired: Desired
) -> tuple[AccountStore, ExchangeKind] | None:
    """Return the account's store, and which kind of exchange it is stamped with.

    A renamed account is found by the User ID that its file expects. None if there is no state, or no record
    of this account.
    """
    if state is None:
        return None
    kind = (await state.account(desired.account, desired.environment, ExchangeKind.OKX).snapshot()).kind
    if kind is not None:
        return state.account(desired.account, desired.environment, kind), kind
    before = await recorded_name(state, desired)
    if before is None:
        return None
    return state.account(before.account, desired.environment, before.kind), before.kind


async def recorded_name(state: StateBackend, desired: Desired) -> NameRecord | None:
    """Return another name that the state has for the User ID the file expects; None without a clear one."""
    names = await state.account(desired.account, desired.environment, ExchangeKind.OKX).names()
    if desired.account in {name.account for name in names}:
        return None
    same = [name for name in names if name.uid == desired.expected_uid]
    return same[0] if len({name.kind for name in same}) == 1 else None
