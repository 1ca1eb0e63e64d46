"""The installed command with its state in PostgreSQL, as processes, against the simulator as a process."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from reconciler.clock import SystemClock
from reconciler.store.engine import StateOptions
from reconciler.store.postgres.state import open_state
from tests.e2e.processes import Desk, Exchange, eventually, gaps, simulator
from tests.e2e.web_client import ends_well, started
from tests.support.postgres import PASSWORD, ROLE, Server

pytestmark = pytest.mark.e2e

APPLY = ("apply", "--yes", "--assume-idle")
TWO = {"BTC-USD": "5s/2s/100", "ETH-USD": "1s/until-reset/500"}


@contextmanager
def desk(postgres: Server, exchange: Exchange, folder: Path) -> Iterator[Desk]:
    """Give a folder on some host, whose state is in a new database of ``postgres``."""
    with postgres.database() as name:
        url = f"postgresql://{ROLE}@127.0.0.1:{postgres.port}/{name}?sslmode=disable"
        made = Desk(folder, {**exchange.variables, "MMP_STATE": url, "PGPASSWORD": PASSWORD})
        try:
            yield made
        finally:
            made.close()


@pytest.mark.slow
def test_applies_on_two_hosts_send_every_family_once_and_keep_the_pace(
    postgres: Server, tmp_path: Path
) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants({**TWO, "SOL-USD_UM": "5s/2s/10"})
        assert here.mmp("status").status == 0
        assert here.mmp("plan").status == 0
        both = [here.start(*APPLY, "--output", "json") for _ in range(2)]
        ended = [one.wait() for one in both]
        assert [one.status for one in ended] == [0, 0]
        assert sorted(exchange.written()) == ["BTC-USD", "ETH-USD", "SOL-USD_UM"]
        assert min(gaps(exchange.arrivals())) > 10.0
        assert exchange.violations() == []
        assert here.mmp("plan", "--detailed-exitcode").status == 0
        assert here.mmp("history", "--output", "json").document["attempts"][0]["outcome"] == "applied"
        assert here.mmp("doctor").status == 0
        message = "".join(one.stdout + one.stderr for one in ended)
        assert PASSWORD not in message


@pytest.mark.slow
def test_run_waits_for_a_server_that_is_away_and_goes_on(postgres: Server, tmp_path: Path) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants({"BTC-USD": "5s/2s/100"})
        sidecar = here.start("run", "--assume-idle", "--interval", "2s")
        sidecar.wait_for_log("request applied")
        postgres.stop()
        assert sidecar.wait_for_log("state cannot be used")["code"] == "state-unavailable"
        here.wants({"BTC-USD": "5s/2s/90"})
        postgres.start()
        sidecar.wait_for_log("request applied", number=2)
        assert exchange.live()["BTC-USD"] == "5000/2000/90"
        sidecar.signal(signal.SIGTERM)
        assert sidecar.wait().status == 0
        assert exchange.written() == ["BTC-USD", "BTC-USD"]


def test_apply_with_no_server_there_sends_nothing_and_says_so(postgres: Server, tmp_path: Path) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants(TWO)
        postgres.stop()
        ended = here.mmp(*APPLY)
        assert (ended.status, ended.error_code) == (1, "state-unavailable")
        assert exchange.written() == []
        postgres.start()


@pytest.mark.slow
def test_run_begins_while_the_server_is_away_and_goes_on_once_it_is_there(
    postgres: Server, tmp_path: Path
) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants({"BTC-USD": "5s/2s/100"})
        postgres.stop()
        sidecar = started(here)
        assert sidecar.process.wait_for_log("state cannot be used")["code"] == "state-unavailable"
        assert sidecar.ask("/livez")[0] == 200
        assert sidecar.ask("/startupz")[0] == 503
        ready, why = sidecar.ask("/readyz")
        assert ready == 503
        assert "cannot be used now" in why
        assert "The state cannot be used now" in sidecar.ask("/")[1]
        assert sidecar.metric("mmp_state_failures_total") >= 1
        here.wants({"BTC-USD": "5s/2s/90"})
        postgres.start()
        sidecar.process.wait_for_log("request applied")
        sidecar.wait_for("/readyz", 5.0)
        sidecar.wait_for("/startupz", 5.0)
        assert (exchange.written(), exchange.live()["BTC-USD"]) == (["BTC-USD"], "5000/2000/90")
        ends_well(sidecar)


@pytest.mark.slow
def test_run_that_waits_for_its_server_ends_when_asked_to(postgres: Server, tmp_path: Path) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants(TWO)
        postgres.stop()
        sidecar = started(here)
        sidecar.process.wait_for_log("state cannot be used", number=2)
        ends_well(sidecar)
        postgres.start()


@pytest.mark.parametrize(
    ("password", "database", "sslmode", "said"),
    [
        ("hunter2", None, "disable", "password authentication failed"),
        (PASSWORD, "no-such", "disable", 'database "no-such" does not exist'),
        (PASSWORD, None, "require", "server does not support SSL, but SSL was required"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "apply"])
def test_a_server_that_says_no_is_not_waited_for(
    postgres: Server,
    tmp_path: Path,
    verb: str,
    password: str,
    database: str | None,
    sslmode: str,
    said: str,
) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants(TWO)
        where = here.environment["MMP_STATE"].rsplit("/", 1)
        name = database or where[1].partition("?")[0]
        state = f"{where[0]}/{name}?sslmode={sslmode}"
        flags = ("--yes",) if verb == "apply" else ()
        ended = here.mmp(verb, *flags, "--state", state, env={"PGPASSWORD": password})
        assert (ended.status, ended.error_code) == (1, "state-refused")
        assert said in ended.stderr
        assert password not in ended.stdout + ended.stderr
        assert exchange.written() == []


def test_the_doctor_tells_of_a_role_that_may_only_read_and_leaves_no_trace(
    postgres: Server, tmp_path: Path
) -> None:
    with simulator() as exchange, desk(postgres, exchange, tmp_path / "desk") as here:
        here.wants(TWO)
        assert here.mmp(*APPLY).status == 0
        database = here.environment["MMP_STATE"].rsplit("/", 1)[1].partition("?")[0]
        postgres.ask(
            f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA mmp TO reader;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA mmp TO reader",
            database,
        )
        reader = {"MMP_STATE": here.environment["MMP_STATE"].replace(ROLE, "reader", 1)}
        ended = here.mmp("doctor", env=reader)
        assert ended.status == 1
        (line,) = [line for line in ended.stdout.splitlines() if "✗" in line]
        assert "permission denied for table version" in line
        assert "is undamaged and can be written" in here.mmp("doctor").stdout
        assert "can be written" not in here.mmp("doctor", "--for", "plan", env=reader).stdout
        assert here.mmp("doctor", "--for", "plan", env=reader).status == 0
        postgres.ask("DROP OWNED BY reader", database)


def make_schema(url: str) -> None:
    async def make() -> None:
        await (await open_state(url, StateOptions(SystemClock(), "", lock_timeout_s=0.0))).close()

    asyncio.run(make())


def moved_to(file: Path) -> str:
    """Return where a state file was moved to, "" while it is in use; at once: the copy gives up soon."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    [(place,)] = db.execute("SELECT moved_to FROM state").fetchall()
    db.close()
    return str(place)


def moving(postgres: Server, exchange: Exchange, folder: Path, name: str) -> tuple[Desk, str]:
    """Return a desk whose state is a file, and the address of the database that it is moved to."""
    url = f"postgresql://{ROLE}@127.0.0.1:{postgres.port}/{name}?sslmode=disable"
    return Desk(folder, {**exchange.variables, "PGPASSWORD": PASSWORD}), url


@pytest.mark.slow
def test_a_run_beside_the_copy_of_its_state_sends_nothing_any_more(
    postgres: Server, tmp_path: Path
) -> None:
    with simulator() as exchange, postgres.database() as name:
        here, url = moving(postgres, exchange, tmp_path / "desk", name)
        here.wants(TWO)
        old = started(here)
        old.process.wait_for_log("request applied", number=2)
        old.wait_for("/readyz", 5.0)
        copied = here.mmp("state", "copy", ".mmp/state.db", url)
        assert copied.status == 0, copied.stderr
        assert "nothing is written to .mmp/state.db any more" in copied.stderr
        new = here.start("run", "--state", url, "--interval", "2s")
        here.wants({"BTC-USD": "5s/2s/90", "ETH-USD": "1s/until-reset/400"})
        new.wait_for_log("request applied", number=2)
        said = old.process.wait_for_log("state cannot be used")
        assert (said["code"], PASSWORD in str(said)) == ("state-moved", False)
        assert "was moved to postgresql://" in said["reason"]
        assert (old.ask("/readyz")[0], old.ask("/livez")[0]) == (503, 200)
        assert len(exchange.arrivals()) == 4
        assert min(gaps(exchange.arrivals())) > 10.0
        assert exchange.violations() == []
        status, paused = here.mmp("status"), here.mmp("pause", "--family", "BTC-USD", "--reason", "x")
        assert (status.status, paused.status, paused.error_code) == (0, 1, "state-moved")
        assert "warning: the state" in status.stderr
        doctor = here.mmp("doctor")
        assert (doctor.status, f"was moved to postgresql://{ROLE}@127.0.0.1" in doctor.stdout) == (1, True)
        assert f"use --state postgresql://{ROLE}@127.0.0.1:{postgres.port}/{name}" in status.stderr
        new.signal(signal.SIGTERM)
        assert new.wait().status == 0
        ends_well(old)
        here.close()


@pytest.mark.parametrize("undo", [False, True])
def test_a_copy_that_is_killed_is_completed_or_taken_back_and_there_is_one_ledger(
    postgres: Server, tmp_path: Path, undo: bool
) -> None:
    with simulator() as exchange, postgres.database() as name:
        here, url = moving(postgres, exchange, tmp_path / "desk", name)
        here.wants({"BTC-USD": "5s/2s/100"})
        assert here.mmp(*APPLY).status == 0
        make_schema(postgres.url(name))
        with psycopg.connect(postgres.url(name)) as other:
            other.execute("LOCK TABLE mmp.attempts IN EXCLUSIVE MODE")
            copying = here.start("state", "copy", ".mmp/state.db", url)
            eventually(lambda: moved_to(here.folder / ".mmp" / "state.db"), 30.0, "the mark")
            copying.kill()
        assert "is under way or was interrupted" in here.mmp("status").stderr
        here.wants({"BTC-USD": "5s/2s/90"})
        held = here.mmp(*APPLY)
        assert (held.status, held.error_code) == (1, "state-moving")
        flags = ("--undo",) if undo else ()
        again = here.mmp("state", "copy", ".mmp/state.db", url, *flags)
        assert again.status == 0, again.stderr
        assert here.mmp(*APPLY).status == (0 if undo else 1)
        assert here.mmp(*APPLY, *(() if undo else ("--state", url))).status == 0
        assert exchange.live()["BTC-USD"] == "5000/2000/90"
        assert exchange.violations() == []
        assert here.mmp("state", "copy", ".mmp/state.db", url, *flags).status == (0 if undo else 1)
        here.close()
