"""The types of the values of flags; a value that cannot be read is a usage error."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from reconciler.core.missing_policy import parse_sha256
from reconciler.core.model import ACCOUNT_PATTERN, parse_family
from reconciler.core.policy import Override, RefusalKind

if TYPE_CHECKING:
    from reconciler.notify.webhook_address import WebhookAddress

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


class Parsed(click.ParamType[T]):
    """A value that ``parse`` returns for the text of a flag, or raises ValueError with the message."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """Return the value, or fail as a usage error."""
        if not isinstance(value, str):
            return cast(T, value)  # click also passes values that were converted before
        try:
            return self._parse(value)
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


def duration(*, least_s: float) -> Parsed[float]:
    """Return the type of a time span of at least ``least_s`` seconds."""
    return Parsed("duration", partial(_seconds, least_s=least_s))


def _seconds(text: str, *, least_s: float) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is not a time span; write it like 500ms, 30s, 5m or 1h")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds < least_s:
        raise ValueError(f"{text!r} is too short: it must be at least {least_s:g}s")
    return seconds


def _account_name(text: str) -> str:
    if not re.fullmatch(ACCOUNT_PATTERN, text, re.ASCII):
        rule = "1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        raise ValueError(f"{text!r} is not an account name: {rule}")
    return text


def _policy_hash(text: str) -> str:
    try:
        return parse_sha256(text)
    except ValueError as wrong:
        raise ValueError(f"{text!r} does not name a policy by its sha256: {wrong}") from None


def _override(text: str) -> Override:
    kind, _, family = text.partition(":")
    try:
        return Override(RefusalKind(kind), parse_family(family))
    except ValueError:
        kinds = ", ".join(RefusalKind)
        raise ValueError(f"{text!r} is not KIND:FAMILY with KIND one of {kinds}") from None


def _webhook(text: str) -> WebhookAddress:
    from reconciler.notify.webhook_address import parse_target  # late: only `run` needs it

    return parse_target(text)


DURATION = duration(least_s=0.0)
"""A time span such as 500ms, 30s, 5m or 1h, in seconds; a plain number is seconds."""

ACCOUNT_NAME = Parsed("name", _account_name)
"""The user's own name of an account, as the file format accepts it."""

POLICY_HASH = Parsed("SHA256", _policy_hash)
"""The sha256 of a policy, or its first digits, in lower case."""

OVERRIDE = Parsed("KIND:FAMILY", _override)
"""One override of a policy or guard, for one family."""

WEBHOOK = Parsed("url", _webhook)
"""The address of a webhook. No message repeats it, because it is a secret."""
