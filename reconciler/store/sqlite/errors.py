"""The errors of SQLite and of the system, translated into errors of mmp, which say what to do.

SQLite's own errors never leave this package. A temporary error is StateUnavailable, an error that a person
must fix is StateAccessDenied, and damage is StateUnusable.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.rows import RowDamaged
from reconciler.store.sqlite import file

BUSY_WAIT_S = 5.0
"""How long a transaction waits for those of other processes, which take milliseconds."""

BUSY = "state-busy"
"""The code of a state that another process keeps busy."""

BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_NOT_OPENED = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""SQLite's message also if it cannot create a file beside the state, for lack of space or descriptors."""

NOT_TEXT = "a text in it is not UTF-8"


def newer(path: str) -> StateAccessDenied:
    """Return the error for a state that a newer version of mmp upgraded."""
    message = f"the state {path} is used by a newer mmp"
    return StateAccessDenied("state-newer", message, "use that newer version")


def not_intact(path: str, verdict: str) -> MmpError:
    """Return the error for a failed integrity check; a page that could not be read is no damage."""
    unread = re.search(r"unable to get the page\. error code=(\d+)", verdict)
    if unread is not None and int(unread[1]) & 0xFF != sqlite3.SQLITE_CORRUPT:
        return file.disk_failed(path, verdict)
    return file.broken(path, verdict)


@contextmanager
def translated_errors(path: str) -> Iterator[None]:
    """Translate an error of SQLite, a row's check or the system inside into an error of mmp."""
    try:
        yield
    except (sqlite3.DatabaseError, RowDamaged, UnicodeDecodeError, OSError) as error:
        raise state_error(path, error) or error from None


def state_error(path: str, error: BaseException) -> MmpError | None:
    """Return an error of SQLite, a row's check or the system as an error of mmp; None for any other."""
    match error:
        case RowDamaged():
            return file.damaged(path, str(error))
        case UnicodeDecodeError():
            # SQLite's message quotes what it found in the file.
            return file.damaged(path, NOT_TEXT)
        case sqlite3.DatabaseError():
            return sqlite_error(path, error)
        case OSError():
            return file.unreadable(path, error)
        case _:
            return None


def primary_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary code, as in sqlite3.SQLITE_FULL; 0 where it is the module's own error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_ONLY_BY_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_INTERNAL,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_FORMAT,
    }
)
"""SQLite's codes for a correct statement on correct tables, if something in the file is damaged. (A damaged
length requests more memory than there is.)"""


def sqlite_error(path: str, error: sqlite3.DatabaseError) -> MmpError:
    """Return ``error`` as an error of mmp: a temporary one, or one that a person must fix."""
    code = primary_code(error)
    if code in BUSY_CODES:
        message = f"another process has used the state {path} for {BUSY_WAIT_S:g} s"
        return StateUnavailable(
            BUSY, message, "find out which process has it open (fuser, lsof), and try again"
        )
    if code in _NOT_OPENED and (failing := file.failure_beside(path)) is not None:
        return failing
    match code:
        case sqlite3.SQLITE_FULL:
            return file.disk_full(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return file.broken(path, str(error))
        case code if code in _ONLY_BY_DAMAGE:
            return file.damaged(path, str(error))
        case 0 if isinstance(error, sqlite3.OperationalError):
            # The module has one error of its own: for text that it cannot decode.
            return file.damaged(path, NOT_TEXT)
        case sqlite3.SQLITE_IOERR:
            return file.disk_failed(path, str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            message = f"cannot write the state {path}: {error}"
            return StateAccessDenied("state-unwritable", message, file.WRITE_THERE)
        case _:
            hint = "check the disk; nothing that failed was recorded"
            return StateUnusable("state-failed", f"the state {path} cannot be used: {error}", hint)
