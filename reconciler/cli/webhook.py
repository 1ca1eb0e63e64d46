"""The address of a webhook on the command line; read here, so that only ``run`` pays for reading it."""

from __future__ import annotations

from typing import Any

import click

from reconciler.notify.target import Target, parse_target


class Webhook(click.ParamType[Target]):
    """The address of a webhook; nothing that is said about it repeats it, because it is a secret."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Return the target, or fail as a usage error."""
        if isinstance(value, Target):
            return value
        try:
            return parse_target(str(value))
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)
