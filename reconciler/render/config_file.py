"""Settings files written for people: the commented starter, and the live settings as a file.

This file decides which values go under defaults, and the text of each line's comment. It writes every live
setting and no other; a setting that the format cannot express is left out and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from reconciler.core.model import (
    MAX_QUANTITY_DIGITS,
    AccountInfo,
    Environment,
    Family,
    Field,
    LiveRead,
    LiveRow,
    Setting,
    parse_family,
)
from reconciler.core.problems import escape_unprintable

DEFAULT_PREFIX = "OKX_"
"""The default prefix: a file does not need to contain it."""

_COMMENT_COLUMN = 36
"""The column where comments begin, unless the line is longer."""

_FIELD_COMMENTS = {
    Field.TIME_INTERVAL: "the window over which fills are counted",
    Field.FROZEN_INTERVAL: "how long quotes stay frozen after the limit is hit",
    Field.QTY_LIMIT: "contracts filled within the window that freeze the quotes",
}


@dataclass(frozen=True, slots=True)
class Naming:
    """The account's name in the file, and where its keys are read from."""

    account: str
    environment: Environment
    prefix: str = DEFAULT_PREFIX


NO_NAME = "a row without a name"


@dataclass(frozen=True, slots=True)
class Imported:
    """The settings of a live read that go into a file, and those left out, with the reason.

    The key of ``left_out`` is the row's name; rows without a usable name share the key ``NO_NAME``.
    """

    settings: Mapping[Family, Setting]
    left_out: Mapping[str, str] = field(default_factory=dict)


def imported(read: LiveRead) -> Imported:
    """Split a live read into what a file can express and what it cannot."""
    left_out: dict[str, str] = dict(read.unreadable.items())
    for name in read.odd_names.values():
        left_out[escape_unprintable(name)] = _why_odd(name)
    if read.nameless:
        left_out[NO_NAME] = f"the exchange sent {read.nameless} of them"
    settings: dict[Family, Setting] = {}
    for family, row in sorted(read.rows.items()):
        if reason := _why_not_expressible(row):
            left_out[family] = reason
        else:
            settings[family] = row.setting
    return Imported(settings, dict(sorted(left_out.items())))


def import_text(found: Imported, naming: Naming, info: AccountInfo, *, host: str, wall: datetime) -> str:
    """Return a minimal file with the live settings: values that families share are under defaults."""
    common = common_values(found.settings)
    lines = [
        f"# What was live at {host} on {wall:%Y-%m-%d %H:%M} UTC, written by mmp import.",
        "# A family that is not in this file is left alone. mmp explain FIELD explains each field.",
        *_head(naming),
        _line(f'expect: {{uid: "{info.uid}"}}', "refuse to write to any other account"),
        *_defaults(common),
        "families:",
        *(_family_line(family, setting, common) for family, setting in found.settings.items()),
        *(f"  # {family} was left out: {reason}" for family, reason in found.left_out.items()),
    ]
    return "\n".join(lines) + "\n"


def starter_text(naming: Naming) -> str:
    """Return the commented starter file; it is valid unchanged, for families most desks have."""
    lines = [
        "# Desired Market Maker Protection settings of one account. Check it with: mmp validate",
        "# A family that is not in this file is left alone: never written, never disabled.",
        *_head(naming),
        _line('# expect: {uid: "446556540"}', "refuse to write to any other account; keep the quotes"),
        "",
        "# Values of families that do not set their own. Intervals: 500ms, 5s, 2m, 1h.",
        "defaults:",
        _line("  timeInterval: 5s", f"{_FIELD_COMMENTS[Field.TIME_INTERVAL]}; disabled: no protection"),
        _line("  frozenInterval: until-reset", "how long quotes stay frozen: 2s, or until a manual reset"),
        "",
        "# The families as OKX names them. Replace these with yours; mmp import writes what is live.",
        "families:",
        _line("  BTC-USD: {qtyLimit: 10}", "10 contracts filled within the window freeze the quotes"),
        _line("  ETH-USD: {timeInterval: 1s, qtyLimit: 100}", "its own window, tighter or looser"),
    ]
    return "\n".join(lines) + "\n"


def common_values(settings: Mapping[Family, Setting]) -> dict[Field, str]:
    """Return, per field, the most frequent value, if at least two families have it.

    Of equally frequent values, the first in alphabetical order: the same input gives the same file.
    """
    found: dict[Field, str] = {}
    for name in Field:
        counts = Counter(setting.field_text(name) for setting in settings.values())
        value, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        if count > 1:
            found[name] = value
    return found


def describe_setting(setting: Setting) -> str:
    """Describe a setting in one phrase."""
    if setting.disabled:
        return "protection is switched off"
    window, limit = setting.field_text(Field.TIME_INTERVAL), setting.field_text(Field.QTY_LIMIT)
    freeze = setting.field_text(Field.FROZEN_INTERVAL)
    pulled = "until a manual reset" if setting.until_reset else f"for {freeze}"
    contracts = "contract" if limit == "1" else "contracts"
    return f"{limit} {contracts} within {window} freeze the quotes {pulled}"


def _why_odd(name: str) -> str:
    """Return what is wrong with a row's name; a read trims the blanks around it."""
    try:
        parse_family(name)
    except ValueError:
        return "not a family name"
    return "the exchange sent its name with blanks around it"


def _why_not_expressible(row: LiveRow) -> str:
    """Return why a file cannot express a row's setting; empty if it can."""
    digits = row.setting.qty_limit.canonical.replace(".", "")
    if len(digits) > MAX_QUANTITY_DIGITS:
        return f"its qtyLimit has more than {MAX_QUANTITY_DIGITS} digits"
    return ""


def _head(naming: Naming) -> Iterator[str]:
    yield _line("version: 1", "of this file's format")
    yield _line(f"account: {_text(naming.account)}", "your own name for the account")
    yield _line(f"environment: {naming.environment.value}", "OKX's environment: live or demo")
    if naming.prefix != DEFAULT_PREFIX:
        key = f"{naming.prefix}API_KEY"
        yield _line(f"credentials: {{prefix: {naming.prefix}}}", f"where the keys are looked up: {key}, …")


def _defaults(common: Mapping[Field, str]) -> Iterator[str]:
    if common:
        yield _line("defaults:", "for families that do not set their own")
    for name, value in common.items():
        yield _line(f"  {name.value}: {value}", _FIELD_COMMENTS[name])


def _family_line(family: Family, setting: Setting, common: Mapping[Field, str]) -> str:
    own = [
        f"{name.value}: {value}"
        for name in Field
        if (value := setting.field_text(name)) != common.get(name)
    ]
    # Quoted if YAML could read the beginning of the key as a number.
    key = f'"{family}"' if family[0].isdigit() else family
    return _line(f"  {key}: {{{', '.join(own)}}}", describe_setting(setting))


def _text(name: str) -> str:
    """Return an account's name as YAML text: in quotes, unless no YAML version can read it as a number."""
    return name if name.isascii() and name[0].isalpha() and name not in _TRUTHS else f'"{name}"'


_TRUTHS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _line(text: str, comment: str) -> str:
    return (
        f"{text:<{_COMMENT_COLUMN}}# {comment}" if len(text) < _COMMENT_COLUMN else f"{text}  # {comment}"
    )
