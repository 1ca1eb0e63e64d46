"""The options of ``mmp simulator``: what each may be, and how it is parsed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click

from reconciler.cli.flag_types import DURATION, Parsed
from reconciler.cli.flags import combine
from reconciler.core.model import FAMILY_PATTERN
from reconciler.simulator.accounts import PERMISSIONS
from reconciler.simulator.behaviour_options import LimitStatus, RateMode
from reconciler.simulator.exchange import DEFAULT_FAMILIES
from reconciler.simulator.faults import NAMED, SYNTAX, parse_fault
from reconciler.simulator.request_parsing import SETTING_FIELDS, MmpSetting, setting_from
from reconciler.simulator.unusual_rows import RowForm

MOST_ACCOUNTS = 999
"""The largest account number: a User ID ends with a number of three digits."""

_FAMILY = re.compile(FAMILY_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A family the exchange knows; ``setting`` None: not configured."""

    family: str
    setting: MmpSetting | None


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
    seconds = DURATION.convert(text.removeprefix("-"), None, None)
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


simulator_options = combine(
    click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to serve on."),
    click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port. Default: a free one."),
    click.option(
        "--families",
        type=Parsed("families", parse_family_specs),
        default=tuple(FamilySpec(family, None) for family in DEFAULT_FAMILIES),
        metavar="FAMILY[=TIME/FROZEN/QTY],…",
        help="Known families; those with a '=' are configured. Default: the option families of 2026.",
    ),
    click.option(
        "--environment",
        type=click.Choice(("live", "demo")),
        default="live",
        show_default=True,
        help="Environment of the account and its key.",
    ),
    click.option(
        "--rate",
        type=click.Choice([mode.value for mode in RateMode]),
        default=RateMode.SLIDING.value,
        show_default=True,
        help="How 2 requests per 10 s are counted; no-burst: 5 s apart.",
    ),
    click.option(
        "--limit-status",
        type=click.Choice([status.value for status in LimitStatus]),
        default=LimitStatus.ALTERNATE.value,
        show_default=True,
        help="HTTP status of a 50011.",
    ),
    click.option(
        "--read-delay", type=DURATION, default=0.0, metavar="DURATION", help="How late reads show a write."
    ),
    click.option(
        "--missing-when-disabled/--list-disabled",
        default=False,
        help="Whether reads omit disabled families. Default: they list them.",
    ),
    click.option(
        "--list-unconfigured", is_flag=True, help="Reads list never-configured families, as zeroes."
    ),
    click.option("--decimals", is_flag=True, help='Return "100" as "100.0".'),
    click.option("--set-unfreezes", is_flag=True, help="A Set on a frozen family unfreezes it."),
    click.option(
        "--latency", type=DURATION, default=0.0, metavar="DURATION", help="Round trip of the network."
    ),
    click.option(
        "--jitter", type=DURATION, default=0.0, metavar="DURATION", help="Longest random delay each way."
    ),
    click.option("--seed", type=int, default=0, help="Seed of the jitter."),
    click.option(
        "--clock-skew",
        type=Parsed("duration", parse_skew),
        default=0.0,
        metavar="DURATION",
        help="How far its clock is ahead; negative: behind.",
    ),
    click.option(
        "--permissions",
        type=Parsed("permissions", parse_permissions),
        default="read_only,trade",
        show_default=True,
        help="Permissions of the key.",
    ),
    click.option(
        "--account-level",
        type=click.Choice(("1", "2", "3", "4")),
        default="4",
        show_default=True,
        help="acctLv; 4 is portfolio margin.",
    ),
    click.option("--no-privilege", is_flag=True, help="The account has no MMP privilege."),
    click.option(
        "--accounts",
        type=click.IntRange(1, MOST_ACCOUNTS),
        default=1,
        show_default=True,
        help="Number of accounts. Account N has the User ID 999000000000 + N and the keys simulator-key-N,"
        " simulator-secret-N, simulator-passphrase-N.",
    ),
    click.option(
        "--fault",
        "faults",
        type=Parsed("fault", parse_fault),
        multiple=True,
        metavar=SYNTAX,
        help="Make requests fail, in this order. KIND is a code of OKX, wrapped-CODE, or one of:"
        f" {', '.join(NAMED)}. Repeatable.",
    ),
    click.option(
        "--row",
        "forms",
        type=Parsed("row", parse_form),
        multiple=True,
        metavar="FAMILY=FORM",
        help=f"Write a family's row in an unusual form: {', '.join(RowForm)}. Repeatable.",
    ),
)
