"""What a pass does next, given its plan: the whole order of a pass, as one pure function.

Read what must be known; adopt what needs no request; wait for what is not yet due; send one request;
or be done. Sending is decided only on a read fresh enough that a freeze or a change behind our back
would have been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.core.events import Cause
from reconciler.core.evidence import SECOND_READ_AFTER_S, Reads, counts_after
from reconciler.core.model import Family, Known, Never, Setting
from reconciler.core.plan import Change, Plan

LEAD_S = 1.0
"""How long before its slot a request's connection is opened and live is read once more."""

FRESH_S = 2.0
"""How old the last live read may be when a request is decided on; covers LEAD_S and a burst of two."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record these settings: live already shows them."""

    settings: dict[Family, Setting]


@dataclass(frozen=True, slots=True)
class Read:
    """Read live once more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``until``."""

    until: float
    cause: Cause


@dataclass(frozen=True, slots=True)
class Send:
    """Open a connection now, reserve and send at ``at``."""

    change: Change
    at: float


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is left to do in this pass."""


Step = Adopt | Read | Wait | Send | Settled


def next_step(
    plan: Plan,
    known: Known | None,
    reads: Reads,
    *,
    now: float,
    slot: float,
    not_before: float,
    live: bool,
) -> Step:
    """Return the next step of a pass.

    ``known`` is what is known of the first request's family (None when there is no request),
    ``slot`` the earliest reservation, ``not_before`` the end of a back-off, ``live`` whether this
    pass reads live at all.
    """
    if live and reads.latest is None:
        return _read(now, not_before)
    if plan.doubtful:
        # Even a record waits: a review has to see the whole plan before anything is recorded.
        return _read_again(reads, now, not_before)
    adopted = {change.family: change.after for change in _adopts(plan) if change.known_at is None}
    if adopted:
        return Adopt(adopted)
    if plan.requests:
        return _towards_sending(plan.requests[0], known or Never(), reads, now, slot, not_before, live)
    return _towards_knowing(plan, reads, now, not_before, live)


def _towards_sending(
    change: Change, known: Known, reads: Reads, now: float, slot: float, not_before: float, live: bool
) -> Step:
    if now < not_before:
        return Wait(not_before, Cause.BACK_OFF)
    if now < slot - LEAD_S:
        return Wait(slot - LEAD_S, Cause.SLOT)
    if live and not _fresh(reads, known, now):
        return Read()
    return Send(change, max(now, slot))


def _fresh(reads: Reads, known: Known, now: float) -> bool:
    latest = reads.latest
    return latest is not None and latest.begun_at > max(counts_after(known), now - FRESH_S)


def _towards_knowing(plan: Plan, reads: Reads, now: float, not_before: float, live: bool) -> Step:
    due = [change.known_at for change in _adopts(plan) if change.known_at is not None]
    if not due:
        return Settled()
    first = min(due)
    if now <= first or not live:
        # A read has to begin after the instant, not at it; without reads the plan turns into a
        # request once the instant has passed.
        return Wait(first + SECOND_READ_AFTER_S, Cause.UNCONFIRMED)
    return _read_again(reads, now, not_before)


def _read_again(reads: Reads, now: float, not_before: float) -> Step:
    latest = reads.latest
    due = now if latest is None else latest.begun_at + SECOND_READ_AFTER_S
    return _read(now, not_before) if now >= due else Wait(due, Cause.SECOND_READ)


def _read(now: float, not_before: float) -> Step:
    return Read() if now >= not_before else Wait(not_before, Cause.BACK_OFF)


def _adopts(plan: Plan) -> tuple[Change, ...]:
    return tuple(change for change in plan.changes if change.order is None and change.because is None)
