"""Opens files whose path the user gives: settings, policies, documents and secrets.

Opening a named pipe waits until another process writes to it, and a device may never end. So a file is
opened without waiting, and only a regular file is accepted. Symbolic links are followed. Files of the
kernel's own file systems are not read: some show a process's environment, others never end.

A command that runs once also takes ``-`` (standard input) and pipes, which are read once, to their end,
within a deadline. ``run`` does not: it reads its files again and again.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

STANDARD_INPUT = "-"
"""The path that means standard input."""

PIPE_DEADLINE_S = 30.0
"""How long a pipe may take to its end; its writer may have to ask another machine first."""

REGULAR_FILE_HINT = "name a regular file; to use what another program writes, save it to a file first"
"""What to do about NotRegularFile."""


_OF_THE_KERNEL = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x62656570,  # configfs
        0xCAFE4A11,  # bpf
    }
)
"""Types of file systems, as in statfs(2), whose files the kernel generates while they are read."""

_CHUNK_BYTES = 64 * 1024

_STATFS_BYTES = 256
"""Larger than the structure that fstatfs fills on any machine; its first word is the type."""


class NotRegularFile(OSError):
    """The path is not a regular file on a disk: a named pipe, a socket, a device or the like."""

    def __init__(self, path: str, why: str = "it is not a regular file") -> None:
        super().__init__(errno.EINVAL, why, path)


@dataclass(slots=True)
class Pipes:
    """The content of standard input and pipes, by path: it can be read only once."""

    accepted: bool = False
    contents: dict[str, bytes] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        """Tell whether ``path`` is standard input or a pipe, and these are accepted."""
        if not self.accepted:
            return False
        with suppress(OSError, ValueError):
            return path == STANDARD_INPUT or stat.S_ISFIFO(os.stat(path).st_mode)
        return False

    def read(self, path: str, limit: int) -> bytes:
        """Return at most ``limit`` bytes. Raises OSError, also after PIPE_DEADLINE_S."""
        if path not in self.contents:
            if path == STANDARD_INPUT:
                self.contents[path] = _read_to_the_end(0, limit)
            else:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    self.contents[path] = _read_to_the_end(descriptor, limit)
                finally:
                    os.close(descriptor)
        return self.contents[path]


PIPES = Pipes()
"""The pipes of this process."""


def accept_pipes(accepted: bool) -> None:
    """Accept standard input and pipes from now on, or do not; earlier content is forgotten."""
    PIPES.accepted = accepted
    PIPES.contents.clear()


def read_regular(path: str, limit: int) -> bytes:
    """Return at most ``limit`` bytes of the file, without waiting, except for an accepted pipe.

    Raises NotRegularFile, another OSError if the file cannot be read, ValueError if it is not a path.
    """
    return PIPES.read(path, limit) if PIPES.has(path) else read_with_status(path, limit)[1]


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
        if _is_of_the_kernel(descriptor):
            raise NotRegularFile(path, "it is a file of the kernel's own, as in /proc and /sys")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return status, file.read(limit)
    finally:
        os.close(descriptor)


def _is_of_the_kernel(descriptor: int) -> bool:
    """Tell whether an open file is on one of the kernel's own file systems."""
    if sys.platform != "linux":
        return False
    import ctypes  # late: needed only when a file is read

    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if ctypes.CDLL(None).fstatfs(descriptor, found) != 0:
        return False
    return ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF in _OF_THE_KERNEL


def _read_to_the_end(descriptor: int, limit: int) -> bytes:
    give_up_at = time.monotonic() + PIPE_DEADLINE_S
    content = bytearray()
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    while len(content) < limit:
        left_s = give_up_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, f"it did not end within {PIPE_DEADLINE_S:g} s")
        if readable.poll(left_s * 1000):
            chunk = os.read(descriptor, min(_CHUNK_BYTES, limit - len(content)))
            if not chunk:
                break
            content += chunk
    return bytes(content)
