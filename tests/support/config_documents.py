"""The document that a schema checks, built from the entire file."""

from __future__ import annotations

from typing import Any

from reconciler.config.reader import ABSENT, Format, NodeReader
from reconciler.config.yaml_nodes import Node
from reconciler.core.problems import Collected


def complete_document(root: Node, form: Format) -> Any:
    """Return the full document of a file, with the parts that need no schema; None if it has none."""
    document = NodeReader(root, form, "file.yaml", Collected()).read(root, ())
    return None if document is ABSENT else document
