"""The options of a command: the values of all its flags as one value, see ``with_options``.

A command with flags of its own adds fields to ``CommandOptions``. The flags are in ``flags``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.cli.flags import DEFAULT_BASE_URL, DEFAULT_CONFIG
from reconciler.cli.output import Output, current_stderr_style
from reconciler.errors import UsageError
from reconciler.store.location import SCHEME, PostgresUrl, StateFile, StateLocation, may_be_an_address

if TYPE_CHECKING:
    from reconciler.okx.wire import BaseUrl

OptionsT = TypeVar("OptionsT", bound="CommandOptions")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOptions:
    """The values of the flags that several commands share; a command without a flag has its default.

    A value that may contain a password is left out where the options are printed.
    """

    config: tuple[str, ...] = ()
    policy_file: str | None = None
    no_policy: str | None = None
    reason: str | None = None
    state: str | None = field(default=None, repr=False)
    allow_filesystems: tuple[str, ...] = ()
    lock_timeout_s: float = 0.0
    base_url: str = DEFAULT_BASE_URL
    allow_hosts: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    assume_idle: bool = False
    no_live: bool = False
    yes: bool = False
    output_format: str = "text"
    color: str = "auto"
    log_format: str | None = None
    log_level: str = "info"

    @property
    def paths(self) -> tuple[str, ...]:
        """The given settings files and folders, or the default one."""
        return self.config or (DEFAULT_CONFIG,)

    @property
    def out(self) -> Output:
        """Where results and messages are written."""
        return Output(self.output_format, self.color)

    def location(self) -> StateLocation:
        """Return the location of the state, or raise UsageError."""
        return state_location(self.state, self.config, self.allow_filesystems)

    def exchange_address(self) -> BaseUrl:
        """Return the exchange's address, or raise UsageError."""
        from reconciler.okx.wire import parse_base_url

        base = parse_base_url(self.base_url, frozenset(self.allow_hosts))
        current_stderr_style().simulator = base.is_simulator
        return base

    def configure_logging(self) -> None:
        """Log to stderr as requested from now on."""
        from reconciler import logs

        color = self.out.colored_stderr()
        logs.configure_logging(log_format=self.log_format, level=self.log_level, color=color)


def with_options(kind: type[OptionsT]) -> Callable[[Callable[[OptionsT], ResultT]], Callable[..., ResultT]]:
    """Return a decorator of a command that takes the values of all its parameters as one ``kind``."""

    def decorate(command: Callable[[OptionsT], ResultT]) -> Callable[..., ResultT]:
        @wraps(command)
        def called_by_click(**values: Any) -> ResultT:
            options = kind(**values)
            options.location()  # a flag that cannot be used comes before any problem of a file
            return command(options)

        return called_by_click

    return decorate


def state_location(
    state: str | None, config: tuple[str, ...], allow_filesystems: Sequence[str] = ()
) -> StateLocation:
    """Return the state location: as given, else ``.mmp/state.db`` beside (or in) the first config."""
    allowed = frozenset(allow_filesystems)
    if state is not None:
        return _named_location(state, allowed)
    first = Path(config[0] if config else DEFAULT_CONFIG)
    # os.path.isdir: Path.is_dir raises for a path that this user may not reach.
    folder = first if os.path.isdir(first) else first.parent
    return StateFile(folder / ".mmp" / "state.db", allowed)


def _named_location(state: str, allow_filesystems: frozenset[str]) -> StateLocation:
    if state.startswith(f"{SCHEME}://"):
        return PostgresUrl(state)
    if "://" not in state and not may_be_an_address(state):
        return StateFile(Path(state), allow_filesystems)
    raise UsageError(
        "unknown-state",
        f"the value of --state is neither the path of a file nor {SCHEME}://…; it is not "
        "printed, because it may contain a password",
        f"give the path of a file (without : and @), or {SCHEME}://user@host/database",
    )
