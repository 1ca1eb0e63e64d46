"""The whole outputs kept under ``tests/golden``: each case is a name and the function that makes it.

``python -m tests.golden.reports`` writes the files again; the difference is then read as a trader would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from reconciler.core.apply_result import HOLD_WORDS, UNCONFIRMED, FamilyResult, Outcome
from reconciler.core.file_diff import compare, removed_account_plan
from reconciler.core.history_records import AcceptedRecord, AttemptRecord, ProofKind
from reconciler.core.live_evidence import Reads
from reconciler.core.model import (
    Acceptance,
    Desired,
    Environment,
    Family,
    Known,
    LiveRow,
    Setting,
    Uncertain,
)
from reconciler.core.monitoring.status import Status, StatusInputs, recorded_status
from reconciler.core.plan import (
    Action,
    Basis,
    Change,
    HoldReason,
    Plan,
    PlanConstraints,
    Reason,
    in_order,
    with_schedule,
)
from reconciler.core.planning import make_plan
from reconciler.core.policy import GUARD_RULE, Loosening, Override, Policy, Refusal, RefusalKind
from reconciler.core.reply import AttemptStatus
from reconciler.documents.history import AccountHistory
from reconciler.documents.plan import DiffBase, PlanContext, PolicyFile
from reconciler.render.color import ansi
from reconciler.render.plan_markdown import plans_markdown
from reconciler.render.plan_text import plan_text, results_text
from reconciler.render.status import history_text, status_text
from tests.unit.builders import BTC, ETH, NOW, SOL, confirmed, desired, read, row, setting, unresolved
from tests.unit.report_samples import HOSTILE, LEDGERS, WALL, XAU

FOLDER = Path(__file__).parent
CONTEXT = PlanContext("openapi.okx.com", "mmp.yaml", "0" * 64)
LOOPBACK = PlanContext("127.0.0.1", "mmp.yaml", "0" * 64)
A, B = setting("5000/2000/100"), setting("5000/2000/400")


# ---- plans ---------------------------------------------------------------------------------------

DIRECTIONS: Mapping[Family, tuple[str, str | None]] = {
    Family("BTC-USD"): ("5000/2000/100", "5000/2000/400"),
    Family("BTC-USD_UM"): ("1000/0/150", "1000/0/75.5"),
    Family("ETH-USD"): ("9000/0/500", "5000/2000/400"),
    Family("ETH-USD_UM"): ("2000/90000/800", None),
    Family("SOL-USD_UM"): ("0/2000/10", "1500/2000/10"),
    Family("XRP-USD_UM"): ("5000/2000/60", "0/2000/60"),
}
"""Desired and live, so that every direction is there once or more."""


def every_direction(allowed: bool = True) -> Plan:
    wanted = {family: setting(pair[0]) for family, pair in DIRECTIONS.items()} | {XAU: A}
    rows = {family: row(live) for family, (_, live) in DIRECTIONS.items() if live} | {
        XAU: row("5000/2000/100.0"),
        Family("ADA-USD_UM"): row("0/0/12"),
    }
    rules = PlanConstraints(
        allowed=frozenset(Override(RefusalKind.DISABLE, family) for family in wanted if allowed)
    )
    plan = make_plan(desired(wanted), {}, Reads(read(990, rows)), rules, NOW)
    return with_schedule(plan, LEDGERS["full"], NOW, assume_idle=False)


def every_reason() -> Plan:
    known: dict[Family, Known] = {
        BTC: confirmed("5000/2000/100"),
        ETH: Uncertain(confirmed("1000/0/500"), (unresolved("1000/0/500"),)),
        SOL: Uncertain(
            confirmed("2000/2000/50", at=950.0, attempt=6),
            (unresolved("2000/2000/70", effect_until=NOW + 25),),
        ),
    }
    wanted = {
        BTC: A,
        ETH: setting("1000/0/500"),
        SOL: setting("2000/2000/50"),
        XAU: A,
        Family("DOGE-USD_UM"): B,
    }
    rows = {
        BTC: row("5000/2000/9999"),
        ETH: row("1000/0/500"),
        SOL: row("2000/2000/50"),
        XAU: row("1000/2000/100"),
    }
    plan = make_plan(desired(wanted), known, Reads(read(970, rows)), PlanConstraints(), NOW)
    return with_schedule(plan, LEDGERS["spaced"], NOW, assume_idle=False)


def every_hold() -> Plan:
    """Return a plan with one family for each reason to hold it back."""
    changes = [_held(because, place) for place, because in enumerate(HoldReason)]
    guarded = next(change.family for change in changes if change.because is HoldReason.GUARD)
    refusal = Refusal(RefusalKind.DISABLE, guarded, GUARD_RULE, "would switch protection off", "deny")
    environment = desired({BTC: A}).environment
    return Plan("main", environment, Basis.LIVE, in_order(changes), (), {}, refusals=(refusal,))


def _held(because: HoldReason, place: int) -> Change:
    before = setting("5000/2000/50")
    after = setting("0/2000/50") if because is HoldReason.GUARD else B
    return Change(
        Family(f"HELD{place}-USD"),
        Action.HOLD,
        Reason.DRIFTED if because is HoldReason.DRIFT_POLICY else Reason.CHANGED,
        before,
        after,
        because=because,
    )


def no_live() -> Plan:
    plan = make_plan(
        desired({BTC: A, ETH: A}), {BTC: confirmed("5000/2000/400")}, Reads(), PlanConstraints(), NOW
    )
    return with_schedule(plan, LEDGERS["unknown"], NOW, assume_idle=False)


def nothing_to_do(families: int) -> Plan:
    wanted = dict.fromkeys((BTC, ETH)[:families], A)
    known: dict[Family, Known] = {family: confirmed("5000/2000/100") for family in wanted}
    rows = {family: row("5000/2000/100") for family in (*wanted, XAU)}
    return make_plan(desired(wanted), known, Reads(read(990, rows)), PlanConstraints(), NOW)


GUARDED = Policy("mmp-policy.yaml", "1" * 64, protected=frozenset({ETH}))


def protected_gone() -> Plan:
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100")}
    rows = {BTC: row("5000/2000/100")}
    return make_plan(desired({BTC: A}), known, Reads(read(990, rows)), PlanConstraints(policy=GUARDED), NOW)


AT_MOST_FIVE = Policy("mmp-policy.yaml", "2" * 64, loosening=Loosening(max_factor=Decimal(5)))
AGAINST_ACCEPTED: Mapping[Family, tuple[str, str, str]] = {
    BTC: ("5000/2000/100", "5000/2000/300", "5000/2000/300"),
    ETH: ("5000/2000/100", "5000/2000/10", "5000/1000/100"),
    SOL: ("5000/2000/100", "5000/2000/10", "5000/2000/100"),
    XAU: ("5000/2000/100", "5000/2000/99999", "5000/2000/300"),
}
"""Accepted, live and desired: an adoption, two returns that are refused, and drift beside a change."""

REFUSED_ADOPTION = {Family("XRP-USD"): ("5000/2000/100", "5000/2000/1000", "5000/2000/1000")}


def against_accepted(*, refused: bool = False) -> Plan:
    """Return the plan of families of which accepted, live and desired differ."""
    cases = {**AGAINST_ACCEPTED, **(REFUSED_ADOPTION if refused else {})}
    known: dict[Family, Known] = {family: confirmed(texts[0]) for family, texts in cases.items()}
    accepted = {family: (Acceptance(setting(texts[0])),) for family, texts in cases.items()}
    wanted = {family: setting(texts[2]) for family, texts in cases.items()}
    reads = Reads(read(990, {family: row(texts[1]) for family, texts in cases.items()}))
    plan = make_plan(
        desired(wanted), known, reads, PlanConstraints(policy=AT_MOST_FIVE, accepted=accepted), NOW
    )
    return with_schedule(plan, LEDGERS["free"], NOW, assume_idle=False)


POLICED = replace(CONTEXT, policy=PolicyFile(AT_MOST_FIVE.path, AT_MOST_FIVE.sha256))


def since(account: str | None, environment: str | None) -> PlanContext:
    """Return the context of two revisions, in the older of which the account is called so."""
    old = DiffBase("HEAD~1:mmp.yaml", None, None, account, environment)
    return PlanContext(None, "HEAD:mmp.yaml", "0" * 64, old=old)


def without_a_record() -> PlanContext:
    """Return the context of two revisions whose policy limits a share, and steps in a row."""
    context = since("main", "live")
    assert context.old is not None
    old = replace(context.old, share_unproven=True, per_not_checked=(timedelta(hours=24),))
    return replace(context, old=old)


def hundreds() -> Plan:
    """Return a plan that takes hours, as after a first import of a large desk."""
    wanted = {Family(f"F{number}-USD"): A for number in range(0, 2000, 1)}
    plan = make_plan(desired(wanted), {}, Reads(), PlanConstraints(), NOW)
    timed = with_schedule(plan, LEDGERS["free"], NOW, assume_idle=False)
    return replace(timed, changes=(*timed.changes[:3], timed.changes[-1]))


# ---- results -------------------------------------------------------------------------------------


def every_result() -> tuple[FamilyResult, ...]:
    return (
        FamilyResult(Family("ADA-USD_UM"), Outcome.ADOPTED, "0", "", 0),
        FamilyResult(BTC, Outcome.APPLIED, "0", "", 1),
        FamilyResult(ETH, Outcome.APPLIED, "0", "", 3),
        FamilyResult(Family("DOGE-USD_UM"), Outcome.HELD, "frozen", HOLD_WORDS[HoldReason.FROZEN], 0),
        FamilyResult(SOL, Outcome.REJECTED, "51000", "Parameter qtyLimit error", 1),
        FamilyResult(
            Family("TON-USD_UM"), Outcome.SKIPPED, "not-reached", "stopped by a signal before its turn", 0
        ),
        FamilyResult(XAU, Outcome.UNKNOWN, "unconfirmed", UNCONFIRMED, 2),
        FamilyResult(Family("XRP-USD_UM"), Outcome.STALE, "stale", "no longer what was reviewed", 0),
    )


def hostile_results() -> tuple[FamilyResult, ...]:
    return (
        FamilyResult(BTC, Outcome.REJECTED, "51000", HOSTILE, 1),
        FamilyResult(ETH, Outcome.REJECTED, "51000", "", 1),
        FamilyResult(SOL, Outcome.SKIPPED, "not-reached", "", 0),
    )


# ---- statuses ------------------------------------------------------------------------------------


def every_state() -> Status:
    wanted: dict[Family, Setting] = {
        Family("ADA-USD_UM"): A,
        BTC: A,
        Family("BTC-USD_UM"): A,
        ETH: setting("1000/0/500"),
        Family("ETH-USD_UM"): A,
        SOL: A,
        Family("TON-USD_UM"): setting("0/2000/100"),
        Family("XRP-USD_UM"): A,
        Family("DOGE-USD_UM"): A,
    }
    known: dict[Family, Known] = {
        **{family: confirmed("5000/2000/100") for family in wanted},
        Family("BTC-USD_UM"): confirmed("5000/2000/400"),
        ETH: confirmed("1000/0/500"),
        SOL: Uncertain(confirmed("5000/2000/100"), (unresolved("5000/2000/400", effect_until=NOW + 20),)),
        Family("XRP-USD_UM"): Uncertain(
            confirmed("5000/2000/100", at=950.0, attempt=6),
            (unresolved("9000/2000/100", effect_until=NOW + 20),),
        ),
    }
    del known[Family("DOGE-USD_UM")]
    rows: dict[Family, LiveRow] = {
        **{family: row("5000/2000/100") for family in wanted if family != "ADA-USD_UM"},
        Family("BTC-USD_UM"): row("5000/2000/400"),
        ETH: LiveRow(setting("1000/0/500"), frozen=True, frozen_until=""),
        Family("ETH-USD_UM"): row("5000/2000/9999"),
        XAU: row("5000/2000/10"),
    }
    return _status(desired(wanted), known, rows)


def calm(*, frozen: bool = False, simulator: bool = False) -> Status:
    wanted = {BTC: A, ETH: setting("1000/2000/500")}
    known: dict[Family, Known] = {BTC: confirmed("5000/2000/100"), ETH: confirmed("1000/2000/500")}
    until = "1772334007000" if frozen else ""
    rows = {BTC: LiveRow(A, frozen=frozen, frozen_until=until), ETH: row("1000/2000/500")}
    status = _status(desired(wanted), known, rows)
    return replace(status, simulator=True, host="127.0.0.1") if simulator else status


def nothing_on_record() -> Status:
    record = StatusInputs(None, None, {}, None, {}, None)
    return recorded_status(desired({BTC: A}), record, simulator=False, now=NOW, wall=WALL)


def _status(wanted: Desired, known: Mapping[Family, Known], rows: Mapping[Family, LiveRow]) -> Status:
    record = StatusInputs(
        uid="446556540",
        host="openapi.okx.com",
        known=known,
        ledger=LEDGERS["spaced"],
        live_rows=rows,
        live_at=WALL - timedelta(seconds=12),
    )
    return recorded_status(wanted, record, simulator=False, now=NOW, wall=WALL)


# ---- histories -----------------------------------------------------------------------------------


def every_attempt() -> list[AttemptRecord]:
    rows = [
        (BTC, "pending", "", "", True),
        (ETH, "applied", "0", "", False),
        (SOL, "unknown", "timeout", "no reply within 10 s", True),
        (SOL, "unknown", "0", "", True),
        (SOL, "unknown", "50004", "API endpoint request timeout.", False),
        (XAU, "rejected", "50011", "Rate limit reached.", False),
        (XAU, "rejected", "51000", HOSTILE, False),
        (BTC, "not-sent", "connect", "cannot connect: refused", False),
    ]
    return [
        AttemptRecord(
            id=len(rows) - place,
            family=family,
            setting=A,
            status=AttemptStatus(outcome),
            limited=False,
            is_open=is_open,
            code=code,
            message=message,
            reserved_wall=WALL - timedelta(seconds=7 * place),
            settled_wall=None if outcome == "pending" else WALL - timedelta(seconds=7 * place - 1),
        )
        for place, (family, outcome, code, message, is_open) in enumerate(rows)
    ]


def every_adoption() -> list[AcceptedRecord]:
    """Return an adoption that loosens, the first of a family, and two that the attempts show already."""
    rows = [
        (BTC, A, B, ProofKind.ADOPTED),
        (ETH, None, A, ProofKind.ADOPTED),
        (SOL, A, B, ProofKind.APPLIED),
        (XAU, A, A, ProofKind.ADOPTED),
    ]
    return [
        AcceptedRecord(
            family, before, after, ProofKind(how), "", "", "", WALL - timedelta(seconds=3 * place)
        )
        for place, (family, before, after, how) in enumerate(rows)
    ]


# ---- all of them ---------------------------------------------------------------------------------

CASES: dict[str, Callable[[], str]] = {
    "plan-directions": lambda: plan_text(every_direction(), CONTEXT, simulator=False),
    "plan-directions-simulator": lambda: plan_text(every_direction(), LOOPBACK, simulator=True),
    "plan-directions-colour": lambda: plan_text(every_direction(), LOOPBACK, simulator=True, paint=ansi),
    "plan-guarded": lambda: plan_text(every_direction(allowed=False), CONTEXT, simulator=False),
    "plan-reasons": lambda: plan_text(every_reason(), CONTEXT, simulator=False),
    "plan-reasons-colour": lambda: plan_text(every_reason(), CONTEXT, simulator=False, paint=ansi),
    "plan-holds": lambda: plan_text(every_hold(), CONTEXT, simulator=False),
    "plan-holds-colour": lambda: plan_text(every_hold(), CONTEXT, simulator=False, paint=ansi),
    "plan-no-live": lambda: plan_text(no_live(), CONTEXT, simulator=False),
    "plan-two-files": lambda: plan_text(
        replace(no_live(), basis=Basis.FILE), replace(CONTEXT, host=None), simulator=False
    ),
    "plan-nothing": lambda: plan_text(nothing_to_do(2), CONTEXT, simulator=False),
    "plan-nothing-one-family": lambda: plan_text(nothing_to_do(1), CONTEXT, simulator=False),
    "plan-hours": lambda: plan_text(hundreds(), CONTEXT, simulator=False),
    "plan-hostile-path": lambda: plan_text(
        nothing_to_do(1), replace(CONTEXT, path=HOSTILE), simulator=False
    ),
    "plan-protected-gone": lambda: plan_text(protected_gone(), CONTEXT, simulator=False),
    "plan-accepted": lambda: plan_text(against_accepted(), POLICED, simulator=False),
    "plan-accepted-refused": lambda: plan_text(against_accepted(refused=True), POLICED, simulator=False),
    "plan-accepted-markdown": lambda: plans_markdown([(against_accepted(), POLICED)]),
    "plan-accepted-refused-markdown": lambda: plans_markdown([(against_accepted(refused=True), POLICED)]),
    "history-adopted": lambda: history_text(
        "main", "live", AccountHistory(every_attempt()[:2], accepted=every_adoption())
    ),
    "plan-nothing-on-record": lambda: plan_text(
        make_plan(desired({BTC: A}), {}, Reads(), PlanConstraints(), NOW), CONTEXT, simulator=False
    ),
    "diff-renamed": lambda: plan_text(
        compare(desired({BTC: A, ETH: A}), desired({BTC: B, SOL: A}, account="spare")),
        since("main", "live"),
        simulator=False,
    ),
    "diff-needs-the-record": lambda: plan_text(
        compare(desired({BTC: A}), desired({BTC: B})), without_a_record(), simulator=False
    ),
    "diff-other-environment": lambda: plan_text(
        compare(desired({BTC: A}), desired({BTC: A}, environment=Environment.DEMO)),
        since("main", "live"),
        simulator=False,
    ),
    "diff-new-account": lambda: plan_text(
        compare(None, desired({BTC: A})), since(None, None), simulator=False
    ),
    "diff-gone-account": lambda: plan_text(
        removed_account_plan(desired({BTC: A, ETH: A})), since("main", "live"), simulator=False
    ),
    "diff-gone-families": lambda: plan_text(
        compare(desired({BTC: A, ETH: A}), desired({BTC: A})), since("main", "live"), simulator=False
    ),
    "diff-protected-gone": lambda: plan_text(
        compare(desired({BTC: A, ETH: A}), desired({BTC: A}), [GUARDED]),
        since("main", "live"),
        simulator=False,
    ),
    "results": lambda: results_text(every_result()),
    "results-colour": lambda: results_text(every_result(), paint=ansi),
    "results-done": lambda: results_text(every_result()[:3]),
    "results-held": lambda: results_text(every_result()[3:4]),
    "results-none": lambda: results_text(()),
    "results-unfinished": lambda: results_text((), finished=False),
    "results-simulator": lambda: results_text(every_result()[:3], place="main (live)", simulator=True),
    "results-account-simulator": lambda: results_text(
        every_result()[:3], place="desk-2 (live)", simulator=True, paint=ansi
    ),
    "results-hostile": lambda: results_text(hostile_results()),
    "status-states": lambda: status_text(every_state()),
    "status-states-colour": lambda: status_text(every_state(), paint=ansi),
    "status-calm": lambda: status_text(calm()),
    "status-calm-simulator": lambda: status_text(calm(simulator=True), paint=ansi),
    "status-frozen": lambda: status_text(calm(frozen=True)),
    "status-nothing-on-record": lambda: status_text(nothing_on_record()),
    "status-hostile-path": lambda: status_text(
        replace(calm(), desired=replace(calm().desired, path=HOSTILE), host=HOSTILE)
    ),
    "history": lambda: history_text("main", "live", AccountHistory(every_attempt())),
    "history-simulator-colour": lambda: history_text(
        "main", "demo", AccountHistory(every_attempt(), simulator=True), paint=ansi
    ),
    "history-nothing": lambda: history_text("main", "live", AccountHistory()),
}


def file_of(name: str) -> Path:
    """Return where the output called ``name`` is kept."""
    return FOLDER / f"{name}.txt"


def golden_names() -> Iterator[str]:
    """Yield the names of the outputs that are kept, the problems' aside."""
    yield from (file.stem for file in sorted(FOLDER.glob("*.txt")) if not file.stem.startswith("problems"))


if __name__ == "__main__":
    for stale in set(golden_names()) - set(CASES):
        file_of(stale).unlink()
    for name, made in CASES.items():
        file_of(name).write_text(made(), encoding="utf-8", newline="\n")
