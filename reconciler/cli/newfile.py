"""Files that come into being whole and replace nothing."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress

from reconciler.core.problems import printable
from reconciler.errors import InvalidInput, MmpError

STDOUT = "-"
"""The path that means: to stdout instead."""


def refuse_existing(path: str) -> None:
    """Raise InvalidInput if there is something at ``path`` already."""
    if path != STDOUT and os.path.lexists(path):
        raise _exists(path)


def write_new(path: str, text: str) -> None:
    """Write ``text`` to a new file: written aside, synced, then linked to its name.

    Raises InvalidInput if there is something already, MmpError where it cannot be written.
    """
    aside = f"{path}.{secrets.token_hex(8)}.new"
    try:
        with open(aside, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        message = f"{printable(path)} cannot be written: {error.strerror}"
        raise MmpError(
            "file-unwritable", message, "check the folder, and that you may write to it", path=path
        ) from None
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(aside)


def _exists(path: str) -> InvalidInput:
    return InvalidInput(
        "file-exists",
        f"{printable(path)} is there already, and is never overwritten",
        "name another file, or move that one away",
        path=path,
    )
