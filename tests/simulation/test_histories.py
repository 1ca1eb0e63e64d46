"""Two thousand histories, the seeds of past failures, and that a seed is one history for ever."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import mutant_named
from tests.simulation.regressions import REGRESSIONS, Regression
from tests.simulation.runner import describe, play_all
from tests.simulation.world import play

SEEDS = 2000
CHUNK = 100


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_no_history_breaks_a_promise(start: int) -> None:
    summary = play_all(range(start, start + CHUNK))

    broken = [describe(seed, violation) for seed, violation in summary.violations.items()]
    assert not broken, "\n".join(broken)
    assert summary.requests > CHUNK, "a world in which nothing is sent proves nothing"


@pytest.mark.parametrize("past", REGRESSIONS, ids=lambda past: past.mutant)
def test_past_failures_stay_past(past: Regression) -> None:
    violation = play(past.seed).violation

    assert violation is None, describe(past.seed, violation)


@pytest.mark.parametrize("past", REGRESSIONS, ids=lambda past: past.mutant)
def test_past_failures_would_come_back(past: Regression) -> None:
    with mutant_named(past.mutant).in_force():
        assert play(past.seed).violation is not None, "this seed tells another story now: replace it"


@pytest.mark.parametrize("seed", [3, 17, 42, 109])
def test_a_seed_is_one_history(seed: int) -> None:
    first, second = play(seed, tracing=True), play(seed, tracing=True)

    assert first == second
    assert first.lines


def test_telling_a_history_does_not_change_it() -> None:
    told, untold = play(7, tracing=True), play(7)

    assert (told.stats, told.violation) == (untold.stats, untold.violation)
