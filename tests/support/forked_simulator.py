"""``mmp simulator`` as a process of its own, forked from one that has imported everything already.

Importing takes longer than most tests keep a simulator. All else is the command's own: its flags, what
it prints, that it ends by a signal; the installed command is started where that is what is tested.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from reconciler.cli.main import main
from tests.support.forkserver import context

STOP_S = 10.0


@contextmanager
def forked_simulator(flags: Sequence[str]) -> Iterator[str]:
    """Run ``mmp simulator`` with ``flags``; gives the first line it printed, and stops it afterwards."""
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=_simulate, args=(["simulator", *flags], sender), daemon=True)
    process.start()
    sender.close()
    with receiver, open(receiver.fileno(), encoding="utf-8", closefd=False) as stdout:
        try:
            yield stdout.readline()
        finally:
            process.terminate()
            process.join(STOP_S)
            process.close()


def _simulate(arguments: list[str], stdout: Connection) -> None:
    sys.stdout = os.fdopen(os.dup(stdout.fileno()), "w", encoding="utf-8")
    main(arguments)
