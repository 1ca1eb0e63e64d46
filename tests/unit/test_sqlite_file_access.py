"""Who may use the files of a state, and whose the files are that are made beside it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import StateAccessDenied, StateUnavailable, StateUnusable
from reconciler.store.sqlite import file as sqlite_file
from reconciler.store.sqlite import file_access
from reconciler.store.sqlite.file_access import FileOwner
from tests.unit.test_store_files import opened, read

OURS, THEIRS = 10001, 20002
"""A group of this process, and one that it is not in."""


def info(mode: int, *, uid: int = 1, gid: int = OURS) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "own" / "state.db"
    opened(path).close_now()
    return path


# -- the group ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "folder", "is_accepted"),
    [
        (info(0o660), info(0o2770), True),
        (info(0o660), info(0o770), True),
        (info(0o640), info(0o2750), True),
        (info(0o660), info(0o2775), False),
        (info(0o660), info(0o2771), False),
        (info(0o660), info(0o2770, gid=THEIRS), False),
        (info(0o660, gid=THEIRS), info(0o2770, gid=THEIRS), False),
        (info(0o664), info(0o2770), False),
        (info(0o661), info(0o2770), False),
        (info(0o600), info(0o777, gid=THEIRS), True),
        (info(0o600, gid=THEIRS), info(0o777), True),
        (info(0o601), info(0o700), False),
    ],
)
def test_a_group_is_accepted_if_it_is_ours_and_the_folders_and_the_folder_is_closed_to_others(
    state: os.stat_result, folder: os.stat_result, is_accepted: bool
) -> None:
    group = file_access.shared_with(state, folder, {OURS})
    assert file_access.is_exposed(state, group, {OURS}) is not is_accepted


def test_a_file_beside_the_state_may_be_of_another_group_of_ours() -> None:
    assert not file_access.is_exposed(info(0o660, gid=5), OURS, {OURS, 5})
    assert file_access.is_exposed(info(0o660, gid=5), OURS, {OURS})


def test_the_groups_of_this_process_are_its_own_and_the_supplementary_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 7)
    monkeypatch.setattr(os, "getgroups", lambda: [8, 9])
    assert file_access.own_groups() == {7, 8, 9}


def test_a_state_that_kubernetes_gave_to_the_group_of_the_volume_is_opened_again(made: Path) -> None:
    give_to_the_group(made.parent)
    for opener in (opened, read, opened):
        state = opener(made)
        assert state is not None
        state.close_now()
    assert file_access.group_of(str(made)) == made.stat().st_gid


def give_to_the_group(folder: Path) -> None:
    """Set the rights that the kubelet sets when it mounts a volume of a pod with ``fsGroup``."""
    folder.chmod(folder.stat().st_mode | 0o2770)
    for file in folder.iterdir():
        file.chmod(file.stat().st_mode | 0o660)


def test_a_state_that_is_its_owners_alone_has_no_group(made: Path) -> None:
    assert file_access.group_of(str(made)) is None
    made.unlink()
    assert file_access.group_of(str(made)) is None


# -- the owner ------------------------------------------------------------------------------------


class Given:
    """``os.fchown`` of a superuser: what was given to whom, without being one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "fchown", self)

    def __call__(self, descriptor: int, uid: int, gid: int) -> None:
        assert os.fstat(descriptor).st_size == 0
        self.calls.append((uid, gid))


@pytest.mark.parametrize(
    ("euid", "owner", "given"),
    [
        (0, FileOwner(4242, 17, 0o600), [(4242, 17)]),
        (0, FileOwner(-1, -1, 0o600), []),
        (5, FileOwner(4242, 17, 0o600), []),
        (5, FileOwner(4242, 17, 0o660), [(-1, 17)]),
        (5, FileOwner(4242, -1, 0o660), []),
    ],
)
def test_root_gives_what_it_makes_to_the_owner_and_a_member_of_the_group_to_the_group(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    euid: int,
    owner: FileOwner,
    given: list[tuple[int, int]],
) -> None:
    """-1 stands for what a new file is of anyway."""
    path = tmp_path / "new"
    path.touch()
    there = path.stat()
    owner = FileOwner(
        there.st_uid if owner.uid == -1 else owner.uid,
        there.st_gid if owner.gid == -1 else owner.gid,
        owner.mode,
    )
    recorded = Given(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    with path.open("wb") as file:
        file_access.give(file.fileno(), owner, "state.db")
    assert recorded.calls == given
    assert stat.S_IMODE(path.stat().st_mode) == owner.mode


def refuse(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def as_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)


def as_another_user_of_the_group_in_a_folder_of_another_group(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_to_the_group(path.parent)
    as_another_user(path, monkeypatch)
    real = os.fstat

    def of_another_group(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[stat.ST_GID] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", of_another_group)


def as_root_without_the_right_to_give(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(file_access, "file_owner", lambda _: FileOwner(4242, 17, 0o600))


@pytest.mark.parametrize(
    "become",
    [
        as_another_user,
        as_another_user_of_the_group_in_a_folder_of_another_group,
        as_root_without_the_right_to_give,
    ],
)
def test_who_cannot_make_files_that_the_owner_can_use_is_refused_before_any_is_made(
    made: Path, monkeypatch: pytest.MonkeyPatch, become: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    become(made, monkeypatch)
    with pytest.raises(StateUnusable) as refused:
        opened(made)
    assert refused.value.code == "state-owner"
    assert str(made) in refused.value.message
    assert os.listdir(made.parent) == [made.name]
    monkeypatch.undo()
    opened(made).close_now()


def test_a_disk_that_fails_while_root_gives_a_file_away_says_nothing_of_its_rights(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    as_root_without_the_right_to_give(made, monkeypatch)
    monkeypatch.setattr(os, "fchown", fail)
    with pytest.raises(StateUnavailable) as failed:
        opened(made)
    assert failed.value.code == "state-io-error"


def test_a_member_of_the_group_makes_files_that_the_owner_can_use(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_to_the_group(made.parent)
    as_another_user(made, monkeypatch)
    opened(made).close_now()
    assert os.listdir(made.parent) == [made.name]


def test_another_user_who_may_make_no_file_beside_the_state_is_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_another_user(made, monkeypatch)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StateAccessDenied) as refused:
        sqlite_file.refuse_foreign_file(str(made))
    assert refused.value.code == "state-unwritable"


@pytest.mark.parametrize(
    ("uid", "file", "hint"),
    [
        (0, info(0o660, gid=THEIRS), "chgrp {group} {path}-wal"),
        (0, info(0o606), "chmod 600 {path}-wal"),
        (5, info(0o660, gid=THEIRS), "chmod 600 {path}-wal"),
        (5, info(0o666, gid=os.getegid()), "chmod 600 {path}-wal"),
        (5, info(0o660, gid=os.getegid()), "run mmp as a member of group {group}"),
    ],
    ids=["another group", "others", "not a member, another group", "not a member, others", "not a member"],
)
def test_the_hint_of_a_file_beside_a_shared_state_shuts_out_no_member(
    made: Path, monkeypatch: pytest.MonkeyPatch, uid: int, file: os.stat_result, hint: str
) -> None:
    give_to_the_group(made.parent)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(file_access, "own_groups", lambda: frozenset())
    path, group = str(made), made.stat().st_gid
    with pytest.raises(StateUnusable) as refused:
        file_access.refuse_exposed(path, f"{path}-wal", file)
    assert refused.value.code == "state-exposed"
    assert refused.value.hint.startswith(hint.format(group=group, path=path))


def test_the_hint_of_a_file_beside_a_state_that_is_not_shared_closes_it(made: Path) -> None:
    path = str(made)
    with pytest.raises(StateUnusable) as refused:
        file_access.refuse_exposed(path, f"{path}-wal", info(0o660, gid=THEIRS))
    assert refused.value.hint.startswith(f"chmod 600 {path}-wal")


@pytest.mark.parametrize(
    ("mode", "is_refused"),
    [(0o2775, True), (0o2771, True), (0o2770, False), (0o777, False), (0o2755, False), (0o700, False)],
)
def test_a_new_state_is_refused_where_a_volume_would_open_it_to_others(
    tmp_path: Path, mode: int, is_refused: bool
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    path = folder / "state.db"
    if is_refused:
        with pytest.raises(StateUnusable) as refused:
            opened(path)
        assert refused.value.code == "state-exposed"
        assert refused.value.hint.endswith(f"--state {folder}/mmp/state.db")
        assert os.listdir(folder) == []
    else:
        opened(path).close_now()


def test_a_state_that_is_there_is_used_in_such_a_folder_while_it_is_its_owners_alone(made: Path) -> None:
    made.parent.chmod(0o2775)
    opened(made).close_now()


def test_a_file_of_another_user_beside_the_state_is_refused(made: Path) -> None:
    path = str(made)
    theirs = info(stat.S_IFREG | 0o600, uid=made.stat().st_uid + 1)
    with pytest.raises(StateUnusable) as refused:
        file_access.refuse_exposed(path, f"{path}-wal", theirs)
    assert refused.value.code == "state-owner"
    assert f"{path}-wal" in refused.value.message


def test_a_state_that_disappears_while_it_is_checked_is_unreadable(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_access, "own_groups", refuse)
    with pytest.raises(StateAccessDenied) as refused:
        read(made)
    assert refused.value.code == "state-unreadable"


# -- what root makes ------------------------------------------------------------------------------


def test_a_state_that_root_makes_is_the_folders_owners_and_so_are_its_new_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path.stat()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert file_access.owner_in(str(tmp_path)) == FileOwner(here.st_uid, here.st_gid, 0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert file_access.owner_in(str(tmp_path)) == FileOwner(5, os.getegid(), 0o600)


class FolderOf:
    """``os.stat`` of a folder that is another user's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, int]] = []
        self.uid = 0
        monkeypatch.setattr(file_access, "give", self.give)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "stat", lambda _: info(stat.S_IFDIR | 0o755, uid=4242, gid=17))
        monkeypatch.setattr(os, "fstat", lambda _: info(stat.S_IFDIR | 0o700, uid=self.uid))

    def give(self, _: int, owner: FileOwner, path: str) -> None:
        assert path == "state.db"
        self.calls.append((owner.uid, owner.gid))


def test_an_empty_folder_that_root_made_is_given_to_the_owner_of_the_folder_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    given = FolderOf(monkeypatch)
    file_access.give_folder(str(empty), "state.db")
    assert given.calls == [(4242, 17)]


def test_a_folder_that_was_put_in_the_place_of_roots_is_not_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    (full / "in").mkdir(parents=True)
    empty.mkdir()
    given = FolderOf(monkeypatch)
    file_access.give_folder(str(full), "state.db")
    given.uid = 5
    file_access.give_folder(str(empty), "state.db")
    assert given.calls == []
