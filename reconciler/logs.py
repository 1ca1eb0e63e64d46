"""Writes events as log lines on stderr, as JSON or as text for people. It decides and measures nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TextIO

from reconciler.background_writer import BackgroundText
from reconciler.core import events
from reconciler.core.outcome import hold_words
from reconciler.core.plan import Change, Plan, Reason, format_change
from reconciler.core.problems import escape_unprintable, json_text
from reconciler.log_lines import LogLine, to_log_line

LINES_DROPPED = "lines dropped: stderr could not be written"

LEVELS = ("debug", "info", "warning", "error")
"""The levels of log lines, from the least to the most important."""

_LEVEL_STYLES = {"debug": "32;1", "info": "32;1", "warning": "33;1", "error": "31;1"}


@dataclass(slots=True)
class _Output:
    """Where log lines go, in which form, and from which level on. ``stream`` None: nothing was set up."""

    stream: TextIO | None
    render: Callable[[Mapping[str, object]], str]
    level: str


def configure_logging(*, log_format: str | None, level: str, color: bool) -> None:
    """Set up logging. ``log_format`` None: text lines on a terminal, else JSON lines."""
    as_json = log_format == "json" if log_format else not sys.stderr.isatty()
    _OUTPUT.stream, _OUTPUT.level = sys.stderr, level
    _OUTPUT.render = partial(json_text, default=repr) if as_json else partial(_text_line, color=color)
    if isinstance(sys.stderr, BackgroundText):
        sys.stderr.writer.describe_dropped = lambda lines: _line("warning", LINES_DROPPED, {"lines": lines})


def _line(level: str, event: str, values: Mapping[str, object]) -> str:
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return _OUTPUT.render({**values, "event": event, "level": level, "timestamp": timestamp})


def _text_line(line: Mapping[str, object], *, color: bool) -> str:
    """Return a line for people: instant, level and event, then the values by name."""

    def styled(text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if color else text

    level, head = str(line["level"]), {"timestamp", "level", "event"}
    values = sorted((name, value) for name, value in line.items() if name not in head)
    words = [
        styled(str(line["timestamp"]), "2"),
        f"[{styled(f'{level:9}', _LEVEL_STYLES[level])}]",
        styled(str(line["event"]), "1"),
        *(f"{styled(name, '36')}={styled(_quoted(value), '35')}" for name, value in values),
    ]
    return " ".join(words).rstrip()


def _quoted(value: object) -> str:
    """Return a value as text; in quotes where a blank or the like would make it several words."""
    plain = isinstance(value, str) and not set(value) & set(" \t=\r\n\"'")
    return str(value) if plain else repr(value)


_OUTPUT = _Output(None, partial(_text_line, color=False), "info")


def dropped_lines() -> int:
    """Return how many lines could not be written to stderr so far."""
    return sys.stderr.writer.dropped_lines if isinstance(sys.stderr, BackgroundText) else 0


def silence_logger(library: str) -> None:
    """Stop a library from writing lines of its own between the log lines; its errors are raised anyway."""
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def log(level: str, event: str, /, **values: object) -> None:
    """Write one log line."""
    if LEVELS.index(level) >= LEVELS.index(_OUTPUT.level):
        stream = _OUTPUT.stream or sys.stderr
        stream.write(f"{_line(level, event, values)}\n")  # one write: several threads write lines
        stream.flush()


def log_json(level: str, event: str, **values: object) -> None:
    """Write one JSON line, also where logging is not set up."""
    if _OUTPUT.stream is None:
        configure_logging(log_format="json", level="info", color=False)
    log(level, event, **values)


HintFor = Callable[[events.ExchangeFailed | events.RequestSettled], str]
"""Returns what to do about a reply of the exchange: one sentence, "" for nothing."""


def no_hint(event: events.ExchangeFailed | events.RequestSettled) -> str:
    """Return no hint for any reply."""
    del event
    return ""


def observer(
    account: str = "", environment: str = "", *, simulator: bool, advice: HintFor = no_hint
) -> events.Observe:
    """Return an observer that logs every event of one account; failures carry ``advice`` as hint.

    Without an account the lines name no account.
    """
    names = {"account": account, "environment": environment} if account else {}
    write = partial(log, **names, **({"exchange": "SIMULATOR"} if simulator else {}))
    announced: set[str] = set()
    failing = False

    def observe(event: events.Event) -> None:
        nonlocal failing
        line = to_log_line(event)
        if line is None:
            return
        level, message, values = line
        if isinstance(event, events.Planned):
            news = _news(event.plan, announced)
            level = level if news else "debug"
        if isinstance(event, events.ExchangeFailed | events.RequestSettled) and (hint := advice(event)):
            values["hint"] = hint
        write(level, message, **values)
        for level, message, values in _further(event):
            write(level, message, **values)
        if isinstance(event, events.Planned):
            for change in news:
                _point_out(write, change)
        if failing and isinstance(event, events.LiveReadDone):
            write("info", "the exchange answers again")
            failing = False
        failing = failing or isinstance(event, events.ExchangeFailed)

    return observe


def shielded(observe: events.Observe) -> events.Observe:
    """Return an observer that does not raise: protection must not depend on the log.

    A failure is written to stderr, if that is possible.
    """

    def observed(event: events.Event) -> None:
        try:
            observe(event)
        except Exception as error:
            with suppress(OSError, ValueError):
                text = f"mmp: {type(event).__name__} could not be reported: {type(error).__name__}: {error}"
                print(escape_unprintable(text), file=sys.stderr)

    return observed


def _further(event: events.Event) -> list[LogLine]:
    """Return the further lines of an event that needs more than one: a file may have several problems."""
    if not isinstance(event, events.ConfigRejected | events.PolicyRejected):
        return []
    lines = (to_log_line(replace(event, problems=(each,))) for each in event.problems[1:])
    return [line for line in lines if line is not None]


def _news(plan: Plan, announced: set[str]) -> list[Change]:
    """Return the changes of ``plan`` that were not logged yet, and remember all its changes.

    After every request there is a new plan with one change less; this is not logged again.
    """
    marks = {
        f"{change.family} {change.action} {change.before} {change.after} {change.because}": change
        for change in plan.changes
    }
    news = [change for mark, change in marks.items() if mark not in announced]
    announced.clear()
    announced.update(marks)
    return news


def _point_out(write: Callable[..., None], change: Change) -> None:
    """Log a change that is held, or that is drift."""
    values = {"family": change.family, "change": format_change(change)}
    if change.because is not None:
        write("warning", "held", **values, reason=hold_words(change))
    elif change.reason is Reason.DRIFTED:
        write("warning", "drift: will be restored", **values)
