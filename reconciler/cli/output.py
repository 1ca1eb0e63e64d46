"""Writes output: results to stdout, everything else to stderr, colour only where it is allowed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import TextIOWrapper, UnsupportedOperation
from typing import Any, TextIO, cast

import click

from reconciler.background_writer import DRAIN_TIMEOUT_S, MAX_LOG_BYTES, BackgroundText, BackgroundWriter
from reconciler.core.problems import Problem, escape_unprintable, json_text
from reconciler.documents.problems import problems_document
from reconciler.errors import MmpError
from reconciler.render.color import Paint, Tone, ansi, plain
from reconciler.secret import masked


@dataclass(slots=True)
class StderrStyle:
    """Options of the command line for everything on stderr.

    ``json_lines``: JSON lines were requested. ``simulator``: the other end is the simulated exchange;
    known once the address was read.
    """

    simulator: bool = False
    json_lines: bool = False


def current_stderr_style() -> StderrStyle:
    """Return the options of the running command line; the defaults when none is running."""
    context = click.get_current_context(silent=True)
    return (context and context.find_object(StderrStyle)) or StderrStyle()


@dataclass(frozen=True, slots=True)
class Output:
    """One command's output. ``format`` is text, json or another the command knows."""

    format: str = "text"
    color: str = "auto"
    style: StderrStyle = field(default_factory=current_stderr_style)

    @property
    def json(self) -> bool:
        """Whether results are documents."""
        return self.format == "json"

    def result(self, text: str) -> None:
        """Write result text to stdout unchanged, after everything written to stderr so far.

        Raises MmpError where it cannot be written.
        """
        wait_for_stderr()
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has read enough: not an error
            raise
        except OSError as error:
            raise stdout_error(error) from None

    def document(self, document: dict[str, Any]) -> None:
        """Write one JSON document to stdout, readable and stable."""
        self.result(json_text(document, indent=2) + "\n")

    def info(self, text: str) -> None:
        """Write one line to stderr."""
        if self.style.json_lines:
            _log_line("info", text)
        else:
            sys.stderr.write(text + "\n")

    def problem(self, problem: Problem) -> None:
        """Write a problem of a file to stderr, as one line."""
        place = f"{escape_unprintable(problem.path)}:{problem.line}"
        message = escape_unprintable(masked(problem.message))
        if self.style.json_lines:
            _log_line(problem.severity.value, message, code=problem.code, at=place)
        else:
            self.info(f"{problem.severity}[{problem.code}] {place}: {message}")

    def failure(self, problem: MmpError) -> None:
        """Report a failure: to stderr for people, and as a document when one was requested."""
        self.error(problem)
        if self.json:
            self.failure_document(problem)

    def error(self, problem: MmpError, *, warning: bool = False) -> None:
        """Write a failure to stderr, for people; used when the one document is already written.

        ``warning``: it does not end the command.
        """
        level, tone = ("warning", Tone.WARN) if warning else ("error", Tone.BAD)
        message = escape_unprintable(masked(problem.message))
        hint = escape_unprintable(masked(problem.hint))
        if self.style.json_lines:
            exchange = {"exchange": "SIMULATOR"} if self.style.simulator else {}
            _log_line(level, message, code=problem.code, hint=hint or None, **exchange)
            return
        banner = "SIMULATOR " if self.style.simulator else ""
        self.info(f"{self.paint(sys.stderr)(level, tone)}[{problem.code}]: {banner}{message}")
        if hint:
            self.info(f"  help: {hint}")

    def failure_document(self, *problems: MmpError) -> None:
        """Write failures as the document of a command that has no other to write."""
        self.document(problems_document(problems))

    def colored_stderr(self) -> bool:
        """Whether stderr may be coloured."""
        return self._may_color(sys.stderr)

    def paint(self, stream: TextIO | None = None) -> Paint:
        """Return how to decorate text on ``stream`` (default stdout)."""
        return ansi if self._may_color(stream or sys.stdout) else plain

    def _may_color(self, stream: TextIO) -> bool:
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def has_terminal() -> bool:
    """Return whether a person can be asked: input and messages are on a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _log_line(level: str, event: str, **values: object) -> None:
    from reconciler import logs  # late: commands that do not log pay for it only here

    logs.log_json(level, event, **values)


def stdout_error(error: Exception) -> MmpError:
    """Return the failure of a result that could not be written; nothing more is written to stdout."""
    silence_stdout()
    why = (isinstance(error, OSError) and error.strerror) or "it is closed"
    return MmpError(
        "output-lost",
        f"the result could not be written to stdout: {why}",
        "make stdout writable; mmp status shows what was done",
    )


def stdout_failed() -> bool:
    """Return whether stdout is what failed: its buffer still has the text that could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return not sys.stdout.writable()


def silence_stdout() -> None:
    """Redirect stdout to nothing, so that neither we nor the interpreter's last flush fail again."""
    nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open until the end
    with suppress(OSError):
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    sys.stdout = nothing


def take_stderr(*, waits_for_reader: bool) -> BackgroundText | None:
    """Write stderr in a thread from now on; None if it has no file descriptor, as in a test.

    ``waits_for_reader``: nothing is dropped, for a command whose end may wait for the reader.
    """
    try:
        fd = sys.stderr.fileno()
    except OSError:
        return None
    writer = BackgroundWriter(fd, max_bytes=None if waits_for_reader else MAX_LOG_BYTES)
    writer.describe_dropped = lambda lines: f"warning: {lines} lines could not be written here"
    text = BackgroundText(writer, sys.stderr)
    sys.stderr = cast(TextIO, text)
    return text


def wait_for_stderr() -> None:
    """Wait, for a bounded time, until all text for stderr is written."""
    if isinstance(sys.stderr, BackgroundText):
        sys.stderr.writer.drain(DRAIN_TIMEOUT_S)


class BackgroundStdout:
    """Result text that is written during the work: a reader that stops reading does not stop the work."""

    def __init__(self) -> None:
        self._writer: BackgroundWriter | None = None

    def write(self, text: str) -> None:
        """Write text to stdout, waiting for its reader for a bounded time only."""
        wait_for_stderr()
        if self._writer is None:
            self._writer = _writer_of(sys.stdout)
        if self._writer is None:
            sys.stdout.write(text)
        else:
            self._writer.write(text.encode(sys.stdout.encoding, "backslashreplace"))
            self._writer.drain(DRAIN_TIMEOUT_S)

    def finish(self) -> None:
        """Wait for the reader. Raises BrokenPipeError and MmpError as ``Output.result`` does."""
        if self._writer is None:
            return
        self._writer.drain(None)
        error = self._writer.error
        if isinstance(error, BrokenPipeError):
            raise error
        if error is not None:
            raise stdout_error(error if sys.stdout.writable() else UnsupportedOperation())


def _writer_of(stream: TextIO) -> BackgroundWriter | None:
    """Return a writer for a stream; None if it has no file descriptor: a progress bar's, or a test's."""
    if not isinstance(stream, TextIOWrapper):
        return None
    try:
        return BackgroundWriter(stream.fileno(), max_bytes=None)
    except OSError:
        return None


def raw_flag_value(flag: str, arguments: Sequence[str], otherwise: str) -> str:
    """Return the value of ``flag`` on a command line that may be wrong in other ways.

    The last one counts, as for click; after ``--`` there are no flags.
    """
    return [otherwise, *raw_flag_values(flag, arguments)][-1]


def raw_flag_values(flag: str, arguments: Sequence[str]) -> list[str]:
    """Return every value of ``flag`` on such a command line."""
    values: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == flag and place + 1 < len(arguments):
            values.append(arguments[place + 1])
        elif argument.startswith(f"{flag}="):
            values.append(argument.partition("=")[2])
    return values
