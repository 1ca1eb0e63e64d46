"""What a replica reports that it cannot serve, and how long it does not try again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from reconciler.core.events import READING_LIVE, ExchangeFailed
from reconciler.core.monitoring.account_runtime import TerminalError, apply_event, initial, reading_of
from reconciler.core.replica_assignment import HEARTBEAT_S, Ability, LeaseName
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.unservable_accounts import (
    CALM_S,
    RECOVERING_S,
    TRY_AGAIN_S,
    TRY_EVERY_S,
    TRY_SOON_S,
    UNREAD_S,
    Experience,
    ReadState,
    Released,
    Trial,
    learned,
    released,
    serving_ability,
    to_try,
)
from tests.unit.builders import BTC, desired, setting

NOW = 1000.0
KEEPS = ("x", "y", "z")
FILE = desired({BTC: setting("5000/2000/100")})
GOOD, NEW, REFUSED = ReadState(read_at=NOW - 3), ReadState(), ReadState(refused=True)
FRESH = Experience(read_at=NOW - 3)


def failing(seconds: float, read_at: float | None = None) -> ReadState:
    return ReadState(failing_since=NOW - seconds, read_at=read_at)


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
    reading: ReadState, unable: dict[str, float | None]
) -> None:
    experience = learned(Experience(), {"x": reading, "y": GOOD}, {}, NOW)
    assert serving_ability(experience, {"x": reading, "y": GOOD}, {}, KEEPS, NOW) == Ability(unable, 3.0)


def test_the_age_of_the_newest_read_is_of_any_account_and_outlives_it() -> None:
    assert serving_ability(Experience(), {}, {}, KEEPS, NOW).read_age_s is None
    experience = learned(
        Experience(), {"x": ReadState(read_at=900.0), "y": ReadState(read_at=990.0)}, {}, NOW
    )
    assert serving_ability(experience, {}, {}, KEEPS, NOW).read_age_s == 10.0
    assert learned(experience, {"x": NEW}, {}, NOW) == experience


@pytest.mark.parametrize("read_at", [NOW - 2, None])
def test_one_whose_newest_reads_all_failed_takes_nothing_until_a_while_after(read_at: float | None) -> None:
    failed = learned(Experience(read_at=read_at), {"x": failing(1.0)}, {}, NOW)
    assert set(serving_ability(failed, {"x": failing(1.0)}, {}, KEEPS, NOW).unable) == {"y", "z"}
    read = {"x": ReadState(read_at=NOW + 1)}
    again = learned(failed, read, {}, NOW + 2)
    assert set(serving_ability(again, read, {}, KEEPS, NOW + RECOVERING_S - 0.1).unable) == {"y", "z"}
    assert serving_ability(again, read, {}, KEEPS, NOW + RECOVERING_S).unable == {}


def test_one_that_reads_other_accounts_takes_what_it_can() -> None:
    readings = {"x": failing(1.0)}
    experience = learned(Experience(read_at=NOW - 0.5), readings, {}, NOW)
    assert serving_ability(experience, readings, {}, KEEPS, NOW).unable == {}


def test_what_was_given_up_is_not_taken_again_for_a_time_that_grows() -> None:
    readings, experience, waits = {"x": REFUSED, "y": GOOD}, FRESH, []
    now = NOW
    for _ in range(len(TRY_AGAIN_S) + 1):
        experience = released(experience, ["x"], readings, now)
        until = experience.accounts["x"].until
        waits.append(until - now)
        assert rests(experience, until) == {"x": None}, "nothing shows that it can be read"
        read = {"x": Trial(until - 2.0, succeeded=True)}
        assert rests(experience, until - 0.5, read) == {"x": 1.5}
        assert rests(experience, until, read) == {}
        assert rests(experience, until, {"x": Trial(until - 2.0, succeeded=False)}) == {"x": None}
        assert rests(experience, until, {"x": Trial(now - 1.0, succeeded=True)}) == {"x": None}
        now = until + CALM_S - 0.1
    assert tuple(waits) == (*TRY_AGAIN_S, TRY_AGAIN_S[-1])
    experience = released(experience, ["x"], readings, now + CALM_S + TRY_AGAIN_S[-1])
    assert experience.accounts["x"].times == 1
    assert experience.exchange is None, "others could be read"
    assert released(experience, [], readings, now).accounts == experience.accounts


def rests(
    experience: Experience, now: float, trials: Mapping[LeaseName, Trial] = MappingProxyType({})
) -> Mapping[LeaseName, float | None]:
    """Return what rests at one that runs ``y`` alone; it is able to serve everything else."""
    reported = serving_ability(experience, {"y": GOOD}, trials, KEEPS, now)
    assert reported.unable == {}
    return reported.resting


def test_one_that_could_read_nothing_rests_with_everything_until_any_read_succeeds() -> None:
    readings = {"x": failing(UNREAD_S), "y": failing(UNREAD_S)}
    experience = released(Experience(read_at=NOW - 40), ["x", "y"], readings, NOW)
    assert experience.exchange == Released(NOW)
    assert {one.alone for one in experience.accounts.values()} == {False}
    until = NOW + TRY_AGAIN_S[0]
    assert serving_ability(experience, {}, {}, KEEPS, until).resting == dict.fromkeys(KEEPS)
    read = learned(experience, {}, {"z": Trial(until - 3, succeeded=True)}, until - 1)
    assert serving_ability(read, {}, {}, KEEPS, until - 1) == Ability({}, 2.0, dict.fromkeys(KEEPS, 2.0))
    assert serving_ability(read, {}, {}, KEEPS, until).resting == {}
    goes_on = released(experience, ["z"], {"z": failing(UNREAD_S)}, NOW + 30)
    assert goes_on.exchange == Released(NOW + 30), "nothing was read since: it is the same outage"
    again = released(read, ["x"], {"x": failing(UNREAD_S)}, until + 30)
    assert again.exchange == Released(until + 30, times=2)


def test_who_finds_out_later_that_it_can_read_nothing_had_given_up_the_first_for_that_too() -> None:
    first = released(FRESH, ["x"], {"x": failing(UNREAD_S), "y": GOOD, "z": REFUSED}, NOW)
    assert (first.accounts["x"].alone, first.exchange) == (True, None)
    readings = {"y": failing(UNREAD_S), "z": REFUSED}
    second = released(first, ["y", "z"], readings, NOW + 30)
    assert {name: one.alone for name, one in second.accounts.items()} == {"x": False, "y": False, "z": True}
    read_since = replace(first, read_at=NOW + 1)
    assert released(read_since, ["y"], readings, NOW + 30).accounts["x"].alone


def test_one_that_runs_nothing_is_unable_while_its_trials_fail_and_a_while_after() -> None:
    failed, refused = Trial(NOW - 1, succeeded=False), Trial(NOW - 1, succeeded=False, refused=True)
    assert learned(FRESH, {}, {"x": failed}, NOW).failed_at == NOW
    assert learned(FRESH, {}, {"x": failed}, NOW + 60).failed_at == NOW - 1 + TRY_EVERY_S
    assert learned(Experience(), {}, {"x": failed}, NOW).failed_at == NOW
    assert learned(FRESH, {"y": GOOD}, {"x": failed}, NOW).failed_at is None
    assert learned(FRESH, {}, {"x": refused}, NOW).failed_at is None
    assert learned(FRESH, {}, {"x": failed, "y": Trial(NOW, succeeded=True)}, NOW).failed_at is None


def test_what_rests_is_read_on_trial_now_and_then_and_soon_where_its_owner_cannot() -> None:
    reported, running = Ability(resting={"x": None, "y": None}), {"z": GOOD}

    def tried(
        awaited: tuple[str, ...], now: float, readings: Mapping[str, ReadState] = running
    ) -> str | None:
        return to_try(reported, readings, {"x": Trial(NOW, False), "y": Trial(NOW - 5, True)}, awaited, now)

    assert to_try(reported, running, {}, (), NOW) == "x"
    assert to_try(Ability(), running, {}, ("w",), NOW) is None, "its own accounts show it"
    assert to_try(Ability(), {}, {}, ("w",), NOW) == "w"
    assert tried((), NOW + TRY_EVERY_S - 5.1) is None
    assert tried((), NOW + TRY_EVERY_S - 5.0) == "y"
    assert tried(("x",), NOW + TRY_SOON_S - 0.1) is None
    assert tried(("x",), NOW + TRY_SOON_S) == "x"
    assert tried(("w",), NOW + HEARTBEAT_S, {}) == "w"
    assert tried(("w",), NOW + HEARTBEAT_S - 0.1, {}) is None, "one at a time"


def runtime(reply: Reply) -> ReadState:
    runtime = initial(FILE, host="host", simulator=False, live=True, now=NOW)
    event = ExchangeFailed(READING_LIVE, reply, NOW + 1)
    return reading_of(apply_event(runtime, event, now=NOW, wall=datetime(2026, 1, 2, tzinfo=UTC)))


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
    assert runtime(reply) == ReadState(failing_since=NOW, refused=refused)


def test_an_account_that_nothing_was_seen_of_is_able() -> None:
    runtime = initial(FILE, host="host", simulator=False, live=True, now=NOW)
    assert reading_of(runtime) == ReadState()
    objected = replace(
        runtime, read_at=NOW, terminal_error=TerminalError(Reply(ReplyClass.ACCOUNT, "1"), writing=True)
    )
    assert reading_of(objected) == ReadState(read_at=NOW, refused=True)
