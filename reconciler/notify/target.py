"""Where notices go: the address of a webhook, which is a secret, and what of it may be shown.

Whoever has such an address can post with it, so no output and no error here has more of it than scheme
and host.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from reconciler.secret import Secret

MAX_URL_CHARS = 2048
"""Longer than any webhook's address; servers refuse longer ones themselves."""


@dataclass(frozen=True, slots=True)
class Target:
    """One webhook. ``shown`` is all that may be seen of its address."""

    url: Secret
    shown: str


def parse_target(text: str) -> Target:
    """Return the webhook at ``text``; raises ValueError with a sentence that does not repeat it."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the address has a blank or a character that belongs in no address")
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"the address is longer than {MAX_URL_CHARS} characters")
    parts, host = _split(text)
    if parts.scheme not in ("https", "http"):
        raise ValueError("the address has to begin with https://")
    if not host:
        raise ValueError("the address names no host")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("plain http is for a loopback address only; use https")
    return Target(Secret(text), _shown(parts, host))


def _split(text: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(text)
        _ = parts.port  # is looked at only when it is asked for
    except ValueError:
        # The library's own words repeat the address.
        raise ValueError("the address is not one of the web") from None
    return parts, parts.hostname or ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(parts: SplitResult, host: str) -> str:
    named = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{named}{port}/…"
