"""The examples of ``docs/reference/document-*.md``, made by the code that makes the documents for users."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from reconciler.core.apply_result import HOLD_WORDS, FamilyResult, Outcome
from reconciler.core.history_records import AttemptRecord, OverrideRecord
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRow, Pause
from reconciler.core.monitoring.account_runtime import runtime_status
from reconciler.core.monitoring.alerts import active_alerts
from reconciler.core.monitoring.notifications import advance
from reconciler.core.monitoring.protection import status_protection
from reconciler.core.monitoring.status import StatusInputs, recorded_status
from reconciler.core.plan import HoldReason, Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.policy import Loosening, Policy
from reconciler.core.problems import Code, problem
from reconciler.core.reply import AttemptStatus
from reconciler.documents.history import AccountHistory, PolicyLine, history_document
from reconciler.documents.notification import notification_document
from reconciler.documents.plan import (
    Document,
    PlanContext,
    PolicyFile,
    apply_document,
    one_or_list,
    plan_document,
)
from reconciler.documents.problems import problems_document
from reconciler.documents.status import status_document
from tests.unit.builders import BTC, ETH, NOW, SOL, confirmed, desired, read, row, setting
from tests.unit.report_samples import LEDGERS, WALL, XAU
from tests.unit.runtime_builders import runtime_of

WANTED = {BTC: setting("5000/2000/400"), ETH: setting("1000/0/500"), SOL: setting("0/2000/10")}
KNOWN: dict[Family, Known] = {BTC: confirmed("5000/2000/100"), ETH: confirmed("1000/0/500")}
ROWS = {
    BTC: row("5000/2000/100"),
    ETH: row("1000/0/500"),
    SOL: row("5000/2000/10"),
    XAU: row("5000/2000/10"),
}
POLICY = Policy("mmp-policy.yaml", "1" * 64, loosening=Loosening(max_factor=Decimal(5)))


def plan() -> Plan:
    """Return a plan with a request, a change the policy refuses, and families that need nothing."""
    made = make_plan(desired(WANTED), KNOWN, Reads(read(990, ROWS)), PlanConstraints(policy=POLICY), NOW)
    return with_schedule(made, LEDGERS["full"], NOW, assume_idle=False)


def notification() -> Document:
    """Return the notification about a setting of BTC-USD that was loosened outside mmp."""
    wanted = {BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")}
    known = {BTC: confirmed("5000/2000/100", at=NOW - 60), ETH: confirmed("1000/0/500", at=NOW - 60)}
    calm = runtime_of(wanted, known, {BTC: row("5000/2000/100"), ETH: row("1000/0/500")})
    drifted = runtime_of(wanted, known, {BTC: row("5000/2000/400"), ETH: row("1000/0/500")})
    scenarios, _ = advance({}, active_alerts(calm), now=NOW, wall=WALL)
    _, (first, *_) = advance(
        scenarios, active_alerts(drifted), now=NOW + 30, wall=WALL + timedelta(seconds=30)
    )
    judged = status_protection(runtime_status(drifted, now=NOW, wall=WALL), live=True, interval_s=30.0)
    at = WALL + timedelta(seconds=30)
    return notification_document(first, drifted, judged, at=at, advice=lambda _: "")


def examples() -> dict[str, Document]:
    """Return every example by its name."""
    made = plan()
    rows = {**ROWS, ETH: LiveRow(setting("1000/0/500"), frozen=True)}
    record = StatusInputs(
        uid="446556540",
        host="openapi.okx.com",
        known=KNOWN,
        ledger=LEDGERS["full"],
        live_rows=rows,
        live_at=WALL - timedelta(seconds=12),
        pauses=(
            Pause(
                ETH, "put back 3 times in 10 min", WALL, WALL + timedelta(hours=1), setting("1000/0/500")
            ),
            Pause(SOL, "testing by hand", WALL, WALL + timedelta(minutes=30)),
        ),
    )
    results = (
        FamilyResult(BTC, Outcome.APPLIED, "0", "", 1),
        FamilyResult(ETH, Outcome.HELD, "frozen", HOLD_WORDS[HoldReason.FROZEN], 0),
        FamilyResult(SOL, Outcome.REJECTED, "51000", "Parameter qtyLimit error", 1),
    )
    attempts = [
        AttemptRecord(
            7, BTC, setting("5000/2000/400"), AttemptStatus.APPLIED, False, False, "0", "", WALL, WALL
        ),
        AttemptRecord(
            id=6,
            family=ETH,
            setting=setting("1000/0/500"),
            status=AttemptStatus.UNKNOWN,
            limited=False,
            is_open=False,
            code="timeout",
            message="no reply within 10 s",
            reserved_wall=WALL - timedelta(seconds=40),
            settled_wall=WALL - timedelta(seconds=30),
        ),
    ]
    override = OverrideRecord(
        BTC, "loosening.maxFactor: ×4, limit ×2", "agreed with risk", WALL - timedelta(seconds=1)
    )
    policy = PolicyLine("mmp-policy.yaml", "1" * 64, None, None, WALL - timedelta(minutes=1))
    wrong = problem(
        Code.UNKNOWN_KEY,
        "mmp.yaml",
        'unknown key "qtylimit" in family BTC-USD',
        "did you mean qtyLimit?",
        line=9,
        column=13,
    )
    return {
        "plan": plan_document(
            made,
            PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64, PolicyFile(POLICY.path, POLICY.sha256)),
        ),
        "apply": apply_document(made, results, made.digest),
        "status": status_document(
            recorded_status(desired(WANTED), record, simulator=False, now=NOW, wall=WALL, policy=POLICY)
        ),
        "notification": notification(),
        "history": history_document("main", "live", AccountHistory(attempts, [override], [policy])),
        "problems": problems_document([wrong]),
        "several": one_or_list(
            "apply",
            [
                apply_document(replace(made, account=account), (), made.digest)
                for account in ("desk-2", "main")
            ],
        ),
    }


def written(document: Document) -> str:
    """Return a document as the documentation shows it: compact where that is still readable."""
    return _compact(document, 0) + "\n"


def _compact(value: object, indent: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= 106 or not isinstance(value, dict | list):
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(key)}: {_compact(one, indent + 2)}" for key, one in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    inner = [pad + _compact(one, indent + 2) for one in value]
    return "[\n" + ",\n".join(inner) + "\n" + " " * indent + "]"
