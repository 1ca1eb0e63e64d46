"""The three fields of one table, a family's own or the defaults: read, or complained about.

This file decides what a family's setting is: its own fields over the defaults. A field that is there
but cannot be used is *broken*: it has had its complaint and is never also called missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from reconciler.config.messages import field_surprise, null_value
from reconciler.config.suggest import nearest_key
from reconciler.config.values import Complaint, Interval, read_interval, read_quantity
from reconciler.config.yaml_ambiguity import Surprise, resolve
from reconciler.config.yaml_nodes import Node, Opaque, Place, Scalar, Table
from reconciler.core.model import Field, Quantity, Setting
from reconciler.core.problems import WARNINGS, Code

MOST_UNKNOWN = 20
"""Unknown keys of one table that are compared with the fields; beyond, any of them may be meant."""

FIELD_NAMES = frozenset(each.value for each in Field)


class Broken(Enum):
    """The value of a field that is written but cannot be used."""

    BROKEN = "broken"


Value = int | Quantity | Broken
"""Milliseconds of an interval, a quantity, or broken."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What one table says of the three fields; a field it does not mention is not in ``values``."""

    values: dict[Field, Value] = field(default_factory=dict)
    complaints: tuple[tuple[Field, Place, Complaint], ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong with any field; warnings do not count."""
        return all(complaint.code in WARNINGS for _, _, complaint in self.complaints) and (
            Broken.BROKEN not in self.values.values()
        )


ALL_BROKEN = Fields(dict.fromkeys(Field, Broken.BROKEN))
"""The fields of a table that could not be read at all: anything may have been in it."""


def read_fields(table: Table) -> Fields:
    """Read the fields of ``table``; unknown keys are left to the schema.

    An unknown key that looks like a slip of a field makes that field broken, not missing.
    """
    unknown = [key for key in table.entries if key not in FIELD_NAMES]
    is_readable = table.whole and len(unknown) <= MOST_UNKNOWN
    values: dict[Field, Value] = {} if is_readable else dict(ALL_BROKEN.values)
    complaints: list[tuple[Field, Place, Complaint]] = []
    for key in unknown[:MOST_UNKNOWN]:
        if meant := nearest_key(key, Field):
            values[Field(meant)] = Broken.BROKEN
    for name in Field:
        if (entry := table.entries.get(name)) is None:
            continue
        values[name], complaint = _read(name, entry.value)
        if complaint:
            at = entry.key.at if complaint.code is Code.NULL_VALUE else entry.value.at
            complaints.append((name, at, complaint))
    return Fields(values, tuple(complaints))


def merged(own: Fields, defaults: Fields) -> Setting | tuple[Field, ...]:
    """Return the setting of ``own`` over ``defaults``, or the fields neither has.

    An empty tuple: nothing is missing, but at least one field is broken.
    """
    values = {**defaults.values, **own.values}
    window = values.get(Field.TIME_INTERVAL)
    freeze = values.get(Field.FROZEN_INTERVAL)
    limit = values.get(Field.QTY_LIMIT)
    if isinstance(window, int) and isinstance(freeze, int) and isinstance(limit, Quantity):
        return Setting(window, freeze, limit)
    return tuple(name for name in Field if name not in values)


def _read(name: Field, node: Node) -> tuple[Value, Complaint | None]:
    if isinstance(node, Opaque):
        return Broken.BROKEN, None
    if not isinstance(node, Scalar):
        message = f"{name} is a single value, not a list or mapping"
        return Broken.BROKEN, Complaint(Code.WRONG_TYPE, message, f"write it as {name}: {_EXAMPLES[name]}")
    if node.plain and (refused := _refused(name, node.text)):
        return Broken.BROKEN, refused
    return _read_text(name, node.text)


def _refused(name: Field, text: str) -> Complaint | None:
    """Complain of a plain value YAML makes nothing of, or something else by version."""
    resolved = resolve(text)
    if resolved is None:
        return null_value(name)
    return field_surprise(name, text, resolved) if isinstance(resolved, Surprise) else None


def _read_text(name: Field, text: str) -> tuple[Value, Complaint | None]:
    if name is Field.QTY_LIMIT:
        quantity = read_quantity(text)
        return (Broken.BROKEN, quantity) if isinstance(quantity, Complaint) else (quantity, None)
    match read_interval(name, text):
        case Interval(ms, warning):
            return ms, warning
        case Complaint() as complaint:
            return Broken.BROKEN, complaint


_EXAMPLES = {Field.TIME_INTERVAL: "5s", Field.FROZEN_INTERVAL: "2s", Field.QTY_LIMIT: "100"}
