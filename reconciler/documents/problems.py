"""The problems of files as the document ``mmp/problems/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reconciler.core.problems import Problem

PROBLEMS_FORMAT = "mmp/problems/1"


def problems_document(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the document ``mmp/problems/1`` (schema: ``mmp schema problems``); ``hint`` may be None."""
    return {"format": PROBLEMS_FORMAT, "problems": [_as_json(each) for each in problems]}


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code.value,
        "severity": problem.severity.value,
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "hint": problem.hint or None,
    }
