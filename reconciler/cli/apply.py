"""``mmp apply``: one pass until everything is settled, then one line and one status per outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from reconciler.cli import flags
from reconciler.cli.flag_types import DURATION, OVERRIDE
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.output import has_terminal
from reconciler.cli.read_files import given_up, read_desired, watched_policies
from reconciler.core.model import Desired
from reconciler.core.plan import Basis
from reconciler.core.policy import Override
from reconciler.core.saved_plan import format_utc
from reconciler.documents.saved_plan_file import load_fresh_plan
from reconciler.errors import Exit, UsageError

if TYPE_CHECKING:
    from reconciler.controller.apply_state import ApplyOptions
    from reconciler.core.saved_plan import SavedPlan
    from reconciler.okx.wire import BaseUrl

ALLOW_UNSEEN = UsageError(
    "allow-unseen",
    "without a prompt, --allow needs --expect DIGEST or a plan file: it applies to one reviewed plan",
    "mmp plan prints the digest, and with each refusal the complete command",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyFlags(CommandOptions):
    """The values of the flags of ``apply``."""

    plan_file: str | None
    expect: str | None
    allows: tuple[Override, ...]
    timeout_s: float | None


@click.command()
@click.argument("plan_file", metavar="[PLAN]", required=False, type=click.Path())
@flags.config_option
@flags.policy_option
@flags.no_policy_option
@flags.state_options
@flags.exchange_options
@flags.family_option
@flags.yes_option
@click.option("--expect", metavar="DIGEST", help="Send nothing unless the plan has this digest.")
@click.option(
    "--allow",
    "allows",
    type=OVERRIDE,
    multiple=True,
    help="Override the policy or guard for one family; may be repeated. Needs --reason, and"
    " without a prompt --expect or PLAN.",
)
@click.option(
    "--reason", metavar="TEXT", help="Reason for --allow or --no-policy; recorded in the history."
)
@flags.pass_options
@click.option("--timeout", "timeout_s", type=DURATION, help="Stop after this time. [default: ETA + 5 min]")
@flags.output_option("text", "json")
@with_options(ApplyFlags)
def apply(options: ApplyFlags) -> Exit:
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
    from reconciler.cli.apply_output import ApplyOutput
    from reconciler.controller.apply_flow import ApplyCommand

    base = options.exchange_address()
    desired = read_desired(options)
    _check_together(options, desired)
    saved = _saved_plan(options, desired, base)
    apply_options = _apply_options(options, base, saved)
    policies = watched_policies(desired, options)
    options.configure_logging()
    if saved is not None:
        made_at = format_utc(saved.made_at)
        logs.log("info", "applying a reviewed plan", made_at=made_at, digest=saved.plan.digest)
    if options.allows:
        allowed = [str(each) for each in options.allows]
        logs.log("warning", "overrides given", allow=allowed, reason=options.reason)
    output = ApplyOutput(apply_options, options.out)
    applying = ApplyCommand(desired, policies, apply_options, output)
    ended = asyncio.run(applying.run())
    return output.report(applying.runs, applying.stop.status) if ended is None else ended


def _apply_options(options: ApplyFlags, base: BaseUrl, saved: SavedPlan | None) -> ApplyOptions:
    from reconciler.controller.apply_state import ApplyOptions

    return ApplyOptions(
        state=options.location(),
        base=base,
        lock_timeout_s=options.lock_timeout_s,
        live=not options.no_live,
        assume_idle=options.assume_idle,
        yes=options.yes,
        expect=options.expect if saved is None else None,
        timeout_s=options.timeout_s,
        globs=options.globs,
        allowed=frozenset(options.allows),
        reason=options.reason,
        saved=saved,
        given_up=given_up(options),
    )


def _check_together(options: ApplyFlags, desired: Sequence[Desired]) -> None:
    """Refuse flags that are about one account beside several, and --allow for a plan that was not seen."""
    reviewed = options.expect is not None or options.plan_file is not None
    about_one = (
        ("--expect", options.expect is not None),
        ("PLAN", options.plan_file is not None),
        ("--allow", bool(options.allows)),
    )
    for flag, given in about_one:
        if given and len(desired) != 1:
            raise UsageError("one-account", f"{flag} requires exactly one account", "name one file with -c")
    if options.allows and not reviewed and (options.yes or not has_terminal()):
        raise ALLOW_UNSEEN


def _saved_plan(options: ApplyFlags, desired: Sequence[Desired], base: BaseUrl) -> SavedPlan | None:
    """Return the plan of PLAN, which must be applicable now; None without PLAN."""
    if options.plan_file is None:
        return None
    saved = load_fresh_plan(
        options.plan_file, desired[0], base.host, options.expect, simulator=base.is_simulator
    ).saved
    if options.no_live and saved.plan.basis is not Basis.LAST_APPLIED:
        raise UsageError("no-live-plan", "--no-live needs a plan that was made with --no-live")
    return saved
