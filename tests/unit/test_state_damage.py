"""Random damage to a state file: nothing is silent and nothing is an internal error."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.main import cli
from reconciler.core.model import Environment, ExchangeKind, LiveRead, LiveRow
from reconciler.errors import MmpError, StateUnusable
from reconciler.store.engine import StateOptions
from reconciler.store.sqlite import connection, wal_check
from reconciler.store.sqlite import state as sqlite_state
from tests.contract.stores import BTC, HOST, UID, ScriptedClock, setting
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


@pytest.mark.slow
def test_a_sample_of_mutations_is_noticed_or_harmless(good: bytes, folder: Path) -> None:
    assert faults(range(SAMPLE), good, folder) == []


@pytest.mark.slow
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


def test_a_valid_state_is_reported_as_valid(tmp_path: Path) -> None:
    damage.build(tmp_path / "state.db")
    done = check(tmp_path / "state.db")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{tmp_path}/state.db · ")
    assert done.stdout.endswith(" records, all as they were written\n")


def test_each_damaged_record_is_named_and_the_status_is_1(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    damage.build(path)
    db = connection.connect(str(path), "rw", 0.0)
    db.execute("UPDATE pauses SET reason = 'x' WHERE family = 'BTC-USD'")
    db.execute("UPDATE attempts SET message = 'other' WHERE id = 3")
    db.close()
    done = check(path)
    assert done.exit_code == 1
    named, lines = done.stdout.splitlines()[:3], done.stdout.splitlines()
    assert named == [
        "! attempts row 3 does not match its checksum",
        "! pauses row okx/live/446556540/BTC-USD does not match its checksum",
        "! pauses row okx/live/77/BTC-USD does not match its checksum",
    ]
    assert any(line.endswith(" records, 3 damaged") for line in lines)
    assert [line.split()[2:3] for line in lines[-2:]] == [["ETH-USD"], ["ETH-USD"]], "pauses to make again"
    assert "contested · main (live)" in lines[-2]
    document = json.loads(check(path, "--output", "json").stdout)
    assert document["format"] == "mmp/state-check/1"
    assert document["rows"]["pauses"] == 4
    assert len(document["damaged"]) == 3
    assert [(one["account"], one["family"]) for one in document["paused"]] == [
        ("main", "ETH-USD"),
        ("other", "ETH-USD"),
    ]


def test_a_missing_record_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    damage.build(path)
    db = connection.connect(str(path), "rw", 0.0)
    db.execute("UPDATE row_sums SET number = number + 1 WHERE uid = '77'")
    db.close()
    done = check(path)
    assert done.exit_code == 1
    assert "records of User ID 77 (okx, live) are missing or were replaced" in done.stdout


def test_a_state_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MmpError) as refused:
        check(tmp_path / "state.db")
    assert refused.value.code == "state-missing"


# -- the write-ahead log ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the log of a state with a pause and several later transactions."""
    return log_of(tmp_path_factory.mktemp("log") / "state.db")


def log_of(path: Path) -> bytes:
    clock = ScriptedClock(damage.START)
    state = sqlite_state.open_state(str(path), StateOptions(clock, "boot-1", lock_timeout_s=0.0))
    store = state.account("main", Environment.LIVE, ExchangeKind.OKX)
    asyncio.run(store.identify(UID, HOST))
    asyncio.run(store.pause([BTC], until=None, reason="by hand"))
    for number in range(5):
        clock.time += 12
        asyncio.run(store.record_live(LiveRead(clock.time, {BTC: LiveRow(setting(str(number + 1)))})))
    found = Path(f"{path}-wal").read_bytes()
    state.close_now()
    return found


def left_out(log: bytes, tmp_path: Path) -> int:
    (tmp_path / "x-wal").write_bytes(log)
    return wal_check.transactions_left_out(str(tmp_path / "x"))


def test_a_good_log_has_nothing_that_is_left_out(log: bytes, tmp_path: Path) -> None:
    assert left_out(log, tmp_path) == 0
    assert not wal_check.is_damaged(str(tmp_path / "x"))
    assert wal_check.transactions_left_out(str(tmp_path / "none")) == 0
    for length in (0, 31, 32, 100, len(log) - 1, len(log) // 2):
        assert left_out(log[:length], tmp_path) == 0, "a log that is cut off lost its last transaction only"
    assert left_out(b"x" * 100, tmp_path) == 0


def test_a_bit_that_flips_in_an_older_transaction_is_seen(log: bytes, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(300):
        broken = bytearray(log)
        broken[chance.randrange(len(log) // 2)] ^= 1 << chance.randrange(8)
        (tmp_path / "x-wal").write_bytes(broken)
        assert wal_check.is_damaged(str(tmp_path / "x"))


def test_what_an_older_log_left_behind_is_not_counted(log: bytes, tmp_path: Path) -> None:
    older = bytearray(log)
    older[32 + 8] ^= 1  # the first frame has another salt: the log was begun anew before it
    assert left_out(bytes(older), tmp_path) == 0


def test_a_log_that_is_begun_anew_while_it_is_read_is_read_again(
    log: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = bytearray(log)
    other[20] ^= 1
    contents = [bytes(other), log, log, log]
    real = open

    def changing(path: str, mode: str) -> object:
        file = real(tmp_path / "x-wal", "wb")
        file.write(contents[0])
        file.close()
        return Changing(contents)

    monkeypatch.setattr("builtins.open", changing)
    assert wal_check.transactions_left_out(str(tmp_path / "x")) == 0
    assert contents == []
    contents[:] = [bytes(other), log] * 3
    assert wal_check.transactions_left_out(str(tmp_path / "x")) == 0, "it is given up after a few tries"


class Changing:
    """A log that is another one each time it is read."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents = contents

    def __enter__(self) -> Changing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, length: int = -1) -> bytes:
        return self.contents.pop(0)[: None if length < 0 else length]

    def seek(self, _: int) -> None:
        pass


OPENERS: Sequence[Callable[[str, StateOptions], object]] = (
    sqlite_state.open_state,
    lambda path, options: sqlite_state.open_existing(path, clock=options.clock, boot=options.boot),
)


@pytest.mark.parametrize("opener", OPENERS, ids=["writing", "reading"])
def test_a_pause_in_a_damaged_log_does_not_disappear(
    tmp_path: Path, log: bytes, opener: Callable[[str, StateOptions], object]
) -> None:
    path = tmp_path / "state.db"
    log_of(path)
    broken = bytearray(log)
    broken[5000] ^= 1
    clock = ScriptedClock(damage.END)
    fresh = tmp_path / "fresh" / "state.db"
    options = StateOptions(clock, "boot-1", lock_timeout_s=0.0)
    sqlite_state.open_state(str(fresh), options).close_now()
    Path(f"{fresh}-wal").write_bytes(broken)
    Path(f"{fresh}-wal").chmod(0o600)
    with pytest.raises(StateUnusable) as refused:
        opener(str(fresh), options)
    assert refused.value.code == "state-damaged"
    assert "write-ahead log" in refused.value.message
