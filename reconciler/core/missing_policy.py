"""A policy that is on record while its file is missing, and the command line that gives it up.

A deleted file must not switch off its own rules. So a missing policy applies as one that cannot be read:
what loosens or disables is refused, and what protects is not. This file decides whether ``--no-policy``
names the policy on record, and what people read about a missing one. It never looks for a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.core.history_records import PolicyRecord
from reconciler.core.problems import Code, Problem, escape_unprintable, problem
from reconciler.core.saved_plan import format_utc

MIN_DIGITS = 12
"""Hex digits of a sha256 that name a policy: as many as messages and plans show."""

_DIGITS = re.compile(f"[0-9a-f]{{{MIN_DIGITS},64}}")


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The policy that ``--no-policy`` names: its sha256 or the first digits, and the reason."""

    sha256: str
    reason: str = ""

    def names(self, record: PolicyRecord) -> bool:
        """Tell whether this is the policy on record."""
        return record.sha256.startswith(self.sha256)


def parse_sha256(text: str) -> str:
    """Return a sha256, or its first digits, as a policy is named by; raises ValueError."""
    digits = text.removeprefix("sha256:").lower()
    if _DIGITS.fullmatch(digits) is None:
        raise ValueError(f"not {MIN_DIGITS} to 64 hex digits")
    return digits


def missing_message(record: PolicyRecord) -> str:
    """Return the sentence that a policy is missing: its path, since when it was in force, its hash."""
    return (
        f"the policy file {escape_unprintable(record.path)} is missing: it was in use since"
        f" {format_utc(record.at)} (sha256 {record.sha256})"
    )


def missing_hint(record: PolicyRecord) -> str:
    """Return what to do about a missing policy."""
    return (
        "restore the file, name it with --policy FILE, or give the policy up:"
        f' --no-policy {record.sha256[:MIN_DIGITS]} --reason "…"'
    )


def missing_problem(record: PolicyRecord, *, other: GivenUp | None = None, judged: bool = True) -> Problem:
    """Return a missing policy as a problem of its file.

    ``other`` is what ``--no-policy`` names if that is another policy. ``judged``: the remembered rules can
    still be read.
    """
    message = missing_message(record)
    if other is not None:
        message += f"; --no-policy names another policy ({other.sha256}), so it has no effect"
    if not judged:
        message += "; its rules cannot be read by this version of mmp"
    return problem(Code.POLICY_MISSING, record.path, message, missing_hint(record))
