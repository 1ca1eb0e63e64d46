"""An ``mmp`` command as a process of its own, forked from one that has imported everything already.

All else is the command's own: its working directory, environment, streams, signals and exit status. The
installed command is started where importing, streams or signals are what is tested.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.__main__ import main
from tests.support.forkserver import context

STDIN, STDOUT, STDERR = 0, 1, 2


def run_forked(
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    within_s: float,
) -> int | None:
    """Run ``mmp`` with ``arguments`` in ``folder``, its output in two files; returns its exit status.

    The status is negative if a signal killed it, as for :class:`subprocess.Popen`. None: it was still
    running after ``within_s`` seconds, and was killed.
    """
    message = (list(arguments), str(folder), dict(environment), str(stdout), str(stderr))
    process = context().Process(target=_run, args=message)
    process.start()
    try:
        process.join(within_s)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
        return status
    finally:
        process.close()


def _run(arguments: list[str], folder: str, environment: dict[str, str], stdout: str, stderr: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path, how in (
        (STDIN, os.devnull, os.O_RDONLY),
        (STDOUT, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (STDERR, stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, how, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(STDIN, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(STDOUT, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stderr = os.fdopen(
        STDERR, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    sys.argv = ["mmp", *arguments]
    main()
