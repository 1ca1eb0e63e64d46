"""Pausing and resuming: the families concerned, and the pauses in force afterwards.

A pause is stored in the state, by the User ID that the account was used with, and ends by itself. Nothing
here asks the exchange or needs a key, so an account that was never used with this state cannot be paused.
An account that was renamed since is found by ``expect.uid`` of its file. Without it, which account is meant
would be a guess, and a wrong guess leaves another account without protection.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from reconciler import factories
from reconciler.cli.options import NO_FAMILY_HINT, matching_families
from reconciler.cli.output import Output
from reconciler.cli.recorded_state import recorded_name, recorded_store
from reconciler.clock import SystemClock
from reconciler.core.model import Desired, ExchangeKind, Family
from reconciler.core.pacing import LATEST_ARRIVAL_S, WINDOW_S
from reconciler.core.pauses import active_pauses
from reconciler.core.reply import AttemptStatus
from reconciler.documents.plan import one_or_list
from reconciler.documents.status import pauses_document
from reconciler.errors import ChangeRefused, MmpError, UsageError
from reconciler.render.status import pauses_text
from reconciler.store.location import StateFile, StateLocation

if TYPE_CHECKING:
    from reconciler.core.policy import Policy
    from reconciler.core.state_records import AttemptRecord, NameRecord
    from reconciler.ports import AccountStore, StateBackend

IN_FLIGHT_S = LATEST_ARRIVAL_S + WINDOW_S
"""How long after its reservation a request without a definite answer is named: until its latest possible
arrival, and some more, because the clocks of several hosts differ."""


NEVER_USED_HINT = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"

MAX_NAMES = 8
"""Account names that a message repeats; a state may have hundreds."""


@dataclass(frozen=True, slots=True)
class PauseTarget:
    """The subject of a command line: the accounts, the state, and globs of families."""

    desired: tuple[Desired, ...]
    state: StateLocation
    lock_timeout_s: float
    globs: tuple[str, ...]


async def pause_families(
    meant: PauseTarget, *, for_s: float | None, reason: str, policies: Sequence[Policy | None], out: Output
) -> None:
    """Pause the desired families that match, for ``for_s`` seconds (None: until resumed).

    Nothing is paused unless everything may be. Raises UsageError when none matches, Refused when the
    policy protects one, MmpError when an account was never used with the state.
    """
    matching = [matching_families(one, meant.globs) or frozenset() for one in meant.desired]
    _refuse_none(meant, any(matching))
    for families, policy in zip(matching, policies, strict=True):
        _refuse_protected(families, policy)
    async with _opened(meant) as state:
        stores = await _stores(meant, state, out)
        for store, families, policy in zip(stores, matching, policies, strict=True):
            if policy is None:
                _refuse_protected(families, await _missing_policy(store))
        until = None if for_s is None else SystemClock().wall() + timedelta(seconds=for_s)
        for store, families in zip(stores, matching, strict=True):
            await store.pause(sorted(families), until=until, reason=reason)
        pairs = zip(stores, matching, strict=True)
        in_flight = [await _in_flight(store, families) for store, families in pairs]
        await _tell(meant, stores, in_flight, out)


async def resume_families(meant: PauseTarget, *, out: Output) -> None:
    """End the pauses of families that match, whether or not the file still names them.

    Raises UsageError when none matches, MmpError when an account was never used with the state.
    """
    desired = any(matching_families(one, meant.globs) for one in meant.desired)
    if _is_missing(meant):
        _refuse_none(meant, desired)
    async with _opened(meant) as state:
        stores = await _stores(meant, state, out)
        held = [[pause.family for pause in await store.pauses()] for store in stores]
        paused = [_matching(families, meant.globs) for families in held]
        _refuse_none(meant, desired or any(paused))
        for store, families in zip(stores, paused, strict=True):
            await store.resume(families)
        await _tell(meant, stores, [()] * len(stores), out)


@asynccontextmanager
async def _opened(meant: PauseTarget) -> AsyncIterator[StateBackend]:
    """Open the state. A state that does not exist was never used, and is not created."""
    if _is_missing(meant):
        raise MmpError("state-unused", f"there is no state at {meant.state}", NEVER_USED_HINT)
    async with factories.open_state(meant.state, SystemClock(), meant.lock_timeout_s) as state:
        yield state


def _is_missing(meant: PauseTarget) -> bool:
    return isinstance(meant.state, StateFile) and not os.path.lexists(meant.state.path)


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


async def _stores(meant: PauseTarget, state: StateBackend, out: Output) -> list[AccountStore]:
    """Return the store of each account, of the kind of exchange that it was used with.

    Raises MmpError where an account was never used with the state.
    """
    return [await _store(one, state, out) for one in meant.desired]


async def _store(one: Desired, state: StateBackend, out: Output) -> AccountStore:
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


def _matching(families: Iterable[Family], globs: tuple[str, ...]) -> list[Family]:
    return [family for family in families if any(fnmatchcase(family, glob) for glob in globs)]


def _refuse_none(meant: PauseTarget, some: bool) -> None:
    if not some:
        raise UsageError("no-family", f"no desired family matches {', '.join(meant.globs)}", NO_FAMILY_HINT)


async def _missing_policy(store: AccountStore) -> Policy | None:
    """Return the recorded policy: its file is missing, but it still applies."""
    from reconciler.controller.account_policy import remembered

    return remembered(await store.policy_on_record())


def _refuse_protected(families: frozenset[Family], policy: Policy | None) -> None:
    if policy is not None and (protected := sorted(families & policy.protected)):
        raise ChangeRefused(
            "policy",
            f"nothing was paused, because the policy protects {', '.join(protected)}",
            "name other families, or take the family off the policy's list of protected ones",
            path=policy.path,
        )


async def _tell(
    meant: PauseTarget,
    stores: Sequence[AccountStore],
    in_flight: Sequence[Sequence[AttemptRecord]],
    out: Output,
) -> None:
    """Write what is in force now for every account, and which requests may still take effect."""
    found = [
        (one, active_pauses(await store.pauses(), one), attempts)
        for one, store, attempts in zip(meant.desired, stores, in_flight, strict=True)
    ]
    if out.json:
        documents = [
            pauses_document(one.account, one.environment.value, held, attempts)
            for one, held, attempts in found
        ]
        out.document(one_or_list("pause", documents))
        return
    wall = SystemClock().wall()
    for one, held, attempts in found:
        place = (one.account, one.environment.value)
        out.result(pauses_text(*place, held, wall, in_flight=attempts, paint=out.paint()))
