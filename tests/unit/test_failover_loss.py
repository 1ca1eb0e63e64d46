"""When the record of a User ID's requests may lack some: every two histories, and every age of a sight."""

from __future__ import annotations

import itertools

import pytest

from reconciler.core.failover_loss import SeenTable, SeenTimeline, may_have_lost
from reconciler.core.pacing import GUARD_S, LATEST_ARRIVAL_S

COUNTS_S = LATEST_ARRIVAL_S + GUARD_S
NOW = 5000.0
ONE, TEN, SIXTEEN, ELSEWHERE = "77/00000001", "77/0000000A", "77/00000010", "78/00000001"
HISTORIES = (ONE, TEN, SIXTEEN, ELSEWHERE)
ORDER = (ONE, TEN, SIXTEEN)
AGES_S = (0.0, 1.0, COUNTS_S - 0.01, COUNTS_S, 1e6)


@pytest.mark.parametrize(("recorded", "current"), list(itertools.permutations(HISTORIES, 2)))
def test_a_record_of_another_history_lacks_requests_that_were_not_counted(
    recorded: str, current: str
) -> None:
    for history, age in itertools.product(HISTORIES, AGES_S):
        assert may_have_lost(recorded, SeenTimeline(current, NOW), SeenTimeline(history, NOW - age))
    assert may_have_lost(recorded, SeenTimeline(current, NOW), None)


@pytest.mark.parametrize("current", HISTORIES)
def test_a_record_of_this_history_is_complete_for_a_process_that_saw_no_other(current: str) -> None:
    assert not may_have_lost(current, SeenTimeline(current, NOW), None)
    for age in AGES_S:
        assert not may_have_lost(current, SeenTimeline(current, NOW), SeenTimeline(current, NOW - age))


@pytest.mark.parametrize(("earlier", "later"), list(itertools.combinations(ORDER, 2)))
def test_an_old_primary_that_comes_back_is_known_by_the_later_one_whenever_that_was(
    earlier: str, later: str
) -> None:
    for age in AGES_S:
        assert may_have_lost(earlier, SeenTimeline(earlier, NOW), SeenTimeline(later, NOW - age))


@pytest.mark.parametrize("seen", ORDER)
def test_another_cluster_is_no_later_one(seen: str) -> None:
    for age in AGES_S:
        assert may_have_lost(ELSEWHERE, SeenTimeline(ELSEWHERE, NOW), SeenTimeline(seen, NOW - age))
        assert may_have_lost(seen, SeenTimeline(seen, NOW), SeenTimeline(ELSEWHERE, NOW - age))


@pytest.mark.parametrize(("earlier", "later"), list(itertools.combinations(ORDER, 2)))
def test_a_counted_failover_is_counted_again_only_by_a_process_that_may_have_reserved_since(
    earlier: str, later: str
) -> None:
    lost = [
        may_have_lost(later, SeenTimeline(later, NOW), SeenTimeline(earlier, NOW - age)) for age in AGES_S
    ]
    assert lost == [True, True, True, False, False]


@pytest.mark.parametrize("age", AGES_S)
def test_a_record_in_another_table_than_was_seen_may_be_a_restored_one(age: float) -> None:
    now = SeenTimeline(ONE, NOW, table=8)
    assert may_have_lost(ONE, now, SeenTimeline(ONE, NOW - age, table=7))
    assert not may_have_lost(ONE, now, SeenTimeline(ONE, NOW - age, table=8))
    assert not may_have_lost(ONE, now, None)


@pytest.mark.parametrize(
    ("after_s", "seen_at", "expected"),
    [
        (0.0, None, True),
        (COUNTS_S - 0.01, None, True),
        (COUNTS_S, None, False),
        (0.0, NOW - 1e6, True),
        (COUNTS_S - 0.01, NOW - 0.01, True),
        (COUNTS_S, NOW - 0.01, False),
        (0.0, NOW, False),
        (5.0, NOW + 1.0, False),
    ],
)
def test_another_table_may_lack_requests_of_every_user_id_as_long_as_they_would_count(
    after_s: float, seen_at: float | None, expected: bool
) -> None:
    sight = SeenTable(7).then(7, NOW - 100.0).then(8, NOW).then(8, NOW + 1.0)
    assert sight == SeenTable(8, since=NOW)
    assert sight.may_lack_requests(NOW + after_s, seen_at) == expected


@pytest.mark.parametrize("seen_at", [None, NOW])
def test_the_first_table_that_a_process_sees_lacks_nothing(seen_at: float | None) -> None:
    assert not SeenTable(7).then(7, NOW).may_lack_requests(NOW, seen_at)
