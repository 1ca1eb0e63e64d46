"""``mmp run`` and its files: swapped, half written, late, several, and the files of its keys."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.processes import (
    Desk,
    Exchange,
    Running,
    configured,
    desired_text,
    eventually,
    put_in_place,
    secrets_of,
    simulator,
)

pytestmark = pytest.mark.e2e

RUN = ("run", "--assume-idle", "--interval", "1s")
BTC = {"BTC-USD": "5s/2s/100"}
SWAPS = 300
GROWTH_KB = 8 * 1024
"""Resident memory may grow by so much over SWAPS swaps: pools of the interpreter, no leak of files."""


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange with two accounts, where BTC-USD matches BTC."""
    with simulator("--accounts", "2", families=configured("BTC-USD", "ETH-USD")) as running:
        yield running


def in_force(exchange: Exchange, family: str, setting: str, within_s: float = 15.0) -> None:
    eventually(lambda: exchange.live().get(family) == setting, within_s, f"{family} to be {setting}")


def swap(folder: Path, text: str, version: int) -> None:
    """Replace a ConfigMap as the kubelet does."""
    old = os.readlink(folder / "..data") if (folder / "..data").is_symlink() else None
    (folder / f"..{version}").mkdir(parents=True)
    (folder / f"..{version}" / "mmp.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    (folder / "..data_tmp").replace(folder / "..data")
    if old is None:
        (folder / "mmp.yaml").symlink_to("..data/mmp.yaml")
    else:
        (folder / old / "mmp.yaml").unlink()
        (folder / old).rmdir()


def descriptors(running: Running) -> int:
    return len(os.listdir(f"/proc/{running.pid}/fd"))


def resident_kb(running: Running) -> int:
    status = Path(f"/proc/{running.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def quantities(exchange: Exchange) -> list[int]:
    """Return the quantities of all Set MMP requests that arrived."""
    return [int(one["setting"]["qtyLimit"]) for one in exchange.arrivals()]


@pytest.mark.slow
def test_of_hundreds_of_swaps_the_last_is_applied_and_nothing_that_does_not_hold_is_sent(
    desk: Desk, exchange: Exchange
) -> None:
    chance = random.Random(4)
    folder = desk.folder / "config"
    valid = {100}
    swap(folder, desired_text(BTC), 0)
    sidecar = desk.start(*RUN, "-c", "config/mmp.yaml", "--state", str(desk.state))
    sidecar.wait_for_log("adopted")
    for version in range(1, 20):  # to warm up
        swap(folder, desired_text({"BTC-USD": f"5s/2s/{100 + version}"}), version)
        valid.add(100 + version)
    sidecar.wait_for_log("config accepted", number=3)
    before = descriptors(sidecar), resident_kb(sidecar)
    for version in range(20, 20 + SWAPS):
        quantity = 100 + version
        text = desired_text({"BTC-USD": f"5s/2s/{quantity}"})
        broken = chance.random() < 0.3 and version != 19 + SWAPS
        swap(folder, chance.choice(("", text + "x: 1\n", text[:-3])) if broken else text, version)
        if not broken:
            valid.add(quantity)
        time.sleep(chance.choice((0.0, 0.001, 0.01, 0.04)))
    last = 100 + 19 + SWAPS
    in_force(exchange, "BTC-USD", f"5000/2000/{last}", 25.0)
    assert set(quantities(exchange)) <= valid
    assert descriptors(sidecar) <= before[0] + 1, "a connection may be open"
    assert resident_kb(sidecar) - before[1] < GROWTH_KB
    assert any("config invalid" in line["event"] for line in sidecar.log())
    assert not any("failed" in line["event"] for line in sidecar.log())


@pytest.mark.slow
def test_a_partly_written_file_is_never_accepted_and_the_complete_one_at_once(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    sidecar = desk.start(*RUN)
    sidecar.wait_for_log("adopted")
    whole = desired_text({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/80"})
    half = whole[: whole.index("  ETH-USD")]
    with desk.config.open("w") as writing:
        writing.write(half)
        writing.flush()
        time.sleep(3.0)
        assert exchange.written() == []
        writing.write(whole[len(half) :])
    in_force(exchange, "ETH-USD", "5000/2000/80")
    in_force(exchange, "BTC-USD", "5000/2000/90")
    log = [line["event"] for line in sidecar.log() if line["event"].startswith("config")]
    assert log == ["config accepted"] * 2


def key_files(desk: Desk, number: int = 1) -> dict[str, str | None]:
    """Put the keys of an account of the simulator into files; returns the environment that names them."""
    values = {"API_KEY": "key", "SECRET_KEY": "secret", "PASSPHRASE": "passphrase"}
    environment: dict[str, str | None] = {}
    for part, name in values.items():
        path = desk.folder / f"{part}.secret"
        put_secret(path, f"simulator-{name}-{number}")
        environment |= {f"OKX_{part}": None, f"OKX_{part}_FILE": str(path)}
    return environment


def put_secret(path: Path, value: str) -> None:
    aside = path.with_suffix(".new.secret")
    aside.write_text(value + "\n")
    aside.chmod(0o600)
    aside.replace(path)


def test_a_key_replaced_while_running_is_used_from_the_next_request_on(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    sidecar = desk.start(*RUN, env=key_files(desk))
    sidecar.wait_for_log("adopted")
    exchange.control("accounts", passphrase="another-passphrase")
    put_secret(desk.folder / "PASSPHRASE.secret", "another-passphrase")
    sidecar.wait_for_log("key replaced")
    sidecar.wait_for_log("account identified", number=2)
    desk.wants({"BTC-USD": "5s/2s/90"})
    in_force(exchange, "BTC-USD", "5000/2000/90")


def test_a_key_of_another_account_writes_nothing_until_the_right_one_is_back(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    sidecar = desk.start(*RUN, env=key_files(desk))
    sidecar.wait_for_log("adopted")
    key_files(desk, 2)
    refused = sidecar.wait_for_log("failed: reading the account of the key")
    assert refused["level"] == "error"
    desk.wants({"BTC-USD": "5s/2s/90"})
    sidecar.wait_for_log("config accepted", number=2)
    time.sleep(1.0)
    assert exchange.written() == []
    key_files(desk, 1)
    in_force(exchange, "BTC-USD", "5000/2000/90")
    assert {one["uid"] for one in exchange.arrivals()} == {exchange.uid}


@pytest.mark.slow
def test_a_key_that_cannot_be_read_is_reported_once_and_found_at_once_when_it_is_back(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants(BTC)
    sidecar = desk.start(*RUN, env=key_files(desk))
    sidecar.wait_for_log("adopted")
    (desk.folder / "SECRET_KEY.secret").unlink()
    message = sidecar.wait_for_log("failed: reading the account of the key")
    assert message["code"] == "credentials-file"
    desk.wants({"BTC-USD": "5s/2s/90"})
    time.sleep(1.5)
    assert len([line for line in sidecar.log() if "failed" in line["event"]]) == 1
    began = time.monotonic()
    key_files(desk)
    in_force(exchange, "BTC-USD", "5000/2000/90")
    assert time.monotonic() - began < 4.0


@pytest.mark.parametrize("place", ["mmp.yaml", "later/mmp.yaml", "accounts"])
def test_a_file_that_is_missing_at_the_start_is_waited_for(
    place: str, desk: Desk, exchange: Exchange
) -> None:
    file = desk.folder / place if place.endswith(".yaml") else desk.folder / place / "main.yaml"
    desk.config.unlink(missing_ok=True)
    sidecar = desk.start(*RUN, "-c", place, "--state", str(desk.state))
    waiting = sidecar.wait_for_log("waiting for a settings file")
    assert waiting["paths"] == [place]
    file.parent.mkdir(exist_ok=True)
    put_in_place(file, desired_text({"BTC-USD": "5s/2s/90"}))
    in_force(exchange, "BTC-USD", "5000/2000/90")


def test_a_file_that_is_missing_at_the_start_is_exit_4_when_that_is_wanted(
    desk: Desk, exchange: Exchange
) -> None:
    ended = desk.mmp(*RUN, "--missing", "exit")
    assert ended.status == 4
    assert "error[file-missing]" in ended.stderr
    assert exchange.arrivals("account") == []


def second(variables: Mapping[str, str]) -> dict[str, str | None]:
    """Return the keys of both accounts, the second one's under a prefix of its own."""
    return {
        name.replace("OKX_", "SECOND_"): value.replace("-1", "-2")
        for name, value in variables.items()
        if name.startswith("OKX_")
    }


@pytest.mark.slow
def test_a_file_that_appears_in_a_folder_begins_an_account_of_its_own(
    desk: Desk, exchange: Exchange
) -> None:
    accounts = desk.folder / "accounts"
    accounts.mkdir()
    desk.wants(BTC, name="accounts/a.yaml")
    sidecar = desk.start(*RUN, "-c", "accounts", env=second(exchange.variables))
    sidecar.wait_for_log("adopted")
    prefix = "{prefix: SECOND_}"
    desk.wants({"ETH-USD": "5s/2s/70"}, name="accounts/b.yaml", account="second", credentials=prefix)
    exchange.wait_for_requests(1)
    (arrived,) = exchange.arrivals()
    assert (arrived["uid"], arrived["family"]) == ("999000000002", "ETH-USD")

    desk.wants({"ETH-USD": "5s/2s/70"}, name="accounts/c.yaml")
    assert sidecar.wait_for_log("config invalid")["code"] == "duplicate-account"
    desk.wants({"BTC-USD": "5s/2s/60"}, name="accounts/d.yaml", account="third")
    claimed = sidecar.wait_for_log("failed: reading the account of the key")
    assert (claimed["account"], claimed["code"]) == ("third", "claimed-twice")
    desk.wants({"ETH-USD": "5s/2s/60"}, name="accounts/d.yaml", account="third")
    in_force(exchange, "ETH-USD", "5000/2000/60")
    (accounts / "b.yaml").unlink()
    gone = sidecar.wait_for_log("config invalid", number=2)
    assert (gone["account"], gone["code"]) == ("second", "file-missing")
    assert exchange.live()["BTC-USD"] == "5000/2000/100"


def test_an_account_whose_key_is_missing_ends_no_other(desk: Desk, exchange: Exchange) -> None:
    (desk.folder / "accounts").mkdir()
    desk.wants(BTC, name="accounts/a.yaml")
    sidecar = desk.start(*RUN, "-c", "accounts")
    sidecar.wait_for_log("adopted")
    desk.wants(BTC, name="accounts/b.yaml", account="second", credentials="{prefix: SECOND_}")
    failed = sidecar.wait_for_log("account loop failed: will restart")
    assert (failed["account"], failed["code"]) == ("second", "credentials-missing")
    desk.wants({"BTC-USD": "5s/2s/90"}, name="accounts/a.yaml")
    in_force(exchange, "BTC-USD", "5000/2000/90")


@pytest.mark.slow
def test_a_reverted_file_is_not_sent_although_its_directory_hears_nothing(tmp_path: Path) -> None:
    """As with NFS, a bind mount, or here a second hard link: the file as it is now is what counts."""
    three = ("BTC-USD", "ETH-USD", "SOL-USD_UM")
    calm, loose = (desired_text(dict.fromkeys(three, f"5s/2s/{quantity}")) for quantity in (100, 500))
    with simulator(families=configured(*three)) as exchange:
        desk = Desk(tmp_path / "desk", exchange.variables)
        desk.config.write_text(calm)
        elsewhere = tmp_path / "mmp.yaml"
        elsewhere.hardlink_to(desk.config)
        sidecar = desk.start("run", "--assume-idle", "--interval", "30s")
        sidecar.wait_for_log("adopted")
        elsewhere.write_text(loose)
        exchange.wait_for_requests(2)
        elsewhere.write_text(calm)
        sidecar.wait_for_log("config accepted", number=3)
        eventually(lambda: len(exchange.written()) >= 4, 30.0, "both to be healed")
        assert quantities(exchange) == [500, 500, 100, 100]
        sidecar.kill()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["100,000 mistakes", "environment", "device", "pipe"])
def test_a_hostile_file_stops_no_protection_and_shows_no_key(
    desk: Desk, exchange: Exchange, kind: str
) -> None:
    desk.wants(BTC)
    sidecar = desk.start(*RUN, "--log-format", "json")
    sidecar.wait_for_log("config accepted")
    in_force(exchange, "BTC-USD", "5000/2000/100")
    aside = desk.folder / "aside"
    match kind:
        case "100,000 mistakes":
            aside.write_text("".join(f"k{number}: 0\n" for number in range(100_000))[: 1024 * 1024])
        case "environment":
            aside.symlink_to("/proc/self/environ")
        case "device":
            aside.symlink_to("/dev/zero")
        case _:
            os.mkfifo(aside)
    aside.replace(desk.folder / "mmp.yaml")
    rejected = sidecar.wait_for_log("config invalid")
    assert rejected["level"] == "error"
    exchange.change("BTC-USD", "5000/2000/500")
    in_force(exchange, "BTC-USD", "5000/2000/100")
    sidecar.signal(signal.SIGTERM)
    ended = sidecar.wait()
    assert ended.status == 0
    message = [line for line in ended.log if line["event"].startswith("config invalid")]
    assert 1 <= len(message) <= 101
    assert len(ended.stderr) < 100_000
    assert not any(secret in ended.stderr for secret in secrets_of(desk.environment))
