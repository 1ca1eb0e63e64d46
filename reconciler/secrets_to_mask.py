"""Collects the secrets of this process from all their sources, to mask them in quotes from files.

A settings file may contain a key by mistake, and a path may lead to a key file. This file only collects the
values. It decides nothing about keys, and does not report what it could not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from urllib.parse import unquote

from reconciler.regular_file import read_with_status

MAX_CHARS = 4096
"""The most characters of a secret; keys have tens of characters."""

_NAMES = ("_API_KEY", "_SECRET_KEY", "_PASSPHRASE", "PGPASSWORD")
"""How the names of variables with secrets end, for any prefix of a key."""

MIN_TOKEN_CHARS = 16
"""The least length of a part of a webhook's address that counts as a secret; shorter parts are words."""

_PASSWORD = re.compile(r"://[^/?@]*?:(.+)@|[?&](?:ssl)?password=([^&]+)")
_WEBHOOK = re.compile(r"https?://[^/?#\s]*[/?#]+([^\s]+)", re.IGNORECASE)


def configured_secrets(
    environ: Mapping[str, str], arguments: Iterable[str] = (), webhooks: Iterable[str] = ()
) -> Iterator[str]:
    """Yield keys and passwords in variables and in the files that variables name, and secrets of addresses.

    Addresses are in MMP_STATE, in ``arguments`` of the command line, in MMP_NOTIFY and in ``webhooks``.
    """
    for name, value in environ.items():
        if name.endswith(_NAMES):
            yield value[:MAX_CHARS]
        elif name.endswith(tuple(f"{ending}_FILE" for ending in _NAMES)):
            with suppress(OSError, ValueError):
                yield read_with_status(value, MAX_CHARS)[1].decode().strip()
    posts_to = [*environ.get("MMP_NOTIFY", "").split(), *webhooks]
    for address in (environ.get("MMP_STATE", ""), *arguments, *posts_to):
        for match in _PASSWORD.finditer(address[:MAX_CHARS]):
            for password in filter(None, match.groups()):
                yield from dict.fromkeys((password, unquote(password)))
    for address in posts_to:
        yield from _of_webhook(address[:MAX_CHARS])


def _of_webhook(address: str) -> Iterator[str]:
    """Yield the address, and each long part after the host; never the host alone."""
    found = _WEBHOOK.match(address)
    if found is not None:
        yield address
        for written in dict.fromkeys((found[1], *re.split(r"[/?&=#]", found[1]))):
            if len(written) >= MIN_TOKEN_CHARS:
                yield from dict.fromkeys((written, unquote(written)))
