"""Log lines on stderr: translations of events, by structlog. Nothing is decided or measured here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from reconciler.background_writer import BackgroundText
from reconciler.core.events import (
    AccountsConfigured,
    Adopted,
    AttemptsEnded,
    ClockMeasured,
    ClockSynced,
    ClockUnmeasured,
    Compared,
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
    Observe,
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
    WatchDegraded,
)
from reconciler.core.model import format_setting
from reconciler.core.outcome import hold_words
from reconciler.core.plan import Change, Plan, Reason, format_change
from reconciler.core.problems import Problem, escape_unprintable, json_text
from reconciler.core.reply import STOPPING, AttemptStatus, Reply, ReplyClass
from reconciler.render.plan_text import plan_sentence

if TYPE_CHECKING:
    from structlog.typing import Processor

LAST_GOOD = "the last good one stays in force"

NO_VALID_VERSION = "no valid version yet"

STANDING_BY = "standing by: another process controls the account, nothing is written from here"

LET_CLOCK_BE_MEASURED = (
    "let this machine reach GET /api/v5/public/time; one hour after the last measurement mmp only reads"
)

LINES_DROPPED = "lines dropped: stderr could not be written"

UNREADABLE_POLICY = "changes that loosen or disable are held"


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let imports within the block find ``package`` missing, unless it is there already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # how Python says that an import shall fail
    try:
        yield
    finally:
        del sys.modules[package]


# structlog would load it for tracebacks, of which none is ever logged: 3 MB and as long as itself.
with _without("rich"):
    import structlog


def configure(*, log_format: str | None, level: str, color: bool) -> None:
    """Set up structlog: console lines on a terminal, JSON lines elsewhere, unless told."""
    as_json = log_format == "json" if log_format else not sys.stderr.isatty()
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=json_text)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=color, pad_event_to=0)
    )
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    if isinstance(sys.stderr, BackgroundText):
        sys.stderr.writer.describe_dropped = partial(_describe_dropped, processors)


def _describe_dropped(processors: Sequence[Processor], lines: int) -> str:
    """Return the line that stands for lines that could not be written."""
    values: Any = {"event": LINES_DROPPED, "lines": lines}
    for process in processors:
        values = process(None, "warning", values)
    return str(values)


def dropped_lines() -> int:
    """Return how many lines could not be written to stderr so far."""
    return sys.stderr.writer.dropped_lines if isinstance(sys.stderr, BackgroundText) else 0


def silence_logger(library: str) -> None:
    """Let a library that tells by what it raises write no line of its own between those of the log."""
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def log(level: str, event: str, **values: object) -> None:
    """Write one log line."""
    getattr(structlog.get_logger(), level)(event, **values)


def log_json(level: str, event: str, **values: object) -> None:
    """Write one JSON line that was asked for, even before, or without, logging being set up."""
    if not structlog.is_configured():
        configure(log_format="json", level="info", color=False)
    log(level, event, **values)


HintFor = Callable[[ExchangeFailed | RequestSettled], str]
"""Returns what to do about what was answered, one sentence, "" when there is nothing."""


def no_hint(event: ExchangeFailed | RequestSettled) -> str:
    """Return no advice, whatever was answered."""
    del event
    return ""


def observer(
    account: str = "", environment: str = "", *, simulator: bool, advice: HintFor = no_hint
) -> Observe:
    """Return an observer that logs every event of one account; failures carry ``advice`` as hint.

    Without an account the lines are about none.
    """
    logger = structlog.get_logger()
    if account:
        logger = logger.bind(account=account, environment=environment)
    if simulator:
        logger = logger.bind(exchange="SIMULATOR")
    announced: set[str] = set()
    failing = False

    def observe(event: Event) -> None:
        nonlocal failing
        line = told(event)
        if line is None:
            return
        level, message, values = line
        if isinstance(event, Planned):
            news = _news(event.plan, announced)
            level = level if news else "debug"
        if isinstance(event, ExchangeFailed | RequestSettled) and (hint := advice(event)):
            values["hint"] = hint
        getattr(logger, level)(message, **values)
        for level, message, values in _further(event):
            getattr(logger, level)(message, **values)
        if isinstance(event, Planned):
            for change in news:
                _point_out(logger, change)
        if failing and isinstance(event, LiveReadDone):
            logger.info("the exchange answers again")
            failing = False
        failing = failing or isinstance(event, ExchangeFailed)

    return observe


def shielded(observe: Observe) -> Observe:
    """Return an observer whose failure stops nothing: protection must not depend on the log.

    The failure is written to stderr, if that is possible.
    """

    def observed(event: Event) -> None:
        try:
            observe(event)
        except Exception as error:
            with suppress(OSError, ValueError):
                to_log_line = (
                    f"mmp: {type(event).__name__} could not be reported: {type(error).__name__}: {error}"
                )
                print(escape_unprintable(to_log_line), file=sys.stderr)

    return observed


LogLine = tuple[str, str, dict[str, object]]
"""Level, message and values of one log line."""


def told(event: Event) -> LogLine | None:
    """Return what one event is as a log line; None for those that only a watching program wants."""
    match event:
        case Identified(uid, previous_host):
            if previous_host:
                return "warning", "host changed", {"uid": uid, "previous_host": previous_host}
            return "info", "account identified", {"uid": uid}
        case KeyMayWithdraw(uid):
            return "warning", "the key may withdraw: use one without the Withdraw permission", {"uid": uid}
        case LiveReadDone(read):
            frozen = sorted(family for family, row in read.rows.items() if row.frozen)
            return "debug", "live read", {"families": len(read.rows), "frozen": frozen}
        case ExchangeFailed(doing, reply, retry_at):
            stopped = retry_at is None or reply.reply_class in STOPPING
            level = "error" if stopped else "warning"
            return level, f"failed: {doing}", _reply(reply) | {"class": reply.reply_class.value}
        case ReadFailed(doing, reply):
            return "warning", f"failed: {doing}", _reply(reply) | {"class": reply.reply_class.value}
        case OddRowsSeen(names, nameless):
            values = {"names": list(names), "without_name": nameless}
            return "warning", "rows of the list of live settings are left out", values
        case AttemptsEnded(families):
            return (
                "info",
                "unanswered requests are over: live shows another value",
                {"families": list(families)},
            )
        case Planned(plan):
            return "info", "planned", {"plan": plan_sentence(plan), "digest": plan.digest}
        case Waiting(_, cause, family, remaining, _):
            return "debug", "waiting", {"for": cause.value, "family": family, "remaining": remaining}
        case Adopted(settings, ()):
            return "info", "adopted", {"families": sorted(settings)}
        case Adopted(settings, unfit):
            values = {
                "families": sorted(settings),
                "breaks": [f"{one.family}: {one.sentence}" for one in unfit],
            }
            return (
                "warning",
                "adopted with nothing on record: the policy would refuse it",
                values,
            )
        case Compared() | LoopIdle() | LoopResumed() | ReplicaStatusChanged() | AccountsConfigured():
            return None
        case PassEnded(took_s, finished):
            return "debug", "pass ended", {"took_ms": round(took_s * 1000), "finished": finished}
        case RequestReserved(attempt, family, setting, _):
            return "debug", "request reserved", _request(attempt, family, format_setting(setting))
        case FilesStillWritten(family, wait_s):
            values = {"family": family, "wait_s": round(wait_s, 1)}
            text = "change waits: settings file or policy is being written, or is invalid"
            return "warning", text, values
        case RequestTooLate(family, late_s):
            values = {"family": family, "late_s": round(late_s, 1)}
            return "warning", "request not sent: too late, live is read again first", values
        case RequestSettled(attempt, family, setting, status, reply, round_trip_s, _):
            values = _request(attempt, family, format_setting(setting)) | _reply(reply)
            level = "info" if status is AttemptStatus.APPLIED else "warning"
            level = "error" if reply.reply_class in STOPPING - {ReplyClass.CLOCK} else level
            return level, f"request {status.value}", values | {"round_trip_ms": round(round_trip_s * 1000)}
        case SettingRejected(family, setting, reply, _):
            values = {"family": family, "setting": format_setting(setting)}
            return "error", "setting refused by the exchange", values | _reply(reply)
        case HealBreakerTripped(family, setting, heals):
            values = {"family": family, "setting": format_setting(setting), "heals": heals}
            hint = f"find out who changes it, then: mmp resume --family {family}"
            return "error", "another writer keeps changing this family: paused", values | {"hint": hint}
        case ClockSynced():
            return "warning", "clock measured again", {}
        case ClockUnmeasured(reply):
            values = _reply(reply) | {"class": reply.reply_class.value, "hint": LET_CLOCK_BE_MEASURED}
            return "warning", "failed: measuring the exchange's clock (public/time)", values
        case ClockMeasured():
            return "info", "the exchange's clock can be measured again", {}
        case StateLockTimedOut(message):
            return "warning", "state is locked", {"reason": message}
        case ControlledElsewhere():
            return "warning", STANDING_BY, {"controller": event.who}
        case ControlTaken():
            return "warning", "this process controls the account now: the controller has ended", {}
        case KeyReplaced():
            return "info", "key replaced: asking whose it is", {}
        case LoopFailed(code, message, hint, _):
            return "error", "failed: begun again later", {"code": code, "reason": message, "hint": hint}
        case ConfigMissing(paths):
            return "info", "waiting for a file of desired settings", {"paths": list(paths)}
        case ConfigAccepted(path, sha256):
            return "info", "config accepted", {"path": path, "sha256": sha256}
        case PolicyAccepted(path, sha256):
            return "info", "policy accepted", {"path": path, "sha256": sha256}
        case ConfigRejected(_, problems, in_force):
            left = f", {LAST_GOOD}" if in_force else f"; {NO_VALID_VERSION}, account not started"
            return "error", f"config rejected{left}", _problem(problems[0])
        case RejectedConfigRemoved(path):
            return "info", "a config that never held is gone", {"path": path}
        case PolicyRejected(_, problems, in_force):
            left = f", {LAST_GOOD}" if in_force else f"; {NO_VALID_VERSION}"
            return "error", f"policy rejected{left}: {UNREADABLE_POLICY}", _problem(problems[0])
        case WatchDegraded(reason):
            return "info", "files are looked at every second", {"reason": reason}
        case LeaseTaken(before):
            if before:
                return "info", "taken over from a replica that fell silent", {"from": before}
            return "info", "kept by this replica", {}
        case LeaseEnded(unable=True):
            return (
                "warning",
                "left to another replica: it cannot be served here",
                {},
            )
        case LeaseEnded(lost):
            left = "taken over by another replica" if lost else "left to another replica"
            return "warning" if lost else "info", left, {}
        case StateFailed(code, message):
            return "error", "state cannot be used", {"code": code, "reason": message}
        case _:
            assert_never(event)


def _further(event: Event) -> list[LogLine]:
    """Return the lines of an event that takes more than one: a file has several problems."""
    if not isinstance(event, ConfigRejected | PolicyRejected):
        return []
    lines = (told(replace(event, problems=(each,))) for each in event.problems[1:])
    return [line for line in lines if line is not None]


def _news(plan: Plan, announced: set[str]) -> list[Change]:
    """Return the changes of ``plan`` that were not announced yet, and remember the ones it has.

    After every request there is a new plan with one change less: that is no news.
    """
    marks = {
        f"{change.family} {change.action} {change.before} {change.after} {change.because}": change
        for change in plan.changes
    }
    news = [change for mark, change in marks.items() if mark not in announced]
    announced.clear()
    announced.update(marks)
    return news


def _point_out(logger: Any, change: Change) -> None:
    """Log what a person has to know of a change: that it is held, or that it is drift."""
    values = {"family": change.family, "change": format_change(change)}
    if change.because is not None:
        logger.warning("held", **values, reason=hold_words(change))
    elif change.reason is Reason.DRIFTED:
        logger.warning("drift: to be put back", **values)


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
