"""Where things are written: results to stdout, everything else to stderr, colour only where it may be."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TextIO

from reconciler.core.problems import printable
from reconciler.errors import MmpError
from reconciler.report.tone import Paint, Tone, ansi, plain


@dataclass(frozen=True, slots=True)
class Output:
    """One command's output. ``format`` is text, json or another the command knows."""

    format: str = "text"
    color: str = "auto"

    @property
    def json(self) -> bool:
        """Whether results are documents."""
        return self.format == "json"

    def result(self, text: str) -> None:
        """Write result text to stdout as it is. Raises MmpError where it cannot be written."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has enough: nothing to tell
            raise
        except OSError as error:
            raise output_lost(error) from None

    def document(self, document: dict[str, Any]) -> None:
        """Write one JSON document to stdout, readable and stable."""
        self.result(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def note(self, text: str) -> None:
        """Write one line to stderr; where that cannot be written there is nowhere left to say it."""
        with suppress(OSError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def failure(self, problem: MmpError) -> None:
        """Tell about a failure: to stderr for people, and as a document when one was asked for."""
        self.tell(problem)
        if self.json:
            self.failure_document(problem)

    def tell(self, problem: MmpError) -> None:
        """Write a failure to stderr, for people; for when the one document is written already."""
        paint = self.paint(sys.stderr)
        self.note(f"{paint('error', Tone.BAD)}[{problem.code}]: {printable(problem.message)}")
        if problem.hint:
            self.note(f"  help: {printable(problem.hint)}")

    def failure_document(self, *problems: MmpError) -> None:
        """Write failures as the document of a command that has no other to write."""
        self.document(_problems_document(problems))

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


def output_lost(error: Exception) -> MmpError:
    """Return the failure of a result that could not be written; stdout is given up."""
    silence_stdout()
    why = (isinstance(error, OSError) and error.strerror) or "it is closed"
    return MmpError(
        "output-lost",
        f"the result could not be written to stdout: {why}",
        "free or open what stdout leads to; mmp status says what was done",
    )


def stdout_is_lost() -> bool:
    """Tell whether stdout is what failed: what could not be written is still in its buffer."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return not sys.stdout.writable()


def silence_stdout() -> None:
    """Point stdout at nothing, so that neither we nor the interpreter's last flush fail again."""
    nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (open until the end)
    with suppress(OSError):
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    sys.stdout = nothing


def wanted_output(arguments: Sequence[str]) -> str:
    """Return the ``--output`` of a command line that may be wrong in other ways; text by default.

    The last one counts, as for click; after ``--`` there are no flags.
    """
    wanted = "text"
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--output" and place + 1 < len(arguments):
            wanted = arguments[place + 1]
        elif argument.startswith("--output="):
            wanted = argument.partition("=")[2]
    return wanted


def _problems_document(problems: Sequence[MmpError]) -> dict[str, Any]:
    """Return failures as a ``mmp/problems/1`` document; they have no place of their own."""
    return {
        "format": "mmp/problems/1",
        "problems": [
            {
                "code": problem.code,
                "severity": "error",
                "path": None,
                "line": None,
                "column": None,
                "message": problem.message,
                "hint": problem.hint or None,
            }
            for problem in problems
        ],
    }
