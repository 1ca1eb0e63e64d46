"""What the real parser reads from the simulated exchange's answers, and from lists with errors.

The rows of the exchange become the bytes of a reply, with rows omitted, doubled or odd as the history
says. Then they go through :mod:`reconciler.okx.replies`. Equal bytes are parsed once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import signature
from random import Random
from typing import TYPE_CHECKING, Any

from reconciler.core.model import Family, LiveRead, Setting
from reconciler.core.reply import Reply
from reconciler.okx import replies
from reconciler.simulator.http_messages import ReplyEnvelope, SimRow, to_json
from tests.simulation.scenario import ListFault

if TYPE_CHECKING:
    from tests.simulation.process import Process


@dataclass(frozen=True, slots=True)
class SeenList:
    """One parsed list, and the families whose rows are not usable."""

    read: LiveRead
    odd: frozenset[Family]

    def ended(self, now: float) -> LiveRead:
        """Return the read as complete at ``now``, on the process's clock."""
        return replace(self.read, took_s=now - self.read.begun_at)


def read_list(
    process: Process, rows: Sequence[SimRow], *, begun_at: float, asked: Family | None
) -> SeenList | Reply:
    """Return what the program reads of ``rows`` after the changes of the network and the exchange."""
    extras, world = process.world.scenario.extras, process.world
    odd: frozenset[Family] = frozenset()
    if extras.list_faults and (extras.list_faults_last or not world.calm):
        rows, odd = _spoilt(process, rows, asked)
    read = _parsed(tuple(tuple(row.items()) for row in rows), asked)
    if isinstance(read, Reply):
        return read
    return SeenList(replace(read, begun_at=begun_at, asked=asked), odd)


def _spoilt(
    process: Process, rows: Sequence[SimRow], asked: Family | None
) -> tuple[Sequence[SimRow], frozenset[Family]]:
    extras, rng = process.world.scenario.extras, process.rng
    family = extras.list_family
    assert family is not None
    spoilt: list[SimRow] = list(rows)
    odd: set[Family] = set()
    for fault in extras.list_faults:
        if rng.random() >= extras.list_fault_chance:
            continue
        if fault is ListFault.MISSING_ROW and asked is not None:
            continue  # its own read shows it
        before = spoilt
        spoilt = _SPOILERS[fault](rng, spoilt, family)
        if fault is not ListFault.JSON_NUMBERS and fault is not ListFault.UNKNOWN_NAME and before != spoilt:
            odd.add(family)
    return spoilt, frozenset(odd)


def _without(_: Random, rows: list[SimRow], family: Family) -> list[SimRow]:
    return [row for row in rows if row["instFamily"] != family]


def _with_unknown_name(rng: Random, rows: list[SimRow], _: Family) -> list[SimRow]:
    name = rng.choice(("BTC/USD weekly", "", "test", "SOL-USD-SWAP", "\u2603"))
    return [*rows, _row(name)] if name else [*rows, _row("n/a")]


def _with_similar_name(rng: Random, rows: list[SimRow], family: Family) -> list[SimRow]:
    wide = "".join(chr(ord(one) + 0xFEE0) if one.isalnum() else one for one in family)
    name = rng.choice((family.lower(), f" {family}", f"{family} ", wide))
    return [{**row, "instFamily": name} if row["instFamily"] == family else row for row in rows]


def _with_nameless(rng: Random, rows: list[SimRow], family: Family) -> list[SimRow]:
    name = rng.choice((None, 7, ""))
    return [{**row, "instFamily": name} if row["instFamily"] == family else row for row in rows]


def _with_unreadable(rng: Random, rows: list[SimRow], family: Family) -> list[SimRow]:
    field, value = rng.choice((("qtyLimit", "many"), ("timeInterval", "-1"), ("mmpFrozen", "no")))
    return [{**row, field: value} if row["instFamily"] == family else row for row in rows]


def _with_numbers(rng: Random, rows: list[SimRow], _: Family) -> list[SimRow]:
    convert: Callable[[str], Any] = rng.choice((float, _json_number))

    def as_number(text: str) -> Any:
        return convert(text) if text.replace(".", "", 1).isdigit() else text  # spoilt already

    fields = ("qtyLimit", "timeInterval", "frozenInterval")
    return [{**row, **{field: as_number(str(row[field])) for field in fields}} for row in rows]


def _json_number(text: str) -> Any:
    number = float(text)
    return int(number) if number.is_integer() else number


def _row(name: str) -> SimRow:
    return {
        "frozenInterval": "1000",
        "instFamily": name,
        "qtyLimit": "1",
        "timeInterval": "1000",
        "mmpFrozen": False,
        "mmpFrozenUntil": "",
    }


_SPOILERS: dict[ListFault, Callable[[Random, list[SimRow], Family], list[SimRow]]] = {
    ListFault.MISSING_ROW: _without,
    ListFault.UNKNOWN_NAME: _with_unknown_name,
    ListFault.SIMILAR_NAME: _with_similar_name,
    ListFault.NAMELESS: _with_nameless,
    ListFault.UNREADABLE: _with_unreadable,
    ListFault.JSON_NUMBERS: _with_numbers,
}


def _as_it_is(text: str) -> str:
    return text


_LIVE_TAKES_ASKED = "asked" in signature(replies.parse_live).parameters
_SET_TAKES_REQUEST = "setting" in signature(replies.parse_set).parameters
"""Whether the parser is given the requested family, as in newer versions of the program."""


@lru_cache(maxsize=4096)
def _parsed(rows: tuple[tuple[tuple[str, object], ...], ...], asked: Family | None) -> LiveRead | Reply:
    body = json.dumps({"code": "0", "msg": "", "data": [dict(row) for row in rows]}).encode()
    more: dict[str, Any] = {"asked": asked} if _LIVE_TAKES_ASKED else {}
    return replies.parse_live(200, body, _as_it_is, begun_at=0.0, **more)


def read_set_reply(reply: ReplyEnvelope, family: Family, setting: Setting) -> Reply:
    """Return what the real parser makes of the reply to setting ``family`` to ``setting``."""
    return _parsed_set(to_json(reply), family, setting)


@lru_cache(maxsize=4096)
def _parsed_set(body: bytes, family: Family, setting: Setting) -> Reply:
    request: tuple[Any, ...] = (family, setting) if _SET_TAKES_REQUEST else ()
    return replies.parse_set(200, body, _as_it_is, *request)


def forget_parsed() -> None:
    """Parse everything anew: the parser is another one now."""
    _parsed.cache_clear()
    _parsed_set.cache_clear()
