"""The address of a webhook, which is a secret, and the part that may be shown.

Anyone with the address can post to it, so every output and error here shows only scheme and host.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from reconciler.secret import Secret

MAX_URL_CHARS = 2048
"""Longer than any webhook's address; servers refuse longer ones themselves."""


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """One webhook. ``shown`` is the only part of its address that may be shown."""

    url: Secret
    shown: str


def parse_target(text: str) -> WebhookAddress:
    """Return the webhook at ``text``; raises ValueError with a message that does not repeat ``text``."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the address has a blank or another character that is not allowed")
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"the address is longer than {MAX_URL_CHARS} characters")
    parts, host = _split(text)
    if parts.scheme not in ("https", "http"):
        raise ValueError("the address must begin with https://")
    if not host:
        raise ValueError("the address names no host")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("plain http is for a loopback address only; use https")
    return WebhookAddress(Secret(text), _shown(parts, host))


def _split(text: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(text)
        _ = parts.port  # the port is checked only when it is read
    except ValueError:
        # The library's message repeats the address.
        raise ValueError("the address is not an http(s) address") from None
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
