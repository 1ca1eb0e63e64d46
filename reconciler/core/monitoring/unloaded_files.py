"""Settings that no account is kept by: files that are not there yet, and files that never held.

Folded from events, as the vitals of an account are. Nobody else would speak of them: an account begins
with its first good file, and until then there is nothing that could be in trouble.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from reconciler.core.events import ConfigAccepted, ConfigAwaited, ConfigRejected, ConfigWithdrawn, Event
from reconciler.core.monitoring.runtime import FileState, refused


@dataclass(frozen=True, slots=True)
class Unkept:
    """What there is no account for. ``awaited`` are paths, of files or folders; ``refused`` are files."""

    awaited: tuple[str, ...] = ()
    refused: tuple[FileState, ...] = ()


NOTHING = Unkept()


def unkept_after(unkept: Unkept, event: Event, *, wall: datetime) -> Unkept:
    """Return which settings nobody keeps once ``event`` has happened, at ``wall``.

    A file that is there is not waited for any more, whether it holds or not; one that is waited for is
    not refused, and one that is withdrawn neither.
    """
    match event:
        case ConfigAwaited(paths=paths):
            refused_still = tuple(each for each in unkept.refused if each.path not in paths)
            return Unkept(tuple(dict.fromkeys((*unkept.awaited, *paths))), refused_still)
        case ConfigRejected(path=path, problems=problems, in_force=False):
            here = _without(_met(unkept, path), path)
            newest = refused(None, path, problems, wall, in_force=False)
            return replace(here, refused=_by_path((*here.refused, newest)))
        case ConfigAccepted(path=path):
            return _without(_met(unkept, path), path)
        case ConfigWithdrawn(path=path):
            awaited_still = tuple(each for each in unkept.awaited if each != path)
            return _without(replace(unkept, awaited=awaited_still), path)
        case _:
            return unkept


def _met(unkept: Unkept, path: str) -> Unkept:
    """Wait no longer for what ``path`` is, or is in."""
    left = (each for each in unkept.awaited if path != each and not path.startswith(each.rstrip("/") + "/"))
    return replace(unkept, awaited=tuple(left))


def _without(unkept: Unkept, path: str) -> Unkept:
    return replace(unkept, refused=tuple(each for each in unkept.refused if each.path != path))


def _by_path(files: tuple[FileState, ...]) -> tuple[FileState, ...]:
    return tuple(sorted(files, key=lambda each: each.path))
