"""Every short history of one family, held against an oracle that knows nothing of the store's rules.

The oracle is the exchange itself with its luck left open: the set of all (value in force, requests
that did not land, values that were in force before and until when) that fit what was observed. A
request may land at any moment until its L is over; an acknowledged one has landed; a refused one never
does; a read shows what is in force, or what was within the last 5 s before it began. Two properties
are checked after every step of every history, once for what several of them begin with: what the store
calls confirmed is in force in every possible world and stays so, and a doubt always ends: by an
acknowledged write after one L, or by a read 5 s after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import pytest

from reconciler.core.live_evidence import READ_LAG_S, Reads, evidence_of
from reconciler.core.model import (
    Confirmed,
    Environment,
    ExchangeKind,
    Known,
    LiveRead,
    LiveRow,
    NeverApplied,
    Setting,
    Uncertain,
)
from reconciler.core.pacing import LATEST_ARRIVAL_S
from reconciler.core.reply import AttemptStatus
from reconciler.core.reservation import AttemptResult, Reservation, ReserveOptions
from reconciler.ports import AccountStore
from tests.contract.stores import BTC, PLACES, Place, ScriptedClock, setting, signed

pytestmark = pytest.mark.unmeasured

EVENTS = ("A+", "B+", "A?", "B?", "A-", "A…", "B…", "+", "?", "read", "wait")
"""Write A or B and have it acknowledged, unanswered or refused; begin one and leave it pending; have the
oldest pending one acknowledged or given up; read live and adopt it; wait out one L."""

T = TypeVar("T")

FIRST = ("A+", "A?", "A-", "A…")
"""Histories begin with A, without loss: the values are alike, and nothing else matters before a write."""

DEPTHS = {"sqlite-memory": 3}
"""Histories of this many events; 1 where commits reach a disk, which runs the same rules. One more
in two of the rows below."""

VALUES = {"A": setting("1"), "B": setting("2")}


class World(NamedTuple):
    """One way it may be; ``before`` is what a read may show yet, each with its last instant in force."""

    live: str
    not_landed: frozenset[int] = frozenset()
    before: frozenset[tuple[str, float]] = frozenset()

    def landed(self, attempt: int, value: str, at: float) -> World:
        """Return the world after ``attempt`` took effect at ``at``, at the latest."""
        before = self.before if value == self.live else self.before | {(self.live, at)}
        return World(value, self.not_landed - {attempt}, before)

    def shows(self, since: float) -> set[str]:
        """Return what a read can show that shows all that took effect until ``since``."""
        return {self.live} | {value for value, until in self.before if until > since}


class Run(Protocol):
    """Runs a coroutine to its end, in one event loop for all: starting one takes longer than a step.

    The loop itself is asked, not its runner, which takes SIGINT over for every single step.
    """

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


@dataclass(slots=True)
class Oracle:
    """All that may be the case at the exchange, in true time."""

    worlds: set[World] = field(default_factory=lambda: {World("nothing")})
    values: dict[int, str] = field(default_factory=dict)
    latest: dict[int, float] = field(default_factory=dict)

    def begin(self, attempt: int, value: str, now: float) -> None:
        self.values[attempt], self.latest[attempt] = value, now + LATEST_ARRIVAL_S
        self.worlds = {world._replace(not_landed=world.not_landed | {attempt}) for world in self.worlds}

    def landed(self, attempt: int) -> None:
        self.worlds = {world for world in self.worlds if attempt not in world.not_landed}

    def refused(self, attempt: int) -> None:
        self.worlds = {world for world in self.worlds if attempt in world.not_landed}
        self.latest[attempt] = float("-inf")

    def showed(self, value: str, since: float) -> None:
        self.worlds = {world for world in self.worlds if value in world.shows(since)}

    def if_showed(self, value: str, since: float) -> set[str]:
        """Return what may be in force if a read showed ``value``."""
        return {world.live for world in self.worlds if value in world.shows(since)}

    def can_show(self, since: float) -> set[str]:
        return {value for world in self.worlds for value in world.shows(since)}

    def pass_time(self, since: float, until: float) -> None:
        """Let anything land that could after ``since``, in any order; reads forget what is long past."""
        todo = list(self.worlds)
        while todo:
            before = todo.pop()
            for attempt in before.not_landed:
                at = min(self.latest[attempt], until)
                world = before.landed(attempt, self.values[attempt], at)
                if self.latest[attempt] >= since and world not in self.worlds:
                    self.worlds.add(world)
                    todo.append(world)
        past = until - READ_LAG_S
        self.worlds = {
            world._replace(before=frozenset(one for one in world.before if one[1] > past))
            for world in self.worlds
        }

    @property
    def possible(self) -> set[str]:
        return {world.live for world in self.worlds}


class Unreachable(Exception):
    """Pacing, or what happened before, does not let this history happen."""


@dataclass(slots=True)
class History:
    """One history being told to a store and to the oracle; clocks differ from boot to boot."""

    place: Place
    run: Run
    name: str
    gap_s: float
    true_time: float = 0.0
    boots: int = 0
    clock: ScriptedClock = field(default_factory=ScriptedClock)
    oracle: Oracle = field(default_factory=Oracle)
    pending: list[int] = field(default_factory=list)
    store: AccountStore = field(init=False)

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """Become another process on a machine whose clock starts anew."""
        self.boots += 1
        self.clock = ScriptedClock(10_000.0 / self.boots)
        self.store = self.place.open(
            self.clock,
            boot=f"boot-{self.boots}",
            account=self.name,
            environment=Environment.LIVE,
            kind=ExchangeKind.OKX,
        )
        self.run(self.store.identify(self.name, "host"))

    def known(self) -> Known:
        return self.run(self.store.known()).get(BTC, NeverApplied())

    def pass_time(self, seconds: float) -> None:
        self.oracle.pass_time(self.true_time, self.true_time + seconds)
        self.true_time += seconds
        self.clock.time += seconds

    def apply(self, event: str) -> None:
        match event:
            case "wait":
                self.pass_time(LATEST_ARRIVAL_S + 1)
            case "read":
                self.read()
            case "+" | "?":
                if not self.pending:
                    raise Unreachable
                self.settle(self.pending.pop(0), event)
            case _:
                self.write(event[0], event[1])
        self.pass_time(self.gap_s)

    def write(self, value: str, outcome: str) -> None:
        slot = self.run(self.store.reserve(signed(VALUES[value]), ReserveOptions(assume_idle=True)))
        if not isinstance(slot, Reservation):
            raise Unreachable
        self.oracle.begin(slot.attempt, value, self.true_time)
        self.pass_time(0.5)
        if outcome == "…":
            self.pending.append(slot.attempt)
        else:
            self.settle(slot.attempt, outcome)

    def settle(self, attempt: int, outcome: str) -> None:
        status = {"+": AttemptStatus.APPLIED, "?": AttemptStatus.UNKNOWN, "-": AttemptStatus.REJECTED}[
            outcome
        ]
        definite = status is not AttemptStatus.UNKNOWN
        self.run(
            self.store.settle(
                attempt, AttemptResult(status, definite=definite, limited=False, code="", message="")
            )
        )
        if status is AttemptStatus.APPLIED:
            self.oracle.landed(attempt)
        elif status is AttemptStatus.REJECTED:
            self.oracle.refused(attempt)
        if not self.oracle.worlds:
            raise Unreachable

    def read(self) -> None:
        """Read live, and adopt what that proves.

        Of all it can show, a value that may not be in force any more, else the one least like what is on
        record, to be hard on it.
        """
        begun_at, since = self.clock.time, self.true_time - READ_LAG_S
        self.pass_time(0.5)
        known = self.known()
        proof = known.last if isinstance(known, Uncertain) else known
        expected = proof.setting if isinstance(proof, Confirmed) else None

        def hardness(value: str) -> tuple[bool, bool, str]:
            return self.oracle.if_showed(value, since) == {value}, VALUES.get(value) == expected, value

        value = min(self.oracle.can_show(since), key=hardness)
        self.oracle.showed(value, since)
        if value in VALUES:
            shown = evidence_of(BTC, known, Reads(LiveRead(begun_at, {BTC: LiveRow(VALUES[value])})))
            if isinstance(shown, LiveRow):
                self.run(self.store.adopt({BTC: shown.setting}, read_begun_at=begun_at))

    def check_sound(self) -> None:
        known = self.known()
        if isinstance(known, Confirmed):
            assert {_name(known.setting)} == self.oracle.possible
        elif isinstance(known, NeverApplied):
            assert self.oracle.possible == {"nothing"}

    def check_ends(self, how: str) -> None:
        """Tell what must end any doubt; ``how`` is a read or a write after one L of this process."""
        self.known()
        self.pass_time(LATEST_ARRIVAL_S + 12)
        if how == "read" and self.oracle.possible == {"nothing"}:
            return
        self.apply(how)
        self.check_sound()
        assert isinstance(self.known(), Confirmed)


def _name(value: Setting) -> str:
    return next(name for name, known in VALUES.items() if known == value)


@pytest.fixture(params=sorted(PLACES))
def named_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Place, Run]]:
    with PLACES[request.param](tmp_path) as opened, asyncio.Runner() as runner:
        yield request.param, opened, runner.get_loop().run_until_complete


def _histories(depth: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    return enumerate(product(FIRST, *[EVENTS] * (depth - 1)))


def _first_of_its_beginning(events: tuple[str, ...], done: int) -> bool:
    """Tell whether no history before began with the events up to ``done``: the same ones give the same."""
    return all(event == EVENTS[0] for event in events[done + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gap_s", "reboot_after", "more"), [(0.5, None, 1), (12.0, None, 1), (12.0, 1, 0), (12.0, 2, 1)]
)
def test_confirmed_is_true_in_every_possible_world_and_doubt_ends(
    named_place: tuple[str, Place, Run], gap_s: float, reboot_after: int | None, more: int
) -> None:
    name, place, run = named_place
    text = 0
    for number, events in _histories(DEPTHS.get(name, 1) + more):
        history = History(place, run, f"a{number}", gap_s)
        try:
            for done, event in enumerate(events):
                if done == reboot_after:
                    history.boot()
                history.apply(event)
                if _first_of_its_beginning(events, done):
                    history.check_sound()
            history.check_ends(("read", "A+", "B+")[number % 3])
            text += 1
        except Unreachable:
            continue
        except AssertionError as failure:
            raise AssertionError(f"{' '.join(events)}, gap {gap_s}, reboot {reboot_after}") from failure
    assert text > 1


def test_an_acknowledged_resend_settles_at_once_when_all_doubts_carry_its_value(
    named_place: tuple[str, Place, Run],
) -> None:
    name, place, run = named_place
    settled = 0
    for number, events in _histories(DEPTHS.get(name, 1)):
        for value in VALUES:
            history = History(place, run, f"{value.lower()}{number}", 12.0)
            try:
                for event in events:
                    history.apply(event)
                known = history.known()
                if not isinstance(known, Uncertain):
                    continue
                if any(doubt.setting != VALUES[value] for doubt in known.unresolved):
                    continue
                history.apply(f"{value}+")
            except Unreachable:
                continue
            settled += 1
            assert isinstance(history.known(), Confirmed), " ".join(events)
    assert settled > 0
