"""Pausing and resuming: the families concerned, and the pauses in force afterwards.

A pause is stored in the state, by the User ID that the account was used with, and ends by itself. Nothing
here asks the exchange or needs a key, so an account that was never used with this state cannot be paused.
An account that was renamed since is found by ``expect.uid`` of its file. Without it, which account is meant
would be a guess, and a wrong guess leaves another account without protection.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from reconciler import factories
from reconciler.cli.options import CommandOptions
from reconciler.cli.output import Output
from reconciler.cli.recorded_state import recorded_name, recorded_store
from reconciler.clock import SystemClock
from reconciler.controller.account_policy import remembered
from reconciler.controller.family_globs import is_match, matching_families, no_match
from reconciler.core.model import Desired, ExchangeKind, Family
from reconciler.core.pacing import LATEST_ARRIVAL_S, WINDOW_S
from reconciler.core.pauses import active_pauses
from reconciler.core.reply import AttemptStatus
from reconciler.documents.plan import one_or_list
from reconciler.documents.status import pauses_document
from reconciler.errors import ChangeRefused, MmpError
from reconciler.render.status import pauses_text
from reconciler.store.location import StateFile, StateLocation

if TYPE_CHECKING:
    from reconciler.core.history_records import AttemptRecord, NameRecord
    from reconciler.core.policy import Policy
    from reconciler.ports import AccountStore, StateBackend

IN_FLIGHT_S = LATEST_ARRIVAL_S + WINDOW_S
"""How long after its reservation a request without a definite answer is named: until its latest possible
arrival, and some more, because the clocks of several hosts differ."""


NEVER_USED_HINT = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"

MAX_NAMES = 8
"""Account names that a message repeats; a state may have hundreds."""


async def pause_families(
    options: CommandOptions,
    desired: Sequence[Desired],
    policies: Sequence[Policy | None],
    *,
    for_s: float | None,
) -> None:
    """Pause the desired families that match, for ``for_s`` seconds (None: until resumed).

    Nothing is paused unless everything may be. Raises UsageError when none matches, Refused when the
    policy protects one, MmpError when an account was never used with the state.
    """
    matching = [matching_families(one, options.globs) or frozenset() for one in desired]
    if not any(matching):
        raise no_match(options.globs)
    for families, policy in zip(matching, policies, strict=True):
        _refuse_protected(families, policy)
    async with _opened(options) as state:
        stores = [await _store(one, state, options.out) for one in desired]
        for store, families, policy in zip(stores, matching, policies, strict=True):
            if policy is None:  # its file may be missing: then the recorded policy still applies
                _refuse_protected(families, remembered(await store.policy_on_record()))
        until = None if for_s is None else SystemClock().wall() + timedelta(seconds=for_s)
        for store, families in zip(stores, matching, strict=True):
            await store.pause(sorted(families), until=until, reason=options.reason or "")
        in_flight = [await _in_flight(*pair) for pair in zip(stores, matching, strict=True)]
        await _write_pauses(options.out, desired, stores, in_flight)


async def resume_families(options: CommandOptions, desired: Sequence[Desired]) -> None:
    """End the pauses of families that match, whether or not the file still names them.

    Raises UsageError when none matches, MmpError when an account was never used with the state.
    """
    is_desired = any(matching_families(one, options.globs) for one in desired)
    if not is_desired and _is_missing(options.location()):
        raise no_match(options.globs)
    async with _opened(options) as state:
        stores = [await _store(one, state, options.out) for one in desired]
        recorded = [[pause.family for pause in await store.pauses()] for store in stores]
        paused = [[one for one in families if is_match(one, options.globs)] for families in recorded]
        if not is_desired and not any(paused):
            raise no_match(options.globs)
        for store, families in zip(stores, paused, strict=True):
            await store.resume(families)
        await _write_pauses(options.out, desired, stores, [()] * len(stores))


@asynccontextmanager
async def _opened(options: CommandOptions) -> AsyncIterator[StateBackend]:
    """Open the state. A state that does not exist was never used, and is not created."""
    if _is_missing(location := options.location()):
        raise MmpError("state-unused", f"there is no state at {location}", NEVER_USED_HINT)
    async with factories.open_state(location, SystemClock(), options.lock_timeout_s) as state:
        yield state


def _is_missing(location: StateLocation) -> bool:
    return isinstance(location, StateFile) and not os.path.lexists(location.path)


async def _in_flight(store: AccountStore, families: frozenset[Family]) -> tuple[AttemptRecord, ...]:
    """Return the recently reserved requests of these families that may still take effect, by id."""
    lately = SystemClock().wall() - timedelta(seconds=IN_FLIGHT_S)
    attempts = (await store.snapshot()).open_attempts
    return tuple(
        attempt
        for attempt in attempts
        if attempt.family in families
        and attempt.status in (AttemptStatus.PENDING, AttemptStatus.UNKNOWN)
        and attempt.reserved_wall >= lately
    )


async def _store(one: Desired, state: StateBackend, out: Output) -> AccountStore:
    """Return the store of an account, of the kind of exchange that it was used with.

    Raises MmpError if it was never used with the state.
    """
    found = await recorded_store(state, one)
    if found is None:
        raise _unused(one, await state.account(one.account, one.environment, ExchangeKind.OKX).names())
    if (known := await recorded_name(state, one)) is not None:
        out.info(
            f"The state has User ID {known.uid} under the name {known.account}, not {one.account} yet."
        )
    return found[0]


def _unused(one: Desired, names: Sequence[NameRecord]) -> MmpError:
    """Return the failure of an account without a record, and which accounts have one."""
    message = f"the state was never used for account {one.account} ({one.environment.value})"
    if not names:
        return MmpError("state-unused", message, NEVER_USED_HINT, path=one.path)
    known = ", ".join(name.account for name in names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    hint = (
        f"if the account was renamed, put its User ID into expect.uid, so that its record is found; "
        f"otherwise {NEVER_USED_HINT}"
    )
    return MmpError("state-unused", f"{message}, only for {known}{more}", hint, path=one.path)


def _refuse_protected(families: frozenset[Family], policy: Policy | None) -> None:
    if policy is not None and (protected := sorted(families & policy.protected)):
        raise ChangeRefused(
            "policy",
            f"nothing was paused, because the policy protects {', '.join(protected)}",
            "name other families, or remove the family from protected in the policy",
            path=policy.path,
        )


async def _write_pauses(
    out: Output,
    desired: Sequence[Desired],
    stores: Sequence[AccountStore],
    in_flight: Sequence[Sequence[AttemptRecord]],
) -> None:
    """Write what is in force now for every account, and which requests may still take effect."""
    wall = SystemClock().wall()
    documents, texts = [], []
    for one, store, attempts in zip(desired, stores, in_flight, strict=True):
        place = (one.account, one.environment.value)
        pauses = active_pauses(await store.pauses(), one)
        documents.append(pauses_document(*place, pauses, attempts))
        texts.append(pauses_text(*place, pauses, wall, in_flight=attempts, paint=out.paint()))
    if out.json:
        out.document(one_or_list("pause", documents))
    else:
        out.result("".join(texts))
