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
from typing import Any, Self
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
    """The stable names of problems.

    ``summary``: what the problem is, in a few words. It quotes nothing of the file.
    """

    summary: str

    def __new__(cls, value: str, summary: str = "") -> Self:
        """Return the code called ``value``."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.summary = summary
        return code

    FILE_MISSING = "file-missing", "The file does not exist"
    FILE_UNREADABLE = "file-unreadable", "The file cannot be read"
    NO_CONFIG_FILES = "no-config-files", "The folder has no settings files"
    EMPTY_FILE = "empty-file", "The file has no content"
    TOO_LARGE = "too-large", "The file is larger than 1 MiB, or has too many values"
    NOT_UTF8 = "not-utf8", "The file is not UTF-8 text"
    BAD_CHARACTER = "bad-character", "A character that hides or moves text"
    YAML_SYNTAX = "yaml-syntax", "Not valid YAML"
    YAML_ANCHOR = "yaml-anchor", "Anchors and aliases are not allowed"
    YAML_TAG = "yaml-tag", "Tags are not allowed"
    YAML_MERGE = "yaml-merge", "Merge keys are not allowed"
    YAML_BLOCK = "yaml-block", "Block text is not allowed"
    YAML_NUMBER = "yaml-number", "YAML programs do not agree on this value"
    MULTIPLE_DOCUMENTS = "multiple-documents", "More than one document in a file"
    TOO_DEEP = "too-deep", "Nested too deeply"
    NON_STRING_KEY = "non-string-key", "A key that is not text"
    DUPLICATE_KEY = "duplicate-key", "The same key twice"
    UNKNOWN_KEY = "unknown-key", "A key this format does not have"
    MISSING_KEY = "missing-key", "A required key is missing"
    WRONG_TYPE = "wrong-type", "A value of the wrong kind"
    NULL_VALUE = "null-value", "No value after the colon"
    BAD_VERSION = "bad-version", "The format's version is not 1"
    BAD_ACCOUNT = "bad-account", "Not an account name"
    BAD_ENVIRONMENT = "bad-environment", "The environment is neither live nor demo"
    BAD_UID = "bad-uid", "Not a User ID in quotes"
    BAD_PREFIX = "bad-prefix", "Not a prefix of environment variables"
    NO_FAMILIES = "no-families", "No families are listed"
    TOO_MANY_FAMILIES = "too-many-families", "More than 10,000 families"
    BAD_FAMILY = "bad-family", "Not the name of an instrument family"
    BAD_INTERVAL = "bad-interval", "Not an interval"
    ZERO_WITH_UNIT = "zero-with-unit", "A zero with a unit"
    BARE_ZERO = "bare-zero", "A bare 0 (warning)"
    SHORT_INTERVAL = "short-interval", "An interval under 100 ms (warning)"
    BAD_QUANTITY = "bad-quantity", "Not a quantity of contracts"
    DUPLICATE_ACCOUNT = "duplicate-account", "Two files for one account"
    BAD_PATTERN = "bad-pattern", "Not a pattern of families (policy)"
    BAD_CHOICE = "bad-choice", "Neither deny nor allow (policy)"
    BAD_FACTOR = "bad-factor", "Not a factor (policy)"
    BAD_COUNT = "bad-count", "Not a number of families (policy)"
    BAD_SHARE = "bad-share", "Not a share (policy)"
    BAD_WINDOW = "bad-window", "Not a time span (policy)"
    MIN_OVER_MAX = "min-over-max", "A min above its max (policy)"
    DUPLICATE_FAMILY = "duplicate-family", "A family listed twice (policy)"
    TWO_POLICIES = "two-policies", "Two policies in one folder"
    POLICY_BOUNDS = "policy-bounds", "A value outside the policy's bounds"
    POLICY_PROTECTED = "policy-protected", "A protected family is missing or disabled"
    POLICY_UNMATCHED = "policy-unmatched", "Bounds for no family (warning)"
    POLICY_FLOOR = "policy-floor", "A timeInterval below the policy's floor (warning)"
    POLICY_MISSING = "policy-missing", "The policy file is missing"
    MORE_PROBLEMS = "more-problems", "There are more problems (warning)"


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
        listed = [*self._errors, *self._warnings][:MAX_PROBLEMS]
        listed.sort(key=lambda each: (each.line, each.column, each.code, each.message))
        if not self._has_more and len(self._errors) + len(self._warnings) <= MAX_PROBLEMS:
            return tuple(listed)
        last = listed[-1]
        more = f"and more: only {MAX_PROBLEMS} problems of a file are listed"
        hint = "correct these first, then run mmp validate again"
        return (
            *listed,
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
