"""The ``watch`` part of an account's status document, which only a running process knows.

The status itself is rendered as for ``mmp status``. This adds the protection, the heartbeat, the files in
force, the outage of the exchange, and the last errors.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.core.monitoring.protection import Protection, ProtectionResult
from reconciler.core.monitoring.runtime import (
    AccountRuntime,
    FileState,
    Outage,
    RecentError,
    TerminalError,
    alive,
)
from reconciler.core.monitoring.status import Status
from reconciler.core.problems import Problem
from reconciler.documents.plan import Document, format_utc_ms
from reconciler.documents.problems import problems_document
from reconciler.documents.status import status_document


def runtime_document(
    status: Status, runtime: AccountRuntime, judged: ProtectionResult, *, now: float, dropped_log_lines: int
) -> Document:
    """Return the ``mmp/status/1`` document of a running account; ``now`` is when ``status`` was made.

    If the state of the account is unknown, it is not reported as in sync. ``dropped_log_lines`` are those
    of the process.
    """
    in_sync = status.in_sync and judged.protection is not Protection.UNKNOWN
    watch = {**_watch(status, runtime, judged, now), "dropped_log_lines": dropped_log_lines}
    return {**status_document(status), "in_sync": in_sync, "watch": watch}


def file_document(file: FileState) -> Document:
    """Return a file in force, and what is wrong with a newer one; null if there never was one."""
    return {
        "path": file.path,
        "sha256": file.sha256 or None,
        "accepted_at": format_utc_ms(file.accepted_at),
        "rejected_at": format_utc_ms(file.rejected_at),
        "problems": problems_of(file.problems),
    }


def problems_of(problems: tuple[Problem, ...]) -> list[Document]:
    """Return problems as ``mmp/problems/1`` has them."""
    text: list[Document] = problems_document(problems)["problems"]
    return text


def at_wall(instant: float | None, status: Status, now: float) -> datetime | None:
    """Return an instant of this process's clock as a time of day."""
    return None if instant is None else status.asked_at + timedelta(seconds=instant - now)


def _watch(status: Status, runtime: AccountRuntime, judged: ProtectionResult, now: float) -> Document:
    return {
        "protection": judged.protection.value,
        "sentence": judged.sentence,
        "started": runtime.started,
        "in_sync_at": format_utc_ms(at_wall(runtime.in_sync_at, status, now)),
        "loop": {
            "alive": alive(runtime, now),
            "last_step_at": format_utc_ms(at_wall(runtime.last_step_at, status, now)),
            "state_locked": runtime.locked_out or None,
        },
        "config": file_document(runtime.config) if runtime.config else None,
        "policy": file_document(runtime.policy) if runtime.policy else None,
        "outage": _outage(runtime.outage, status, now),
        "terminal_error": _terminal_error(runtime.terminal_error),
        "errors": [_failure(failing) for failing in runtime.errors],
    }


def _outage(outage: Outage | None, status: Status, now: float) -> Document | None:
    if outage is None:
        return None
    return {
        "since": format_utc_ms(outage.since_wall),
        "failures": outage.failures,
        "doing": outage.failed.doing,
        "code": outage.failed.reply.code,
        "message": outage.failed.reply.message,
        "retry_at": format_utc_ms(at_wall(outage.failed.retry_at, status, now)),
    }


def _terminal_error(terminal: TerminalError | None) -> Document | None:
    if terminal is None:
        return None
    return {"code": terminal.reply.code, "message": terminal.reply.message}


def _failure(failing: RecentError) -> Document:
    return {
        "at": format_utc_ms(failing.at),
        "code": failing.code,
        "message": failing.message,
        "family": failing.family,
    }
