"""How long a change takes: from the swap of a ConfigMap to the arrival of its request at the exchange.

A real ``mmp run`` over several accounts and the simulator each are a process of their own. Every account
has free slots. The measured time covers the file event, reading the file, one live read, one reservation
and one connection. The network adds no delay here.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.e2e.processes import Desk, Exchange, configured, desired_text, eventually, simulator

ACCOUNTS = 8
SWAPS = 2
"""For each account: as many as may be sent at once."""

QUIET_S = 2.5
"""Between two swaps of one account: the previous swap has no more effect after this time."""


def swap_to_arrival(folder: Path) -> list[float]:
    """Return the seconds from each swap to the arrival of the request that it causes, shortest first."""
    with simulator("--accounts", str(ACCOUNTS), families=configured("BTC-USD"), latency="0ms") as exchange:
        desk = Desk(folder / "desk", exchange.variables)
        for number in range(1, ACCOUNTS + 1):
            _swap(desk, number, 0)
        paths = [part for number in range(1, ACCOUNTS + 1) for part in ("-c", f"{number}/mmp.yaml")]
        sidecar = desk.start("run", "--assume-idle", "--state", str(desk.state), *paths, env=_keys())
        sidecar.wait_for_log("adopted", number=ACCOUNTS)
        time.sleep(QUIET_S)
        took = [
            _once(desk, exchange, number, version)
            for version in range(1, SWAPS + 1)
            for number in range(1, ACCOUNTS + 1)
        ]
        desk.close()
    return sorted(took)


def _once(desk: Desk, exchange: Exchange, number: int, version: int) -> float:
    before = len(exchange.arrivals())
    swapped_at = _swap(desk, number, version)
    eventually(lambda: len(exchange.arrivals()) > before, 10.0, "the request of a swap")
    time.sleep(QUIET_S / ACCOUNTS)
    arrived_at: float = exchange.arrivals()[-1]["at"]
    return arrived_at - swapped_at


def _swap(desk: Desk, number: int, version: int) -> float:
    """Replace an account's ConfigMap as the kubelet does; returns when (wall)."""
    folder = desk.folder / str(number)
    (folder / f"..{version}").mkdir(parents=True)
    text = desired_text(
        {"BTC-USD": f"5s/2s/{100 + version}"},
        account=f"account-{number}",
        credentials=f"{{prefix: N{number}_}}",
    )
    (folder / f"..{version}" / "mmp.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(f"..{version}")
    swapped_at = time.time()
    (folder / "..data_tmp").replace(folder / "..data")
    if version == 0:
        (folder / "mmp.yaml").symlink_to("..data/mmp.yaml")
    return swapped_at


def _keys() -> dict[str, str | None]:
    parts = {"API_KEY": "key", "SECRET_KEY": "secret", "PASSPHRASE": "passphrase"}
    return {
        f"N{number}_{part}": f"simulator-{name}-{number}"
        for number in range(1, ACCOUNTS + 1)
        for part, name in parts.items()
    }
