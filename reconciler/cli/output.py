"""Where things are written: results to stdout, everything else to stderr, colour only where it may be."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
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
        """Write result text to stdout as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def document(self, document: dict[str, Any]) -> None:
        """Write one JSON document to stdout, readable and stable."""
        self.result(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def note(self, text: str) -> None:
        """Write one line to stderr."""
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


def wanted_output(arguments: Sequence[str]) -> str:
    """Return the ``--output`` of a command line that may be wrong in other ways; text by default."""
    for place, argument in enumerate(arguments):
        if argument == "--output" and place + 1 < len(arguments):
            return arguments[place + 1]
        if argument.startswith("--output="):
            return argument.partition("=")[2]
    return "text"


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
