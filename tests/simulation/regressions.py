"""Seeds of past failures, by what went wrong: each is played by every ``make test``.

Each names the mutant that brings its failure back, so that a seed that no longer tells that story
(because the world draws other stories now) is noticed and replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.scenario import WorldKind


@dataclass(frozen=True, slots=True)
class Regression:
    """One past failure: what happened, its seed, and the mutant that is the program of that time."""

    story: str
    seed: int
    mutant: str
    kind: WorldKind = WorldKind.SQLITE


REGRESSIONS = (
    Regression(
        story="suspended between its read and its slot, it sent on what it had read 37 s before",
        seed=472,
        mutant="decided long ago, sent all the same",
    ),
    Regression(
        story="a failover forgot a lock's newest generation, the next holder got it again, and both had it",
        seed=64,
        mutant="generations counted by one",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="while another family was in doubt, one undone again and again was put back for ever",
        seed=179,
        mutant="doubts hide fights",
        kind=WorldKind.SQLITE,
    ),
    Regression(
        story="the server's clock was set back an hour, and a dead holder's lock lasted for it",
        seed=7,
        mutant="locks of the far future kept",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="a failover forgot the first requests of a User ID and that it had any, so none were counted",
        seed=4,
        mutant="first requests cannot be lost",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="suspended until another had its lock, it adopted what it had read before the other wrote",
        seed=31,
        mutant="adoptions without the lock",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="the state took long to record an override, and it sent on what it had read before",
        seed=466,
        mutant="overrides take no time",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="suspended until another had written, it read what somebody then changed, saw the other's "
        "acknowledgement only after that, and told that old word as in sync",
        seed=4_481,
        mutant="no read after others' proofs",
        kind=WorldKind.POSTGRES,
    ),
    Regression(
        story="a request landed 34.95 s after its reservation, a read that began later lagged and showed "
        "the value before it, which the file wanted again: that ended the doubt, and was told as in sync",
        seed=42_746,
        mutant="reads that lag end doubts",
        kind=WorldKind.POSTGRES,
    ),
)
