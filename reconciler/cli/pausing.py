"""Pausing and resuming: which families are meant, and what is in force afterwards.

A pause is stored in the state, by the User ID that the account was used with, and ends by itself. Nothing
here asks the exchange or needs a key, so an account that was never used with this state cannot be paused.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import doors
from reconciler.cli.options import NO_FAMILY_HINT, StatePlace, chosen
from reconciler.cli.output import Output
from reconciler.clock import SystemClock
from reconciler.core.model import Desired, Family, Kind
from reconciler.core.pacing import LATEST_ARRIVAL_S, WINDOW_S
from reconciler.core.pauses import in_force
from reconciler.core.verdict import AttemptStatus
from reconciler.errors import MmpError, Refused, UsageError
from reconciler.report.documents import several
from reconciler.report.status import pauses_document, pauses_text

if TYPE_CHECKING:
    from reconciler.core.policy import Policy
    from reconciler.core.records import AttemptRecord
    from reconciler.ports import AccountStore, State

IN_FLIGHT_S = LATEST_ARRIVAL_S + WINDOW_S
"""How long after its reservation a request without a verdict is named: until its latest possible arrival,
and some more, because the clocks of several hosts differ."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a command line is about: the accounts, the state, and globs of families."""

    desired: tuple[Desired, ...]
    state: StatePlace
    lock_timeout_s: float
    globs: tuple[str, ...]


async def pause_families(
    meant: Meant, *, for_s: float | None, reason: str, policies: Sequence[Policy | None], out: Output
) -> None:
    """Pause the desired families that match, for ``for_s`` seconds (None: until resumed).

    Nothing is paused unless everything may be. Raises UsageError when none matches, Refused when the
    policy protects one, MmpError when an account was never used with the state.
    """
    matching = [chosen(one, meant.globs) or frozenset() for one in meant.desired]
    _refuse_none(meant, any(matching))
    for families, policy in zip(matching, policies, strict=True):
        _refuse_protected(families, policy)
    async with _opened(meant) as state:
        stores = _stores(meant, state)
        for store in stores:
            await store.pause((), until=None, reason="")  # raises where nothing can be paused
        until = None if for_s is None else SystemClock().wall() + timedelta(seconds=for_s)
        for store, families in zip(stores, matching, strict=True):
            await store.pause(sorted(families), until=until, reason=reason)
        pairs = zip(stores, matching, strict=True)
        in_flight = [await _in_flight(store, families) for store, families in pairs]
        await _tell(meant, stores, in_flight, out)


async def resume_families(meant: Meant, *, out: Output) -> None:
    """End the pauses of families that match, whether or not the file still names them.

    Raises UsageError when none matches, MmpError when an account was never used with the state.
    """
    desired = any(chosen(one, meant.globs) for one in meant.desired)
    if _is_missing(meant):
        _refuse_none(meant, desired)
    async with _opened(meant) as state:
        stores = _stores(meant, state)
        held = [[pause.family for pause in await store.pauses()] for store in stores]
        paused = [_matching(families, meant.globs) for families in held]
        _refuse_none(meant, desired or any(paused))
        for store, families in zip(stores, paused, strict=True):
            await store.resume(families)
        await _tell(meant, stores, [()] * len(stores), out)


@asynccontextmanager
async def _opened(meant: Meant) -> AsyncIterator[State]:
    """Open the state. A state that does not exist was never used, and is not created."""
    if _is_missing(meant):
        hint = "run `mmp apply` or `mmp run` first; nothing is written for the account until then"
        raise MmpError("state-unused", f"there is no state at {meant.state}", hint)
    async with doors.opened_state(meant.state, SystemClock(), meant.lock_timeout_s) as state:
        yield state


def _is_missing(meant: Meant) -> bool:
    return isinstance(meant.state, Path) and not os.path.lexists(meant.state)


async def _in_flight(store: AccountStore, families: frozenset[Family]) -> tuple[AttemptRecord, ...]:
    """Return the recently reserved requests of these families that have no answer yet, by id."""
    lately = SystemClock().wall() - timedelta(seconds=IN_FLIGHT_S)
    attempts = (await store.snapshot()).open_attempts
    return tuple(
        attempt
        for attempt in attempts
        if attempt.family in families
        and attempt.status is AttemptStatus.PENDING
        and attempt.reserved_wall >= lately
    )


def _stores(meant: Meant, state: State) -> list[AccountStore]:
    # The record of the account says which kind of exchange is at the other end.
    return [state.account(one.account, one.environment, Kind.OKX) for one in meant.desired]


def _matching(families: Iterable[Family], globs: tuple[str, ...]) -> list[Family]:
    return [family for family in families if any(fnmatchcase(family, glob) for glob in globs)]


def _refuse_none(meant: Meant, some: bool) -> None:
    if not some:
        raise UsageError(
            "no-family",
            f"no desired family matches {', '.join(meant.globs)}",
            NO_FAMILY_HINT,
        )


def _refuse_protected(families: frozenset[Family], policy: Policy | None) -> None:
    if policy is not None and (protected := sorted(families & policy.protected)):
        raise Refused(
            "policy",
            f"nothing was paused, because the policy protects {', '.join(protected)}",
            "name other families, or take the family off the policy's list of protected ones",
            path=policy.path,
        )


async def _tell(
    meant: Meant, stores: Sequence[AccountStore], in_flight: Sequence[Sequence[AttemptRecord]], out: Output
) -> None:
    """Write what is in force now, of every account, and which requests may still take effect."""
    found = [
        (one, in_force(await store.pauses(), one), attempts)
        for one, store, attempts in zip(meant.desired, stores, in_flight, strict=True)
    ]
    if out.json:
        documents = [
            pauses_document(one.account, one.environment.value, held, attempts)
            for one, held, attempts in found
        ]
        out.document(several("pause", documents))
        return
    wall = SystemClock().wall()
    for one, held, attempts in found:
        place = (one.account, one.environment.value)
        out.result(pauses_text(*place, held, wall, in_flight=attempts, paint=out.paint()))
