"""One pass at a time: the lock of an account, taken without waiting, and its holder.

The lock prevents passes from disturbing each other. The rate is safe without it, because the rows protect
it. A lock file contains its holder as JSON, so that a waiting process can name the holder. It is never
deleted, because then two processes could lock two files of one name. The kernel ends a dead process's lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict
from typing import Protocol

from reconciler.core.history_records import LockHolder
from reconciler.store.sqlite import file

LOCK_POLL_S = 0.05
"""Seconds between two checks of a taken lock: short compared with a pass, and cheap."""

MAX_HOLDER_BYTES = 4096
"""Far more than a holder needs; limits how much is read of a foreign file."""


class StoreMisuse(Exception):
    """A caller broke the rules of the store: a bug of mmp, never an error of the user."""


class Locks(Protocol):
    """The locks of one state, by name, as one process sees them."""

    poll_s: float
    """Seconds between two checks of a lock that another process has."""

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock and record its holder, or return False at once when another process has it.

        Raises StoreMisuse when this process has it already.
        """

    async def release(self, name: str) -> None:
        """Release the lock; harmless when this process does not have it."""

    async def holder(self, name: str) -> LockHolder | None:
        """Return the holder of the lock; None when it is free, or its holder is unknown."""


class ProcessLocks(Locks, Protocol):
    """Locks that end with the process at the latest, and can be released without waiting."""

    def close(self) -> None:
        """Release every lock of this process."""


class FileLocks:
    """Locks with ``flock`` on files beside the state, ``<state>.<name>.lock``, that its owner owns."""

    poll_s = LOCK_POLL_S

    def __init__(self, state: str) -> None:
        self._state = state
        self._held: dict[str, int] = {}

    async def take(self, name: str, holder: LockHolder) -> bool:
        """Take the lock if it is free. Raises StateUnusable, StateUnavailable."""
        if name in self._held:
            raise StoreMisuse(f"the lock {name} is already held by this process")
        path = self._path(name)
        try:
            descriptor = _try_lock(self._state, path)
        except OSError as error:
            raise file.unwritable(path, error) from None
        if descriptor is None:
            return False
        self._held[name] = descriptor
        _write_holder(descriptor, holder)
        return True

    async def release(self, name: str) -> None:
        """Release the lock by closing its file."""
        self._release(name)

    def _release(self, name: str) -> None:
        if name in self._held:
            descriptor = self._held.pop(name)
            _write_holder(descriptor, None)
            os.close(descriptor)

    async def holder(self, name: str) -> LockHolder | None:
        """Return the holder of the lock, as its file says; changes nothing."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | _LOCK_FLAGS)
        except OSError:
            return None
        try:
            return _read_holder(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Release every lock of this process."""
        for name in tuple(self._held):
            self._release(name)

    def _path(self, name: str) -> str:
        return f"{self._state}.{name}.lock"


_LOCK_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A lock is a file: no link is followed, and opening a named pipe in its place does not block."""


def _try_lock(state: str, path: str) -> int | None:
    """Return the descriptor of the locked file, or None if another has locked it."""
    descriptor = _open_lock(state, path)
    try:
        file.refuse_unfit_lock(state, path, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_lock(state: str, path: str) -> int:
    """Open the lock file; it is created if there is none."""
    try:
        return os.open(path, os.O_RDWR | _LOCK_FLAGS)
    except FileNotFoundError:
        file.create_beside(state, path)
        return os.open(path, os.O_RDWR | _LOCK_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise file.linked(state, path) from None
        raise


def _write_holder(descriptor: int, holder: LockHolder | None) -> None:
    """Write the holder of the lock. On a full disk the lock is valid too, but names no holder."""
    text = b"" if holder is None else holder_text(holder).encode("ascii")
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)


def _read_holder(descriptor: int) -> LockHolder | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return parse_holder(os.pread(descriptor, MAX_HOLDER_BYTES, 0))
    return None


def holder_text(holder: LockHolder) -> str:
    """Return the holder of a lock as JSON."""
    return json.dumps(asdict(holder))


def parse_holder(text: str | bytes) -> LockHolder | None:
    """Return the holder of a lock; None where the text names none."""
    try:
        return LockHolder(**json.loads(text))
    except (ValueError, TypeError):
        return None
