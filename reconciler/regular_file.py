"""Opens files whose path the user gives: settings, policies, documents and secrets.

To open a named pipe is to wait until another process writes to it, and a device may never end. So a file is
opened without waiting, and anything but a regular file is refused. Symbolic links are followed.
"""

from __future__ import annotations

import errno
import os
import stat

HINT = "name a regular file; to use what another program writes, save it to a file first"
"""What to do about NotRegularFile."""


class NotRegularFile(OSError):
    """What is at the path is not a regular file: a named pipe, a socket or a device."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "it is not a regular file", path)


def read_regular(path: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of the file, without waiting for anybody.

    Raises NotRegularFile; another OSError where it cannot be read, ValueError where it is no path.
    """
    return read_with_status(path, limit)[1]


def read_with_status(path: str, limit: int) -> tuple[os.stat_result, bytes]:
    """Return the status of the file that was read, and its content as ``read_regular`` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket cannot be opened
            raise NotRegularFile(path) from None
        raise
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularFile(path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return status, file.read(limit)
    finally:
        os.close(descriptor)
