"""Who may import whom: the architecture's table, and one home for every library."""

from __future__ import annotations

import sys

import pytest

from tests.tidy.source import Module, module, modules

MAY_IMPORT: dict[str, set[str]] = {
    "atomic_create": {"core", "errors"},
    "background_writer": set(),
    "secrets_to_mask": {"regular_file"},
    "daemon_threads": set(),
    "errors": set(),
    "process_signals": set(),
    "regular_file": set(),
    "schema_files": set(),
    "secret": set(),
    "core": {"errors"},
    "observer_port": {"core", "ports"},
    "ports": {"core", "errors"},
    "clock": {"ports"},
    "config": {"core", "errors", "regular_file", "schema_files", "secret"},
    "okx": {"core", "errors", "ports", "regular_file", "secret"},
    "store": {"core", "errors", "ports"},
    "factories": {"clock", "core", "errors", "logs", "okx", "ports", "store"},
    "watch": {"config", "secrets_to_mask", "core", "daemon_threads", "errors", "okx", "ports", "secret"},
    "documents": {"atomic_create", "core", "errors", "regular_file", "schema_files", "secret"},
    "render": {"core", "documents", "errors"},
    "event_log_lines": {"core", "render"},
    "logs": {"background_writer", "core", "event_log_lines", "render"},
    "simulator": {"okx"},
    "web": {"core", "daemon_threads", "documents", "errors", "logs", "observer_port", "ports", "render"},
    "notify": {"core", "daemon_threads", "documents", "logs", "observer_port", "ports", "secret"},
    "controller": {
        "atomic_create",
        "clock",
        "config",
        "core",
        "daemon_threads",
        "errors",
        "factories",
        "logs",
        "okx",
        "observer_port",
        "ports",
        "process_signals",
        "render",
        "store",
        "watch",
    },
    "__main__": {"cli", "process_signals"},
    "__init__": set(),
}
"""By place; ``cli`` alone may import everything, because wiring happens there and nowhere else."""

VALUE_MODULES = {
    "__future__",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "hashlib",
    "json",
    "re",
    "typing",
    "unicodedata",
}
"""All that the core may import from the standard library: modules of values."""

HOMES = {
    "asyncinotify": ("watch/inotify.py",),
    "aiohttp": ("notify/webhook_sender.py", "okx/transport.py", "simulator/", "web/"),
    "yarl": ("okx/transport.py", "notify/webhook_sender.py"),
    "click": ("cli/",),
    "jinja2": ("web/",),
    "jsonschema": ("config/", "documents/"),
    "prometheus_client": ("web/",),
    "psycopg": ("store/",),
    "rich": ("cli/progress.py",),
    "structlog": ("logs.py",),
    "yaml": ("config/yaml_nodes.py",),
    # Of the standard library: what tempts, and belongs to one place.
    "sqlite3": ("store/",),
    "logging": ("logs.py",),
    "ssl": ("okx/transport.py",),
    "subprocess": ("cli/", "config/git.py"),
    "random": ("simulator/",),
}


def forbidden_layers(one: Module) -> list[str]:
    """Return what ``one`` imports of the package beyond what its place allows."""
    if one.layer == "cli":
        return []
    assert one.layer in MAY_IMPORT, f"{one.place}: a new place, which the table has to say something about"
    allowed = MAY_IMPORT[one.layer] | {one.layer, "__version__"}
    inside = [name.split(".")[1] for name in one.imports() if name.split(".")[0] == "reconciler"]
    return sorted(set(inside) - allowed)


def decides_by_monitoring(one: Module) -> list[str]:
    """Return what a module that decides about writing imports of what is only shown and alerted."""
    if one.layer != "core" or one.place.startswith("core/monitoring/"):
        return []
    return sorted(name for name in one.imports() if name.startswith("reconciler.core.monitoring"))


def homeless_libraries(one: Module) -> list[str]:
    """Return the libraries ``one`` imports although they live elsewhere, or nowhere."""
    found = {name.split(".")[0] for name in one.imports()} - {"reconciler"}
    return sorted(
        name
        for name in found
        if not one.place.startswith(HOMES.get(name, () if name not in sys.stdlib_module_names else ("",)))
    )


def beyond_values(one: Module) -> list[str]:
    """Return what a module of the core imports that is no module of values."""
    return sorted({name.split(".")[0] for name in one.imports()} - VALUE_MODULES - {"reconciler"})


@pytest.mark.parametrize("one", modules(), ids=lambda one: one.place)
def test_a_module_imports_only_what_its_place_allows(one: Module) -> None:
    assert forbidden_layers(one) == []
    assert homeless_libraries(one) == []
    assert one.layer != "core" or beyond_values(one) == []
    assert decides_by_monitoring(one) == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("from reconciler.store import sqlite", "core/plan.py"),
        ("import reconciler.okx.client", "core/pass_step.py"),
        ("def late():\n    from reconciler.cli import main", "render/plan_text.py"),
        ("from reconciler.okx.client import Client", "store/sqlite/state.py"),
    ],
)
def test_an_import_across_layers_is_caught(source: str, place: str) -> None:
    assert forbidden_layers(module(source, place))


@pytest.mark.parametrize(
    "source",
    [
        "from reconciler.core.monitoring.status import Status",
        "import reconciler.core.monitoring.account_runtime",
    ],
)
def test_monitoring_does_not_decide_about_writing(source: str) -> None:
    assert decides_by_monitoring(module(source, "core/planning.py"))
    assert decides_by_monitoring(module(source, "core/monitoring/alerts.py")) == []


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("import aiohttp", "okx/client.py"),
        ("from aiohttp import web", "cli/run.py"),
        ("def late():\n    import sqlite3", "cli/status.py"),
        ("import requests", "okx/transport.py"),
        ("from rich.text import Text", "render/plan_text.py"),
    ],
)
def test_a_library_away_from_home_is_caught(source: str, place: str) -> None:
    assert homeless_libraries(module(source, place))


@pytest.mark.parametrize(
    "source", ["import time", "import asyncio", "from os import environ", "import random"]
)
def test_anything_but_values_in_the_core_is_caught(source: str) -> None:
    assert beyond_values(module(source))
