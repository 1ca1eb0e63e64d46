"""``mmp run``: the loop, one per account, until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli.no_policy import given_up, no_policy_option, refuse_needless_no_policy
from reconciler.cli.options import (
    MIN_INTERVAL_S,
    Duration,
    Webhook,
    config_option,
    config_paths,
    exchange_options,
    output_option,
    parse_exchange_address,
    policy_option,
    state_location,
    state_options,
)
from reconciler.cli.output import Output
from reconciler.cli.read_files import print_warnings, read_desired, read_policy_files, read_present
from reconciler.core.target import DriftPolicy
from reconciler.errors import UsageError
from reconciler.web.request_filter import Listen, parse_listen

if TYPE_CHECKING:
    from reconciler.controller.run_options import RunOptions
    from reconciler.notify.target import Target
    from reconciler.observer_port import AccountObserver

SWITCH_INTERVAL_S = 0.0001
"""How long a thread may run Python while another waits, beside ``--listen``; 5 ms by default. A send
waits this long some twenty times, and the HTTP server some five times for each connection: with 5 ms a
send was 40 to 50 ms late beside the rendering of 10,000 families."""


@click.command()
@config_option
@policy_option
@no_policy_option
@click.option("--reason", metavar="TEXT", help="Reason for --no-policy; recorded in the history.")
@state_options
@exchange_options
@click.option(
    "--interval",
    type=Duration(least_s=MIN_INTERVAL_S),
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
@click.option("--assume-idle", is_flag=True, help="Do not wait 10 s if the history is unknown.")
@click.option("--no-live", is_flag=True, help="Compare with the last applied settings only.")
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
    type=Webhook(),
    multiple=True,
    metavar="URL",
    envvar="MMP_NOTIFY",
    help="Post notifications there as JSON; may be repeated. The address is a secret: better use"
    " MMP_NOTIFY (several: with blanks between).",
)
@output_option("text", "json")
def run(
    config: tuple[str, ...],
    policy_file: str | None,
    no_policy: str | None,
    reason: str | None,
    state: str | None,
    allow_filesystems: tuple[str, ...],
    lock_timeout: float,
    base_url: str,
    allow_hosts: tuple[str, ...],
    interval: float,
    drift: str,
    missing: str,
    assume_idle: bool,
    no_live: bool,
    listen: str | None,
    listen_names: tuple[str, ...],
    targets: tuple[Target, ...],
    output_format: str,
    color: str,
    log_format: str | None,
    log_level: str,
) -> None:
    """Keep live settings equal to the file: apply file changes and restore drift, until SIGTERM.

    An invalid new file is rejected and logged; the last valid version stays in use. Changes that the
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
    from reconciler.controller.run_options import RunOptions
    from reconciler.controller.supervisor import Supervisor

    out = Output(output_format, color)
    listen_at = _listen(listen, listen_names)
    options = RunOptions(
        config=config_paths(config),
        policy_file=policy_file,
        state=state_location(state, config, allow_filesystems),
        base=parse_exchange_address(base_url, allow_hosts),
        lock_timeout_s=lock_timeout,
        interval_s=interval,
        drift=DriftPolicy(drift),
        assume_idle=assume_idle,
        live=not no_live,
        given_up=given_up(no_policy, reason),
    )
    read = read_present if missing == "wait" else read_desired
    desired = read(config, out)
    policies = read_policy_files(desired, policy_file)
    refuse_needless_no_policy(no_policy, policy_file, policies)
    print_warnings([reading for reading in policies if reading and reading.policy], out)
    logs.configure_logging(log_format=log_format, level=log_level, color=out.colored_stderr())
    observers = _observers(listen_at, targets, options)
    asyncio.run(Supervisor(desired, policies, options, observers).run())
    logs.log("info", "stopped")


def _observers(
    listen: Listen | None, targets: Sequence[Target], options: RunOptions
) -> list[AccountObserver]:
    """Return the observers that the command line requests; what they need is imported only then."""
    from reconciler.clock import SystemClock
    from reconciler.okx.hints import hint_for, hint_for_code

    observers: list[AccountObserver] = []
    clock, interval_s = SystemClock(), options.interval_s
    if listen is not None:
        from reconciler.web.observer import HttpObserver

        sys.setswitchinterval(SWITCH_INTERVAL_S)
        observers.append(
            HttpObserver(listen, interval_s=interval_s, clock=clock, hint_for_code=hint_for_code)
        )
    if targets:
        from reconciler.notify.observer import WebhookObserver

        observers.append(
            WebhookObserver(
                targets,
                host=options.base.host,
                simulator=options.base.is_simulator,
                interval_s=interval_s,
                clock=clock,
                hint_for=hint_for,
            )
        )
    return observers


def _listen(text: str | None, names: tuple[str, ...]) -> Listen | None:
    """Return where to listen; None if it was not requested. Raises UsageError."""
    if text is not None:
        return parse_listen(text, names)
    if names:
        raise UsageError("listen-address", "--listen-name is of use with --listen only", "add --listen")
    return None
