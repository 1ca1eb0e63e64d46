"""The settings files of a ``run``: which files exist, and the content of each.

A path without a file is watched until a file appears. A file that disappears ends nothing: its last valid
content stays in use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from reconciler.config.settings import Reading
from reconciler.core.events import ConfigMissing, Event, RejectedConfigRemoved
from reconciler.core.problems import Problem
from reconciler.watch.config_files import (
    ConfigRead,
    FilesFound,
    MissingConfig,
    Rejected,
    WatchedFile,
    WatchedPath,
    same_file,
)
from reconciler.watch.watcher import FileWatcher, Watchable, WatchHandle
from reconciler.watch.write_completion import FileTracker


class ConfigUser(Protocol):
    """What runs accounts from settings files."""

    def has_account(self, path: str) -> bool:
        """Tell whether an account runs from the file at ``path``."""
        ...

    def reject(self, reading: Reading) -> Problem | None:
        """Return why a new file must not start an account; None if it may."""
        ...

    def on_config(self, file: WatchedFile, seen: ConfigRead | MissingConfig | Rejected) -> None:
        """Handle new content of a file, or its problems."""
        ...


class WatchedConfigs:
    """The settings files that are watched, by path."""

    def __init__(self, watcher: FileWatcher, user: ConfigUser, report: Callable[[Event], None]) -> None:
        self._watcher = watcher
        self._user = user
        self._report = report
        self._files: dict[str, WatchedFile] = {}
        self._handles: dict[str, WatchHandle] = {}

    def add_path(self, path: str) -> None:
        """Watch a file or folder of the command line for settings files."""
        place = WatchedPath(path)
        with suppress(OSError):  # a folder that cannot be listed now is listed soon
            if not place.read():
                self._report(ConfigMissing((path,)))
        self._watcher.add(place, lambda seen: self._on_paths(place, seen), place.follows)

    def add_file(self, file: WatchedFile, *, complete: bool = False) -> None:
        """Watch a settings file; ``complete``: its writer has just closed it."""
        self._files[file.path] = file
        watched: Watchable[Reading, ConfigRead | MissingConfig | Rejected] = file
        handle = self._watcher.add(watched, lambda seen: self._user.on_config(file, seen))
        self._handles[file.path] = handle
        if complete:
            handle.attention = FileTracker(handle.attention.look_at, whole=True)

    def is_watched(self, file: WatchedFile) -> bool:
        """Tell whether this file is still watched."""
        return self._files.get(file.path) is file

    def handle(self, file: WatchedFile) -> WatchHandle:
        """Return the handle of a watched file."""
        return self._handles[file.path]

    def _on_paths(self, place: WatchedPath, seen: FilesFound) -> None:
        """Watch the files that a path leads to now, and forget those that never were valid."""
        for path in seen.paths:
            if not any(same_file(path, known) for known in self._files):
                self.add_file(WatchedFile(path, refuse=self._user.reject), complete=seen.whole)
        for path in [
            path for path in self._files if not self._user.has_account(path) and _is_no_file(path)
        ]:
            self._remove(path)
        if not seen.paths and not any(_leads_to(place, path) for path in self._files):
            self._report(ConfigMissing((place.path,)))

    def _remove(self, path: str) -> None:
        """Stop watching a file that was removed and never was valid."""
        del self._files[path]
        self._watcher.remove(self._handles.pop(path))
        self._report(RejectedConfigRemoved(path))


def _is_no_file(path: str) -> bool:
    """Tell whether a path does not exist or is a folder now, as a link without a target may become one."""
    return not os.path.lexists(path) or os.path.isdir(path)


def _leads_to(place: WatchedPath, path: str) -> bool:
    return Path(place.path) in (Path(path), Path(path).parent)
