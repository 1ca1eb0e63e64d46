"""The error tree: expected failures that end a command, each with its exit status.

    MmpError                      1  runtime failure
    ├── UsageError               64  invalid command line
    ├── InvalidInput              4  config, policy, plan or revision is invalid
    ├── AccountProblem            8  account, key or environment: writing is stopped
    ├── StateLocked               7  another process has locked the state
    ├── PlanStale                 5  the plan no longer matches what was reviewed
    ├── ChangeRefused             3  policy, guard or --fail-on
    ├── StateUnusable             1  the state is damaged, foreign, or in a bad place
    │   (StateAccountMismatch     8  it belongs to another account)
    ├── StateUnavailable          1  the state cannot be used now: `run` retries by itself
    └── StateAccessDenied         1  a person must fix the access: a command that starts does not wait

An error says what is wrong, whose fault it is and what to do next; its ``code`` is stable. Messages
never contain secrets: errors of libraries are translated before they get here.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import ClassVar, Self


class Exit(IntEnum):
    """Exit statuses of every command."""

    DONE = 0
    FAILED = 1
    CHANGES = 2
    REFUSED = 3
    INVALID = 4
    STALE = 5
    PARTLY = 6
    LOCKED = 7
    ACCOUNT = 8
    HELD = 9
    USAGE = 64
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


PRECEDENCE = (
    Exit.USAGE,
    Exit.INVALID,
    Exit.ACCOUNT,
    Exit.LOCKED,
    Exit.STALE,
    Exit.REFUSED,
    Exit.FAILED,
    Exit.HELD,
    Exit.CHANGES,
    Exit.DONE,
)
"""Which status wins when nothing was settled and several apply."""


class MmpError(Exception):
    """A failure the user can do something about: ``message`` says what, ``hint`` what to do next.

    ``path`` is the file it is about; None when it is about none, or about several.
    """

    exit_status: ClassVar[Exit] = Exit.FAILED

    def __init__(self, code: str, message: str, hint: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.path = path

    def prefixed(self, place: str, *, path: str | None = None) -> Self:
        """Return the same failure with ``place`` before its message; ``path`` if it has none yet."""
        return type(self)(self.code, f"{place}: {self.message}", self.hint, path=self.path or path)


class UsageError(MmpError):
    """Invalid command line."""

    exit_status = Exit.USAGE


class InvalidInput(MmpError):
    """A file, plan or revision given by the user is invalid."""

    exit_status = Exit.INVALID


class AccountProblem(MmpError):
    """The account, the key or the environment does not allow writes.

    ``wait_s``: it ends by itself after this many seconds; None: that is not known.
    """

    exit_status = Exit.ACCOUNT
    wait_s: float | None = None


class StateLocked(MmpError):
    """Another process has locked the state; the message names it."""

    exit_status = Exit.LOCKED


class PlanStale(MmpError):
    """The plan no longer matches what was reviewed."""

    exit_status = Exit.STALE


class ChangeRefused(MmpError):
    """A policy, a guard or --fail-on refuses the change."""

    exit_status = Exit.REFUSED


class StateUnusable(MmpError):
    """The state is damaged, foreign to this program, too new, or in a place that cannot hold it."""


class StateUnavailable(MmpError):
    """The state cannot be reached or used at the moment: a lost connection, a failover, a full disk.

    Every request that was sent is on record; what was being recorded may be on record or not.
    """


class StateAccessDenied(MmpError):
    """Access to the state is denied, or its files or tables are not usable as they are.

    A person must fix it. Examples: a wrong password, TLS or access rules, a revoked right, missing tables,
    a second hard link. A command that starts ends with it. A `run` that has used the state before waits as
    for StateUnavailable: the person who changes the access may be about to restore it.
    """


STATE_FAILURES = (StateUnavailable, StateAccessDenied)
"""The errors after which a running `run` retries."""


class StateAccountMismatch(MmpError):
    """The state belongs to another User ID or another kind of exchange."""

    exit_status = Exit.ACCOUNT


def overall_status(statuses: list[Exit]) -> Exit:
    """Return the status that wins among ``statuses`` by precedence; DONE when there are none."""
    return min(statuses, key=PRECEDENCE.index, default=Exit.DONE)


def internal_error(bug: Exception) -> MmpError:
    """Return the failure for a bug in this program; the traceback is shown only on request."""
    if os.environ.get("MMP_TRACEBACK"):
        import traceback

        traceback.print_exception(bug)
    return MmpError(
        "internal-error",
        f"this is a bug in mmp: {type(bug).__name__}",
        "please report it; run again with MMP_TRACEBACK=1 for the place in the code",
    )
