"""The ``watch`` part of an account's status document, which only a running process knows.

The status itself is rendered as for ``mmp status``. This adds the protection, the heartbeat, the files in
force, the outage of the exchange, and the last errors.
"""

from __future__ import annotations

from datetime import timedelta

from reconciler.core.monitoring.account_runtime import (
    AccountRuntime,
    FileState,
    alive,
    content_in_force,
    rejection,
)
from reconciler.core.monitoring.protection import Protection, ProtectionResult
from reconciler.core.monitoring.status import Status
from reconciler.core.reply import Reply
from reconciler.documents.plan import Document, format_utc_ms
from reconciler.documents.problems import problem_rows
from reconciler.documents.status import status_document


def runtime_document(
    status: Status, runtime: AccountRuntime, result: ProtectionResult, *, now: float, dropped_log_lines: int
) -> Document:
    """Return the ``mmp/status/1`` document of a running account; ``now`` is when ``status`` was made.

    If the state of the account is unknown, it is not reported as in sync. ``dropped_log_lines`` are those
    of the process.
    """
    in_sync = status.in_sync and result.protection is not Protection.UNKNOWN
    watch = {**_watch(status, runtime, result, now), "dropped_log_lines": dropped_log_lines}
    return {**status_document(status), "in_sync": in_sync, "watch": watch}


def file_document(file: FileState) -> Document:
    """Return a file in force, and what is wrong with a newer one."""
    content, rejected = content_in_force(file), rejection(file)
    return {
        "path": file.path,
        "sha256": content.sha256 if content else None,
        "accepted_at": format_utc_ms(content.accepted_at) if content else None,
        "invalid_at": format_utc_ms(rejected.rejected_at) if rejected else None,
        "problems": problem_rows(rejected.problems) if rejected else [],
    }


def _watch(status: Status, runtime: AccountRuntime, result: ProtectionResult, now: float) -> Document:
    def at_wall(instant: float | None) -> str | None:
        """Return an instant of this process's clock as a time of day."""
        return (
            None if instant is None else format_utc_ms(status.asked_at + timedelta(seconds=instant - now))
        )

    outage, terminal, locked = runtime.outage, runtime.terminal_error, runtime.state_locked
    return {
        "protection": result.protection.value,
        "sentence": result.sentence,
        "started": runtime.started,
        "in_sync_at": at_wall(runtime.in_sync_at),
        "loop": {
            "alive": alive(runtime, now),
            "last_step_at": at_wall(runtime.last_step_at),
            "state_locked": locked.message if locked is not None else None,
        },
        "config": file_document(runtime.config) if runtime.config else None,
        "policy": file_document(runtime.policy) if runtime.policy else None,
        "outage": {
            "since": format_utc_ms(outage.since_wall),
            "failures": outage.failures,
            "doing": outage.failed.doing,
            **_reply(outage.failed.reply),
            "retry_at": at_wall(outage.failed.retry_at),
        }
        if outage
        else None,
        "terminal_error": _reply(terminal.reply) if terminal else None,
        "errors": [
            {"at": format_utc_ms(one.at), "code": one.code, "message": one.message, "family": one.family}
            for one in runtime.errors
        ],
    }


def _reply(reply: Reply) -> Document:
    return {"code": reply.code, "message": reply.message}
