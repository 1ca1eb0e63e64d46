"""A state file bind-mounted to a second path, in a mount namespace of its own, as in containers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from reconciler.core.model import Environment, ExchangeKind
from tests.e2e.processes import MMP, desired_text
from tests.support.requirements import UNSHARE
from tests.unit.test_store_files import opened

VERBS = {
    "history": (),
    "status": (),
    "plan": ("--no-live",),
    "pause": ("--family", "BTC-USD", "--for", "1m", "--reason", "a test"),
    "apply": ("--no-live", "--yes"),
}
"""Commands that read a state and commands that write to one, without an exchange."""

KEYS = {"OKX_API_KEY": "k", "OKX_SECRET_KEY": "s", "OKX_PASSPHRASE": "p"}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with settings and a state that was used for them."""
    (tmp_path / "mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}))
    state = opened(tmp_path / ".mmp" / "state.db")
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(store.identify("1", "openapi.okx.com"))
    state.close_now()
    return tmp_path


def bound(desk: Path, source: str, target: str, *mmp: str) -> subprocess.CompletedProcess[str]:
    """Run ``mmp`` where ``source`` is mounted at ``target`` too."""
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    command = [*UNSHARE, "sh", "-c", script, "sh", source, target, MMP, *mmp, "--output", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(desk), **KEYS}
    return subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", VERBS)
def test_a_state_file_that_is_mounted_by_itself_is_refused(desk: Path, verb: str) -> None:
    (desk / "other").mkdir()
    (desk / "other" / "state.db").touch()
    where = ("--state", "other/state.db")
    ended = bound(desk, ".mmp/state.db", "other/state.db", verb, *where, *VERBS[verb])
    assert ended.returncode == 1, ended.stderr
    assert json.loads(ended.stdout)["problems"][0]["code"] == "state-mounted"
    assert sorted(os.listdir(desk / "other")) == ["state.db"]


@pytest.mark.parametrize("suffix", ["-wal", "-shm", ".main.live.okx.lock"])
def test_a_file_beside_the_state_that_is_mounted_by_itself_is_refused(desk: Path, suffix: str) -> None:
    (desk / "elsewhere").touch(0o600)
    beside = desk / ".mmp" / f"state.db{suffix}"
    beside.touch(0o600)
    ended = bound(desk, "elsewhere", str(beside), "pause", *VERBS["pause"])
    assert ended.returncode == 1, ended.stderr
    assert json.loads(ended.stdout)["problems"][0]["code"] == "state-mounted"


@pytest.mark.parametrize("verb", ["history", "pause"])
def test_a_state_in_a_folder_that_is_mounted_is_used(desk: Path, verb: str) -> None:
    (desk / "other").mkdir()
    where = ("--state", "other/state.db")
    ended = bound(desk, ".mmp", "other", verb, *where, *VERBS[verb])
    assert ended.returncode == 0, ended.stderr


# -- file systems ---------------------------------------------------------------------------------

LOCAL = {
    "tmpfs": "mount -t tmpfs none other",
    "ramfs": "mount -t ramfs none other",
    "overlay": "mount -t tmpfs none layers && mkdir layers/upper layers/work"
    " && mount -t overlay -o lowerdir=.mmp,upperdir=layers/upper,workdir=layers/work none other",
}


KNOWN_TO_THE_KERNEL = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}


@pytest.mark.parametrize("kind", sorted(LOCAL.keys() & KNOWN_TO_THE_KERNEL))
def test_a_state_on_a_local_file_system_is_used(desk: Path, kind: str) -> None:
    (desk / "other").mkdir()
    (desk / "layers").mkdir()
    script = f'{LOCAL[kind]} && cp -p .mmp/state.db other && exec "$@"'
    where = ("--state", "other/state.db", "--output", "json")
    command = [*UNSHARE, "sh", "-c", script, "sh", MMP, "pause", *VERBS["pause"], *where]
    environment = {"PATH": os.environ["PATH"], "HOME": str(desk)}
    ended = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
