"""What tests need of a machine beyond Python, whether it is present, and what is left out without it.

``make test`` reports it at its end. In a pipeline (CI=true) no installable need may be left out: a missing
program is then a failure before the first test. Rights differ: a pipeline in a container may not have the
machine's rights. Tests are selected when they are collected, never skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Need:
    """What some tests need: a program, or a right (``installable`` is false).

    ``uncovered``: the code that only those tests run.
    """

    name: str
    present: Callable[[], bool]
    tests: str
    remedy: str
    uncovered: tuple[str, ...] = ()
    installable: bool = True


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


UNSHARE = ("unshare", "--mount", "--propagation", "private")
"""Runs a command where what it mounts is seen by no other process."""


def can_mount() -> bool:
    """Tell whether the kernel lets this process make a mount namespace and mount something there."""
    if shutil.which("unshare") is None:
        return False
    mounted = [*UNSHARE, "sh", "-c", "mount --bind /tmp /tmp && mount -t tmpfs none /tmp"]
    return subprocess.run(mounted, capture_output=True, timeout=10).returncode == 0


def can_change_user() -> bool:
    """Tell whether this process is root, and may do work as another user and group."""
    try:
        subprocess.run(["true"], user=10001, group=10001, extra_groups=[30003], check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return os.geteuid() == 0


NEEDS = (
    Need(
        "PostgreSQL",
        lambda: postgres_programs() is not None,
        "everything about a state in PostgreSQL",
        "install PostgreSQL 12 or newer (Debian: apt-get install postgresql)",
        ("reconciler/store/postgres/*", "reconciler/store/copy_to_postgres.py"),
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
    Need(
        "root",
        can_change_user,
        "a state whose files are of several users",
        "run the tests as root",
        installable=False,
    ),
    Need(
        "mount namespaces",
        lambda: can_change_user() and can_mount(),
        "a state file that is mounted by itself",
        "run the tests as root, in a container with CAP_SYS_ADMIN",
        installable=False,
    ),
)


def missing() -> list[Need]:
    """Return the needs that this machine does not meet."""
    return [need for need in NEEDS if not need.present()]


def tried(name: str) -> bool:
    """Tell whether the tests of a need are to be collected: it is here, or may not be left out."""
    (need,) = (need for need in NEEDS if need.name == name)
    return (in_pipeline() and need.installable) or need.present()


def in_pipeline() -> bool:
    """Tell whether nothing may be left out that can be installed."""
    return os.environ.get("CI", "") == "true"


def main(arguments: list[str]) -> int:
    """Print what is left out; ``--required``: fail if it may not be; ``--uncovered``: its code's globs."""
    gone = missing()
    if arguments == ["--uncovered"]:
        # Coverage wants a pattern even where there is nothing to leave out.
        print(",".join(pattern for need in gone for pattern in need.uncovered) or "-")
    elif arguments == ["--required"]:
        required = [need for need in gone if need.installable and in_pipeline()]
        for need in required:
            print(f"missing: {need.name}; {need.remedy}", file=sys.stderr)
        return 1 if required else 0
    else:
        for need in gone:
            print(f"Left out, because {need.name} is not here: {need.tests}; {need.remedy}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
