"""Commands that create a file in an unwritable folder: each reports it, with its own code and status."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.processes import MMP, Ended, Exchange, desired_text, simulator
from tests.support.requirements import UNSHARE

READ_ONLY = "mount -t tmpfs -o ro none here"
FULL = (
    "mount -t tmpfs -o size=16k none here && { dd if=/dev/zero of=here/filler bs=4k 2>/dev/null || true; }"
)
PLACES = {"read-only": READ_ONLY, "full": FULL}


def run(folder: Path, script: str, *mmp: str, environment: dict[str, str] | None = None) -> Ended:
    """Run ``mmp`` in the folder ``here``; ``script`` makes it unwritable first."""
    (folder / "here").mkdir(exist_ok=True)
    command: Sequence[str] = [
        *UNSHARE, "sh", "-ec", f'{script}; cd here; exec "$@"', "sh", MMP, *mmp, "--output", "json"
    ]  # fmt: skip
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=90)
    return Ended(done.returncode, done.stdout, done.stderr, 0.0, 0.0)


def problem_of(ended: Ended) -> tuple[int, str]:
    (problem,) = ended.document["problems"]
    assert problem["hint"], problem
    return ended.status, problem["code"]


@pytest.mark.parametrize("place", PLACES)
def test_init_says_that_nothing_can_be_written(tmp_path: Path, place: str) -> None:
    ended = run(tmp_path, PLACES[place], "init")
    assert problem_of(ended) == (1, "file-unwritable"), ended.stderr
    assert "mmp.yaml cannot be written" in ended.document["problems"][0]["message"]


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with simulator(families="BTC-USD=5000/2000/100") as running:
        yield running


@pytest.mark.parametrize("place", PLACES)
def test_import_says_that_nothing_can_be_written(tmp_path: Path, exchange: Exchange, place: str) -> None:
    state = str(tmp_path / "state.db")
    ended = run(tmp_path, PLACES[place], "import", "--state", state, environment=dict(exchange.variables))
    assert problem_of(ended) == (1, "file-unwritable"), ended.stderr
    assert exchange.written() == []


@pytest.mark.parametrize("place", PLACES)
def test_a_plan_that_cannot_be_saved_is_reported(tmp_path: Path, exchange: Exchange, place: str) -> None:
    (tmp_path / "mmp.yaml").write_text(desired_text({"BTC-USD": "5s/2s/100"}))
    named = ("plan", "-c", "../mmp.yaml", "--out", "plan.json")
    ended = run(tmp_path, PLACES[place], *named, environment=dict(exchange.variables))
    assert problem_of(ended) == (1, "out-unwritable"), ended.stderr
