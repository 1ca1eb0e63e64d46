"""The cost of a shared PostgreSQL state: a takeover, hundreds of accounts in one process, round trips.

Real processes use a real server. The lease times are promises in seconds. The time for hundreds of
accounts is compared with the minimum that the rate limit alone takes. Round trips are counted where the
adapter makes them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from reconciler.clock import SystemClock
from reconciler.controller.account_preflight import identify
from reconciler.controller.pass_values import PassOptions
from reconciler.controller.reconcile import reconcile
from reconciler.core.events import Event
from reconciler.core.model import Environment, Family, Quantity, Setting
from reconciler.okx.client import OkxTradingClient
from reconciler.okx.credentials import load_credentials
from reconciler.okx.wire import parse_base_url
from reconciler.store.engine import StateOptions
from reconciler.store.postgres.connections import PostgresTransaction
from reconciler.store.postgres.state import open_state
from tests.e2e.processes import Running, eventually, simulator
from tests.postgres.many_accounts import Fleet, fleet
from tests.support.postgres import Server, server
from tests.unit.builders import desired

MANY = 300
FAMILIES = tuple(f"F{number}-USD" for number in range(4))
_OWNED = """
SELECT count(*) FROM mmp.leases l JOIN mmp.replicas r ON r.id = l.replica
WHERE r.expires_at > clock_timestamp() AND r.pid = {pid}
"""


@dataclass(frozen=True, slots=True)
class Many:
    """One process over many accounts: requests, seconds from the first to the last, its cost in all."""

    requests: int
    seconds: float
    most_in_ten_seconds: int
    core: float
    cpu_s: float
    resident_kb: int


def takeovers(folder: Path, *, rounds: int) -> list[float]:
    """Return how long the accounts of a killed replica were without an owner, round by round."""
    took = []
    for number in range(rounds):
        with server() as postgres, fleet(postgres, folder / str(number), 6, families=FAMILIES[:1]) as desks:
            first, second = desks.start(), desks.start()
            for replica in (first, second):
                _wait_until_owned(postgres, desks, replica, 3)
            first.kill()
            began = time.monotonic()
            _wait_until_owned(postgres, desks, second, 6)
            took.append(time.monotonic() - began)
    return sorted(took)


def many_accounts(folder: Path) -> Many:
    """Let one process apply the files of many accounts with every family."""
    with server() as postgres, fleet(postgres, folder / "many", MANY, families=FAMILIES) as desks:
        replica = desks.start("--interval", "30s")
        began = time.monotonic()
        while desks.different():
            time.sleep(2.0)  # avoid load on the simulated exchange
        cpu_s, took = _cpu_s(replica.pid), time.monotonic() - began
        arrivals = sorted(at for times in desks.arrivals().values() for at in times)
        return Many(
            requests=len(arrivals),
            seconds=arrivals[-1] - arrivals[0],
            most_in_ten_seconds=desks.most_in_ten_seconds(),
            core=cpu_s / took,
            cpu_s=cpu_s,
            resident_kb=_resident_kb(replica.pid),
        )


def round_trips() -> float:
    """Return how many round trips to the database a pass makes for each of its two requests."""
    with server() as postgres, postgres.database() as name, simulator(families="F0-USD,F1-USD") as exchange:
        return asyncio.run(_counted(postgres.url(name), exchange.url, exchange.variables)) / 2


async def _counted(url: str, exchange_url: str, variables: dict[str, str]) -> int:
    clock = SystemClock()
    setting = Setting(5000, 2000, Quantity("100"))
    wanted = desired({Family("F0-USD"): setting, Family("F1-USD"): setting})
    base = parse_base_url(exchange_url, frozenset())
    client = OkxTradingClient(base, Environment.LIVE, load_credentials("OKX_", variables), clock)
    state = await open_state(url, StateOptions(clock, "bench", lock_timeout_s=1.0))
    store = state.account("main", Environment.LIVE, base.kind)

    def ignore(event: Event) -> None:
        del event

    await identify(wanted, store=store, exchange=client, host=base.host, observe=ignore)
    with _counting() as counted:
        options = PassOptions(purpose="bench", assume_idle=True)
        await reconcile(
            lambda: wanted, store=store, exchange=client, clock=clock, observe=ignore, options=options
        )
    await state.close()
    return len(counted)


@contextmanager
def _counting() -> Iterator[list[str]]:
    """Count every message for which the adapter waits for an answer, by its last statement."""
    counted: list[str] = []
    real = PostgresTransaction._flush

    async def counting(self: PostgresTransaction, words: list[str]) -> Any:
        counted.append(words[-1] if words else "")
        return await real(self, words)

    with patch.object(PostgresTransaction, "_flush", counting):
        yield counted


def _wait_until_owned(postgres: Server, desks: Fleet, replica: Running, number: int) -> None:
    def owned() -> bool:
        with suppress(psycopg.errors.UndefinedTable):  # the first one is still making them
            return postgres.ask(_OWNED.format(pid=replica.pid), desks.database) == [(number,)]
        return False

    eventually(owned, 60.0, f"a replica to own {number} accounts")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
