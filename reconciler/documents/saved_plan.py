"""A saved plan and its document: the ``mmp/plan/1`` document with its own ``saved`` object.

This file decides how a plan is written and read again, value for value, and how an edit is detected.
``integrity`` is a hash over everything else in the document. It is a check against edits and damage, not a
signature: anyone who can write the file can write the hash. So derived values are not taken from the file:
directions, fields, factors, order and counts are computed again from before and after. If the file differs
from them, it was edited. The documents were already checked against the schema.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reconciler import __version__
from reconciler.core.model import Environment, Family, Field, FilePosition, Quantity, Setting
from reconciler.core.plan import Action, Basis, Change, HoldReason, Plan, Reason
from reconciler.core.policy import Refusal, RefusalKind
from reconciler.core.problems import json_text
from reconciler.core.saved_plan import PlanTarget, SavedPlan, in_sending_order
from reconciler.documents.plan import (
    Document,
    PlanContext,
    PolicyFile,
    SavedInfo,
    StatusSource,
    format_utc_ms,
    plan_document,
)
from reconciler.errors import InvalidInput

DEFAULT_EXPIRY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a plan document alone does not contain: who answers at its host, and whose account it is."""

    simulator: bool
    uid: str | None


def new_plan_id() -> str:
    """Return an id that no other saved plan has: 128 random bits."""
    return secrets.token_hex(16)


def saved_document(
    plan: Document, origin: Origin, *, plan_id: str, made_at: datetime, expires_at: datetime
) -> Document:
    """Return a plan's document with all data needed to apply it later."""
    saved = {
        "id": plan_id,
        "made_at": format_utc_ms(made_at),
        "expires_at": format_utc_ms(expires_at),
        "simulator": origin.simulator,
        "uid": origin.uid,
        "mmp": __version__,
    }
    plan = json.loads(json_text(plan))  # as a later read returns it
    document = {**plan, "saved": saved}
    return {**plan, "saved": {**saved, "integrity": integrity(document)}}


def integrity(document: Document) -> str:
    """Return ``sha256:…`` over everything in ``document`` except the integrity itself.

    Layout, the order of keys and the spelling of numbers (``0`` or ``0.0``) do not count.
    """
    saved = {name: value for name, value in document["saved"].items() if name != "integrity"}
    message = json.loads(json.dumps({**document, "saved": saved}), parse_int=float)
    canonical = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def read_saved(document: Document, source: str) -> SavedPlan:
    """Return the plan in a document. Raises InvalidInput if it is not a saved plan, or was edited."""
    saved = document.get("saved")
    if saved is None:
        hint = "save it with mmp plan --out FILE"
        raise InvalidInput("plan-not-saved", f"{source} is a plan that was only printed", hint)
    found = SavedPlan(
        id=saved["id"],
        plan=_plan(document),
        target=PlanTarget(
            document["account"],
            Environment(document["environment"]),
            document["host"],
            saved["simulator"],
            document["config"]["sha256"],
        ),
        made_at=parse_moment(saved["made_at"], source),
        expires_at=parse_moment(saved["expires_at"], source),
        uid=saved["uid"],
        version=saved["mmp"],
    )
    if saved["integrity"] != integrity(document) or not _is_as_written(document, found):
        hint = "make it again: mmp plan --out FILE"
        raise InvalidInput("plan-edited", f"{source} was edited or damaged after mmp wrote it", hint)
    return found


def _is_as_written(document: Document, saved: SavedPlan) -> bool:
    """Tell whether ``document`` equals the document that is written from before and after."""
    written = plan_document(saved.plan, context_of(document, saved), simulator=saved.target.simulator)
    return written == {name: value for name, value in document.items() if name != "saved"}


def context_of(document: Document, saved: SavedPlan) -> PlanContext:
    """Return the context of a saved plan, without reasons why it may be stale."""
    policy, against = document["policy"], document.get("against")
    return PlanContext(
        host=document["host"],
        path=document["config"]["path"],
        sha256=document["config"]["sha256"],
        policy=PolicyFile(policy["path"], policy["sha256"], "missing" in policy) if policy else None,
        against=StatusSource(
            against["source"], parse_moment(against["live_at"], against["source"]), against["age_seconds"]
        )
        if against
        else None,
        saved=SavedInfo(saved.made_at, saved.expires_at, saved.version, ()),
    )


def parse_moment(text: str, source: str) -> datetime:
    """Parse a time of a document. Raises InvalidInput for a day that does not exist."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("no-such-day", f"{source} names a day that does not exist: {text}") from None


def parse_setting(row: dict[str, Any]) -> Setting:
    """Return the setting of three wire strings, whose format was already checked."""
    return Setting(
        int(row[Field.TIME_INTERVAL]), int(row[Field.FROZEN_INTERVAL]), Quantity(row[Field.QTY_LIMIT])
    )


def _plan(document: Document) -> Plan:
    return Plan(
        account=document["account"],
        environment=Environment(document["environment"]),
        basis=Basis(document["basis"]),
        changes=in_sending_order([_change(change) for change in document["changes"]]),
        unchanged=tuple(Family(name) for name in document["unchanged"]),
        unmanaged={Family(one["family"]): parse_setting(one["live"]) for one in document["unmanaged"]},
        refusals=tuple(_refusal(refusal) for refusal in document["refusals"]),
        left_tighter=tuple(_refusal(refusal) for refusal in document["left_tighter"]),
    )


def _change(row: dict[str, Any]) -> Change:
    source, action = row["source"], Action(row["action"])
    before, after = parse_setting(row["before"]) if row["before"] else None, parse_setting(row["after"])
    base = parse_setting(row["measured_from"]) if row["measured_from"] else None
    desired = parse_setting(row["desired"]) if row["desired"] else None
    return Change(
        family=Family(row["family"]),
        action=action,
        reason=Reason(row["reason"]),
        before=before,
        after=after,
        source=FilePosition(source["path"], source["line"], source["column"]) if source else None,
        because=HoldReason(row["because"]) if row["because"] else None,
        eta_s=row["eta_seconds"],
        known_at=_known_at(row),
        measured_from=None if base == before else base,
        desired=None if desired == after else desired,
        is_live=row["is_live"],
    )


def _known_at(row: dict[str, Any]) -> float | None:
    """Return an instant for an adoption that has to wait; its value no longer matters."""
    return row["eta_seconds"] if row["action"] == Action.ADOPT else None


def _refusal(row: dict[str, Any]) -> Refusal:
    return Refusal(
        kind=RefusalKind(row["kind"]),
        family=Family(row["family"]),
        rule=row["rule"],
        measured=row["measured"],
        limit=row["limit"],
        field=Field(row["field"]) if row["field"] else None,
    )
