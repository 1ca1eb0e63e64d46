"""What a live read proves of one family, given what we did to it before.

A read counts for a family only if it began after the family's last proof or attempt. Nobody documents
how soon a read sees a write [unknown], so a difference within 5 s of a write is only a reason to read
again: two reads that lag alike agree on what is no longer true. For the same reason a read ends a doubt
only if it began 5 s after the last moment the attempt can take effect. Nobody documents whether a disabled
family keeps its row either [unknown], so a missing row needs two reads unless disabled was confirmed.

What a pass itself proved since its read stands without another. What somebody else proved does not: its
record may be seen long after the fact (another host's clock says nothing here, and a verdict may be
recorded late), and the read may show what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import assert_never

from reconciler.core.model import (
    Confirmed,
    Desired,
    Family,
    Known,
    LiveRead,
    LiveRow,
    Never,
    Uncertain,
)

SETTLING_S = 5.0
"""How far a read may lag: for so long after a write it may still show the time before it [assumed]."""

SECOND_READ_AFTER_S = 1.0
"""Between two reads that are to agree: two processes doing so stay inside the 5 per 2 s [doc]."""

SURVEY_READS = int(SETTLING_S / SECOND_READ_AFTER_S) + 3
"""Reads of a dry run at the most: through the time after a write in which a difference is doubted."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """No read counts for this family."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """Somebody else's proof was first seen after the read began: which of the two is older nobody knows."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """One read differs where two must agree. ``row`` is what it showed, None for a missing row."""

    row: LiveRow | None


@dataclass(frozen=True, slots=True)
class Absent:
    """The exchange lists no row for this family, as far as it can be proved."""


View = NotRead | Overtaken | Doubtful | Absent | LiveRow


@dataclass(frozen=True, slots=True)
class Reads:
    """The last two live reads of one pass; either may be None.

    ``overtaken``: the families of which somebody else proved something, first seen since the latest began.
    """

    latest: LiveRead | None = None
    previous: LiveRead | None = None
    overtaken: frozenset[Family] = frozenset()

    def then(self, read: LiveRead) -> Reads:
        """Return these reads with ``read`` as the newest."""
        return Reads(latest=read, previous=self.latest)

    def beside(self, known: Mapping[Family, Known], proved: Set[Family]) -> Reads:
        """Return these reads beside a newer record; the pass itself ``proved`` some of it since the latest.

        A read begun after all of ``known`` was first seen is overtaken by none of it, so each time a read
        has to be repeated somebody else proved something meanwhile: twice in ten seconds at the most.
        """
        if self.latest is None:
            return self
        return replace(self, overtaken=_proved_since(self.latest, known) - proved)


def view(family: Family, known: Known, reads: Reads) -> View:
    """Return what ``reads`` prove of ``family``."""
    after = counts_after(known)
    if reads.latest is None or reads.latest.begun_at <= after:
        return Overtaken() if family in reads.overtaken else NotRead()
    row = reads.latest.rows.get(family)
    if _one_read_is_enough(row, known, reads.latest):
        return Absent() if row is None else row
    if _settled(known, reads.latest) and _was_missing(family, reads.previous, after):
        return Absent()
    return Doubtful(row)


def shown_until(begun_at: float) -> float:
    """Return the instant until which whatever took effect is shown by a read begun at ``begun_at``.

    What took effect later may be missing from it: nobody documents how soon a read sees a write.
    """
    return begun_at - SETTLING_S


def counts_after(known: Known) -> float:
    """Return the instant after which a read must begin to count for a family."""
    match known:
        case Never():
            return float("-inf")
        case Confirmed(at=at):
            return at
        case Uncertain(last=last, unresolved=unresolved):
            newest = max(attempt.reserved_at for attempt in unresolved)
            return newest if last is None else max(newest, last.at)
        case _:
            assert_never(known)


def unreadable_managed(read: LiveRead, desired: Desired) -> tuple[Family, str] | None:
    """Return the first desired family whose live row makes no sense, with what was wrong."""
    for family in sorted(read.unreadable):
        if family in desired.families:
            return family, read.unreadable[family]
    return None


def last_proof(known: Known) -> Confirmed | None:
    """Return the newest proof of what was in force; None when there never was one."""
    match known:
        case Never():
            return None
        case Confirmed():
            return known
        case Uncertain(last=last):
            return last
        case _:
            assert_never(known)


def _proved_since(read: LiveRead, known: Mapping[Family, Known]) -> frozenset[Family]:
    """Return the families whose proof may be newer than a read: one just adopted is that very read.

    What is uncertain needs no such care: it is never in sync, and never written without a new read.
    """
    return frozenset(
        family for family, one in known.items() if isinstance(one, Confirmed) and one.at > read.begun_at
    )


def _one_read_is_enough(row: LiveRow | None, known: Known, read: LiveRead) -> bool:
    proof = last_proof(known)
    if proof is None:
        return True
    if row is None:
        return proof.setting.disabled
    return row.setting == proof.setting or _settled(known, read)


def _settled(known: Known, read: LiveRead) -> bool:
    """Tell whether a read began long enough after the last proof to show what came after it."""
    proof = last_proof(known)
    return proof is None or shown_until(read.begun_at) >= proof.at


def _was_missing(family: Family, previous: LiveRead | None, after: float) -> bool:
    """Tell whether the read before counts too and had no row either: then two reads agree.

    Asked only about a missing row: from the settling time on, one read of a row is enough.
    """
    return previous is not None and previous.begun_at > after and family not in previous.rows
