"""Many histories, on one core or on all of them, and their totals."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.scenario import Feature, WorldKind
from tests.simulation.world import History, Violation, play

Seed = tuple[WorldKind, int]
"""What names a history: the kind of its world, and a number."""

CHUNK = 50
"""Seeds given to a worker at a time."""


@dataclass(slots=True)
class Summary:
    """The totals of many histories. ``violations`` by seed, in the order they were found."""

    seeds: int = 0
    virtual_s: float = 0.0
    kills: int = 0
    requests: int = 0
    port_calls: int = 0
    cpu_s: float = 0.0
    violations: dict[Seed, Violation] = field(default_factory=dict)

    def add(self, history: History) -> None:
        """Count one history."""
        self.seeds += 1
        self.virtual_s += history.stats.virtual_s
        self.kills += history.stats.kills
        self.requests += history.stats.requests
        self.port_calls += history.stats.port_calls
        if history.violation is not None:
            self.violations[history.kind, history.seed] = history.violation

    def merge(self, other: Summary) -> None:
        """Count what another worker did."""
        self.seeds += other.seeds
        self.virtual_s += other.virtual_s
        self.kills += other.kills
        self.requests += other.requests
        self.port_calls += other.port_calls
        self.cpu_s += other.cpu_s
        self.violations |= other.violations

    def lines(self, wall_s: float) -> Iterator[str]:
        """Yield what to print: totals, then each broken promise and how to see it again."""
        yield (
            f"{self.seeds:,} seeds · {self.virtual_s / 3600:,.1f} virtual hours · {self.kills:,} kills"
            f" · {self.requests:,} requests · {self.port_calls:,} port calls"
            f" · {len(self.violations)} violations"
        )
        if wall_s > 0 and self.cpu_s > 0:
            yield f"{self.seeds / wall_s:,.0f} seeds/s, {self.seeds / self.cpu_s:,.0f} on one core"
        for (kind, seed), broken in sorted(self.violations.items()):
            yield describe(seed, kind, broken)


def describe(seed: int, kind: WorldKind, broken: Violation) -> str:
    """Describe the broken promise in the history of ``seed``, and how to reproduce it."""
    return (
        f"{kind} seed {seed}: {broken.checker} at {broken.at:.4f} s: {broken.detail}\n"
        f"    again: python -m tests.simulation --world {kind} --seed {seed} --trace"
    )


def play_all(seeds: Iterable[Seed], feature: Feature | None = None) -> Summary:
    """Play the histories of ``seeds`` in this process; ``feature``: with this one and no other."""
    summary = Summary()
    began = time.process_time()
    with without_collector():
        for kind, seed in seeds:
            summary.add(play(seed, kind, feature=feature))
    summary.cpu_s = time.process_time() - began
    return summary


def play_on_cores(seeds: Sequence[Seed], jobs: int, feature: Feature | None = None) -> Summary:
    """Play the histories of ``seeds`` on ``jobs`` processes."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if jobs <= 1:
        return play_all(seeds, feature)
    summary = Summary()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done in pool.imap_unordered(partial(play_all, feature=feature), chunks):
            summary.merge(done)
    return summary


def all_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class without_collector:
    """Disable the cyclic garbage collector meanwhile: it costs a tenth of the time."""

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
        gc.collect()
