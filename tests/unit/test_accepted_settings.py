"""The accepted settings of a family: which one counts, and from when, over all short histories."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from reconciler.core.accepted_settings import (
    MIN_RETAINED,
    RETENTION,
    History,
    accepted,
    at_start,
    enabled_throughout,
    is_sent_later,
    last_enabled,
    may_be_live,
    needed,
    was_accepted,
)
from reconciler.core.model import Acceptance, Known, NeverApplied, OpenAttempt, Setting, Uncertain
from tests.unit.builders import confirmed, setting, unresolved

A, B, C, OFF = map(setting, ("5000/2000/100", "5000/2000/200", "5000/2000/300", "0/2000/100"))
WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

PROOF = confirmed("5000/2000/100", attempt=1)
OPEN_B = OpenAttempt(5, B, 901.0, 936.0)


def history(*entries: tuple[Setting, int]) -> History:
    return tuple(Acceptance(one, number) for one, number in entries)


@pytest.mark.parametrize(
    ("of", "known", "counts", "live"),
    [
        ((), NeverApplied(), None, set()),
        ((), PROOF, A, {A}),
        ((), Uncertain(PROOF, (OPEN_B,)), B, {A, B}),
        ((), Uncertain(None, (OPEN_B,)), B, {B}),
        ((), Uncertain(None, (OpenAttempt(7, None, 901.0, 936.0),)), None, set()),
        # Its request was sent after the proof, and nothing proves that it took effect.
        (history((A, 1), (B, 5)), Uncertain(PROOF, (OPEN_B,)), B, {A, B}),
        (history((A, 1), (B, 5)), PROOF, B, {A, B}),
        # It took effect; of the first setting no request is open.
        (history((A, 1), (B, 5)), confirmed("5000/2000/200", attempt=5), B, {B}),
        # A target was proven that leaves some fields tighter.
        (history((A, 1), (B, 5)), confirmed("5000/2000/1", attempt=6), B, {B}),
        # A request of B may still take effect, though C was proven.
        (history((A, 1), (B, 5), (C, 6)), Uncertain(confirmed("1/1/1", attempt=6), (OPEN_B,)), C, {B, C}),
        (history((A, 1), (B, 5), (C, 6)), Uncertain(PROOF, (OPEN_B,)), C, {A, B, C}),
        (history((A, 1), (B, 5), (A, 9)), confirmed("5000/2000/100", attempt=9), A, {A}),
        # Adopted after the newest request: no request was sent for it.
        ((*history((A, 1)), Acceptance(B, 1, requested=False)), PROOF, B, {B}),
    ],
)
def test_which_setting_counts_and_which_may_be_live(
    of: History, known: Known, counts: Setting | None, live: set[Setting]
) -> None:
    assert accepted(of, known) == counts
    found = may_be_live(of, known)
    assert set(found) == live
    assert found[:1] == (() if counts is None else (counts,))


@pytest.mark.parametrize(
    ("of", "known", "value", "later"),
    [
        # B was rejected by a later request of it, so A is accepted again; the earlier one may take effect.
        (history((A, 1)), Uncertain(PROOF, (OPEN_B,)), B, True),
        (history((A, 1)), Uncertain(PROOF, (OPEN_B,)), C, False),
        (history((A, 1)), PROOF, A, False),
        (history((A, 1), (B, 5), (C, 6)), Uncertain(PROOF, (OPEN_B,)), B, False),
        ((), Uncertain(PROOF, (OPEN_B,)), B, False),
        ((), NeverApplied(), B, False),
    ],
)
def test_a_request_is_later_than_what_is_accepted_only_by_its_number(
    of: History, known: Known, value: Setting, later: bool
) -> None:
    assert is_sent_later(of, known, value) == later


def test_a_target_was_never_accepted() -> None:
    target = unresolved("5000/2000/1")
    known = Uncertain(PROOF, (target,))
    of = history((A, 1), (B, 5))
    assert [was_accepted(of, known, one) for one in (A, B, setting("5000/2000/1"))] == [True, True, False]
    assert was_accepted((), known, setting("5000/2000/1")), "without a history it is implied"


@pytest.mark.parametrize(
    ("of", "found"),
    [
        ((), None),
        (history((OFF, 1)), None),
        (history((A, 1), (OFF, 2)), A),
        (history((A, 1), (B, 2), (OFF, 3), (OFF, 4)), B),
        (history((OFF, 1), (C, 2)), C),
    ],
)
def test_the_last_enabled_setting(of: History, found: Setting | None) -> None:
    assert last_enabled(of, NeverApplied()) == found


AGES: list[timedelta | None] = [None, -DAY, timedelta(0), DAY - timedelta(seconds=1), DAY, 9 * DAY]


def histories(length: int) -> list[History]:
    """Return every history of that length: the ages in any order, since clocks differ."""
    entries = list(product((A, B, OFF), AGES))
    return [
        tuple(
            Acceptance(one, number, None if age is None else WALL - age)
            for number, (one, age) in enumerate(chosen, 1)
        )
        for chosen in product(entries, repeat=length)
    ]


def is_older(one: Acceptance) -> bool:
    """Tell whether an entry is at least a day old; of unknown or future age it is not."""
    return one.at is not None and WALL - one.at >= DAY


@pytest.mark.unmeasured
@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_what_was_accepted_a_day_ago_over_all_short_histories(length: int) -> None:
    for of in histories(length):
        older = [number for number, one in enumerate(of) if is_older(one)]
        first = older[-1] if older else 0
        candidates = [*of[: first + 1][::-1], *of[first + 1 :]]
        enabled = [one.setting for one in candidates if one.setting != OFF]
        expected = enabled[0] if enabled else (OFF if of else None)
        assert at_start(of, WALL, DAY) == expected
        throughout = bool(older) and all(one.setting != OFF for one in of[older[-1] :])
        assert enabled_throughout(of, WALL, DAY) == throughout
        assert not enabled_throughout(of, None, DAY)
        assert at_start(of, None, DAY) == next(
            (one.setting for one in of if one.setting != OFF), OFF if of else None
        )


@pytest.mark.parametrize("length", [0, 1, 2])
def test_dropping_what_is_not_needed_changes_no_answer(length: int) -> None:
    """Before more entries than the history needs."""
    recent = tuple(
        Acceptance(OFF, 100 + number, WALL - timedelta(days=400)) for number in range(MIN_RETAINED)
    )
    for of in histories(length):
        every = (*of, *recent)
        left = tuple(every[number] for number in sorted(needed(every, WALL)))
        assert len(left) <= MIN_RETAINED + length
        assert last_enabled(left, NeverApplied()) == last_enabled(every, NeverApplied())
        assert accepted(left, NeverApplied()) == accepted(every, NeverApplied())
        for window in (DAY, RETENTION):
            assert at_start(left, WALL, window) == at_start(every, WALL, window)
            assert enabled_throughout(left, WALL, window) == enabled_throughout(every, WALL, window)
