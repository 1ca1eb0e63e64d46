"""The strict reader of nodes, as every file format of the program uses it."""

from __future__ import annotations

import pytest

from reconciler.config.schema_check import Fault, fault_place, faults, node_at, place_of, to_document
from reconciler.config.yaml_nodes import (
    MAX_BAD_CHARACTERS,
    MAX_DEPTH,
    START,
    Entry,
    Node,
    Opaque,
    Place,
    Scalar,
    Sequence,
    Table,
    read_nodes,
)
from reconciler.core.problems import Code


def root_of(text: str) -> Node:
    root = read_nodes(text.encode(), "file.yaml").root
    assert root is not None
    return root


def test_a_tree_has_the_place_of_every_key_and_value() -> None:
    assert root_of("a: 1\nb:\n  - 'x y'\n  - {c: }\n") == Table(
        {
            "a": Entry(Scalar("a", True, Place(1, 1)), Scalar("1", True, Place(1, 4))),
            "b": Entry(
                Scalar("b", True, Place(2, 1)),
                Sequence(
                    (
                        Scalar("x y", False, Place(3, 5)),
                        Table(
                            {"c": Entry(Scalar("c", True, Place(4, 6)), Scalar("", True, Place(4, 9)))},
                            Place(4, 5),
                        ),
                    ),
                    Place(3, 3),
                ),
            ),
        },
        Place(1, 1),
    )


def test_what_has_been_complained_about_is_opaque() -> None:
    tree = read_nodes(b"a: &x [1]\nb: *x\nc: !t {d: 1}\ne: !!str 1\n", "file.yaml")
    assert isinstance(tree.root, Table)
    assert [entry.value for entry in tree.root.entries.values()] == [
        Opaque(Place(1, 4)),
        Opaque(Place(2, 4)),
        Opaque(Place(3, 4)),
        Opaque(Place(4, 4)),
    ]
    assert [each.code for each in tree.problems] == [
        Code.YAML_ANCHOR,
        Code.YAML_ANCHOR,
        Code.YAML_TAG,
        Code.YAML_TAG,
    ]


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a: 1", True), ("a: 1\na: 2", True), ("1: 2", False), ("<<: {}", False), ("*x : 1", False)],
)
def test_a_table_knows_whether_keys_were_refused(text: str, whole: bool) -> None:
    root = root_of(text + "\n")
    assert isinstance(root, Table)
    assert root.whole == whole


def test_the_deepest_nesting_is_read_and_one_more_is_not() -> None:
    assert read_nodes(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "f").problems == ()
    tree = read_nodes(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "f")
    assert [(each.code, each.column) for each in tree.problems] == [(Code.TOO_DEEP, MAX_DEPTH + 1)]
    assert tree.root is None


def test_a_binary_file_is_complained_about_a_bounded_number_of_times() -> None:
    assert len(read_nodes(b"\x00\x01" * 1000, "f").problems) == MAX_BAD_CHARACTERS


def test_a_document_leaves_out_what_it_cannot_say() -> None:
    root = root_of("a: [1, 0.5, x, '1', ~, &x 2]\nb: *y\nc: {d: 010, e: null}\n")
    document = to_document(root)
    assert [str(each) for each in document.value["a"]] == ["1", "0.5", "x", "1", "None", "None"]
    assert document.value["c"] == {"e": None}
    assert "b" not in document.value
    assert [(path, scalar.text) for path, scalar, _ in document.surprises] == [(("c", "d"), "010")]
    assert to_document(Opaque(START)).value is None


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), START),
        (("a",), Place(1, 1)),
        (("a", "b"), Place(1, 8)),
        (("a", "b", 0), Place(1, 9)),
        (("a", "b", 1), Place(1, 12)),
        (("a", "b", 1, "c"), Place(1, 16)),
        (("a", "d"), Place(2, 5)),
        (("a", "nothing", 5), START),
        (("nothing",), START),
    ],
)
def test_a_place_is_found_by_its_path(path: tuple[str | int, ...], place: Place) -> None:
    assert place_of(root_of("a: {b: [1, {c: 2}],\n    d: }\n"), path) == place


def test_nothing_is_found_where_there_is_nothing() -> None:
    root = root_of("a: [1]\n")
    assert node_at(root, ("a", "b")) is None
    assert fault_place(root, Fault(("a",), "additionalProperties", "b")) == START


def test_faults_come_once_a_key_and_never_for_what_is_opaque() -> None:
    root = root_of("version: &x 1\nfoo: 1\nbar: 2\n")
    assert set(faults(root, to_document(root), "mmp")) == {
        Fault((), "additionalProperties", "foo", _ALLOWED),
        Fault((), "additionalProperties", "bar", _ALLOWED),
        Fault((), "required", "environment"),
        Fault((), "required", "families"),
    }


_ALLOWED = ("version", "account", "environment", "expect", "credentials", "defaults", "families")
