"""``mmp plan``: what apply would do, and when. No client on this path can send Set MMP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.cli import flags, plan_output
from reconciler.cli.flag_types import DURATION
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import read_desired, read_policies, warn_of_missing
from reconciler.cli.recorded_state import open_recorded_state
from reconciler.controller.family_globs import matching_families, no_match
from reconciler.core.missing_policy import GivenUp
from reconciler.core.plan import Plan, PlanConstraints, first_records
from reconciler.core.policy_rules import unfit
from reconciler.documents.plan import PlanContext
from reconciler.documents.saved_plan import Origin
from reconciler.documents.saved_plan_file import save_plan
from reconciler.errors import Exit, MmpError, UsageError, overall_status

if TYPE_CHECKING:
    from reconciler.core.history_records import PolicyRecord
    from reconciler.core.model import Desired
    from reconciler.core.policy import Policy
    from reconciler.okx.wire import BaseUrl
    from reconciler.store.location import StateLocation

MAX_CONCURRENT_PLANS = 8
"""Accounts queried concurrently: each takes a connection to the exchange and, maybe, to a database."""

MAX_AGE_S = 300.0
"""How old the live read of a published status may be by default: ten drift checks of ``run``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions(CommandOptions):
    """The options of ``plan``."""

    against: str | None = field(repr=False)
    max_age_s: float | None
    out_file: str | None
    expires_s: float | None
    detailed_exitcode: bool
    fail_on: frozenset[str]


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """One account's plan under ``policy``, and its subject.

    ``missing`` is the recorded policy, if its file is missing.
    """

    plan: Plan
    context: PlanContext
    origin: Origin
    policy: Policy | None
    missing: PolicyRecord | None = None


@click.command()
@flags.config_option
@flags.policy_option
@flags.no_policy_option
@flags.state_options
@flags.exchange_options
@flags.family_option
@click.option("--no-live", is_flag=True, help="Compare with the last applied state alone; needs no key.")
@click.option(
    "--against",
    metavar="STATUS.json|URL",
    help="Compare with a published status instead of live; needs no key.",
)
@click.option(
    "--max-age", "max_age_s", type=DURATION, help="How old the live read of --against may be. [default: 5m]"
)
@click.option("--out", "out_file", metavar="FILE", help="Save the plan for review and for apply FILE.")
@click.option(
    "--expires",
    "expires_s",
    type=DURATION,
    help="How long the saved plan may be applied, at most 30d. [default: 24h]",
)
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 2 if something is to be sent or held, or changes what is accepted.",
)
@plan_output.fail_on_option
@flags.output_option(*plan_output.PLAN_FORMATS)
@with_options(PlanOptions)
def plan(options: PlanOptions) -> Exit:
    """Show what apply would send, family by family, in order and with times. Sends nothing.

    Needs a key with Read permission (none with --no-live or --against). Exit status 0 with
    or without changes, unless --detailed-exitcode or --fail-on is given.

    A read that fails is repeated for 30 s, then the command fails. A rejected key is not retried.

    \b
    Examples:
      mmp plan
      mmp plan --detailed-exitcode --output json
      mmp plan --family 'BTC-*' --fail-on loosen,disable
      mmp plan --output markdown > comment.md
      mmp plan --out plan.json            then: mmp apply plan.json --yes
      mmp plan --against status.json
    """
    options.configure_logging()
    _check_together(options)
    out, out_file = options.out, options.out_file
    state, base = options.location(), options.exchange_address()
    desired = read_desired(options)
    if out_file is not None and len(desired) != 1:
        raise UsageError("out-one", "--out requires exactly one account", "name one file with -c")
    policies = read_policies(desired, options)
    answers = make_plans(desired, policies, options, state, base)
    made = [one for one in answers if isinstance(one, AccountPlan)]
    failed = [one for one in answers if isinstance(one, MmpError)]
    statuses = [problem.exit_status for problem in failed]
    for problem in failed:
        out.error(problem)
    if not made and out.json:
        out.failure_document(*failed)
    warn_of_missing((one.missing for one in made), out)
    if made:
        pages = [(one.plan, one.context) for one in made]
        if out_file is not None:
            save_plan(Path(out_file), *pages[0], made[0].origin, expires_s=options.expires_s)
        for each in made:
            plan_output.warn_of_first_records(unfit(first_records(each.plan.changes), each.policy), out)
        plan_output.show_plans(pages, out, simulator=any(one.origin.simulator for one in made))
        changes_count = options.detailed_exitcode
        statuses.append(
            plan_output.plans_exit_status(pages, out, fail_on=options.fail_on, changes_count=changes_count)
        )
    return overall_status(statuses)


def make_plans(
    desired: Sequence[Desired],
    policies: Sequence[Policy | None],
    options: PlanOptions,
    state: StateLocation,
    base: BaseUrl,
) -> list[AccountPlan | MmpError]:
    """Return each account's plan, or why it has none, in the order of the files.

    Raises MmpError for an error in the command itself.
    """
    import asyncio  # late: help texts and usage errors need no event loop

    if options.globs and not any(matching_families(one, options.globs) for one in desired):
        raise no_match(options.globs)
    pairs = list(zip(desired, policies, strict=True))
    if options.against is not None:
        answers = _plans_against(pairs, options, options.against)
    else:
        answers = asyncio.run(_plans_asked(pairs, options, state, base))
    if len(answers) == 1:
        return answers
    return [
        answer.prefixed(one.path, path=one.path) if isinstance(answer, MmpError) else answer
        for answer, one in zip(answers, desired, strict=True)
    ]


async def _plans_asked(
    pairs: Sequence[tuple[Desired, Policy | None]],
    options: PlanOptions,
    state: StateLocation,
    base: BaseUrl,
) -> list[AccountPlan | MmpError]:
    """Make every plan from the state and, unless --no-live, the exchange, several at once."""
    import asyncio

    from reconciler.clock import SystemClock
    from reconciler.controller.dry_run import plan_account
    from reconciler.okx.exchange_clock import ExchangeClock

    at_once, exchange_clock = asyncio.Semaphore(MAX_CONCURRENT_PLANS), ExchangeClock()
    given_up = None if options.no_policy is None else GivenUp(options.no_policy)

    async def planned(desired: Desired, policy: Policy | None) -> AccountPlan | MmpError:
        clock = SystemClock()
        try:
            async with at_once:
                client = None
                if not options.no_live:
                    client = factories.reading_client(desired, base, clock, exchange_clock)
                found = await plan_account(
                    desired,
                    policy,
                    state=open_recorded_state(state, clock),
                    client=client,
                    base=base,
                    clock=clock,
                    globs=options.globs,
                    given_up=given_up,
                )
        except MmpError as problem:
            return problem
        context = PlanContext.of(desired, base.host, policy, found.missing)
        return AccountPlan(found.plan, context, Origin(base.is_simulator, found.uid), policy, found.missing)

    return list(await asyncio.gather(*(planned(*pair) for pair in pairs)))


def _plans_against(
    pairs: Sequence[tuple[Desired, Policy | None]], options: PlanOptions, source: str
) -> list[AccountPlan | MmpError]:
    """Make every plan from a published status, without key, state or exchange."""
    from reconciler.cli.plan_against import load_snapshots, plan_against, published, snapshot_for

    snapshots = load_snapshots(source)
    max_age_s = MAX_AGE_S if options.max_age_s is None else options.max_age_s

    def planned(desired: Desired, policy: Policy | None) -> AccountPlan | MmpError:
        rules = PlanConstraints(policy=policy, only=matching_families(desired, options.globs))
        try:
            snapshot = snapshot_for(desired, snapshots, max_age_s)
            plan = plan_against(desired, snapshot, rules)
        except MmpError as problem:
            return problem
        context = replace(PlanContext.of(desired, snapshot.host, policy), against=published(snapshot))
        return AccountPlan(plan, context, Origin(snapshot.simulator, snapshot.uid), policy)

    return [planned(*pair) for pair in pairs]


def _check_together(options: PlanOptions) -> None:
    """Refuse flags that have no meaning without, or beside, another."""
    if options.expires_s is not None and options.out_file is None:
        raise UsageError("expires-alone", "--expires requires --out")
    if options.max_age_s is not None and options.against is None:
        raise UsageError("max-age-alone", "--max-age requires --against")
    if options.out_file == "-":
        raise UsageError(
            "out-stdout", "--out requires a file: the readable plan goes to stdout", "name a file"
        )
    if options.no_policy is not None and options.against is not None:
        raise UsageError("no-policy-against", "--no-policy needs the state, but --against does not use it")
    if options.no_live and options.against is not None:
        raise UsageError("no-live-against", "--no-live and --against cannot be combined")
