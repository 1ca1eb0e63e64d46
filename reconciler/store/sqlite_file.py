"""The state as a file: how it comes into being, and every reason not to believe or use one.

A state file comes into being whole: written aside, synced, then linked to its name, so that a kill at
any moment leaves none or a good one. An existing file that is empty, cut off, foreign, open to others or
linked to another name is refused with what to do. It is never recreated, repaired or tightened
silently: whatever happened to it, its owner has to know.
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
from reconciler.store import access
from reconciler.store.sqlite_schema import APPLICATION_ID

START_ANEW = (
    "see what mmp state check still reads: pauses are lost with the file. Then keep the file aside (mv),"
    " find out what happened, and let a new one be made a minute after the last request: that waits one"
    " window and adopts what live already shows. Pause again what has to stay paused before you apply"
)

WRITE_THERE = (
    "run mmp as the user who owns the state, or give this user the right to write the file and its folder"
)

NEEDED_BYTES = 64 * 1024
"""At least as much as SQLite writes to begin: 32 KiB of shared memory, and the first pages of a log."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBUSY, errno.ESTALE})
"""What a system says that lacks something for a while: descriptors, memory, a mount."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def create_state(path: str, image: bytes) -> None:
    """Bring the state ``path`` into being with ``image`` in it, unless it already exists.

    The directory is made with mode 0700 if need be. Raises OSError, StateUnusable.
    """
    directory = os.path.dirname(path)
    _make_directory(directory, path)
    access.refuse_volume_root(directory, path)
    create_atomically(path, image, access.owner_in(directory), state=path)


def create_beside(state: str, path: str) -> None:
    """Bring the empty file ``path`` of ``state`` into being, unless it already exists.

    It is of the state's owner, or is not made. Raises OSError, StateUnusable.
    """
    create_atomically(path, b"", access.file_owner(state), state=state)


def create_atomically(path: str, image: bytes, owner: access.FileOwner, *, state: str) -> None:
    """Bring the file ``path`` into being durably, whole and of its owner, unless it already exists.

    Losing a race to another process is no error. Raises OSError, StateUnusable.
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
    """Raise StateUnusable unless the owner of the state could use what is made beside it."""
    try:
        access.refuse_foreign(path, _aside(path))
    except OSError as error:
        raise unwritable(path, error) from None


def remove_leftovers(path: str) -> None:
    """Remove what a kill while ``path`` was made left: a second name of the same file, beside it.

    Raises OSError.
    """
    for leftover in _leftovers(path):
        with contextlib.suppress(FileNotFoundError):  # the process that made it has removed it
            os.unlink(leftover)


def inspect(path: str) -> None:
    """Raise StateUnusable unless ``path`` looks like a whole state of this program, closed to others.

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
        access.refuse_exposed(path, path, info)
        for companion, beside in _companions(path):
            access.refuse_exposed(path, companion, beside)
    except OSError as error:
        raise unreadable(path, error) from None


def refuse_unfit_lock(state: str, path: str, descriptor: int) -> None:
    """Raise StateUnusable, or StateAccessDenied, unless the open file ``path`` is fit to be a lock of
    ``state``.

    Its holder is written into it, so it must not be a file that was put there to be overwritten. Raises
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
    access.refuse_exposed(state, path, info)


def watch(path: str) -> Callable[[], None]:
    """Return a check that raises StateUnusable once ``path`` is another file.

    A process that went on with a removed or replaced file would pace by a ledger of its own. What may pass
    raises StateUnavailable: the file has another name for a while, as backups by hard links give it, or it
    is missing because its folder is, which may be unmounted.
    """
    folder = os.path.dirname(path)
    opened, opened_folder = _identity(_stat(path)), _identity(_stat(folder))

    def still_there() -> None:
        info = _found(path, path)
        if info is None and _identity(_found(folder, path)) != opened_folder:
            hint = "mount it again, or start again: the file that is there then is used"
            raise StateUnavailable("state-unreadable", f"the folder of the state {path} is gone", hint)
        if _identity(info) != opened:
            hint = "start again: the file that is there now, or a new one, is used from then on"
            raise StateUnusable("state-replaced", f"the state {path} was removed or replaced", hint)
        if info is not None and info.st_nlink > 1:
            raise linked(path, path)

    return still_there


def linked(state: str, file: str) -> StateAccessDenied:
    """Return the error for a ``file`` of ``state`` that can be reached by another name as well."""
    return StateAccessDenied(
        "state-linked",
        f"{file} is a link, or has another hard link: under its other name the state {state} has another"
        " log and other locks, so there would be two ledgers",
        f"remove the other link (find / -xdev -samefile {file} shows it) once nothing uses the state by"
        " that name; to use the state from elsewhere, mount or link its folder, not the file",
    )


def damaged(path: str, what: str) -> StateUnusable:
    """Return the error for a state that cannot be believed; ``what`` says where it is broken."""
    return StateUnusable("state-damaged", f"the state {path} is damaged: {what}", START_ANEW)


def truncated_error(path: str, size: int) -> StateUnusable:
    """Return the error for a state file of ``size`` bytes that was cut off."""
    return StateUnusable("state-truncated", f"the state {path} is cut off at {size} bytes", START_ANEW)


def broken(path: str, what: str) -> StateUnusable:
    """Return the error for a file SQLite calls malformed: cut off, if its header says so."""
    header, info = _look(path)
    page_size = int.from_bytes(header[16:18], "big") or 1
    page_bytes = 65536 if page_size == 1 else page_size
    if info.st_size < page_bytes * int.from_bytes(header[28:32], "big"):
        return truncated_error(path, info.st_size)
    return damaged(path, what)


def missing(path: str) -> StateUnusable:
    """Return the error for a command that only reads a state that is not there."""
    hint = "mmp apply and mmp run make it; if there should be one already, correct --state"
    return StateUnusable("state-missing", f"there is no state {path}", hint)


def unwritable(path: str, error: OSError) -> StateUnavailable | StateAccessDenied:
    """Return the error for a place that cannot be written to: full, failing, or not ours to write."""
    message = f"cannot write the state {path}: {error.strerror}"
    return _passing(path, error) or StateAccessDenied("state-unwritable", message, WRITE_THERE)


def unreadable(path: str, error: OSError) -> StateUnavailable | StateAccessDenied:
    """Return the error for a place that cannot be read: failing, or not ours to read."""
    hint = "run mmp as the user who owns the state, or give this user the right to read it"
    denied = StateAccessDenied("state-unreadable", f"cannot read the state {path}: {error.strerror}", hint)
    return _passing(path, error) or denied


def disk_full(path: str) -> StateUnavailable:
    """Return the error for a file system without space, or without inodes, for the state."""
    hint = "free some space; what was recorded before is safe"
    return StateUnavailable("state-disk-full", f"no space left for the state {path}", hint)


def disk_failed(path: str, said: str) -> StateUnavailable:
    """Return the error for a disk that does not read or write; ``said`` is what the system says."""
    hint = "see whether the disk is in order; what was recorded before is safe"
    return StateUnavailable("state-io-error", f"the disk of the state {path} failed: {said}", hint)


def failure_beside(path: str) -> StateUnavailable | None:
    """Return why no file can be made beside a state for now; None where one can, or rights are missing.

    SQLite says that a file cannot be opened, and not why. So this is tried with a file that is gone
    afterwards: only that counts a quota, what is reserved for root, inodes and open files.
    """
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=os.path.dirname(path), buffering=0) as file:
            written = file.write(bytes(NEEDED_BYTES))
    except OSError as error:
        return _passing(path, error)
    return disk_full(path) if written < NEEDED_BYTES else None


def _make_directory(directory: str, path: str, mode: int = access.DIRECTORY_MODE) -> None:
    if os.path.isdir(directory):
        return
    parent = os.path.dirname(directory)
    _make_directory(parent, path, 0o777)  # as the umask says: what is secret is in the innermost
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        return
    access.give_folder(directory, path)
    _sync_directory(parent)


def _write_synced(path: str, image: bytes, owner: access.FileOwner, state: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, access.FILE_MODE)
    try:
        access.give(descriptor, owner, state)
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
    """Return the first 100 bytes of ``path`` (none if it is not a file), and what it is."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            return b"", info
        with open(path, "rb") as file:
            return file.read(_HEADER_BYTES), info
    except OSError as error:
        raise unreadable(path, error) from None


def _refuse_links(path: str) -> None:
    """Raise StateAccessDenied if the state or its write-ahead log can be reached by another name.

    A leftover of the state's making does not count. Symbolic links to the state were resolved by the
    caller; the write-ahead log is never behind one.
    """
    names = 1 + len(_leftovers(path))  # counted first: its maker may remove a leftover meanwhile
    info = _stat(path)
    if info is not None and info.st_nlink > names:
        raise linked(path, path)
    for companion, beside in _companions(path):
        if stat.S_ISLNK(beside.st_mode) or beside.st_nlink > 1:
            raise linked(path, companion)


def _companions(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield those files that there are of the two that SQLite makes beside a state."""
    for companion in (f"{path}-wal", f"{path}-shm"):
        info = _stat(companion)
        if info is not None:
            yield companion, info


def _passing(path: str, error: OSError) -> StateUnavailable | None:
    """Return the error for what may pass by itself; None for what a person has to change."""
    said = error.strerror or str(error)
    if error.errno in _FULL:
        return disk_full(path)
    if error.errno == errno.EIO:
        return disk_failed(path, said)
    if error.errno in _LACKING:
        hint = "see what the system lacks (ulimit -n, free memory, mounts); it is safe to try again"
        return StateUnavailable("state-unavailable", f"the state {path} cannot be used now: {said}", hint)
    return None


def _found(place: str, path: str) -> os.stat_result | None:
    """Return what is at ``place``, None where nothing is.

    Raises StateUnavailable, about the state ``path``, where that cannot be asked.
    """
    try:
        return os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from None


def _stat(path: str) -> os.stat_result | None:
    """Return what is at ``path``, not what a symbolic link there leads to; None if it cannot be seen."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def _identity(info: os.stat_result | None) -> tuple[int, int] | None:
    return None if info is None else (info.st_dev, info.st_ino)


def _aside(path: str) -> str:
    """Return a new name beside ``path`` for making it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{secrets.token_hex(8)}.new")


def _leftovers(path: str) -> list[str]:
    """Return the names beside ``path`` that its making gave to the same file, as a kill leaves them."""
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
