"""The document that a schema checks, made of a whole file."""

from __future__ import annotations

from typing import Any

from reconciler.config.reader import ABSENT, Format, NodeReader
from reconciler.config.yaml_nodes import Node
from reconciler.core.problems import Collected


def whole_document(root: Node, form: Format) -> Any:
    """Return the document of a file without leaving out what needs no schema; None if it has none."""
    document = NodeReader(root, form, "file.yaml", Collected()).read(root, ())
    return None if document is ABSENT else document
