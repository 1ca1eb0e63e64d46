"""``mmp simulator``: the simulated exchange as a process of its own, until it is stopped.

This file prints where the exchange is and with which keys, and waits for a signal.
The server and asyncio are imported only when the command runs: other commands must not pay for them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.flags import output_option
from reconciler.cli.output import Output
from reconciler.cli.simulator_options import FamilySpec, simulator_options
from reconciler.errors import MmpError, UsageError
from reconciler.simulator.accounts import SimAccount, fake_account
from reconciler.simulator.behaviour_options import LimitStatus, NumberForm, Options, RateMode
from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.faults import ScriptedFault
from reconciler.simulator.unusual_rows import RowForm

if TYPE_CHECKING:
    import asyncio

    from reconciler.simulator.server import Network


@click.command("simulator")
@simulator_options
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
