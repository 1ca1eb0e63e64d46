"""Decides when each file is read: at once after an event of its directory, and at intervals in any case.

This file decides when to read, and which events concern which file. ``watch/write_completion.py`` decides
how far a read can be trusted, and the watched object's own ``decide`` what it means. The result goes to a
callback. A read during which the file was written to does not count.

Files are read and parsed in threads, so no file delays the event loop. A file that cannot be read to its
end (a mount that does not answer) delays only what depends on that file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from reconciler.core.events import ConfigRejected, PolicyRejected
from reconciler.daemon_threads import DaemonThreadExecutor
from reconciler.ports import Clock
from reconciler.watch.inotify import InotifyDirectories
from reconciler.watch.last_valid_content import Undecided
from reconciler.watch.symlinks import DirEntry, WatchPath, union
from reconciler.watch.write_completion import (
    SECOND_READ_S,
    UNCLOSED_S,
    FileEvent,
    FileEventKind,
    FileTracker,
    ReadConfidence,
)

POLL_S = 15.0
"""The time between two reads of all files while directories are watched. Such a read finds changes without
an event (a remote file system, a change further up). Four wake-ups a minute."""

DEGRADED_POLL_S = 1.0
"""The same while some directory cannot be watched."""

READERS = 16
"""The most files read at once; each of them may be on a mount that does not answer."""

READ_BEFORE_SENDING_WITHIN_S = 1.0
"""How long a Set MMP request waits for its files to be read; then a file counts as undecided."""

RESOURCE_ERRORS = (OSError, MemoryError)
"""Raised when threads, memory or descriptors are short; it says nothing about the file."""

NOT_IN_FORCE = Undecided | ConfigRejected | PolicyRejected
"""The decisions about content of a file that is not in force."""

Content = TypeVar("Content")
Decision_co = TypeVar("Decision_co", covariant=True)
Decision = TypeVar("Decision")


class Watchable(Protocol[Content, Decision_co]):
    """Something that is read from files again and again."""

    def watch_path(self) -> WatchPath:
        """Return its watch path as it is now."""

    def read(self) -> Content:
        """Read it."""

    def decide(
        self, content: Content, confidence: ReadConfidence, now: float
    ) -> Decision_co | Undecided | None:
        """Decide what the content means; ``Undecided``: read again; None: nothing changed."""


@dataclass(slots=True, eq=False)
class WatchHandle:
    """One watched object and its state; ``on_decision`` is called with each decision.

    ``follows``: which names beyond its watch path concern it. ``forced``: the next read decides, even while
    the file is being written. ``reading`` is the call in a thread that has not ended, ``task`` is the task
    that reads now.
    """

    watched: Watchable[Any, Any]
    on_decision: Callable[[Any], None]
    follows: Callable[[DirEntry], bool]
    tracker: FileTracker
    watch_path: WatchPath = field(default_factory=WatchPath)
    forced: bool = False
    reading: asyncio.Future[Any] | None = None
    task: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def on_events(self, events: tuple[FileEvent, ...], now: float) -> bool:
        """Take the events that concern this object; returns whether its watch path may have changed."""
        moved = False
        for event in events:
            if event.entry in self.watch_path.entries or self.follows(event.entry):
                self.tracker = self.tracker.on_event(event.kind, now)
                moved = moved or event.kind not in (FileEventKind.MODIFIED, FileEventKind.CLOSED)
        return moved


@dataclass(slots=True)
class FileWatcher:
    """All watched objects. ``on_degraded`` is called once, when some directory cannot be watched."""

    clock: Clock
    on_degraded: Callable[[str], None]
    inotify_directories: InotifyDirectories = field(default_factory=InotifyDirectories.open)
    handles: list[WatchHandle] = field(default_factory=list)
    _threads: DaemonThreadExecutor = field(default_factory=lambda: DaemonThreadExecutor(READERS))
    _failure: BaseException | None = None
    _poll_at: float = float("-inf")
    _degradation_reported: bool = False
    _unclosed: dict[DirEntry, float] = field(default_factory=dict)
    """When names in watched directories were last written to and not closed since. It includes names that
    are not watched yet: a file may be added while it is being written."""

    def add(
        self,
        watched: Watchable[Content, Decision],
        on_decision: Callable[[Decision], None],
        follows: Callable[[DirEntry], bool] = lambda _: False,
    ) -> WatchHandle:
        """Watch one more object; ``on_decision`` is called with each decision about it.

        ``follows``: which names beyond its watch path concern it. The first read is due at once.
        """
        handle = WatchHandle(watched, on_decision, follows, FileTracker(self.clock.now()))
        self.handles.append(handle)
        self._watch_paths([handle])
        written = [self._unclosed[entry] for entry in handle.watch_path.entries & self._unclosed.keys()]
        if written:
            handle.tracker = handle.tracker.on_event(FileEventKind.MODIFIED, max(written))
        self.inotify_directories.wake()
        return handle

    def remove(self, handle: WatchHandle) -> None:
        """Stop watching this object."""
        self.handles.remove(handle)

    async def run(self) -> None:
        """Watch without end. Raises what a read or a decision failed with."""
        try:
            while True:
                self.run_once()
                await self.inotify_directories.wait(max(0.0, self._next_at() - self.clock.now()))
                if self._failure is not None:
                    raise self._failure
        finally:
            for handle in self.handles:
                if handle.task is not None:
                    handle.task.cancel()
            self.inotify_directories.close()

    def run_once(self) -> None:
        """Handle the events, and start the reads that are due."""
        self._handle_events()
        if self.clock.now() >= self._poll_at:
            self._recheck_all()
        for handle in self.handles:
            if handle.tracker.due(self.clock.now()):
                self._begin(handle)

    async def in_thread(self, read: Callable[[], Content]) -> Content:
        """Run ``read`` in a thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def retried_in_thread(self, read: Callable[[], Content]) -> Content:
        """Run ``read`` in a thread; retry while threads, memory or the like are short."""
        while True:
            try:
                return await self.in_thread(read)
            except RESOURCE_ERRORS:
                await asyncio.sleep(SECOND_READ_S)

    def reread_all(self) -> None:
        """Read all files again now.

        These reads decide at once: a person asked for the reload, so the files are taken as complete.
        """
        for handle in self.handles:
            handle.tracker, handle.forced = FileTracker(read_at=self.clock.now(), complete=True), True
            self._begin(handle)

    async def read_before_sending(self, *handles: WatchHandle) -> bool:
        """Read these now: a change may have no event (a hard link, a remote file system).

        False: content was found that is not in force, because it is undecided or invalid, or a file could
        not be read within READ_BEFORE_SENDING_WITHIN_S. If the content has not changed, the cost is one
        read and one hash.
        """
        reads = [asyncio.create_task(self._read(handle, extra=True)) for handle in handles]
        try:
            _, late = await asyncio.wait(reads, timeout=READ_BEFORE_SENDING_WITHIN_S)
        finally:
            for read in reads:
                read.cancel()
        self.inotify_directories.wake()  # reads may be due sooner now
        return not late and not any(isinstance(read.result(), NOT_IN_FORCE) for read in reads)

    def _next_at(self) -> float:
        due = (handle.tracker.read_at for handle in self.handles if handle.task is None)
        return min((self._poll_at, *(at for at in due if at is not None)))

    def _begin(self, handle: WatchHandle) -> None:
        """Start a read of one object; a read in progress schedules the next one itself."""
        if handle.task is None:
            handle.task = asyncio.create_task(self._read_and_wake(handle))

    async def _read_and_wake(self, handle: WatchHandle) -> None:
        try:
            await self._read(handle)
        except Exception as failure:
            self._failure = failure
        finally:
            handle.task = None
            self.inotify_directories.wake()

    async def _read(self, handle: WatchHandle, *, extra: bool = False) -> object:
        """Read one object and return the decision; None if it is not watched any more.

        If threads, memory or the like are short, nothing is decided. After an ``extra`` read that decided
        nothing, a read that was due stays due.
        """
        async with handle.lock:
            now, before = self.clock.now(), handle.tracker
            try:
                content = await self._content(handle)
            except RESOURCE_ERRORS:
                handle.tracker = handle.tracker.failed(self.clock.now())
                return Undecided()
            if handle not in self.handles:
                return None
            # Events are read after the file: a file written to during the read may be incomplete.
            self._handle_events()
            confidence = min(before.confidence(now), handle.tracker.confidence(now))
            if handle.forced:
                confidence, handle.forced = ReadConfidence.COMPLETE, False
            decision = handle.watched.decide(content, confidence, now)
            undecided = isinstance(decision, Undecided)
            if extra and undecided:
                handle.tracker = handle.tracker.after_extra_read(now)
            elif handle.tracker is before and not (extra and decision is None):
                handle.tracker = before.after_read(now, unsure=undecided)
            if decision is not None and not undecided:
                handle.on_decision(decision)
            return decision

    async def _content(self, handle: WatchHandle) -> object:
        """Read in a thread; first wait for the end of an abandoned read."""
        while handle.reading is not None:
            await asyncio.wait({handle.reading})
        reading = asyncio.ensure_future(self.in_thread(handle.watched.read))
        handle.reading = reading
        reading.add_done_callback(lambda _: setattr(handle, "reading", None))
        return await asyncio.shield(reading)

    def _handle_events(self) -> None:
        batch, now = self.inotify_directories.read_events(), self.clock.now()
        self._track_unclosed(batch.events, now)
        # This runs at every read of a file. There may be hundreds, and mostly there are no events.
        handles = self.handles if batch.events else []
        moved = [handle for handle in handles if handle.on_events(batch.events, now)]
        if batch.overflowed:
            for handle in self.handles:
                handle.tracker = handle.tracker.reset(now)
        if batch.degraded or batch.overflowed:
            self._recheck_all()
        elif moved:
            self._watch_paths(moved)

    def _track_unclosed(self, events: tuple[FileEvent, ...], now: float) -> None:
        for event in events:
            if event.kind is FileEventKind.MODIFIED:
                self._unclosed[event.entry] = now
            elif event.kind is not FileEventKind.CREATED:
                self._unclosed.pop(event.entry, None)
        self._unclosed = {entry: at for entry, at in self._unclosed.items() if now < at + UNCLOSED_S}

    def _recheck_all(self) -> None:
        """Read all files again, and watch their paths as they are now."""
        self._watch_paths(self.handles)
        now = self.clock.now()
        for handle in self.handles:
            handle.tracker = handle.tracker.recheck(now)
        reports_all = self.inotify_directories.error is None and not self.inotify_directories.missed
        self._poll_at = now + (POLL_S if reports_all else DEGRADED_POLL_S)

    def _watch_paths(self, moved: list[WatchHandle]) -> None:
        """Watch the paths as they are now. The caller makes sure that moved files are read."""
        for handle in moved:
            handle.watch_path = handle.watched.watch_path()
        directories = self.inotify_directories
        directories.set_directories(union(handle.watch_path for handle in self.handles).directories)
        if directories.missed:
            self._poll_at = min(self._poll_at, self.clock.now() + DEGRADED_POLL_S)
        if directories.error is not None and not self._degradation_reported:
            self._degradation_reported = True
            self.on_degraded(directories.error)
