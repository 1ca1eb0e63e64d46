"""What the guard has to do with one family, by a model that shares no code with the program.

The model sees the events of a test, and the reads and the requests that reach the exchange. From these it
works out which setting is accepted and which request is right. Its arithmetic follows ``docs/policy.md``.
Only that an adoption was made, which no request shows, is taken from the record, and judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

LOOSE_FOR_S = 75.0
"""For so long at the most a field may stay looser than accepted."""

DOUBT_S = 35.0 + 5.0 + 35.0
"""So long after a request without an answer nothing is certain: it may take effect for 35 s, a read lags by
5 s, and the next read comes within 35 s."""


class S(NamedTuple):
    """A setting in wire units. Window 0 is off, freeze 0 is until reset."""

    window: int
    freeze: int
    quantity: int

    @property
    def off(self) -> bool:
        return self.window == 0


def ranks(one: S) -> tuple[float, float, float]:
    """Return how tight each field is: larger is tighter."""
    return float(one.window), float("inf") if one.freeze == 0 else float(one.freeze), -float(one.quantity)


def tighter(one: S, other: S) -> S:
    """Return the tighter value of each field."""
    a, b = ranks(one), ranks(other)
    return S(*(x if p >= q else y for x, y, p, q in zip(one, other, a, b, strict=True)))


def looser_fields(one: S | None, other: S) -> tuple[int, ...]:
    """Return the fields in which ``one`` is looser than ``other``; a missing row has no limit at all."""
    if other.off:
        return ()
    if one is None:
        return (0, 1, 2)
    if one.off:
        return (0,)
    return tuple(place for place in range(3) if ranks(one)[place] < ranks(other)[place])


def figures(one: S) -> tuple[Fraction, Fraction, Fraction]:
    """Return contracts per trip, per second and per minute at worst."""
    again = min(one.window, one.freeze) if one.freeze else one.window
    quantity = Fraction(one.quantity)
    return quantity, quantity * 1000 / one.window, quantity + quantity * 60_000 / again


def factor(before: S, after: S) -> Fraction | None:
    """Return by what factor a change between enabled settings raises the risk; None: without limit."""
    ratios = [now / was for was, now in zip(figures(before), figures(after), strict=True)]
    if before.freeze == 0 and after.freeze:
        return None
    if after.freeze:
        ratios.append(Fraction(before.freeze, after.freeze))
    return max(ratios)


def rises(before: S | None, after: S) -> bool:
    """Tell whether any figure of the exposure, or the freeze, gets looser. From off, nothing can."""
    if before is None or before.off:
        return False
    if after.off:
        return True
    found = factor(before, after)
    return found is None or found > 1


@dataclass(frozen=True)
class Limits:
    """A policy: the most that a factor may be, the largest quantity, the shortest window."""

    max_factor: Fraction | None = Fraction(2)
    largest: int = 1000
    shortest: int = 500
    readable: bool = True


def is_less_safe(before: S, after: S) -> bool:
    """Tell whether any field gets looser, or the family is switched off."""
    if before.off != after.off:
        return after.off
    return any(now < was for was, now in zip(ranks(before), ranks(after), strict=True))


def passes(before: S, after: S, last_on: S | None, limits: Limits, *, allowed: bool = False) -> bool:
    """Tell whether the policy lets a change pass; ``last_on`` is the last accepted setting that was on."""
    if not limits.readable and is_less_safe(before, after):
        return False
    if allowed:
        return True
    if after.off:
        return before.off
    excuse = None if before.off else before
    if after.quantity > limits.largest and not (excuse and excuse.quantity >= after.quantity):
        return False
    if after.window < limits.shortest and not (excuse and excuse.window <= after.window):
        return False
    base = last_on if before.off else before
    if base is None:
        return True
    found = factor(base, after)
    if after.window < min(100, base.window) or found is None or found >= 1000:
        return False
    return limits.max_factor is None or found <= limits.max_factor


@dataclass
class Model:
    """What is accepted and live, and what is wrong with what the program did.

    ``accepted`` are the accepted settings, oldest first; ``read`` is what the newest read showed, ``live``
    what is true. ``lost`` are the requests without an answer, with the moment. ``found`` are the
    violations. ``recorded`` reads the accepted settings that the program has on record.
    """

    file: S
    mode: str
    recorded: Callable[[], Sequence[S]]
    limits: Limits = Limits()
    accepted: list[S] = field(default_factory=list)
    live: S | None = None
    read: S | None = None
    allowed: bool = False
    lost: list[tuple[float, S]] = field(default_factory=list)
    older: list[S] = field(default_factory=list)
    is_unread: bool = False
    last_sent: S | None = None
    doubt_until: float = float("-inf")
    loose_since: dict[int, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    requests: int = 0
    fixed: int = 0

    @property
    def now_accepted(self) -> S:
        return self.accepted[-1]

    @property
    def last_on(self) -> S | None:
        return next((one for one in reversed(self.accepted) if not one.off), None)

    # -- what happens --------------------------------------------------------------------------------------

    def passes_time(self, now: float) -> None:
        """Check invariant (a) up to ``now``."""
        if self.mode != "warn":
            for place, since in self.loose_since.items():
                if now - since > LOOSE_FOR_S:
                    self.fail("a", now, f"field {place} is looser than accepted since {since:.0f} s")
        loose = looser_fields(self.live, self.now_accepted)
        self.loose_since = {place: self.loose_since.get(place, now) for place in loose}

    def becomes_live(self, now: float, live: S | None) -> None:
        """Take note of what is in force now."""
        self.passes_time(now)
        self.live = live
        self.passes_time(now)

    def is_read(self, now: float) -> None:
        """Take note of what a read shows. It proves the newest request if no other one may take effect."""
        self.read = self.live
        others = any(one != self.last_sent for one in self._open(now))
        if self.read == self.last_sent and not others:
            self.older = []
        self.is_unread = False
        if self.file != self.now_accepted:
            self.look_at_record(now)

    def is_sent(self, now: float, sent: S, *, by_run: bool) -> None:
        """Check a request against the rules, and work out what it makes the accepted setting."""
        self.requests += 1
        mode = self.mode if by_run else "heal"
        if by_run and mode != "heal":
            self._check_c(now, sent)
        may = [[self.now_accepted, *self.older], [self.now_accepted, *self._possible(now)]]
        right: dict[S | None, set[S]] = {}
        for aim in self._aims(now, by_run):
            for each in may:
                right.setdefault(self.goal(aim, each, mode), set()).add(aim)
        if sent not in right:
            expected = " or ".join(map(str, right))
            self.fail("target", now, f"sent {sent} at live {self.read}, expected {expected}")
        aims = right.get(sent, set())
        if aims == {self.file} and self.file != self.now_accepted:
            self._accept(now, self.file)
        self.look_at_record(now, sent if len(aims) > 1 else None)
        self.last_sent = sent

    def is_answered(self) -> None:
        """Take note that the newest request was acknowledged."""
        self.older = []

    def is_unanswered(self, now: float, sent: S) -> None:
        """Take note that a request got no answer."""
        self.lost.append((now, sent))
        self.is_unread = True
        self.doubt_until = now + DOUBT_S

    def look_at_record(self, now: float, sent: S | None = None) -> None:
        """Compare the accepted setting on record with the model's.

        Where live is as the file says, an adoption moves it without a request; ``sent``: the request could
        mean either.
        """
        recorded = self.recorded()
        if not recorded or recorded[-1] == self.now_accepted:
            return
        newest = recorded[-1]
        before, file = self.now_accepted, self.file
        is_adopted = newest == file and file in (self.read, sent)
        by_doubt = newest == file and now < self.doubt_until
        if not passes(before, newest, self.last_on, self.limits, allowed=self.allowed):
            self.fail("b", now, f"accepted moved {before} -> {newest} against {self.limits}")
        elif not (is_adopted or by_doubt):
            self.fail("accepted", now, f"accepted on record is {newest}, expected {before}, file {file}")
        self._accept(now, newest)
        if is_adopted and sent is None:
            self.older = []

    def is_settled(self, now: float) -> None:
        """Check that nothing is left to do, field by field."""
        self.passes_time(now)
        self.look_at_record(now)
        if now < self.doubt_until:
            return
        self.fixed += 1
        self.read = live = self._in_force(self.live)
        for aim in self._aims(now, by_run=True):
            goal = self.goal(aim, [self.now_accepted, *self.older], self.mode)
            if live != goal:
                self.fail("end", now, f"live is {live}, expected {goal} ({self._words})")
            elif aim == live and aim != self.now_accepted:
                self.fail("end", now, f"live {aim} passes and is not accepted ({self._words})")

    # -- what is right -------------------------------------------------------------------------------------

    def step_passes(self) -> bool:
        """Tell whether the policy lets the file's change pass."""
        return passes(self.now_accepted, self.file, self.last_on, self.limits, allowed=self.allowed)

    def _aims(self, now: float, by_run: bool) -> tuple[S, ...]:
        """Return what the family may be on its way to: the file, or what is accepted while that is refused.

        What a request without an answer carries may be in force, so a change is measured from there, too.
        It is not certain how long such a request is open.
        """
        if self.file == self.now_accepted or (by_run and not self.step_passes()):
            return (self.now_accepted,)
        open_passes = all(
            one.off or passes(one, self.file, None, self.limits, allowed=self.allowed)
            for one in self._open(now)
        )
        return (self.file,) if open_passes or not by_run else (self.file, self.now_accepted)

    def goal(self, aim: S, may_be_live: Sequence[S], mode: str) -> S | None:
        """Return what is to be in force, field by field; None: the row is missing, and that is only
        reported."""
        live, accepted = self._in_force(self.read), self.now_accepted
        leaves = mode == "warn" and not (aim == self.file != accepted)
        if mode == "heal":
            goal = aim
        elif live is None or (live.off and live not in may_be_live):
            if leaves:
                return live
            goal = aim
        elif aim.off and not live.off:
            goal = aim if any(one[0] == live[0] for one in may_be_live) else live
        else:
            goal = S(*(self._field(place, aim, live, may_be_live, leaves) for place in range(3)))
        if live is None or live.off or accepted.off:
            return goal
        nearest = tighter(live, accepted)
        if nearest == accepted or not is_less_safe(nearest, goal):
            return goal
        if passes(nearest, goal, None, self.limits, allowed=self.allowed):
            return goal
        if goal.off:
            return live
        stays = tighter(live, accepted)
        parts = zip(goal, live, ranks(live), ranks(accepted), ranks(goal), strict=True)
        rest = S(*(now if at > max(was, then) else end for end, now, at, was, then in parts))
        return rest if passes(stays, rest, None, self.limits) else tighter(live, goal)

    def _in_force(self, live: S | None) -> S | None:
        """Return what is in force: a missing row where off is accepted is that."""
        return self.now_accepted if live is None and self.now_accepted.off else live

    def _field(self, place: int, aim: S, live: S, may_be_live: Iterable[S], leaves: bool) -> int:
        if any(one[place] == live[place] for one in may_be_live):
            return aim[place]
        if leaves or ranks(live)[place] > ranks(aim)[place]:
            return live[place]
        return aim[place]

    def _check_c(self, now: float, sent: S) -> None:
        live = self.read
        if live is None or live.off:
            return
        may_be = [self.now_accepted, *self._possible(now)]
        for place in looser_fields(sent, live):
            if not any(one[place] == live[place] for one in may_be):
                self.fail("c", now, f"run sent {sent} at live {live}, which was not accepted there")

    def _open(self, now: float) -> list[S]:
        return [sent for at, sent in self.lost if now < at + DOUBT_S]

    def _possible(self, now: float) -> list[S]:
        """Return the earlier accepted settings that may be live by this program's own requests."""
        return [*self.older, *(sent for sent in self._open(now) if sent in self.accepted)]

    def _accept(self, now: float, setting: S) -> None:
        self.passes_time(now)
        self.older.append(self.now_accepted)
        self.accepted.append(setting)
        self.passes_time(now)

    @property
    def _words(self) -> str:
        return f"file {self.file}, accepted {self.now_accepted}, {self.limits}"

    def fail(self, rule: str, now: float, why: str) -> None:
        self.found.append(f"({rule}) at {now - 1000:.1f} s: {why}")
