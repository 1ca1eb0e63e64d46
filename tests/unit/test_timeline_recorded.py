"""What a running loop puts on record for the strips: the truth as it saw it, and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from itertools import product

import pytest

from reconciler.core.drift_resolution import DriftPolicy
from reconciler.core.events import StateFailed
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Confirmed, Family, Known, LiveRow, NeverApplied, Uncertain
from reconciler.core.monitoring.state_timeline import FAILED, UNMANAGED
from reconciler.core.monitoring.status import family_states
from reconciler.core.plan import PlanConstraints
from reconciler.core.planning import make_plan
from reconciler.core.reply import Reply, ReplyClass
from reconciler.core.retry import Rejection
from reconciler.errors import StateUnavailable, StateUnusable
from tests.unit.builders import BTC, ETH, NOW, confirmed, desired, read, row, setting, unresolved
from tests.unit.test_loop import BAD_KEY, DOWN, INFO, A, B, World, world

# ---- the word for a family -----------------------------------------------------------------------

KNOWN: dict[str, Known] = {
    "never": NeverApplied(),
    "as desired": confirmed("5000/2000/100", at=NOW - 60),
    "otherwise": confirmed("5000/2000/400", at=NOW - 60),
    "unanswered": Uncertain(confirmed("5000/2000/100", at=NOW - 60), (unresolved("5000/2000/100"),)),
}
LIVE = {"as desired": "5000/2000/100", "looser": "5000/2000/9999", "tighter": "5000/2000/50"}
RULES = {
    "heal": PlanConstraints(),
    "only tell": PlanConstraints(drift=DriftPolicy.WARN),
    "paused": PlanConstraints(paused=frozenset({BTC})),
    "parked": PlanConstraints(rejected={BTC: Rejection(A, float("inf"))}),
}


def expected(known: str, live: str, frozen: bool, rules: str, refused: bool) -> str:
    """Say from the words alone what a family is called."""
    if known == "unanswered":
        held = rules == "only tell" and live in ("looser", "tighter")
        return FAILED if refused and live != "as desired" and not held else "uncertain"
    differs = live != "as desired"
    if differs and rules == "parked" and not frozen:
        return FAILED
    if frozen:
        return "frozen"
    if not differs:
        return "in-sync" if known == "as desired" else "pending"
    drifted = known == "as desired"
    # A setting that was made tighter by hand stays, unless everything is restored.
    held = rules == "paused" or (rules == "only tell" and (drifted or live == "tighter"))
    if refused and not held:
        return FAILED
    if drifted:
        return "drifted"
    return "held" if held else "pending"


@pytest.mark.parametrize(
    ("known", "live", "frozen", "rules", "refused"),
    [
        case
        for case in product(KNOWN, LIVE, (False, True), RULES, (False, True))
        # What holds an unanswered family back makes no other word of it.
        if case[0] != "unanswered" or not (case[2] or case[3] in ("paused", "parked"))
    ],
)
def test_each_family_has_the_word_for_what_was_seen(
    known: str, live: str, frozen: bool, rules: str, refused: bool
) -> None:
    of = {BTC: KNOWN[known]}
    reads = Reads(read(NOW - 1, {BTC: row(LIVE[live], frozen=frozen)}))
    plan = make_plan(desired({BTC: A}), of, reads, RULES[rules], NOW)
    seen = family_states(desired({BTC: A}), of, reads, plan, refused=refused)
    assert seen == {BTC: expected(known, live, frozen, rules, refused)}


def test_every_family_has_failed_where_nothing_could_be_read() -> None:
    wanted = desired({BTC: A, ETH: A})
    assert family_states(wanted, {}, Reads(), None, refused=False) == {BTC: FAILED, ETH: FAILED}


def test_without_reads_what_was_applied_is_all_there_is() -> None:
    of: dict[Family, Known] = {BTC: Confirmed(A, NOW - 60)}
    plan = make_plan(desired({BTC: A, ETH: A}), of, Reads(), PlanConstraints(), NOW)
    seen = family_states(desired({BTC: A, ETH: A}), of, Reads(), plan, refused=False)
    assert seen == {BTC: "in-sync", ETH: "pending"}


# ---- the loop ------------------------------------------------------------------------------------


def spans(here: World, family: Family = BTC) -> list[tuple[str | None, float, float]]:
    """Return the recorded strip as state and virtual seconds."""
    since = here.clock.wall().replace(hour=0, minute=0)
    timelines = asyncio.run(here.store.read_timeline(since))().spans
    begin = (here.clock.wall() - since).total_seconds() - here.clock.now()

    def virtual(wall: datetime) -> float:
        return (wall - since).total_seconds() - begin

    return [(one.state, virtual(one.since), virtual(one.until)) for one in timelines[family]]


def states(here: World, family: Family = BTC) -> list[str | None]:
    return [state for state, _, _ in spans(here, family)]


def calm() -> World:
    here = world()
    here.exchange.live[BTC] = LiveRow(A)
    return here


def test_a_timeline_has_drift_and_its_end_when_they_were_seen() -> None:
    here = calm()
    here.clock.at(1050.0, lambda: here.exchange.live.update({BTC: LiveRow(setting("5000/2000/50"))}))
    here.clock.at(1200.0, lambda: here.exchange.live.update({BTC: LiveRow(A)}))
    here.run(400.0)
    (_, _, begun), (one, _, drifted), (two, _, healed), (three, _, _) = spans(here)
    assert (one, two, three) == ("in-sync", "drifted", "in-sync")
    assert begun == pytest.approx(1000.0, abs=1.0)
    assert 1050.0 < drifted < 1081.0
    assert 1200.0 < healed < 1231.0


@pytest.mark.parametrize("what", ["reading", "identity"])
def test_an_outage_is_failed_and_no_hole(what: str) -> None:
    here = calm()
    if what == "identity":
        here.exchange.identity = DOWN
    else:
        here.clock.at(1100.0, lambda: setattr(here.exchange, "reading", DOWN))
    here.clock.at(1500.0, lambda: setattr(here.exchange, what, INFO if what == "identity" else None))
    here.run(900.0)
    message = states(here)
    assert message[-2:] == ["failed", "in-sync"]
    assert None not in message[1:]


def test_a_refused_key_and_a_refused_value_are_failed() -> None:
    here = calm()
    here.exchange.writing = BAD_KEY
    here.clock.at(1050.0, lambda: here.want({BTC: B}))
    refused = Reply(ReplyClass.WRONG_SETTINGS, "51000", "Parameter error")
    here.clock.at(1300.0, lambda: setattr(here.exchange, "writing", refused))
    here.run(900.0)
    assert states(here) == [None, "in-sync", "failed"]


def test_while_another_process_holds_the_state_nothing_is_recorded() -> None:
    here = calm()

    async def hold() -> None:
        async with here.process().locked("apply"):
            while here.clock.now() < 1500.0:
                await asyncio.sleep(0)

    here.clock.at(1070.0, lambda: asyncio.get_running_loop().create_task(hold()))
    here.run(600.0)
    assert states(here) == [None, "in-sync", None, "in-sync"]


def test_a_family_taken_out_of_the_file_is_unmanaged() -> None:
    here = World(desired({BTC: A, ETH: A}))
    here.exchange.live = {BTC: LiveRow(A), ETH: LiveRow(A)}
    here.clock.at(1100.0, lambda: here.want({BTC: A}))
    here.run(200.0)
    assert states(here, ETH) == [None, "in-sync", UNMANAGED]


def test_a_restart_continues_the_timeline_after_the_unobserved_time() -> None:
    here = calm()
    here.run(200.0)
    here.stopped = False
    here.store = here.process()
    died_at = here.clock.now()
    here.run(200.0)
    first, before, unwatched, since = spans(here)
    assert [first[0], before[0], unwatched[0], since[0]] == [None, "in-sync", None, "in-sync"]
    assert died_at - 30.0 <= unwatched[1] <= died_at <= unwatched[2] <= died_at + 1.0


def test_a_death_of_less_than_a_gap_is_not_drawn_as_watched() -> None:
    here = calm()
    here.run(200.0)
    here.stopped = False
    here.clock.time += 80.0
    here.store = here.process()
    here.run(200.0)
    unwatched = spans(here)[2]
    assert unwatched[0] is None
    assert unwatched[2] - unwatched[1] >= 80.0


def test_a_state_that_cannot_be_used_while_recording_is_reported_and_stops_no_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = calm()

    async def busy(_: Mapping[Family, str]) -> None:
        raise StateUnavailable("state-busy", "kept busy")

    monkeypatch.setattr(here.store, "record_states", busy)
    here.clock.at(1050.0, lambda: here.want({BTC: B}))
    here.run(200.0)
    assert here.exchange.live[BTC].setting == B
    assert len(here.times_of(StateFailed)) > 3


def test_a_state_that_cannot_be_written_stops_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    here = calm()
    calls: list[Mapping[Family, str]] = []

    async def full(seen: Mapping[Family, str]) -> None:
        calls.append(seen)
        raise StateUnusable("state-full", "the disk is full")

    monkeypatch.setattr(here.store, "record_states", full)
    here.clock.at(1050.0, lambda: here.want({BTC: B}))
    here.run(200.0)
    assert here.exchange.live[BTC].setting == B
    assert len(calls) > 3
