"""The last live read of an account as one JSON document, written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from reconciler.core.model import Family, LiveRead, LiveRow, Quantity, Setting


def live_document(read: LiveRead, last_seen: Mapping[Family, LiveRow] = MappingProxyType({})) -> str:
    """Return a live read as one document; inverse of :func:`live_rows` and :func:`last_seen_rows`."""
    rows, missing = (
        {family: _wire(row) for family, row in sorted(of.items())} for of in (read.rows, last_seen)
    )
    unreadable = dict(sorted(read.unreadable.items()))
    return json.dumps({"rows": rows, "unreadable": unreadable, "lastSeen": missing})


def stored_live_rows(document: str) -> tuple[dict[Family, LiveRow], dict[Family, str]]:
    """Return the readable rows and the unreadable ones (family to reason) of a live document."""
    content = json.loads(document)
    rows = {Family(family): _live_row(wire) for family, wire in content["rows"].items()}
    return rows, {Family(family): why for family, why in content["unreadable"].items()}


def last_seen_rows(document: str) -> dict[Family, LiveRow]:
    """Return the last rows of families that a recorded read leaves out."""
    return {Family(family): _live_row(wire) for family, wire in json.loads(document)["lastSeen"].items()}


def _wire(row: LiveRow) -> dict[str, object]:
    return {**row.setting.wire(), "frozen": row.frozen, "frozenUntil": row.frozen_until}


def _live_row(wire: Mapping[str, str]) -> LiveRow:
    return LiveRow(_setting(wire), frozen=bool(wire["frozen"]), frozen_until=wire["frozenUntil"])


def _setting(wire: Mapping[str, str]) -> Setting:
    return Setting(int(wire["timeInterval"]), int(wire["frozenInterval"]), Quantity(wire["qtyLimit"]))
