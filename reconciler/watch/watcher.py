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
from reconciler.watch.config_files import Undecided
from reconciler.watch.inotify import InotifyDirectories
from reconciler.watch.symlinks import DirEntry, WatchPath, union
from reconciler.watch.write_completion import (
    SECOND_LOOK_S,
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

RETRY_FOR_S = 1.0
"""How long a request waits for the read before it; then the file counts as undecided."""

RESOURCE_ERRNOS = (OSError, MemoryError)
"""Raised when threads, memory or descriptors are short; it says nothing about the file."""

NOT_IN_FORCE = Undecided | ConfigRejected | PolicyRejected
"""The decisions about content of a file that is not in force."""

Content = TypeVar("Content")
Decision_co = TypeVar("Decision_co", covariant=True)
Decision = TypeVar("Decision")


class Watchable(Protocol[Content, Decision_co]):
    """Something that is read from files again and again."""

    def route(self) -> WatchPath:
        """Return its watch path as it is now."""
        ...

    def read(self) -> Content:
        """Read it."""
        ...

    def decide(self, content: Content, trust: ReadConfidence, now: float) -> Decision_co | Undecided | None:
        """Decide what the content means; ``Undecided``: read again; None: nothing changed."""
        ...


@dataclass(slots=True, eq=False)
class WatchHandle:
    """One watched object and its state; ``tell`` is called with each decision.

    ``ordered``: the next read decides, even while the file is being written. ``reading`` is the call in a
    thread that has not ended, ``task`` the task that reads now.
    """

    read: Callable[[], Any]
    decide: Callable[[Any, ReadConfidence, float], Any]
    way: Callable[[], WatchPath]
    tell: Callable[[Any], None]
    follows: Callable[[DirEntry], bool] | None
    attention: FileTracker
    route: WatchPath = field(default_factory=WatchPath)
    ordered: bool = False
    reading: asyncio.Future[Any] | None = None
    task: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def notice(self, notice: FileEvent, now: float) -> bool:
        """Take an event; returns whether it concerns this object."""
        spot = notice.spot
        concerned = spot in self.route.spots or (self.follows is not None and self.follows(spot))
        if concerned:
            self.attention = self.attention.on_event(notice.sign, now)
        return concerned


@dataclass(slots=True)
class FileWatcher:
    """All watched objects. ``on_degraded`` is called once, when some directory cannot be watched."""

    clock: Clock
    on_degraded: Callable[[str], None]
    inotify_directories: InotifyDirectories = field(default_factory=InotifyDirectories.open)
    posts: list[WatchHandle] = field(default_factory=list)
    _threads: DaemonThreadExecutor = field(default_factory=lambda: DaemonThreadExecutor(READERS))
    _failure: BaseException | None = None
    _poll_at: float = float("-inf")
    _said_deaf: bool = False
    _unclosed: dict[DirEntry, float] = field(default_factory=dict)
    """When names in watched directories were last written to and not closed since. It includes names that
    are not watched yet: a file may be added while it is being written."""

    def add(
        self,
        watched: Watchable[Content, Decision],
        tell: Callable[[Decision], None],
        follows: Callable[[DirEntry], bool] | None = None,
    ) -> WatchHandle:
        """Watch one more object; ``tell`` is called with each decision about it.

        ``follows``: which names beyond its watch path concern it. The first read is due at once.
        """
        post = WatchHandle(
            watched.read, watched.decide, watched.route, tell, follows, FileTracker(self.clock.now())
        )
        self.posts.append(post)
        self._cover([post])
        written = [self._unclosed[spot] for spot in post.route.spots & self._unclosed.keys()]
        if written:
            post.attention = post.attention.on_event(FileEventKind.MODIFIED, max(written))
        self.inotify_directories.wake()
        return post

    def remove(self, post: WatchHandle) -> None:
        """Stop watching this object."""
        self.posts.remove(post)

    async def run(self) -> None:
        """Watch without end. Raises what a read or a decision failed with."""
        try:
            while True:
                self.run_once()
                await self.inotify_directories.wait(max(0.0, self._next_at() - self.clock.now()))
                if self._failure is not None:
                    raise self._failure
        finally:
            for post in self.posts:
                if post.task is not None:
                    post.task.cancel()
            self.inotify_directories.close()

    def run_once(self) -> None:
        """Handle the events, and start the reads that are due."""
        self._hear()
        if self.clock.now() >= self._poll_at:
            self._doubt_everything()
        for post in self.posts:
            if post.attention.due(self.clock.now()):
                self._begin(post)

    async def settled(self) -> None:
        """Wait until no read is in progress."""
        while tasks := [post.task for post in self.posts if post.task is not None]:
            await asyncio.wait(tasks)

    async def aside(self, read: Callable[[], Content]) -> Content:
        """Run ``read`` in a thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def retried_aside(self, read: Callable[[], Content]) -> Content:
        """Run ``read`` in a thread; retry while threads, memory or the like are short."""
        while True:
            try:
                return await self.aside(read)
            except RESOURCE_ERRNOS:
                await asyncio.sleep(SECOND_LOOK_S)

    def reread_all(self) -> None:
        """Read all files again now; each read counts: a person has said that the files are complete."""
        for post in self.posts:
            post.attention, post.ordered = FileTracker(look_at=self.clock.now(), whole=True), True
            self._begin(post)

    async def look_before_sending(self, *posts: WatchHandle) -> bool:
        """Read these now: a change may have no event (a hard link, a remote file system).

        False: content was found that is not in force, because it is undecided or invalid, or a file could
        not be read within RETRY_FOR_S. Content that is in force already costs a read and a hash.
        """
        looks = [asyncio.create_task(self._look(post, beside=True)) for post in posts]
        try:
            _, late = await asyncio.wait(looks, timeout=RETRY_FOR_S)
        finally:
            for look in looks:
                look.cancel()
        self.inotify_directories.wake()  # reads may be due sooner now
        return not late and not any(isinstance(look.result(), NOT_IN_FORCE) for look in looks)

    def _next_at(self) -> float:
        due = (post.attention.look_at for post in self.posts if post.task is None)
        return min((self._poll_at, *(at for at in due if at is not None)))

    def _begin(self, post: WatchHandle) -> None:
        """Start a read of one object; a read in progress schedules the next one itself."""
        if post.task is None:
            post.task = asyncio.create_task(self._look_and_wake(post))

    async def _look_and_wake(self, post: WatchHandle) -> None:
        try:
            await self._look(post)
        except Exception as failure:
            self._failure = failure
        finally:
            post.task = None
            self.inotify_directories.wake()

    async def _look(self, post: WatchHandle, *, beside: bool = False) -> object:
        """Read one object and return the decision; None if it is not watched any more.

        If threads, memory or the like are short, nothing is decided.

        ``beside``: an extra read; a read that was due stays due if this one decides nothing.
        """
        async with post.lock:
            now, before = self.clock.now(), post.attention
            try:
                content = await self._content(post)
            except RESOURCE_ERRNOS:
                post.attention = post.attention.failed(self.clock.now())
                return Undecided()
            if post not in self.posts:
                return None
            ordered, post.ordered = post.ordered, False
            return self._decided(post, content, before, now, ordered=ordered, beside=beside)

    async def _content(self, post: WatchHandle) -> object:
        """Read in a thread; first wait for the end of an abandoned read."""
        while post.reading is not None:
            await asyncio.wait({post.reading})
        reading = asyncio.ensure_future(self.aside(post.read))
        post.reading = reading
        reading.add_done_callback(lambda _: setattr(post, "reading", None))
        return await asyncio.shield(reading)

    def _decided(
        self,
        post: WatchHandle,
        content: object,
        before: FileTracker,
        now: float,
        *,
        ordered: bool,
        beside: bool,
    ) -> object:
        """Decide about a read that started at ``now``; ``before`` is the tracker's state at that time."""
        # Events are read after the file: a file written to during the read may be incomplete.
        self._hear()
        trust = (
            ReadConfidence.COMPLETE
            if ordered
            else min(before.confidence(now), post.attention.confidence(now))
        )
        seen = post.decide(content, trust, now)
        if beside and isinstance(seen, Undecided):
            post.attention = post.attention.looked_beside(now)
        elif post.attention is before and not (beside and seen is None):
            post.attention = before.after_read(now, unsure=isinstance(seen, Undecided))
        if seen is not None and not isinstance(seen, Undecided):
            post.tell(seen)
        return seen

    def _hear(self) -> None:
        heard, now = self.inotify_directories.read_events(), self.clock.now()
        self._note_unclosed(heard.notices, now)
        # This runs at every read of a file. There may be hundreds, and mostly there are no events.
        posts = self.posts if heard.notices else []
        moved = [post for post in posts if _concerned(post, heard.notices, now)]
        if heard.overflowed:
            for post in self.posts:
                post.attention = post.attention.reset(now)
        if heard.degraded or heard.overflowed:
            self._doubt_everything()
        elif moved:
            self._cover(moved)

    def _note_unclosed(self, notices: tuple[FileEvent, ...], now: float) -> None:
        for notice in notices:
            if notice.sign is FileEventKind.MODIFIED:
                self._unclosed[notice.spot] = now
            elif notice.sign is not FileEventKind.CREATED:
                self._unclosed.pop(notice.spot, None)
        for spot in [spot for spot, at in self._unclosed.items() if now >= at + UNCLOSED_S]:
            del self._unclosed[spot]

    def _doubt_everything(self) -> None:
        """Read all files again, and watch their paths as they are now."""
        self._cover(self.posts)
        now = self.clock.now()
        for post in self.posts:
            post.attention = post.attention.recheck(now)
        hears_all = self.inotify_directories.error is None and not self.inotify_directories.missed
        self._poll_at = now + (POLL_S if hears_all else DEGRADED_POLL_S)

    def _cover(self, moved: list[WatchHandle]) -> None:
        """Watch the paths as they are now. The caller makes sure that moved files are read."""
        for post in moved:
            post.route = post.way()
        self.inotify_directories.set_directories(union(post.route for post in self.posts).directories)
        if self.inotify_directories.missed:
            self._poll_at = min(self._poll_at, self.clock.now() + DEGRADED_POLL_S)
        self._say_if_deaf()

    def _say_if_deaf(self) -> None:
        if self.inotify_directories.error is not None and not self._said_deaf:
            self._said_deaf = True
            self.on_degraded(self.inotify_directories.error)


def _concerned(post: WatchHandle, notices: tuple[FileEvent, ...], now: float) -> bool:
    """Pass the events to a handle; returns whether they may have changed its watch path."""
    taken = [notice for notice in notices if post.notice(notice, now)]
    return any(notice.sign not in (FileEventKind.MODIFIED, FileEventKind.CLOSED) for notice in taken)
