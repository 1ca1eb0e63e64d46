"""The state file: how it is created, and every check that a file must pass before it is used.

A state file is created atomically: written under a temporary name, synced, then linked to its name. So a
kill at any moment leaves no file or a complete one. An existing file that is empty, truncated, foreign,
open to others or has a second name is refused, with a hint what to do. It is never recreated or repaired,
and its permissions are never changed, without a message: its owner must know what happened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator

from reconciler.errors import StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.sqlite import file_access
from reconciler.store.sqlite.schema import APPLICATION_ID

START_ANEW = (
    "run mmp state check to see what is still readable: pauses are lost with the file. Then move the file"
    " away (mv) and find out what happened. Let mmp create a new one, a minute after the last request: it"
    " waits 10 s and adopts what is live. Pause again the families that must stay paused before you apply"
)

WRITE_THERE = (
    "run mmp as the user who owns the state, or give this user the right to write the file and its folder"
)

NEEDED_BYTES = 64 * 1024
"""At least as many bytes as SQLite writes first: 32 KiB of shared memory, and the first pages of a log."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.ESTALE})
"""Errors of a temporary lack of descriptors, memory or a mount."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def create_state(path: str, image: bytes) -> None:
    """Create the state ``path`` with the content ``image``, unless it already exists.

    The directory is created with mode 0700 if necessary. Raises OSError, StateUnusable.
    """
    directory = os.path.dirname(path)
    _make_directory(directory, path)
    file_access.refuse_volume_root(directory, path)
    create_atomically(path, image, file_access.owner_in(directory), state=path)


def create_beside(state: str, path: str) -> None:
    """Create the empty file ``path`` of ``state``, unless it already exists.

    It belongs to the state's owner, or is not created. Raises OSError, StateUnusable.
    """
    create_atomically(path, b"", file_access.file_owner(state), state=state)


def create_atomically(path: str, image: bytes, owner: file_access.FileOwner, *, state: str) -> None:
    """Create the file ``path`` of ``owner`` durably and atomically, unless it already exists.

    It is no error if another process creates it first. Raises OSError, StateUnusable.
    """
    aside = _aside(path)
    try:
        _write_synced(aside, image, owner, state)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    _sync_directory(os.path.dirname(path))


def refuse_foreign_file(path: str) -> None:
    """Raise StateUnusable unless the owner of the state could use files that are created beside it."""
    try:
        file_access.refuse_foreign(path, _aside(path))
    except OSError as error:
        raise unwritable(path, error) from None


def remove_leftovers(path: str) -> None:
    """Remove what a kill during the creation of ``path`` left: a second name of the same file, beside it.

    Raises OSError.
    """
    for leftover in _leftovers(path):
        with contextlib.suppress(FileNotFoundError):  # its creator has removed it
            os.unlink(leftover)


def inspect(path: str) -> None:
    """Raise StateUnusable unless ``path`` looks like a complete state of this program, closed to others.

    Raises StateAccessDenied if it has another name, or cannot be read. Reads the header only and changes
    nothing, not even of a foreign database.
    """
    header, info = _look(path)
    if not stat.S_ISREG(info.st_mode):
        raise StateUnusable(
            "state-not-a-file",
            f"{path} is not a file",
            "correct --state: it names the state file itself, such as .mmp/state.db",
        )
    _refuse_links(path)
    if info.st_size == 0:
        raise StateUnusable("state-empty", f"the state {path} is empty (0 bytes)", START_ANEW)
    if not header.startswith(_MAGIC[: len(header)]):
        hint = "correct --state: it names the state of mmp; this file is left as it is"
        raise StateUnusable("state-not-sqlite", f"{path} is not an SQLite database", hint)
    if len(header) < _HEADER_BYTES:
        raise truncated_error(path, info.st_size)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        hint = "correct --state: it names the state of mmp; this file is left as it is"
        raise StateUnusable("state-foreign-file", f"{path} is the database of another program", hint)
    try:
        file_access.refuse_exposed(path, path, info)
        for companion, beside in _companions(path):
            file_access.refuse_exposed(path, companion, beside)
    except OSError as error:
        raise unreadable(path, error) from None


def refuse_unfit_lock(state: str, path: str, descriptor: int) -> None:
    """Raise StateUnusable, or StateAccessDenied, unless the open file ``path`` can be a lock of ``state``.

    The holder is written into it, so it must not be another file that would be overwritten. Raises
    OSError.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StateUnusable(
            "state-not-a-file", f"the lock {path} is not a file", "look at it, and move it away"
        )
    if os.fstat(descriptor).st_nlink > 1:
        remove_leftovers(path)
    info = os.fstat(descriptor)
    if info.st_nlink > 1:
        raise linked(state, path)
    file_access.refuse_exposed(state, path, info)


def watch(path: str) -> Callable[[], None]:
    """Return a check that raises StateUnusable once ``path`` is another file.

    A process that continued with a removed or replaced file would have a separate rate ledger. Temporary
    conditions raise StateUnavailable: the file has a second name, as backups by hard links create, or its
    folder is missing too, for example unmounted.
    """
    folder = os.path.dirname(path)
    opened, opened_folder = _identity(_stat(path)), _identity(_stat(folder))

    def still_there() -> None:
        info = _found(path, path)
        if info is None and _identity(_found(folder, path)) != opened_folder:
            hint = "mount it again, or start again: mmp then uses the file that is there"
            raise StateUnavailable("state-unreadable", f"the folder of the state {path} is gone", hint)
        if _identity(info) != opened:
            hint = "start again: the file that is there now, or a new one, is used from then on"
            raise StateUnusable("state-replaced", f"the state {path} was removed or replaced", hint)
        if info is not None and info.st_nlink > 1:
            raise linked(path, path)

    return still_there


def linked(state: str, file: str) -> StateAccessDenied:
    """Return the error for a ``file`` of ``state`` that has another name too."""
    return StateAccessDenied(
        "state-linked",
        f"{file} is a link, or has another hard link: under its other name the state {state} has another"
        " log and other locks, so there would be two records of requests",
        f"remove the other link (find / -xdev -samefile {file} shows it) once no process uses the state by"
        " that name; to use the state in another place, mount or link its folder, not the file",
    )


def damaged(path: str, what: str) -> StateUnusable:
    """Return the error for a damaged state; ``what`` says where it is damaged."""
    return StateUnusable("state-damaged", f"the state {path} is damaged: {what}", START_ANEW)


def truncated_error(path: str, size: int) -> StateUnusable:
    """Return the error for a truncated state file of ``size`` bytes."""
    return StateUnusable("state-truncated", f"the state {path} is truncated at {size} bytes", START_ANEW)


def broken(path: str, what: str) -> StateUnusable:
    """Return the error for a file that SQLite calls malformed: truncated, if its header says so."""
    header, info = _look(path)
    page_size = int.from_bytes(header[16:18], "big") or 1
    page_bytes = 65536 if page_size == 1 else page_size
    if info.st_size < page_bytes * int.from_bytes(header[28:32], "big"):
        return truncated_error(path, info.st_size)
    return damaged(path, what)


def missing(path: str) -> StateUnusable:
    """Return the error for a command that only reads, where there is no state."""
    hint = "mmp apply and mmp run create it; if one should exist, correct --state"
    return StateUnusable("state-missing", f"there is no state {path}", hint)


def unwritable(path: str, error: OSError) -> StateUnavailable | StateAccessDenied:
    """Return the error for a path that cannot be written: no space, a failing disk, or no permission."""
    message = f"cannot write the state {path}: {error.strerror}"
    return _passing(path, error) or StateAccessDenied("state-unwritable", message, WRITE_THERE)


def unreadable(path: str, error: OSError) -> StateUnavailable | StateAccessDenied:
    """Return the error for a path that cannot be read: a failing disk, or no permission."""
    hint = "run mmp as the user who owns the state, or give this user the right to read it"
    denied = StateAccessDenied("state-unreadable", f"cannot read the state {path}: {error.strerror}", hint)
    return _passing(path, error) or denied


def disk_full(path: str) -> StateUnavailable:
    """Return the error for a file system without space, or without inodes, for the state."""
    hint = "free some space; what was recorded before is safe"
    return StateUnavailable("state-disk-full", f"no space left for the state {path}", hint)


def disk_failed(path: str, detail: str) -> StateUnavailable:
    """Return the error for a disk that fails to read or write; ``detail`` is the message of the system."""
    hint = "check the disk; what was recorded before is safe"
    return StateUnavailable("state-io-error", f"the disk of the state {path} failed: {detail}", hint)


def failure_beside(path: str) -> StateUnavailable | None:
    """Return why no file can be created beside a state now; None where one can, or rights are missing.

    SQLite reports that a file cannot be opened, and not why. So this tries it with a temporary file: no
    other check covers a quota, space reserved for root, inodes and open files.
    """
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=os.path.dirname(path), buffering=0) as file:
            written = file.write(bytes(NEEDED_BYTES))
    except OSError as error:
        return _passing(path, error)
    return disk_full(path) if written < NEEDED_BYTES else None


def _make_directory(directory: str, path: str, mode: int = file_access.DIRECTORY_MODE) -> None:
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    _make_directory(parent, path, 0o777)  # less the umask: only the innermost has secrets
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        return
    file_access.give_folder(directory, path)
    _sync_directory(parent)


def _write_synced(path: str, image: bytes, owner: file_access.FileOwner, state: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_access.FILE_MODE)
    try:
        file_access.give(descriptor, owner, state)
        written = 0
        while written < len(image):
            written += os.write(descriptor, image[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _look(path: str) -> tuple[bytes, os.stat_result]:
    """Return the first 100 bytes of ``path`` (none if it is not a file), and its stat result."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            return b"", info
        with open(path, "rb") as file:
            return file.read(_HEADER_BYTES), info
    except OSError as error:
        raise unreadable(path, error) from None


def _refuse_links(path: str) -> None:
    """Raise StateAccessDenied if the state or its write-ahead log has another name.

    A leftover of the state's creation does not count. The caller has resolved symbolic links to the state;
    the write-ahead log is never behind one.
    """
    names = 1 + len(_leftovers(path))  # counted first: its creator may remove a leftover meanwhile
    info = _stat(path)
    if info is not None and info.st_nlink > names:
        raise linked(path, path)
    for companion, beside in _companions(path):
        if stat.S_ISLNK(beside.st_mode) or beside.st_nlink > 1:
            raise linked(path, companion)


def _companions(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the existing ones of the two files that SQLite creates beside a state."""
    for companion in (f"{path}-wal", f"{path}-shm"):
        info = _stat(companion)
        if info is not None:
            yield companion, info


def _passing(path: str, error: OSError) -> StateUnavailable | None:
    """Return the error for a temporary condition; None for one that a person must fix."""
    detail = error.strerror or str(error)
    if error.errno in _FULL:
        return disk_full(path)
    if error.errno == errno.EIO:
        return disk_failed(path, detail)
    if error.errno in _LACKING:
        hint = "check ulimit -n, free memory and mounts, and try again"
        return StateUnavailable("state-unavailable", f"the state {path} cannot be used now: {detail}", hint)
    return None


def _found(place: str, path: str) -> os.stat_result | None:
    """Return the stat result of ``place``, None where nothing is there.

    Raises StateUnavailable, about the state ``path``, where stat fails for a while.
    """
    try:
        return os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from None


def _stat(path: str) -> os.stat_result | None:
    """Return the stat result of ``path`` without following a symbolic link; None if stat fails."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _identity(info: os.stat_result | None) -> tuple[int, int] | None:
    return None if info is None else (info.st_dev, info.st_ino)


def _aside(path: str) -> str:
    """Return a new temporary name beside ``path`` for its creation."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.new")


def _leftovers(path: str) -> list[str]:
    """Return the temporary names of the file ``path`` that a kill during its creation left beside it."""
    info = _stat(path)
    if info is None or info.st_nlink == 1:
        return []
    folder, name = os.path.split(path)
    aside = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.new")
    try:
        beside = [os.path.join(folder, each) for each in os.listdir(folder) if aside.fullmatch(each)]
    except OSError:
        return []
    return [each for each in beside if _identity(_stat(each)) == _identity(info)]
