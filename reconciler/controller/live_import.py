"""Records the live settings of an account as applied, for a new settings file that has the same settings.

This file decides which families are recorded: those that live reads prove and that have no record; with
``adopt`` also those that the policy allows to adopt. It works under the lock and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.atomic_create import write_new
from reconciler.controller.account_policy import remembered
from reconciler.core.live_evidence import MAX_SURVEY_READS, SECOND_READ_AFTER_S, Absent, Reads, evidence_of
from reconciler.core.model import (
    Accepting,
    Confirmed,
    Desired,
    Family,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    Setting,
    Uncertain,
)
from reconciler.core.plan import Action, Doubts, Plan, PlanConstraints
from reconciler.core.planning import make_plan
from reconciler.core.policy import GUARD_RULE, Policy, Refusal
from reconciler.core.policy_rules import unfit
from reconciler.core.reply import Reply
from reconciler.core.reservation import RecordedInputs
from reconciler.errors import ChangeRefused
from reconciler.okx.hints import exchange_error
from reconciler.ports import AccountStore, Clock, Exchange


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """The settings file of a live read; ``left_out`` says why a row of the read is not in it, by family."""

    path: str
    text: str
    desired: Desired
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was written; ``differing`` families have another recorded value, which was not changed.

    ``unfit``: what the policy refuses among the first records.
    """

    file: ImportedFile
    differing: tuple[Family, ...] = ()
    unfit: tuple[Refusal, ...] = ()


async def read_live(exchange: Exchange) -> LiveRead:
    """Return the live settings. Raises MmpError if they cannot be read."""
    read = await exchange.read_live()
    if isinstance(read, Reply):
        raise exchange_error("live settings could not be read", read)
    return read


async def import_live(
    store: AccountStore,
    exchange: Exchange,
    clock: Clock,
    read: LiveRead,
    file_of: Callable[[LiveRead], ImportedFile],
    *,
    policy: Policy | None,
    adopt: bool,
) -> ImportResult:
    """Write the file of a live read, and record what the read proves, beside the existing records.

    Raises ChangeRefused if ``adopt`` is refused; then nothing is written or recorded.
    """
    inputs = await store.recorded_inputs()
    reads = await _survey(exchange, clock, read, inputs.known)
    assert reads.latest is not None
    read = reads.latest
    file = file_of(read)
    live = {family: wanted.setting for family, wanted in file.desired.families.items()}
    proven = _proven(reads, inputs.known)
    settings = {
        family: one for family, one in live.items() if family in proven and _is_unrecorded(family, inputs)
    }
    record = await store.policy_on_record() if policy is None else None
    policy = policy if record is None else remembered(record)
    first, digest = unfit(settings, policy), ""
    if adopt:
        rules = PlanConstraints(
            policy=policy,
            policy_unreadable=record is not None,
            accepted=inputs.accepted,
            wall=clock.wall(),
            doubts=Doubts.LEAVE_OUT,
        )
        plan = make_plan(file.desired, inputs.known, reads, rules, clock.now())
        _reject_refused(plan, file.desired, policy)
        digest = plan.digest
        settings |= {one.family: one.after for one in plan.of(Action.ADOPT) if one.known_at is None}
    write_new(file.path, file.text)
    last_rows = (await store.last_rows()).items()
    await store.record_live(
        read, last_seen={one: seen.row for one, seen in last_rows if one not in read.rows}
    )
    accepting = {family: Accepting(setting, digest) for family, setting in settings.items()}
    await store.adopt(settings, read_begun_at=read.begun_at, accepting=accepting)
    others = {family: one for family, one in live.items() if family not in settings}
    return ImportResult(file, _differing(others, inputs.known), first)


async def _survey(exchange: Exchange, clock: Clock, read: LiveRead, known: Mapping[Family, Known]) -> Reads:
    """Read again, at most MAX_SURVEY_READS times, until reads prove what is in force for every family."""
    reads = Reads(read)
    for _ in range(MAX_SURVEY_READS):
        if _proven(reads, known) == read.rows.keys() | known.keys():
            break
        # Written since, or so recently that the read may lag behind it.
        await clock.sleep_until(read.begun_at + SECOND_READ_AFTER_S)
        read = await read_live(exchange)
        reads = reads.push(read)
    return reads


def _proven(reads: Reads, known: Mapping[Family, Known]) -> set[Family]:
    """Return the families for which the reads prove what is in force, or that nothing is."""
    assert reads.latest is not None
    return {
        family
        for family in reads.latest.rows.keys() | known.keys()
        if isinstance(evidence_of(family, known.get(family, NeverApplied()), reads), LiveRow | Absent)
    }


def _is_unrecorded(family: Family, inputs: RecordedInputs) -> bool:
    """Return whether a family has no record: no request, no proof, no accepted setting."""
    known = inputs.known.get(family, NeverApplied())
    return isinstance(known, NeverApplied) and family not in inputs.accepted


def _reject_refused(plan: Plan, desired: Desired, policy: Policy | None) -> None:
    """Raise ChangeRefused if the policy or the guard refuses to adopt a live setting."""
    refused = [one for one in plan.refusals if one.family in desired.families]
    if refused:
        refusals = "; ".join(f"{one.family}: {one.sentence}" for one in refused)
        raise ChangeRefused(
            "guard-disable" if all(one.rule == GUARD_RULE for one in refused) else "policy",
            f"nothing was written or recorded, because the {'policy' if policy else 'guard'} refuses"
            f" to accept what is live: {refusals}",
            "leave out --adopt: then the file is written, and mmp plan shows each refusal and its --allow",
            path=policy.path if policy else None,
        )


def _differing(settings: Mapping[Family, Setting], known: Mapping[Family, Known]) -> tuple[Family, ...]:
    """Return the families whose record is uncertain or differs from live."""
    records = ((family, known.get(family, NeverApplied())) for family in settings)
    return tuple(
        family
        for family, one in records
        if isinstance(one, Uncertain) or (isinstance(one, Confirmed) and one.setting != settings[family])
    )
