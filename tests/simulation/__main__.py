"""Play simulated histories: many of them, one to read, or the seeded mutants.

python -m tests.simulation --seeds 20000 --jobs all
python -m tests.simulation --seed 1234 --trace
python -m tests.simulation --mutants
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.mutants import hunt_all
from tests.simulation.runner import all_cores, describe, play_on_cores
from tests.simulation.world import play


def main(arguments: list[str]) -> int:
    """Run the command; 0 when no promise was broken."""
    asked = _parser().parse_args(arguments)
    if asked.mutants:
        return _mutants(asked.seeds, asked.jobs)
    if asked.seed is not None:
        return _one(asked.seed, trace=asked.trace)
    return _many(range(asked.start, asked.start + asked.seeds), asked.jobs)


def _many(seeds: range, jobs: int) -> int:
    began = time.monotonic()
    summary = play_on_cores(seeds, jobs)
    print("\n".join(summary.lines(time.monotonic() - began)))
    return 1 if summary.violations else 0


def _one(seed: int, *, trace: bool) -> int:
    history = play(seed, tracing=trace)
    if trace:
        print("\n".join(history.lines))
    print(describe(seed, history.violation) if history.violation else f"seed {seed}: nothing broken")
    return 1 if history.violation else 0


def _mutants(seeds: int, jobs: int) -> int:
    escaped = 0
    for hunt in hunt_all(seeds, jobs):
        print(hunt.line(), flush=True)
        escaped += hunt.violation is None
    return 1 if escaped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds (default 2000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=_jobs, default=1, help="processes: a number, or all")
    parser.add_argument("--seed", type=int, help="one seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell the whole story")
    parser.add_argument("--mutants", action="store_true", help="hunt the seeded mutants instead")
    return parser


def _jobs(text: str) -> int:
    return all_cores() if text == "all" else int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
