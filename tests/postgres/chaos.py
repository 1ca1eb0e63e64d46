"""Chaos from a seed: replicas killed and stopped, connections cut, the server restarted, files changed.

The processes, the signals and the server are real. The checks see only the outside: the leases in the
database, and the arrivals that the simulated exchange recorded.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import psycopg

from tests.e2e.processes import Ended, Running
from tests.postgres.many_accounts import FAMILIES, Fleet
from tests.support.postgres import Server

REPLICAS = 3

STOPPED_S = 20.0
"""How long a replica stays stopped: far longer than until others take over."""

LOOK_EVERY_S = 0.25

_KEPT = """
SELECT l.name, r.pid FROM mmp.leases l JOIN mmp.replicas r ON r.id = l.replica
WHERE r.expires_at > clock_timestamp()
"""


TURNS = ("kill", "stop", "cut", "cut", "restart", "", "", "")
"""The disturbances of eight rounds, in an order that the seed shuffles: so each kind does happen."""


@dataclass(slots=True)
class Orphans:
    """How long accounts had no healthy replica, by a clock that stops while the server is down."""

    since: dict[str, float] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    """The replica that ran each account when a healthy replica last did."""
    longest_s: float = 0.0
    message: str = ""
    taken_over: list[float] = field(default_factory=list)
    """How long each takeover of an account from a killed or stopped replica took."""

    def look(self, well: Mapping[str, int], unwell: Collection[int], orphans: set[str], now: float) -> None:
        """Record who runs what at ``now``: process ids of healthy replicas, by account."""
        for account, pid in well.items():
            since = self.since.pop(account, None)
            if since is not None and self.workers.get(account) in unwell:
                self.taken_over.append(now - since)
            self.workers[account] = pid
        for account in orphans:
            took_s = now - self.since.setdefault(account, now)
            if took_s > self.longest_s:
                self.longest_s, self.message = took_s, f"{account} after {took_s:.1f} s"


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
        self.disturbed: Counter[str] = Counter()
        self.log: list[str] = []
        self.pipelines: list[Ended] = []
        self._turns: list[str] = []
        self._away_s = 0.0
        """The total time that the server was down."""
        self._over = threading.Event()
        self._serving = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._watch, self._pipe)]

    @property
    def disturbances(self) -> int:
        """How many there were, of all kinds."""
        return self.disturbed.total()

    def begin(self) -> None:
        """Start the replicas, and wait until everything matches the files."""
        for _ in range(REPLICAS):
            self.replicas.append(self.fleet.start())
        self.fleet.wait_until_right(120.0)
        self._serving.set()
        for thread in self._threads:
            thread.start()

    def run(self, seconds: float) -> None:
        """Disturb for so long, then let everything recover."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wake_up()
            self._change_a_file()
            self._disturb()
            time.sleep(self.random.uniform(0.5, 4.0))
        self._wake_up(every_replica=True)

    def end(self) -> None:
        """Stop watching and piping."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    # -- what happens ----------------------------------------------------------------------------

    def _disturb(self) -> None:
        match self._turn():
            case "kill":
                self._to_one("kill", self._kill)
            case "stop":
                self._to_one("stop", self._stop)
            case "cut":
                self._cut()
            case "restart":
                self._restart_server()
            case _:
                pass

    def _turn(self) -> str:
        if not self._turns:
            self._turns = self.random.sample(TURNS, len(TURNS))
        return self._turns.pop()

    def _to_one(self, what: str, act: Callable[[Running], None]) -> None:
        """Disturb a healthy replica, if another one stays healthy."""
        well = [one for one in self.replicas if one.pid not in self.unwell]
        if len(well) > 1:
            replica = self.random.choice(well)
            assert replica.process.poll() is None, f"{replica.pid} ended by itself: {self.log}"
            self._note(what, f"{what} {replica.pid}")
            act(replica)

    def _note(self, what: str, message: str) -> None:
        self.disturbed[what] += 1
        self.log.append(message)

    def _cut(self) -> None:
        ended = self.server.kill_connections(self.database)
        if ended:
            self._note("cut", f"cut {ended} connections")

    def _kill(self, replica: Running) -> None:
        self.unwell[replica.pid] = time.monotonic()
        replica.kill()
        self.replicas.remove(replica)
        self.replicas.append(self.fleet.start())

    def _stop(self, replica: Running) -> None:
        self.unwell[replica.pid] = time.monotonic()
        replica.signal(signal.SIGSTOP)

    def _wake_up(self, *, every_replica: bool = False) -> None:
        """Continue the replicas that were stopped for long enough."""
        for replica in self.replicas:
            since = self.unwell.get(replica.pid)
            if since is not None and (every_replica or time.monotonic() - since >= STOPPED_S):
                replica.signal(signal.SIGCONT)
                del self.unwell[replica.pid]

    def _restart_server(self) -> None:
        how = self.random.choice([signal.SIGINT, signal.SIGQUIT])
        self._note("restart", f"restart the server by {how.name}")
        self._serving.clear()
        began = time.monotonic()
        self.server.stop(how=how)
        time.sleep(self.random.uniform(0.0, 3.0))
        self.server.start()
        self._away_s += time.monotonic() - began
        self._serving.set()

    def _change_a_file(self) -> None:
        account = self.random.choice(self.fleet.accounts)
        family = self.random.choice(FAMILIES)
        contracts = {**self.fleet.wanted[account], family: self.random.randrange(1, 1000)}
        self.differences += contracts != self.fleet.wanted[account]
        self.fleet.wants(account, contracts)

    # -- concurrent activity ---------------------------------------------------------------------

    def _watch(self) -> None:
        """Record repeatedly which replica runs each account, by the database."""
        while not self._over.wait(LOOK_EVERY_S):
            # Read before the query: a server that answers was not down since then.
            now = time.monotonic() - self._away_s
            kept = self._owners()
            if kept is None:
                continue
            unwell = set(self.unwell)
            well = {account: pid for account, pid in kept.items() if pid not in unwell}
            self.orphans.look(well, unwell, set(self.fleet.accounts) - well.keys(), now)

    def _owners(self) -> dict[str, int] | None:
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
