"""Suggestions for hints: the key, family or word that is nearest to an unknown one.

A suggestion is only shown. Nothing is corrected automatically.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from reconciler.core.model import FAMILY_PATTERN

_KEY_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "timeInterval": ("window", "interval", "time", "monitoringwindow", "timewindow", "intervaltime"),
    "frozenInterval": ("freeze", "frozen", "freezeinterval", "frozentime", "freezetime", "cooldown"),
    "qtyLimit": ("limit", "qty", "quantity", "quantitylimit", "size", "contracts", "maxqty", "limitqty"),
    "environment": ("env", "mode", "stage"),
    "account": ("name", "accountname", "acct"),
    "families": ("family", "instfamily", "instfamilies", "instruments", "instfamilys", "underlyings"),
    "defaults": ("default", "common", "base"),
    "credentials": ("creds", "keys", "apikey", "secrets"),
    "prefix": ("envprefix", "variables"),
    "expect": ("expected",),
    "uid": ("userid", "id", "expecteduid"),
}
_ENVIRONMENT_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "live": ("prod", "production", "real", "main", "mainnet", "trading", "livetrading"),
    "demo": (
        "test",
        "testnet",
        "paper",
        "sandbox",
        "simulated",
        "simulation",
        "staging",
        "dev",
        "demotrading",
    ),
}
_GLUED = re.compile(r"([A-Z0-9]+?)[-_/:. ]?(USD[TC]?|EUR|BTC|ETH)(?:[-_/:. ]?(UM|CM))?")
_INSTRUMENT = re.compile(r"([A-Z0-9]+-[A-Z0-9]+(?:_[A-Z0-9]+)*)-(?:[0-9]{6}(?:-[0-9]+(?:-[CP])?)?|SWAP)")
_FAMILY = re.compile(FAMILY_PATTERN)


def nearest_key(key: str, allowed: Iterable[str]) -> str | None:
    """Return the one of ``allowed`` that ``key`` was probably meant to be, or None."""
    return _nearest(key, {each: _KEY_SYNONYMS.get(each, ()) for each in allowed})


def nearest_environment(word: str) -> str | None:
    """Return ``live`` or ``demo`` if ``word`` is another name or a misspelling for one, else None."""
    return _nearest(word, _ENVIRONMENT_SYNONYMS)


def nearest_family(name: str) -> str | None:
    """Return the family ``name`` was probably meant to be (``btc-usd`` and ``BTCUSD`` are BTC-USD)."""
    upper = name.strip().upper()
    if len(upper) > _LONGEST_WORD:
        return None
    if instrument := _INSTRUMENT.fullmatch(upper):
        return instrument[1]
    if _FAMILY.fullmatch(upper):
        return upper
    if glued := _GLUED.fullmatch(upper):
        margin = f"_{glued[3]}" if glued[3] else ""
        return f"{glued[1]}-{glued[2]}{margin}"
    return None


def _nearest(word: str, choices: Mapping[str, tuple[str, ...]]) -> str | None:
    from difflib import get_close_matches  # late, because only a file with an unknown key needs it

    known = {
        _normalized(spelling): choice
        for choice, others in choices.items()
        for spelling in (choice, *others)
    }
    normalized = _normalized(word[:_LONGEST_WORD])
    if normalized in known:
        return known[normalized]
    close = get_close_matches(normalized, [_normalized(choice) for choice in choices], n=1, cutoff=0.7)
    return known[close[0]] if close else None


_LONGEST_WORD = 40
"""Longer words are cut, because a comparison takes time by the square of the length. No key and no family
name is longer than this."""


def _normalized(word: str) -> str:
    return re.sub("[-_ .]", "", word).casefold()
