"""Reads the rows of live settings: the families in a list, and the setting of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from reconciler.core.model import Family, Field, LiveRead, LiveRow, Quantity, fold_name, parse_family
from reconciler.okx.codes import ACCEPTED_CODE
from reconciler.okx.reply_fields import (
    Scrub,
    if_matching,
    interval_ms,
    read_setting,
    reply_quantity,
    row_code,
    shown_value,
)
from reconciler.okx.strict_json import UnreadableReply

MAX_NAME_CHARS = 256
"""Bound on an instFamily that is not a family name. Case folding shortens no name, so a longer one cannot
be almost the name of a family."""

_MOMENT = re.compile(r"[0-9TZ:.+ -]{0,32}", re.ASCII)


def live_rows(data: tuple[object, ...], scrub: Scrub, read: LiveRead) -> LiveRead:
    """Return ``read`` with the rows of ``data``: of families, of odd names, and how many without a name."""
    named: list[tuple[Family, Mapping[str, object]]] = []
    odd_names: dict[str, str] = {}
    nameless = 0
    for row in data:
        name = row.get("instFamily") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(name, str) or not fold_name(name):
            nameless += 1
            continue
        try:
            family = parse_family(name)
        except ValueError:
            name = name.strip()[:MAX_NAME_CHARS]
            odd_names[fold_name(name)] = scrub(name)
        else:
            if read.asked in (None, family):
                named.append((family, row))
    count = Counter(family for family, _ in named)
    rows: dict[Family, LiveRow] = {}
    unreadable: dict[Family, str] = {}
    for family, row in named:
        try:
            live = _live_row(row, times_listed=count[family])
        except UnreadableReply as error:
            unreadable[family] = scrub(str(error))
        else:
            if live is not None:
                rows[family] = live
    return replace(read, rows=rows, unreadable=unreadable, odd_names=odd_names, nameless=nameless)


def _live_row(row: Mapping[str, object], *, times_listed: int) -> LiveRow | None:
    """Return one family's row; None if it has no more information than a missing row."""
    if times_listed > 1:
        raise UnreadableReply(f"listed {times_listed} times")
    if "sCode" in row and row_code(row["sCode"]) != ACCEPTED_CODE:
        raise UnreadableReply(f"sCode is {shown_value(row['sCode'])}")
    frozen = row.get("mmpFrozen")
    if frozen in (None, "") and _is_blank(row):
        return None
    if not isinstance(frozen, bool):
        raise UnreadableReply(f"mmpFrozen is {shown_value(frozen)}")
    if not frozen and _is_unset(row):
        return None
    setting = read_setting(row)
    if setting.qty_limit == Quantity("0"):
        raise UnreadableReply("qtyLimit is 0")
    return LiveRow(setting, frozen, if_matching(row, "mmpFrozenUntil", _MOMENT))


def _is_unset(row: Mapping[str, object]) -> bool:
    """Return whether a row that is not frozen has no setting.

    [unknown] what a never-configured or disabled family returns. Treated as unset: all three fields blank,
    and a window of 0 beside a blank field or a quantity of 0. A full setting with window 0 is not unset.
    Raises UnreadableReply for an invalid value beside a window of 0.
    """
    if _is_blank(row):
        return True
    blank = _blank_fields(row)
    if Field.TIME_INTERVAL in blank or interval_ms(row, Field.TIME_INTERVAL) != 0:
        return False
    if Field.FROZEN_INTERVAL not in blank:
        interval_ms(row, Field.FROZEN_INTERVAL)
    quantity = Quantity("0") if Field.QTY_LIMIT in blank else reply_quantity(row, Field.QTY_LIMIT)
    return bool(blank) or quantity == Quantity("0")


def _is_blank(row: Mapping[str, object]) -> bool:
    """Return whether all three fields of the setting are missing, null or empty."""
    return len(_blank_fields(row)) == len(Field)


def _blank_fields(row: Mapping[str, object]) -> set[Field]:
    return {field for field in Field if row.get(field) in (None, "")}
