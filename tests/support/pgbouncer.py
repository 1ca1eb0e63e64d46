"""A real PgBouncer in transaction mode before a server of the tests, in its least favourable set-up.

Each transaction gets another one of its few connections to the server. There are fewer connections than
one process would use. PgBouncer ignores no parameter of a client that it refuses by default.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.support.postgres import (
    DIES_WITH_US,
    PASSWORD,
    ROLE,
    STOP_S,
    Server,
    as_user,
    directory,
    free_port,
    until,
)
from tests.support.requirements import pgbouncer

POOL_SIZE = 2
"""Connections to the server for all processes together; one of them opens up to five."""


@dataclass(slots=True)
class Bouncer:
    """One PgBouncer process and its directory; made by :func:`bouncer`."""

    directory: Path
    port: int
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, *, password: str = PASSWORD, **parameters: str) -> str:
        """Return the address of a database through it."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable{more}"

    def start(self) -> None:
        """Start the process and wait until it listens."""
        program = pgbouncer()
        if program is None:
            raise RuntimeError("PgBouncer is not installed here (Debian: apt-get install pgbouncer)")
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*DIES_WITH_US, program, str(self.directory / "pgbouncer.ini")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                start_new_session=True,
                **as_user(self.user),
            )
        until(self._answers)

    def stop(self) -> None:
        """End it at once; its clients and its connections to the server with it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(STOP_S)
        self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"PgBouncer ended at its start:\n{(self.directory / 'log').read_text()}")
        try:
            # Its own console, which asks no server.
            psycopg.connect(self.url("pgbouncer"), autocommit=True).close()
        except psycopg.OperationalError as refused:
            return "not allowed" in str(refused)
        return True


@contextlib.contextmanager
def bouncer(server: Server) -> Iterator[Bouncer]:
    """Make and start a PgBouncer before ``server``; ended and removed afterwards."""
    with directory(server.user) as made:
        one = Bouncer(made, free_port(), server.user)
        (made / "users").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        (made / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={server.directory} port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {one.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {made}/users
pool_mode = transaction
default_pool_size = {POOL_SIZE}
server_round_robin = 1
max_client_conn = 200
server_login_retry = 0.2
"""
        )
        one.start()
        try:
            yield one
        finally:
            one.stop()
