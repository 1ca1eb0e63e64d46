"""The runtime of an account: what each event changes, what is latched, bounded and forgotten."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any, get_args

import pytest

from reconciler.core.events import (
    AccountsConfigured,
    Adopted,
    AttemptsEnded,
    ClockMeasured,
    ClockSynced,
    ClockUnmeasured,
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    ControlledElsewhere,
    ControlTaken,
    Event,
    ExchangeFailed,
    FilesStillWritten,
    HealBreakerTripped,
    Identified,
    KeyMayWithdraw,
    KeyReplaced,
    LeaseEnded,
    LeaseTaken,
    LiveReadDone,
    LoopFailed,
    LoopIdle,
    LoopResumed,
    OddRowsSeen,
    PassEnded,
    Planned,
    PolicyAccepted,
    PolicyRejected,
    ReadFailed,
    RejectedConfigRemoved,
    ReplicaStatusChanged,
    RequestReserved,
    RequestSettled,
    RequestTooLate,
    SettingRejected,
    StateFailed,
    StateLockTimedOut,
    Waiting,
    WaitReason,
    WatchDegraded,
)
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRow, NeverApplied, Uncertain
from reconciler.core.monitoring.account_runtime import (
    FROM_OUTSIDE,
    MAX_ERRORS,
    MAX_PROBLEMS_REMEMBERED,
    MAX_REQUESTS,
    SHOWN_S,
    SILENCE_S,
    AccountRuntime,
    FileInForce,
    NeverValid,
    NewerRejected,
    Outage,
    RecentError,
    RecentRequest,
    TerminalError,
    alive,
    runtime_status,
)
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import Plan, PlanConstraints, Reason
from reconciler.core.problems import Code, problem
from reconciler.core.replica_assignment import Replica, ReplicaStatus
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from tests.unit.builders import BTC, ETH, NOW, confirmed, plan_of, read, row, setting, unresolved
from tests.unit.runtime_world import WALL, WANTED, A, compared, fresh, having, wall_at

IN_SYNC: dict[Any, Known] = {BTC: confirmed("5000/2000/100"), ETH: confirmed("5000/2000/100")}
ROWS = {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}
READ = read(NOW, ROWS)
LOST = Reply(ReplyClass.NO_ANSWER, "timeout")
NO = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter qtyLimit error")
NO_KEY = Reply(ReplyClass.ACCOUNT, "credentials-missing", "OKX_API_KEY is not set; set it")
DOWN = ExchangeFailed("connecting", LOST, NOW + 1)
OUTAGE = Outage(NOW - 5, wall_at(NOW - 5), DOWN, 2)
REJECTED_SETTING = SettingRejected(BTC, A, NO, None)
RESERVED = RequestReserved(7, BTC, A, NOW)
SENDING = RecentRequest(7, BTC, NOW, AttemptStatus.PENDING)
WHOLE = compared(IN_SYNC, ROWS)
PASS_ENDED = PassEnded(0.1, finished=True)


def settled(status: AttemptStatus, reply: Reply = NO, *, attempt: int = 7) -> RequestSettled:
    return RequestSettled(attempt, BTC, A, status, reply, 0.1, Reason.CHANGED)


WRONG = problem(Code.BAD_QUANTITY, "mmp.yaml", "too much", "less", line=3, column=7)
IN_FORCE_FILE = FileInForce("mmp.yaml", "00", wall_at(NOW - 100))

UNNAMED = ControlledElsewhere(None)
LOCKED = StateLockTimedOut("pid 9 holds it")
UNAVAILABLE = StateFailed("state-unavailable", "the connection was lost", NOW + 4)
FAILED = LoopFailed("credentials-missing", "OKX_API_KEY is not set", "set it", NOW + 30)
LOCKED_BEFORE = StateLockTimedOut("pid 7 holds it")
FAILED_BEFORE = StateFailed("state-unavailable", "timeout", NOW - 6)
ELSEWHERE = ControlledElsewhere(LockHolder(7, "desk-1", "run", "2026-03-01T02:00:00Z"))

BEFORE = replace(
    fresh(),
    last_step_at=NOW - 10,
    next_step_by=NOW - 10,
    outage=OUTAGE,
    controller=ELSEWHERE,
    state_locked=LOCKED_BEFORE,
    state_failed=FAILED_BEFORE,
    rejected={BTC: REJECTED_SETTING, ETH: replace(REJECTED_SETTING, family=ETH)},
    requests=(SENDING,),
    config=IN_FORCE_FILE,
)
"""An account that knows of trouble of every kind, so that it shows what an event clears."""

ROWS_OF_EVENTS: list[tuple[Event, dict[str, object]]] = [
    (Identified("446556540", None), {"uid": "446556540", "outage": None, "state_failed": None}),
    (LiveReadDone(READ), {"read": READ, "read_at": NOW, "outage": None, "state_locked": None}),
    (
        WHOLE,
        {
            "compared": WHOLE,
            "compared_at": NOW,
            "last_complete": WHOLE,
            "started": True,
            "in_sync_at": NOW,
            "state_failed": None,
        },
    ),
    (
        replace(WHOLE, complete=False),
        {"compared": replace(WHOLE, complete=False), "compared_at": NOW, "state_failed": None},
    ),
    (
        DOWN,
        {
            "outage": replace(OUTAGE, failures=3),
            "errors": (RecentError(WALL, "timeout", "failed: connecting: no-answer", asked=True),),
        },
    ),
    (Planned(plan_of(WANTED)), {}),
    (PASS_ENDED, {"state_locked": None, "state_failed": None}),
    (LoopIdle(NOW + 30), {"next_step_by": NOW + 30}),
    (LoopResumed(NOW + 47), {"next_step_by": NOW + 47}),
    (Waiting(NOW + 5, WaitReason.SLOT, BTC, 1, NOW + 5), {}),
    (Adopted({BTC: A}), {}),
    (replace(RESERVED, attempt=8), {"requests": (SENDING, replace(SENDING, attempt=8))}),
    (
        settled(AttemptStatus.APPLIED),
        {
            "requests": (replace(SENDING, status=AttemptStatus.APPLIED),),
            "outage": None,
            "rejected": {ETH: replace(REJECTED_SETTING, family=ETH)},
        },
    ),
    (
        settled(AttemptStatus.REJECTED),
        {
            "requests": (replace(SENDING, status=AttemptStatus.REJECTED),),
            "errors": (RecentError(WALL, "51000", "request rejected: Parameter qtyLimit error", BTC),),
        },
    ),
    (
        settled(AttemptStatus.UNKNOWN, LOST, attempt=9),
        {"errors": (RecentError(WALL, "timeout", "request unknown: no-answer", BTC),)},
    ),
    (
        replace(REJECTED_SETTING, reply=replace(NO, message="")),
        {
            "rejected": {
                BTC: replace(REJECTED_SETTING, reply=replace(NO, message="")),
                ETH: replace(REJECTED_SETTING, family=ETH),
            },
            "errors": (RecentError(WALL, "51000", "rejected by the exchange: wrong-settings", BTC),),
        },
    ),
    (
        HealBreakerTripped(BTC, A, 3),
        {
            "errors": (
                RecentError(
                    WALL,
                    "contested",
                    "restored 3 times and changed again by another writer: no longer written",
                    BTC,
                ),
            )
        },
    ),
    (ClockSynced(), {}),
    (ClockUnmeasured(NO), {}),
    (ClockMeasured(), {}),
    (RequestTooLate(BTC, 12.0), {}),
    (FilesStillWritten(BTC, 1.0), {}),
    (ReadFailed("reading one family", NO), {}),
    (AttemptsEnded((BTC,)), {}),
    (OddRowsSeen(("btc-usd",), 0), {}),
    (LOCKED, {"state_locked": LOCKED, "state_failed": None}),
    (ControlledElsewhere(None), {"controller": UNNAMED, "state_locked": None, "state_failed": None}),
    (ControlTaken(), {"controller": None}),
    (KeyReplaced(), {}),
    (WatchDegraded("no watches left"), {}),
    (ConfigMissing(("mmp.yaml",)), {}),
    (
        FAILED,
        {
            "next_step_by": NOW + 30,
            "loop_failed": FAILED,
            "terminal_error": TerminalError(NO_KEY, writing=False),
            "controller": None,
            "errors": (RecentError(WALL, "credentials-missing", "OKX_API_KEY is not set"),),
        },
    ),
    (LeaseTaken("pod-1 (pid 7)"), {}),
    (ReplicaStatusChanged(ReplicaStatus(Replica("1", "pod-1", 7))), {}),
    (AccountsConfigured(frozenset()), {}),
    (KeyMayWithdraw("7"), {}),
    (LeaseEnded(lost=False), {}),
    (
        UNAVAILABLE,
        {
            "next_step_by": NOW + 4,
            "state_failed": UNAVAILABLE,
            "errors": (RecentError(WALL, "state-unavailable", "the connection was lost"),),
        },
    ),
    (ConfigAccepted("mmp.yaml", "ab"), {"config": FileInForce("mmp.yaml", "ab", WALL)}),
    (
        ConfigRejected("mmp.yaml", (WRONG,)),
        {"config": NewerRejected("mmp.yaml", IN_FORCE_FILE, WALL, (WRONG,))},
    ),
    (PolicyAccepted("p.yaml", "cd"), {"policy": FileInForce("p.yaml", "cd", WALL)}),
    (
        PolicyRejected("p.yaml", (WRONG,) * (MAX_PROBLEMS_REMEMBERED + 1)),
        {"policy": NewerRejected("p.yaml", None, WALL, (WRONG,) * MAX_PROBLEMS_REMEMBERED)},
    ),
    (PolicyRejected("p.yaml", (WRONG,), in_force=False), {"policy": NeverValid("p.yaml", WALL, (WRONG,))}),
    (RejectedConfigRemoved("other.yaml"), {}),
]


@pytest.mark.parametrize(
    ("event", "news"), ROWS_OF_EVENTS, ids=lambda value: type(value).__name__ if value != {} else "nothing"
)
def test_an_event_makes_its_own_facts_known_and_no_others(event: Event, news: dict[str, object]) -> None:
    made = having(BEFORE, event)
    changed = {
        field.name: getattr(made, field.name)
        for field in fields(AccountRuntime)
        if getattr(made, field.name) != getattr(BEFORE, field.name)
    }
    steps = {} if isinstance(event, FROM_OUTSIDE) else {"last_step_at": NOW, "next_step_by": NOW}
    assert changed == {**steps, **news}


def test_the_table_has_every_event() -> None:
    assert {type(event) for event, _ in ROWS_OF_EVENTS} == set(get_args(Event))


def test_a_refused_request_and_the_family_rejected_for_it_are_one_problem() -> None:
    made = having(fresh(), settled(AttemptStatus.REJECTED), REJECTED_SETTING)
    assert [failing.message for failing in made.errors] == [
        "rejected by the exchange: Parameter qtyLimit error"
    ]


def test_the_first_failure_begins_an_outage() -> None:
    assert having(fresh(), DOWN).outage == Outage(NOW, WALL, DOWN, 1)


@pytest.mark.parametrize("event", [event for event, _ in ROWS_OF_EVENTS], ids=lambda e: type(e).__name__)
def test_a_loop_that_could_not_go_on_does_when_it_tells_of_itself(event: Event) -> None:
    """Files, leases and waiting are told of an account whatever its loop does."""
    stays = isinstance(event, (LoopFailed, LoopIdle, *FROM_OUTSIDE))
    made = having(having(fresh(), FAILED), event)
    assert (made.loop_failed is not None) == stays
    blamed = made.terminal_error is not None and made.terminal_error.reply.code == "credentials-missing"
    assert blamed == stays


def test_a_failed_loop_does_not_show_that_the_state_can_be_used_or_that_its_lock_is_free() -> None:
    made = having(fresh(), LOCKED, UNAVAILABLE, FAILED, LoopResumed(NOW + 47))
    assert (made.state_locked, made.state_failed, made.loop_failed) == (LOCKED, UNAVAILABLE, None)


def test_what_was_refused_is_forgotten_once_a_file_holds() -> None:
    made = having(fresh(), PolicyRejected("p.yaml", (WRONG,)), PolicyAccepted("p.yaml", "cd"))
    assert made.policy == FileInForce("p.yaml", "cd", WALL)
    assert having(made, PolicyAccepted("p.yaml", None)).policy is None


def test_a_newer_file_is_taken_with_the_comparison() -> None:
    event = compared(wanted={BTC: A})
    assert having(fresh(), event).desired == event.desired


# ---- started, and in sync ------------------------------------------------------------------------

IN_FORCE = ("5000/2000/100", "5000/2000/50", "5000/2000/400", "0/2000/100", "9000/2000/400", None)
"""As desired, tighter, looser, disabled, mixed, no row at all."""


def safe(text: str | None) -> bool:
    """Tell from the words alone whether what is in force protects as much as 5000/2000/100."""
    if text is None:
        return False
    window, freeze, quantity = (int(part) for part in text.split("/"))
    return window >= 5000 and freeze >= 2000 and quantity <= 100


KNOWN_AS: dict[str, Known] = {
    "never": NeverApplied(),
    "as desired": confirmed("5000/2000/100"),
    "looser": confirmed("5000/2000/400"),
    "unanswered": Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/100"),)),
}


@pytest.mark.parametrize(("live", "known"), list(product(IN_FORCE, KNOWN_AS)))
def test_started_is_every_family_in_sync_or_tighter_and_none_uncertain(
    live: str | None, known: str
) -> None:
    rows: dict[Any, LiveRow] = {} if live is None else {BTC: row(live)}
    records = {} if known == "never" else {BTC: KNOWN_AS[known]}
    event = compared(records, rows, wanted={BTC: A})
    made = having(fresh(), event)
    # An unanswered attempt of the same value that a read shows in force needs no request any more,
    # but until it is recorded the family is uncertain.
    assert made.started == (safe(live) and known != "unanswered")
    assert (made.in_sync_at == NOW) == (live == "5000/2000/100")


@pytest.mark.parametrize("rows", [{}, {BTC: row("5000/2000/900")}])
def test_a_loosened_file_does_not_hide_that_less_is_in_force_than_was_applied(
    rows: dict[Any, LiveRow],
) -> None:
    """The applied setting is tighter, but it is not in force."""
    event = compared(
        {BTC: confirmed("5000/2000/100", at=NOW - 2)}, rows, wanted={BTC: setting("5000/2000/200")}
    )
    made = having(fresh(), LiveReadDone(read(NOW - 1, rows)), event)
    assert not made.started


def test_in_doubt_nothing_is_proven() -> None:
    made = having(fresh(), compared(IN_SYNC, ROWS, complete=False))
    assert (made.started, made.in_sync_at) == (False, None)


@pytest.mark.parametrize("overtaken", [frozenset[Family](), frozenset({BTC})])
def test_a_read_that_another_process_s_record_overtook_proves_nothing(overtaken: frozenset[Family]) -> None:
    """Loosening it asks for no second read, but whether it is as tight as its record nobody knows."""
    wanted = {BTC: setting("5000/2000/200")}
    rows = {BTC: row("5000/2000/400")}
    reads = Reads(read(NOW - 1, rows), overtaken)
    event = compared({BTC: confirmed("5000/2000/100", at=NOW)}, rows, wanted=wanted, reads=reads)
    assert event.complete == (not overtaken)
    made = having(fresh(wanted), LiveReadDone(read(NOW - 1, rows)), event)
    sentence = runtime_status(made, now=NOW, wall=WALL)
    assert sentence is not None
    assert (made.started, sentence.families[0].live) == (not overtaken, None)


def test_an_overtaken_read_counts_as_unknown_until_it_is_read_again() -> None:
    rows = {BTC: row("5000/2000/400")}
    known = {BTC: confirmed("5000/2000/100", at=NOW)}
    reads = Reads(read(NOW - 1, rows), frozenset({BTC}))
    event = compared(known, rows, wanted={BTC: A}, reads=reads)
    assert (event.complete, event.plan.doubtful) == (False, (BTC,))
    sentence = runtime_status(
        having(fresh({BTC: A}), LiveReadDone(read(NOW - 1, rows)), event), now=NOW, wall=WALL
    )
    assert sentence is not None
    (one,) = sentence.families
    assert (one.state, one.doubtful, one.live) == (FamilyState.UNCERTAIN, True, None)


def test_started_stays_and_in_sync_keeps_its_moment() -> None:
    made = having(fresh(), WHOLE)
    made = having(made, compared(IN_SYNC, {}, now=NOW + 60), now=NOW + 60)
    assert (made.started, made.in_sync_at) == (True, NOW)


def test_a_family_of_which_another_value_may_still_land_is_not_in_sync() -> None:
    waiting: dict[Any, Known] = {
        BTC: Uncertain(
            confirmed("5000/2000/100", at=950.0, attempt=6), (unresolved("9000/2000/100", attempt=5),)
        )
    }
    event = compared(waiting, {BTC: row("5000/2000/100")}, wanted={BTC: A})
    (change,) = event.plan.changes
    assert change.known_at is not None
    made = having(fresh(), event)
    assert (made.started, made.in_sync_at) == (False, None)


# ---- heartbeat -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "due", "now", "expected"),
    [
        (0.0, 0.0, SILENCE_S, True),
        (0.0, 0.0, SILENCE_S + 0.1, False),
        (0.0, 600.0, 600.0 + SILENCE_S, True),
        (0.0, 600.0, 600.1 + SILENCE_S, False),
        (500.0, 30.0, 500.0 + SILENCE_S, True),
        (500.0, 30.0, 500.1 + SILENCE_S, False),
    ],
)
def test_silence_means_something_only_after_it_was_due(
    received: float, due: float, now: float, expected: bool
) -> None:
    assert alive(replace(fresh(), last_step_at=received, next_step_by=due), now) is expected


# ---- what is kept is bounded ---------------------------------------------------------------------


def test_errors_are_the_last_ones_newest_first_and_each_once() -> None:
    runtime = fresh()
    for number in range(MAX_ERRORS + 5):
        runtime = having(runtime, replace(DOWN, doing=f"asking {number}"), now=NOW + number)
    runtime = having(runtime, replace(DOWN, doing=f"asking {MAX_ERRORS}"), now=NOW + 99)
    assert len(runtime.errors) == MAX_ERRORS
    assert runtime.errors[0].message == f"failed: asking {MAX_ERRORS}: no-answer"
    assert [one.at for one in runtime.errors] == sorted((one.at for one in runtime.errors), reverse=True)
    assert len({one.message for one in runtime.errors}) == MAX_ERRORS


def test_requests_leave_the_picture_when_they_are_old_and_when_they_are_too_many() -> None:
    runtime = having(fresh(), replace(RESERVED, at=NOW - SHOWN_S - 11), RESERVED)
    assert runtime.requests == (SENDING,)
    runtime = having(fresh(), *(replace(RESERVED, attempt=number) for number in range(MAX_REQUESTS + 9)))
    assert [one.attempt for one in runtime.requests] == list(range(9, MAX_REQUESTS + 9))


# ---- status --------------------------------------------------------------------------------------


def test_there_is_no_status_before_the_first_comparison() -> None:
    assert runtime_status(fresh(), now=NOW, wall=WALL) is None


def test_a_status_is_what_the_pass_compared_under_its_rules() -> None:
    event = compared(
        IN_SYNC, {**ROWS, BTC: row("5000/2000/400")}, rules=PlanConstraints(paused=frozenset({BTC}))
    )
    seen = LiveReadDone(read(NOW - 1, {**ROWS, BTC: row("5000/2000/400")}))
    made = runtime_status(having(fresh(), Identified("1", None), seen, event), now=NOW, wall=WALL)
    assert made is not None
    assert [one.state for one in made.families] == [FamilyState.DRIFTED, FamilyState.IN_SYNC]
    assert made.families[0].change is not None
    assert made.families[0].change.because == "paused"
    assert (made.uid, made.live_at, made.in_sync) == ("1", WALL, False)


def no_plan(*_: object) -> Plan:
    raise AssertionError("a plan was made")


def test_a_view_uses_the_plan_of_the_pass_and_updates_only_ages_and_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = {**ROWS, BTC: row("5000/2000/400")}
    runtime = having(fresh(), LiveReadDone(read(NOW - 1, rows)), compared(IN_SYNC, rows))
    monkeypatch.setattr("reconciler.core.monitoring.account_runtime.make_plan", no_plan)
    for later_s in (0.0, 5.0, 500.0):
        made = runtime_status(runtime, now=NOW + later_s, wall=wall_at(NOW + later_s))
        assert made is not None
        assert [one.state for one in made.families] == [FamilyState.DRIFTED, FamilyState.IN_SYNC]
        assert (made.asked_at, made.live_at) == (wall_at(NOW + later_s), WALL)


def test_until_a_pass_has_read_a_view_compares_with_the_last_read() -> None:
    """The first plan of a pass shows no drift, because it is made before its read."""
    rows = {**ROWS, BTC: row("5000/2000/400")}
    runtime = having(fresh(), LiveReadDone(read(NOW - 1, rows)), compared(IN_SYNC))
    assert runtime.compared is not None
    assert runtime.compared.plan.changes == ()
    made = runtime_status(runtime, now=NOW, wall=WALL)
    assert made is not None
    assert [one.state for one in made.families] == [FamilyState.DRIFTED, FamilyState.IN_SYNC]


def test_whether_a_read_counts_is_decided_on_the_monotonic_clock() -> None:
    """The wall clock may step between a read and a look; what began before the write stays before."""
    written: dict[Any, Known] = {BTC: confirmed("5000/2000/100", at=NOW - 1)}
    events = (LiveReadDone(read(NOW - 2, {BTC: row("5000/2000/400")})), compared(written, wanted={BTC: A}))
    runtime = having(fresh({BTC: A}), *events)
    for hours in (-1, 0, 1):
        made = runtime_status(runtime, now=NOW + 3, wall=wall_at(NOW + 3 + hours * 3600))
        assert made is not None
        assert (made.families[0].state, made.families[0].live) == (FamilyState.IN_SYNC, None)


def test_before_any_read_of_this_process_nothing_is_live() -> None:
    made = runtime_status(having(fresh(), compared(IN_SYNC)), now=NOW, wall=WALL)
    assert made is not None
    assert (made.live_at, made.unmanaged) == (None, {})
    assert setting("5000/2000/100") == made.families[0].applied
