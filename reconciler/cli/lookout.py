"""When each file is looked at: at once when its directory says so, and now and then in any case.

This file decides when to look and which signs concern which file; what a look is worth is
``desired.attention``, what comes of it the watched thing's own ``decide``. It reads and waits, and
never acts on what it sees: that is told. A look during which its file was written to counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from reconciler.cli.noticing import Ears
from reconciler.desired.attention import UNCLOSED_S, Attention, Notice, Sign, Trust
from reconciler.desired.route import Route, Spot, together
from reconciler.desired.watch import Rejected, Unsure
from reconciler.ports import Clock

POLL_S = 15.0
"""Between two looks at everything while directories are watched: what they did not tell (a remote
file system, a change further up) is found then. Four wake-ups a minute."""

DEAF_POLL_S = 1.0
"""The same where some directory cannot be watched."""

Content = TypeVar("Content")


class Watched(Protocol[Content]):
    """Something that is read from files again and again."""

    def route(self) -> Route:
        """Return the way to it as it is now."""
        ...

    def read(self) -> Content:
        """Read it."""
        ...

    def decide(self, content: Content, trust: Trust, now: float) -> object:
        """Decide about what was read; ``Unsure``: look again. Anything else but None is told."""
        ...


@dataclass(slots=True, eq=False)
class Post:
    """One watched thing and what is known of it; ``tell`` takes what was decided."""

    look: Callable[[Callable[[], Trust], float], object]
    way: Callable[[], Route]
    tell: Callable[[object], None]
    follows: Callable[[Spot], bool] | None
    attention: Attention
    route: Route = field(default_factory=Route)

    def notice(self, notice: Notice, now: float) -> bool:
        """Take a notice; tells whether it is about this."""
        spot = notice.spot
        concerned = spot in self.route.spots or (self.follows is not None and self.follows(spot))
        if concerned:
            self.attention = self.attention.noticed(notice.sign, now)
        return concerned


@dataclass(slots=True)
class Lookout:
    """Everything that is watched. ``deaf`` is told once, when some directory cannot be."""

    clock: Clock
    deaf: Callable[[str], None]
    ears: Ears = field(default_factory=Ears.open)
    posts: list[Post] = field(default_factory=list)
    _poll_at: float = float("-inf")
    _said_deaf: bool = False
    _unclosed: dict[Spot, float] = field(default_factory=dict)
    """When names in watched directories were last written to and not closed since, watched or not: a
    file may be met while it is being written."""

    def add(
        self,
        watched: Watched[Content],
        tell: Callable[[object], None],
        follows: Callable[[Spot], bool] | None = None,
    ) -> Post:
        """Watch one thing more; what is decided of it goes to ``tell``.

        ``follows``: which names beyond its own way concern it. The first look is soon.
        """

        def look(trust: Callable[[], Trust], now: float) -> object:
            content = watched.read()
            return watched.decide(content, trust(), now)

        post = Post(look, watched.route, tell, follows, Attention(self.clock.now()))
        self.posts.append(post)
        self._cover([post])
        written = [self._unclosed[spot] for spot in post.route.spots & self._unclosed.keys()]
        if written:
            post.attention = post.attention.noticed(Sign.MODIFIED, max(written))
        self.ears.wake()
        return post

    def remove(self, post: Post) -> None:
        """Watch this no longer."""
        self.posts.remove(post)

    async def run(self) -> None:
        """Look, for ever."""
        try:
            while True:
                self.turn()
                await self.ears.wait(max(0.0, self._next_at() - self.clock.now()))
        finally:
            self.ears.close()

    def turn(self) -> None:
        """Hear what there is to hear and look at what is due."""
        self._hear()
        if self.clock.now() >= self._poll_at:
            self._doubt_everything()
        for post in tuple(self.posts):
            if post.attention.due(self.clock.now()):
                self._look(post)

    def look_at_once(self) -> None:
        """Look at everything now, each look deciding: somebody says that all is whole."""
        for post in tuple(self.posts):
            post.attention = Attention(look_at=self.clock.now(), whole=True)
            self._look(post, heard=False)

    def look_before_sending(self, *posts: Post) -> bool:
        """Look at these now: a directory may not tell of a change (a hard link, a remote file system).

        False: content was found that is not in force, because it is not decided on yet or invalid. What is
        in force already costs a read and a hash.
        """
        seen = [self._look(post, beside=True) for post in posts]
        self.ears.wake()  # what was heard meanwhile, or is to be looked at again, may be due sooner
        return not any(isinstance(one, Unsure | Rejected) for one in seen)

    def _next_at(self) -> float:
        due = (post.attention.look_at for post in self.posts)
        return min((self._poll_at, *(at for at in due if at is not None)))

    def _look(self, post: Post, *, heard: bool = True, beside: bool = False) -> object:
        """Look at one thing and return what was decided.

        ``heard`` False: whatever its writer is doing meanwhile. ``beside``: what calls for a look still
        does if this one decides nothing.
        """
        now, before = self.clock.now(), post.attention

        def trust() -> Trust:
            # Asked after the reading: what was written to meanwhile may have been read half.
            if heard:
                self._hear()
            return min(before.trust(now), post.attention.trust(now))

        seen = post.look(trust, now)
        if beside and isinstance(seen, Unsure):
            post.attention = post.attention.looked_beside(now)
        elif post.attention is before and not (beside and seen is None):
            post.attention = before.looked(now, unsure=isinstance(seen, Unsure))
        if seen is not None and not isinstance(seen, Unsure):
            post.tell(seen)
        return seen

    def _hear(self) -> None:
        heard, now = self.ears.listen(), self.clock.now()
        self._note_unclosed(heard.notices, now)
        # Asked before every reading of a file, of which there may be hundreds, and mostly nothing is heard.
        posts = self.posts if heard.notices else []
        moved = [post for post in posts if _concerned(post, heard.notices, now)]
        if heard.overflowed:
            for post in self.posts:
                post.attention = post.attention.lost(now)
        if heard.deaf or heard.overflowed:
            self._doubt_everything()
        elif moved:
            self._cover(moved)

    def _note_unclosed(self, notices: tuple[Notice, ...], now: float) -> None:
        for notice in notices:
            if notice.sign is Sign.MODIFIED:
                self._unclosed[notice.spot] = now
            elif notice.sign is not Sign.CREATED:
                self._unclosed.pop(notice.spot, None)
        for spot in [spot for spot, at in self._unclosed.items() if now >= at + UNCLOSED_S]:
            del self._unclosed[spot]

    def _doubt_everything(self) -> None:
        """Look at everything, and watch whatever leads to it now."""
        self._cover(self.posts)
        now = self.clock.now()
        for post in self.posts:
            post.attention = post.attention.doubted(now)
        hears_all = self.ears.trouble is None and not self.ears.missed
        self._poll_at = now + (POLL_S if hears_all else DEAF_POLL_S)

    def _cover(self, moved: list[Post]) -> None:
        """Watch the ways as they are now. Whoever calls sees to it that what moved is looked at."""
        for post in moved:
            post.route = post.way()
        self.ears.cover(together(post.route for post in self.posts).directories)
        if self.ears.missed:
            self._poll_at = min(self._poll_at, self.clock.now() + DEAF_POLL_S)
        self._say_if_deaf()

    def _say_if_deaf(self) -> None:
        if self.ears.trouble is not None and not self._said_deaf:
            self._said_deaf = True
            self.deaf(self.ears.trouble)


def _concerned(post: Post, notices: tuple[Notice, ...], now: float) -> bool:
    """Let a post take its notices; tells whether its way may have changed by them."""
    taken = [notice for notice in notices if post.notice(notice, now)]
    return any(notice.sign not in (Sign.MODIFIED, Sign.CLOSED) for notice in taken)
