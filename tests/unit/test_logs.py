"""Log lines: every event has one, none says a secret, and a plan is announced once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
import structlog

from reconciler import logs
from reconciler.core import events
from reconciler.core.history_records import LockHolder
from reconciler.core.live_evidence import Reads
from reconciler.core.pacing import Ledger
from reconciler.core.plan import PlanConstraints, Reason
from reconciler.core.problems import Code, problem
from reconciler.core.reply import READ_AGAIN, AttemptStatus, Reply, ReplyClass
from reconciler.event_log_lines import to_log_line
from reconciler.okx.hints import hint_for_event
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, plan_of, read, row, setting

A = setting("5000/2000/100")
LIMITED = Reply(ReplyClass.RATE_LIMITED, "50011", "Rate limit reached.")
WRONG = problem(Code.BAD_QUANTITY, "mmp.yaml", "too much", "less", line=3, column=7)
LOST = Reply(ReplyClass.NO_ANSWER, "timeout")
PLAN = plan_of({BTC: A, ETH: A}, {BTC: confirmed("5000/2000/400"), ETH: confirmed("5000/2000/100")})

ROWS: list[tuple[events.Event, str, str, dict[str, object]]] = [
    (events.Identified("446556540", None), "info", "account identified", {"uid": "446556540"}),
    (
        events.KeyMayWithdraw("446556540"),
        "warning",
        "the key may withdraw: use one without the Withdraw permission",
        {"uid": "446556540"},
    ),
    (
        events.Identified("446556540", "www.okx.com"),
        "warning",
        "host changed",
        {"uid": "446556540", "previous_host": "www.okx.com"},
    ),
    (
        events.LiveReadDone(read(NOW, {ETH: row("1/1/1", frozen=True), BTC: row("5000/2000/100")})),
        "debug",
        "live read",
        {"families": 2, "frozen": ["ETH-USD"]},
    ),
    (
        events.ExchangeFailed("connecting", LOST, NOW + 1),
        "warning",
        "failed: connecting",
        {"code": "timeout", "class": "no-answer"},
    ),
    (
        events.ExchangeFailed(
            "reading the account of the key", Reply(ReplyClass.ACCOUNT, "50105", "no"), NOW + 60
        ),
        "error",
        "failed: reading the account of the key",
        {"code": "50105", "reason": "no", "class": "account"},
    ),
    (
        events.ExchangeFailed("connecting", LIMITED, None),
        "error",
        "failed: connecting",
        {"code": "50011", "reason": "Rate limit reached.", "class": "rate-limited"},
    ),
    (
        events.Planned(PLAN),
        "info",
        "planned",
        {"plan": "Plan: 1 to set (1 tighten), 1 unchanged. No waiting.", "digest": PLAN.digest},
    ),
    (
        events.Waiting(NOW + 10, events.WaitReason.SLOT, BTC, 3, NOW + 20),
        "debug",
        "waiting",
        {"for": "slot", "family": "BTC-USD", "remaining": 3},
    ),
    (events.Adopted({ETH: A, BTC: A}), "info", "adopted", {"families": ["BTC-USD", "ETH-USD"]}),
    (
        events.RequestReserved(7, BTC, A, 1000.0),
        "debug",
        "request reserved",
        {"attempt": 7, "family": "BTC-USD", "setting": "timeInterval 5s, frozenInterval 2s, qtyLimit 100"},
    ),
    *(
        (
            events.RequestSettled(7, BTC, A, status, reply, 0.0894, Reason.CHANGED),
            level,
            f"request {status.value}",
            {
                "attempt": 7,
                "family": "BTC-USD",
                "setting": "timeInterval 5s, frozenInterval 2s, qtyLimit 100",
                "code": reply.code,
                "round_trip_ms": 89,
            }
            | ({"reason": reply.message} if reply.message else {}),
        )
        for status, reply, level in [
            (AttemptStatus.APPLIED, Reply(ReplyClass.ACCEPTED, "0"), "info"),
            (AttemptStatus.REJECTED, LIMITED, "warning"),
            (AttemptStatus.UNKNOWN, LOST, "warning"),
            (AttemptStatus.NOT_SENT, Reply(ReplyClass.NOT_SENT, "connect"), "warning"),
        ]
    ),
    (
        events.ReadFailed("reading one family", Reply(ReplyClass.BUSY, "50013", "busy")),
        "warning",
        "failed: reading one family",
        {"code": "50013", "reason": "busy", "class": "busy"},
    ),
    (
        events.OddRowsSeen(("btc-usd ",), 2),
        "warning",
        "rows of the list of live settings are left out",
        {"names": ["btc-usd "], "without_name": 2},
    ),
    (
        events.AttemptsEnded((BTC,)),
        "info",
        "unanswered requests can no longer take effect: live shows another value",
        {"families": ["BTC-USD"]},
    ),
    (
        events.SettingRejected(
            BTC, A, Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter qtyLimit error"), None
        ),
        "error",
        "setting rejected by the exchange",
        {
            "family": "BTC-USD",
            "setting": "timeInterval 5s, frozenInterval 2s, qtyLimit 100",
            "code": "51000",
            "reason": "Parameter qtyLimit error",
        },
    ),
    (
        events.FilesStillWritten(BTC, 2.0),
        "warning",
        "change waits: settings file or policy is being written, or is invalid",
        {"family": "BTC-USD", "wait_s": 2.0},
    ),
    (
        events.RequestTooLate(BTC, 10.04),
        "warning",
        "request not sent: too late, live is read again first",
        {"family": "BTC-USD", "late_s": 10.0},
    ),
    (
        events.HealBreakerTripped(BTC, A, 3),
        "error",
        "another writer keeps changing this family: paused",
        {
            "family": "BTC-USD",
            "setting": "timeInterval 5s, frozenInterval 2s, qtyLimit 100",
            "heals": 3,
            "hint": "find out who changes it, then: mmp resume --family BTC-USD",
        },
    ),
    (events.ClockSynced(), "warning", "clock measured again", {}),
    (
        events.ClockUnmeasured(
            Reply(ReplyClass.NO_ANSWER, "timeout", "/api/v5/public/time: no complete reply")
        ),
        "warning",
        "failed: measuring the exchange's clock (public/time)",
        {
            "code": "timeout",
            "reason": "/api/v5/public/time: no complete reply",
            "class": "no-answer",
            "hint": "allow this machine to reach GET /api/v5/public/time; one hour after the last"
            " measurement mmp only reads",
        },
    ),
    (events.ClockMeasured(), "info", "the exchange's clock can be measured again", {}),
    (events.PassEnded(0.0123, True), "debug", "pass ended", {"took_ms": 12, "finished": True}),
    (
        events.StateLockTimedOut("the state is locked by pid 7"),
        "warning",
        "state is locked",
        {"reason": "the state is locked by pid 7"},
    ),
    (
        events.ControlledElsewhere(LockHolder(7, "desk-1", "run", "2026-03-01T02:00:00Z")),
        "warning",
        "standby: another process controls the account, this one writes nothing",
        {"controller": "pid 7 on desk-1 (run, since 2026-03-01T02:00:00Z)"},
    ),
    (
        events.ControlTaken(),
        "warning",
        "this process controls the account now: the controller has ended",
        {},
    ),
    (events.KeyReplaced(), "info", "key replaced: asking the exchange for its account", {}),
    (
        events.LoopFailed("credentials-missing", "OKX_API_KEY is not set", "set it", NOW + 30),
        "error",
        "account loop failed: will restart",
        {"code": "credentials-missing", "reason": "OKX_API_KEY is not set", "hint": "set it"},
    ),
    (events.ConfigMissing(("mmp.yaml",)), "info", "waiting for a settings file", {"paths": ["mmp.yaml"]}),
    (
        events.ConfigAccepted("mmp.yaml", "ab"),
        "info",
        "config accepted",
        {"path": "mmp.yaml", "sha256": "ab"},
    ),
    (events.PolicyAccepted("p.yaml", None), "info", "policy accepted", {"path": "p.yaml", "sha256": None}),
    (
        events.ConfigRejected("mmp.yaml", (WRONG,)),
        "error",
        "config invalid, the last valid version stays in use",
        {"code": "bad-quantity", "at": "mmp.yaml:3:7", "reason": "too much", "hint": "less"},
    ),
    (
        events.PolicyRejected("mmp.yaml", (WRONG,)),
        "error",
        "policy invalid, the last valid version stays in use: changes that loosen or disable are held",
        {"code": "bad-quantity", "at": "mmp.yaml:3:7", "reason": "too much", "hint": "less"},
    ),
    (
        events.ConfigRejected("b.yaml", (WRONG,), in_force=False),
        "error",
        "config invalid; no valid version yet, account not started",
        {"code": "bad-quantity", "at": "mmp.yaml:3:7", "reason": "too much", "hint": "less"},
    ),
    (
        events.PolicyRejected("mmp.yaml", (WRONG,), in_force=False),
        "error",
        "policy invalid; no valid version yet: changes that loosen or disable are held",
        {"code": "bad-quantity", "at": "mmp.yaml:3:7", "reason": "too much", "hint": "less"},
    ),
    (events.RejectedConfigRemoved("b.yaml"), "info", "invalid config file removed", {"path": "b.yaml"}),
    (events.WatchDegraded("no inotify"), "info", "files are read every second", {"reason": "no inotify"}),
    (events.LeaseTaken(""), "info", "lease acquired", {}),
    (
        events.LeaseTaken("pod-1 (pid 7)"),
        "info",
        "lease taken over from a dead replica",
        {"from": "pod-1 (pid 7)"},
    ),
    (events.LeaseEnded(lost=False), "info", "lease released to another replica", {}),
    (
        events.LeaseEnded(lost=False, unable=True),
        "warning",
        "lease released: this replica cannot serve the account",
        {},
    ),
    (events.LeaseEnded(lost=True), "warning", "lease lost: another replica took it over", {}),
    (
        events.StateFailed("state-unavailable", "the connection was lost", 7.0),
        "error",
        "state cannot be used",
        {"code": "state-unavailable", "reason": "the connection was lost"},
    ),
]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return what is logged, as JSON lines of every level."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure_logging(log_format="json", level="debug", color=False)
    return stream


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(("event", "level", "message", "values"), ROWS)
def test_an_event_is_logged(
    event: events.Event, level: str, message: str, values: dict[str, object]
) -> None:
    assert to_log_line(event) == (level, message, values)


def test_every_event_is_in_the_table() -> None:
    unsaid = {
        events.Compared,
        events.LoopIdle,
        events.LoopResumed,
        events.ReplicaStatusChanged,
        events.AccountsConfigured,
    }
    assert {type(event) for event, *_ in ROWS} == set(get_args(events.Event)) - unsaid


@pytest.mark.parametrize(("event", "level", "message", "values"), ROWS)
def test_a_line_says_whose_it_is_and_that_it_is_the_simulator_s(
    event: events.Event, level: str, message: str, values: dict[str, object], lines: io.StringIO
) -> None:
    logs.observer("main", "live", simulator=True)(event)
    (line,) = parsed(lines)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": message,
        "level": level,
        "account": "main",
        "environment": "live",
        "exchange": "SIMULATOR",
        **values,
    }


def test_every_problem_of_a_rejected_file_has_a_line_of_its_own(lines: io.StringIO) -> None:
    other = replace(WRONG, line=9)
    logs.observer(simulator=False)(events.ConfigRejected("mmp.yaml", (WRONG, other)))
    assert [line["at"] for line in parsed(lines)] == ["mmp.yaml:3:7", "mmp.yaml:9:7"]
    assert all("account" not in line for line in parsed(lines))


def test_the_exchange_itself_is_not_called_a_simulator(lines: io.StringIO) -> None:
    logs.observer("main", "demo", simulator=False)(events.ClockSynced())
    assert "SIMULATOR" not in lines.getvalue()


def test_a_plan_is_announced_once_and_again_when_it_says_more(lines: io.StringIO) -> None:
    """After each request there is a plan with one change less: that is no news."""
    observe = logs.observer("main", "live", simulator=False)
    both = plan_of({BTC: A, ETH: A})
    fewer = plan_of({BTC: A, ETH: A}, {BTC: confirmed("5000/2000/100")})
    none = plan_of({BTC: A}, {BTC: confirmed("5000/2000/100")})
    for plan in (both, both, fewer, none, fewer):
        observe(events.Planned(plan))
    assert [line["level"] for line in parsed(lines)] == ["info", "debug", "debug", "debug", "info"]


def test_a_change_that_is_held_and_drift_are_pointed_out_once(lines: io.StringIO) -> None:
    observe = logs.observer("main", "live", simulator=False)
    wanted, known = (
        {BTC: A, ETH: setting("0/2000/1")},
        {BTC: confirmed("5000/2000/100"), ETH: confirmed("1/1/1")},
    )
    plan = plan_of(wanted, known, Reads(read(990, {BTC: row("5000/2000/9999"), ETH: row("1/1/1")})))
    for _ in range(3):
        observe(events.Planned(plan))
    warnings = [line for line in parsed(lines) if line["level"] == "warning"]
    assert [(line["event"], line["family"]) for line in warnings] == [
        ("drift: will be restored", "BTC-USD"),
        ("held", "ETH-USD"),
    ]
    assert warnings[0]["change"] == "qtyLimit 9999 → 100"
    assert warnings[1]["reason"] == "would switch protection off"


def test_the_end_of_an_outage_is_reported_once(lines: io.StringIO) -> None:
    observe = logs.observer("main", "live", simulator=False)
    answered, failed = events.LiveReadDone(read(NOW, {})), events.ExchangeFailed("reading", LOST, NOW)
    for event in (answered, failed, failed, answered, answered, failed, answered):
        observe(event)
    text = [line["event"] for line in parsed(lines) if line["level"] == "info"]
    assert text == ["the exchange answers again"] * 2


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_important_lines_are_left_out(
    level: str, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure_logging(log_format="json", level=level, color=False)
    for name in ("debug", "info", "warning", "error"):
        logs.log(name, "said", value=1)
    assert [line["level"] for line in parsed(stream)] == written


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "log_format", "as_json"),
    [
        (io.StringIO(), None, True),
        (Terminal(), None, False),
        (Terminal(), "json", True),
        (io.StringIO(), "console", False),
    ],
)
def test_lines_are_for_people_on_a_terminal_and_json_elsewhere(
    stream: io.StringIO, log_format: str | None, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure_logging(log_format=log_format, level="info", color=False)
    logs.log("info", "said", value="ä")
    assert stream.getvalue().startswith("{") == as_json
    assert "ä" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_line_before_logging_is_set_up_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logs.log("debug", "left out")
    logs.log("info", "written")
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["event"], err.count("\n")) == ("", "written", 1)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Leave no configuration behind that writes to a stream of ours."""
    yield
    structlog.reset_defaults()


def test_a_failure_carries_what_to_do_about_it_and_a_success_does_not(lines: io.StringIO) -> None:
    refused = Reply(ReplyClass.ACCOUNT, "50105", "no")
    accepted = Reply(ReplyClass.ACCEPTED, "0")
    observe = logs.observer("main", "live", simulator=False, advice=hint_for_event)
    observe(events.ExchangeFailed("reading the account of the key", refused, NOW))
    observe(events.RequestSettled(1, BTC, A, AttemptStatus.REJECTED, refused, 0.1, Reason.CHANGED))
    observe(events.RequestSettled(2, BTC, A, AttemptStatus.APPLIED, accepted, 0.1, Reason.CHANGED))
    failed, rejected, applied = parsed(lines)
    assert "passphrase" in failed["hint"].lower()
    assert failed["hint"] == rejected["hint"]
    assert (failed["level"], rejected["level"], applied["level"]) == ("error", "error", "info")
    assert "hint" not in applied


def test_the_log_line_of_a_failed_read_does_not_say_that_it_counts_as_sent(lines: io.StringIO) -> None:
    ambiguous = Reply(ReplyClass.AMBIGUOUS, "50026", "no")
    observe = logs.observer("main", "live", simulator=False, advice=hint_for_event)
    observe(events.ExchangeFailed(events.READING_LIVE, ambiguous, NOW))
    observe(events.RequestSettled(1, BTC, A, AttemptStatus.UNKNOWN, ambiguous, 0.1, Reason.CHANGED))
    read, request = parsed(lines)
    assert read["hint"] == READ_AGAIN
    assert "counts as sent" in request["hint"]


def test_what_only_a_watching_program_wants_is_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logging(log_format="json", level="debug", color=False)
    observe = logs.observer("main", "live", simulator=False)
    observe(events.LoopIdle(NOW))
    observe(events.Compared(desired({BTC: A}), {}, Ledger(), (), PlanConstraints(), PLAN, True))
    assert capsys.readouterr().err == ""


def test_an_observer_that_fails_stops_nothing_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: events.Event) -> None:
        raise RuntimeError("no \x1b disk")

    logs.shielded(fails)(events.ClockSynced())
    assert capsys.readouterr().err == (
        "mmp: ClockSynced could not be reported: RuntimeError: no \\x1b disk\n"
    )


def test_an_observer_that_fails_without_a_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)

    def fails(_: events.Event) -> None:
        raise RuntimeError("no disk")

    logs.shielded(fails)(events.ClockSynced())
