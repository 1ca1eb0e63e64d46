"""The JSON documents of plans and applies, as the published schemas describe them.

Field names and their order are a stable interface for pipelines. Values are the wire strings; times are in
seconds. The same inputs give the same document, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from reconciler.core.apply_result import FamilyResult, Outcome
from reconciler.core.change_direction import Direction
from reconciler.core.exposure import amount_text, exposure
from reconciler.core.history_records import PolicyRecord
from reconciler.core.model import Desired, Setting, window_text
from reconciler.core.plan import Action, Change, Plan
from reconciler.core.policy import Policy, Refusal
from reconciler.core.policy_change import PolicyChange
from reconciler.core.saved_plan import format_utc

Document = dict[str, Any]

ETA_DIGITS = 1
"""Etas are written to a tenth of a second: more digits would be noise when documents are compared."""


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The policy that a plan was evaluated against. ``missing``: no such file; its rules are on record."""

    path: str
    sha256: str
    missing: bool = False

    @classmethod
    def of(cls, policy: Policy | PolicyRecord | None, *, missing: bool = False) -> Self | None:
        """Return the file of ``policy``; None: there is none."""
        return cls(policy.path, policy.sha256, missing) if policy else None


@dataclass(frozen=True, slots=True)
class StatusSource:
    """The published status used instead of a live read: its location, and how old its read was."""

    source: str
    live_at: datetime
    age_s: float


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """A key of the file that identifies the account, before and after; None: the key is absent."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class DiffBase:
    """The older of two files that are compared. Its policy counts, too: a change has to pass both.

    ``account`` and ``environment`` are the account's names there, None if it was not there. ``identity``:
    the changed keys that identify the account, whatever its name is. ``not_compared``: accounts that only
    the older side has; this account may be one of them under a new name, so nothing was compared.
    ``share_unproven``: a share of the families that the older file enables was evaluated.
    ``per_not_checked``: the periods in which a policy limits consecutive steps; only the record has these.
    """

    path: str
    policy: PolicyFile | None
    policy_change: PolicyChange | None
    account: str | None
    environment: str | None
    identity: tuple[IdentityChange, ...] = ()
    not_compared: tuple[str, ...] = ()
    share_unproven: bool = False
    per_not_checked: tuple[timedelta, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedInfo:
    """When a plan was saved, until when it may be applied, and why it may not be applied (``stale``)."""

    made_at: datetime
    expires_at: datetime
    version: str
    stale: tuple[str, ...]

    @property
    def words(self) -> str:
        """When the plan was saved, by which version of mmp, and until when it may be applied."""
        until = format_utc(self.expires_at)
        return f"saved {format_utc(self.made_at)} by mmp {self.version}, may be applied until {until}"

    @property
    def banner(self) -> str:
        """The banner above a plan that may no longer be applied; empty for any other plan."""
        if not self.stale:
            return ""
        return f"STALE: {'; '.join(self.stale)}. mmp apply refuses it; make a new plan."


@dataclass(frozen=True, slots=True)
class PlanContext:
    """The context of a plan: the file it was made from and the host it is for (None offline).

    ``policy`` None: there is no policy file, only the guard. ``against`` None: live was read.
    ``old`` is None unless two files are compared, ``saved`` unless the plan was read from a file.
    """

    host: str | None
    path: str
    sha256: str
    policy: PolicyFile | None = None
    against: StatusSource | None = None
    old: DiffBase | None = None
    saved: SavedInfo | None = None

    @classmethod
    def of(
        cls,
        desired: Desired,
        host: str | None,
        policy: Policy | None = None,
        missing: PolicyRecord | None = None,
    ) -> PlanContext:
        """Return the context of ``desired`` at ``host``, under ``policy``, or one whose file is missing."""
        file = PolicyFile.of(missing, missing=True) or PolicyFile.of(policy)
        return cls(host, desired.path, desired.sha256, file)


EXPECTED_UID, PREFIX = "expect.uid", "credentials.prefix"
"""The keys of the file that identify the account."""


def identity_changes(was: Desired, now: Desired) -> tuple[IdentityChange, ...]:
    """Return the keys that identify the account and differ between ``was`` and ``now``."""
    found = (
        IdentityChange(EXPECTED_UID, was.expected_uid, now.expected_uid),
        IdentityChange(PREFIX, was.credentials_prefix, now.credentials_prefix),
    )
    return tuple(each for each in found if each.before != each.after)


def plan_document(plan: Plan, context: PlanContext, *, simulator: bool = False) -> Document:
    """Return the ``mmp/plan/1`` document. ``simulator``: its host is the simulated exchange."""
    return {
        "format": "mmp/plan/1",
        "account": plan.account,
        "environment": plan.environment.value,
        "host": context.host,
        "simulator": simulator,
        "basis": plan.basis.value,
        "config": {"path": context.path, "sha256": context.sha256},
        "policy": _policy(context.policy),
        **({"against": _published(context.against)} if context.against else {}),
        **({"old": _old(context.old)} if context.old else {}),
        "digest": plan.digest,
        "summary": plan_summary(plan),
        "changes": [_change(change) for change in plan.changes],
        "refusals": [_refusal(refusal) for refusal in plan.refusals],
        "left_tighter": [_refusal(refusal) for refusal in plan.left_tighter],
        "unchanged": list(plan.unchanged),
        "unmanaged": [
            {"family": family, "live": setting.wire()} for family, setting in plan.unmanaged.items()
        ],
    }


_COUNTED = (Direction.TIGHTEN, Direction.LOOSEN, Direction.MIXED, Direction.ENABLE, Direction.DISABLE)


def plan_summary(plan: Plan) -> Document:
    """Return the counts of a plan; directions are counted over all changes, including adoptions.

    ``left_tighter`` counts families.
    """
    directions = Counter(change.direction for change in plan.changes)
    return {
        **{action.value: len(plan.of(action)) for action in Action},
        "unchanged": len(plan.unchanged),
        "unmanaged": len(plan.unmanaged),
        "left_tighter": len(plan.stays_tighter),
        **{name.value: directions[name] for name in _COUNTED},
        "eta_seconds": round(plan.eta_s, ETA_DIGITS),
    }


def apply_document(
    plan: Plan, outcomes: tuple[FamilyResult, ...], digest: str, *, simulator: bool = False
) -> Document:
    """Return the ``mmp/apply/1`` document; ``digest`` is of what was reviewed."""
    return {
        "format": "mmp/apply/1",
        "account": plan.account,
        "environment": plan.environment.value,
        "simulator": simulator,
        "digest": digest,
        "results": [
            {
                "family": result.family,
                "outcome": result.outcome.value,
                "code": result.code,
                "message": result.message,
                "attempts": result.attempts,
            }
            for result in outcomes
        ],
        "summary": {name.value: sum(result.outcome is name for result in outcomes) for name in Outcome},
    }


def one_or_list(kind: str, documents: list[Document]) -> Document:
    """Return one account's document unchanged, or several wrapped as ``mmp/<kind>s/1``.

    The list is named after the kind: ``plans``, ``applies``, ``statuses``, ``histories``, ``pauses``.
    """
    return documents[0] if len(documents) == 1 else as_list(kind, documents)


def as_list(kind: str, documents: list[Document]) -> Document:
    """Return any number of documents wrapped as ``mmp/<kind>s/1``."""
    plural = _PLURALS.get(kind, f"{kind}s")
    return {"format": f"mmp/{plural}/1", plural: documents}


_PLURALS = {"apply": "applies", "status": "statuses", "history": "histories"}


def _change(change: Change) -> Document:
    source = change.source
    return {
        "family": change.family,
        "action": change.action.value,
        "reason": change.reason.value,
        "direction": change.direction.value if change.direction else None,
        "fields": [field.value for field in change.fields],
        "before": optional_wire(change.before),
        "after": change.after.wire(),
        "is_live": change.is_live,
        "desired": optional_wire(change.desired),
        "measured_from": optional_wire(change.measured_from),
        "factor": None if change.factor is None else amount_text(change.factor),
        "exposure": {
            "before": _exposure(change.before) if change.before else None,
            "after": _exposure(change.after),
        },
        "order": change.order,
        "eta_seconds": None if change.eta_s is None else round(change.eta_s, ETA_DIGITS),
        "source": {"path": source.path, "line": source.line, "column": source.column} if source else None,
        "because": change.because.value if change.because else None,
    }


def _exposure(setting: Setting) -> dict[str, str]:
    figures = exposure(setting).values()
    return dict(zip(("per_trip", "per_second", "per_minute"), map(amount_text, figures), strict=True))


def _published(against: StatusSource) -> Document:
    return {
        "source": against.source,
        "live_at": format_utc_ms(against.live_at),
        "age_seconds": round(against.age_s, ETA_DIGITS),
    }


def _old(old: DiffBase) -> Document:
    return {
        "path": old.path,
        "account": old.account,
        "environment": old.environment,
        "policy": _policy(old.policy),
        "policy_changed": old.policy_change is not None,
        "policy_change": _policy_change(old.policy_change) if old.policy_change else None,
        "not_compared": list(old.not_compared),
        "share_unproven": old.share_unproven,
        "per_not_checked": [window_text(window) for window in old.per_not_checked],
        "identity": [asdict(each) for each in old.identity],
    }


def _policy_change(change: PolicyChange) -> Document:
    return {
        "file": change.file.value,
        "before": change.old_name,
        "after": change.new_name,
        "rules": [
            {
                "rule": rule.rule,
                "before": rule.before,
                "after": rule.after,
                "direction": "looser" if rule.looser else "tighter",
                "families": None if rule.families is None else list(rule.families),
                "others": rule.others,
            }
            for rule in change.rules
        ],
    }


def _policy(policy: PolicyFile | None) -> Document | None:
    if policy is None:
        return None
    missing = {"missing": True} if policy.missing else {}
    return {"path": policy.path, "sha256": policy.sha256, **missing}


def _refusal(refusal: Refusal) -> Document:
    return {
        "kind": refusal.kind.value,
        "family": refusal.family,
        "rule": refusal.rule,
        "field": refusal.field.value if refusal.field else None,
        "measured": refusal.measured,
        "limit": refusal.limit,
        "allow": str(refusal.override) if refusal.overridable else None,
    }


def format_utc_ms(wall: datetime | None) -> str | None:
    """Write a time of day, UTC, to the millisecond: ``2026-03-01T03:00:00.000Z``; None stays None."""
    if wall is None:
        return None
    return wall.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_wire(setting: Setting | None) -> dict[str, str] | None:
    """Return the wire strings of a setting; None stays None."""
    return setting.wire() if setting else None
