"""What the mount table says of the place of a state: its file system, and what is mounted by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import StateAccessDenied, StateUnusable
from reconciler.store.sqlite import mounts
from tests.tidy.source import ROOT
from tests.unit.test_store_files import opened, read


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    opened(path).close_now()
    return path


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /home rw shared:2 master:1 - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/desk/local rw - xfs /dev/sdb1 rw
32 22 0:40 / /mnt/with\\040space rw - fuse.sshfs desk@host:/ rw
33 22 0:41 / /srv rw - cifs //server/share rw
34 22 8:3 / /srv rw - ext4 /dev/sdc1 rw
35 22 0:42 / /odd\\134back\\011tab\\012line rw - 9p none rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/state.db", "ext4"),
        ("/home", "nfs4"),
        ("/home/desk/.mmp/state.db", "nfs4"),
        ("/homework/state.db", "ext4"),
        ("/home/desk/local/state.db", "xfs"),
        ("/mnt/with space/state.db", "fuse.sshfs"),
        ("/mnt/with", "ext4"),
        ("/srv/state.db", "ext4"),
        ("/odd\\back\ttab\nline/state.db", "9p"),
    ],
)
def test_the_longest_and_latest_mount_point_says_what_a_path_is_on(path: str, expected: str) -> None:
    assert mounts.file_system_of(path, MOUNTS) == expected


def test_without_mounts_nothing_is_known() -> None:
    assert mounts.file_system_of("/state.db", "") is None


def on(kind: str, *allowed: str) -> None:
    """Hold a state on a file system of this type against the rules."""
    mounts.refuse_unfit("/net/state.db", f"30 22 0:30 / /net rw - {kind} disk rw", allowed)


@pytest.mark.parametrize("kind", sorted(mounts.SHARED_FILE_SYSTEMS))
@pytest.mark.parametrize("is_allowed", [False, True])
def test_a_file_system_that_several_hosts_can_use_is_refused_and_cannot_be_allowed(
    kind: str, is_allowed: bool
) -> None:
    with pytest.raises(StateUnusable) as refused:
        on(kind, *([kind] if is_allowed else []))
    assert refused.value.code == "state-network-fs"
    assert f"({kind})" in refused.value.message
    assert "--allow-filesystem" not in refused.value.hint


@pytest.mark.parametrize(
    "kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "tmpfs"]
)
def test_local_file_systems_are_accepted(kind: str) -> None:
    on(kind)


def test_the_documentation_names_every_local_type() -> None:
    text = (ROOT / "docs" / "state.md").read_text()
    assert [kind for kind in sorted(mounts.LOCAL_FILE_SYSTEMS) if f"`{kind}`" not in text] == []


def test_no_type_is_both_local_and_shared() -> None:
    assert not mounts.LOCAL_FILE_SYSTEMS & mounts.SHARED_FILE_SYSTEMS


@pytest.mark.parametrize(
    "kind", ["fuse.mergerfs", "fuseblk", "fuse", "vfat", "aufs", "nfs5", "ext5", "madeup"]
)
def test_a_file_system_of_an_unknown_type_is_refused_unless_it_is_allowed(kind: str) -> None:
    with pytest.raises(StateUnusable) as refused:
        on(kind, "ext4", "fuse.other")
    assert refused.value.code == "state-unknown-fs"
    assert refused.value.hint.endswith(f"add --allow-filesystem {kind}")
    on(kind, "ext4", kind)


def test_where_the_mounts_say_nothing_of_the_path_nothing_is_refused() -> None:
    mounts.refuse_unfit("/state.db", "")


@pytest.mark.parametrize("opener", [opened, read])
def test_opening_asks_where_the_file_is(
    made: Path, monkeypatch: pytest.MonkeyPatch, opener: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(mounts, "read_mountinfo", lambda: "30 22 0:30 / / rw - nfs server rw")
    with pytest.raises(StateUnusable) as refused:
        opener(made)
    assert refused.value.code == "state-network-fs"


def test_a_system_that_does_not_tell_its_mounts_is_not_held_against_anyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "nowhere"))
    assert mounts.read_mountinfo() == ""


# -- mounted by itself ----------------------------------------------------------------------------

ALONE = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 8:1 /srv/state.db {point} rw,relatime - ext4 /dev/sda1 rw
"""


@pytest.mark.parametrize(
    "point",
    [
        "/data/state.db",
        "/data/state.db-wal",
        "/data/state.db-shm",
        "/data/state.db.main.live.okx.lock",
        "/data/state.db.main.live.okx.controller.lock",
    ],
)
def test_a_file_of_a_state_that_is_mounted_by_itself_is_refused(point: str) -> None:
    with pytest.raises(StateAccessDenied) as refused:
        mounts.refuse_unfit("/data/state.db", ALONE.format(point=point))
    assert refused.value.code == "state-mounted"
    assert point in refused.value.message
    assert "folder" in refused.value.hint


def test_the_mount_point_of_a_state_is_found_by_its_escaped_name() -> None:
    with pytest.raises(StateAccessDenied) as refused:
        mounts.refuse_unfit(
            "/my data/a\\040b/state.db", ALONE.format(point="/my\\040data/a\\134040b/state.db")
        )
    assert refused.value.code == "state-mounted"


@pytest.mark.parametrize(
    "point",
    ["/data", "/data/other.db", "/data/state.db2-wal", "/data/state.db.backup", "/state.db", "/da\u2028ta"],
)
def test_a_mount_of_a_folder_or_of_another_file_is_not_in_the_way(point: str) -> None:
    mounts.refuse_unfit("/data/state.db", ALONE.format(point=point))


@pytest.mark.parametrize("opener", [opened, read])
def test_opening_refuses_a_state_that_is_mounted_by_itself_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opener: Callable[[Path], object]
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"")
    monkeypatch.setattr(mounts, "read_mountinfo", lambda: ALONE.format(point=path))
    with pytest.raises(StateAccessDenied) as refused:
        opener(path)
    assert refused.value.code == "state-mounted"
