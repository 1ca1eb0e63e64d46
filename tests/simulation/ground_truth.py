"""What truly happened, beside what the program assumes: settings in force, requests, proofs.

The checkers compare the program's reports with this record. The program never sees any of this record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.core.model import Family, LiveRead, Setting
from reconciler.core.reservation import SignedRequest


@dataclass(frozen=True, slots=True)
class InForce:
    """A setting of the exchange since ``at``; None: no row. ``own``: from a request of mmp, ``by``."""

    at: float
    setting: Setting | None
    own: bool
    by: Attempt | None = None


@dataclass(slots=True)
class Attempt:
    """One reservation and the request sent on it, in true time.

    ``lands_at`` is when the request reaches the exchange. It is None while nothing was written, and when
    the request never arrives. ``settled_as`` is the recorded status, None while it is pending.
    ``answered``: the process learned that the reservation is durable.
    """

    number: int
    process: str
    account: str
    request: SignedRequest
    reserved_at: float
    reserved_local: float
    written: bool = False
    lands_at: float | None = None
    landed: bool = False
    signed_for: float = 0.0
    settled_as: str | None = None
    answered: bool = False
    arrived_by: float | None = None
    """When a definite reply arrived, in true time; None: none did."""
    file_number: int = 0
    """The number of its settings file, in the order in which files were accepted."""

    @property
    def family(self) -> Family:
        """The family it is for."""
        return self.request.family

    @property
    def setting(self) -> Setting:
        """What it sets."""
        return self.request.setting


@dataclass(frozen=True, slots=True)
class SeenRead:
    """A live read as one process got it; times in true time, ``read`` on the process's clock.

    ``odd``: the families whose row in the list is not usable.
    """

    begun_at: float
    read: LiveRead
    ended_at: float = float("inf")
    odd: frozenset[Family] = frozenset()


@dataclass(frozen=True, slots=True)
class Proof:
    """An acknowledgement or adoption in the store's records, in true time."""

    setting: Setting
    begun_at: float
    recorded_at: float
    file_number: int = 0
    acknowledged_to: str | None = None
    """The process whose request was acknowledged; None: it was adopted."""


@dataclass(slots=True)
class FileOrder:
    """The order in which the contents of settings files were accepted, restated from the port's contract.

    New content gets the next number. Content that was accepted before keeps its number, unless a process
    saw its file change to it, or a person applied it.
    """

    numbers: dict[str, int] = field(default_factory=dict)

    def accept(self, sha256: str, *, changed: bool) -> int:
        """Record that this content is in force somewhere; return its number."""
        newest = max(self.numbers.values(), default=0)
        if sha256 not in self.numbers or (changed and self.numbers[sha256] != newest):
            self.numbers[sha256] = newest + 1
        return self.numbers[sha256]


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was on record at one moment: proofs, and each attempt with its verdict."""

    proofs: Mapping[Family, Proof]
    verdicts: Mapping[int, str | None]


@dataclass(slots=True)
class Truth:
    """The record of one history. ``attempts`` in the order they were reserved in."""

    in_force: dict[Family, list[InForce]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    open_by_family: dict[Family, list[Attempt]] = field(default_factory=dict)
    proofs: dict[Family, Proof] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)
    last_change_behind: dict[Family, float] = field(default_factory=dict)
    files: FileOrder = field(default_factory=FileOrder)
    paused_at: dict[Family, float] = field(default_factory=dict)
    """Since when a family is paused by hand, as long as it is."""
    accepted: dict[Family, list[tuple[Setting, Attempt | None]]] = field(default_factory=dict)
    """Every setting that became the accepted one, with its request; None: it was live already."""
    accepted_at: dict[Family, list[float]] = field(default_factory=dict)
    """When live was recorded as the accepted setting, by family."""
    rejected: set[tuple[Family, Setting]] = field(default_factory=set)
    """The families and settings that a process reported as rejected by the exchange."""

    def now_in_force(self, family: Family) -> Setting | None:
        """Return the family's setting at the exchange at this moment."""
        log = self.in_force.get(family)
        return log[-1].setting if log else None

    def set_by_others(self, family: Family) -> frozenset[int]:
        """Return the indices of the fields (window, freeze, quantity) that others set as they are now.

        What this program accepted meanwhile counts as its own.
        """
        theirs: set[tuple[int, object]] = set()
        accepted = self.accepted_at.get(family, [])
        log = self.in_force.get(family, [])
        ends = [entry.at for entry in log[1:]] + [float("inf")]
        for entry, end in zip(log, ends, strict=True):
            if not entry.own:
                theirs |= set(enumerate(_fields(entry.setting)))
            if any(entry.at <= at < end for at in accepted):
                theirs = set()
        now = set(enumerate(_fields(self.now_in_force(family))))
        return frozenset(place for place, _ in now & theirs)

    def was_in_force(self, family: Family, setting: Setting, since: float) -> bool:
        """Tell whether the setting was in force at any moment from ``since`` on; no row is disabled."""
        log = self.in_force.get(family, [])
        ends = [entry.at for entry in log[1:]] + [float("inf")]
        return any(
            end >= since and same_effect(entry.setting, setting)
            for entry, end in zip(log, ends, strict=True)
        )

    def on_record(self) -> Recollection:
        """Return what is on record at this moment."""
        verdicts = {id(attempt): attempt.settled_as for attempt in self.attempts}
        return Recollection(dict(self.proofs), verdicts)

    def fall_back(self, before: Recollection) -> None:
        """Expect only the records that existed then: all later commits are lost.

        Later reservations are no longer on record. Their requests were sent or may have been, so each is an
        attempt without a verdict. No process knows a later proof or verdict.
        """
        self.proofs = dict(before.proofs)
        for attempt in self.attempts:
            attempt.settled_as = before.verdicts.get(id(attempt))

    def changed_by_another(self, process: str, family: Family, since: float) -> bool:
        """Tell whether a request that another process reserved later than ``since`` changed the family."""
        return any(
            entry.by is not None and entry.by.process != process and entry.by.reserved_at >= since
            for entry in self.in_force.get(family, ())
        )

    def take_back_acceptance(self, attempt: Attempt) -> None:
        """Forget an accepted setting if all of its requests certainly failed."""
        accepted = self.accepted.get(attempt.family, [])
        first = accepted[-1][1] if accepted else None
        if first is None:
            return
        requests = [one for one in self.attempts if one.family == attempt.family]
        if all(one.settled_as in ("rejected", "not-sent") for one in requests[requests.index(first) :]):
            accepted.pop()

    def put_in_force(
        self, at: float, family: Family, setting: Setting | None, *, own: bool, by: Attempt | None = None
    ) -> None:
        """Record a change at the exchange; an equal setting is no change."""
        log = self.in_force.setdefault(family, [])
        if log and log[-1].setting == setting:
            return
        log.append(InForce(at, setting, own, by))
        if not own:
            self.last_change_behind[family] = at


def _fields(setting: Setting | None) -> tuple[object, ...]:
    if setting is None:
        return (None, None, None)
    return setting.time_interval_ms, setting.frozen_interval_ms, setting.qty_limit


def same_effect(live: Setting | None, setting: Setting) -> bool:
    """Tell whether what is in force has the effect of ``setting``: a missing row protects nothing."""
    return setting.disabled if live is None else live == setting
