"""A real PostgreSQL for the tests: a private directory and a private port, removed at the end.

A server is one child process of the test run, on a directory of its own. It listens on a Unix socket
there (no password needed) and on one loopback port (a password needed, so that credentials are tested
too). Its settings are the least safe ones for this program: commits do not wait for the disk, and
transactions read one snapshot unless the program itself asks for better.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.support.requirements import postgres_programs

ROLE = "desk"
"""The plain role the program uses: it owns its database and is nothing more."""

PASSWORD = "not-a-secret-but-never-printed"
"""The role's password on the loopback port."""

START_S = 30.0
STOP_S = 20.0

HOSTILE: Mapping[str, str] = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "'repeatable read'",
    "extra_float_digits": "0",
    "DateStyle": "'German, DMY'",
    "client_min_messages": "error",
}
"""The least safe defaults of a server: a program must not rely on better ones."""

QUICK: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "autovacuum": "off",
    "log_min_messages": "warning",
    "unix_socket_permissions": "0777",
}
"""What makes a temporary server quick; a killed server process loses no data through these."""


DIES_WITH_US = ("setpriv", "--pdeathsig", "QUIT") if shutil.which("setpriv") else ()
"""So that no server outlives a test run that was killed, where the system can do that."""


def needed() -> Path:
    """Return the directory of PostgreSQL's programs; raises where there is none."""
    found = postgres_programs()
    if found is None:
        raise RuntimeError("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    return found


@dataclass(slots=True)
class Server:
    """One PostgreSQL server process and its directory; made by :func:`server` or :meth:`standby`."""

    directory: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    # -- where it is ---------------------------------------------------------------------------

    def url(self, database: str, *, host: str | None = None, user: str = ROLE, **parameters: str) -> str:
        """Return the address of a database: on the socket, or on ``host`` of the loopback port."""
        where = f"/{database}?host={self.directory}&port={self.port}"
        if host is not None:
            where = f"{host}:{self.port}/{database}?"
        return f"postgresql://{user}@{where}" + "".join(f"&{n}={v}" for n, v in parameters.items())

    def ask(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows of one statement, run as the superuser."""
        with psycopg.connect(self.url(database, user="postgres"), autocommit=True) as connection:
            # The statements of tests are their own text.
            found = connection.execute(sql.encode())
            return found.fetchall() if found.description else []

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Give a fresh database owned by the plain role, made like ``template``; dropped afterwards."""
        name = f"desk_{os.getpid()}_{next(self.numbers)}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {ROLE} ENCODING 'UTF8'")
        try:
            yield name
        finally:
            if self.running:
                self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    # -- faults --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the server process and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, str(needed() / "postgres"), "-D", str(self.directory / "data")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                start_new_session=True,  # a Ctrl-C at the tests is theirs, not the server's
                **as_user(self.user),
            )
        _until(self._answers, START_S, lambda: f"PostgreSQL did not start:\n{self.log()}")

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT as a restart does (fast), SIGQUIT as a crash does (immediate)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(STOP_S)
        self.process = None

    def restart(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """End the server and start it on the same directory."""
        self.stop(how=how)
        self.start()

    def kill_connections(self, database: str) -> int:
        """Terminate every connection to ``database`` and wait until they ended; returns their number."""
        [(ended,)] = self.ask(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            f" WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )
        return int(ended)

    def set(self, name: str, value: str) -> None:
        """Set a server parameter that a reload is enough for."""
        self.ask(f"ALTER SYSTEM SET {name} = {value}")
        self.ask("SELECT pg_reload_conf()")
        bare = value.strip("'")
        _until(lambda: self.ask(f"SHOW {name}") == [(bare,)], START_S, lambda: f"{name} stayed as it was")

    @contextlib.contextmanager
    def standby(self) -> Iterator[Server]:
        """Give a streaming standby of this server, on a directory and port of its own."""
        with directory(self.user) as place:
            other = Server(place, free_port(), self.user)
            _run(
                self.user,
                [
                    *(str(needed() / "pg_basebackup"), "--write-recovery-conf", "--checkpoint=fast"),
                    *("--no-sync", "--pgdata", str(place / "data")),
                    *("--dbname", self.url("postgres", user="postgres")),
                ],
            )
            _configure(other)
            other.start()
            try:
                yield other
            finally:
                other.stop(how=signal.SIGQUIT)

    def promote(self) -> None:
        """Make a standby the primary of a new timeline, and wait until it is."""
        self.ask("SELECT pg_promote(true, 30)")
        _until(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)], START_S, self.log)

    def caught_up_with(self, primary: Server) -> bool:
        """Tell whether this standby has replayed all that ``primary`` has written."""
        [(lsn,)] = primary.ask("SELECT pg_current_wal_insert_lsn()")
        return self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == [(True,)]

    def log(self) -> str:
        """Return what the server wrote about itself."""
        return (self.directory / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended at its start:\n{self.log()}")
        try:
            return bool(self.ask("SELECT 1"))
        except psycopg.OperationalError:
            return False


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Make and start a server with the plain role in it; ended and removed afterwards."""
    user = _unprivileged_user()
    with directory(user) as place:
        made = Server(place, free_port(), user)
        _run(
            user,
            [
                *(str(needed() / "initdb"), "--pgdata", str(place / "data"), "--username", "postgres"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale"),
                "--no-sync",
            ],
        )
        _configure(made)
        made.start()
        try:
            made.ask(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            yield made
        finally:
            made.stop(how=signal.SIGQUIT)


@lru_cache(maxsize=1)
def shared() -> Server:
    """Return the one server of this process, which tests that do it no harm share; ended at exit."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server())


def until(holds: Any, seconds: float = START_S) -> None:
    """Wait until ``holds()`` is true; fails after ``seconds``."""
    _until(holds, seconds, lambda: "it did not come to hold in time")


def _configure(made: Server) -> None:
    settings = {
        **QUICK,
        **HOSTILE,
        "port": str(made.port),
        "listen_addresses": "'127.0.0.1'",
        "unix_socket_directories": f"'{made.directory}'",
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    with (made.directory / "data" / "postgresql.conf").open("a") as config:
        config.write(lines)


@contextlib.contextmanager
def directory(user: str | None) -> Iterator[Path]:
    """Give a private directory with a short name: a socket's path may have 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="mmp-pg-"))
    try:
        if user is not None:
            shutil.chown(made, user)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _unprivileged_user() -> str | None:
    """Return the user to run the server as: PostgreSQL refuses root. None: the current user."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def as_user(user: str | None) -> dict[str, Any]:
    """Return what makes ``Popen`` run a program as ``user``; None: as the current user."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


def _run(user: str | None, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **as_user(user))
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def free_port() -> int:
    """Return a port of the loopback address on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(holds: Any, seconds: float, why: Any) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(why())
        time.sleep(0.02)
