"""AccountRuntime as a loop would leave them, for whatever judges or tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.events import Compared, ExchangeFailed
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, Known, LiveRow, Setting
from reconciler.core.monitoring.account_runtime import AccountRuntime, Outage, apply_event, initial
from reconciler.core.pacing import Ledger
from reconciler.core.plan import PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.reply import Reply, ReplyClass
from tests.unit.builders import NOW, desired, read
from tests.unit.report_samples import WALL

LOST = Reply(ReplyClass.NO_ANSWER, "timeout", "no complete reply within 10 s")
BAD_KEY = Reply(ReplyClass.ACCOUNT, "50119", "API key doesn't exist")


def runtime_of(
    wanted: Mapping[Family, Setting],
    known: Mapping[Family, Known] | None = None,
    rows: Mapping[Family, LiveRow] | None = None,
    *,
    rules: PlanConstraints | None = None,
    ledger: Ledger | None = None,
    complete: bool = True,
    simulator: bool = False,
) -> AccountRuntime:
    """Return runtime after one comparison; ``rows`` None: live was not read."""
    file = desired(wanted)
    runtime = initial(file, host="openapi.okx.com", simulator=simulator, live=True, now=NOW)
    reads = Reads() if rows is None else Reads(read(NOW - 0.5, rows), display=True)
    if reads.latest is not None:
        runtime = replace(runtime, read=reads.latest, read_at=NOW)
    rules = rules or PlanConstraints()
    ledger = ledger or Ledger()
    plan = with_schedule(make_plan(file, known or {}, reads, rules, NOW), ledger, NOW, assume_idle=True)
    return apply_event(
        runtime, Compared(file, known or {}, ledger, (), rules, plan, complete, reads), now=NOW, wall=WALL
    )


def outage(reply: Reply = LOST) -> Outage:
    """Return an outage that has just begun."""
    return Outage(NOW, WALL, ExchangeFailed("reading live settings", reply, NOW + 1), 1)
