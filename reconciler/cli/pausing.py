"""Pausing and resuming: which families are meant, and what is in force afterwards.

A pause is kept in the state, of one account and environment, and ends by itself. Nothing here asks
the exchange or needs a key; a state that is not there yet comes into being.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from reconciler.cli import doors
from reconciler.cli.options import NO_FAMILY_HINT, StatePlace, chosen
from reconciler.cli.output import Output
from reconciler.clock import SystemClock
from reconciler.core.model import Desired, Family, Kind
from reconciler.core.pauses import in_force
from reconciler.errors import Refused, UsageError
from reconciler.report.documents import several
from reconciler.report.status import pauses_document, pauses_text

if TYPE_CHECKING:
    from reconciler.core.policy import Policy
    from reconciler.ports import AccountStore, State


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
    policy protects one.
    """
    async with _opened(meant) as state:
        stores = _stores(meant, state)
        matching = [chosen(one, meant.globs) or frozenset() for one in meant.desired]
        _refuse_none(meant, any(matching))
        for families, policy in zip(matching, policies, strict=True):
            _refuse_protected(families, policy)
        until = None if for_s is None else SystemClock().wall() + timedelta(seconds=for_s)
        for store, families in zip(stores, matching, strict=True):
            await store.pause(sorted(families), until=until, reason=reason)
        await _tell(meant, stores, out)


async def resume_families(meant: Meant, *, out: Output) -> None:
    """End the pauses of families that match, whether or not the file still names them."""
    async with _opened(meant) as state:
        stores = _stores(meant, state)
        held = [[pause.family for pause in await store.pauses()] for store in stores]
        paused = [_matching(families, meant.globs) for families in held]
        _refuse_none(meant, any(paused) or any(chosen(one, meant.globs) for one in meant.desired))
        for store, families in zip(stores, paused, strict=True):
            await store.resume(families)
        await _tell(meant, stores, out)


def _opened(meant: Meant) -> AbstractAsyncContextManager[State]:
    return doors.opened_state(meant.state, SystemClock(), meant.lock_timeout_s)


def _stores(meant: Meant, state: State) -> list[AccountStore]:
    # A pause is of the account, whichever kind of exchange is at the other end.
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


async def _tell(meant: Meant, stores: Sequence[AccountStore], out: Output) -> None:
    """Write what is in force now, of every account."""
    accounts = zip(meant.desired, stores, strict=True)
    pairs = [(one, in_force(await store.pauses(), one)) for one, store in accounts]
    if out.json:
        documents = [pauses_document(one.account, one.environment.value, held) for one, held in pairs]
        out.document(several("pause", documents))
        return
    wall = SystemClock().wall()
    for one, held in pairs:
        out.result(pauses_text(one.account, one.environment.value, held, wall, paint=out.paint()))
