"""Parses a request strictly: its endpoint, its family and its setting.

Nothing is repaired here. A body with an extra field, a number instead of a string or a duplicate key is
refused, so that a program that passes against the simulator does not rely on leniency.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn
from urllib.parse import parse_qsl

from reconciler.simulator.codes import refuse
from reconciler.simulator.http_messages import ReplyEnvelope, SimRequest


class Endpoint(StrEnum):
    """The endpoints this exchange has; the value is their name in scripts and records."""

    SET = "set"
    GET = "get"
    RESET = "reset"
    ACCOUNT = "account"
    TIME = "time"
    UNDERLYING = "underlying"
    INSTRUMENTS = "instruments"


ROUTES: dict[str, dict[str, Endpoint]] = {
    "/api/v5/account/mmp-config": {"POST": Endpoint.SET, "GET": Endpoint.GET},
    "/api/v5/account/mmp-reset": {"POST": Endpoint.RESET},
    "/api/v5/account/config": {"GET": Endpoint.ACCOUNT},
    "/api/v5/public/time": {"GET": Endpoint.TIME},
    "/api/v5/public/underlying": {"GET": Endpoint.UNDERLYING},
    "/api/v5/public/instruments": {"GET": Endpoint.INSTRUMENTS},
}
PUBLIC = frozenset({Endpoint.TIME, Endpoint.UNDERLYING, Endpoint.INSTRUMENTS})
"""Endpoints that need no key and are counted by address."""

QUERY_FIELDS = {
    Endpoint.GET: ("instFamily",),
    Endpoint.UNDERLYING: ("instType",),
    Endpoint.INSTRUMENTS: ("instType", "uly"),
}
"""What may be in the query; the other endpoints have none."""

WRITES = frozenset({Endpoint.SET, Endpoint.RESET})
MMP_ENDPOINTS = frozenset({Endpoint.SET, Endpoint.GET, Endpoint.RESET})

SETTING_FIELDS = ("timeInterval", "frozenInterval", "qtyLimit")

# Separate patterns on purpose: a simulator that shared the program's would share its mistakes.
_INTERVAL = re.compile(r"0|[1-9][0-9]{0,9}")
_QUANTITY = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_MAX_QUANTITY_CHARACTERS = 21
"""20 digits and a point; no documented limit is known, and the program allows no more."""


@dataclass(frozen=True, slots=True)
class MmpSetting:
    """One family's setting, as the three strings of the wire."""

    time_interval: str
    frozen_interval: str
    qty_limit: str

    def wire(self) -> dict[str, str]:
        """Return the three strings by OKX's names."""
        values = (self.time_interval, self.frozen_interval, self.qty_limit)
        return dict(zip(SETTING_FIELDS, values, strict=True))


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request, or the ``refusal`` of its content.

    ``underlying`` is set only for a query of instruments.
    """

    endpoint: Endpoint
    family: str | None = None
    setting: MmpSetting | None = None
    refusal: ReplyEnvelope | None = None
    underlying: str | None = None


class _Refused(ValueError):
    def __init__(self, code: str, *params: str) -> None:
        self.envelope = refuse(code, *params)
        super().__init__(self.envelope.message)


def find_endpoint(method: str, path: str) -> Endpoint | ReplyEnvelope:
    """Return the endpoint, or 404 for an unknown path and 50115 for a wrong method."""
    methods = ROUTES.get(path)
    if methods is None:
        return refuse("404")
    return methods.get(method) or refuse("50115")


def parse(endpoint: Endpoint, request: SimRequest) -> ParsedRequest:
    """Return what ``request`` asks of ``endpoint``."""
    try:
        query = _query(request, QUERY_FIELDS.get(endpoint, ()))
        if endpoint is Endpoint.SET:
            return _set_from(_object(request.body))
        if endpoint is Endpoint.RESET:
            return _reset_from(_object(request.body))
        if endpoint in (Endpoint.UNDERLYING, Endpoint.INSTRUMENTS):
            _check_options_only(query)
        return ParsedRequest(endpoint, query.get("instFamily"), underlying=query.get("uly"))
    except _Refused as refused:
        return ParsedRequest(endpoint, refusal=refused.envelope)


def set_request(family: str, setting: MmpSetting) -> ParsedRequest:
    """Return the Set MMP request for values that never were bytes; the same checks apply."""
    try:
        return _set_from({"instFamily": family, **setting.wire()})
    except _Refused as refused:
        return ParsedRequest(Endpoint.SET, refusal=refused.envelope)


def setting_from(fields: Mapping[str, object]) -> MmpSetting:
    """Return the setting in exactly the three wire fields; raises ValueError where Set would refuse."""
    return _setting(_texts(fields, required=SETTING_FIELDS))


def _set_from(fields: Mapping[str, object]) -> ParsedRequest:
    texts = _texts(fields, required=("instFamily", *SETTING_FIELDS))
    return ParsedRequest(Endpoint.SET, texts["instFamily"], _setting(texts))


def _reset_from(fields: Mapping[str, object]) -> ParsedRequest:
    texts = _texts(fields, required=("instFamily",), optional=("instType",))
    if texts.get("instType", "OPTION") != "OPTION":
        raise _Refused("51000", "instType")
    return ParsedRequest(Endpoint.RESET, texts["instFamily"])


def _texts(
    fields: Mapping[str, object], *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the fields, all of them known, present, strings and not empty."""
    for name in required:
        if fields.get(name, "") == "":
            raise _Refused("50014", name)
    texts: dict[str, str] = {}
    for name, value in fields.items():
        if name not in required + optional or not isinstance(value, str):
            raise _Refused("51000", name)
        texts[name] = value
    return texts


def _setting(texts: Mapping[str, str]) -> MmpSetting:
    time_interval, frozen_interval, quantity = (texts[name] for name in SETTING_FIELDS)
    for name, interval in (("timeInterval", time_interval), ("frozenInterval", frozen_interval)):
        if not _INTERVAL.fullmatch(interval):
            raise _Refused("51000", name)
    is_zero = not quantity.strip("0.")
    if is_zero or len(quantity) > _MAX_QUANTITY_CHARACTERS or not _QUANTITY.fullmatch(quantity):
        raise _Refused("51000", "qtyLimit")
    return MmpSetting(time_interval, frozen_interval, quantity)


def _query(request: SimRequest, allowed: tuple[str, ...]) -> dict[str, str]:
    """Return the query's values by name: allowed names only, each once and not empty."""
    if request.query and not allowed:
        raise _Refused("51000", request.query.partition("=")[0])
    values: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name not in allowed or name in values or not value:
            raise _Refused("51000", name)
        values[name] = value
    return values


def _check_options_only(query: Mapping[str, str]) -> None:
    if query.get("instType") != "OPTION":
        raise _Refused("51000" if "instType" in query else "50014", "instType")


def _object(body: bytes) -> Mapping[str, object]:
    if not body:
        raise _Refused("50000")
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Refused("50002") from None
    if not isinstance(value, dict):
        raise _Refused("50002")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("duplicate key")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
