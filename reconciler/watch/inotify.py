"""Directories watched by inotify, and their events. Only this file uses asyncinotify.

This file decides nothing. It translates the kernel's masks into file events, and reports directories that
it cannot watch. A directory is watched, never a file: a watch on a file ends with the first rename over it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from reconciler.watch.symlinks import DirEntry
from reconciler.watch.write_completion import FileEvent, FileEventKind

if TYPE_CHECKING:
    from asyncinotify import Inotify, Mask

EVENTS_A_READ = 64
"""Events read from the kernel at a time: a burst of renames costs few reads."""

MOST_EVENTS = 1 << 16
"""The most events handled in one call, four times the kernel's default queue. So one call handles every
event that was queued before it, and a program that writes without end does not block the loop."""

_WHY = {
    errno.ENOSPC: "too many inotify watches: raise fs.inotify.max_user_watches",
    errno.EMFILE: "too many inotify instances: raise fs.inotify.max_user_instances",
}


@dataclass(frozen=True, slots=True)
class InotifyBatch:
    """The events since the last read.

    ``degraded``: a watched directory was deleted or moved. ``overflowed``: the kernel's queue
    overflowed, so events are missing.
    """

    events: tuple[FileEvent, ...] = ()
    degraded: bool = False
    overflowed: bool = False


@dataclass(slots=True)
class InotifyDirectories:
    """The watched directories. ``error`` is why some directory is not watched; None: all are.

    ``missed``: a directory did not exist when its watch was added, so its path has to be resolved again.
    """

    error: str | None = None
    missed: bool = False
    _inotify: Inotify | None = None
    _watched: dict[int, str] = field(default_factory=dict)
    _readable: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def open(cls) -> InotifyDirectories:
        """Start inotify in the running event loop; if that fails, ``error`` says why."""
        try:
            from asyncinotify import Inotify  # late: without it files are polled

            inotify = Inotify(cache_size=EVENTS_A_READ, sync_timeout=0)
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            return cls(error=_why(error))
        inotify_directories = cls(_inotify=inotify)
        asyncio.get_running_loop().add_reader(inotify.fd, inotify_directories._readable.set)
        return inotify_directories

    def close(self) -> None:
        """Stop inotify. It is safe to call this twice."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

    def set_directories(self, directories: Iterable[str]) -> None:
        """Watch exactly these directories; a new directory at the same path is watched as a new one."""
        if self._inotify is None:
            return
        self.error, self.missed = None, False
        before, self._watched = self._watched, {}
        for directory in sorted(directories):
            self._watch(self._inotify, directory)
        for number in before.keys() - self._watched.keys():
            self._forget(self._inotify, number)

    async def wait(self, timeout_s: float) -> None:
        """Return when there are events, when woken, or after ``timeout_s``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._readable.wait()

    def wake(self) -> None:
        """Make ``wait`` return."""
        self._readable.set()

    def read_events(self) -> InotifyBatch:
        """Return the events up to now; does not wait."""
        self._readable.clear()
        if self._inotify is None:
            return InotifyBatch()
        from asyncinotify import Mask

        kinds, ending = _kinds(), Mask.IGNORED | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT
        events: dict[FileEvent, None] = {}
        degraded = overflowed = False
        for _ in range(MOST_EVENTS):
            event = self._inotify.sync_get()
            if event is None:
                break
            watch, mask = event.watch, event.mask
            overflowed = overflowed or Mask.Q_OVERFLOW in mask
            if watch is None or watch.wd not in self._watched:
                continue  # a watch that was removed
            degraded = degraded or bool(mask & ending)
            kind = next((kind for bit, kind in kinds.items() if bit in mask), None)
            if event.name is not None and kind is not None:
                found = FileEvent(DirEntry(self._watched[watch.wd], os.fspath(event.name)), kind)
                events.pop(found, None)  # of equal events the last one counts, in its order
                events[found] = None
        return InotifyBatch(tuple(events), degraded, overflowed)

    def _watch(self, inotify: Inotify, directory: str) -> None:
        from asyncinotify import Mask

        # EXCL_UNLINK: no events of a file that was replaced and that a program still writes to.
        mask = reduce(or_, _kinds(), Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR | Mask.EXCL_UNLINK)
        try:
            self._watched[inotify.add_watch(directory, mask).wd] = directory
        except (FileNotFoundError, NotADirectoryError):
            self.missed = True
        except OSError as error:
            self.error = _why(error)

    def _forget(self, inotify: Inotify, number: int) -> None:
        for watch in inotify.watches:
            if watch.wd == number:
                with suppress(OSError):  # the watch ends with its directory
                    inotify.rm_watch(watch)


def _kinds() -> dict[Mask, FileEventKind]:
    from asyncinotify import Mask

    return {
        Mask.CLOSE_WRITE: FileEventKind.CLOSED,
        Mask.MOVED_TO: FileEventKind.MOVED_IN,
        Mask.MODIFY: FileEventKind.MODIFIED,
        Mask.CREATE: FileEventKind.CREATED,
        Mask.DELETE: FileEventKind.GONE,
        Mask.MOVED_FROM: FileEventKind.GONE,
    }


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return _WHY.get(error.errno or 0, error.strerror or "inotify failed")
    return "inotify is not available"
