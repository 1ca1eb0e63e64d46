"""Rights lost and tables missing under a real ``run``: it logs that, waits, and continues later."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import eventually
from tests.e2e.web_client import Sidecar
from tests.postgres.many_accounts import BTC, Fleet, owned
from tests.support.postgres import ROLE, Server, needed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BACK_S = 20.0
"""A loop in back-off tries again as soon as the replica can renew its heartbeat."""

COUNTED_S = 60.0
"""A possibly missing record counts for 45 s."""

DENIED, MISSING = "state-unwritable", "state-tables-missing"

FAILURES: dict[str, tuple[str, str, str]] = {
    "rights to the tables revoked": (
        f"REVOKE ALL ON ALL TABLES IN SCHEMA mmp FROM {ROLE}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA mmp TO {ROLE}",
        DENIED,
    ),
    "the schema hidden from the role": (
        f"REVOKE ALL ON SCHEMA mmp FROM {ROLE}",
        f"GRANT ALL ON SCHEMA mmp TO {ROLE}",
        MISSING,
    ),
    "the schema renamed": (
        "ALTER SCHEMA mmp RENAME TO mmp_away",
        "ALTER SCHEMA mmp_away RENAME TO mmp",
        MISSING,
    ),
    "a column renamed": (
        "ALTER TABLE mmp.budgets RENAME COLUMN history TO away",
        "ALTER TABLE mmp.budgets RENAME COLUMN away TO history",
        MISSING,
    ),
}


def codes(sidecar: Sidecar) -> set[str]:
    return {line["code"] for line in sidecar.process.log() if "code" in line}


def waited_out(
    two: Fleet, one: Sidecar, code: str, mend: Callable[[], object], *, right_s: float = BACK_S
) -> None:
    """Check that the present error is waited out: not ready, reported, alive; then all is right."""
    two.wants("desk-001", {BTC: 70})
    eventually(lambda: code in codes(one), 15.0, f"{code} to be logged")
    eventually(lambda: one.ask("/readyz")[0] == 503, 15.0, "the probe to say so")
    assert one.ask("/livez")[0] == 200
    assert two.different() == ["desk-001"]
    mend()
    one.wait_for("/readyz", BACK_S)
    two.wait_until_right(right_s)
    assert one.process.process.poll() is None


@pytest.mark.parametrize("failing", FAILURES)
def test_a_database_error_that_a_person_must_fix_is_waited_out(
    two: Fleet, postgres: Server, failing: str
) -> None:
    one = two.listening()
    one.wait_for("/startupz", 20.0)
    spoil, mend, code = FAILURES[failing]
    postgres.ask(spoil, two.database)
    waited_out(two, one, code, lambda: postgres.ask(mend, two.database))
    two.check_pace()


def test_a_schema_that_is_dropped_and_restored_is_waited_out(
    two: Fleet, postgres: Server, tmp_path: Path
) -> None:
    one = two.listening()
    one.wait_for("/startupz", 20.0)
    where = ["-h", str(postgres.directory), "-p", str(postgres.port), "-U", "postgres", "-d", two.database]
    dump = subprocess.run(
        [str(needed() / "pg_dump"), *where, "-n", "mmp"], check=True, capture_output=True, text=True
    ).stdout
    postgres.ask("DROP SCHEMA mmp CASCADE", two.database)

    def restore() -> None:
        command = [str(needed() / "psql"), *where, "-q", "-v", "ON_ERROR_STOP=1"]
        subprocess.run(command, input=dump, check=True, capture_output=True, text=True)

    waited_out(two, one, MISSING, restore, right_s=COUNTED_S)
    two.check_pace()


def test_a_schema_that_is_made_anew_is_a_ledger_whose_history_is_unknown(
    two: Fleet, postgres: Server
) -> None:
    one = two.listening()
    one.wait_for("/startupz", 20.0)
    two.wants("desk-001", {BTC: 60})
    two.wait_until_right(15.0)
    postgres.ask("DROP SCHEMA mmp CASCADE", two.database)
    # It recreates the schema. It cannot know what `one` sent, so it may not assume that nothing was sent.
    other = two.listening(assume_idle=False)
    two.wants("desk-001", {BTC: 50})
    other.wait_for("/readyz", 20.0)
    two.wait_until_right(90.0)
    one.wait_for("/readyz", 40.0)
    assert sorted(owned(one) + owned(other)) == two.accounts
    two.check_pace()
    at = two.arrivals()["999000000001"]
    assert at[-1] - at[-2] > 10.0, "what the new ledger does not have still counts"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (f"REVOKE ALL ON ALL TABLES IN SCHEMA mmp FROM {ROLE}", "state-unwritable"),
        ("DROP TABLE mmp.leases CASCADE", "state-tables-missing"),
        ("ALTER TABLE mmp.attempts RENAME COLUMN code TO away", "state-incomplete"),
    ],
)
def test_at_its_start_run_ends_with_an_error_that_a_person_must_fix(
    two: Fleet, postgres: Server, spoil: str, code: str
) -> None:
    assert two.desk.mmp("apply", "-c", "accounts", "--assume-idle", "--yes").status == 0
    postgres.ask(spoil, two.database)
    ended = two.start().wait()
    assert ended.status == 1
    assert ended.error_code == code


def test_a_table_that_is_emptied_ends_nothing_and_breaks_no_pace(two: Fleet, postgres: Server) -> None:
    one = two.listening()
    one.wait_for("/startupz", 20.0)
    for number, table in enumerate(("leases, mmp.replicas", "locks", "budgets", "attempts")):
        postgres.ask(f"TRUNCATE mmp.{table}", two.database)
        two.wants("desk-001", {BTC: 60 + number})
        two.wait_until_right(COUNTED_S)
        one.wait_for("/readyz", BACK_S)
    assert one.process.process.poll() is None
    two.check_pace()
