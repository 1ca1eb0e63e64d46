"""Play simulated histories: many of them, one to read, or the seeded mutants.

python -m tests.simulation --seeds 20000 --jobs all
python -m tests.simulation --world postgres --seed 1234 --trace
python -m tests.simulation --mutants
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection

from tests.simulation.mutants import hunt_all
from tests.simulation.runner import all_cores, describe, play_on_cores
from tests.simulation.scenario import Feature, WorldKind
from tests.simulation.world import play

ALL = "all"


def main(arguments: list[str]) -> int:
    """Run the command; 0 when no promise was broken."""
    asked = _parser().parse_args(arguments)
    kinds = tuple(WorldKind) if asked.world == ALL else (WorldKind(asked.world),)
    feature = None if asked.feature is None else Feature(asked.feature)
    if asked.mutants:
        return _mutants(kinds, asked.seeds, asked.jobs)
    if asked.seed is not None:
        return max(_one(asked.seed, kind, feature, trace=asked.trace) for kind in kinds)
    seeds = range(asked.start, asked.start + asked.seeds)
    return max([_many(kind, seeds, asked.jobs, feature) for kind in kinds])


def _many(kind: WorldKind, seeds: range, jobs: int, feature: Feature | None) -> int:
    began = time.monotonic()
    summary = play_on_cores([(kind, seed) for seed in seeds], jobs, feature)
    print(f"{kind}: " + "\n".join(summary.lines(time.monotonic() - began)), flush=True)
    return 1 if summary.violations else 0


def _one(seed: int, kind: WorldKind, feature: Feature | None, *, trace: bool) -> int:
    history = play(seed, kind, tracing=trace, feature=feature)
    if trace:
        print("\n".join(history.lines))
    broken = history.violation
    print(describe(seed, kind, broken) if broken else f"{kind} seed {seed}: nothing broken")
    return 1 if broken else 0


def _mutants(kinds: Collection[WorldKind], seeds: int, jobs: int) -> int:
    escaped = 0
    for hunt in hunt_all(kinds, seeds, jobs):
        print(hunt.line(), flush=True)
        escaped += hunt.violation is None
    return 1 if escaped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    worlds = (ALL, *(kind.value for kind in WorldKind))
    parser.add_argument("--world", choices=worlds, default=ALL, help="what keeps the state (default all)")
    parser.add_argument(
        "--seeds", type=int, default=2000, help="how many seeds of each world (default 2000)"
    )
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=_jobs, default=1, help="processes: a number, or all")
    parser.add_argument("--seed", type=int, help="one seed only")
    features = [feature.value for feature in Feature]
    parser.add_argument("--feature", choices=features, help="with this feature only, in every history")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell the whole story")
    parser.add_argument("--mutants", action="store_true", help="hunt the seeded mutants instead")
    return parser


def _jobs(text: str) -> int:
    return all_cores() if text == "all" else int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
