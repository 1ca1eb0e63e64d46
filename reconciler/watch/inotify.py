"""Directories watched by inotify, and their events. Only this file uses asyncinotify.

This file decides nothing. It translates the kernel's masks into file events, and reports directories that
it cannot watch. A directory is watched, never a file: a watch on a file ends with the first rename over it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reconciler.watch.symlinks import DirEntry
from reconciler.watch.write_completion import FileEvent, FileEventKind

if TYPE_CHECKING:
    from asyncinotify import Event, Inotify

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
        events: dict[FileEvent, None] = {}
        deaf = overflowed = False
        for event in self._events():
            deaf = deaf or self._lost_by(event)
            overflowed = overflowed or _is_overflow(event)
            notice = self._notice(event)
            if notice is not None:
                events.pop(notice, None)  # of equal events the last one counts, in its order
                events[notice] = None
        return InotifyBatch(tuple(events), deaf, overflowed)

    def _events(self) -> Iterator[Event]:
        if self._inotify is None:
            return
        for _ in range(MOST_EVENTS):
            event = self._inotify.sync_get()
            if event is None:
                return
            yield event

    def _watch(self, inotify: Inotify, directory: str) -> None:
        from asyncinotify import Mask

        mask = (
            Mask.CLOSE_WRITE
            | Mask.MOVED_TO
            | Mask.MOVED_FROM
            | Mask.MODIFY
            | Mask.CREATE
            | Mask.DELETE
            | Mask.DELETE_SELF
            | Mask.MOVE_SELF
            | Mask.ONLYDIR
            # No events of a file that was replaced and that a program still writes to.
            | Mask.EXCL_UNLINK
        )
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

    def _lost_by(self, event: Event) -> bool:
        """Tell whether a watch in use ended or its directory moved; removed watches do not count."""
        from asyncinotify import Mask

        watch = event.watch
        ending = Mask.IGNORED | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT
        return bool(event.mask & ending) and watch is not None and watch.wd in self._watched

    def _notice(self, event: Event) -> FileEvent | None:
        watch, name = event.watch, event.name
        if watch is None or name is None or watch.wd not in self._watched:
            return None
        sign = _sign(event.mask)
        return None if sign is None else FileEvent(DirEntry(self._watched[watch.wd], os.fspath(name)), sign)


def _sign(mask: Any) -> FileEventKind | None:
    from asyncinotify import Mask

    signs = {
        Mask.CLOSE_WRITE: FileEventKind.CLOSED,
        Mask.MOVED_TO: FileEventKind.MOVED_IN,
        Mask.MODIFY: FileEventKind.MODIFIED,
        Mask.CREATE: FileEventKind.CREATED,
        Mask.DELETE: FileEventKind.GONE,
        Mask.MOVED_FROM: FileEventKind.GONE,
    }
    return next((sign for bit, sign in signs.items() if bit in mask), None)


def _is_overflow(event: Event) -> bool:
    from asyncinotify import Mask

    return Mask.Q_OVERFLOW in event.mask


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return _WHY.get(error.errno or 0, error.strerror or "inotify failed")
    return "inotify is not there"
