"""Pausing and resuming: which families are meant, and what is in force afterwards.

A pause is kept in the state, of one account and environment, and ends by itself. Nothing here asks
the exchange or needs a key; a state that is not there yet comes into being.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.cli import doors
from reconciler.cli.options import chosen
from reconciler.cli.output import Output
from reconciler.clock import SystemClock
from reconciler.core.model import Desired, Family, Kind
from reconciler.errors import Refused, UsageError
from reconciler.report.documents import several
from reconciler.report.status import pauses_document, pauses_text

if TYPE_CHECKING:
    from reconciler.core.policy import Policy
    from reconciler.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Meant:
    """What a command line is about: the accounts, the state, and globs of families."""

    desired: tuple[Desired, ...]
    state: Path
    lock_timeout_s: float
    globs: tuple[str, ...]


def pause_families(
    meant: Meant, *, for_s: float | None, reason: str, policies: Sequence[Policy | None], out: Output
) -> None:
    """Pause the desired families that match, for ``for_s`` seconds (None: until resumed).

    Nothing is paused unless everything may be. Raises UsageError when none matches, Refused when the
    policy protects one.
    """
    stores = _stores(meant)
    matching = [chosen(one, meant.globs) or frozenset() for one in meant.desired]
    _refuse_none(meant, any(matching))
    for families, policy in zip(matching, policies, strict=True):
        _refuse_protected(families, policy)
    wall = SystemClock().wall()
    until = None if for_s is None else wall + timedelta(seconds=for_s)
    for store, families in zip(stores, matching, strict=True):
        store.pause(sorted(families), until=until, reason=reason)
    _tell(meant, stores, out)


def resume_families(meant: Meant, *, out: Output) -> None:
    """End the pauses of families that match, whether or not the file still names them."""
    stores = _stores(meant)
    paused = [_matching((pause.family for pause in store.pauses()), meant.globs) for store in stores]
    _refuse_none(meant, any(paused) or any(chosen(one, meant.globs) for one in meant.desired))
    for store, families in zip(stores, paused, strict=True):
        store.resume(families)
    _tell(meant, stores, out)


def _stores(meant: Meant) -> list[SqliteStore]:
    state = doors.open_state(meant.state, SystemClock(), meant.lock_timeout_s)
    # A pause is of the account, whichever kind of exchange is at the other end.
    return [state.account(one.account, one.environment, Kind.OKX) for one in meant.desired]


def _matching(families: Iterable[Family], globs: tuple[str, ...]) -> list[Family]:
    return [family for family in families if any(fnmatchcase(family, glob) for glob in globs)]


def _refuse_none(meant: Meant, some: bool) -> None:
    if not some:
        raise UsageError(
            "no-family",
            f"no desired family matches {', '.join(meant.globs)}",
            "see the file, or mmp status, for the families there are",
        )


def _refuse_protected(families: frozenset[Family], policy: Policy | None) -> None:
    if policy is not None and (protected := sorted(families & policy.protected)):
        raise Refused(
            "policy",
            f"nothing was paused, because the policy protects {', '.join(protected)}",
            "name other families, or take the family off the policy's list of protected ones",
            path=policy.path,
        )


def _tell(meant: Meant, stores: Sequence[SqliteStore], out: Output) -> None:
    """Write what is in force now, of every account."""
    pairs = [(one, store.pauses()) for one, store in zip(meant.desired, stores, strict=True)]
    if out.json:
        documents = [pauses_document(one.account, one.environment.value, held) for one, held in pairs]
        out.document(several("pause", documents))
        return
    wall = SystemClock().wall()
    for one, held in pairs:
        out.result(pauses_text(one.account, one.environment.value, held, wall, paint=out.paint()))
