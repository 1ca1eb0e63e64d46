"""Print costs as ratios measured in this run: ``python -m bench``, or ``make bench``."""

from __future__ import annotations

import platform
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.arrival import swap_to_arrival
from bench.families import CONTENT, DISTINCT, FAMILIES, SHARED, planning, reading
from bench.hostile import FAMILIES as PAGE_FAMILIES
from bench.hostile import Effects, beside_hostile_clients
from bench.idle import Cost, idling
from bench.measure import compare, process, row
from bench.page import rendering
from bench.replicas import MANY, Many, many_accounts, round_trips, takeovers
from bench.state import durable_steps
from reconciler.core.pacing import EPS_S, WINDOW_S
from tests.simulation.scenario import WorldKind
from tests.simulation.world import play
from tests.support.requirements import postgres_programs

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
    _arrival()
    _page()
    _hostile()
    _idle()
    _replicas()
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
    print(f"{FAMILIES:,} families")
    alone = "yaml.CSafeLoader alone"
    print(row("reading, every check", reading(CONTENT, rounds=9), alone, goal=0.6))
    print(row("the same, each its own quantity", reading(SHARED, rounds=9), alone, goal=0.6))
    print(row("the same, each with own fields", reading(DISTINCT, rounds=9), alone, goal=0.6))
    print(row("planning, half to change", planning(rounds=5), alone))


def _state() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ratio = durable_steps(Path(folder), rounds=15)
    print("state")
    print(row("reserve and settle, durable", ratio, "one bare sqlite3 commit, durable"))


def _arrival() -> None:
    with tempfile.TemporaryDirectory() as folder:
        took = swap_to_arrival(Path(folder))
    print("from the swap of a ConfigMap to the arrival of its request, slot free")
    worst = f"shortest {took[0] * 1000:.0f} ms, longest {took[-1] * 1000:.0f} ms"
    print(f"  median of {len(took)} {median(took) * 1000:24.0f} ms  {worst}  (goal: at most 100 ms)")


def _page() -> None:
    ratio, size = rendering(rounds=15)
    print(f"status page, 200 families, {size / 1000:.0f} KB (goal: at most 100 ms, 200 KB)")
    print(row("rendering", ratio, "the same account's status as JSON"))


def _hostile() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen = beside_hostile_clients(Path(folder), sends=150, rounds=2)
    print(
        f"beside hostile clients of --listen, {PAGE_FAMILIES:,} families (goals: a probe within 1 s, memory"
    )
    print("below 2.0 x of idle, the worst of 150 sends moved by at most 100 ms)")
    print(f"  {'no client':<14} {_effects(seen.alone, seen.alone, seen.idle_kb)}")
    for kind, effects in seen.kinds.items():
        print(f"  {kind:<14} {_effects(effects, seen.alone, seen.idle_kb)}")


def _effects(seen: Effects, alone: Effects, idle_kb: int) -> str:
    probe = f"probe {1000 * seen.probe_median_s:6.1f} ms, worst {1000 * seen.probe_worst_s:6.1f} ms"
    moved_ms = 1000 * (seen.send_worst_s - alone.send_worst_s)
    send = f"send {1000 * seen.send_median_s:5.1f} ms, worst moved by {moved_ms:6.1f} ms"
    times = f"{seen.probe_median_s / alone.probe_median_s:6.1f} x"
    return f"{probe} ({times} alone); {send}; memory {seen.peak_kb / idle_kb:.2f} x"


def _idle() -> None:
    with tempfile.TemporaryDirectory() as folder:
        seen = idling(Path(folder))
    print("a sidecar with nothing to do: 6 families in sync, --listen, through one minute")
    beside = f"a bare aiohttp server {_core(seen.bare)}  (goal: at most 0.1)"
    print(f"  {'of a core':<34} {_core(seen.sidecar)}  {beside}")
    besides = f"besides the interval's reads, with them {seen.sidecar.wakeups:.0f}  (goal: at most 10)"
    print(f"  {'wake-ups a minute':<34} {seen.without_reads.wakeups:6.0f}    {besides}")
    times = seen.sidecar.resident_kb / seen.bare.resident_kb
    sizes = f"{_megabytes(seen.sidecar)} : {_megabytes(seen.bare)}"
    print(f"  {'resident memory':<34} {times:6.2f} x  a bare aiohttp server {sizes}  (goal: at most 1.3)")


def _core(cost: Cost) -> str:
    return f"{100 * cost.core:6.3f} %"


def _megabytes(cost: Cost) -> str:
    return f"{cost.resident_kb / 1024:.0f} MB"


def _replicas() -> None:
    if postgres_programs() is None:
        print("replicas: left out, there is no PostgreSQL here")
        return
    with tempfile.TemporaryDirectory() as folder:
        took = takeovers(Path(folder), rounds=3)
        many = many_accounts(Path(folder))
    print("replicas on one PostgreSQL state")
    longest = f"longest of {len(took)} {took[-1]:.1f} s  (goal: at most 15)"
    print(f"  {'a death, until another owns all':<34} {median(took):6.1f} s  {longest}")
    _print_many(many)
    trips = f"{round_trips():6.1f}    a request, in a pass of two  (goal: at most 20)"
    print(f"  {'round trips to the database':<34} {trips}")


def _print_many(many: Many) -> None:
    floor_s = WINDOW_S + EPS_S
    times = f"{many.seconds / floor_s:6.2f} x  the pace alone"
    took = f"{many.requests} requests in {many.seconds:.1f} s : {floor_s:.1f} s  (goal: at most 2.0)"
    print(f"  {f'{MANY} accounts in one process':<34} {times}, {took}")
    rate, each_ms = many.requests / many.seconds, 1000 * many.cpu_s / many.requests
    print(
        f"    {rate:.1f} a second, at most {many.most_in_ten_seconds} of one User ID in any 10 s (goal: 2);"
    )
    print(f"    {100 * many.core:.0f} % of a core, {each_ms:.0f} ms of it a request, beginning included;")
    print(f"    {many.resident_kb / 1024:.0f} MB resident")


def _simulation() -> None:
    print("simulation")
    for kind in WorldKind:
        began = perf_counter()
        broken = [seed for seed in range(SEEDS) if play(seed, kind).violation]
        rate, found = SEEDS / (perf_counter() - began), f"{len(broken)} with a promise broken"
        print(f"  {SEEDS} seeds of {kind:<8} on one core  {rate:6.0f} a second, {found}")


main()
