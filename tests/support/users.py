"""Work done as another user of the machine, for tests that are run by root."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def as_user(uid: int, work: Callable[[], object], *, gid: int, groups: Sequence[int] = ()) -> None:
    """Do ``work`` in a child process that stays this user; it has to end without an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a worker's other thread only waits
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0, f"what user {uid} did failed, see stderr"


@contextmanager
def open_folder() -> Iterator[Path]:
    """Give a folder that every user can get to, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
