"""Metrics: what each event counts, what each gauge says; labels are bounded, and all of it is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from reconciler.core.events import (
    READING_LIVE,
    ControlledElsewhere,
    Event,
    ExchangeFailed,
    Identified,
    LiveReadDone,
    LoopIdle,
    PassEnded,
    RequestReserved,
    RequestSettled,
    StateLockTimedOut,
    Waiting,
    WaitReason,
)
from reconciler.core.model import Family, Known, LiveRead, LiveRow, Pause, PausedBy, Uncertain
from reconciler.core.monitoring.account_runtime import AccountRuntime, FileInForce, NewerRejected
from reconciler.core.monitoring.protection import Protection
from reconciler.core.monitoring.status import FamilyState
from reconciler.core.plan import Reason
from reconciler.core.replica_assignment import LeaseTable, Replica, ReplicaStatus
from reconciler.core.reply import AttemptStatus, Reply, ReplyClass
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.metrics import MAX_CODES, OTHER_CODE, Metrics
from tests.unit.builders import BTC, ETH, NOW, SOL, confirmed, row, setting, unresolved
from tests.unit.report_samples import HOSTILE, LEDGERS
from tests.unit.runtime_world import INTERVAL_S, WALL, A, compared, fresh, having, shared_state, wall_at

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ALERTS = DOCS.parent / "examples" / "prometheus-alerts.yaml"
OF_THE_PROCESS = {
    "mmp_missing_files",
    "mmp_build_info",
    "mmp_log_lines_dropped_total",
    "mmp_invalid_files",
    "mmp_state_failures_total",
}
"""The metrics of alerts that are not about one account."""

MAIN = ("main", "live")
LABELS = {"account": "main", "environment": "live"}
OK = Reply(ReplyClass.ACCEPTED, "0")
LOST = Reply(ReplyClass.NO_ANSWER, "timeout")


class Clock:
    """An instant that a test moves."""

    now = NOW


def metrics(on: LatestState | None = None, clock: Clock | None = None) -> Metrics:
    clock = clock or Clock()
    return Metrics(on or shared_state(), now=lambda: clock.now, wall=lambda: wall_at(clock.now))


def families(made: Metrics) -> dict[str, Metric]:
    text = made.answer().body.decode()
    return {one.name: one for one in text_string_to_metric_families(text)}


def values(made: Metrics, **labels: str) -> dict[str, float]:
    """Return the value of every sample that has exactly these labels, by name."""
    wanted = {**LABELS, **labels}
    return {
        sample.name: sample.value
        for family in families(made).values()
        for sample in family.samples
        if sample.labels == wanted
    }


def settled(status: AttemptStatus, reply: Reply, reason: Reason = Reason.CHANGED) -> RequestSettled:
    return RequestSettled(7, BTC, A, status, reply, 0.1, reason)


# ---- counters --------------------------------------------------------------------------------------

IN_SYNC: dict[Family, Known] = {BTC: confirmed("5000/2000/100"), ETH: confirmed("5000/2000/100")}
AS_DESIRED = {BTC: row("5000/2000/100"), ETH: row("5000/2000/100")}
ONE_DRIFTED = compared(IN_SYNC, {**AS_DESIRED, BTC: row("5000/2000/400")})
BOTH_DRIFTED = compared(IN_SYNC, {BTC: row("5000/2000/400"), ETH: row("5000/2000/400")})
CALM = compared(IN_SYNC, AS_DESIRED)
CHANGED = compared(
    {BTC: confirmed("5000/2000/400"), ETH: IN_SYNC[ETH]}, AS_DESIRED | {BTC: row("5000/2000/400")}
)
WAIT = Waiting(NOW + 5, WaitReason.SLOT, BTC, 1, NOW + 5)

COUNTED: list[tuple[str, list[Event], dict[str, str], dict[str, float]]] = [
    ("nothing", [Identified("1", None), LoopIdle(NOW)], {}, {}),
    ("a slot", [RequestReserved(7, BTC, A, NOW)], {}, {"mmp_slots_used_total": 1}),
    (
        "an applied request",
        [settled(AttemptStatus.APPLIED, OK)],
        {"outcome": "applied", "code": "0"},
        {"mmp_requests_total": 1},
    ),
    (
        "a healed drift",
        [settled(AttemptStatus.APPLIED, OK, Reason.DRIFTED)],
        {},
        {"mmp_drift_healed_total": 1},
    ),
    ("a heal that was refused", [settled(AttemptStatus.REJECTED, LOST, Reason.DRIFTED)], {}, {}),
    (
        "an unanswered request",
        [settled(AttemptStatus.UNKNOWN, LOST)],
        {},
        {"mmp_uncertain_attempts_total": 1},
    ),
    (
        "a failed read",
        [ExchangeFailed(READING_LIVE, LOST, NOW)],
        {"code": "timeout"},
        {"mmp_live_read_failures_total": 1},
    ),
    (
        "another failure",
        [ExchangeFailed("connecting", LOST, NOW)],
        {"code": "timeout"},
        {"mmp_exchange_failures_total": 1},
    ),
    ("drift", [CALM, ONE_DRIFTED, ONE_DRIFTED], {}, {"mmp_drift_found_total": 1}),
    ("drift of another family beside it", [ONE_DRIFTED, BOTH_DRIFTED], {}, {"mmp_drift_found_total": 2}),
    ("drift that came back", [ONE_DRIFTED, CALM, ONE_DRIFTED], {}, {"mmp_drift_found_total": 2}),
    ("drift in doubt", [replace(ONE_DRIFTED, complete=False)], {}, {}),
    (
        "a doubt between two looks at one drift",
        [ONE_DRIFTED, replace(CALM, complete=False), ONE_DRIFTED],
        {},
        {"mmp_drift_found_total": 1},
    ),
    ("a change of the file", [CHANGED], {}, {}),
    (
        "a pass",
        [PassEnded(0.3, finished=True)],
        {},
        {"mmp_pass_duration_seconds_count": 1, "mmp_pass_duration_seconds_sum": 0.3},
    ),
]


@pytest.mark.parametrize(
    ("events", "labels", "expected"), [case[1:] for case in COUNTED], ids=[case[0] for case in COUNTED]
)
def test_each_event_increments_its_counters(
    events: list[Event], labels: dict[str, str], expected: dict[str, float]
) -> None:
    made = metrics()
    for event in events:
        made.observe(MAIN, event)
    found = values(made, **labels)
    assert {name: value for name, value in found.items() if value} == expected


def test_counters_begin_at_zero() -> None:
    made = metrics()
    made.observe(MAIN, LoopIdle(NOW))
    assert values(made)["mmp_drift_found_total"] == 0


@pytest.mark.parametrize(
    ("steps", "waited"),
    [
        ([(0, WAIT), (4, RequestReserved(7, BTC, A, NOW + 4))], 4.0),
        ([(0, WAIT), (2, WAIT), (4, RequestReserved(7, BTC, A, NOW + 4))], 4.0),
        ([(0, WAIT), (2, CALM), (4, RequestReserved(7, BTC, A, NOW + 4))], 0.0),
        ([(0, WAIT), (2, CHANGED), (4, RequestReserved(7, BTC, A, NOW + 4))], 4.0),
        ([(0, replace(WAIT, cause=WaitReason.BACK_OFF)), (4, RequestReserved(7, BTC, A, NOW + 4))], 0.0),
        ([(0, RequestReserved(7, BTC, A, NOW))], 0.0),
        (
            [(0, WAIT), (4, RequestReserved(7, BTC, A, NOW + 4)), (9, RequestReserved(8, BTC, A, NOW + 9))],
            4.0,
        ),
    ],
)
def test_waiting_for_a_slot_is_counted_from_its_beginning_to_the_reservation(
    steps: list[tuple[float, Event]], waited: float
) -> None:
    clock = Clock()
    made = metrics(clock=clock)
    for after_s, event in steps:
        clock.now = NOW + after_s
        made.observe(MAIN, event)
    assert values(made)["mmp_slot_wait_seconds_total"] == pytest.approx(waited)


def test_codes_beyond_a_number_and_of_odd_shape_are_counted_together() -> None:
    made = metrics()
    for number in range(MAX_CODES + 50):
        made.observe(MAIN, ExchangeFailed("connecting", replace(LOST, code=f"{number}"), NOW))
    for code in (HOSTILE, "", "x" * 33, 'a"b'):
        made.observe(MAIN, ExchangeFailed("connecting", replace(LOST, code=code), NOW))
    made.observe(MAIN, ExchangeFailed("connecting", replace(LOST, code="7"), NOW))
    samples = families(made)["mmp_exchange_failures"].samples
    by_code = {sample.labels["code"]: sample.value for sample in samples}
    assert len(by_code) == MAX_CODES + 1
    assert (by_code[OTHER_CODE], by_code["7"]) == (54, 2)


def test_accounts_are_counted_apart() -> None:
    made = metrics()
    made.observe(MAIN, PassEnded(1.0, finished=True))
    made.observe(("main", "demo"), PassEnded(2.0, finished=True))
    assert values(made)["mmp_pass_duration_seconds_sum"] == 1.0
    assert values(made, environment="demo")["mmp_pass_duration_seconds_sum"] == 2.0


# ---- gauges ----------------------------------------------------------------------------------------

LIVE: Mapping[Family, LiveRow] = {
    BTC: LiveRow(setting("5000/2000/100"), frozen=True),
    ETH: LiveRow(setting("5000/0/100"), frozen=True),
}
WANTED = {BTC: A, ETH: setting("5000/0/100"), SOL: A}
KNOWN: dict[Family, Known] = {
    BTC: confirmed("5000/2000/100"),
    ETH: confirmed("5000/0/100"),
    SOL: Uncertain(None, (unresolved("5000/2000/100"), unresolved("5000/2000/100", attempt=6))),
}


def busy() -> AccountRuntime:
    """Return an account that has something to say on every gauge."""
    event = compared(KNOWN, LIVE, wanted=WANTED, ledger=LEDGERS["full"])
    content = FileInForce("mmp.yaml", "1" * 64, wall_at(NOW - 60))
    file = NewerRejected("mmp.yaml", content, wall_at(NOW - 5), ())
    runtime = having(fresh(WANTED), Identified("1", None), LiveReadDone(LiveRead(NOW - 1, LIVE)), event)
    runtime = having(runtime, ExchangeFailed(READING_LIVE, LOST, NOW + 1), StateLockTimedOut("pid 9"))
    pauses = (Pause(ETH, "testing", WALL, None), Pause(SOL, "fought over", WALL, None, contested=A))
    return replace(runtime, config=file, policy=file, pauses=pauses, in_sync_at=NOW - 90, started=True)


def busy_latest() -> LatestState:
    made = shared_state()
    made.put("main/live", AccountSnapshot(busy(), INTERVAL_S, 0.25))
    return made


def test_every_gauge_has_the_value_of_the_latest_state() -> None:
    assert values(metrics(busy_latest())) == {
        "mmp_startup_complete": 1,
        "mmp_in_sync_timestamp_seconds": wall_at(NOW - 90).timestamp(),
        "mmp_pending_requests": 1,
        "mmp_eta_seconds": pytest.approx(6.055),
        "mmp_frozen_families": 2,
        "mmp_frozen_until_reset_families": 1,
        "mmp_unresolved_attempts": 2,
        "mmp_slots_counting": 2,
        "mmp_next_slot_seconds": pytest.approx(6.055),
        "mmp_slots_spaced": 0,
        "mmp_config_accepted_timestamp_seconds": wall_at(NOW - 60).timestamp(),
        "mmp_config_invalid_timestamp_seconds": wall_at(NOW - 5).timestamp(),
        "mmp_policy_accepted_timestamp_seconds": wall_at(NOW - 60).timestamp(),
        "mmp_policy_invalid_timestamp_seconds": wall_at(NOW - 5).timestamp(),
        "mmp_live_read_timestamp_seconds": WALL.timestamp(),
        "mmp_exchange_failing": 1,
        "mmp_key_problem": 0,
        "mmp_clock_offset_seconds": 0.25,
        "mmp_loop_last_step_timestamp_seconds": WALL.timestamp(),
        "mmp_loop_alive": 1,
        "mmp_state_locked": 1,
        "mmp_standby": 0,
    }


def test_standby_is_a_gauge() -> None:
    made = metrics(shared_state(having(fresh(), ControlledElsewhere(None))))
    assert values(made)["mmp_standby"] == 1


def test_family_states_and_protection_are_labels() -> None:
    made = metrics(busy_latest())
    found = {state: values(made, state=state.value)["mmp_families"] for state in FamilyState}
    assert {state: number for state, number in found.items() if number} == {
        FamilyState.FROZEN: 2,
        FamilyState.UNCERTAIN: 1,
    }
    assert [values(made, protection=one.value)["mmp_protection"] for one in Protection] == [0, 1, 0, 0, 0]
    assert values(made, family="BTC-USD", state="frozen") == {"mmp_family_state": 1}
    assert values(made, family="BTC-USD", state="in-sync") == {}


def test_manual_pauses_and_those_by_the_breaker_are_counted_apart() -> None:
    for runtime, numbers in ((busy(), [1, 1]), (having(fresh(), compared()), [0, 0])):
        made = metrics(shared_state(runtime))
        assert [values(made, by=by.value)["mmp_paused_families"] for by in PausedBy] == numbers


KNOWN_AT_ONCE = {
    "mmp_startup_complete",
    "mmp_exchange_failing",
    "mmp_key_problem",
    "mmp_loop_last_step_timestamp_seconds",
    "mmp_loop_alive",
    "mmp_state_locked",
    "mmp_standby",
}
OF_A_COMPARISON = {"mmp_pending_requests", "mmp_eta_seconds", "mmp_unresolved_attempts"}
OF_THE_WINDOW = {"mmp_slots_counting", "mmp_next_slot_seconds", "mmp_slots_spaced"}
OF_A_READ = {"mmp_live_read_timestamp_seconds"}
FROZEN = {"mmp_frozen_families", "mmp_frozen_until_reset_families"}

READ = LiveReadDone(LiveRead(NOW - 1, AS_DESIRED))

UNKNOWN_SO_FAR: list[tuple[str, list[Event], set[str]]] = [
    ("nothing", [], KNOWN_AT_ONCE),
    ("in an outage", [ExchangeFailed(READING_LIVE, LOST, NOW)], KNOWN_AT_ONCE),
    ("read, not compared", [READ], KNOWN_AT_ONCE | OF_A_READ),
    ("compared, never read", [compared(IN_SYNC)], KNOWN_AT_ONCE | OF_A_COMPARISON | OF_THE_WINDOW),
    ("both", [READ, CALM], KNOWN_AT_ONCE | OF_A_COMPARISON | OF_THE_WINDOW | OF_A_READ | FROZEN),
]


@pytest.mark.parametrize(
    ("events", "expected"), [case[1:] for case in UNKNOWN_SO_FAR], ids=[case[0] for case in UNKNOWN_SO_FAR]
)
def test_what_is_not_known_has_no_sample(events: list[Event], expected: set[str]) -> None:
    made = metrics(shared_state(having(replace(fresh(), config=None), *events)))
    assert set(values(made)) - {"mmp_in_sync_timestamp_seconds"} == expected
    compared_yet = expected >= OF_A_COMPARISON
    of_families = families(made)
    for name in ("mmp_families", "mmp_family_state", "mmp_paused_families"):
        assert bool(of_families[name].samples) is compared_yet, name


def test_the_process_exports_version_start_time_and_resource_use() -> None:
    found = families(metrics(shared_state()))
    assert [sample.labels for sample in found["mmp_build_info"].samples] == [{"version": "1.2.3"}]
    assert [sample.value for sample in found["mmp_start_timestamp_seconds"].samples] == [WALL.timestamp()]
    assert "process_resident_memory_bytes" in found


# ---- the documentation names the metrics of the registry ---------------------------------------


@dataclass(frozen=True)
class Exported:
    """One metric of the registry: its kind, its labels beside the account's, and its help text."""

    kind: str
    labels: frozenset[str]
    help: str


def exported() -> dict[str, Exported]:
    """Return what the registry has, of an account that has a sample of every metric."""
    busy, me = busy_latest(), Replica("1", "pod-1", 7)
    busy.replica = ReplicaStatus(me, leases=LeaseTable({"1": me}, {"1": frozenset()}, {}))
    made = metrics(busy)
    for _, events, _, _ in COUNTED:
        for event in events:
            made.observe(MAIN, event)
    found = {
        f"{one.name}_total" if one.type == "counter" else one.name: Exported(
            one.type,
            frozenset(one.samples[0].labels) - {*LABELS, "le"} if one.samples else frozenset(),
            one.documentation,
        )
        for one in families(made).values()
    }
    return {name: one for name, one in sorted(found.items()) if name.startswith("mmp_")}


def test_names_are_as_prometheus_wants_them() -> None:
    for name, one in exported().items():
        assert name.endswith("_total") == (one.kind == "counter")
        assert not re.search(r"_(ms|milliseconds|minutes|percent|age)(_|$)", name)


def rules() -> list[dict[str, Any]]:
    """Return the alerting rules that the documentation gives."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_documentation_names_metrics_that_exist() -> None:
    assert set(re.findall(r"\bmmp_\w+", DOCS.read_text(encoding="utf-8"))) - set(exported()) == set()


def test_alerts_are_named_once_and_have_a_summary() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) > 10
    assert len(set(names)) == len(names)
    assert all(rule["annotations"]["summary"] for rule in rules())


def test_alerts_use_metrics_labels_and_values_that_exist() -> None:
    known = exported()
    for rule in rules():
        (name,) = re.findall(r"\bmmp_\w+", rule["expr"])
        labels = dict(re.findall(r'(\w+)!?="(\w*)"', rule["expr"]))
        assert labels.keys() <= known[name].labels | LABELS.keys(), rule["alert"]
        assert labels.get("protection", Protection.EXPOSED) in list(Protection)
        about_an_account = "$labels.account" in rule["annotations"]["summary"]
        assert about_an_account == (name not in OF_THE_PROCESS), rule["alert"]


def test_the_alert_on_a_newer_file_excludes_files_that_were_never_valid() -> None:
    """These have a sample with empty labels, and no earlier version is in use."""
    (expr,) = (rule["expr"] for rule in rules() if rule["alert"] == "MmpConfigInvalid")
    assert 'account!=""' in expr
