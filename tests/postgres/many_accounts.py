"""A desk with many accounts on one state in PostgreSQL, and the replicas that share them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.processes import Desk, Exchange, Running, eventually, simulator
from tests.e2e.web_client import Sidecar
from tests.support.postgres import PASSWORD, ROLE, Server

BTC, ETH = "BTC-USD", "ETH-USD"
FAMILIES = (BTC, ETH)


def uid(account: str) -> str:
    """Return the User ID of an account of the fleet at the simulator."""
    return f"999000000{int(account.removeprefix('desk-')):03d}"


@dataclass(slots=True)
class Fleet:
    """``number`` accounts, with a file and a key each; every process of the desk gets all of them."""

    desk: Desk
    exchange: Exchange
    number: int
    database: str
    wanted: dict[str, dict[str, int]] = field(default_factory=dict)
    """By account, the contracts of each family."""

    @property
    def accounts(self) -> list[str]:
        return [f"desk-{number:03d}" for number in range(1, self.number + 1)]

    def wants(self, account: str, contracts: Mapping[str, int]) -> None:
        """Write the file of an account."""
        self.wanted[account] = dict(contracts)
        families = {family: f"5s/2s/{quantity}" for family, quantity in contracts.items()}
        number = int(account.removeprefix("desk-"))
        credentials = f"{{prefix: A{number}_}}"
        self.desk.wants(families, name=f"accounts/{account}.yaml", account=account, credentials=credentials)

    def start(self, *flags: str, assume_idle: bool = True) -> Running:
        """Start one more replica.

        ``assume_idle``: nothing was sent in the last minute, or everything that was is on record.
        """
        idle = ("--assume-idle",) if assume_idle else ()
        return self.desk.start("run", "-c", "accounts", *idle, "--interval", "5s", *flags)

    def listening(self, *flags: str, assume_idle: bool = True) -> Sidecar:
        """Start one more replica that can be looked at."""
        process = self.start("--listen", "127.0.0.1:0", *flags, assume_idle=assume_idle)
        return Sidecar(process, process.wait_for_log("listening")["url"])

    def different(self) -> list[str]:
        """Return the accounts whose settings in force are not those of their files."""
        live = self.exchange.live_of_all()
        return [
            account
            for account, contracts in sorted(self.wanted.items())
            if {family: f"5000/2000/{number}" for family, number in contracts.items()}
            != live.get(uid(account), {})
        ]

    def wait_until_right(self, within_s: float) -> float:
        """Wait until every account matches its file; returns how long it took."""
        began = time.monotonic()
        eventually(lambda: not self.different(), within_s, "every account to be as its file says")
        return time.monotonic() - began

    def owners(self) -> dict[str, int | None]:
        """Return the process id of the replica that runs each account, by ``mmp status``."""
        message = self.desk.mmp("status", "-c", "accounts", "--output", "json").document
        found = message.get("statuses", [message])
        return {one["account"]: one["owner"] and one["owner"]["pid"] for one in found}

    def arrivals(self) -> dict[str, list[float]]:
        """Return when Set MMP requests arrived at the exchange, by User ID."""
        found: dict[str, list[float]] = {}
        for one in self.exchange.arrivals():
            found.setdefault(one["uid"], []).append(one["at"])
        return found

    def most_in_ten_seconds(self) -> int:
        """Return the most requests of one User ID that arrived within any 10 s."""
        return max(
            (
                sum(at <= other < at + 10.0 for other in times)
                for times in self.arrivals().values()
                for at in times
            ),
            default=0,
        )

    def check_pace(self) -> None:
        """Check that no three requests of one User ID arrived within 10 s; if they did, show everything."""
        assert self.most_in_ten_seconds() <= 2, self.scenario()

    def scenario(self) -> str:
        """Return what arrived at the exchange and what every process logged, to explain a failure."""
        arrivals = [f"{_time_of_day(one['at'])} {json.dumps(one)}" for one in self.exchange.arrivals()]
        logs = [
            f"-- {one.process.args!r} (pid {one.pid})\n{one.err.read_text('utf-8')}"
            for one in self.desk.started
        ]
        return "\n".join(("three requests within 10 s", "-- arrivals", *arrivals, *logs))


def _time_of_day(at: float) -> str:
    """Return an instant as the logs write it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


@contextmanager
def fleet(
    postgres: Server,
    folder: Path,
    number: int,
    *,
    contracts: int = 100,
    families: tuple[str, ...] = FAMILIES,
    port: int | None = None,
) -> Iterator[Fleet]:
    """Give a fleet of ``number`` accounts whose files want 100 contracts of each of ``families``.

    ``port`` belongs to the proxy before the server; None: there is none.
    """
    keys = {
        f"A{each}_{name}": f"simulator-{word}-{each}"
        for each in range(1, number + 1)
        for name, word in (("API_KEY", "key"), ("SECRET_KEY", "secret"), ("PASSPHRASE", "passphrase"))
    }
    with (
        simulator("--accounts", str(number), families=",".join(families)) as exchange,
        postgres.database() as name,
    ):
        url = f"postgresql://{ROLE}@127.0.0.1:{port or postgres.port}/{name}?sslmode=disable"
        variables = {**keys, "MMP_STATE": url, "PGPASSWORD": PASSWORD, "MMP_BASE_URL": exchange.url}
        desk = Desk(folder, variables)
        (desk.folder / "accounts").mkdir()
        made = Fleet(desk, exchange, number, name)
        for account in made.accounts:
            made.wants(account, dict.fromkeys(families, 100))
        try:
            yield made
        finally:
            desk.close()


def owned(sidecar: Sidecar) -> list[str]:
    """Return the accounts that a replica reports as its own."""
    status, body = sidecar.ask("/api/v1/status")
    document: Any = json.loads(body)
    return sorted(one["account"] for one in document["statuses"]) if status == 200 else []
