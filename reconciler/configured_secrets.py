"""The secrets that this process was given, wherever they are: to be masked in what is quoted of files.

A settings file may hold a key by mistake, and a path may lead to a key file. This file only collects the
values. It decides nothing about keys, and says nothing of what it could not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from reconciler.regular_file import read_with_status

MAX_CHARS = 4096
"""Bound on what is taken for a secret; keys have tens of characters."""

_NAMES = ("_API_KEY", "_SECRET_KEY", "_PASSPHRASE", "PGPASSWORD")
"""How variables with secrets end, whatever the prefix of a key is."""

_PASSWORD = re.compile(r"://[^/?@]*?:(.+)@|[?&](?:ssl)?password=([^&]+)")


def configured_secrets(environ: Mapping[str, str], state: str = "") -> Iterator[str]:
    """Yield keys and passwords in variables, in files that variables name, and in the address ``state``."""
    for name, value in environ.items():
        if name.endswith(_NAMES):
            yield value[:MAX_CHARS]
        elif name.endswith(tuple(f"{ending}_FILE" for ending in _NAMES)):
            with suppress(OSError, ValueError):
                yield read_with_status(value, MAX_CHARS)[1].decode().strip()
    for match in _PASSWORD.finditer(state):
        yield from filter(None, match.groups())
