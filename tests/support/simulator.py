"""Signed requests to the simulated exchange, built independently of the program's own client."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.simulator.accounts import SimAccount, fake_account
from reconciler.simulator.behaviour_options import Options
from reconciler.simulator.exchange import SimulatedExchange
from reconciler.simulator.http_messages import SimRequest
from reconciler.simulator.request_parsing import MmpSetting

T0 = 1_800_000_000.0
"""Where virtual time begins: seconds since the epoch, a multiple of the fixed window."""

KEY = "simulator-key-1"
UID = "999000000001"
SET = "/api/v5/account/mmp-config"
RESET = "/api/v5/account/mmp-reset"
ACCOUNT = "/api/v5/account/config"
TIME = "/api/v5/public/time"
UNDERLYING = "/api/v5/public/underlying"
INSTRUMENTS = "/api/v5/public/instruments"
BTC = {"instFamily": "BTC-USD", "timeInterval": "5000", "frozenInterval": "2000", "qtyLimit": "100"}
SETTING = MmpSetting("5000", "2000", "100")


def exchange(account: SimAccount | None = None, **options: object) -> SimulatedExchange:
    """Return an exchange with one account and the given options."""
    return SimulatedExchange([account or fake_account()], options=Options(**options))  # type: ignore[arg-type] # a test names the options it is about


def stamp(utc: float) -> str:
    """Return ``utc`` in OKX's form of a timestamp."""
    return datetime.fromtimestamp(utc, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def signature(secret: str, message: bytes) -> str:
    """Return the Base64 of the HMAC-SHA256."""
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def headers_for(
    method: str, target: str, body: bytes, utc: float, *, number: int = 1, secret: str | None = None
) -> dict[str, str]:
    """Return the five headers of a signed request with the keys of account ``number``."""
    message = (stamp(utc) + method + target).encode() + body
    return {
        "OK-ACCESS-KEY": f"simulator-key-{number}",
        "OK-ACCESS-SIGN": signature(secret or f"simulator-secret-{number}", message),
        "OK-ACCESS-TIMESTAMP": stamp(utc),
        "OK-ACCESS-PASSPHRASE": f"simulator-passphrase-{number}",
        "Content-Type": "application/json",
    }


def as_body(fields: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(fields, separators=(",", ":")).encode()


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    utc: float = T0,
    drop: str = "",
    headers: Mapping[str, str] | None = None,
    remote: str = "127.0.0.1",
) -> SimRequest:
    """Return a signed request, then without the header ``drop`` and with ``headers`` put over it."""
    signed = headers_for(method, target, body, utc) | dict(headers or {})
    signed.pop(drop, None)
    return SimRequest(method, target, signed, body, remote)


def post_set(fields: object = None, **more: object) -> SimRequest:
    """Return a Set MMP request: BTC-USD as 5000/2000/100 by default."""
    return request("POST", SET, as_body(BTC if fields is None else fields), **more)  # type: ignore[arg-type] # passed through
