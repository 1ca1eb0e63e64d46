"""The flags that several verbs share, each with its environment variable, and the types of their values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.cli.output import current_stderr_style
from reconciler.core.model import Desired, Family
from reconciler.errors import UsageError
from reconciler.store.location import PostgresUrl, StateFile, StateLocation
from reconciler.store.postgres_url import SCHEME, may_be_an_address

if TYPE_CHECKING:
    from reconciler.notify.target import Target
    from reconciler.okx.wire import BaseUrl

DEFAULT_CONFIG = "mmp.yaml"
DEFAULT_BASE_URL = "https://openapi.okx.com"
LOG_LEVELS = ("debug", "info", "warning", "error")

MIN_INTERVAL_S = 1.0
"""Between two live reads of ``run``: OKX allows reading 5 times in 2 s, and others share that."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """A time span such as 500ms, 30s, 5m or 1h; a plain number is seconds. Read into seconds.

    ``least_s``: a shorter one is a usage error.
    """

    name = "duration"

    def __init__(self, *, least_s: float = 0.0) -> None:
        self._least_s = least_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds, or fail as a usage error."""
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is not a time span; write it like 500ms, 30s, 5m or 1h", param, ctx)
        seconds = float(match[1]) * _UNITS[match[2]]
        if seconds < self._least_s:
            self.fail(f"{value!r} is too short: it has to be at least {self._least_s:g}s", param, ctx)
        return seconds


class Webhook(click.ParamType["Target"]):
    """The address of a webhook. No message repeats it, because it is a secret."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Return the target, or fail as a usage error."""
        from reconciler.notify.target import Target, parse_target  # late: only `run` needs it

        if isinstance(value, Target):
            return value
        try:
            return parse_target(str(value))
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


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

state_options = combine(
    click.option(
        "--state",
        envvar="MMP_STATE",
        metavar="PATH|postgresql://…",
        help="State: a file, or a PostgreSQL database. [default: .mmp/state.db beside the first config]",
    ),
    filesystem_option,
    click.option(
        "--lock-timeout",
        type=Duration(),
        default="30s",
        show_default=True,
        help="How long to wait for another process that has locked the state.",
    ),
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


def config_paths(config: tuple[str, ...]) -> tuple[str, ...]:
    """Return the given files and folders, or the default one."""
    return config or (DEFAULT_CONFIG,)


def state_location(
    state: str | None, config: tuple[str, ...], allow_filesystems: Sequence[str] = ()
) -> StateLocation:
    """Return the state location: as given, else ``.mmp/state.db`` beside (or in) the first config."""
    allowed = frozenset(allow_filesystems)
    if state is not None:
        return _named_place(state, allowed)
    first = Path(config_paths(config)[0])
    folder = first if first.is_dir() else first.parent
    return StateFile(folder / ".mmp" / "state.db", allowed)


def _named_place(state: str, allow_filesystems: frozenset[str]) -> StateLocation:
    if state.startswith(f"{SCHEME}://"):
        return PostgresUrl(state)
    if "://" not in state and not may_be_an_address(state):
        return StateFile(Path(state), allow_filesystems)
    raise UsageError(
        "unknown-state",
        f"what --state names is neither the path of a file nor {SCHEME}://…; it is not shown "
        "here, as it may hold a password",
        f"give the path of a file (without : and @), or {SCHEME}://user@host/database",
    )


def parse_exchange_address(text: str, allow_hosts: Sequence[str]) -> BaseUrl:
    """Return the exchange's address, or raise UsageError."""
    from reconciler.okx.wire import parse_base_url

    base = parse_base_url(text, frozenset(allow_hosts))
    current_stderr_style().simulator = base.is_simulator
    return base


NO_FAMILY_HINT = (
    "see the file, or mmp status, for the families there are; put a pattern such as 'BTC-*' in quotes"
)


def matching_families(desired: Desired, globs: tuple[str, ...]) -> frozenset[Family] | None:
    """Return the desired families that match any of ``globs``; None when there are no globs."""
    if not globs:
        return None
    return frozenset(
        family for family in desired.families if any(fnmatchcase(family, glob) for glob in globs)
    )
