"""What deserves a message: every kind, how bad it is, and how long it may last untold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import (
    ControlledElsewhere,
    ControlTaken,
    Event,
    ExchangeFailed,
    Identified,
    LiveReadDone,
    LoopFailed,
    PassEnded,
    RequestSettled,
    SettingRejected,
    StateFailed,
    StateLockTimedOut,
)
from reconciler.core.model import Pause, Uncertain
from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    FileInForce,
    FileState,
    NeverValid,
    NewerRejected,
    TerminalError,
    apply_event,
    initial,
)
from reconciler.core.monitoring.alerts import (
    FROZEN_FOR_S,
    LATE_AFTER_S,
    LOCKED_AFTER_S,
    STANDBY_AFTER_S,
    STATE_LOST_AFTER_S,
    UNREACHABLE_AFTER_S,
    Alert,
    AlertKey,
    AlertKind,
    AlertSeverity,
    AlertTopic,
    active_alerts,
)
from reconciler.core.pacing import CountedRequest, Ledger
from reconciler.core.plan import PlanConstraints, Reason
from reconciler.core.policy import Policy
from reconciler.core.problems import Code, problem
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from reconciler.core.retry import Rejection
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, read, row, setting, unresolved
from tests.unit.report_samples import WALL
from tests.unit.runtime_builders import BAD_KEY, LOST, outage, runtime_of

A = setting("5000/2000/100")
LOOSER, TIGHTER = "5000/2000/9999", "5000/2000/50"
APPLIED = {BTC: confirmed("5000/2000/100", at=NOW - 60)}
FULL = Ledger(sent=(CountedRequest(1, NOW - 4), CountedRequest(2, NOW - 3)))
REFUSED = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter qtyLimit error")
CRITICAL, WARNING, INFO = AlertSeverity
CALM = runtime_of({BTC: A}, APPLIED, {BTC: row("5000/2000/100")})


def family(runtime: AccountRuntime) -> Alert | None:
    return active_alerts(runtime).get(AlertKey(AlertTopic.FAMILY, BTC))


def alert_fields(runtime: AccountRuntime) -> tuple[AlertKind, AlertSeverity, str, float] | None:
    found = family(runtime)
    return None if found is None else (found.kind, found.severity, found.code, found.for_s)


def test_an_account_in_sync_is_protected_and_that_is_all() -> None:
    only = {AlertKey(AlertTopic.START): Alert(AlertKind.PROTECTED, INFO, "started", 1)}
    assert active_alerts(CALM) == only


def test_before_the_first_comparison_nothing_is_known_and_nothing_reported() -> None:
    assert active_alerts(initial(desired({BTC: A}), host="h", simulator=False, live=True, now=NOW)) == {}


def test_a_comparison_that_is_not_complete_says_nothing_of_a_family() -> None:
    assert family(runtime_of({BTC: A}, APPLIED, {BTC: row(LOOSER)}, complete=False)) is None


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (runtime_of({BTC: A}, APPLIED, {BTC: row(LOOSER)}), (CRITICAL, "drifted", 0.0)),
        (runtime_of({BTC: A}, APPLIED, {BTC: row(TIGHTER)}), (WARNING, "drifted", 0.0)),
        (runtime_of({BTC: A}, APPLIED, {BTC: row("0/2000/100")}), (CRITICAL, "drifted", 0.0)),
        (runtime_of({BTC: A}, APPLIED, {}), (CRITICAL, "drifted", 0.0)),
        (
            runtime_of(
                {BTC: A},
                APPLIED,
                {BTC: row(TIGHTER)},
                rules=PlanConstraints(drift=DriftPolicy.HEAL_LOOSENED),
            ),
            (WARNING, "drift-policy", 0.0),
        ),
        (
            runtime_of(
                {BTC: A}, APPLIED, {BTC: row(LOOSER)}, rules=PlanConstraints(drift=DriftPolicy.WARN)
            ),
            (CRITICAL, "drift-policy", 0.0),
        ),
        (
            runtime_of(
                {BTC: A}, APPLIED, {BTC: row(LOOSER)}, rules=PlanConstraints(paused=frozenset({BTC}))
            ),
            (CRITICAL, "paused", 0.0),
        ),
        (
            runtime_of(
                {BTC: A},
                {BTC: confirmed("5000/2000/50", at=NOW - 60)},
                {BTC: row(TIGHTER)},
                rules=PlanConstraints(policy=Policy("p", "0" * 64, protected=frozenset({ETH}))),
            ),
            (WARNING, "changed", LATE_AFTER_S),
        ),
        (
            runtime_of({BTC: setting("0/2000/100")}, APPLIED, {BTC: row("5000/2000/100")}),
            (WARNING, "guard", 0.0),
        ),
        (runtime_of({BTC: A}, {}, {}), (CRITICAL, "new", LATE_AFTER_S)),
        (runtime_of({BTC: setting("0/2000/100")}, {}, {}), (WARNING, "new", LATE_AFTER_S)),
        (
            runtime_of({BTC: A}, {}, {BTC: row(LOOSER)}, ledger=FULL),
            (CRITICAL, "changed", pytest.approx(6.055 + LATE_AFTER_S)),
        ),
        (
            runtime_of({BTC: A}, APPLIED, {BTC: row(LOOSER, frozen=True)}),
            (CRITICAL, "frozen", FROZEN_FOR_S),
        ),
    ],
)
def test_a_family_that_differs(runtime: AccountRuntime, expected: tuple[AlertSeverity, str, float]) -> None:
    assert alert_fields(runtime) == (AlertKind.OUT_OF_SYNC, *expected)


def test_what_only_has_to_be_adopted_is_no_difference() -> None:
    assert family(runtime_of({BTC: A}, {}, {BTC: row("5000/2000/100")})) is None


def test_an_unconfirmed_family_is_reported_once_its_time_is_over() -> None:
    other = unresolved("5000/2000/400", reserved_at=NOW - 5, effect_until=NOW + 30)
    known = {BTC: Uncertain(confirmed("5000/2000/100", at=NOW - 3, attempt=9), (other,))}
    found = alert_fields(runtime_of({BTC: A}, known, {BTC: row("5000/2000/100")}))
    assert found is not None
    assert found[:3] == (AlertKind.OUT_OF_SYNC, WARNING, "uncertain")
    assert found[3] >= 30.0 + LATE_AFTER_S


def test_frozen_until_reset_goes_before_everything_else_and_only_desired_families_count() -> None:
    rows = {BTC: row("5000/0/9999", frozen=True), ETH: row("5000/0/100", frozen=True)}
    runtime = runtime_of({BTC: A}, APPLIED, rows)
    assert alert_fields(runtime) == (AlertKind.FROZEN, CRITICAL, "until-reset", 0.0)
    assert [key for key in active_alerts(runtime) if key.topic is AlertTopic.FAMILY] == [
        AlertKey(AlertTopic.FAMILY, BTC)
    ]


@pytest.mark.parametrize(
    ("shown", "severity"), [(LOOSER, CRITICAL), (TIGHTER, WARNING), ("5000/2000/100", WARNING)]
)
def test_a_contested_family_is_an_alert_as_long_as_its_pause(shown: str, severity: AlertSeverity) -> None:
    contested_setting = Pause(BTC, "somebody else", WALL, None, contested=A)
    by_hand = Pause(ETH, "testing", WALL, None)
    rules = PlanConstraints(paused=frozenset({BTC}))
    runtime = runtime_of({BTC: A}, APPLIED, {BTC: row(shown)}, rules=rules)
    found = alert_fields(replace(runtime, pauses=(contested_setting, by_hand)))
    assert found == (AlertKind.CONTESTED, severity, "contested", 0.0)
    assert AlertKey(AlertTopic.FAMILY, ETH) not in active_alerts(
        replace(runtime, pauses=(contested_setting, by_hand))
    )
    nothing_compared = initial(desired({BTC: A}), host="h", simulator=False, live=True, now=NOW)
    assert alert_fields(replace(nothing_compared, pauses=(contested_setting,))) == (
        AlertKind.CONTESTED,
        WARNING,
        "contested",
        0.0,
    )


def test_a_freeze_that_ends_by_itself_is_nothing_to_tell() -> None:
    assert family(runtime_of({BTC: A}, APPLIED, {BTC: row("5000/2000/100", frozen=True)})) is None


def test_a_refused_value_is_reported_in_the_exchange_s_words() -> None:
    rejected_setting = SettingRejected(BTC, A, REFUSED, None)
    runtime = runtime_of(
        {BTC: A}, {}, {BTC: row(LOOSER)}, rules=PlanConstraints(rejected={BTC: Rejection(A, float("inf"))})
    )
    assert alert_fields(replace(runtime, rejected={BTC: rejected_setting})) == (
        AlertKind.REJECTED,
        CRITICAL,
        "51000",
        0.0,
    )
    assert alert_fields(runtime) == (AlertKind.OUT_OF_SYNC, CRITICAL, "rejected", 0.0)


def test_a_rejection_that_was_fixed_is_not_reported_any_more() -> None:
    runtime = replace(CALM, rejected={BTC: SettingRejected(BTC, A, REFUSED, None)})
    assert family(runtime) is None


# ---- exchange, files, state ----------------------------------------------------------------------


def test_an_outage_is_reported_after_a_minute_and_a_key_problem_at_once() -> None:
    key = AlertKey(AlertTopic.EXCHANGE)
    silent = replace(CALM, outage=outage())
    assert active_alerts(silent)[key] == Alert(
        AlertKind.UNREACHABLE, CRITICAL, "no-answer", outage(), UNREACHABLE_AFTER_S
    )
    refused = replace(silent, terminal_error=TerminalError(BAD_KEY, writing=False))
    assert active_alerts(refused)[key] == Alert(AlertKind.KEY_PROBLEM, CRITICAL, "50119", BAD_KEY)


LOCKED = StateLockTimedOut("pid 7")


def test_a_state_held_by_another_process_is_reported_after_a_minute() -> None:
    found = active_alerts(replace(CALM, state_locked=LOCKED))[AlertKey(AlertTopic.STATE)]
    assert found == Alert(AlertKind.STATE_LOCKED, WARNING, "locked", LOCKED, LOCKED_AFTER_S)


def test_a_state_that_cannot_be_used_is_reported_after_a_minute_until_it_can() -> None:
    failing = StateFailed("state-disk-full", "no space left", NOW + 1)
    lost = having_all(CALM, LOCKED, failing)
    found = active_alerts(lost)[AlertKey(AlertTopic.STATE)]
    assert found == Alert(AlertKind.STATE_UNAVAILABLE, CRITICAL, "unavailable", failing, STATE_LOST_AFTER_S)
    again = having_all(lost, LOCKED)
    assert active_alerts(again)[AlertKey(AlertTopic.STATE)].kind is AlertKind.STATE_LOCKED


def test_standing_by_is_reported_after_a_minute() -> None:
    elsewhere = ControlledElsewhere(None)
    found = active_alerts(apply_event(CALM, elsewhere, now=NOW, wall=WALL))[AlertKey(AlertTopic.CONTROLLER)]
    assert found == Alert(AlertKind.STANDBY, WARNING, "standby", elsewhere, STANDBY_AFTER_S)
    assert (elsewhere.who, STANDBY_AFTER_S) == ("another process", 60.0)
    taken = having_all(CALM, elsewhere, ControlTaken())
    assert AlertKey(AlertTopic.CONTROLLER) not in active_alerts(taken)
    failed = having_all(CALM, elsewhere, LoopFailed("credentials-missing", "no key", "", NOW + 30))
    assert AlertKey(AlertTopic.CONTROLLER) not in active_alerts(failed), "not known any more"


def having_all(runtime: AccountRuntime, *events: Event) -> AccountRuntime:
    for event in events:
        runtime = apply_event(runtime, event, now=NOW, wall=WALL)
    return runtime


@pytest.mark.parametrize(
    ("topic", "kind", "placed"),
    [
        (AlertTopic.CONFIG, AlertKind.CONFIG_INVALID, lambda file: replace(CALM, config=file)),
        (AlertTopic.POLICY, AlertKind.POLICY_INVALID, lambda file: replace(CALM, policy=file)),
    ],
)
def test_an_invalid_file_is_reported_at_once(
    topic: AlertTopic, kind: AlertKind, placed: Callable[[FileState], AccountRuntime]
) -> None:
    good = FileInForce("mmp.yaml", "0" * 64, WALL)
    wrong = (problem(Code.UNKNOWN_KEY, "mmp.yaml", "unknown key"),)
    assert AlertKey(topic) not in active_alerts(placed(good))
    bad = NewerRejected("mmp.yaml", good, WALL, wrong)
    assert active_alerts(placed(bad))[AlertKey(topic)] == Alert(kind, WARNING, "unknown-key", bad)
    unnamed = replace(bad, problems=())
    assert active_alerts(placed(unnamed))[AlertKey(topic)] == Alert(kind, WARNING, "rejected", unnamed)
    never = NeverValid("mmp.yaml", WALL, wrong)
    assert active_alerts(placed(never))[AlertKey(topic)] == Alert(kind, CRITICAL, "unknown-key", never)


# ---- what is objected to -------------------------------------------------------------------------


def settled(reply: Reply, status: AttemptStatus) -> RequestSettled:
    return RequestSettled(1, BTC, A, status, reply, 0.1, Reason.CHANGED)


OBJECTING = settled(BAD_KEY, AttemptStatus.REJECTED)
ACCEPTED = settled(Reply(ReplyClass.ACCEPTED, "0"), AttemptStatus.APPLIED)
STALE = Reply(ReplyClass.CLOCK, "50102", "Timestamp request expired")
ENDED_BY_A_READ = ExchangeFailed("reading live settings", BAD_KEY, None)
READ = LiveReadDone(read(NOW, {}))


@pytest.mark.parametrize(
    ("events", "objected"),
    [
        ([OBJECTING], True),
        ([ENDED_BY_A_READ], True),
        ([ExchangeFailed("reading", STALE, None)], True),
        ([settled(STALE, AttemptStatus.REJECTED)], False),
        ([ExchangeFailed("reading", LOST, NOW + 1)], False),
        ([ENDED_BY_A_READ, ExchangeFailed("reading", LOST, NOW + 1)], True),
        ([ENDED_BY_A_READ, READ], False),
        ([ENDED_BY_A_READ, Identified("1", None)], False),
        ([OBJECTING, READ], True),
        ([OBJECTING, Identified("1", None), READ], True),
        ([OBJECTING, PassEnded(0.1, finished=False)], True),
        ([OBJECTING, PassEnded(0.1, finished=True)], False),
        ([OBJECTING, ACCEPTED], False),
        ([OBJECTING, settled(REFUSED, AttemptStatus.REJECTED)], False),
        ([OBJECTING, settled(LOST, AttemptStatus.UNKNOWN)], True),
        ([OBJECTING, settled(STALE, AttemptStatus.REJECTED)], True),
        ([OBJECTING, settled(Reply(ReplyClass.BUSY, "50013"), AttemptStatus.REJECTED)], True),
        ([OBJECTING, StateLockTimedOut("pid 7")], True),
    ],
)
def test_an_error_lasts_until_it_is_shown_to_be_over(events: list[object], objected: bool) -> None:
    runtime = CALM
    for event in events:
        runtime = apply_event(runtime, event, now=NOW, wall=WALL)  # type: ignore[arg-type] # events of all kinds
    assert (runtime.terminal_error is not None) == objected
    assert (
        AlertKey(AlertTopic.EXCHANGE) in active_alerts(runtime) and runtime.terminal_error is not None
    ) == objected


HELD = runtime_of({BTC: A}, APPLIED, {BTC: row(LOOSER)}, rules=PlanConstraints(paused=frozenset({BTC})))


@pytest.mark.parametrize(("runtime", "objected"), [(HELD, True), (CALM, False)])
def test_a_pass_that_only_holds_shows_no_key_to_be_accepted(
    runtime: AccountRuntime, objected: bool
) -> None:
    for event in (OBJECTING, PassEnded(0.1, finished=True)):
        runtime = apply_event(runtime, event, now=NOW, wall=WALL)
    assert (runtime.terminal_error is not None) == objected


def test_the_error_of_a_write_is_not_over_because_a_read_was_refused_too() -> None:
    runtime = CALM
    for event in (OBJECTING, ExchangeFailed("reading live settings", STALE, None), READ):
        runtime = apply_event(runtime, event, now=NOW, wall=WALL)
    assert runtime.terminal_error == TerminalError(BAD_KEY, writing=True)


@pytest.mark.parametrize("live", [True, False])
def test_an_outage_is_over_when_the_exchange_is_not_asked_any_more(live: bool) -> None:
    runtime = replace(CALM, outage=outage(), live=live)
    assert apply_event(runtime, PassEnded(0.1, finished=False), now=NOW, wall=WALL).outage is not None
    assert (
        apply_event(runtime, PassEnded(0.1, finished=True), now=NOW, wall=WALL).outage is not None
    ) == live
