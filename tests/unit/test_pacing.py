"""The pacing rule, by brute force: no history it admits lets three requests arrive within a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import ceil

import pytest

from reconciler.core.pacing import (
    BURST_AGAIN_AFTER,
    EPS_S,
    GUARD_S,
    LATEST_ARRIVAL_S,
    SPACING_S,
    WINDOW_S,
    CountedRequest,
    Ledger,
    earliest_slot,
    latest_arrival,
    schedule,
    still_counts,
)

NOW = 1000.0


@dataclass(frozen=True)
class Request:
    """One reserved request: answered definitely at ``answered_at``, or never (None)."""

    reserved_at: float
    answered_at: float | None

    @property
    def arrivals(self) -> tuple[float, float]:
        """The earliest and the latest moment it can have reached the exchange."""
        if self.answered_at is None:
            return self.reserved_at, self.reserved_at + LATEST_ARRIVAL_S
        return self.reserved_at, self.answered_at

    def hi_as_seen_at(self, now: float) -> float:
        """What the ledger knows at ``now``: before the answer, only that L bounds the arrival."""
        answered = self.answered_at is not None and self.answered_at <= now
        return latest_arrival(self.reserved_at, self.answered_at if answered else None)


Rule = Callable[[tuple[Request, ...], float], float]
"""From the requests so far and an instant, when the next one may be reserved."""


def the_rule(history: tuple[Request, ...], now: float) -> float:
    sent = (CountedRequest(number, request.hi_as_seen_at(now)) for number, request in enumerate(history))
    return earliest_slot(
        Ledger(tuple(each for each in sent if still_counts(each.latest_arrival, now))), now
    )


def counting_from_sending(history: tuple[Request, ...], now: float) -> float:
    """The rule as many clients have it: two per window, counted from the moment of sending."""
    last = sorted(request.reserved_at for request in history)
    return now if len(last) < 2 else max(now, last[-2] + GUARD_S)


def leaky_bucket(history: tuple[Request, ...], now: float) -> float:
    """A bucket of two that leaks one every five seconds: 0, 0, 5 s are admitted."""
    level, last = 0.0, 0.0
    for request in history:
        level = max(0.0, level - (request.reserved_at - last) / 5.0) + 1.0
        last = request.reserved_at
    return now if level <= 1.0 else max(now, last + 5.0 * (level - 1.0))


def counting_only_answered(history: tuple[Request, ...], now: float) -> float:
    """The rule, but blind to requests nobody answered, as if a lost reply were a lost request."""
    return the_rule(tuple(request for request in history if request.answered_at is not None), now)


def forgetting(history: tuple[Request, ...], now: float) -> float:
    """The rule with a count in memory, in a process restarted after its second request."""
    return the_rule(history[2:], now)


def narrowest(three: tuple[Request, ...]) -> float:
    """Return the shortest span three requests can arrive in, over every choice of arrivals."""
    last_start = max(request.arrivals[0] for request in three)
    first_end = min(request.arrivals[1] for request in three)
    return max(0.0, last_start - first_end)


REPLIES = (0.4, 7.0, 20.0, None)
"""Seconds from reservation to a definite reply; None: there never is one."""


def histories(
    rule: Rule, length: int, replies: tuple[float | None, ...] = REPLIES
) -> Iterator[tuple[Request, ...]]:
    """Yield every history of ``length`` requests that ``rule`` admits, on a grid.

    After a request the next is tried at once (another process), or after the answer; then as early
    as the rule allows, or three seconds later than that.
    """

    def grow(history: tuple[Request, ...], now: float) -> Iterator[tuple[Request, ...]]:
        if len(history) == length:
            yield history
            return
        for reply_s, dawdle_s in product(replies, (0.0, 3.0)):
            slot = admitted(rule, history, now) + dawdle_s
            request = Request(slot, None if reply_s is None else slot + reply_s)
            for then in {slot, request.answered_at or slot}:
                yield from grow((*history, request), then)

    return grow((), 0.0)


def admitted(rule: Rule, history: tuple[Request, ...], now: float) -> float:
    """Return the first instant at which ``rule`` admits, looking again at every instant it names.

    An answer that comes meanwhile makes the wait shorter, so answers are looked at as well.
    """
    answers = sorted(
        request.answered_at for request in history if request.answered_at and request.answered_at > now
    )
    for instant in (now, *answers):
        slot = rule(history, instant)
        if not any(instant < answer <= slot for answer in answers):
            return slot
    raise AssertionError("the rule never admits")


def three_within_a_window(histories: Iterator[tuple[Request, ...]]) -> tuple[Request, ...] | None:
    """Return the first history in which three requests can arrive within the exchange's window."""
    for history in histories:
        if any(narrowest(three) < WINDOW_S + EPS_S - 1e-9 for three in combinations(history, 3)):
            return history
    return None


@pytest.mark.unmeasured
def test_no_admitted_history_lets_three_arrive_within_a_window() -> None:
    assert three_within_a_window(histories(the_rule, 4)) is None
    assert three_within_a_window(histories(the_rule, 5, (0.4, None))) is None


@pytest.mark.parametrize(
    "broken", [counting_from_sending, leaky_bucket, counting_only_answered, forgetting]
)
def test_each_tempting_wrong_rule_is_caught(broken: Rule) -> None:
    assert three_within_a_window(histories(broken, 4)) is not None


def test_the_leaky_bucket_lets_three_go_at_0_0_and_5_seconds() -> None:
    first_two = (Request(0.0, 0.0), Request(0.0, 0.0))
    assert leaky_bucket(first_two[:1], 0.0) == 0.0
    assert leaky_bucket(first_two, 0.0) == 5.0
    assert the_rule(first_two, 0.0) == GUARD_S


def test_the_checker_agrees_with_trying_every_arrival() -> None:
    grid = [
        Request(at, None if reply is None else at + reply)
        for at in (0.0, 4.0, 11.0)
        for reply in (0.0, 3.0, None)
    ]
    for three in product(grid, repeat=3):
        tried = min(
            max(arrivals) - min(arrivals)
            for arrivals in product(*(every_second(*request.arrivals) for request in three))
        )
        assert narrowest(three) == tried


def every_second(first: float, last: float) -> list[float]:
    return list(range(int(first), int(min(last, 12.0)) + 1))


# ---- one decision at a time ---------------------------------------------------------------------


def ledger(*his: float) -> Ledger:
    return Ledger(tuple(CountedRequest(number, hi) for number, hi in enumerate(his)))


@pytest.mark.parametrize("his", [(), (0.0,), (99.9,), (-500.0, -400.0, 100.0)])
def test_with_at_most_one_request_that_counts_there_is_a_slot_now(his: tuple[float, ...]) -> None:
    assert earliest_slot(ledger(*his), 100.0) == 100.0


@pytest.mark.parametrize(
    ("second_latest", "others"), [(95.0, (96.0,)), (99.0, (50.0, 99.5)), (120.0, (130.0,))]
)
def test_else_the_slot_opens_when_the_second_latest_arrival_is_a_window_and_the_slack_ago(
    second_latest: float, others: tuple[float, ...]
) -> None:
    full = ledger(second_latest, *others)
    opens = second_latest + GUARD_S
    assert earliest_slot(full, 100.0) == opens
    assert earliest_slot(full, opens - 0.001) == opens
    assert earliest_slot(full, opens) == opens
    assert earliest_slot(full, opens + 7.0) == opens + 7.0
    assert opens == second_latest + WINDOW_S + EPS_S


def test_the_order_of_the_ledger_does_not_matter() -> None:
    his = (95.0, 99.0, 97.0)
    slots = {earliest_slot(ledger(*order), 100.0) for order in (his, his[::-1], (99.0, 95.0, 97.0))}
    assert slots == {97.0 + GUARD_S}


def test_a_request_counts_until_its_latest_arrival_is_a_window_and_the_slack_ago() -> None:
    assert still_counts(100.0, 100.0 + GUARD_S - 0.001)
    assert not still_counts(100.0, 100.0 + GUARD_S)


def test_only_an_answer_bounds_the_arrival_earlier_than_l() -> None:
    assert latest_arrival(100.0, 100.2) == 100.2
    assert latest_arrival(100.0, None) == 100.0 + LATEST_ARRIVAL_S


def test_leaving_out_what_no_longer_counts_changes_no_slot() -> None:
    for his in product((80.0, 89.0, 89.945, 95.0, 130.0), repeat=3):
        kept = tuple(hi for hi in his if still_counts(hi, 100.0))
        assert earliest_slot(ledger(*his), 100.0) == earliest_slot(ledger(*kept), 100.0)


# ---- unknown history ----------------------------------------------------------------------------


def test_with_no_history_at_all_one_window_is_waited_first() -> None:
    unknown = Ledger(empty_since=100.0)
    assert earliest_slot(unknown, 100.0) == 100.0 + GUARD_S
    assert earliest_slot(unknown, 200.0) == 200.0


def test_assume_idle_waives_the_wait_for_unknown_history_only() -> None:
    assert earliest_slot(Ledger(empty_since=100.0), 100.0, assume_idle=True) == 100.0
    known = Ledger((CountedRequest(1, 99.0), CountedRequest(2, 99.5)))
    assert earliest_slot(known, 100.0, assume_idle=True) == 99.0 + GUARD_S


# ---- after a 50011 ------------------------------------------------------------------------------


def limited(sends_since: int, *his: float, limited_hi: float | None = 100.0) -> Ledger:
    return Ledger(ledger(*his).sent, sends_since_limited=sends_since, limited_latest_arrival=limited_hi)


def test_after_a_50011_a_full_quiet_window_is_waited() -> None:
    assert earliest_slot(limited(0, 100.0), 100.0) == 100.0 + GUARD_S


def test_then_requests_are_evenly_spaced() -> None:
    assert earliest_slot(limited(1, 110.055), 110.1) == 110.055 + SPACING_S + EPS_S
    assert earliest_slot(limited(5, 150.0, limited_hi=None), 150.1) == 150.0 + SPACING_S + EPS_S
    assert earliest_slot(limited(5, limited_hi=None), 200.0) == 200.0


def test_spacing_ends_after_twenty_calm_sends() -> None:
    assert limited(BURST_AGAIN_AFTER - 1).throttled
    assert not limited(BURST_AGAIN_AFTER).throttled
    assert earliest_slot(limited(BURST_AGAIN_AFTER, 99.9), 100.0) == 100.0
    assert earliest_slot(limited(BURST_AGAIN_AFTER - 1, 99.9), 100.0) > 100.0
    assert not Ledger().throttled


def test_a_schedule_after_a_50011_is_quiet_then_even_then_bound_by_the_window_alone() -> None:
    slots = schedule(limited(0, 100.0), 100.0, BURST_AGAIN_AFTER + 4)
    gaps = [round(later - sooner, 3) for sooner, later in pairwise(slots)]
    assert slots[0] == 100.0 + GUARD_S
    assert gaps[: BURST_AGAIN_AFTER - 1] == [SPACING_S + EPS_S] * (BURST_AGAIN_AFTER - 1)
    assert slots[-1] - slots[-3] == slots[-2] - slots[-4] == pytest.approx(GUARD_S)


# ---- how long N requests take -------------------------------------------------------------------


@pytest.mark.parametrize("round_trip_s", [0.0, 0.004, 0.05, 0.15])
def test_n_requests_take_the_time_the_architecture_says_and_within_three_percent_of_the_floor(
    round_trip_s: float,
) -> None:
    for number in range(1, 61):
        slots = schedule(Ledger(), 500.0, number, round_trip_s=round_trip_s, assume_idle=True)
        took = slots[-1] + round_trip_s - 500.0
        bursts = ceil(number / 2) - 1
        own_round_trips = round_trip_s * (1 if number % 2 else 2)
        assert took == pytest.approx(bursts * (GUARD_S + round_trip_s) + own_round_trips)
        floor = WINDOW_S * bursts
        assert took - own_round_trips <= floor * 1.03 + 1e-9


def test_a_schedule_is_what_asking_one_slot_at_a_time_would_give() -> None:
    start = Ledger((CountedRequest(1, 98.0), CountedRequest(2, 130.0)), empty_since=None)
    now, sent, slots = 100.0, start.sent, []
    for number in range(7):
        slot = earliest_slot(Ledger(sent), now)
        slots.append(slot)
        now = slot + 0.3
        sent = (*sent, CountedRequest(number, now))
    assert schedule(start, 100.0, 7, round_trip_s=0.3) == pytest.approx(slots)


def test_unknown_history_delays_a_schedule_once() -> None:
    slots = schedule(Ledger(empty_since=100.0), 100.0, 4)
    assert slots == pytest.approx([110.055, 110.055, 120.11, 120.11])
    assert schedule(Ledger(empty_since=100.0), 100.0, 2, assume_idle=True) == (100.0, 100.0)
    assert schedule(Ledger(), 100.0, 0) == ()


@pytest.mark.parametrize(
    ("sent", "keep_free", "slot"),
    [
        ((), 0, NOW),
        ((), 1, NOW),
        ((NOW - 4.0,), 0, NOW),
        ((NOW - 4.0,), 1, NOW - 4.0 + GUARD_S),
        ((NOW - 8.0, NOW - 4.0), 0, NOW - 8.0 + GUARD_S),
        ((NOW - 8.0, NOW - 4.0), 1, NOW - 4.0 + GUARD_S),
        ((NOW - GUARD_S,), 1, NOW),
    ],
)
def test_a_reserved_slot_counts_as_another_request_in_the_window(
    sent: tuple[float, ...], keep_free: int, slot: float
) -> None:
    ledger = Ledger(tuple(CountedRequest(number, hi) for number, hi in enumerate(sent)))
    assert earliest_slot(ledger, NOW, keep_free=keep_free) == pytest.approx(slot, abs=1e-9)
