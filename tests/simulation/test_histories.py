"""Histories of both worlds, the seeds of past failures, and that a seed always gives the same history."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import is_slip, mutant_named
from tests.simulation.regressions import REGRESSIONS, Regression
from tests.simulation.runner import describe, play_all
from tests.simulation.scenario import WorldKind
from tests.simulation.world import play

pytestmark = pytest.mark.unmeasured

SEEDS = {WorldKind.SQLITE: 1000, WorldKind.POSTGRES: 500}
"""So many in every `make check`; `make proof` plays twenty times as many, and the mutants besides."""
CHUNK = 100
CHUNKS = [
    pytest.param(kind, start, marks=pytest.mark.slow if start else ())
    for kind, seeds in SEEDS.items()
    for start in range(0, seeds, CHUNK)
]


@pytest.mark.parametrize(("kind", "start"), CHUNKS)
def test_no_history_breaks_a_promise(kind: WorldKind, start: int) -> None:
    summary = play_all((kind, seed) for seed in range(start, start + CHUNK))

    broken = [describe(seed, kind, violation) for (_, seed), violation in summary.violations.items()]
    assert not broken, "\n".join(broken)
    assert summary.requests > CHUNK, "a world in which nothing is sent proves nothing"


@pytest.mark.parametrize("past", REGRESSIONS, ids=lambda past: past.mutant)
def test_past_failures_stay_past(past: Regression) -> None:
    violation = play(past.seed, past.kind, feature=past.feature).violation

    assert violation is None, describe(past.seed, past.kind, violation)


@pytest.mark.parametrize("past", REGRESSIONS, ids=lambda past: past.mutant)
def test_past_failures_would_come_back(past: Regression) -> None:
    with mutant_named(past.mutant).in_force():
        violation = play(past.seed, past.kind, feature=past.feature).violation

    assert violation is not None, "this seed tells another story now: replace it"
    assert not is_slip(violation), f"the mutant is itself broken: {violation.detail}"


@pytest.mark.parametrize("kind", WorldKind)
@pytest.mark.parametrize("seed", [3, 17, 42, 109])
def test_a_seed_is_one_history(seed: int, kind: WorldKind) -> None:
    first, second = play(seed, kind, tracing=True), play(seed, kind, tracing=True)

    assert first == second
    assert first.lines


@pytest.mark.parametrize("kind", WorldKind)
@pytest.mark.parametrize("seed", [7, 8])
def test_telling_a_history_does_not_change_it(seed: int, kind: WorldKind) -> None:
    message, untold = play(seed, kind, tracing=True), play(seed, kind)

    assert (message.stats, message.violation) == (untold.stats, untold.violation)
