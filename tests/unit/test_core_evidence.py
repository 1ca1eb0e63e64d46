"""What reads prove that the planner's world does not reach: the row's own text, and unreadable rows."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from reconciler.core.evidence import (
    Absent,
    Doubtful,
    NotRead,
    Overtaken,
    Reads,
    counts_after,
    last_proof,
    unreadable_managed,
    view,
)
from reconciler.core.model import Family, Known, LiveRead, LiveRow, Never, Uncertain
from tests.unit.core_builders import BTC, ETH, SOL, confirmed, desired, read, row, setting, unresolved

A, B = row("5000/2000/100"), row("5000/2000/400")
PROOF = confirmed("5000/2000/100", at=100.0)
DOUBT = Uncertain(PROOF, (unresolved("5000/2000/400", reserved_at=102.0),))
ACKED_SINCE = Uncertain(PROOF, (unresolved("5000/2000/400", reserved_at=99.0),))
NEVER_PROVEN = Uncertain(None, (unresolved("1/1/1", reserved_at=7.0), unresolved("2/2/2", reserved_at=5.0)))


@pytest.mark.parametrize(
    ("known", "after"),
    [(Never(), float("-inf")), (PROOF, 100.0), (DOUBT, 102.0), (ACKED_SINCE, 100.0), (NEVER_PROVEN, 7.0)],
)
def test_a_read_counts_after_the_last_proof_or_attempt(known: Known, after: float) -> None:
    assert counts_after(known) == after


def test_the_last_proof_is_the_one_on_record() -> None:
    assert last_proof(Never()) is None
    assert last_proof(PROOF) == last_proof(DOUBT) == PROOF
    assert last_proof(NEVER_PROVEN) is None


def test_of_two_agreeing_reads_the_newest_row_is_shown_with_its_freeze() -> None:
    frozen = row("5000/2000/400.0", frozen=True)
    reads = Reads().then(read(104.0, {BTC: B})).then(read(105.0, {BTC: frozen}))
    seen = view(BTC, PROOF, reads)
    assert isinstance(seen, LiveRow)
    assert seen == frozen


def test_only_the_last_two_reads_are_kept() -> None:
    first, second, third = (read(at, {}) for at in (1.0, 2.0, 3.0))
    assert Reads().then(first).then(second).then(third) == Reads(third, second)


@pytest.mark.parametrize(
    ("latest", "previous", "seen"),
    [
        (None, None, NotRead()),
        (read(100.0, {BTC: B}), None, NotRead()),
        (read(101.0, {BTC: B}), None, Doubtful(B)),
        (read(101.0, {BTC: A}), None, A),
        (read(101.0, {}), None, Doubtful(None)),
        (read(200.0, {}), None, Doubtful(None)),
        (read(200.0, {}), read(199.0, {}), Absent()),
        (read(200.0, {}), read(199.0, {BTC: A}), Doubtful(None)),
        (read(101.5, {BTC: B}), read(101.0, {}), Doubtful(B)),
        (read(101.5, {BTC: B}), read(101.0, {ETH: B}), Doubtful(B)),
    ],
)
def test_what_reads_prove_of_a_confirmed_family(
    latest: LiveRead | None, previous: LiveRead | None, seen: object
) -> None:
    assert view(BTC, PROOF, Reads(latest, previous)) == seen


@pytest.mark.parametrize(
    ("known", "begun_at", "proved", "seen"),
    [
        (PROOF, 99.0, {ETH}, Overtaken()),
        (PROOF, 99.999, (), Overtaken()),
        (PROOF, 100.0, (), NotRead()),
        (PROOF, 99.0, {BTC}, NotRead()),
        (PROOF, 100.001, (), Doubtful(B)),
        (PROOF, 105.0, (), B),
        (DOUBT, 99.0, (), NotRead()),
        (Never(), 99.0, (), B),
    ],
)
def test_what_somebody_else_proved_since_a_read_takes_another_one(
    known: Known, begun_at: float, proved: Collection[Family], seen: object
) -> None:
    reads = Reads(read(begun_at, {BTC: B})).beside({BTC: known}, frozenset(proved))
    assert view(BTC, known, reads) == seen


def test_only_a_read_can_be_overtaken_and_the_next_one_is_not() -> None:
    assert Reads().beside({BTC: PROOF}, frozenset()) == Reads()
    overtaken = Reads(read(99.0, {})).beside({BTC: PROOF, ETH: PROOF}, {ETH})
    assert overtaken.overtaken == {BTC}
    assert not overtaken.then(read(101.0, {})).beside({BTC: PROOF}, frozenset()).overtaken


def test_a_missing_row_is_in_sync_at_once_where_disabled_was_confirmed() -> None:
    assert view(BTC, confirmed("0/2000/100", at=100.0), Reads(read(101.0, {}))) == Absent()


def test_the_first_unreadable_row_that_matters_is_named() -> None:
    bad: dict[Family, str] = {SOL: "no qtyLimit", BTC: "qtyLimit is 1e3", ETH: "no window"}
    wanted = desired({ETH: setting("1/1/1"), BTC: setting("1/1/1")})
    assert unreadable_managed(LiveRead(1.0, {}, bad), wanted) == (BTC, "qtyLimit is 1e3")
    assert unreadable_managed(LiveRead(1.0, {}, {SOL: "no qtyLimit"}), wanted) is None
