"""A state that several users of a machine use: its owner, root, and the members of a group."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.core.model import Environment, ExchangeKind
from reconciler.errors import StateAccessDenied, StateUnusable
from reconciler.store.sqlite.state import SqliteState
from tests.e2e.processes import MMP, desired_text
from tests.support.users import as_user, open_folder
from tests.unit.test_store_files import opened, read

OWNER, OTHER, GROUP = 10001, 10002, 30003
PRIVATE = stat.S_IFREG | 0o600
SHARED = stat.S_IFREG | 0o660


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that belongs to the owner of the state."""
    with open_folder() as folder:
        own = folder / "own"
        own.mkdir(0o700)
        os.chown(own, OWNER, OWNER)
        yield own


async def _use(state: SqliteState) -> None:
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    await store.identify("1", "openapi.okx.com")
    async with store.locked("a test"):
        pass


def use(path: Path) -> None:
    """Open the state, write to it, take its locks and close it."""
    state = opened(path)
    asyncio.run(_use(state))
    state.close_now()


def use_and_be_killed(path: Path) -> None:
    """Use a state and exit without closing it, so that the files beside it remain."""
    asyncio.run(_use(opened(path)))
    os._exit(0)


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Return owner and mode of every file."""
    return {each.name: (each.stat().st_uid, each.stat().st_mode) for each in folder.iterdir()}


LOCK = "state.db.main.live.okx.lock"
IN_USE = {"state.db", "state.db-wal", "state.db-shm", LOCK}


def mmp(folder: Path, *arguments: str) -> None:
    """Run the installed command as root."""
    (folder / "mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}))
    subprocess.run([MMP, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


# -- after a use by root --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "once",
    [
        lambda path: use(path),
        lambda path: as_user(0, lambda: use_and_be_killed(path), gid=0),
        lambda path: mmp(path.parent, "history", "--state", str(path)),
        lambda path: mmp(
            path.parent,
            "pause",
            "--family",
            "BTC-USD",
            "--for",
            "1m",
            "--reason",
            "x",
            "--state",
            str(path),
        ),
    ],
    ids=["opened", "killed", "history", "pause"],
)
def test_the_owner_goes_on_after_root_used_the_state_once(
    place: Path, once: Callable[[Path], object]
) -> None:
    path = place / "state.db"

    def make() -> None:
        state = opened(path)
        asyncio.run(
            state.account("main", Environment.LIVE, ExchangeKind.OKX).identify("1", "openapi.okx.com")
        )
        state.close_now()

    as_user(OWNER, make, gid=OWNER)
    once(path)
    named = {name: there for name, there in files_in(place).items() if name.startswith("state.db")}
    assert set(named.values()) == {(OWNER, PRIVATE)}
    as_user(OWNER, lambda: use(path), gid=OWNER)


def test_the_owner_goes_on_after_root_read_what_a_kill_left(place: Path) -> None:
    path = place / "state.db"
    as_user(OWNER, lambda: use_and_be_killed(path), gid=OWNER)
    (place / "state.db-shm").unlink()
    state = read(path)
    assert state is not None
    state.close_now()
    assert set(files_in(place).values()) == {(OWNER, PRIVATE)}
    as_user(OWNER, lambda: use(path), gid=OWNER)


def test_what_root_makes_beside_a_state_in_use_is_the_owners(place: Path) -> None:
    path = place / "state.db"
    as_user(OWNER, lambda: opened(path).close_now(), gid=OWNER)
    state = opened(path)
    asyncio.run(_use(state))
    assert files_in(place) == dict.fromkeys(IN_USE, (OWNER, PRIVATE))
    as_user(OWNER, lambda: use(path), gid=OWNER)
    state.close_now()


def test_the_owner_of_a_folder_goes_on_after_root_made_the_state_in_it(place: Path) -> None:
    path = place / "new" / ".mmp" / "state.db"
    use(path)
    assert {folder.stat().st_uid for folder in (path.parent, path.parent.parent)} == {OWNER}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    as_user(OWNER, lambda: use(path), gid=OWNER)


def test_roots_own_state_stays_roots(place: Path) -> None:
    path = place.parent / ".mmp" / "state.db"
    use(path)
    assert set(files_in(path.parent).values()) == {(0, PRIVATE)}


def test_root_never_gives_a_file_away_that_was_there(place: Path) -> None:
    path = place / "state.db"
    as_user(OWNER, lambda: use(path), gid=OWNER)
    lock = place / LOCK
    lock.unlink()
    lock.touch(0o600)
    with pytest.raises(StateUnusable) as refused:
        use(path)
    assert refused.value.code == "state-owner"
    assert lock.stat().st_uid == 0


def test_root_writes_into_no_file_that_the_owner_linked_to_the_name_of_a_lock(place: Path) -> None:
    path = place / "state.db"
    as_user(OWNER, lambda: use(path), gid=OWNER)
    victim = place.parent / "victim"
    victim.write_text("of root")
    victim.chmod(0o600)
    (place / LOCK).unlink()
    os.link(victim, place / LOCK)
    with pytest.raises(StateAccessDenied) as refused:
        use(path)
    assert refused.value.code == "state-linked"
    assert victim.read_text() == "of root"


# -- the group of a volume ------------------------------------------------------------------------


@pytest.fixture
def volume() -> Iterator[Path]:
    """The root of a volume as the kubelet leaves it: of root, and of the pod's fsGroup."""
    with open_folder() as folder:
        mounted = folder / "state"
        mounted.mkdir()
        mount(mounted)
        yield mounted


def mount(volume: Path) -> None:
    """Set owners and rights as the kubelet does at each mount (``fsGroupChangePolicy: Always``)."""
    for each in (volume, *volume.rglob("*")):
        os.lchown(each, -1, GROUP)
        each.chmod(each.stat().st_mode | (0o2770 if each.is_dir() else 0o660))


def in_pod(work: Callable[[], object], uid: int = OWNER) -> None:
    as_user(uid, work, gid=uid, groups=[GROUP])


def test_a_pod_starts_again_on_its_volume_and_again(volume: Path) -> None:
    path = volume / "mmp" / "state.db"
    for _ in range(3):
        in_pod(lambda: use_and_be_killed(path))
        mount(volume)
    assert files_in(path.parent) == dict.fromkeys(IN_USE, (OWNER, SHARED))
    in_pod(lambda: use(path))
    in_pod(lambda: read(path))


def test_another_user_of_the_group_and_the_owner_use_a_state_in_turns(volume: Path) -> None:
    path = volume / "mmp" / "state.db"
    in_pod(lambda: opened(path).close_now())
    mount(volume)
    for uid in (OTHER, OWNER, OTHER, OWNER):
        in_pod(lambda: use_and_be_killed(path), uid)
    assert {mode for _, mode in files_in(path.parent).values()} == {SHARED}


def refused_as(code: str, path: Path) -> Callable[[], None]:
    def open_it() -> None:
        for opener in (opened, read):
            with pytest.raises(StateUnusable) as refused:
                opener(path)
            assert refused.value.code == code, refused.value.message

    return open_it


def test_who_is_not_in_the_group_is_refused(volume: Path) -> None:
    path = volume / "mmp" / "state.db"
    in_pod(lambda: use(path))
    mount(volume)
    as_user(OWNER, refused_as("state-exposed", path), gid=OWNER)


def test_root_uses_a_state_that_a_group_shares_without_being_in_the_group(volume: Path) -> None:
    path = volume / "mmp" / "state.db"
    in_pod(lambda: use(path))
    mount(volume)
    in_pod(lambda: use_and_be_killed(path))
    as_user(0, lambda: read(path), gid=0)
    as_user(0, lambda: use_and_be_killed(path), gid=0)
    assert files_in(path.parent) == dict.fromkeys(IN_USE, (OWNER, SHARED))
    for uid in (OTHER, OWNER):
        in_pod(lambda: use(path), uid)


def test_root_refuses_a_shared_state_that_is_open_to_others(volume: Path) -> None:
    path = volume / "mmp" / "state.db"
    in_pod(lambda: use(path))
    mount(volume)
    path.parent.chmod(0o2771)
    as_user(0, refused_as("state-exposed", path), gid=0)


def test_a_member_whose_files_would_get_another_group_is_advised_to_set_setgid_on_the_folder(
    volume: Path,
) -> None:
    path = volume / "mmp" / "state.db"
    in_pod(lambda: use(path))
    mount(volume)
    path.parent.chmod(0o770)

    def be_refused() -> None:
        with pytest.raises(StateUnusable) as refused:
            opened(path)
        assert refused.value.code == "state-owner"
        assert f"chmod g+s {path.parent}," in refused.value.hint

    in_pod(be_refused, OTHER)
    path.parent.chmod(0o2770)
    in_pod(lambda: use(path), OTHER)


def test_the_hint_for_a_shared_folder_without_setgid_lets_its_other_members_in(volume: Path) -> None:
    """SQLite's files get the owner's own group there while the owner uses the state."""
    path = volume / "mmp" / "state.db"
    in_pod(lambda: use(path))
    mount(volume)
    path.parent.chmod(0o770)
    assert not path.parent.stat().st_mode & stat.S_ISGID
    in_pod(lambda: use_and_be_killed(path))
    hint = volume / "hint"

    def be_refused() -> None:
        with pytest.raises(StateUnusable) as refused:
            opened(path)
        assert refused.value.code == "state-exposed"
        hint.write_text(refused.value.hint)

    in_pod(be_refused, OTHER)
    assert f"chgrp {GROUP} {path}-wal" in hint.read_text()
    assert f"chmod g+s {path.parent}," in hint.read_text()

    def follow_it() -> None:
        for name in ("state.db-wal", "state.db-shm"):
            os.chown(path.parent / name, -1, GROUP)

    in_pod(follow_it)
    path.parent.chmod(0o2770)
    for uid in (OTHER, OWNER, OTHER):
        in_pod(lambda: use_and_be_killed(path), uid)


@pytest.mark.parametrize("mode", [0o2775, 0o2777], ids=["a volume", "an emptyDir"])
def test_no_state_is_made_in_the_root_of_a_volume(volume: Path, mode: int) -> None:
    """The kubelet would give it to the group at the next mount, where the folder is open to others."""
    volume.chmod(mode)
    path = volume / "state.db"

    def be_refused() -> None:
        with pytest.raises(StateUnusable) as refused:
            opened(path)
        assert refused.value.code == "state-exposed"
        assert f"{volume}/mmp/state.db" in refused.value.hint

    in_pod(be_refused)
    as_user(0, be_refused, gid=0)
    assert os.listdir(volume) == []
    in_pod(lambda: use(volume / "mmp" / "state.db"))


def test_a_state_that_the_kubelet_opened_in_the_root_of_a_volume_is_used_in_a_folder_of_its_own(
    volume: Path,
) -> None:
    path, own = volume / "state.db", volume / "mmp"
    volume.chmod(0o777)  # without setgid, so that a state is made there
    in_pod(lambda: use_and_be_killed(path))
    mount(volume)
    in_pod(refused_as("state-exposed", path))

    def follow_the_hint() -> None:
        own.mkdir(0o700)
        for file in volume.glob("state.db*"):
            file.rename(own / file.name)

    in_pod(follow_the_hint)
    in_pod(lambda: use(own / "state.db"))
    mount(volume)
    in_pod(lambda: use(own / "state.db"))
