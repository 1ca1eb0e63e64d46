"""``mmp reset``: Reset MMP Status of one frozen family. Only a person starts it; nothing else calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from reconciler import factories
from reconciler.cli import flags
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.output import Output, has_terminal
from reconciler.cli.read_files import read_desired
from reconciler.cli.recorded_state import open_recorded_state
from reconciler.core.live_evidence import why_unreadable
from reconciler.core.model import Desired, Family, LiveRow, format_setting, parse_family
from reconciler.core.problems import escape_unprintable
from reconciler.core.reply import Reply, ReplyClass
from reconciler.errors import Exit, MmpError, UsageError
from reconciler.okx.hints import exchange_error

if TYPE_CHECKING:
    from reconciler.okx.retrying_reads import RetryingReads
    from reconciler.okx.wire import BaseUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOptions(CommandOptions):
    """The options of ``reset``."""

    family: str


@click.command()
@click.argument("family")
@flags.config_option
@flags.state_options
@flags.exchange_options
@flags.yes_option
@flags.output_option("text", "json")
@with_options(ResetOptions)
def reset(options: ResetOptions) -> Exit:
    """End the freeze of FAMILY, so that OKX accepts its quotes again. Needs a key with Trade permission.

    Does nothing and exits 0 if the family is not frozen. It changes no setting and restores no quotes.
    Find out first why the family froze. A reset does not count against the rate of Set MMP.

    Failed reads before it are repeated for 30 s. The reset itself is sent once only.

    \b
    Exit status: 0 done or not frozen, 1 the exchange did not do it, 8 account or key (59509: no
    permission to reset), 64 not approved, or an unknown family.

    \b
    Examples:
      mmp reset BTC-USD
      mmp reset BTC-USD --yes --output json
    """
    import asyncio  # late: help texts and usage errors need no event loop

    options.configure_logging()
    family, base = _family(options.family), options.exchange_address()
    desired = read_desired(options)
    if len(desired) != 1:
        raise UsageError("one-account", "mmp reset requires exactly one account", "name one file with -c")
    return asyncio.run(_reset(options, family, base, desired[0]))


async def _reset(options: ResetOptions, family: Family, base: BaseUrl, desired: Desired) -> Exit:
    """Reset the family if it is frozen and that is approved; returns the exit status."""
    from reconciler.clock import SystemClock
    from reconciler.controller.account_preflight import verify_key_owner, warn_of_clock

    clock, location = SystemClock(), options.location()
    client = factories.trading_client(desired, base, clock)
    reads = factories.retrying_reads(client, clock)
    async with open_recorded_state(location, clock) as state:
        store = state.account(desired.account, desired.environment, base.kind) if state else None
        await verify_key_owner(desired, base, reads, store, writing=True)
    warn_of_clock(client)
    row = await _live_row(family, reads)
    if row is None and family not in desired.families:
        where = f"neither {escape_unprintable(desired.path)} nor the exchange has a family {family}"
        raise UsageError("no-family", f"nothing was reset: {where}", "mmp status shows which are frozen")
    if row is None or not row.frozen:
        outcome, text = "not-frozen", f"{family} is not frozen: there is nothing to reset."
    elif not options.yes and not _confirmed(family, row, options.out):
        options.out.info("Nothing was sent.")
        return Exit.FAILED
    elif (error := _error(family, await client.reset(family))) is not None:
        raise error
    else:
        outcome, text = "reset", f"{family} was reset. Its settings did not change. mmp restores no quotes."
    if options.out.json:
        account = {"account": desired.account, "environment": desired.environment.value}
        document = {"format": "mmp/reset/1", **account, "family": family, "outcome": outcome}
        options.out.document(document)
    else:
        options.out.result(f"{'SIMULATOR ' if base.is_simulator else ''}{text}\n")
    return Exit.DONE


async def _live_row(family: Family, reads: RetryingReads) -> LiveRow | None:
    """Return the live row of the family alone; None without one. Raises MmpError if it cannot be read."""
    read = await reads.retry(lambda: reads.read_family(family))
    if isinstance(read, Reply):
        raise exchange_error("live settings could not be read", read)
    why = why_unreadable(family, read)
    if why is None and family not in read.rows and read.nameless:
        why = "it names no family"
    if why is not None:
        raise MmpError("bad-row", f"the live row of {family} cannot be understood: {why}")
    return read.rows.get(family)


def _confirmed(family: Family, row: LiveRow, out: Output) -> bool:
    from reconciler.render.status import frozen_words

    if not has_terminal():
        raise UsageError(
            "not-approved",
            f"{family} is frozen, and there is no terminal to ask on",
            "pass --yes to reset it without being asked",
        )
    out.info(f"{family} is {frozen_words(row)} ({format_setting(row.setting)}).")
    return click.confirm("Do you know why it froze, and should OKX accept its quotes again?", err=True)


def _error(family: Family, result: bool | Reply) -> MmpError | None:
    """Return why the family was not reset, or may not have been; None: it was."""
    if result is True:
        return None
    if result is False:
        return MmpError(
            "reset-refused",
            f"the exchange accepted the request but did not reset {family} (result false)",
            "look at the family at OKX; mmp plan shows whether it is still frozen",
        )
    if result.reply_class in (ReplyClass.NO_ANSWER, ReplyClass.AMBIGUOUS) or result.wrapper is not None:
        return MmpError(
            "reset-unconfirmed",
            f"it is not known whether {family} was reset: {result.message or result.code}",
            "run it again: it first reads whether the family is still frozen",
        )
    return exchange_error(f"{family} was not reset", result)


def _family(text: str) -> Family:
    from reconciler.config.suggest import nearest_family

    try:
        return parse_family(text)
    except ValueError:
        near = nearest_family(text)
        hint = f"did you mean {near}?" if near else "write it as OKX does, such as BTC-USD or SOL-USD_UM"
        raise UsageError("bad-family", f"{text!r} is not an instrument family", hint) from None
