"""Print what things cost, as ratios measured in this run: ``python -m bench``, or ``make bench``."""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from bench.families import FAMILIES, reading_and_planning
from bench.measure import compare, process, row
from bench.state import durable_steps
from tests.simulation.scenario import WorldKind
from tests.simulation.world import play

ROOT = Path(__file__).resolve().parents[1]
MMP = str(Path(sys.executable).with_name("mmp"))
SEEDS = 300

OFFLINE = {
    "mmp --help": ("--help",),
    "mmp schema mmp": ("schema", "mmp"),
    "mmp validate --help": ("validate", "--help"),
    "mmp validate mmp.yaml": ("validate", str(ROOT / "mmp.yaml")),
}


def main() -> None:
    """Measure and print."""
    print(f"medians of alternating runs, Python {platform.python_version()}; ratios, not seconds, travel")
    _starting()
    _families()
    _state()
    _simulation()


def _starting() -> None:
    print("starting")
    imports = process(sys.executable, "-c", "import yaml, jsonschema")
    validate = process(MMP, "validate", str(ROOT / "mmp.yaml"))
    ratio = compare(validate, imports, rounds=15)
    print(row("mmp validate mmp.yaml", ratio, 'python -c "import yaml, jsonschema"', goal=1.6))
    bare = process(sys.executable, "-c", "pass")
    for name, arguments in OFFLINE.items():
        print(row(name, compare(process(MMP, *arguments), bare, rounds=11), "python -c pass"))


def _families() -> None:
    read, planned = reading_and_planning(rounds=5)
    print(f"{FAMILIES:,} families")
    print(row("reading, every check", read, "yaml.CSafeLoader alone"))
    print(row("planning, half to change", planned, "yaml.CSafeLoader alone"))


def _state() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ratio = durable_steps(Path(folder), rounds=15)
    print("state")
    print(row("reserve and settle, durable", ratio, "one bare sqlite3 commit, durable"))


def _simulation() -> None:
    print("simulation")
    for kind in WorldKind:
        began = perf_counter()
        broken = [seed for seed in range(SEEDS) if play(seed, kind).violation]
        rate, found = SEEDS / (perf_counter() - began), f"{len(broken)} with a promise broken"
        print(f"  {SEEDS} seeds of {kind:<8} on one core  {rate:6.0f} a second, {found}")


main()
