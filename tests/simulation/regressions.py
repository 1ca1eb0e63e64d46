"""Seeds of past failures, by what went wrong: each is played by every ``make test``.

Each names the mutant that brings its failure back, so that a seed that no longer tells that story
(because the world draws other stories now) is noticed and replaced.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Regression:
    """One past failure: what happened, its seed, and the mutant that is the program of that time."""

    story: str
    seed: int
    mutant: str


REGRESSIONS = (
    Regression(
        story="suspended between its read and its slot, it sent on what it had read 37 s before",
        seed=15,
        mutant="decided long ago, sent all the same",
    ),
)
