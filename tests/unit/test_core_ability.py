"""What a replica reports that it cannot serve, and how long it does not try again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from reconciler.core.ability import (
    CALM_S,
    RECOVERING_S,
    TRY_AGAIN_S,
    UNREAD_S,
    Experience,
    GivenUp,
    Reading,
    ability,
    gave_up,
    learned,
    reading_of,
)
from reconciler.core.events import READING_LIVE, ExchangeFailed
from reconciler.core.sharing import Ability
from reconciler.core.verdict import Reply, ReplyClass
from reconciler.core.vitals import Objection, after, begun
from tests.unit.core_builders import BTC, desired, setting

NOW = 1000.0
KEEPS = ("x", "y", "z")
FILE = desired({BTC: setting("5000/2000/100")})
GOOD, NEW, REFUSED = Reading(read_at=NOW - 3), Reading(), Reading(refused=True)
FRESH = Experience(read_at=NOW - 3)


def failing(seconds: float, read_at: float | None = None) -> Reading:
    return Reading(failing_since=NOW - seconds, read_at=read_at)


@pytest.mark.parametrize(
    ("reading", "unable"),
    [
        (NEW, {}),
        (GOOD, {}),
        (failing(UNREAD_S - 0.1), {}),
        (failing(UNREAD_S), {"x": UNREAD_S}),
        (REFUSED, {"x": None}),
        (replace(failing(90.0), refused=True), {"x": None}),
    ],
)
def test_an_account_that_runs_here_cannot_be_served_after_so_long_or_at_once_without_its_key(
    reading: Reading, unable: dict[str, float | None]
) -> None:
    experience = learned(Experience(), {"x": reading, "y": GOOD}, NOW)
    assert ability(experience, {"x": reading, "y": GOOD}, KEEPS, NOW) == Ability(unable, 3.0)


def test_the_age_of_the_newest_read_is_of_any_account_and_outlives_it() -> None:
    assert ability(Experience(), {}, KEEPS, NOW).read_age_s is None
    experience = learned(Experience(), {"x": Reading(read_at=900.0), "y": Reading(read_at=990.0)}, NOW)
    assert ability(experience, {}, KEEPS, NOW).read_age_s == 10.0
    assert learned(experience, {"x": NEW}, NOW) == experience


@pytest.mark.parametrize("read_at", [NOW - 2, None])
def test_one_whose_newest_reads_all_failed_takes_nothing_until_a_while_after(read_at: float | None) -> None:
    failed = learned(Experience(read_at=read_at), {"x": failing(1.0)}, NOW)
    assert set(ability(failed, {"x": failing(1.0)}, KEEPS, NOW).unable) == {"y", "z"}
    read = {"x": Reading(read_at=NOW + 1)}
    again = learned(failed, read, NOW + 2)
    assert set(ability(again, read, KEEPS, NOW + RECOVERING_S - 0.1).unable) == {"y", "z"}
    assert ability(again, read, KEEPS, NOW + RECOVERING_S).unable == {}


def test_one_that_reads_other_accounts_takes_what_it_can() -> None:
    readings = {"x": failing(1.0)}
    assert ability(learned(Experience(read_at=NOW - 0.5), readings, NOW), readings, KEEPS, NOW).unable == {}


def test_what_was_given_up_is_not_taken_again_for_a_time_that_grows() -> None:
    readings, experience, waits = {"x": REFUSED, "y": GOOD}, FRESH, []
    now = NOW
    for _ in range(len(TRY_AGAIN_S) + 1):
        experience = gave_up(experience, ["x"], readings, now)
        until = experience.accounts["x"].until
        waits.append(until - now)
        assert ability(experience, {"y": GOOD}, KEEPS, until - 0.1).unable == {"x": None}
        assert ability(experience, {"y": GOOD}, KEEPS, until).unable == {}
        now = until + CALM_S - 0.1
    assert tuple(waits) == (*TRY_AGAIN_S, TRY_AGAIN_S[-1])
    experience = gave_up(experience, ["x"], readings, now + CALM_S + TRY_AGAIN_S[-1])
    assert experience.accounts["x"].times == 1
    assert experience.exchange is None, "others could be read"
    later = experience.accounts["x"].until + CALM_S
    assert gave_up(experience, [], readings, later).accounts == {}


def test_one_that_could_read_nothing_tries_one_account_and_then_all_or_none() -> None:
    readings = {"x": failing(UNREAD_S), "y": failing(UNREAD_S)}
    experience = gave_up(Experience(read_at=NOW - 40), ["x", "y"], readings, NOW)
    assert experience.exchange == GivenUp(NOW)
    until = NOW + TRY_AGAIN_S[0]
    assert set(ability(experience, {}, KEEPS, until - 0.1).unable) == {"x", "y", "z"}
    assert set(ability(experience, {}, KEEPS, until).unable) == {"y", "z"}
    assert set(ability(experience, {"x": NEW}, KEEPS, until).unable) == {"y", "z"}
    assert set(ability(experience, {"x": REFUSED}, KEEPS, until).unable) == {"x", "z"}
    read = learned(experience, {"x": Reading(read_at=until + 1)}, until + 1)
    assert ability(read, {"x": Reading(read_at=until + 1)}, KEEPS, until + 1).unable == {}
    again = gave_up(experience, ["x"], {"x": failing(UNREAD_S)}, until + 30)
    assert again.exchange == GivenUp(until + 30, times=2)


def runtime(reply: Reply) -> Reading:
    vitals = begun(FILE, host="host", simulator=False, live=True, now=NOW)
    event = ExchangeFailed(READING_LIVE, reply, NOW + 1)
    return reading_of(after(vitals, event, now=NOW, wall=datetime(2026, 1, 2, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        (Reply(ReplyClass.NO_ANSWER, "timeout"), False),
        (Reply(ReplyClass.ACCOUNT, "50111"), True),
        (Reply(ReplyClass.ENVIRONMENT, "50101"), True),
        (Reply(ReplyClass.CLOCK, "50102"), False),
        (Reply(ReplyClass.ACCOUNT, "claimed-twice"), False),
        (Reply(ReplyClass.ACCOUNT, "state-damaged"), False),
    ],
)
def test_what_no_other_replica_could_do_better_is_no_refused_key(reply: Reply, refused: bool) -> None:
    assert runtime(reply) == Reading(failing_since=NOW, refused=refused)


def test_an_account_that_nothing_was_seen_of_is_able() -> None:
    vitals = begun(FILE, host="host", simulator=False, live=True, now=NOW)
    assert reading_of(vitals) == Reading()
    objected = replace(
        vitals, read_at=NOW, objection=Objection(Reply(ReplyClass.ACCOUNT, "1"), writing=True)
    )
    assert reading_of(objected) == Reading(read_at=NOW, refused=True)
