"""What ten thousand families cost: reading them strictly, and planning for them."""

from __future__ import annotations

import yaml

from bench.measure import Ratio, compare
from reconciler.config.settings import read_config
from reconciler.core.evidence import Reads
from reconciler.core.model import Family, LiveRead, LiveRow, Quantity, Setting
from reconciler.core.plan import PlanConstraints
from reconciler.core.planning import make_plan

FAMILIES = 10_000
NAMES = tuple(f"F{number:05}-USD" for number in range(FAMILIES))

HEAD = "version: 1\nenvironment: live\ndefaults: {timeInterval: 5s, frozenInterval: 2s}\nfamilies:\n"
CONTENT = (HEAD + "".join(f"  {name}: {{qtyLimit: {100 + len(name)}}}\n" for name in NAMES)).encode()


def reading_and_planning(*, rounds: int) -> tuple[Ratio, Ratio]:
    """Compare reading, and planning with half of the families to change, with a bare YAML load."""
    accepted = read_config(CONTENT, "mmp.yaml").desired
    assert accepted is not None
    other = Setting(5000, 2000, Quantity("7"))
    rows = {Family(name): LiveRow(other) for name in NAMES[::2]}
    reads = Reads(LiveRead(1.0, rows))
    read = compare(lambda: read_config(CONTENT, "mmp.yaml"), _load_alone, rounds=rounds)
    planned = compare(
        lambda: make_plan(accepted, {}, reads, PlanConstraints(), 2.0), _load_alone, rounds=rounds
    )
    return read, planned


def _load_alone() -> object:
    return yaml.load(CONTENT, Loader=yaml.CSafeLoader)
