"""Checks who may call, in the order OKX is assumed to check; the first refusal is the answer.

Documented: the codes, the 30 s, and that an unknown key is refused before its signature is checked.
Assumed: the rest of the order. The signature is computed here a second time, independently of the
program's own: a simulator that shared its signing would share its mistakes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from reconciler.simulator.accounts import DEMO_HEADER, PORTFOLIO_MARGIN, KeyOwner
from reconciler.simulator.codes import refuse
from reconciler.simulator.messages import ReplyEnvelope, SimRequest
from reconciler.simulator.options import Options
from reconciler.simulator.request_parsing import MMP_ENDPOINTS, WRITES, Endpoint

VALIDITY_S = 30.0
"""The allowed difference of a timestamp from the exchange's own clock, either way [doc]."""

ENVIRONMENT_BY_HEADER = {"": "live", "0": "live", "1": "demo"}
"""Meaning of x-simulated-trading; "1" is documented, any other value is treated as a mistake."""

C = TypeVar("C")

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


@dataclass(frozen=True, slots=True)
class SignedCall:
    """A private request with a known key; ``utc`` is the exchange's time, in seconds."""

    request: SimRequest
    holder: KeyOwner
    utc: float


@dataclass(frozen=True, slots=True)
class AccountCall:
    """The input of the account-side checks."""

    endpoint: Endpoint
    holder: KeyOwner
    options: Options


def authenticate(request: SimRequest, holder: KeyOwner | None, utc: float) -> ReplyEnvelope | None:
    """Return the first refusal of the key, its headers or its signature; None without one."""
    if not request.header("OK-ACCESS-KEY"):
        return refuse("50103")
    if holder is None:
        return refuse("50119")
    return _first(AUTHENTICATION, SignedCall(request, holder, utc))


def authorise(call: AccountCall) -> ReplyEnvelope | None:
    """Return the first refusal of what the key or the account must not do; None without one."""
    return _first(AUTHORISATION, call)


def sign(secret: str, message: bytes) -> str:
    """Return Base64(HMAC-SHA256(secret, timestamp + METHOD + path-with-query + body)) [doc]."""
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def _headers(call: SignedCall) -> ReplyEnvelope | None:
    for name, code in (
        ("OK-ACCESS-SIGN", "50106"),
        ("OK-ACCESS-TIMESTAMP", "50107"),
        ("OK-ACCESS-PASSPHRASE", "50104"),
    ):
        if not call.request.header(name):
            return refuse(code)
    return None


def _environment(call: SignedCall) -> ReplyEnvelope | None:
    addressed = ENVIRONMENT_BY_HEADER.get(call.request.header(DEMO_HEADER))
    return None if addressed == call.holder.account.environment else refuse("50101")


def _timestamp(call: SignedCall) -> ReplyEnvelope | None:
    text = call.request.header("OK-ACCESS-TIMESTAMP")
    try:
        stamped = datetime.fromisoformat(text) if _TIMESTAMP.fullmatch(text) else None
    except ValueError:
        stamped = None
    if stamped is None:
        return refuse("50112")
    return refuse("50102") if abs(stamped.timestamp() - call.utc) > VALIDITY_S else None


def _address(call: SignedCall) -> ReplyEnvelope | None:
    key = call.holder.key
    if not key.ip or call.request.remote in key.ip:
        return None
    return refuse("50110", call.request.remote, key.key_id)


def _passphrase(call: SignedCall) -> ReplyEnvelope | None:
    return (
        None
        if call.request.header("OK-ACCESS-PASSPHRASE") == call.holder.key.passphrase
        else refuse("50105")
    )


def _signature(call: SignedCall) -> ReplyEnvelope | None:
    request = call.request
    head = request.header("OK-ACCESS-TIMESTAMP") + request.method + request.target
    expected = sign(call.holder.key.secret, head.encode() + request.body)
    return None if request.header("OK-ACCESS-SIGN") == expected else refuse("50113")


def _content_type(call: SignedCall) -> ReplyEnvelope | None:
    if call.request.method != "POST":
        return None
    media_type = call.request.header("Content-Type").partition(";")[0].strip().lower()
    return None if media_type == "application/json" else refuse("50006")


def _permission(call: AccountCall) -> ReplyEnvelope | None:
    needed = "trade" if call.endpoint in WRITES else "read_only"
    return None if needed in call.holder.key.permissions else refuse("50120")


def _account_mode(call: AccountCall) -> ReplyEnvelope | None:
    if call.endpoint not in MMP_ENDPOINTS or call.holder.account.level == PORTFOLIO_MARGIN:
        return None
    return refuse(call.options.account_mode_code)


def _privilege(call: AccountCall) -> ReplyEnvelope | None:
    if call.endpoint not in MMP_ENDPOINTS or call.holder.account.mmp_privilege:
        return None
    return refuse("59509" if call.endpoint is Endpoint.RESET else call.options.no_privilege_code)


AUTHENTICATION: tuple[Callable[[SignedCall], ReplyEnvelope | None], ...] = (
    _headers,
    _environment,
    _timestamp,
    _address,
    _passphrase,
    _signature,
    _content_type,
)
AUTHORISATION: tuple[Callable[[AccountCall], ReplyEnvelope | None], ...] = (
    _permission,
    _account_mode,
    _privilege,
)


def _first(checks: tuple[Callable[[C], ReplyEnvelope | None], ...], call: C) -> ReplyEnvelope | None:
    return next((refusal for check in checks if (refusal := check(call)) is not None), None)
