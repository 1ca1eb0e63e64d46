"""Settings that no account is kept by: files that are not there yet, and files that never held.

Folded from events, as the runtime of an account are. Nobody else would speak of them: an account begins
with its first good file, and until then there is nothing that could be in trouble.
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
    """What there is no account for. ``awaited`` are paths, of files or folders; ``refused`` are files."""

    missing: tuple[str, ...] = ()
    rejected: tuple[FileState, ...] = ()


NONE = UnloadedFiles()


def with_event(not_loaded: UnloadedFiles, event: Event, *, wall: datetime) -> UnloadedFiles:
    """Return which settings nobody keeps once ``event`` has happened, at ``wall``.

    A file that is there is not waited for any more, whether it holds or not; one that is waited for is
    not refused, and one that is withdrawn neither.
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
    """Wait no longer for what ``path`` is, or is in."""
    left = (
        each for each in not_loaded.missing if path != each and not path.startswith(each.rstrip("/") + "/")
    )
    return replace(not_loaded, missing=tuple(left))


def _without(not_loaded: UnloadedFiles, path: str) -> UnloadedFiles:
    return replace(not_loaded, rejected=tuple(each for each in not_loaded.rejected if each.path != path))


def _by_path(files: tuple[FileState, ...]) -> tuple[FileState, ...]:
    return tuple(sorted(files, key=lambda each: each.path))
