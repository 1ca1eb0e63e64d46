"""A string that no output ever shows: keys, passphrases, and addresses that give access."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from typing import NoReturn, final

MASK = "***"

_ADDRESS = re.compile(r"[^\s'\"(]*(?:://|:[^\s'\"@]*@)[^\s'\")]*")
"""Text in the form of an address with a scheme, or of ``user:password@host`` without one."""


MIN_MASKED_CHARS = 6
"""Shorter values are not masked: they occur in other text, and OKX has no secret that short."""

_configured: list[str] = []
"""The secrets of this process; longest first, so that a secret within another one leaves no rest."""


def configure_masking(secrets: Iterable[str]) -> None:
    """Mask these secrets from now on, instead of the earlier ones."""
    del _configured[:]
    remember(secrets)


def remember(secrets: Iterable[str]) -> None:
    """Mask these secrets as well."""
    found = {secret for secret in secrets if len(secret) >= MIN_MASKED_CHARS} | {*_configured}
    _configured[:] = sorted(found, key=lambda secret: (-len(secret), secret))


def has_secret(text: str) -> bool:
    """Tell whether a configured secret is in ``text``, in any letter case, also with blanks within it."""
    secrets = tuple(_configured)
    if not secrets:
        return False
    forms = text.casefold(), "".join(text.split()).casefold()
    return any(secret.casefold() in form for secret in secrets for form in forms)


def masked(text: str) -> str:
    """Return ``text`` with each configured secret as ``***``."""
    return _replaced(text, lambda _: MASK) if has_secret(text) else text


def blanked(text: str) -> str:
    """Return ``text`` with each character of a configured secret as ``*``: positions do not change."""
    return _replaced(text, lambda found: "*" * len(found[0])) if has_secret(text) else text


def _replaced(text: str, by: Callable[[re.Match[str]], str]) -> str:
    return re.sub("|".join(map(re.escape, _configured)), by, text, flags=re.IGNORECASE)


def without_addresses(text: str) -> str:
    """Return ``text`` with each address masked: it may be a webhook, or contain a password."""
    return _ADDRESS.sub(MASK, text)


def without_arguments(text: str, arguments: Iterable[str]) -> str:
    """Return ``text`` with each command line argument masked that contains an address."""
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("-") else argument
        if _ADDRESS.search(value):
            for form in (repr(value)[1:-1], value, " ".join(value.split())):
                text = text.replace(form, MASK)
    return text


@final
class Secret:
    """A string that is never shown: every way of printing it gives ``***``, and it cannot be pickled."""

    __slots__ = ("_value",)

    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """Return the secret itself: only for signing, for headers and for masking."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret cannot be changed")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")
