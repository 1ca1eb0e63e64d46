"""``mmp run``: the loop, one per account, until SIGTERM."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from reconciler.cli import flags
from reconciler.cli.flag_types import WEBHOOK, duration
from reconciler.cli.options import CommandOptions, with_options
from reconciler.cli.read_files import (
    given_up,
    print_warnings,
    read_desired,
    read_policy_files,
    read_present,
)
from reconciler.core.drift_resolution import DriftPolicy
from reconciler.errors import UsageError
from reconciler.web.request_filter import Listen, parse_listen

if TYPE_CHECKING:
    from reconciler.notify.webhook_address import WebhookAddress
    from reconciler.observer_port import AccountObserver
    from reconciler.okx.wire import BaseUrl

MIN_INTERVAL_S = 1.0
"""Between two live reads: OKX allows reading 5 times in 2 s, and others share that."""

SWITCH_INTERVAL_S = 0.0001
"""How long a thread may run Python while another waits, beside ``--listen``; 5 ms by default. A send
waits this long some twenty times, and the HTTP server some five times for each connection: with 5 ms a
send was 40 to 50 ms late beside the rendering of 10,000 families."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags(CommandOptions):
    """The values of the flags of ``run``."""

    interval: float
    drift: str
    missing: str
    listen: str | None
    listen_names: tuple[str, ...]
    targets: tuple[WebhookAddress, ...]

    @property
    def listen_at(self) -> Listen | None:
        """Where to listen; None if it was not requested. Raises UsageError."""
        if self.listen is not None:
            return parse_listen(self.listen, self.listen_names)
        if self.listen_names:
            raise UsageError("listen-address", "--listen-name requires --listen", "add --listen")
        return None


@click.command()
@flags.config_option
@flags.policy_option
@flags.no_policy_option
@click.option("--reason", metavar="TEXT", help="Reason for --no-policy; recorded in the history.")
@flags.state_options
@flags.exchange_options
@click.option(
    "--interval",
    type=duration(least_s=MIN_INTERVAL_S),
    default="30s",
    show_default=True,
    help="Time between two live reads.",
)
@click.option(
    "--drift",
    type=click.Choice([policy.value for policy in DriftPolicy]),
    default=DriftPolicy.HEAL_LOOSENED.value,
    show_default=True,
    help="Which drift to restore: what became looser, everything, or nothing.",
)
@click.option(
    "--missing",
    type=click.Choice(["wait", "exit"]),
    default="wait",
    show_default=True,
    help="If there is no file at the start: wait for it, or exit 4.",
)
@flags.pass_options
@click.option(
    "--listen",
    metavar="HOST:PORT",
    envvar="MMP_LISTEN",
    help="Serve probes, metrics and status. Without host: loopback; port 0: any free port. [default: off]",
)
@click.option(
    "--listen-name",
    "listen_names",
    multiple=True,
    metavar="NAME",
    help="Accept requests for this host name too; may be repeated.",
)
@click.option(
    "--notify",
    "targets",
    type=WEBHOOK,
    multiple=True,
    metavar="URL",
    envvar="MMP_NOTIFY",
    help="Post notifications to this address as JSON; may be repeated. The address is a secret:"
    " prefer MMP_NOTIFY (several addresses: separated by blanks).",
)
@flags.output_option("text", "json")
@with_options(RunFlags)
def run(options: RunFlags) -> None:
    """Keep live settings equal to the file: apply file changes and restore drift, until SIGTERM.

    An invalid new file is logged and not used; the last valid version stays in use. Changes that the
    policy refuses are held; the others are sent. While the policy cannot be read, changes that loosen
    or disable are held. Key files are watched too: a replaced key is used from the next request on.
    SIGHUP reads all files again. After an outage run continues by itself. SIGTERM and SIGINT settle
    the request in flight and exit 0.

    \b
    Examples:
      mmp run
      mmp run -c accounts/ --interval 10s --drift warn
      mmp run --listen 127.0.0.1:9464
    """
    import asyncio  # late: help texts and usage errors need no event loop

    from reconciler import logs
    from reconciler.controller.run_context import RunOptions
    from reconciler.controller.run_process import RunProcess

    listen_at = options.listen_at
    run_options = RunOptions(
        config=options.paths,
        policy_file=options.policy_file,
        state=options.location(),
        base=options.exchange_address(),
        lock_timeout_s=options.lock_timeout_s,
        interval_s=options.interval,
        drift=DriftPolicy(options.drift),
        assume_idle=options.assume_idle,
        live=not options.no_live,
        given_up=given_up(options),
    )
    read = read_present if options.missing == "wait" else read_desired
    desired = read(options)
    policies = read_policy_files(desired, options)
    print_warnings([reading for reading in policies if reading and reading.policy], options.out)
    options.configure_logging()
    observers = _observers(options, listen_at, run_options.base)
    asyncio.run(RunProcess(desired, policies, run_options, observers).run())
    logs.log("info", "stopped")


def _observers(options: RunFlags, listen_at: Listen | None, base: BaseUrl) -> list[AccountObserver]:
    """Return the observers that the command line requests; what they need is imported only then."""
    from reconciler.clock import SystemClock
    from reconciler.okx.hints import hint_for, hint_for_code

    observers: list[AccountObserver] = []
    clock, interval_s = SystemClock(), options.interval
    if listen_at is not None:
        from reconciler.web.observer import HttpObserver

        sys.setswitchinterval(SWITCH_INTERVAL_S)
        observers.append(
            HttpObserver(listen_at, interval_s=interval_s, clock=clock, hint_for_code=hint_for_code)
        )
    if options.targets:
        from reconciler.notify.observer import WebhookObserver

        observers.append(
            WebhookObserver(
                options.targets,
                host=base.host,
                simulator=base.is_simulator,
                interval_s=interval_s,
                clock=clock,
                hint_for=hint_for,
            )
        )
    return observers
