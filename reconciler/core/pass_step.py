"""What a pass does next, given its plan: the complete order of a pass, as one pure function.

It reads what must be known, records what needs no request, waits for what is not yet due, sends one
request, or is done. Sending is decided only on a fresh read, which would show a freeze or a change made
outside mmp. A family whose live setting is in doubt delays no other family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.events import WaitReason
from reconciler.core.live_evidence import SECOND_READ_AFTER_S, Reads, repeat_after_s, valid_after
from reconciler.core.model import Family, Known, NeverApplied, Setting, Uncertain
from reconciler.core.plan import Change, HoldReason, Plan
from reconciler.core.retry import RETRY_PATIENCE_S

LEAD_S = 1.0
"""How long before its slot a request's connection is opened and live is read once more."""

FRESH_S = 2.0
"""How long ago the last live read may have ended when a request is decided on; covers LEAD_S and a burst
of two. How long the read itself took does not count: a slow exchange must not stop protection."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record these settings: live already shows them."""

    settings: dict[Family, Setting]


@dataclass(frozen=True, slots=True)
class EndAttempts:
    """Record that the open attempts of these families are over: live shows a value that none carries."""

    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class ReadLive:
    """Read live once more; ``repeated``: directly after a read that did not suffice."""

    repeated: bool = False


@dataclass(frozen=True, slots=True)
class ReadFamily:
    """Read one family on its own: the list leaves it out."""

    family: Family


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``until``."""

    until: float
    cause: WaitReason


@dataclass(frozen=True, slots=True)
class Send:
    """Open a connection now, reserve and send at ``at``, leaving ``keep_free`` slots of the window free."""

    change: Change
    at: float
    keep_free: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do in this pass."""


Step = Adopt | EndAttempts | ReadLive | ReadFamily | Wait | Send | Done


@dataclass(frozen=True, slots=True)
class Slots:
    """The earliest reservation: ``any`` of the window's slots, or the ``first``, which leaves one free.

    ``unanswered``: a request of the User ID may still reach the exchange, so its slot is taken for longer
    than a window.
    """

    any: float
    first: float
    unanswered: bool = False

    def leaving(self, keep_free: int) -> float:
        """Return the earliest reservation that leaves so many slots free (0 or 1)."""
        return self.first if keep_free else self.any


@dataclass(frozen=True, slots=True)
class Next:
    """The next request, from ``at`` on."""

    change: Change
    at: float
    keep_free: int


@dataclass(frozen=True, slots=True)
class _Option:
    """Something that could be done from ``due`` on; until then it is waited for because of ``cause``."""

    due: float
    cause: WaitReason
    step: Step


def next_step(
    plan: Plan,
    known: Mapping[Family, Known],
    reads: Reads,
    *,
    now: float,
    slots: Slots,
    not_before: float,
    live: bool,
    reviewing: bool = False,
) -> Step:
    """Return the next step of a pass.

    ``not_before`` is the end of the account's back-off, ``live`` tells whether this pass reads live at
    all. ``reviewing``: the plan is yet to be reviewed, so that doubtful families are read first.
    """
    if live and reads.latest is None:
        return ReadLive() if now >= not_before else Wait(not_before, WaitReason.BACK_OFF)
    if reviewing and plan.doubtful:
        return _first_due(_doubts(plan, reads, not_before), now)
    if plan.superseded:
        return EndAttempts(plan.superseded)
    adopted = {change.family: change.after for change in _adopts(plan) if change.known_at is None}
    if adopted:
        return Adopt(adopted)
    following = next_request(plan, now=now, slots=slots)
    options = () if following is None else (_sending(following, known, reads, now, not_before, live),)
    reading = [*_doubts(plan, reads, not_before), *_awaited(plan, reads, now, not_before, live)]
    return _first_due([*options, *_read_back(plan, known, reads, not_before), *reading], now)


def next_request(plan: Plan, *, now: float, slots: Slots) -> Next | None:
    """Return the next request: the earliest that may be sent, in the plan's order; None without one."""
    waiting = sum(change.not_before <= now for change in plan.requests)
    found: Next | None = None
    for change in plan.requests:
        patient = now < change.not_before + RETRY_PATIENCE_S
        others = patient and waiting > (change.not_before <= now)
        keep_free = change.slots_left(others=others, unanswered=slots.unanswered)
        at = max(now, change.not_before, slots.leaving(keep_free))
        if found is None or at < found.at:
            found = Next(change, at, keep_free)
    return found


def _first_due(options: list[_Option], now: float) -> Step:
    """Return the first of the options that is due, or the wait for the earliest; Done without any."""
    for option in options:
        if option.due <= now:
            return option.step
    first = min(options, key=lambda option: option.due, default=None)
    return Done() if first is None else Wait(first.due, first.cause)


def _sending(
    following: Next, known: Mapping[Family, Known], reads: Reads, now: float, not_before: float, live: bool
) -> _Option:
    """Return the steps to a request: wait for its slot, read live once more, send."""
    change = following.change
    due = max(following.at - LEAD_S, change.not_before, not_before)
    if now < due:
        backing_off = due in (not_before, change.not_before)
        return _Option(due, WaitReason.BACK_OFF if backing_off else WaitReason.SLOT, Done())
    if not live or _is_fresh(reads, known.get(change.family, NeverApplied()), now):
        return _Option(due, WaitReason.SLOT, Send(change, following.at, following.keep_free))
    assert reads.latest is not None
    if reads.latest.ended_at <= now - FRESH_S:
        return _Option(due, WaitReason.SLOT, ReadLive())
    return _Option(_repeat_at(reads, not_before), WaitReason.SECOND_READ, ReadLive(repeated=True))


def _is_fresh(reads: Reads, known: Known, now: float) -> bool:
    latest = reads.latest
    return latest is not None and latest.begun_at > valid_after(known) and latest.ended_at > now - FRESH_S


def _read_back(
    plan: Plan, known: Mapping[Family, Known], reads: Reads, not_before: float
) -> Iterator[_Option]:
    """Yield the read that may show at once what a request without a definite answer did."""
    if reads.latest is None:
        return
    begun_at = reads.latest.begun_at
    tried = (
        known.get(change.family, NeverApplied())
        for change in plan.changes
        if change.tries and (change.order is not None or change.because is HoldReason.REJECTED)
    )
    if any(isinstance(one, Uncertain) and valid_after(one) >= begun_at for one in tried):
        yield _Option(not_before, WaitReason.SECOND_READ, ReadLive())


def _doubts(plan: Plan, reads: Reads, not_before: float) -> list[_Option]:
    """Return the reads that are needed: of a missing family alone, then of all for doubtful ones."""
    if reads.latest is None:
        return []
    alone = [*_family_reads(plan, reads, not_before)]
    if alone or not plan.doubtful:
        return alone  # before another list, every missing family is read once
    return [_Option(_repeat_at(reads, not_before), WaitReason.SECOND_READ, ReadLive(repeated=True))]


def _family_reads(plan: Plan, reads: Reads, not_before: float) -> Iterator[_Option]:
    """Yield the read of the missing family whose own read is the oldest, at most one read a second.

    Families that were read alone since the list are left out.
    """
    assert reads.latest is not None
    never, begun_at = float("-inf"), reads.latest.begun_at
    read_at = {family: missing.single_read_at or never for family, missing in reads.missing.items()}
    waiting = [family for family in plan.missing if read_at.get(family, never) < begun_at]
    if waiting:
        due = max(reads.single_family_read_at + SECOND_READ_AFTER_S, not_before)
        oldest = min(waiting, key=lambda family: read_at.get(family, never))
        yield _Option(due, WaitReason.SECOND_READ, ReadFamily(oldest))


def _awaited(plan: Plan, reads: Reads, now: float, not_before: float, live: bool) -> list[_Option]:
    """Return the read that ends a doubt once no attempt can take effect; without reads, the wait for it."""
    due = [change.known_at for change in _adopts(plan) if change.known_at is not None]
    if not due:
        return []
    first = min(due)
    if now <= first or not live:
        # A read has to begin after the instant, not at it; without reads the plan turns into a
        # request once the instant has passed.
        until = max(first, now) + SECOND_READ_AFTER_S
        return [_Option(until, WaitReason.UNCONFIRMED, Done())]
    return [_Option(_repeat_at(reads, not_before), WaitReason.SECOND_READ, ReadLive(repeated=True))]


def _repeat_at(reads: Reads, not_before: float) -> float:
    """Return from when a read may directly follow the latest one."""
    assert reads.latest is not None
    return max(reads.latest.ended_at + repeat_after_s(reads.repeated), not_before)


def _adopts(plan: Plan) -> tuple[Change, ...]:
    return tuple(change for change in plan.changes if change.order is None and change.because is None)
