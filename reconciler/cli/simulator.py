"""``mmp simulator``: the simulated exchange as a process of its own, until it is stopped.

This file reads the flags, prints where the exchange is and with which keys, and waits for a signal.
The server and asyncio are imported only when the command runs: other commands must not pay for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Duration, output_option
from reconciler.cli.output import Output
from reconciler.errors import MmpError, UsageError
from reconciler.simulator.accounts import PERMISSIONS, SimAccount, fake_account
from reconciler.simulator.faults import NAMED, SYNTAX, ScriptedFault, parse_fault
from reconciler.simulator.forms import RowForm
from reconciler.simulator.options import LimitStatus, NumberForm, Options, RateMode
from reconciler.simulator.request_parsing import SETTING_FIELDS, MmpSetting, setting_from
from reconciler.simulator.rules import DEFAULT_FAMILIES, SimulatedExchange

if TYPE_CHECKING:
    import asyncio

    from reconciler.simulator.server import Network

MOST_ACCOUNTS = 999
"""The largest account number: a User ID ends with a number of three digits."""

_FAMILY = re.compile(r"[A-Z0-9]+-[A-Z0-9]+(_[A-Z0-9]+)*")


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A family the exchange knows; ``setting`` None: not configured."""

    family: str
    setting: MmpSetting | None


class ParsedParam(click.ParamType[Any]):
    """A flag read by a function of its own; its ValueError is the usage error's text."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value; defaults that are values already stay as they are."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


def parse_family_specs(text: str) -> tuple[FamilySpec, ...]:
    """Return the families of a ``--families`` value; raises ValueError saying which part is wrong."""
    specs = tuple(_family_spec(part) for part in text.split(","))
    names = [spec.family for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"named twice: {', '.join(twice)}")
    return specs


def parse_permissions(text: str) -> tuple[str, ...]:
    """Return the names of a comma list, possibly empty; raises ValueError for one OKX does not have."""
    names = tuple(name for name in text.split(",") if name)
    if unknown := [name for name in names if name not in PERMISSIONS]:
        raise ValueError(f"no such permission: {', '.join(unknown)}; there are {', '.join(PERMISSIONS)}")
    return names


def parse_form(text: str) -> tuple[str, RowForm]:
    """Return the family and form of a ``--row`` value; raises ValueError with what is wrong."""
    family, _, form = text.partition("=")
    if not _FAMILY.fullmatch(family) or form not in tuple(RowForm):
        raise ValueError(f"{text!r}: write FAMILY=FORM; forms are {', '.join(RowForm)}")
    return family, RowForm(form)


def parse_skew(text: str) -> float:
    """Return a duration that may be negative, in seconds."""
    seconds = Duration().convert(text.removeprefix("-"), None, None)
    return -seconds if text.startswith("-") else seconds


def _family_spec(part: str) -> FamilySpec:
    family, equals, values = part.strip().partition("=")
    if not _FAMILY.fullmatch(family):
        raise ValueError(f"not an instrument family: {family!r}; write them as BTC-USD or SOL-USD_UM")
    if not equals:
        return FamilySpec(family, None)
    texts = values.split("/")
    if len(texts) != len(SETTING_FIELDS):
        raise ValueError(f"{family}: write {'/'.join(SETTING_FIELDS)}, as {family}=5000/2000/100")
    try:
        return FamilySpec(family, setting_from(dict(zip(SETTING_FIELDS, texts, strict=True))))
    except ValueError as wrong:
        raise ValueError(f"{family}: {wrong}") from None


@click.command("simulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to serve on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port. Default: a free one.")
@click.option(
    "--families",
    type=ParsedParam("families", parse_family_specs),
    default=tuple(FamilySpec(family, None) for family in DEFAULT_FAMILIES),
    metavar="FAMILY[=TIME/FROZEN/QTY],…",
    help="Known families; those with a '=' are configured. Default: the option families of 2026.",
)
@click.option(
    "--environment",
    type=click.Choice(("live", "demo")),
    default="live",
    show_default=True,
    help="Environment of the account and its key.",
)
@click.option(
    "--rate",
    type=click.Choice([mode.value for mode in RateMode]),
    default=RateMode.SLIDING.value,
    show_default=True,
    help="How 2 requests per 10 s are counted; no-burst: 5 s apart.",
)
@click.option(
    "--limit-status",
    type=click.Choice([status.value for status in LimitStatus]),
    default=LimitStatus.ALTERNATE.value,
    show_default=True,
    help="HTTP status of a 50011.",
)
@click.option(
    "--read-delay", type=Duration(), default=0.0, metavar="DURATION", help="How late reads show a write."
)
@click.option(
    "--missing-when-disabled/--list-disabled",
    default=False,
    help="Whether reads omit disabled families. Default: they list them.",
)
@click.option("--list-unconfigured", is_flag=True, help="Reads list never-configured families, as zeroes.")
@click.option("--decimals", is_flag=True, help='Return "100" as "100.0".')
@click.option("--set-unfreezes", is_flag=True, help="A Set on a frozen family unfreezes it.")
@click.option(
    "--latency", type=Duration(), default=0.0, metavar="DURATION", help="Round trip of the network."
)
@click.option(
    "--jitter", type=Duration(), default=0.0, metavar="DURATION", help="Longest random delay each way."
)
@click.option("--seed", type=int, default=0, help="Seed of the jitter.")
@click.option(
    "--clock-skew",
    type=ParsedParam("duration", parse_skew),
    default=0.0,
    metavar="DURATION",
    help="How far its clock is ahead; negative: behind.",
)
@click.option(
    "--permissions",
    type=ParsedParam("permissions", parse_permissions),
    default="read_only,trade",
    show_default=True,
    help="Permissions of the key.",
)
@click.option(
    "--account-level",
    type=click.Choice(("1", "2", "3", "4")),
    default="4",
    show_default=True,
    help="acctLv; 4 is portfolio margin.",
)
@click.option("--no-privilege", is_flag=True, help="The account has no MMP privilege.")
@click.option(
    "--accounts",
    type=click.IntRange(1, MOST_ACCOUNTS),
    default=1,
    show_default=True,
    help="Number of accounts. Account N has the User ID 999000000000 + N and the keys simulator-key-N,"
    " simulator-secret-N, simulator-passphrase-N.",
)
@click.option(
    "--fault",
    "faults",
    type=ParsedParam("fault", parse_fault),
    multiple=True,
    metavar=SYNTAX,
    help="Make requests fail, in this order. KIND is a code of OKX, wrapped-CODE, or one of:"
    f" {', '.join(NAMED)}. Repeatable.",
)
@click.option(
    "--row",
    "forms",
    type=ParsedParam("row", parse_form),
    multiple=True,
    metavar="FAMILY=FORM",
    help=f"Write a family's row in an unusual form: {', '.join(RowForm)}. Repeatable.",
)
@output_option("text", "json")
def simulator(
    *,
    host: str,
    port: int,
    families: Sequence[FamilySpec],
    faults: Sequence[ScriptedFault],
    forms: Sequence[tuple[str, RowForm]],
    output_format: str,
    **flags: Any,
) -> None:
    """Run the simulated exchange on loopback until stopped.

    Prints its address and keys as shell commands, and answers like a strict OKX. It serves this machine
    only. Documentation: docs/simulator.md.

    \b
    Example:
      mmp simulator --families BTC-USD=5000/2000/100,ETH-USD > simulator.env &
      sleep 1; . ./simulator.env; mmp plan
    """
    from reconciler.simulator.server import LOOPBACK, Network

    if host not in LOOPBACK:
        raise UsageError(
            "simulator-host", f"the simulator serves loopback only, not {host}", f"use {LOOPBACK[0]}"
        )
    account, *others = [
        fake_account(
            number,
            environment=flags["environment"],
            level=flags["account_level"],
            mmp_privilege=not flags["no_privilege"],
            permissions=flags["permissions"],
        )
        for number in range(1, flags["accounts"] + 1)
    ]
    exchange = build_exchange(account, families, faults, _options(flags))
    for other in others:
        exchange.put_account(other)
        _configure(exchange, other, families)
    for family, form in forms:
        exchange.set_form(family, form)
    network = Network(flags["latency"], flags["jitter"], flags["seed"])
    _run(exchange, account, host=host, port=port, network=network, out=Output(output_format))


def build_exchange(
    account: SimAccount, families: Sequence[FamilySpec], faults: Sequence[ScriptedFault], options: Options
) -> SimulatedExchange:
    """Return an exchange with one account, its families as given, and the faults queued."""
    exchange = SimulatedExchange([account], families=[spec.family for spec in families], options=options)
    _configure(exchange, account, families)
    for fault in faults:
        exchange.inject(fault)
    return exchange


def _configure(exchange: SimulatedExchange, account: SimAccount, families: Sequence[FamilySpec]) -> None:
    for spec in families:
        if spec.setting is not None:
            exchange.seed_setting(account.uid, spec.family, spec.setting)


def environment_variables(account: SimAccount, url: str) -> dict[str, str]:
    """Return the variables that point ``mmp`` at the simulator."""
    key = account.keys[0]
    return {
        "MMP_BASE_URL": url,
        "OKX_API_KEY": key.key_id,
        "OKX_SECRET_KEY": key.secret,
        "OKX_PASSPHRASE": key.passphrase,
    }


def announcement(account: SimAccount, url: str, output: str) -> str:
    """Return the output once the simulator listens: shell commands, or one line of JSON."""
    variables = environment_variables(account, url)
    if output == "json":
        document = {
            "format": "mmp/simulator/1",
            "url": url,
            "control": f"{url}/_control",
            "environment": account.environment,
            "uid": account.uid,
            "variables": variables,
        }
        return json.dumps(document)
    exports = [f"export {name}={value}" for name, value in variables.items()]
    return "\n".join(
        (
            "# SIMULATOR: this is the simulated exchange, not OKX; it runs until stopped",
            f"# environment {account.environment}, uid {account.uid}, control {url}/_control/",
            *exports,
        )
    )


def _options(flags: dict[str, Any]) -> Options:
    return Options(
        rate=RateMode(flags["rate"]),
        limit_status=LimitStatus(flags["limit_status"]),
        read_delay_s=flags["read_delay"],
        list_disabled=not flags["missing_when_disabled"],
        list_unconfigured=flags["list_unconfigured"],
        numbers=NumberForm.DECIMAL if flags["decimals"] else NumberForm.AS_SENT,
        set_unfreezes=flags["set_unfreezes"],
        clock_skew_s=flags["clock_skew"],
    )


def _run(
    exchange: SimulatedExchange, account: SimAccount, *, host: str, port: int, network: Network, out: Output
) -> None:
    import asyncio

    async def serve() -> None:
        from reconciler.simulator.server import running_simulator

        stopped = asyncio.Event()
        _stop_on_signals(asyncio.get_running_loop(), stopped)
        async with running_simulator(exchange, host=host, port=port, network=network) as url:
            out.result(announcement(account, url, out.format) + "\n")
            await stopped.wait()

    try:
        asyncio.run(serve())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MmpError(
            "simulator-address",
            f"cannot listen on {host}:{port}: {error.strerror}",
            "choose another --port",
        ) from None


def _stop_on_signals(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
