"""The state as a file: how it comes into being, and every reason not to believe or use one.

A state file comes into being whole: written aside, synced, then linked to its name, so that a kill at
any moment leaves none or a good one. An existing file that is empty, cut off, foreign, open to others
or in a place that cannot hold it is refused with what to do. It is never recreated, repaired or
tightened silently: whatever happened to it, its owner has to know.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from reconciler.errors import StateUnusable
from reconciler.store.schema import APPLICATION_ID

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

NETWORK_FILE_SYSTEMS = frozenset(
    {
        # Kernel clients of servers: locks and shared memory do not hold across their hosts.
        "9p", "afs", "ceph", "cifs", "coda", "davfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
        # Cluster file systems: WAL's shared memory is of one host only.
        "beegfs", "gfs2", "glusterfs", "gpfs", "lustre", "ocfs2", "orangefs", "panfs", "pvfs2",
        # The same by way of FUSE, and object stores dressed as files.
        "fuse.blobfuse", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs",
        "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs",
        "fuse.s3ql", "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs",
    }
)  # fmt: skip
"""File systems on which SQLite's locking and shared memory cannot be relied upon
(https://www.sqlite.org/wal.html: all processes must be on the same host)."""

MOUNTINFO = "/proc/self/mountinfo"

START_ANEW = (
    "keep the file aside (mv), look into what happened, and let a new one be made: that waits out one"
    " window of unknown history and adopts what live already shows; give the last request a minute first"
)

_MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES = 100


def create_whole(path: str, image: bytes) -> None:
    """Bring the file ``path`` into being with ``image`` in it, durably, unless it already exists.

    The directory is made with mode 0700 if need be. Losing a race to another process is no error.
    Raises OSError.
    """
    directory = os.path.dirname(path)
    _make_directory(directory)
    aside = os.path.join(directory, f".{os.path.basename(path)}.{secrets.token_hex(8)}.new")
    try:
        _write_synced(aside, image)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    _sync_directory(directory)


def inspect(path: str) -> None:
    """Raise StateUnusable unless ``path`` looks like a whole state of this program, closed to others.

    Reads the header only and changes nothing, not even of a foreign database.
    """
    header, size, mode = _look(path)
    if not stat.S_ISREG(mode):
        raise StateUnusable("state-not-a-file", f"{path} is not a file", "name a file with --state")
    if size == 0:
        raise StateUnusable("state-empty", f"the state {path} is empty (0 bytes)", START_ANEW)
    if not header.startswith(_MAGIC[: len(header)]):
        hint = "name another file with --state: this one is left as it is"
        raise StateUnusable("state-not-sqlite", f"{path} is not an SQLite database", hint)
    if len(header) < _HEADER_BYTES:
        raise truncated(path, size)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        hint = "name another file with --state: this one is left as it is"
        raise StateUnusable("state-foreign-file", f"{path} is the database of another program", hint)
    if mode & 0o077:
        hint = f"chmod 600 {path}, once it is clear that nobody else changed it"
        raise StateUnusable("state-exposed", f"the state {path} is open to other users", hint)


def watch(path: str) -> Callable[[], None]:
    """Return a check that raises StateUnusable once ``path`` is not the file it is now.

    A process that went on with a removed or replaced file would pace by a ledger of its own.
    """
    opened = _same_file(path)

    def still_there() -> None:
        if _same_file(path) != opened:
            hint = "start again: the file that is there now, or a new one, is used from then on"
            raise StateUnusable("state-replaced", f"the state {path} was removed or replaced", hint)

    return still_there


def damaged(path: str, what: str) -> StateUnusable:
    """Return the error for a state that cannot be believed; ``what`` says where it is broken."""
    return StateUnusable("state-damaged", f"the state {path} is damaged: {what}", START_ANEW)


def truncated(path: str, size: int) -> StateUnusable:
    """Return the error for a state file of ``size`` bytes that was cut off."""
    return StateUnusable("state-truncated", f"the state {path} is cut off at {size} bytes", START_ANEW)


def broken(path: str, what: str) -> StateUnusable:
    """Return the error for a file SQLite calls malformed: cut off, if its header says so."""
    header, size, _ = _look(path)
    page_size = int.from_bytes(header[16:18], "big") or 1
    page_bytes = 65536 if page_size == 1 else page_size
    if size < page_bytes * int.from_bytes(header[28:32], "big"):
        return truncated(path, size)
    return damaged(path, what)


def missing(path: str) -> StateUnusable:
    """Return the error for a command that only reads a state that is not there."""
    hint = "mmp apply and mmp run make it; or name another with --state"
    return StateUnusable("state-missing", f"there is no state {path}", hint)


def unwritable(path: str, error: OSError) -> StateUnusable:
    """Return the error for a place that cannot be written to."""
    hint = "give this user the right to write there, or name another file with --state"
    return StateUnusable("state-unwritable", f"cannot write the state {path}: {error.strerror}", hint)


def refuse_network(path: str, mountinfo: str) -> None:
    """Raise StateUnusable if ``path`` (absolute, links resolved) is on a network file system."""
    found = file_system_of(path, mountinfo)
    if found in NETWORK_FILE_SYSTEMS:
        hint = "keep the state on a local disk (--state)"
        message = f"the state {path} is on a network file system ({found}), where locks do not hold"
        raise StateUnusable("state-network-fs", message, hint)


def file_system_of(path: str, mountinfo: str) -> str | None:
    """Return the type of the file system ``path`` is on; None if no mount point covers it.

    ``mountinfo`` is the text of /proc/self/mountinfo (proc(5)): the fifth field is the mount point,
    the first after a lone hyphen the type. The longest mount point wins, then the later line.
    """
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point, kind = _unescaped(fields.split(" ")[4]), rest.split(" ")[0]
        if _covers(point, path) and (best is None or len(point) >= best[0]):
            best = (len(point), kind)
    return None if best is None else best[1]


def read_mountinfo() -> str:
    """Return the mounts of this process; empty where the system does not tell (not Linux)."""
    try:
        return Path(MOUNTINFO).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _make_directory(directory: str) -> None:
    if os.path.isdir(directory):
        return
    os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
    _sync_directory(os.path.dirname(directory))


def _write_synced(path: str, image: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
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


def _look(path: str) -> tuple[bytes, int, int]:
    """Return the first 100 bytes (fewer if there are fewer), the size and the mode of a file."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            return b"", info.st_size, info.st_mode
        with open(path, "rb") as file:
            return file.read(_HEADER_BYTES), info.st_size, info.st_mode
    except OSError as error:
        hint = "give this user the right to read it, or name another file with --state"
        message = f"cannot read the state {path}: {error.strerror}"
        raise StateUnusable("state-unreadable", message, hint) from None


def _same_file(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _covers(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _unescaped(field: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field
