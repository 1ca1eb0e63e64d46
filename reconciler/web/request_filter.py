"""The listen address of the HTTP server, and the check of the Host header and the method of a request.

Everything served is read-only, but a web site may make a visitor's browser request it (DNS rebinding: the
attacker's name suddenly resolves to 127.0.0.1). Such a request has the attacker's name in its Host header,
so only requests with a name or address of this server are answered. Decided from values; no socket is
opened here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from reconciler.errors import UsageError

DEFAULT_HOST = "127.0.0.1"
MAX_PORT = 65_535
METHODS = ("GET", "HEAD")
"""Everything served is read-only."""

LOCALHOST = "localhost"
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_HOST_HEADER = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:.]{2,45})\]|(?P<name>[^:\[\]/@?#\s]{1,253}))(?::[0-9]{1,5})?"
)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: ``host`` as given, ``port`` 0 for any free port, ``names`` also accepted as Host."""

    host: str
    port: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The part of a request that decides whether it is answered. ``hosts``: all its Host headers."""

    method: str
    target: str
    hosts: Sequence[str]
    has_body: bool


@dataclass(frozen=True, slots=True)
class RequestRejection:
    """Why a request is not answered: an HTTP status and one line for the client."""

    status: int
    why: str


def parse_listen(text: str, names: Iterable[str] = ()) -> Listen:
    """Parse ``HOST:PORT``, ``:PORT``, ``PORT`` or ``[::1]:PORT`` as a listen address.

    Without a host it is loopback. Raises UsageError for any other text, and for an invalid name.
    """
    host, colon, port = text.rpartition(":")
    if not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > MAX_PORT:
        raise _listen_error(text, "the port is a number from 0 to 65535")
    if colon and host and not _is_host(host):
        raise _listen_error(text, "the host is a name or an address; put an IPv6 address in brackets")
    return Listen(
        host.strip("[]").lower() or DEFAULT_HOST, int(port), tuple(_own_name(name) for name in names)
    )


class RequestFilter:
    """Decides which requests are answered, for one bound socket.

    ``bound`` are the listen addresses. ``names`` are other accepted names: the host as given and the names
    given. If the server listens on every address, ``machine`` (the name of this machine) and any address
    are accepted, too: rebinding needs a name.
    """

    def __init__(self, bound: Iterable[str], names: Iterable[str], *, machine: str) -> None:
        self._addresses = {_plain(ip_address(address)) for address in bound}
        self._everywhere = any(address.is_unspecified for address in self._addresses)
        everywhere = (machine.lower(),) if self._everywhere else ()
        self._names = {LOCALHOST, *(name.lower() for name in names), *everywhere}

    def rejection(self, request: RequestInfo) -> RequestRejection | None:
        """Return why a request is not answered; None when it is."""
        if not self.host_allowed(request.hosts):
            text = "this is not the name of this server"
            return RequestRejection(421, f"{text}; mmp run --listen-name NAME adds one")
        if request.method not in METHODS:
            return RequestRejection(405, "only GET and HEAD are allowed")
        if not request.target.startswith("/"):
            return RequestRejection(400, "the target must be a path")
        if request.has_body:
            return RequestRejection(413, "a request must not have a body")
        return None

    def host_allowed(self, hosts: Sequence[str]) -> bool:
        """Tell whether the one Host header names this server; the port does not matter.

        A port may be mapped on the way. No Host header, or more than one, is not accepted.
        """
        if len(hosts) != 1 or not (match := _HOST_HEADER.fullmatch(hosts[0])):
            return False
        address = _address(match["six"] or match["name"])
        if address is None:
            return match["six"] is None and match["name"].lower() in self._names
        return address.is_loopback or self._everywhere or address in self._addresses


def _is_host(host: str) -> bool:
    if host.startswith("[") and host.endswith("]"):
        return isinstance(_address(host[1:-1]), IPv6Address)
    return isinstance(_address(host), IPv4Address) or _is_name(host)


def _is_name(text: str) -> bool:
    """Tell whether ``text`` is a host name; only digits and dots are a mistyped address."""
    return bool(_NAME.fullmatch(text.lower())) and not re.fullmatch("[0-9.]+", text)


def _own_name(name: str) -> str:
    if not _is_name(name):
        raise _listen_error(
            name, "a name has letters, digits, dashes and dots, and no port", "--listen-name"
        )
    return name.lower()


@lru_cache(maxsize=64)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return ``text`` as an address, None if it is not one; an address with a zone is not accepted."""
    try:
        return _plain(ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an IPv4-mapped IPv6 address as its IPv4 address; any other address unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _listen_error(text: str, why: str, flag: str = "--listen") -> UsageError:
    return UsageError("listen-address", f"{flag} {text!r} cannot be used: {why}", "example: 127.0.0.1:9464")
