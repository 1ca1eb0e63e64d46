"""What ``mmp run --listen`` shows, compared with the exchange: it never claims more than is in force."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.processes import LIVE, Desk, Exchange, configured, eventually, simulator
from tests.e2e.web_client import Sidecar, ends_well, started
from tests.support.hostile_clients import attacked

pytestmark = pytest.mark.e2e

TEN = tuple(f"F{number}-USD" for number in range(10))
EVERY_S = 0.2
AT_ONCE_S = 5.0
"""What starting takes on a machine that is busy with all the other tests."""

KNOWN_WITHIN_S = 3.0
"""How long after a change at the exchange the sidecar may still not report it."""


# ---- the start, moment by moment -------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[Exchange]:
    """An exchange where none of the ten families is configured."""
    with simulator(families=",".join(TEN)) as running:
        yield running


@pytest.fixture
def desk_of_ten(fresh: Exchange, tmp_path: Path) -> Iterator[Desk]:
    here = Desk(tmp_path / "ten", fresh.variables)
    yield here
    here.close()


@pytest.mark.slow
def test_from_nothing_to_ten_families_everything_agrees_with_the_exchange_at_every_moment(
    fresh: Exchange, desk_of_ten: Desk
) -> None:
    desk_of_ten.wants(dict.fromkeys(TEN, "5s/2s/100"))
    sidecar = started(desk_of_ten, "--interval", "5s")
    for path in ("/livez", "/readyz"):
        sidecar.wait_for(path, AT_ONCE_S)
    seen_live_at: dict[str, float] = {}
    startups: list[int] = []
    give_up_at = time.monotonic() + 90.0
    while not startups or startups[-1] != 200:
        assert time.monotonic() < give_up_at
        startups.append(sidecar.ask("/startupz")[0])
        hold_to_the_exchange(sidecar, fresh, seen_live_at, startups[-1])
        time.sleep(EVERY_S)
    assert len(startups) > 50, "it took four windows"
    assert set(startups[:-1]) == {503}
    assert len(fresh.written()) == 10
    document = sidecar.status()
    assert (document["in_sync"], document["watch"]["protection"]) == (True, "protected")
    assert sidecar.metric("mmp_requests_total", outcome="applied", code="0") == 10
    assert sidecar.metric("mmp_startup_complete") == 1
    assert sidecar.metric("mmp_slot_wait_seconds_total") == pytest.approx(40.0, abs=4.0)
    fresh.change(TEN[0], "5000/2000/999")
    eventually(lambda: sidecar.metric("mmp_drift_found_total") == 1, 25.0, "the drift to be found")
    assert sidecar.ask("/startupz")[0] == 200
    ends_well(sidecar)


def hold_to_the_exchange(
    sidecar: Sidecar, exchange: Exchange, seen_live_at: dict[str, float], startup: int
) -> None:
    """Take one sample: what is claimed is at the exchange right after, what is there is soon reported."""
    long_live = {name for name, at in seen_live_at.items() if time.monotonic() - at > KNOWN_WITHIN_S}
    document = sidecar.status()
    # Before the first comparison no state of a family is published: there is no such sample.
    counted = sum(sidecar.samples("mmp_families", state="in-sync"))
    complete = sidecar.metric("mmp_startup_complete")
    assert (sidecar.ask("/livez")[0], sidecar.ask("/readyz")[0]) == (200, 200)
    live = exchange.live()
    claimed = {
        one["family"]
        for one in document["families"]
        if one["state"] == "in-sync" or one["applied"] or one["live"]
    }
    assert claimed <= set(live), "never more than the exchange has"
    assert long_live <= claimed, "and soon all of it"
    assert len(claimed) <= counted <= len(live)
    everything = set(live) == set(TEN)
    assert everything or (startup, complete, document["in_sync"]) == (503, 0, False)
    assert everything or document["watch"]["protection"] in ("exposed", "unknown")
    for family in live:
        seen_live_at.setdefault(family, time.monotonic())


# ---- many clients at once --------------------------------------------------------------------------


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange where two families are configured."""
    with simulator(families=configured("BTC-USD", "ETH-USD")) as running:
        yield running


@contextmanager
def dripping(url: str, number: int) -> Iterator[None]:
    """Keep ``number`` connections open, each with a request that never ends; new ones for those ended."""
    parts, over = urlsplit(url), threading.Event()
    address = (parts.hostname, parts.port)

    def drip() -> None:
        with ExitStack() as stack:
            opened = [stack.enter_context(connected(address)) for _ in range(number)]
            while not over.wait(0.5):
                opened = [
                    one if dripped(one) else stack.enter_context(connected(address)) for one in opened
                ]

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def connected(address: Any) -> socket.socket:
    connection = socket.create_connection(address, timeout=10)
    with suppress(OSError):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
    return connection


def dripped(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"X: 1\r\n")
    except OSError:
        connection.close()
        return False
    return True


def in_force(exchange: Exchange, setting: str) -> None:
    eventually(lambda: exchange.live()["BTC-USD"] == setting, 25.0, f"BTC-USD to be {setting}")


@pytest.mark.slow
def test_three_hundred_slow_connections_keep_neither_a_probe_nor_a_request_waiting(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    sidecar = started(desk, "--interval", "1s")
    sidecar.wait_for("/startupz", 15.0)
    with dripping(sidecar.url, 300):
        time.sleep(1.0)
        for quantity in ("90", "80"):
            desk.wants({"BTC-USD": f"5s/2s/{quantity}", "ETH-USD": "5s/2s/100"})
            in_force(exchange, f"5000/2000/{quantity}")
            assert sidecar.ask("/livez")[0] == 200
    assert exchange.written() == ["BTC-USD", "BTC-USD"]
    ends_well(sidecar)


def peak_kb(pid: int) -> int:
    """Return the most resident memory of a process since ``forget_peak``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chunks", "bytes-after", "upgrade", "requests", "pages"])
def test_hostile_clients_take_no_memory_and_keep_neither_a_probe_nor_a_request_waiting(
    desk: Desk, exchange: Exchange, kind: str
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100", "ETH-USD": "5s/2s/100"})
    sidecar = started(desk, "--interval", "1s")
    sidecar.wait_for("/startupz", 15.0)
    sidecar.ask("/")
    forget_peak(sidecar.process.pid)
    idle_kb = peak_kb(sidecar.process.pid)
    with attacked(kind, urlsplit(sidecar.url).port or 0):
        time.sleep(1.0)
        desk.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "5s/2s/100"})
        in_force(exchange, "5000/2000/90")
        took = [seconds_to_answer(sidecar) for _ in range(6)]
    assert sorted(took)[3] < 1.0
    assert peak_kb(sidecar.process.pid) < 2 * idle_kb
    ends_well(sidecar)


def seconds_to_answer(sidecar: Sidecar) -> float:
    began = time.monotonic()
    assert sidecar.ask("/livez")[0] == 200
    return time.monotonic() - began


# ---- the address -----------------------------------------------------------------------------------


def test_a_port_in_use_ends_it_before_anything_begins(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": LIVE})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = desk.mmp("run", "--listen", place)
    assert (ended.status, ended.error_code) == (1, "listen-failed")
    assert place in ended.stderr
    assert exchange.arrivals("account") == []
    assert not desk.state.exists()


@pytest.mark.parametrize("flags", [("--listen", "nonsense"), ("--listen-name", "a"), ("--listen", "[::1]")])
def test_an_address_that_is_none_is_a_usage_error(desk: Desk, flags: tuple[str, ...]) -> None:
    desk.wants({"BTC-USD": LIVE})
    ended = desk.mmp("run", *flags)
    assert (ended.status, ended.error_code) == (64, "listen-address")


def test_the_variable_is_the_flag_s_twin_and_the_status_is_a_basis_for_a_plan(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": LIVE.replace("5000", "5s").replace("2000", "2s")})
    process = desk.start("run", "--assume-idle", env={"MMP_LISTEN": ":0"})
    sidecar = Sidecar(process, process.wait_for_log("listening")["url"])
    sidecar.wait_for("/startupz", 15.0)
    desk.wants({"BTC-USD": "5s/2s/90"}, name="new.yaml")
    plan = desk.mmp(
        "plan", "-c", "new.yaml", "--against", f"{sidecar.url}/api/v1/status", "--output", "json"
    )
    (change,) = plan.document["changes"]
    assert (change["family"], change["direction"]) == ("BTC-USD", "tighten")
    ends_well(sidecar)


@pytest.mark.slow
def test_an_outage_is_reported_and_leaves_the_process_live_and_ready(
    desk: Desk, exchange: Exchange
) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    sidecar = started(desk, "--interval", "1s")
    sidecar.wait_for("/startupz", 15.0)
    exchange.control("outage", seconds=3)
    eventually(lambda: sidecar.metric("mmp_exchange_failing") == 1, 10.0, "the outage to be told")
    assert [sidecar.ask(path)[0] for path in ("/livez", "/readyz", "/startupz")] == [200, 200, 200]
    assert sidecar.status()["watch"]["outage"]["doing"] == "reading live settings"
    eventually(lambda: sidecar.metric("mmp_exchange_failing") == 0, 15.0, "the end of the outage")
    ends_well(sidecar)


@pytest.mark.slow
def test_a_pause_is_shown_with_its_reason_and_goes_when_it_is_over(desk: Desk, exchange: Exchange) -> None:
    desk.wants({"BTC-USD": "5s/2s/100"})
    sidecar = started(desk, "--interval", "1s")
    sidecar.wait_for("/startupz", 15.0)
    assert desk.mmp("pause", "--family", "BTC-USD", "--for", "1h", "--reason", "by hand").status == 0
    eventually(
        lambda: sidecar.metric("mmp_paused_families", by="manual") == 1, 10.0, "the pause to be exported"
    )
    assert [one["reason"] for one in sidecar.status()["pauses"]] == ["by hand"]
    assert desk.mmp("resume", "--family", "BTC-USD").status == 0
    eventually(
        lambda: sidecar.metric("mmp_paused_families", by="manual") == 0, 10.0, "its end to be exported"
    )
    ends_well(sidecar)
