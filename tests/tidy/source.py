"""The repository as the tidy tests see it: parsed modules of the package, and the text of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "reconciler"
FOLDERS = ("reconciler", "tests", "bench", "docs", "schemas", "requirements", ".ci")
NOT_OURS = {"__pycache__", ".mmp"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One module; ``place`` is its path inside the package, such as ``core/plan.py``."""

    place: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed module."""
        return ast.parse(self.text)

    @property
    def layer(self) -> str:
        """The first part of the place: ``core`` for ``core/plan.py``, ``loop`` for ``loop.py``."""
        return self.place.split("/")[0].removesuffix(".py")

    def imports(self) -> Iterator[str]:
        """Yield the dotted name of everything imported anywhere in the module, types alone included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def functions(self) -> Iterator[Function]:
        """Yield every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def module(source: str, place: str = "core/made_up.py") -> Module:
    """Return ``source`` as the module at ``place``, to show that a rule can fail."""
    return Module(place, source)


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    return tuple(
        Module(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    )


@cache
def files() -> dict[str, str]:
    """Return the text of every file of ours, by its path from the root."""
    top = [path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".coverage")]
    deeper = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(top + deeper)
        if not NOT_OURS & set(path.parts)
    }
