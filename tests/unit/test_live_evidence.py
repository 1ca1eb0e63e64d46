"""What reads prove that the planner's world does not reach: the row's own text, and unreadable rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.core.live_evidence import (
    Absent,
    MissingTooLong,
    NeedsSecondRead,
    NotRead,
    OrderUnknown,
    Reads,
    RecentlyMissing,
    Unreadable,
    evidence_of,
    last_proof,
    last_seen,
    newest_file,
    valid_after,
)
from reconciler.core.model import Family, FileVersion, Known, LiveRead, NeverApplied, Uncertain
from tests.unit.builders import BTC, ETH, confirmed, read, row, setting, unresolved

A, B = row("5000/2000/100"), row("5000/2000/400")
PROOF = confirmed("5000/2000/100", at=100.0)
ACKNOWLEDGED = replace(PROOF, acknowledged=True)
DOUBT = Uncertain(PROOF, (unresolved("5000/2000/400", reserved_at=102.0),))
ACKED_SINCE = Uncertain(PROOF, (unresolved("5000/2000/400", reserved_at=99.0),))
NEVER_PROVEN = Uncertain(None, (unresolved("1/1/1", reserved_at=7.0), unresolved("2/2/2", reserved_at=5.0)))


@pytest.mark.parametrize(
    ("known", "after"),
    [
        (NeverApplied(), float("-inf")),
        (PROOF, 100.0),
        (DOUBT, 102.0),
        (ACKED_SINCE, 100.0),
        (NEVER_PROVEN, 7.0),
    ],
)
def test_a_read_counts_after_the_last_proof_or_attempt(known: Known, after: float) -> None:
    assert valid_after(known) == after


def test_the_last_proof_is_the_one_on_record() -> None:
    assert last_proof(NeverApplied()) is None
    assert last_proof(PROOF) == last_proof(DOUBT) == PROOF
    assert last_proof(NEVER_PROVEN) is None


NAMED = {BTC: "qtyLimit is 1e3"}


@pytest.mark.parametrize(
    ("latest", "seen"),
    [
        (None, NotRead()),
        (read(100.0, {BTC: B}), NotRead()),
        (read(101.0, {BTC: B}), NeedsSecondRead(B)),
        (read(101.0, {BTC: A}), A),
        (read(105.0, {BTC: B}), B),
        (read(101.0, {}), RecentlyMissing()),
        (read(200.0, {}), RecentlyMissing()),
        (LiveRead(200.0, {}, NAMED), Unreadable("qtyLimit is 1e3")),
        (LiveRead(200.0, {BTC: B}, {ETH: "no"}), B),
        (
            LiveRead(200.0, {BTC: B}, odd_names={"BTC-USD": " btc-usd"}),
            Unreadable("a row is named ' btc-usd', which is almost this family's name"),
        ),
    ],
)
def test_what_one_read_proves_of_a_confirmed_family(latest: LiveRead | None, seen: object) -> None:
    assert evidence_of(BTC, PROOF, Reads(latest)) == seen


def missing(reads: int, every_s: float, *, answer: LiveRead | None = None, begins: float = 200.0) -> Reads:
    """Return the reads of a pass whose lists leave BTC-USD out, each followed by a read of it alone."""
    found = Reads()
    for number in range(reads):
        found = found.push(read(begins + number * every_s, {}))
        at = begins + number * every_s + 0.1
        found = found.without_answer(BTC, at) if answer is None else found.with_family(BTC, answer)
    return found


@pytest.mark.parametrize(
    ("reads", "seen"),
    [
        (missing(1, 1.0), RecentlyMissing()),
        (missing(2, 6.0), RecentlyMissing()),
        (missing(3, 2.0), RecentlyMissing()),
        (missing(3, 2.5), MissingTooLong(setting("5000/2000/100"), 200.0)),
        (missing(9, 30.0), MissingTooLong(setting("5000/2000/100"), 200.0)),
        (missing(1, 1.0, answer=LiveRead(200.1, {}, asked=BTC)), Absent()),
        (missing(1, 1.0, answer=LiveRead(200.1, {}, nameless=1, asked=BTC)), RecentlyMissing()),
        (missing(1, 1.0, answer=LiveRead(200.1, {}, NAMED, asked=BTC)), Unreadable("qtyLimit is 1e3")),
        (missing(1, 1.0, answer=LiveRead(200.1, {BTC: B}, asked=BTC)), B),
        (missing(1, 1.0, answer=LiveRead(101.1, {}, asked=BTC), begins=101.0), NeedsSecondRead(None)),
        (missing(1, 1.0, answer=LiveRead(99.0, {}, asked=BTC)), RecentlyMissing()),
    ],
)
def test_a_family_that_lists_leave_out_is_gone_only_if_its_own_read_says_so(
    reads: Reads, seen: object
) -> None:
    assert evidence_of(BTC, PROOF, reads) == seen


@pytest.mark.parametrize(("begun_at", "seen"), [(230.0, Absent()), (230.1, RecentlyMissing())])
def test_that_a_family_is_gone_is_confirmed_for_thirty_seconds(begun_at: float, seen: object) -> None:
    gone = missing(1, 1.0, answer=LiveRead(200.1, {}, asked=BTC))
    assert evidence_of(BTC, PROOF, gone.push(read(begun_at, {}))) == seen


def test_the_last_row_seen_is_remembered_and_a_newer_proof_outdates_it() -> None:
    reads = Reads().push(read(110.0, {BTC: B})).push(read(120.0, {}))
    assert last_seen(BTC, PROOF, reads) == B.setting
    assert last_seen(BTC, confirmed("1/1/1", at=115.0), reads) == setting("1/1/1")
    assert last_seen(BTC, NeverApplied(), reads) == B.setting
    assert last_seen(ETH, NeverApplied(), reads) is None
    assert reads.forgotten().latest is None
    assert last_seen(BTC, PROOF, reads.forgotten()) == B.setting
    assert isinstance(evidence_of(BTC, PROOF, reads), RecentlyMissing)
    assert evidence_of(BTC, PROOF, replace(reads, display=True)) == Absent()
    again = reads.push(read(130.0, {BTC: A}))
    assert not again.missing


@pytest.mark.parametrize(
    ("known", "nameless", "seen"),
    [
        (NeverApplied(), 0, Absent()),
        (NeverApplied(), 1, RecentlyMissing()),
        (confirmed("0/2000/100", at=100.0), 0, Absent()),
        (confirmed("0/2000/100", at=100.0), 1, RecentlyMissing()),
    ],
)
def test_a_family_that_was_never_seen_or_is_disabled_needs_confirmation_beside_a_nameless_row_only(
    known: Known, nameless: int, seen: object
) -> None:
    assert evidence_of(BTC, known, Reads(LiveRead(101.0, {}, nameless=nameless))) == seen


def test_a_family_never_seen_beside_a_nameless_row_stays_unconfirmed_without_a_setting() -> None:
    found = Reads()
    for number in range(3):
        found = found.push(LiveRead(200.0 + 3 * number, {}, nameless=1)).without_answer(
            BTC, 201.0 + 3 * number
        )
    assert evidence_of(BTC, NeverApplied(), found) == MissingTooLong(None, 200.0)


@pytest.mark.parametrize(
    ("known", "number"),
    [
        (NeverApplied(), 0),
        (replace(PROOF, file=FileVersion("a", 3)), 3),
        (Uncertain(None, (replace(DOUBT.unresolved[0], file=FileVersion("b", 5)),)), 5),
        (
            Uncertain(
                replace(PROOF, file=FileVersion("a", 7)),
                (replace(DOUBT.unresolved[0], file=FileVersion("b", 5)),),
            ),
            7,
        ),
    ],
)
def test_the_newest_file_of_a_family_is_that_of_its_newest_record(known: Known, number: int) -> None:
    assert newest_file(known).number == number


@pytest.mark.parametrize(
    ("known", "begun_at", "proved", "seen"),
    [
        (PROOF, 99.0, {ETH: 1}, OrderUnknown()),
        (PROOF, 99.999, {}, OrderUnknown()),
        (PROOF, 100.0, {}, NotRead()),
        (PROOF, 99.0, {BTC: 1}, OrderUnknown()),  # recorded by a read of another process
        (ACKNOWLEDGED, 99.0, {BTC: ACKNOWLEDGED.attempt}, NotRead()),
        (ACKNOWLEDGED, 99.0, {BTC: ACKNOWLEDGED.attempt - 1}, OrderUnknown()),
        (PROOF, 100.001, {}, NeedsSecondRead(B)),
        (PROOF, 105.0, {}, B),
        (DOUBT, 99.0, {}, NotRead()),
        (NeverApplied(), 99.0, {}, B),
    ],
)
def test_a_proof_by_another_process_since_a_read_needs_another_read(
    known: Known, begun_at: float, proved: dict[Family, int], seen: object
) -> None:
    reads = Reads(read(begun_at, {BTC: B})).with_record({BTC: known}, proved)
    assert evidence_of(BTC, known, reads) == seen


def test_only_a_read_can_be_overtaken_and_the_next_one_is_not() -> None:
    assert Reads().with_record({BTC: PROOF}, {}) == Reads()
    overtaken = Reads(read(99.0, {})).with_record(
        {BTC: PROOF, ETH: ACKNOWLEDGED}, {ETH: ACKNOWLEDGED.attempt}
    )
    assert overtaken.overtaken == {BTC}
    assert not overtaken.push(read(101.0, {})).with_record({BTC: PROOF}, {}).overtaken
