"""One record of requests per User ID and machine: may this state be used beside the registered one?

Two states for one User ID know nothing of each other's requests, so together they exceed the rate. Each
machine has a registry of the state that was used last for a User ID. This file decides what becomes of its
entry when a process is about to write with some state. Other modules read and lock the registry.
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
    the newest request of the User ID was reserved, in seconds on the monotonic clock of ``boot``, as it is
    on record; None: none since the boot.
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
    ``has_newest``: the newest registered request is on record in the state that is about to be used.
    """

    exists: bool
    is_same: bool
    is_held: bool
    has_newest: bool


class Registration(Enum):
    """What becomes of the entry."""

    UNCHANGED = auto()
    """It names this state already."""
    NEW = auto()
    """There is none."""
    MOVED = auto()
    """It names this state where it was before."""
    REPLACED = auto()
    """It names another state, which is not in use: that is reported."""
    REFUSED = auto()
    """It names another state, which is in use: nothing is written with this one."""
    BEHIND = auto()
    """Its newest request may count and is not on record in this state: nothing is written with it yet."""


def register(
    ours: RegisteredState, registered: RegisteredState | None, seen: Sighting, now: float
) -> Registration:
    """Decide whether ``ours`` may be written with; ``now`` is on the monotonic clock of its boot.

    A copy of a state file has its id but is a separate record: neither knows what the other sends. Nor
    does a restored file, or a copied database, know what was sent since. So the name does not count. What
    counts is whether the newest request is on record.
    """
    if registered is None:
        return Registration.NEW
    if seen.exists and seen.is_held and not seen.is_same:
        return Registration.REFUSED
    if not seen.has_newest and counts_for_s(registered, ours.boot, now) > 0:
        return Registration.BEHIND
    if seen.is_same:
        return Registration.UNCHANGED
    if not seen.exists and registered.id == ours.id:
        return Registration.MOVED
    return Registration.REPLACED


def counts_for_s(registered: RegisteredState, boot: str, now: float) -> float:
    """Return for how long the newest request may still count; the registry does not outlive a boot."""
    if registered.reserved_at is None or registered.boot != boot:
        return 0.0
    return max(0.0, registered.reserved_at + IN_USE_S - now)
