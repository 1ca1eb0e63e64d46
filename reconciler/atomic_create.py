"""Writes files that appear complete or not at all. ``write_new`` never replaces an existing file."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress

from reconciler.core.problems import escape_unprintable
from reconciler.errors import InvalidInput, MmpError

STDOUT = "-"
"""The path that means stdout."""

_HINTS = {
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "name a file in a folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EROFS: "name a file on a file system that can be written to",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space or raise the quota",
}


def fail_if_exists(path: str) -> None:
    """Raise InvalidInput if ``path`` exists already."""
    if path != STDOUT and os.path.lexists(path):
        raise _exists(path)


def write_new(path: str, text: str) -> None:
    """Write ``text`` to a new file: write a temporary file, sync it, then link it to ``path``.

    Raises InvalidInput if ``path`` exists already, MmpError if it cannot be written.
    """
    fail_if_exists(path)
    aside = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.new")
    try:
        write_aside(aside, text.encode())
        os.link(aside, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        message = f"{escape_unprintable(path)} cannot be written: {error.strerror}"
        raise MmpError("file-unwritable", message, write_hint(error), path=path) from None
    finally:
        with suppress(OSError):  # the file may not exist, or the folder may be read-only
            os.unlink(aside)


def write_hint(error: OSError) -> str:
    """Return what to do when a file could not be written."""
    return _HINTS.get(error.errno or 0, "check the folder and its permissions")


def write_aside(path: str, content: bytes, mode: int = 0o666) -> None:
    """Create a file with ``content`` and sync it; a process's umask may remove rights of ``mode``."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _exists(path: str) -> InvalidInput:
    return InvalidInput(
        "file-exists",
        f"{escape_unprintable(path)} already exists and is never overwritten",
        "name a file in that folder" if os.path.isdir(path) else "name another file, or move that one away",
        path=path,
    )
