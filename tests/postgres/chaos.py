"""Chaos from a seed: replicas killed and stopped, connections cut, the server restarted, files changed.

What is disturbed is real: processes, signals, a server. What is watched is on the outside: the leases as
the database has them, and the arrivals as the simulated exchange recorded them.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import psycopg

from tests.e2e.rig import Ended, Running
from tests.postgres.fleets import FAMILIES, Fleet
from tests.support.postgres import Server

REPLICAS = 3

STOPPED_S = 20.0
"""How long a stopped replica stays so: far beyond what makes others take over."""

LOOK_EVERY_S = 0.25

_KEPT = """
SELECT l.name, r.pid FROM mmp.leases l JOIN mmp.replicas r ON r.id = l.replica
WHERE r.expires_at > clock_timestamp()
"""


@dataclass(slots=True)
class Orphans:
    """How long accounts were without a replica that is well; a server that is away stops the clock."""

    since: dict[str, float] = field(default_factory=dict)
    longest_s: float = 0.0
    told: str = ""
    taken_over: list[float] = field(default_factory=list)

    def look(self, orphans: set[str], now: float) -> None:
        for account in self.since.keys() - orphans:
            self._over(account, now - self.since.pop(account))
        for account in orphans:
            took_s = now - self.since.setdefault(account, now)
            if took_s > self.longest_s:
                self.longest_s, self.told = took_s, f"{account} after {took_s:.1f} s"

    def forget(self) -> None:
        self.since.clear()

    def _over(self, account: str, took_s: float) -> None:
        del account
        self.taken_over.append(took_s)


class Chaos:
    """A fleet, its replicas and pipelines, and what a seed does to them."""

    def __init__(self, fleet: Fleet, server: Server, database: str, seed: int) -> None:
        self.fleet = fleet
        self.server = server
        self.database = database
        self.random = Random(seed)
        self.replicas: list[Running] = []
        self.unwell: dict[int, float] = {}
        """Process ids that are dead, or stopped, and since when."""
        self.orphans = Orphans()
        self.differences = len(fleet.accounts) * len(FAMILIES)
        self.disturbances = 0
        self.log: list[str] = []
        self.pipelines: list[Ended] = []
        self._over = threading.Event()
        self._serving = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._watch, self._pipe)]

    def begin(self) -> None:
        """Start the replicas, and wait until all is as the files say."""
        for _ in range(REPLICAS):
            self.replicas.append(self.fleet.start())
        self.fleet.wait_until_right(120.0)
        self._serving.set()
        for thread in self._threads:
            thread.start()

    def run(self, seconds: float) -> None:
        """Disturb for so long, then let everything come to rest."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wake_up()
            self._change_a_file()
            self._disturb()
            time.sleep(self.random.uniform(0.5, 4.0))
        self._wake_up(everybody=True)

    def end(self) -> None:
        """Stop watching and piping."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    # -- what happens ----------------------------------------------------------------------------

    def _disturb(self) -> None:
        well = [one for one in self.replicas if one.pid not in self.unwell]
        match self.random.randrange(8):
            case 0 if len(well) > 1:
                self._note("kill", self.random.choice(well), self._kill)
            case 1 if len(well) > 1:
                self._note("stop", self.random.choice(well), self._stop)
            case 2 | 3:
                self.disturbances += 1
                self.log.append(f"cut {self.server.kill_connections(self.database)} connections")
            case 4:
                self.disturbances += 1
                self._restart_server()
            case _:
                pass

    def _note(self, what: str, replica: Running, act: object) -> None:
        self.disturbances += 1
        self.log.append(f"{what} {replica.pid}")
        assert callable(act)
        act(replica)

    def _kill(self, replica: Running) -> None:
        self.unwell[replica.pid] = time.monotonic()
        replica.kill()
        self.replicas.remove(replica)
        self.replicas.append(self.fleet.start())

    def _stop(self, replica: Running) -> None:
        self.unwell[replica.pid] = time.monotonic()
        replica.signal(signal.SIGSTOP)

    def _wake_up(self, *, everybody: bool = False) -> None:
        """Let go on who was stopped for long enough."""
        for replica in self.replicas:
            since = self.unwell.get(replica.pid)
            if since is not None and (everybody or time.monotonic() - since >= STOPPED_S):
                replica.signal(signal.SIGCONT)
                del self.unwell[replica.pid]

    def _restart_server(self) -> None:
        how = self.random.choice([signal.SIGINT, signal.SIGQUIT])
        self.log.append(f"restart the server by {how.name}")
        self._serving.clear()
        self.server.stop(how=how)
        time.sleep(self.random.uniform(0.0, 3.0))
        self.server.start()
        self._serving.set()

    def _change_a_file(self) -> None:
        account = self.random.choice(self.fleet.accounts)
        family = self.random.choice(FAMILIES)
        contracts = {**self.fleet.wanted[account], family: self.random.randrange(1, 1000)}
        self.differences += contracts != self.fleet.wanted[account]
        self.fleet.wants(account, contracts)

    # -- what goes on beside it ------------------------------------------------------------------

    def _watch(self) -> None:
        """Look again and again who keeps what, as the database has it."""
        while not self._over.wait(LOOK_EVERY_S):
            kept = self._kept()
            if kept is None:
                self.orphans.forget()
                continue
            well = {account for account, pid in kept.items() if pid not in self.unwell}
            self.orphans.look(set(self.fleet.accounts) - well, time.monotonic())

    def _kept(self) -> dict[str, int] | None:
        if not self._serving.is_set():
            return None
        with suppress(psycopg.OperationalError):
            return {name.rsplit(".", 2)[0]: pid for name, pid in self.server.ask(_KEPT, self.database)}
        return None

    def _pipe(self) -> None:
        """Apply all files, as a pipeline would, one run after the other."""
        while not self._over.wait(1.0):
            self.pipelines.append(
                self.fleet.desk.mmp("apply", "-c", "accounts", "--yes", "--lock-timeout", "5s")
            )
