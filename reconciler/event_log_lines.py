"""Translates events into log lines: level, message and values. This file writes nothing."""

from __future__ import annotations

from typing import assert_never

from reconciler.core import events
from reconciler.core.model import format_setting
from reconciler.core.problems import Problem
from reconciler.core.reply import STOPPING, AttemptStatus, Reply, ReplyClass
from reconciler.render.plan_text import plan_sentence

LAST_GOOD = "the last valid version stays in use"

NO_VALID_VERSION = "no valid version yet"

STANDING_BY = "standby: another process controls the account, this one writes nothing"

LET_CLOCK_BE_MEASURED = (
    "allow this machine to reach GET /api/v5/public/time; one hour after the last measurement mmp only"
    " reads"
)

UNREADABLE_POLICY = "changes that loosen or disable are held"

LogLine = tuple[str, str, dict[str, object]]
"""Level, message and values of one log line."""


def to_log_line(event: events.Event) -> LogLine | None:
    """Return one event as a log line; None for events that only observers need."""
    if isinstance(event, events.AccountEvent):
        return _account_line(event)
    if isinstance(event, events.ReadEvent):
        return _exchange_line(event)
    if isinstance(event, events.RequestEvent):
        return _request_line(event)
    if isinstance(event, events.LoggedFileEvent):
        return _file_line(event)
    if isinstance(event, events.SilentEvent):
        return None
    assert_never(event)


def _account_line(event: events.AccountEvent) -> LogLine:
    """Return an event of an account: its key, its loop, its state and its lease as a log line."""
    match event:
        case events.Identified(uid, previous_host):
            if previous_host:
                return "warning", "host changed", {"uid": uid, "previous_host": previous_host}
            return "info", "account identified", {"uid": uid}
        case events.KeyMayWithdraw(uid):
            return "warning", "the key may withdraw: use one without the Withdraw permission", {"uid": uid}
        case events.KeyReplaced():
            return "info", "key replaced: asking the exchange for its account", {}
        case events.StateLockTimedOut(message):
            return "warning", "state is locked", {"reason": message}
        case events.ControlledElsewhere():
            return "warning", STANDING_BY, {"controller": event.who}
        case events.ControlTaken():
            return "warning", "this process controls the account now: the controller has ended", {}
        case events.LoopFailed(code, message, hint, _):
            return (
                "error",
                "account loop failed: will restart",
                {"code": code, "reason": message, "hint": hint},
            )
        case events.PassEnded(took_s, finished):
            return "debug", "pass ended", {"took_ms": round(took_s * 1000), "finished": finished}
        case events.LeaseTaken(before):
            if before:
                return "info", "lease taken over from a dead replica", {"from": before}
            return "info", "lease acquired", {}
        case events.LeaseEnded(unable=True):
            return ("warning", "lease released: this replica cannot serve the account", {})
        case events.LeaseEnded(lost):
            left = (
                "lease lost: another replica took it over" if lost else "lease released to another replica"
            )
            return "warning" if lost else "info", left, {}
        case events.StateFailed(code, message):
            return "error", "state cannot be used", {"code": code, "reason": message}
        case _:
            assert_never(event)


def _exchange_line(event: events.ReadEvent) -> LogLine:
    """Return an event of a read from the exchange as a log line."""
    match event:
        case events.LiveReadDone(read):
            frozen = sorted(family for family, row in read.rows.items() if row.frozen)
            return "debug", "live read", {"families": len(read.rows), "frozen": frozen}
        case events.ExchangeFailed(doing, reply, retry_at):
            stopped = retry_at is None or reply.reply_class in STOPPING
            level = "error" if stopped else "warning"
            return level, f"failed: {doing}", _reply(reply) | {"class": reply.reply_class.value}
        case events.ReadFailed(doing, reply):
            return "warning", f"failed: {doing}", _reply(reply) | {"class": reply.reply_class.value}
        case events.OddRowsSeen(names, nameless):
            values = {"names": list(names), "without_name": nameless}
            return "warning", "rows of the list of live settings are left out", values
        case events.AttemptsEnded(families):
            return (
                "info",
                "unanswered requests can no longer take effect: live shows another value",
                {"families": list(families)},
            )
        case events.ClockSynced():
            return "warning", "clock measured again", {}
        case events.ClockUnmeasured(reply):
            values = _reply(reply) | {"class": reply.reply_class.value, "hint": LET_CLOCK_BE_MEASURED}
            return "warning", "failed: measuring the exchange's clock (public/time)", values
        case events.ClockMeasured():
            return "info", "the exchange's clock can be measured again", {}
        case _:
            assert_never(event)


def _request_line(event: events.RequestEvent) -> LogLine:
    """Return an event of a plan or a request as a log line."""
    match event:
        case events.Planned(plan):
            return "info", "planned", {"plan": plan_sentence(plan), "digest": plan.digest}
        case events.Waiting(_, cause, family, remaining, _):
            return "debug", "waiting", {"for": cause.value, "family": family, "remaining": remaining}
        case events.Adopted(settings, ()):
            return "info", "adopted", {"families": sorted(settings)}
        case events.Adopted(settings, unfit):
            values = {
                "families": sorted(settings),
                "breaks": [f"{one.family}: {one.sentence}" for one in unfit],
            }
            return ("warning", "adopted with nothing on record: the policy would refuse it", values)
        case events.RequestReserved(attempt, family, setting, _):
            return "debug", "request reserved", _request(attempt, family, format_setting(setting))
        case events.FilesStillWritten(family, wait_s):
            values = {"family": family, "wait_s": round(wait_s, 1)}
            text = "change waits: settings file or policy is being written, or is invalid"
            return "warning", text, values
        case events.RequestTooLate(family, late_s):
            values = {"family": family, "late_s": round(late_s, 1)}
            return "warning", "request not sent: too late, live is read again first", values
        case events.RequestSettled(attempt, family, setting, status, reply, round_trip_s, _):
            values = _request(attempt, family, format_setting(setting)) | _reply(reply)
            level = "info" if status is AttemptStatus.APPLIED else "warning"
            level = "error" if reply.reply_class in STOPPING - {ReplyClass.CLOCK} else level
            return level, f"request {status.value}", values | {"round_trip_ms": round(round_trip_s * 1000)}
        case events.SettingRejected(family, setting, reply, _):
            values = {"family": family, "setting": format_setting(setting)}
            return "error", "setting rejected by the exchange", values | _reply(reply)
        case events.HealBreakerTripped(family, setting, heals):
            values = {"family": family, "setting": format_setting(setting), "heals": heals}
            hint = f"find out who changes it, then: mmp resume --family {family}"
            return "error", "another writer keeps changing this family: paused", values | {"hint": hint}
        case _:
            assert_never(event)


def _file_line(event: events.LoggedFileEvent) -> LogLine:
    """Return an event of a settings file or a policy as a log line."""
    match event:
        case events.ConfigMissing(paths):
            return "info", "waiting for a settings file", {"paths": list(paths)}
        case events.ConfigAccepted(path, sha256):
            return "info", "config accepted", {"path": path, "sha256": sha256}
        case events.PolicyAccepted(path, sha256):
            return "info", "policy accepted", {"path": path, "sha256": sha256}
        case events.ConfigRejected(_, problems, in_force):
            left = f", {LAST_GOOD}" if in_force else f"; {NO_VALID_VERSION}, account not started"
            return "error", f"config invalid{left}", _problem(problems[0])
        case events.RejectedConfigRemoved(path):
            return "info", "invalid config file removed", {"path": path}
        case events.PolicyRejected(_, problems, in_force):
            left = f", {LAST_GOOD}" if in_force else f"; {NO_VALID_VERSION}"
            return "error", f"policy invalid{left}: {UNREADABLE_POLICY}", _problem(problems[0])
        case events.WatchDegraded(reason):
            return "info", "files are read every second", {"reason": reason}
        case _:
            assert_never(event)


def _request(attempt: int, family: str, setting: str) -> dict[str, object]:
    return {"attempt": attempt, "family": family, "setting": setting}


def _problem(problem: Problem) -> dict[str, object]:
    return {
        "code": problem.code,
        "at": f"{problem.path}:{problem.line}:{problem.column}",
        "reason": problem.message,
        "hint": problem.hint,
    }


def _reply(reply: Reply) -> dict[str, object]:
    reason: dict[str, object] = {"reason": reply.message} if reply.message else {}
    return {"code": reply.code} | reason
