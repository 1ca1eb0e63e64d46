"""Settings files that no account runs from: missing files, and files that were never valid.

Computed from events, as the runtime of an account is. No account reports these files: an account starts
with its first valid file.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler.core import events
from reconciler.core.monitoring.account_runtime import RejectedFile, rejected_file


@dataclass(frozen=True, slots=True)
class UnloadedFiles:
    """The files without an account. ``missing`` are paths of files or folders."""

    missing: tuple[str, ...] = ()
    rejected: tuple[RejectedFile, ...] = ()


NO_UNLOADED_FILES = UnloadedFiles()


def with_event(unloaded: UnloadedFiles, event: events.Event, *, wall: datetime) -> UnloadedFiles:
    """Return the unloaded files after ``event`` has happened, at ``wall``.

    A file that exists is not missing any more, valid or not. A file that is missing, or was removed, is not
    rejected any more.
    """
    missing, rejected = unloaded.missing, unloaded.rejected
    match event:
        case events.ConfigMissing(paths=paths):
            return UnloadedFiles(tuple(dict.fromkeys((*missing, *paths))), _without(rejected, *paths))
        case events.ConfigRejected(path=path, in_force=False):
            files = (*_without(rejected, path), rejected_file(None, event, wall))
            return UnloadedFiles(
                _still_missing(missing, path), tuple(sorted(files, key=lambda one: one.path))
            )
        case events.ConfigAccepted(path=path):
            return UnloadedFiles(_still_missing(missing, path), _without(rejected, path))
        case events.RejectedConfigRemoved(path=path):
            left = tuple(each for each in missing if each != path)
            return UnloadedFiles(left, _without(rejected, path))
        case _:
            return unloaded


def _still_missing(missing: tuple[str, ...], path: str) -> tuple[str, ...]:
    """Return the missing paths without ``path``, which exists, and without a folder that contains it."""
    return tuple(each for each in missing if path != each and not path.startswith(each.rstrip("/") + "/"))


def _without(rejected: tuple[RejectedFile, ...], *paths: str) -> tuple[RejectedFile, ...]:
    return tuple(each for each in rejected if each.path not in paths)
