"""How the benchmarks measure: both sides in turn, in one run, and only the medians are compared.

A number of seconds depends on the machine. A ratio measured this way depends on the program. Nothing here
is a test: no benchmark fails because a machine is busy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

Side = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of one side over the median of the other, both in seconds."""

    ours_s: float
    theirs_s: float

    @property
    def times(self) -> float:
        """The ratio of our median to the other side's."""
        return self.ours_s / self.theirs_s


def compare(ours: Side, theirs: Side, *, rounds: int) -> Ratio:
    """Run both sides in turn, once to warm up and ``rounds`` times measured."""
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return Ratio(median(pair[0] for pair in pairs), median(pair[1] for pair in pairs))


def seconds(side: Side) -> float:
    """Return how long ``side`` takes."""
    began = perf_counter()
    side()
    return perf_counter() - began


def process(*arguments: str) -> Side:
    """Return a side that runs a process to its end, silently; its status does not matter."""
    return lambda: subprocess.run(arguments, capture_output=True, check=False, timeout=60)


def row(what: str, ratio: Ratio, against: str, goal: float | None = None) -> str:
    """Return one line of the report."""
    wanted = f"  (goal: at most {goal:.1f})" if goal else ""
    times = f"{ratio.times:6.2f} x"
    absolute = f"{ratio.ours_s * 1000:8.1f} ms : {ratio.theirs_s * 1000:.1f} ms"
    return f"  {what:<34} {times}  {against:<34} {absolute}{wanted}"
