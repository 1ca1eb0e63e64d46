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
from reconciler.core.model import Desired, Family, LiveRow, parse_family
from reconciler.core.problems import escape_unprintable
from reconciler.errors import Exit, MmpError, UsageError
from reconciler.okx.hints import exchange_error

if TYPE_CHECKING:
    from reconciler.core.reply import Reply
    from reconciler.okx.client import OkxTradingClient
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
    desired = _the_one(read_desired(options))
    return asyncio.run(ResetCommand(options, family, base, desired).run())


class ResetCommand:
    """One reset: read, ask, send once, report."""

    def __init__(self, options: ResetOptions, family: Family, base: BaseUrl, desired: Desired) -> None:
        self.state = options.location()
        self.approved = options.yes
        self.out: Output = options.out
        self.family = family
        self.base = base
        self.desired = desired

    async def run(self) -> Exit:
        """Reset the family if it is frozen and that is approved; returns the exit status."""
        client, reads = await self._identified()
        row = await self._row(reads)
        if row is None and self.family not in self.desired.families:
            raise self._nobody_knows()
        if row is None or not row.frozen:
            self._tell("not-frozen", f"{self.family} is not frozen: there is nothing to reset.")
            return Exit.DONE
        if not self._approve(row):
            self.out.info("Nothing was sent.")
            return Exit.FAILED
        self._judge(await client.reset(self.family))
        self._tell(
            "reset", f"{self.family} was reset. Its settings did not change. mmp restores no quotes."
        )
        return Exit.DONE

    async def _identified(self) -> tuple[OkxTradingClient, RetryingReads]:
        from reconciler.clock import SystemClock
        from reconciler.controller.identify import verify_key_owner, warn_of_clock

        clock = SystemClock()
        client = factories.trading_client(self.desired, self.base, clock)
        reads = factories.retrying_reads(client, clock)
        async with open_recorded_state(self.state, clock) as state:
            account, environment = self.desired.account, self.desired.environment
            store = state.account(account, environment, self.base.kind) if state else None
            await verify_key_owner(self.desired, self.base, reads, store, writing=True)
        warn_of_clock(client)
        return client, reads

    async def _row(self, reads: RetryingReads) -> LiveRow | None:
        from reconciler.core.evidence import why_unreadable
        from reconciler.core.reply import Reply

        read = await reads.retry(lambda: reads.read_family(self.family))
        if isinstance(read, Reply):
            raise exchange_error("live settings could not be read", read)
        why = why_unreadable(self.family, read)
        if why is None and self.family not in read.rows and read.nameless:
            why = "it names no family"
        if why is not None:
            raise MmpError("bad-row", f"the live row of {self.family} cannot be understood: {why}")
        return read.rows.get(self.family)

    def _nobody_knows(self) -> UsageError:
        """Return why a name is probably a typing error: neither the file nor the exchange has it."""
        where = (
            f"neither {escape_unprintable(self.desired.path)} nor the exchange has a family {self.family}"
        )
        return UsageError("no-family", f"nothing was reset: {where}", "mmp status shows which are frozen")

    def _approve(self, row: LiveRow) -> bool:
        from reconciler.core.model import format_setting
        from reconciler.render.status import frozen_words

        if self.approved:
            return True
        if not has_terminal():
            raise UsageError(
                "not-approved",
                f"{self.family} is frozen, and there is no terminal to ask on",
                "pass --yes to reset it without being asked",
            )
        self.out.info(f"{self.family} is {frozen_words(row)} ({format_setting(row.setting)}).")
        return click.confirm("Do you know why it froze, and should OKX accept its quotes again?", err=True)

    def _judge(self, result: bool | Reply) -> None:
        if result is True:
            return
        if result is False:
            raise MmpError(
                "reset-refused",
                f"the exchange accepted the request but did not reset {self.family} (result false)",
                "look at the family at OKX; mmp plan shows whether it is still frozen",
            )
        raise self._unconfirmed(result)

    def _unconfirmed(self, reply: Reply) -> MmpError:
        from reconciler.core.reply import ReplyClass

        unknown = reply.reply_class in (ReplyClass.NO_ANSWER, ReplyClass.AMBIGUOUS)
        if unknown or reply.wrapper is not None:
            return MmpError(
                "reset-unconfirmed",
                f"it is not known whether {self.family} was reset: {reply.message or reply.code}",
                "run it again: it first reads whether the family is still frozen",
            )
        return exchange_error(f"{self.family} was not reset", reply)

    def _tell(self, outcome: str, text: str) -> None:
        if not self.out.json:
            simulator = "SIMULATOR " if self.base.is_simulator else ""
            self.out.result(f"{simulator}{text}\n")
            return
        self.out.document(
            {
                "format": "mmp/reset/1",
                "account": self.desired.account,
                "environment": self.desired.environment.value,
                "family": self.family,
                "outcome": outcome,
            }
        )


def _family(text: str) -> Family:
    from reconciler.config.suggest import nearest_family

    try:
        return parse_family(text)
    except ValueError:
        near = nearest_family(text)
        hint = f"did you mean {near}?" if near else "write it as OKX does, such as BTC-USD or SOL-USD_UM"
        raise UsageError("bad-family", f"{text!r} is not an instrument family", hint) from None


def _the_one(desired: tuple[Desired, ...]) -> Desired:
    if len(desired) != 1:
        raise UsageError("one-account", "mmp reset requires exactly one account", "name one file with -c")
    return desired[0]
