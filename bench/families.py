"""The cost of ten thousand families: reading them strictly, and planning for them."""

from __future__ import annotations

import yaml

from bench.measure import Ratio, compare
from reconciler.config.settings import read_config
from reconciler.core.live_evidence import Reads
from reconciler.core.model import Family, LiveRead, LiveRow, Quantity, Setting
from reconciler.core.plan import PlanConstraints
from reconciler.core.planning import make_plan

FAMILIES = 10_000
NAMES = tuple(f"F{number:05}-USD" for number in range(FAMILIES))

HEAD = "version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
CONTENT = (HEAD + "".join(f"  {name}: {{qtyLimit: {100 + len(name)}}}\n" for name in NAMES)).encode()
SHARED = (
    HEAD + "".join(f"  {name}: {{qtyLimit: {number + 1}}}\n" for number, name in enumerate(NAMES))
).encode()
"""The intervals from the defaults, and no two families with the same quantity."""

DISTINCT = (
    HEAD
    + "".join(
        f"  {name}: {{timeInterval: {number % 50 + 1}s, frozenInterval: 2s, qtyLimit: {number + 1}}}\n"
        for number, name in enumerate(NAMES)
    )
).encode()
"""Each family with fields of its own, and no two with the same quantity."""


def reading(content: bytes, *, rounds: int) -> Ratio:
    """Compare reading and checking a settings file with a bare YAML load of the same file."""
    return compare(
        lambda: read_config(content, "mmp.yaml"),
        lambda: yaml.load(content, Loader=yaml.CSafeLoader),
        rounds=rounds,
    )


def planning(*, rounds: int) -> Ratio:
    """Compare planning, with half of the families to change, with a bare YAML load of the file."""
    accepted = read_config(CONTENT, "mmp.yaml").desired
    assert accepted is not None
    other = Setting(5000, 2000, Quantity("7"))
    rows = {Family(name): LiveRow(other) for name in NAMES[::2]}
    reads = Reads(LiveRead(1.0, rows))
    return compare(
        lambda: make_plan(accepted, {}, reads, PlanConstraints(), 2.0),
        lambda: yaml.load(CONTENT, Loader=yaml.CSafeLoader),
        rounds=rounds,
    )
