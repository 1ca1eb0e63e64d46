"""Plans, results and statuses in every shape the program can make them, for whatever renders them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain, product

from reconciler.core.apply_result import FamilyResult, Outcome, results
from reconciler.core.model import Environment, Family, Field, Known, LiveRow, Uncertain
from reconciler.core.monitoring.status import Status, StatusInputs, recorded_status
from reconciler.core.pacing import CountedRequest, Ledger
from reconciler.core.plan import Basis, Plan, PlanConstraints, in_order, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.policy import Bound, Loosening, Policy
from reconciler.core.reply import Reply, ReplyClass
from tests.unit.builders import BTC, ETH, NOW, SOL, confirmed, desired, plan_of, row, setting, unresolved
from tests.unit.one_family_world import (
    DESIRED,
    SETTINGS,
    Situation,
    expected,
    held_situations,
    known_of,
    reads_of,
    rules_of,
    situations,
)

WALL = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
XAU = Family("XAU-USD_UM")
HOSTILE = 'odd \x1b[2J\x1b[31m "words"\r\n\u202egnp.\x00\x9b1A and more'

LEDGERS = {
    "free": Ledger(sent=(CountedRequest(1, NOW - 60),)),
    "full": Ledger(sent=(CountedRequest(1, NOW - 4), CountedRequest(2, NOW - 3))),
    "unknown": Ledger(empty_since=NOW - 1),
    "spaced": Ledger(
        sent=(CountedRequest(1, NOW - 4),), sends_since_limited=3, limited_latest_arrival=NOW - 4
    ),
}

KNOWN: dict[str, dict[Family, Known]] = {
    "nothing": {},
    "in sync": {BTC: confirmed("5000/2000/100"), ETH: confirmed("1000/0/500")},
    "changed": {BTC: confirmed("5000/2000/400"), ETH: confirmed("0/0/500")},
    "uncertain": {
        BTC: Uncertain(confirmed("5000/2000/400"), (unresolved("5000/2000/100"),)),
        ETH: Uncertain(None, (unresolved("1000/0/900", effect_until=NOW + 30),)),
    },
    "acknowledged": {
        BTC: Uncertain(
            confirmed("5000/2000/100", at=950.0, attempt=6),
            (unresolved("9000/2000/100", effect_until=NOW + 20),),
        )
    },
}

LIVE: dict[str, Mapping[Family, LiveRow] | None] = {
    "never read": None,
    "nothing": {},
    "as desired": {BTC: row("5000/2000/100"), ETH: row("1000/0/500"), XAU: row("5000/2000/10")},
    "drifted": {BTC: row("5000/2000/9999"), ETH: row("1000/0/100")},
    "frozen": {
        BTC: LiveRow(setting("5000/2000/100"), frozen=True, frozen_until="1772334000000"),
        ETH: row("1000/0/900", frozen=True),
    },
}


@cache
def small_plans() -> tuple[Plan, ...]:
    """Return the plans of the small world's situations, each shape of change once, with times.

    What is wanted and the oracle's answer make the shape: one situation of each is planned.
    """
    telling: dict[object, Situation] = {}
    for wanted in DESIRED:
        for case in chain(situations(wanted), held_situations(wanted)):
            telling.setdefault((wanted, expected(case)), case)
    found: dict[object, Plan] = {}
    for plan in map(_planned, telling.values()):
        shape = tuple(replace(change, known_at=None) for change in plan.changes)
        found.setdefault(shape, plan)
    found["refused"] = refused_plan()
    return tuple(with_schedule(plan, LEDGERS["full"], NOW, assume_idle=False) for plan in found.values())


STRICT = Policy(
    path="mmp-policy.yaml",
    sha256="1" * 64,
    default={
        Field.TIME_INTERVAL: Bound(minimum=Decimal(1000)),
        Field.FROZEN_INTERVAL: Bound(zero_allowed=False),
        Field.QTY_LIMIT: Bound(maximum=Decimal("300.5")),
    },
    loosening=Loosening(Decimal(2), 1, Decimal("0.5")),
    protected=frozenset({XAU}),
)


def refused_plan() -> Plan:
    """Return a plan that a policy refuses in every way there is, and one family that passes."""
    return plan_of(
        {
            BTC: setting("5000/2000/400"),
            ETH: setting("500/0/50"),
            SOL: setting("0/2000/100"),
            XAU: setting("0/2000/10"),
            Family("ADA-USD"): setting("5000/2000/100"),
        },
        {
            BTC: confirmed("5000/2000/100"),
            ETH: confirmed("5000/500/100"),
            SOL: confirmed("5000/2000/100"),
            XAU: confirmed("0/2000/11"),
        },
        rules=PlanConstraints(policy=STRICT),
    )


def large_plans(count: int = 100) -> Iterator[Plan]:
    """Yield plans of many families: a mixture of changes, of every basis, with and without times."""
    chance = random.Random(1)
    changes = [change for plan in small_plans() for change in plan.changes]
    for number in range(count):
        chosen = chance.sample(changes, chance.randrange(1, 12))
        named = [
            replace(change, family=Family(f"F{place}-USD"), order=None)
            for place, change in enumerate(chosen)
        ]
        plan = Plan(
            account="desk-2",
            environment=chance.choice(list(Environment)),
            basis=chance.choice(list(Basis)),
            changes=in_order(named),
            unchanged=(SOL,) if number % 3 else (),
            unmanaged={XAU: SETTINGS["B"]} if number % 2 else {},
        )
        ledger = chance.choice(list(LEDGERS.values()))
        yield with_schedule(plan, ledger, NOW, assume_idle=False) if number % 5 else plan


def result_sets() -> tuple[tuple[FamilyResult, ...], ...]:
    """Return what the core makes of the plans an apply can end with, each once; the first is empty."""
    found: dict[tuple[FamilyResult, ...], None] = {(): None}
    refusals = [Reply(ReplyClass.WRONG_SETTINGS, code, HOSTILE) for code in ("51000", "404_1", "timeout")]
    for plan in small_plans():
        for uncertain, refusal in product((False, True), (None, *refusals)):
            message = results(
                done={ETH: Outcome.APPLIED, SOL: Outcome.ADOPTED},
                left=plan,
                uncertain=frozenset({BTC} if uncertain else ()),
                refusals={BTC: refusal} if refusal else {},
                attempts={BTC: 3, ETH: 1},
                ended="stopped by a signal before its turn",
            )
            found[message] = None
    return tuple(found)


def status(known: str, live: str, ledger: str | None = "free", *, age_s: float = 5.0) -> Status:
    """Return the status of BTC-USD and ETH-USD, of what is on record under these names."""
    rows = LIVE[live]
    record = StatusInputs(
        uid=None if ledger is None else "446556540",
        host=None if ledger is None else "openapi.okx.com",
        known=KNOWN[known],
        ledger=None if ledger is None else LEDGERS[ledger],
        live_rows=rows or {},
        live_at=None if rows is None else WALL - timedelta(seconds=age_s),
    )
    wanted = desired({BTC: setting("5000/2000/100"), ETH: setting("1000/0/500")})
    return recorded_status(wanted, record, simulator=ledger == "spaced", now=NOW, wall=WALL)


def statuses() -> Iterator[Status]:
    """Yield the status of every combination of what can be on record."""
    for known, live, ledger in product(KNOWN, LIVE, (None, *LEDGERS)):
        yield status(known, live, ledger)


def _planned(case: Situation) -> Plan:
    return make_plan(
        desired({BTC: SETTINGS[case.wanted]}),
        {BTC: known_of(case.record)},
        reads_of(case.record, case.sight),
        rules_of(case),
        NOW,
    )
