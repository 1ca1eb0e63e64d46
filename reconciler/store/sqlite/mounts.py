"""Reads the mount table for a state: its file system, and which of its files are mount points.

The decisions are functions of the text of /proc/self/mountinfo (proc(5)). Where the system has no such
file (it is not Linux), nothing is known and nothing is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from reconciler.errors import StateAccessDenied, StateUnusable

LOCAL_FILE_SYSTEMS = frozenset(
    {
        # On disks. A state cannot be on those without hard links or owners (vfat, exfat).
        "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2",
        "reiserfs", "ubifs",
        # In memory.
        "tmpfs", "ramfs",
        # A container's own layer above its image.
        "overlay",
    }
)  # fmt: skip
"""File systems of one host with what SQLite's WAL needs: memory that processes share through a mapped file,
and locks that all of them see. Every other type is refused unless it is allowed by name."""

SHARED_FILE_SYSTEMS = frozenset(
    {
        # Kernel clients of servers.
        "9p", "afs", "ceph", "cifs", "coda", "davfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
        # Cluster file systems.
        "beegfs", "gfs2", "glusterfs", "gpfs", "lustre", "ocfs2", "orangefs", "panfs", "pvfs2",
        # The same through FUSE, and object stores mounted as files.
        "fuse.blobfuse", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs",
        "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs",
        "fuse.s3ql", "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs",
        # Folders shared between a virtual machine and its host.
        "fakeowner", "fuse.grpcfuse", "fuse.osxfs", "fuse.vmhgfs-fuse", "prl_fs", "vboxsf",
        "virtiofs", "vmhgfs",
    }
)  # fmt: skip
"""File systems that another host can have mounted too. SQLite's WAL wants all its processes on one host
(https://www.sqlite.org/wal.html), so these cannot be allowed."""

MOUNTINFO = "/proc/self/mountinfo"


class _Mount(NamedTuple):
    """A line of the mount table: where something is mounted, and the type of its file system."""

    point: str
    kind: str


def refuse_unfit(path: str, mountinfo: str, allow_filesystems: Collection[str] = ()) -> None:
    """Raise StateUnusable if a state at ``path`` (absolute, links resolved) may not be used there.

    Raises StateAccessDenied if it is a mount point itself. ``allow_filesystems`` are types of file systems
    that are accepted besides the usual local ones."""
    refuse_mounted(path, mountinfo)
    refuse_file_system(path, file_system_of(path, mountinfo), allow_filesystems)


def refuse_mounted(path: str, mountinfo: str) -> None:
    """Raise StateAccessDenied if the state, its write-ahead log or one of its locks is itself a mount
    point.

    Such a file has another path too, with another log and other locks.
    """
    for mount in _mounts(mountinfo):
        if _belongs_to(path, mount.point):
            raise StateAccessDenied(
                "state-mounted",
                f"{mount.point} of the state {path} is mounted by itself: under its other name it has"
                " another log and other locks, so there would be two records of requests",
                "mount the folder that the state is in, not the file (in Kubernetes use no subPath that"
                " names a file); first stop every process that uses the state",
            )


def refuse_file_system(path: str, kind: str | None, allowed: Collection[str]) -> None:
    """Raise StateUnusable if a state cannot be the only ledger on a file system of type ``kind``.

    None: the type is not known, and nothing is refused.
    """
    if kind in SHARED_FILE_SYSTEMS:
        raise StateUnusable(
            "state-network-fs",
            f"the state {path} is on a file system that several hosts can use ({kind}): locks and shared"
            " memory do not work across hosts, so there would be two records of requests",
            "move the state to a local disk of this host; for several hosts use PostgreSQL",
        )
    if kind is not None and kind not in LOCAL_FILE_SYSTEMS and kind not in allowed:
        raise StateUnusable(
            "state-unknown-fs",
            f"the state {path} is on a file system of type {kind}, which mmp does not know to be local",
            "move the state to a local disk (ext4, xfs and the like); or, if only this host uses it and its"
            f" locks and shared memory work, add --allow-filesystem {kind}",
        )


def file_system_of(path: str, mountinfo: str) -> str | None:
    """Return the type of the file system ``path`` is on; None if no mount point covers it.

    The longest mount point wins, then the later line.
    """
    best: _Mount | None = None
    for mount in _mounts(mountinfo):
        if _covers(mount.point, path) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return None if best is None else best.kind


def read_mountinfo() -> str:
    """Return the mounts of this process; empty where the system has no mount table (not Linux)."""
    try:
        return Path(MOUNTINFO).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _mounts(mountinfo: str) -> Iterator[_Mount]:
    """Yield the mounts: the fifth field is the mount point, the first after a lone hyphen the type."""
    for line in filter(None, mountinfo.split("\n")):  # splitlines() also splits inside of names
        fields, _, rest = line.partition(" - ")
        yield _Mount(_unescaped(fields.split(" ")[4]), rest.split(" ")[0])


def _belongs_to(path: str, point: str) -> bool:
    companions = (path, f"{path}-wal", f"{path}-shm")
    return point in companions or (point.startswith(f"{path}.") and point.endswith(".lock"))


def _covers(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
