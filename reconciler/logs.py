"""Writes events as log lines on stderr, with structlog. This file decides and measures nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.background_writer import BackgroundText
from reconciler.core import events
from reconciler.core.apply_result import hold_words
from reconciler.core.plan import Change, Plan, Reason, format_change
from reconciler.core.problems import escape_unprintable, json_text
from reconciler.event_log_lines import LogLine, to_log_line

if TYPE_CHECKING:
    from structlog.typing import Processor

LINES_DROPPED = "lines dropped: stderr could not be written"


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Make imports within the block find ``package`` missing, unless it is loaded already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # with None an import fails
    try:
        yield
    finally:
        del sys.modules[package]


# structlog loads rich for tracebacks, which are never logged, wherever rich is installed; it has no setting
# for that. Loading rich takes 5 MB and five times as long as structlog itself.
with _without("rich"):
    import structlog


def configure_logging(*, log_format: str | None, level: str, color: bool) -> None:
    """Set up structlog. ``log_format`` None: console lines on a terminal, else JSON lines."""
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
    """Return the line that reports how many lines were dropped."""
    values: Any = {"event": LINES_DROPPED, "lines": lines}
    for process in processors:
        values = process(None, "warning", values)
    return str(values)


def dropped_lines() -> int:
    """Return how many lines could not be written to stderr so far."""
    return sys.stderr.writer.dropped_lines if isinstance(sys.stderr, BackgroundText) else 0


def silence_logger(library: str) -> None:
    """Stop a library from writing lines of its own between the log lines; its errors are raised anyway."""
    logger = logging.getLogger(library)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def log(level: str, event: str, **values: object) -> None:
    """Write one log line, on stderr also where logging is not set up."""
    if not structlog.is_configured():
        configure_logging(log_format=None, level="info", color=False)
    getattr(structlog.get_logger(), level)(event, **values)


def log_json(level: str, event: str, **values: object) -> None:
    """Write one JSON line, also where logging is not set up."""
    if not structlog.is_configured():
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
    logger = structlog.get_logger()
    if account:
        logger = logger.bind(account=account, environment=environment)
    if simulator:
        logger = logger.bind(exchange="SIMULATOR")
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
        getattr(logger, level)(message, **values)
        for level, message, values in _further(event):
            getattr(logger, level)(message, **values)
        if isinstance(event, events.Planned):
            for change in news:
                _point_out(logger, change)
        if failing and isinstance(event, events.LiveReadDone):
            logger.info("the exchange answers again")
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


def _point_out(logger: Any, change: Change) -> None:
    """Log a change that is held, or that is drift."""
    values = {"family": change.family, "change": format_change(change)}
    if change.because is not None:
        logger.warning("held", **values, reason=hold_words(change))
    elif change.reason is Reason.DRIFTED:
        logger.warning("drift: will be restored", **values)
