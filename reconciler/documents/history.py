"""The history of an account: attempts, overrides, policies and accepted settings, as ``mmp/history/1``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.core.change_direction import direction
from reconciler.core.model import Setting
from reconciler.core.state_records import ProofKind
from reconciler.documents.plan import Document
from reconciler.documents.status import format_optional_utc_ms


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One attempt as people see it; ``settled_at`` is None while it has no result."""

    attempt: int
    family: str
    setting: Setting
    outcome: str
    code: str
    message: str
    reserved_at: datetime
    settled_at: datetime | None
    open: bool


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
        return "in-force" if self.reason is None else "given-up"


@dataclass(frozen=True, slots=True)
class OverrideLine:
    """One refusal that someone overrode by name, as people see it."""

    family: str
    refusal: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AcceptedLine:
    """One setting that passed the guard, as people see it; fields as in ``AcceptedRecord``."""

    family: str
    before: Setting | None
    setting: Setting
    how: str
    digest: str
    override: str
    file_sha256: str
    at: datetime

    @property
    def is_shown(self) -> bool:
        """Whether to list it: it is an adoption of a new setting, so no attempt shows it."""
        return self.how == ProofKind.ADOPTED.value and self.before != self.setting


def history_document(
    account: str,
    environment: str,
    lines: Sequence[HistoryLine],
    overrides: Sequence[OverrideLine] = (),
    policies: Sequence[PolicyLine] = (),
    accepted: Sequence[AcceptedLine] = (),
    damaged: int = 0,
) -> Document:
    """Return the ``mmp/history/1`` document, the newest of each list first.

    ``damaged`` records of attempts could not be read and are left out.
    """
    return {
        "format": "mmp/history/1",
        "account": account,
        "environment": environment,
        "damaged": damaged,
        "attempts": [_attempt_document(line) for line in lines],
        "overrides": [_override_document(override) for override in overrides],
        "policies": [_policy_document(policy) for policy in policies],
        "accepted": [_accepted_document(line) for line in accepted],
    }


def _attempt_document(line: HistoryLine) -> Document:
    return {
        "attempt": line.attempt,
        "family": line.family,
        "setting": line.setting.wire(),
        "outcome": line.outcome,
        "code": line.code,
        "message": line.message,
        "reserved_at": format_optional_utc_ms(line.reserved_at),
        "settled_at": format_optional_utc_ms(line.settled_at),
        "open": line.open,
    }


def _override_document(override: OverrideLine) -> Document:
    return {
        "family": override.family,
        "refusal": override.refusal,
        "reason": override.reason,
        "at": format_optional_utc_ms(override.at),
    }


def _policy_document(policy: PolicyLine) -> Document:
    return {
        "change": policy.change,
        "path": policy.path,
        "sha256": policy.sha256,
        "replaces": policy.replaces,
        "reason": policy.reason,
        "at": format_optional_utc_ms(policy.at),
    }


def _accepted_document(line: AcceptedLine) -> Document:
    way = direction(line.before, line.setting)
    return {
        "family": line.family,
        "how": line.how,
        "direction": None if way is None else way.value,
        "before": line.before.wire() if line.before else None,
        "after": line.setting.wire(),
        "override": line.override or None,
        "digest": line.digest or None,
        "file_sha256": line.file_sha256 or None,
        "at": format_optional_utc_ms(line.at),
    }
