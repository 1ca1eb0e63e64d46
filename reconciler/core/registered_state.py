"""One record of requests per User ID on a machine: may this state be it, beside the one that is registered?

Two states for one User ID know nothing of each other's requests, so together they exceed the rate. Each
machine has a registry of the state that was used last for a User ID. This file decides what becomes of its
entry when a process is about to write with some state. Reading and locking the registry is done elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S

IN_USE_S = LATEST_ARRIVAL_S + GUARD_S
"""How long after its last reservation a state counts as in use: until then that request may count against
the rate, and another state does not know it."""


@dataclass(frozen=True, slots=True)
class RegisteredState:
    """An entry of the registry: the state that was used last for a User ID.

    ``id`` is the state's own. ``place`` is its path or address, without a password. ``reserved_at`` is when
    it last reserved a request, in seconds on the monotonic clock of ``boot``; None: not since it is
    registered.
    """

    id: str
    place: str
    is_file: bool
    boot: str
    reserved_at: float | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is found of a registered state now.

    ``exists``: its file is there; a database counts as there. ``is_same``: it is the state that is about to
    be used, perhaps under another name. ``is_held``: a process that may write with it is running.
    """

    exists: bool
    is_same: bool
    is_held: bool


class Registration(Enum):
    """What becomes of the entry."""

    KEPT = auto()
    """It names this state already."""
    NEW = auto()
    """There is none."""
    MOVED = auto()
    """It names this state where it was before."""
    REPLACED = auto()
    """It names another state, which is not in use: that is reported."""
    REFUSED = auto()
    """It names another state, which is in use: nothing is written with this one."""


def register(
    ours: RegisteredState, registered: RegisteredState | None, seen: Sighting, now: float
) -> Registration:
    """Decide whether ``ours`` may be written with; ``now`` is on the monotonic clock of its boot.

    A copy of a state file has its id and is another record all the same: what one of the two sends, the
    other does not know.
    """
    if registered is None:
        return Registration.NEW
    if seen.is_same:
        return Registration.KEPT
    if not seen.exists:
        return Registration.MOVED if registered.id == ours.id else Registration.REPLACED
    if seen.is_held or _reserved_lately(registered, ours.boot, now):
        return Registration.REFUSED
    return Registration.REPLACED


def _reserved_lately(registered: RegisteredState, boot: str, now: float) -> bool:
    """Tell whether a request of the state may still count; the registry does not outlive a boot."""
    if registered.reserved_at is None or registered.boot != boot:
        return False
    return now - registered.reserved_at < IN_USE_S
