"""Settings files that no account runs from: missing files, and files that were never valid.

Computed from events, as the runtime of an account is. No account reports these files: an account starts
with its first valid file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.events import (
    ConfigAccepted,
    ConfigMissing,
    ConfigRejected,
    Event,
    RejectedConfigRemoved,
)
from reconciler.core.monitoring.runtime import FileState, refused


@dataclass(frozen=True, slots=True)
class UnloadedFiles:
    """The files without an account. ``missing`` are paths of files or folders."""

    missing: tuple[str, ...] = ()
    rejected: tuple[FileState, ...] = ()


NONE = UnloadedFiles()


def with_event(not_loaded: UnloadedFiles, event: Event, *, wall: datetime) -> UnloadedFiles:
    """Return the unloaded files after ``event`` has happened, at ``wall``.

    A file that exists is not missing any more, valid or not. A file that is missing, or was removed, is not
    rejected any more.
    """
    match event:
        case ConfigMissing(paths=paths):
            refused_still = tuple(each for each in not_loaded.rejected if each.path not in paths)
            return UnloadedFiles(tuple(dict.fromkeys((*not_loaded.missing, *paths))), refused_still)
        case ConfigRejected(path=path, problems=problems, in_force=False):
            here = _without(_met(not_loaded, path), path)
            newest = refused(None, path, problems, wall, in_force=False)
            return replace(here, rejected=_by_path((*here.rejected, newest)))
        case ConfigAccepted(path=path):
            return _without(_met(not_loaded, path), path)
        case RejectedConfigRemoved(path=path):
            awaited_still = tuple(each for each in not_loaded.missing if each != path)
            return _without(replace(not_loaded, missing=awaited_still), path)
        case _:
            return not_loaded


def _met(not_loaded: UnloadedFiles, path: str) -> UnloadedFiles:
    """Remove ``path``, and a folder that contains it, from the missing ones."""
    left = (
        each for each in not_loaded.missing if path != each and not path.startswith(each.rstrip("/") + "/")
    )
    return replace(not_loaded, missing=tuple(left))


def _without(not_loaded: UnloadedFiles, path: str) -> UnloadedFiles:
    return replace(not_loaded, rejected=tuple(each for each in not_loaded.rejected if each.path != path))


def _by_path(files: tuple[FileState, ...]) -> tuple[FileState, ...]:
    return tuple(sorted(files, key=lambda each: each.path))
