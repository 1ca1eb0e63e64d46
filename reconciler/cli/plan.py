"""``mmp plan``: what apply would do, and when. No client on this path can send Set MMP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.cli.dry_run_inputs import load_dry_run_inputs
from reconciler.cli.exchange_checks import warn_of_clock
from reconciler.cli.no_policy import no_policy_option, refuse_needless_no_policy, warn_of_missing
from reconciler.cli.options import (
    NO_FAMILY_HINT,
    Duration,
    config_option,
    exchange_options,
    family_option,
    matching_families,
    output_option,
    parse_exchange_address,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.plan_output import (
    PLAN_FORMATS,
    fail_on_option,
    plans_exit_status,
    show_plans,
    warn_of_first_records,
)
from reconciler.cli.read_files import read_desired, read_policies
from reconciler.cli.recorded_state import open_recorded_state
from reconciler.core.missing_policy import GivenUp
from reconciler.core.pauses import paused
from reconciler.core.plan import Plan, PlanConstraints, first_records, with_schedule
from reconciler.core.policy_rules import unfit
from reconciler.documents.plan_file import save_plan
from reconciler.errors import MmpError, UsageError, overall_status
from reconciler.okx.hints import exchange_error
from reconciler.store.location import StateLocation

if TYPE_CHECKING:
    from reconciler.core.model import Desired
    from reconciler.core.pacing import Ledger
    from reconciler.core.policy import Policy, Refusal
    from reconciler.core.published_status import Snapshot
    from reconciler.core.state_records import PolicyRecord
    from reconciler.documents.plan import PlanContext
    from reconciler.documents.saved_plan import Origin
    from reconciler.okx.exchange_clock import ExchangeClock
    from reconciler.okx.wire import BaseUrl

MAX_CONCURRENT_PLANS = 8
"""Accounts queried concurrently: each takes a connection to the exchange and, maybe, to a database."""

MAX_AGE_S = 300.0
"""How old the live read of a published status may be by default: ten drift checks of ``run``."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The options on the command line of ``plan``."""

    state: StateLocation
    base: BaseUrl
    live: bool
    globs: tuple[str, ...]
    against: str | None
    max_age_s: float
    given_up: GivenUp | None = None


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """One account's plan, and its subject.

    ``unfit``: what the policy refuses among live settings that are recorded for the first time.
    """

    plan: Plan
    context: PlanContext
    origin: Origin
    missing: PolicyRecord | None = None
    """The recorded policy, if its file is missing."""
    unfit: tuple[Refusal, ...] = ()


@click.command()
@config_option
@policy_option
@no_policy_option
@state_options
@exchange_options
@family_option
@click.option("--no-live", is_flag=True, help="Compare with the last applied state alone; needs no key.")
@click.option(
    "--against",
    metavar="STATUS.json|URL",
    help="Compare with a published status instead of live; needs no key.",
)
@click.option("--max-age", type=Duration(), help="How old the live read of --against may be. [default: 5m]")
@click.option("--out", "out_file", metavar="FILE", help="Save the plan for review and for apply FILE.")
@click.option(
    "--expires", type=Duration(), help="How long the saved plan may be applied, at most 30d. [default: 24h]"
)
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 2 if something is to be sent or held, or changes what is accepted.",
)
@fail_on_option
@output_option(*PLAN_FORMATS)
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    config: tuple[str, ...],
    policy_file: str | None,
    no_policy: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    base_url: str,
    allow_hosts: tuple[str, ...],
    globs: tuple[str, ...],
    no_live: bool,
    against: str | None,
    max_age: float | None,
    out_file: str | None,
    expires: float | None,
    detailed_exitcode: bool,
    fail_on: frozenset[str],
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
    **_unused: object,
) -> None:
    """Show what apply would send, family by family, in order and with times. Sends nothing.

    Needs a key with Read permission (none with --no-live or --against). Exit status 0 with
    or without changes, unless --detailed-exitcode or --fail-on is given.

    A read that fails is repeated for 30 s, then the command fails. A refused key is not retried.

    \b
    Examples:
      mmp plan
      mmp plan --detailed-exitcode --output json
      mmp plan --family 'BTC-*' --fail-on loosen,disable
      mmp plan --output markdown > comment.md
      mmp plan --out plan.json            then: mmp apply plan.json --yes
      mmp plan --against status.json
    """
    from reconciler import logs

    out = Output(output_format, color)
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    _check_together(
        out_file=out_file,
        expires=expires is not None,
        against=against is not None,
        max_age=max_age is not None,
        no_live=no_live,
        no_policy=no_policy is not None,
    )
    asked = PlanOptions(
        state=state_location(state, config, allow_filesystems),
        base=parse_exchange_address(base_url, allow_hosts),
        live=not no_live,
        globs=globs,
        against=against,
        max_age_s=MAX_AGE_S if max_age is None else max_age,
        given_up=None if no_policy is None else GivenUp(no_policy),
    )
    desired = read_desired(config, out)
    if out_file is not None and len(desired) != 1:
        raise UsageError("out-one", "--out wants exactly one account", "name one file with -c")
    policies = read_policies(desired, policy_file, out)
    refuse_needless_no_policy(no_policy, policy_file, policies)
    answers = make_plans(desired, asked, policies)
    made = [one for one in answers if isinstance(one, AccountPlan)]
    failed = [one for one in answers if isinstance(one, MmpError)]
    statuses = [problem.exit_status for problem in failed]
    _tell_failures(failed, out, alone=not made)
    for missing in dict.fromkeys(one.missing for one in made if one.missing is not None):
        warn_of_missing(missing, out)
    if made:
        plans, contexts = [one.plan for one in made], [one.context for one in made]
        if out_file is not None:
            save_plan(Path(out_file), plans[0], contexts[0], made[0].origin, expires_s=expires)
        for each in made:
            warn_of_first_records(each.unfit, out)
        show_plans(plans, contexts, out, simulator=any(one.origin.simulator for one in made))
        statuses.append(
            plans_exit_status(plans, contexts, out, fail_on=fail_on, changes_count=detailed_exitcode)
        )
    ctx.exit(overall_status(statuses))


def _tell_failures(failed: list[MmpError], out: Output, *, alone: bool) -> None:
    """Report why accounts have no plan; ``alone``: none has one, so the failures are the document."""
    for problem in failed:
        out.error(problem)
    if alone and out.json:
        out.failure_document(*failed)


def make_plans(
    desired: tuple[Desired, ...], asked: PlanOptions, policies: Sequence[Policy | None]
) -> list[AccountPlan | MmpError]:
    """Return each account's plan, or why it has none, in the order of the files.

    Raises MmpError for an error in the command itself.
    """
    if asked.globs and not any(matching_families(one, asked.globs) for one in desired):
        raise UsageError("no-family", f"no desired family matches {', '.join(asked.globs)}", NO_FAMILY_HINT)
    under = list(zip(desired, policies, strict=True))
    if asked.against is not None:
        answers = _plans_against(under, asked, asked.against)
    else:
        answers = _plans_asked(under, asked)
    return answers if len(answers) == 1 else [_placed(*pair) for pair in zip(answers, desired, strict=True)]


def _placed(answer: AccountPlan | MmpError, desired: Desired) -> AccountPlan | MmpError:
    """Return the answer; a failure names its file if there are several."""
    if isinstance(answer, AccountPlan):
        return answer
    return answer.prefixed(desired.path, path=desired.path)


def _plans_asked(
    under: Sequence[tuple[Desired, Policy | None]], asked: PlanOptions
) -> list[AccountPlan | MmpError]:
    """Make every plan from the state and, unless --no-live, the exchange, several at once."""
    import asyncio

    from reconciler.okx.exchange_clock import ExchangeClock

    at_once, timing = asyncio.Semaphore(MAX_CONCURRENT_PLANS), ExchangeClock()

    async def guarded(desired: Desired, policy: Policy | None) -> AccountPlan | MmpError:
        try:
            async with at_once:
                return await _plan_one(desired, policy, asked, timing)
        except MmpError as problem:
            return problem

    async def gathered() -> list[AccountPlan | MmpError]:
        return list(await asyncio.gather(*(guarded(one, policy) for one, policy in under)))

    return asyncio.run(gathered())


async def _plan_one(
    desired: Desired, policy: Policy | None, asked: PlanOptions, timing: ExchangeClock
) -> AccountPlan:
    from reconciler import logs
    from reconciler.clock import SystemClock
    from reconciler.controller.account_policy import refuse_other, remembered
    from reconciler.controller.dry_run import plan_dry_run
    from reconciler.core.reply import Reply
    from reconciler.documents.plan import PlanContext
    from reconciler.documents.saved_plan import Origin

    clock = SystemClock()
    client = factories.reading_client(desired, asked.base, clock, timing) if asked.live else None
    reads = None if client is None else factories.retrying_reads(client, clock)
    async with open_recorded_state(asked.state, clock) as state:
        record = await load_dry_run_inputs(state, desired, asked.base, reads, clock)
    missing = None if policy is not None else record.policy
    refuse_other(missing, asked.given_up)
    if asked.given_up is not None:
        missing = None
    made = await plan_dry_run(
        desired,
        known=record.known,
        last_rows=record.last_rows,
        ledger=record.ledger,
        exchange=reads,
        clock=clock,
        rules=PlanConstraints(
            paused=paused(record.pauses, desired),
            policy=policy or remembered(missing),
            policy_unreadable=missing is not None,
            only=matching_families(desired, asked.globs),
            accepted=record.accepted,
            wall=clock.wall(),
        ),
        observe=logs.observer(
            desired.account, desired.environment.value, simulator=asked.base.is_simulator
        ),
    )
    if client is not None:
        warn_of_clock(client)
    if isinstance(made, Reply):
        raise exchange_error("live settings could not be read", made)
    now = clock.now()
    plan = with_schedule(made, _as_of(record.ledger, now), now, assume_idle=False)
    origin = Origin(asked.base.is_simulator, record.uid)
    context = PlanContext.of(desired, asked.base.host, policy, missing)
    return AccountPlan(plan, context, origin, missing, unfit(first_records(plan.changes), policy))


def _as_of(ledger: Ledger, now: float) -> Ledger:
    """Return the ledger with which an apply started at ``now`` begins.

    That apply waits out an unknown history: the time that this plan took does not count.
    """
    return ledger if ledger.empty_since is None else replace(ledger, empty_since=now)


def _plans_against(
    under: Sequence[tuple[Desired, Policy | None]], asked: PlanOptions, source: str
) -> list[AccountPlan | MmpError]:
    """Make every plan from a published status, without key, state or exchange."""
    from reconciler.cli.load_published_status import load_snapshots

    snapshots = load_snapshots(source)
    made: list[AccountPlan | MmpError] = []
    for one, policy in under:
        try:
            made.append(_plan_against(one, policy, snapshots, asked))
        except MmpError as problem:
            made.append(problem)
    return made


def _plan_against(
    desired: Desired, policy: Policy | None, snapshots: tuple[Snapshot, ...], asked: PlanOptions
) -> AccountPlan:
    from reconciler.cli.load_published_status import plan_against, published, snapshot_for
    from reconciler.documents.plan import PlanContext
    from reconciler.documents.saved_plan import Origin

    snapshot = snapshot_for(desired, snapshots, asked.max_age_s)
    rules = PlanConstraints(policy=policy, only=matching_families(desired, asked.globs))
    context = replace(PlanContext.of(desired, snapshot.host, policy), against=published(snapshot))
    origin = Origin(snapshot.simulator, snapshot.uid)
    plan = plan_against(desired, snapshot, rules)
    return AccountPlan(plan, context, origin, unfit=unfit(first_records(plan.changes), policy))


def _check_together(
    *, out_file: str | None, expires: bool, against: bool, max_age: bool, no_live: bool, no_policy: bool
) -> None:
    """Refuse flags that have no meaning without, or beside, another."""
    if expires and out_file is None:
        raise UsageError("expires-alone", "--expires is about the file that --out writes")
    if max_age and not against:
        raise UsageError("max-age-alone", "--max-age is about the status that --against names")
    if out_file == "-":
        raise UsageError("out-stdout", "--out wants a file: stdout has the plan for people", "name a file")
    if no_policy and against:
        raise UsageError("no-policy-against", "--no-policy is about the state, and --against asks none")
    if no_live and against:
        raise UsageError("no-live-against", "--no-live and --against contradict each other")
