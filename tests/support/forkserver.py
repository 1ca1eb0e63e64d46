"""A process that has imported all of the program, from which tests fork commands.

Importing takes longer than most commands that a test runs, and far longer than a test waits for them.
"""

from __future__ import annotations

from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext

COMMANDS = ("apply", "history", "import_", "pause", "plan", "reset", "resume", "show", "status", "validate")

PRELOADED = (
    *(f"reconciler.cli.{command}" for command in COMMANDS),
    "reconciler.cli.simulator",
    "reconciler.okx.client",
    "reconciler.simulator.server",
    "reconciler.store.postgres.connections",
    "reconciler.store.sqlite.state",
    "tests.support.forked_command",
    "tests.support.forked_simulator",
)


@cache
def context() -> ForkServerContext:
    """Return what starts processes that have imported ``PRELOADED`` already."""
    found = get_context("forkserver")
    found.set_forkserver_preload(list(PRELOADED))
    return found
