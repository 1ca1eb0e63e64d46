"""Random damage to a state file: nothing is silent and nothing is an internal error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.main import cli
from reconciler.errors import MmpError
from reconciler.store import sqlite
from tests.support import damage

SAMPLE = 400
PROOF = 100_000
"""Takes about 25 minutes of one core."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def good(folder: Path) -> bytes:
    damage.build(folder / "state.db")
    return (folder / "state.db").read_bytes()


def faults(seeds: range, good: bytes, folder: Path) -> list[str]:
    outcomes = ((seed, damage.outcome_of(seed, good, folder)) for seed in seeds)
    return [f"seed {seed}: {outcome.fault}" for seed, outcome in outcomes if outcome.fault]


def test_a_sample_of_mutations_is_noticed_or_harmless(good: bytes, folder: Path) -> None:
    assert faults(range(SAMPLE), good, folder) == []


def test_the_sample_damages_what_is_decided_by_and_what_is_shown(good: bytes, folder: Path) -> None:
    refused = [damage.outcome_of(seed, good, folder).refused for seed in range(SAMPLE // 4)]
    assert refused.count("state-damaged") > len(refused) // 4
    assert "" in refused


@pytest.mark.proof
@pytest.mark.parametrize("part", range(20))
def test_a_hundred_thousand_mutations_are_noticed_or_harmless(part: int, good: bytes, folder: Path) -> None:
    length = PROOF // 20
    assert faults(range(part * length, (part + 1) * length), good, folder) == []


# -- mmp state check --------------------------------------------------------------------------------


def check(path: Path, *flags: str) -> Result:
    command = ["state", "check", "--state", str(path), *flags]
    return CliRunner().invoke(cli, command, catch_exceptions=False)


def test_a_good_state_is_said_to_be_good(tmp_path: Path) -> None:
    damage.build(tmp_path / "state.db")
    done = check(tmp_path / "state.db")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{tmp_path}/state.db · ")
    assert done.stdout.endswith(" records, all as they were written\n")


def test_each_damaged_record_is_named_and_the_status_is_1(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    damage.build(path)
    db = sqlite._connect(str(path), "rw", 0.0)
    db.execute("UPDATE pauses SET reason = 'x' WHERE family = 'BTC-USD'")
    db.execute("UPDATE attempts SET message = 'other' WHERE id = 3")
    db.close()
    done = check(path)
    assert done.exit_code == 1
    *named, summary = done.stdout.splitlines()
    assert named == [
        "! attempts row 3 does not fit its check",
        "! pauses row 446556540/live/BTC-USD does not fit its check",
        "! pauses row 77/live/BTC-USD does not fit its check",
    ]
    assert summary.endswith(" records, 3 damaged")
    document = json.loads(check(path, "--output", "json").stdout)
    assert document["format"] == "mmp/state-check/1"
    assert document["rows"]["pauses"] == 4
    assert len(document["damaged"]) == 3


def test_a_missing_record_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    damage.build(path)
    db = sqlite._connect(str(path), "rw", 0.0)
    db.execute("UPDATE row_sums SET number = number + 1 WHERE uid = '77'")
    db.close()
    done = check(path)
    assert done.exit_code == 1
    assert "records of User ID 77 (okx, live) are missing or were replaced" in done.stdout


def test_a_state_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MmpError) as refused:
        check(tmp_path / "state.db")
    assert refused.value.code == "state-missing"
