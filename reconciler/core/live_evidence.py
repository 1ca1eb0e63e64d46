"""What a live read proves of one family, given what we did to it before.

A read counts for a family only if it began after the family's last proof or attempt. It is not documented
how soon a read sees a write [unknown], so a difference within 5 s of a write is only a reason to read
again: two reads that lag alike agree on an old value. For the same reason a read ends a doubt only if it
began 5 s after the last moment the attempt can take effect.

A list that leaves a family out does not prove that its setting is gone: a partial answer looks the same,
and it is not documented whether a disabled family keeps its row [unknown]. A family whose row or proof
was seen before is gone only if a read of that family alone (a *single-family read*) shows no row. While
those reads fail, the family is in doubt for 5 s and three lists. After that, only a setting at least as
tight as the last one seen may be sent.

A setting that this pass proved since its read needs no new read. A setting that another process proved
does, because its record may be seen long after the fact: the clocks of two hosts cannot be compared, and a
verdict may be recorded late. So the read may show a later setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from reconciler.core.model import (
    NO_FILE,
    Confirmed,
    Family,
    FileVersion,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    OpenAttempt,
    Setting,
    Uncertain,
    fold_name,
)

READ_LAG_S = 5.0
"""How far a read may lag: for so long after a write it may still show the time before it [assumed]."""

SECOND_READ_AFTER_S = 1.0
"""The gap between two reads that must agree. Two processes reading like this stay within OKX's limit of 5
reads in 2 s [doc]."""

MAX_REPEAT_S = 30.0
"""The longest pause between reads that directly follow each other."""

MAX_SURVEY_READS = int(READ_LAG_S / SECOND_READ_AFTER_S) + 3
"""The most reads of a survey, which sends nothing (import, standby); enough to pass 5 s after a write.
A pass repeats so many reads before its back-off grows."""

ABSENCE_VALID_S = 30.0
"""How long a single-family read without a row proves that the family is absent."""

MISSING_FOR_S = 5.0
MISSING_LISTS = 3
"""How long, and in how many lists, a family must be missing before anything is decided although no
single-family read confirmed that it is gone."""


@dataclass(frozen=True, slots=True)
class NotRead:
    """No read counts for this family."""


@dataclass(frozen=True, slots=True)
class OrderUnknown:
    """Another process's proof was first seen after the read began: which of the two is older is unknown."""


@dataclass(frozen=True, slots=True)
class NeedsSecondRead:
    """One read differs where two must agree. ``row`` is what it showed, None for a missing row."""

    row: LiveRow | None


@dataclass(frozen=True, slots=True)
class Absent:
    """The exchange has no setting of this family, as far as it can be proved."""


@dataclass(frozen=True, slots=True)
class RecentlyMissing:
    """The list leaves out a family that was seen before; it is read again to confirm that it is gone."""


@dataclass(frozen=True, slots=True)
class MissingTooLong:
    """As :class:`RecentlyMissing`, for at least 5 s and three lists; single-family reads did not help.

    ``last`` is the last setting seen, None: none was. ``since`` is when the first list without it began.
    """

    last: Setting | None
    since: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The family's row cannot be read, or a row's name is almost the family's; ``why`` says which."""

    why: str


Evidence = (
    NotRead
    | OrderUnknown
    | NeedsSecondRead
    | RecentlyMissing
    | MissingTooLong
    | Unreadable
    | Absent
    | LiveRow
)

InDoubt = NeedsSecondRead | OrderUnknown | RecentlyMissing | MissingTooLong | Unreadable
"""What was read does not prove what is live."""


@dataclass(frozen=True, slots=True)
class SeenRow:
    """A family's row as a read that began ``at`` that instant showed it."""

    row: LiveRow
    at: float


@dataclass(frozen=True, slots=True)
class MissingRow:
    """A family that lists have left out: since which read, in how many lists in a row.

    ``gone_at`` is when a single-family read began that showed no row; None while none did.
    ``single_read_at`` is when the last single-family read began, or failed; None while none was sent.
    """

    since: float
    lists: int
    gone_at: float | None = None
    single_read_at: float | None = None

    def confirms(self, read: LiveRead) -> bool:
        """Tell whether a recent single-family read confirmed that ``read`` rightly omits the family."""
        return self.gone_at is not None and self.gone_at > read.begun_at - ABSENCE_VALID_S


@dataclass(frozen=True, slots=True)
class Reads:
    """The newest live read of one pass, and what this process remembers of reads before it.

    ``overtaken``: the families with a proof of another process, first seen since the latest read began.
    ``repeated`` counts the reads that directly followed another before the latest one.
    ``single_family_read_at`` is when the last single-family read was sent or failed, whatever it showed.
    ``rows`` are the last rows this process saw, ``missing`` the families that lists leave out. ``display``:
    the read is shown, not acted on, so a missing row is shown as gone.
    """

    latest: LiveRead | None = None
    overtaken: frozenset[Family] = frozenset()
    repeated: int = 0
    single_family_read_at: float = float("-inf")
    rows: Mapping[Family, SeenRow] = field(default_factory=dict)
    missing: Mapping[Family, MissingRow] = field(default_factory=dict)
    display: bool = False

    def push(self, read: LiveRead, *, repeated: bool = False) -> Reads:
        """Return these reads with the list ``read`` as the newest; ``repeated``: right after one."""
        absent = (self.rows.keys() | self.missing.keys()) - read.rows.keys()
        return replace(
            self,
            latest=read,
            overtaken=frozenset(),
            repeated=self.repeated + 1 if repeated else 0,
            rows=self._with_rows(read),
            missing={family: _missed(self.missing.get(family), read) for family in absent},
        )

    def with_family(self, family: Family, read: LiveRead) -> Reads:
        """Return these reads with a single-family read: what it shows counts as part of the latest."""
        assert self.latest is not None, "a single family is read only after a list left it out"
        latest = replace(
            self.latest,
            rows={**self.latest.rows, **read.rows},
            unreadable={**self.latest.unreadable, **read.unreadable},
            odd_names={**self.latest.odd_names, **read.odd_names},
        )
        if family in read.rows:
            rest = {one: missing for one, missing in self.missing.items() if one != family}
            rows = self._with_rows(read)
            return replace(
                self, latest=latest, rows=rows, missing=rest, single_family_read_at=read.begun_at
            )
        gone_at = None if read.nameless else read.begun_at
        return replace(self._after_single_read(family, read.begun_at, gone_at), latest=latest)

    def without_answer(self, family: Family, at: float) -> Reads:
        """Return these reads after a single-family read of ``family`` failed at ``at``."""
        return self._after_single_read(family, at)

    def last_seen_of_missing(self) -> dict[Family, LiveRow]:
        """Return the last rows of families that the list leaves out and that may not be gone."""
        return {
            family: self.rows[family].row
            for family, missing in self.missing.items()
            if missing.gone_at is None and family in self.rows
        }

    def forgotten(self) -> Reads:
        """Return these reads without the latest one, which can no longer be relied on; the memory stays."""
        return replace(self, latest=None, overtaken=frozenset(), repeated=0)

    def with_record(self, known: Mapping[Family, Known], proved: Mapping[Family, int]) -> Reads:
        """Return these reads beside a newer record.

        The pass itself ``proved`` some families since the latest read, by these attempts. What another
        process proved later replaces them on record.

        A read is overtaken only by a proof first seen after the read began, so each repeated read has a new
        proof as its cause. The rate limit allows two requests in 10 s, so requests cause at most two
        repeated reads in 10 s. Adoptions are not limited; then the reads are still 1 s apart.
        """
        if self.latest is None:
            return self
        return replace(self, overtaken=_proved_since(self.latest, known, proved))

    def _with_rows(self, read: LiveRead) -> dict[Family, SeenRow]:
        seen = {family: SeenRow(row, read.begun_at) for family, row in read.rows.items()}
        return {**self.rows, **seen}

    def _after_single_read(self, family: Family, at: float, gone_at: float | None = None) -> Reads:
        assert self.latest is not None, "a single family is read only after a list left it out"
        before = self.missing.get(family) or _missed(None, self.latest)
        after = replace(before, single_read_at=at, gone_at=gone_at)
        return replace(self, missing={**self.missing, family: after}, single_family_read_at=at)


NO_READS = Reads()
"""Nothing was read, and nothing is remembered."""


def evidence_of(family: Family, known: Known, reads: Reads) -> Evidence:
    """Return what ``reads`` prove of ``family``."""
    latest, after = reads.latest, valid_after(known)
    if latest is None or latest.begun_at <= after:
        return OrderUnknown() if family in reads.overtaken else NotRead()
    if (why := why_unreadable(family, latest)) is not None:
        return Unreadable(why)
    row = latest.rows.get(family)
    if row is None:
        return _view_of_missing(family, known, reads, latest)
    return row if _one_read_is_enough(row, known, latest) else NeedsSecondRead(row)


def why_unreadable(family: Family, read: LiveRead) -> str | None:
    """Return why what ``read`` shows of ``family`` cannot be read; None where it can, or shows nothing."""
    if family in read.unreadable:
        return read.unreadable[family]
    odd = read.odd_names.get(fold_name(family))
    if odd is None:
        return None
    named = f"{odd!r} with blanks around it" if odd == family else repr(odd)  # they are trimmed in a read
    return f"a row is named {named}, which is almost this family's name"


def last_seen(family: Family, known: Known, reads: Reads) -> Setting | None:
    """Return the last setting seen of a family, by a row or a proof; None: none was."""
    row, proof = reads.rows.get(family), last_proof(known)
    if proof is None or (row is not None and row.at > proof.at):
        return None if row is None else row.row.setting
    return proof.setting


def reflects_until(begun_at: float) -> float:
    """Return the instant until which a read begun at ``begun_at`` shows all that took effect.

    What took effect later may be missing from it: it is not documented how soon a read sees a write.
    """
    return begun_at - READ_LAG_S


def repeat_after_s(repeated: int) -> float:
    """Return how long after a read ended another may directly follow it.

    1 s for the first reads (see MAX_SURVEY_READS), then 2, 4, up to 30 s: more reads do not end the doubt
    any sooner.
    """
    return float(
        min(MAX_REPEAT_S, SECOND_READ_AFTER_S * 2 ** max(0, min(repeated, 20) - MAX_SURVEY_READS + 1))
    )


def valid_after(known: Known) -> float:
    """Return the instant after which a read must begin to count for a family."""
    match known:
        case NeverApplied():
            return float("-inf")
        case Confirmed(at=at):
            return at
        case Uncertain(last=last, unresolved=unresolved):
            newest = max(attempt.reserved_at for attempt in unresolved)
            return newest if last is None else max(newest, last.at)
        case _:
            assert_never(known)


def last_proof(known: Known) -> Confirmed | None:
    """Return the newest proof of what was in force; None when there never was one."""
    match known:
        case NeverApplied():
            return None
        case Confirmed():
            return known
        case Uncertain(last=last):
            return last
        case _:
            assert_never(known)


def open_attempts(known: Known) -> tuple[OpenAttempt, ...]:
    """Return the requests without a definite answer."""
    return known.unresolved if isinstance(known, Uncertain) else ()


def newest_file(known: Known, *, excluding: Setting | None = None) -> FileVersion:
    """Return the newest settings file that a proof or open attempt of the family came from.

    ``excluding``: records that carry this setting do not count.
    """
    proof = last_proof(known)
    records = [] if proof is None else [(proof.file, proof.setting)]
    records += [(attempt.file, attempt.setting) for attempt in open_attempts(known) if attempt.setting]
    files = (file for file, setting in records if setting != excluding)
    return max(files, key=lambda file: file.number, default=NO_FILE)


def _missed(before: MissingRow | None, read: LiveRead) -> MissingRow:
    """Return what is known of a missing family after one more list that leaves it out."""
    if before is None:
        return MissingRow(since=read.begun_at, lists=1)
    if before.gone_at is not None and not before.confirms(read):
        return MissingRow(since=read.begun_at, lists=1, single_read_at=before.single_read_at)
    return replace(before, lists=before.lists + 1)


def _view_of_missing(family: Family, known: Known, reads: Reads, latest: LiveRead) -> Evidence:
    """Return what a list says of a family that it leaves out."""
    last = last_seen(family, known, reads)
    certain = not latest.nameless and (last is None or last.disabled)
    if certain or reads.display:
        return Absent()
    missing = reads.missing.get(family)
    if missing is None:
        return RecentlyMissing()
    if missing.gone_at is not None and missing.confirms(latest) and missing.gone_at > valid_after(known):
        return Absent() if _settled(known, latest) else NeedsSecondRead(None)
    return MissingTooLong(last, missing.since) if _missing_for_long(missing, latest) else RecentlyMissing()


def _missing_for_long(missing: MissingRow, latest: LiveRead) -> bool:
    """Tell whether the wait is over: 5 s, three lists, and a single-family read that did not help."""
    was_read = missing.single_read_at is not None and missing.single_read_at >= missing.since
    long = latest.begun_at >= missing.since + MISSING_FOR_S
    return was_read and long and missing.lists >= MISSING_LISTS


def _proved_since(
    read: LiveRead, known: Mapping[Family, Known], proved: Mapping[Family, int]
) -> frozenset[Family]:
    """Return the families whose proof may be newer than a read, and is none of ``proved``.

    A family just adopted is proven by that very read. Uncertain families are skipped: they are always read
    again before a write.
    """
    return frozenset(
        family
        for family, one in known.items()
        if isinstance(one, Confirmed)
        and one.at > read.begun_at
        and not (one.acknowledged and proved.get(family) == one.attempt)
    )


def _one_read_is_enough(row: LiveRow, known: Known, read: LiveRead) -> bool:
    proof = last_proof(known)
    return proof is None or row.setting == proof.setting or _settled(known, read)


def _settled(known: Known, read: LiveRead) -> bool:
    """Tell whether a read began long enough after the last proof to show what came after it."""
    proof = last_proof(known)
    return proof is None or reflects_until(read.begun_at) >= proof.at
