"""Who may use the files of a state, and who owns the files that are created beside it.

Only the owner may use the files, and a group of which this process is a member too: Kubernetes gives a
volume to the pod's ``fsGroup`` at each mount. Root need not be a member. Access of others is never
accepted, because any user may then have written there.

Files that are created beside a state belong to the state's owner, who could not use them otherwise after
root created them. Ownership is only set through the descriptor of a file that this process just created.
The owner of an existing path is never changed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass

from reconciler.errors import StateUnusable

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

ROOT = 0

_GROUP = stat.S_IRWXG
_GROUP_READS_AND_WRITES = stat.S_IRGRP | stat.S_IWGRP
_OF_VOLUME = stat.S_ISGID | stat.S_IWGRP
"""The bits that the kubelet adds to the root of a volume for a group, besides its right to read."""

_MAY_NOT_GIVE = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL})
"""Errors if the right to change ownership is missing, or the owner is no known user."""


@dataclass(frozen=True, slots=True)
class FileOwner:
    """The owner of a file: user, group, and the rights of both."""

    uid: int
    gid: int
    mode: int

    @property
    def shares(self) -> bool:
        """Whether the group may read and write the file."""
        return self.mode & _GROUP_READS_AND_WRITES == _GROUP_READS_AND_WRITES


def file_owner(state: str) -> FileOwner:
    """Return the owner for files beside ``state``: the owner of the state. Raises OSError."""
    info = os.stat(state)
    return FileOwner(info.st_uid, info.st_gid, FILE_MODE | (info.st_mode & _GROUP_READS_AND_WRITES))


def owner_in(folder: str) -> FileOwner:
    """Return the owner for a new state in ``folder``: this user, or for root the owner of the folder.

    Raises OSError.
    """
    info = os.stat(folder)
    if os.geteuid() == ROOT:
        return FileOwner(info.st_uid, info.st_gid, FILE_MODE)
    return FileOwner(os.geteuid(), os.getegid(), FILE_MODE)


def refuse_volume_root(folder: str, state: str) -> None:
    """Raise StateUnusable if a new ``state`` in ``folder`` would be refused after the next mount.

    The root of a volume that Kubernetes gave to a group has setgid and is open to others. At each mount the
    group gets the files in it. Raises OSError.
    """
    info = os.stat(folder)
    if info.st_mode & _OF_VOLUME == _OF_VOLUME and info.st_mode & stat.S_IRWXO:
        own = os.path.join(folder, "mmp", os.path.basename(state))
        raise StateUnusable(
            "state-exposed",
            f"the state {state} was not created: its folder belongs to group {info.st_gid} and is open to"
            " others, like the root of a volume in Kubernetes; the next mount would give the file to the"
            " group, and mmp would refuse it",
            f"use a separate folder, which mmp creates: --state {own}",
        )


def own_groups() -> frozenset[int]:
    """Return the groups that this process is a member of."""
    return frozenset((os.getegid(), *os.getgroups()))


def shared_with(state: os.stat_result, folder: os.stat_result, groups: Collection[int]) -> int | None:
    """Return the group that may use the files of a state besides its owner; None: no group is accepted.

    It is the group of the file and of its folder, one of ``groups``, and the folder is closed to others.
    """
    accepted = (
        state.st_gid == folder.st_gid and state.st_gid in groups and not folder.st_mode & stat.S_IRWXO
    )
    return state.st_gid if accepted else None


def is_exposed(file: os.stat_result, group: int | None, groups: Collection[int]) -> bool:
    """Tell whether others may use a file, or a group although ``group`` (``shared_with``) is None."""
    if file.st_mode & stat.S_IRWXO:
        return True
    return bool(file.st_mode & _GROUP) and (group is None or file.st_gid not in groups)


def refuse_exposed(state: str, file: str, info: os.stat_result) -> None:
    """Raise StateUnusable if ``file``, the state or one beside it, is open to others or is another user's.

    Raises OSError where the state cannot be looked at.
    """
    owned, folder, groups = os.stat(state), os.stat(os.path.dirname(state)), own_groups()
    if os.geteuid() == ROOT:
        groups |= {owned.st_gid}
    group = shared_with(owned, folder, groups)
    if is_exposed(info, group, groups):
        is_shared = group is not None and owned.st_mode & _GROUP
        hint = _hint(state, file, info, folder, group if is_shared else None)
        raise StateUnusable("state-exposed", f"{_named(state, file)} is open to other users", hint)
    if info.st_uid != owned.st_uid and not info.st_mode & _GROUP:
        raise StateUnusable(
            "state-owner",
            f"{_named(state, file)} belongs to user {info.st_uid}, and the state to user {owned.st_uid}",
            f"chown {owned.st_uid} {file}, once it is clear where it comes from",
        )


def _hint(state: str, file: str, info: os.stat_result, folder: os.stat_result, group: int | None) -> str:
    """Return what to do about an exposed ``file``, without denying access to members of ``group``."""
    if group is not None and not info.st_mode & stat.S_IRWXO:
        return (
            f"chgrp {group} {file}, as its owner; and chmod g+s {os.path.dirname(state)}, so that new files"
            " in this folder are of its group"
        )
    close = (
        f"chmod 600 {file}, once it is clear that no other user changed it; in Kubernetes"
        " move the state and the files beside it to a folder of its own, such as mmp in the volume"
    )
    if shared_with(info, folder, {info.st_gid}) is None or info.st_mode & stat.S_IRWXO:
        return close
    return f"run mmp as a member of group {info.st_gid}, if that shares the state; else {close}"


def group_of(state: str) -> int | None:
    """Return the group that may use the state besides its owner; None: only the owner, or it is missing."""
    try:
        info = os.stat(state)
    except OSError:
        return None
    return info.st_gid if info.st_mode & _GROUP else None


def give(descriptor: int, owner: FileOwner, path: str) -> None:
    """Give a file that this process just created to ``owner``; ``path`` is the state that it belongs to.

    A member of a group that shares the state still owns the files that it creates. Raises StateUnusable,
    OSError.
    """
    made = os.fstat(descriptor)
    try:
        if os.geteuid() == ROOT and made.st_uid != owner.uid:
            os.fchown(descriptor, owner.uid, owner.gid)
        elif owner.shares and made.st_gid != owner.gid:
            os.fchown(descriptor, -1, owner.gid)
        os.fchmod(descriptor, owner.mode)
    except OSError as error:
        if error.errno in _MAY_NOT_GIVE:
            raise foreign(path, owner) from None
        raise


def give_folder(folder: str, path: str) -> None:
    """Give a folder that root just created to the owner of its parent. Raises StateUnusable, OSError.

    Only an empty folder of root is given away: any other folder has replaced it.
    """
    parent = os.stat(os.path.dirname(folder))
    if os.geteuid() != ROOT or parent.st_uid == ROOT:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == ROOT and not os.listdir(descriptor):
            give(descriptor, FileOwner(parent.st_uid, parent.st_gid, DIRECTORY_MODE), path)
    finally:
        os.close(descriptor)


def refuse_foreign(state: str, scratch: str) -> None:
    """Raise StateUnusable unless the owner of ``state`` could use files that are created beside it.

    This is tested with the file ``scratch``, which is removed again: SQLite gives its files to the owner if
    root creates them, and to no other user. Raises OSError where no file can be created.
    """
    owner = file_owner(state)
    if owner.uid == os.geteuid():
        return
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        is_of_group = owner.shares and os.fstat(descriptor).st_gid == owner.gid
        if os.geteuid() != ROOT and not is_of_group:
            raise foreign(state, owner)
        give(descriptor, owner, state)
    finally:
        os.close(descriptor)
        os.unlink(scratch)


def foreign(path: str, owner: FileOwner) -> StateUnusable:
    """Return the error for a process that cannot create files for the state's owner."""
    hint = f"run mmp as user {owner.uid}; or give the state and its folder to this user (chown)"
    if owner.shares and os.geteuid() != ROOT:
        folder = os.path.dirname(path)
        share = (
            f"chgrp {owner.gid} {folder} and chmod g+s {folder}, so that members of the group can use it"
        )
        hint = f"{share}; or {hint}"
    return StateUnusable(
        "state-owner",
        f"user {os.geteuid()} cannot create files beside the state {path} that its owner, user {owner.uid},"
        " could use; nothing was created",
        hint,
    )


def _named(state: str, file: str) -> str:
    return f"the state {state}" if file == state else f"{file}, a file of the state {state},"
