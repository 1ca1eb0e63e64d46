"""A tree of nodes against a published JSON Schema: what does not fit, and where.

This file decides nothing of its own: the schema does. It makes the document the schema is asked
about (values resolved strictly, nothing guessed) and brings back each refusal as a :class:`Fault`,
one per key concerned, with the place in the file it is about. Saying it well is the caller's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from reconciler.config.yaml_ambiguity import Surprise, resolve
from reconciler.config.yaml_nodes import START, Node, Place, Scalar, Sequence, Table
from reconciler.schema_files import load_schema

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Path = tuple[str | int, ...]
"""Keys and list indexes from the root to a value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal of the schema.

    ``path`` leads to the value, or to the table when the refusal is about its ``key``. ``keyword``
    is the schema's (``required``, ``additionalProperties``, ``pattern``, …) and ``propertyNames``
    for whatever a key's own name violates. ``allowed`` are the keys the table may have, ``needed`` those
    without which it may not have ``key``.
    """

    path: Path
    keyword: str
    key: str | None
    allowed: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """What a tree says as plain JSON values; what is opaque or a surprise is left out of it."""

    value: Any
    surprises: tuple[tuple[Path, Scalar, Surprise], ...]


def to_document(root: Node) -> Document:
    """Return the document of ``root``: tables as dicts, plain decimals as numbers, nulls as None."""
    surprises: list[tuple[Path, Scalar, Surprise]] = []
    value = _value(root, (), surprises)
    return Document(None if value is _ABSENT else value, tuple(surprises))


def faults(root: Node, document: Document, schema_name: str) -> Iterator[Fault]:
    """Yield each refusal of ``document`` by the schema, once; what is opaque does not count as missing.

    That the items of a list differ is not asked: of a long list with values of two types it takes hours,
    and readers say better which item is there twice.
    """
    from jsonschema.validators import Draft202012Validator  # late: it costs more than all the rest

    validator = Draft202012Validator(_quick_schema(schema_name))
    seen: set[Fault] = set()
    for error in validator.iter_errors(document.value):
        for fault in _faults(root, error):
            if fault not in seen:
                seen.add(fault)
                yield fault


def node_at(root: Node, path: Path) -> Node | None:
    """Return the node at ``path``, or None where the tree ends before it."""
    node: Node | None = root
    for step in path:
        if isinstance(node, Table) and step in node.entries:
            node = node.entries[str(step)].value
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
        else:
            return None
    return node


def fault_place(root: Node, fault: Fault) -> Place:
    """Return where to look for ``fault``: at the key it is about if the file has it, else at the value."""
    if fault.key is None or fault.keyword == "required":
        return place_of(root, fault.path)
    return _key_place(root, fault.path, fault.key)


def place_of(root: Node, path: Path) -> Place:
    """Return where the value at ``path`` is.

    A table and an empty value are looked for at their key; the root table is everywhere, thus at 1:1.
    """
    node = node_at(root, path)
    if node is None:
        return START
    if isinstance(node, Table):
        return _key_place(root, path[:-1], path[-1]) if path else START
    is_empty = isinstance(node, Scalar) and node.plain and not node.text
    return _key_place(root, path[:-1], path[-1]) if is_empty else node.at


def _key_place(root: Node, path: Path, key: str | int) -> Place:
    """Return where ``key`` is written in the table at ``path``; an item of a list is where it begins."""
    parent = node_at(root, path)
    if isinstance(parent, Table) and key in parent.entries:
        return parent.entries[str(key)].key.at
    child = node_at(root, (*path, key))
    return START if child is None else child.at


@cache
def _quick_schema(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", _without_unique_items(load_schema(name)))


def _without_unique_items(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_unique_items(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_without_unique_items(each) for each in schema] if isinstance(schema, list) else schema


_ABSENT = object()


def _value(node: Node, path: Path, surprises: list[tuple[Path, Scalar, Surprise]]) -> Any:
    if isinstance(node, Scalar):
        return _scalar_value(node, path, surprises)
    if isinstance(node, Table):
        pairs = ((key, _value(entry.value, (*path, key), surprises)) for key, entry in node.entries.items())
        return {key: value for key, value in pairs if value is not _ABSENT}
    if isinstance(node, Sequence):
        values = (_value(item, (*path, index), surprises) for index, item in enumerate(node.items))
        return [None if value is _ABSENT else value for value in values]
    return _ABSENT


def _scalar_value(node: Scalar, path: Path, surprises: list[tuple[Path, Scalar, Surprise]]) -> Any:
    if not node.plain:
        return node.text
    value = resolve(node.text)
    if isinstance(value, Surprise):
        surprises.append((path, node, value))
        return _ABSENT
    return value


def _faults(root: Node, error: ValidationError) -> Iterator[Fault]:
    path: Path = tuple(error.absolute_path)
    keyword = str(error.validator)
    if "propertyNames" in error.absolute_schema_path:
        yield Fault(path, "propertyNames", str(error.instance))
    elif keyword == "required":
        yield from _missing(root, path, cast("list[str]", error.validator_value))
    elif keyword == "additionalProperties":
        yield from _unknown(
            path, cast("dict[str, Any]", error.schema), cast("dict[str, Any]", error.instance)
        )
    elif keyword == "dependentRequired":
        yield from _dependent(root, path, cast("dict[str, list[str]]", error.validator_value))
    elif keyword != "minProperties" or _is_empty(root, path):
        yield Fault(path, keyword, None)


def _missing(root: Node, path: Path, required: list[str]) -> Iterator[Fault]:
    table = node_at(root, path)
    if isinstance(table, Table) and table.whole:
        yield from (Fault(path, "required", key) for key in required if key not in table.entries)


def _dependent(root: Node, path: Path, required: dict[str, list[str]]) -> Iterator[Fault]:
    table = node_at(root, path)
    if isinstance(table, Table) and table.whole:
        for key, others in required.items():
            needed = tuple(other for other in others if other not in table.entries)
            if key in table.entries and needed:
                yield Fault(path, "dependentRequired", key, needed=needed)


def _is_empty(root: Node, path: Path) -> bool:
    """Tell whether a table is empty in the file too, not only in the document made of it."""
    table = node_at(root, path)
    return isinstance(table, Table) and table.whole and not table.entries


def _unknown(path: Path, schema: dict[str, Any], instance: dict[str, Any]) -> Iterator[Fault]:
    allowed = tuple(schema["properties"])
    yield from (Fault(path, "additionalProperties", key, allowed) for key in instance if key not in allowed)
