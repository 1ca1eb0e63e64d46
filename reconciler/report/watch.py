"""What only a running process can say of an account, as the ``watch`` part of its status document.

The status itself is rendered as for ``mmp status``; this adds how the account stands, the heartbeat,
the files in force, and the exchange's and the last troubles.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.core.problems import Problem
from reconciler.core.standing import Judged
from reconciler.core.status import Status
from reconciler.core.vitals import FileState, Outage, Trouble, Vitals, alive
from reconciler.report.documents import Document
from reconciler.report.problems import problems_document
from reconciler.report.status import moment, status_document


def watched_document(status: Status, vitals: Vitals, judged: Judged, *, now: float) -> Document:
    """Return the ``mmp/status/1`` document of a watched account; ``now`` is when ``status`` was made."""
    return {**status_document(status), "watch": _watch(status, vitals, judged, now)}


def at_wall(instant: float | None, status: Status, now: float) -> datetime | None:
    """Return an instant of this process's clock as the time of day it was or will be."""
    return None if instant is None else status.asked_at + timedelta(seconds=instant - now)


def _watch(status: Status, vitals: Vitals, judged: Judged, now: float) -> Document:
    return {
        "standing": judged.standing.value,
        "sentence": judged.sentence,
        "started": vitals.started,
        "in_sync_at": moment(at_wall(vitals.in_sync_at, status, now)),
        "loop": {
            "alive": alive(vitals, now),
            "heard_at": moment(at_wall(vitals.heard_at, status, now)),
            "locked_out": vitals.locked_out or None,
        },
        "config": _file(vitals.config),
        "policy": _file(vitals.policy),
        "outage": _outage(vitals.outage, status, now),
        "troubles": [_trouble(trouble) for trouble in vitals.troubles],
    }


def _file(file: FileState | None) -> Document | None:
    if file is None:
        return None
    return {
        "path": file.path,
        "sha256": file.sha256,
        "accepted_at": moment(file.accepted_at),
        "rejected_at": moment(file.rejected_at),
        "problems": _problems(file.problems),
    }


def _problems(problems: tuple[Problem, ...]) -> list[Document]:
    told: list[Document] = problems_document(problems)["problems"]
    return told


def _outage(outage: Outage | None, status: Status, now: float) -> Document | None:
    if outage is None:
        return None
    return {
        "since": moment(outage.since_wall),
        "failures": outage.failures,
        "doing": outage.failed.doing,
        "code": outage.failed.reply.code,
        "message": outage.failed.reply.message,
        "retry_at": moment(at_wall(outage.failed.retry_at, status, now)),
    }


def _trouble(trouble: Trouble) -> Document:
    return {
        "at": moment(trouble.at),
        "code": trouble.code,
        "told": trouble.told,
        "family": trouble.family,
    }
