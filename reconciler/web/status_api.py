"""``/api/v1/status``: the document of ``mmp status --output json``, from the state of the loops.

Before the first comparison the families are listed as uncertain, with nothing applied, live or pending: a
reader sees the desired settings, and that nothing is known yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.model import Family, Setting
from reconciler.core.monitoring.account_runtime import AccountRuntime, runtime_status
from reconciler.core.monitoring.protection import ProtectionResult, runtime_protection
from reconciler.core.monitoring.status import FamilyState, FamilyStatus, Status
from reconciler.core.monitoring.unloaded_files import NO_UNLOADED_FILES
from reconciler.core.replica_assignment import parse_lease_name
from reconciler.documents.plan import Document, as_list, one_or_list
from reconciler.documents.problems import problems_document
from reconciler.documents.runtime_status import file_document, runtime_document
from reconciler.documents.status import owner_document
from reconciler.errors import MmpError
from reconciler.web.latest_state import AccountSnapshot, LatestState
from reconciler.web.responses import Response, json_response


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account at one moment: its status, and the protection that follows from it."""

    status: Status
    protection: ProtectionResult


def known_status(
    snapshot: AccountSnapshot, *, now: float, wall: datetime
) -> tuple[Status | None, ProtectionResult]:
    """Return the status of an account, None before the first comparison, and its protection."""
    runtime = snapshot.runtime
    status = runtime_status(runtime, now=now, wall=wall)
    return status, runtime_protection(runtime, status, now=now, interval_s=snapshot.interval_s)


def account_status(snapshot: AccountSnapshot, *, now: float, wall: datetime) -> AccountStatus:
    """Return the status of an account; before the first comparison, with nothing known."""
    known, protection = known_status(snapshot, now=now, wall=wall)
    status = known or _nothing_known(snapshot.runtime, wall)
    return AccountStatus(replace(status, owner=snapshot.owner), protection)


def status_response(latest: LatestState, *, now: float, wall: datetime) -> Response:
    """Return every account's status as one document; 503 and the reason while there is none.

    If replicas share the accounts, it is always the list, with the accounts of other replicas. It is also
    the list while there are settings files from which no account runs, with those files.
    """
    accounts, replica = latest.accounts(), latest.replica
    shared = replica is not None and replica.leases is not None
    if not accounts and not shared:
        return json_response(503, _nothing_yet(latest))
    dropped = latest.dropped_log_lines()
    documents = [_document(snapshot, dropped, now=now, wall=wall) for snapshot in accounts]
    more: Document = {}
    if shared:
        more["other_accounts"] = _other_accounts(latest)
    if replica is not None and replica.unable:
        named = sorted(map(parse_lease_name, replica.unable))
        more["unable"] = [{"account": name, "environment": environment} for name, environment in named]
    if latest.unloaded != NO_UNLOADED_FILES:
        more["missing_files"] = list(latest.unloaded.missing)
        more["invalid_files"] = [file_document(file) for file in latest.unloaded.rejected]
    if not more:
        return json_response(200, one_or_list("status", documents))
    return json_response(200, {**as_list("status", documents), **more})


def _other_accounts(latest: LatestState) -> list[Document]:
    return [
        {"account": account, "environment": environment, "owner": owner_document(owner)}
        for account, environment, owner in latest.remote_accounts()
    ]


def _document(snapshot: AccountSnapshot, dropped_log_lines: int, *, now: float, wall: datetime) -> Document:
    seen = account_status(snapshot, now=now, wall=wall)
    return runtime_document(
        seen.status, snapshot.runtime, seen.protection, now=now, dropped_log_lines=dropped_log_lines
    )


def _nothing_known(runtime: AccountRuntime, wall: datetime) -> Status:
    """Return the status of an account whose state was not read yet: the state may have any content."""
    wanted = sorted(runtime.desired.families.items())
    return Status(
        desired=runtime.desired,
        uid=runtime.uid,
        host=runtime.host,
        simulator=runtime.simulator,
        families=tuple(_unknown(family, each.setting) for family, each in wanted),
        unmanaged={},
        live_at=None,
        asked_at=wall,
        pacing=None,
        eta_s=0.0,
    )


def _unknown(family: Family, desired: Setting) -> FamilyStatus:
    return FamilyStatus(family, FamilyState.UNCERTAIN, desired, applied=None, live=None, change=None)


def _nothing_yet(latest: LatestState) -> Document:
    """Return the reasons to wait, as ``mmp/problems/1``."""
    unloaded = latest.unloaded
    waiting = [MmpError("not-started", "waiting for this file", path=path) for path in unloaded.missing]
    rejected = [problem for file in unloaded.rejected for problem in file.problems]
    return problems_document([*waiting, *rejected] or [MmpError("not-started", "no account runs yet")])
