"""An unusable address on the command line appears in no output, since it may contain a password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Exit
from tests.e2e.processes import Desk

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


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder with settings and keys, and no exchange."""
    keys = {f"OKX_{part}": f"value-of-{part}" for part in ("API_KEY", "SECRET_KEY", "PASSPHRASE")}
    here = Desk(tmp_path / "desk", keys)
    here.wants({"BTC-USD": "5s/2s/100"})
    yield here
    here.close()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_state_that_may_be_an_address_is_neither_shown_nor_made(desk: Desk, address: str) -> None:
    before = sorted(desk.folder.rglob("*"))
    for ended in (
        desk.mmp("status", "--state", address),
        desk.mmp("apply", "--yes", "--output", "json", f"--state={address}"),
        desk.mmp("run", "--log-format", "json", env={"MMP_STATE": address}),
    ):
        assert ended.status == Exit.USAGE, ended.stderr
        assert "hunter2" not in ended.stdout + ended.stderr
    assert sorted(desk.folder.rglob("*")) == before


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
def test_no_usage_error_repeats_an_address(desk: Desk, arguments: list[str], address: str) -> None:
    ended = desk.mmp(*(argument.format(address) for argument in arguments))
    assert ended.status == Exit.USAGE, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_webhook_in_the_wrong_place_is_not_repeated(desk: Desk) -> None:
    ended = desk.mmp("run", "https://hooks.example/services/hunter2")
    assert ended.status == Exit.USAGE
    assert "hunter2" not in ended.stderr
    assert "unexpected extra argument" in ended.stderr


@pytest.mark.parametrize(
    "address", ["//desk:hunter2@db", "https://db:hunter2", "https://db:hunter2/status"]
)
def test_an_address_of_a_status_that_cannot_be_used_is_not_shown(desk: Desk, address: str) -> None:
    ended = desk.mmp("plan", "--against", address)
    assert ended.status == Exit.USAGE, ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
