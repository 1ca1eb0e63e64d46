"""A tree of nodes against a published JSON Schema: what does not fit, and where.

This file decides nothing of its own: the schema does. It makes the document the schema is asked
about (values resolved strictly, nothing guessed) and brings back each refusal as a :class:`SchemaError`,
one per key concerned, with the place in the file it is about. Saying it well is the caller's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from reconciler.config.yaml_nodes import START, Node, Position, Scalar, Sequence, Table
from reconciler.schema_files import load_schema

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

Path = tuple[str | int, ...]
"""Keys and list indexes from the root to a value."""


@dataclass(frozen=True, slots=True)
class SchemaError:
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


def schema_errors(root: Node, document: Any, schema_name: str) -> Iterator[SchemaError]:
    """Yield each error that the schema finds in ``document``, once. An invalid node is not missing."""
    seen: set[SchemaError] = set()
    for error in validator(schema_name).iter_errors(document):
        for found in _schema_errors(root, error):
            if found not in seen:
                seen.add(found)
                yield found


@cache
def validator(schema_name: str) -> Validator:
    """Return the validator of a published schema, which differs from jsonschema's own in two ways.

    Additional properties come in the order of the document, so that the same file always has the same first
    hundred problems. Whether the items of a list differ is not checked: for a long list with values of two
    types it takes hours, and the value readers report an item that is there twice.
    """
    from jsonschema.validators import Draft202012Validator, extend  # late: it costs more than all the rest

    keywords = {"additionalProperties": _additional_properties, "uniqueItems": lambda *_: ()}
    extended = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call] # its stubs have no types
    return cast("Validator", extended(load_schema(schema_name)))


def _additional_properties(
    inner: Any, allowed: Any, instance: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    names = schema.get("properties", {})
    extras = [name for name in instance if name not in names] if isinstance(instance, dict) else []
    if allowed is False and extras:
        yield ValidationError("")
    elif isinstance(allowed, dict):
        for name in extras:
            yield from inner.descend(instance[name], allowed, path=name)


def node_at(root: Node | None, path: Path) -> Node | None:
    """Return the node at ``path``, or None where the tree ends before it."""
    node = root
    for step in path:
        if isinstance(node, Table) and step in node.values:
            node = node.values[str(step)]
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
        else:
            return None
    return node


def error_position(root: Node, error: SchemaError) -> Position:
    """Return where to look for ``fault``: at the key it is about if the file has it, else at the value."""
    if error.key is None or error.keyword == "required":
        return position_at(root, error.path)
    return _key_position(root, error.path, error.key)


def position_at(root: Node | None, path: Path) -> Position:
    """Return where the value at ``path`` is.

    A table and an empty value are looked for at their key; the root table is everywhere, thus at 1:1.
    """
    node = node_at(root, path)
    if node is None:
        return START
    if isinstance(node, Table):
        return _key_position(root, path[:-1], path[-1]) if path else START
    is_empty = isinstance(node, Scalar) and node.plain and not node.text
    return _key_position(root, path[:-1], path[-1]) if is_empty else node.position


def _key_position(root: Node | None, path: Path, key: str | int) -> Position:
    """Return where ``key`` is written in the table at ``path``; an item of a list is where it begins."""
    parent = node_at(root, path)
    if isinstance(parent, Table) and key in parent.values:
        return parent.key_position(str(key))
    child = node_at(root, (*path, key))
    return START if child is None else child.position


def _schema_errors(root: Node, error: ValidationError) -> Iterator[SchemaError]:
    path: Path = tuple(error.absolute_path)
    keyword = str(error.validator)
    if "propertyNames" in error.absolute_schema_path:
        yield SchemaError(path, "propertyNames", str(error.instance))
    elif keyword == "required":
        yield from _missing(root, path, cast("list[str]", error.validator_value))
    elif keyword == "additionalProperties":
        yield from _unknown(
            path, cast("dict[str, Any]", error.schema), cast("dict[str, Any]", error.instance)
        )
    elif keyword == "dependentRequired":
        yield from _dependent(root, path, cast("dict[str, list[str]]", error.validator_value))
    elif keyword != "minProperties" or _is_empty(root, path):
        yield SchemaError(path, keyword, None)


def _missing(root: Node, path: Path, required: list[str]) -> Iterator[SchemaError]:
    table = node_at(root, path)
    if isinstance(table, Table) and table.complete:
        yield from (SchemaError(path, "required", key) for key in required if key not in table.values)


def _dependent(root: Node, path: Path, required: dict[str, list[str]]) -> Iterator[SchemaError]:
    table = node_at(root, path)
    if isinstance(table, Table) and table.complete:
        for key, others in required.items():
            needed = tuple(other for other in others if other not in table.values)
            if key in table.values and needed:
                yield SchemaError(path, "dependentRequired", key, needed=needed)


def _is_empty(root: Node, path: Path) -> bool:
    """Tell whether a table is empty in the file too, not only in the document made of it."""
    table = node_at(root, path)
    return isinstance(table, Table) and table.complete and not table.values


def _unknown(path: Path, schema: dict[str, Any], instance: dict[str, Any]) -> Iterator[SchemaError]:
    allowed = tuple(schema["properties"])
    yield from (
        SchemaError(path, "additionalProperties", key, allowed) for key in instance if key not in allowed
    )
