"""Resolves a path: every name whose replacement changes what is read at the path.

A path is more than its last name: a Kubernetes ConfigMap is replaced by moving the link ``..data``,
a release by moving a link further up. This file decides which names those are, and which directories
have to be watched for a replacement. It changes nothing, and follows no more links than the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

MAX_LINKS = 40
"""The most links followed in one path, as in Linux (path_resolution(7)): a loop of links ends here."""


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name in one directory; the directory's path goes through no links."""

    directory: str
    name: str


@dataclass(frozen=True, slots=True)
class WatchPath:
    """The directory entries on a path (``entries``), and the ``directories`` that show a replacement."""

    entries: frozenset[DirEntry] = frozenset()
    directories: frozenset[str] = frozenset()


def resolve_path(path: str) -> WatchPath:
    """Return the watch path of ``path`` as it is now; it ends at the first missing name, if there is one.

    A directory is watched only for a link, the file or a missing name in it. More directories would be too
    many, and a directory that is deleted or moved has an event of its own.
    """
    entries: set[DirEntry] = set()
    watched: set[str] = set()
    directory, names, links = os.path.realpath(os.curdir), _names(path), 0
    if path.startswith(os.sep):
        directory = os.sep
    while names:
        name = names.pop()
        if name == os.pardir:
            directory = os.path.dirname(directory)
            continue
        entries.add(DirEntry(directory, name))
        here = os.path.join(directory, name)
        target = _target(here)
        if target is None and names and os.path.isdir(here):
            directory = here
            continue
        watched.add(directory)
        links += 1
        if target is None or links > MAX_LINKS:
            break
        names += _names(target)
        directory = os.sep if target.startswith(os.sep) else directory
    return WatchPath(frozenset(entries), frozenset(watched))


def union(routes: Iterable[WatchPath]) -> WatchPath:
    """Return several watch paths as one."""
    found = tuple(routes)
    return WatchPath(
        frozenset().union(*(each.entries for each in found)),
        frozenset().union(*(each.directories for each in found)),
    )


def _names(path: str) -> list[str]:
    """Return the names of a path in reverse order, without empty names and ``.``."""
    return [name for name in reversed(path.split(os.sep)) if name not in ("", os.curdir)]


def _target(path: str) -> str | None:
    """Return the target of a link; None if there is no link at ``path``, or nothing at all."""
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return None
