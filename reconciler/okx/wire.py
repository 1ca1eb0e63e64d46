"""Requests in the form of OKX's API v5: hosts, paths, bodies and signatures. Pure.

This file decides which addresses a key may be sent to, which exchange is assumed at an address, and the
exact bytes of every request; the signed bytes are the sent ones. It never opens a connection, reads a clock
or an environment variable. Replies are read in ``replies.py``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import NoReturn, final
from urllib.parse import SplitResult, urlsplit

from reconciler import __version__
from reconciler.core.model import Environment, ExchangeKind, Family, Setting
from reconciler.errors import UsageError
from reconciler.okx.credentials import Credentials
from reconciler.secret import MASK

DEFAULT_BASE_URL = "https://openapi.okx.com"
KNOWN_HOSTS = frozenset({"openapi.okx.com", "www.okx.com", "eea.okx.com", "us.okx.com", "tr.okx.com"})
"""The hosts OKX documents; www is the older name of openapi."""

MMP_CONFIG_PATH = "/api/v5/account/mmp-config"
MMP_RESET_PATH = "/api/v5/account/mmp-reset"
ACCOUNT_CONFIG_PATH = "/api/v5/account/config"
PUBLIC_TIME_PATH = "/api/v5/public/time"
PUBLIC_UNDERLYING_PATH = "/api/v5/public/underlying"
PUBLIC_INSTRUMENTS_PATH = "/api/v5/public/instruments"

DEMO_HEADER = "x-simulated-trading"
USER_AGENT = f"mmp-reconciler/{__version__}"

_LOOPBACK = IPv4Network("127.0.0.0/8")
_HINT = f"Give an address such as {DEFAULT_BASE_URL}."


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where requests go: ``url`` without a path, its ``host`` without the port, and the exchange kind."""

    url: str
    host: str
    kind: ExchangeKind

    @property
    def is_simulator(self) -> bool:
        """Whether the simulated exchange is at this address."""
        return self.kind is ExchangeKind.SIMULATOR


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``target`` is the path with its query, exactly as sent; ``signed``: it needs a key."""

    method: str
    target: str
    body: bytes = b""
    signed: bool = True


@final
class Headers(Mapping[str, str]):
    """The headers of a signed request; they contain the key id and passphrase and print as names only."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> str:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Headers({', '.join(f'{name}: {MASK}' for name in self)})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("headers with secrets cannot be pickled or copied")


def set_mmp(family: Family, setting: Setting) -> Request:
    """Return Set MMP for one family: all four fields, as OKX requires even to disable [doc]."""
    return Request("POST", MMP_CONFIG_PATH, _compact({"instFamily": family, **setting.wire()}))


def get_mmp(family: Family | None = None) -> Request:
    """Return Get MMP Config of every configured family, or of one."""
    query = "" if family is None else f"?instFamily={family}"
    return Request("GET", MMP_CONFIG_PATH + query)


def reset_mmp(family: Family) -> Request:
    """Return Reset MMP Status of one family."""
    return Request("POST", MMP_RESET_PATH, _compact({"instType": "OPTION", "instFamily": family}))


def account_config() -> Request:
    """Return the pre-flight: the query of the key's owner and permissions."""
    return Request("GET", ACCOUNT_CONFIG_PATH)


def public_time() -> Request:
    """Return the query of the exchange's clock; it needs no key."""
    return Request("GET", PUBLIC_TIME_PATH, signed=False)


def public_underlyings() -> Request:
    """Return the query of the underlyings that have options; it needs no key."""
    return Request("GET", f"{PUBLIC_UNDERLYING_PATH}?instType=OPTION", signed=False)


def public_instruments(underlying: str) -> Request:
    """Return the query of the options of one underlying, each naming its family; it needs no key."""
    return Request("GET", f"{PUBLIC_INSTRUMENTS_PATH}?instType=OPTION&uly={underlying}", signed=False)


def format_timestamp(epoch_s: float) -> str:
    """Return an instant, in seconds since 1970 UTC, in OKX's form: ``2020-12-08T09:08:57.715Z``."""
    epoch_ms = round(epoch_s * 1000)
    seconds = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03d}Z"


def signature(secret_key: str, timestamp: str, request: Request) -> str:
    """Return Base64(HMAC-SHA256(secret, timestamp + method + target + body)) over the bytes sent [doc]."""
    signed = f"{timestamp}{request.method}{request.target}".encode("ascii") + request.body
    return base64.b64encode(hmac.digest(secret_key.encode("ascii"), signed, hashlib.sha256)).decode("ascii")


def signed_headers(
    request: Request, credentials: Credentials, environment: Environment, timestamp: str
) -> Headers:
    """Return all headers of ``request`` that we set, signed at ``timestamp``."""
    return Headers(
        {
            **public_headers(environment),
            "Content-Type": "application/json",
            "OK-ACCESS-KEY": credentials.api_key.reveal(),
            "OK-ACCESS-SIGN": signature(credentials.secret_key.reveal(), timestamp, request),
            "OK-ACCESS-TIMESTAMP": timestamp,
            "OK-ACCESS-PASSPHRASE": credentials.passphrase.reveal(),
        }
    )


def public_headers(environment: Environment) -> Headers:
    """Return the headers every request has, signed or not.

    Identity encoding makes the bound on a reply's size a bound on its contents.
    """
    demo = {DEMO_HEADER: "1"} if environment is Environment.DEMO else {}
    return Headers({"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **demo})


def parse_base_url(text: str, allow_hosts: frozenset[str] = frozenset()) -> BaseUrl:
    """Return the address to use; raises UsageError with what is wrong.

    https requires a host OKX documents, or one of ``allow_hosts``; plain http a loopback address. A
    loopback address is treated as the simulated exchange with either scheme, so that its state is never
    confused with that of a real account.
    """
    parts, port = _split(text)
    host = parts.hostname or ""
    loopback = is_loopback(host)
    if parts.scheme == "http" and not loopback:
        raise _refused(f"http:// is for loopback addresses only, and {host} is not one", "Use https://.")
    if parts.scheme == "https" and host not in KNOWN_HOSTS | {name.lower() for name in allow_hosts}:
        known = ", ".join(sorted(KNOWN_HOSTS))
        raise _refused(
            f"{host} is not a host OKX documents ({known})",
            f"Add --allow-host {host} if the key may be sent there.",
        )
    bracketed = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{bracketed}" + ("" if port is None else f":{port}")
    return BaseUrl(url, host, ExchangeKind.SIMULATOR if loopback else ExchangeKind.OKX)


def _split(text: str) -> tuple[SplitResult, int | None]:
    # urlsplit drops tabs and line breaks silently, so they are refused before it parses them.
    if not text.isascii() or not all("!" <= char <= "~" for char in text):
        raise _refused("it has blanks, control characters or characters that are not ASCII", _HINT)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refused("its host or port cannot be read", _HINT) from None
    if "@" in text:
        # The message omits the text: the part before an @ is usually a password.
        raise _refused("it has a user name or password in it", "Leave out everything up to the @.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused("it does not start with https:// and a host", _HINT)
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise _refused("it has a path, a query or a fragment", _HINT)
    if port == 0:
        raise _refused("port 0 cannot be connected to", _HINT)
    return parts, port


def is_loopback(host: str) -> bool:
    """Return whether a host of an address is this machine."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return address in _LOOPBACK
    return address == IPv6Address("::1")


def _refused(why: str, hint: str) -> UsageError:
    return UsageError("base-url", f"the base URL cannot be used: {why}", hint)


def _compact(fields: Mapping[str, str]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")
