"""The flags that name an account when there is no file yet that names it."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

from reconciler.cli.options import F, combine
from reconciler.core.model import ACCOUNT_PATTERN, Environment


class AccountName(click.ParamType[str]):
    """The user's own name of an account, as the file format accepts it."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as a usage error."""
        if not re.fullmatch(ACCOUNT_PATTERN, str(value), re.ASCII):
            says = "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
            self.fail(f"{value!r} is not an account name: {says}", param, ctx)
        return str(value)


def naming_options(environment: Environment) -> Callable[[F], F]:
    """Return --account and --environment; ``environment`` is the default one."""
    return combine(
        click.option(
            "--account",
            type=AccountName(),
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
