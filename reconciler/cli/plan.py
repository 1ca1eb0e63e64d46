"""``mmp plan``: what apply would do, and when. This path holds no client that can send Set MMP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import doors
from reconciler.cli.options import (
    chosen,
    config_option,
    exchange_options,
    family_option,
    output_option,
    state_options,
    state_path,
)
from reconciler.cli.output import Output
from reconciler.core.plan import Action, Plan, Reason, Rules
from reconciler.errors import Exit, Refused, UsageError

if TYPE_CHECKING:
    from reconciler.core.model import Desired
    from reconciler.okx.wire import BaseUrl

FAIL_ON = ("loosen", "mixed", "disable", "drift", "policy")


class FailOn(click.ParamType[frozenset[str]]):
    """A comma-separated list of the kinds ``--fail-on`` knows."""

    name = "kind,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """Return the kinds, or fail as a usage error."""
        if isinstance(value, frozenset):
            return value
        kinds = frozenset(str(value).split(","))
        unknown = sorted(kinds - set(FAIL_ON))
        if unknown:
            self.fail(f"unknown kind {unknown[0]!r}; the kinds are {', '.join(FAIL_ON)}", param, ctx)
        return kinds


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line of ``plan`` asked for."""

    state: Path
    base: BaseUrl
    live: bool
    globs: tuple[str, ...]


@click.command()
@config_option
@state_options
@exchange_options
@family_option
@click.option("--no-live", is_flag=True, help="Compare with the last applied state alone; needs no key.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there is something to set or held.")
@click.option(
    "--fail-on", type=FailOn(), default=frozenset(), help=f"Exit 3 on any of {', '.join(FAIL_ON)}."
)
@output_option("text", "json")
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    config: tuple[str, ...],
    state: str | None,
    base_url: str,
    allow_hosts: tuple[str, ...],
    globs: tuple[str, ...],
    no_live: bool,
    detailed_exitcode: bool,
    fail_on: frozenset[str],
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
    **_unused: object,
) -> None:
    """Show what apply would do, family by family, in order and with times. Sends nothing.

    Needs a key with Read permission (none with --no-live). Exit status 0 whether or not there are
    changes, unless --detailed-exitcode or --fail-on asks otherwise.

    \b
    Examples:
      mmp plan
      mmp plan --detailed-exitcode --output json
      mmp plan --family 'BTC-*' --fail-on loosen,disable
    """
    from reconciler import logs

    out = Output(output_format, color)
    logs.configure(log_format=log_format, level=log_level, color=out.colored_stderr())
    asked = Question(state_path(state, config), doors.base_url(base_url, allow_hosts), not no_live, globs)
    desired = doors.read_desired(config, out)
    plans = make_plans(desired, asked)
    show_plans(plans, desired, asked.base, out)
    refused = [kind for kind in sorted(fail_on) if any(_is_there(kind, made) for made in plans)]
    if refused:
        raise Refused("fail-on", f"the plan has what --fail-on names: {', '.join(refused)}")
    if detailed_exitcode and any(_changes(made) for made in plans):
        ctx.exit(Exit.CHANGES)


def make_plans(desired: tuple[Desired, ...], asked: Question) -> list[Plan]:
    """Return one plan per account, in the order of the files. Raises MmpError when one cannot be made."""
    import asyncio

    async def gathered() -> list[Plan]:
        return list(await asyncio.gather(*(_plan_one(one, asked) for one in desired)))

    if len({*asked.globs}) and not any(chosen(one, asked.globs) for one in desired):
        raise UsageError("no-family", f"no desired family matches {', '.join(asked.globs)}")
    return asyncio.run(gathered())


def show_plans(plans: list[Plan], desired: tuple[Desired, ...], base: BaseUrl, out: Output) -> None:
    """Write the plans as text or as one document."""
    from reconciler.report.documents import Context, plan_document, several
    from reconciler.report.text import plan_text

    contexts = [Context.of(one, base.host) for one in desired]
    if out.json:
        documents = [plan_document(*pair) for pair in zip(plans, contexts, strict=True)]
        out.document(several("plan", documents))
        return
    texts = [
        plan_text(made, context, simulator=doors.is_simulator(base), paint=out.paint())
        for made, context in zip(plans, contexts, strict=True)
    ]
    out.result("\n".join(texts))


async def _plan_one(desired: Desired, asked: Question) -> Plan:
    from reconciler.clock import SystemClock
    from reconciler.core.verdict import Reply
    from reconciler.reconcile import survey

    clock = SystemClock()
    client = doors.reading_client(desired, asked.base, clock) if asked.live else None
    known, ledger = await doors.on_record(asked.state, desired, asked.base, client, clock)
    paused = frozenset(pause.family for pause in doors.pauses(asked.state, desired, clock))
    made = await survey(
        desired,
        known=known,
        ledger=ledger,
        exchange=client,
        clock=clock,
        rules=Rules(paused=paused, only=chosen(desired, asked.globs)),
    )
    if client is not None:
        doors.warn_of_clock(client)
    if isinstance(made, Reply):
        raise doors.failure("live settings could not be read", made)
    return made


def _is_there(kind: str, made: Plan) -> bool:
    match kind:
        case "drift":
            return any(change.reason is Reason.DRIFTED for change in made.changes)
        case "policy":
            return bool(made.refusals)
        case _:
            return any(change.direction == kind for change in made.changes)


def _changes(made: Plan) -> bool:
    return any(change.action is not Action.ADOPT for change in made.changes)
