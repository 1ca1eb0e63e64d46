"""Checks who may call, in the order OKX is assumed to check; the first refusal is the reply.

Documented: the codes, the 30 s, and that an unknown key is refused before its signature is checked.
Assumed: the rest of the order. The signature is computed here a second time, independently of the
program's own: a simulator that shared its signing would share its mistakes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from datetime import datetime

from reconciler.simulator.accounts import DEMO_HEADER, PORTFOLIO_MARGIN, KeyOwner
from reconciler.simulator.behaviour_options import Options
from reconciler.simulator.codes import refuse
from reconciler.simulator.http_messages import ReplyEnvelope, SimRequest
from reconciler.simulator.request_parsing import MMP_ENDPOINTS, WRITES, Endpoint

VALIDITY_S = 30.0
"""The allowed difference of a timestamp from the exchange's own clock, either way [doc]."""

ENVIRONMENT_BY_HEADER = {"": "live", "0": "live", "1": "demo"}
"""Meaning of x-simulated-trading; "1" is documented, any other value is treated as a mistake."""

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def authenticate(request: SimRequest, owner: KeyOwner | None, utc: float) -> ReplyEnvelope | None:
    """Return the first refusal of the key, its headers or its signature; None without one.

    ``utc`` is the exchange's time, in seconds.
    """
    return next(_caller_refusals(request, owner, utc), None)


def authorise(endpoint: Endpoint, owner: KeyOwner, options: Options) -> ReplyEnvelope | None:
    """Return the first refusal of what the key or the account must not do; None without one."""
    if ("trade" if endpoint in WRITES else "read_only") not in owner.key.permissions:
        return refuse("50120")
    if endpoint not in MMP_ENDPOINTS:
        return None
    if owner.account.level != PORTFOLIO_MARGIN:
        return refuse(options.account_mode_code)
    if not owner.account.mmp_privilege:
        return refuse("59509" if endpoint is Endpoint.RESET else options.no_privilege_code)
    return None


def sign(secret: str, message: bytes) -> str:
    """Return Base64(HMAC-SHA256(secret, timestamp + METHOD + path-with-query + body)) [doc]."""
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def _caller_refusals(request: SimRequest, owner: KeyOwner | None, utc: float) -> Iterator[ReplyEnvelope]:
    """Yield the refusal of each check that fails, in the order of the checks."""
    header = request.header
    if not header("OK-ACCESS-KEY"):
        yield refuse("50103")
    if owner is None:
        yield refuse("50119")
        return
    for name, code in (
        ("OK-ACCESS-SIGN", "50106"),
        ("OK-ACCESS-TIMESTAMP", "50107"),
        ("OK-ACCESS-PASSPHRASE", "50104"),
    ):
        if not header(name):
            yield refuse(code)
    if ENVIRONMENT_BY_HEADER.get(header(DEMO_HEADER)) != owner.account.environment:
        yield refuse("50101")
    signed_at = _seconds(header("OK-ACCESS-TIMESTAMP"))
    if signed_at is None:
        yield refuse("50112")
    elif abs(signed_at - utc) > VALIDITY_S:
        yield refuse("50102")
    if owner.key.ip and request.remote not in owner.key.ip:
        yield refuse("50110", request.remote, owner.key.key_id)
    if header("OK-ACCESS-PASSPHRASE") != owner.key.passphrase:
        yield refuse("50105")
    signed_head = header("OK-ACCESS-TIMESTAMP") + request.method + request.target
    if header("OK-ACCESS-SIGN") != sign(owner.key.secret, signed_head.encode() + request.body):
        yield refuse("50113")
    media_type = header("Content-Type").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type != "application/json":
        yield refuse("50006")


def _seconds(timestamp: str) -> float | None:
    """Return the seconds since the epoch of a timestamp in the one form that is accepted, else None."""
    try:
        return datetime.fromisoformat(timestamp).timestamp() if _TIMESTAMP.fullmatch(timestamp) else None
    except ValueError:
        return None
