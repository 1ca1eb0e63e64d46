"""Where each value of a family's setting comes from: its own line, or the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.config.schema_check import node_at, position_at
from reconciler.config.settings import Reading
from reconciler.config.yaml_nodes import read_nodes
from reconciler.core.model import Family, Field, FilePosition


@dataclass(frozen=True, slots=True)
class ValueSource:
    """The position of one value; ``own`` is False if the value comes from the defaults."""

    source: FilePosition
    own: bool


def value_sources(reading: Reading, family: Family) -> dict[Field, ValueSource]:
    """Return where a valid file sets each field of a family."""
    assert reading.desired is not None, "only a valid file has values"
    root = read_nodes(reading.text.encode(), reading.path).root
    assert root is not None, "a valid file can be read again"
    found: dict[Field, ValueSource] = {}
    for name in Field:
        own = ("families", family, name.value)
        is_own = node_at(root, own) is not None
        position = position_at(root, own if is_own else ("defaults", name.value))
        found[name] = ValueSource(FilePosition(reading.path, position.line, position.column), is_own)
    return found
