"""When notifications are sent: every short course of events is checked against the promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import product

import pytest

from reconciler.core.events import StateLockTimedOut
from reconciler.core.model import Family
from reconciler.core.monitoring.alerts import Alert, AlertKey, AlertKind, Alerts, AlertSeverity, AlertTopic
from reconciler.core.monitoring.notifications import (
    GROUP_ABOVE,
    REPEAT_INTERVAL_S,
    AlertStates,
    Notification,
    Transition,
    advance,
)
from tests.unit.builders import BTC, ETH
from tests.unit.report_samples import WALL

KEY = AlertKey(AlertTopic.FAMILY, BTC)
A = Alert(AlertKind.OUT_OF_SYNC, AlertSeverity.CRITICAL, "drifted", 0)
B = Alert(AlertKind.OUT_OF_SYNC, AlertSeverity.WARNING, "drift-policy", 0)
PATIENT = Alert(AlertKind.OUT_OF_SYNC, AlertSeverity.CRITICAL, "new", 0, for_s=10.0)
FROZEN = Alert(AlertKind.FROZEN, AlertSeverity.CRITICAL, "until-reset", 0)
WARY = Alert(AlertKind.REJECTED, AlertSeverity.WARNING, "51000", 0, for_s=10.0)

Course = Sequence[tuple[float, Alert | None]]
"""What holds of one family from which instant on, oldest first."""


def played(course: Course) -> list[tuple[float, Notification]]:
    """Tell one family's course; every step is looked at once, at its beginning."""
    scenarios: AlertStates = {}
    message = []
    for at, holds in course:
        found: Alerts = {KEY: holds} if holds else {}
        scenarios, notices = advance(scenarios, found, now=at, wall=WALL + timedelta(seconds=at))
        message += [(at, notice) for notice in notices]
    return message


def words(course: Course) -> list[tuple[float, str, str, int]]:
    return [(at, one.status.value, one.alert.code, one.count) for at, one in played(course)]


def test_an_alert_is_sent_once_and_its_end_is_sent_once() -> None:
    course = [(0.0, A), (1.0, A), (30.0, A), (900.0, A), (901.0, None), (902.0, None)]
    assert words(course) == [(0.0, "firing", "drifted", 1), (901.0, "resolved", "drifted", 1)]


def test_since_is_the_beginning_of_the_alert_and_not_the_time_of_sending() -> None:
    (at, notice), *_ = played([(0.0, PATIENT), (5.0, PATIENT), (12.0, PATIENT)])
    assert at == 12.0
    assert notice.since == WALL


def test_an_alert_that_ends_within_its_waiting_time_is_never_sent() -> None:
    assert words([(0.0, PATIENT), (9.9, PATIENT), (9.95, None), (600.0, None)]) == []


def test_patience_counts_from_the_beginning_and_begins_anew() -> None:
    course = [(0.0, PATIENT), (9.0, None), (9.5, PATIENT), (19.4, PATIENT), (19.5, PATIENT)]
    assert words(course) == [(19.5, "firing", "new", 1)]


def test_an_alert_that_changes_its_kind_is_sent_at_once_and_ends_as_that_kind() -> None:
    course = [(0.0, A), (1.0, B), (2.0, None)]
    assert words(course) == [
        (0.0, "firing", "drifted", 1),
        (1.0, "firing", "drift-policy", 1),
        (2.0, "resolved", "drift-policy", 1),
    ]


def test_what_becomes_of_another_kind_is_over_at_once_and_only_what_begins_waits_for_calm() -> None:
    course = [(0.0, A), (10.0, FROZEN), (100.0, A), (299.0, A), (300.0, A), (400.0, None)]
    assert words(course) == [
        (0.0, "firing", "drifted", 1),
        (10.0, "firing", "until-reset", 1),
        (10.0, "resolved", "drifted", 1),
        (100.0, "resolved", "until-reset", 1),
        (300.0, "firing", "drifted", 1),
        (400.0, "resolved", "drifted", 1),
    ]


def test_what_is_over_since_something_else_holds_says_what() -> None:
    course = [(0.0, A), (1.0, WARY), (12.0, WARY), (13.0, None)]
    message = [(at, one.alert.kind, one.status, one.instead) for at, one in played(course)]
    assert message == [
        (0.0, AlertKind.OUT_OF_SYNC, Transition.FIRING, None),
        (1.0, AlertKind.OUT_OF_SYNC, Transition.RESOLVED, AlertKind.REJECTED),
        (12.0, AlertKind.REJECTED, Transition.FIRING, None),
        (13.0, AlertKind.REJECTED, Transition.RESOLVED, None),
    ]


def test_what_is_over_for_different_reasons_shares_no_message() -> None:
    found = {AlertKey(AlertTopic.FAMILY, family): A for family in FAMILIES}
    scenarios, _ = advance({}, found, now=0.0, wall=WALL)
    frozen = {AlertKey(AlertTopic.FAMILY, family): FROZEN for family in FAMILIES[:4]}
    _, notices = advance(scenarios, frozen, now=1.0, wall=WALL)
    assert [(one.status, one.instead, len(one.families)) for one in notices] == [
        (Transition.FIRING, None, 4),
        (Transition.RESOLVED, None, 5),
        (Transition.RESOLVED, AlertKind.FROZEN, 4),
    ]


def test_a_flapping_alert_is_sent_again_with_a_count_after_a_quiet_time() -> None:
    course: list[tuple[float, Alert | None]] = []
    for second in range(0, 320, 20):
        course += [(float(second), A), (second + 10.0, None)]
    assert words(course) == [
        (0.0, "firing", "drifted", 1),
        (10.0, "resolved", "drifted", 1),
        (300.0, "firing", "drifted", 15),
        (310.0, "resolved", "drifted", 1),
    ]


def test_what_came_and_went_unsent_is_counted_in_the_next_notification() -> None:
    course = [(0.0, A), (1.0, None), (2.0, A), (3.0, None), (4.0, A), (5.0, None), (300.0, None)]
    assert words([*course, (9000.0, A), (9001.0, None)]) == [
        (0.0, "firing", "drifted", 1),
        (1.0, "resolved", "drifted", 1),
        (9000.0, "firing", "drifted", 3),
        (9001.0, "resolved", "drifted", 1),
    ]


def test_an_alert_is_not_counted_with_another_of_its_key() -> None:
    course = [(0.0, A), (1.0, None), (2.0, A), (3.0, None), (9000.0, B), (9001.0, None), (9002.0, A)]
    assert [each for each in words(course) if each[1] == "firing"] == [
        (0.0, "firing", "drifted", 1),
        (9000.0, "firing", "drift-policy", 1),
        (9002.0, "firing", "drifted", 2),
    ]


def test_a_resolved_alert_is_forgotten() -> None:
    scenarios: AlertStates = {}
    for at, found in ((0.0, {KEY: A}), (1.0, {}), (REPEAT_INTERVAL_S, {})):
        scenarios, _ = advance(scenarios, found, now=at, wall=WALL)
    assert scenarios == {}
    scenarios, _ = advance(scenarios, {KEY: PATIENT}, now=0.0, wall=WALL)
    scenarios, _ = advance(scenarios, {}, now=1.0, wall=WALL)
    assert scenarios == {}


# ---- every short course --------------------------------------------------------------------------

STEPS = (1.0, 11.0, REPEAT_INTERVAL_S)


def courses(conditions: Sequence[Alert | None], length: int) -> Iterator[Course]:
    """Yield every course of ``length`` steps, each with a long calm at its end."""
    for states in product(conditions, repeat=length):
        for gaps in product(STEPS, repeat=length - 1):
            at, course = 0.0, [(0.0, states[0])]
            for gap, state in zip(gaps, states[1:], strict=True):
                at += gap
                course.append((at, state))
            yield [*course, *((at + 400.0 * more, states[-1]) for more in (1, 2))]


def beginnings(course: Course) -> int:
    """Count how often something that may be notified began: another condition, as old as its patience."""
    count, begun_at, counted, before = 0, 0.0, False, None
    for at, holds in course:
        if holds is not before:
            begun_at, counted, before = at, False, holds
        if holds is not None and not counted and at >= begun_at + holds.for_s:
            count, counted = count + 1, True
    return count


def complaint(course: Course, message: list[tuple[float, Notification]]) -> str | None:
    """Return which promise to the receivers is broken; None when none is.

    One thing is believed at a time: what becomes of another kind is over before that begins. The same
    kind may begin once more as something else: worse, or for another reason.
    """
    believed: Alert | None = None
    last_begun: dict[str, float] = {}
    for at, notice in _overs_first(message):
        code = notice.alert.code
        if notice.count < 1:
            return "something that never happened is sent"
        if believed is not None and believed.kind is not notice.alert.kind:
            return f"{believed.kind} is not over when {notice.alert.kind} {notice.status}"
        if notice.status is Transition.FIRING and believed is not None and believed.code == code:
            return f"{code} is sent twice"
        if notice.status is Transition.FIRING or believed is None:
            if at < last_begun.get(code, float("-inf")) + REPEAT_INTERVAL_S:
                return f"{code} is sent again too soon"
            last_begun[code] = at
        believed = notice.alert if notice.status is Transition.FIRING else None
    if believed != course[-1][1]:
        return f"{believed} is believed in the end"
    if len({(at, notice.status) for at, notice in message}) != len(message):
        return "two notices of one family turn one way at one moment"
    return None


def _overs_first(message: list[tuple[float, Notification]]) -> list[tuple[float, Notification]]:
    """Return what was sent by time; of one moment, what is over first: it was, before the other began."""
    return sorted(message, key=lambda one: (one[0], one[1].status is Transition.FIRING))


def counted(message: list[tuple[float, Notification]]) -> int:
    """Add up what the notifications count: every beginning."""
    return sum(notice.count for _, notice in message if notice.status is Transition.FIRING)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("found", [(A, B, PATIENT), (A, FROZEN, WARY)], ids=["one kind", "several kinds"])
def test_every_short_history_is_sent_truly_and_sparingly(found: Sequence[Alert]) -> None:
    for course in courses((None, *found), 4):
        message = played(course)
        assert complaint(course, message) is None, (course, message)
        assert counted(message) <= beginnings(course), (course, message)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_every_sent_alert_is_resolved_once_all_is_in_sync() -> None:
    for course in courses((None, A, PATIENT, FROZEN, WARY), 3):
        message = played([*course, (course[-1][0] + 1.0, None)])
        open_kinds: set[AlertKind] = set()
        for _, notice in _overs_first(message):
            if notice.status is Transition.FIRING:
                open_kinds.add(notice.alert.kind)
            else:
                open_kinds.discard(notice.alert.kind)
        assert not open_kinds, (course, message)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_every_beginning_is_counted_once() -> None:
    for short in courses((None, A), 6):
        end = short[-1][0]
        course = [*short, (end + 1.0, None), (end + 400.0, A)]  # the last notification has what is left
        message = played(course)
        assert complaint(course, message) is None, (course, message)
        assert counted(message) == beginnings(course), (course, message)


# ---- several families ----------------------------------------------------------------------------

FAMILIES = [Family(f"F{number}-USD") for number in range(9)]


@pytest.mark.parametrize("number", range(1, 9))
def test_many_families_with_the_same_alert_share_a_notification(number: int) -> None:
    found = {AlertKey(AlertTopic.FAMILY, family): A for family in FAMILIES[:number]}
    scenarios, begun = advance({}, found, now=0.0, wall=WALL)
    _, over = advance(scenarios, {}, now=1.0, wall=WALL)
    for notices in (begun, over):
        assert [family for one in notices for family in one.families] == FAMILIES[:number]
        assert len(notices) == (number if number <= GROUP_ABOVE else 1)


def test_the_worst_alert_is_sent_first_and_different_alerts_apart() -> None:
    many = {AlertKey(AlertTopic.FAMILY, family): B for family in FAMILIES}
    locked = Alert(AlertKind.STATE_LOCKED, AlertSeverity.WARNING, "locked", StateLockTimedOut("pid 7"))
    found = {**many, AlertKey(AlertTopic.FAMILY, ETH): A, AlertKey(AlertTopic.STATE): locked}
    _, notices = advance({}, found, now=0.0, wall=WALL)
    assert [(one.alert.kind.value, len(one.families)) for one in notices] == [
        ("out-of-sync", 1),
        ("out-of-sync", 9),
        ("state-locked", 0),
    ]


def test_a_shared_message_tells_the_earliest_beginning_and_the_largest_count() -> None:
    scenarios: AlertStates = {}
    flapping = {AlertKey(AlertTopic.FAMILY, family): A for family in FAMILIES[:2]}
    for at in range(0, 40, 10):
        found = flapping if at % 20 == 0 else {}
        scenarios, _ = advance(scenarios, found, now=float(at), wall=WALL + timedelta(seconds=at))
    everything = {AlertKey(AlertTopic.FAMILY, family): A for family in FAMILIES}
    scenarios, (early,) = advance(scenarios, everything, now=60.0, wall=WALL + timedelta(seconds=60))
    assert len(early.families) == 7, "those that flap are held back"
    assert (early.since, early.count) == (WALL + timedelta(seconds=60), 1)


def test_the_same_events_give_the_same_notices_whatever_their_order() -> None:
    found = {AlertKey(AlertTopic.FAMILY, family): A for family in FAMILIES[:3]}
    backwards = dict(reversed(found.items()))
    assert advance({}, found, now=0.0, wall=WALL)[1] == advance({}, backwards, now=0.0, wall=WALL)[1]
