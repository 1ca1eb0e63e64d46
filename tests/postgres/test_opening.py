"""Opening a state in PostgreSQL: creation, errors, and what output never shows."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from reconciler import factories
from reconciler.core.model import Environment, ExchangeKind
from reconciler.core.reservation import Reservation, ReserveOptions
from reconciler.errors import MmpError, StateAccessDenied, StateUnavailable, StateUnusable, UsageError
from reconciler.store.engine import StateOptions
from reconciler.store.postgres import schema
from reconciler.store.postgres.connections import Connections
from reconciler.store.postgres.conninfo import parse_address
from reconciler.store.postgres.errors import to_error
from reconciler.store.postgres.permission_check import refuse_unwritable
from reconciler.store.postgres.state import open_existing, open_state, translated
from reconciler.store.sqlite.file_locks import StoreMisuse
from tests.contract.stores import BTC, HOST, UID, ScriptedClock, ready_database, signed
from tests.postgres.accounts import desk, play
from tests.support.postgres import PASSWORD, ROLE, server, shared, until


@pytest.fixture
def empty() -> Iterator[str]:
    """The name of a database without a schema of mmp."""
    with shared().database() as name:
        yield name


async def opened(url: str) -> None:
    state = await open_state(url, StateOptions(ScriptedClock(), "boot-1", lock_timeout_s=0.0))
    await state.close()
    await state.close()


async def looked_at(url: str) -> bool:
    state = await open_existing(url, clock=ScriptedClock(), boot="boot-1")
    if state is not None:
        await state.close()
    return state is not None


def refusal(url: str, door: object = opened) -> MmpError:
    with pytest.raises(MmpError) as refused:
        asyncio.run(door(url))  # type: ignore[operator]  # either of the two doors above
    return refused.value


# -- creation ----------------------------------------------------------------------------------------


def test_a_writer_creates_the_schema_and_a_reader_creates_nothing(empty: str) -> None:
    url = shared().url(empty)
    assert not asyncio.run(looked_at(url))
    assert shared().ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'mmp'", empty) == [(0,)]
    asyncio.run(opened(url))
    assert asyncio.run(looked_at(url))
    asyncio.run(opened(url))


def test_many_that_start_at_once_make_it_once(empty: str) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(opened(shared().url(empty)) for _ in range(8)))

    asyncio.run(all_at_once())
    assert shared().ask("SELECT migrations FROM mmp.version", empty) == [(len(schema.MIGRATIONS),)]


def test_a_schema_made_empty_by_an_administrator_is_filled(empty: str) -> None:
    shared().ask(f"CREATE SCHEMA mmp AUTHORIZATION {ROLE}", empty)
    asyncio.run(opened(shared().url(empty)))


def test_a_failed_migration_leaves_nothing(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*schema.MIGRATIONS[0], "CREATE TABLE mmp.identity (again text)")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (broken,))
        assert refusal(shared().url(empty)).code == "state-failed"
    assert not asyncio.run(looked_at(shared().url(empty)))
    asyncio.run(opened(shared().url(empty)))


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("UPDATE mmp.version SET migrations = 99, usable_from = 99", "state-newer"),
        (
            "ALTER TABLE mmp.live RENAME read_wall TO x; UPDATE mmp.version SET migrations = 99",
            "state-incomplete",
        ),
        ("DELETE FROM mmp.version", "state-incomplete"),
        ("UPDATE mmp.version SET migrations = -1", "state-incomplete"),
        ("ALTER TABLE mmp.attempts DROP COLUMN uid", "state-incomplete"),
        ("ALTER TABLE mmp.live ADD COLUMN more text", "state-incomplete"),
        ("DROP TABLE mmp.pauses", "state-incomplete"),
        ("DROP TABLE mmp.version", "state-foreign-schema"),
        ("REVOKE ALL ON SCHEMA mmp FROM desk; ALTER SCHEMA mmp OWNER TO postgres", "state-unwritable"),
    ],
)
def test_a_schema_that_is_not_as_this_program_makes_it_is_refused(empty: str, sql: str, code: str) -> None:
    url = shared().url(empty)
    asyncio.run(opened(url))
    shared().ask(sql, empty)
    assert refusal(url).code == code
    assert refusal(url, looked_at).code == code


def test_a_reader_does_not_bring_an_older_state_up_to_date(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = shared().url(empty)
    asyncio.run(opened(url))
    newer = (*schema.MIGRATIONS, ("CREATE TABLE mmp.more (is_more text)",))
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    assert refusal(url, looked_at).code == "state-older"
    asyncio.run(opened(url))
    assert asyncio.run(looked_at(url))


def test_a_newer_state_that_this_version_can_use_is_used_and_left_as_new_as_it_is(empty: str) -> None:
    url = shared().url(empty)
    asyncio.run(opened(url))
    for table in schema.expected_columns():
        shared().ask(f"ALTER TABLE mmp.{table} ADD COLUMN more text NOT NULL DEFAULT ''", empty)
    shared().ask("UPDATE mmp.version SET migrations = 99", empty)
    asyncio.run(opened(url))
    asyncio.run(refuse_unwritable(url))
    assert asyncio.run(looked_at(url))
    assert shared().ask("SELECT migrations, usable_from FROM mmp.version", empty) == [(99, 1)]


def test_one_that_was_waiting_to_migrate_leaves_a_newer_version_alone(empty: str) -> None:
    async def migrate(url: str) -> None:
        connections = Connections(parse_address(url))
        async with connections.transaction() as transaction:
            await schema.migrate(transaction, url)
        await connections.close()

    url = shared().url(empty)
    asyncio.run(opened(url))
    shared().ask("UPDATE mmp.version SET migrations = 99", empty)
    asyncio.run(migrate(url))
    assert shared().ask("SELECT migrations FROM mmp.version", empty) == [(99,)]


def test_another_encoding_is_refused() -> None:
    name = "latin"
    shared().ask(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {ROLE} ENCODING 'LATIN1' LOCALE 'C'")
    try:
        assert refusal(shared().url(name)).code == "state-encoding"
    finally:
        shared().ask(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_from_before_it_was_tried_is_refused(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 990_000)
    assert refusal(shared().url(empty)).code == "state-old-server"


def test_a_role_that_may_not_create_the_schema_is_reported_with_what_it_needs() -> None:
    problem = refusal(shared().url("postgres"))
    assert problem.code == "state-unwritable"
    assert "GRANT CREATE" in problem.hint


def test_a_standby_is_refused_by_both_doors() -> None:
    with server() as primary, primary.database() as name:
        asyncio.run(opened(primary.url(name)))
        with primary.standby() as standby:
            until(lambda: standby.caught_up_with(primary))
            assert refusal(standby.url(name)).code == "state-standby"
            assert refusal(standby.url(name), looked_at).code == "state-standby"


def test_a_primary_that_became_read_only_is_reported_as_a_standby() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            read_only = psycopg.errors.ReadOnlySqlTransaction("cannot execute")
            assert to_error(one.state._connections.address, read_only).code == "state-standby"

    play(scenario)


# -- whether it could be written ---------------------------------------------------------------------

MAY_READ = (
    "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA mmp TO reader;"
    "GRANT SELECT ON ALL TABLES IN SCHEMA mmp TO reader"
)
MAY_ALMOST_ALL = (
    "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA mmp TO reader; GRANT {rights} ON ALL TABLES IN SCHEMA"
    " mmp TO reader; GRANT USAGE ON ALL SEQUENCES IN SCHEMA mmp TO reader; {but}"
)
ALL = "SELECT, INSERT, UPDATE, DELETE"


def contents(database: str) -> list[tuple[object, ...]]:
    """Return what would show a trace: the schema's relations, and rows that would be written."""
    return shared().ask(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'mmp' UNION ALL SELECT nspname::text FROM pg_namespace ORDER BY 1",
        database,
    )


@contextmanager
def as_reader(database: str, sql: str) -> Iterator[str]:
    """Give the address of a role of its own, made and given its rights by ``sql``."""
    shared().ask(sql, database)
    try:
        yield shared().url(database, user="reader")
    finally:
        shared().ask("DROP OWNED BY reader; DROP ROLE reader", database)


def test_trying_to_write_leaves_no_trace(empty: str) -> None:
    url = shared().url(empty)
    before = contents(empty)
    asyncio.run(refuse_unwritable(url))
    assert contents(empty) == before
    asyncio.run(opened(url))
    made = contents(empty)
    version = shared().ask("SELECT xmin, * FROM mmp.version", empty)
    asyncio.run(refuse_unwritable(url))
    assert contents(empty) == made
    assert shared().ask("SELECT xmin, * FROM mmp.version", empty) == version


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (MAY_READ, "version"),
        (MAY_ALMOST_ALL.format(rights=ALL, but="REVOKE DELETE ON mmp.pauses FROM reader"), "pauses"),
        (MAY_ALMOST_ALL.format(rights=ALL, but="REVOKE INSERT ON mmp.attempts FROM reader"), "attempts"),
        (
            MAY_ALMOST_ALL.format(
                rights=ALL, but="REVOKE USAGE ON SEQUENCE mmp.state_changes_id FROM reader"
            ),
            "state_changes",
        ),
    ],
)
def test_the_right_that_a_role_lacks_is_named(empty: str, sql: str, named: str) -> None:
    asyncio.run(opened(shared().url(empty)))
    with as_reader(empty, sql) as url:
        problem = refusal(url, refuse_unwritable)
        assert problem.code == "state-unwritable"
        assert named in problem.message
        assert asyncio.run(looked_at(url)), "which looking alone does not tell"


def test_a_role_that_is_not_the_owner_and_has_every_right_can_write(empty: str) -> None:
    asyncio.run(opened(shared().url(empty)))
    with as_reader(empty, MAY_ALMOST_ALL.format(rights=ALL, but="")) as url:
        asyncio.run(refuse_unwritable(url))


def test_a_role_that_could_not_make_the_schema_is_reported_before_the_first_apply() -> None:
    url = shared().url("postgres")
    assert not asyncio.run(looked_at(url))
    problem = refusal(url, refuse_unwritable)
    assert problem.code == "state-unwritable"
    assert "permission denied for database" in problem.message


def test_a_standby_without_a_state_is_reported_too() -> None:
    with server() as primary, primary.database() as name, primary.standby() as standby:
        until(lambda: standby.caught_up_with(primary))
        assert not asyncio.run(looked_at(standby.url(name)))
        assert refusal(standby.url(name), refuse_unwritable).code == "state-standby"


# -- secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["address", "parameter", "variable"])
def test_a_password_that_does_not_fit_is_never_shown(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, base = "hunter2", f"127.0.0.1:{shared().port}/{ready_database()}"
    url = {
        "address": f"postgresql://{ROLE}:{secret}@{base}",
        "parameter": f"postgresql://{ROLE}@{base}?password={secret}",
        "variable": f"postgresql://{ROLE}@{base}",
    }[where]
    monkeypatch.setenv("PGPASSWORD", secret)
    problem = refusal(url)
    assert problem.code == "state-refused"
    assert "password authentication failed" in problem.message
    assert f"{ROLE}@127.0.0.1" in problem.message
    shown = "".join(traceback.format_exception(problem)) + problem.hint + repr(parse_address(url))
    assert secret not in shown


@pytest.mark.parametrize("where", ["variable", "file", "address"])
def test_a_password_is_taken_from_where_libpq_looks_for_it(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = f"127.0.0.1:{shared().port}/{ready_database()}?sslmode=disable"
    url = f"postgresql://{ROLE}@{base}"
    match where:
        case "variable":
            monkeypatch.setenv("PGPASSWORD", PASSWORD)
        case "file":
            file = tmp_path / "pgpass"
            file.write_text(f"127.0.0.1:*:*:{ROLE}:{PASSWORD}\n")
            file.chmod(0o600)
            monkeypatch.setenv("PGPASSFILE", str(file))
        case _:
            url = f"postgresql://{ROLE}:{PASSWORD}@{base}"
    asyncio.run(opened(url))


def test_tls_is_not_waived_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    url = f"postgresql://{ROLE}@127.0.0.1:{shared().port}/{ready_database()}"
    for asked in (f"{url}?sslmode=require", f"{url}?sslmode=verify-full&sslrootcert=/no/such/file"):
        problem = refusal(asked)
        assert problem.code == "state-refused"
        assert "SSL" in problem.message or "certificate" in problem.message
    monkeypatch.setenv("PGSSLMODE", "require")
    assert "SSL" in refusal(url).message


@pytest.mark.parametrize(
    "text", ["postgresql://here/db?no=such&password=hunter2", "postgresql://[::1/hunter2"]
)
def test_an_address_that_makes_no_sense_is_a_usage_error_that_quotes_nothing(text: str) -> None:
    problem = refusal(text)
    assert isinstance(problem, UsageError)
    assert "hunter2" not in "".join(traceback.format_exception(problem)) + problem.hint


def test_what_the_address_or_the_environment_says_goes_before_our_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "connect_timeout=5" in parse_address("postgresql://here/db").conninfo
    assert "connect_timeout=9" in parse_address("postgresql://here/db?connect_timeout=9").conninfo
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert "connect_timeout" not in parse_address("postgresql://here/db").conninfo
    assert parse_address("postgresql://").shown == "postgresql:///"


# -- errors of the server ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (psycopg.errors.DiskFull("could not extend file"), "state-disk-full"),
        (psycopg.errors.DataCorrupted("invalid page"), "state-damaged"),
        (psycopg.errors.IdleInTransactionSessionTimeout("terminating"), "state-unavailable"),
        (psycopg.errors.TransactionTimeout("terminating"), "state-unavailable"),
        (psycopg.errors.DeadlockDetected("deadlock"), "state-busy"),
        (psycopg.errors.InsufficientPrivilege("permission denied"), "state-unwritable"),
        (psycopg.errors.UndefinedTable("no such table"), "state-tables-missing"),
        (psycopg.errors.UndefinedColumn("no such column"), "state-tables-missing"),
        (psycopg.errors.InvalidSchemaName("no such schema"), "state-tables-missing"),
        (psycopg.errors.UndefinedObject("no such thing"), "state-tables-missing"),
        (psycopg.errors.InternalError_("cache lookup failed"), "state-failed"),
        (psycopg.errors.UniqueViolation("duplicate key"), "state-failed"),
        (psycopg.OperationalError(""), "state-unavailable"),
        (psycopg.InterfaceError("the connection is closed"), "state-unavailable"),
    ],
)
def test_passing_errors_are_distinguished_from_those_that_a_person_must_fix(
    error: Exception, code: str
) -> None:
    problem = to_error(parse_address("postgresql://desk:hunter2@here/db"), error)
    assert problem.code == code
    mended = code in ("state-unwritable", "state-tables-missing", "state-failed")
    assert isinstance(problem, StateAccessDenied) == mended
    assert isinstance(problem, StateUnusable) == (code == "state-damaged")


FATAL = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  '


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (f'{FATAL}password authentication failed for user "desk"', True),
        (f'{FATAL}Peer authentication failed for user "desk"', True),
        (f'{FATAL}role "desk" does not exist', True),
        (f'{FATAL}role "desk" is not permitted to log in', True),
        (f'{FATAL}database "mmp" does not exist', True),
        (f'{FATAL}permission denied for database "mmp"', True),
        (f'{FATAL}no pg_hba.conf entry for host "10.0.0.7", user "desk", database "mmp", SSL off', True),
        (f"{FATAL}connection requires a valid client certificate", True),
        (f"{FATAL}unsupported startup parameter in options: search_path", True),
        (f"{FATAL}no such database: mmp", True),
        (f"{FATAL}no such user: desk", True),
        (f"{FATAL}SASL authentication failed", True),
        (f"{FATAL}server login failed: FATAL password authentication failed for user", True),
        ("connection failed: fe_sendauth: no password supplied", True),
        ("connection failed: server does not support SSL, but SSL was required", True),
        ('connection failed: server certificate for "a" does not match host name "b"', True),
        ("connection failed: SSL error: certificate verify failed", True),
        ('connection failed: root certificate file "/db/ca.crt" does not exist', True),
        ('connection failed: invalid sslmode value: "on"', True),
        (f"{FATAL}the database system is starting up", False),
        (f"{FATAL}the database system is shutting down", False),
        (f"{FATAL}sorry, too many clients already", False),
        (f'{FATAL}too many connections for role "desk"', False),
        (f"{FATAL}terminating connection due to administrator command", False),
        (f"{FATAL}server_login_retry: connect failed", False),
        ("connection failed: Connection refused\n\tIs the server running there?", False),
        ("connection failed: SSL SYSCALL error: EOF detected", False),
        ("failed to resolve host 'db.internal': [Errno -2] Name or service not known", False),
        ("connection timeout expired", False),
        ("server closed the connection unexpectedly", False),
        (f"Connection refused\nMultiple connection attempts failed.\n- {FATAL}no such user: desk", True),
    ],
)
def test_a_server_that_refuses_is_distinguished_from_one_that_is_away(said: str, refused: bool) -> None:
    """Reported as denied at startup; a running process waits, since the password may be about to change."""
    problem = to_error(parse_address("postgresql://desk:hunter2@here/db"), psycopg.OperationalError(said))
    assert isinstance(problem, StateAccessDenied if refused else StateUnavailable)
    assert problem.code == ("state-refused" if refused else "state-unavailable")
    line = said.splitlines()[-1].removeprefix("- ") if refused else said.splitlines()[0]
    assert line in problem.message


def test_a_row_that_does_not_fit_its_check_is_reported_with_its_name() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied()
            shared().ask("UPDATE mmp.attempts SET boot = '7'", ready_database())
            with pytest.raises(MmpError) as refused:
                await one.store.recorded_inputs()
            assert refused.value.code == "state-damaged"
            assert "attempts row 1" in refused.value.message

    play(scenario)


@pytest.mark.parametrize("row", ["gone", "another's"])
def test_a_request_whose_record_was_lost_is_not_settled_on_anothers_row(row: str) -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one, desk(url, boot="boot-2", at=9000.0) as two:
            await one.reserve("1")
            forget = "DELETE FROM mmp.attempts; SELECT setval('mmp.attempts_id', 1, false)"
            shared().ask(forget, ready_database())
            if row != "gone":
                assert await two.reserve("2") == Reservation(1, 9000.0)
            with pytest.raises(StateUnavailable) as refused:
                await one.settle(1)
            assert refused.value.code == "state-record-lost"
            assert shared().ask("SELECT DISTINCT status FROM mmp.attempts", ready_database()) in (
                [],
                [("pending",)],
            )

    play(scenario)


def test_the_library_writes_nothing_by_itself_between_the_lines_of_the_log() -> None:
    library = logging.getLogger("psycopg")
    for known in list(library.handlers):
        library.removeHandler(known)
    factories.postgres()
    factories.postgres()
    assert [type(one) for one in library.handlers] == [logging.NullHandler]


# -- reading -----------------------------------------------------------------------------------------


def test_a_state_opened_for_reading_checks_whose_it_is_and_writes_nothing() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied()
        state = await open_existing(url, clock=ScriptedClock(), boot="boot-2")
        assert state is not None
        shared().ask("UPDATE mmp.budgets SET history = 'another'", ready_database())
        reader = state.account("main", Environment.LIVE, ExchangeKind.OKX)
        assert await reader.identify(UID, "another.host") == HOST
        assert len((await reader.ledger()).sent) == 1, "and records no loss"
        assert list(await reader.known()) == [BTC]
        with pytest.raises(StoreMisuse):
            await reader.reserve(signed(), ReserveOptions(assume_idle=True))
        with pytest.raises(MmpError) as refused:
            await reader.identify("7", HOST)
        assert refused.value.code == "state-foreign-uid"
        await state.close()

    play(scenario)


def test_a_new_account_seen_for_reading_has_the_ledger_of_its_user_id() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied()
        state = await open_existing(url, clock=ScriptedClock(), boot="boot-2")
        assert state is not None
        other = state.account("other", Environment.LIVE, ExchangeKind.OKX)
        await other.identify(UID, HOST)
        ledger = (await other.snapshot()).ledger
        assert ledger is not None
        assert len(ledger.sent) == 1
        await state.close()

    play(scenario)


def test_statements_are_translated_and_nothing_else_is_changed() -> None:
    query = "SELECT * FROM attempts INDEXED BY attempts_open WHERE account=? AND resolved=0"
    assert translated(query) == "SELECT * FROM attempts WHERE account=%s AND resolved=0"


def test_a_budget_that_cannot_be_recorded_is_reported_and_not_retried_for_ever() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            [made] = shared().ask(
                "DELETE FROM mmp.version RETURNING migrations, usable_from, history", ready_database()
            )
            try:
                for _ in range(2):
                    with pytest.raises(StateAccessDenied) as refused:
                        await one.reserve()
                    assert refused.value.code == "state-incomplete"
            finally:
                shared().ask(
                    "INSERT INTO mmp.version VALUES ({}, {}, '{}')".format(*made), ready_database()
                )
            assert isinstance(await one.reserve(), Reservation)

    play(scenario)


def test_a_check_names_each_damaged_row_of_every_account() -> None:
    async def scenario(url: str) -> None:
        async with desk(url) as one:
            await one.applied()
            assert (await one.state.check()).damaged == ()
            shared().ask("UPDATE mmp.attempts SET boot = '7'", ready_database())
            found = await one.state.check()
            assert found.damaged == ("attempts row 1 does not match its checksum",)
            assert found.rows["attempts"] == 1

    play(scenario)
