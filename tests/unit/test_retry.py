"""When something that failed is tried again: back-off, Retry-After, reads of commands that run once, and
each family on its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from reconciler.core.live_evidence import Reads
from reconciler.core.model import Known, Setting, Uncertain
from reconciler.core.pass_step import Slots, next_request
from reconciler.core.plan import PlanConstraints
from reconciler.core.policy import Override, RefusalKind
from reconciler.core.reply import STOPPING, Reply, ReplyClass
from reconciler.core.retry import (
    LONG_BACK_OFF_S,
    MAX_RETRY_AFTER_S,
    NO_TRIES,
    READ_RETRIES_S,
    RetryRecord,
    Tries,
    back_off_s,
    next_read_at,
    rejected_again_after_s,
    retry_after_s,
)
from tests.unit.builders import BTC, ETH, NOW, confirmed, plan_of, read, row, setting, unresolved

BUSY = Reply(ReplyClass.BUSY, "50013")
PAGE = Reply(ReplyClass.NO_ANSWER, "not-okx", "HTTP 502, not a reply of OKX's: not JSON")
RETRIED = sorted(set(ReplyClass) - STOPPING - {ReplyClass.ACCEPTED})


def asking_for(wait_s: float, reply_class: ReplyClass = ReplyClass.NO_ANSWER) -> Reply:
    return Reply(reply_class, "not-okx", retry_after_s=wait_s)


def test_the_back_off_doubles_from_one_second_to_thirty() -> None:
    assert [back_off_s(failures) for failures in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert back_off_s(10**6) == 30


@pytest.mark.parametrize(
    ("reply", "failures", "wait_s"),
    [
        (BUSY, 0, 1.0),
        (BUSY, 3, 8.0),
        (asking_for(7.0), 0, 7.0),
        (asking_for(7.0), 3, 8.0),
        (asking_for(0.0), 0, 1.0),
        (asking_for(60.0), 9, 60.0),
        (asking_for(86400.0), 0, MAX_RETRY_AFTER_S),
        (asking_for(7.0, ReplyClass.RATE_LIMITED), 0, 7.0),
        (Reply(ReplyClass.UNAVAILABLE, "50005"), 0, LONG_BACK_OFF_S),
        (asking_for(7.0, ReplyClass.UNAVAILABLE), 0, LONG_BACK_OFF_S),
    ],
)
def test_an_account_waits_for_the_longest_of_back_off_and_what_it_is_asked_for(
    reply: Reply, failures: int, wait_s: float
) -> None:
    assert retry_after_s(reply, failures) == wait_s


@pytest.mark.parametrize("reply_class", sorted(STOPPING))
def test_a_read_that_a_person_has_to_make_possible_is_not_repeated(reply_class: ReplyClass) -> None:
    assert next_read_at(Reply(reply_class, "50103"), 0, begun_at=0.0, now=0.1) is None


@pytest.mark.parametrize("reply_class", RETRIED)
def test_every_other_failure_of_a_read_is_retried_with_back_off(reply_class: ReplyClass) -> None:
    reply, now = Reply(reply_class, "any"), 100.0
    tries: list[float] = []
    while (retry_at := next_read_at(reply, len(tries), begun_at=100.0, now=now)) is not None:
        tries.append(retry_at - now)
        now = retry_at
    assert tries == [1, 2, 4, 8, 15]
    assert now - 100.0 == READ_RETRIES_S


@pytest.mark.parametrize(
    ("reply", "failures", "now", "deadline", "retry_at"),
    [
        (PAGE, 0, 10.0, 5.0, None),
        (PAGE, 0, 1.0, 2.0, 2.0),
        (PAGE, 0, 1.0, 1.9, None),
        (PAGE, 2, 3.0, 5.0, 5.0),
        (PAGE, 4, 10.0, float("inf"), 26.0),
        (PAGE, 4, 29.0, float("inf"), 30.0),
        (PAGE, 4, 29.1, float("inf"), None),
        (PAGE, 0, 45.0, float("inf"), 46.0),
        (asking_for(60.0), 0, 10.0, float("inf"), 70.0),
        (asking_for(60.0), 0, 10.0, 69.0, None),
        (asking_for(60.0), 1, 10.0, float("inf"), None),
        (asking_for(10.0), 1, 10.0, float("inf"), 20.0),
    ],
)
def test_the_retries_end(
    reply: Reply, failures: int, now: float, deadline: float, retry_at: float | None
) -> None:
    assert next_read_at(reply, failures, begun_at=0.0, now=now, deadline=deadline) == retry_at


# -- one family on its own ---------------------------------------------------------------------------------

A, OTHER = setting("5000/2000/100"), setting("5000/2000/99")
PROTECTIVE_WAITS = (10, 45, 90, 120, 120, 120, 120, 120, 120, 120)
LOOSENING_WAITS = (10, 45, 90, 120, 240, 480, 600, 600, 600, 600)
NEVER = float("-inf")


@pytest.mark.parametrize(("protective", "waits"), [(True, PROTECTIVE_WAITS), (False, LOOSENING_WAITS)])
def test_the_waits_of_a_family_after_each_try_without_a_success(
    protective: bool, waits: tuple[float, ...]
) -> None:
    for count, wait_s in enumerate(waits, 1):
        record = RetryRecord({BTC: Tries(A, count, NOW)})
        assert record.not_before(BTC, A, protective=protective) == NOW + wait_s, count


LAST_AT = NOW - 20.0


def records() -> Iterator[tuple[RetryRecord, bool]]:
    """Yield every record of one family with what may be there of each kind, and whether it protects."""
    made = product((1, 2, 3), (False, True), (None, LAST_AT + 1.0, LAST_AT + 5.0))
    tries = (None, *(Tries(A, count, LAST_AT, limited, ended_at) for count, limited, ended_at in made))
    waits = (None, *(LAST_AT + until for until in (-1, 3, 6, 60)))
    for tried, until, protective in product(tries, waits, (True, False)):
        record = RetryRecord(
            {} if tried is None else {BTC: tried}, {} if until is None else {(BTC, A): until}
        )
        yield record, protective


def expected_not_before(record: RetryRecord, *, protective: bool) -> float:
    """Return when A may be tried again: the latest of the waits that no success has ended."""
    tries, ends = record.tries.get(BTC), [record.wait_until.get((BTC, A), NEVER)]
    if tries is not None and tries.ended_at is not None:
        ends.append(tries.ended_at)
    elif tries is not None and tries.limited:
        ends.append(tries.last_at)  # the pace holds it, not a back-off
    elif tries is not None:
        waits = PROTECTIVE_WAITS if protective else LOOSENING_WAITS
        ends.append(tries.last_at + waits[tries.count - 1])
    return max(ends)


def test_when_a_family_may_be_tried_again_over_every_record() -> None:
    for record, protective in records():
        found = record.not_before(BTC, A, protective=protective)
        assert found == expected_not_before(record, protective=protective), (record, protective)
        assert record.not_before(BTC, OTHER, protective=protective) == NEVER
        assert record.not_before(ETH, A, protective=protective) == NEVER
        assert (record.count(BTC, OTHER), record.count(ETH, A)) == (0, 0)


def test_what_was_tried_is_counted_for_its_own_value_alone() -> None:
    record = RetryRecord({BTC: Tries(A, 3, NOW)})
    assert (record.count(BTC, A), record.count(BTC, OTHER), record.count(ETH, A)) == (3, 0, 0)
    assert NO_TRIES.count(BTC, A) == 0


@pytest.mark.parametrize(
    ("live", "wanted", "waits"),
    [
        ("5000/2000/200", "5000/2000/100", PROTECTIVE_WAITS),  # tighten
        ("0/2000/100", "5000/2000/100", PROTECTIVE_WAITS),  # enable
        (None, "5000/2000/100", PROTECTIVE_WAITS),  # enable: no row
        ("5000/2000/50", "5000/2000/100", LOOSENING_WAITS),  # loosen
        ("5000/1000/50", "5000/2000/100", LOOSENING_WAITS),  # mixed
        ("5000/2000/100", "0/2000/100", LOOSENING_WAITS),  # disable
    ],
)
def test_each_direction_has_its_waits(live: str | None, wanted: str, waits: tuple[float, ...]) -> None:
    after = setting(wanted)
    rows = {} if live is None else {BTC: row(live)}
    reads = Reads(read(NOW - 0.5, rows))
    for count, wait_s in enumerate(waits, 1):
        allowed = frozenset({Override(RefusalKind.DISABLE, BTC)})
        rules = PlanConstraints(retries=RetryRecord({BTC: Tries(after, count, NOW)}), allowed=allowed)
        (change,) = plan_of({BTC: after}, {}, reads, rules).changes
        assert (change.tries, change.not_before) == (count, NOW + wait_s)


@pytest.mark.parametrize(
    ("live", "attempt", "waits"),
    [
        ("5000/2000/200", "5000/2000/50", PROTECTIVE_WAITS),
        ("5000/2000/50", "5000/2000/400", PROTECTIVE_WAITS),
        ("5000/2000/50", "5000/2000/60", LOOSENING_WAITS),
    ],
)
def test_the_loosest_that_may_be_in_force_decides_how_a_family_in_doubt_waits(
    live: str, attempt: str, waits: tuple[float, ...]
) -> None:
    known: Known = Uncertain(confirmed(live), (unresolved(attempt),))
    rules = PlanConstraints(retries=RetryRecord({BTC: Tries(A, 5, NOW)}))
    (change,) = plan_of({BTC: A}, {BTC: known}, Reads(read(NOW - 0.5, {BTC: row(live)})), rules).changes
    assert change.not_before == NOW + waits[4]


@pytest.mark.parametrize(
    ("waited_s", "wanted", "keep_free"),
    [
        (0.0, "5000/2000/100", 1),
        (29.9, "5000/2000/100", 1),
        (30.0, "5000/2000/100", 0),  # it has waited long enough: it takes the last slot
        (30.0, "5000/2000/400", 1),  # the retry of a loosening never takes it
        (9999.0, "5000/2000/400", 1),
    ],
)
def test_how_long_a_retry_leaves_the_last_slot_to_others(
    waited_s: float, wanted: str, keep_free: int
) -> None:
    """BTC was tried once, and ETH, tried more often, waits beside it."""
    after: Setting = setting(wanted)
    rows = {BTC: row("5000/2000/200"), ETH: row("5000/2000/200")}
    tries = {BTC: Tries(after, 1, NOW - 10.0 - waited_s), ETH: Tries(after, 4, NOW - 9999.0)}
    reads, rules = Reads(read(NOW - 0.5, rows)), PlanConstraints(retries=RetryRecord(tries))
    plan = plan_of({BTC: after, ETH: after}, {}, reads, rules)
    first = next_request(plan, now=NOW, slots=Slots(NOW, NOW))
    assert first is not None
    assert (first.change.family, first.keep_free) == (BTC, keep_free)


def test_a_refused_setting_is_tried_every_ten_minutes_for_an_hour_and_then_every_hour() -> None:
    assert [rejected_again_after_s(times) for times in range(1, 9)] == [600] * 6 + [3600] * 2
