"""``mmp apply``: one pass until everything is settled, then one line and one status per outcome."""

from __future__ import annotations

import sys

import click

from reconciler.cli.no_policy import given_up, no_policy_option, refuse_needless_no_policy
from reconciler.cli.options import (
    Duration,
    config_option,
    exchange_options,
    family_option,
    output_option,
    parse_exchange_address,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.read_files import read_desired, watched_policies
from reconciler.core.model import ExchangeKind, parse_family
from reconciler.core.plan import Basis
from reconciler.core.policy import Override, RefusalKind
from reconciler.core.saved_plan import format_utc
from reconciler.documents.plan_file import load_fresh_plan
from reconciler.errors import UsageError

ALLOW_UNSEEN = UsageError(
    "allow-unseen",
    "--allow needs --expect DIGEST or a plan file without a prompt: it applies to one reviewed plan",
    "mmp plan prints the digest, and with each refusal the whole command",
)


def may_ask(yes: bool) -> bool:
    """Return whether a person sees the plan and must confirm it before anything is sent."""
    return not yes and sys.stdin.isatty() and sys.stderr.isatty()


class AllowType(click.ParamType[Override]):
    """``KIND:FAMILY``: one override of a policy or guard, for one family."""

    name = "KIND:FAMILY"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Override:
        """Return the override, or fail as a usage error."""
        if isinstance(value, Override):
            return value
        kind, _, family = str(value).partition(":")
        try:
            return Override(RefusalKind(kind), parse_family(family))
        except ValueError:
            kinds = ", ".join(RefusalKind)
            self.fail(f"{value!r} is not KIND:FAMILY with KIND one of {kinds}", param, ctx)


@click.command()
@click.argument("plan_file", metavar="[PLAN]", required=False, type=click.Path())
@config_option
@policy_option
@no_policy_option
@state_options
@exchange_options
@family_option
@click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")
@click.option("--expect", metavar="DIGEST", help="Send nothing unless the plan has this digest.")
@click.option(
    "--allow",
    "allows",
    type=AllowType(),
    multiple=True,
    help="Override the policy or guard for one family; may be repeated. Needs --reason, and"
    " without a prompt --expect or PLAN.",
)
@click.option(
    "--reason", metavar="TEXT", help="Reason for --allow or --no-policy; recorded in the history."
)
@click.option("--assume-idle", is_flag=True, help="Do not wait 10 s if the history is unknown.")
@click.option("--no-live", is_flag=True, help="Compare with the last applied settings only.")
@click.option("--timeout", type=Duration(), help="Give up after this long. [default: ETA + 5 min]")
@output_option("text", "json")
@click.pass_context
def apply(
    ctx: click.Context,
    /,
    plan_file: str | None,
    config: tuple[str, ...],
    policy_file: str | None,
    no_policy: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    lock_timeout: float,
    base_url: str,
    allow_hosts: tuple[str, ...],
    globs: tuple[str, ...],
    yes: bool,
    expect: str | None,
    allows: tuple[Override, ...],
    reason: str | None,
    assume_idle: bool,
    no_live: bool,
    timeout: float | None,
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
) -> None:
    """Make live settings equal to the file, in both directions, and exit when everything is settled.

    With PLAN, a file that mmp plan --out wrote: send exactly the reviewed changes. A family that has
    changed since is skipped; the others are sent. A plan that has expired, or is of another account,
    environment, host or config, is refused.

    Needs a key with Trade permission. Asks on a terminal; elsewhere --yes is needed unless nothing
    is to be sent. Never sends more than two requests in any 10 seconds.

    Failed reads before the first plan are repeated for 30 s, or for --timeout if that is less. After
    that, reads and requests are retried with back-off until --timeout.

    \b
    Exit status: 0 done, 3 refused by policy or guard, 4 invalid config or plan, 5 plan is stale,
    6 partly, 7 locked, 8 account or key, 9 all held.

    \b
    Examples:
      mmp apply --yes
      mmp apply plan.json --yes
      mmp apply --yes --family 'BTC-*' --output json
      mmp apply --family SOL-USD_UM --allow disable:SOL-USD_UM --reason "delisted"
      mmp apply plan.json --yes --expect "$DIGEST" --allow loosen:BTC-USD --reason "new client"
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler import logs
    from reconciler.cli.apply_account import ApplyOptions
    from reconciler.cli.apply_flow import ApplyCommand

    out = Output(output_format, color)
    base = parse_exchange_address(base_url, allow_hosts)
    desired = read_desired(config, out)
    about_one = (
        ("--expect", expect is not None),
        ("PLAN", plan_file is not None),
        ("--allow", bool(allows)),
    )
    for flag, given in about_one:
        if given and len(desired) != 1:
            raise UsageError("one-account", f"{flag} wants exactly one account", "name one file with -c")
    if allows and expect is None and plan_file is None and not may_ask(yes):
        raise ALLOW_UNSEEN
    simulator = base.kind is ExchangeKind.SIMULATOR
    loaded = (
        None
        if plan_file is None
        else load_fresh_plan(plan_file, desired[0], base.host, expect, simulator=simulator)
    )
    if loaded is not None and no_live and loaded.saved.plan.basis is not Basis.LAST_APPLIED:
        raise UsageError("no-live-plan", "--no-live is only for a plan that was made with it")
    order = ApplyOptions(
        state=state_location(state, config, allow_filesystems),
        base=base,
        lock_timeout_s=lock_timeout,
        live=not no_live,
        assume_idle=assume_idle,
        yes=yes,
        expect=expect if loaded is None else None,
        timeout_s=timeout,
        globs=globs,
        allowed=frozenset(allows),
        reason=reason,
        saved=None if loaded is None else loaded.saved,
        given_up=given_up(no_policy, reason),
    )
    policies = watched_policies(desired, policy_file, out)
    refuse_needless_no_policy(no_policy, policy_file, [watched.policy for watched in policies])
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    if loaded is not None:
        made_at = format_utc(loaded.saved.made_at)
        logs.log("info", "applying a reviewed plan", made_at=made_at, digest=loaded.saved.plan.digest)
    if allows:
        logs.log("warning", "overrides given", allow=[str(each) for each in allows], reason=reason)
    applying = ApplyCommand(desired, policies, order, out)
    asyncio.run(applying.run())
    ctx.exit(applying.report())
