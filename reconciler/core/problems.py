"""What can be wrong with a file the user wrote, as values: a position, a stable code, what to do next.

This file decides which codes exist and how severe each is. ``config`` decides whether a file has a problem,
and ``render`` how one looks. A code never changes its meaning: pipelines match on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from unicodedata import category

MAX_SHOWN = 60
"""Characters of a user's value repeated in a message: the value may be as long as the file."""

MAX_PROBLEMS = 100
"""Problems collected of one file: more are not corrected at a time, and a file may have half a million."""

MAX_MESSAGE_CHARS = 400
"""Bound on a message and on a hint; those of a file that is merely wrong are far shorter."""

_NO_TEXT = re.compile("[\ud800-\udfff]")
"""How Python represents bytes of a file name that are no UTF-8; no document can contain them."""


class Severity(StrEnum):
    """How bad a problem is: an error refuses the file, a warning only asks for a second look."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """The stable names of problems."""

    FILE_MISSING = "file-missing"
    FILE_UNREADABLE = "file-unreadable"
    NO_CONFIG_FILES = "no-config-files"
    EMPTY_FILE = "empty-file"
    TOO_LARGE = "too-large"
    NOT_UTF8 = "not-utf8"
    BAD_CHARACTER = "bad-character"
    YAML_SYNTAX = "yaml-syntax"
    YAML_ANCHOR = "yaml-anchor"
    YAML_TAG = "yaml-tag"
    YAML_MERGE = "yaml-merge"
    YAML_BLOCK = "yaml-block"
    YAML_NUMBER = "yaml-number"
    MULTIPLE_DOCUMENTS = "multiple-documents"
    TOO_DEEP = "too-deep"
    NON_STRING_KEY = "non-string-key"
    DUPLICATE_KEY = "duplicate-key"
    UNKNOWN_KEY = "unknown-key"
    MISSING_KEY = "missing-key"
    WRONG_TYPE = "wrong-type"
    NULL_VALUE = "null-value"
    BAD_VERSION = "bad-version"
    BAD_ACCOUNT = "bad-account"
    BAD_ENVIRONMENT = "bad-environment"
    BAD_UID = "bad-uid"
    BAD_PREFIX = "bad-prefix"
    NO_FAMILIES = "no-families"
    TOO_MANY_FAMILIES = "too-many-families"
    BAD_FAMILY = "bad-family"
    BAD_INTERVAL = "bad-interval"
    ZERO_WITH_UNIT = "zero-with-unit"
    BARE_ZERO = "bare-zero"
    SHORT_INTERVAL = "short-interval"
    BAD_QUANTITY = "bad-quantity"
    DUPLICATE_ACCOUNT = "duplicate-account"
    BAD_PATTERN = "bad-pattern"
    BAD_CHOICE = "bad-choice"
    BAD_FACTOR = "bad-factor"
    BAD_COUNT = "bad-count"
    BAD_SHARE = "bad-share"
    BAD_WINDOW = "bad-window"
    MIN_OVER_MAX = "min-over-max"
    DUPLICATE_FAMILY = "duplicate-family"
    TWO_POLICIES = "two-policies"
    POLICY_BOUNDS = "policy-bounds"
    POLICY_PROTECTED = "policy-protected"
    POLICY_UNMATCHED = "policy-unmatched"
    POLICY_FLOOR = "policy-floor"
    POLICY_MISSING = "policy-missing"
    MORE_PROBLEMS = "more-problems"


WARNINGS = frozenset(
    {Code.BARE_ZERO, Code.SHORT_INTERVAL, Code.POLICY_FLOOR, Code.POLICY_UNMATCHED, Code.MORE_PROBLEMS}
)
"""The codes that do not refuse a file; every other one does."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one file. ``line`` and ``column`` are 1-based, columns count characters.

    A problem without a position is at 1:1. ``hint`` is what to do next, or empty.
    """

    code: Code
    severity: Severity
    path: str
    line: int
    column: int
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Whether this problem refuses the file."""
        return self.severity is Severity.ERROR


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a code: a title, what it means, what to do about it."""

    title: str
    meaning: str
    remedy: str = ""


def problem(
    code: Code, path: str, message: str, hint: str = "", *, line: int = 1, column: int = 1
) -> Problem:
    """Return a problem of ``code`` with the severity that code always has."""
    severity = Severity.WARNING if code in WARNINGS else Severity.ERROR
    return Problem(code, severity, path, line, column, _bounded(message), _bounded(hint))


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


class Collected:
    """The problems of one file as they are found, each once: at most MAX_PROBLEMS, errors before warnings.

    Once it ``is_full``, the file is refused whatever else is found, so looking for more should stop.
    """

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._errors: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}
        self._has_more = False
        for each in problems:
            self.add(each)

    def is_full(self) -> bool:
        """Tell whether more errors were found than are listed."""
        return self._has_more and len(self._errors) == MAX_PROBLEMS

    def add(self, found: Problem) -> None:
        """Add a problem; of those beyond the bound only their existence is recorded."""
        kind = self._errors if found.is_error else self._warnings
        if found.code is Code.MORE_PROBLEMS or (len(kind) == MAX_PROBLEMS and found not in kind):
            self._has_more = True
        else:
            kind[found] = None

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems, from top to bottom; if there are more, the last one says so."""
        kept = [*self._errors, *self._warnings][:MAX_PROBLEMS]
        kept.sort(key=lambda each: (each.line, each.column, each.code, each.message))
        if not self._has_more and len(self._errors) + len(self._warnings) <= MAX_PROBLEMS:
            return tuple(kept)
        last = kept[-1]
        more = f"and more: only {MAX_PROBLEMS} problems of a file are listed"
        hint = "correct these first, then run mmp validate again"
        return (
            *kept,
            problem(Code.MORE_PROBLEMS, last.path, more, hint, line=last.line, column=last.column),
        )


def any_error(problems: Iterable[Problem]) -> bool:
    """Tell whether at least one of ``problems`` refuses its file."""
    return any(each.is_error for each in problems)


def first_error(problems: Sequence[Problem]) -> Problem | None:
    """Return the problem to name where only one is: the first error, else the first; None: no problem."""
    return next((each for each in problems if each.is_error), next(iter(problems), None))


def quoted(text: str) -> str:
    """Return a user's ``text`` in double quotes, cut to MAX_SHOWN, safe for a terminal."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    return escape_unprintable(json.dumps(cut, ensure_ascii=False))


def escape_unprintable(text: str) -> str:
    """Return ``text`` with every character that is not printable written as its escape.

    A terminal escape sequence, a line break or an invisible character becomes visible text.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def has_visible_text(text: str) -> bool:
    """Tell whether ``text`` shows a letter, digit or sign: blanks and invisible characters are none."""
    return any(category(each)[0] in "LNPS" and each not in _BLANK for each in text)


_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by their category that show nothing: fillers of Hangul, and the empty Braille cell."""


def json_text(document: Any, **options: Any) -> str:
    """Return a document as JSON; what UTF-8 cannot encode is written in its strings as a readable escape.

    ``options`` are those of ``json.dumps``.
    """
    text = json.dumps(document, ensure_ascii=False, **options)
    return _NO_TEXT.sub(lambda each: rf"\\u{ord(each[0]):x}", text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
