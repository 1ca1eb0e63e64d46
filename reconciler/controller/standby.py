"""What a standby does with an account that another process controls: read live, compare, report.

The probes, metrics and alerts of a standby are made from events, so it emits the same events as a pass.
Nothing here holds a lock, sends a request, or writes to the state.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.controller.dry_run import with_answer
from reconciler.controller.pass_values import PassOptions
from reconciler.core.events import Compared, LiveReadDone, Observe
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Desired
from reconciler.core.pass_step import ReadFamily
from reconciler.core.pauses import active_pauses
from reconciler.core.plan import Plan, PlanConstraints, with_schedule
from reconciler.core.planning import make_plan
from reconciler.core.reply import Reply
from reconciler.ports import Clock, Exchange, Store


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison: the reads so far, and their plan with the recorded inputs."""

    reads: Reads
    plan: Plan


async def read_and_compare(
    desired: Desired,
    reads: Reads,
    *,
    store: Store,
    exchange: Exchange,
    clock: Clock,
    observe: Observe,
    options: PassOptions,
) -> Comparison | Reply:
    """Read live once more, after ``reads``, and compare. A Reply means that live could not be read.

    One family that is missing in the list is then read alone.
    """
    if options.live:
        read = await exchange.read_live()
        if isinstance(read, Reply):
            return read
        observe(LiveReadDone(read))
        reads = reads.push(read, repeated=reads.latest is not None)
    compared = await _compare(desired, reads, store=store, clock=clock, observe=observe, options=options)
    if not compared.plan.missing:
        return compared
    family = compared.plan.missing[0]
    answer = await exchange.read_family(family)
    reads = with_answer(compared.reads, ReadFamily(family), answer, clock.now())
    return await _compare(desired, reads, store=store, clock=clock, observe=observe, options=options)


async def _compare(
    desired: Desired, reads: Reads, *, store: Store, clock: Clock, observe: Observe, options: PassOptions
) -> Comparison:
    """Compare the read with the record made after it: the controller may have written meanwhile."""
    recorded = await store.recorded_inputs()
    reads, now = reads.with_record(recorded.known, {}), clock.now()
    pauses, policy = active_pauses(recorded.pauses, desired), options.policy()
    rules = PlanConstraints(
        drift=options.drift,
        paused=frozenset(pause.family for pause in pauses),
        policy=policy.policy,
        policy_unreadable=policy.unreadable,
        retries=recorded.retries,
        controller=options.controller,
        accepted=recorded.accepted,
        wall=clock.wall(),
        reads_live=options.live,
    )
    plan = make_plan(desired, recorded.known, reads, rules, now)
    plan = with_schedule(plan, recorded.ledger, now, assume_idle=options.assume_idle)
    complete = not plan.doubtful
    observe(Compared(desired, recorded.known, recorded.ledger, pauses, rules, plan, complete, reads))
    return Comparison(reads, plan)
