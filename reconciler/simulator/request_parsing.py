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
from typing import NoReturn, assert_never
from urllib.parse import parse_qsl

from reconciler.simulator.codes import refuse
from reconciler.simulator.messages import ReplyEnvelope, SimRequest


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

WRITES = frozenset({Endpoint.SET, Endpoint.RESET})
MMP_ENDPOINTS = frozenset({Endpoint.SET, Endpoint.GET, Endpoint.RESET})

SETTING_FIELDS = ("timeInterval", "frozenInterval", "qtyLimit")
SET_FIELDS = ("instFamily", *SETTING_FIELDS)

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
        return dict(
            zip(SETTING_FIELDS, (self.time_interval, self.frozen_interval, self.qty_limit), strict=True)
        )


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


class _Refused(Exception):
    def __init__(self, code: str, *params: str) -> None:
        super().__init__(code)
        self.envelope = refuse(code, *params)


def find_endpoint(method: str, path: str) -> Endpoint | ReplyEnvelope:
    """Return the endpoint, or 404 for an unknown path and 50115 for a wrong method."""
    methods = ROUTES.get(path)
    if methods is None:
        return refuse("404")
    return methods.get(method) or refuse("50115")


def parse(endpoint: Endpoint, request: SimRequest) -> ParsedRequest:
    """Return what ``request`` asks of ``endpoint``."""
    try:
        match endpoint:
            case Endpoint.SET:
                _no_query(request)
                return _set_from(_object(request.body))
            case Endpoint.RESET:
                _no_query(request)
                return _reset_from(_object(request.body))
            case Endpoint.GET:
                return ParsedRequest(endpoint, family=_asked_family(request))
            case Endpoint.ACCOUNT | Endpoint.TIME:
                _no_query(request)
                return ParsedRequest(endpoint)
            case Endpoint.UNDERLYING:
                _options_only(_query(request, "instType"))
                return ParsedRequest(endpoint)
            case Endpoint.INSTRUMENTS:
                asked = _query(request, "instType", "uly")
                _options_only(asked)
                return ParsedRequest(endpoint, underlying=asked.get("uly"))
            case _ as never:
                assert_never(never)
    except _Refused as refused:
        return ParsedRequest(endpoint, refusal=refused.envelope)


def set_request(family: str, setting: MmpSetting) -> ParsedRequest:
    """Return the Set MMP request for values that never were bytes; the same checks apply."""
    return _asked_set({"instFamily": family, **setting.wire()})


def setting_from(fields: Mapping[str, object]) -> MmpSetting:
    """Return the setting in exactly the three wire fields; raises ValueError where Set would refuse."""
    ask = _asked_set({"instFamily": "ANY-FAMILY", **fields})
    if ask.setting is None:
        raise ValueError(ask.refusal.message if ask.refusal else "no setting")
    return ask.setting


def _asked_set(fields: Mapping[str, object]) -> ParsedRequest:
    try:
        return _set_from(fields)
    except _Refused as refused:
        return ParsedRequest(Endpoint.SET, refusal=refused.envelope)


def _set_from(fields: Mapping[str, object]) -> ParsedRequest:
    texts = _texts(fields, required=SET_FIELDS, optional=())
    _check_values(texts)
    setting = MmpSetting(texts["timeInterval"], texts["frozenInterval"], texts["qtyLimit"])
    return ParsedRequest(Endpoint.SET, texts["instFamily"], setting)


def _reset_from(fields: Mapping[str, object]) -> ParsedRequest:
    texts = _texts(fields, required=("instFamily",), optional=("instType",))
    if texts.get("instType", "OPTION") != "OPTION":
        raise _Refused("51000", "instType")
    return ParsedRequest(Endpoint.RESET, texts["instFamily"])


def _texts(
    fields: Mapping[str, object], *, required: tuple[str, ...], optional: tuple[str, ...]
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


def _check_values(texts: Mapping[str, str]) -> None:
    for name in ("timeInterval", "frozenInterval"):
        if not _INTERVAL.fullmatch(texts[name]):
            raise _Refused("51000", name)
    quantity = texts["qtyLimit"]
    if len(quantity) > _MAX_QUANTITY_CHARACTERS or not _QUANTITY.fullmatch(quantity):
        raise _Refused("51000", "qtyLimit")
    if not quantity.strip("0."):
        raise _Refused("51000", "qtyLimit")


def _asked_family(request: SimRequest) -> str | None:
    return _query(request, "instFamily").get("instFamily")


def _query(request: SimRequest, *allowed: str) -> dict[str, str]:
    """Return the query's values by name: allowed names only, each once and not empty."""
    values: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        if name not in allowed or name in values or not value:
            raise _Refused("51000", name)
        values[name] = value
    return values


def _options_only(query: Mapping[str, str]) -> None:
    if "instType" not in query:
        raise _Refused("50014", "instType")
    if query["instType"] != "OPTION":
        raise _Refused("51000", "instType")


def _no_query(request: SimRequest) -> None:
    if request.query:
        raise _Refused("51000", request.query.partition("=")[0])


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
