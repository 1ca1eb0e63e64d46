"""What tests need of a machine beyond Python, whether it is here, and what is left out without it.

``make test`` says so at its end. In a pipeline (CI=true) nothing may be left out: a missing program is
then a failure before the first test. Tests are chosen when they are collected, never skipped.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Need:
    """A program that some tests need. ``uncovered``: the code that only those tests run."""

    name: str
    present: Callable[[], bool]
    tests: str
    remedy: str
    uncovered: tuple[str, ...] = ()


def postgres_programs() -> Path | None:
    """Return the directory of PostgreSQL's programs, Debian's newest or the PATH's; None without."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def pgbouncer() -> str | None:
    """Return the path of PgBouncer; None: there is none. Debian keeps it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def chromium() -> str | None:
    """Return the path of a Chromium on this machine; None: there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


NEEDS = (
    Need(
        "PostgreSQL",
        lambda: postgres_programs() is not None,
        "everything about a state in PostgreSQL",
        "install PostgreSQL 12 or newer (Debian: apt-get install postgresql)",
        ("reconciler/store/postgres/*", "reconciler/store/copying.py"),
    ),
    Need(
        "PgBouncer",
        lambda: pgbouncer() is not None,
        "a state in PostgreSQL behind PgBouncer",
        "install PgBouncer (Debian: apt-get install pgbouncer)",
    ),
    Need(
        "Chromium",
        lambda: chromium() is not None,
        "the status page in a real browser",
        "install Chromium (Debian: apt-get install chromium)",
    ),
)


def missing() -> list[Need]:
    """Return the needs that this machine does not meet."""
    return [need for need in NEEDS if not need.present()]


def tried(name: str) -> bool:
    """Tell whether the tests of a need are to be collected: it is here, or nothing may be left out."""
    return in_pipeline() or name not in {need.name for need in missing()}


def in_pipeline() -> bool:
    """Tell whether nothing may be left out."""
    return os.environ.get("CI", "") == "true"


def main(arguments: list[str]) -> int:
    """Say what is left out; ``--required``: fail if it may not be; ``--uncovered``: its code's globs."""
    gone = missing()
    if arguments == ["--uncovered"]:
        # Coverage wants a pattern even where there is nothing to leave out.
        print(",".join(pattern for need in gone for pattern in need.uncovered) or "-")
    elif arguments == ["--required"]:
        for need in gone if in_pipeline() else ():
            print(f"missing: {need.name}; {need.remedy}", file=sys.stderr)
        return 1 if gone and in_pipeline() else 0
    else:
        for need in gone:
            print(f"Left out, because {need.name} is not here: {need.tests}; {need.remedy}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
