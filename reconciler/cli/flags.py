"""The flags that several commands share, each with its environment variable."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from reconciler.cli.flag_types import ACCOUNT_NAME, DURATION, POLICY_HASH
from reconciler.core.model import Environment

DEFAULT_CONFIG = "mmp.yaml"
DEFAULT_BASE_URL = "https://openapi.okx.com"
LOG_LEVELS = ("debug", "info", "warning", "error")

F = TypeVar("F", bound=Callable[..., Any])


def combine(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that applies ``options`` in reading order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


config_option = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(),
    multiple=True,
    envvar="MMP_CONFIG",
    help="Settings file or folder; may be repeated (several in MMP_CONFIG: with"
    f" {os.pathsep!r} between). [default: {DEFAULT_CONFIG}]",
)

policy_option = click.option(
    "--policy",
    "policy_file",
    envvar="MMP_POLICY",
    type=click.Path(),
    help="Policy file. [default: mmp-policy.yaml beside the config, if it exists]",
)


filesystem_option = click.option(
    "--allow-filesystem",
    "allow_filesystems",
    multiple=True,
    metavar="TYPE",
    help="Also accept a state file on this type of file system; may be repeated.",
)

lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_timeout_s",
    type=DURATION,
    default="30s",
    show_default=True,
    help="How long to wait for another process that has locked the state.",
)

state_options = combine(
    click.option(
        "--state",
        envvar="MMP_STATE",
        metavar="PATH|postgresql://…",
        help="State: a file, or a PostgreSQL database. [default: .mmp/state.db beside the first config]",
    ),
    filesystem_option,
    lock_timeout_option,
)

exchange_options = combine(
    click.option(
        "--base-url",
        envvar="MMP_BASE_URL",
        default=DEFAULT_BASE_URL,
        show_default=True,
        help="The exchange. Plain http: loopback only, for the simulator.",
    ),
    click.option(
        "--allow-host",
        "allow_hosts",
        multiple=True,
        metavar="NAME",
        help="Also accept this https host; may be repeated.",
    ),
)

family_option = click.option(
    "--family",
    "globs",
    multiple=True,
    metavar="GLOB",
    help="Only families that match, such as 'BTC-*'; may be repeated.",
)


required_family_option = click.option(
    "--family",
    "globs",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="Families that match, such as 'BTC-*'; may be repeated.",
)

yes_option = click.option("--yes", is_flag=True, help="Do not ask; needed without a terminal.")

no_policy_option = click.option(
    "--no-policy",
    type=POLICY_HASH,
    metavar="SHA256",
    help="Give up the policy on record whose file is missing: its hash, at least 12 digits.",
)

pass_options = combine(
    click.option("--assume-idle", is_flag=True, help="Do not wait 10 s if the history is unknown."),
    click.option("--no-live", is_flag=True, help="Compare with the last applied settings only."),
)


def naming_options(environment: Environment) -> Callable[[F], F]:
    """Return --account and --environment, for a file to be written; ``environment`` is the default one."""
    return combine(
        click.option(
            "--account",
            type=ACCOUNT_NAME,
            default="main",
            show_default=True,
            help="Your own name for the account.",
        ),
        click.option(
            "--environment",
            type=click.Choice([one.value for one in Environment]),
            default=environment.value,
            show_default=True,
            help="OKX's environment.",
        ),
    )


def output_option(*formats: str) -> Callable[[F], F]:
    """Return the --output and --color options; the first format is the default."""
    return combine(
        click.option(
            "--output",
            "output_format",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="How results are written to stdout.",
        ),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="Colour; auto obeys NO_COLOR and FORCE_COLOR.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["console", "json"]),
            envvar="MMP_LOG_FORMAT",
            help="Log lines on stderr. [default: console on a terminal, json elsewhere]",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LOG_LEVELS),
            default="info",
            show_default=True,
            help="Lowest level of log lines to write.",
        ),
    )
