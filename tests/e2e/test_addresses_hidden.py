"""An address on the command line that cannot be used is repeated nowhere, since it may hold a password."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.errors import Exit
from tests.e2e.processes import MMP, desired_text

pytestmark = pytest.mark.e2e

ADDRESSES = [
    "postgresql://desk:hunter2/x@db/mmp",
    "postgresql://desk:hun/hunter2@db/mmp",
    "postgres://desk:hunter2@db/mmp",
    "postgresql:/desk:hunter2@db/mmp",
    "desk:hunter2@db/mmp",
    "host=db password=hunter2",
    "postgresql://desk:hunter2",
    "hunter2@db/mmp",
    "desk:hunter2",
    "pass=hunter2",
]


def mmp(folder: Path, *arguments: str, state: str | None = None) -> subprocess.CompletedProcess[str]:
    keys = {f"OKX_{part}": f"value-of-{part}" for part in ("API_KEY", "SECRET_KEY", "PASSPHRASE")}
    environ = {"PATH": os.environ["PATH"], **keys, **({"MMP_STATE": state} if state else {})}
    return subprocess.run(
        [MMP, *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_state_that_may_be_an_address_is_neither_shown_nor_made(folder: Path, address: str) -> None:
    before = sorted(folder.rglob("*"))
    for ended in (
        mmp(folder, "status", "--state", address),
        mmp(folder, "apply", "--yes", "--output", "json", f"--state={address}"),
        mmp(folder, "run", "--log-format", "json", state=address),
    ):
        assert ended.returncode == Exit.USAGE, ended.stderr
        assert "hunter2" not in ended.stdout + ended.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["plan", "{}"],
        ["status", "--lock-timeout", "{}"],
        ["status", "--log-level={}"],
        ["run", "--notify", "{}"],
        ["run", "--base-url", "{}"],
        ["run", "--listen", "{}"],
        ["plan", "--against", "{}"],
        ["state", "copy", "{}", "x.db"],
        ["state", "copy", "x.db", "postgresql://db/mmp", "{}"],
    ],
)
@pytest.mark.parametrize("address", ["postgresql://desk:hunter2@db/mmp", "https://u:pa ss hunter2@db/mmp"])
def test_no_usage_error_repeats_an_address(folder: Path, arguments: list[str], address: str) -> None:
    ended = mmp(folder, *(argument.format(address) for argument in arguments))
    assert ended.returncode == Exit.USAGE, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_webhook_in_the_wrong_place_is_not_repeated(folder: Path) -> None:
    ended = mmp(folder, "run", "https://hooks.example/services/hunter2")
    assert ended.returncode == Exit.USAGE
    assert "hunter2" not in ended.stderr
    assert "unexpected extra argument" in ended.stderr


@pytest.mark.parametrize(
    "address", ["//desk:hunter2@db", "https://db:hunter2", "https://db:hunter2/status"]
)
def test_an_address_of_a_status_that_cannot_be_used_is_not_shown(folder: Path, address: str) -> None:
    ended = mmp(folder, "plan", "--against", address)
    assert ended.returncode == Exit.USAGE, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
