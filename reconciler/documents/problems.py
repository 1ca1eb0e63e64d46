"""The problems of files, and failures, as the document ``mmp/problems/1``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from reconciler.core.problems import Problem, Severity
from reconciler.errors import MmpError
from reconciler.secret import masked


def problems_document(problems: Sequence[Problem | MmpError]) -> dict[str, Any]:
    """Return the document ``mmp/problems/1`` (schema: ``mmp schema problems``); ``hint`` may be None."""
    return {"format": "mmp/problems/1", "problems": problem_rows(problems)}


def problem_rows(problems: Sequence[Problem | MmpError]) -> list[dict[str, Any]]:
    """Return the problems in such a document; a failure about a file is reported at its beginning."""
    return [_problem(each) if isinstance(each, Problem) else _failure(each) for each in problems]


def _problem(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "hint": problem.hint or None}


def _failure(failure: MmpError) -> dict[str, Any]:
    place = 1 if failure.path else None
    return {
        "code": failure.code,
        "severity": Severity.ERROR,
        "path": failure.path,
        "line": place,
        "column": place,
        "message": masked(failure.message),
        "hint": masked(failure.hint) or None,
    }
