"""The strict reader of nodes, as every file format of the program uses it."""

from __future__ import annotations

import pytest

from reconciler.config import yaml_nodes
from reconciler.config.schema_check import SchemaError, error_position, node_at, position_at, schema_errors
from reconciler.config.settings import SETTINGS_FORMAT
from reconciler.config.yaml_nodes import (
    MAX_BAD_CHARACTERS,
    MAX_YAML_DEPTH,
    START,
    InvalidNode,
    Node,
    Position,
    Scalar,
    Sequence,
    Table,
    read_nodes,
)
from reconciler.core.problems import Code
from tests.support.config_documents import complete_document


def root_of(text: str) -> Node:
    root = read_nodes(text.encode(), "file.yaml").root
    assert root is not None
    return root


def gist(node: Node) -> object:
    """Return what a node and the nodes in it are, with the position of every key and value."""
    match node:
        case Scalar():
            return node.text, node.plain, node.position
        case Sequence():
            return [gist(each) for each in node.items], node.position
        case Table():
            return {
                (key, node.key_position(key)): gist(each) for key, each in node.values.items()
            }, node.position
        case InvalidNode():
            return None, node.position


def test_a_tree_has_the_position_of_every_key_and_value() -> None:
    assert gist(root_of("a: 1\nb:\n  - 'x y'\n  - {c: }\n")) == (
        {
            ("a", (1, 1)): ("1", True, (1, 4)),
            ("b", (2, 1)): (
                [("x y", False, (3, 5)), ({("c", (4, 6)): ("", True, (4, 9))}, (4, 5))],
                (3, 3),
            ),
        },
        (1, 1),
    )


def test_a_node_with_a_problem_is_invalid() -> None:
    tree = read_nodes(b"a: &x [1]\nb: *x\nc: !t {d: 1}\ne: !!str 1\n", "file.yaml")
    assert isinstance(tree.root, Table)
    assert [gist(node) for node in tree.root.values.values()] == [
        (None, (1, 4)),
        (None, (2, 4)),
        (None, (3, 4)),
        (None, (4, 4)),
    ]
    assert [each.code for each in tree.problems] == [
        Code.YAML_ANCHOR,
        Code.YAML_ANCHOR,
        Code.YAML_TAG,
        Code.YAML_TAG,
    ]


@pytest.mark.parametrize(
    ("text", "complete"),
    [("a: 1", True), ("a: 1\na: 2", True), ("1: 2", False), ("<<: {}", False), ("*x : 1", False)],
)
def test_a_table_with_an_invalid_key_is_not_complete(text: str, complete: bool) -> None:
    root = root_of(text + "\n")
    assert isinstance(root, Table)
    assert root.complete == complete


def test_the_deepest_nesting_is_read_and_one_more_is_not() -> None:
    assert read_nodes(b"[" * MAX_YAML_DEPTH + b"]" * MAX_YAML_DEPTH, "f").problems == ()
    tree = read_nodes(b"[" * (MAX_YAML_DEPTH + 1) + b"]" * (MAX_YAML_DEPTH + 1), "f")
    assert [(each.code, each.column) for each in tree.problems] == [(Code.TOO_DEEP, MAX_YAML_DEPTH + 1)]
    assert tree.root is None


def test_a_binary_file_is_complained_about_a_bounded_number_of_times() -> None:
    assert len(read_nodes(b"\x00\x01" * 1000, "f").problems) == MAX_BAD_CHARACTERS


def test_a_file_with_too_many_nodes_is_read_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_nodes, "MAX_NODES", 13)
    assert read_nodes(b"a: [1, 2]\nb: 3\n", "f").problems == ()  # the stream and the document count, too
    (found,) = read_nodes(b"a: [1, 2]\nb: 3\nc: [5, 6, 7]\n", "f").problems
    assert (found.code, found.line, found.column) == (Code.TOO_LARGE, 3, 8)


def test_a_document_leaves_out_what_is_invalid_or_ambiguous() -> None:
    document = complete_document(
        root_of("a: [1, 0.5, x, '1', ~, &x 2]\nb: *y\nc: {d: 010, e: null}\n"), SETTINGS_FORMAT
    )
    assert [str(each) for each in document["a"]] == ["1", "0.5", "x", "1", "None", "None"]
    assert document["c"] == {"e": None}
    assert "b" not in document
    assert complete_document(root_of("&a x"), SETTINGS_FORMAT) is None


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ((), START),
        (("a",), Position(1, 1)),
        (("a", "b"), Position(1, 8)),
        (("a", "b", 0), Position(1, 9)),
        (("a", "b", 1), Position(1, 12)),
        (("a", "b", 1, "c"), Position(1, 16)),
        (("a", "d"), Position(2, 5)),
        (("a", "nothing", 5), START),
        (("nothing",), START),
    ],
)
def test_a_position_is_found_by_its_path(path: tuple[str | int, ...], position: Position) -> None:
    assert position_at(root_of("a: {b: [1, {c: 2}],\n    d: }\n"), path) == position


def test_nothing_is_found_where_there_is_nothing() -> None:
    root = root_of("a: [1]\n")
    assert node_at(root, ("a", "b")) is None
    assert error_position(root, SchemaError(("a",), "additionalProperties", "b")) == START


def test_there_is_one_schema_error_a_key_and_none_for_an_invalid_node() -> None:
    root = root_of("version: &x 1\nfoo: 1\nbar: 2\n")
    assert set(schema_errors(root, complete_document(root, SETTINGS_FORMAT), SETTINGS_FORMAT.schema)) == {
        SchemaError((), "additionalProperties", "foo", _ALLOWED),
        SchemaError((), "additionalProperties", "bar", _ALLOWED),
        SchemaError((), "required", "environment"),
        SchemaError((), "required", "families"),
    }


_ALLOWED = ("version", "account", "environment", "expect", "credentials", "defaults", "families")
