"""Which families the globs of a command line name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from reconciler.core.model import Desired, Family
from reconciler.errors import UsageError


def is_match(family: Family, globs: tuple[str, ...]) -> bool:
    """Return whether ``family`` matches any of ``globs``."""
    return any(fnmatchcase(family, glob) for glob in globs)


def matching_families(desired: Desired, globs: tuple[str, ...]) -> frozenset[Family] | None:
    """Return the desired families that match any of ``globs``; None when there are no globs."""
    if not globs:
        return None
    return frozenset(family for family in desired.families if is_match(family, globs))


def no_match(globs: tuple[str, ...], *, what: str = "desired family") -> UsageError:
    """Return the error of a command whose globs match no family."""
    return UsageError(
        "no-family",
        f"no {what} matches {', '.join(globs)}",
        "compare with the families of the file or of mmp status; put a pattern such as 'BTC-*' in quotes",
    )
