"""Finds the published JSON Schemas: package data of a wheel, or the checkout's folder.

The wheel carries the top-level ``schemas/`` as ``reconciler/schemas/``; in a checkout they are beside
the package. This file only finds and parses them; ``config/schema_check.py`` checks with them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_NAMES = ("mmp", "policy", "plan", "status", "problems", "apply", "notification")
"""The documents with a published schema, as ``mmp schema NAME`` names them."""

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")


def schema_text(name: str) -> str:
    """Return the schema called ``name``, as published.

    Raises ValueError for a name not in SCHEMA_NAMES, FileNotFoundError for a broken installation.
    """
    if name not in SCHEMA_NAMES:
        raise ValueError(f"no schema is called {name!r}; there are: {', '.join(SCHEMA_NAMES)}")
    for folder in _FOLDERS:
        file = folder / f"{name}.schema.json"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"the installation lacks the schema {name}; install mmp-reconciler again")


@cache
def load_schema(name: str) -> dict[str, Any]:
    """Return the parsed schema called ``name``; callers share it and must not change it.

    Raises as :func:`schema_text` does.
    """
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema
