"""The history of an account: attempts, overrides, policies and accepted settings, as ``mmp/history/1``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from reconciler.core.change_direction import direction
from reconciler.core.history_records import AcceptedRecord, AttemptRecord, OverrideRecord
from reconciler.documents.plan import Document, format_utc_ms, optional_wire


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """A policy came into force, or was withdrawn: then ``reason`` says why.

    ``replaces`` is the sha256 of the policy in force until then, None if there was none.
    """

    path: str
    sha256: str
    replaces: str | None
    reason: str | None
    at: datetime

    @property
    def change(self) -> str:
        """The kind of change, in one word."""
        return "in-use" if self.reason is None else "given-up"


@dataclass(frozen=True, slots=True)
class AccountHistory:
    """What is on record of one account, the newest of each list first.

    ``simulator``: the requests were made at the simulated exchange. ``damaged`` records of attempts could
    not be read and are left out.
    """

    attempts: Sequence[AttemptRecord] = ()
    overrides: Sequence[OverrideRecord] = ()
    policies: Sequence[PolicyLine] = ()
    accepted: Sequence[AcceptedRecord] = ()
    simulator: bool = False
    damaged: int = 0


def history_document(account: str, environment: str, history: AccountHistory) -> Document:
    """Return the ``mmp/history/1`` document."""
    return {
        "format": "mmp/history/1",
        "account": account,
        "environment": environment,
        "damaged": history.damaged,
        "attempts": [_attempt_document(attempt) for attempt in history.attempts],
        "overrides": [
            {**asdict(override), "at": format_utc_ms(override.at)} for override in history.overrides
        ],
        "policies": [
            {"change": policy.change, **asdict(policy), "at": format_utc_ms(policy.at)}
            for policy in history.policies
        ],
        "accepted": [_accepted_document(accepted) for accepted in history.accepted],
    }


def _attempt_document(attempt: AttemptRecord) -> Document:
    return {
        "attempt": attempt.id,
        "family": attempt.family,
        "setting": attempt.setting.wire(),
        "outcome": attempt.status.value,
        "code": attempt.code,
        "message": attempt.message,
        "reserved_at": format_utc_ms(attempt.reserved_wall),
        "settled_at": format_utc_ms(attempt.settled_wall),
        "open": attempt.is_open,
    }


def _accepted_document(accepted: AcceptedRecord) -> Document:
    way = direction(accepted.before, accepted.setting)
    return {
        "family": accepted.family,
        "how": accepted.how.value,
        "direction": None if way is None else way.value,
        "before": optional_wire(accepted.before),
        "after": accepted.setting.wire(),
        "override": accepted.override or None,
        "digest": accepted.digest or None,
        "file_sha256": accepted.file_sha256 or None,
        "at": format_utc_ms(accepted.at),
    }
