"""Checks the document of a file with its published JSON Schema, and finds the position of each error.

The schema decides what is valid. This file turns each error of jsonschema into a :class:`SchemaError`,
one for each key concerned. The caller chooses the message.
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

KeyPath = tuple[str | int, ...]
"""Keys and list indexes from the root to a value."""


@dataclass(frozen=True, slots=True)
class SchemaError:
    """One error that the schema finds.

    ``path`` is the path of the value, or of the table if the error is about its ``key``. ``keyword`` is the
    keyword of the schema (``required``, ``additionalProperties``, ``pattern``, …), or ``propertyNames`` if
    the name of the key is invalid. ``allowed`` are the keys that the table may have. ``needed`` are the
    missing keys that ``key`` requires.
    """

    path: KeyPath
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
    # Imported late, because the import takes longer than the check.
    from jsonschema.validators import Draft202012Validator, extend

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


def node_at(root: Node | None, path: KeyPath) -> Node | None:
    """Return the node at ``path``; None if there is none."""
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
    """Return the position of an error: its key if the file has that key, else its value."""
    if error.key is None or error.keyword == "required":
        return position_at(root, error.path)
    return _key_position(root, error.path, error.key)


def position_at(root: Node | None, path: KeyPath) -> Position:
    """Return the position of the value at ``path``.

    For a table and for an empty value this is the position of the key. For the root table it is 1:1.
    """
    node = node_at(root, path)
    if node is None:
        return START
    if isinstance(node, Table):
        return _key_position(root, path[:-1], path[-1]) if path else START
    is_empty = isinstance(node, Scalar) and node.plain and not node.text
    return _key_position(root, path[:-1], path[-1]) if is_empty else node.position


def _key_position(root: Node | None, path: KeyPath, key: str | int) -> Position:
    """Return the position of ``key`` in the table at ``path``, or of an item in a list."""
    parent = node_at(root, path)
    if isinstance(parent, Table) and key in parent.values:
        return parent.key_position(str(key))
    child = node_at(root, (*path, key))
    return START if child is None else child.position


def _schema_errors(root: Node, error: ValidationError) -> Iterator[SchemaError]:
    path: KeyPath = tuple(error.absolute_path)
    keyword, rule = str(error.validator), cast("Any", error.validator_value)
    table = node_at(root, path)
    # What seems to be missing in a table that is not complete may be behind an invalid key.
    written = table.values if isinstance(table, Table) and table.complete else None
    if "propertyNames" in error.absolute_schema_path:
        yield SchemaError(path, "propertyNames", str(error.instance))
    elif keyword == "additionalProperties":
        schema, instance = cast("dict[str, Any]", error.schema), cast("dict[str, Any]", error.instance)
        allowed = tuple(schema["properties"])
        yield from (SchemaError(path, keyword, key, allowed) for key in instance if key not in allowed)
    elif keyword not in ("required", "dependentRequired", "minProperties"):
        yield SchemaError(path, keyword, None)
    elif written is None:
        return
    elif keyword == "required":
        yield from (SchemaError(path, keyword, key) for key in rule if key not in written)
    elif keyword == "dependentRequired":
        for key, others in rule.items():
            needed = tuple(other for other in others if other not in written)
            if key in written and needed:
                yield SchemaError(path, keyword, key, needed=needed)
    elif not written:  # empty in the file, not only in the document
        yield SchemaError(path, keyword, None)
